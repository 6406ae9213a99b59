"""What one eager operation on a tiny array costs, and one small gradient."""

from __future__ import annotations

import numpy as np
from benchmarks.harness import Row, available

import pullback as pb

ROUNDS = 25


def rows() -> tuple[list[Row], list[str]]:
    worlds, missing = _worlds()
    operations = {
        "add": lambda m, x, y: x + y,
        "multiply": lambda m, x, y: x * y,
        "scalar multiply": lambda m, x, y: x * 2.0,
        "tanh": lambda m, x, y: m.tanh(x),
        "sum": lambda m, x, y: x.sum(),
        "matmul": lambda m, x, y: x @ y,
    }
    single = [
        Row(name, {world: _call(f, *parts) for world, parts in worlds.items()})
        for name, f in operations.items()
    ]
    gradients, _ = _gradients()
    return [*single, *gradients], missing


def _call(f, module, x, y):
    return lambda: f(module, x, y)


def _worlds():
    x = np.ones((4, 4), np.float32)
    worlds = {"pullback": (pb, pb.asarray(x), pb.asarray(x)), "numpy": (np, x, x)}
    torch, autograd, jax = available("torch"), available("autograd"), available("jax")
    if torch:
        worlds["torch"] = (torch, torch.tensor(x), torch.tensor(x))
    if autograd:
        worlds["autograd"] = (available("autograd.numpy"), x, x)
    if jax:
        worlds["jax"] = (jax.numpy, jax.numpy.asarray(x), jax.numpy.asarray(x))
    missing = [n for n, m in (("torch", torch), ("autograd", autograd), ("jax", jax)) if not m]
    return worlds, missing


def _gradients():
    """grad of sum(tanh(x·y + x)) in x: tracing, forward and backward of four ops."""
    x = np.ones((4, 4), np.float32)
    own = pb.asarray(x)

    def loss(x):
        return pb.tanh(x * own + x).sum()

    contenders = {"pullback": lambda: pb.grad(loss)(own)}
    torch, autograd, jax = available("torch"), available("autograd"), available("jax")
    if torch:
        leaf = torch.tensor(x, requires_grad=True)
        other = torch.tensor(x)

        def torch_gradient():
            return torch.autograd.grad(torch.tanh(leaf * other + leaf).sum(), leaf)

        contenders["torch"] = torch_gradient
    if autograd:
        anp = available("autograd.numpy")
        hips = autograd.grad(lambda z: anp.sum(anp.tanh(z * x + z)))
        contenders["autograd"] = lambda: hips(x)
    if jax:
        jx = jax.numpy.asarray(x)
        jax_gradient = jax.grad(lambda z: jax.numpy.tanh(z * jx + z).sum())
        contenders["jax"] = lambda: jax_gradient(jx)
    return [Row("grad of 4 ops", contenders)], []
