"""Arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from pullback.ir.array import Array
from pullback.ir.families import Elementwise, Operands, Partial
from pullback.ir.op import Sample
from pullback.ir.range import EVERYTHING, NOT_ZERO, UNIT, Range
from pullback.ir.samples import distinct, extremes, integers, normal, positive
from pullback.ops.pointwise.base import binary_samples

# ---- the four operations --------------------------------------------------------------------


class Add(Elementwise):
    """x + y."""

    name = "add"
    commutative = True

    def reference(self, x: Any, y: Any) -> Any:
        return x + y

    def partials(self, out: Array, x: Array, y: Array) -> tuple[Partial, ...]:
        return (1.0, 1.0)

    def reach(self, *operands: Range) -> Range:
        return operands[0] + operands[1]

    def body(self, s: Any, x: Any, y: Any) -> Any:
        return s.add(x, y)

    def formula(self, *operands: str) -> str:
        return f"{operands[0]} + {operands[1]}"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from binary_samples(cls())
        yield Sample(cls(), integers(3), integers(3, seed=1))


class Subtract(Elementwise):
    """x - y."""

    name = "subtract"

    def reference(self, x: Any, y: Any) -> Any:
        return x - y

    def partials(self, out: Array, x: Array, y: Array) -> tuple[Partial, ...]:
        return (1.0, -1.0)

    def reach(self, *operands: Range) -> Range:
        x, y = operands
        return Range(0.0, 0.0) if x is y else x - y

    def body(self, s: Any, x: Any, y: Any) -> Any:
        return s.sub(x, y)

    def formula(self, *operands: str) -> str:
        return f"{operands[0]} − {operands[1]}"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from binary_samples(cls())
        yield Sample(cls(), integers(3), integers(3, seed=1))


class Multiply(Elementwise):
    """x · y. Guarded, because an operand may be infinite: x·log x in a masked branch at 0."""

    name = "multiply"
    revival = "see what makes the other factor 0: a mask, a gate, a parameter that begins with 0"
    commutative = True
    guarded = True

    def reference(self, x: Any, y: Any) -> Any:
        return x * y

    def partials(self, out: Array, x: Array, y: Array) -> tuple[Partial, ...]:
        return (y, x)

    def reach(self, *operands: Range) -> Range:
        return operands[0].squared() if operands[0] is operands[1] else operands[0] * operands[1]

    def leaves_out(self, operand: int, *x: float) -> bool:
        return x[1 - operand] == 0

    def stillness(self, operand: int, out: Any, *inputs: Any) -> str:
        return f"the other factor is 0 in all {inputs[1 - operand].size} elements"

    def body(self, s: Any, x: Any, y: Any) -> Any:
        return s.mul(x, y)

    def formula(self, *operands: str) -> str:
        return f"{operands[0]} ⊙ {operands[1]}"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from binary_samples(cls())
        yield Sample(cls(), integers(3), integers(3, seed=1))


class Divide(Elementwise):
    """x / y."""

    name = "divide"
    guarded = True
    accepts = staticmethod(Operands.floats)

    remedy = "make the divisor safe before dividing: x / pb.where(y == 0, 1, y), or x / (y + eps)"

    def finite_on(self) -> tuple[Range, ...]:
        return (EVERYTHING, NOT_ZERO)

    def reference(self, x: Any, y: Any) -> Any:
        return x / y

    def partials(self, out: Array, x: Array, y: Array) -> tuple[Partial, ...]:
        return (1.0 / y, -out / y)

    def reach(self, *operands: Range) -> Range:
        return operands[0] * operands[1].inverted()

    def body(self, s: Any, x: Any, y: Any) -> Any:
        return s.div(x, y)

    def formula(self, *operands: str) -> str:
        return f"{operands[0]} / {operands[1]}"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), normal(3, 4), positive(3, 4))
        yield Sample(cls(), normal(3, 1), positive(4))
        yield Sample(cls(), extremes(), extremes()[::-1].copy(), smooth=False)


class Negative(Elementwise):
    """-x."""

    name = "negative"

    def reference(self, x: Any) -> Any:
        return -x

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (-1.0,)

    def reach(self, *operands: Range) -> Range:
        return -operands[0]

    def body(self, s: Any, x: Any) -> Any:
        return s.neg(x)

    def formula(self, *operands: str) -> str:
        return f"−{operands[0]}"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), normal(3, 4))
        yield Sample(cls(), extremes(), smooth=False)
        yield Sample(cls(), integers(3))


class Absolute(Elementwise):
    """|x|; derivative sign(x), 0 at 0."""

    name = "abs"

    def reference(self, x: Any) -> Any:
        return np.abs(x)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (Sign()(x),)

    def reach(self, *operands: Range) -> Range:
        return operands[0].size()

    def body(self, s: Any, x: Any) -> Any:
        return s.abs(x)

    def formula(self, *operands: str) -> str:
        return f"|{operands[0]}|"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), distinct(3, 4))
        yield Sample(cls(), extremes(), smooth=False)
        yield Sample(cls(), integers(3))


class Sign(Elementwise):
    """-1, 0 or 1; NaN of NaN."""

    name = "sign"
    differentiable = False

    def reference(self, x: Any) -> Any:
        return np.sign(x)

    def reach(self, *operands: Range) -> Range:
        return UNIT

    def body(self, s: Any, x: Any) -> Any:
        zero, one = s.const(0, x), s.const(1, x)
        return s.select(s.less(zero, x), one, s.select(s.less(x, zero), s.neg(one), x))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), distinct(3, 4))
        yield Sample(cls(), extremes(), smooth=False)
        yield Sample(cls(), integers(3))


class Square(Elementwise):
    """x²."""

    name = "square"
    guarded = True  # 2x may overflow

    def reference(self, x: Any) -> Any:
        return x * x

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (2 * x,)

    def reach(self, *operands: Range) -> Range:
        return operands[0].squared()

    def body(self, s: Any, x: Any) -> Any:
        return s.mul(x, x)

    def formula(self, *operands: str) -> str:
        return f"{operands[0]}²"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), normal(3, 4))
        yield Sample(cls(), extremes(), smooth=False)
        yield Sample(cls(), integers(3))
