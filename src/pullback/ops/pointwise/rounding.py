"""Rounding, and the parts of a floating number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from pullback.ir.array import Array
from pullback.ir.families import Elementwise, Operands, Partial
from pullback.ir.op import Sample
from pullback.ir.range import Range
from pullback.ir.samples import distinct, extremes, normal
from pullback.ir.types import TensorType
from pullback.ops.pointwise.arithmetic import Sign
from pullback.ops.pointwise.base import all_pairs


class Rounding(Elementwise):
    """A whole number near a floating one; constant between the jumps."""

    differentiable = False
    accepts = staticmethod(Operands.floats)

    def cut(self, *types: TensorType) -> str | None:
        return f"{self.name} is constant between its jumps"

    def reach(self, *operands: Range) -> Range:
        return Range(operands[0].low - 1, operands[0].high + 1)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), 3 * normal(3, 4))
        yield Sample(cls(), np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]), smooth=False)
        yield Sample(cls(), extremes(), smooth=False)


class Floor(Rounding):
    """The largest whole number not above x."""

    name = "floor"

    def reference(self, x: Any) -> Any:
        return np.floor(x)

    def body(self, s: Any, x: Any) -> Any:
        return s.floor(x)

    def formula(self, *operands: str) -> str:
        return f"⌊{operands[0]}⌋"


class Ceil(Rounding):
    """The smallest whole number not below x."""

    name = "ceil"

    def reference(self, x: Any) -> Any:
        return np.ceil(x)

    def body(self, s: Any, x: Any) -> Any:
        return s.ceil(x)

    def formula(self, *operands: str) -> str:
        return f"⌈{operands[0]}⌉"


class Trunc(Rounding):
    """x without its fraction."""

    name = "trunc"

    def reference(self, x: Any) -> Any:
        return np.trunc(x)

    def body(self, s: Any, x: Any) -> Any:
        return s.trunc(x)


class Round(Rounding):
    """The nearest whole number, the even one where two are equally near."""

    name = "round"

    def reference(self, x: Any) -> Any:
        return np.rint(x)

    def body(self, s: Any, x: Any) -> Any:
        return s.round(x)


class CopySign(Elementwise):
    """|x| with the sign of y; the derivative in x is 0 at 0."""

    name = "copysign"
    accepts = staticmethod(Operands.floats)

    def reference(self, x: Any, y: Any) -> Any:
        return np.copysign(x, y)

    def partials(self, out: Array, x: Array, y: Array) -> tuple[Partial, ...]:
        return (CopySign()(Sign()(x), Sign()(x) * y), None)

    def body(self, s: Any, x: Any, y: Any) -> Any:
        return s.copysign(x, y)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), distinct(3, 4), distinct(3, 4, seed=1))
        yield Sample(cls(), distinct(3, 1), distinct(4))
        yield Sample(cls(), *all_pairs(extremes()), smooth=False)


class NextAfter(Elementwise):
    """The next number of the element type from x towards y; derivative 1 in x, 0 in y."""

    name = "nextafter"
    in_own_precision = True
    accepts = staticmethod(Operands.floats)

    def reference(self, x: Any, y: Any) -> Any:
        return np.nextafter(x, y)

    def partials(self, out: Array, x: Array, y: Array) -> tuple[Partial, ...]:
        return (1.0, None)

    def body(self, s: Any, x: Any, y: Any) -> Any:
        # Away from 0 the bits of a number, read as an integer, count up; towards 0, down.
        zero, bits = s.const(0, x), s.bits(x)
        one = s.const(1, bits)
        outward = s.equal(s.less(x, y), s.less(zero, x))
        moved = s.number(s.select(outward, s.add(bits, one), s.sub(bits, one)), x)
        moved = s.select(s.equal(x, zero), s.copysign(s.number(one, x), y), moved)
        moved = s.select(s.equal(x, y), y, moved)
        ordered = s.bit_and(s.equal(x, x), s.equal(y, y))
        return s.select(ordered, moved, s.add(x, y))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), distinct(3, 4), distinct(3, 4, seed=1) + 0.01)
        yield Sample(cls(), *all_pairs(extremes()), smooth=False)
