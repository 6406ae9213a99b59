"""Where the largest or smallest element stands along an axis.

The first winner is named, whatever the order in which elements are looked at, so lanes are free.
Elements are compared as integers in which NaN wins, and -0 is 0.
"""

from __future__ import annotations

from pullback.backend.assembly import Module, Ssa, integer
from pullback.backend.lanes import LANES, Lanes
from pullback.backend.lines import Block, Lines, each_block, open_kernel, placed
from pullback.backend.ordinal import ordinal, ordinal_dtype, top_bit
from pullback.backend.target import Target
from pullback.backend.vector import Vector, literal, where
from pullback.backend.written import Written
from pullback.ir.types import DType, int32, int64
from pullback.ops.reduce import Position
from pullback.schedule.kernels import Call


def write_position(call: Call, name: str, module: Module, target: Target) -> Written:
    """A kernel for one of the `Position` ops."""
    op, (x,) = call.op, call.inputs
    assert isinstance(op, Position)
    lines = Lines.along(x.layout.shape, op.axis)
    frame = open_kernel(name, 2)
    writer = _Positions(op, x.dtype, *frame.pointers)
    write = writer.along if lines.after == 1 else writer.side_by_side
    each_block(frame.f, lines, frame.begin, frame.end, write)
    frame.f.finish()
    module.add(frame.f)
    return Written(name, placed((x, *call.outputs)), lines.iterations, 0)


class _Positions:
    def __init__(self, op: Position, dtype: DType, source: Ssa, result: Ssa) -> None:
        self.op, self.dtype = op, dtype
        self.source, self.result = source, result
        self.ordinals = ordinal_dtype(dtype)

    # ---- lines side by side ----

    def side_by_side(self, block: Block) -> None:
        """Sixteen lines, an element of each at a time."""
        f, size = block.f, block.lines.size
        counter = int32 if size < 1 << 31 else int64
        first = ordinal(block.load(self.source, block.start, self.dtype), self.op.least)
        begin = [first.ssa, literal(0, counter, LANES)]
        with f.loop(integer(1), integer(size), 1, begin) as loop:
            x = block.load(self.source, block.place(loop.index), self.dtype)
            loop.carry(*self._winners(x, self._number(block, loop.index, counter), loop.values))
        index = block.lanes.cast(Vector(f, loop.results[1], counter), int64)
        block.store(index, self.result, block.line)

    # ---- a contiguous line ----

    def along(self, block: Block) -> None:
        """Sixteen neighbouring elements at a time; each lane remembers its round."""
        f, size = block.f, block.lines.size
        lanes, whole = Lanes(f), size - size % LANES
        begin = [literal(top_bit(self.ordinals), self.ordinals, LANES), literal(0, int32, LANES)]
        with f.loop(integer(0), integer(whole), LANES, begin) as loop:
            x = lanes.load(self.source, block.place(loop.index), self.dtype)
            number = f.binary("lshr", loop.index, integer(LANES.bit_length() - 1))
            loop.carry(*self._winners(x, self._number(block, number, int32), loop.values))
        best, rounds = loop.results
        if size % LANES:
            mask = f.first_lanes(integer(size % LANES), LANES)
            x = lanes.load_first(self.source, block.place(integer(whole)), self.dtype, mask)
            last = Vector(f, literal(whole // LANES, int32, LANES), int32)
            found = self._winners(x, last, (best, rounds))
            best, rounds = f.select(mask, found[0], best), f.select(mask, found[1], rounds)
        index = _first(Vector(f, best, self.ordinals), _places(Vector(f, rounds, int32)))
        Lanes(f, 1).store(index, self.result, block.line)

    def _number(self, block: Block, number: Ssa, dtype: DType) -> Vector:
        f = block.f
        narrow = number if dtype == int64 else f.convert("trunc", number, "i32")
        return Vector(f, f.spread(narrow, LANES), dtype)

    def _winners(self, x: Vector, number: Vector, carried: tuple[Ssa, ...]) -> tuple[Ssa, ...]:
        """The best so far and its number, after the elements `x` of a number."""
        new = ordinal(x, self.op.least)
        best, best_number = new.like(carried[0]), number.like(carried[1])
        wins = new > best
        return where(wins, new, best).ssa, where(wins, number, best_number).ssa


# ---- lanes ----------------------------------------------------------------------------------


def _places(rounds: Vector) -> Vector:
    """The position on the line that each lane remembers: 16 · its round + its own number."""
    f = rounds.function
    wide = rounds.convert("zext", int64)
    ladder = ", ".join(f"i64 {lane}" for lane in range(LANES))
    return wide * LANES + Vector(f, Ssa(wide.ssa.type, f"<{ladder}>"), int64)


def _first(best: Vector, index: Vector) -> Vector:
    """The winner's index: halves onto halves, the earlier of equal elements."""
    for width in (8, 4, 2, 1):
        x, i = _part(best, 0, width), _part(index, 0, width)
        y, j = _part(best, width, width), _part(index, width, width)
        later = (y > x) | (y.equals(x) & (j < i))
        best, index = where(later, y, x), where(later, j, i)
    return index


def _part(x: Vector, first: int, width: int) -> Vector:
    if width == 1:
        return x.like(x.function.lane(x.ssa, first))
    return x.like(x.function.shuffle(x.ssa, x.ssa, range(first, first + width)))
