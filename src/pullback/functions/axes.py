"""How functions read their `axis` and `keepdims` arguments, and in which precision they add up."""

from __future__ import annotations

import math
from typing import Any

from pullback.errors import ShapeError
from pullback.ir.array import Array
from pullback.ir.types import Axes, DType, bfloat16, float16, float32
from pullback.ops.operators import as_float, cast, reshape

Axis = int | tuple[int, ...] | None


def keep(out: Array, x: Array, axes: Axes, keepdims: bool) -> Array:
    """A reduction of `x` over `axes`, with those axes put back at size 1 if asked to."""
    if not keepdims:
        return out
    return reshape(out, tuple(1 if i in axes else n for i, n in enumerate(x.shape)))


def count(x: Array, axes: Axes) -> int:
    """How many elements of `x` are reduced into one."""
    return math.prod(x.shape[a] for a in axes)


def only_axis(axis: int | None, x: Array) -> int:
    """`axis`, or the only one of a vector; `ShapeError` when it must be given and is not."""
    if axis is not None:
        return axis
    if x.ndim != 1:
        raise ShapeError(f"axis= is needed for {x.type}, which is not a vector")
    return 0


def accumulated(x: Any) -> tuple[Array, DType]:
    """`x` as floats in the precision it is summed in (float32 for half ones), and its own dtype."""
    array = as_float(x)
    half = array.dtype in (float16, bfloat16)
    return cast(array, float32) if half else array, array.dtype
