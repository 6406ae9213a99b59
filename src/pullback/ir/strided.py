"""`Strided`: where the elements of a value lie in row-major memory, as NumPy's strides say it."""

from __future__ import annotations

import functools
import math

from pullback._trusted import trusted
from pullback.ir.types import Axes, Shape


@trusted(frozen=True, slots=True)
class Strided:
    """Element (i, j, …) lies at offset + i·strides[0] + j·strides[1] + …, counted in elements."""

    shape: Shape
    strides: tuple[int, ...]
    offset: int = 0

    @staticmethod
    @functools.lru_cache(maxsize=4096)
    def row_major(shape: Shape) -> Strided:
        return Strided(shape, row_major_strides(shape))

    @property
    def is_row_major(self) -> bool:
        """Whether the elements lie one after the other from the start."""
        expected = row_major_strides(self.shape)
        if self.strides == expected or self.offset:
            return not self.offset
        triples = zip(self.shape, self.strides, expected, strict=True)
        return 0 in self.shape or all(n == 1 or given == wanted for n, given, wanted in triples)

    # ---- the same elements seen otherwise ----

    def permuted(self, permutation: Axes) -> Strided:
        return Strided(
            tuple(self.shape[i] for i in permutation),
            tuple(self.strides[i] for i in permutation),
            self.offset,
        )

    def spread(self, shape: Shape, axes: Axes) -> Strided:
        """New axes, along which the elements repeat."""
        strides = iter(self.strides)
        return Strided(
            shape, tuple(0 if i in axes else next(strides) for i in range(len(shape))), self.offset
        )

    def broadcast_to(self, shape: Shape) -> Strided:
        """By NumPy's rule."""
        if shape == self.shape:
            return self
        lead = len(shape) - len(self.shape)
        own = zip(self.shape, self.strides, shape[lead:], strict=True)
        strides = tuple(0 if n != m else s for n, s, m in own)
        return Strided(shape, (0,) * lead + strides, self.offset)

    def sliced(self, start: Axes, step: Axes, shape: Shape) -> Strided:
        offset = self.offset + sum(a * s for a, s in zip(start, self.strides, strict=True))
        return Strided(shape, tuple(s * k for s, k in zip(self.strides, step, strict=True)), offset)

    def flipped(self, axes: Axes) -> Strided:
        last = sum((self.shape[a] - 1) * self.strides[a] for a in axes)
        strides = tuple(-s if i in axes else s for i, s in enumerate(self.strides))
        return Strided(self.shape, strides, self.offset + last)

    def reshaped(self, shape: Shape) -> Strided | None:
        """The elements in row-major order under another shape; None where no strides say it."""
        strides = _strides_under(shape, self.shape, self.strides)
        return None if strides is None else Strided(shape, strides, self.offset)

    def walked(self, shape: Shape) -> tuple[int, ...]:
        """The strides when it is broadcast to `shape`, but for axes of size 1."""
        strides = self.strides if shape == self.shape else self.broadcast_to(shape).strides
        if 1 not in shape:
            return strides
        return tuple([s for s, n in zip(strides, shape, strict=True) if n != 1])


# ---- pure functions of shapes, of which a program has few ---------------------------------------


@functools.lru_cache(maxsize=4096)
def _strides_under(shape: Shape, given: Shape, strides: tuple[int, ...]) -> tuple[int, ...] | None:
    """The strides of the same elements in row-major order under another shape."""
    if math.prod(shape) == 0:
        return row_major_strides(shape)
    found: list[int] = []
    position = 0
    for size, stride in _runs(given, strides):
        taken: list[int] = []
        while math.prod(taken) < size:
            if position == len(shape) or size % (math.prod(taken) * shape[position]):
                return None
            taken.append(shape[position])
            position += 1
        found += [stride * n for n in row_major_strides(tuple(taken))]
    found += [0] * (len(shape) - position)
    return tuple(found)


@functools.lru_cache(maxsize=4096)
def row_major_strides(shape: Shape) -> tuple[int, ...]:
    strides = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def _runs(shape: Shape, strides: tuple[int, ...]) -> list[tuple[int, int]]:
    """Adjacent axes merged where one stride walks them both: (size, stride of the last)."""
    runs: list[tuple[int, int]] = []
    for size, stride in zip(shape, strides, strict=True):
        if size == 1:
            continue
        if runs and runs[-1][1] == size * stride:
            runs[-1] = (runs[-1][0] * size, stride)
        else:
            runs.append((size, stride))
    return runs
