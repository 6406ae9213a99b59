"""Places found from the ground of the arena upwards."""

from __future__ import annotations

import numpy as np

from pullback.schedule.packing import Intervals, Packing, pack, require_disjoint
from pullback.schedule.skyline import settled

PASS = [(0, 10, 7), (1, 4, 8), (2, 9, 6), (3, 6, 4), (4, 8, 8), (5, 7, 5), (6, 8, 5), (7, 9, 3)]
"""(start, end, size) of a small forward and backward pass."""


def intervals(rows, unit=64):
    return Intervals.of([(start, end, unit * size) for start, end, size in rows])


def places(buffers, limit, placements=10_000):
    return settled(buffers.starts, buffers.ends, buffers.sizes, limit, placements)


def test_buffers_lie_in_no_more_than_is_alive_at_once():
    rng = np.random.default_rng(0)
    starts = rng.integers(0, 60, 100)
    scattered = Intervals(starts, starts + rng.geometric(0.1, 100), 64 * rng.integers(0, 200, 100))
    for buffers in (intervals(PASS), scattered):
        found = places(buffers, buffers.max_live)
        require_disjoint(buffers, Packing(buffers.max_live, found))
        assert pack(buffers).size == buffers.max_live


def test_what_cannot_be_is_not_found_and_what_is_too_far_is_given_up():
    buffers = intervals(PASS)
    assert places(buffers, buffers.max_live) is not None
    assert places(buffers, buffers.max_live - 64) is None
    assert places(buffers, buffers.max_live, placements=3) is None
    assert places(intervals([]), 0).size == 0
    assert places(intervals([(0, 1, 2**40)]), 2**46) is None  # beyond its numbers: left to greed
