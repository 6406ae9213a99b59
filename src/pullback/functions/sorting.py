"""Sorting and order statistics. NaN stands last, in both directions."""

from __future__ import annotations

import math
from typing import Any

from pullback._public import public
from pullback.errors import OutOfRangeError, ShapeError
from pullback.functions.axes import Axis, count, keep
from pullback.ir.array import Array
from pullback.ir.types import normalize_axes, normalize_axis
from pullback.ops.operators import as_float, cut, lift, not_equal, reshape, select, transpose
from pullback.ops.sort import Sort, TopK


@public
def sort(x: Any, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Array:
    """The elements along `axis` in order. The order is always stable, whatever `stable`."""
    return _sorted(x, axis, descending)[0]


@public
def argsort(x: Any, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Array:
    """The indices (int64) that sort `x` along `axis`. Equal elements always keep their order."""
    return _sorted(x, axis, descending)[1]


@public
def top_k(x: Any, k: int, /, *, axis: int = -1) -> tuple[Array, Array]:
    """`(values, indices)` of the `k` largest elements along `axis`, descending.

    Of equal elements the earlier is taken. `ShapeError` when there are fewer than `k`.
    """
    array = lift(x)
    values, indices = TopK(normalize_axis(axis, array.ndim), int(k)).outputs(array)
    return values, indices


@public
def median(x: Any, /, axis: Axis = None, keepdims: bool = False) -> Array:
    """The middle element over `axis`, or the mean of the two middle ones; NaN when one is NaN."""
    return _quantile(as_float(x), 0.5, axis, keepdims)


@public
def quantile(x: Any, q: float, /, axis: Axis = None, keepdims: bool = False) -> Array:
    """The `q`-quantile over `axis`, linear between order statistics; NaN when an element is NaN."""
    if not 0.0 <= q <= 1.0:
        raise OutOfRangeError(f"a quantile lies between 0 and 1, not at {q}")
    return _quantile(as_float(x), float(q), axis, keepdims)


def _sorted(x: Any, axis: int, descending: bool) -> tuple[Array, ...]:
    array = lift(x)
    return Sort(normalize_axis(axis, array.ndim), descending).outputs(array)


def _quantile(x: Array, q: float, axis: Axis, keepdims: bool) -> Array:
    axes = normalize_axes(axis, x.ndim)
    size = count(x, axes)
    if size == 0:
        raise ShapeError(f"a quantile over 0 elements of {x.type} has no value")
    kept = tuple(i for i in range(x.ndim) if i not in axes)
    shape = tuple(x.shape[i] for i in kept)
    rows = reshape(transpose(x, kept + axes), (math.prod(shape), size))
    ordered = Sort(1, descending=False).outputs(rows)[0]
    place = q * (size - 1)
    low = math.floor(place)
    lower, upper = (cut(ordered, 1, i, i + 1) for i in (low, min(low + 1, size - 1)))
    between = lower + (upper - lower) * (place - low)
    last = cut(ordered, 1, size - 1, size)
    out = select(not_equal(last, last), math.nan, between)
    return keep(reshape(out, shape), x, axes, keepdims)
