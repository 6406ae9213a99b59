"""Running sums, products, extrema: each line in its order, from its first element on."""

from __future__ import annotations

from pullback.backend.assembly import Module, Ssa, integer
from pullback.backend.lines import Block, Frame, Lines, each_block, open_kernel, placed
from pullback.backend.target import Target
from pullback.backend.vector import Vector, literal, where
from pullback.backend.written import Written
from pullback.ir.types import int64, is_float
from pullback.ops.cumulative import RunningExtremum
from pullback.ops.product import Running
from pullback.ops.reduce import accumulated
from pullback.schedule.kernels import Call


def write_running(call: Call, name: str, module: Module, target: Target) -> Written:
    """A kernel for one of the `Running` ops."""
    op = call.op
    assert isinstance(op, Running)
    lines = Lines.along(call.inputs[0].layout.shape, op.axis)
    operands = (*call.inputs, *call.outputs)
    frame = open_kernel(name, len(operands))
    writer = _Extremum if isinstance(op, RunningExtremum) else _Fold
    each_block(
        frame.f, lines, frame.begin, frame.end, lambda block: writer(call, op, frame, block).write()
    )
    frame.f.finish()
    module.add(frame.f)
    return Written(name, placed(operands), lines.iterations, 0)


class _Line:
    """The work on one block of lines: the first element, then the others one after the other."""

    def __init__(self, call: Call, op: Running, frame: Frame, block: Block) -> None:
        self.call, self.op, self.frame, self.block = call, op, frame, block
        self.f, self.lanes = block.f, block.lanes
        self.dtype = call.inputs[0].dtype
        self.wide = accumulated(self.dtype)

    def write(self) -> None:
        size = integer(self.block.lines.size)
        with self.f.loop(integer(1), size, 1, self.first(self.position(integer(0)))) as loop:
            loop.carry(*self.following(self.position(loop.index), loop.values))

    def first(self, position: Ssa) -> list[Ssa]:
        """What is carried after the first element."""
        raise NotImplementedError

    def following(self, position: Ssa, carried: tuple[Ssa, ...]) -> list[Ssa]:
        """What is carried after the element at `position`."""
        raise NotImplementedError

    def position(self, k: Ssa) -> Ssa:
        """Where on the line the k-th element in running order stands."""
        if not self.op.reverse:
            return k
        return self.f.binary("sub", integer(self.block.lines.size - 1), k)

    def elements(self, place: Ssa) -> list[Vector]:
        pointers = self.frame.pointers[: len(self.call.inputs)]
        loaded = [self.block.load(p, place, self.dtype) for p in pointers]
        return [self.lanes.cast(x, self.wide) for x in loaded]

    def put(self, y: Vector, output: int, place: Ssa) -> None:
        pointer = self.frame.pointers[len(self.call.inputs) + output]
        stored = self.lanes.cast(y, self.call.outputs[output].dtype)
        self.block.store(stored, pointer, place)


class _Fold(_Line):
    """One number is carried: the last result."""

    def first(self, position: Ssa) -> list[Ssa]:
        place = self.block.place(position)
        *_, start = self.elements(place)
        self.put(start, 0, place)
        return [start.ssa]

    def following(self, position: Ssa, carried: tuple[Ssa, ...]) -> list[Ssa]:
        place = self.block.place(position)
        before = Vector(self.f, carried[0], self.wide)
        after: Vector = self.op.advance(self.lanes, before, *self.elements(place))
        self.put(after, 0, place)
        return [after.ssa]


class _Extremum(_Line):
    """The best element so far is carried, and where it was."""

    op: RunningExtremum

    def first(self, position: Ssa) -> list[Ssa]:
        place = self.block.place(position)
        (x,) = self.elements(place)
        return self._stored(x, self._spread(position), place)

    def following(self, position: Ssa, carried: tuple[Ssa, ...]) -> list[Ssa]:
        place = self.block.place(position)
        (x,) = self.elements(place)
        best, index = Vector(self.f, carried[0], self.wide), Vector(self.f, carried[1], int64)
        taken: Vector = ~self.op.beats(self.lanes, best, x)
        if is_float(self.dtype):
            taken = taken & ~best.is_nan()
        best, index = where(taken, x, best), where(taken, self._spread(position), index)
        return self._stored(best, index, place)

    def _stored(self, best: Vector, index: Vector, place: Ssa) -> list[Ssa]:
        self.put(best, 0, place)
        self.put(index, 1, place)
        return [best.ssa, index.ssa]

    def _spread(self, position: Ssa) -> Vector:
        if not position.name.startswith("%"):
            return Vector(self.f, literal(int(position.name), int64, self.lanes.width), int64)
        return Vector(self.f, self.f.spread(position, self.lanes.width), int64)
