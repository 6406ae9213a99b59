"""Auxiliary values are results like others: of native programs, of batches, with derivatives."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb

X = np.array([1.0, 2.0, 3.0])


def loss(x):
    y = x * x
    return pb.sum(y), {"square": y, "given": x, "name": "kept", "none": None, "constant": X}


def check(aux):
    np.testing.assert_array_equal(np.asarray(aux["square"]), X * X)
    np.testing.assert_array_equal(np.asarray(aux["given"]), X)
    np.testing.assert_array_equal(np.asarray(aux["constant"]), X)
    assert aux["none"] is None
    assert aux["name"] == "kept"


def without_name(x):
    value, aux = loss(x)
    return value, {k: v for k, v in aux.items() if k != "name"}


@pytest.mark.parametrize("compiled", [False, True])
def test_every_transform_gives_them(compiled):
    f = pb.value_and_grad(without_name, has_aux=True)
    (value, aux), gradient = (pb.compile(f) if compiled else f)(X)
    check(aux | {"name": "kept"})
    assert value.item() == 14
    np.testing.assert_array_equal(gradient.numpy(), 2 * X)


def test_they_may_be_anything():
    check(pb.grad(loss, has_aux=True)(X)[1])
    _, pullback, aux = pb.vjp(loss, X, has_aux=True)
    check(aux)
    np.testing.assert_array_equal(pullback(np.float64(1))[0].numpy(), 2 * X)


def test_of_a_batch():
    rows = np.stack([X, 2 * X])
    gradients, aux = pb.vmap(pb.grad(without_name, has_aux=True))(rows)
    np.testing.assert_array_equal(gradients.numpy(), 2 * rows)
    np.testing.assert_array_equal(aux["square"].numpy(), rows**2)


@pytest.mark.parametrize("compiled", [False, True])
def test_they_have_derivatives(compiled):
    """The derivative of an auxiliary value of a derivative is not zero."""

    def outer(x):
        _, aux = pb.grad(without_name, has_aux=True)(x)
        return pb.sum(aux["square"] * aux["given"])

    gradient = pb.grad(outer)
    np.testing.assert_allclose(
        (pb.compile(gradient) if compiled else gradient)(X).numpy(), 3 * X * X
    )
