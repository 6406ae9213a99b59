"""Formulas that overflow or cancel, replaced by those that do not.

These rules are approximate: both sides are one real function, and the right one is never further
from it. They run before differentiation (`pipeline.prepare`).
"""

from __future__ import annotations

import math

from pullback.functions.activations import softmax, softplus
from pullback.functions.reductions import logsumexp
from pullback.ir.array import Array
from pullback.ir.graph import Graph
from pullback.ir.types import Axes, Shape
from pullback.ops.layout import Reshape
from pullback.ops.pointwise import Exp, Expm1, Log, Log1p, Sigmoid
from pullback.ops.reduce import Sum
from pullback.passes.rewrite import Rewrites, sweep
from pullback.passes.rules import Rule, rule

Sides = tuple[Array, Array]

TOLERANCE = 1e-3
"""How far a result may move when a whole graph is compared: it moves towards the truth."""

ULPS = 8.0


def stabilize(graph: Graph) -> Graph:
    """`graph` with its unstable formulas replaced."""
    return sweep(graph, STABILITY)


# ---- exponentials and logarithms ------------------------------------------------------------


@rule(tolerance=ULPS)
def log_of_exp(x: Array) -> Sides:
    return Log()(Exp()(x)), x


@rule(tolerance=ULPS, domain=(-1.0, math.inf))
def log_of_one_plus(x: Array) -> Sides:
    return Log()(1.0 + x), Log1p()(x)


@rule(tolerance=ULPS, domain=(-math.inf, 1.0))
def log_of_one_minus(x: Array) -> Sides:
    return Log()(1.0 - x), Log1p()(-x)


@rule(tolerance=ULPS)
def exp_minus_one(x: Array) -> Sides:
    return Exp()(x) - 1.0, Expm1()(x)


@rule(tolerance=ULPS)
def log_of_one_plus_exp(x: Array) -> Sides:
    return Log()(1.0 + Exp()(x)), softplus(x)


@rule(tolerance=ULPS)
def log1p_of_exp(x: Array) -> Sides:
    return Log1p()(Exp()(x)), softplus(x)


# ---- sigmoid --------------------------------------------------------------------------------


@rule(tolerance=ULPS)
def logistic(x: Array) -> Sides:
    return 1.0 / (1.0 + Exp()(-x)), Sigmoid()(x)


@rule(tolerance=ULPS)
def one_minus_sigmoid(x: Array) -> Sides:
    return 1.0 - Sigmoid()(x), Sigmoid()(-x)


@rule(tolerance=ULPS)
def log_of_sigmoid(x: Array) -> Sides:
    return Log()(Sigmoid()(x)), -softplus(-x)


# ---- softmax --------------------------------------------------------------------------------


@rule(("float32[2,3]", "float32[2,1]"), tolerance=ULPS)
def log_of_quotient(x: Array, y: Array) -> Sides:
    """log softmax, as `softmax` writes it: e^x may underflow, x does not."""
    return Log()(Exp()(x) / y), x - Log()(y)


@rule(("float32[2,3]", (1,)), ("float32[4,3]", (0, 1)), tolerance=ULPS, magnitude=1.0)
def log_of_sum_of_exp(x: Array, axes: Axes) -> Sides:
    """Both add powers to a sum about 1, whose rounding a result near 0 shows."""
    return Log()(Sum(axes)(Exp()(x))), logsumexp(x, axis=axes)


@rule(
    ("float32[2,3]", (1,), (2, 1)),
    ("float32[4,3]", (0,), (1, 3)),
    tolerance=ULPS,
    when=lambda x, axes, shape: shape == _kept(x, axes),
)
def unshifted_softmax(x: Array, axes: Axes, shape: Shape) -> Sides:
    powers = Exp()(x)
    return powers / Reshape(shape)(Sum(axes)(powers)), softmax(x, axis=axes)


def _kept(x: Array, axes: Axes) -> Shape:
    return tuple(1 if i in axes else n for i, n in enumerate(x.shape))


APPROXIMATE: tuple[Rule, ...] = tuple(
    each for each in list(globals().values()) if isinstance(each, Rule)
)
STABILITY = Rewrites(*APPROXIMATE)
