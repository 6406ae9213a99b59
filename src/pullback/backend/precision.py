"""What the elementary functions know of float32 and float64, and arithmetic in pairs of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import TypeAlias

import numpy as np

from pullback.backend.coefficients import Coefficients
from pullback.backend.vector import Vector, fma, where
from pullback.ir.types import DType, float32, float64

Pair: TypeAlias = tuple[Vector, Vector]
"""An unevaluated sum high + low, with |low| ≤ ulp(high)/2 or so."""


@dataclass(frozen=True, slots=True)
class Format:
    """A binary floating-point format."""

    dtype: DType
    digits: int
    """bits of the significand"""
    bias: int
    """of the exponent"""

    @property
    def fraction_bits(self) -> int:
        return self.digits - 1

    @property
    def to_integer(self) -> float:
        """1.5·2^(digits−1): adding it rounds to a whole number, whose bits are then the lowest."""
        return 1.5 * 2.0**self.fraction_bits

    @property
    def smallest_normal(self) -> float:
        return 2.0 ** (1 - self.bias)

    def bits(self, value: float) -> int:
        """The bits of `value`, as an unsigned integer."""
        kind = np.uint32 if self.digits == 24 else np.uint64
        return int(np.asarray(value, self.dtype).view(kind))

    def split(self, value: Fraction, parts: int) -> tuple[float, ...]:
        """`value` as a sum of numbers of this format, largest first."""
        return _split(self, value, parts)

    def nearest(self, value: Fraction) -> float:
        """The number of this format nearest to a normal `value`."""
        if value == 0:
            return 0.0
        exponent = abs(value.numerator).bit_length() - value.denominator.bit_length()
        unit = Fraction(2) ** (exponent - self.digits)
        if abs(value) / unit >= 2**self.digits:
            unit *= 2
        return float(round(value / unit) * unit)


@cache
def _split(form: Format, value: Fraction, parts: int) -> tuple[float, ...]:
    numbers = []
    for _ in range(parts):
        numbers.append(form.nearest(value))
        value -= Fraction(numbers[-1])
    return tuple(numbers)


SINGLE = Format(float32, 24, 127)
DOUBLE = Format(float64, 53, 1023)


def format_of(x: Vector) -> Format:
    return DOUBLE if x.dtype == float64 else SINGLE


def coefficients(table: Coefficients, x: Vector) -> tuple[float, ...]:
    return table[1 if x.dtype == float64 else 0]


# ---- constants to 1400 bits: what reducing the largest float64 modulo π/2 takes ------------------

_PLACES = 1440


@cache
def log_2() -> Fraction:
    """2 artanh ⅓."""
    return Fraction(2 * _series(3, 9, 480), 2**_PLACES)


@cache
def pi() -> Fraction:
    """Machin: 16 arctan 1/5 − 4 arctan 1/239."""
    return Fraction(16 * _series(5, -25, 320) - 4 * _series(239, -(239**2), 95), 2**_PLACES)


def _series(start: int, ratio: int, terms: int) -> int:
    """Σ 1/(start·ratio^k·(2k + 1)), in fixed point."""
    power, total = 2**_PLACES // start, 0
    for k in range(terms):
        total += power // (2 * k + 1)
        power //= ratio
    return total


# ---- exact steps -----------------------------------------------------------------------------


def two_sum(x: Vector, y: Vector) -> Pair:
    """x + y exactly."""
    total = x + y
    back = total - x
    return total, (x - (total - back)) + (y - back)


def fast_two_sum(x: Vector, y: Vector) -> Pair:
    """x + y exactly, for |x| ≥ |y| or x = 0."""
    total = x + y
    return total, y - (total - x)


def two_product(x: Vector, y: Vector | float) -> Pair:
    """x·y exactly."""
    product = x * y
    return product, fma(x, y, -product)


# ---- whole numbers and powers of two ----------------------------------------------------------


def nearest_whole(x: Vector) -> Vector:
    """x rounded to a whole number, for |x| < 2^(digits − 2)."""
    shift = format_of(x).to_integer
    return (x + shift) - shift


def power_of_two(n: Vector) -> Vector:
    """2^n for a whole n in the range of normal exponents."""
    form = format_of(n)
    exponent = (n + (form.to_integer + form.bias)).bits() << form.fraction_bits
    return exponent.reinterpret(n.dtype)


def scale(x: Vector, n: Vector) -> Vector:
    """x·2^n for a whole n, rounded once: in two steps, of which the first is exact."""
    first = nearest_whole(n * 0.5)
    return (x * power_of_two(first)) * power_of_two(n - first)


def sign_of(x: Vector) -> Vector:
    """The sign bit alone."""
    return x.bits() & (1 << (8 * x.dtype.itemsize - 1))


def with_sign(x: Vector, sign: Vector) -> Vector:
    """x with its sign flipped where the sign bit is set."""
    return (x.bits() ^ sign).reinterpret(x.dtype)


def clamped(x: Vector, low: float, high: float) -> Vector:
    """x cut to [low, high]; NaN stays."""
    x = where(x < low, x.const(low), x)
    return where(x > high, x.const(high), x)
