"""Sine, cosine, tangent and their inverses on vectors of numbers; see `vecmath`."""

from __future__ import annotations

import math
from functools import cache

from pullback.backend.assembly import Ssa, element_of, integer
from pullback.backend.coefficients import ASIN, ATAN, COS, SIN
from pullback.backend.precision import (
    Pair,
    coefficients,
    fast_two_sum,
    format_of,
    pi,
    sign_of,
    two_product,
    two_sum,
    with_sign,
)
from pullback.backend.vector import Vector, any_lane, fma, horner, where
from pullback.ir.types import DType, float32, float64, int64, uint32

# ---- sine, cosine, tangent ------------------------------------------------------------------


def sin(x: Vector) -> Vector:
    """Sine."""
    quadrant, r = _modulo_half_pi(abs(x))
    y = _chosen(quadrant, _cos(r), _sin(r))
    return with_sign(with_sign(y, _second_bit(quadrant)), sign_of(x))


def cos(x: Vector) -> Vector:
    """Cosine."""
    quadrant, r = _modulo_half_pi(abs(x))
    y = _chosen(quadrant, _sin(r), _cos(r))
    return with_sign(y, _second_bit(quadrant + 1))


def tan(x: Vector) -> Vector:
    """Tangent."""
    quadrant, r = _modulo_half_pi(abs(x))
    sine, cosine = _sin(r), _cos(r)
    y = _chosen(quadrant, -cosine, sine) / _chosen(quadrant, sine, cosine)
    return with_sign(y, sign_of(x))


def _chosen(quadrant: Vector, odd: Vector, even: Vector) -> Vector:
    return where((quadrant & 1).equals(1), odd, even)


def _second_bit(quadrant: Vector) -> Vector:
    """A sign bit, set in the quadrants 2 and 3."""
    return (quadrant & 2) << (8 * quadrant.dtype.itemsize - 2)


def _sin(r: Pair) -> Vector:
    z = r[0] * r[0]
    return r[0] + fma(r[0] * z, horner(z, coefficients(SIN, z)), r[1])


def _cos(r: Pair) -> Vector:
    z = r[0] * r[0]
    half = z * 0.5
    lead = 1 - half
    tail = fma(z * z, horner(z, coefficients(COS, z)), -(r[0] * r[1]))
    return lead + (((1 - lead) - half) + tail)


def _modulo_half_pi(x: Vector) -> tuple[Vector, Pair]:
    """x = q·π/2 + r for x ≥ 0: the two lowest bits of q count, and |r| ≤ π/4 or so."""
    form = format_of(x)
    first, second, third = form.split(pi() / 2, 3)
    shifted = fma(x, 2 / math.pi, form.to_integer)
    n = shifted - form.to_integer
    exact = fma(n, -first, x)
    product, product_low = two_product(n, -second)
    high, lost = two_sum(exact, product)
    low = fma(n, -third, lost + product_low)
    huge = (x > _LARGEST[x.dtype]) & (x < math.inf)
    return _corrected(x, huge, shifted.bits(), (high, low))


# up to here the product of n and the first digits of π/2 cancels exactly against x
_LARGEST = {float32: 2.0**17, float64: 2.0**28}


def _corrected(x: Vector, huge: Vector, quadrant: Vector, r: Pair) -> tuple[Vector, Pair]:
    """The reduction of huge operands, lane by lane, in a loop that is skipped if there are none.

    One lane at a time because this is rare, and half the code of a kernel if it is unrolled.
    """
    function = x.function
    some = any_lane(huge).convert("zext", int64)
    carried = (quadrant.ssa, r[0].ssa, r[1].ssa)
    with function.loop(integer(0), (some * x.width).ssa, carried=carried) as loop:
        place = loop.index
        is_huge = _lane(huge, place)
        one = where(is_huge, _lane(x, place), 2.0**30).convert("fpext", float64)
        reduced = _narrowed(*_payne_hanek(one), x.dtype)
        for_all = (quadrant, *r)
        old = [each.like(value) for each, value in zip(for_all, loop.values, strict=True)]
        new = [
            _with_lane(before, place, where(is_huge, after, _lane(before, place)))
            for before, after in zip(old, reduced, strict=True)
        ]
        loop.carry(*[each.ssa for each in new])
    number, high, low = loop.results
    return quadrant.like(number), (x.like(high), x.like(low))


def _narrowed(quadrant: Vector, r: Pair, dtype: DType) -> tuple[Vector, Vector, Vector]:
    """A quadrant and a rest in float64, as a quadrant and a rest of `dtype`."""
    if dtype == float64:
        return quadrant, *r
    high = r[0].convert("fptrunc", float32)
    low = (r[0] - high.convert("fpext", float64)).convert("fptrunc", float32)
    return quadrant.convert("trunc", uint32), high, low


def _lane(x: Vector, index: Ssa) -> Vector:
    if x.width == 1:
        return x
    one = x.function.assign(element_of(x.ssa.type), f"extractelement {x.ssa}, {index}")
    return x.like(one)


