"""How far networks of finite width stray from theory: `python benchmarks/widths.py`, a minute."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

import pullback as pb
from pullback import nn

DEPTH, NETWORKS = 20, 24


def strayed(
    width: int, gain: float, activation: Callable[[pb.Array], pb.Array], seed: int
) -> float:
    """log(measured / theory) of E[z²] of the last layer."""
    rng = np.random.default_rng(seed)
    ws = [gain * rng.standard_normal((width, width)) / math.sqrt(width) for _ in range(DEPTH)]
    x, r = rng.standard_normal((8, width)), rng.standard_normal((8, width))

    def loss(ws: list[pb.Array], x: pb.Array) -> pb.Array:
        for w in ws:
            x = activation(x @ w)
        return pb.sum(x * r)

    last = pb.inspect.signal_propagation(loss, ws, x).signals[-1]
    return math.log(last.forward / last.forward_predicted)


def main() -> None:
    for name, activation, gain in (("relu", nn.relu, math.sqrt(2)), ("tanh", nn.tanh, 1.0)):
        for width in (16, 32, 64, 128):
            found = [strayed(width, gain, activation, seed) for seed in range(NETWORKS)]
            bound = math.sqrt(5 * DEPTH / width)
            print(f"{name} {width}: deviation {np.std(found):.2f}, bound {bound:.2f}")


if __name__ == "__main__":
    main()
