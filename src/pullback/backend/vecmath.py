"""Exponentials, logarithms, powers, hyperbolic and error functions on vectors of numbers.

Branch-free, one text for float32 and float64 and for every width. A fused multiply-add stands
where the error analysis wants one, and nowhere else. `ERRORS` in tests/unit/backend/test_vecmath.py
states and holds the largest error of each in units in the last place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from pullback.backend.coefficients import (
    CBRT,
    ERF,
    ERFC_LOG2,
    ERFCX,
    EXP,
    EXP2,
    LOG,
    LOG_TAIL,
    SINH,
)
from pullback.backend.precision import (
    Pair,
    clamped,
    coefficients,
    fast_two_sum,
    format_of,
    log_2,
    nearest_whole,
    power_of_two,
    scale,
    sign_of,
    two_product,
    two_sum,
    with_sign,
)
from pullback.backend.vector import Vector, fma, horner, where
from pullback.ir.types import float64

# ---- exponentials ---------------------------------------------------------------------------


def exp(x: Vector) -> Vector:
    """eˣ. The 0 of what −∞ masks is selected: rounding it from below the normal numbers is slow."""
    low, high = _exponent_range(x)
    vanishes = x < low
    x = where(vanishes, x.const(0), x)
    n, r, rest = _modulo_log_2(where(x > high, x.const(high), x))
    return where(vanishes, x.const(0), scale(1 + _expm1_of_rest(r, rest), n))


def exp2(x: Vector) -> Vector:
    """2ˣ."""
    form = format_of(x)
    least = -form.bias - form.digits - 1
    x = clamped(x, least, form.bias + 2)
    n = nearest_whole(x)
    return scale(_exp2_of_rest(x - n), n)


def expm1(x: Vector) -> Vector:
    """eˣ − 1, as 2·(2ⁿ⁻¹·(eʳ − 1) + (2ⁿ⁻¹ − ½)): 2ⁿ alone may overflow."""
    tiny = abs(x) < 2.0 ** -format_of(x).digits
    n, r, rest = _modulo_log_2(clamped(x, -2.0 * format_of(x).digits, _exponent_range(x)[1]))
    half = power_of_two(n - 1)
    y = fma(half, _expm1_of_rest(r, rest), half - 0.5)
    return where(tiny, x, y + y)


def _exponent_range(x: Vector) -> tuple[float, float]:
    """Below the first, eˣ is 0; above the second it is infinite."""
    return (-746.0, 710.0) if x.dtype == float64 else (-104.0, 89.0)


def _modulo_log_2(x: Vector) -> tuple[Vector, Vector, Vector]:
    """x = n·log 2 + r + rest with a whole n and |r| ≤ ½ log 2."""
    high, low = format_of(x).split(log_2(), 2)
    shift = format_of(x).to_integer
    n = fma(x, 1 / math.log(2), shift) - shift
    exact = fma(n, -high, x)
    r = fma(n, -low, exact)
    return n, r, fma(n, -low, exact - r)


def _expm1_of_rest(r: Vector, rest: Vector) -> Vector:
    """e^(r + rest) − 1 for |r| ≤ ½ log 2."""
    return r + fma(r * r, horner(r, coefficients(EXP, r)), rest)


def _exp2_of_rest(r: Vector, rest: Vector | None = None) -> Vector:
    """2^(r + rest) for |r| ≤ ½."""
    high, low = format_of(r).split(log_2(), 2)
    tail = fma(r * r, horner(r, coefficients(EXP2, r)), r * low)
    if rest is not None:
        tail = fma(rest, high, tail)
    return 1 + fma(r, high, tail)


# ---- logarithms -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Reduced:
    """A positive number 2^e·(1 + f), and log(1 + f) = f − f²/2 + tail."""

    e: Vector
    f: Vector
    half_square: Vector
    tail: Vector


def log(x: Vector) -> Vector:
    """Natural logarithm."""
    e, m = _mantissa(x)
    return _log_specials(x, _natural(_reduce(e, m), x.const(0)))


def log1p(x: Vector) -> Vector:
    """log(1 + x)."""
    y = _log1p_of_pair(x, x.const(0))
    y = _log_specials(1 + x, y)
    return where(abs(x) < 2.0 ** -format_of(x).digits, x, y)


def _log1p_of_pair(x: Vector, low: Vector) -> Vector:
    """log(1 + x + low) for finite x > −1."""
    u, rest = two_sum(x.const(1), x)
    e, m = _mantissa(u)
    return _natural(_reduce(e, m), (rest + low) / u)


def _natural(y: _Reduced, correction: Vector) -> Vector:
    """e·log 2 + log(1 + f) + correction, the small terms first."""
    form = format_of(y.f)
    # the first part has so few digits that its product with an exponent is exact
    places = 2 ** (form.digits - 12)
    high = round(log_2() * places) / places
    low = float(log_2() - Fraction(high))
    small = y.tail + fma(y.e, low, correction)
    return fma(y.e, high, y.f - (y.half_square - small))


def log2(x: Vector) -> Vector:
    """Logarithm to the base 2; whole for a power of two."""
    e, m = _mantissa(x)
    y = _reduce(e, m)
    high, low = format_of(x).split(1 / log_2(), 2)
    lead, rest = fast_two_sum(y.f, -y.half_square)
    rest = rest - fma(y.f * 0.5, y.f, -y.half_square) + y.tail
    product, remainder = two_product(lead, high)
    total, lost = two_sum(e, product)
    remainder = remainder + fma(rest, high, lead * low)
    return _log_specials(x, total + (lost + remainder))


def _mantissa(x: Vector) -> Pair:
    """x = 2^e·m with m in [√½, √2), for positive finite x."""
    form = format_of(x)
    small = x < form.smallest_normal
    x = where(small, x * 2.0**form.digits, x)
    start = form.bits(math.sqrt(0.5))
    bits = x.bits() + (form.bits(1.0) - start)
    m = ((bits & (2**form.fraction_bits - 1)) + start).reinterpret(x.dtype)
    biased = ((bits >> form.fraction_bits) + form.bits(form.to_integer)).reinterpret(x.dtype)
    offset = form.to_integer + form.bias
    return biased - where(small, x.const(offset + form.digits), x.const(offset)), m


def _reduce(e: Vector, m: Vector) -> _Reduced:
    """log(1 + f) = 2 artanh s = f − f²/2 + s·(f²/2 + R(s²)) with s = f/(2 + f)."""
    f = m - 1
    s = f / (2 + f)
    z = s * s
    half_square = (f * 0.5) * f
    return _Reduced(e, f, half_square, s * fma(z, horner(z, coefficients(LOG, z)), half_square))


def _log_specials(x: Vector, y: Vector) -> Vector:
    y = where(x < math.inf, y, x)
    y = where(x < 0, x.const(math.nan), y)
    return where(x.equals(0), x.const(-math.inf), y)


# ---- powers and roots -----------------------------------------------------------------------


def power(x: Vector, y: Vector) -> Vector:
    """x^y = 2^(y·log₂ x), the logarithm in two numbers; specials as in C."""
    size = abs(x)
    magnitude = _positive_power(size, y)
    whole = y.intrinsic("trunc").equals(y)
    half = y * 0.5
    odd = whole & half.intrinsic("trunc").differs(half)
    flips = odd & x.sign_is_set()
    result = where(flips, -magnitude, magnitude)
    undefined = (x < 0) & (x > -math.inf) & ~whole
    result = where(undefined, x.const(math.nan), result)
    result = where(
        size.equals(1) & ~y.is_nan() & ~undefined, where(flips, x.const(-1), x.const(1)), result
    )
    return where(x.equals(1) | y.equals(0), x.const(1), result)


def _positive_power(x: Vector, y: Vector) -> Vector:
    form = format_of(x)
    high, low = _log2_pair(x)
    high = where(x < math.inf, high, x)
    high = where(x.equals(0), x.const(-math.inf), high)
    product, rest = two_product(y, high)
    rest = fma(y, low, rest)
    bound = form.bias + form.digits + 2.0
    rest = where(abs(product) < bound, rest, rest.const(0))
    product = clamped(product, -bound, bound)
    n = nearest_whole(product)
    return scale(_exp2_of_rest(*two_sum(product - n, rest)), n)


def _log2_pair(x: Vector) -> Pair:
    """log₂ x of a positive finite x to twice the digits less ten: (e + 2 artanh(s)/log 2)."""
    e, m = _mantissa(x)
    s, z = _quotient(m)
    third, third_low = format_of(x).split(Fraction(1, 3), 2)
    # artanh s = s·(1 + s²·(1/3 + tail))
    tail = z[0] * horner(z[0], coefficients(LOG_TAIL, x))
    inner, rest = fast_two_sum(x.const(third), tail)
    inner, rest = _times(z, (inner, rest + third_low))
    factor = fast_two_sum(x.const(1), inner)
    series = _times(s, (factor[0], factor[1] + rest))
    scale_high, scale_low = format_of(x).split(2 / log_2(), 2)
    product, remainder = two_product(series[0], scale_high)
    remainder = remainder + fma(series[1], scale_high, series[0] * scale_low)
    total, lost = two_sum(e, product)
    return fast_two_sum(total, lost + remainder)


def _quotient(m: Vector) -> tuple[Pair, Pair]:
    """s = (m − 1)/(m + 1) and s²."""
    f = m - 1
    below, below_low = two_sum(m, m.const(1))
    s = f / below
    remainder = fma(-s, below, f) - s * below_low
    low = remainder / below
    square, rest = two_product(s, s)
    return (s, low), (square, fma(s + s, low, rest))


def _times(x: Pair, y: Pair) -> Pair:
    product, rest = two_product(x[0], y[0])
    rest = rest + fma(x[0], y[1], x[1] * y[0])
    return fast_two_sum(product, rest)


def cbrt(x: Vector) -> Vector:
    """Cube root: a guess from a polynomial, and Halley's steps; the last one by its residual."""
    form = format_of(x)
    size = abs(x)
    e, m = _mantissa(where(size < math.inf, size, size.const(1)))
    third = nearest_whole(e * (1 / 3))
    m = m * power_of_two(e - 3 * third)
    y = horner(m, coefficients(CBRT, x))
    if form.digits > 24:
        y = _halley(y, m)
    y = _halley(y, m)
    square, rest = two_product(y, y)
    residual = fma(-square, y, m) - rest * y
    y = scale(y + residual / (3 * square), third)
    y = where(size.equals(0) | ~(size < math.inf), size, y)
    return with_sign(y, sign_of(x))


