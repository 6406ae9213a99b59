"""Searching in sorted numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback.errors import DTypeError, ShapeError
from pullback.ir.array import Array
from pullback.ir.op import Op, Sample
from pullback.ir.samples import integers, normal
from pullback.ir.types import TensorType, int64
from pullback.ops.index import repeat
from pullback.ops.reduce import wide


@dataclass(frozen=True)
class SearchSorted(Op):
    """Where `values` would be inserted into the ascending last axis of `x`, to keep it ascending.

    Both share `batch_rank` leading axes. Before equal elements, or after them if `right`.
    """

    name = "searchsorted"
    differentiable = False
    right: bool
    batch_rank: int = 0

    def infer(self, x: TensorType, values: TensorType) -> TensorType:
        shared = x.shape[: self.batch_rank]
        if x.dtype != values.dtype:
            raise DTypeError(f"element types differ: {x.dtype} and {values.dtype}")
        if x.ndim != self.batch_rank + 1 or values.shape[: self.batch_rank] != shared:
            raise ShapeError(f"{values} cannot be searched in {x}", hint="x has one axis")
        return values.of(int64)

    def reference(self, x: Any, values: Any) -> Any:
        result = np.zeros(values.shape, np.int64)
        for i in np.ndindex(x.shape[:-1]):
            result[i] = np.searchsorted(
                wide(x[i]), wide(values[i]), side="right" if self.right else "left"
            )
        return result

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        deeper = SearchSorted(self.right, self.batch_rank + 1)
        return deeper.outputs(*repeat(inputs, batched, size)), (True,)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return outputs[0].size * max(inputs[0].shape[-1], 1).bit_length()

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        ladder = np.array([-1.0, 0.0, 0.0, 2.0])
        yield Sample(cls(False), ladder, np.array([[-2.0, 0.0], [3.0, 2.0]]))
        yield Sample(cls(True), ladder, np.array(0.0))
        yield Sample(cls(True, 1), np.sort(normal(2, 4)), normal(2, 3))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls(True), normal(2, 3), normal(3))
        yield Sample(cls(True), normal(3), integers(3))
