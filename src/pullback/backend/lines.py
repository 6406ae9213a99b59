"""Kernels that walk lines: the elements along one axis, for each place of the other axes.

Where axes follow the walked one, neighbouring lines lie side by side in memory, and vectors take
sixteen at once. Where none do, a line is contiguous, and is walked element by element.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pullback.backend.assembly import Function, Ssa, integer
from pullback.backend.lanes import LANES, Lanes
from pullback.backend.vector import Vector
from pullback.backend.written import Placed
from pullback.ir.types import DType, Shape
from pullback.schedule.kernels import Operand


@dataclass(frozen=True, slots=True)
class Lines:
    """Sizes before, along and after the axis that is walked, in row-major memory."""

    before: int
    size: int
    after: int

    @classmethod
    def along(cls, shape: Shape, axis: int) -> Lines:
        return cls(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))

    @property
    def width(self) -> int:
        """Lines that an iteration walks side by side, at most."""
        return 1 if self.after == 1 else LANES

    @property
    def blocks(self) -> int:
        return -(-self.after // self.width)

    @property
    def iterations(self) -> int:
        return self.before * self.blocks if self.size else 0

    @property
    def count(self) -> int:
        return self.before * self.after


@dataclass(frozen=True, slots=True)
class Block:
    """The neighbouring lines of one iteration; `mask` says which of the lanes hold one.

    `start` is the place of their first element, `line` the number of the first of them.
    """

    f: Function
    lines: Lines
    start: Ssa
    line: Ssa
    mask: Ssa | None

    @property
    def lanes(self) -> Lanes:
        return Lanes(self.f, self.lines.width)

    def place(self, k: Ssa) -> Ssa:
        """Where element k of the first line lies."""
        after = self.lines.after
        step = k if after == 1 else self.f.binary("mul", k, integer(after))
        return self.f.binary("add", self.start, step)

    def load(self, pointer: Ssa, place: Ssa, dtype: DType) -> Vector:
        if self.mask is None:
            return self.lanes.load(pointer, place, dtype)
        return self.lanes.load_first(pointer, place, dtype, self.mask)

    def store(self, x: Vector, pointer: Ssa, place: Ssa) -> None:
        if self.mask is None:
            self.lanes.store(x, pointer, place)
        else:
            self.lanes.store_first(x, pointer, place, self.mask)


def each_block(
    f: Function, lines: Lines, begin: Ssa, end: Ssa, write: Callable[[Block], None]
) -> None:
    """`write` the work of one block of lines, for the blocks `begin` … `end` - 1."""
    with f.loop(begin, end) as iteration:
        index = iteration.index
        if lines.after == 1:
            write(Block(f, lines, f.binary("mul", index, integer(lines.size)), index, None))
            return
        outer = f.binary("udiv", index, integer(lines.blocks))
        column = f.binary("urem", index, integer(lines.blocks))
        column = f.binary("mul", column, integer(LANES))
        start = f.binary("mul", outer, integer(lines.size * lines.after))
        start = f.binary("add", start, column)
        line = f.binary("add", f.binary("mul", outer, integer(lines.after)), column)
        left = f.binary("sub", integer(lines.after), column)
        if lines.after >= LANES:
            with f.when(f.compare("icmp sge", left, integer(LANES))):
                write(Block(f, lines, start, line, None))
        if lines.after % LANES:
            with f.when(f.compare("icmp slt", left, integer(LANES))):
                write(Block(f, lines, start, line, f.first_lanes(left, LANES)))


# ---- the frame of a kernel ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Frame:
    """A kernel being written: its pointers, its share of the iterations, its scratch."""

    f: Function
    pointers: tuple[Ssa, ...]
    begin: Ssa
    end: Ssa
    scratch: Ssa


def open_kernel(name: str, count: int) -> Frame:
    """`void @name(ptr %operands, i64 %begin, i64 %end, ptr %scratch)` with `count` operands."""
    f = Function.kernel(name, apart=["operands"])
    operands, begin, end, scratch = f.parameters
    pointers = [f.load("ptr", f.at(operands, "ptr", integer(i)), 8) for i in range(count)]
    return Frame(f, tuple(pointers), begin, end, scratch)


def placed(operands: Sequence[Operand]) -> tuple[Placed, ...]:
    """Where whole operands lie."""
    return tuple(Placed(x.buffer, x.layout.offset * x.dtype.itemsize) for x in operands)
