"""Reductions: one element from all the elements along some axes."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pullback.errors import DTypeError, ShapeError
from pullback.ir import families
from pullback.ir.array import Array
from pullback.ir.families import Linear
from pullback.ir.op import Op, Parted, Sample
from pullback.ir.range import EVERYTHING, NOT_NEGATIVE, Range
from pullback.ir.samples import distinct, integers, normal, truths
from pullback.ir.types import (
    Axes,
    DType,
    TensorType,
    bfloat16,
    bool_,
    float16,
    float32,
    int64,
    is_float,
)
from pullback.ops.layout import Broadcast
from pullback.ops.pointwise import Cast


def check_axes(axes: Axes, x: TensorType) -> None:
    """Raise `ShapeError` unless `axes` are sorted, distinct axes of `x`."""
    if not _are_axes(axes, x.ndim):
        raise ShapeError(f"{axes} are not axes of {x}")


@functools.lru_cache(maxsize=1024)
def _are_axes(axes: Axes, ndim: int) -> bool:
    return all(0 <= a < ndim for a in axes) and list(axes) == sorted(set(axes))


def check_axis(axis: int, x: TensorType) -> None:
    """Raise `ShapeError` unless `axis` is a non-negative axis of `x`."""
    if not 0 <= axis < x.ndim:
        raise ShapeError(f"{x} has no axis {axis}")


def check_numeric(name: str, x: TensorType) -> None:
    """Raise `DTypeError` for bools."""
    if x.dtype == bool_:
        raise DTypeError(f"{name} does not take bool", hint="cast the operand with .astype(...)")


def accumulated(dtype: DType) -> DType:
    """The type that elements of `dtype` are accumulated in."""
    return float32 if dtype in (bfloat16, float16) else dtype


def wide(x: Any) -> Any:
    """Half-precision numbers as float32, in which they are accumulated; others as they are."""
    return x.astype(float32) if x.dtype in (float16, bfloat16) else x


@dataclass(frozen=True)
class Reduction(Op):
    """An op of one operand that removes `axes`, by folding the elements with `combine`."""

    axes: Axes

    def start(self, dtype: DType) -> bool | int | float:
        """What folding begins with: `combine(start, x)` is x."""
        raise NotImplementedError

    def combine(self, s: Any, x: Any, y: Any) -> Any:
        """Two partial results as one, in the scalar algebra."""
        raise NotImplementedError

    def infer(self, x: TensorType) -> TensorType:
        check_axes(self.axes, x)
        check_numeric(self.name, x)
        return x.without(self.axes)

    def parted(self, axis: int, count: int, *types: TensorType) -> Parted:
        kept = [a for a in range(types[0].ndim) if a not in self.axes]
        return self, (kept[axis],)

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        inner = type(self)(tuple(a + 1 for a in self.axes))
        return inner.outputs(*inputs), (True,)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return max(inputs[0].size - outputs[0].size, 0)


class Sum(Reduction, Linear):
    """Sum over `axes`."""

    name = "sum"

    def reference(self, x: Any) -> Any:
        return np.add.reduce(wide(x), axis=self.axes).astype(x.dtype, copy=False)

    def reach(self, *operands: Range) -> Range:
        (x,) = operands  # of one element or more
        if x.low >= 0:
            return Range(x.low, open_low=x.open_low)
        return Range(high=x.high, open_high=x.open_high) if x.high <= 0 else EVERYTHING

    def start(self, dtype: DType) -> bool | int | float:
        return 0

    def combine(self, s: Any, x: Any, y: Any) -> Any:
        return s.add(x, y)

    def summed(self, operand: int, axis: int) -> tuple[int | None, ...] | None:
        return (axis,) if axis in self.axes else None

    def transpose(self, bar: Array, x: Array) -> Array:
        return Broadcast(x.shape, self.axes)(bar)

    def formula(self, *operands: str) -> str:
        axes = "".join("₀₁₂₃₄₅₆₇₈₉"[int(digit)] for digit in "".join(map(str, self.axes)))
        return f"Σ{axes} {operands[0]}"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls((0,)), normal(3, 4))
        yield Sample(cls((0, 2)), normal(2, 3, 4))
        yield Sample(cls((0, 3)), normal(3, 2, 5, 1))
        yield Sample(cls(()), normal(3))
        yield Sample(cls((1,)), normal(2, 0))
        yield Sample(cls((0,)), integers(3, 2))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls((2,)), normal(3, 4))
        yield Sample(cls((0,)), truths(3))


# ---- extrema --------------------------------------------------------------------------------


class Extremum(Reduction):
    """The largest or smallest element; NaN when one is NaN. Equal winners share the gradient.

    ∂out/∂xᵢ = [xᵢ = out] / (number of winners); NaN for every i where out is NaN, as in JAX.
    """

    revival = "pb.logsumexp, a mean, or a sum of powers: each element has a share in these"

    def infer(self, x: TensorType) -> TensorType:
        result = super().infer(x)
        if any(x.shape[a] == 0 for a in self.axes):
            raise ShapeError(
                f"{self.name} over an axis of 0 elements has no value",
                hint="test the size first, or concatenate a first element",
            )
        return result

    def reach(self, *operands: Range) -> Range:
        return operands[0]

    def pullback(self, bar: Array, out: Array, x: Array) -> tuple[Array]:
        winner, count = self._winners(out, x)
        others = families.Scale()(bar, families.select(out == out, 0.0, out))  # noqa: PLR0124
        return (families.select(winner, self._spread(bar / count, x), self._spread(others, x)),)

    def pushforward(self, dots: tuple[Array], out: Array, x: Array) -> Array:
        winner, count = self._winners(out, x)
        return families.sum_over(families.select(winner, dots[0], 0.0), self.axes) / count

    def _winners(self, out: Array, x: Array) -> tuple[Array, Array]:
        winner = x == self._spread(out, x)
        return winner, families.sum_over(Cast(x.dtype)(winner), self.axes)

    def _spread(self, value: Array, x: Array) -> Array:
        return Broadcast(x.shape, self.axes)(value)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls((0,)), distinct(3, 4))
        yield Sample(cls((0, 2)), distinct(2, 3, 4))
        yield Sample(cls(()), distinct(3))
        yield Sample(cls((1,)), normal(0, 2))
        yield Sample(cls((1,)), np.array([[1.0, 3, 3], [2, 2, 2]]), smooth=False)
        yield Sample(cls((0,)), np.array([1.0, np.nan, np.inf]), smooth=False)
        yield Sample(cls((0,)), integers(3, 2))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls((2,)), normal(3, 4))
        yield Sample(cls((1,)), normal(2, 0))
        yield Sample(cls((0,)), truths(3))


class Max(Extremum):
    """Largest element over `axes`."""

    name = "max"

    def start(self, dtype: DType) -> bool | int | float:
        return -np.inf if is_float(dtype) else int(np.iinfo(dtype).min)

    def combine(self, s: Any, x: Any, y: Any) -> Any:
        return s.maximum(x, y)

    def reference(self, x: Any) -> Any:
        return np.max(wide(x), axis=self.axes).astype(x.dtype)


class Min(Extremum):
    """Smallest element over `axes`."""

    name = "min"

    def start(self, dtype: DType) -> bool | int | float:
        return np.inf if is_float(dtype) else int(np.iinfo(dtype).max)

    def combine(self, s: Any, x: Any, y: Any) -> Any:
        return s.minimum(x, y)

    def reference(self, x: Any) -> Any:
        return np.min(wide(x), axis=self.axes).astype(x.dtype)


@dataclass(frozen=True)
class Position(Op):
    """Index of the first winner along `axis`, as int64; of the first NaN when there is one."""

    axis: int
    differentiable = False
    least: ClassVar[bool] = False
    """Whether the smallest element wins, not the largest."""

    def infer(self, x: TensorType) -> TensorType:
        check_axis(self.axis, x)
        check_numeric(self.name, x)
        if x.shape[self.axis] == 0:
            raise ShapeError(f"{self.name} over an axis of 0 elements has no value")
        return x.without((self.axis,)).of(int64)

    def cut(self, *types: TensorType) -> str | None:
        return f"{self.name} gives an index, which has no derivative"

    def reach(self, *operands: Range) -> Range:
        return NOT_NEGATIVE

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        return type(self)(self.axis + 1).outputs(*inputs), (True,)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(0), normal(3, 4))
        yield Sample(cls(1), np.array([[1.0, 3, 3], [2, np.nan, 2]]))
        yield Sample(cls(1), integers(2, 3))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls(2), normal(3, 4))
        yield Sample(cls(1), normal(2, 0))
        yield Sample(cls(0), truths(3))


class ArgMax(Position):
    """Index of the first largest element."""

    name = "argmax"

    def reference(self, x: Any) -> Any:
        return np.argmax(wide(x), axis=self.axis)


class ArgMin(Position):
    """Index of the first smallest element."""

    name = "argmin"
    least = True

    def reference(self, x: Any) -> Any:
        return np.argmin(wide(x), axis=self.axis)


# ---- truth ----------------------------------------------------------------------------------


class Quantifier(Reduction):
    """A truth value from truth values."""

    differentiable = False

    def infer(self, x: TensorType) -> TensorType:
        check_axes(self.axes, x)
        if x.dtype != bool_:
            raise DTypeError(f"{self.name} takes bool, not {x.dtype}", hint="compare it: x != 0")
        return x.without(self.axes)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return 0

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls((0,)), truths(3, 4))
        yield Sample(cls((0, 2)), truths(2, 3, 4))
        yield Sample(cls((0,)), np.arange(6).reshape(2, 3) == 1)
        yield Sample(cls((0,)), np.arange(6).reshape(2, 3) != 1)
        yield Sample(cls((1,)), truths(2, 0))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls((2,)), truths(3, 4))
        yield Sample(cls((0,)), normal(3))


class AnyTrue(Quantifier):
    """Whether one element over `axes` is true; False for none."""

    name = "any"

    def start(self, dtype: DType) -> bool | int | float:
        return False

    def combine(self, s: Any, x: Any, y: Any) -> Any:
        return s.bit_or(x, y)

    def reference(self, x: Any) -> Any:
        return np.any(x, axis=self.axes)


class AllTrue(Quantifier):
    """Whether every element over `axes` is true; True for none."""

    name = "all"

    def start(self, dtype: DType) -> bool | int | float:
        return True

    def combine(self, s: Any, x: Any, y: Any) -> Any:
        return s.bit_and(x, y)

    def reference(self, x: Any) -> Any:
        return np.all(x, axis=self.axes)
