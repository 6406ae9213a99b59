"""Ops that move elements without changing them."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback.errors import DTypeError, ShapeError
from pullback.ir import families
from pullback.ir.array import Array
from pullback.ir.families import Linear
from pullback.ir.op import Parted, Sample
from pullback.ir.range import Range
from pullback.ir.samples import integers, normal
from pullback.ir.strided import Strided
from pullback.ir.types import Axes, Shape, TensorType, bool_


class Layout(Linear):
    """A linear op of one operand whose output holds elements of the operand, each unchanged."""

    def reach(self, *operands: Range) -> Range:
        return operands[0]

    def view(self, x: Strided) -> Strided | None:
        """Where the output lies when the operand lies as `x`; None when no strides say it."""
        return None

    @property
    def is_view(self) -> bool:
        """Whether strides say where the output lies when the operand is row-major."""
        return type(self).view is not Layout.view


@dataclass(frozen=True)
class Reshape(Layout):
    """The same elements in row-major order under another shape."""

    name = "reshape"
    shape: Shape

    def infer(self, x: TensorType) -> TensorType:
        if math.prod(self.shape) != x.size or any(n < 0 for n in self.shape):
            raise ShapeError(f"{x} with {x.size} elements cannot have the shape {self.shape}")
        return x.reshaped(self.shape)

    def reference(self, x: Any) -> Any:
        return x.reshape(self.shape)

    def view(self, x: Strided) -> Strided | None:
        return x.reshaped(self.shape)

    def parted(self, axis: int, count: int, *types: TensorType) -> Parted | None:
        """Along the axis of the operand that as many elements lie before, where parts are whole."""
        before, shape = math.prod(self.shape[:axis]), types[0].shape
        for a, size in enumerate(shape):
            if size > 1 and size % count == 0 and math.prod(shape[:a]) == before:
                return Reshape(_divided(self.shape, axis, count)), (a,)
        return None

    def transpose(self, bar: Array, x: Array) -> Array:
        return Reshape(x.shape)(bar)

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        return Reshape((size, *self.shape)).outputs(*inputs), (True,)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls((4, 3)), normal(2, 6))
        yield Sample(cls(()), normal(1, 1))
        yield Sample(cls((0, 3)), normal(2, 0))
        yield Sample(cls((6,)), integers(2, 3))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls((4,)), normal(3))


@dataclass(frozen=True)
class Broadcast(Layout):
    """Copies along new axes: `axes` are the positions in `shape` that the operand does not have."""

    name = "broadcast"
    shape: Shape
    axes: Axes

    def infer(self, x: TensorType) -> TensorType:
        result = x.reshaped(self.shape)
        if result.without(self.axes).shape != x.shape:
            raise ShapeError(f"{x} cannot fill {self.shape} along axes {self.axes}")
        return result

    def reference(self, x: Any) -> Any:
        return np.broadcast_to(np.expand_dims(x, self.axes), self.shape)

    def view(self, x: Strided) -> Strided | None:
        return x.spread(self.shape, self.axes)

    def parted(self, axis: int, count: int, *types: TensorType) -> Parted:
        old = None if axis in self.axes else axis - sum(a < axis for a in self.axes)
        return Broadcast(_divided(self.shape, axis, count), self.axes), (old,)

    def transpose(self, bar: Array, x: Array) -> Array:
        return families.sum_over(bar, self.axes)

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        wider = Broadcast((size, *self.shape), tuple(a + 1 for a in self.axes))
        return wider.outputs(*inputs), (True,)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls((2, 3, 4), (0,)), normal(3, 4))
        yield Sample(cls((2, 3, 4), (0, 2)), normal(3))
        yield Sample(cls((5,), (0,)), normal())
        yield Sample(cls((2, 3), (1,)), integers(2))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls((2, 3), (0,)), normal(4))


@dataclass(frozen=True)
class Transpose(Layout):
    """Axes in another order: output axis i is operand axis `permutation[i]`."""

    name = "transpose"
    permutation: Axes

    def infer(self, x: TensorType) -> TensorType:
        if sorted(self.permutation) != list(range(x.ndim)):
            raise ShapeError(f"{self.permutation} is no order of the {x.ndim} axes of {x}")
        return x.reshaped(tuple(x.shape[i] for i in self.permutation))

    def reference(self, x: Any) -> Any:
        return x.transpose(self.permutation)

    def view(self, x: Strided) -> Strided | None:
        return x.permuted(self.permutation)

    def parted(self, axis: int, count: int, *types: TensorType) -> Parted:
        return self, (self.permutation[axis],)

    def transpose(self, bar: Array, x: Array) -> Array:
        inverse = sorted(range(len(self.permutation)), key=self.permutation.__getitem__)
        return Transpose(tuple(inverse))(bar)

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        return Transpose((0, *(i + 1 for i in self.permutation))).outputs(*inputs), (True,)

    def formula(self, *operands: str) -> str:
        return f"{operands[0]}ᵀ" if self.permutation == (1, 0) else super().formula(*operands)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls((1, 0)), normal(2, 3))
        yield Sample(cls((2, 0, 1)), normal(2, 3, 4))
        yield Sample(cls((0, 1)), integers(2, 3))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls((0, 2)), normal(2, 3))
        yield Sample(cls((1, 0)), normal(3))


@dataclass(frozen=True)
class Slice(Layout):
    """Elements start, start + step, … below stop, on each axis; 0 ≤ start ≤ stop ≤ n, step ≥ 1."""

    name = "slice"
    start: Axes
    stop: Axes
    step: Axes

    def infer(self, x: TensorType) -> TensorType:
        if not len(self.start) == len(self.stop) == len(self.step) == x.ndim:
            raise ShapeError(f"a slice of {len(self.start)} axes for {x}")
        for a, b, s, n in zip(self.start, self.stop, self.step, x.shape, strict=True):
            if not (0 <= a <= b <= n and s >= 1):
                raise ShapeError(f"{a}:{b}:{s} is no slice of an axis of {n}")
        spans = zip(self.start, self.stop, self.step, strict=True)
        return x.reshaped(tuple(-(-(b - a) // s) for a, b, s in spans))

    def reference(self, x: Any) -> Any:
        return x[tuple(slice(*each) for each in zip(self.start, self.stop, self.step, strict=True))]

    def view(self, x: Strided) -> Strided | None:
        spans = zip(self.start, self.stop, self.step, strict=True)
        return x.sliced(self.start, self.step, tuple(-(-(b - a) // s) for a, b, s in spans))

    def transpose(self, bar: Array, x: Array) -> Array:
        ends = tuple(
            a + max(n - 1, 0) * s + (n > 0)
            for a, n, s in zip(self.start, bar.shape, self.step, strict=True)
        )
        high = tuple(n - end for n, end in zip(x.shape, ends, strict=True))
        return Pad(self.start, high, tuple(s - 1 for s in self.step))(bar)

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        return Slice((0, *self.start), (size, *self.stop), (1, *self.step)).outputs(*inputs), (
            True,
        )

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls((1,), (5,), (1,)), normal(6))
        yield Sample(cls((0, 1), (4, 6), (2, 3)), normal(5, 7))
        yield Sample(cls((2,), (2,), (1,)), normal(4))
        yield Sample(cls((1,), (3,), (1,)), integers(4))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls((1,), (5,), (1,)), normal(4))
        yield Sample(cls((1,), (2,), (1,)), normal(4, 4))


@dataclass(frozen=True)
class Pad(Layout):
    """Zeros around and between the elements: `low` before, `high` after, `interior` between two."""

    name = "pad"
    low: Axes
    high: Axes
    interior: Axes

    def infer(self, x: TensorType) -> TensorType:
        if not len(self.low) == len(self.high) == len(self.interior) == x.ndim:
            raise ShapeError(f"padding of {len(self.low)} axes for {x}")
        if min((0, *self.low, *self.high, *self.interior)) < 0:
            raise ShapeError("padding is not negative", hint="slice instead")
        spans = zip(x.shape, self.low, self.high, self.interior, strict=True)
        return x.reshaped(
            tuple(low + n + max(n - 1, 0) * gap + high for n, low, high, gap in spans)
        )

    def reference(self, x: Any) -> Any:
        result = np.zeros(self.infer(TensorType(x.shape, x.dtype)).shape, x.dtype)
        result[self._places(x.shape)] = x
        return result

    def reach(self, *operands: Range) -> Range:
        return operands[0].joined(Range(0.0, 0.0))

    def element(self, s: Any, at: Sequence[Any], read: Any) -> Any:
        place, filled = [], s.literal(True, bool_)
        for i, low, gap, n in zip(at, self.low, self.interior, read.types[0].shape, strict=True):
            beyond = s.sub(i, s.const(low, i))
            step = s.const(gap + 1, i)
            which = s.quot(beyond, step)
            for condition in (
                s.less_equal(s.const(0, i), beyond),
                s.equal(s.rem(beyond, step), s.const(0, i)),
                s.less(which, s.const(n, i)),
            ):
                filled = s.bit_and(filled, condition)
            place.append(which)
        return read(0, place, when=filled)

    def transpose(self, bar: Array, x: Array) -> Array:
        places = self._places(x.shape)
        return Slice(
            tuple(p.start for p in places),
            tuple(p.stop for p in places),
            tuple(p.step for p in places),
        )(bar)

    def _places(self, shape: Shape) -> tuple[slice, ...]:
        spans = zip(shape, self.low, self.interior, strict=True)
        return tuple(
            slice(low, low + max(n - 1, 0) * (gap + 1) + (n > 0), gap + 1) for n, low, gap in spans
        )

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        return Pad((0, *self.low), (0, *self.high), (0, *self.interior)).outputs(*inputs), (True,)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls((1,), (2,), (0,)), normal(4))
        yield Sample(cls((0, 2), (1, 0), (2, 1)), normal(3, 2))
        yield Sample(cls((1,), (1,), (1,)), normal(0))
        yield Sample(cls((1,), (0,), (0,)), integers(3))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls((1,), (1,), (0,)), normal(2, 2))
        yield Sample(cls((-1,), (1,), (0,)), normal(2))


@dataclass(frozen=True)
class Flip(Layout):
    """The elements in reverse order along `axes`."""

    name = "flip"
    axes: Axes

    def infer(self, x: TensorType) -> TensorType:
        if any(not 0 <= a < x.ndim for a in self.axes) or len(set(self.axes)) != len(self.axes):
            raise ShapeError(f"{self.axes} are not distinct axes of {x}")
        return x

    def reference(self, x: Any) -> Any:
        return np.flip(x, self.axes)

    def view(self, x: Strided) -> Strided | None:
        return x.flipped(self.axes)

    def transpose(self, bar: Array, x: Array) -> Array:
        return self(bar)

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        return Flip(tuple(a + 1 for a in self.axes)).outputs(*inputs), (True,)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls((0,)), normal(4))
        yield Sample(cls((0, 2)), normal(2, 3, 2))
        yield Sample(cls((1,)), integers(2, 3))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls((1,)), normal(3))
        yield Sample(cls((0, 0)), normal(3))


@dataclass(frozen=True)
class Concat(Linear):
    """The operands one after the other along `axis`."""

    name = "concat"
    axis: int

    def linear_operands(self, count: int) -> int:
        return count

    def infer(self, *types: TensorType) -> TensorType:
        if not types or not 0 <= self.axis < types[0].ndim:
            raise ShapeError(f"nothing to concatenate along axis {self.axis}")
        first = types[0]
        for each in types[1:]:
            if each.dtype != first.dtype:
                raise DTypeError(f"element types differ: {first.dtype} and {each.dtype}")
            if each.ndim != first.ndim or each.without((self.axis,)) != first.without((self.axis,)):
                raise ShapeError(f"{first} and {each} differ in more than axis {self.axis}")
        total = sum(each.shape[self.axis] for each in types)
        return first.reshaped((*first.shape[: self.axis], total, *first.shape[self.axis + 1 :]))

    def reference(self, *inputs: Any) -> Any:
        return np.concatenate(inputs, axis=self.axis)

    def reach(self, *operands: Range) -> Range:
        return functools.reduce(Range.joined, operands)

    def element(self, s: Any, at: Sequence[Any], read: Any) -> Any:
        result, start, along = None, 0, at[self.axis]
        for i, each in enumerate(read.types):
            stop = start + each.shape[self.axis]
            before = s.less(along, s.const(start, along))
            mine = s.bit_and(s.bit_not(before), s.less(along, s.const(stop, along)))
            place = (*at[: self.axis], s.sub(along, s.const(start, along)), *at[self.axis + 1 :])
            piece = read(i, place, when=mine)
            result = piece if result is None else s.select(mine, piece, result)
            start = stop
        return result

    def transpose(self, bar: Array, *inputs: Array) -> tuple[Array, ...]:
        parts = []
        start = 0
        for x in inputs:
            parts.append(cut(bar, self.axis, start, start + x.shape[self.axis]))
            start += x.shape[self.axis]
        return tuple(parts)

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        repeated = [
            x if b else Broadcast((size, *x.shape), (0,))(x)
            for x, b in zip(inputs, batched, strict=True)
        ]
        return Concat(self.axis + 1).outputs(*repeated), (True,)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(0), normal(2, 3), normal(1, 3, seed=1))
        yield Sample(cls(1), normal(2, 1), normal(2, 0), normal(2, 3))
        yield Sample(cls(0), normal(3))
        yield Sample(cls(0), integers(2), integers(3))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls(0), normal(2, 3), normal(2, 4))
        yield Sample(cls(0), normal(2), normal(2, 2))
        yield Sample(cls(1), normal(2), normal(2))
        yield Sample(cls(0), normal(2), integers(2))


def cut(x: Array, axis: int, start: int, stop: int) -> Array:
    """Elements start … stop - 1 along one axis."""
    starts = tuple(start if i == axis else 0 for i in range(x.ndim))
    stops = tuple(stop if i == axis else n for i, n in enumerate(x.shape))
    return x if stops == x.shape and not any(starts) else Slice(starts, stops, (1,) * x.ndim)(x)


def _divided(shape: Shape, axis: int, count: int) -> Shape:
    return (*shape[:axis], shape[axis] // count, *shape[axis + 1 :])
