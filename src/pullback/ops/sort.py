"""Order: sorting, and the largest elements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pullback.errors import ShapeError
from pullback.ir.array import Array
from pullback.ir.op import Maybe, Op, Sample
from pullback.ir.samples import distinct, integers, normal, truths
from pullback.ir.types import TensorType, bool_, int64, is_float
from pullback.ops.index import put_along, take_along
from pullback.ops.reduce import check_axis, wide

# ---- sorting --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Selection(Op):
    """Elements that the op chooses along `axis`, and the indices they came from."""

    axis: int

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType]:
        check_axis(self.axis, x)
        return x, x.of(int64)

    def pullback(
        self, bar: tuple[Maybe, Maybe], out: tuple[Array, Array], x: Array
    ) -> tuple[Maybe]:
        if bar[0] is None:
            return (None,)
        return (put_along(bar[0], out[1], self.axis, x.shape[self.axis]),)

    def pushforward(
        self, dots: tuple[Array], out: tuple[Array, Array], x: Array
    ) -> tuple[Maybe, Maybe]:
        return take_along(dots[0], out[1], self.axis), None

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        wider = replace(self, axis=self.axis + 1)
        return wider.outputs(*inputs), (True, True)


@dataclass(frozen=True)
class Sort(Selection):
    """Elements along `axis` in ascending or descending order, and the indices they came from.

    Stable: equal elements keep their order. NaN stands last in both directions.
    """

    name = "sort"
    descending: bool

    def reference(self, x: Any) -> Any:
        order = np.argsort(_key(x, self.descending), axis=self.axis, kind="stable")
        return np.take_along_axis(x, order, self.axis), order

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        ties = np.array([[1.0, 3, 3, 1], [np.nan, 2, np.inf, 2]])
        for descending in (False, True):
            yield Sample(cls(0, descending), distinct(4, 3))
            yield Sample(cls(1, descending), distinct(2, 4, 2))
            yield Sample(cls(1, descending), ties, smooth=False)
            yield Sample(cls(0, descending), integers(6))
            yield Sample(cls(0, descending), truths(6))
            yield Sample(cls(0, descending), normal(0, 2))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls(2, False), normal(3, 4))
        yield Sample(cls(0, False), normal())


@dataclass(frozen=True)
class TopK(Selection):
    """The `k` largest elements along `axis`, descending, and their indices; NaN counts as least."""

    name = "top_k"
    k: int

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType]:
        check_axis(self.axis, x)
        if not 0 <= self.k <= x.shape[self.axis]:
            raise ShapeError(f"no {self.k} elements along axis {self.axis} of {x}")
        kept = x.reshaped(tuple(self.k if i == self.axis else n for i, n in enumerate(x.shape)))
        return kept, kept.of(int64)

    def reference(self, x: Any) -> Any:
        order = np.argsort(_key(x, descending=True), axis=self.axis, kind="stable")
        first = np.take(order, range(self.k), axis=self.axis)
        return np.take_along_axis(x, first, self.axis), first

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(0, 2), distinct(4, 3))
        yield Sample(cls(1, 3), distinct(2, 4, 2))
        yield Sample(cls(0, 0), distinct(3))
        yield Sample(cls(0, 2), np.array([1.0, np.nan, 3.0, 3.0]), smooth=False)
        yield Sample(cls(0, 3), integers(6))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls(0, 4), normal(3))
        yield Sample(cls(0, -1), normal(3))
        yield Sample(cls(1, 1), normal(3))


def _key(x: Any, descending: bool) -> Any:
    """Numbers whose stable ascending order is the order wanted, NaN last."""
    if not descending:
        return wide(x)
    if is_float(x.dtype):
        return -wide(x)
    return ~x if x.dtype != bool_ else np.logical_not(x)
