"""The exact remainder of floating numbers, whatever their quotient."""

from __future__ import annotations

import math

from pullback.backend.assembly import Ssa, integer
from pullback.backend.precision import DOUBLE, power_of_two, sign_of, with_sign
from pullback.backend.vector import Vector, cast, fma, suffix, where
from pullback.ir.types import float64, int64

DIGITS = 51
"""Bits of a quotient that one step takes off: a rounded quotient is then wrong by one at most."""


def float_remainder(x: Vector, y: Vector) -> Vector:
    """x − trunc(x/y)·y exactly, by long division in float64; NaN for y = 0 or infinite x."""
    wide, divisor = cast(x, float64), abs(cast(y, float64))
    rest = _long_division(abs(wide), divisor)
    rest = where(abs(wide) < divisor, abs(wide), rest)
    invalid = divisor.equals(0) | ~(abs(wide) < math.inf) | divisor.is_nan()
    rest = where(invalid, rest.const(math.nan), rest)
    narrow = with_sign(rest, sign_of(wide)).convert("fptrunc", x.dtype)
    return Vector(x.function, narrow.ssa, x.dtype)


def float_quotient(x: Vector, y: Vector) -> Vector:
    """x / y cut to a whole number."""
    whole = ((x - float_remainder(x, y)) / y).intrinsic("roundeven")
    return where(y.equals(0), x / y, whole)


def _long_division(x: Vector, y: Vector) -> Vector:
    """x mod y for positive numbers: from each rest as many bits of the quotient as fit."""
    function = x.function
    proper = (y > 0) & (y < math.inf) & (x < math.inf)
    x, y = where(proper, x, 1.0), where(proper, y, 1.0)
    exponent = _exponent(y)
    gap = _largest(_exponent(x) - exponent)
    steps = Vector(function, gap, int64) + (DIGITS + 1)
    count = function.binary("sdiv", steps.ssa, integer(DIGITS))
    with function.loop(integer(0), count, carried=(x.ssa,)) as loop:
        rest = x.like(loop.values[0])
        shift = _exponent(rest) - (exponent + DIGITS)
        shift = where(shift < 0, shift.const(0), shift)
        # 2^shift in two factors: it may be beyond the largest number
        half = (shift * 0.5).intrinsic("floor")
        divisor = (y * power_of_two(half)) * power_of_two(shift - half)
        quotient = (rest / divisor).intrinsic("trunc")
        rest = fma(-quotient, divisor, rest)
        loop.carry(where(rest < 0, rest + divisor, rest).ssa)
    return x.like(loop.results[0])


def _exponent(x: Vector) -> Vector:
    """⌊log₂ x⌋ of a positive number, as a float64; a little lower than that for 0."""
    small = x < DOUBLE.smallest_normal
    scaled = where(small, x * 2.0**54, x)
    biased = (scaled.bits() >> DOUBLE.fraction_bits) + DOUBLE.bits(DOUBLE.to_integer)
    shift = x.const(DOUBLE.to_integer + DOUBLE.bias)
    return biased.reinterpret(float64) - where(small, shift + 54, shift)


def _largest(gap: Vector) -> Ssa:
    """The largest of the lanes, as an i64."""
    whole = gap.convert("fptosi", int64)
    if whole.width == 1:
        return whole.ssa
    name = f"llvm.vector.reduce.smax.{suffix(whole.ssa)}"
    return whole.function.call(name, "i64", whole.ssa)
