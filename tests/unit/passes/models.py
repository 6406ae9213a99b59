"""The training steps that the passes are measured on, and a tower of any depth."""

from __future__ import annotations

import numpy as np

import pullback as pb
from laws.models import MODELS
from pullback.ir.graph import Graph


def training_step(name: str) -> Graph:
    model = MODELS[name](8)
    return pb.trace(pb.value_and_grad(model.loss), model.parameters)


def tower(depth: int) -> Graph:
    """The training step of `depth` residual attention blocks."""
    heads, length, width = 2, 6, 8
    x = _normal(2, length, width)

    def norm(h, gain):
        centred = h - pb.mean(h, axis=-1, keepdims=True)
        return centred / pb.sqrt(pb.mean(centred**2, axis=-1, keepdims=True) + 1e-5) * gain

    def split(h):
        return pb.permute_dims(pb.reshape(h, (2, length, heads, width // heads)), (0, 2, 1, 3))

    def block(h, p):
        q, k, v = (split(norm(h, p["gain"]) @ p[name]) for name in "qkv")
        mixed = pb.softmax(q @ k.mT * 0.5, axis=-1) @ v
        return h + pb.reshape(pb.permute_dims(mixed, (0, 2, 1, 3)), x.shape) @ p["o"]

    def loss(layers):
        h = x
        for p in layers:
            h = block(h, p)
        return pb.mean(h**2)

    layers = [
        {**{name: _normal(width, width) for name in "qkvo"}, "gain": _normal(width)}
        for _ in range(depth)
    ]
    return pb.trace(pb.value_and_grad(loss), layers)


def _normal(*shape):
    return pb.asarray(np.random.default_rng(len(shape)).standard_normal(shape) * 0.3)
