"""Laws of schedules made to fit a budget, on random workloads."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
from hypothesis import given, settings

from pullback.errors import MemoryPlanError
from pullback.schedule.memory import Workload, evaluate, lifetimes
from pullback.schedule.planner.driver import Planner
from pullback.schedule.planner.refine import refine, without_dead_repeats
from workloads.invented import schedules, workloads
from workloads.simulator import Simulator

MANY = settings(max_examples=60, deadline=None)


@MANY
@given(st.data())
def test_a_plan_holds_its_budget_and_loses_no_value(data):
    workload = data.draw(workloads(most=14))
    least, most = Planner(workload).floor[0], evaluate(workload).peak_bytes
    assert least <= most
    budget = data.draw(st.integers(least, max(most, least)))
    try:
        plan = Planner(workload).fit(budget)
    except MemoryPlanError:
        assert budget < most
        return
    assert plan.peak_bytes <= budget
    assert set(plan.schedule) == set(range(len(workload.steps)))
    assert len(plan.conflicts) <= len(evaluate(workload).conflicts)
    Simulator(plan).run()


@MANY
@given(st.data())
def test_with_more_bytes_a_sweep_never_costs_more(data):
    workload = data.draw(workloads(most=14))
    least, most = Planner(workload).floor[0], evaluate(workload).peak_bytes
    budgets = [least + (most - least) * k // 6 for k in range(7)]
    plans = Planner(workload).sweep(budgets)
    costs = [plans[budget].lifetimes.cost for budget in sorted(plans)]
    assert costs == sorted(costs, reverse=True)
    assert all(plan.peak_bytes <= budget for budget, plan in plans.items())
    assert most in plans


@MANY
@given(st.data())
def test_refinement_never_adds_cost_nor_passes_the_room(data):
    workload = data.draw(workloads())
    schedule = data.draw(schedules(workload))
    before = lifetimes(workload, schedule)
    room = before.max_live + data.draw(st.sampled_from((0, 64, 1024, 10**6)))
    after = refine(workload, schedule, room)
    assert after.cost <= before.cost
    assert after.max_live <= room
    Simulator(evaluate(workload, after.schedule)).run()


@MANY
@given(st.data())
def test_with_room_for_all_nothing_runs_twice(data):
    workload = data.draw(workloads())
    refined = refine(workload, data.draw(schedules(workload)), 10**9).schedule
    assert sorted(refined) == sorted(set(refined))


@MANY
@given(st.data())
def test_steps_with_effects_run_once(data):
    drawn = data.draw(workloads(most=14))
    once = tuple([replace(step, repeatable=k % 2 == 0) for k, step in enumerate(drawn.steps)])
    workload = Workload(drawn.values, once)
    least, most = Planner(workload).floor[0], evaluate(workload).peak_bytes
    for plan in Planner(workload).sweep([least, (least + most) // 2, most]).values():
        assert all(plan.schedule.count(k) == 1 for k in range(1, len(once), 2))


@MANY
@given(st.data())
def test_dead_repeats_vanish_and_each_step_stays(data):
    workload = data.draw(workloads())
    schedule = data.draw(schedules(workload))
    shorter = without_dead_repeats(workload, schedule)
    assert set(shorter) <= set(schedule)
    assert lifetimes(workload, shorter).max_live <= lifetimes(workload, schedule).max_live
