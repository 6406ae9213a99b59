"""Products of matrices as native code.

One kernel is one product. Its outer iterations are pairs of a block of rows and a block of columns
in one batch. An iteration packs a panel of B ([k][columns], a few vectors wide), then runs a tile
of rows of A after another over it: the tile of C is held in registers while k runs.

Every element of C starts at 0 and adds one product after another in the order of k, each step one
`fma`. Tiles, blocks, threads and machines only change which elements are computed when.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

from pullback.backend.assembly import Function, Module, Ssa, integer, splat, vector
from pullback.backend.blocking import Blocking, Machine, Tile, blocking_of
from pullback.backend.dot import write_dot
from pullback.backend.packing import (
    VECTOR_BYTES,
    Count,
    Level,
    Panel,
    copy_rows,
    copy_strip,
    load_strided,
    narrowed,
    offset,
    pack_panel,
    pack_panels,
    shifted,
    ssa,
    stored,
    times,
    walk,
    widened,
)
from pullback.backend.place import Epilogue, Lines, Place, start_value, store_result
from pullback.backend.product import Axis, Product
from pullback.backend.tiles import Dense, tile_function


@dataclass(frozen=True)
class Kernel:
    """A kernel in a module: what a program needs to call it."""

    name: str
    iterations: int
    scratch: int
    """Bytes of memory of its own, 64-byte aligned, that each thread lends."""
    packing: Packing | None = None
    """How B must have been packed before."""


@dataclass(frozen=True)
class Packing:
    """A kernel with the operands B and `size` bytes for its panels: one iteration a panel."""

    name: str
    iterations: int
    size: int


def write(
    product: Product,
    machine: Machine,
    module: Module,
    name: str = "product",
    epilogue: Epilogue | None = None,
    results: int = 1,
    tile: Tile | None = None,
    adds: Sums | None = None,
    lines: Lines | None = None,
    fixed: bool = False,
) -> Kernel:
    """Write `void @name(ptr operands, i64 begin, i64 end, ptr scratch)`.

    The operands are A, B, and `results` more: C and others that the epilogue uses. It gives what is
    stored in C, or stores all that it wants itself; `lines` are those it touches. C may be the same
    memory as one of the others, not as A or B. A product that `adds` goes on from sums, those that
    are stored in C or given as the last operand: it is the next part of a longer one. Of a B that
    is `fixed` while the product runs many times the panels are packed once, by another kernel,
    where that pays.
    """
    f = Function.kernel(name)
    if product.row.size == product.column.size == 1 and product.sums:
        assert not adds, "a dot product is not written in parts"
        kernel = Kernel(name, product.batches, write_dot(f, product, epilogue, results))
    else:
        blocking, packing = blocking_of(product, machine, tile), None
        if fixed and blocking.iterations and blocking.may_be_packed:
            blocking = blocking_of(product, machine, tile, packed=True)
            packing = _write_packing(blocking, module, f"{name}_packing")
        kernel = Kernel(name, blocking.iterations, blocking.scratch, packing)
        if blocking.iterations:
            _Writer(f, module, blocking, epilogue, results, adds, lines).write()
    f.finish()
    module.add(f, exported=True)
    return kernel


def _write_packing(cut: Blocking, module: Module, name: str) -> Packing:
    f = Function.kernel(name)
    operands, begin, end, _ = f.parameters
    product, raw = cut.product, stored(cut.product.dtype)
    b, panels = (f.load("ptr", shifted(f, operands, "ptr", i), 8) for i in range(2))
    b = shifted(f, b, raw, product.origin[1])
    steps = _flat_steps([axis.size for axis in product.inner])
    levels = [
        Level(axis.size, axis.b, step * cut.width)
        for axis, step in zip(product.inner, steps, strict=True)
    ]
    whole = cut.panels - (cut.edge > 0)
    for width, first, last in ((cut.width, 0, whole), (cut.edge, whole, cut.panels)):
        if first == last:
            continue
        start = f.call("llvm.smax.i64", "i64", begin, integer(first))
        with f.loop(start, f.call("llvm.smin.i64", "i64", end, integer(last))) as loop:
            column = f.binary("mul", loop.index, integer(cut.width))
            source = offset(f, b, raw, column, product.column.b)
            target = offset(f, panels, raw, loop.index, product.depth * cut.width)
            panel = Panel(raw, cut.width, width, product.column.b)
            pack_panel(f, module, panel, levels, source, target)
    f.finish()
    module.add(f, exported=True)
    return Packing(name, cut.panels, cut.packed_bytes)


DEEP = 64
"""The depth of a product from which its tiles take longer than memory takes to answer."""

Sums = Literal["stored", "given"]
"""Where the sums lie that a product goes on from."""

Condition = bool | Ssa
"""What is known when the code is written, or when it runs."""


@dataclass(frozen=True)
class _Pass:
    """A part of k: A and B at its first k, its axes, and whether it is the first or the last."""

    a: Ssa
    b: Ssa
    axes: list[tuple[Axis, int | Ssa]]
    first: Condition = True
    last: Condition = True


@dataclass(frozen=True)
class _Line:
    """A as the tiles walk it: where k = 0 lies, the steps of k (0: the height of the tile), of a
    row, and from a row to that which begins the next tile."""

    start: Ssa
    k: int
    row: int
    tile: Count


@dataclass
class _Writer:
    f: Function
    module: Module
    cut: Blocking
    epilogue: Epilogue | None
    results: int
    adds: Sums | None
    lines: Lines | None
    pointers: list[Ssa] = field(default_factory=list)
    batch: tuple[Ssa, ...] = ()
    packed_steps: dict[Axis, int] = field(default_factory=dict)

    @property
    def element(self) -> str:
        return self.cut.element

    @property
    def raw(self) -> str:
        return stored(self.cut.product.dtype)

    @property
    def plain(self) -> bool:
        """Whether full tiles are stored in C as they are."""
        product = self.cut.product
        return self.epilogue is None and product.column.c == 1 and self.raw == self.element

    @property
    def late(self) -> bool:
        """Whether the epilogue runs when all sums of an iteration are there, row by row: it walks
        through long lines then. Tile by tile, three streams beside a large product cost twice what
        they cost alone."""
        return self.lines is not None and self.cut.blocked and self.cut.panels_at_once > 1

    def write(self) -> None:
        f, cut = self.f, self.cut
        operands, begin, end, scratch = f.parameters
        self.pointers = [
            f.load("ptr", shifted(f, operands, "ptr", i), 8) for i in range(2 + self.results)
        ]
        self.start, self.here, self.panel, self.copy, self.sums = (
            shifted(f, scratch, "i8", place) for place in cut.places
        )
        value = splat(start_value(self.element, cut.product.sums), cut.lanes)
        for i in range(cut.tile.vectors):
            f.store(value, shifted(f, self.start, self.element, i * cut.lanes), VECTOR_BYTES)
        with f.loop(begin, end) as loop:
            self._iteration(loop.index)

    # ---- one iteration ----

    def _iteration(self, number: Ssa) -> None:
        f, cut, product = self.f, self.cut, self.cut.product
        number, columns = self.f.divided(number, cut.column_blocks)
        number, rows = self.f.divided(number, cut.row_blocks)
        indices = []
        for axis in reversed(product.batch):
            number, index = self.f.divided(number, axis.size)
            indices.append(index)
        self.batch = tuple(reversed(indices))
        a, b, self.c = (self._origin(i, name) for i, name in enumerate("abc"))
        self.begun = self._origin(len(self.pointers) - 1, "c") if self.adds == "given" else self.c
        if cut.packed:
            b = self.pointers[1]
        self.first_tile = f.binary("mul", rows, integer(cut.tiles_at_once))
        self.last_tile = self._at_most(self.first_tile, cut.tiles_at_once, cut.tiles)
        self.first_row = self._row_of(self.first_tile)
        self.first_panel = f.binary("mul", columns, integer(cut.panels_at_once))
        self.last_panel = self._at_most(self.first_panel, cut.panels_at_once, cut.panels)
        for part in self._passes(a, b):
            self._pass(part)

    def _origin(self, operand: int, name: str) -> Ssa:
        place = self.cut.product.origin["abc".index(name)]
        pointer = shifted(self.f, self.pointers[operand], self.raw, place)
        for axis, index in zip(self.cut.product.batch, self.batch, strict=True):
            pointer = offset(self.f, pointer, self.raw, index, getattr(axis, name))
        return pointer

    def _at_most(self, first: Ssa, count: int, limit: int) -> Ssa:
        f = self.f
        after = f.binary("add", first, integer(count)) if count else first
        return f.select(f.compare("icmp slt", after, integer(limit)), after, integer(limit))

    def _row_of(self, tile: Ssa) -> Ssa:
        """The first row of a tile: those before it are `low` high, the first `tall` one more."""
        f, cut = self.f, self.cut
        row = f.binary("mul", tile, integer(cut.low))
        return f.binary("add", row, self._at_most(tile, 0, cut.tall)) if cut.tall else row

    # ---- passes over k ----

    def _passes(self, a: Ssa, b: Ssa) -> Iterator[_Pass]:
        cut = self.cut
        outer, number, chunk, rest = cut.passes
        whole: list[tuple[Axis, int | Ssa]] = [(axis, axis.size) for axis in rest]
        if number < 0:
            yield _Pass(a, b, whole)
            return
        axis = cut.product.inner[number]
        if cut.packed:
            steps = _flat_steps([each.size for each in cut.product.inner])
            self.packed_steps = {
                each: step * cut.width for each, step in zip(cut.product.inner, steps, strict=True)
            }
        loops = [(each, each.size, 1) for each in outer] + [(axis, axis.size, chunk)]
        yield from self._nest(loops, _Pass(a, b, whole))

    def _nest(self, loops: list[tuple[Axis, int, int]], part: _Pass) -> Iterator[_Pass]:
        f = self.f
        (axis, size, step), inner = loops[0], loops[1:]
        with f.loop(integer(0), integer(size), step) as loop:
            here = _Pass(
                offset(f, part.a, self.raw, loop.index, axis.a),
                offset(f, part.b, self.raw, loop.index, self.packed_steps.get(axis, axis.b)),
                part.axes,
                self._both(part.first, f.compare("icmp eq", loop.index, integer(0))),
                self._both(part.last, f.compare("icmp sge", loop.index, integer(size - step))),
            )
            if inner:
                yield from self._nest(inner, here)
                return
            count: int | Ssa = step
            if size % step:
                count = f.binary("sub", self._at_most(loop.index, step, size), loop.index)
            yield replace(here, axes=[(axis, count), *here.axes])

    def _pass(self, part: _Pass) -> None:
        f, cut, product = self.f, self.cut, self.cut.product
        flat = _flat_steps([axis.size for axis, _ in part.axes])
        levels = [
            Level(count, axis.a, step) for (axis, count), step in zip(part.axes, flat, strict=True)
        ]
        columns = [
            Level(count, axis.b, step * cut.width)
            for (axis, count), step in zip(part.axes, flat, strict=True)
        ]
        origin = self.first_row
        if cut.in_strips:
            a = self._strips(part.a, levels)
        elif cut.copies:
            count = f.binary("sub", self._row_of(self.last_tile), self.first_row)
            block = Level(count, product.row.a, cut.pitch)
            there = offset(f, part.a, self.raw, self.first_row, product.row.a)
            copy_rows(f, self.module, self.raw, block, levels, there, self.copy)
            a = _Line(self.copy, 1, cut.pitch, cut.pitch)
        else:
            step, origin = product.row.a, integer(0)
            a = _Line(part.a, _step(levels), step, step)
        with f.loop(self.first_panel, self.last_panel) as loop:
            b = self._panel(loop.index, part.b, columns)
            self._tiles(loop.index, part, (a, b), origin)
        if self.late:
            with self._when(part.last):
                self._finish_rows()

    def _place(self, panel: Ssa, source: Ssa, levels: list[Level]) -> tuple[Ssa, Condition]:
        """Where a panel is packed, and whether alone. The first of a group packs all of it; the
        last panels, too few for a group, are packed one by one."""
        f, cut = self.f, self.cut
        if cut.group == 1:
            return self.panel, True
        number = f.binary("sub", panel, self.first_panel)
        at = f.binary("and", number, integer(cut.group - 1))
        size = cut.deepest * cut.width
        end = f.binary("add", f.binary("sub", panel, at), integer(cut.group))
        whole = self._at_most(self.last_panel, 0, cut.panels - (cut.edge > 0))
        together = f.compare("icmp sle", end, whole)
        with f.when(f.binary("and", together, f.compare("icmp eq", at, integer(0)))):
            shape = Panel(self.raw, cut.width, cut.width, 1)
            level = replace(levels[0], packed=size)
            pack_panels(f, self.module, shape, cut.group, level, source, self.panel)
        return offset(f, self.panel, self.raw, at, size), self._not(together)

    def _strips(self, a: Ssa, levels: list[Level]) -> _Line:
        """A copy of a block of A, a tile of rows after another."""
        f, cut = self.f, self.cut
        depth: Count = 1
        for level in levels:
            depth = times(f, depth, level.count)
        *outer, last = levels
        with f.loop(self.first_tile, self.last_tile) as loop:
            row = self._row_of(loop.index)
            source = offset(f, a, self.raw, row, cut.product.row.a)
            done = f.binary("sub", row, self.first_row)
            target = offset(f, self.copy, self.raw, done, depth)
            for height, here in self._heights(loop.index):
                steps = [replace(x, packed=times(f, x.packed, height)) for x in outer]
                with self._when(here):
                    for origin, to in walk(f, steps, source, target, (self.raw, self.raw)):
                        copy_strip(f, self.module, self.raw, height, last, origin, to)
        return _Line(self.copy, 0, 1, depth)

    def _panel(self, panel: Ssa, b: Ssa, levels: list[Level]) -> tuple[Ssa, Ssa]:
        """The columns of a panel, packed or where they lie, and the step of k there."""
        f, cut = self.f, self.cut
        if cut.packed:
            return offset(f, b, self.raw, panel, cut.product.depth * cut.width), integer(cut.width)
        column = f.binary("mul", panel, integer(cut.width))
        source = offset(f, b, self.raw, column, cut.product.column.b)
        full = self._is_full(panel)
        place, alone = self._place(panel, source, levels)
        for width, here in ((cut.width, full), (cut.edge, self._not(full))):
            if width and here is not False and not (cut.direct and width == cut.width):
                with self._when(self._both(here, alone)):
                    shape = Panel(self.raw, cut.width, width, cut.product.column.b)
                    pack_panel(f, self.module, shape, levels, source, place)
        pitch = integer(cut.width)
        if not cut.direct:
            return place, pitch
        start = self._choose(full, source, place)
        return start, self._choose(full, integer(_step(levels)), pitch)

    # ---- tiles ----

    def _tiles(
        self, panel: Ssa, part: _Pass, at: tuple[_Line, tuple[Ssa, Ssa]], origin: Ssa
    ) -> None:
        f, cut = self.f, self.cut
        a, (b, b_k) = at
        depth: int | Ssa = 1
        for _, count in part.axes:
            depth = times(f, depth, count)
        with f.loop(self.first_tile, self.last_tile) as loop:
            row = self._row_of(loop.index)
            height, function = self._height(
                loop.index, Dense.FAR if cut.is_far else Dense.of(a.row, a.k)
            )
            start, here = self._ends(panel, row, height, part)
            line = offset(f, a.start, self._element_of_a, f.binary("sub", row, origin), a.tile)
            pointers = (line, b, start[0], here[0])
            steps = (depth, a.row, a.k or height, b_k, start[1], here[1])
            arguments = [*pointers, *(ssa(step) for step in steps)]
            if self.lines and not self.late and cut.product.depth >= DEEP:
                with self._when(part.last):
                    self._fetch(self.lines, panel, row, height)
            f.invoke(function, *arguments)
            if not self.late:
                with self._when(part.last):
                    self._finish(panel, row, height)

    @property
    def _element_of_a(self) -> str:
        return self.element if self.cut.copies else self.raw

    def _heights(self, tile: Ssa) -> list[tuple[int, Condition]]:
        """How many rows a tile may have, and whether it has."""
        cut = self.cut
        if not 0 < cut.tall < cut.tiles:
            return [(cut.low + (cut.tall > 0), True)]
        tall = self.f.compare("icmp slt", tile, integer(cut.tall))
        return [(cut.low + 1, tall), (cut.low, self._not(tall))]

    def _height(self, tile: Ssa, dense: Dense) -> tuple[Ssa, Ssa]:
        """The rows of a tile, and the function that computes it."""
        cut = self.cut
        tall: Condition = cut.tall > 0
        if 0 < cut.tall < cut.tiles:
            tall = self.f.compare("icmp slt", tile, integer(cut.tall))

        def function(rows: int) -> Ssa:
            name = tile_function(self.module, self.element, rows, cut.tile.vectors, dense)
            return Ssa("ptr", f"@{name}")

        height = self._choose(tall, integer(cut.low + 1), integer(cut.low))
        if isinstance(tall, bool):
            return height, function(cut.low + tall)
        return height, self.f.select(tall, function(cut.low + 1), function(cut.low))

    def _ends(
        self, panel: Ssa, row: Ssa, height: Ssa, part: _Pass
    ) -> tuple[tuple[Ssa, Ssa], tuple[Ssa, Ssa]]:
        """Where the sums of a tile begin, and where they go: each a place and its pitch."""
        cut = self.cut
        self.rest = self._resting(panel, row) if cut.blocked else self.here
        width = integer(cut.width)
        rest = self.rest, width
        stored = self._columns(self.c, panel, row)
        full = self._both(self.plain, self._is_full(panel))
        begin = self.start, integer(0)
        if self.adds:
            self._resume(panel, row, height, part)
            begin = self._choose_end(full, self._columns(self.begun, panel, row), rest)
        start = self._choose_end(part.first, begin, rest)
        return start, self._choose_end(self._both(part.last, full), stored, rest)

    def _columns(self, c: Ssa, panel: Ssa, row: Ssa) -> tuple[Ssa, Ssa]:
        """The place and the pitch of a tile of C, or of what is laid out like it."""
        f, step = self.f, self.cut.product.row.c
        column = f.binary("mul", panel, integer(self.cut.width))
        return f.at(offset(f, c, self.raw, row, step), self.raw, column), integer(step)

    def _choose_end(
        self, condition: Condition, x: tuple[Ssa, Ssa], y: tuple[Ssa, Ssa]
    ) -> tuple[Ssa, Ssa]:
        return self._choose(condition, x[0], y[0]), self._choose(condition, x[1], y[1])

    def _resume(self, panel: Ssa, row: Ssa, height: Ssa, part: _Pass) -> None:
        """The sums so far, to where those of a tile rest, but for those read where they lie."""
        f, cut = self.f, self.cut
        column = cut.product.column
        with self._when(part.first):
            for i, count in self._unfinished(panel, height):
                line = offset(f, self.rest, self.element, i, cut.width)
                source = offset(f, self.begun, self.raw, f.binary("add", row, i), cut.product.row.c)
                first = f.binary("mul", panel, integer(cut.width))
                source = offset(f, source, self.raw, first, column.c)
                for j in range(-(-count // cut.lanes)):
                    lanes = min(cut.lanes, count - j * cut.lanes)
                    here = shifted(f, source, self.raw, j * cut.lanes * column.c)
                    sums = load_strided(f, self.raw, cut.lanes, lanes, here, column.c)
                    place = shifted(f, line, self.element, j * cut.lanes)
                    f.store(widened(f, sums), place, VECTOR_BYTES)

    def _resting(self, panel: Ssa, row: Ssa) -> Ssa:
        """Where the sums of a tile rest between two passes."""
        f, cut = self.f, self.cut
        number = f.binary("sub", panel, self.first_panel)
        first = f.binary("mul", number, integer(cut.rows_at_once))
        first = f.binary("add", first, f.binary("sub", row, self.first_row))
        return offset(f, self.sums, self.element, first, cut.width)

    # ---- results ----

    def _finish(self, panel: Ssa, row: Ssa, height: Ssa) -> None:
        """The sums of a tile through the epilogue into C, but for those that are there."""
        f = self.f
        for i, count in self._unfinished(panel, height):
            line = offset(f, self.rest, self.element, i, self.cut.width)
            self._store_row(f.binary("add", row, i), panel, line, count)

    def _finish_rows(self) -> None:
        """The sums of an iteration through the epilogue into C."""
        f, cut = self.f, self.cut
        end = self._row_of(self.last_tile)
        with (
            f.loop(self.first_row, end) as rows,
            f.loop(self.first_panel, self.last_panel) as panels,
        ):
            row, panel = rows.index, panels.index
            line, full = self._resting(panel, row), self._is_full(panel)
            for width, here in ((cut.width, full), (cut.edge, self._not(full))):
                if width and here is not False:
                    with self._when(here):
                        self._store_row(row, panel, line, width)

    def _fetch(self, lines: Lines, panel: Ssa, row: Ssa, height: Ssa) -> None:
        """Ask for the memory that the epilogue of a tile touches: it comes while k runs."""
        f, cut = self.f, self.cut
        column = f.binary("mul", panel, integer(cut.width))
        with f.loop(integer(0), height) as loop:
            here, operands = f.binary("add", row, loop.index), tuple(self.pointers[2:])
            place = Place(self.batch, here, column, cut.width, cut.width, operands)
            for line, is_written in lines(f, place):
                f.prefetch(line, is_written)

    def _unfinished(self, panel: Ssa, height: Ssa) -> Iterator[tuple[Ssa, int]]:
        """Loops over the rows of a tile that does not lie in C as it is: (row, columns)."""
        cut, full = self.cut, self._is_full(panel)
        for width, here in ((cut.width, full), (cut.edge, self._not(full))):
            if width and here is not False and not (self.plain and width == cut.width):
                with self._when(here), self.f.loop(integer(0), height) as loop:
                    yield loop.index, width

    def _store_row(self, row: Ssa, panel: Ssa, sums: Ssa, count: int) -> None:
        f, cut, product = self.f, self.cut, self.cut.product
        line = offset(f, self.c, self.raw, row, product.row.c)
        first = f.binary("mul", panel, integer(cut.width))
        for j in range(-(-count // cut.lanes)):
            lanes = min(cut.lanes, count - j * cut.lanes)
            column = f.binary("add", first, integer(j * cut.lanes))
            place = Place(self.batch, row, column, lanes, cut.lanes, tuple(self.pointers[2:]))
            here = shifted(f, sums, self.element, j * cut.lanes)
            value = narrowed(
                f, f.load(vector(cut.lanes, self.element), here, VECTOR_BYTES), self.raw
            )
            target = offset(f, line, self.raw, column, product.column.c)
            store_result(f, value, target, product.column.c, place, self.epilogue)

    # ---- what is known when ----

    def _is_full(self, panel: Ssa) -> Condition:
        """Whether all columns of a panel exist."""
        cut = self.cut
        if not cut.edge or cut.panels == 1:
            return not cut.edge
        return self.f.compare("icmp ne", panel, integer(cut.panels - 1))

    def _choose(self, condition: Condition, x: Ssa, y: Ssa) -> Ssa:
        if isinstance(condition, bool):
            return x if condition else y
        return self.f.select(condition, x, y)

    def _both(self, x: Condition, y: Condition) -> Condition:
        if isinstance(x, bool):
            return y if x else False
        if isinstance(y, bool):
            return x if y else False
        return self.f.binary("and", x, y)

    def _not(self, x: Condition) -> Condition:
        if isinstance(x, bool):
            return not x
        return self.f.binary("xor", x, Ssa("i1", "true"))

    @contextmanager
    def _when(self, condition: Condition) -> Iterator[None]:
        if condition is True:
            yield
            return
        assert condition is not False
        with self.f.when(condition):
            yield


def _flat_steps(sizes: Sequence[int]) -> list[int]:
    """How many k one step of each axis is; the first size may be that of a longer axis."""
    steps = [1]
    for size in reversed(sizes[1:]):
        steps.insert(0, steps[0] * size)
    return steps


def _step(levels: Sequence[Level]) -> int:
    """The one step with which axes of k are walked."""
    step = next((x.source for x in reversed(levels) if x.count != 1), 1)
    assert isinstance(step, int)
    return step
