"""Images to images: a weighted sum of shifted images for each channel of the result.

An iteration makes some lines of one image (and group). It copies what they read (`Piece`), and runs
over the result tile by tile: some channels × some vectors of pixels, held in registers while the
channels of the source go by, and at each the taps. Weights are read where they lie.

Every element starts at 0 and adds one product after another, channel by channel and in each tap by
tap, one `fma` each. Nothing else about a tile, a machine or the threads shows in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from pullback.backend.assembly import Function, Module, Ssa, integer, splat, vector, width_of
from pullback.backend.blocking import Machine
from pullback.backend.contract import Kernel
from pullback.backend.convolve_image import Piece, Place, Reach, copy_piece
from pullback.backend.packing import (
    VECTOR_BYTES,
    bytes_of,
    narrowed,
    offset,
    shifted,
    stored,
    summed,
    widened,
)
from pullback.backend.place import Epilogue, multiply_add, start_value, store_result
from pullback.backend.place import Place as Standing
from pullback.ir.types import DType

WRITTEN_OUT = 16
"""Taps at most for which there is code; more are read from a table."""


@dataclass(frozen=True)
class Tap:
    """A weight, by its distance from the first one of its channels, and the place it is for."""

    weight: int
    place: Place


@dataclass(frozen=True)
class Part:
    """The places `leap`·q + residue of the result, which all have the same taps."""

    counts: Place
    residue: Place
    taps: tuple[Tap, ...]


@dataclass(frozen=True)
class Correlation:
    """y[n, (g, i), leap·q + residue] = Σ over j, t of w[g, i, j, t] · x[n, (g, j), q·step + t]."""

    dtype: DType
    images: int
    groups: int
    inputs: int
    """Channels of a group."""
    outputs: int
    reach: tuple[Reach, Reach, Reach]
    result: Place
    """The spatial sizes of the result."""
    leap: Place
    weights: tuple[int, int, int]
    """The distances of weights along g, i and j."""
    parts: tuple[Part, ...]


# ---- how it is cut --------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """The pixels of a tile: `down` × `across` vectors, each of `lanes // segment` lines."""

    lanes: int
    segment: int
    down: int
    across: int

    @property
    def segments(self) -> int:
        return self.lanes // self.segment

    @property
    def lines(self) -> int:
        return self.down * self.segments

    @property
    def columns(self) -> int:
        return self.across * self.segment

    @property
    def vectors(self) -> int:
        return self.down * self.across


@dataclass(frozen=True)
class Cut:
    """How a correlation is cut into iterations and tiles."""

    work: Correlation
    machine: Machine

    @property
    def element(self) -> str:
        return summed(self.work.dtype)

    @cached_property
    def counts(self) -> Place:
        """The windows along each axis, in the largest part."""
        a, b, c = (max(part.counts[axis] for part in self.work.parts) for axis in range(3))
        return a, b, c

    @cached_property
    def block(self) -> Block:
        lanes = min(16, VECTOR_BYTES // bytes_of(self.element))
        _, height, width = self.counts
        segment = min(lanes, 1 << (width - 1).bit_length())
        wanted = -(-height * segment // lanes) if segment < lanes else -(-width // lanes) * height
        parts = max(1, VECTOR_BYTES // self.machine.register_bytes)
        vectors = 2 if parts == 1 and wanted > 1 else 1
        while (
            vectors < min(4, wanted)
            and 2 * parts * vectors * self.work.outputs <= self.machine.registers - 3
        ):
            vectors *= 2
        across = math.gcd(vectors, -(-width // lanes))
        return Block(lanes, segment, vectors // across, across)

    @property
    def height(self) -> int:
        """Channels of a tile, at most."""
        parts = max(1, VECTOR_BYTES // self.machine.register_bytes)
        most = (self.machine.registers - 1) // (parts * self.block.vectors) - 1
        return max(1, min(most, self.work.outputs))

    @property
    def tiles(self) -> int:
        return -(-self.work.outputs // self.height)

    @property
    def low(self) -> int:
        """The height of the lower tiles; the first `tall` ones have one channel more."""
        return self.work.outputs // max(1, self.tiles)

    @property
    def tall(self) -> int:
        return self.work.outputs - self.low * self.tiles

    @cached_property
    def band(self) -> int:
        """Lines of windows of an iteration: what they read stays in the cache of a core."""
        step = self.block.lines
        blocks = -(-self.counts[1] // step)
        others = self.work.images * self.work.groups * self.counts[0]
        bands = 1
        while bands < blocks:
            lines = -(-blocks // bands) * step
            if others * bands >= 16 and 2 * self._piece(lines).nbytes <= self.machine.cache:
                break
            bands += 1
        return -(-blocks // bands) * step

    @property
    def bands(self) -> int:
        return -(-self.counts[1] // self.band)

    @property
    def piece(self) -> Piece:
        return self._piece(self.band)

    def _piece(self, lines: int) -> Piece:
        work = self.work
        return Piece(work.dtype, work.inputs, work.reach, lines, self.counts[2])

    @property
    def iterations(self) -> int:
        work = self.work
        if not work.outputs * math.prod(work.result):
            return 0
        return work.images * work.groups * self.counts[0] * self.bands

    @property
    def scratch(self) -> int:
        """The piece, and what lanes without a pixel read behind it."""
        return self.piece.nbytes + (self.block.vectors + 1) * VECTOR_BYTES


# ---- code -----------------------------------------------------------------------------------


def write_correlation(
    work: Correlation,
    machine: Machine,
    module: Module,
    name: str,
    epilogue: Epilogue | None = None,
    results: int = 1,
) -> Kernel:
    """Write the kernel: its operands are x, w and `results` more: y and others for the epilogue.

    The place of a vector is (image, group), channel of the group, and pixel. An epilogue needs a
    result whose parts do not leap.
    """
    f, cut = Function.kernel(name), Cut(work, machine)
    if cut.iterations:
        _Writer(f, cut, module, epilogue, results).write()
    f.finish()
    module.add(f, exported=True)
    return Kernel(name, cut.iterations, cut.scratch if cut.iterations else 0)


@dataclass
class _Writer:
    f: Function
    cut: Cut
    module: Module
    epilogue: Epilogue | None
    results: int
    operands: tuple[Ssa, ...] = ()
    batch: tuple[Ssa, ...] = ()
    tables: dict[Part, Ssa] = field(default_factory=dict)

    @property
    def raw(self) -> str:
        return stored(self.cut.work.dtype)

    def write(self) -> None:
        f = self.f
        operands, begin, end, self.scratch = f.parameters
        x, w, *results = (
            f.load("ptr", shifted(f, operands, "ptr", i), 8) for i in range(2 + self.results)
        )
        self.operands = tuple(results)
        with f.loop(begin, end) as loop:
            self._iteration(loop.index, x, w, results[0])

    def _iteration(self, number: Ssa, x: Ssa, w: Ssa, y: Ssa) -> None:
        f, cut, work = self.f, self.cut, self.cut.work
        number, band = self.f.divided(number, cut.bands)
        number, self.slice = self.f.divided(number, cut.counts[0])
        self.batch = self.f.divided(number, work.groups)
        volume = math.prod(reach.size for reach in work.reach)
        self.weights = offset(f, w, self.raw, self.batch[1], work.weights[0])
        self.target = offset(f, y, self.raw, number, work.outputs * math.prod(work.result))
        self.first = f.binary("mul", band, integer(cut.band))
        origin = offset(f, x, self.raw, number, work.inputs * volume)
        corner = tuple(
            f.binary("add", f.binary("mul", q, integer(reach.step)), integer(reach.first))
            for q, reach in zip((self.slice, self.first), work.reach[:2], strict=True)
        )
        copy_piece(f, cut.piece, origin, (corner[0], corner[1]), self.scratch)
        for part in work.parts:
            if part.counts[0] == cut.counts[0]:
                self._part(part)
                continue
            with f.when(f.compare("icmp slt", self.slice, integer(part.counts[0]))):
                self._part(part)

    def _part(self, part: Part) -> None:
        f, cut, block = self.f, self.cut, self.cut.block
        lines = f.binary("sub", integer(part.counts[1]), self.first)
        most = integer(cut.band)
        lines = f.select(f.compare("icmp slt", lines, most), lines, most)
        step = cut.work.reach[1].step * cut.piece.line
        with f.loop(integer(0), lines, block.lines) as down:
            line = offset(f, self.scratch, cut.element, down.index, step)
            with f.loop(integer(0), integer(part.counts[2]), block.columns) as across:
                pixels = f.at(line, cut.element, across.index)
                row = f.binary("add", self.first, down.index)
                self._tiles(part, pixels, (row, across.index))

    def _tiles(self, part: Part, pixels: Ssa, corner: tuple[Ssa, Ssa]) -> None:
        f, cut = self.f, self.cut
        ranges = [(cut.low + 1, 0, cut.tall)] if cut.tall else []
        if cut.tall < cut.tiles:
            ranges.append((cut.low, cut.tall, cut.tiles))
        for height, first, last in ranges:
            with f.loop(integer(first), integer(last)) as loop:
                channel = f.binary("mul", loop.index, integer(height))
                channel = f.binary("add", channel, integer(first))
                weights = offset(f, self.weights, self.raw, channel, cut.work.weights[1])
                sums = self._sums(part, height, pixels, weights)
                self._store(part, channel, corner, sums)

    # ---- sums ----

    def _sums(self, part: Part, height: int, pixels: Ssa, weights: Ssa) -> list[Ssa]:
        f, cut, work = self.f, self.cut, self.cut.work
        zero = splat(start_value(cut.element, sums=True), cut.block.lanes)
        state = [pixels, weights, *[zero] * (height * cut.block.vectors)]
        if not part.taps:
            return state[2:]
        with f.loop(integer(0), integer(work.inputs), carried=state) as loop:
            here, there, *sums = loop.values
            if len(part.taps) <= WRITTEN_OUT:
                for tap in part.taps:
                    at = shifted(f, here, cut.element, cut.piece.at(tap.place))
                    sums = self._step(at, shifted(f, there, self.raw, tap.weight), sums)
            else:
                sums = self._from_table(part, here, there, sums)
            here = shifted(f, here, cut.element, cut.piece.plane)
            loop.carry(here, shifted(f, there, self.raw, work.weights[2]), *sums)
        return list(loop.results[2:])

    def _from_table(self, part: Part, here: Ssa, there: Ssa, sums: list[Ssa]) -> list[Ssa]:
        f = self.f
        if part not in self.tables:
            self.tables[part] = self._table(part)
        table = self.tables[part]
        with f.loop(integer(0), integer(len(part.taps)), carried=sums) as loop:
            entry = offset(f, table, "i64", loop.index, 2)
            pixels = f.at(here, self.cut.element, f.load("i64", entry, 8))
            weight = f.at(there, self.raw, f.load("i64", f.at(entry, "i64", integer(1)), 8))
            loop.carry(*self._step(pixels, weight, loop.values))
        return list(loop.results)

    def _table(self, part: Part) -> Ssa:
        """For each tap its distance in the piece and that of its weight."""
        name = f"@{self.f.name}.taps{len(self.tables)}"
        pairs = ((self.cut.piece.at(tap.place), tap.weight) for tap in part.taps)
        numbers = ", ".join(f"i64 {place}, i64 {weight}" for place, weight in pairs)
        size = f"[{2 * len(part.taps)} x i64]"
        self.module.globals.append(f"{name} = internal constant {size} [{numbers}]")
        return Ssa("ptr", name)

    def _step(self, pixels: Ssa, weights: Ssa, sums: Sequence[Ssa]) -> list[Ssa]:
        """One tap: each weight times each vector of pixels."""
        f, block, sums = self.f, self.cut.block, list(sums)
        vectors = list(self._vectors(pixels))
        for i in range(len(sums) // len(vectors)):
            here = shifted(f, weights, self.raw, i * self.cut.work.weights[1])
            weight = widened(f, f.load(self.raw, here, bytes_of(self.raw)))
            weight = f.spread(weight, block.lanes)
            for j, x in enumerate(vectors):
                k = i * len(vectors) + j
                sums[k] = multiply_add(f, weight, x, sums[k])
        return sums

    def _vectors(self, pixels: Ssa) -> Iterator[Ssa]:
        f, cut, block = self.f, self.cut, self.cut.block
        step = cut.work.reach[1].step * cut.piece.line
        kind = vector(block.segment, cut.element)
        for down in range(block.down):
            for across in range(block.across):
                first = down * block.segments * step + across * block.lanes
                places = [first + s * step for s in range(block.segments)]
                here = [shifted(f, pixels, cut.element, place) for place in places]
                yield _joined(f, [self._load(kind, at) for at in here], block.segment)

    def _load(self, kind: str, pointer: Ssa) -> Ssa:
        """Volatile: LLVM would keep what the next tap reads again in registers of the sums.

        That costs a third where a vector holds two lines of windows.
        """
        align = bytes_of(self.cut.element)
        return self.f.assign(kind, f"load volatile {kind}, {pointer}, align {align}")

    # ---- results ----

    def _store(self, part: Part, channel: Ssa, corner: tuple[Ssa, Ssa], sums: list[Ssa]) -> None:
        """Store what exists: all lines and columns of the block, or those of the last one."""
        f, block = self.f, self.cut.block
        place = self._pixel(part, corner)
        _, height, width = part.counts
        for lines in self._ends(corner[0], height, block.lines):
            for columns in self._ends(corner[1], width, block.columns):
                for i in range(len(sums) // block.vectors):
                    row = f.binary("add", channel, integer(i))
                    values = sums[i * block.vectors : (i + 1) * block.vectors]
                    self._store_channel(row, place, values, (lines, columns))

    def _ends(self, first: Ssa, size: int, step: int) -> Iterator[int]:
        """How many of `step` exist from `first` on: code for a whole step, and for the last."""
        f, rest, last = self.f, size % step, integer(size // step * step)
        if size < step or not rest:
            yield rest or step
            return
        with f.when(f.compare("icmp slt", first, last)):
            yield step
        with f.when(f.compare("icmp sge", first, last)):
            yield rest

    def _pixel(self, part: Part, corner: tuple[Ssa, Ssa]) -> Ssa:
        """The number of the pixel where a block begins."""
        f, work = self.f, self.cut.work
        pixel = integer(0)
        for q, size, leap, residue in zip(
            (self.slice, *corner), work.result, work.leap, part.residue, strict=True
        ):
            pixel = f.binary("mul", pixel, integer(size))
            pixel = f.binary("add", pixel, f.binary("mul", q, integer(leap)))
            pixel = f.binary("add", pixel, integer(residue))
        return pixel

    def _store_channel(
        self, row: Ssa, pixel: Ssa, values: Sequence[Ssa], exist: tuple[int, int]
    ) -> None:
        f, cut, block = self.f, self.cut, self.cut.block
        target = offset(f, self.target, self.raw, row, math.prod(cut.work.result))
        target = f.at(target, self.raw, pixel)
        line = cut.work.leap[1] * cut.work.result[2]
        step = cut.work.leap[2]
        for k, value in enumerate(values):
            first, column = k // block.across * block.segments, k % block.across * block.lanes
            lines = min(block.segments, exist[0] - first)
            columns = min(block.segment, exist[1] - column)
            for segment, count in self._pieces(value, lines, columns, line):
                distance = first * line + column * step
                first += 1
                column_ssa = f.binary("add", pixel, integer(distance))
                lanes = width_of(segment.type)
                place = Standing(self.batch, row, column_ssa, count, lanes, self.operands)
                here = shifted(f, target, self.raw, distance)
                # Narrowed one by one: no half-precision vector lives through another's epilogue.
                result = narrowed(f, segment, self.raw)
                store_result(f, result, here, step, place, self.epilogue)

    def _pieces(self, value: Ssa, lines: int, columns: int, line: int) -> Iterator[tuple[Ssa, int]]:
        """The lines of a vector; all together where they lie together."""
        f, block = self.f, self.cut.block
        if columns <= 0 or lines <= 0:
            return
        if block.segments == 1:
            yield value, columns
        elif columns == block.segment == line and self.cut.work.leap[2] == 1:
            yield value, lines * columns
        else:
            for s in range(lines):
                lanes = range(s * block.segment, (s + 1) * block.segment)
                if block.segment == 1:
                    yield f.lane(value, s), 1
                else:
                    yield f.shuffle(value, Ssa(value.type, "poison"), lanes), columns


def _joined(f: Function, values: Sequence[Ssa], segment: int) -> Ssa:
    """One vector of several."""
    if len(values) == 1:
        return values[0]
    if segment == 1:
        kind = vector(len(values), values[0].type)
        whole = Ssa(kind, "poison")
        for i, value in enumerate(values):
            whole = f.assign(kind, f"insertelement {whole}, {value}, i64 {i}")
        return whole
    values = list(values)
    while len(values) > 1:
        pairs = zip(values[::2], values[1::2], strict=True)
        values = [f.shuffle(x, y, range(2 * segment)) for x, y in pairs]
        segment *= 2
    return values[0]
