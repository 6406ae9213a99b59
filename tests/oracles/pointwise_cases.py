"""Functions of one element."""

from __future__ import annotations

import numpy as np

from oracles.case import Case
from pullback.ir.samples import normal, positive, uniform

X, Y = normal(3, 4), normal(3, 4, seed=1)
ROW, COLUMN = normal(4, seed=2), normal(3, 1, seed=3)
P, Q = positive(3, 4), positive(3, 4, seed=1)
UNIT = uniform(-0.9, 0.9, 3, 4)
STEP = "piecewise constant"

EXPONENTIAL = ["exp", "exp2", "expm1", "sigmoid", "relu", "square", "abs", "negative"]
CIRCULAR = ["sin", "cos", "tan", "atan", "sinh", "cosh", "tanh", "asinh", "erf", "erfc"]
LOGARITHMIC = ["log", "log1p", "log2", "log10", "sqrt", "reciprocal", "rsqrt", "lgamma", "digamma"]
ON_THE_INTERVAL = ["asin", "acos", "atanh", "erfinv"]
STEPS = ["floor", "ceil", "round", "trunc", "sign"]
TESTS = ["isnan", "isinf", "isfinite"]


def _named(name: str):
    return lambda m, *args: getattr(m, name)(*args)


CASES = [
    *[Case(name, (X,), _named(name)) for name in EXPONENTIAL + CIRCULAR],
    *[Case(name, (P,), _named(name)) for name in LOGARITHMIC],
    *[Case(name, (UNIT,), _named(name)) for name in ON_THE_INTERVAL],
    *[Case(name, (3 * X,), _named(name)) for name in STEPS],
    *[Case(n, (np.array([1.0, np.nan, np.inf]),), _named(n), values_only=STEP) for n in TESTS],
    Case("acosh", (1.0 + P,), lambda m, x: m.acosh(x)),
    Case("cbrt", (P,), lambda m, x: m.cbrt(x), torch=lambda t, x: x ** (1 / 3)),
    Case("lgamma of negatives", (UNIT - 2.0,), lambda m, x: m.lgamma(x)),
    Case("digamma of negatives", (UNIT * 0.4 - 2.5,), lambda m, x: m.digamma(x)),
    Case("polygamma 1", (P,), lambda m, x: m.polygamma(1, x)),
    Case("polygamma 2", (P,), lambda m, x: m.polygamma(2, x)),
    Case("erfc far out", (10 * P,), lambda m, x: m.erfc(x)),
    Case("log1p of small", (1e-9 * X,), lambda m, x: m.log1p(x)),
    Case("expm1 of small", (1e-9 * X,), lambda m, x: m.expm1(x)),
    Case("sigmoid far out", (200 * X,), lambda m, x: m.sigmoid(x)),
    Case("tanh far out", (100 * X,), lambda m, x: m.tanh(x)),
    # two operands
    Case("add", (X, Y), lambda m, x, y: m.add(x, y)),
    Case("add, broadcast", (ROW, COLUMN), lambda m, x, y: x + y),
    Case("subtract", (X, COLUMN), lambda m, x, y: m.subtract(x, y)),
    Case("multiply", (X, ROW), lambda m, x, y: m.multiply(x, y)),
    Case("divide", (X, P), lambda m, x, y: m.divide(x, y)),
    Case("divide, broadcast", (ROW, P), lambda m, x, y: x / y),
    Case("operators with scalars", (X,), lambda m, x: (2.0 - x) * 3.0 / (4.0 + x * x) - 1),
    Case("pow", (P, X), lambda m, x, y: m.pow(x, y)),
    Case("pow, broadcast", (P, ROW), lambda m, x, y: x**y),
    Case("pow 2", (X,), lambda m, x: x**2),
    Case("pow 3", (X,), lambda m, x: x**3),
    Case("pow -1", (P,), lambda m, x: x**-1),
    Case("pow 0.5", (P,), lambda m, x: x**0.5),
    Case("pow 2.5", (P,), lambda m, x: x**2.5),
    Case("power of a scalar", (X,), lambda m, x: 2.0**x),
    Case("atan2", (X, Y), lambda m, x, y: m.atan2(x, y)),
    Case("maximum", (X, Y), lambda m, x, y: m.maximum(x, y)),
    Case("minimum", (X, ROW), lambda m, x, y: m.minimum(x, y)),
    Case("fmod", (3 * X, P), lambda m, x, y: m.fmod(x, y)),
    Case("remainder", (3 * X, P), lambda m, x, y: m.remainder(x, y)),
    Case("remainder of negatives", (3 * X, -P), lambda m, x, y: x % y),
    Case("floor_divide", (3 * X, P), lambda m, x, y: m.floor_divide(x, y), values_only=STEP),
    Case("hypot", (X, Y), lambda m, x, y: m.hypot(x, y)),
    Case("logaddexp", (X, Y), lambda m, x, y: m.logaddexp(x, y)),
    Case("copysign", (P, X), lambda m, x, y: m.copysign(x, y)),
    Case("nextafter", (X, Y), lambda m, x, y: m.nextafter(x, y), values_only=STEP),
    # choices
    Case("where", (X > 0, X, Y), lambda m, c, x, y: m.where(c, x, y)),
    Case("where, broadcast", (ROW > 0, X, COLUMN), lambda m, c, x, y: m.where(c, x, y)),
    Case("where of a comparison", (X, Y), lambda m, x, y: m.where(x > y, x * y, x - y)),
    Case("clip", (X,), lambda m, x: m.clip(x, -0.5, 0.5)),
    Case("clip from below", (X,), lambda m, x: m.clip(x, min=-0.1)),
    Case("relu of a product", (X, Y), lambda m, x, y: m.relu(x * y)),
    Case("less", (X, Y), lambda m, x, y: x < y, values_only=STEP),
    Case("equal", (X, X), lambda m, x, y: x == y, values_only=STEP),
    # compositions
    Case("gaussian", (X,), lambda m, x: m.exp(-0.5 * x * x)),
    Case("rational", (X,), lambda m, x: (x * x - 1.0) / (x * x + 1.0)),
    Case("rosenbrock", (ROW,), lambda m, x: 100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2),
    Case("(xy + y)²", (X, Y), lambda m, x, y: (x * y + y) ** 2),
    Case("x(x + y) squared", (X, Y), lambda m, x, y: (x * (x + y)) ** 2),
    Case("log of sigmoid", (X,), lambda m, x: m.log(m.sigmoid(x))),
    Case("swish by hand", (X,), lambda m, x: x / (1.0 + m.exp(-x))),
]
