"""The elementary functions against float64 and mpmath: stated errors over the whole range."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from scipy import special

from pullback.backend import coefficients, precision
from unit.backend import remez
from unit.backend.harness import Compiled, same_bits, ulp_error

ERRORS = {  # units in the last place: float32, float64
    "exp": (1.0, 1.0),
    "exp2": (1.0, 1.0),
    "expm1": (1.7, 1.7),
    "log": (1.0, 1.0),
    "log2": (0.8, 0.8),
    "log1p": (1.0, 1.0),
    "sin": (1.0, 1.0),
    "cos": (1.0, 1.0),
    "tan": (2.5, 2.5),
    "asin": (1.2, 1.2),
    "atan": (2.0, 2.0),
    "sinh": (1.8, 1.8),
    "tanh": (2.3, 2.3),
    "asinh": (1.0, 1.0),
    "atanh": (1.0, 1.0),
    "erf": (1.3, 1.3),
    "erfc": (2.5, 2.5),
    "cbrt": (0.51, 0.51),
    "sqrt": (0.5, 0.5),
}
WIDE = {  # NumPy and SciPy in float64
    "asin": np.arcsin,
    "atan": np.arctan,
    "asinh": np.arcsinh,
    "atanh": np.arctanh,
    "erf": special.erf,
    "erfc": special.erfc,
}
EXACT = {
    "exp2": lambda x: mpmath.mpf(2) ** x,
    "log2": lambda x: mpmath.log(x) / mpmath.log(2),
    "cbrt": lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)),
}
SPECIALS = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0]


def numbers(dtype: type, count: int) -> np.ndarray:
    """Random bit patterns, then what programs meet, then the special ones."""
    random = np.random.default_rng(5)
    kind = np.dtype(f"u{np.dtype(dtype).itemsize}")
    limits = np.finfo(dtype)
    special = [*SPECIALS, limits.max, -limits.max, limits.tiny, limits.smallest_subnormal]
    return np.concatenate(
        [
            random.integers(0, np.iinfo(kind).max, 5 * count, kind).view(dtype),
            random.standard_normal(count).astype(dtype),
            random.uniform(-12, 12, count).astype(dtype),
            random.uniform(-110, 110, count).astype(dtype),
            (1 + random.uniform(-0.01, 0.01, count)).astype(dtype),
            (np.arange(count) * np.pi / 2).astype(dtype),
            np.array(special, dtype),
        ]
    )


def compiled(name: str, dtype: type, **options) -> Compiled:
    return Compiled(lambda s, x: getattr(s, name)(x), [dtype], dtype, **options)


@pytest.fixture(autouse=True)
def own_precision():
    """What a test sets here does not outlive it."""
    with mpmath.workprec(mpmath.mp.prec):
        yield


@pytest.mark.parametrize("name", ERRORS)
def test_float32_over_the_whole_range(name):
    x = numbers(np.float32, 250_000)
    y = compiled(name, np.float32)(x)
    with np.errstate(all="ignore"):
        exact = WIDE.get(name, getattr(np, name, None))(x.astype(np.float64))
    error = ulp_error(y, exact)
    at = np.argmax(error)
    assert error[at] <= ERRORS[name][0], f"{name}({x[at]!r}) = {y[at]!r}, not {exact[at]!r}"
    zero = y == 0
    np.testing.assert_array_equal(np.signbit(y[zero]), np.signbit(exact[zero]))


@pytest.mark.parametrize("name", ERRORS)
def test_float64_on_samples(name):
    mpmath.mp.prec = 120
    function = EXACT.get(name, getattr(mpmath, name, None))
    x = numbers(np.float64, 100)
    y = compiled(name, np.float64)(x)
    with np.errstate(all="ignore"):
        rough = WIDE.get(name, getattr(np, name, None))(x)
    # SciPy's erfc is 0 before the denormal numbers
    ordinary = np.isfinite(rough) & np.isfinite(x) & ((rough != 0) | (y != 0))
    assert same_bits(y[~ordinary & ~np.isnan(y)], rough[~ordinary & ~np.isnan(y)])
    np.testing.assert_array_equal(np.isnan(y), np.isnan(rough))
    for each, result in zip(x[ordinary], y[ordinary], strict=True):
        exact = function(mpmath.mpf(float(each)))
        error = abs(mpmath.mpf(float(result)) - exact) / mpmath.mpf(
            float(np.spacing(abs(float(exact))))
        )
        assert error <= ERRORS[name][1], f"{name}({each!r}) = {result!r}, off by {float(error)}"


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_depend_on_neither_width_nor_target(name, dtype):
    x = numbers(dtype, 301)
    wide = compiled(name, dtype)
    assert same_bits(wide(x), compiled(name, dtype, width=1)(x))
    portable = compiled(name, dtype, cpu="x86-64-v3")
    assert same_bits(wide(x), portable(x))
    assert "call" not in portable.assembly, "a library would be needed"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_power(dtype):
    random = np.random.default_rng(3)
    special = np.array(
        [*SPECIALS, 3, -3, 1.5, -1.5, np.finfo(dtype).max, np.finfo(dtype).tiny], dtype
    )
    largest = math.log(float(np.finfo(dtype).max))
    count = 200_000
    kind = np.dtype(f"u{np.dtype(dtype).itemsize}")
    bits = random.integers(0, np.iinfo(kind).max, 2 * count, kind).view(dtype)
    bases = np.concatenate(
        [
            np.exp(random.uniform(-5, 5, count)).astype(dtype),
            (1 + random.uniform(-0.01, 0.01, count)).astype(dtype),
            np.abs(bits[:count]),
        ]
    )
    with np.errstate(all="ignore"):
        exponents = (random.uniform(-largest, largest, 3 * count) / np.log(bases)).astype(dtype)
        x = np.concatenate([bases, bits[:count], np.repeat(special, len(special))])
        y = np.concatenate([exponents, bits[count:], np.tile(special, len(special))])
        wide = np.float64 if dtype is np.float32 else np.longdouble
        exact = np.power(x.astype(wide), y.astype(wide))
    function = Compiled(lambda s, x, y: s.power(x, y), [dtype, dtype], dtype)
    result = function(x, y)
    error = ulp_error(result, exact)
    at = np.argmax(error)
    assert error[at] <= 1.1, f"{x[at]!r}^{y[at]!r} = {result[at]!r}, not {exact[at]!r}"
    zero = result == 0
    np.testing.assert_array_equal(np.signbit(result[zero]), np.signbit(exact[zero]))
    x, y = x[-3000:], y[-3000:]
    single = Compiled(lambda s, x, y: s.power(x, y), [dtype, dtype], dtype, width=1)
    assert same_bits(single(x, y), function(x, y))


# ---- constants ------------------------------------------------------------------------------


@pytest.mark.parametrize("target", list(remez.targets()), ids=lambda target: target.name)
@pytest.mark.parametrize("which", [0, 1])
def test_polynomials_are_as_good_as_their_digits(target, which):
    mpmath.mp.dps = 50
    polynomial = [mpmath.mpf(c) for c in getattr(coefficients, target.name)[which]]
    assert len(polynomial) == target.degrees[which] + 1
    low, high = remez.domain(target, which)
    allowed = 0.002 if target.name == "CBRT" else (2.0**-24, 2.0**-53)[which] * 0.75
    for i in range(41):
        x = low + (high - low) * i / 40
        error = target.weight(x) * (target.function(x) - remez.value_at(x, polynomial))
        assert abs(error) <= allowed


def test_exchange_finds_the_polynomials_of_the_library():
    mpmath.mp.dps = 50
    target = next(t for t in remez.targets() if t.name == "SIN")
    found, error = remez.remez(target, 0)
    assert error < 1e-11
    assert [remez.rounded(c, 0) for c in found] == list(coefficients.SIN[0])


def test_constants_to_hundreds_of_places():
    mpmath.mp.prec = 1430
    for ours, theirs in ((precision.pi(), mpmath.pi), (precision.log_2(), mpmath.log(2))):
        difference = mpmath.mpf(ours.numerator) / ours.denominator - theirs
        assert abs(difference) < mpmath.mpf(2) ** -1420
    mpmath.mp.prec = 120
