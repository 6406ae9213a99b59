"""An array taken apart along its first axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pullback.errors import ShapeError
from pullback.ir.array import Array
from pullback.ir.op import Maybe, Op, Sample
from pullback.ir.samples import integers, normal
from pullback.ir.strided import Strided
from pullback.ir.types import TensorType
from pullback.ops.layout import Concat
from pullback.ops.operators import reshape, transpose, zeros


@dataclass(frozen=True)
class Rows(Op):
    """The `count` rows along axis 0, an output each: a loop that takes them costs one pass back."""

    name = "rows"
    count: int

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:
        if x.shape[:1] != (self.count,):
            raise ShapeError(f"{x} has not {self.count} rows")
        return (x.reshaped(x.shape[1:]),) * self.count

    def reference(self, x: Any) -> Any:
        return tuple(x)

    def views(self, x: Strided) -> tuple[Strided, ...]:
        """Where the rows lie."""
        shape, (step, *strides) = x.shape[1:], x.strides
        return tuple(Strided(shape, tuple(strides), x.offset + i * step) for i in range(self.count))

    def cotangents(
        self,
        bars: tuple[Maybe, ...],
        outs: tuple[Array, ...],
        inputs: tuple[Array, ...],
        wanted: Sequence[bool],
    ) -> tuple[Maybe, ...]:
        full = [zeros(y.type) if bar is None else bar for bar, y in zip(bars, outs, strict=True)]
        return (stacked(full),)

    def tangents(
        self, dots: tuple[Maybe, ...], outs: tuple[Array, ...], inputs: tuple[Array, ...]
    ) -> tuple[Maybe, ...]:
        (dot,) = dots
        return (None,) * self.count if dot is None else self.outputs(dot)

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        (x,) = inputs
        return self.outputs(transpose(x, (1, 0, *range(2, x.ndim)))), (True,) * self.count

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(3), normal(3, 2))
        yield Sample(cls(2), normal(2))
        yield Sample(cls(2), integers(2, 1))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls(3), normal(2))
        yield Sample(cls(1), normal())


def stacked(rows: Sequence[Array]) -> Array:
    """The array of these rows, the inverse of `Rows`."""
    return Concat(0)(*[reshape(x, (1, *x.shape)) for x in rows])
