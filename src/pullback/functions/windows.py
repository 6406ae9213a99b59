"""Window arguments as users write them: an int for all axes, or one for each; paddings by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np

from pullback.errors import ShapeError
from pullback.ir.types import Axes, Shape
from pullback.ops.windows import Windows

Sizes = int | Sequence[int]
Padding = str | int | Sequence[int] | Sequence[tuple[int, int]]


def per_axis(value: Sizes, rank: int, what: str) -> Axes:
    """One number for each of `rank` axes; `ShapeError` unless given one, or that many."""
    if _is_int(value):
        return (int(value),) * rank
    if isinstance(value, Sequence) and len(value) == rank and all(map(_is_int, value)):
        return tuple(int(each) for each in value)
    raise ShapeError(f"{what} is an int or {rank} ints, not {value!r}")


def window_grid(
    size: Axes, spatial: Shape, stride: Sizes, padding: Padding, dilation: Sizes
) -> Windows:
    """The windows of `size` on axes of the sizes `spatial`."""
    rank = len(size)
    strides, dilations = per_axis(stride, rank, "stride"), per_axis(dilation, rank, "dilation")
    if min(*strides, *dilations) < 1:
        raise ShapeError(f"stride {strides} and dilation {dilations} are at least 1")
    pairs: list[tuple[int, int]] = [(0, 0)] * rank
    if padding == "same":
        axes = zip(spatial, size, strides, dilations, strict=True)
        pairs = [_same(n, k, s, d) for n, k, s, d in axes]
    elif padding != "valid":
        pairs = _pairs(padding, rank)
    low, high = tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)
    return Windows(size, strides, low, high, dilations)


def _same(n: int, size: int, stride: int, dilation: int) -> tuple[int, int]:
    """Zeros before and after so that ⌈n/stride⌉ windows fit; the odd one comes after."""
    total = max((-(-n // stride) - 1) * stride + dilation * (size - 1) + 1 - n, 0)
    return total // 2, total - total // 2


def _pairs(padding: Padding, rank: int) -> list[tuple[int, int]]:
    each: list[Any] = [padding] * rank if _is_int(padding) else []
    if isinstance(padding, Sequence) and not isinstance(padding, str):
        each = list(padding)
    pairs = [(x, x) if _is_int(x) else x for x in each]
    if len(pairs) != rank or not all(map(_is_pair, pairs)):
        raise ShapeError(
            f'padding is "same", "valid", an int, {rank} ints or {rank} pairs (low, high) '
            f"that are not negative, not {padding!r}"
        )
    return [(int(low), int(high)) for low, high in pairs]


def _is_pair(x: object) -> bool:
    return isinstance(x, Sequence) and len(x) == 2 and all(_is_int(n) and n >= 0 for n in x)


def _is_int(x: object) -> TypeGuard[int]:
    return isinstance(x, int | np.integer) and not isinstance(x, bool)
