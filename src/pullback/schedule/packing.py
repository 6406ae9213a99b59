"""Offsets for buffers whose lifetimes are known: the smallest arena found that holds them all.

The problem (dynamic storage allocation) is NP-hard (Garey & Johnson 1979, SR2). On training steps
a greedy placement nearly always meets the lower bound, the most bytes alive at once, when buffers
alive at the fullest steps come first. The result depends on the lifetimes alone: work is bounded
by a count of placements, never by a clock.
"""

from __future__ import annotations

import bisect
import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pullback.errors import MemoryPlanError
from pullback.schedule.skyline import settled

Ints = NDArray[np.int64]
Fit = Callable[[Ints, int], int]

ALIGNMENT = 64
"""Bytes: a cache line, and the width of a canonical vector."""

SLAB = 1024
"""Smaller buffers with one lifetime are placed as one."""

PLACEMENTS = 40_000
"""How many placements a packing may try, 1 to 2 s; the first order is always finished."""

GAP = 0.01
"""Nearer to the lower bound than this, nothing better is looked for."""

_ENDLESS = np.iinfo(np.int64).max


def aligned(size: int) -> int:
    """`size` rounded up to the alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True, eq=False)
class Intervals:
    """Buffers by columns: alive during steps `starts … ends - 1`, `sizes` bytes (aligned)."""

    starts: Ints
    ends: Ints
    sizes: Ints

    def __len__(self) -> int:
        return len(self.sizes)

    @classmethod
    def of(cls, rows: list[tuple[int, int, int]]) -> Intervals:
        """From (start, end, size) of each buffer."""
        table = np.array(rows, np.int64).reshape(-1, 3)
        return cls(table[:, 0].copy(), table[:, 1].copy(), table[:, 2].copy())

    def take(self, chosen: Ints) -> Intervals:
        return Intervals(self.starts[chosen], self.ends[chosen], self.sizes[chosen])

    def live_bytes(self, steps: int) -> Ints:
        """How many bytes are alive during each step."""
        change = np.zeros(steps + 1, np.int64)
        np.add.at(change, self.starts, self.sizes)
        np.subtract.at(change, self.ends, self.sizes)
        return np.cumsum(change)[:steps]

    @functools.cached_property
    def max_live(self) -> int:
        """The most bytes alive at once: no arena for these lifetimes is smaller."""
        return int(self.live_bytes(int(self.ends.max(initial=0))).max(initial=0))


@dataclass(frozen=True, eq=False)
class Packing:
    """Where each buffer lies in an arena of `size` bytes."""

    size: int
    offsets: Ints


def pack(buffers: Intervals, enough: int = 0, placements: int = PLACEMENTS) -> Packing:
    """Aligned offsets such that buffers alive together are disjoint.

    The search ends at the lower bound, where the arena is no larger than `enough` bytes, or after
    so many placements.
    """
    slabs, slab_of, inner = _slabs(buffers)
    packing = _pack(slabs, enough, placements)
    return Packing(packing.size, packing.offsets[slab_of] + inner)


def require_disjoint(buffers: Intervals, packing: Packing) -> None:
    """Raise `MemoryPlanError` when two buffers alive at one time overlap: a sweep over time."""
    lows, highs = packing.offsets.tolist(), (packing.offsets + buffers.sizes).tolist()
    alive: list[tuple[int, int]] = []
    for step, starts, i in _events(buffers):
        place = bisect.bisect_left(alive, (lows[i], i))
        if not starts:
            del alive[place]
            continue
        for _, j in alive[max(place - 1, 0) : place + 1]:
            if lows[i] < highs[j] and lows[j] < highs[i]:
                raise MemoryPlanError(f"buffers {i} and {j} overlap at step {step}")
        if not 0 <= lows[i] <= highs[i] <= packing.size or lows[i] % ALIGNMENT:
            raise MemoryPlanError(f"buffer {i} lies at {lows[i]}, outside the arena or unaligned")
        alive.insert(place, (lows[i], i))


def _events(buffers: Intervals) -> Iterator[tuple[int, bool, int]]:
    """(step, whether it starts, buffer) in time; ends before starts; empty buffers left out."""
    real = np.flatnonzero(buffers.sizes)
    starts = [
        (t, True, i) for t, i in zip(buffers.starts[real].tolist(), real.tolist(), strict=True)
    ]
    ends = [(t, False, i) for t, i in zip(buffers.ends[real].tolist(), real.tolist(), strict=True)]
    return iter(sorted(ends + starts))


# ---- the search -----------------------------------------------------------------------------


def _pack(buffers: Intervals, enough: int, placements: int) -> Packing:
    """By the first greedy order where that is good; else by a search in depth for the lower bound
    and for what is enough; else by the best of all, and a search for less than that."""
    least = buffers.max_live
    enough = max(least, enough)
    greed, orders = _Greed(buffers, enough, placements), _orders(buffers)
    greed.attempt(next(orders), _best)
    if greed.packing.size <= max(least, min(enough, int((1 + GAP) * least))):
        return greed.packing
    for limit in dict.fromkeys([least, enough]):
        found = _settled(buffers, limit, placements)
        if found is not None:
            return found
    for order, fit in itertools.product(orders, (_best, _first)):
        if not greed.done:
            greed.attempt(order, fit)
    return greed.packing if enough > least else _lowered(buffers, greed.packing, placements)


def _lowered(buffers: Intervals, best: Packing, placements: int) -> Packing:
    """A packing near the lower bound, by bisection."""
    low, high = buffers.max_live, best.size
    while high > (1 + GAP) * low:
        middle = aligned((low + high) // 2)
        found = _settled(buffers, middle, placements)
        best = best if found is None else found
        low, high = (middle, high) if found is None else (low, best.size)
    return best


def _settled(buffers: Intervals, limit: int, placements: int) -> Packing | None:
    offsets = settled(buffers.starts, buffers.ends, buffers.sizes, limit, placements)
    if offsets is None:
        return None
    return Packing(int((offsets + buffers.sizes).max(initial=0)), offsets)


def _orders(buffers: Intervals) -> Iterator[Ints]:
    """Buffers of the fullest steps first: where the arena is tight there is no choice left."""
    start, size = buffers.starts, buffers.sizes
    duration = buffers.ends - start
    fullest = _fullest(buffers)
    yield np.lexsort((-size, start, -fullest))
    yield np.lexsort((start, -duration, -size, -fullest))
    yield np.lexsort((start, -size, -duration, -fullest))
    yield np.lexsort((start, -duration, -size))
    yield np.lexsort((start, -size * duration))


def _fullest(buffers: Intervals) -> Ints:
    """For each buffer the most bytes alive at once during its life, from a sparse table."""
    row = buffers.live_bytes(int(buffers.ends.max(initial=0)))
    level = np.frexp(buffers.ends - buffers.starts)[1] - 1  # ⌊log₂ duration⌋
    result = np.zeros(len(buffers), np.int64)
    for k in range(int(level.max(initial=-1)) + 1):
        chosen = level == k
        first, last = buffers.starts[chosen], buffers.ends[chosen] - 2**k
        result[chosen] = np.maximum(row[first], row[last])
        row = np.maximum(row[: -(2**k)], row[2**k :]) if len(row) > 2**k else row
    return result


class _Greed:
    """The best packing so far, and the work left."""

    def __init__(self, buffers: Intervals, enough: int, placements: int) -> None:
        self.buffers, self.enough = buffers, enough
        self.left = placements
        self.packing = Packing(int(_ENDLESS), np.zeros(len(buffers), np.int64))

    @property
    def done(self) -> bool:
        return self.packing.size <= self.enough or self.left < len(self.buffers)

    def attempt(self, order: Ints, fit: Fit) -> None:
        """Place in this order, unless that is worse."""
        offsets, placed = _place(self.buffers.take(order), fit, self.packing.size)
        self.left -= placed
        if offsets is not None:
            unordered = np.empty_like(offsets)
            unordered[order] = offsets
            size = int((unordered + self.buffers.sizes).max(initial=0))
            self.packing = Packing(size, unordered)


def _place(buffers: Intervals, fit: Fit, limit: int) -> tuple[Ints | None, int]:
    """Offsets for buffers in the order given, or None once above `limit`; and how many placed."""
    count = len(buffers)
    # The buffers placed so far, by offset: no sort is needed to find the gaps between them.
    times = np.zeros((2, count + 1), np.int32)
    ranges = np.zeros((2, count + 1), np.int64)
    offsets = np.zeros(count, np.int64)
    rows = zip(buffers.starts.tolist(), buffers.ends.tolist(), buffers.sizes.tolist(), strict=True)
    for i, (start, end, size) in enumerate(rows):
        near = np.flatnonzero((times[0, :i] < end) & (times[1, :i] > start))
        low = _lowest(ranges[0].take(near), ranges[1].take(near), size, fit)
        if low + size > limit:
            return None, i + 1
        place = int(ranges[0, :i].searchsorted(low))
        times[:, place + 1 : i + 1] = times[:, place:i]
        ranges[:, place + 1 : i + 1] = ranges[:, place:i]
        times[:, place] = start, end
        ranges[:, place] = low, low + size
        offsets[i] = low
    return offsets, count


def _lowest(lows: Ints, highs: Ints, size: int, fit: Fit) -> int:
    """The offset of the gap that `fit` chooses between ranges sorted by their lower ends."""
    if not len(lows):
        return 0
    floors, ceilings = np.zeros(len(lows) + 1, np.int64), np.full(len(lows) + 1, _ENDLESS)
    np.maximum.accumulate(highs, out=floors[1:])
    ceilings[:-1] = lows
    return int(floors[fit(ceilings - floors, size)])


def _first(rooms: Ints, size: int) -> int:
    return int((rooms >= size).argmax())


def _best(rooms: Ints, size: int) -> int:
    return int(np.where(rooms >= size, rooms, _ENDLESS).argmin())


def _slabs(buffers: Intervals) -> tuple[Intervals, Ints, Ints]:
    """Small buffers of one lifetime as one: (slabs, slab of each buffer, offset of it inside)."""
    slab_of, inner = np.zeros(len(buffers), np.int64), np.zeros(len(buffers), np.int64)
    rows: list[tuple[int, int, int]] = []
    slabs: dict[tuple[int, int], int] = {}
    columns = (buffers.starts.tolist(), buffers.ends.tolist(), buffers.sizes.tolist())
    for i, (start, end, size) in enumerate(zip(*columns, strict=True)):
        slab = slabs.get((start, end)) if size < SLAB else None
        if slab is None:
            slab = len(rows)
            rows.append((start, end, 0))
            if size < SLAB:
                slabs[start, end] = slab
        slab_of[i], inner[i] = slab, rows[slab][2]
        rows[slab] = (start, end, inner[i] + size)
    return Intervals.of(rows), slab_of, inner
