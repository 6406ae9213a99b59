"""Where inputs get lost on the way to the output, and where targets change their order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pullback.inspect.probe import Probe
from pullback.ir.array import Array
from pullback.ir.graph import Node, depends_on
from pullback.ir.types import Numbers, float64, is_float
from pullback.ops.index import Gather
from pullback.ops.layout import Flip, Transpose

FEWEST = 16
"""Different inputs, at least."""
SHARE = 0.1
"""Inputs are lost where so many of them, at most, give different outputs."""
DIGITS = 5
"""Outputs that agree in so many digits are the same."""


@dataclass(frozen=True, slots=True, eq=False)
class Lost:
    """A node behind which most samples are the same, and how many different ones there are."""

    node: Node
    inputs: int
    outputs: int


def collapsed(probe: Probe) -> Lost | None:
    """The first operation of several operands, or sum, behind which most samples are the same."""
    graph = probe.network
    if graph is None or probe.output is None:
        return None
    inputs = _different([probe.numbers(x) for x in probe.inputs_of(graph)])
    if inputs < FEWEST or not _is_few(_different([probe.numbers(probe.output)]), inputs):
        return None
    for node in graph.nodes:
        y = node.outputs[0]
        if not (y in probe.learnt and y in probe.fed and is_float(y.dtype)):
            continue
        if y.shape[:1] != (probe.batch,) or not np.isfinite(probe.numbers(y)).all():
            continue
        known = _different([probe.numbers(y)])
        if _is_few(known, inputs):
            # an activation that is dead, or flat, is another fault
            return Lost(node, inputs, known) if len(node.inputs) > 1 else None
    return None


def _is_few(outputs: int, inputs: int) -> bool:
    return outputs <= SHARE * inputs


def _different(columns: list[Numbers]) -> int:
    """The different samples, as far as five digits tell."""
    rows = [x.astype(float64).reshape(len(x), -1) for x in columns if len(x)]
    if not rows:
        return 0
    scaled = [np.round(x / (np.abs(x).max(initial=0.0) + 1e-30), DIGITS) for x in rows]
    return len(np.unique(np.concatenate(scaled, axis=1), axis=0))


def rearranged(probe: Probe, targets: Array) -> Node:
    """The operation that first changes the order of the targets; else that which gives the loss."""
    behind = depends_on(probe.nodes, [targets])
    for node in probe.nodes:
        moves = isinstance(node.op, Transpose | Flip | Gather)
        if moves and node.inputs[0] in behind and node.inputs[0] not in probe.learnt:
            return node
    return probe.replay.graph.nodes[-1]
