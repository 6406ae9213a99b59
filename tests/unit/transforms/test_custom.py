"""custom_derivative: given rules in every mode, order, batch and container."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from goldens import without_places
from pullback.errors import (
    DTypeError,
    NotDifferentiableError,
    PullbackError,
    ShapeError,
    StructureError,
)

X = np.array([0.3, -0.7, 1.1])
W = np.array(2.0)


def plain(x, n, w):
    return pb.tanh(x) * n * w["w"]


def slope(x):
    return 1 - pb.tanh(x) * pb.tanh(x)


def make(reverse: bool, forward: bool):
    """`plain` with its rules written by hand: a Python int and a dict are among the arguments."""

    @pb.custom_derivative
    def f(x, n, w):
        return plain(x, n, w)

    def fwd(x, n, w):
        return f(x, n, w), (x, n, w)

    def bwd(residuals, bar):
        x, n, w = residuals
        return slope(x) * n * w["w"] * bar, None, {"w": pb.sum(pb.tanh(x) * n * bar)}

    def rule(primals, tangents):
        x, n, w = primals
        x_dot, n_dot, w_dot = tangents
        assert n_dot is None
        return f(x, n, w), slope(x) * n * w["w"] * x_dot + pb.tanh(x) * n * w_dot["w"]

    if reverse:
        f.defvjp(fwd, bwd)
    if forward:
        f.defjvp(rule)
    return f


RULES = [(False, False), (True, False), (False, True), (True, True)]


@pytest.mark.parametrize("rules", RULES, ids=["none", "vjp", "jvp", "both"])
class TestModes:
    """Every mode gives what plain differentiation gives, whichever rule is there."""

    def check(self, rules, compute):
        custom = compute(make(*rules))
        for a, b in zip(custom, compute(plain), strict=True):
            np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-10, atol=1e-12)

    def test_values(self, rules):
        self.check(rules, lambda f: [f(X, 3, {"w": W}), f(x=X, n=3, w={"w": W})])

    def test_gradient(self, rules):
        self.check(rules, lambda f: pb.grad(lambda x, w: pb.sum(f(x, 3, {"w": w})), (0, 1))(X, W))

    def test_tangent(self, rules):
        self.check(rules, lambda f: pb.jvp(lambda x, w: f(x, 3, {"w": w}), (X, W), (X * X, W)))

    def test_hessian(self, rules):
        def hessian(f, *transforms):
            def loss(x):
                return pb.sum(pb.sin(f(x, 2, {"w": pb.sum(x)})))

            for transform in transforms:
                loss = transform(loss)
            return [loss(X)]

        for order in (
            [pb.jacrev, pb.jacfwd],
            [pb.jacfwd, pb.jacrev],
            [pb.jacfwd] * 2,
            [pb.jacrev] * 2,
        ):
            self.check(rules, lambda f, order=order: hessian(f, *order))

    def test_third_order(self, rules):
        def thrice(f):
            g = lambda x: f(x, 2, {"w": x})
            return [pb.grad(pb.grad(pb.grad(g)))(np.array(0.4))]

        self.check(rules, thrice)

    def test_batches(self, rules):
        batch = np.stack([X, 2 * X, X - 1])

        def per_example(f):
            loss = lambda x, w: pb.sum(f(x, 3, {"w": w}))
            total = lambda w: pb.sum(pb.vmap(loss, in_axes=(0, None))(batch, w))
            return [
                *pb.vmap(pb.grad(loss, (0, 1)), in_axes=(0, None))(batch, W),
                pb.grad(total)(W),
                pb.jvp(total, (W,), (W,))[1],
                pb.hessian(total)(W),
            ]

        self.check(rules, per_example)

    def test_inside_loops_and_checkpoints(self, rules):
        def recurrent(f):
            step = pb.checkpoint(lambda h, x: f(h, 2, {"w": x}))
            loss = lambda h, xs: pb.sum(pb.scan(lambda h, x: (step(h, x), None), h, xs)[0])
            gradient = pb.grad(loss, (0, 1))
            return [*gradient(X, X), *pb.vmap(gradient)(np.stack([X, -X]), np.stack([X, X]))]

        self.check(rules, recurrent)


def test_the_rule_given_is_the_one_used():
    @pb.custom_derivative
    def f(x):
        return x * x

    f.defvjp(lambda x: (x * x, None), lambda _, bar: (bar * 10.0,))
    f.defjvp(lambda primals, tangents: (f(*primals), tangents[0] * 20.0))
    assert float(pb.grad(f)(3.0)) == 10.0
    assert float(pb.jvp(f, (3.0,), (1.0,))[1]) == 20.0
    assert float(pb.grad(lambda x: f(x) * x)(3.0)) == 39.0


def test_rules_see_numbers_where_there_are_numbers():
    seen = []

    @pb.custom_derivative
    def f(x):
        return x * x

    f.defvjp(lambda x: (x * x, x), lambda x, bar: (seen.append(float(bar)) or 2.0 * x * bar,))
    pb.grad(lambda x: f(x) * 5.0)(3.0)
    assert seen == [5.0]


def test_integers_and_several_results():
    @pb.custom_derivative
    def f(x, index):
        return {"value": x * 2.0, "index": index + 1}

    f.defvjp(
        lambda x, index: ({"value": x * 2.0, "index": index + 1}, None),
        lambda _, bar: (bar["value"] * 2.0 if bar["index"] is None else None, None),
    )
    f.defjvp(lambda primals, tangents: (f(*primals), {"value": tangents[0] * 2.0, "index": None}))
    g = lambda x: pb.sum(f(x, np.arange(3))["value"])
    np.testing.assert_array_equal(pb.grad(g)(X), 2.0)
    assert float(pb.jvp(g, (X,), (np.ones(3),))[1]) == 6.0


def test_methods():
    class Layer:
        @pb.custom_derivative
        def apply(self, x):
            return x * 2.0

    Layer.apply.defvjp(lambda self, x: (x * 2.0, None), lambda _, bar: (None, bar * 7.0))
    assert float(pb.grad(Layer().apply)(1.0)) == 7.0


def test_captured_values():
    def around(w, x):
        @pb.custom_derivative
        def f(x):
            return x * w

        f.defvjp(lambda x: (x * w, None), lambda _, bar: (bar * 3.0,))
        return f(x)

    assert float(pb.grad(around, 1)(W, np.array(1.0))) == 3.0
    with pytest.raises(NotDifferentiableError, match="pass the value as an argument"):
        pb.grad(around, 0)(W, np.array(1.0))


def misused(bwd, fwd=lambda x, w: (x * w, (x, w)), rule=None):
    @pb.custom_derivative
    def scaled(x, w):
        return x * w

    if rule is None:
        scaled.defvjp(fwd, bwd)
        return lambda: pb.grad(lambda x: pb.sum(scaled(x, 2.0 * W)))(X)
    scaled.defjvp(rule)
    return lambda: pb.jvp(lambda x: scaled(x, 2.0 * W), (X,), (X,))


def test_messages(golden):
    def outer(w):
        @pb.custom_derivative
        def scaled(x):
            return x * w

        scaled.defvjp(lambda x: (x, None), lambda _, bar: (bar,))
        return pb.sum(scaled(X))

    cases = [
        (StructureError, misused(lambda r, bar: bar)),
        (StructureError, misused(lambda r, bar: (bar,))),
        (ShapeError, misused(lambda r, bar: (pb.sum(bar), None))),
        (DTypeError, misused(lambda r, bar: (bar.astype(pb.float32), None))),
        (StructureError, misused(lambda r, bar: ([bar, bar], None))),
        (StructureError, misused(None, fwd=lambda x, w: x * w)),
        (StructureError, misused(None, fwd=lambda x, w: ((x * w)[0], None))),
        (StructureError, misused(None, rule=lambda p, t: p[0])),
        (ShapeError, misused(None, rule=lambda p, t: (p[0], pb.sum(t[0])))),
        (NotDifferentiableError, lambda: pb.grad(outer)(W)),
    ]
    texts = []
    for error, call in cases:
        with pytest.raises(PullbackError) as caught:
            call()
        assert type(caught.value) is error, caught.value
        texts.append(without_places(str(caught.value)))
    golden("errors/custom_derivative", "\n\n".join(texts))
