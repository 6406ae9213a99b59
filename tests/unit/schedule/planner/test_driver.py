"""Budgets on chains, against the published curves, and on training steps."""

from __future__ import annotations

import itertools
import math

import pytest

from pullback.errors import MemoryPlanError
from pullback.schedule.memory import Step, Value, Workload, evaluate
from pullback.schedule.planner.driver import Planner
from pullback.schedule.planner.published import layers
from workloads import traced
from workloads.simulator import Simulator


def fewest_forwards(length: int, slots: int) -> int:
    """r·L - C(c + r, c + 1) for c slots, r the least with C(c + r, c) ≥ L (Griewank & Walther).

    Counts the forward steps of a reversal, the last of each layer before its backward included.
    """
    r = next(r for r in itertools.count(1) if math.comb(slots + r, slots) >= length)
    return r * length - math.comb(slots + r, slots + 1)


def overhead(workload: Workload, arena: int) -> float:
    plan = Planner(workload).fit(workload.resident_bytes + arena)
    assert plan.arena_bytes <= arena
    return plan.lifetimes.cost / evaluate(workload).lifetimes.cost - 1


@pytest.mark.parametrize("length", [1, 2, 3, 5, 10, 25, 50, 100, 200, 400])
def test_a_chain_in_twice_the_root_of_its_length_costs_a_third(length):
    """Chen et al. 2016: 2√L memory for one more forward pass, here at most 1/3 of a step."""
    slots = math.floor(2 * math.sqrt(length)) + 4
    assert overhead(layers(length), 64 * slots) <= 1 / 3


@pytest.mark.parametrize(("length", "slots"), [(10, 3), (10, 5), (30, 5), (50, 8), (100, 12)])
def test_no_schedule_beats_the_optimum_and_none_is_far_from_it(length, slots):
    """Two more units of arena hold the cotangents that the published count leaves out."""
    workload = layers(length)
    plan = Planner(workload).fit(workload.resident_bytes + 64 * (slots + 2))
    forwards = sum(1 for k in plan.schedule if k < length)
    optimum = fewest_forwards(length, slots + 2)
    assert optimum <= forwards + length <= 2 * (fewest_forwards(length, slots) + length)


def test_a_sweep_over_a_training_step_is_monotone_and_holds_every_budget():
    workload = traced.fused(traced.gpt(2, 32, 2, 16, 4).workload())
    full = evaluate(workload)
    least = Planner(workload).floor[0]
    budgets = [least + (full.peak_bytes - least) * k // 5 for k in range(6)]
    plans = Planner(workload).sweep(budgets)
    costs = [plans[b].lifetimes.cost for b in sorted(plans)]
    assert costs == sorted(costs, reverse=True)
    assert len(plans) >= 3
    for budget, plan in plans.items():
        assert plan.peak_bytes <= budget
        assert plan.conflicts == ()
    Simulator(plans[min(plans)]).run()


def test_a_parameter_is_not_read_again_after_its_update():
    values = (
        Value("w", 64, resident=True),
        Value("h", 640),
        Value("new w", 64, kept=True, donor=0),
        Value("big", 6400),
        Value("end", 64, kept=True),
    )
    steps = (
        Step("h", (0,), (1,), cost=1),
        Step("update", (0,), (2,), 0, ((2, 0),), cost=1),
        Step("big", (2,), (3,), cost=1),
        Step("end", (3,), (4,), cost=1),
        Step("read h", (1, 4), (), cost=1),
    )
    workload = Workload(values, steps)
    plan = evaluate(workload)
    with pytest.raises(MemoryPlanError, match=f"memory={plan.peak_bytes} is possible"):
        Planner(workload).fit(plan.peak_bytes - 64)


def test_an_impossible_budget_names_the_step_and_its_largest_values(golden):
    workload = layers(4, unit=1 << 20)
    with pytest.raises(MemoryPlanError) as caught:
        Planner(workload).fit(2_000_000)
    golden("memory_too_little", str(caught.value))
    least = Planner(workload).least.peak_bytes
    assert Planner(workload).floor[0] <= least
    assert Planner(workload).fit(least).peak_bytes == least
    with pytest.raises(MemoryPlanError, match=f"memory={least} is possible"):
        Planner(workload).fit(least - 1)
