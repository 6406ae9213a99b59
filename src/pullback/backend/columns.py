"""Reductions over a middle or first block of axes: columns folded side by side.

The elements of a column are folded in their order, whatever the vectors and threads, so the bits
of a sum depend on its shape alone.
"""

from __future__ import annotations

import math

from pullback.backend.assembly import Function, Ssa, integer
from pullback.backend.lanes import LANES, Lanes
from pullback.backend.vector import Vector
from pullback.ir.types import DType, Shape
from pullback.ops.reduce import Reduction, accumulated

VECTORS = 4
"""Vectors of columns that an iteration folds: a row of them is four cache lines of float32."""


def split_axes(shape: Shape, axes: tuple[int, ...]) -> tuple[int, int, int]:
    """Sizes before, along and after a block of adjacent axes."""
    first, last = min(axes), max(axes)
    return (
        math.prod(shape[:first]),
        math.prod(shape[first : last + 1]),
        math.prod(shape[last + 1 :]),
    )


def column_iterations(outer: int, columns: int) -> int:
    return outer * -(-columns // (VECTORS * LANES))


def write_columns(op: Reduction, sizes: tuple[int, int, int], dtype: DType, name: str) -> Function:
    """`void @name(ptr %operands, i64 %begin, i64 %end, ptr %scratch)`: x and the result."""
    f = Function.kernel(name, apart=["operands"])
    operands, begin, end, _ = f.parameters
    source, target = (f.load("ptr", f.at(operands, "ptr", integer(i)), 8) for i in range(2))
    _, _, columns = sizes
    block = VECTORS * LANES
    blocks = -(-columns // block)
    with f.loop(begin, end) as iteration:
        outer = f.binary("udiv", iteration.index, integer(blocks))
        first = f.binary("mul", f.binary("urem", iteration.index, integer(blocks)), integer(block))
        left = f.binary("sub", integer(columns), first)
        whole = f.compare("icmp sge", left, integer(block))
        writer = _Columns(f, op, sizes, dtype, source, target, outer)
        with f.when(whole):
            writer.fold(first, VECTORS, None)
        rest = f.select(whole, integer(0), left)
        with f.loop(integer(0), rest, LANES) as vector:
            mask = f.first_lanes(f.binary("sub", rest, vector.index), LANES)
            writer.fold(f.binary("add", first, vector.index), 1, mask)
    f.finish()
    return f


class _Columns:
    def __init__(
        self,
        f: Function,
        op: Reduction,
        sizes: tuple[int, int, int],
        dtype: DType,
        source: Ssa,
        target: Ssa,
        outer: Ssa,
    ) -> None:
        self.f, self.op, self.sizes, self.dtype = f, op, sizes, dtype
        self.source, self.target, self.outer = source, target, outer
        self.lanes = Lanes(f)

    def fold(self, first: Ssa, vectors: int, mask: Ssa | None) -> None:
        """Fold `vectors` vectors of columns from column `first` on, and store them."""
        f, lanes = self.f, self.lanes
        _, rows, columns = self.sizes
        wide = accumulated(self.dtype)
        start = f.binary("mul", self.outer, integer(rows * columns))
        start = f.binary("add", start, first)
        begin = [lanes.literal(self.op.start(self.dtype), wide).ssa] * vectors
        with f.loop(integer(0), integer(rows), 1, begin) as row:
            place = f.binary("add", start, f.binary("mul", row.index, integer(columns)))
            totals = []
            for i, old in enumerate(row.values):
                at = f.binary("add", place, integer(i * LANES))
                x = lanes.cast(self._load(at, mask), wide)
                totals.append(self.op.combine(lanes, Vector(f, old, wide), x).ssa)
            row.carry(*totals)
        place = f.binary("add", f.binary("mul", self.outer, integer(columns)), first)
        for i, total in enumerate(row.results):
            result = lanes.cast(Vector(f, total, wide), self.dtype)
            at = f.binary("add", place, integer(i * LANES))
            if mask is None:
                lanes.store(result, self.target, at)
            else:
                lanes.store_first(result, self.target, at, mask)

    def _load(self, at: Ssa, mask: Ssa | None) -> Vector:
        if mask is None:
            return self.lanes.load(self.source, at, self.dtype)
        return self.lanes.load_first(self.source, at, self.dtype, mask)
