"""One eager training step of an MLP with softmax cross-entropy: forward, backward, SGD."""

from __future__ import annotations

import itertools

import numpy as np
from benchmarks.harness import Row, available

import pullback as pb

ROUNDS = 15
RATE = 0.01


def rows() -> tuple[list[Row], list[str]]:
    sizes = {"784-128-10, batch 32": ((784, 128, 10), 32), "64-64-10, batch 32": ((64, 64, 10), 32)}
    steps = {"pullback": _pullback, "torch": _torch, "autograd": _autograd, "jax": _jax}
    present = {name: available(name) for name in steps}
    rows = [
        Row(title, {name: make(*_problem(*size)) for name, make in steps.items() if present[name]})
        for title, size in sizes.items()
    ]
    return rows, [name for name, module in present.items() if module is None]


def _problem(widths, batch):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, widths[0])).astype(np.float32)
    target = np.eye(widths[-1], dtype=np.float32)[rng.integers(0, widths[-1], batch)]
    weights = [
        (rng.standard_normal((m, n)).astype(np.float32) * m**-0.5, np.zeros(n, np.float32))
        for m, n in itertools.pairwise(widths)
    ]
    return weights, x, target


def _loss(m, weights, x, target):
    for w, b in weights[:-1]:
        x = m.tanh(x @ w + b)
    w, b = weights[-1]
    z = x @ w + b
    return m.sum(m.log(m.sum(m.exp(z), axis=1)) - m.sum(z * target, axis=1)) / len(target)


def _pullback(weights, x, target):
    state = [tuple(pb.asarray(each) for each in pair) for pair in weights]
    x, target = pb.asarray(x), pb.asarray(target)
    gradient = pb.value_and_grad(lambda p: _loss(pb, p, x, target))

    def step():
        _, bars = gradient(state)
        return [
            (w - RATE * dw, b - RATE * db) for (w, b), (dw, db) in zip(state, bars, strict=True)
        ]

    return step


def _torch(weights, x, target):
    torch = available("torch")
    torch.set_num_threads(1)
    state = [tuple(torch.tensor(each, requires_grad=True) for each in pair) for pair in weights]
    x, target = torch.tensor(x), torch.tensor(target)
    leaves = [each for pair in state for each in pair]

    def step():
        value = _loss(torch, state, x, target)
        bars = torch.autograd.grad(value, leaves)
        with torch.no_grad():
            return [w - RATE * dw for w, dw in zip(leaves, bars, strict=True)]

    return step


def _autograd(weights, x, target):
    autograd, anp = available("autograd"), available("autograd.numpy")
    gradient = autograd.value_and_grad(lambda p: _loss(anp, p, x, target))

    def step():
        _, bars = gradient(weights)
        return [
            (w - RATE * dw, b - RATE * db) for (w, b), (dw, db) in zip(weights, bars, strict=True)
        ]

    return step


def _jax(weights, x, target):
    jax = available("jax")
    state = [tuple(jax.numpy.asarray(each) for each in pair) for pair in weights]
    x, target = jax.numpy.asarray(x), jax.numpy.asarray(target)
    gradient = jax.value_and_grad(lambda p: _loss(jax.numpy, p, x, target))

    def step():
        _, bars = gradient(state)
        new = [(w - RATE * dw, b - RATE * db) for (w, b), (dw, db) in zip(state, bars, strict=True)]
        return jax.block_until_ready(new)

    return step
