"""Convolutions as layers. Images are (N, C, *spatial), or one image without N."""

from __future__ import annotations

import functools
import math
from typing import Any, ClassVar

from pullback.errors import ArgumentError
from pullback.functions.convolution import conv1d, conv2d, conv_transpose2d
from pullback.functions.windows import Padding, Sizes, per_axis
from pullback.ir.array import Array
from pullback.ir.types import float32
from pullback.nn import init
from pullback.nn.init import Initializer
from pullback.nn.linear import require_sizes
from pullback.nn.module import Module
from pullback.ops.operators import reshape, transpose


class _Convolution(Module):
    """What convolutions of any rank share."""

    _rank: ClassVar[int]

    weight: Array
    """(out_channels, in_channels / groups, *kernel_size)"""
    bias: Array | None
    """(out_channels,), or None"""
    stride: Sizes
    padding: Padding
    dilation: Sizes
    groups: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Padding = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        use_bias: bool = True,
        *,
        key: Array,
        initializer: Initializer = init.he_normal,
        dtype: Any = float32,
    ) -> None:
        shape = _kernel_shape(in_channels, out_channels, kernel_size, groups, self._rank)
        self.weight = initializer(key, shape, dtype)
        self.bias = init.zeros(key, (out_channels,), dtype) if use_bias else None
        self.stride, self.padding = stride, padding
        self.dilation, self.groups = dilation, groups

    def _how(self) -> tuple[Any, ...]:
        return (self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Conv1d(_Convolution):
    """A convolution of sequences: (N, in_channels, L) → (N, out_channels, L').

    The arguments are those of `pb.conv1d`; the initial weights keep the scale through ReLU.
    """

    _rank = 1

    def __call__(self, x: Any) -> Array:
        return conv1d(x, *self._how())


class Conv2d(_Convolution):
    """A convolution of images: (N, in_channels, H, W) → (N, out_channels, H', W').

    The arguments are those of `pb.conv2d`; the initial weights keep the scale through ReLU.
    """

    _rank = 2

    def __call__(self, x: Any) -> Array:
        return conv2d(x, *self._how())


class ConvTranspose2d(Module):
    """The transpose of a convolution: (N, in_channels, H, W) → (N, out_channels, H', W').

    The arguments are those of `pb.conv_transpose2d`. With stride s an output sees one in s² of the
    kernel's elements: unless an `initializer` is given, the weights are `he_normal` times s.
    """

    weight: Array
    """(in_channels, out_channels / groups, Kh, Kw)"""
    bias: Array | None
    """(out_channels,), or None"""
    stride: Sizes
    padding: Sizes
    output_padding: Sizes
    groups: int
    dilation: Sizes

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes = 0,
        output_padding: Sizes = 0,
        groups: int = 1,
        use_bias: bool = True,
        dilation: Sizes = 1,
        *,
        key: Array,
        initializer: Initializer | None = None,
        dtype: Any = float32,
    ) -> None:
        # What an output sums over is the input's channels: the fans are those of the convolution
        # that goes the same way, so its kernel is drawn and its channels change places.
        drawn = _kernel_shape(in_channels, out_channels, kernel_size, groups, 2)
        if initializer is None:
            scale = math.sqrt(math.prod(per_axis(stride, 2, "stride")))
            initializer = functools.partial(init.he_normal, gain=scale)
        kernel = initializer(key, drawn, dtype)
        self.weight = _exchanged(kernel, groups)
        self.bias = init.zeros(key, (out_channels,), dtype) if use_bias else None
        self.stride, self.padding, self.output_padding = stride, padding, output_padding
        self.groups, self.dilation = groups, dilation

    def __call__(self, x: Any) -> Array:
        return conv_transpose2d(
            x,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.output_padding,
            self.groups,
            self.dilation,
        )


def _exchanged(kernel: Array, groups: int) -> Array:
    """(O, I/groups, …) → (I, O/groups, …), group by group."""
    outs, ins, *window = kernel.shape
    split = reshape(kernel, (groups, outs // groups, ins, *window))
    moved = transpose(split, (0, 2, 1, *range(3, split.ndim)))
    return reshape(moved, (groups * ins, outs // groups, *window))


def _kernel_shape(
    in_channels: int, out_channels: int, kernel_size: Sizes, groups: int, rank: int
) -> tuple[int, ...]:
    require_sizes(in_channels=in_channels, out_channels=out_channels, groups=groups)
    if in_channels % groups or out_channels % groups:
        raise ArgumentError(
            f"{in_channels} and {out_channels} channels do not fall into {groups} equal groups"
        )
    window = per_axis(kernel_size, rank, "kernel_size")
    require_sizes(**{f"kernel_size[{i}]": n for i, n in enumerate(window)})
    return (out_channels, in_channels // groups, *window)
