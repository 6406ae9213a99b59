"""What a plan tells: what is saved and at what price, other budgets, the largest batch."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from pullback import nn
from pullback.errors import ArgumentError, MemoryPlanError

random = np.random.default_rng(6)
LAYERS = [nn.Linear(32, 32, key=pb.random.fold_in(pb.random.key(1), i)) for i in range(5)]
MODEL = nn.Sequential(*[x for layer in LAYERS for x in (layer, nn.tanh)])


def slopes(model, x, y):
    return pb.grad(lambda m: pb.mean((m(x) - y) ** 2))(model)


def plan_of(f=slopes, batch=256, **options):
    x, y = (random.normal(size=(batch, 32)).astype(np.float32) for _ in range(2))
    return pb.compile(f, threads=1, **options).lower(MODEL, x, y).plan


def test_saved_values_have_their_lines_and_prices():
    plan = plan_of()
    saved = plan.saved()
    assert len(saved) >= 4
    assert [x.bytes for x in saved] == sorted([x.bytes for x in saved], reverse=True)
    assert all(x.start < x.end and x.again > 0 for x in saved)
    assert all("test_report.py" in x.source for x in saved[:4])
    assert "µs" in str(saved[0])
    assert "<svg" in plan._repr_html_()


def test_a_sweep_costs_less_with_more_bytes_and_nothing_with_all():
    plan = plan_of()
    points = plan.sweep()
    costs = [point.slowdown for point in points]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] == 0 < costs[0]
    assert points[0].budget == plan.least_bytes
    assert all(point.peak_bytes <= point.budget for point in points)
    assert [x.budget for x in plan.sweep([plan.peak_bytes, "1 B"])] == [plan.peak_bytes]


def test_a_plan_under_a_budget_tells_what_it_costs():
    plan = plan_of()
    held = plan_of(memory=plan.least_bytes)
    assert held.slowdown > 0 == plan.slowdown
    assert held.seconds > 0
    assert f"run again: {held.slowdown:.1%} more time" in str(held)
    assert held.sweep() == plan.sweep()


def test_the_largest_batch_fits_and_the_next_one_does_not():
    limit = "200 kB"
    batch = plan_of().largest_batch(limit, of=("x", "y"))
    assert plan_of(batch=batch, memory=limit).peak_bytes <= 200_000
    with pytest.raises(MemoryPlanError):
        plan_of(batch=batch + batch // 8 + 1, memory=limit)


def test_no_batch():
    plan = plan_of()
    with pytest.raises(MemoryPlanError, match="one example takes"):
        plan.largest_batch("1 kB", of=("x", "y"))
    with pytest.raises(ArgumentError, match="'z' names no argument"):
        plan.largest_batch("1 MB", of="z")
    with pytest.raises(ArgumentError, match="no batch"):
        plan.largest_batch("1 MB", of="model")
