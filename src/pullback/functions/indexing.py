"""`x[index]` and `x.at[index]`, with NumPy's meaning of an index.

An index is read once, into a `Selection`: a basic part (slices, single positions, new axes), which
is layout, and an advanced part (integer arrays), which is one gather.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pullback._public import public
from pullback.array import asarray
from pullback.errors import DTypeError, OutOfRangeError, ShapeError, TracedValueError
from pullback.ir.array import Array, concrete
from pullback.ir.types import (
    Axes,
    DType,
    Numbers,
    Shape,
    TensorType,
    bool_,
    broadcast_shapes,
    int64,
    is_integer,
    kind_of,
)
from pullback.ops import operators
from pullback.ops.index import (
    Gather,
    Scatter,
    ScatterAdd,
    ScatterMax,
    ScatterMin,
    ScatterMultiply,
    ScatterSet,
)
from pullback.ops.layout import Flip, Pad, Slice
from pullback.ops.operators import broadcast_to, cast, lift, reshape, select, transpose, zeros
from pullback.ops.pointwise import Maximum, Minimum
from pullback.ops.weak import Weak

# ---- what an index selects ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Span:
    """Of one axis the positions start, start + step, …, `count` of them; step may be negative."""

    start: int
    count: int
    step: int

    @property
    def ascending(self) -> tuple[int, int, int]:
        """The same positions as start, stop and positive step."""
        if self.count == 0:
            return 0, 0, 1
        last = self.start + (self.count - 1) * self.step
        return min(self.start, last), max(self.start, last) + 1, abs(self.step)


@dataclass(frozen=True, slots=True)
class Selection:
    """What an index selects from an array of the given `shape`.

    `spans` cut each axis, `kept` is the shape after that, with new axes and without the axes of
    single positions. `arrays`, all of one shape, index its `axes`; their shape stands in the result
    before the axis `place` of the rest.
    """

    shape: Shape
    spans: tuple[Span, ...]
    kept: Shape
    axes: Axes
    arrays: tuple[Array, ...]
    place: int

    def read(self, x: Array) -> Array:
        y = self._cut(x)
        return transpose(Gather(self.axes)(y, *self.arrays), self._order) if self.arrays else y

    def write(self, x: Array, value: Array, mode: Mode) -> Array:
        y = self._cut(x)
        value = broadcast_to(value, self.result)
        if self.arrays:
            back = tuple(sorted(range(len(self._order)), key=self._order.__getitem__))
            y = mode.scatter(self.axes)(y, transpose(value, back), *self.arrays)
        else:
            y = mode.once(y, value)
        if self._counts == self.shape:
            return self._uncut(y)
        inside = self._uncut(zeros(TensorType(self.kept, bool_)) == False)  # noqa: E712
        return select(inside, self._uncut(y), x)

    @property
    def result(self) -> Shape:
        """The shape of what is selected."""
        rest = tuple(n for i, n in enumerate(self.kept) if i not in self.axes)
        index = self.arrays[0].shape if self.arrays else ()
        return (*rest[: self.place], *index, *rest[self.place :])

    # ---- the basic part ----

    @property
    def _counts(self) -> Shape:
        return tuple(span.count for span in self.spans)

    @property
    def _reversed(self) -> Axes:
        return tuple(i for i, s in enumerate(self.spans) if s.step < 0 and s.count > 1)

    def _cut(self, x: Array) -> Array:
        if self._counts != self.shape:
            starts, stops, steps = zip(*(s.ascending for s in self.spans), strict=True)
            x = Slice(starts, stops, steps)(x)
        return reshape(Flip(self._reversed)(x) if self._reversed else x, self.kept)

    def _uncut(self, y: Array) -> Array:
        """The transpose of `_cut`: the elements in their places, zeros elsewhere."""
        y = reshape(y, self._counts)
        y = Flip(self._reversed)(y) if self._reversed else y
        if self._counts == self.shape:
            return y
        low, stop, step = zip(*(s.ascending for s in self.spans), strict=True)
        high = tuple(n - b for n, b in zip(self.shape, stop, strict=True))
        return Pad(low, high, tuple(s - 1 for s in step))(y)

    # ---- the advanced part ----

    @property
    def _order(self) -> Axes:
        """For each axis of the result the axis of the gather: index shape first, then the rest."""
        index = self.arrays[0].ndim
        rest = tuple(range(index, index + len(self.kept) - len(self.axes)))
        return (*rest[: self.place], *range(index), *rest[self.place :])


# ---- reading an index -----------------------------------------------------------------------


@dataclass
class _Reader:
    """Collects a `Selection`, entry by entry."""

    shape: Shape
    spans: list[Span] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    axes: list[int] = field(default_factory=list)
    arrays: list[Array] = field(default_factory=list)
    advanced: list[int] = field(default_factory=list)
    place: int = 0

    def new_axis(self) -> None:
        self.kept.append(1)

    def slice(self, given: slice) -> None:
        start, stop, step = _bounds(given, self.shape[len(self.spans)])
        count = len(range(start, stop, step))
        self.spans.append(Span(start, count, step))
        self.kept.append(count)

    def position(self, number: int, index: int) -> None:
        self._advance(number)
        axis = len(self.spans)
        size = self.shape[axis]
        if not -size <= index < size:
            raise OutOfRangeError(f"index {index} is out of range for axis {axis} of size {size}")
        self.spans.append(Span(index % size, 1, 1))

    def array(self, number: int, index: Array) -> None:
        self._advance(number)
        size = self.shape[len(self.spans)]
        self.spans.append(Span(0, size, 1))
        self.axes.append(len(self.kept))
        self.arrays.append(index)
        self.kept.append(size)

    def _advance(self, number: int) -> None:
        if not self.advanced:
            self.place = len(self.kept)
        self.advanced.append(number)

    def selection(self) -> Selection:
        # NumPy: positions and index arrays that stand side by side keep their place in the result,
        # separated ones go to the front.
        together = self.advanced == list(range(*_ends(self.advanced)))
        common = broadcast_shapes(*(each.shape for each in self.arrays))
        return Selection(
            self.shape,
            tuple(self.spans),
            tuple(self.kept),
            tuple(self.axes),
            tuple(broadcast_to(each, common) for each in self.arrays),
            self.place if self.arrays and together else 0,
        )


def _ends(numbers: Sequence[int]) -> tuple[int, int]:
    return (numbers[0], numbers[-1] + 1) if numbers else (0, 0)


def selection_of(x: Array, index: Any) -> Selection:
    """Read `index` for the array `x`."""
    entries = [_entry(each) for each in (index if isinstance(index, tuple) else (index,))]
    reader = _Reader(x.shape)
    number = 0
    for entry in _complete(entries, x):
        if entry is Ellipsis:
            pass
        elif entry is None:
            reader.new_axis()
        elif isinstance(entry, slice):
            reader.slice(entry)
        elif isinstance(entry, int):
            reader.position(number, entry)
        elif entry.dtype == bool_:
            for positions in _true_positions(entry, x, len(reader.spans)):
                reader.array(number, positions)
                number += 1
            continue
        else:
            reader.array(number, entry)
        number += 1
    return reader.selection()


def _entry(given: Any) -> Any:
    """One entry of an index as None, Ellipsis, a slice, an int, or an Array (integers, bools)."""
    if given is None or given is Ellipsis or isinstance(given, slice):
        return given
    if isinstance(given, bool | np.bool_):
        return lift(given)
    if isinstance(given, int | np.integer):
        return int(given)
    if isinstance(given, Array | Weak | np.ndarray | list):
        array = asarray(given)
        if array.size == 0 and isinstance(given, list):
            return cast(array, int64)
        if array.dtype == bool_ or is_integer(array.dtype):
            return array
        raise DTypeError(
            f"an index array holds integers or bools, not {array.dtype}",
            hint="cast it with .astype(pb.int64)",
        )
    try:
        return operator.index(given)
    except TypeError:
        raise DTypeError(
            f"an index is an integer, a slice, None, ... or an array, not {given!r:.60}"
        ) from None


def _complete(entries: list[Any], x: Array) -> list[Any]:
    """The entries with the Ellipsis, or the missing end, written out as full slices."""
    taken = sum(
        each.ndim if isinstance(each, Array) and each.dtype == bool_ else 1
        for each in entries
        if each is not None and each is not Ellipsis
    )
    if taken > x.ndim:
        raise ShapeError(f"too many indices: {taken} for {x.type}, which has {x.ndim} axes")
    dots = [i for i, each in enumerate(entries) if each is Ellipsis]
    if len(dots) > 1:
        raise ShapeError("an index has one ellipsis at most")
    at = dots[0] if dots else len(entries)
    # The Ellipsis itself stays: it separates index arrays even where it stands for no axis.
    return [*entries[:at], Ellipsis, *[slice(None)] * (x.ndim - taken), *entries[at + 1 :]]


def _bounds(given: slice, size: int) -> tuple[int, int, int]:
    try:
        return given.indices(size)
    except ValueError:
        raise ShapeError("the step of a slice is not 0") from None
    except TypeError as error:
        if isinstance(error, TracedValueError):
            raise
        raise DTypeError(f"the bounds of a slice are integers, not {given}") from None


def _true_positions(mask: Array, x: Array, axis: int) -> tuple[Array, ...]:
    covered = x.shape[axis : axis + mask.ndim]
    if mask.ndim == 0:
        raise ShapeError(
            "a single bool among other indices", hint="use pb.where, or an array of bools"
        )
    if mask.shape != covered:
        raise ShapeError(f"a mask of shape {mask.shape} on axes of sizes {covered} of {x.type}")
    return tuple(concrete(each) for each in np.nonzero(numbers_for_size(mask, "a boolean mask")))


def numbers_for_size(x: Array, what: str) -> Numbers:
    """The numbers of `x`, which decide a size; `TracedValueError` where it has none yet."""
    if not x.has_numbers:
        raise TracedValueError(
            f"{what} gives a size that depends on values, which are not known while tracing",
            hint="keep the size: pb.where(mask, x, other), or a sum weighted by the mask",
        )
    return x.numpy()


# ---- x[index] -------------------------------------------------------------------------------


def getitem(self: Array, index: Any, /) -> Array:
    """`x[index]`: NumPy's basic and advanced indexing."""
    if isinstance(index, bool | np.bool_) or (_is_mask(index) and index.ndim == 0):
        self, index = reshape(self, (1, *self.shape)), asarray(index).reshape((1,))
    return selection_of(self, index).read(self)


