"""Pieces of matrices brought into the order in which a product reads them.

Vectors have the canonical width of 64 bytes. Pieces at an edge are read and written exactly, never
a byte beyond: the missing lanes are zero.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pullback.backend.assembly import Function, Module, Ssa, element_of, integer, vector, width_of
from pullback.ir.types import DType, bfloat16, float16, is_float, is_integer

VECTOR_BYTES = 64
UNROLL = 4
HALVES = {"half": "f16", "bfloat": "bf16"}

Count = int | Ssa


@dataclass(frozen=True)
class Level:
    """One loop through memory: its length and the step of the source and of the packed piece."""

    count: Count
    source: Count
    packed: Count


# ---- element types --------------------------------------------------------------------------


@functools.cache
def stored(dtype: DType) -> str:
    """The LLVM type of an element in memory."""
    if dtype == bfloat16:
        return "bfloat"
    if dtype == float16:
        return "half"
    if is_integer(dtype):
        return f"i{8 * dtype.itemsize}"
    if is_float(dtype):
        return "float" if dtype.itemsize == 4 else "double"
    raise ValueError(f"no products of {dtype}")


def summed(dtype: DType) -> str:
    """The LLVM type in which products of this element type are added."""
    return "float" if dtype in (bfloat16, float16) else stored(dtype)


def bytes_of(element: str) -> int:
    sizes = {"float": 4, "double": 8, "half": 2, "bfloat": 2}
    return sizes[element] if element in sizes else int(element[1:]) // 8


def widened(f: Function, x: Ssa) -> Ssa:
    """Half precision as float32; everything else as it is."""
    return f.convert("fpext", x, "float") if element_of(x.type) in HALVES else x


def narrowed(f: Function, x: Ssa, element: str) -> Ssa:
    """The inverse, rounded to nearest even."""
    if element == "half":
        return f.convert("fptrunc", x, element)
    return _to_bfloat(f, x) if element == "bfloat" else x


def _to_bfloat(f: Function, x: Ssa) -> Ssa:
    # In integers: LLVM would call a function of the C runtime for each element.
    bits = f.convert("bitcast", x, "i32")

    def constant(value: int) -> Ssa:
        width = width_of(bits.type)
        return Ssa(bits.type, str(value) if width == 1 else f"splat (i32 {value})")

    odd = f.binary("and", f.binary("lshr", bits, constant(16)), constant(1))
    rounded = f.binary("add", f.binary("add", bits, constant(0x7FFF)), odd)
    quiet = f.binary("or", bits, constant(0x400000))
    chosen = f.select(f.compare("fcmp uno", x, x), quiet, rounded)
    high = f.convert("trunc", f.binary("lshr", chosen, constant(16)), "i16")
    return f.convert("bitcast", high, "bfloat")


# ---- edges ----------------------------------------------------------------------------------


def load_prefix(f: Function, element: str, lanes: int, count: int, pointer: Ssa) -> Ssa:
    """`count` elements from memory, then zeros."""
    align, kind = bytes_of(element), vector(lanes, element)
    if count == lanes:
        return f.load(kind, pointer, align)
    part = f.load(vector(count, element), pointer, align)
    if count == 1:
        return f.assign(kind, f"insertelement {kind} zeroinitializer, {part}, i64 0")
    zeros = Ssa(part.type, "zeroinitializer")
    return f.shuffle(part, zeros, [min(i, count) for i in range(lanes)])


def load_strided(f: Function, element: str, lanes: int, count: int, pointer: Ssa, step: int) -> Ssa:
    """`count` elements from memory, `step` apart, then zeros."""
    if count and step == 1:
        return load_prefix(f, element, lanes, count, pointer)
    result = Ssa(vector(lanes, element), "zeroinitializer")
    for i in range(count):
        x = f.load(element, shifted(f, pointer, element, i * step), bytes_of(element))
        result = f.assign(result.type, f"insertelement {result}, {x}, i64 {i}")
    return result


def store_prefix(f: Function, value: Ssa, count: int, pointer: Ssa, align: int = 0) -> None:
    """The first `count` lanes to memory."""
    element = element_of(value.type)
    if count == 1:
        value = f.lane(value, 0)
    elif count < width_of(value.type):
        value = f.shuffle(value, Ssa(value.type, "poison"), range(count))
    f.store(value, pointer, align or bytes_of(element))


# ---- loops ----------------------------------------------------------------------------------


def offset(f: Function, pointer: Ssa, element: str, index: Count, step: Count) -> Ssa:
    """The address of element `index · step`."""
    distance = times(f, index, step)
    return pointer if distance == 0 else f.at(pointer, element, ssa(distance))


def shifted(f: Function, pointer: Ssa, element: str, distance: int) -> Ssa:
    return f.at(pointer, element, integer(distance)) if distance else pointer


def times(f: Function, x: Count, y: Count) -> Count:
    """x·y, in code only where it has to be."""
    if isinstance(x, int) and isinstance(y, int):
        return x * y
    if x == 0 or y == 0:
        return 0
    if x == 1 or y == 1:
        return y if x == 1 else x
    return f.binary("mul", ssa(x), ssa(y))


def strips(f: Function, count: Count, step: int) -> Iterator[tuple[Ssa, int]]:
    """Loops over 0 … count − 1 in strips, then one by one: (first index, length of the strip).

    The body is written once for each length.
    """
    if isinstance(count, int):
        whole = count // step * step
        if whole:
            with f.loop(integer(0), integer(whole), step) as loop:
                yield loop.index, step
        if whole < count:
            with f.loop(integer(whole), integer(count)) as loop:
                yield loop.index, 1
        return
    if step == 1:
        with f.loop(integer(0), count) as loop:
            yield loop.index, 1
        return
    whole_ssa = f.binary("and", count, integer(-step))
    with f.loop(integer(0), whole_ssa, step) as loop:
        yield loop.index, step
    with f.loop(whole_ssa, count) as loop:
        yield loop.index, 1


def _unrolled(f: Function, count: Count) -> Iterator[tuple[Ssa, int]]:
    """Strips of `UNROLL`; a short count is written out without a loop."""
    if isinstance(count, int) and count <= UNROLL:
        yield integer(0), count
        return
    yield from strips(f, count, UNROLL)


def ssa(count: Count) -> Ssa:
    return integer(count) if isinstance(count, int) else count


def walk(
    f: Function, levels: Sequence[Level], source: Ssa, packed: Ssa, kinds: tuple[str, str]
) -> Iterator[tuple[Ssa, Ssa]]:
    """The pair of addresses at each point of some nested loops."""
    if not levels:
        yield source, packed
        return
    first, rest = levels[0], levels[1:]
    if isinstance(first.count, int) and first.count <= UNROLL:
        for i in range(first.count):
            inner = offset(f, source, kinds[0], i, first.source)
            yield from walk(f, rest, inner, offset(f, packed, kinds[1], i, first.packed), kinds)
        return
    with f.loop(integer(0), ssa(first.count)) as loop:
        inner = offset(f, source, kinds[0], loop.index, first.source)
        target = offset(f, packed, kinds[1], loop.index, first.packed)
        yield from walk(f, rest, inner, target, kinds)


# ---- packing --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Panel:
    """A matrix to be packed: lines of `columns` elements, `step` apart in the source.

    Packed lines have `width` elements; those beyond `columns` are zero.
    """

    element: str
    width: int
    columns: Count
    step: Count

    @property
    def kinds(self) -> tuple[str, str]:
        return self.element, "float" if self.element in HALVES else self.element

    @property
    def lanes(self) -> int:
        return min(self.width, VECTOR_BYTES // bytes_of(self.kinds[1]))


def pack_panel(
    f: Function, module: Module, panel: Panel, levels: Sequence[Level], source: Ssa, packed: Ssa
) -> None:
    """Columns of B into [k][width], k running through `levels`."""
    *outer, last = levels
    name = _packer(module, panel, last.source == 1)
    steps = [integer(x) if isinstance(x, int) else x for x in (last.count, last.source, panel.step)]
    for origin, target in walk(f, outer, source, packed, panel.kinds):
        f.call(name, "void", origin, target, *steps)


def pack_panels(
    f: Function, module: Module, panel: Panel, count: int, k: Level, source: Ssa, packed: Ssa
) -> None:
    """Some panels that lie side by side, one after the other: long lines of B come faster."""
    kind, align = panel.element, bytes_of(panel.element)
    name = f"pack_{count}_panels_{kind}_{panel.width}"
    if name not in module.names:
        labels = ("count", "k", "pitch")
        g = Function(name, [("ptr", "source"), ("ptr", "packed"), *(("i64", x) for x in labels)])
        origin, target, depth, step, pitch = g.parameters
        with g.loop(integer(0), depth) as loop:
            here = offset(g, origin, kind, loop.index, step)
            there = offset(g, target, kind, loop.index, panel.width)
            lines = [
                g.load(vector(panel.width, kind), shifted(g, here, kind, i * panel.width), align)
                for i in range(count)
            ]
            for i, line in enumerate(lines):
                g.store(line, offset(g, there, kind, i, pitch), VECTOR_BYTES)
        g.finish()
        module.add(g)
    f.call(name, "void", source, packed, ssa(k.count), ssa(k.source), ssa(k.packed))


def _packer(module: Module, panel: Panel, along_k: bool) -> str:
    """`void @pack(ptr source, ptr packed, i64 count, i64 k step, i64 column step)`."""
    kind = "rows" if panel.step == 1 else "columns" if along_k else "any"
    name = f"pack_{kind}_{panel.element}_{panel.columns}_{panel.width}"
    if name in module.names:
        return name
    f = Function(
        name,
        [("ptr", "source"), ("ptr", "packed"), ("i64", "count"), ("i64", "k"), ("i64", "column")],
    )
    source, packed, count, k, column = f.parameters
    general = Panel(panel.element, panel.width, panel.columns, column)
    if kind == "rows":
        _copy_rows(f, general, Level(count, k, panel.width), source, packed)
    else:
        scatter = _transpose if kind == "columns" else _gather
        level = Level(count, 1 if kind == "columns" else k, panel.width)
        scatter(f, general, level, source, packed)
        if panel.columns != panel.width:
            _clear(f, general, level, packed)
    f.finish()
    module.add(f)
    return name


def copy_rows(
    f: Function,
    module: Module,
    element: str,
    rows: Level,
    levels: Sequence[Level],
    source: Ssa,
    packed: Ssa,
) -> None:
    """A block of A into [row][k], k running through `levels`; k is dense in the copy."""
    *outer, line = levels
    kinds = Panel(element, 0, line.count, line.source).kinds
    kind = "lines" if line.source == 1 else "columns" if rows.source == 1 else "any"
    name = _copier(module, element, kind)
    numbers = (rows.count, rows.source, rows.packed, line.count, line.source)
    for origin, target in walk(f, outer, source, packed, kinds):
        f.call(name, "void", origin, target, *map(ssa, numbers))


def copy_strip(
    f: Function, module: Module, element: str, rows: int, k: Level, source: Ssa, packed: Ssa
) -> None:
    """`rows` rows of A, which lie one beside the other, into [k][row]."""
    name = f"copy_strip_{element}_{rows}"
    if name not in module.names:
        g = Function(name, [("ptr", "source"), ("ptr", "packed"), ("i64", "count"), ("i64", "k")])
        origin, target, count, step = g.parameters
        for first, length in strips(g, count, UNROLL):
            for i in range(length):
                at = g.binary("add", first, integer(i))
                line = g.load(
                    vector(rows, element), offset(g, origin, element, at, step), bytes_of(element)
                )
                g.store(line, offset(g, target, element, at, rows), bytes_of(element))
        g.finish()
        module.add(g)
    f.call(name, "void", source, packed, ssa(k.count), ssa(k.source))


def _copier(module: Module, element: str, kind: str) -> str:
    """`void @copy(ptr source, ptr packed, i64 rows, row step, pitch, i64 count, k step)`."""
    name = f"copy_{kind}_{element}"
    if name in module.names:
        return name
    labels = ("rows", "row", "pitch", "count", "k")
    f = Function(name, [("ptr", "source"), ("ptr", "packed"), *(("i64", x) for x in labels)])
    source, packed, rows, row, pitch, count, k = f.parameters
    level = Level(rows, 1 if kind == "columns" else row, pitch)
    write = {"lines": _copy_lines, "columns": _transpose, "any": _gather}[kind]
    write(f, Panel(element, 0, count, 1 if kind == "lines" else k), level, source, packed)
    f.finish()
    module.add(f)
    return name


def _copy_lines(f: Function, panel: Panel, rows: Level, source: Ssa, packed: Ssa) -> None:
    element, wide = panel.kinds
    with f.loop(integer(0), ssa(rows.count)) as loop:
        origin = offset(f, source, element, loop.index, rows.source)
        target = offset(f, packed, wide, loop.index, rows.packed)
        for first, length in strips(f, panel.columns, VECTOR_BYTES // bytes_of(wide)):
            here, out = f.at(origin, element, first), f.at(target, wide, first)
            value = f.load(vector(length, element), here, bytes_of(element))
            f.store(widened(f, value), out, bytes_of(wide))


def _copy_rows(f: Function, panel: Panel, level: Level, source: Ssa, packed: Ssa) -> None:
    for first, length in _unrolled(f, level.count):
        origin = offset(f, source, panel.kinds[0], first, level.source)
        target = offset(f, packed, panel.kinds[1], first, level.packed)
        for k in range(length):
            here = offset(f, origin, panel.kinds[0], k, level.source)
            _copy_row(f, panel, here, offset(f, target, panel.kinds[1], k, level.packed))


def _copy_row(f: Function, panel: Panel, source: Ssa, packed: Ssa) -> None:
    assert isinstance(panel.columns, int)
    for lane in range(0, panel.width, panel.lanes):
        count = min(panel.lanes, panel.columns - lane)
        target = shifted(f, packed, panel.kinds[1], lane)
        if count <= 0:
            value = Ssa(vector(panel.lanes, panel.kinds[1]), "zeroinitializer")
        else:
            here = shifted(f, source, panel.kinds[0], lane)
            value = widened(f, load_prefix(f, panel.kinds[0], panel.lanes, count, here))
        f.store(value, target, VECTOR_BYTES)


def _transpose(f: Function, panel: Panel, level: Level, source: Ssa, packed: Ssa) -> None:
    """Columns that are dense along k: square blocks through the registers."""
    element, wide = panel.kinds
    side = 4 if wide in ("double", "i64") else 8
    for column, columns in strips(f, panel.columns, side):
        block = offset(f, source, element, column, panel.step)
        out = f.at(packed, wide, column)
        for first, length in strips(f, level.count, side if columns == side else 1):
            here = offset(f, block, element, first, 1)
            target = offset(f, out, wide, first, level.packed)
            if length == side:
                _transpose_block(f, panel, (here, target), (side, level.packed))
                continue
            for j in range(columns):
                value = f.load(element, offset(f, here, element, j, panel.step), bytes_of(element))
                f.store(widened(f, value), shifted(f, target, wide, j), bytes_of(wide))


def _transpose_block(
    f: Function, panel: Panel, at: tuple[Ssa, Ssa], shape: tuple[int, Count]
) -> None:
    (source, packed), (side, pitch) = at, shape
    kind, align = vector(side, panel.kinds[0]), bytes_of(panel.kinds[0])
    rows = [
        widened(f, f.load(kind, offset(f, source, panel.kinds[0], i, panel.step), align))
        for i in range(side)
    ]
    for i, row in enumerate(transposed(f, rows)):
        f.store(row, offset(f, packed, panel.kinds[1], i, pitch), bytes_of(panel.kinds[1]))


def transposed(f: Function, rows: Sequence[Ssa]) -> list[Ssa]:
    """The columns of a square of vectors: opposite blocks change places, ever smaller ones."""
    side, rows = len(rows), list(rows)
    distance = side // 2
    while distance:
        for i in (i for i in range(side) if not i & distance):
            x, y = rows[i], rows[i + distance]
            low = [j if not j & distance else side + j - distance for j in range(side)]
            high = [j + distance if not j & distance else side + j for j in range(side)]
            rows[i], rows[i + distance] = f.shuffle(x, y, low), f.shuffle(x, y, high)
        distance //= 2
    return rows


def _gather(f: Function, panel: Panel, level: Level, source: Ssa, packed: Ssa) -> None:
    """Columns with any steps, element by element."""
    element, wide = panel.kinds
    with f.loop(integer(0), ssa(panel.columns)) as loop:
        column = offset(f, source, element, loop.index, panel.step)
        target = f.at(packed, wide, loop.index)
        with f.loop(integer(0), ssa(level.count)) as line:
            here = offset(f, column, element, line.index, level.source)
            value = widened(f, f.load(element, here, bytes_of(element)))
            f.store(value, offset(f, target, wide, line.index, level.packed), bytes_of(wide))


def _clear(f: Function, panel: Panel, level: Level, packed: Ssa) -> None:
    """Zeros in the columns that do not exist."""
    zero = Ssa(panel.kinds[1], "zeroinitializer")
    with f.loop(ssa(panel.columns), integer(panel.width)) as loop:
        target = f.at(packed, panel.kinds[1], loop.index)
        with f.loop(integer(0), ssa(level.count)) as line:
            here = offset(f, target, panel.kinds[1], line.index, level.packed)
            f.store(zero, here, bytes_of(panel.kinds[1]))
