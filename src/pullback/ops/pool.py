"""Pooling over windows of the last axes."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback.errors import DTypeError, ShapeError
from pullback.ir.array import Array
from pullback.ir.families import Linear
from pullback.ir.op import Maybe, Op, Sample
from pullback.ir.range import Range
from pullback.ir.samples import distinct, integers, normal, truths
from pullback.ir.types import Axes, TensorType, bool_, int32, is_integer
from pullback.ops.operators import repeated
from pullback.ops.reduce import accumulated, wide
from pullback.ops.windows import Windows


@dataclass(frozen=True)
class Pooling(Op):
    """An op on the last axes, one for each axis of `windows`: a batch is one more leading axis."""

    windows: Windows

    def _pooled(self, x: TensorType) -> TensorType:
        rank = self.windows.rank
        if x.dtype == bool_:
            raise DTypeError(f"{self.name} does not take bool", hint="cast with .astype(...)")
        if x.ndim < rank:
            raise ShapeError(f"windows of {rank} axes for {x}")
        lead = x.ndim - rank
        return x.reshaped((*x.shape[:lead], *self.windows.counts(x.shape[lead:])))

    def _require_pooled(self, bar: TensorType, x: TensorType) -> None:
        expected = self._pooled(x)
        if bar != expected:
            raise ShapeError(f"the windows of {x} give {expected}, not {bar}")

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        return self.outputs(*inputs), (True,)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return self.windows.taps * min(x.size for x in (*inputs, *outputs))

    def _taps(self, s: Any, window: Sequence[Any], read: Any, operand: int) -> Iterator[Any]:
        """What each tap of a window of an operand reads, and whether that lies inside."""
        kind = read.types[operand]
        lead = kind.ndim - self.windows.rank
        for tap in np.ndindex(*self.windows.size):
            place, inside = self.windows.read(s, window[lead:], tap, kind.shape[lead:])
            yield read(operand, (*window[:lead], *place), when=inside), inside


# ---- sum ------------------------------------------------------------------------------------


class WindowSum(Pooling, Linear):
    """The sum over each window; places outside count 0."""

    name = "window_sum"

    def infer(self, x: TensorType) -> TensorType:
        return self._pooled(x)

    def reference(self, x: Any) -> Any:
        return sum(self.windows.reads(wide(x))).astype(x.dtype)

    def element(self, s: Any, at: Sequence[Any], read: Any) -> Any:
        dtype = read.types[0].dtype
        total = s.literal(0, accumulated(dtype))
        for x, _ in self._taps(s, at, read, 0):
            total = s.add(total, s.cast(x, accumulated(dtype)))
        return s.cast(total, dtype)

    def transpose(self, bar: Array, x: Array) -> Array:
        return WindowSpread(self.windows, x.shape[x.ndim - self.windows.rank :])(bar)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for windows, shape in _cases():
            yield Sample(cls(windows), normal(*shape))
        yield Sample(cls(Windows((2,), (1,), (0,), (0,), (1,))), integers(2, 3))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        line = Windows((2,), (1,), (0,), (0,), (1,))
        yield Sample(cls(line), normal())
        yield Sample(cls(line), normal(3, 1))
        yield Sample(cls(line), truths(3))


@dataclass(frozen=True)
class WindowSpread(Pooling, Linear):
    """Each window's number added to all its places: the transpose of `WindowSum`."""

    name = "window_spread"
    spatial: Axes

    def infer(self, bar: TensorType) -> TensorType:
        result = bar.reshaped((*bar.shape[: bar.ndim - self.windows.rank], *self.spatial))
        self._require_pooled(bar, result)
        return result

    def reference(self, bar: Any) -> Any:
        rank = self.windows.rank
        apart = wide(bar).reshape(*bar.shape[:-rank], *(1,) * rank, *bar.shape[-rank:])
        shape = (*bar.shape[:-rank], *self.windows.size, *bar.shape[-rank:])
        patches = np.broadcast_to(apart, shape)
        return self.windows.unpatch(patches, self.spatial).astype(bar.dtype)

    def element(self, s: Any, at: Sequence[Any], read: Any) -> Any:
        (bar,) = read.types
        lead = bar.ndim - self.windows.rank
        total = s.literal(0, accumulated(bar.dtype))
        for window, _, reads in self.windows.covering(s, at[lead:], bar.shape[lead:]):
            x = read(0, (*at[:lead], *window), when=reads)
            total = s.add(total, s.cast(x, accumulated(bar.dtype)))
        return s.cast(total, bar.dtype)

    def transpose(self, bar: Array, x: Array) -> Array:
        return WindowSum(self.windows)(bar)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for windows, shape in _cases():
            spatial = shape[-windows.rank :]
            yield Sample(
                cls(windows, spatial), normal(*shape[: -windows.rank], *windows.counts(spatial))
            )

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        line = Windows((2,), (1,), (0,), (0,), (1,))
        yield Sample(cls(line, (3,)), normal(3))
        yield Sample(cls(line, (3,)), normal())


