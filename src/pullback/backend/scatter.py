"""Updates written at places that indices name: each element of the result has one owner.

A thread owns columns, batches or places of the result, goes through all updates in their order and
applies those that are its own. So every element sees its updates in order, whatever the threads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pullback.backend.assembly import Function, Loop, Module, Ssa, integer
from pullback.backend.elements import Checks
from pullback.backend.lanes import LANES, Lanes
from pullback.backend.vector import Vector
from pullback.backend.written import STATUS, Check, OutOfRange, Placed, Written
from pullback.ir.strided import row_major_strides
from pullback.ir.types import DType, Shape
from pullback.ops.index import Scatter
from pullback.ops.reduce import accumulated
from pullback.schedule.kernels import Call, Literal

WIDE = 2 * LANES
"""Columns from which on they are shared out, a vector each: fewer would leave threads idle."""

MANY = 16
"""Batches from which on they are shared out."""


@dataclass(frozen=True, slots=True)
class Axes:
    """Some axes of the result, walked in row-major order: their sizes, and strides in memory."""

    sizes: Shape
    strides: tuple[int, ...]

    @property
    def count(self) -> int:
        return math.prod(self.sizes)

    @property
    def in_order(self) -> bool:
        return self.strides == row_major_strides(self.sizes)

    def offset(self, f: Function, number: Ssa) -> Ssa:
        """Where element `number` lies."""
        if self.in_order:
            return number
        total = integer(0)
        for i, (size, stride) in enumerate(zip(self.sizes, self.strides, strict=True)):
            place = f.binary("udiv", number, integer(math.prod(self.sizes[i + 1 :])))
            place = f.binary("urem", place, integer(size)) if i else place
            total = f.binary("add", total, f.binary("mul", place, integer(stride)))
        return total


def write_scatter(call: Call, name: str, module: Module) -> Written:
    """A kernel on base, updates, indices and the result; a base that is one number is no operand.

    The operands lie in order, the result as the base does.
    """
    assert isinstance(call.op, Scatter)
    writer = _Writer(call, call.op, name)
    writer.write()
    module.add(writer.f)
    return writer.written()


class _Writer:
    def __init__(self, call: Call, op: Scatter, name: str) -> None:
        self.call, self.op = call, op
        self.name = name
        (y,) = call.outputs
        self.dtype: DType = y.dtype
        self.wide = accumulated(self.dtype)
        shape, strides = y.layout.shape, y.layout.strides
        rest = tuple(a for a in range(len(shape)) if a not in op.axes and a not in op.batch_axes)

        def along(axes: tuple[int, ...]) -> Axes:
            return Axes(tuple(shape[a] for a in axes), tuple(strides[a] for a in axes))

        self.batch, self.places, self.rest = along(op.batch_axes), along(op.axes), along(rest)
        self.indices = call.inputs[1 if call.start else 2 :]
        self.updates = math.prod(self.indices[0].layout.shape[len(op.batch_axes) :])
        vectors = self.rest.in_order and self.rest.count >= LANES
        self.f = Function.kernel(name, apart=["operands"])
        self.lanes = Lanes(self.f, LANES if vectors else 1)
        self.operands = tuple(
            Placed(x.buffer, x.layout.offset * x.dtype.itemsize)
            for x in (*call.inputs, *call.outputs)
        )
        self.checks = Checks(self.f, len(self.operands))

    @property
    def step(self) -> int:
        return self.lanes.width

    # ---- what is shared out ----

    @property
    def shared(self) -> str:
        """Whether threads own batches, columns or places; it depends on the shapes alone."""
        if self.batch.count >= MANY:
            return "batch"
        return "columns" if self.step > 1 and self.rest.count >= WIDE else "places"

    @property
    def iterations(self) -> int:
        if self.shared == "columns":
            return -(-self.rest.count // self.step)
        return (self.batch if self.shared == "batch" else self.places).count

    def written(self) -> Written:
        scratch = 0
        if self.wide != self.dtype:
            scratch = self.places.count * self.step * self.wide.itemsize
        status = (Placed(STATUS, 0),) if self.checks.made else ()
        return Written(
            self.name,
            self.operands + status,
            self.iterations,
            scratch,
            tuple(self.checks.made),
        )

    # ---- the loops ----

    def write(self) -> None:
        f = self.f
        pointers = [
            f.load("ptr", f.at(f.parameters[0], "ptr", integer(i)), 8)
            for i in range(len(self.operands))
        ]
        self.base = None if self.call.start else pointers[0]
        self.given = pointers[0 if self.call.start else 1]
        self.named = pointers[1 if self.call.start else 2 : -1]
        self.target = pointers[-1]
        begin, end = f.parameters[1:3]
        own = {
            "batch": (integer(0), integer(self.batch.count)),
            "places": (integer(0), integer(self.places.count)),
            "columns": (integer(0), integer(self.rest.count)),
        }
        own[self.shared] = begin, end
        if self.shared == "columns":
            last = f.binary("mul", end, integer(self.step))
            last = f.call("llvm.smin.i64", "i64", last, integer(self.rest.count))
            own["columns"] = f.binary("mul", begin, integer(self.step)), last
        self.own_places = own["places"]
        with f.loop(*own["batch"]) as batch:
            if self.wide == self.dtype:
                self._in_memory(batch, own["columns"])
            else:
                with self._columns(own["columns"]) as (column, mask):
                    self._in_scratch(batch, column, mask)
        f.finish()

    @contextmanager
    def _columns(self, span: tuple[Ssa, Ssa]) -> Iterator[tuple[Ssa, Ssa | None]]:
        """Vectors of columns, each under its mask; single columns where there are few."""
        f = self.f
        with f.loop(*span, self.step) as column:
            if self.step == 1 or self.rest.count % self.step == 0:
                yield column.index, None
            else:
                left = f.binary("sub", span[1], column.index)
                yield column.index, f.first_lanes(left, self.step)

    def _in_memory(self, batch: Loop, columns: tuple[Ssa, Ssa]) -> None:
        """The base is copied to the result, where the updates are applied one by one."""
        f = self.f
        start = self.batch.offset(f, batch.index)
        with f.loop(*self.own_places) as place:
            row = f.binary("add", start, self.places.offset(f, place.index))
            with self._columns(columns) as (column, mask):
                at = f.binary("add", row, self.rest.offset(f, column))
                self._store(self._first(at, mask), self.target, at, mask)
        with self._each_update(batch) as (number, place, offset):
            row = f.binary("add", start, offset)
            with f.when(self._mine(place)), self._columns(columns) as (column, mask):
                at = f.binary("add", row, self.rest.offset(f, column))
                old = self._load(self.target, at, mask)
                new = self.op.combine(self.lanes, old, self._update(number, column, mask))
                self._store(new, self.target, at, mask)

    def _in_scratch(self, batch: Loop, column: Ssa, mask: Ssa | None) -> None:
        """Half precision: a vector of columns is accumulated in float32, and rounded at the end."""
        f, lanes, scratch = self.f, self.lanes, self.f.parameters[3]
        start = f.binary("add", self.batch.offset(f, batch.index), self.rest.offset(f, column))
        with f.loop(*self.own_places) as place:
            at = f.binary("add", start, self.places.offset(f, place.index))
            held = f.binary("mul", place.index, integer(self.step))
            lanes.store(lanes.cast(self._first(at, mask), self.wide), scratch, held)
        with self._each_update(batch) as (number, place_of, _), f.when(self._mine(place_of)):
            held = f.binary("mul", place_of, integer(self.step))
            old = lanes.load(scratch, held, self.wide)
            update = lanes.cast(self._update(number, column, mask), self.wide)
            lanes.store(self.op.combine(lanes, old, update), scratch, held)
        with f.loop(*self.own_places) as place:
            at = f.binary("add", start, self.places.offset(f, place.index))
            held = f.binary("mul", place.index, integer(self.step))
            total = lanes.cast(lanes.load(scratch, held, self.wide), self.dtype)
            self._store(total, self.target, at, mask)

    # ---- places ----

    @contextmanager
    def _each_update(self, batch: Loop) -> Iterator[tuple[Ssa, Ssa, Ssa]]:
        """For each update in order: its number, its place, and where that lies."""
        f = self.f
        first = f.binary("mul", batch.index, integer(self.updates))
        with f.loop(integer(0), integer(self.updates)) as update:
            number = f.binary("add", first, update.index)
            place, offset = integer(0), integer(0)
            for i, (size, stride) in enumerate(
                zip(self.places.sizes, self.places.strides, strict=True)
            ):
                index = self._index(i, number, size)
                place = f.binary("add", f.binary("mul", place, integer(size)), index)
                offset = f.binary("add", offset, f.binary("mul", index, integer(stride)))
            yield number, place, offset

    def _index(self, i: int, number: Ssa, size: int) -> Ssa:
        """Index i of an update as a number in 0 … size - 1."""
        x = Lanes(self.f, 1).load(self.named[i], number, self.indices[i].dtype)
        from_end = self.op.from_end
        error = OutOfRange(self.op.axes[i], size, from_end)
        wrong = Check(self.op.name, self.call.site, error)
        return self.checks.inside(x, size, from_end, wrong, None).ssa

    def _mine(self, place: Ssa) -> Ssa:
        f = self.f
        if self.shared != "places":
            return Ssa("i1", "true")
        above = f.compare("icmp sge", place, self.own_places[0])
        return f.binary("and", above, f.compare("icmp slt", place, self.own_places[1]))

    # ---- elements ----

    def _first(self, at: Ssa, mask: Ssa | None) -> Vector:
        """What the result begins with."""
        if self.base is None:
            start = self.call.start
            assert isinstance(start, Literal)
            return self.lanes.literal(start.value, self.dtype)
        return self._load(self.base, at, mask)

    def _update(self, number: Ssa, column: Ssa, mask: Ssa | None) -> Vector:
        f = self.f
        row = f.binary("mul", number, integer(self.rest.count))
        return self._load(self.given, f.binary("add", row, column), mask)

    def _load(self, pointer: Ssa, at: Ssa, mask: Ssa | None) -> Vector:
        if mask is None:
            return self.lanes.load(pointer, at, self.dtype)
        return self.lanes.load_first(pointer, at, self.dtype, mask)

    def _store(self, x: Vector, pointer: Ssa, at: Ssa, mask: Ssa | None) -> None:
        if mask is None:
            self.lanes.store(x, pointer, at)
        else:
            self.lanes.store_first(x, pointer, at, mask)
