"""Division with remainder, and whole powers: what integers and floats do alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback.errors import DTypeError
from pullback.ir.array import Array
from pullback.ir.families import Elementwise, Operands, Partial
from pullback.ir.op import Sample
from pullback.ir.range import NOT_ZERO, POSITIVE, Range
from pullback.ir.samples import extremes, integers, normal, positive, uniform
from pullback.ir.types import TensorType, int8, is_integer, uint8
from pullback.ops.pointwise.base import all_pairs, rounded
from pullback.ops.pointwise.rounding import Round

# ---- division with remainder ----------------------------------------------------------------
# Integers: x // 0 = x % 0 = 0, and the smallest integer // -1 is itself, as in NumPy.


class Division(Elementwise):
    """Half of a division with remainder."""

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), uniform(3.1, 3.9, 3, 4), np.array([1.0, -1.0, 2.0, -2.0]))
        yield Sample(cls(), -uniform(3.1, 3.9, 3, 1), np.array([1.0, -1.0, 2.0, -2.0]))
        yield Sample(cls(), *all_pairs(extremes()), smooth=False)
        yield Sample(cls(), *all_pairs(integers(9)))
        yield Sample(cls(), *all_pairs(np.array([-128, -7, -1, 0, 1, 2, 127], int8)))
        yield Sample(cls(), *all_pairs(np.array([0, 1, 7, 254, 255], uint8)))


class FloorDivide(Division):
    """⌊x / y⌋."""

    name = "floor_divide"
    differentiable = False

    def reference(self, x: Any, y: Any) -> Any:
        return np.floor_divide(x, y)

    def body(self, s: Any, x: Any, y: Any) -> Any:
        truncated = s.quot(x, y)
        below = _opposite(s, s.rem(x, y), y)
        return s.select(below, s.sub(truncated, s.const(1, x)), truncated)

    def formula(self, *operands: str) -> str:
        return f"⌊{operands[0]} / {operands[1]}⌋"


class Remainder(Division):
    """x − ⌊x/y⌋·y: the remainder with the sign of y."""

    name = "remainder"
    guarded = True

    def reference(self, x: Any, y: Any) -> Any:
        return np.remainder(x, y)

    def partials(self, out: Array, x: Array, y: Array) -> tuple[Partial, ...]:
        return (1.0, -FloorDivide()(x, y))

    def body(self, s: Any, x: Any, y: Any) -> Any:
        rest = s.rem(x, y)
        return s.select(_opposite(s, rest, y), s.add(rest, y), rest)

    def formula(self, *operands: str) -> str:
        return f"{operands[0]} mod {operands[1]}"


class Fmod(Division):
    """The remainder with the sign of x, as in C."""

    name = "fmod"
    guarded = True

    def reference(self, x: Any, y: Any) -> Any:
        return np.fmod(x, y)

    def partials(self, out: Array, x: Array, y: Array) -> tuple[Partial, ...]:
        return (1.0, -Round()((x - out) / y))

    def body(self, s: Any, x: Any, y: Any) -> Any:
        return s.rem(x, y)


def _opposite(s: Any, rest: Any, y: Any) -> Any:
    """Whether a truncated division must be corrected downwards: its rest is not 0 and against y."""
    zero = s.const(0, y)
    against = s.bit_xor(s.less(rest, zero), s.less(y, zero))
    return s.bit_and(against, s.bit_not(s.equal(rest, zero)))


# ---- whole powers ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Power(Elementwise):
    """x^n for a literal whole exponent: its derivative holds for x ≤ 0 too."""

    name = "power"
    exponent: int
    guarded = True

    remedy = "keep the base away from 0: pb.maximum(x, eps)"

    def finite_on(self) -> tuple[Range, ...]:
        return (NOT_ZERO,) if self.exponent < 0 else ()

    def infer(self, *types: TensorType) -> TensorType:
        if is_integer(types[0].dtype) and self.exponent < 0:
            raise DTypeError(
                f"an integer to the power {self.exponent} is no integer",
                hint="cast the base with .astype(pb.float32)",
            )
        return super().infer(*types)

    def reference(self, x: Any) -> Any:
        if is_integer(x.dtype):
            return np.power(x, np.asarray(self.exponent, x.dtype))
        return rounded(lambda x: np.power(x, x.dtype.type(self.exponent)), x)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        n = self.exponent
        if n == 0:
            return (None,)
        return (n * Power(n - 1)(x) if n != 1 else 1.0,)

    def reach(self, *operands: Range) -> Range:
        (x,) = operands
        if self.exponent < 0:
            return POSITIVE if x.low >= 0 or self.exponent % 2 == 0 else NOT_ZERO
        if self.exponent % 2 == 0:
            return x.size().mapped(lambda x: x**self.exponent)
        return x.mapped(lambda x: x**self.exponent)

    def body(self, s: Any, x: Any) -> Any:
        result, square, n = s.const(1, x), x, abs(self.exponent)
        while n:
            if n & 1:
                result = s.mul(result, square)
            n >>= 1
            square = s.mul(square, square) if n else square
        return s.div(s.const(1, x), result) if self.exponent < 0 else result

    def formula(self, *operands: str) -> str:
        return f"{operands[0]}^{self.exponent}"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(3), normal(3, 4))
        yield Sample(cls(0), normal(4), smooth=False)
        yield Sample(cls(1), normal(4))
        yield Sample(cls(-2), positive(3, 4) + 0.2)
        yield Sample(cls(7), integers(4))
        yield Sample(cls(2), extremes(), smooth=False)
        yield Sample(cls(-1), extremes(), smooth=False)

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls(-1), integers(3))
        yield from super().rejected()


class IntegerPow(Elementwise):
    """x^y for integers, modulo 2^bits; for y < 0, 1/x^|y| cut to an integer, and 0 for x = 0."""

    name = "integer_pow"
    accepts = staticmethod(Operands.integers)
    differentiable = False

    def reference(self, x: Any, y: Any) -> Any:
        inverse = np.where(x == 1, 1, np.where(x == -1, 1 - 2 * (y & 1), 0)).astype(x.dtype)
        return np.where(y < 0, inverse, np.power(x, np.maximum(y, 0)))

    def body(self, s: Any, x: Any, y: Any) -> Any:
        zero, one = s.const(0, x), s.const(1, x)
        result, square, rest = one, x, y
        for _ in range(64):  # the bits of the exponent, lowest first
            odd = s.equal(s.bit_and(rest, one), one)
            result = s.select(odd, s.mul(result, square), result)
            square, rest = s.mul(square, square), s.shift_right(rest, one)
        parity = s.select(s.equal(s.bit_and(y, one), one), x, one)
        unit = s.bit_or(s.equal(x, one), s.equal(x, s.neg(one)))
        return s.select(s.less(y, zero), s.select(unit, parity, zero), result)

    def formula(self, *operands: str) -> str:
        return f"{operands[0]}^{operands[1]}"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), *all_pairs(integers(9, low=-3, high=8)))
        yield Sample(cls(), *all_pairs(np.array([-128, -2, -1, 0, 1, 2, 3, 127], int8)))
        yield Sample(cls(), *all_pairs(np.array([0, 1, 2, 3, 255], uint8)))
