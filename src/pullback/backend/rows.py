"""Loop kernels: elementwise work, reads by index and reductions over rows, as vector code.

A row is walked in passes. Pass p computes what depends on p reductions of the row one after the
other; what an earlier pass computed is read back if it was stored, computed again if that is cheap,
and kept in the thread's scratch otherwise.

The order of a reduction is fixed by its op and shape alone: element i of a row goes to lane
i mod 16, a lane folds its elements in order, the lanes are folded in halves. So its bits do not
depend on the kernel it is part of.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from pullback._trusted import trusted
from pullback.backend.assembly import Function, Loop, Ssa, integer
from pullback.backend.costly import is_costly
from pullback.backend.domain import Flat, flattened, walks_of
from pullback.backend.elements import Checks, Elements
from pullback.backend.lanes import LANES, Lanes
from pullback.backend.ramps import Mixed, Ramp, Value, constant, lanes_of
from pullback.backend.reading import read
from pullback.backend.vector import Vector
from pullback.backend.written import Check
from pullback.ir.strided import row_major_strides
from pullback.ir.types import Shape
from pullback.ops.reduce import accumulated
from pullback.schedule.kernels import (
    Access,
    Apply,
    Element,
    Extent,
    Fold,
    Literal,
    Load,
    Loops,
    Walk,
    levels_of,
)

CHUNK = 4096
"""Elements of a flat domain in one outer iteration: 16 KB of float32 an operand, half of L1."""


@trusted(frozen=True, slots=True)
class LoopKernel:
    """A written kernel: its code, its outer iterations, the scratch bytes of a thread."""

    function: Function
    buffers: tuple[int, ...]
    iterations: int
    scratch: int
    checks: tuple[Check, ...]


def write_loops(loops: Loops, name: str) -> LoopKernel:
    """`void @name(ptr %operands, i64 %begin, i64 %end, ptr %scratch)` for a row kernel."""
    flat = flattened(loops)
    writer = _Writer(flat, name)
    writer.write()
    iterations = -(-flat.total // CHUNK) if flat.total is not None else math.prod(flat.loops.outer)
    checks = tuple(writer.checks.made)
    return LoopKernel(writer.function, writer.buffers, iterations, writer.scratch_bytes, checks)


# ---- passes ---------------------------------------------------------------------------------


@dataclass(slots=True)
class _Spot:
    """Where code is written: in which pass, at which vector of the row, under which mask."""

    number: int
    mixed: Mixed
    index: Ssa
    mask: Ssa | None
    ready: dict[int, Vector] = field(default_factory=dict)
    coordinates: dict[int, Value] = field(default_factory=dict)


@dataclass(slots=True)
class _Writer:
    flat: Flat
    name: str
    function: Function = field(init=False)
    wide: Lanes = field(init=False)
    single: Lanes = field(init=False)
    buffers: tuple[int, ...] = field(init=False)
    pointers: dict[int, Ssa] = field(init=False, default_factory=dict)
    checks: Checks = field(init=False)
    starts: dict[Access | Walk, Ramp] = field(init=False, default_factory=dict)
    rows: dict[int, Vector] = field(init=False, default_factory=dict)
    saved: dict[int, int] = field(init=False, default_factory=dict)
    scratch_bytes: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        loops = self.flat.loops
        self.function = Function.kernel(self.name, apart=["operands", "scratch"])
        self.wide = Lanes(self.function)
        self.single = Lanes(self.function, 1)
        self.buffers = tuple(sorted(loops.reads() | loops.writes()))
        self.checks = Checks(self.function, len(self.buffers))
        self.levels = levels_of(loops.steps)
        self.stored = {s.value: s.access for s in loops.stores}
        self.by_line = _goes_by_line(self.flat)

    by_line: bool = field(init=False, default=False)
    levels: list[int] = field(init=False, default_factory=list)
    stored: dict[int, Access] = field(init=False, default_factory=dict)

    # ---- the kernel ----

    def write(self) -> None:
        f = self.function
        operands, begin, end, _ = f.parameters
        for i, buffer in enumerate(self.buffers):
            self.pointers[buffer] = f.load("ptr", f.at(operands, "ptr", integer(i)), 8)
        self._choose_saved()
        with f.loop(begin, end) as row:
            self._row(row.index)
        f.finish()

    def _row(self, row: Ssa) -> None:
        f, loops = self.function, self.flat.loops
        self.rows = {}
        if self.flat.total is not None:
            start = f.binary("mul", row, integer(CHUNK))
            left = f.binary("sub", integer(self.flat.total), start)
            count = f.call("llvm.smin.i64", "i64", left, integer(CHUNK))
            self.starts = {walk: self._chunk_of(walk, start) for walk in walks_of(loops)}
            self._pass(0, count, self.flat.total)
            return
        self.starts = self._starts(row)
        length = math.prod(loops.inner)
        for number in range(max(self.levels, default=0) + 1):
            self._rows_ready(number)
            if loops.inner and self._work(number):
                self._pass(number, integer(length), length)
        self._rows_stored()

    def _chunk_of(self, walk: Access | Walk, start: Ssa) -> Ramp:
        """Where a chunk of a flat domain begins."""
        f, stride = self.function, walk.inner[0]
        base = None
        if stride:
            base = start if stride == 1 else f.binary("mul", start, integer(stride))
        return replace(constant(walk.offset), base=base, align=CHUNK * abs(stride) if stride else 0)

    def _starts(self, row: Ssa) -> dict[Access | Walk, Ramp]:
        """Where this row begins."""
        outer = self.flat.loops.outer
        coordinates = _coordinates(self.function, row, outer)
        walks = walks_of(self.flat.loops)
        return {w: self._moved(constant(w.offset), coordinates, outer, w.outer) for w in walks}

    def _moved(
        self, start: Ramp, coordinates: Sequence[Ssa], sizes: Shape, strides: tuple[int, ...]
    ) -> Ramp:
        """A place that the row shares, further by coordinates · strides."""
        f, base = self.function, start.base
        for place, stride in zip(coordinates, strides, strict=True):
            if stride:
                step = place if stride == 1 else f.binary("mul", place, integer(stride))
                base = step if base is None else f.binary("add", base, step)
        align = math.gcd(start.align, *strides) if base else 0
        low, high = _bounds(strides, sizes)
        return replace(start, base=base, align=align, low=start.low + low, high=start.high + high)

    def _position(self, walk: Access | Walk, spot: _Spot) -> Ramp | Vector:
        """Where the walk is at the vector of elements being written."""
        start, inner = self.starts[walk], self.flat.loops.inner
        if not any(walk.inner):
            return start
        if self.by_line or len(inner) == 1 or walk.inner == row_major_strides(inner):
            along = lanes_of(inner[-1] if self.by_line else math.prod(inner), walk.inner[-1])
            pattern = tuple(p + walk.offset for p in along.pattern)
            low, high = start.low + along.low, start.high + along.high
            return Ramp(start.base, start.align, along.rate, pattern, low, high)
        place: Value = start
        for axis, stride in enumerate(walk.inner):
            moved = spot.mixed.mul(self._coordinate(axis, spot), constant(stride))
            place = spot.mixed.add(place, moved)
        return place

    def _coordinate(self, axis: int, spot: _Spot) -> Value:
        """A coordinate of an inner domain whose axes could not be merged."""
        if axis not in spot.coordinates:
            inner = self.flat.loops.inner
            along = lanes_of(math.prod(inner))
            step = constant(math.prod(inner[axis + 1 :]))
            place = spot.mixed.quot(along, step)
            if axis:
                place = spot.mixed.rem(place, constant(inner[axis]))
            spot.coordinates[axis] = place
        return spot.coordinates[axis]

    # ---- what a row's passes must do ----

    def _work(self, number: int) -> bool:
        return bool(self._folds(number) or self._stores(number) or self._saves(number))

    def _folds(self, number: int) -> list[int]:
        steps = self.flat.loops.steps
        return [
            i
            for i, s in enumerate(steps)
            if isinstance(s, Fold) and self.levels[s.argument] == number
        ]

    def _stores(self, number: int) -> list[int]:
        loops = self.flat.loops
        return [
            i
            for i, s in enumerate(loops.stores)
            if loops.steps[s.value].extent is Extent.FULL and self.levels[s.value] == number
        ]

    def _saves(self, number: int) -> list[int]:
        return [i for i in self.saved if self.levels[i] == number]

    def _choose_saved(self) -> None:
        """Costly values that a later pass needs and no store keeps."""
        steps = self.flat.loops.steps
        for number in range(1, max(self.levels, default=0) + 1):
            roots = [self._fold(i).argument for i in self._folds(number)]
            roots += [self.flat.loops.stores[i].value for i in self._stores(number)]
            for i in self._needed(number, roots):
                full = steps[i].extent is Extent.FULL
                if full and is_costly(steps[i]) and i not in self.stored and i not in self.saved:
                    self.saved[i] = self.scratch_bytes
                    self.scratch_bytes += -(-math.prod(self.flat.loops.inner) * 8 // 64) * 64 + 128

    def _needed(self, number: int, roots: list[int]) -> Iterator[int]:
        """The costly values of earlier passes that a pass would compute again."""
        pending, seen = list(roots), set()
        while pending:
            i = pending.pop()
            step = self.flat.loops.steps[i]
            if i in seen or step.extent is Extent.ROW:
                continue
            seen.add(i)
            if self.levels[i] < number and is_costly(step):
                yield i
            elif isinstance(step, Apply):
                pending += step.arguments

    # ---- values of the row ----

    def _rows_ready(self, number: int) -> None:
        mixed = Mixed(self.function)
        for i, step in enumerate(self.flat.loops.steps):
            if i in self.rows or step.extent is not Extent.ROW or self.levels[i] > number:
                continue
            match step:
                case Literal():
                    self.rows[i] = self.single.literal(step.value, step.dtype)
                case Load():
                    place = self.starts[step.access]
                    pointer = self.pointers[step.access.buffer]
                    self.rows[i] = read(mixed, pointer, place, step.dtype, None)
                case Element():
                    at = [self.starts[walk] for walk in step.at]
                    self.rows[i] = mixed.vector(self._element(step, mixed, at, None))
                case Apply():
                    arguments = [self.rows[j] for j in step.arguments]
                    self.rows[i] = self.single.apply(step.op, *arguments)

    def _rows_stored(self) -> None:
        for store in self.flat.loops.stores:
            if self.flat.loops.steps[store.value].extent is Extent.ROW:
                pointer = self.pointers[store.access.buffer]
                place = Mixed(self.function).vector(self.starts[store.access])
                self.single.store(self.rows[store.value], pointer, place.ssa)

    # ---- one pass over a row ----

    def _pass(self, number: int, count: Ssa, length: int) -> None:
        """`count` elements; all of the domain's are `length`, cut at whole vectors if at all."""
        f = self.function
        folds = [self._fold(i) for i in self._folds(number)]
        results = tuple(self._start_of_fold(fold) for fold in folds)
        if self.by_line:
            results = self._lines(number, folds, results)
        else:
            whole = f.binary("and", count, integer(-LANES)) if length % LANES else count
            if length >= LANES:
                with f.loop(integer(0), whole, LANES, results) as loop:
                    loop.carry(*self._body(folds, loop, self._spot(number, loop, None)))
                results = loop.results
            if length % LANES:
                with f.loop(whole, count, LANES, results) as tail:  # once, or not at all
                    mask = f.first_lanes(f.binary("sub", count, tail.index), LANES)
                    tail.carry(*self._body(folds, tail, self._spot(number, tail, mask)))
                results = tail.results
        for i, fold, total in zip(self._folds(number), folds, results, strict=True):
            self.rows[i] = self._folded(fold, total)

    def _lines(self, number: int, folds: list[Fold], totals: Sequence[Ssa]) -> tuple[Ssa, ...]:
        """The pass line by line: what all of a line shares is computed before it."""
        f, inner, starts = self.function, self.flat.loops.inner, self.starts
        with f.loop(integer(0), integer(math.prod(inner[:-1])), 1, totals) as line:
            places = _coordinates(f, line.index, inner[:-1])
            self.starts = {
                walk: self._moved(start, places, inner[:-1], walk.inner[:-1])
                if walk.inner
                else start
                for walk, start in starts.items()
            }
            first = f.binary("mul", line.index, integer(inner[-1]))
            with f.loop(integer(0), integer(inner[-1]), LANES, line.values) as loop:
                spot = self._spot(number, loop, None)
                spot.index = f.binary("add", first, loop.index)
                loop.carry(*self._body(folds, loop, spot))
            line.carry(*loop.results)
        self.starts = starts
        return tuple(line.results)

    def _spot(self, number: int, loop: Loop, mask: Ssa | None) -> _Spot:
        f = self.function
        mixed = Mixed(f, loop.index, functools.partial(f.ahead_of, loop))
        return _Spot(number, mixed, loop.index, mask)

    def _fold(self, i: int) -> Fold:
        step = self.flat.loops.steps[i]
        assert isinstance(step, Fold)
        return step

    def _start_of_fold(self, fold: Fold) -> Ssa:
        return self.wide.literal(fold.op.start(fold.dtype), accumulated(fold.dtype)).ssa

    def _folded(self, fold: Fold, total: Ssa) -> Vector:
        """The lanes of an accumulator as one number, halves onto halves."""
        f = self.function
        dtype = accumulated(fold.dtype)
        for width in (8, 4, 2):
            low = Vector(f, f.shuffle(total, total, range(width)), dtype)
            high = Vector(f, f.shuffle(total, total, range(width, 2 * width)), dtype)
            total = fold.op.combine(self.wide, low, high).ssa
        low, high = (Vector(f, f.lane(total, i), dtype) for i in (0, 1))
        return self.single.cast(fold.op.combine(self.single, low, high), fold.dtype)

    def _body(self, folds: list[Fold], loop: Loop, spot: _Spot) -> list[Ssa]:
        """One vector of the pass: values saved, accumulators moved on, values stored."""
        for i in self._saves(spot.number):
            self.wide.store(self._value(i, spot), self._scratch(i), spot.index)
        results = [
            self._accumulated(fold, total, self._value(fold.argument, spot), spot.mask)
            for fold, total in zip(folds, loop.values, strict=True)
        ]
        # All is read before anything is written: a result may take the place of an operand.
        stores = [self.flat.loops.stores[i] for i in self._stores(spot.number)]
        for store in stores:
            self._value(store.value, spot)
        for store in stores:
            self._write(self._value(store.value, spot), store.access, spot)
        return results

    def _value(self, i: int, spot: _Spot) -> Vector:
        if i not in spot.ready:
            spot.ready[i] = self._computed(i, spot)
        return spot.ready[i]

    def _computed(self, i: int, spot: _Spot) -> Vector:
        f, step = self.function, self.flat.loops.steps[i]
        if step.extent is Extent.ROW and i in self.rows:
            row = self.rows[i]
            return Vector(f, f.spread(row.ssa, LANES), row.dtype)
        if self.levels[i] < spot.number and i in self.saved:
            return self.wide.load(self._scratch(i), spot.index, step.dtype)
        if self.levels[i] < spot.number and i in self.stored and is_costly(step):
            return self._read(Load(self.stored[i], step.dtype, step.extent), spot)
        match step:
            case Literal():
                return self.wide.literal(step.value, step.dtype)
            case Load():
                return self._read(step, spot)
            case Element():
                at = [self._position(walk, spot) for walk in step.at]
                return spot.mixed.spread(self._element(step, spot.mixed, at, spot.mask))
            case Apply():
                return self.wide.apply(step.op, *[self._value(j, spot) for j in step.arguments])
        raise AssertionError(step)

    def _accumulated(self, fold: Fold, total: Ssa, x: Vector, mask: Ssa | None) -> Ssa:
        f, dtype = self.function, accumulated(fold.dtype)
        old = Vector(f, total, dtype)
        new: Ssa = fold.op.combine(self.wide, old, self.wide.cast(x, dtype)).ssa
        return new if mask is None else f.select(mask, new, total)

    # ---- memory ----

    def _element(self, step: Element, mixed: Mixed, at: Sequence[Value], mask: Ssa | None) -> Value:
        reader = Elements(mixed, step, self.pointers, mask, self.checks)
        element: Value = step.op.element(mixed, at, reader)
        return element

    def _read(self, load: Load, spot: _Spot) -> Vector:
        pointer, place = self.pointers[load.access.buffer], self._position(load.access, spot)
        safe = load.access.offset
        x = read(spot.mixed, pointer, place, load.dtype, spot.mask, safe=safe)
        return spot.mixed.spread(x)

    def _write(self, x: Vector, access: Access, spot: _Spot) -> None:
        assert access.inner == row_major_strides(self.flat.loops.inner), "stores go in order"
        place = self._position(access, spot)
        assert isinstance(place, Ramp)
        f, start = self.function, spot.mixed.start(place)
        if access.offset:
            start = f.binary("add", start, integer(access.offset))
        pointer = self.pointers[access.buffer]
        if spot.mask is None:
            self.wide.store(x, pointer, start)
        else:
            self.wide.store_first(x, pointer, start, spot.mask)

    def _scratch(self, i: int) -> Ssa:
        f = self.function
        return f.at(f.parameters[3], "i8", integer(self.saved[i]))


def _goes_by_line(flat: Flat) -> bool:
    """Whether whole vectors fill the lines of an inner domain whose axes do not merge."""
    inner = flat.loops.inner
    if flat.total is not None or len(inner) < 2 or inner[-1] % LANES or not inner[-1]:
        return False
    flattened = row_major_strides(inner)
    return any(any(w.inner) and w.inner != flattened for w in walks_of(flat.loops))


def _coordinates(f: Function, number: Ssa, sizes: Shape) -> list[Ssa]:
    """The coordinates of an element of a domain, by its number in row-major order."""
    coordinates: list[Ssa] = []
    for size in reversed(sizes[1:]):
        coordinates.append(f.binary("urem", number, integer(size)))
        number = f.binary("udiv", number, integer(size))
    return [number, *reversed(coordinates)] if sizes else []


def _bounds(strides: tuple[int, ...], sizes: Shape) -> tuple[int, int]:
    """The least and the greatest number of steps of a walk."""
    reach = [s * (n - 1) for s, n in zip(strides, sizes, strict=True)]
    return sum(min(r, 0) for r in reach), sum(max(r, 0) for r in reach)
