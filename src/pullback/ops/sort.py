"""Order: sorting, the largest elements, and the two ops that move elements to sorted places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pullback.errors import DTypeError, OutOfRangeError, ShapeError
from pullback.ir import families
from pullback.ir.array import Array
from pullback.ir.families import Linear
from pullback.ir.op import Maybe, Op, Sample
from pullback.ir.samples import distinct, integers, normal, truths
from pullback.ir.types import TensorType, bool_, int64, is_float, is_integer
from pullback.ops.reduce import check_axis, check_numeric, wide

# ---- one place along an axis ----------------------------------------------------------------


@dataclass(frozen=True)
class Along(Linear):
    """A linear op on numbers and, along one axis, an index for each position of the others."""

    axis: int

    def check(self, numbers: TensorType, indices: TensorType) -> None:
        if not is_integer(indices.dtype):
            raise DTypeError(f"indices are integers, not {indices.dtype}")
        if numbers.ndim != indices.ndim:
            raise ShapeError(f"indices {indices} have another rank than {numbers}")
        check_axis(self.axis, numbers)
        if numbers.without((self.axis,)).shape != indices.without((self.axis,)).shape:
            raise ShapeError(f"{indices} and {numbers} differ on other axes than axis {self.axis}")

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        every = [
            x if flag else families.broadcast(x, (size, *x.shape))
            for x, flag in zip(inputs, batched, strict=True)
        ]
        return replace(self, axis=self.axis + 1).outputs(*every), (True,)


class TakeAlong(Along):
    """out[…, k, …] = x[…, indices[…, k, …], …] along `axis`."""

    name = "take_along"

    def infer(self, x: TensorType, indices: TensorType) -> TensorType:
        self.check(x, indices)
        return x.reshaped(indices.shape)

    def reference(self, x: Any, indices: Any) -> Any:
        check_range(indices, x.shape[self.axis], self.axis)
        return np.take_along_axis(x, indices.astype(np.int64), self.axis)

    def element(self, s: Any, at: Sequence[Any], read: Any) -> Any:
        size = read.types[0].shape[self.axis]
        place = read.inside(read(1, at), self.axis, size)
        return read(0, (*at[: self.axis], place, *at[self.axis + 1 :]))

    def transpose(self, bar: Array, x: Array, indices: Array) -> Array:
        return PutAlong(self.axis, x.shape[self.axis])(bar, indices)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(0), normal(3, 4), integers(2, 4, low=0, high=3))
        yield Sample(cls(1), normal(2, 3, 2), integers(2, 5, 2, low=0, high=3))
        yield Sample(cls(0), integers(3), integers(4, low=0, high=3))
        yield Sample(cls(0), normal(3), integers(0))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls(0), normal(3, 4), integers(2, 3, low=0, high=3))
        yield Sample(cls(0), normal(3), normal(3))
        yield Sample(cls(0), normal(3, 4), integers(3))


@dataclass(frozen=True)
class PutAlong(Along):
    """Zeros of `size` along `axis`; x[…, k, …] is added at indices[…, k, …], in row-major order."""

    name = "put_along"
    size: int

    def infer(self, x: TensorType, indices: TensorType) -> TensorType:
        self.check(x, indices)
        check_numeric(self.name, x)
        if x.shape != indices.shape:
            raise ShapeError(f"{indices} are no indices for {x}: the shapes differ")
        shape = tuple(self.size if i == self.axis else n for i, n in enumerate(x.shape))
        return x.reshaped(shape)

    def reference(self, x: Any, indices: Any) -> Any:
        check_range(indices, self.size, self.axis)
        kind = TensorType(x.shape, x.dtype)
        out = np.zeros(self.infer(kind, kind.of(int64)).shape, wide(x).dtype)
        places = list(np.indices(x.shape, sparse=True))
        places[self.axis] = indices
        np.add.at(out, tuple(places), wide(x))
        return out.astype(x.dtype)

    def transpose(self, bar: Array, x: Array, indices: Array) -> Array:
        return TakeAlong(self.axis)(bar, indices)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return inputs[0].size

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(0, 3), normal(4, 2), integers(4, 2, low=0, high=3))
        yield Sample(cls(1, 5), normal(2, 3, 2), integers(2, 3, 2, low=0, high=5))
        yield Sample(cls(0, 3), integers(4), integers(4, low=0, high=3))
        yield Sample(cls(0, 3), normal(0), integers(0))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls(0, 3), normal(3), integers(4, low=0, high=3))
        yield Sample(cls(1, 3), normal(3), integers(3, low=0, high=3))
        yield Sample(cls(0, 3), truths(3), integers(3, low=0, high=3))


def check_range(indices: Any, size: int, axis: int) -> None:
    """Raise `OutOfRangeError` unless all `indices` lie in 0 … size - 1."""
    wrong = (indices < 0) | (indices >= size)
    if wrong.any():
        place = tuple(map(int, np.argwhere(wrong)[0]))
        raise OutOfRangeError(
            f"index {indices[place]} at {place} lies outside axis {axis}, which has {size} elements"
        )


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
        return (PutAlong(self.axis, x.shape[self.axis])(bar[0], out[1]),)

    def pushforward(
        self, dots: tuple[Array], out: tuple[Array, Array], x: Array
    ) -> tuple[Maybe, Maybe]:
        return TakeAlong(self.axis)(dots[0], out[1]), None

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
