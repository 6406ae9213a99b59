"""Ops that make numbers from nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback.errors import DTypeError, ShapeError
from pullback.ir.op import Op, Sample
from pullback.ir.range import Range
from pullback.ir.types import DType, TensorType, bfloat16, bool_, float64, int64


@dataclass(frozen=True)
class Iota(Op):
    """0, 1, …, size - 1."""

    name = "iota"
    size: int
    dtype: DType

    def infer(self) -> TensorType:
        if self.size < 0:
            raise ShapeError(f"a size is not negative: {self.size}")
        if self.dtype == bool_:
            raise DTypeError("iota does not make bool")
        return TensorType((self.size,), self.dtype)

    def reference(self) -> Any:
        return np.arange(self.size).astype(self.dtype)

    def element(self, s: Any, at: Sequence[Any], read: Any) -> Any:
        return s.cast(at[0], self.dtype)

    def reach(self, *operands: Range) -> Range:
        return Range(0.0, float(max(self.size - 1, 0)))

    def formula(self, *operands: str) -> str:
        return f"0…{self.size - 1}"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(5, int64))
        yield Sample(cls(3, float64))
        yield Sample(cls(4, bfloat16))
        yield Sample(cls(0, int64))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls(-1, int64))
        yield Sample(cls(3, bool_))
