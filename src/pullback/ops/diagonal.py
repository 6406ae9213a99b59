"""Linear ops on the diagonals and triangles of the last two axes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback.errors import ShapeError
from pullback.ir.array import Array
from pullback.ir.op import Sample
from pullback.ir.range import Range
from pullback.ir.samples import integers, normal
from pullback.ir.strided import Strided
from pullback.ir.types import TensorType
from pullback.ops.layout import Layout


class LastAxes(Layout):
    """Acts on trailing axes alone, so a batch is one more leading axis."""

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        return self.outputs(*inputs), (True,)


@dataclass(frozen=True)
class Diagonal(LastAxes):
    """yᵢ = xᵢ,ᵢ₊ₖ over the last two axes, k = `offset`."""

    name = "diagonal"
    offset: int

    def infer(self, x: TensorType) -> TensorType:
        _require_matrix(x)
        rows, columns = x.shape[-2:]
        return x.reshaped((*x.shape[:-2], _length(rows, columns, self.offset)))

    def reference(self, x: Any) -> Any:
        return np.diagonal(x, self.offset, -2, -1)

    def view(self, x: Strided) -> Strided | None:
        *lead, rows, columns = x.shape
        *steps, down, right = x.strides
        first = x.offset + max(-self.offset, 0) * down + max(self.offset, 0) * right
        length = _length(rows, columns, self.offset)
        return Strided((*lead, length), (*steps, down + right), first)

    def transpose(self, bar: Array, x: Array) -> Array:
        return DiagonalMatrix(self.offset, *x.shape[-2:])(bar)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(0), normal(3, 3))
        yield Sample(cls(1), normal(2, 3, 4))
        yield Sample(cls(-1), normal(3, 4))
        yield Sample(cls(7), normal(3, 4))
        yield Sample(cls(0), integers(3, 2))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls(0), normal(3))


@dataclass(frozen=True)
class DiagonalMatrix(LastAxes):
    """A matrix of `rows` × `columns` with the operand on diagonal `offset` and zeros elsewhere."""

    name = "diagonal_matrix"
    offset: int
    rows: int
    columns: int

    def infer(self, x: TensorType) -> TensorType:
        length = _length(self.rows, self.columns, self.offset)
        if not x.ndim or x.shape[-1] != length:
            raise ShapeError(
                f"diagonal {self.offset} of a {self.rows} × {self.columns} matrix has {length} "
                f"elements, given {x}"
            )
        return x.reshaped((*x.shape[:-1], self.rows, self.columns))

    def reach(self, *operands: Range) -> Range:
        return operands[0].joined(Range(0.0, 0.0))

    def reference(self, x: Any) -> Any:
        result = np.zeros((*x.shape[:-1], self.rows, self.columns), x.dtype)
        i = np.arange(x.shape[-1])
        result[..., i - min(self.offset, 0), i + max(self.offset, 0)] = x
        return result

    def element(self, s: Any, at: Sequence[Any], read: Any) -> Any:
        *lead, row, column = at
        on = s.equal(s.add(row, s.const(self.offset, row)), column)
        return read(0, (*lead, row if self.offset >= 0 else column), when=on)

    def transpose(self, bar: Array, x: Array) -> Array:
        return Diagonal(self.offset)(bar)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(0, 3, 3), normal(3))
        yield Sample(cls(1, 3, 4), normal(2, 3))
        yield Sample(cls(-2, 4, 3), normal(2))
        yield Sample(cls(5, 3, 3), normal(0))
        yield Sample(cls(0, 2, 2), integers(2))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls(0, 3, 3), normal(2))
        yield Sample(cls(0, 1, 1), normal())


@dataclass(frozen=True)
class Triangle(LastAxes):
    """The lower (or upper) triangle up to diagonal `offset`, zeros elsewhere; its own transpose."""

    name = "triangle"
    lower: bool
    offset: int = 0

    def infer(self, x: TensorType) -> TensorType:
        _require_matrix(x)
        return x

    def reach(self, *operands: Range) -> Range:
        return operands[0].joined(Range(0.0, 0.0))

    def reference(self, x: Any) -> Any:
        return np.tril(x, self.offset) if self.lower else np.triu(x, self.offset)

    def element(self, s: Any, at: Sequence[Any], read: Any) -> Any:
        diagonal = s.add(at[-2], s.const(self.offset, at[-2]))
        pair = (at[-1], diagonal) if self.lower else (diagonal, at[-1])
        return read(0, at, when=s.less_equal(*pair))

    def transpose(self, bar: Array, x: Array) -> Array:
        return self(bar)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(lower=True), normal(3, 3))
        yield Sample(cls(lower=False, offset=1), normal(2, 3, 4))
        yield Sample(cls(lower=True, offset=-1), integers(3, 2))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls(lower=True), normal(3))


def _length(rows: int, columns: int, offset: int) -> int:
    return max(0, min(rows + min(offset, 0), columns - max(offset, 0)))


def _require_matrix(x: TensorType) -> None:
    if x.ndim < 2:
        raise ShapeError(f"a matrix has two axes, {x} has {x.ndim}")
