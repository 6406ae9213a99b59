"""Three small networks as scalar losses of their parameters, at any width."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import pullback as pb
from pullback.functions import convolution


@dataclass(frozen=True)
class Model:
    """`loss(parameters)`, and parameters to call it with."""

    loss: Callable[[Any], pb.Array]
    parameters: dict[str, pb.Array]


def mlp(width: int) -> Model:
    x = _normal(8, 16)

    def loss(p: dict[str, pb.Array]) -> pb.Array:
        h = pb.tanh(x @ p["w1"] + p["b1"])
        h = pb.tanh(h @ p["w2"] + p["b2"])
        return pb.mean((h @ p["w3"] + p["b3"]) ** 2)

    sizes = {"w1": (16, width), "w2": (width, width), "w3": (width, 4)}
    return Model(loss, _parameters(sizes | {"b1": (width,), "b2": (width,), "b3": (4,)}))


def cnn(width: int) -> Model:
    x = _normal(2, 3, 8, 8)

    def loss(p: dict[str, pb.Array]) -> pb.Array:
        h = pb.tanh(convolution.conv2d(x, p["k1"], p["b1"], padding=1))
        h = pb.tanh(convolution.conv2d(h, p["k2"], p["b2"], stride=2))
        return pb.mean((pb.mean(h, axis=(2, 3)) @ p["w"]) ** 2)

    sizes = {"k1": (width, 3, 3, 3), "k2": (width, width, 3, 3), "w": (width, 4)}
    return Model(loss, _parameters(sizes | {"b1": (width,), "b2": (width,)}))


def transformer(width: int) -> Model:
    heads, length = 2, 6
    x = _normal(2, length, width)

    def norm(h: pb.Array, gain: pb.Array) -> pb.Array:
        centred = h - pb.mean(h, axis=-1, keepdims=True)
        return centred / pb.sqrt(pb.mean(centred**2, axis=-1, keepdims=True) + 1e-5) * gain

    def split(h: pb.Array) -> pb.Array:
        shape = (2, length, heads, width // heads)
        return pb.permute_dims(pb.reshape(h, shape), (0, 2, 1, 3))

    def loss(p: dict[str, pb.Array]) -> pb.Array:
        h = norm(x, p["g1"])
        q, k, v = (split(h @ p[name]) for name in ("q", "k", "v"))
        weights = pb.softmax(q @ k.mT / (width // heads) ** 0.5, axis=-1)
        mixed = pb.reshape(pb.permute_dims(weights @ v, (0, 2, 1, 3)), x.shape)
        h = x + mixed @ p["o"]
        return pb.mean((h + pb.tanh(norm(h, p["g2"]) @ p["w1"]) @ p["w2"]) ** 2)

    square = dict.fromkeys("qkvo", (width, width))
    sizes = square | {"w1": (width, 4 * width), "w2": (4 * width, width)}
    return Model(loss, _parameters(sizes | {"g1": (width,), "g2": (width,)}))


MODELS = {"mlp": mlp, "cnn": cnn, "transformer": transformer}


def _parameters(sizes: dict[str, tuple[int, ...]]) -> dict[str, pb.Array]:
    return {name: _normal(*shape) * (shape[0] ** -0.5) for name, shape in sizes.items()}


def _normal(*shape: int) -> pb.Array:
    return pb.asarray(np.random.default_rng(len(shape)).standard_normal(shape))
