"""checkpoint: the same bits, less memory, one more evaluation."""

from __future__ import annotations

import gc
import weakref
from collections import Counter

import numpy as np
import pytest

import pullback as pb
from pullback import random
from pullback.ir import builder
from pullback.ir.graph import verify
from pullback.transforms.trace import trace

RNG = np.random.default_rng(1)
W = RNG.normal(size=(4, 4))
X = RNG.normal(size=(3, 4))
KEY = random.key(7)


def block(w, x):
    """Uses each argument more than once, and draws random numbers."""
    hidden = pb.tanh(pb.matmul(x, w)) * x
    kept = random.bernoulli(KEY, 0.5, hidden.shape)
    return pb.where(kept, pb.matmul(pb.sin(hidden), w), hidden)


def loss(f):
    def total(w, x):
        return pb.sum(pb.square(f(w, f(w, x)) * x)) + pb.sum(w * w)

    return total


def same_bits(left, right):
    for a, b in zip(left, right, strict=True):
        assert (np.asarray(a) == np.asarray(b)).all()


def test_gradients_are_the_same_bits():
    plain, frugal = (pb.grad(loss(f), (0, 1)) for f in (block, pb.checkpoint(block)))
    same_bits(frugal(W, X), plain(W, X))
    nested = pb.checkpoint(lambda w, x: pb.checkpoint(block)(w, x) + x)
    unnested = pb.grad(loss(lambda w, x: block(w, x) + x), (0, 1))
    same_bits(pb.grad(loss(nested), (0, 1))(W, X), unnested(W, X))


def test_higher_orders_and_batches():
    second = [
        pb.grad(lambda w, f=f: pb.sum(pb.sin(pb.grad(loss(f))(w, X))))
        for f in (block, pb.checkpoint(block))
    ]
    np.testing.assert_allclose(second[1](W), second[0](W), rtol=1e-12)
    products = [
        pb.hvp(lambda w, f=f: loss(f)(w, X), (W,), (W * W,)) for f in (block, pb.checkpoint(block))
    ]
    np.testing.assert_allclose(products[1], products[0], rtol=1e-12)
    batch = np.stack([X, 2 * X])
    rows = [
        pb.vmap(pb.grad(loss(f)), in_axes=(None, 0))(W, batch)
        for f in (block, pb.checkpoint(block))
    ]
    same_bits([rows[1]], [rows[0]])


def test_inside_a_scan():
    def total(f):
        def run(w, h):
            return pb.sum(pb.scan(lambda h, x: (f(w, h) + x, None), h, np.stack([X, X, X]))[0])

        return run

    plain, frugal = (total(f) for f in (block, pb.checkpoint(block)))
    same_bits(pb.grad(frugal, (0, 1))(W, X), pb.grad(plain, (0, 1))(W, X))
    over = [pb.vmap(pb.grad(f), in_axes=(None, 0))(W, X[None]) for f in (plain, frugal)]
    np.testing.assert_allclose(over[1], over[0], rtol=1e-12)
    # Of each step, the body keeps its operands only: the carry is the one thing stacked.
    (forward, *_) = [n for n in trace(pb.grad(frugal), W, X).nodes if n.op.name == "scan"]
    assert len(forward.outputs) == 2


def test_inner_values_are_freed_at_once():
    """Nothing waits for the garbage collector."""
    born = []

    def f(x):
        for _ in range(5):
            x = pb.tanh(x)
            born.append(weakref.ref(x))
        return pb.sin(x)

    alive = {}

    def total(f):
        def run(x):
            born.clear()
            y = f(x)
            alive["count"] = sum(ref() is not None for ref in born)
            return pb.sum(y)

        return run

    gc.disable()
    try:
        pb.grad(total(pb.checkpoint(f)))(X)
        assert alive["count"] == 0
        pb.grad(total(f))(X)
        assert alive["count"] == 5
    finally:
        gc.enable()


def test_f_is_evaluated_twice(monkeypatch):
    counted = Counter()
    compute = builder.compute
    monkeypatch.setattr(
        builder,
        "compute",
        lambda op, inputs, types: counted.update([op.name]) or compute(op, inputs, types),
    )
    pb.grad(lambda x: pb.sum(pb.checkpoint(lambda x: pb.erf(pb.erf(pb.erf(x))))(x)))(X)
    assert counted["erf"] == 6
    assert counted["checkpoint"] == 0


def test_recomputation_waits_for_the_cotangent():
    graph = trace(pb.grad(lambda x: pb.sum(pb.checkpoint(lambda x: pb.erf(x * x))(x))), X)
    verify(graph)
    (barrier,) = [node for node in graph.nodes if node.op.name == "barrier"]
    assert [x.type.shape for x in barrier.inputs] == [X.shape, X.shape]
    assert barrier.inputs[0] is graph.inputs[0]


def test_anything_passes_through():
    @pb.checkpoint
    def f(x, *, scale, how):
        return {"same": x, "new": how(x) * scale}, None

    def total(x):
        out, nothing = f(x, scale=3, how=pb.exp)
        assert nothing is None
        return pb.sum(out["same"] * out["new"])

    np.testing.assert_allclose(pb.grad(total)(X), 3 * np.exp(X) * (1 + X), rtol=1e-12)
    assert float(pb.checkpoint(pb.exp)(0.0)) == 1.0


def test_errors_name_the_users_line():
    with pytest.raises(pb.ShapeError if hasattr(pb, "ShapeError") else ValueError) as caught:
        pb.grad(lambda w: pb.sum(pb.checkpoint(lambda w: pb.matmul(w, w[:2]))(w)))(W)
    assert "test_checkpoint.py" in str(caught.value)
