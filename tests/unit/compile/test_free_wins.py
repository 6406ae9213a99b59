"""What each free win is worth, in exact bytes, and what checkpoints by hand trade.

The numbers are those of docs/memory.md.
"""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import optree
import pytest
from benchmarks.trade import Trade

import pullback as pb
from pullback._settings import override
from pullback.backend import program
from pullback.bench.models import GPT
from pullback.bench.workloads import SMALL, Training, numbers
from pullback.ops.layout import Layout
from pullback.passes import pipeline
from pullback.passes.saved import choose_saved
from pullback.schedule.memory import evaluate

TASK = Training(GPT(layers=2, width=64, heads=4, length=64, vocabulary=96, batch=8))


WORTH = {
    "all": 6_491_776,
    "nothing in place": 6_626_816,
    "a buffer for each value": 25_463_040,
    "views, in all": 13_968_896,
    "state not given back": 7_831_360,
    "updates last": 6_873_472,
    "all is saved": 12_547_584,
}
"""Peak bytes with all of them, and with one left out."""


@pytest.fixture(scope="module")
def arguments():
    return optree.tree_map(pb.asarray, numbers(TASK))


def lowered(arguments, donate=0):
    with override(cache="off"):
        return pb.compile(TASK.step, donate=donate, threads=1).lower(*arguments)


def test_what_each_free_win_is_worth(arguments, monkeypatch):
    found = lowered(arguments)
    plan = found.plan
    workload = plan.lifetimes.workload
    bytes_of = {"all": plan.peak_bytes}

    apart = replace(workload, steps=tuple([replace(x, in_place=()) for x in workload.steps]))
    bytes_of["nothing in place"] = evaluate(apart).peak_bytes
    between = [i for i, value in enumerate(workload.values) if not value.resident]
    bytes_of["a buffer for each value"] = plan.resident_bytes + sum(
        workload.sizes[i] for i in between
    )
    views = [y for n in found.optimized.nodes if isinstance(n.op, Layout) for y in n.outputs]
    bytes_of["views, in all"] = sum(y.type.nbytes for y in views)
    bytes_of["state not given back"] = lowered(arguments, donate=()).plan.peak_bytes

    with monkeypatch.context() as patched:
        patched.setattr(program, "frugal_order", lambda lives: lives)
        bytes_of["updates last"] = lowered(arguments).plan.peak_bytes
    kept = [step for step in pipeline.PIPELINE if step is not choose_saved]
    monkeypatch.setattr(pipeline, "PIPELINE", kept)
    bytes_of["all is saved"] = lowered(arguments).plan.peak_bytes
    assert bytes_of == WORTH


def test_checkpoints_by_hand_hold_a_fifth_for_a_third_more_time():
    trade = Trade(layers=4, width=32, batch=2, length=32)
    free, hand = trade.free(), trade.by_hand("nothing")
    own = trade.within(hand.peak)
    assert (free.arena, hand.arena) == (1_306_368, 281_344)
    assert 0.5 <= 1 - hand.arena / free.arena <= 0.8
    assert hand.cost <= free.cost * 4 / 3
    assert own.arena <= hand.arena
    assert own.cost <= hand.cost * 1.1  # by hand the second computation is fused anew


@pytest.mark.parametrize("name", ["cnn", "gpt", "lstm"])
def test_a_step_allocates_nothing_outside_its_arena(name):
    """All networks: python -m benchmarks.allocations."""
    task = SMALL[name]
    compiled = pb.compile(task.step, donate=task.donate)
    state, *batch = optree.tree_map(pb.asarray, numbers(task))
    for _ in range(2):
        state, _ = compiled(state, *batch)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        state, _ = compiled(state, *batch)
        grown = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert grown < 20_000
