"""Places for buffers in an arena that is hardly larger than what is alive at once.

Any packing can be pushed down until each buffer lies on the ground or on another one. So it is
enough to place buffers in the order of their offsets, each right on top of what lies below it
(Moffitt 2023, MiniMalloc); which one comes next is searched in depth. The search stops after so
much work, which is counted, never timed: the result depends on the lifetimes alone.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Cells = NDArray[np.int32]

UNIT = 64
"""Bytes that offsets and sizes are multiples of."""

EFFORTS = (2, 8, 32)
"""So many steps a buffer are searched in each order, then in each again, deeper."""

CELLS = 1_000_000_000
"""So often a buffer is looked at beside a moment in one search, at most: about a second."""

_ABSENT = np.int32(2**30)
"""The floor of a buffer that is placed, or not alive: above all others."""


def settled(starts: Ints, ends: Ints, sizes: Ints, limit: int, placements: int) -> Ints | None:
    """Offsets below `limit` at which no two buffers alive together overlap; None where so many
    placements found none, because there are none or they are too far."""
    offsets = np.zeros(len(sizes), np.int64)
    (real,) = np.nonzero(sizes)
    if len(real) and limit // UNIT >= _ABSENT // 2:
        return None
    if len(real):
        search = _Search(starts[real], ends[real], sizes[real] // UNIT, limit // UNIT)
        found = search.offsets(placements)
        if found is None:
            return None
        offsets[real] = found.astype(np.int64) * UNIT
    return offsets


class _Search:
    """Moments stand for all steps: of those alive together the sets that no other one contains."""

    def __init__(self, starts: Ints, ends: Ints, sizes: Ints, limit: int) -> None:
        moments = _moments(starts, ends)
        self.first = np.searchsorted(moments, starts)
        self.last = np.searchsorted(moments, ends)
        self.sizes = sizes.astype(np.int32)
        self.limit = limit
        self.moments = np.arange(len(moments))

    def offsets(self, placements: int) -> Cells | None:
        count = len(self.sizes)
        left = min(placements, CELLS // (count * len(self.moments)))
        for effort, order in itertools.product(EFFORTS, range(3)):
            if left < count:
                break
            work = min(effort * count, left)
            found, is_final = _Dive(self, self.orders[order], work).run()
            if is_final:
                return found
            left -= work
        return None

    @functools.cached_property
    def orders(self) -> list[Ints]:
        """Which buffer is tried first, of those that could lie equally low."""
        duration = self.last - self.first
        area = self.sizes * duration
        alive = (self.first <= self.moments[:, None]) & (self.last > self.moments[:, None])
        fullest = np.where(alive, (alive @ self.sizes)[:, None], 0).max(axis=0)
        return [
            np.lexsort((-self.sizes, -duration)),
            np.lexsort((-area, -fullest)),
            np.lexsort((-area,)),
        ]


class _Dive:
    """A search in depth. Buffers are numbered in the order in which they are tried."""

    def __init__(self, search: _Search, order: Ints, work: int) -> None:
        self.order, self.work, self.limit = order, work, search.limit
        self.first, self.last = search.first[order], search.last[order]
        self.sizes = search.sizes[order]
        moments = search.moments[:, None]
        alive = (self.first <= moments) & (self.last > moments)
        self.absent = np.where(alive, np.int32(0), _ABSENT)
        """For each moment and buffer, whether it is not alive."""
        self.rest = (alive * self.sizes).sum(axis=1, dtype=np.int32)

    def run(self) -> tuple[Cells | None, bool]:
        """Offsets if there are any, and whether that is known."""
        floors = np.zeros(len(self.order), np.int32)
        if (self.rest > self.limit).any():
            return None, True
        waiting = [(floors, self.rest, self._candidates(floors, 0))]
        placed: list[tuple[int, int]] = []
        while waiting:
            floors, rest, candidates = waiting[-1]
            i = next(candidates, None)
            if i is None:
                waiting.pop()
                if placed:
                    placed.pop()
                continue
            if not self.work:
                return None, False
            self.work -= 1
            place = int(floors[i])
            after = self._after(floors, rest, i)
            if after is None:
                continue
            placed.append((i, place))
            if len(placed) == len(self.order):
                return self._found(placed), True
            waiting.append((*after, self._candidates(after[0], place)))
        return None, True

    def _candidates(self, floors: Cells, least: int) -> Iterator[int]:
        """What may lie next, the lowest first: nothing that another one would fit below."""
        below = (floors + self.sizes).min()
        (found,) = np.nonzero((floors < below) & (floors >= least))
        return iter(found[np.argsort(floors[found], kind="stable")].tolist())

    def _after(self, floors: Cells, rest: Cells, i: int) -> tuple[Cells, Cells] | None:
        """Floors and what is left at each moment when a buffer lies on its floor; None where the
        others cannot all lie above theirs."""
        first, last = self.first[i], self.last[i]
        top = floors[i] + self.sizes[i]
        near = (self.first < last) & (self.last > first)
        floors = np.where(near, np.maximum(floors, top), floors)
        floors[i] = _ABSENT
        rest = rest.copy()
        rest[first:last] -= self.sizes[i]
        if ((floors + self.sizes > self.limit) & (floors < _ABSENT)).any():
            return None
        ground = np.maximum(self.absent, floors).min(axis=1)
        return None if ((ground + rest > self.limit) & (rest > 0)).any() else (floors, rest)

    def _found(self, placed: list[tuple[int, int]]) -> Cells:
        offsets = np.zeros(len(self.order), np.int32)
        for i, place in placed:
            offsets[self.order[i]] = place
        return offsets


def _moments(starts: Ints, ends: Ints) -> Ints:
    """A step for each set of buffers alive together that no other one contains: the last one before
    something ends, if something started since the last end."""
    last = int(ends.max())
    starting, ending = np.zeros(last, bool), np.zeros(last, bool)
    starting[starts] = True
    ending[ends - 1] = True
    moments, is_new = [], False
    for step in range(last):
        is_new |= bool(starting[step])
        if ending[step] and is_new:
            moments.append(step)
            is_new = False
    return np.array(moments)