def _is_mask(index: Any) -> bool:
    return isinstance(index, Array | np.ndarray) and index.dtype == bool_


# ---- x.at[index] ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Mode:
    """A way of writing: by the scatter op, and elementwise where every place is written once."""

    scatter: type[Scatter]
    once: Callable[[Array, Array], Array]


SET = Mode(ScatterSet, lambda x, value: value)
ADD = Mode(ScatterAdd, operators.add)
MULTIPLY = Mode(ScatterMultiply, operators.multiply)
MIN = Mode(ScatterMin, Minimum())
MAX = Mode(ScatterMax, Maximum())


class Place:
    """`x.at[index]`: the places an index selects, to be read, or written in a copy of `x`.

    A value is broadcast to the shape of `x[index]` and takes the element type of `x`. Where a place
    is selected several times, the updates are applied one after the other in row-major order of the
    index: `set` keeps the last.
    """

    def __init__(self, array: Array, index: Any) -> None:
        self._array = array
        self._index = index

    @public
    def get(self) -> Array:
        """`x[index]`."""
        return getitem(self._array, self._index)

    @public
    def set(self, value: Any, /) -> Array:
        """`x` with `value` in these places; of several values for one place the last wins."""
        return self._written(value, SET)

    @public
    def add(self, value: Any, /) -> Array:
        """`x` with `value` added there."""
        return self._written(value, ADD)

    @public
    def multiply(self, value: Any, /) -> Array:
        """`x` multiplied by `value` there."""
        return self._written(value, MULTIPLY)

    @public
    def min(self, value: Any, /) -> Array:
        """`x` with the minimum of element and `value` there; equal candidates share a gradient."""
        return self._written(value, MIN)

    @public
    def max(self, value: Any, /) -> Array:
        """`x` with the maximum of element and `value` there; equal candidates share a gradient."""
        return self._written(value, MAX)

    def _written(self, value: Any, mode: Mode) -> Array:
        x = self._array
        update = fitting(value, x.dtype)
        if isinstance(self._index, bool | np.bool_) or _is_mask(self._index):
            mask = asarray(self._index)
            if update.ndim <= x.ndim - mask.ndim and mask.shape == x.shape[: mask.ndim]:
                # The same value for every place: no size depends on the mask, so it may be traced.
                spread = reshape(mask, (*mask.shape, *(1,) * (x.ndim - mask.ndim)))
                return select(spread, mode.once(x, broadcast_to(update, x.shape)), x)
        selection = selection_of(x, self._index)
        return selection.write(x, _without_leading_ones(update, len(selection.result)), mode)


def fitting(value: Any, dtype: DType) -> Array:
    """`value` with element type `dtype`; `DTypeError` where that would lose its kind."""
    scalar = isinstance(value, Weak | bool | int | float)
    array = lift(value) if scalar else asarray(value)
    if _RANK[kind_of(array.dtype)] > _RANK[kind_of(dtype)]:
        raise DTypeError(
            f"{array.dtype} values cannot be written into {dtype}",
            hint=f"cast the array to {array.dtype}, or the values to {dtype}, with .astype(...)",
        )
    return operators.constant(value, dtype) if scalar else cast(array, dtype)


_RANK = {"b": 0, "i": 1, "u": 1, "f": 2}


def _without_leading_ones(x: Array, ndim: int) -> Array:
    extra = max(x.ndim - ndim, 0)
    return reshape(x, x.shape[extra:]) if set(x.shape[:extra]) <= {1} else x


class At:
    """`x.at`; see `Place`."""

    def __init__(self, array: Array) -> None:
        self._array = array

    def __getitem__(self, index: Any) -> Place:
        return Place(self._array, index)
