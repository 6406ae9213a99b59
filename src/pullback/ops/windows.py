"""Where the windows of a convolution or a pooling lie on the spatial axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from pullback.errors import ShapeError
from pullback.ir.types import Axes, Shape, bool_, int32


@dataclass(frozen=True)
class Windows:
    """Tap k of window q reads place q·stride + k·dilation − low; one number for each spatial axis.

    `low` and `high` places are imagined before and after the axis; negative ones are cut off.
    """

    size: Axes
    stride: Axes
    low: Axes
    high: Axes
    dilation: Axes

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.size)

    @property
    def taps(self) -> int:
        """Number of places one window reads."""
        return math.prod(self.size)

    def counts(self, spatial: Shape) -> Shape:
        """How many windows lie along each axis; `ShapeError` when none fits."""
        lengths = {len(x) for x in (self.size, self.stride, self.low, self.high, self.dilation)}
        if lengths != {len(spatial)}:
            raise ShapeError(f"windows of {self.rank} axes on {len(spatial)} spatial axes")
        if min(*self.size, *self.stride, *self.dilation) < 1:
            raise ShapeError("size, stride and dilation of a window are at least 1")
        counts = []
        for n, k, s, low, high, d in zip(
            spatial, self.size, self.stride, self.low, self.high, self.dilation, strict=True
        ):
            reach, room = (k - 1) * d + 1, n + low + high
            if reach > room:
                raise ShapeError(f"a window of {_reach(k, d)} does not fit {_room(n, low, high)}")
            counts.append((room - reach) // s + 1)
        return tuple(counts)

    def patches(self, x: Any, fill: Any = 0) -> Any:
        """(…, *spatial) → (…, *size, *counts), a read-only view; places outside hold `fill`."""
        counts = self.counts(x.shape[-self.rank :])
        buffer: Any = np.full((*x.shape[: -self.rank], *self._span(counts)), fill, x.dtype)
        outer, inner = self._overlap(x.shape[-self.rank :], counts)
        buffer[(..., *outer)] = x[(..., *inner)]
        lead, steps = buffer.strides[: -self.rank], buffer.strides[-self.rank :]
        by_tap = tuple(b * d for b, d in zip(steps, self.dilation, strict=True))
        by_window = tuple(b * s for b, s in zip(steps, self.stride, strict=True))
        shape = (*x.shape[: -self.rank], *self.size, *counts)
        return as_strided(buffer, shape, (*lead, *by_tap, *by_window), writeable=False)

    def reads(self, x: Any, fill: Any = 0) -> Iterator[Any]:
        """(…, *counts) for each tap in row-major order: what that tap reads in every window."""
        patches = self.patches(x, fill)
        for tap in np.ndindex(*self.size):
            yield patches[(..., *tap, *(slice(None),) * self.rank)]

    # ---- one place at a time, in the scalar algebra `s` ----

    def read(self, s: Any, window: Sequence[Any], tap: Axes, spatial: Shape) -> tuple[Any, Any]:
        """The place that a tap of a window reads, and whether it lies inside the axes."""
        place, inside = [], s.literal(True, bool_)
        parts = zip(window, tap, self.stride, self.dilation, self.low, spatial, strict=True)
        for q, k, stride, dilation, low, n in parts:
            i = s.add(s.mul(q, s.const(stride, q)), s.const(k * dilation - low, q))
            inside = s.bit_and(inside, _within(s, i, n))
            place.append(i)
        return place, inside

    def covering(
        self, s: Any, place: Sequence[Any], counts: Shape
    ) -> Iterator[tuple[list[Any], Any, Any]]:
        """The windows that may read a place: window, number of the tap, whether it does.

        In the order of the taps.
        """
        along = [list(self._covering(s, a, i, counts[a])) for a, i in enumerate(place)]
        for choice in itertools.product(*along):
            tap, reads = s.literal(0, int32), s.literal(True, bool_)
            for (_, k, does), size in zip(choice, self.size, strict=True):
                tap = s.add(s.mul(tap, s.const(size, tap)), s.cast(k, int32))
                reads = s.bit_and(reads, does)
            yield [q for q, _, _ in choice], tap, reads

    def _covering(self, s: Any, axis: int, i: Any, count: int) -> Iterator[tuple[Any, Any, Any]]:
        """Along one axis: tap k of window (i + low - k·dilation) / stride reads place i."""
        size, stride = self.size[axis], s.const(self.stride[axis], i)
        if self.dilation[axis] == 1:
            # Only every stride-th tap can read a given place.
            first = s.add(i, s.const(self.low[axis], i))
            window, tap = s.quot(first, stride), s.rem(first, stride)
            for _ in range(-(-size // self.stride[axis])):
                reads = s.bit_and(s.less_equal(s.const(0, i), first), s.less(tap, s.const(size, i)))
                yield window, tap, s.bit_and(reads, _within(s, window, count))
                window, tap = s.sub(window, s.const(1, i)), s.add(tap, stride)
        else:
            for k in range(size):
                first = s.add(i, s.const(self.low[axis] - k * self.dilation[axis], i))
                window = s.quot(first, stride)
                meets = s.equal(s.rem(first, stride), s.const(0, i))
                reads = s.bit_and(s.less_equal(s.const(0, i), first), meets)
                yield window, s.const(k, i), s.bit_and(reads, _within(s, window, count))

    def unpatch(self, patches: Any, spatial: Shape) -> Any:
        """The transpose of `patches`: (…, *size, *counts) → (…, *spatial), adding at overlaps."""
        lead, counts = patches.shape[: -2 * self.rank], patches.shape[-self.rank :]
        buffer: Any = np.zeros((*lead, *self._span(counts)), patches.dtype)
        for tap, places in self._places(counts):
            buffer[(..., *places)] += patches[(..., *tap, *(slice(None),) * self.rank)]
        outer, inner = self._overlap(spatial, counts)
        result: Any = np.zeros((*lead, *spatial), patches.dtype)
        result[(..., *inner)] = buffer[(..., *outer)]
        return result

    def _places(self, counts: Shape) -> Iterator[tuple[Axes, tuple[slice, ...]]]:
        """Each tap, and the places it reads as the window moves."""
        for tap in np.ndindex(*self.size):
            spans = zip(tap, self.dilation, self.stride, counts, strict=True)
            yield tap, tuple(slice(k * d, k * d + s * (q - 1) + 1, s) for k, d, s, q in spans)

    def _span(self, counts: Shape) -> Shape:
        """The places from the first that a window reads to the last."""
        spans = zip(self.size, self.dilation, self.stride, counts, strict=True)
        return tuple((k - 1) * d + s * (q - 1) + 1 for k, d, s, q in spans)

    def _overlap(
        self, spatial: Shape, counts: Shape
    ) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Where the places read and the axis overlap, counted from either's beginning."""
        outer, inner = [], []
        for n, low, span in zip(spatial, self.low, self._span(counts), strict=True):
            first, last = max(0, -low), min(n, span - low)
            inner.append(slice(first, max(first, last)))
            outer.append(slice(first + low, max(first, last) + low))
        return tuple(outer), tuple(inner)


def _within(s: Any, i: Any, n: int) -> Any:
    return s.bit_and(s.less_equal(s.const(0, i), i), s.less(i, s.const(n, i)))


def _reach(size: int, dilation: int) -> str:
    return str(size) if dilation == 1 else f"{(size - 1) * dilation + 1} ({size} dilated)"


def _room(size: int, low: int, high: int) -> str:
    return f"an axis of {size}" + (f" padded by {low} + {high}" if low or high else "")
