"""The softmaxes inside a network, as those of attention: whether they begin as a choice of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pullback.inspect.probe import FLAT, Probe
from pullback.ir.array import Array
from pullback.ir.families import Multilinear
from pullback.ir.graph import Node
from pullback.ir.types import float64
from pullback.ops.pointwise import Divide, Exp, Multiply

MASKED = 1e4
"""A score that is so far below the largest one was put there by a mask."""


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """A softmax over places, experts or memories, whose result the layers behind it read."""

    node: Node
    scores: Array
    made: Node
    """Where the scores are made: the last factor, or the product."""
    flat: float
    """Share of the rows in which every slope p (1 - p) is below `FLAT` of the largest one, 1/4."""
    std: float
    """Of the scores of a row."""


def choices(probe: Probe) -> Iterator[Choice]:
    """Those of learnt scores, before the output."""
    inside = set() if probe.network is None else set(probe.network.nodes)
    for each in probe.softmaxes():
        z, node = each.logits, each.node
        if node not in inside or not isinstance(node.op, Divide) or each.length < 3:
            continue
        power = probe.made_by(probe.strip(node.inputs[0]), Exp)
        if power is None or z not in probe.learnt or z not in probe.fed:
            continue
        scores = probe.numbers(power.inputs[0]).astype(float64)
        scores = scores - scores.max(axis=each.axes, keepdims=True)
        live = scores > -MASKED
        p = np.exp(scores)
        p = p / p.sum(axis=each.axes, keepdims=True)
        many = live.sum(axis=each.axes) > 1
        if many.any():
            peak = (p * (1 - p)).max(axis=each.axes)[many]
            count = np.maximum(live.sum(axis=each.axes, keepdims=True), 1)
            mean = np.where(live, scores, 0.0).sum(axis=each.axes, keepdims=True) / count
            std = float(np.where(live, scores - mean, 0.0)[live].std())
            yield Choice(node, z, _made(probe, z), float((peak < FLAT / 4).mean()), std)


def _made(probe: Probe, scores: Array) -> Node:
    """The factor that makes scores large, or else the product that they are."""
    node = last = probe.makers[scores]
    while not isinstance(node.op, Multilinear) or isinstance(node.op, Multiply):
        if isinstance(node.op, Multiply):
            factors = [x for x in node.inputs if x not in probe.learnt]
            if factors and float(np.abs(probe.numbers(factors[0])).max()) > 1:
                return node
        found = [probe.makers.get(x) for x in node.inputs if x in probe.learnt and x in probe.fed]
        if len(found) != 1 or found[0] is None:
            return last
        node = last = found[0]
    return node
