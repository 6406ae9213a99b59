"""Bitwise ops and shifts; on bool they are logic."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from pullback.ir.families import Elementwise, Operands
from pullback.ir.op import Sample
from pullback.ir.samples import integers, truths
from pullback.ir.types import int8, uint8
from pullback.ops.pointwise.base import all_pairs


class Bits(Elementwise):
    """An op on the bits of two integers, or on two truth values."""

    differentiable = False
    commutative = True
    accepts = staticmethod(Operands.bits)
    symbol: str

    def formula(self, *operands: str) -> str:
        return f"{operands[0]} {self.symbol} {operands[1]}"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), integers(3, 4), integers(4, seed=1))
        yield Sample(cls(), truths(3, 4), truths(3, 1, seed=1))
        yield Sample(cls(), *all_pairs(np.array([0, 1, 170, 255], uint8)))


class BitAnd(Bits):
    """Bits set in both."""

    name = "bitwise_and"
    symbol = "∧"

    def reference(self, x: Any, y: Any) -> Any:
        return x & y

    def body(self, s: Any, x: Any, y: Any) -> Any:
        return s.bit_and(x, y)


class BitOr(Bits):
    """Bits set in either."""

    name = "bitwise_or"
    symbol = "∨"

    def reference(self, x: Any, y: Any) -> Any:
        return x | y

    def body(self, s: Any, x: Any, y: Any) -> Any:
        return s.bit_or(x, y)


class BitXor(Bits):
    """Bits set in exactly one."""

    name = "bitwise_xor"
    symbol = "⊕"

    def reference(self, x: Any, y: Any) -> Any:
        return x ^ y

    def body(self, s: Any, x: Any, y: Any) -> Any:
        return s.bit_xor(x, y)


class BitNot(Elementwise):
    """Every bit flipped."""

    name = "bitwise_invert"
    differentiable = False
    accepts = staticmethod(Operands.bits)

    def reference(self, x: Any) -> Any:
        return ~x

    def body(self, s: Any, x: Any) -> Any:
        return s.bit_not(x)

    def formula(self, *operands: str) -> str:
        return f"¬{operands[0]}"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), integers(3, 4))
        yield Sample(cls(), truths(3, 4))
        yield Sample(cls(), np.array([0, 1, 255], uint8))


class Shift(Elementwise):
    """A shift of the bits. A count that is negative or not below the width shifts all bits out."""

    differentiable = False
    accepts = staticmethod(Operands.integers)
    symbol: str

    def formula(self, *operands: str) -> str:
        return f"{operands[0]} {self.symbol} {operands[1]}"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), integers(3, 4), integers(4, low=0, high=70))
        yield Sample(cls(), *all_pairs(np.array([-128, -9, -1, 0, 1, 7, 8, 127], int8)))
        yield Sample(cls(), *all_pairs(np.array([0, 1, 7, 8, 255], uint8)))


class ShiftLeft(Shift):
    """x · 2^y, modulo 2^bits."""

    name = "bitwise_left_shift"
    symbol = "≪"

    def reference(self, x: Any, y: Any) -> Any:
        return np.left_shift(x, y)

    def body(self, s: Any, x: Any, y: Any) -> Any:
        return s.shift_left(x, y)


class ShiftRight(Shift):
    """⌊x / 2^y⌋: the sign is kept, so that all bits shifted out leave 0 or -1."""

    name = "bitwise_right_shift"
    symbol = "≫"

    def reference(self, x: Any, y: Any) -> Any:
        return np.right_shift(x, y)

    def body(self, s: Any, x: Any, y: Any) -> Any:
        return s.shift_right(x, y)
