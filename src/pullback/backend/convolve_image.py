"""A piece of an image with its surroundings, copied so that windows read it without bounds.

Images have three spatial axes here: slices, lines, and columns. Windows read all places near the
piece: those outside of the image are zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pullback.backend.assembly import Function, Ssa, integer, vector
from pullback.backend.packing import (
    VECTOR_BYTES,
    bytes_of,
    offset,
    shifted,
    stored,
    strips,
    summed,
    widened,
)
from pullback.ir.types import DType

Place = tuple[int, int, int]

LINE = 16
"""Elements of a cache line, or more."""


@dataclass(frozen=True)
class Reach:
    """On an axis of `size` places, window q reads places q·step + first to q·step + last."""

    size: int
    step: int
    first: int
    last: int

    @property
    def span(self) -> int:
        return self.last - self.first


@dataclass(frozen=True)
class Piece:
    """[channel][slice][line][phase][column], what some lines of windows read.

    Columns of one phase are `step` apart in the image, so those that neighbouring windows read at
    one tap are neighbours too. Without `split` there is one phase, of all columns.
    """

    dtype: DType
    channels: int
    reach: tuple[Reach, Reach, Reach]
    windows: int
    """Lines of windows."""
    columns: int
    """Windows of a line."""
    split: bool = True

    @property
    def element(self) -> str:
        return summed(self.dtype)

    @property
    def leap(self) -> int:
        """How far apart neighbouring columns of a phase are in the image."""
        return self.reach[2].step if self.split else 1

    @property
    def phases(self) -> int:
        return min(self.leap, self.reach[2].span + 1)

    @property
    def width(self) -> int:
        reach = self.reach[2]
        return ((self.columns - 1) * reach.step + reach.span) // self.leap + 1

    @property
    def lines(self) -> int:
        return (self.windows - 1) * self.reach[1].step + self.reach[1].span + 1

    @property
    def line(self) -> int:
        """Elements from one line to the next."""
        return self.phases * self.width

    @property
    def slice(self) -> int:
        return self.lines * self.line

    @property
    def plane(self) -> int:
        """Elements of a channel: an odd number of cache lines, so that channels share no set."""
        lines = -(-(self.reach[0].span + 1) * self.slice // LINE)
        return (lines | 1) * LINE

    @property
    def nbytes(self) -> int:
        return self.channels * self.plane * bytes_of(self.element)

    def at(self, place: Place) -> int:
        """Where a tap at `place` of the first window reads, in elements of a channel."""
        slices, lines, columns = (
            x - reach.first for x, reach in zip(place, self.reach, strict=True)
        )
        column = columns % self.leap * self.width + columns // self.leap
        return slices * self.slice + lines * self.line + column


def copy_piece(f: Function, piece: Piece, source: Ssa, first: tuple[Ssa, Ssa], target: Ssa) -> None:
    """Copy from a dense image; `first` are its slice and its line that come first."""
    raw = stored(piece.dtype)
    slices, lines, columns = piece.reach
    area = lines.size * columns.size
    with f.loop(integer(0), integer(piece.channels)) as channels:
        image = offset(f, source, raw, channels.index, slices.size * area)
        out = offset(f, target, piece.element, channels.index, piece.plane)
        with f.loop(integer(0), integer(slices.span + 1)) as deep:
            depth = f.binary("add", first[0], deep.index)
            layer = offset(f, image, raw, depth, area)
            there = offset(f, out, piece.element, deep.index, piece.slice)
            exists = f.compare("icmp ult", depth, integer(slices.size))
            with f.loop(integer(0), integer(piece.lines)) as loop:
                line = f.binary("add", first[1], loop.index)
                inside = f.compare("icmp ult", line, integer(lines.size))
                inside = f.binary("and", inside, exists)
                here = offset(f, layer, raw, line, columns.size)
                target_line = offset(f, there, piece.element, loop.index, piece.line)
                with f.when(inside):
                    _copy_line(f, piece, here, target_line)
                with f.when(f.binary("xor", inside, Ssa("i1", "true"))):
                    _clear(f, piece.element, piece.line, target_line)


def _copy_line(f: Function, piece: Piece, source: Ssa, target: Ssa) -> None:
    reach, leap = piece.reach[2], piece.leap
    for phase in range(piece.phases):
        origin = reach.first + phase
        first = min(piece.width, max(0, -(origin // leap)))
        last = max(first, min(piece.width, (reach.size - 1 - origin) // leap + 1))
        out = shifted(f, target, piece.element, phase * piece.width)
        _clear(f, piece.element, first, out)
        here = shifted(f, source, stored(piece.dtype), origin + first * leap)
        _copy_columns(f, piece, last - first, here, shifted(f, out, piece.element, first))
        _clear(f, piece.element, piece.width - last, shifted(f, out, piece.element, last))


def _copy_columns(f: Function, piece: Piece, count: int, source: Ssa, target: Ssa) -> None:
    raw, wide, leap = stored(piece.dtype), piece.element, piece.leap
    lanes = min(LINE, VECTOR_BYTES // bytes_of(wide))
    if leap == 1:
        for first, length in _runs(f, count, lanes):
            value = f.load(vector(length, raw), f.at(source, raw, first), bytes_of(raw))
            f.store(widened(f, value), f.at(target, wide, first), bytes_of(wide))
        return
    # The last column is apart: a vector that ends at it would read beyond the image.
    whole = max(0, count - 1) // lanes * lanes if leap <= 4 else 0
    with f.loop(integer(0), integer(whole), lanes) as loop:
        here = offset(f, source, raw, loop.index, leap)
        value = f.load(vector(lanes * leap, raw), here, bytes_of(raw))
        value = f.shuffle(value, Ssa(value.type, "poison"), range(0, lanes * leap, leap))
        f.store(widened(f, value), f.at(target, wide, loop.index), bytes_of(wide))
    with f.loop(integer(whole), integer(count)) as loop:
        value = f.load(raw, offset(f, source, raw, loop.index, leap), bytes_of(raw))
        f.store(widened(f, value), f.at(target, wide, loop.index), bytes_of(wide))


def _clear(f: Function, element: str, count: int, target: Ssa) -> None:
    for first, length in _runs(f, count, min(LINE, VECTOR_BYTES // bytes_of(element))):
        zeros = Ssa(vector(length, element), "zeroinitializer")
        f.store(zeros, f.at(target, element, first), bytes_of(element))


def _runs(f: Function, count: int, lanes: int) -> Iterator[tuple[Ssa, int]]:
    """`strips` whose end is written out, in ever shorter vectors."""
    whole = count // lanes * lanes
    if whole:
        yield from strips(f, whole, lanes)
    length = lanes // 2
    while whole < count:
        if whole + length <= count:
            yield integer(whole), length
            whole += length
        length //= 2
