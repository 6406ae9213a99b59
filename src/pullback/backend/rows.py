"""Loop kernels: elementwise work and reductions over rows, written as vector code.

A row is walked in passes. Pass p computes what depends on p reductions of the row one after the
other; what an earlier pass computed is read back if it was stored, computed again if that is cheap,
and kept in the thread's scratch otherwise.

The order of a reduction is fixed by its op and shape alone: element i of a row goes to lane
i mod 16, a lane folds its elements in order, the lanes are folded in halves. So its bits do not
depend on the kernel it is part of.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from pullback.backend.assembly import Function, Ssa, integer
from pullback.backend.lanes import LANES, Lanes
from pullback.backend.vector import Vector
from pullback.ir.types import DType, Shape, bfloat16, float16, float32, int64
from pullback.schedule.kernels import Access, Apply, Extent, Fold, Literal, Load, Loops, Step

CHUNK = 4096
"""Elements of a flat domain in one outer iteration: 16 KB of float32 an operand, half of L1."""


@dataclass(frozen=True, slots=True)
class LoopKernel:
    """A written kernel: its code, its outer iterations, the scratch bytes of a thread."""

    function: Function
    buffers: tuple[int, ...]
    iterations: int
    scratch: int


def write_loops(loops: Loops, name: str) -> LoopKernel:
    """`void @name(ptr %operands, i64 %begin, i64 %end, ptr %scratch)` for a row kernel."""
    flat = _flattened(loops)
    writer = _Writer(flat, name)
    writer.write()
    iterations = -(-flat.total // CHUNK) if flat.total is not None else math.prod(flat.loops.outer)
    return LoopKernel(writer.function, writer.buffers, iterations, writer.scratch_bytes)


# ---- the shape of the loops -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Flat:
    """A row kernel with merged axes and one inner one; `total` is set when rows are its chunks."""

    loops: Loops
    total: int | None


def _flattened(loops: Loops) -> _Flat:
    accesses = [s.access for s in loops.steps if isinstance(s, Load)]
    accesses += [s.access for s in loops.stores]
    if not loops.inner and not any(isinstance(s, Fold) for s in loops.steps):
        return _pointwise(loops, accesses)
    outer = _merged(loops.outer, [a.outer for a in accesses])
    inner = _merged(loops.inner, [a.inner for a in accesses if a.inner])
    return _Flat(_reshaped(loops, outer, inner), None)


def _pointwise(loops: Loops, accesses: list[Access]) -> _Flat:
    """A kernel without reductions: its last axis is the inner one, or chunks of its only one."""
    groups = _merged(loops.outer, [a.outer for a in accesses])
    if len(groups) <= 1:
        total = math.prod(loops.outer)
        flat = _reshaped(loops, [], groups, shift=True)
        return _Flat(replace(flat, inner=(total,)), total)
    return _Flat(_reshaped(loops, groups[:-1], groups[-1:], shift=True), None)


def _merged(shape: Shape, strides: list[tuple[int, ...]]) -> list[list[int]]:
    """Axes in runs that every operand walks with one stride."""
    runs: list[list[int]] = []
    for axis in range(len(shape)):
        if runs and all(s[runs[-1][-1]] == s[axis] * shape[axis] for s in strides):
            runs[-1].append(axis)
        else:
            runs.append([axis])
    return runs


def _reshaped(
    loops: Loops, outer: list[list[int]], inner: list[list[int]], shift: bool = False
) -> Loops:
    """Each run of axes as one; with `shift` the inner runs are axes of the outer domain."""
    inner_shape = loops.outer if shift else loops.inner

    def moved(access: Access) -> Access:
        source = access.outer if shift else access.inner
        return Access(
            access.buffer,
            access.offset,
            tuple(access.outer[run[-1]] for run in outer),
            tuple(source[run[-1]] for run in inner) if source else (1,) if shift else (),
        )

    steps = tuple(
        replace(s, access=moved(s.access)) if isinstance(s, Load) else s for s in loops.steps
    )
    stores = tuple(replace(s, access=moved(s.access)) for s in loops.stores)
    return Loops(
        tuple(math.prod(loops.outer[a] for a in run) for run in outer),
        tuple(math.prod(inner_shape[a] for a in run) for run in inner),
        steps,
        stores,
    )


# ---- passes ---------------------------------------------------------------------------------


def _levels(steps: tuple[Step, ...]) -> list[int]:
    """For each step the number of reductions of its row that must be done before it."""
    levels: list[int] = []
    for step in steps:
        match step:
            case Apply():
                levels.append(max((levels[i] for i in step.arguments), default=0))
            case Fold():
                levels.append(levels[step.argument] + 1)
            case _:
                levels.append(0)
    return levels


@dataclass(slots=True)
class _Writer:
    flat: _Flat
    name: str
    function: Function = field(init=False)
    wide: Lanes = field(init=False)
    single: Lanes = field(init=False)
    buffers: tuple[int, ...] = field(init=False)
    pointers: dict[int, Ssa] = field(init=False, default_factory=dict)
    rows: dict[int, Vector] = field(init=False, default_factory=dict)
    saved: dict[int, int] = field(init=False, default_factory=dict)
    scratch_bytes: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        loops = self.flat.loops
        self.function = Function(
            self.name,
            [
                ("ptr noalias", "operands"),
                ("i64", "begin"),
                ("i64", "end"),
                ("ptr noalias", "scratch"),
            ],
        )
        self.wide = Lanes(self.function)
        self.single = Lanes(self.function, 1)
        self.buffers = tuple(sorted(loops.reads() | loops.writes()))
        self.levels = _levels(loops.steps)
        self.stored = {s.value: s.access for s in loops.stores}

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
            starts = {access: self._along(access, start) for access in self._accesses()}
            self._pass(0, starts, count)
            return
        starts = self._starts(row)
        count = integer(math.prod(loops.inner)) if loops.inner else integer(1)
        for number in range(max(self.levels, default=0) + 1):
            self._rows_ready(number, starts)
            if loops.inner and self._work(number):
                self._pass(number, starts, count)
        self._rows_stored(starts)

    def _accesses(self) -> list[Access]:
        loops = self.flat.loops
        loads = [s.access for s in loops.steps if isinstance(s, Load)]
        return loads + [s.access for s in loops.stores]

    def _along(self, access: Access, index: Ssa) -> Ssa:
        """The offset of element `index` of a flat domain."""
        f, stride = self.function, access.inner[0]
        moved = index if stride == 1 else f.binary("mul", index, integer(stride))
        return f.binary("add", moved, integer(access.offset)) if access.offset else moved

    def _starts(self, row: Ssa) -> dict[Access, Ssa]:
        """For each operand the offset of this row."""
        f, outer = self.function, self.flat.loops.outer
        coordinates: list[Ssa] = []
        rest = row
        for i in reversed(range(len(outer))):
            if i == 0:
                coordinates.append(rest)
            else:
                coordinates.append(f.binary("urem", rest, integer(outer[i])))
                rest = f.binary("udiv", rest, integer(outer[i]))
        coordinates.reverse()
        starts: dict[Access, Ssa] = {}
        for access in self._accesses():
            total = integer(access.offset)
            for place, stride in zip(coordinates, access.outer, strict=True):
                if stride:
                    total = f.binary("add", total, f.binary("mul", place, integer(stride)))
            starts[access] = total
        return starts

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
        """Costly values that a later pass reads and no store keeps."""
        loops = self.flat.loops
        readers = [(i, s) for i, s in enumerate(loops.steps) if isinstance(s, Apply | Fold)]
        for i, reader in readers:
            pass_of = self.levels[reader.argument] if isinstance(reader, Fold) else self.levels[i]
            for j in (reader.argument,) if isinstance(reader, Fold) else reader.arguments:
                step = loops.steps[j]
                costly = isinstance(step, Apply) and step.extent is Extent.FULL and is_costly(step)
                if (
                    costly
                    and self.levels[j] < pass_of
                    and j not in self.stored
                    and j not in self.saved
                ):
                    self.saved[j] = self.scratch_bytes
                    self.scratch_bytes += -(-math.prod(loops.inner) * 8 // 64) * 64 + 128

    # ---- values of the row ----

    def _rows_ready(self, number: int, starts: dict[Access, Ssa]) -> None:
        for i, step in enumerate(self.flat.loops.steps):
            if i in self.rows or step.extent is not Extent.ROW or self.levels[i] > number:
                continue
            match step:
                case Literal():
                    self.rows[i] = self.single.literal(step.value, step.dtype)
                case Load():
                    pointer = self.pointers[step.access.buffer]
                    self.rows[i] = self.single.load(pointer, starts[step.access], step.dtype)
                case Apply():
                    arguments = [self.rows[j] for j in step.arguments]
                    self.rows[i] = self.single.apply(step.op, *arguments)

    def _rows_stored(self, starts: dict[Access, Ssa]) -> None:
        for store in self.flat.loops.stores:
            if self.flat.loops.steps[store.value].extent is Extent.ROW:
                pointer = self.pointers[store.access.buffer]
                self.single.store(self.rows[store.value], pointer, starts[store.access])

    # ---- one pass over a row ----

    def _pass(self, number: int, starts: dict[Access, Ssa], count: Ssa) -> None:
        f = self.function
        folds = [self._fold(i) for i in self._folds(number)]
        begin = [self._start_of(fold) for fold in folds]
        whole = f.binary("and", count, integer(-LANES))
        with f.loop(integer(0), whole, LANES, begin) as loop:
            loop.carry(*self._body(number, folds, starts, loop.index, loop.values, None))
        with f.loop(whole, count, LANES, loop.results) as tail:  # once, or not at all
            mask = f.first_lanes(f.binary("sub", count, tail.index), LANES)
            tail.carry(*self._body(number, folds, starts, tail.index, tail.values, mask))
        for i, fold, total in zip(self._folds(number), folds, tail.results, strict=True):
            self.rows[i] = self._folded(fold, total)

    def _fold(self, i: int) -> Fold:
        step = self.flat.loops.steps[i]
        assert isinstance(step, Fold)
        return step

    def _start_of(self, fold: Fold) -> Ssa:
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

    def _body(
        self,
        number: int,
        folds: list[Fold],
        starts: dict[Access, Ssa],
        index: Ssa,
        totals: tuple[Ssa, ...],
        mask: Ssa | None,
    ) -> list[Ssa]:
        """One vector of the pass: values saved, accumulators moved on, values stored."""
        ready: dict[int, Vector] = {}

        def value(i: int) -> Vector:
            if i not in ready:
                ready[i] = self._value(i, number, starts, index, mask, value)
            return ready[i]

        for i in self._saves(number):
            self.wide.store(value(i), self._scratch(i), index)
        results = [
            self._accumulated(fold, total, value(fold.argument), mask)
            for fold, total in zip(folds, totals, strict=True)
        ]
        # All is read before anything is written: a result may take the place of an operand.
        stores = [self.flat.loops.stores[i] for i in self._stores(number)]
        for store in stores:
            value(store.value)
        for store in stores:
            self._write(value(store.value), store.access, starts, index, mask)
        return results

    def _value(
        self,
        i: int,
        number: int,
        starts: dict[Access, Ssa],
        index: Ssa,
        mask: Ssa | None,
        value: Callable[[int], Vector],
    ) -> Vector:
        f, step = self.function, self.flat.loops.steps[i]
        if step.extent is Extent.ROW and i in self.rows:
            row = self.rows[i]
            return Vector(f, f.spread(row.ssa, LANES), row.dtype)
        match step:
            case Literal():
                return self.wide.literal(step.value, step.dtype)
            case Load():
                return self._read(step.access, step.dtype, starts, index, mask)
            case Apply():
                if self.levels[i] < number and i in self.saved:
                    return self.wide.load(self._scratch(i), index, step.dtype)
                if self.levels[i] < number and is_costly(step) and i in self.stored:
                    return self._read(self.stored[i], step.dtype, starts, index, mask)
                return self.wide.apply(step.op, *[value(j) for j in step.arguments])
        raise AssertionError(step)

    def _accumulated(self, fold: Fold, total: Ssa, x: Vector, mask: Ssa | None) -> Ssa:
        f, dtype = self.function, accumulated(fold.dtype)
        old = Vector(f, total, dtype)
        new: Ssa = fold.op.combine(self.wide, old, self.wide.cast(x, dtype)).ssa
        return new if mask is None else f.select(mask, new, total)

    # ---- memory ----

    def _place(self, access: Access, starts: dict[Access, Ssa], index: Ssa) -> tuple[Ssa, int]:
        f = self.function
        stride = access.inner[0] if access.inner else 0
        if stride == 0:
            return starts[access], 0
        moved = index if stride == 1 else f.binary("mul", index, integer(stride))
        return f.binary("add", starts[access], moved), stride

    def _read(
        self, access: Access, dtype: DType, starts: dict[Access, Ssa], index: Ssa, mask: Ssa | None
    ) -> Vector:
        pointer = self.pointers[access.buffer]
        place, stride = self._place(access, starts, index)
        if stride == 0:
            return self.wide.splat(pointer, place, dtype)
        if stride == 1:
            if mask is None:
                return self.wide.load(pointer, place, dtype)
            return self.wide.load_first(pointer, place, dtype, mask)
        if mask is None:
            return self.wide.strided(pointer, place, stride, dtype)
        return self.wide.gathered(pointer, self._inside(place, stride, mask), dtype)

    def _inside(self, place: Ssa, stride: int, mask: Ssa) -> Vector:
        """Strided places; the first one in the lanes that are masked out."""
        f = self.function
        ladder = ", ".join(f"i64 {i * stride}" for i in range(LANES))
        kind = f"<{LANES} x i64>"
        steps = f.select(mask, Ssa(kind, f"<{ladder}>"), Ssa(kind, "zeroinitializer"))
        return Vector(f, f.binary("add", f.spread(place, LANES), steps), int64)

    def _write(
        self, x: Vector, access: Access, starts: dict[Access, Ssa], index: Ssa, mask: Ssa | None
    ) -> None:
        pointer = self.pointers[access.buffer]
        place, stride = self._place(access, starts, index)
        assert stride == 1, "a kernel stores its values in order"
        if mask is None:
            self.wide.store(x, pointer, place)
        else:
            self.wide.store_first(x, pointer, place, mask)

    def _scratch(self, i: int) -> Ssa:
        f = self.function
        return f.at(f.parameters[3], "i8", integer(self.saved[i]))


def accumulated(dtype: DType) -> DType:
    """The type that elements of `dtype` are folded in."""
    return float32 if dtype in (bfloat16, float16) else dtype


# ---- what is cheap to compute again ---------------------------------------------------------


class _Atoms:
    """A scalar algebra that only notes which operations a body uses."""

    def __init__(self) -> None:
        self.used: set[str] = set()

    def __getattr__(self, operation: str) -> Callable[..., None]:
        self.used.add(operation)
        return lambda *operands: None


_CHEAP = frozenset(
    [
        *("const", "cast", "bitcast", "add", "sub", "mul", "neg", "fma", "abs", "copysign"),
        *("minimum", "maximum", "floor", "ceil", "trunc", "round"),
        *("less", "less_equal", "equal", "select"),
        *("bit_and", "bit_or", "bit_xor", "bit_not", "shift_left", "shift_right"),
    ]
)


def is_costly(step: Apply) -> bool:
    """Whether an op's body does more than arithmetic that a vector unit does at once."""
    atoms = _Atoms()
    step.op.body(atoms, *([None] * len(step.arguments)))
    return not atoms.used <= _CHEAP
