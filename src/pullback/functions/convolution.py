"""Convolution and its transpose in one, two and three dimensions.

Arrays are laid out as in torch: images (N, C, *spatial), kernels (O, C/groups, *kernel). An image
without the batch axis N gives a result without it. As in all networks the kernel is not flipped, so
strictly this is cross-correlation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pullback._public import public
from pullback.errors import ShapeError
from pullback.functions.windows import Padding, Sizes, per_axis, window_grid
from pullback.ir.array import Array
from pullback.ir.builder import located
from pullback.ops import operators
from pullback.ops.convolve import Convolve, ConvolveInput
from pullback.ops.operators import apply_as, pair, reshape
from pullback.ops.windows import Windows


@public
def conv1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Array:
    """(N, C, L), (O, C/groups, K), bias (O,) → (N, O, L').

    L' = ⌊(L + zeros − dilation·(K − 1) − 1)/stride⌋ + 1. `padding` counts the zeros on either
    side: an int, one int or one pair (low, high) for each axis, `"valid"` (none), or `"same"` (as
    many as give L' = ⌈L/stride⌉; an odd one goes to the end).

    Raises `ShapeError` when channels, groups or sizes do not fit.
    """
    return _convolve("conv1d", 1, x, weight, bias, stride, padding, dilation, groups)


@public
def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Array:
    """(N, C, H, W), (O, C/groups, Kh, Kw), bias (O,) → (N, O, H', W'); see `conv1d`."""
    return _convolve("conv2d", 2, x, weight, bias, stride, padding, dilation, groups)


@public
def conv3d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Array:
    """(N, C, D, H, W), (O, C/groups, Kd, Kh, Kw), bias (O,) → (N, O, D', H', W'); see `conv1d`."""
    return _convolve("conv3d", 3, x, weight, bias, stride, padding, dilation, groups)


@public
def conv_transpose1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Array:
    """(N, O, L'), (O, C/groups, K), bias (C,) → (N, C, L): the transpose of `conv1d` in its images.

    L = (L' − 1)·stride − 2·padding + dilation·(K − 1) + output_padding + 1. `output_padding`, below
    `stride` or `dilation`, picks one of the lengths that `conv1d` maps to L'.

    Raises `ShapeError` when channels, groups or sizes do not fit.
    """
    geometry = (stride, padding, output_padding, groups, dilation)
    return _convolve_transposed("conv_transpose1d", 1, x, weight, bias, *geometry)


@public
def conv_transpose2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Array:
    """(N, O, H', W'), (O, C/groups, Kh, Kw), bias (C,) → (N, C, H, W); see `conv_transpose1d`."""
    geometry = (stride, padding, output_padding, groups, dilation)
    return _convolve_transposed("conv_transpose2d", 2, x, weight, bias, *geometry)


@public
def conv_transpose3d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Array:
    """(N, O, D', H', W'), (O, C/groups, Kd, Kh, Kw), bias (C,) → (N, C, D, H, W).

    See `conv_transpose1d`.
    """
    geometry = (stride, padding, output_padding, groups, dilation)
    return _convolve_transposed("conv_transpose3d", 3, x, weight, bias, *geometry)


def _convolve(
    subject: str,
    rank: int,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Sizes,
    padding: Padding,
    dilation: Sizes,
    groups: int,
) -> Array:
    images, kernel, batched = _operands(subject, rank, x, weight)
    windows = window_grid(kernel.shape[2:], images.shape[2:], stride, padding, dilation)
    result = apply_as(subject, Convolve(windows, groups), x=images, weight=kernel)
    return _finished(subject, result, bias, batched)


def _convolve_transposed(
    subject: str,
    rank: int,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Sizes,
    padding: Sizes,
    output_padding: Sizes,
    groups: int,
    dilation: Sizes,
) -> Array:
    images, kernel, batched = _operands(subject, rank, x, weight)
    if images.shape[1] != kernel.shape[0]:
        error = ShapeError(f"the kernel reads {kernel.shape[0]} channels, x has {images.shape[1]}")
        raise located(error, subject, x=images, weight=kernel)
    strides, dilations = per_axis(stride, rank, "stride"), per_axis(dilation, rank, "dilation")
    low, extra = (
        per_axis(padding, rank, "padding"),
        per_axis(output_padding, rank, "output_padding"),
    )
    if any(e < 0 or e >= max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
        raise ShapeError(
            f"output_padding {extra} is not below stride {strides} or dilation {dilations}"
        )
    spatial = _lengths(images.shape[2:], kernel.shape[2:], strides, low, extra, dilations)
    if min(spatial) < 1:
        error = ShapeError(f"padding {low} leaves nothing: the result would span {spatial}")
        raise located(error, subject, x=images, weight=kernel)
    high = tuple(p - e for p, e in zip(low, extra, strict=True))
    windows = Windows(kernel.shape[2:], strides, low, high, dilations)
    op = ConvolveInput(windows, groups, spatial)
    return _finished(subject, apply_as(subject, op, x=images, weight=kernel), bias, batched)


def _lengths(
    counts: Sequence[int],
    sizes: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[int],
    extra: Sequence[int],
    dilations: Sequence[int],
) -> tuple[int, ...]:
    axes = zip(counts, sizes, strides, padding, extra, dilations, strict=True)
    return tuple((n - 1) * s - 2 * p + d * (k - 1) + e + 1 for n, k, s, p, e, d in axes)


def _operands(subject: str, rank: int, x: Any, weight: Any) -> tuple[Array, Array, bool]:
    """Images and kernel of one element type, and whether the images came with a batch axis."""
    images, kernel = pair(x, weight)
    if images.ndim not in (rank + 1, rank + 2) or kernel.ndim != rank + 2:
        error = ShapeError(
            f"images have rank {rank + 2} (N, C, *spatial) or {rank + 1} (C, *spatial), "
            f"kernels rank {rank + 2}"
        )
        raise located(error, subject, x=images, weight=kernel)
    batched = images.ndim == rank + 2
    return (images if batched else reshape(images, (1, *images.shape))), kernel, batched


def _finished(subject: str, result: Array, bias: Any, batched: bool) -> Array:
    """With the bias added to each channel, and without the batch axis that was not given."""
    if bias is not None:
        result, offsets = pair(result, bias)
        if offsets.shape != (result.shape[1],):
            error = ShapeError(f"the bias has one number for each of {result.shape[1]} channels")
            raise located(error, subject, bias=offsets)
        result = operators.add(
            result, reshape(offsets, (result.shape[1],) + (1,) * (result.ndim - 2))
        )
    return result if batched else reshape(result, result.shape[1:])
