"""The usual initialisation of a layer: how large its weights begin so that the signal keeps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pullback.inspect.probe import Layer, Probe
from pullback.inspect.seen import Seen
from pullback.ir.array import Array, concrete
from pullback.ir.types import float64
from pullback.transforms.tree import flatten, unflatten


def usual(probe: Probe, layer: Layer) -> tuple[str, float]:
    """The initialisation that keeps the scale behind this layer, and its standard deviation."""
    relu = [x for x in probe.activations if x.layer is layer and x.node.op.name == "relu"]
    name, gain = ("he_normal", 2.0) if relu else ("lecun_normal", 1.0)
    return name, math.sqrt(gain / max(layer.fan_in, 1))


def rescaled(seen: Seen, model: Any) -> Any:
    """The model with new weights of each layer, of the usual scale; biases of a dead one at 0."""
    probe, rng = seen.probe, np.random.default_rng(0)
    place = {x: i for i, x in enumerate(probe.replay.graph.inputs)}
    leaves, structure = flatten(model)
    new = list(leaves)
    for layer in probe.layers:
        i = place[layer.weight]
        std = usual(probe, layer)[1]
        new[i] = _drawn(leaves[i], std, rng)
        bias = _bias(probe, layer)
        if bias is not None and _is_far(probe, layer, bias):
            new[place[bias]] = _drawn(leaves[place[bias]], 0.0, rng)
    return unflatten(structure, new)


def _drawn(x: Any, std: float, rng: np.random.Generator) -> Array:
    return concrete((std * rng.standard_normal(x.shape)).astype(x.dtype))


def _bias(probe: Probe, layer: Layer) -> Array | None:
    """The parameter that is added to what the layer gives."""
    node = probe.makers.get(layer.z)
    if node is None or layer.z is layer.node.outputs[0]:
        return None
    roots = [probe.strip(x) for x in node.inputs]
    return next((x for x in roots if x in probe.named), None)


def _is_far(probe: Probe, layer: Layer, bias: Array) -> bool:
    """Whether a bias is larger than the signal that it is added to."""
    signal = probe.numbers(layer.node.outputs[0]).astype(float64).std()
    return bool(np.abs(probe.numbers(bias).astype(float64)).mean() > signal)
