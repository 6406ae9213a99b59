"""Planning from types: nothing is drawn, and the plan is that of the step which runs."""

from __future__ import annotations

import numpy as np

import pullback as pb
from pullback.train.planning import state_types


def loss(model, x, y):
    return pb.nn.mse(model(x), y)


def model():
    return pb.nn.MLP(5, 1, 7, 2, key=pb.random.key(0))


def test_types_plan_as_numbers_do():
    optimizer = pb.optim.adam(1e-3)
    step = pb.train.train_step(loss, optimizer, threads=1)
    x, y = np.ones((4, 5), np.float32), np.ones((4, 1), np.float32)
    state = pb.train.TrainState.create(model(), optimizer, key=pb.random.key(0))
    types = state_types(pb.types_of(model), optimizer)
    kinds = [pb.types_of(lambda a: a, each) for each in (x, y)]
    assert step.lower(types, *kinds).plan.peak_bytes == step.lower(state, x, y).plan.peak_bytes
    assert step.lower(types, *kinds).signature == step.lower(state, x, y).signature


def test_a_terabyte_has_a_type():
    big = pb.types_of(lambda: pb.nn.Linear(10**6, 10**6, key=pb.random.key(0)))
    types = state_types(big, pb.optim.sgd(0.1), precision="bf16")
    assert str(types.model.weight) == "float32[1000000,1000000]"
    assert str(types.key) == "uint32[2]"
