"""Optimal reversals, against the published counts."""

from __future__ import annotations

import itertools
import math

import pytest

from pullback.schedule.planner.reversal import BACK, PASS, SAVE, Option, Reversal, Stage

ONE = 50
"""The tape of a step, in slots: so large that there is one at a time."""


def counted(length: int, most: int) -> Reversal:
    """A chain in which running forward costs 1 and the last run before a backward one nothing."""
    tape = Option(cost=0, saved=ONE, forward=ONE, backward=ONE)
    return Reversal([Stage(cost=1, output=1, cotangent=0, peak=0, options=(tape,))] * length, most)


def fewest_forwards(length: int, checkpoints: int) -> int:
    """r·L - C(c + r, c + 1), r the least with C(c + r, c) ≥ L (Griewank & Walther 2000)."""
    r = next(r for r in itertools.count() if math.comb(checkpoints + r, checkpoints) >= length)
    return r * length - math.comb(checkpoints + r, checkpoints + 1)


@pytest.mark.parametrize("length", [1, 2, 10, 50, 100, 300])
def test_the_counts_of_griewank_and_walther(length):
    """The state that a tape begins with is one of the checkpoints. With 1000, too: 7 s."""
    tables = counted(length, ONE + 39)
    for checkpoints in range(1, 40):
        assert tables.cost(ONE + checkpoints) == fewest_forwards(length, checkpoints)


@pytest.mark.parametrize(("length", "slots"), [(1, 1), (2, 1), (10, 3), (30, 5), (64, 4)])
def test_the_acts_cost_what_the_table_says_and_hold_what_they_may(length, slots):
    tables = counted(length, ONE + 39)
    acts = list(tables.acts(ONE + slots))
    assert sum(act.kind == PASS for act in acts) == fewest_forwards(length, slots)
    backward = [act.block for act in acts if act.kind == BACK]
    assert backward == list(range(length))[::-1]
    ready, tapes = {0}, set()  # blocks whose input is there
    for act in acts:
        if act.kind == BACK:
            assert act.block in tapes
            tapes.discard(act.block)
            ready -= {act.block, act.block + 1}
            continue
        assert act.block in ready
        if act.kind == SAVE:
            tapes.add(act.block)
            assert len(tapes) == 1
        elif act.ends:
            ready.discard(act.block)
        ready.add(act.block + 1)
        assert len(ready - {0}) <= slots + (act.kind == SAVE)


def test_too_few_slots_cannot_be():
    tables = counted(5, ONE + 9)
    assert tables.least() == ONE + 1
    assert tables.cost(ONE) == math.inf


def test_equal_substrings_are_solved_once():
    assert len(counted(40, ONE).tables) == 40
    tape = Option(0, ONE, ONE, ONE)
    one, two = (Stage(cost, 1, 0, 0, (tape,)) for cost in (1, 2))
    assert len(Reversal([one, two] * 20, ONE).tables) <= 2 * 40
