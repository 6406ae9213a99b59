"""Methods of second order find the minimum of Rosenbrock's function, eager and compiled."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from pullback import optim

METHODS = {"lbfgs": (optim.lbfgs, 60), "newton_cg": (optim.newton_cg, 60)}


def rosenbrock(params):
    x, y = params["x"], params["y"]
    return ((1 - x) ** 2 + 100 * (y - x * x) ** 2).sum()


def minimised(make, steps, run, start):
    optimizer = make(rosenbrock)

    @run
    def step(params, state):
        updates, state = optimizer.update(pb.grad(rosenbrock)(params), state, params)
        return optim.apply_updates(params, updates), state

    params, state = start, optimizer.init(start)
    for _ in range(steps):
        params, state = step(params, state)
    return params


@pytest.mark.parametrize("run", [lambda f: f, pb.compile], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", METHODS)
def test_rosenbrock(name, run):
    make, steps = METHODS[name]
    found = minimised(make, steps, run, {"x": np.array([-1.2]), "y": np.array([1.0])})
    np.testing.assert_allclose(found["x"].numpy(), 1.0, atol=1e-8)
    np.testing.assert_allclose(found["y"].numpy(), 1.0, atol=1e-8)


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_never_rises_and_stays_at_the_minimum(name):
    optimizer = METHODS[name][0](rosenbrock)
    params = {"x": np.array([-1.2, 2.0]), "y": np.array([1.0, -1.0])}
    state, last = optimizer.init(params), np.inf
    for _ in range(30):
        updates, state = optimizer.update(pb.grad(rosenbrock)(params), state, params)
        params = optim.apply_updates(params, updates)
        value = rosenbrock(params).item()
        assert value <= last
        last = value
    rest = {"x": np.ones(2), "y": np.ones(2)}
    updates, _ = optimizer.update(pb.grad(rosenbrock)(rest), optimizer.init(rest), rest)
    assert not updates["x"].numpy().any()
