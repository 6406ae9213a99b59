"""The usual initialisation of a layer: how large its weights begin so that the signal keeps."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np

from pullback.inspect.probe import Layer, Probe
from pullback.inspect.seen import Seen
from pullback.ir.array import Array, concrete
from pullback.ir.graph import Node
from pullback.ir.op import HigherOrder
from pullback.ir.types import float64
from pullback.ops.index import Gather
from pullback.ops.layout import Layout
from pullback.transforms.tree import flatten, unflatten


def usual(probe: Probe, layer: Layer) -> tuple[str, float]:
    """The initialisation that keeps the scale behind this layer, and its standard deviation."""
    relu = [x for x in probe.activations if x.layer is layer and x.node.op.name == "relu"]
    name, gain = ("he_normal", 2.0) if relu else ("lecun_normal", 1.0)
    return name, math.sqrt(gain / max(layer.fan_in, 1))


MISFIT = 5.0
"""Weights that are so many times larger or smaller than usual are no choice of an initialiser."""
REPEATED = 2.0
"""The same of weights that are used again and again, as those of a recurrence."""


def misfit(probe: Probe, layer: Layer) -> float:
    """The standard deviation of the weights / the usual one; 1 for weights that are all equal.

    A mean that is not 0 counts as often as a unit adds it up: it makes all units alike, and large.
    """
    weights = probe.numbers(layer.weight).astype(float64)
    std, mean = float(weights.std()), float(weights.mean())
    if not std:
        return 1.0
    together = layer.fan_in * mean**2 - std**2  # by chance it is far below 0
    return math.sqrt(std**2 + max(together, 0.0)) / usual(probe, layer)[1]


def misfit_layer(probe: Probe, hidden: bool = False) -> Layer | None:
    """The layer whose weights are the most too large or too small; None where all are as usual.

    With `hidden`, of the layers before the last one.
    """
    uses = Counter(x.weight for x in probe.layers)

    def away(layer: Layer) -> float:
        bound = REPEATED if uses[layer.weight] > 2 else MISFIT
        return abs(math.log(misfit(probe, layer))) / math.log(bound)

    layers = probe.layers[:-1] if hidden else probe.layers
    worst = max(layers, key=away, default=None)
    return worst if worst is not None and away(worst) > 1 else None


def misfit_loop(probe: Probe) -> tuple[str, float, float] | None:
    """The recurrent weights of a loop that are too large or too small: name, scale, usual scale."""
    for x in looped(probe):
        std = float(probe.numbers(x).astype(float64).std())
        fits = x.shape[-1] ** -0.5
        if std and not 1 / REPEATED <= std / fits <= REPEATED:
            return probe.named[x], std, fits
    return None


def misfit_table(probe: Probe) -> tuple[Node, str, float] | None:
    """A table of which an index chooses rows, far larger than what layers are made for: a
    variance of 1. Where it is read, its name and its scale."""
    for x, name in probe.named.items():
        std = float(probe.numbers(x).astype(float64).std())
        reads = [n for n in probe.readers.get(x, []) if isinstance(n.op, Gather)]
        if reads and std > MISFIT:
            return reads[0], name, std
    return None


def scale_of(probe: Probe, layer: Layer) -> str:
    """The scale of a layer's weights beside the usual one, in words."""
    name, std = usual(probe, layer)
    weights = probe.numbers(layer.weight).astype(float64)
    own, mean = float(weights.std()), float(weights.mean())
    beside = f" and mean {mean:.3g}" if layer.fan_in * mean**2 > 4 * own**2 else ""
    return f"the weights of {layer.name} have std {own:.3g}{beside}; {name}: {std:.3g}"


def offset(probe: Probe, layer: Layer) -> str:
    """Of a bias that decides alone what comes of a layer, in words; else nothing."""
    bias = _bias(probe, layer)
    if bias is None or not _is_far(probe, layer, bias):
        return ""
    signal = probe.numbers(layer.node.outputs[0]).astype(float64).std()
    mean = probe.numbers(bias).astype(float64).mean()
    return f"; the bias {probe.named[bias]} is {mean:.3g}, the products with weights {signal:.3g}"


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
    for x in looped(probe):
        new[place[x]] = _drawn(leaves[place[x]], x.shape[-1] ** -0.5, rng)
    return unflatten(structure, new)


def looped(probe: Probe) -> list[Array]:
    """The matrices that a loop reads: recurrent weights, (units, hidden)."""
    return [
        x
        for x in probe.named
        if x.ndim == 2 and any(isinstance(n.op, HigherOrder) for n in ways(probe, x))
    ]


def ways(probe: Probe, x: Array) -> list[Node]:
    """Who reads a value, or the transposition of it."""
    found = []
    for node in probe.readers.get(x, []):
        turned = isinstance(node.op, Layout)
        found += probe.readers.get(node.outputs[0], []) if turned else [node]
    return found


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
