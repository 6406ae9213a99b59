"""The special functions and their derivatives against mpmath, at 40 digits."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

import pullback as pb
from pullback.ops.pointwise import polynomials

mpmath.mp.dps = 40


@pytest.fixture(autouse=True)
def forty_digits():
    """Whatever precision other tests have left behind."""
    with mpmath.workdps(40):
        yield


random = np.random.default_rng(7)


def powers(low: float, high: float, count: int) -> np.ndarray:
    return 10.0 ** random.uniform(low, high, count)


def interpolant(function, terms: int, count: int = 40) -> list[float]:
    """The Chebyshev series of `function`, cut after `terms`, as a polynomial."""
    angles = [mpmath.pi * (k + mpmath.mpf(1) / 2) / count for k in range(count)]
    values = [function(mpmath.cos(angle)) for angle in angles]
    total = np.array([mpmath.mpf(0)] * terms)
    before, chebyshev = 0 * total, 0 * total
    chebyshev[0] = mpmath.mpf(1)
    for j in range(terms):
        weight = mpmath.fdot(values, [mpmath.cos(j * angle) for angle in angles])
        total += chebyshev * weight * (1 if j == 0 else 2) / count
        shifted = np.roll(chebyshev, 1) * (1 if j == 0 else 2)  # the last power is 0 until the end
        before, chebyshev = chebyshev, shifted - before
    return [float(each) for each in total]


def erf_over_x(t):
    x = mpmath.sqrt((t + 1) / 2)
    return mpmath.erf(x) / x


def scaled_erfc(t):
    x = 3 * (1 + t) / (1 - t)
    return (1 + 2 * x) * mpmath.exp(x * x) * mpmath.erfc(x)


def lgamma_over_zeros(t):
    return mpmath.loggamma(t + 2) / ((t + 1) * t)


def digamma_over_root(t):
    root = sum(map(mpmath.mpf, polynomials.DIGAMMA_ROOT))
    return mpmath.digamma(t + 2) / (t + 2 - root)


@pytest.mark.parametrize(
    ("table", "function"),
    [
        (polynomials.ERF, erf_over_x),
        (polynomials.ERFCX, scaled_erfc),
        (polynomials.LGAMMA, lgamma_over_zeros),
        (polynomials.DIGAMMA, digamma_over_root),
    ],
    ids=["erf", "erfc", "lgamma", "digamma"],
)
def test_tables_are_what_they_say(table, function):
    np.testing.assert_allclose(table, interpolant(function, len(table)), rtol=1e-15)


def order(n):
    return (lambda x: pb.polygamma(n, x)), (lambda x: mpmath.polygamma(n, x))


ROOT_PI = mpmath.sqrt(mpmath.pi)
AXIS = np.concatenate([random.uniform(-6, 6, 700), powers(-300, 0, 150), -powers(-300, 0, 150)])
TAIL = np.concatenate([random.uniform(-6, 26, 900), powers(-300, 0, 100)])
UNIT = np.concatenate([random.uniform(-1, 1, 500), 1 - powers(-15, -1, 400), powers(-300, 0, 100)])
HALF_LINE = np.concatenate(
    [
        *(random.uniform(0, 3, 400), random.uniform(0, 30, 200), powers(-150, 150, 200)),
        *(1 + powers(-14, -1, 100), 2 - powers(-14, -1, 100)),
    ]
)
NEGATIVE = -random.uniform(0, 20, 1000)
SHORT = np.concatenate([random.uniform(0, 50, 60), powers(-15, 12, 60), -random.uniform(0, 20, 60)])

CASES = {
    "erf": (pb.erf, mpmath.erf, AXIS, 4e-16),
    "erfc": (pb.erfc, mpmath.erfc, TAIL, 8e-16),
    "erfinv": (pb.erfinv, mpmath.erfinv, UNIT, 6e-16),
    "lgamma": (pb.lgamma, lambda x: mpmath.re(mpmath.loggamma(x)), HALF_LINE, 2e-15),
    "digamma": (pb.digamma, mpmath.digamma, HALF_LINE, 8e-16),
    **{f"polygamma{n}": (*order(n), SHORT, 5e-15) for n in (1, 2, 3, 4, 7)},
}
SLOPES = {
    "erf": (pb.erf, lambda x: 2 / ROOT_PI * mpmath.exp(-x * x), AXIS, 2e-14),
    "erfc": (pb.erfc, lambda x: -2 / ROOT_PI * mpmath.exp(-x * x), TAIL, 2e-13),
    "erfinv": (pb.erfinv, lambda x: ROOT_PI / 2 * mpmath.exp(mpmath.erfinv(x) ** 2), UNIT, 4e-14),
    "lgamma": (pb.lgamma, mpmath.digamma, HALF_LINE, 8e-16),
    "digamma": (pb.digamma, lambda x: mpmath.polygamma(1, x), HALF_LINE, 1e-15),
    "polygamma2": (order(2)[0], order(3)[1], SHORT, 5e-15),
}


def slope(function, x):
    return pb.grad(lambda x: function(x).sum())(x)


@pytest.mark.parametrize("name", CASES)
def test_value(name):
    function, exact, points, tolerance = CASES[name]
    check_relative(function(points).numpy(), exact, points, tolerance)


@pytest.mark.parametrize("name", SLOPES)
def test_derivative(name):
    function, exact, points, tolerance = SLOPES[name]
    check_relative(slope(function, points).numpy(), exact, points, tolerance)


def check_relative(computed, exact, points, tolerance):
    worst, place = 0.0, None
    for x, y in zip(points, computed, strict=True):
        true = exact(mpmath.mpf(float(x)))
        error = float(abs(mpmath.mpf(float(y)) - true) / abs(true))
        if error > worst:
            worst, place = error, x
    assert worst <= tolerance, f"relative error {worst} at {place!r}"


@pytest.mark.parametrize(
    ("function", "exact"),
    [(pb.lgamma, lambda x: mpmath.re(mpmath.loggamma(x))), (pb.digamma, mpmath.digamma)],
    ids=["lgamma", "digamma"],
)
def test_negative_axis(function, exact):
    """Near its zeros on the negative axis a function has only an absolute accuracy."""
    true = np.array([float(exact(mpmath.mpf(float(x)))) for x in NEGATIVE])
    np.testing.assert_allclose(function(NEGATIVE).numpy(), true, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("name", ["erf", "erfc", "erfinv", "lgamma", "digamma"])
@pytest.mark.parametrize("dtype", [pb.float32, pb.float16, pb.bfloat16])
def test_narrow_types_round_once(name, dtype):
    function, _, points, _ = CASES[name]
    narrow = points[(np.abs(points) > 1e-4) & (np.abs(points) < 1e4)].astype(dtype)
    wide = function(narrow.astype(np.float64)).numpy()
    with np.errstate(over="ignore"):
        expected = wide.astype(dtype)
    np.testing.assert_array_equal(function(narrow).numpy(), expected)


def test_poles():
    x = np.array([0.0, -0.0, -1.0, -2.0, -1e300])
    inf, nan = np.inf, np.nan
    np.testing.assert_array_equal(pb.lgamma(x).numpy(), [inf] * 5)
    np.testing.assert_array_equal(pb.digamma(x).numpy(), [-inf, inf, nan, nan, nan])
    np.testing.assert_array_equal(pb.polygamma(1, x).numpy(), [inf] * 5)
    np.testing.assert_array_equal(pb.polygamma(2, x).numpy(), [-inf, inf, nan, nan, nan])


def test_polygamma_refuses_orders():
    for wrong in (-1, 101):
        with pytest.raises(pb.errors.OutOfRangeError):
            pb.polygamma(wrong, 1.0)
    with pytest.raises(pb.errors.DTypeError):
        pb.polygamma(1.5, 1.0)
    np.testing.assert_array_equal(pb.polygamma(0, 2.0).numpy(), pb.digamma(2.0).numpy())