def _halley(y: Vector, m: Vector) -> Vector:
    cube = y * y * y
    return y - y * ((cube - m) / (cube + cube + m))


# ---- hyperbolic -----------------------------------------------------------------------------


def sinh(x: Vector) -> Vector:
    """(eˣ − e⁻ˣ)/2; a polynomial for |x| < 1."""
    size = abs(x)
    z = x * x
    near = fma(x * z, horner(z, coefficients(SINH, x)), x)
    n, r, rest = _modulo_log_2(clamped(size, 0.0, _exponent_range(x)[1] + 1))
    half = scale(1 + _expm1_of_rest(r, rest), n - 1)
    far = half - 0.25 / half
    return where(size < 1, near, with_sign(far, sign_of(x)))


def tanh(x: Vector) -> Vector:
    """y/(y + 2) with y = e²ˣ − 1."""
    size = where(abs(x) > format_of(x).digits * 0.4, x.const(format_of(x).digits * 0.4), abs(x))
    n, r, rest = _modulo_log_2(size + size)
    power = power_of_two(n)
    y = fma(power, _expm1_of_rest(r, rest), power - 1)
    below, lost = two_sum(y, y.const(2))
    ratio = y / below
    # y/(below + lost), for 1/below is (1 − ratio)/2
    ratio = fma(ratio * lost, fma(ratio, 0.5, -0.5), ratio)
    return with_sign(ratio, sign_of(x))


