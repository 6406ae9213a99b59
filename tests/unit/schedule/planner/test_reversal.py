"""Optimal reversals, against the published counts."""

from __future__ import annotations

import itertools
import math

import pytest

from pullback.schedule.memory import evaluate
from pullback.schedule.planner.published import (
    TAPE,
    layers,
    layers_schedule,
    overhead_curve,
    published_chain,
    unit_chain,
)
from pullback.schedule.planner.reversal import BACK, PASS, SAVE, Option, Reversal, Stage


def fewest_forwards(length: int, checkpoints: int) -> int:
    """r·L - C(c + r, c + 1), r the least with C(c + r, c) ≥ L (Griewank & Walther 2000)."""
    r = next(r for r in itertools.count() if math.comb(checkpoints + r, checkpoints) >= length)
    return r * length - math.comb(checkpoints + r, checkpoints + 1)


def test_the_counts_of_griewank_and_walther():
    """The state that a tape begins with is one of the checkpoints. With 1000, too: 3 s."""
    chain = published_chain(100, 39)
    for length, checkpoints in itertools.product((1, 2, 10, 50, 100), range(1, 40)):
        assert chain.cost(TAPE + checkpoints, length) == fewest_forwards(length, checkpoints)


def test_the_curve_of_chen():
    """2√L slots cost one more forward pass. Up to 1000: `python -m benchmarks.planner`."""
    lengths = range(1, 101)
    chain = unit_chain(100, 24)
    costs = [chain.cost(math.floor(2 * math.sqrt(n)) + 4, n) for n in lengths]
    assert all(cost <= 4 * n for cost, n in zip(costs, lengths, strict=True))


@pytest.mark.parametrize(("length", "slots"), [(1, 2), (2, 3), (10, 4), (30, 6), (64, 9), (64, 65)])
def test_the_evaluator_confirms_what_the_curve_says(length, slots):
    chain, workload = unit_chain(length, slots), layers(length)
    plan = evaluate(workload, layers_schedule(chain, slots))
    assert plan.arena_bytes <= 64 * slots
    assert plan.lifetimes.cost == chain.cost(slots)
    assert plan.slowdown == pytest.approx(overhead_curve(length, [slots])[0], abs=1e-12)


@pytest.mark.parametrize(("length", "slots"), [(1, 1), (2, 1), (10, 3), (30, 5), (64, 4)])
def test_the_acts_cost_what_the_table_says_and_hold_what_they_may(length, slots):
    tables = published_chain(length, 39)
    acts = list(tables.acts(TAPE + slots))
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
    tables = published_chain(5, 9)
    assert tables.least() == TAPE + 1
    assert tables.cost(TAPE) == math.inf


def test_equal_substrings_are_solved_once():
    assert len(published_chain(40, 0).rows) == 40
    tape = Option(0, TAPE, TAPE, TAPE)
    one, two = (Stage(cost, 1, 0, 0, (tape,)) for cost in (1, 2))
    assert len(Reversal([one, two] * 20, TAPE).rows) <= 2 * 40
