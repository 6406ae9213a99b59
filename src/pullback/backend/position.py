"""Where the largest or smallest element stands along an axis.

The first winner is named, whatever the order in which elements are looked at, so lanes and blocks
are free.
"""

from __future__ import annotations

from pullback.backend.assembly import Function, Module, Ssa, integer, splat
from pullback.backend.lanes import LANES, Lanes
from pullback.backend.lines import Block, Lines, each_block, open_kernel, placed
from pullback.backend.rows import accumulated
from pullback.backend.target import Target
from pullback.backend.vector import Vector, where
from pullback.backend.written import Written
from pullback.ir.types import DType, int32, int64, is_float
from pullback.ops.reduce import Position
from pullback.schedule.kernels import Call


def write_position(call: Call, name: str, module: Module, target: Target) -> Written:
    """A kernel for one of the `Position` ops."""
    op, (x,) = call.op, call.inputs
    assert isinstance(op, Position)
    lines = Lines.along(x.layout.shape, op.axis)
    frame = open_kernel(name, 2)
    source, result = frame.pointers
    writer = _Positions(op, x.dtype, source, result)
    write = writer.along if lines.after == 1 else writer.side_by_side
    each_block(frame.f, lines, frame.begin, frame.end, write)
    frame.f.finish()
    module.add(frame.f)
    return Written(name, placed((x, *call.outputs)), lines.iterations, 0)


class _Positions:
    def __init__(self, op: Position, dtype: DType, source: Ssa, result: Ssa) -> None:
        self.op, self.dtype = op, dtype
        self.source, self.result = source, result
        self.wide = accumulated(dtype)

    # ---- lines side by side ----

    def side_by_side(self, block: Block) -> None:
        """Sixteen lines, an element of each at a time."""
        f, lanes = block.f, block.lanes
        first = lanes.cast(block.load(self.source, block.start, self.dtype), self.wide)
        begin = [first.ssa, _zeros(LANES, "i64")]
        with f.loop(integer(1), integer(block.lines.size), 1, begin) as loop:
            x = block.load(self.source, block.place(loop.index), self.dtype)
            best, index = Vector(f, loop.values[0], self.wide), Vector(f, loop.values[1], int64)
            x = lanes.cast(x, self.wide)
            taken = self._beats(lanes, x, best)
            here = Vector(f, f.spread(loop.index, LANES), int64)
            loop.carry(where(taken, x, best).ssa, where(taken, here, index).ssa)
        block.store(Vector(f, loop.results[1], int64), self.result, block.line)

    # ---- a contiguous line ----

    def along(self, block: Block) -> None:
        """Sixteen neighbouring elements at a time; each lane remembers its round."""
        f, size = block.f, block.lines.size
        lanes = Lanes(f)
        start = lanes.literal(self.op.start(self.wide), self.wide)
        whole = size - size % LANES
        with f.loop(integer(0), integer(whole), LANES, [start.ssa, _zeros(LANES, "i32")]) as loop:
            x = lanes.load(self.source, block.place(loop.index), self.dtype)
            loop.carry(*self._round(lanes, x, loop.index, loop.values, None))
        values = loop.results
        if size % LANES:
            mask = f.first_lanes(integer(size % LANES), LANES)
            place = block.place(integer(whole))
            x = lanes.load_first(self.source, place, self.dtype, mask)
            values = self._round(lanes, x, integer(whole), values, mask)
        f_best, rounds = Vector(f, values[0], self.wide), Vector(f, values[1], int32)
        index = self._first(f, f_best, _places(f, rounds))
        Lanes(f, 1).store(index, self.result, block.line)

    def _round(
        self, lanes: Lanes, x: Vector, start: Ssa, carried: tuple[Ssa, ...], mask: Ssa | None
    ) -> tuple[Ssa, ...]:
        f = lanes.function
        best, rounds = Vector(f, carried[0], self.wide), Vector(f, carried[1], int32)
        x = lanes.cast(x, self.wide)
        taken = self._beats(lanes, x, best)
        if mask is not None:
            taken = Vector(f, f.binary("and", taken.ssa, mask), taken.dtype)
        number = f.convert("trunc", f.binary("lshr", start, integer(4)), "i32")
        here = Vector(f, f.spread(number, LANES), int32)
        return where(taken, x, best).ssa, where(taken, here, rounds).ssa

    def _first(self, f: Function, best: Vector, index: Vector) -> Vector:
        """The winner's index: halves onto halves, the earlier of equal elements."""
        width = LANES
        while width > 1:
            width //= 2
            lanes = Lanes(f, width)
            (x, i), (y, j) = (
                (_part(best, first, width), _part(index, first, width)) for first in (0, width)
            )
            later = self._beats(lanes, y, x) | (~self._beats(lanes, x, y) & (j < i))
            best, index = where(later, y, x), where(later, j, i)
        return index

    def _beats(self, lanes: Lanes, x: Vector, y: Vector) -> Vector:
        """Whether x wins against y; NaN wins against all numbers."""
        wins: Vector = self.op.beats(lanes, x, y)
        return (wins | x.is_nan()) & ~y.is_nan() if is_float(self.dtype) else wins


def _zeros(width: int, kind: str) -> Ssa:
    return splat(integer(0, kind), width)


def _part(x: Vector, first: int, width: int) -> Vector:
    if width == 1:
        return x.like(x.function.lane(x.ssa, first))
    return x.like(x.function.shuffle(x.ssa, x.ssa, range(first, first + width)))


def _places(f: Function, rounds: Vector) -> Vector:
    """The position on the line that each lane remembers: 16 · its round + its own number."""
    wide = Vector(f, f.convert("zext", rounds.ssa, "i64"), int64)
    ladder = ", ".join(f"i64 {lane}" for lane in range(LANES))
    return (wide << 4) + Vector(f, Ssa(wide.ssa.type, f"<{ladder}>"), int64)
