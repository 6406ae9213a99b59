"""Optimisers follow torch, refuse settings that make no sense, and are pure."""

from __future__ import annotations

import math

import numpy as np
import pytest

import pullback as pb
from pullback.errors import ArgumentError, ShapeError, StructureError
from pullback.optim import adam, apply_updates, sgd

STEPS = 50
OPTIMIZERS = {
    "sgd": (lambda: sgd(0.02), "SGD", {"lr": 0.02}),
    "momentum": (lambda: sgd(0.02, 0.9), "SGD", {"lr": 0.02, "momentum": 0.9}),
    "nesterov": (
        lambda: sgd(0.02, 0.9, nesterov=True),
        "SGD",
        {"lr": 0.02, "momentum": 0.9, "nesterov": True},
    ),
    "adam": (lambda: adam(0.05), "Adam", {"lr": 0.05}),
    "adam betas": (
        lambda: adam(0.1, 0.5, 0.9, 1e-3),
        "Adam",
        {"lr": 0.1, "betas": (0.5, 0.9), "eps": 1e-3},
    ),
    "adam no mean": (lambda: adam(0.1, b1=0.0), "Adam", {"lr": 0.1, "betas": (0.0, 0.999)}),
}


def rosenbrock(params):
    x, y = params["x"], params["y"][0]
    return ((1 - x) ** 2 + 100 * (y - x * x) ** 2).sum() / 50


def start():
    return {"x": np.array([-1.2, 0.3]), "y": [np.array([1.0, -0.5])]}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_trajectory_is_that_of_torch(name):
    torch = pytest.importorskip("torch")
    make, theirs, settings = OPTIMIZERS[name]
    optimizer, params = make(), start()
    state = optimizer.init(params)
    x, y = (torch.tensor(v, requires_grad=True) for v in (params["x"], params["y"][0]))
    reference = getattr(torch.optim, theirs)([x, y], **settings)
    for _ in range(STEPS):
        updates, state = optimizer.update(pb.grad(rosenbrock)(params), state, params)
        params = apply_updates(params, updates)
        reference.zero_grad()
        rosenbrock({"x": x, "y": [y]}).backward()
        reference.step()
        np.testing.assert_allclose(params["x"].numpy(), x.detach().numpy(), rtol=1e-6)
        np.testing.assert_allclose(params["y"][0].numpy(), y.detach().numpy(), rtol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_formula(name):
    """The published recurrences, in NumPy."""
    make, theirs, settings = OPTIMIZERS[name]
    gradients = np.random.default_rng(0).standard_normal((10, 3))
    expected = np.zeros(3)
    v, m, s = np.zeros(3), np.zeros(3), np.zeros(3)
    mu = settings.get("momentum", 0.0)
    b1, b2 = settings.get("betas", (0.9, 0.999))
    optimizer, params = make(), np.zeros(3)
    state = optimizer.init(params)
    for t, g in enumerate(gradients, 1):
        if theirs == "SGD":
            v = mu * v + g
            expected = expected - settings["lr"] * (g + mu * v if "nesterov" in settings else v)
        else:
            m, s = b1 * m + (1 - b1) * g, b2 * s + (1 - b2) * g * g
            root = np.sqrt(s / (1 - b2**t)) + settings.get("eps", 1e-8)
            expected = expected - settings["lr"] * m / (1 - b1**t) / root
        updates, state = optimizer.update(g, state, params)
        params = apply_updates(params, updates)
    np.testing.assert_allclose(params.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_update_is_pure_and_runs_inside_a_trace(name):
    optimizer, params = OPTIMIZERS[name][0](), start()
    state = optimizer.init(params)
    grads = pb.grad(rosenbrock)(params)
    first, second = (optimizer.update(grads, state, params) for _ in range(2))
    np.testing.assert_array_equal(first[0]["x"].numpy(), second[0]["x"].numpy())
    batched = pb.vmap(lambda g: optimizer.update(g, state, params)[0], out_axes=0)
    stacked = {
        "x": np.stack([grads["x"].numpy()] * 2),
        "y": [np.stack([grads["y"][0].numpy()] * 2)],
    }
    np.testing.assert_allclose(batched(stacked)["x"].numpy()[1], first[0]["x"].numpy(), rtol=1e-12)


def test_element_types_are_kept():
    model = pb.nn.Linear(3, 2, key=pb.random.key(0))
    optimizer = adam(0.1)
    grads = pb.grad(lambda m: m(np.ones((1, 3), np.float32)).sum())(model)
    updates, state = optimizer.update(grads, optimizer.init(model), model)
    moved = apply_updates(model, updates)
    assert isinstance(moved, pb.nn.Linear)
    assert {moved.weight.dtype, moved.bias.dtype, state.mean.weight.dtype} == {pb.float32}
    np.testing.assert_allclose(moved.bias.numpy(), -0.1, rtol=1e-6)


def test_settings_that_make_no_sense():
    for make in (
        lambda: sgd(0.0),
        lambda: sgd(-1.0),
        lambda: sgd(math.nan),
        lambda: sgd(math.inf),
        lambda: sgd(0.1, momentum=1.0),
        lambda: sgd(0.1, momentum=-0.1),
        lambda: sgd(0.1, nesterov=True),
        lambda: adam(0.0),
        lambda: adam(0.1, b1=1.0),
        lambda: adam(0.1, b2=math.nan),
        lambda: adam(0.1, eps=0.0),
    ):
        with pytest.raises(ArgumentError):
            make()


def test_gradients_that_do_not_fit():
    optimizer, params = adam(0.1), start()
    state = optimizer.init(params)
    with pytest.raises(StructureError, match="grads must be like"):
        optimizer.update({"x": params["x"]}, state, params)
    with pytest.raises(ShapeError, match=r"grads\['x'\]"):
        optimizer.update({**params, "x": np.ones(3)}, state, params)
    with pytest.raises(ShapeError, match=r"updates\['y'\]\[0\]"):
        apply_updates(params, {**params, "y": [np.ones((2, 2))]})
