"""What a node costs to record: whole traces, divided by the number of nodes."""

from __future__ import annotations

import numpy as np
from benchmarks.harness import Row, available

import pullback as pb

ROUNDS = 15
DEPTH = 50


def rows() -> tuple[list[Row], list[str]]:
    jax = available("jax")
    names = {"chain of 3 ops × 50": chain, "mlp of 50 layers": mlp}
    return [_row(*each, jax) for each in names.items()], [] if jax else ["jax"]


def chain(namespace, x, w):
    for _ in range(DEPTH):
        x = namespace.tanh(x * w + x)
    return x


def mlp(namespace, x, w):
    for _ in range(DEPTH):
        x = namespace.tanh(x @ w + x)
    return x


def _row(name: str, program, jax) -> Row:
    x, w = np.ones((4, 4), np.float32), np.ones((4, 4), np.float32)
    own = pb.asarray(x), pb.asarray(w)
    types = own[0].type, own[1].type
    nodes = len(pb.trace(lambda x, w: program(pb, x, w), *types).nodes)
    contenders = {"pullback": lambda: pb.trace(lambda x, w: program(pb, x, w), *types)}
    if jax:
        contenders["jax"] = lambda: jax.make_jaxpr(lambda x, w: program(jax.numpy, x, w))(x, w)
    return Row(name, contenders, per=nodes, goal=10e-6)