# ---- maximum --------------------------------------------------------------------------------


class MaxPool(Pooling):
    """The maximum of each window; places outside never win.

    Of equal maxima the first in the window's row-major order takes the whole gradient, as in torch.
    """

    name = "max_pool"

    def infer(self, x: TensorType) -> TensorType:
        return self._pooled(x)

    def reference(self, x: Any) -> Any:
        return functools.reduce(np.maximum, self.windows.reads(x, _lowest(x)))

    def element(self, s: Any, at: Sequence[Any], read: Any) -> Any:
        taps = self._taps(s, at, read, 0)
        lowest = s.literal(_lowest(read.types[0]), read.types[0].dtype)
        return functools.reduce(s.maximum, [s.select(inside, x, lowest) for x, inside in taps])

    def reach(self, *operands: Range) -> Range:
        return operands[0]

    def pullback(self, bar: Array, out: Array, x: Array) -> tuple[Maybe, ...]:
        return (MaxPoolRoute(self.windows)(bar, x),)

    def pushforward(self, dots: tuple[Maybe, ...], out: Array, x: Array) -> Maybe:
        return None if dots[0] is None else MaxPoolPick(self.windows)(dots[0], x)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for windows, shape in _cases():
            yield Sample(cls(windows), distinct(*shape))
        line = Windows((2,), (1,), (1,), (0,), (1,))
        yield Sample(cls(line), np.array([1.0, 1.0, 0.0, 0.0]), smooth=False)
        yield Sample(cls(line), integers(2, 3))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        line = Windows((2,), (1,), (0,), (0,), (1,))
        yield Sample(cls(line), normal(1))
        yield Sample(cls(line), truths(3))


class Winners(Pooling, Linear):
    """Linear in its first operand; the maxima of the second decide which places count."""

    def _winners(self, x: Any) -> Any:
        """(…, 1, *counts): the tap of the first maximum of each window of `x`."""
        patches = self.windows.patches(wide(x), _lowest(wide(x)))
        axis = x.ndim - self.windows.rank
        return np.expand_dims(self._by_tap(patches).argmax(axis=axis), axis)

    def _by_tap(self, patches: Any) -> Any:
        """The taps of a window as one axis."""
        rank = self.windows.rank
        return patches.reshape(
            *patches.shape[: -2 * rank], self.windows.taps, *patches.shape[-rank:]
        )

    def _beats(self, s: Any, window: Sequence[Any], read: Any) -> Iterator[Any]:
        """For each tap of a window of the second operand whether it beats all before it."""
        kind = read.types[1]
        lowest = s.literal(_lowest(kind), kind.dtype)
        best = None
        for x, inside in self._taps(s, window, read, 1):
            candidate = s.select(inside, x, lowest)
            if best is None:
                best = candidate
                yield s.literal(True, bool_)
            else:
                # The first NaN is the maximum, and nothing beats it.
                beats = s.bit_not(s.less_equal(candidate, best))
                beats = s.bit_and(beats, s.equal(best, best))
                best = s.select(beats, candidate, best)
                yield beats

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        from_one = [x if b else repeated(x, size) for x, b in zip(inputs, batched, strict=True)]
        return self.outputs(*from_one), (True,)


