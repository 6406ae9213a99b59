"""Products of matrices as native code.

One kernel is one product. Its outer iterations are pairs of a block of rows and a block of columns
in one batch. An iteration packs a panel of B ([k][columns], a few vectors wide), then runs a tile
of rows of A after another over it: the tile of C is held in registers while k runs.

Every element of C starts at 0 and adds one product after another in the order of k, each step one
`fma`. Tiles, blocks, threads and machines only change which elements are computed when.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pullback.backend.assembly import Function, Module, Ssa, integer, splat, vector
from pullback.backend.blocking import Blocking, Machine, Tile, blocking_of
from pullback.backend.dot import write_dot
from pullback.backend.packing import (
    UNROLL,
    VECTOR_BYTES,
    Level,
    Panel,
    bytes_of,
    copy_rows,
    load_strided,
    narrowed,
    offset,
    pack_panel,
    shifted,
    ssa,
    stored,
)
from pullback.backend.place import Epilogue, Place, multiply_add, start_value, store_result
from pullback.backend.product import Axis, Product


@dataclass(frozen=True)
class Kernel:
    """A kernel in a module: what a program needs to call it."""

    name: str
    iterations: int
    scratch: int
    """Bytes of memory of its own, 64-byte aligned, that each thread lends."""


def write(
    product: Product,
    machine: Machine,
    module: Module,
    name: str = "product",
    epilogue: Epilogue | None = None,
    extra: int = 0,
    tile: Tile | None = None,
    adds: bool = False,
) -> Kernel:
    """Write `void @name(ptr operands, i64 begin, i64 end, ptr scratch)`.

    The operands are A, B, C and `extra` ones for the epilogue, whose result is stored in place of
    the sum. C may be the same memory as an operand of the epilogue, not as A or B. One that `adds`
    goes on from the sums in C: it is the next part of a longer product.
    """
    parameters = [("ptr", "operands"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")]
    f = Function(name, parameters)
    if product.row.size == product.column.size == 1 and product.sums:
        kernel = Kernel(name, product.batches, write_dot(f, product, epilogue, extra))
    else:
        blocking = blocking_of(product, machine, tile, adds)
        kernel = Kernel(name, blocking.iterations, blocking.scratch)
        if blocking.iterations:
            _Writer(f, blocking, epilogue, extra).write()
    f.finish()
    module.add(f, exported=True)
    return kernel


@dataclass
class _Writer:
    f: Function
    cut: Blocking
    epilogue: Epilogue | None
    extra: int
    pointers: list[Ssa] = field(default_factory=list)
    batch: tuple[Ssa, ...] = ()

    @property
    def element(self) -> str:
        return self.cut.element

    @property
    def raw(self) -> str:
        return stored(self.cut.product.dtype)

    def write(self) -> None:
        f, cut = self.f, self.cut
        operands, begin, end, scratch = f.parameters
        self.pointers = [
            f.load("ptr", shifted(f, operands, "ptr", i), 8) for i in range(3 + self.extra)
        ]
        self.panel = scratch
        self.copy = shifted(f, scratch, "i8", cut.panel_bytes)
        self.sums = shifted(f, scratch, "i8", cut.panel_bytes + cut.copy_bytes)
        with f.loop(begin, end) as loop:
            self._iteration(loop.index)

    # ---- one iteration ----

    def _iteration(self, number: Ssa) -> None:
        f, cut, product = self.f, self.cut, self.cut.product
        number, columns = self._split(number, cut.column_blocks)
        number, rows = self._split(number, cut.row_blocks)
        indices = []
        for axis in reversed(product.batch):
            number, index = self._split(number, axis.size)
            indices.append(index)
        self.batch = tuple(reversed(indices))
        a, b, self.c = (self._origin(i, name) for i, name in enumerate("abc"))
        self.first_tile = f.binary("mul", rows, integer(cut.tiles_at_once))
        self.last_tile = self._at_most(self.first_tile, cut.tiles_at_once, cut.tiles)
        self.first_row = self._row_of(self.first_tile, cut.low)
        self.first_panel = f.binary("mul", columns, integer(cut.panels_at_once))
        self.last_panel = self._at_most(self.first_panel, cut.panels_at_once, cut.panels)
        if cut.adds:
            self._resume()
        elif cut.blocked:
            self._clear()
        for here, there, depths in self._passes(a, b):
            self._pass(here, there, depths)
        if cut.blocked:
            self._finish()

    def _split(self, number: Ssa, size: int) -> tuple[Ssa, Ssa]:
        """Quotient and remainder."""
        if size == 1:
            return number, integer(0)
        f = self.f
        return f.binary("udiv", number, integer(size)), f.binary("urem", number, integer(size))

    def _origin(self, operand: int, name: str) -> Ssa:
        pointer = shifted(
            self.f, self.pointers[operand], self.raw, self.cut.product.origin[operand]
        )
        for axis, index in zip(self.cut.product.batch, self.batch, strict=True):
            pointer = offset(self.f, pointer, self.raw, index, getattr(axis, name))
        return pointer

    def _at_most(self, first: Ssa, count: int, limit: int) -> Ssa:
        f = self.f
        after = f.binary("add", first, integer(count))
        return f.select(f.compare("icmp slt", after, integer(limit)), after, integer(limit))

    def _row_of(self, tile: Ssa, low: int) -> Ssa:
        """The first row of a tile: those before it are `low` high, the first `tall` one more."""
        f = self.f
        row = f.binary("mul", tile, integer(low))
        return f.binary("add", row, self._at_most(tile, 0, self.cut.tall)) if self.cut.tall else row

    def _passes(self, a: Ssa, b: Ssa) -> Iterator[tuple[Ssa, Ssa, list[Axis | tuple[Axis, Ssa]]]]:
        """A and B at the first k of each pass, and the axes that it walks through."""
        cut = self.cut
        outer, number, chunk, rest = cut.passes
        if number < 0:
            yield a, b, list(rest)
            return
        axis = cut.product.inner[number]
        with_loops = [(each, each.size, 1) for each in outer] + [(axis, axis.size, chunk)]
        yield from self._nest(with_loops, a, b, rest)

    def _nest(
        self, loops: list[tuple[Axis, int, int]], a: Ssa, b: Ssa, rest: tuple[Axis, ...]
    ) -> Iterator[tuple[Ssa, Ssa, list[Axis | tuple[Axis, Ssa]]]]:
        f = self.f
        (axis, size, step), inner = loops[0], loops[1:]
        with f.loop(integer(0), integer(size), step) as loop:
            here = offset(f, a, self.raw, loop.index, axis.a)
            there = offset(f, b, self.raw, loop.index, axis.b)
            if inner:
                yield from self._nest(inner, here, there, rest)
            elif size % step:
                after = self._at_most(loop.index, step, size)
                count = f.binary("sub", after, loop.index)
                yield here, there, [(axis, count), *rest]
            else:
                chunk = Axis(step, axis.a, axis.b)
                yield here, there, [chunk, *rest]

    # ---- one pass over k ----

    def _pass(self, a: Ssa, b: Ssa, depths: list[Axis | tuple[Axis, Ssa]]) -> None:
        f, cut, product = self.f, self.cut, self.cut.product
        axes = [each if isinstance(each, tuple) else (each, each.size) for each in depths]
        flat = _flat_steps([axis.size for axis, _ in axes])
        rows = [Level(count, axis.a, step) for (axis, count), step in zip(axes, flat, strict=True)]
        columns = [
            Level(count, axis.b, step * cut.width)
            for (axis, count), step in zip(axes, flat, strict=True)
        ]
        if cut.copies:
            after = self._row_of(self.last_tile, cut.low)
            count = f.binary("sub", after, self.first_row)
            origin = offset(f, a, self.raw, self.first_row, product.row.a)
            block = Level(count, product.row.a, cut.pitch)
            copy_rows(f, self.raw, block, rows, origin, self.copy)
            rows = [Level(each.count, each.packed, each.packed) for each in rows]
            a, self.step_a, self.origin_row = self.copy, cut.pitch, self.first_row
        else:
            self.step_a, self.origin_row = product.row.a, integer(0)
        with f.loop(self.first_panel, self.last_panel) as loop:
            self._panel(loop.index, a, b, rows, columns)

    def _panel(self, panel: Ssa, a: Ssa, b: Ssa, rows: list[Level], columns: list[Level]) -> None:
        f, cut = self.f, self.cut
        column = f.binary("mul", panel, integer(cut.width))
        source = offset(f, b, self.raw, column, cut.product.column.b)
        if cut.direct:
            for count in self._widths(panel):
                if count == cut.width:
                    there = [Level(x.count, x.source, x.source) for x in columns]
                    self._tiles(panel, a, source, rows, there, [count])
                else:
                    self._pack(count, columns, source)
                    self._tiles(panel, a, self.panel, rows, columns, [count])
            return
        for count in self._widths(panel):
            self._pack(count, columns, source)
        self._tiles(panel, a, self.panel, rows, columns, None)

    def _pack(self, count: int, columns: list[Level], source: Ssa) -> None:
        panel = Panel(self.raw, self.cut.width, count, self.cut.product.column.b)
        pack_panel(self.f, panel, columns, source, self.panel)

    def _widths(self, panel: Ssa) -> Iterator[int]:
        """The number of columns of this panel: code for full ones, and for the last."""
        f, cut = self.f, self.cut
        if not cut.edge or cut.panels == 1:
            yield cut.edge or cut.width
            return
        last = integer(cut.panels - 1)
        with f.when(f.compare("icmp ne", panel, last)):
            yield cut.width
        with f.when(f.compare("icmp eq", panel, last)):
            yield cut.edge

    # ---- tiles ----

    def _tiles(
        self,
        panel: Ssa,
        a: Ssa,
        b: Ssa,
        rows: list[Level],
        columns: list[Level],
        widths: list[int] | None,
    ) -> None:
        f, cut = self.f, self.cut
        switch = integer(cut.tall)
        tall_end = self._at_most(self.last_tile, 0, cut.tall)
        low_start = f.select(
            f.compare("icmp sgt", self.first_tile, switch), self.first_tile, switch
        )
        ranges = [(cut.low + 1, self.first_tile, tall_end)] if cut.tall else []
        if cut.tall < cut.tiles:
            ranges.append((cut.low, low_start, self.last_tile))
        for height, start, stop in ranges:
            with f.loop(start, stop) as loop:
                row = self._row_of(loop.index, cut.low)
                self._tile(height, row, panel, (a, b), (rows, columns), widths)

    def _tile(
        self,
        height: int,
        row: Ssa,
        panel: Ssa,
        at: tuple[Ssa, Ssa],
        levels: tuple[list[Level], list[Level]],
        widths: list[int] | None,
    ) -> None:
        f, cut = self.f, self.cut
        a = offset(f, at[0], self._a_element, f.binary("sub", row, self.origin_row), self.step_a)
        places = self._resting(panel, row, height) if cut.blocked else []
        kind = vector(cut.lanes, self.element)
        if cut.blocked:
            sums = [f.load(kind, place, VECTOR_BYTES) for place in places]
        else:
            start = splat(start_value(self.element, cut.product.sums), cut.lanes)
            sums = [start] * (height * cut.tile.vectors)
        levels_here = _merged([(x.count, x.source, y.packed) for x, y in zip(*levels, strict=True)])
        if 0 not in (count for count, _, _ in levels_here):
            sums = self._sweep(levels_here, a, at[1], sums)
        for place, value in zip(places, sums, strict=cut.blocked):
            f.store(value, place, VECTOR_BYTES)
        if not cut.blocked:
            for count in widths or self._widths(panel):
                for i in range(height):
                    values = sums[i * cut.tile.vectors : (i + 1) * cut.tile.vectors]
                    self._store_row(f.binary("add", row, integer(i)), panel, values, count)

    @property
    def _a_element(self) -> str:
        return self.element if self.cut.copies else self.raw

    def _sweep(
        self, levels: Sequence[tuple[int | Ssa, int, int]], a: Ssa, b: Ssa, sums: list[Ssa]
    ) -> list[Ssa]:
        """Add the products over all k of `levels`: (count, step in A, step in B)."""
        f = self.f
        (count, step_a, step_b), inner = levels[0], levels[1:]
        if not inner:
            return self._line(count, (step_a, step_b), (a, b), sums)
        with f.loop(integer(0), ssa(count), carried=[a, b, *sums]) as loop:
            here, there, *values = loop.values
            values = self._sweep(inner, here, there, values)
            loop.carry(*self._advanced(here, there, (step_a, step_b)), *values)
        return list(loop.results[2:])

    def _line(
        self, count: int | Ssa, steps: tuple[int, int], at: tuple[Ssa, Ssa], sums: list[Ssa]
    ) -> list[Ssa]:
        """The innermost axis of k: unrolled, then one by one."""
        f = self.f
        if isinstance(count, int) and count < 2 * UNROLL:
            return self._steps(count, steps, at, sums)
        whole = (
            integer(count // UNROLL * UNROLL)
            if isinstance(count, int)
            else f.binary("and", count, integer(-UNROLL))
        )
        state = [*at, *sums]
        with f.loop(integer(0), whole, UNROLL, carried=state) as loop:
            a, b, *values = loop.values
            values = self._steps(UNROLL, steps, (a, b), values)
            distance = (UNROLL * steps[0], UNROLL * steps[1])
            loop.carry(*self._advanced(a, b, distance), *values)
        if isinstance(count, int):
            a, b, *values = loop.results
            return self._steps(count % UNROLL, steps, (a, b), values)
        with f.loop(whole, count, carried=loop.results) as tail:
            a, b, *values = tail.values
            values = self._steps(1, steps, (a, b), values)
            tail.carry(*self._advanced(a, b, steps), *values)
        return list(tail.results[2:])

    def _advanced(self, a: Ssa, b: Ssa, steps: tuple[int, int]) -> tuple[Ssa, Ssa]:
        f = self.f
        return shifted(f, a, self._a_element, steps[0]), shifted(f, b, self.element, steps[1])

    def _steps(
        self, count: int, steps: tuple[int, int], at: tuple[Ssa, Ssa], sums: Sequence[Ssa]
    ) -> list[Ssa]:
        """`count` steps of k, written out."""
        f, cut, sums = self.f, self.cut, list(sums)
        vectors, align = cut.tile.vectors, bytes_of(self.element)
        kind = vector(cut.lanes, self.element)
        for k in range(count):
            b = shifted(f, at[1], self.element, k * steps[1])
            row = [
                f.load(kind, shifted(f, b, self.element, j * cut.lanes), align)
                for j in range(vectors)
            ]
            for i in range(len(sums) // vectors):
                here = shifted(f, at[0], self._a_element, k * steps[0] + i * self.step_a)
                x = f.spread(f.load(self._a_element, here, align), cut.lanes)
                for j in range(vectors):
                    sums[i * vectors + j] = multiply_add(f, x, row[j], sums[i * vectors + j])
        return sums

    # ---- results ----

    def _store_row(self, row: Ssa, panel: Ssa, values: Sequence[Ssa], count: int) -> None:
        f, cut, product = self.f, self.cut, self.cut.product
        line = offset(f, self.c, self.raw, row, product.row.c)
        for j, value in enumerate(values):
            lanes = min(cut.lanes, count - j * cut.lanes)
            if lanes <= 0:
                continue
            column = f.binary("mul", panel, integer(cut.width))
            column = f.binary("add", column, integer(j * cut.lanes))
            place = Place(self.batch, row, column, lanes, cut.lanes, tuple(self.pointers[3:]))
            target = offset(f, line, self.raw, column, product.column.c)
            value = narrowed(f, value, self.raw)
            store_result(f, value, target, product.column.c, place, self.epilogue)

    def _resting(self, panel: Ssa, row: Ssa, height: int) -> list[Ssa]:
        """Where the sums of a tile rest between two passes."""
        f, cut = self.f, self.cut
        number = f.binary("sub", panel, self.first_panel)
        first = f.binary("mul", number, integer(cut.rows_at_once))
        first = f.binary("add", first, f.binary("sub", row, self.first_row))
        origin = offset(f, self.sums, self.element, first, cut.width)
        steps = range(0, height * cut.width, cut.lanes)
        return [shifted(f, origin, self.element, step) for step in steps]

    def _clear(self) -> None:
        f, cut = self.f, self.cut
        zeros = splat(start_value(self.element, sums=True), cut.lanes)
        with f.loop(integer(0), integer(cut.sums_bytes), VECTOR_BYTES) as loop:
            f.store(zeros, f.at(self.sums, "i8", loop.index), VECTOR_BYTES)

    def _resume(self) -> None:
        """The sums so far, from C."""
        f, step = self.f, self.cut.product.column.c
        for row, panel, count in self._rows():
            line = offset(f, self.c, self.raw, row, self.cut.product.row.c)
            first = f.binary("mul", panel, integer(self.cut.width))
            for j, place in enumerate(self._resting(panel, row, 1)):
                column = f.binary("add", first, integer(j * self.cut.lanes))
                source = offset(f, line, self.raw, column, step)
                lanes = max(0, min(self.cut.lanes, count - j * self.cut.lanes))
                value = load_strided(f, self.raw, self.cut.lanes, lanes, source, step)
                f.store(value, place, VECTOR_BYTES)

    def _finish(self) -> None:
        """The resting sums through the epilogue into C."""
        kind = vector(self.cut.lanes, self.element)
        for row, panel, count in self._rows():
            places = self._resting(panel, row, 1)
            values = [self.f.load(kind, place, VECTOR_BYTES) for place in places]
            self._store_row(row, panel, values, count)

    def _rows(self) -> Iterator[tuple[Ssa, Ssa, int]]:
        """Loops over this iteration's rows of C: (row, panel, columns of the panel)."""
        f, after = self.f, self._row_of(self.last_tile, self.cut.low)
        with f.loop(self.first_panel, self.last_panel) as panels:
            for count in self._widths(panels.index):
                with f.loop(self.first_row, after) as rows:
                    yield rows.index, panels.index, count


def _flat_steps(sizes: Sequence[int]) -> list[int]:
    """How many k one step of each axis is; the first size may be that of a longer axis."""
    steps = [1]
    for size in reversed(sizes[1:]):
        steps.insert(0, steps[0] * size)
    return steps


def _merged(levels: Sequence[tuple[int | Ssa, int, int]]) -> list[tuple[int | Ssa, int, int]]:
    """The same walk in fewer loops: (count, step in A, step in B)."""
    merged: list[tuple[int | Ssa, int, int]] = []
    for count, a, b in levels:
        if merged and isinstance(count, int):
            outer, outer_a, outer_b = merged[-1]
            if isinstance(outer, int) and (outer_a, outer_b) == (a * count, b * count):
                merged[-1] = (outer * count, a, b)
                continue
        merged.append((count, a, b))
    return merged
