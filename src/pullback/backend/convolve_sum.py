"""Images and responses to kernels: for each tap a sum over all images and windows.

An iteration makes the weights of some channels o of the result and some c of the source. It takes
the windows in chunks of some lines: it copies what they read (`Piece`), writes the responses down
as [window][o], and runs over the weights tile by tile: some (c, tap) × a vector or two of o, held
in registers while the windows of the chunk go by.

The sum of a chunk starts at 0 and adds one product after another, window by window, one `fma` each;
the sums of the chunks are added in order, from 0. Chunks depend on the shape alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from pullback.backend.assembly import Function, Module, Ssa, integer, splat, vector
from pullback.backend.blocking import Machine
from pullback.backend.contract import Kernel
from pullback.backend.convolve_image import Piece, Place, Reach, copy_piece
from pullback.backend.packing import (
    VECTOR_BYTES,
    Level,
    Panel,
    bytes_of,
    narrowed,
    offset,
    pack_panel,
    shifted,
    stored,
    summed,
)
from pullback.backend.place import is_floating, multiply_add, start_value
from pullback.ir.types import DType

CHUNK = 256
"""Windows of a chunk, about: their responses, 16 KB, stay in the first cache."""

STEPS = 4
"""Windows for which there is code in a line."""


@dataclass(frozen=True)
class KernelSum:
    """w[(g, o), c, t] = Σ over n, q of x[n, (g, c), q·step + t] · y[n, (g, o), q]."""

    dtype: DType
    images: int
    groups: int
    inputs: int
    """Channels c of a group."""
    outputs: int
    """Channels o of a group."""
    reach: tuple[Reach, Reach, Reach]
    counts: Place
    """The windows along each axis."""
    places: tuple[Place, ...]
    """The place of each tap."""

    @property
    def chunk(self) -> int:
        """Lines of windows that are summed together."""
        return min(self.counts[1], max(1, CHUNK // self.counts[2]))


@dataclass(frozen=True)
class Cut:
    """How a sum is cut into iterations and tiles."""

    work: KernelSum
    machine: Machine

    @property
    def element(self) -> str:
        return summed(self.work.dtype)

    @property
    def lanes(self) -> int:
        return min(16, VECTOR_BYTES // bytes_of(self.element))

    @property
    def parts(self) -> int:
        return max(1, VECTOR_BYTES // self.machine.register_bytes)

    @property
    def vectors(self) -> int:
        return 2 if self.parts == 1 and self.work.outputs > self.lanes else 1

    @property
    def width(self) -> int:
        """Channels o of an iteration."""
        return self.lanes * self.vectors

    @property
    def panels(self) -> int:
        return -(-self.work.outputs // self.width)

    @property
    def height(self) -> int:
        """Weights c, t of a tile, at most."""
        return (self.machine.registers - 1) // (self.parts * self.vectors) - 1

    @cached_property
    def together(self) -> int:
        """Channels c whose weights are shared out among full tiles."""
        taps, most = len(self.work.places), min(self.height, self.work.inputs)
        return min(range(1, most + 1), key=lambda n: -(-n * taps // self.height) / n, default=1)

    def tiles(self, channels: int) -> Iterator[list[tuple[int, int]]]:
        """The (c, tap) of each tile, nearly equally many.

        Taps of one line in one tile would read the same places a few windows apart: LLVM would keep
        them in registers, which belong to the sums. So taps of one column come together.
        """
        places = self.work.places
        pairs = [(c, t) for c in range(channels) for t in range(len(places))]
        pairs.sort(key=lambda pair: places[pair[1]][2])
        count = -(-len(pairs) // self.height)
        bounds = [len(pairs) * i // max(1, count) for i in range(count + 1)]
        yield from (pairs[a:b] for a, b in pairwise(bounds))

    @cached_property
    def channels(self) -> int:
        """Channels c of an iteration: as cheap as may be on 1, 2 and 4 threads together."""
        groups = -(-self.work.inputs // self.together)
        sizes = {-(-groups // n) * self.together for n in range(1, groups + 1)}
        fitting = [n for n in sizes if self._bytes(n) <= self.machine.cache]
        return min(sorted(fitting or [min(sizes, default=1)]), key=self._cycles)

    def _cycles(self, channels: int) -> float:
        """A guess at the time of a chunk: the products, the responses, the piece."""
        work = self.work
        pixels = work.chunk * work.counts[2]
        parts = self.parts * self.vectors
        weights = channels * len(work.places)
        multiply = pixels * parts * self.height / 2 * -(-weights // self.height)
        pack = 1.5 * pixels * self.width
        copy = 15 * channels * self.piece(1).lines
        iterations = work.groups * self.panels * -(-work.inputs // channels)
        return sum(-(-iterations // n) for n in (1, 2, 4)) * (multiply + pack + copy)

    @property
    def blocks(self) -> int:
        return -(-self.work.inputs // self.channels)

    @property
    def iterations(self) -> int:
        work = self.work
        return self.blocks * self.panels * work.groups if work.outputs * len(work.places) else 0

    # ---- scratch: the totals, the responses, the piece ----

    def piece(self, channels: int) -> Piece:
        work = self.work
        return Piece(work.dtype, channels, work.reach, work.chunk, work.counts[2], split=False)

    @property
    def totals_bytes(self) -> int:
        return self._totals(self.channels)

    @property
    def responses_bytes(self) -> int:
        return self.work.chunk * self.work.counts[2] * self.width * bytes_of(self.element)

    @property
    def scratch(self) -> int:
        return self._bytes(self.channels)

    def _totals(self, channels: int) -> int:
        return channels * len(self.work.places) * self.width * bytes_of(self.element)

    def _bytes(self, channels: int) -> int:
        return self._totals(channels) + self.responses_bytes + self.piece(channels).nbytes


def write_kernel_sum(work: KernelSum, machine: Machine, module: Module, name: str) -> Kernel:
    """Write the kernel: its operands are x, y and w."""
    f, cut = Function.kernel(name), Cut(work, machine)
    if cut.iterations:
        _Writer(f, cut, module).write()
    f.finish()
    module.add(f, exported=True)
    return Kernel(name, cut.iterations, cut.scratch if cut.iterations else 0)


@dataclass
class _Writer:
    f: Function
    cut: Cut
    module: Module

    @property
    def raw(self) -> str:
        return stored(self.cut.work.dtype)

    def write(self) -> None:
        f, cut = self.f, self.cut
        operands, begin, end, self.totals = f.parameters
        x, y, w = (f.load("ptr", shifted(f, operands, "ptr", i), 8) for i in range(3))
        self.responses = shifted(f, self.totals, "i8", cut.totals_bytes)
        self.copy = shifted(f, self.responses, "i8", cut.responses_bytes)
        with f.loop(begin, end) as loop:
            self._iteration(loop.index, x, y, w)

    def _iteration(self, number: Ssa, x: Ssa, y: Ssa, w: Ssa) -> None:
        f, cut, work = self.f, self.cut, self.cut.work
        number, panel = self.f.divided(number, cut.panels)
        group, block = self.f.divided(number, cut.blocks)
        channel = f.binary("mul", block, integer(cut.channels))
        output = f.binary("mul", panel, integer(cut.width))
        result = offset(f, w, self.raw, group, work.outputs * work.inputs * len(work.places))
        result = offset(f, result, self.raw, output, work.inputs * len(work.places))
        result = offset(f, result, self.raw, channel, len(work.places))
        self._clear()
        for channels in self._last_or(block, cut.blocks, cut.channels, work.inputs):
            for width in self._last_or(panel, cut.panels, cut.width, work.outputs):
                self._sum(x, y, (group, channel, output), (channels, width))
                self._store(result, channels, width)

    def _last_or(self, index: Ssa, count: int, step: int, size: int) -> Iterator[int]:
        """The length of this step: code for a whole one, and for the last one."""
        f, rest, last = self.f, size - (count - 1) * step, integer(count - 1)
        if count == 1 or rest == step:
            yield rest
            return
        with f.when(f.compare("icmp slt", index, last)):
            yield step
        with f.when(f.compare("icmp sge", index, last)):
            yield rest

    def _clear(self) -> None:
        f, cut = self.f, self.cut
        zeros = splat(start_value(cut.element, sums=True), cut.lanes)
        step = cut.lanes * bytes_of(cut.element)
        with f.loop(integer(0), integer(cut.totals_bytes), step) as loop:
            f.store(zeros, f.at(self.totals, "i8", loop.index), step)

    # ---- sums ----

    def _sum(self, x: Ssa, y: Ssa, first: tuple[Ssa, Ssa, Ssa], sizes: tuple[int, int]) -> None:
        f, work = self.f, self.cut.work
        volume = math.prod(reach.size for reach in work.reach)
        windows = math.prod(work.counts)
        group, channel, output = first
        with f.loop(integer(0), integer(work.images)) as images:
            number = f.binary("mul", images.index, integer(work.groups))
            number = f.binary("add", number, group)
            source = offset(f, x, self.raw, number, work.inputs * volume)
            source = offset(f, source, self.raw, channel, volume)
            responses = offset(f, y, self.raw, number, work.outputs * windows)
            responses = offset(f, responses, self.raw, output, windows)
            with f.loop(integer(0), integer(work.counts[0])) as deep:
                layer = work.counts[1] * work.counts[2]
                here = offset(f, responses, self.raw, deep.index, layer)
                with f.loop(integer(0), integer(work.counts[1]), work.chunk) as down:
                    self._chunk(source, here, (deep.index, down.index), sizes)

    def _chunk(
        self, source: Ssa, responses: Ssa, corner: tuple[Ssa, Ssa], sizes: tuple[int, int]
    ) -> None:
        f, cut, work = self.f, self.cut, self.cut.work
        depth, line = (
            f.binary("add", f.binary("mul", q, integer(reach.step)), integer(reach.first))
            for q, reach in zip(corner, work.reach[:2], strict=True)
        )
        copy_piece(f, cut.piece(sizes[0]), source, (depth, line), self.copy)
        lines = f.binary("sub", integer(work.counts[1]), corner[1])
        most = integer(work.chunk)
        lines = f.select(f.compare("icmp slt", lines, most), lines, most)
        count = f.binary("mul", lines, integer(work.counts[2]))
        panel = Panel(self.raw, cut.width, sizes[1], math.prod(work.counts))
        here = offset(f, responses, self.raw, corner[1], work.counts[2])
        pack_panel(f, self.module, panel, [Level(count, 1, cut.width)], here, self.responses)
        self._tiles(sizes[0], lines)

    def _tiles(self, channels: int, lines: Ssa) -> None:
        f, cut = self.f, self.cut
        piece, taps = cut.piece(channels), len(cut.work.places)
        whole = channels // cut.together * cut.together
        ranges = [(cut.together, 0, whole), (channels - whole, whole, channels)]
        for count, first, last in ranges:
            if first == last:
                continue
            with f.loop(integer(first), integer(last), count) as loop:
                source = offset(f, self.copy, cut.element, loop.index, piece.plane)
                totals = offset(f, self.totals, cut.element, loop.index, taps * cut.width)
                for tile in cut.tiles(count):
                    places = [c * piece.plane + piece.at(cut.work.places[t]) for c, t in tile]
                    sums = self._tile(places, lines, source)
                    self._add(sums, [c * taps + t for c, t in tile], totals)

    def _tile(self, places: Sequence[int], lines: Ssa, source: Ssa) -> list[Ssa]:
        """The sums over the chunk."""
        f, cut, work = self.f, self.cut, self.cut.work
        piece = cut.piece(1)
        down, across = work.reach[1].step * piece.line, work.reach[2].step
        zero = splat(start_value(cut.element, sums=True), cut.lanes)
        count = work.counts[2]
        whole = count // STEPS * STEPS
        state = [source, self.responses, *[zero] * (len(places) * cut.vectors)]
        with f.loop(integer(0), lines, carried=state) as rows:
            line, *inner = rows.values
            inner = [line, *inner]
            if whole > STEPS:
                with f.loop(integer(0), integer(whole), STEPS, carried=inner) as loop:
                    loop.carry(*self._steps(STEPS, places, across, loop.values))
                inner = self._steps(count - whole, places, across, loop.results)
            else:
                inner = self._steps(count, places, across, inner)
            rows.carry(shifted(f, line, cut.element, down), *inner[1:])
        return list(rows.results[2:])

    def _steps(
        self, count: int, places: Sequence[int], across: int, state: Sequence[Ssa]
    ) -> list[Ssa]:
        """`count` windows: what every tap reads times the responses of all channels."""
        f, cut = self.f, self.cut
        pixel, responses, *sums = state
        kind, align = vector(cut.lanes, cut.element), bytes_of(cut.element)
        for k in range(count):
            row = [
                f.load(kind, shifted(f, responses, cut.element, k * cut.width + i), VECTOR_BYTES)
                for i in range(0, cut.width, cut.lanes)
            ]
            for i, place in enumerate(places):
                here = shifted(f, pixel, cut.element, place + k * across)
                x = f.spread(f.load(cut.element, here, align), cut.lanes)
                for j, y in enumerate(row):
                    at = i * cut.vectors + j
                    sums[at] = multiply_add(f, x, y, sums[at])
        pixel = shifted(f, pixel, cut.element, count * across)
        return [pixel, shifted(f, responses, cut.element, count * cut.width), *sums]

    def _add(self, sums: Sequence[Ssa], rows: Sequence[int], totals: Ssa) -> None:
        f, cut = self.f, self.cut
        align = cut.lanes * bytes_of(cut.element)
        add = "fadd" if is_floating(cut.element) else "add"
        for i, value in enumerate(sums):
            place = rows[i // cut.vectors] * cut.width + i % cut.vectors * cut.lanes
            here = shifted(f, totals, cut.element, place)
            f.store(f.binary(add, f.load(value.type, here, align), value), here, align)

    # ---- results ----

    def _store(self, result: Ssa, channels: int, width: int) -> None:
        f, cut, work = self.f, self.cut, self.cut.work
        line = work.inputs * len(work.places)
        with f.loop(integer(0), integer(channels * len(work.places))) as weights:
            totals = offset(f, self.totals, cut.element, weights.index, cut.width)
            target = f.at(result, self.raw, weights.index)
            with f.loop(integer(0), integer(width)) as outputs:
                value = f.load(
                    cut.element, f.at(totals, cut.element, outputs.index), bytes_of(cut.element)
                )
                here = offset(f, target, self.raw, outputs.index, line)
                f.store(narrowed(f, value, self.raw), here, bytes_of(self.raw))
