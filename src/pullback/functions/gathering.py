"""Reading and writing at places given by integer arrays, beside `x[index]` and `x.at[index]`."""

from __future__ import annotations

from typing import Any

import numpy as np

from pullback._public import public
from pullback.array import asarray
from pullback.errors import DTypeError, ShapeError
from pullback.functions.indexing import fitting, numbers_for_size
from pullback.ir.array import Array
from pullback.ir.types import (
    Axes,
    TensorType,
    as_dtype,
    broadcast_shapes,
    float32,
    int64,
    is_float,
    is_integer,
    normalize_axis,
)
from pullback.ops.create import Iota
from pullback.ops.index import Gather, Scatter, ScatterAdd, ScatterMax, ScatterMin, ScatterSet
from pullback.ops.operators import broadcast_to, cast, equal, full, reshape, select, transpose

# ---- along an axis --------------------------------------------------------------------------


@public
def take(x: Any, indices: Any, /, *, axis: int | None = None) -> Array:
    """The slices of `x` at `indices` along `axis`, whose place the shape of `indices` takes.

    `axis` may be left out for one-dimensional `x`. Indices count from the end when negative; one
    that lies outside raises `OutOfRangeError`.
    """
    array, places = asarray(x), _integers(indices)
    if axis is None and array.ndim != 1:
        raise ShapeError(f"take needs an axis for {array.type}", hint="for example axis=0")
    along = normalize_axis(0 if axis is None else axis, array.ndim)
    taken = Gather((along,))(array, places)
    new = range(places.ndim)
    old = range(places.ndim, taken.ndim)
    return transpose(taken, (*old[:along], *new, *old[along:]))


@public
def take_along_axis(x: Any, indices: Any, /, *, axis: int = -1) -> Array:
    """For each line of `x` along `axis`, its elements at the same line of `indices`.

    `indices` has the rank of `x`, and its other sizes broadcast against those of `x`.
    """
    array, places, along = _aligned(x, indices, axis)
    order = (*_others(along, array.ndim), along)
    taken = Gather((along,), order[:-1])(array, transpose(places, order))
    return transpose(taken, _inverse(order))


@public
def put_along_axis(x: Any, indices: Any, values: Any, /, *, axis: int = -1) -> Array:
    """`x` with `values` where `take_along_axis(x, indices)` reads; the last of several wins."""
    array, places, along = _aligned(x, indices, axis)
    order = (*_others(along, array.ndim), along)
    updates = broadcast_to(fitting(values, array.dtype), places.shape)
    return ScatterSet((along,), order[:-1])(
        array, transpose(updates, order), transpose(places, order)
    )


def _aligned(x: Any, indices: Any, axis: int) -> tuple[Array, Array, int]:
    """Both arrays with equal sizes on all axes but one."""
    array, places = asarray(x), _integers(indices)
    if array.ndim != places.ndim:
        raise ShapeError(f"{array.type} and the indices {places.type} differ in rank")
    along = normalize_axis(axis, array.ndim)

    def sized(shape: tuple[int, ...], n: int) -> tuple[int, ...]:
        return (*shape[:along], n, *shape[along + 1 :])

    shared = broadcast_shapes(sized(array.shape, 1), sized(places.shape, 1))
    return (
        broadcast_to(array, sized(shared, array.shape[along])),
        broadcast_to(places, sized(shared, places.shape[along])),
        along,
    )


def _others(axis: int, ndim: int) -> Axes:
    return tuple(i for i in range(ndim) if i != axis)


def _inverse(order: Axes) -> Axes:
    return tuple(sorted(range(len(order)), key=order.__getitem__))


def _integers(indices: Any) -> Array:
    array = asarray(indices)
    if not is_integer(array.dtype):
        raise DTypeError(f"indices are integers, not {array.dtype}")
    return array


# ---- classes and segments -------------------------------------------------------------------


@public
def one_hot(x: Any, num_classes: int, /, *, dtype: Any = None, axis: int = -1) -> Array:
    """1 at the class that `x` names, 0 elsewhere, along a new axis of size `num_classes`.

    A class outside 0 … num_classes - 1 gives zeros only. By default float32.
    """
    labels = _integers(x)
    if num_classes < 0:
        raise ShapeError(f"a number of classes is not negative: {num_classes}")
    place = normalize_axis(axis, labels.ndim + 1)
    spread = reshape(labels, (*labels.shape[:place], 1, *labels.shape[place:]))
    classes = reshape(Iota(num_classes, int64)(), (num_classes, *(1,) * (labels.ndim - place)))
    return cast(equal(cast(spread, int64), classes), float32 if dtype is None else as_dtype(dtype))


@public
def segment_sum(data: Any, segment_ids: Any, num_segments: int | None = None) -> Array:
    """Row s is the sum of the rows of `data` with segment id s; 0 of none.

    `segment_ids` has the first size of `data`. `num_segments` is by default one more than the
    largest id, which must then be known. An id counts from the end when negative, as any index;
    one that lies outside raises `OutOfRangeError`.
    """
    return _segments(ScatterAdd, data, segment_ids, num_segments, lambda _: 0)


@public
def segment_max(data: Any, segment_ids: Any, num_segments: int | None = None) -> Array:
    """As `segment_sum`, with the maximum; -∞ or the smallest integer of none."""
    return _segments(ScatterMax, data, segment_ids, num_segments, lambda kind: _limits(kind)[0])


@public
def segment_min(data: Any, segment_ids: Any, num_segments: int | None = None) -> Array:
    """As `segment_sum`, with the minimum; ∞ or the largest integer of none."""
    return _segments(ScatterMin, data, segment_ids, num_segments, lambda kind: _limits(kind)[1])


@public
def segment_mean(data: Any, segment_ids: Any, num_segments: int | None = None) -> Array:
    """As `segment_sum`, with the mean; 0 of none."""
    rows = asarray(data)
    rows = rows if is_float(rows.dtype) else cast(rows, float32)
    total = segment_sum(rows, segment_ids, num_segments)
    ids = asarray(segment_ids)
    counts = segment_sum(full(TensorType(ids.shape, rows.dtype), 1), ids, total.shape[0])
    counts = reshape(counts, (counts.size, *(1,) * (total.ndim - 1)))
    return total / select(counts == 0, 1, counts)


def _limits(kind: TensorType) -> tuple[Any, Any]:
    if is_float(kind.dtype):
        return -np.inf, np.inf
    limits = np.iinfo(kind.dtype)
    return limits.min, limits.max


def _segments(
    op: type[Scatter], data: Any, segment_ids: Any, num_segments: int | None, nothing: Any
) -> Array:
    rows, ids = asarray(data), _integers(segment_ids)
    if ids.ndim != 1 or rows.ndim == 0 or rows.shape[0] != ids.shape[0]:
        raise ShapeError(f"segment ids {ids.type} for the rows of {rows.type}")
    if num_segments is None:
        known = numbers_for_size(ids, "segment_ids without num_segments")
        num_segments = int(known.max(initial=-1)) + 1
    kind = rows.type.reshaped((num_segments, *rows.shape[1:]))
    return op((0,))(full(kind, nothing(kind)), rows, ids)
