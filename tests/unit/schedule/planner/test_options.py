"""The trades of a block, against all of them."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from pullback.schedule.planner.options import Block, hull, options


def drawn(seed: int) -> Block:
    """A random block: steps of one or two values, each reading some values before it."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 8))
    writes, reads, made = [], [], []
    for _ in range(count):
        reads.append(tuple(int(v) for v in made if rng.random() < 0.4))
        new = [len(made) + i for i in range(int(rng.integers(1, 3)))]
        writes.append(tuple(new))
        made += new
    costs = [None if rng.random() < 0.1 else int(rng.integers(0, 9)) for _ in range(count)]
    sizes = {v: int(rng.integers(0, 9)) for v in made}
    needed = frozenset(v for v in made if rng.random() < 0.5)
    return Block(tuple(costs), tuple(reads), tuple(writes), sizes, needed)


def all_points(block: Block) -> set[tuple[int, int]]:
    steps = [s for s, cost in enumerate(block.costs) if cost is not None]
    chosen = itertools.chain.from_iterable(
        itertools.combinations(steps, n) for n in range(len(steps) + 1)
    )
    return {block.point(frozenset(again)) for again in chosen}


def least(points: set[tuple[int, int]], price: Fraction) -> Fraction:
    return min(cost + price * size for cost, size in points)


@pytest.mark.parametrize("seed", range(200))
def test_the_curve_is_the_convex_hull_of_all_choices(seed):
    block = drawn(seed)
    points = all_points(block)
    corners = [block.point(again) for again in hull(block)]
    assert corners == sorted(corners)
    for price in [Fraction(p, q) for p in (0, 1, 2, 3, 5, 9, 40) for q in (1, 2, 7)]:
        assert least(set(corners), price) == least(points, price)
    assert min(size for _, size in points) == corners[-1][1]


@pytest.mark.parametrize("seed", range(40))
def test_no_option_is_worse_than_another_and_none_runs_again_what_runs_once(seed):
    block = drawn(seed)
    found = options(block)
    points = [block.point(again) for again in found]
    assert [cost for cost, _ in points] == sorted(cost for cost, _ in points)
    assert all(a[1] > b[1] for a, b in itertools.pairwise(points))
    assert all(block.costs[s] is not None for again in found for s in again)
