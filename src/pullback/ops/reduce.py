"""Reductions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback.errors import DTypeError, ShapeError
from pullback.ir.array import Array
from pullback.ir.families import Linear
from pullback.ir.op import Sample
from pullback.ir.samples import integers, normal, truths
from pullback.ir.types import Axes, TensorType, bfloat16, bool_, float16, float32
from pullback.ops.layout import Broadcast


def check_axes(axes: Axes, x: TensorType) -> None:
    """Raise `ShapeError` unless `axes` are sorted, distinct axes of `x`."""
    if any(not 0 <= a < x.ndim for a in axes) or list(axes) != sorted(set(axes)):
        raise ShapeError(f"{axes} are not axes of {x}")


def wide(x: Any) -> Any:
    """Half-precision numbers as float32, in which they are accumulated; others as they are."""
    return x.astype(float32) if x.dtype in (float16, bfloat16) else x


@dataclass(frozen=True)
class Sum(Linear):
    """Sum over `axes`."""

    name = "sum"
    axes: Axes

    def infer(self, x: TensorType) -> TensorType:
        check_axes(self.axes, x)
        if x.dtype == bool_:
            raise DTypeError("sum does not take bool", hint="cast the operand with .astype(...)")
        return x.without(self.axes)

    def reference(self, x: Any) -> Any:
        return np.sum(wide(x), axis=self.axes).astype(x.dtype)

    def transpose(self, bar: Array, x: Array) -> Array:
        return Broadcast(x.shape, self.axes)(bar)

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        return Sum(tuple(a + 1 for a in self.axes)).outputs(*inputs), (True,)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return max(inputs[0].size - outputs[0].size, 0)

    def formula(self, *operands: str) -> str:
        return f"Σ{operands[0]}"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls((0,)), normal(3, 4))
        yield Sample(cls((0, 2)), normal(2, 3, 4))
        yield Sample(cls(()), normal(3))
        yield Sample(cls((1,)), normal(2, 0))
        yield Sample(cls((0,)), integers(3, 2))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls((2,)), normal(3, 4))
        yield Sample(cls((0,)), truths(3))
