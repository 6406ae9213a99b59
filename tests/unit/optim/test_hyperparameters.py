"""Hyper-parameters are numbers of the step: a change compiles nothing and widens nothing."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from pullback import optim
from pullback._settings import override
from pullback.errors import ArgumentError, ShapeError

PARAMS = {"a": np.ones((2, 3), np.float32), "b": np.full(3, 2.0, np.float32)}
GRADS = {"a": np.full((2, 3), 0.5, np.float32), "b": np.linspace(-1, 1, 3, dtype=np.float32)}
MAKERS = {
    "sgd": (optim.sgd, {"lr": 0.1}),
    "momentum": (optim.sgd, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "adam": (optim.adam, {"lr": 0.1, "weight_decay": 0.01}),
    "adamw": (optim.adamw, {"lr": 0.1, "amsgrad": True}),
    "rmsprop": (optim.rmsprop, {"lr": 0.1, "momentum": 0.5, "centered": True}),
    "adagrad": (optim.adagrad, {"lr": 0.1}),
    "lion": (optim.lion, {"lr": 0.1, "weight_decay": 0.1}),
    "adafactor": (optim.adafactor, {"lr": 0.1, "weight_decay": 0.1}),
}


def compiled_step(optimizer):
    @pb.compile
    def step(params, state):
        updates, state = optimizer.update(GRADS, state, params)
        return optim.apply_updates(params, updates), state

    return step


def compilations(capsys):
    return capsys.readouterr().err.count("compiled")


@pytest.mark.parametrize("name", MAKERS)
def test_a_number_in_the_state_acts_as_the_number(name):
    make, settings = MAKERS[name]
    fixed, injected = make(**settings), optim.inject_hyperparams(make)(**settings)
    first, second = fixed.init(PARAMS), injected.init(PARAMS)
    for _ in range(3):
        expected, first = fixed.update(GRADS, first, PARAMS)
        updates, second = injected.update(GRADS, second, PARAMS)
        for k in PARAMS:
            assert updates[k].dtype == pb.float32
            np.testing.assert_array_equal(updates[k].numpy(), expected[k].numpy())


@pytest.mark.parametrize("name", MAKERS)
def test_another_rate_compiles_nothing(name, capsys):
    make, settings = MAKERS[name]
    optimizer = optim.chain(
        optim.clip_by_global_norm(1.0), optim.inject_hyperparams(make)(**settings)
    )
    step = compiled_step(optimizer)
    params, state = step(PARAMS, optimizer.init(PARAMS))
    params, state = step(params, state)
    with override(log=frozenset(["compile", "recompile"])):
        before = params["b"].numpy()
        capsys.readouterr()
        for rate in (0.01, np.float32(0.02), pb.asarray(0.0)):
            state = optim.with_hyperparams(state, lr=rate)
            params, state = step(params, state)
        assert capsys.readouterr().err == ""
    assert (params["b"].numpy() != before).any()
    assert state[1].hyperparams["lr"].item() == 0.0


def test_the_log_of_compilations_would_have_told(capsys):
    step = compiled_step(optim.sgd(0.1))
    with override(log=frozenset(["compile", "recompile"])):
        step(PARAMS, optim.sgd(0.1).init(PARAMS))
    assert capsys.readouterr().err


def test_a_rate_can_be_an_argument_of_the_step():
    @pb.compile
    def step(params, lr):
        optimizer = optim.sgd(lr)
        updates, _ = optimizer.update(GRADS, optimizer.init(params), params)
        return optim.apply_updates(params, updates)

    for rate in (0.1, 0.2):
        moved = step(PARAMS, rate)["b"]
        assert moved.dtype == pb.float32
        np.testing.assert_allclose(moved.numpy(), PARAMS["b"] - rate * GRADS["b"], rtol=1e-6)


def test_the_derivative_by_the_rate():
    def after(lr):
        optimizer = optim.sgd(lr)
        updates, _ = optimizer.update(GRADS, optimizer.init(PARAMS), PARAMS)
        return sum(x.sum() for x in optim.apply_updates(PARAMS, updates).values())

    total = sum(g.sum() for g in GRADS.values())
    np.testing.assert_allclose(pb.grad(after)(pb.asarray(0.1)).item(), -total, rtol=1e-6)


@pytest.mark.parametrize("name", MAKERS)
def test_a_schedule_runs_inside_the_step(name):
    make, settings = MAKERS[name]
    rates = [0.4, 0.2, 0.1, 0.05]
    moving = make(**settings | {"lr": optim.exponential(0.4, 0.5)})
    seen = optim.inject_hyperparams(make)(**settings | {"lr": optim.exponential(0.4, 0.5)})
    held = optim.inject_hyperparams(make)(**settings)
    steps = [pb.compile(each.update) for each in (moving, seen, held)]
    states = [each.init(PARAMS) for each in (moving, seen, held)]
    for rate in rates:
        states[2] = optim.with_hyperparams(states[2], lr=rate)
        results = [step(GRADS, state, PARAMS) for step, state in zip(steps, states, strict=True)]
        states = [state for _, state in results]
        assert states[1].hyperparams["lr"].item() == pytest.approx(rate, rel=1e-12)
        for k in PARAMS:
            expected = results[2][0][k].numpy()
            np.testing.assert_allclose(results[0][0][k].numpy(), expected, rtol=3e-6)
            np.testing.assert_array_equal(results[1][0][k].numpy(), expected)


SCHEDULES = {
    "constant": (optim.constant(0.3), [0.3, 0.3, 0.3]),
    "linear": (optim.linear(1.0, 0.0, 4), [1, 0.75, 0.5, 0.25, 0, 0]),
    "cosine": (
        optim.cosine(1.0, 4, 0.2),
        [0.2 + 0.4 * (1 + np.cos(np.pi * t / 4)) for t in range(5)],
    ),
    "warmup_cosine": (
        optim.warmup_cosine(1.0, 2, 6),
        [0, 0.5, *((1 + np.cos(np.pi * t / 4)) / 2 for t in range(5)), 0],
    ),
    "step": (optim.step(1.0, 2, 0.5), [1, 1, 0.5, 0.5, 0.25]),
    "exponential": (optim.exponential(1.0, 0.25, 2), [1, 0.5, 0.25, 0.125]),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_its_formula(name):
    schedule, expected = SCHEDULES[name]
    rates = [schedule(pb.asarray(np.float64(t))).item() for t in range(len(expected))]
    np.testing.assert_allclose(rates, expected, atol=1e-15)
    assert [float(schedule(t)) for t in range(len(expected))] == rates


@pytest.mark.parametrize(("steps", "rise"), [(40, 0.3), (7, 0.5)])
def test_one_cycle_is_that_of_torch(steps, rise):
    torch = pytest.importorskip("torch")
    theirs = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        theirs, 0.5, steps, pct_start=rise, cycle_momentum=False
    )
    for t in range(steps):
        np.testing.assert_allclose(
            float(optim.one_cycle(0.5, steps, rise)(t)), scheduler.get_last_lr()[0], rtol=1e-9
        )
        theirs.step()
        if t < steps - 1:
            scheduler.step()


def test_what_cannot_be_set():
    state = optim.inject_hyperparams(optim.sgd)(lr=0.1).init(PARAMS)
    with pytest.raises(ArgumentError, match="no hyper-parameter rate"):
        optim.with_hyperparams(state, rate=0.1)
    with pytest.raises(ArgumentError, match="not negative"):
        optim.with_hyperparams(state, lr=float("nan"))
    with pytest.raises(ShapeError, match="scalar"):
        optim.with_hyperparams(state, lr=np.ones(2))


def test_a_zero_is_switched_off_and_cannot_be_set():
    state = optim.inject_hyperparams(optim.sgd)(lr=0.1).init(PARAMS)
    assert set(state.hyperparams) == {"lr"}
    with pytest.raises(ArgumentError, match="no hyper-parameter momentum") as caught:
        optim.with_hyperparams(state, momentum=0.9)
    assert "switched off: begin with a small one" in str(caught.value)


def test_what_began_small_can_be_switched_on_and_off():
    optimizer = optim.inject_hyperparams(optim.sgd)(lr=0.1, momentum=1e-9)
    state = optimizer.init(PARAMS)
    for momentum in (0.9, 0.0, 0.9):
        state = optim.with_hyperparams(state, momentum=momentum)
        _, state = optimizer.update(GRADS, state, PARAMS)
        assert state.hyperparams["momentum"].item() == momentum


@pytest.mark.parametrize("value", [1.5, np.float32(1.0), pb.asarray(1.5), -0.1, float("inf")])
@pytest.mark.parametrize("within", [lambda x: x, lambda x: optim.chain(optim.sgd(1.0), x)])
def test_a_number_that_the_optimiser_refuses_is_refused_later_too(value, within):
    optimizer = within(optim.inject_hyperparams(optim.adamw)(lr=0.1, amsgrad=True))
    state = optimizer.init(PARAMS)
    with pytest.raises(ArgumentError, match=r"b1 (lies|is) "):
        optim.with_hyperparams(state, b1=value)
    assert optim.with_hyperparams(state, b1=0.5, lr=0.0) is not None
