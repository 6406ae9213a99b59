"""Pooling as layers: (…, H, W) → (…, H', W')."""

from __future__ import annotations

from typing import Any

from pullback.functions.pooling import avg_pool, max_pool
from pullback.functions.windows import Padding, Sizes, per_axis
from pullback.ir.array import Array
from pullback.nn.module import Module


class MaxPool2d(Module):
    """The maximum of each window; see `pb.max_pool`."""

    window: Sizes
    stride: Sizes | None = None
    padding: Padding = 0
    dilation: Sizes = 1

    def __call__(self, x: Any) -> Array:
        window = per_axis(self.window, 2, "window")
        return max_pool(x, window, self.stride, self.padding, self.dilation)


class AvgPool2d(Module):
    """The mean of each window; see `pb.avg_pool`."""

    window: Sizes
    stride: Sizes | None = None
    padding: Padding = 0
    count_include_pad: bool = True

    def __call__(self, x: Any) -> Array:
        window = per_axis(self.window, 2, "window")
        return avg_pool(x, window, self.stride, self.padding, self.count_include_pad)