def _with_lane(x: Vector, index: Ssa, value: Vector) -> Vector:
    if x.width == 1:
        return value
    return x.like(x.function.assign(x.ssa.type, f"insertelement {x.ssa}, {value.ssa}, {index}"))


# ---- huge operands --------------------------------------------------------------------------
# M. Payne, R. Hanek: Radian reduction for trigonometric functions (1983). x = m·2^e, and only the
# bits of 2/π that give m·2^e·2/π modulo 4 are multiplied: 192 of them, of which 128 come out right.

_LOW = 0xFFFFFFFF
_PADDING = 64
"""zeros before the bits of 2/π, for operands below 2^53"""


def _payne_hanek(x: Vector) -> tuple[Vector, Pair]:
    """x modulo π/2 for a float64 of at least 2^28, its quadrant in the lowest two bits."""
    bits = x.bits()
    significand = (bits & (2**52 - 1)) | 2**52
    start = (bits >> 52) - (1075 + 1 - _PADDING)
    words = [_word(start, j) for j in range(6)]
    top, next_ = _product(words, significand & _LOW, significand >> 32)
    quadrant = (top + 2**61) >> 62
    fraction = (top << 2) | (next_ >> 62)
    return quadrant, _times_half_pi(fraction.reinterpret(int64), next_ << 2)


def _word(start: Vector, j: int) -> Vector:
    """32 bits of 2/π: from bit `start` + 32·j."""
    loaded = _entry((start >> 5) + j)
    return (loaded << (start & 31)) >> 32


def _product(words: list[Vector], low: Vector, high: Vector) -> Pair:
    """The upper 128 of the 192 lowest bits of words·(high, low)."""
    columns: list[Vector] = []
    carry = low.const(0)
    previous: Vector | None = None
    for word in reversed(words):
        terms = [low * word] if previous is None else [low * word, high * previous]
        total, previous = carry, word
        carry = carry.const(0)
        for term in terms:
            total, carry = total + (term & _LOW), carry + (term >> 32)
        columns.append(total & _LOW)
        carry = carry + (total >> 32)
    return (columns[5] << 32) | columns[4], (columns[3] << 32) | columns[2]


def _times_half_pi(fraction: Vector, rest: Vector) -> Pair:
    """(fraction·2^64 + rest)·2^-128·π/2 of a signed and an unsigned integer."""
    upper = (fraction >> 32).convert("sitofp", float64) * 2.0**-32
    lower = (fraction & _LOW).convert("sitofp", float64) * 2.0**-64
    lower = lower + (rest >> 11).convert("sitofp", float64) * 2.0**-117
    high = upper + lower
    low = (upper - high) + lower
    first, second, _ = format_of(high).split(pi() / 2, 3)
    product, remainder = two_product(high, first)
    return product, remainder + fma(high, second, low * first)


@cache
def _table() -> str:
    """Entry k holds the bits 32k … 32k + 63 of 2/π, after the padding."""
    count = 40
    total = 32 * count + 64
    digits = int(2 / pi() * 2 ** (total - _PADDING - 1))  # bit 0 is the one before the point
    entries = [(digits >> (total - 64 - 32 * k)) & (2**64 - 1) for k in range(count)]
    listed = ", ".join(f"i64 {entry}" for entry in entries)
    return f"@two_over_pi = internal constant [{count} x i64] [{listed}]"


def _entry(index: Vector) -> Vector:
    function = index.function
    function.declarations["@two_over_pi"] = _table()
    at = function.at(Ssa("ptr", "@two_over_pi"), "i64", index.ssa)
    return index.like(function.load("i64", at, 8))


# ---- inverses -------------------------------------------------------------------------------


def asin(x: Vector) -> Vector:
    """Inverse sine; beyond ½ it is π/2 − 2 asin √((1 − x)/2)."""
    size = abs(x)
    small = size <= 0.5
    z = where(small, size * size, (1 - size) * 0.5)
    series = z * horner(z, coefficients(ASIN, x))
    root = z.intrinsic("sqrt")
    near = fma(size, series, size)
    half_pi, rest = format_of(x).split(pi() / 2, 2)
    lead, lost = fast_two_sum(x.const(half_pi), root * -2)
    far = lead + (lost + fma(root * -2, series, rest))
    return with_sign(where(small, near, far), sign_of(x))


def atan(x: Vector) -> Vector:
    """Inverse tangent: that of x, of (x − 1)/(x + 1) from π/4, or of −1/x from π/2."""
    size = abs(x)
    large, middle = size > math.sqrt(2) + 1, size > math.sqrt(2) - 1
    above = where(large, x.const(-1), where(middle, size - 1, size))
    below = where(large, size, where(middle, size + 1, x.const(1)))
    q = above / below
    z = q * q
    half, half_low = format_of(x).split(pi() / 2, 2)
    base = where(large, x.const(half), where(middle, x.const(half / 2), x.const(0)))
    rest = where(large, x.const(half_low), where(middle, x.const(half_low / 2), x.const(0)))
    y = base + (q + fma(q * z, horner(z, coefficients(ATAN, x)), rest))
    return with_sign(y, sign_of(x))
