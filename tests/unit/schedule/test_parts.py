"""Results of fused kernels made again from the others that are stored."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from pullback import nn
from pullback.errors import MemoryPlanError
from pullback.schedule.kernels import Call, Loops
from pullback.schedule.memory import Step, Value, Workload, evaluate, lifetimes
from pullback.schedule.parts import parts_of
from pullback.schedule.planner.alone import stored_alone
from pullback.schedule.planner.driver import Planner


def perceptron(count=4, size=64):
    keys = [pb.random.fold_in(pb.random.key(1), i) for i in range(count)]
    model = nn.Sequential(
        *[part for key in keys for part in (nn.Linear(size, size, key=key), nn.gelu)]
    )
    x = np.random.default_rng(0).normal(size=(4 * size, size)).astype(np.float32)
    return model, x


def slopes(model, x):
    return pb.grad(lambda model: pb.mean(model(x) ** 2))(model)


def test_an_activation_is_made_again_without_the_product_before_it():
    model, x = perceptron()
    free = pb.compile(slopes, threads=1)
    lowered = free.lower(model, x)
    parts = [part for kernel in lowered.schedule.kernels for part in parts_of(kernel)]
    gelus = [part for part in parts if isinstance(part, Loops)]
    assert gelus
    assert all(len(part.stores) == 1 for part in gelus)
    plan = lowered.plan
    held = pb.compile(slopes, threads=1, memory=plan.peak_bytes - plan.arena_bytes // 5)
    again = held.lower(model, x).plan
    assert any(k >= again.lifetimes.workload.count for k in again.schedule)
    assert again.slowdown < 0.04
    for a, b in zip(free(model, x).layers[::2], held(model, x).layers[::2], strict=True):
        assert np.array_equal(a.weight, b.weight)
        assert np.array_equal(a.bias, b.bias)


def test_a_product_stores_one_result_alone_where_there_is_no_room_for_two():
    model, x = perceptron(3)
    free = pb.compile(slopes, threads=1)
    lowered = free.lower(model, x)
    alone = [
        part
        for kernel in lowered.schedule.kernels
        for part in parts_of(kernel)
        if isinstance(part, Call)
    ]
    assert {len(part.after.stores) for part in alone} == {1}
    plan = lowered.plan
    held = pb.compile(slopes, threads=1, memory=plan.least_bytes)
    workload = held.lower(model, x).plan.lifetimes.workload
    spares = {k for each in workload.alone.values() for k in each.values()}
    assert spares & set(held.lower(model, x).plan.schedule)
    for a, b in zip(free(model, x).layers[::2], held(model, x).layers[::2], strict=True):
        assert np.array_equal(a.weight, b.weight)
        assert np.array_equal(a.bias, b.bias)


def test_a_run_whose_one_result_is_read_stores_that_alone():
    workload = shared()
    steps = (*workload.steps, Step("h alone", (), (0,), cost=99))
    workload = Workload(workload.values, steps, 2)
    assert workload.alone == {0: {0: 5}}
    assert workload.shortcuts == {1: [(4, [0])]}
    lives = lifetimes(workload, (0, 1, 0, 2, 3))
    assert stored_alone(lives, 10**6).schedule == (5, 1, 0, 2, 3)
    whole = lifetimes(workload)
    assert stored_alone(whole, 10**6) is whole
    assert stored_alone(whole, 0).schedule == (5, 1, 4, 2, 3)


def shared() -> Workload:
    """h and g(h) made at once; h is overwritten one step before g(h) is read."""
    values = (
        Value("h", 640),
        Value("g", 640),
        Value("big", 640),
        Value("dh", 640),
        Value("end", 64, kept=True),
    )
    steps = (
        Step("both", (), (0, 1), cost=100),
        Step("big", (0,), (2,), cost=1),
        Step("over", (0, 2), (3,), 0, ((3, 0),), cost=1),
        Step("end", (1, 3), (4,), cost=1),
        Step("part", (0,), (1,), cost=2),
    )
    return Workload(values, steps, 1)


def test_what_follows_of_a_value_is_made_before_that_is_overwritten():
    workload = shared()
    assert workload.rescues == {2: [(1, 4)]}
    assert evaluate(workload).schedule == (0, 1, 2, 3)
    assert evaluate(workload).slowdown == 0.0
    assert workload.maker_from(1, {0}) == 4
    assert workload.maker_from(1, {2}) == 0
    assert evaluate(workload, (0, 1, 4, 2, 3)).arena_bytes == 3 * 640


def test_a_spare_step_makes_what_a_step_makes():
    values = (Value("a", 64), Value("b", 64))
    with pytest.raises(MemoryPlanError, match="'part' makes again what no step makes"):
        Workload(values, (Step("a", (), (0,)), Step("part", (0,), (1,))), 1)
    assert Planner(shared()).least.peak_bytes <= evaluate(shared()).peak_bytes
