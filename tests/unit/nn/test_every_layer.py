"""Laws of every layer: native code and ensembles give what it gives, its gradient is right."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from layers import SAMPLES
from pullback.transforms.tree import flatten, unflatten

KEY = pb.random.key(2)
every_layer = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)


def total(sample):
    """A scalar that every number of the result changes, and the result."""

    def of(layer, x):
        result = sample.call(layer, x)
        leaves = [y for y in flatten(result)[0][: sample.count] if y.dtype.kind != "i"]
        return sum(pb.sum(pb.sin(y + 0.5)) for y in leaves), result

    return of


def gradients(sample, argnums):
    return pb.value_and_grad(total(sample), argnums=argnums, has_aux=True)


def argnums(sample):
    return (0, 1) if sample.x.dtype.kind == "f" else (0,)


@every_layer
def test_native_code_gives_the_same(sample):
    layer, f = sample.make(KEY, "float64"), gradients(sample, argnums(sample))
    expected, structure = flatten(f(layer, sample.x))
    result, same = flatten(pb.compile(f)(layer, sample.x))
    assert same == structure
    for x, y in zip(result, expected, strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        np.testing.assert_allclose(x.numpy(), y.numpy(), rtol=1e-10, atol=1e-12)


@every_layer
def test_the_gradient_is_right(sample):
    layer = sample.make(KEY, "float64")
    if sample.x.dtype.kind == "f":
        pb.check_grads(lambda m, x: total(sample)(m, x)[0], (layer, sample.x), order=1)
    else:
        pb.check_grads(lambda m: total(sample)(m, sample.x)[0], (layer,), order=1)


@every_layer
def test_an_ensemble(sample):
    """Layers of several keys, made and called by vmap, are those made and called one by one."""
    keys = pb.random.split(KEY, 3)
    layers = pb.vmap(lambda key: sample.make(key, "float64"))(keys)
    if not flatten(layers)[0]:
        pytest.skip("the layer has no arrays")
    results = pb.vmap(sample.call, in_axes=(0, None))(layers, sample.x)
    for i in range(3):
        expected, structure = flatten(sample.call(sample.make(keys[i], "float64"), sample.x))
        stacked, same = flatten(results)
        assert same == structure
        for x, y in zip(stacked, expected, strict=True):
            np.testing.assert_allclose(x[i].numpy(), y.numpy(), rtol=1e-10, atol=1e-12)


@every_layer
def test_element_types_are_kept(sample):
    """float32 in, float32 out, and bfloat16 likewise: also states and gradients."""
    for dtype in (pb.float32, pb.bfloat16):
        layer = sample.make(KEY, dtype)
        x = sample.x.astype(dtype) if sample.x.dtype.kind == "f" else sample.x
        y = sample.call(layer, x)
        first = flatten(y)[0][0]
        assert first.dtype == dtype
        grads = pb.grad(total(sample), has_aux=True)(layer, x)[0]
        for g, w in zip(flatten(grads)[0], flatten(layer)[0], strict=True):
            assert (g.dtype, g.shape) == (w.dtype, w.shape)


@every_layer
def test_a_layer_survives_its_tree_and_prints_itself(sample):
    layer = sample.make(KEY, "float32")
    leaves, structure = flatten(layer)
    again = unflatten(structure, leaves)
    assert repr(again) == repr(layer)
    assert flatten(sample.make(pb.random.key(3), "float32"))[1] == structure
    assert "0x" not in repr(layer)