class MaxPoolPick(Winners):
    """The element of the first operand where the second has the window's first maximum."""

    name = "max_pool_pick"

    def infer(self, values: TensorType, x: TensorType) -> TensorType:
        if values != x:
            raise ShapeError(f"{values} and {x} differ")
        return self._pooled(x)

    def reference(self, values: Any, x: Any) -> Any:
        axis = x.ndim - self.windows.rank
        taps = self._by_tap(self.windows.patches(values))
        return np.take_along_axis(taps, self._winners(x), axis).squeeze(axis)

    def element(self, s: Any, at: Sequence[Any], read: Any) -> Any:
        picked = None
        values = self._taps(s, at, read, 0)
        for (x, _), beats in zip(values, self._beats(s, at, read), strict=True):
            picked = x if picked is None else s.select(beats, x, picked)
        return picked

    def transpose(self, bar: Array, values: Array, x: Array) -> Array:
        return MaxPoolRoute(self.windows)(bar, x)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for windows, shape in _cases():
            yield Sample(cls(windows), normal(*shape), distinct(*shape))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls(Windows((2,), (1,), (0,), (0,), (1,))), normal(3), normal(4))


class MaxPoolRoute(Winners):
    """Each window's number put where the second operand has its first maximum."""

    name = "max_pool_route"

    def infer(self, bar: TensorType, x: TensorType) -> TensorType:
        self._require_pooled(bar, x)
        return x

    def reference(self, bar: Any, x: Any) -> Any:
        rank = self.windows.rank
        axis = x.ndim - rank
        winners = self._winners(x)
        shape = (*bar.shape[:axis], self.windows.taps, *bar.shape[axis:])
        taps = np.zeros(shape, wide(bar).dtype)
        np.put_along_axis(taps, winners, np.expand_dims(bar, axis), axis)
        patches = taps.reshape(*bar.shape[:axis], *self.windows.size, *bar.shape[axis:])
        return self.windows.unpatch(patches, x.shape[axis:]).astype(bar.dtype)

    def element(self, s: Any, at: Sequence[Any], read: Any) -> Any:
        bar = read.types[0]
        lead = bar.ndim - self.windows.rank
        wide_dtype = accumulated(bar.dtype)
        total = s.literal(0, wide_dtype)
        for window, tap, reads in self.windows.covering(s, at[lead:], bar.shape[lead:]):
            q = (*at[:lead], *window)
            winner = s.literal(0, int32)
            for i, beats in enumerate(self._beats(s, q, read)):
                winner = s.select(beats, s.const(i, winner), winner)
            mine = s.bit_and(reads, s.equal(winner, tap))
            total = s.add(total, s.cast(read(0, q, when=mine), wide_dtype))
        return s.cast(total, bar.dtype)

    def transpose(self, bar: Array, values: Array, x: Array) -> Array:
        return MaxPoolPick(self.windows)(bar, x)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for windows, shape in _cases():
            counts = windows.counts(shape[-windows.rank :])
            yield Sample(cls(windows), normal(*shape[: -windows.rank], *counts), distinct(*shape))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls(Windows((2,), (1,), (0,), (0,), (1,))), normal(4), normal(4))


def _lowest(x: Any) -> Any:
    return np.iinfo(x.dtype).min if is_integer(x.dtype) else -np.inf


def _cases() -> Iterator[tuple[Windows, tuple[int, ...]]]:
    yield Windows((2,), (2,), (0,), (0,), (1,)), (6,)
    yield Windows((3,), (1,), (1,), (1,), (1,)), (2, 5)
    yield Windows((2, 3), (2, 1), (1, 0), (0, 1), (1, 1)), (2, 5, 4)
    yield Windows((2, 2), (1, 2), (0, 0), (0, 0), (2, 1)), (5, 4)
    yield Windows((1, 2, 2), (1, 1, 2), (0, 0, 0), (0, 0, 0), (1, 1, 1)), (2, 1, 2, 3, 4)
