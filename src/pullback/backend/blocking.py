"""How a product is cut into tiles and blocks: fixed by its shape and the machine, never its bits.

Threads take iterations; any split of them gives the same bits, and so does any cut.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from pullback.backend.packing import UNROLL, VECTOR_BYTES, bytes_of, stored, summed
from pullback.backend.product import Axis, Product


@dataclass(frozen=True)
class Machine:
    """What the tiles depend on: the vector registers and the cache that a core has alone."""

    registers: int = 16
    register_bytes: int = 32
    cache: int = 512 * 1024

    @classmethod
    def of(cls, features: str) -> Machine:
        """From the feature string of LLVM (`+avx512f,…`)."""
        present = set(features.split(","))
        if "+avx512f" in present:
            return cls(32, 64, 1024 * 1024)
        return cls(32, 16) if "+neon" in present else cls()


STREAMED = 32
"""Rows of a large B that are read together when there is one tile of rows."""

SET_BYTES = 4096
"""Lines this far apart share a set of the first cache, which has 8 to 12 places."""

PANEL_BYTES = 13 * 1024
"""A panel of B at most: half of the first cache; the rows of A pass beside it. 25 KB are as fast
where B is small, 3 % slower where A fills the second cache; 64 KB are slower by 10 to 30 %."""

FAR = 128
"""The depth from which on rows of A are asked for ahead: 1 to 5 % of the time of a product."""

GROUP = 8
"""Panels that are packed together: a product 512 × 2048 × 2048 takes 5 % less time; 4 save 4 %."""

REREAD = 8
"""Panels that read a block of A, from which on a copy of its columns is worth its time."""


PACKED = 4 << 20
"""Bytes at most of a B that lies packed beside itself while a loop runs."""


@dataclass(frozen=True)
class Tile:
    """The block of C that is held in registers: rows × vectors of 64 bytes."""

    rows: int
    vectors: int


def tile_for(product: Product, machine: Machine) -> Tile:
    """The largest tile whose accumulators, one row of B and one element of A fill the registers."""
    element = summed(product.dtype)
    parts = max(1, VECTOR_BYTES // machine.register_bytes)
    lanes = VECTOR_BYTES // bytes_of(element)
    wanted = -(-product.column.size // lanes)

    def rows(vectors: int) -> int:
        return (machine.registers - 1) // (parts * vectors) - 1

    vectors = 2 if parts == 1 and wanted > 1 else 1
    # Few rows: more vectors, so that there are enough independent sums in flight.
    spare = machine.registers - 3
    while vectors < min(4, wanted) and 2 * parts * vectors * product.row.size <= spare:
        vectors *= 2
    return Tile(
        max(1, min(max(rows(vectors), spare // (parts * vectors)), product.row.size)), vectors
    )


@dataclass(frozen=True)
class Blocking:
    """One cut of a product: groups of row tiles, nearly equal in height, and of column panels."""

    product: Product
    machine: Machine
    tile: Tile
    tiles_at_once: int = 1
    panels_at_once: int = 1
    packed: bool = False
    """B lies in panels already, one after the other, each [k][width]."""

    @property
    def element(self) -> str:
        return summed(self.product.dtype)

    @property
    def lanes(self) -> int:
        return VECTOR_BYTES // bytes_of(self.element)

    @property
    def width(self) -> int:
        """Columns of a panel."""
        return self.lanes * self.tile.vectors

    @property
    def panels(self) -> int:
        return -(-self.product.column.size // self.width)

    @property
    def edge(self) -> int:
        """Columns of the last panel; 0 when it is a full one."""
        return self.product.column.size % self.width

    @property
    def tiles(self) -> int:
        return -(-self.product.row.size // self.tile.rows)

    @property
    def low(self) -> int:
        """The height of the lower tiles; the first `tall` ones have one row more."""
        return self.product.row.size // max(1, self.tiles)

    @property
    def tall(self) -> int:
        return self.product.row.size - self.low * self.tiles

    @cached_property
    def rows_at_once(self) -> int:
        at_once = min(self.tiles_at_once, self.tiles)
        return at_once * self.low + min(self.tall, at_once)

    @property
    def row_blocks(self) -> int:
        return -(-self.tiles // self.tiles_at_once)

    @property
    def column_blocks(self) -> int:
        return -(-self.panels // self.panels_at_once)

    @property
    def iterations(self) -> int:
        return self.product.batches * self.row_blocks * self.column_blocks

    @cached_property
    def direct(self) -> bool:
        """B is read where it lies: one row tile would read a packed panel only once."""
        if self.packed:
            return False
        product = self.product
        same = stored(product.dtype) == self.element
        flat = _is_one_walk([(axis.size, axis.b) for axis in product.inner])
        return self.tiles == 1 and product.column.b == 1 and same and flat

    @cached_property
    def copies(self) -> bool:
        """A is copied to dense rows: to widen it, to walk it with one step, to spread its rows."""
        if stored(self.product.dtype) != self.element:
            return True
        if not _is_one_walk([(axis.size, axis.a) for axis in self.product.inner]):
            return True
        if self.tiles == 1 or self.product.depth < 64 or self.product.row.a == 0:
            return False
        return self._crowds(self.product.row.a, self.tile.rows) or (
            self.panels >= REREAD and self._crowds(self.product.inner[-1].a, self.product.depth)
        )

    @cached_property
    def in_strips(self) -> bool:
        """The copy of A holds a tile of rows after another, each [k][row]: nothing is transposed
        where its rows lie one beside the other."""
        product = self.product
        return self.copies and product.row.a == 1 and stored(product.dtype) == self.element

    @cached_property
    def is_far(self) -> bool:
        """The rows of A for the next tile are asked for while k runs: they lie far apart, where no
        processor sees that they are wanted. Not where they would push out those at work."""
        product = self.product
        if self.copies or self.packed or self.tiles_at_once == 1 or product.depth < FAR:
            return False
        return product.inner[-1].a == 1 and not self._crowds(product.row.a, 2 * self.tile.rows)

    def _crowds(self, step: int, count: int) -> bool:
        """Whether so many lines of A fall in so few sets of the first cache that few stay."""
        sets = SET_BYTES // math.gcd(step * self.product.dtype.itemsize, SET_BYTES)
        return count > 4 * sets

    @property
    def may_be_packed(self) -> bool:
        """Whether it pays to pack B once for many runs of this product."""
        product = self.product
        same = stored(product.dtype) == self.element and not any(x.b for x in product.batch)
        return same and not self.direct and product.sums and self.packed_bytes <= PACKED

    @property
    def packed_bytes(self) -> int:
        """All of B in panels."""
        return self.panels * self.product.depth * self.width * bytes_of(self.element)

    # ---- K ----

    @cached_property
    def passes(self) -> tuple[tuple[Axis, ...], int, int, tuple[Axis, ...]]:
        """Loops around the passes · the axis cut into chunks, its chunk · the axes inside.

        The axis is numbered in `inner`; −1 where one pass runs through all of K.
        """
        inner, limit = self.product.inner, self._deepest
        if self.product.depth <= limit:
            return (), -1, 0, inner
        cut = next(i for i in range(len(inner)) if _depth(inner[i + 1 :]) <= limit)
        axis, rest = inner[cut], inner[cut + 1 :]
        largest = max(1, limit // _depth(rest))
        chunk = -(-axis.size // -(-axis.size // largest))
        if not rest:
            chunk = -(-chunk // UNROLL) * UNROLL
        return inner[:cut], cut, chunk, rest

    @property
    def _deepest(self) -> int:
        """k in one pass, at most; few where B is large and read once, to read long lines of it."""
        product = self.product
        size = product.depth * product.column.size * product.dtype.itemsize
        if self.direct and size > self.machine.cache:
            return STREAMED
        return PANEL_BYTES // (self.width * bytes_of(self.element))

    @property
    def blocked(self) -> bool:
        """K needs several passes; sums rest in scratch between them."""
        return self.passes[1] >= 0

    @property
    def deepest(self) -> int:
        """k in one pass, at most."""
        _, cut, chunk, rest = self.passes
        return _depth(rest) * (chunk if cut >= 0 else 1)

    # ---- scratch ----

    @property
    def pitch(self) -> int:
        """Elements from one row of the copy to the next: no multiple of 2048 bytes."""
        pitch = -(-self.deepest // self.lanes) * self.lanes
        return pitch + self.lanes if pitch * bytes_of(self.element) % 1024 == 0 else pitch

    @property
    def panel_bytes(self) -> int:
        if self.packed:
            return 0
        return self.group * self.deepest * self.width * bytes_of(self.element)

    @cached_property
    def group(self) -> int:
        """Panels that are packed together: lines of a B that lies in no cache come one by one, and
        the longer they are the faster."""
        product = self.product
        if self.packed or self.direct or self.panels_at_once < GROUP:
            return 1
        if stored(product.dtype) != self.element or product.column.b != 1 or len(product.inner) > 1:
            return 1
        size = product.depth * product.column.size * product.dtype.itemsize
        return GROUP if size >= 8 * self.machine.cache else 1

    @property
    def copy_bytes(self) -> int:
        if not self.copies:
            return 0
        return self.rows_at_once * self.pitch * bytes_of(self.element)

    @property
    def sums_bytes(self) -> int:
        if not self.blocked:
            return 0
        return self.panels_at_once * self.rows_at_once * self.width * bytes_of(self.element)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Bytes of what sums start from, a tile, the panel of B, the copy of A, resting sums."""
        line = self.width * bytes_of(self.element)
        tile = line * (self.low + (self.tall > 0))
        return line, tile, self.panel_bytes, self.copy_bytes, self.sums_bytes

    @property
    def places(self) -> tuple[int, ...]:
        return tuple(sum(self.sizes[:i]) for i in range(len(self.sizes)))

    @property
    def scratch(self) -> int:
        return sum(self.sizes)

    # ---- cost ----

    def cycles(self, tiles_at_once: int, panels_at_once: int) -> float:
        """A guess at the time of 1, 2, 4 and 8 threads together, cut so."""
        blocks = -(-self.tiles // tiles_at_once) * -(-self.panels // panels_at_once)
        count = self.product.batches * blocks
        one = self._iteration(min(tiles_at_once, self.tiles), panels_at_once)
        return sum(-(-count // threads) * one for threads in (1, 2, 4, 8))

    def _iteration(self, tiles: int, panels: int) -> float:
        rows, depth = tiles * self.low + min(self.tall, tiles), self.product.depth
        parts = max(1, VECTOR_BYTES // self.machine.register_bytes) * self.tile.vectors
        multiply = panels * depth * max(rows * parts / 2, 4)
        pack = (
            0
            if self.direct or self.packed
            else panels * depth * parts * (3 if self.product.column.b == 1 else 4)
        )
        copy = rows * depth * 0.7 if self.copies else 0
        return multiply + pack + copy + 60 + 15 * panels * tiles


def _is_one_walk(axes: Sequence[tuple[int, int]]) -> bool:
    """Whether axes (size, step) are walked through, the last one fastest, with one step."""
    walked = [(size, step) for size, step in axes if size != 1]
    return all(step == size * inner for (_, step), (size, inner) in itertools.pairwise(walked))


def _depth(axes: tuple[Axis, ...]) -> int:
    return math.prod(axis.size for axis in axes)


def blocking_of(
    product: Product, machine: Machine, tile: Tile | None = None, packed: bool = False
) -> Blocking:
    """The cut that costs least."""
    plain = Blocking(product, machine, tile or tile_for(product, machine), packed=packed)
    if not product.batches * product.row.size * product.column.size:
        return plain
    row_bytes = max(1, plain.deepest * bytes_of(plain.element) * plain.tile.rows)
    most = max(1, min(plain.tiles, machine.cache * 7 // 16 // row_bytes))
    fewest = -(-plain.tiles // most)
    together = (1, 2, 4, 8, 16, 32, 64) if plain.blocked or plain.copies else (1,)
    cuts = dict.fromkeys(
        (-(-plain.tiles // blocks), min(n, plain.panels))
        for blocks in range(fewest, min(plain.tiles, fewest + 32) + 1)
        for n in together
    )
    tiles, panels = min(cuts, key=lambda cut: plain.cycles(*cut))
    return replace(plain, tiles_at_once=tiles, panels_at_once=panels)
