"""Comparison, logic, selection, casts, and what a derivative sees of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback.errors import DTypeError
from pullback.ir import families
from pullback.ir.array import Array
from pullback.ir.families import Elementwise, Operands, Partial
from pullback.ir.op import Maybe, Sample
from pullback.ir.range import EVERYTHING, NOT_ZERO, Range
from pullback.ir.samples import distinct, extremes, integers, normal, truths
from pullback.ir.types import (
    DType,
    TensorType,
    bool_,
    broadcast_shapes,
    float32,
    float64,
    int32,
    is_float,
)
from pullback.ops.pointwise.base import all_pairs, converted, literal

# ---- comparison, selection ------------------------------------------------------------------


class Comparison(Elementwise):
    """A truth value for each pair of elements."""

    differentiable = False
    accepts = staticmethod(Operands.anything)
    symbol: str

    def result_dtype(self, dtype: DType) -> DType:
        return bool_

    def cut(self, *types: TensorType) -> str | None:
        return "a comparison is true or false: nothing between has a slope"

    def narrowed(self, holds: bool, operand: int, other: Range) -> Range:
        """What is known of an operand when the comparison holds, or does not."""
        return EVERYTHING

    def formula(self, *operands: str) -> str:
        return f"[{operands[0]} {self.symbol} {operands[1]}]"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), integers(3, 4), integers(4, seed=1))
        yield Sample(cls(), extremes(), extremes()[::-1].copy(), smooth=False)
        yield Sample(cls(), truths(4), truths(4, seed=1))


class Less(Comparison):
    """x < y."""

    name = "less"
    symbol = "<"

    def reference(self, x: Any, y: Any) -> Any:
        return x < y

    def narrowed(self, holds: bool, operand: int, other: Range) -> Range:
        return _beside(holds == (operand == 0), strict=holds, bound=other)

    def body(self, s: Any, x: Any, y: Any) -> Any:
        return s.less(x, y)


class LessEqual(Comparison):
    """x ≤ y."""

    name = "less_equal"
    symbol = "≤"

    def reference(self, x: Any, y: Any) -> Any:
        return x <= y

    def narrowed(self, holds: bool, operand: int, other: Range) -> Range:
        return _beside(holds == (operand == 0), strict=not holds, bound=other)

    def body(self, s: Any, x: Any, y: Any) -> Any:
        return s.less_equal(x, y)


class Equal(Comparison):
    """x = y."""

    name = "equal"
    commutative = True
    symbol = "="

    def reference(self, x: Any, y: Any) -> Any:
        return x == y

    def narrowed(self, holds: bool, operand: int, other: Range) -> Range:
        return _equal_to(other, holds)

    def body(self, s: Any, x: Any, y: Any) -> Any:
        return s.equal(x, y)


class NotEqual(Comparison):
    """x ≠ y; true when either is NaN."""

    name = "not_equal"
    commutative = True
    symbol = "≠"

    def reference(self, x: Any, y: Any) -> Any:
        return x != y

    def narrowed(self, holds: bool, operand: int, other: Range) -> Range:
        return _equal_to(other, not holds)

    def body(self, s: Any, x: Any, y: Any) -> Any:
        return s.bit_not(s.equal(x, y))


class LogicalNot(Elementwise):
    """not x."""

    name = "logical_not"
    differentiable = False
    accepts = staticmethod(lambda dtype: dtype == bool_)

    def reference(self, x: Any) -> Any:
        return np.logical_not(x)

    def body(self, s: Any, x: Any) -> Any:
        return s.bit_not(x)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), truths(3, 4))


def _beside(below: bool, strict: bool, bound: Range) -> Range:
    """The numbers below a bound, or above it."""
    if below:
        return Range(high=bound.high, open_high=strict or bound.open_high)
    return Range(low=bound.low, open_low=strict or bound.open_low)


def _equal_to(other: Range, equal: bool) -> Range:
    if equal:
        return other
    return NOT_ZERO if other.is_point and other.low == 0 else EVERYTHING


# ---- questions about one number -------------------------------------------------------------


class Question(Elementwise):
    """A truth value for each floating element."""

    differentiable = False
    accepts = staticmethod(Operands.floats)

    def result_dtype(self, dtype: DType) -> DType:
        return bool_

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), normal(3, 4))
        yield Sample(cls(), extremes(), smooth=False)


class IsNan(Question):
    """Whether x is not a number."""

    name = "isnan"

    def reference(self, x: Any) -> Any:
        return np.isnan(x)

    def body(self, s: Any, x: Any) -> Any:
        return s.bit_not(s.equal(x, x))


class IsInf(Question):
    """Whether x is ∞ or -∞."""

    name = "isinf"

    def reference(self, x: Any) -> Any:
        return np.isinf(x)

    def body(self, s: Any, x: Any) -> Any:
        return s.equal(s.abs(x), s.const(math.inf, x))


class IsFinite(Question):
    """Whether x is neither infinite nor NaN."""

    name = "isfinite"

    def reference(self, x: Any) -> Any:
        return np.isfinite(x)

    def body(self, s: Any, x: Any) -> Any:
        return s.less(s.abs(x), s.const(math.inf, x))


class SignBit(Question):
    """Whether the sign bit is set: x < 0, or x = -0."""

    name = "signbit"

    def reference(self, x: Any) -> Any:
        return np.signbit(x)

    def body(self, s: Any, x: Any) -> Any:
        return s.less(s.copysign(s.const(1, x), x), s.const(0, x))


# ---- the larger, the smaller ----------------------------------------------------------------


class Extremum(Elementwise):
    """One of two operands. Equal operands share the gradient; NaN when either is NaN."""

    revival = "bounds that the values lie between, or a penalty in the loss in place of a bound"

    def stillness(self, operand: int, out: Any, *inputs: Any) -> str:
        return f"the other operand wins in all {out.size} elements"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), distinct(3, 4), -distinct(3, 4) + 0.03)
        yield Sample(cls(), distinct(3, 1), distinct(4) + 0.02)
        yield Sample(cls(), *all_pairs(extremes()), smooth=False)
        yield Sample(cls(), integers(3, 4), integers(4, seed=1))


class Maximum(Extremum):
    """The larger of x and y."""

    name = "maximum"

    def reference(self, x: Any, y: Any) -> Any:
        return np.maximum(x, y)

    def partials(self, out: Array, x: Array, y: Array) -> tuple[Partial, ...]:
        return (_share(x > y, x < y, out), _share(x < y, x > y, out))

    def reach(self, *operands: Range) -> Range:
        return operands[0].larger(operands[1])

    def body(self, s: Any, x: Any, y: Any) -> Any:
        return s.maximum(x, y)


class Minimum(Extremum):
    """The smaller of x and y."""

    name = "minimum"

    def reference(self, x: Any, y: Any) -> Any:
        return np.minimum(x, y)

    def partials(self, out: Array, x: Array, y: Array) -> tuple[Partial, ...]:
        return (_share(x < y, x > y, out), _share(x > y, x < y, out))

    def reach(self, *operands: Range) -> Range:
        return operands[0].smaller(operands[1])

    def body(self, s: Any, x: Any, y: Any) -> Any:
        return s.minimum(x, y)


def _share(wins: Array, loses: Array, like: Array) -> Array:
    """1 for the winner, 0 for the loser, ½ on a tie."""
    tie = families.select(loses, literal(0.0, like), literal(0.5, like))
    return families.select(wins, literal(1.0, like), tie)


# ---- selection ------------------------------------------------------------------------------


class Select(Elementwise):
    """x where `chosen`, else y."""

    name = "select"
    revival = "see how often the mask is true: the right mask chooses both branches"

    def infer(self, chosen: TensorType, x: TensorType, y: TensorType) -> TensorType:
        if chosen.dtype != bool_:
            raise DTypeError(
                f"the condition is {chosen.dtype}, not bool", hint="compare it: x != 0"
            )
        if x.dtype != y.dtype:
            raise DTypeError(f"element types differ: {x.dtype} and {y.dtype}")
        if chosen.shape == x.shape == y.shape:
            return x
        return TensorType(broadcast_shapes(chosen.shape, x.shape, y.shape), x.dtype)

    def reference(self, chosen: Any, x: Any, y: Any) -> Any:
        return np.where(chosen, x, y)

    def partials(self, out: Array, chosen: Array, x: Array, y: Array) -> tuple[Partial, ...]:
        return (None, chosen, LogicalNot()(chosen))

    def reach(self, *operands: Range) -> Range:
        return operands[1].joined(operands[2])

    def leaves_out(self, operand: int, *x: float) -> bool:
        return operand == (2 if x[0] else 1)

    def stillness(self, operand: int, out: Any, *inputs: Any) -> str:
        return f"the mask never chooses this branch in {out.size} elements"

    def body(self, s: Any, chosen: Any, x: Any, y: Any) -> Any:
        return s.select(chosen, x, y)

    def formula(self, *operands: str) -> str:
        return f"where({', '.join(operands)})"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), truths(3, 4), normal(3, 4), normal(3, 4, seed=1))
        yield Sample(cls(), truths(3, 1), normal(4), normal(3, 1))
        yield Sample(cls(), truths(3), integers(3), integers(3, seed=1))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls(), truths(3), normal(3), integers(3))
        yield Sample(cls(), normal(3), normal(3), normal(3))
        yield Sample(cls(), truths(3), normal(3), normal(4))


class Relu(Elementwise):
    """max(0, x); derivative 1 where x > 0, else 0; NaN of NaN."""

    name = "relu"
    revival = (
        "another initialisation, a smaller rate, or an activation with a slope below 0: nn.gelu"
    )

    def reference(self, x: Any) -> Any:
        return np.maximum(x, np.zeros_like(x))

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (x > 0,)

    def reach(self, *operands: Range) -> Range:
        return operands[0].larger(Range(0.0, 0.0))

    def stillness(self, operand: int, out: Any, *inputs: Any) -> str:
        return f"dead: all {inputs[0].size} inputs are at or below 0, where its slope is 0"

    def body(self, s: Any, x: Any) -> Any:
        return s.maximum(x, s.const(0, x))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), distinct(3, 4))
        yield Sample(cls(), extremes(), smooth=False)


# ---- casts, and what a derivative may see ----------------------------------------------------


@dataclass(frozen=True)
class Cast(Elementwise):
    """Another element type; float → int truncates, NaN gives 0 and out-of-range saturates."""

    name = "cast"
    dtype: DType
    accepts = staticmethod(Operands.anything)

    def result_dtype(self, dtype: DType) -> DType:
        return self.dtype

    def reference(self, x: Any) -> Any:
        if is_float(x.dtype) and not is_float(self.dtype) and self.dtype != bool_:
            return _saturating(x, self.dtype)
        return converted(x, self.dtype)

    def cotangents(
        self,
        bars: tuple[Maybe, ...],
        outs: tuple[Array, ...],
        inputs: tuple[Array, ...],
        wanted: Sequence[bool],
    ) -> tuple[Maybe, ...]:
        bar, x = bars[0], inputs[0]
        if bar is None or not (is_float(x.dtype) and is_float(self.dtype)):
            return (None,)
        return (Cast(x.dtype)(bar),)

    def tangents(
        self, dots: tuple[Maybe, ...], outs: tuple[Array, ...], inputs: tuple[Array, ...]
    ) -> tuple[Maybe, ...]:
        dot = dots[0]
        return (None if dot is None or not is_float(self.dtype) else self(dot),)

    def reach(self, *operands: Range) -> Range:
        return operands[0]

    def cut(self, *types: TensorType) -> str | None:
        return None if is_float(self.dtype) else f"a cast to {self.dtype} has no derivative"

    def body(self, s: Any, x: Any) -> Any:
        return s.cast(x, self.dtype)

    def formula(self, *operands: str) -> str:
        return f"{self.dtype}({operands[0]})"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(float64), normal(3, 4))
        yield Sample(cls(float32), normal(3, 4), smooth=False)
        yield Sample(cls(int32), normal(3, 4) * 3)
        yield Sample(cls(int32), extremes(), smooth=False)
        yield Sample(cls(float64), integers(3))
        yield Sample(cls(bool_), integers(3))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        return iter(())


def _saturating(x: Any, dtype: DType) -> Any:
    limits = np.iinfo(dtype)
    whole = np.trunc(np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf))
    inside = np.where((whole > limits.min) & (whole < limits.max), whole, 0.0).astype(dtype)
    return np.where(
        whole >= limits.max, limits.max, np.where(whole <= limits.min, limits.min, inside)
    ).astype(dtype)


class StopGradient(Elementwise):
    """x, seen by every derivative as a constant."""

    name = "stop_gradient"
    differentiable = False
    accepts = staticmethod(Operands.anything)

    def reference(self, x: Any) -> Any:
        return x

    def reach(self, *operands: Range) -> Range:
        return operands[0]

    def cut(self, *types: TensorType) -> str | None:
        return "stop_gradient is there to cut"

    def body(self, s: Any, x: Any) -> Any:
        return x

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), normal(3, 4), smooth=False)

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        return iter(())


@dataclass(frozen=True)
class DeclaredStop(StopGradient):
    """A `stop_gradient` that says why."""

    name = "declared_stop"
    why: str

    def cut(self, *types: TensorType) -> str | None:
        return f"stop_gradient says: {self.why}"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls("a target is fixed"), normal(3, 4), smooth=False)


class StraightThrough(Elementwise):
    """`hard`, seen by every derivative as `soft`."""

    name = "straight_through"
    accepts = staticmethod(Operands.floats)

    def reference(self, hard: Any, soft: Any) -> Any:
        return np.broadcast_arrays(hard, soft)[0]

    def partials(self, out: Array, hard: Array, soft: Array) -> tuple[Partial, ...]:
        return (None, 1.0)

    def reach(self, *operands: Range) -> Range:
        return operands[0]

    def body(self, s: Any, hard: Any, soft: Any) -> Any:
        return hard

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), np.round(normal(3, 4)), normal(3, 4), smooth=False)