def asinh(x: Vector) -> Vector:
    """log(x + √(x² + 1)) = log1p(x + x²/(1 + √(x² + 1)))."""
    size = abs(x)
    large = size > 2.0 ** (format_of(x).digits // 2 + 2)
    a = where(large, size.const(1), size)
    square, square_low = two_product(a, a)
    w, w_low = two_sum(square.const(1), square)
    root = w.intrinsic("sqrt")
    root_low = (fma(-root, root, w) + (w_low + square_low)) / (root + root)
    below, below_low = two_sum(root.const(1), root)
    quotient = square / below
    rest = fma(-quotient, below, square) + (square_low - quotient * (below_low + root_low))
    t, t_low = two_sum(a, quotient)
    near = _log1p_of_pair(t, t_low + rest / below)
    e, m = _mantissa(where(size < math.inf, size, size.const(1)))
    far = _natural(_reduce(e + 1, m), size.const(0))
    y = where(large, where(size < math.inf, far, size), near)
    y = where(size < 2.0 ** -(format_of(x).digits // 2 + 1), size, y)
    return with_sign(where(x.is_nan(), x, y), sign_of(x))


def atanh(x: Vector) -> Vector:
    """½ log((1 + x)/(1 − x)) = ½ log1p(2x/(1 − x))."""
    size = abs(x)
    below, below_low = two_sum(size.const(1), -size)
    twice = size + size
    t = twice / below
    rest = (fma(-t, below, twice) - t * below_low) / below
    y = _log1p_of_pair(t, rest) * 0.5
    y = where(size.equals(1), x.const(math.inf), y)
    y = where(size <= 1, y, x.const(math.nan))
    y = where(size < 2.0 ** -(format_of(x).digits // 2 + 1), size, y)
    return with_sign(y, sign_of(x))


# ---- error functions ------------------------------------------------------------------------


def erf(x: Vector) -> Vector:
    """2/√π ∫₀ˣ exp(−t²) dt; from 1 on it is 1 − 2^(log₂ erfc x)."""
    size = abs(x)
    last = 6.0 if x.dtype == float64 else 4.0  # from here on the result is 1
    y = horner(where(size > last, size.const(last), size), coefficients(ERFC_LOG2, x))
    n = nearest_whole(y)
    far = fma(-power_of_two(n), _exp2_of_rest(y - n), 1)
    return where(size < 1, _erf_near_0(x), with_sign(far, sign_of(x)))


def erfc(x: Vector) -> Vector:
    """1 − erf x, to the last digits for large x too."""
    size = abs(x)
    last = 27.3 if x.dtype == float64 else 10.1  # from here on the result is 0
    tail = _erfc_of_positive(where(size > last, size.const(last), size))
    return where(size < 0.75, 1 - _erf_near_0(x), where(x < 0, 2 - tail, tail))


def _erf_near_0(x: Vector) -> Vector:
    return fma(x, horner(x * x, coefficients(ERF, x)), x)


def _erfc_of_positive(a: Vector) -> Vector:
    """exp(−a²)·R(t)/(1 + 2a) with t = (a − 4)/(a + 4), for ¾ ≤ a."""
    square, square_low = two_product(a, a)
    n, r, rest = _modulo_log_2(-square)
    q = _expm1_of_rest(r, rest)
    q = fma(-square_low, 1 + q, q)  # e^-square_low = 1 − square_low, to the last digit
    t = (a - 4) / (a + 4)
    first, second, *others = coefficients(ERFCX, a)
    ratio = fma(fma(_in_halves(t, others), t, second), t, first)
    above = fma(q, ratio, ratio)
    above_low = fma(q, ratio, ratio - above)
    below, below_low = fast_two_sum(a + a, a.const(1))
    inverse = 1 / below
    y = above * inverse
    y = fma(fma(-y, below, above) + fma(-y, below_low, above_low), inverse, y)
    # 2ⁿ may lie below the normal numbers: the first step is exact, the second rounds once
    return (y * power_of_two(n + 64)) * 2.0**-64


def _in_halves(x: Vector, c: Sequence[float]) -> Vector:
    """c₀ + c₁x + c₂x² + … as a polynomial in x² and x times another: half as long to wait for."""
    square = x * x
    return fma(x, horner(square, c[1::2]), horner(square, c[::2]))
