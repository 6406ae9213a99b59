"""The networks of the benchmark: parameters and a batch as NumPy numbers, and the loss.

A model draws the same numbers for every library; its `loss` is how a user of this one writes it.
Weights of affine maps are (in, out), of convolutions (out, in, height, width), images are NCHW.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

import pullback as pb
from pullback.functions.normalization import channel_moments
from pullback.ir.types import Numbers
from pullback.nn import attention, batch_norm, cross_entropy, gelu, layer_norm

Tree = Any
Generator = np.random.Generator


class Model(Protocol):
    """A network and the size of its batch."""

    def parameters(self, rng: Generator) -> Tree:
        """Float64 arrays in dicts and lists."""
        ...

    def examples(self, rng: Generator) -> tuple[Numbers, ...]:
        """The inputs (float64 or int64), then the labels."""
        ...

    def loss(self, params: Tree, *batch: Any) -> pb.Array:
        """The mean cross-entropy over the batch."""
        ...


# ---- perceptrons and convolutions -----------------------------------------------------------


@dataclass(frozen=True)
class MLP:
    """Affine maps with rectifiers between."""

    widths: tuple[int, ...]
    batch: int

    def parameters(self, rng: Generator) -> Tree:
        return [_affine(rng, n, m) for n, m in itertools.pairwise(self.widths)]

    def examples(self, rng: Generator) -> tuple[Numbers, ...]:
        x = rng.standard_normal((self.batch, self.widths[0]))
        return x, rng.integers(0, self.widths[-1], self.batch)

    def loss(self, params: Tree, x: Any, labels: Any) -> pb.Array:
        *hidden, last = params
        for layer in hidden:
            x = pb.relu(dense(layer, x))
        return cross_entropy(dense(last, x), labels)


@dataclass(frozen=True)
class CNN:
    """Two pairs of 3×3 convolutions, a maximum over 2×2 after each, two affine maps."""

    channels: tuple[int, int] = (32, 64)
    hidden: int = 256
    side: int = 32
    batch: int = 64

    def parameters(self, rng: Generator) -> Tree:
        first, second = self.channels
        sizes = itertools.pairwise((3, first, first, second, second))
        return {
            "convolutions": [_kernel(rng, n, m) for n, m in sizes],
            "hidden": _affine(rng, second * (self.side // 4) ** 2, self.hidden),
            "head": _affine(rng, self.hidden, 10),
        }

    def examples(self, rng: Generator) -> tuple[Numbers, ...]:
        return _images(rng, self.batch, self.side)

    def loss(self, params: Tree, x: Any, labels: Any) -> pb.Array:
        for i, layer in enumerate(params["convolutions"]):
            x = pb.relu(pb.conv2d(x, layer["weight"], layer["bias"], padding=1))
            x = pb.max_pool(x, 2) if i % 2 else x
        x = pb.relu(dense(params["hidden"], pb.reshape(x, (x.shape[0], -1))))
        return cross_entropy(dense(params["head"], x), labels)


@dataclass(frozen=True)
class ResNet:
    """Three stages of residual blocks (He et al. 2015, §4.2), 3 blocks a stage for ResNet-20.

    Batch normalisation by the statistics of the batch; 1×1 convolutions where the width changes.
    """

    blocks: int = 3
    widths: tuple[int, ...] = (16, 32, 64)
    side: int = 32
    batch: int = 32

    def parameters(self, rng: Generator) -> Tree:
        outs = [width for width in self.widths for _ in range(self.blocks)]
        blocks = []
        for n, m in itertools.pairwise((self.widths[0], *outs)):
            block = {"first": _normed_kernel(rng, n, m), "second": _normed_kernel(rng, m, m)}
            if n != m:
                block["shortcut"] = _normed_kernel(rng, n, m, 1)
            blocks.append(block)
        stem, head = _normed_kernel(rng, 3, outs[0]), _affine(rng, outs[-1], 10)
        return {"stem": stem, "blocks": blocks, "head": head}

    def examples(self, rng: Generator) -> tuple[Numbers, ...]:
        return _images(rng, self.batch, self.side)

    def loss(self, params: Tree, x: Any, labels: Any) -> pb.Array:
        x = pb.relu(_convolved(params["stem"], x))
        for block in params["blocks"]:
            stride = 2 if "shortcut" in block else 1
            h = pb.relu(_convolved(block["first"], x, stride))
            h = _convolved(block["second"], h)
            x = pb.relu(h + (_convolved(block["shortcut"], x, 2) if stride == 2 else x))
        return cross_entropy(dense(params["head"], pb.mean(x, axis=(2, 3))), labels)


def _convolved(layer: Tree, x: pb.Array, stride: int = 1) -> pb.Array:
    padding = layer["weight"].shape[-1] // 2
    x = pb.conv2d(x, layer["weight"], stride=stride, padding=padding)
    mean, variance = channel_moments(x)
    return batch_norm(x, mean, variance, layer["scale"], layer["shift"])


# ---- transformers ---------------------------------------------------------------------------


@dataclass(frozen=True)
class GPT:
    """A decoder (Radford et al. 2019): layer norm first, learned places, gelu.

    With `half` the products are in bfloat16, the rest and the parameters stay as they are.
    """

    layers: int = 4
    width: int = 192
    heads: int = 6
    length: int = 128
    vocabulary: int = 96
    batch: int = 8
    half: bool = False

    def parameters(self, rng: Generator) -> Tree:
        return {
            "embedding": 0.1 * rng.standard_normal((self.vocabulary, self.width)),
            "places": 0.1 * rng.standard_normal((self.length, self.width)),
            "blocks": [_block(rng, self.width) for _ in range(self.layers)],
            "norm": _norm(rng, self.width),
            "head": _affine(rng, self.width, self.vocabulary),
        }

    def examples(self, rng: Generator) -> tuple[Numbers, ...]:
        tokens = rng.integers(0, self.vocabulary, (self.batch, self.length + 1))
        return tokens[:, :-1].copy(), tokens[:, 1:].copy()

    def loss(self, params: Tree, tokens: Any, targets: Any) -> pb.Array:
        x = pb.take(params["embedding"], tokens, axis=0) + params["places"]
        for block in params["blocks"]:
            x = transformed(block, x, self.heads, causal=True, half=self.half)
        logits = dense(params["head"], normed(params["norm"], x), self.half)
        return cross_entropy(pb.astype(logits, x.dtype), targets)


@dataclass(frozen=True)
class ViT:
    """An encoder of square patches (Dosovitskiy et al. 2020), their mean classified."""

    layers: int = 6
    width: int = 192
    heads: int = 6
    side: int = 32
    patch: int = 4
    batch: int = 16

    @property
    def places(self) -> int:
        return (self.side // self.patch) ** 2

    def parameters(self, rng: Generator) -> Tree:
        return {
            "embedding": _affine(rng, 3 * self.patch**2, self.width),
            "places": 0.1 * rng.standard_normal((self.places, self.width)),
            "blocks": [_block(rng, self.width) for _ in range(self.layers)],
            "norm": _norm(rng, self.width),
            "head": _affine(rng, self.width, 10),
        }

    def examples(self, rng: Generator) -> tuple[Numbers, ...]:
        return _images(rng, self.batch, self.side)

    def loss(self, params: Tree, images: Any, labels: Any) -> pb.Array:
        n, rows = self.side // self.patch, (self.batch, 3, self.side // self.patch, self.patch)
        patches = pb.permute_dims(pb.reshape(images, (*rows, n, self.patch)), (0, 2, 4, 1, 3, 5))
        x = dense(params["embedding"], pb.reshape(patches, (self.batch, self.places, -1)))
        x = x + params["places"]
        for block in params["blocks"]:
            x = transformed(block, x, self.heads, causal=False)
        return cross_entropy(
            dense(params["head"], pb.mean(normed(params["norm"], x), axis=1)), labels
        )


def transformed(
    block: Tree, x: pb.Array, heads: int, *, causal: bool, half: bool = False
) -> pb.Array:
    """Attention, then a perceptron of two layers, each on the normalised stream and added to it."""
    batch, length, width = x.shape
    qkv = dense(block["qkv"], normed(block["norm1"], x), half)
    parts = pb.permute_dims(pb.reshape(qkv, (batch, length, 3, heads, -1)), (2, 0, 3, 1, 4))
    q, k, v = parts[0], parts[1], parts[2]
    mixed = pb.permute_dims(attention(q, k, v, causal=causal), (0, 2, 1, 3))
    x = x + dense(block["out"], pb.reshape(mixed, (batch, length, width)), half)
    hidden = gelu(dense(block["up"], normed(block["norm2"], x), half))
    return x + dense(block["down"], hidden, half)


def normed(layer: Tree, x: pb.Array) -> pb.Array:
    return layer_norm(x, layer["weight"], layer["bias"])


# ---- recurrence -----------------------------------------------------------------------------


@dataclass(frozen=True)
class LSTM:
    """One layer (gates in the order i, f, g, o); the last state is classified."""

    features: int = 64
    hidden: int = 256
    length: int = 64
    batch: int = 32

    def parameters(self, rng: Generator) -> Tree:
        return {
            "input": _affine(rng, self.features, 4 * self.hidden),
            "state": _affine(rng, self.hidden, 4 * self.hidden),
            "head": _affine(rng, self.hidden, 10),
        }

    def examples(self, rng: Generator) -> tuple[Numbers, ...]:
        x = rng.standard_normal((self.length, self.batch, self.features))
        return x, rng.integers(0, 10, self.batch)

    def loss(self, params: Tree, x: Any, labels: Any) -> pb.Array:
        def step(carry: Tree, drive: pb.Array) -> tuple[Tree, None]:
            h, c = carry
            gates = drive + dense(params["state"], h)
            i, f, g, o = (gates[:, k * self.hidden : (k + 1) * self.hidden] for k in range(4))
            c = pb.sigmoid(f) * c + pb.sigmoid(i) * pb.tanh(g)
            return (pb.sigmoid(o) * pb.tanh(c), c), None

        drives = dense(params["input"], x)
        start = pb.zeros((self.batch, self.hidden), dtype=drives.dtype)
        (h, _), _ = pb.scan(step, (start, start), drives)
        return cross_entropy(dense(params["head"], h), labels)


# ---- shared ---------------------------------------------------------------------------------


def dense(layer: Tree, x: Any, half: bool = False) -> pb.Array:
    """x w + b, with `half` in bfloat16."""
    weight, bias = layer["weight"], layer["bias"]
    if half:
        x, weight, bias = (pb.astype(each, pb.bfloat16) for each in (x, weight, bias))
    out: pb.Array = x @ weight + bias
    return out


def _affine(rng: Generator, n: int, m: int) -> Tree:
    weight = rng.standard_normal((n, m)) * n**-0.5
    return {"weight": weight, "bias": 0.1 * rng.standard_normal(m)}


def _kernel(rng: Generator, n: int, m: int) -> Tree:
    weight = rng.standard_normal((m, n, 3, 3)) * (9 * n) ** -0.5
    return {"weight": weight, "bias": 0.1 * rng.standard_normal(m)}


def _normed_kernel(rng: Generator, n: int, m: int, size: int = 3) -> Tree:
    weight = rng.standard_normal((m, n, size, size)) * (n * size * size) ** -0.5
    scale, shift = 1.0 + 0.1 * rng.standard_normal(m), 0.1 * rng.standard_normal(m)
    return {"weight": weight, "scale": scale, "shift": shift}


def _norm(rng: Generator, n: int) -> Tree:
    return {"weight": 1.0 + 0.1 * rng.standard_normal(n), "bias": 0.1 * rng.standard_normal(n)}


def _block(rng: Generator, width: int) -> Tree:
    return {
        "norm1": _norm(rng, width),
        "qkv": _affine(rng, width, 3 * width),
        "out": _affine(rng, width, width),
        "norm2": _norm(rng, width),
        "up": _affine(rng, width, 4 * width),
        "down": _affine(rng, 4 * width, width),
    }


def _images(rng: Generator, batch: int, side: int) -> tuple[Numbers, Numbers]:
    return rng.standard_normal((batch, 3, side, side)), rng.integers(0, 10, batch)
