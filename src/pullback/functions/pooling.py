"""Pooling over windows of the spatial axes.

`window` is one size for all spatial axes, which are then all but the first two (N, C), or one size
for each of the last axes. Windows step by `stride`, by default their own size.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pullback._public import public
from pullback.errors import ShapeError
from pullback.functions.windows import Padding, Sizes, per_axis, window_grid
from pullback.ir.array import Array, concrete
from pullback.ir.builder import located
from pullback.ir.types import DType, TensorType
from pullback.ops.contract import LETTERS, Contract
from pullback.ops.operators import apply_as, as_float, divide, full, lift, sum_over
from pullback.ops.pool import MaxPool, WindowSum
from pullback.ops.windows import Windows


@public
def max_pool(
    x: Any, window: Sizes, stride: Sizes | None = None, padding: Padding = 0, dilation: Sizes = 1
) -> Array:
    """The maximum of each window: (…, *spatial) → (…, *counts); padding never wins.

    Of equal maxima the first in the window's row-major order takes the whole gradient, as in torch.
    Raises `ShapeError` when no window fits, or when padding exceeds half a window.
    """
    array = lift(x)
    windows = _windows("max_pool", array, window, stride, padding, dilation)
    return apply_as("max_pool", MaxPool(windows), x=array)


@public
def avg_pool(
    x: Any,
    window: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    count_include_pad: bool = True,
) -> Array:
    """The mean of each window: (…, *spatial) → (…, *counts); integers give float32.

    Padding counts as zeros, or, with `count_include_pad=False`, not at all.
    Raises `ShapeError` when no window fits, or when padding exceeds half a window.
    """
    array = as_float(x)
    windows = _windows("avg_pool", array, window, stride, padding, 1)
    total = apply_as("avg_pool", WindowSum(windows), x=array)
    if count_include_pad:
        return divide(total, float(windows.taps))
    ones = full(TensorType(array.shape[array.ndim - windows.rank :], array.dtype), 1)
    return divide(total, WindowSum(windows)(ones))


@public
def global_avg_pool(x: Any) -> Array:
    """The mean over all spatial axes: (N, C, *spatial) → (N, C)."""
    array = as_float(x)
    if array.ndim < 3:
        raise located(ShapeError("x has no spatial axes after (N, C)"), "global_avg_pool", x=array)
    total = sum_over(array, tuple(range(2, array.ndim)))
    return divide(total, float(np.prod(array.shape[2:])))


@public
def adaptive_avg_pool(x: Any, output: Sizes) -> Array:
    """The means of `output` windows over each axis: (N, C, *spatial) → (N, C, *output).

    Window i of m on an axis of n runs from ⌊i·n/m⌋ to ⌈(i+1)·n/m⌉, as in torch; they may overlap.
    Raises `ShapeError` when a size is below 1 or an axis is empty.
    """
    array = as_float(x)
    rank = _rank("adaptive_avg_pool", array, output)
    sizes = per_axis(output, rank, "output")
    first = array.ndim - rank
    if min(*sizes, *array.shape[first:]) < 1:
        error = ShapeError(f"an axis is empty, or no window is asked for: output {sizes}")
        raise located(error, "adaptive_avg_pool", x=array)
    for axis, m in enumerate(sizes, first):
        letters = LETTERS[: array.ndim]
        fresh = LETTERS[array.ndim]
        means = concrete(_means(array.shape[axis], m, array.dtype))
        op = Contract(letters, fresh + letters[axis], letters.replace(letters[axis], fresh))
        array = op(array, means)
    return array


def _means(n: int, m: int, dtype: DType) -> Any:
    """The m × n matrix whose row i is the mean over window i."""
    i = np.arange(m)
    start, stop = i * n // m, -(-(i + 1) * n // m)
    j = np.arange(n)
    inside = (start[:, None] <= j) & (j < stop[:, None])
    return (inside / inside.sum(axis=1, keepdims=True)).astype(dtype)


def _windows(
    subject: str,
    x: Array,
    window: Sizes,
    stride: Sizes | None,
    padding: Padding,
    dilation: Sizes,
) -> Windows:
    rank = _rank(subject, x, window)
    size = per_axis(window, rank, "window")
    if min(size) < 1:
        raise ShapeError(f"a window has at least one element, not {size}")
    spatial = x.shape[x.ndim - rank :]
    grid = window_grid(size, spatial, size if stride is None else stride, padding, dilation)
    for k, d, low, high in zip(size, grid.dilation, grid.low, grid.high, strict=True):
        if max(low, high) > ((k - 1) * d + 1) / 2 and padding != "same":
            error = ShapeError(f"padding {max(low, high)} is more than half of a window of {k}")
            raise located(error, subject, x=x)
    return grid


def _rank(subject: str, x: Array, sizes: Sizes) -> int:
    """How many of the last axes are spatial."""
    rank = x.ndim - 2 if isinstance(sizes, int | np.integer) else len(sizes)
    if not 1 <= rank <= x.ndim:
        hint = "give one size for each spatial axis" if rank < 1 else None
        error = ShapeError(f"no {max(rank, 1)} spatial axes in a rank-{x.ndim} array", hint=hint)
        raise located(error, subject, x=x)
    return rank
