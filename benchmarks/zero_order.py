"""Gradients with and without backpropagation: `python benchmarks/zero_order.py`, ten seconds."""

from __future__ import annotations

import pullback as pb
from pullback import nn


def loss(model: nn.Module, x: pb.Array, y: pb.Array) -> pb.Array:
    return nn.cross_entropy(model(x), y)


def main() -> None:
    inputs, labels = pb.random.normal(pb.random.key(1), (32, 8)), pb.arange(32) % 3
    for width in (16, 128):
        model = nn.MLP(8, 3, width, 1, key=pb.random.key(0))
        print(pb.inspect.gradient_estimators(loss, model, inputs, labels, pairs=(39, 390)))


if __name__ == "__main__":
    main()
