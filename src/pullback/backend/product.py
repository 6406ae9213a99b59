"""Products of matrices as loops over strided arrays: a contraction before it is code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pullback.ir.types import DType, Shape
from pullback.ops.contract import Contract


@dataclass(frozen=True)
class Axis:
    """One axis of a product, and the step along it in A, B and C (0 where it is absent).

    Steps are counted in elements. `letters` are the letters of the contraction that it walks
    through, the slowest first. `others` are the steps in what an epilogue reads and writes.
    """

    size: int = 1
    a: int = 0
    b: int = 0
    c: int = 0
    letters: str = ""
    others: tuple[int, ...] = ()

    @property
    def steps(self) -> tuple[int, ...]:
        return self.a, self.b, self.c, *self.others

    def holds(self, inner: Axis) -> bool:
        """Whether one axis can walk through this one and `inner` inside it."""
        return self.steps == tuple(inner.size * step for step in inner.steps)

    def around(self, inner: Axis) -> Axis:
        letters = self.letters + inner.letters
        return replace(inner, size=self.size * inner.size, letters=letters)

    def flipped(self) -> Axis:
        return replace(self, a=self.b, b=self.a)


@dataclass(frozen=True)
class Product:
    """C[batch, row, column] = Σ A[batch, row, inner] · B[batch, inner, column].

    The sum runs through `inner` in its order (the last axis fastest), starts at 0 and adds one
    product after another, each rounded once; half precision is summed in float32 and rounded at
    the end. A product of one row and one column is a dot product and has its own fixed order.
    """

    dtype: DType
    batch: tuple[Axis, ...] = ()
    row: Axis = Axis()
    column: Axis = Axis()
    inner: tuple[Axis, ...] = (Axis(),)
    sums: bool = True
    """False for a product that sums nothing: K = 1, and −0 stays −0."""
    swapped: bool = False
    """A is the right operand, B the left one: vectors run along the rows of the contraction."""
    origin: tuple[int, int, int] = (0, 0, 0)
    """The element of A, B and C from which the steps count."""

    @property
    def depth(self) -> int:
        """K."""
        return math.prod(axis.size for axis in self.inner)

    @property
    def batches(self) -> int:
        return math.prod(axis.size for axis in self.batch)

    @property
    def flops(self) -> int:
        return 2 * self.batches * self.row.size * self.column.size * self.depth

    def flipped(self) -> Product:
        """The transposed product Cᵀ = Bᵀ Aᵀ."""
        return Product(
            self.dtype,
            tuple(axis.flipped() for axis in self.batch),
            self.column.flipped(),
            self.row.flipped(),
            tuple(axis.flipped() for axis in self.inner),
            self.sums,
            not self.swapped,
            (self.origin[1], self.origin[0], self.origin[2]),
        )


def row_major(shape: Shape) -> tuple[int, ...]:
    """The step along each axis of a dense array, in elements."""
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def product_of(
    op: Contract,
    dtype: DType,
    shapes: tuple[Shape, Shape],
    steps: tuple[Sequence[int], Sequence[int], Sequence[int]] | None = None,
    others: Sequence[Sequence[int]] = (),
) -> Product:
    """The loops of a contraction of two arrays, dense ones unless `steps` says otherwise.

    `others` are the steps along the result's axes in what an epilogue reads and writes. Axes that
    cannot be walked through as one become further batch axes, or further inner ones.
    """
    sizes = dict(zip(op.left + op.right, (*shapes[0], *shapes[1]), strict=True))
    if steps is None:
        result = tuple(sizes[c] for c in op.result)
        steps = (row_major(shapes[0]), row_major(shapes[1]), row_major(result))
    a, b, c = (
        dict(zip(letters, each, strict=True))
        for letters, each in zip((op.left, op.right, op.result), steps, strict=True)
    )
    beside = [dict(zip(op.result, each, strict=True)) for each in others]

    def axis(x: str) -> Axis:
        steps = tuple(each.get(x, 0) for each in beside)
        return Axis(sizes[x], a.get(x, 0), b.get(x, 0), c.get(x, 0), x, steps)

    def group(letters: Sequence[str]) -> list[Axis]:
        return [axis(x) for x in letters]

    shared = [x for x in op.left if x in op.right]
    summed = group([x for x in shared if x not in op.result])
    return arranged(
        dtype,
        group([x for x in shared if x in op.result]),
        group([x for x in op.left if x not in op.right]),
        group([x for x in op.right if x not in op.left]),
        summed,
        sums=set(shared) - set(op.result) != set(),
    )


def arranged(
    dtype: DType,
    batch: Sequence[Axis],
    rows: Sequence[Axis],
    columns: Sequence[Axis],
    inner: Sequence[Axis],
    sums: bool = True,
    origin: tuple[int, int, int] = (0, 0, 0),
) -> Product:
    """A product from all its axes: joined where one step walks through several."""
    rows, columns = (
        _joined(_outermost_first([axis for axis in axes if axis.size != 1]))
        for axes in (rows, columns)
    )
    row, column = _chosen(rows), _chosen(columns)
    others = [axis for axis in (*batch, *rows, *columns) if axis not in (row, column)]
    product = Product(
        dtype,
        tuple(_joined(_outermost_first([axis for axis in others if axis.size != 1]))),
        row,
        column,
        tuple(_joined([axis for axis in inner if axis.size != 1])) or (Axis(),),
        sums,
        origin=origin,
    )
    return product.flipped() if _runs_along_rows(product) else product


def _outermost_first(axes: Sequence[Axis]) -> list[Axis]:
    return sorted(axes, key=lambda axis: -axis.c)


def _joined(axes: Sequence[Axis]) -> list[Axis]:
    """The same walk in as few axes as possible."""
    joined: list[Axis] = []
    for axis in axes:
        if joined and joined[-1].holds(axis):
            axis = joined.pop().around(axis)
        joined.append(axis)
    return joined


def _chosen(axes: Sequence[Axis]) -> Axis:
    """The axis that the tiles cover: dense in C where it can be, and the longest."""
    return max(
        axes,
        key=lambda axis: (axis.c == 1 and axis.size >= 8, axis.size, axis.c == 1),
        default=Axis(),
    )


def _runs_along_rows(product: Product) -> bool:
    """Whether vectors should run along the rows: C is dense there, or there are few columns."""
    row, column = product.row, product.column
    if column.size <= 4 and row.size >= 16:
        return True
    return row.c == 1 and column.c != 1 and not (row.size <= 4 and column.size >= 16)
