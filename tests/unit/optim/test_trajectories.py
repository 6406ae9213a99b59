"""Fifty steps of each optimiser are those of torch, and of formulas written here in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from pullback import optim

STEPS = 50
TARGET = np.random.default_rng(3).standard_normal((4, 3))
TORCH = {
    "sgd decay": (
        lambda: optim.sgd(0.02, 0.9, weight_decay=0.1),
        "SGD",
        {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1},
    ),
    "nesterov decay": (
        lambda: optim.sgd(0.02, 0.9, nesterov=True, weight_decay=0.1),
        "SGD",
        {"lr": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    ),
    "adam decay": (
        lambda: optim.adam(0.05, weight_decay=0.1),
        "Adam",
        {"lr": 0.05, "weight_decay": 0.1},
    ),
    "amsgrad": (
        lambda: optim.adam(0.05, b2=0.5, amsgrad=True),
        "Adam",
        {"lr": 0.05, "betas": (0.9, 0.5), "amsgrad": True},
    ),
    "adamw": (
        lambda: optim.adamw(0.05, weight_decay=0.1),
        "AdamW",
        {"lr": 0.05, "weight_decay": 0.1},
    ),
    "adamw amsgrad": (
        lambda: optim.adamw(0.05, amsgrad=True),
        "AdamW",
        {"lr": 0.05, "amsgrad": True},
    ),
    "rmsprop": (lambda: optim.rmsprop(0.02), "RMSprop", {"lr": 0.02}),
    "rmsprop full": (
        lambda: optim.rmsprop(0.02, 0.9, 1e-6, 0.5, centered=True, weight_decay=0.1),
        "RMSprop",
        {
            "lr": 0.02,
            "alpha": 0.9,
            "eps": 1e-6,
            "momentum": 0.5,
            "centered": True,
            "weight_decay": 0.1,
        },
    ),
    "adagrad": (
        lambda: optim.adagrad(0.1, initial=0.1, weight_decay=0.1),
        "Adagrad",
        {"lr": 0.1, "initial_accumulator_value": 0.1, "weight_decay": 0.1},
    ),
}


def loss(params):
    matrix, vector = params["matrix"], params["vector"]
    return ((matrix - TARGET) ** 4).sum() / 4 + ((matrix @ vector) ** 2).sum() + vector.sum()


def gradient(matrix, vector):
    product = matrix @ vector
    return (matrix - TARGET) ** 3 + 2 * np.outer(product, vector), 2 * matrix.T @ product + 1


def start():
    rng = np.random.default_rng(1)
    return {"matrix": rng.standard_normal((4, 3)), "vector": rng.standard_normal(3)}


def trajectory(optimizer):
    params = start()
    state = optimizer.init(params)
    for _ in range(STEPS):
        updates, state = optimizer.update(pb.grad(loss)(params), state, params)
        params = optim.apply_updates(params, updates)
        yield params["matrix"].numpy(), params["vector"].numpy()


def follows(optimizer, expected):
    for ours, theirs in zip(trajectory(optimizer), expected, strict=True):
        for x, y in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", TORCH)
def test_torch(name):
    torch = pytest.importorskip("torch")
    make, theirs, settings = TORCH[name]

    def steps():
        leaves = {k: torch.tensor(v, requires_grad=True) for k, v in start().items()}
        reference = getattr(torch.optim, theirs)(leaves.values(), **settings)
        for _ in range(STEPS):
            reference.zero_grad()
            matrix, vector = leaves["matrix"], leaves["vector"]
            value = ((matrix - torch.tensor(TARGET)) ** 4).sum() / 4
            (value + ((matrix @ vector) ** 2).sum() + vector.sum()).backward()
            reference.step()
            yield [x.detach().numpy().copy() for x in leaves.values()]

    follows(make(), steps())


def published(rule, **settings):
    """The trajectory of `rule(t, x, g, memory, **settings) → x`, memory a dict of its own."""
    params, memories = list(start().values()), ({}, {})
    for t in range(1, STEPS + 1):
        rows = zip(params, gradient(*params), memories, strict=True)
        params = [rule(t, x, g, memory, **settings) for x, g, memory in rows]
        yield params


def sgd(t, x, g, memory, mu, decay):
    g = g + decay * x
    v = memory["v"] = mu * memory.get("v", 0) + g
    return x - 0.02 * (g + mu * v)


def adam(t, x, g, memory, coupled, decoupled, amsgrad):
    g = g + coupled * x
    m = memory["m"] = 0.8 * memory.get("m", 0) + 0.2 * g
    v = memory["v"] = 0.9 * memory.get("v", 0) + 0.1 * g**2
    if amsgrad:
        v = memory["top"] = np.maximum(memory.get("top", 0), v)
    x = x - 0.05 * decoupled * x
    return x - 0.05 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.9**t)) + 1e-8)


def rmsprop(t, x, g, memory, mu):
    v = memory["v"] = 0.9 * memory.get("v", 0) + 0.1 * g**2
    m = memory["m"] = 0.9 * memory.get("m", 0) + 0.1 * g
    b = memory["b"] = mu * memory.get("b", 0) + g / (np.sqrt(v - m**2) + 1e-6)
    return x - 0.02 * b


def adagrad(t, x, g, memory):
    s = memory["s"] = memory.get("s", 0.1) + g**2
    return x - 0.1 * g / (np.sqrt(s) + 1e-10)


def lion(t, x, g, memory):
    m = memory.get("m", np.zeros_like(g))
    x = x - 0.01 * (np.sign(0.9 * m + 0.1 * g) + 0.1 * x)
    memory["m"] = 0.99 * m + 0.01 * g
    return x


def adafactor(t, x, g, memory, decay):
    kept = 1 - t**-0.8
    squares = g**2 + 1e-30
    if g.ndim == 2:
        r = memory["r"] = kept * memory.get("r", 0) + (1 - kept) * squares.sum(1)
        c = memory["c"] = kept * memory.get("c", 0) + (1 - kept) * squares.sum(0)
        v = np.outer(r, c) / r.sum()
    else:
        v = memory["v"] = kept * memory.get("v", 0) + (1 - kept) * squares
    u = g / np.sqrt(v)
    u = u / max(1.0, np.sqrt((u**2).mean()))
    rho = min(0.05, 1 / np.sqrt(t))
    return x - max(1e-3, np.sqrt((x**2).mean())) * rho * u - rho * decay * x


FORMULAS = {
    "sgd": (lambda: optim.sgd(0.02, 0.9, True, 0.1), sgd, {"mu": 0.9, "decay": 0.1}),
    "adam coupled": (
        lambda: optim.adam(0.05, 0.8, 0.9, weight_decay=0.1),
        adam,
        {"coupled": 0.1, "decoupled": 0, "amsgrad": False},
    ),
    "adamw amsgrad": (
        lambda: optim.adamw(0.05, 0.8, 0.9, weight_decay=0.1, amsgrad=True),
        adam,
        {"coupled": 0, "decoupled": 0.1, "amsgrad": True},
    ),
    "rmsprop": (lambda: optim.rmsprop(0.02, 0.9, 1e-6, 0.5, True), rmsprop, {"mu": 0.5}),
    "adagrad": (lambda: optim.adagrad(0.1, initial=0.1), adagrad, {}),
    "lion": (lambda: optim.lion(0.01, weight_decay=0.1), lion, {}),
    "adafactor": (lambda: optim.adafactor(0.05), adafactor, {"decay": 0}),
    "adafactor decay": (
        lambda: optim.adafactor(0.05, weight_decay=0.1),
        adafactor,
        {"decay": 0.1},
    ),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_the_published_formula(name):
    make, rule, settings = FORMULAS[name]
    follows(make(), published(rule, **settings))


@pytest.mark.parametrize("name", TORCH | FORMULAS)
def test_compiled_is_eager(name):
    """Also one program for all steps, and the same whether the numbers are in the state."""
    optimizer = (TORCH | FORMULAS)[name][0]()
    step = pb.compile(optimizer.update)
    params = {k: v.astype(np.float32) for k, v in start().items()}
    state = optimizer.init(params)
    for _ in range(3):
        grads = pb.grad(loss)(params)
        grads = {k: pb.astype(g, pb.float32) for k, g in grads.items()}
        expected, _ = optimizer.update(grads, state, params)
        updates, state = step(grads, state, params)
        for k in params:
            assert updates[k].dtype == pb.float32
            np.testing.assert_allclose(updates[k].numpy(), expected[k].numpy(), 2e-6, 1e-9)
        params = optim.apply_updates(params, updates)
