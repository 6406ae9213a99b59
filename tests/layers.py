"""A small one of every layer, for the laws that hold for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import pullback as pb
from pullback.ir.samples import normal

nn = pb.nn
SEQUENCE, IMAGES = normal(2, 5, 4), normal(2, 4, 6, 6)
DRAW = pb.random.key(11)


@dataclass(frozen=True)
class Sample:
    """`call(make(key, dtype), x)` is an array or a tree of arrays."""

    name: str
    make: Callable[[Any, Any], nn.Module]
    x: np.ndarray
    call: Callable[[Any, Any], Any] = lambda layer, x: layer(x)
    count: int | None = None
    """How many arrays of the result have a gradient; running statistics have none."""


def trained(layer, x):
    """A call in training, of a layer that takes a state and perhaps draws."""
    return layer(x, layer.initial_state(), train=True, key=DRAW)


def generated(layer, x):
    """Two calls that share a cache."""
    first, cache = layer(x[:, :3], cache=layer.initial_cache(6, (2,)))
    return first, layer(x[:, 3:], cache=cache)


def network(key, dtype):
    how: Any = {"key": key, "dtype": dtype}
    body = nn.Sequential(nn.BatchNorm(4, dtype=dtype), nn.Conv2d(4, 4, 3, padding=1, **how))
    return nn.Sequential(
        nn.ResidualBlock(body, nn.Conv2d(4, 4, 1, **how), nn.tanh), nn.Dropout(0.5), nn.AvgPool2d(2)
    )


def block(key, dtype, **options):
    return nn.TransformerBlock(4, 2, key=key, dtype=dtype, **options)


def attention(key, dtype, **options):
    return nn.MultiHeadAttention(4, 2, key=key, dtype=dtype, **options)


SAMPLES = [
    Sample("Linear", lambda k, d: nn.Linear(4, 3, key=k, dtype=d), SEQUENCE),
    Sample("MLP", lambda k, d: nn.MLP(4, 3, 5, 1, nn.gelu, key=k, dtype=d), SEQUENCE),
    Sample("Conv1d", lambda k, d: nn.Conv1d(5, 2, 3, 2, key=k, dtype=d), SEQUENCE),
    Sample("Conv2d", lambda k, d: nn.Conv2d(4, 2, 3, padding=1, key=k, dtype=d), IMAGES),
    Sample("ConvTranspose2d", lambda k, d: nn.ConvTranspose2d(4, 2, 3, 2, key=k, dtype=d), IMAGES),
    Sample(
        "Embedding", lambda k, d: nn.Embedding(5, 3, key=k, dtype=d), np.array([[0, 4], [4, 1]])
    ),
    Sample("LayerNorm", lambda k, d: nn.LayerNorm(4, dtype=d), SEQUENCE),
    Sample("RMSNorm", lambda k, d: nn.RMSNorm(4, dtype=d), SEQUENCE),
    Sample("GroupNorm", lambda k, d: nn.GroupNorm(2, 4, dtype=d), IMAGES),
    Sample("BatchNorm", lambda k, d: nn.BatchNorm(4, dtype=d), IMAGES, trained, 1),
    Sample(
        "Dropout",
        lambda k, d: nn.Dropout(0.5),
        SEQUENCE,
        lambda layer, x: layer(x, train=True, key=DRAW),
    ),
    Sample("MaxPool2d", lambda k, d: nn.MaxPool2d(2), IMAGES),
    Sample("AvgPool2d", lambda k, d: nn.AvgPool2d(3, 1, 1), IMAGES),
    Sample("Sequential", network, IMAGES, trained, 1),
    Sample(
        "MultiHeadAttention", lambda k, d: attention(k, d, kv_heads=1, rotary_base=10.0), SEQUENCE
    ),
    Sample(
        "MultiHeadAttention.cache",
        lambda k, d: attention(k, d, causal=True, window=2, softcap=3.0),
        SEQUENCE,
        generated,
    ),
    Sample(
        "MultiHeadAttention.dropout",
        lambda k, d: attention(k, d, dropout=0.4, causal=True),
        SEQUENCE,
        lambda layer, x: layer(x, train=True, key=DRAW),
    ),
    Sample("TransformerBlock", lambda k, d: block(k, d, causal=True), SEQUENCE),
    Sample(
        "TransformerBlock.dropout",
        lambda k, d: block(k, d, dropout=0.3),
        SEQUENCE,
        lambda layer, x: layer(x, train=True, key=DRAW),
    ),
    Sample("RNN", lambda k, d: nn.RNN(4, 3, key=k, dtype=d), SEQUENCE),
    Sample("GRU", lambda k, d: nn.GRU(4, 3, reverse=True, key=k, dtype=d), SEQUENCE),
    Sample("LSTM", lambda k, d: nn.LSTM(4, 3, key=k, dtype=d), SEQUENCE),
]
