"""A loss with some of its operations replaced: what would be, were it written another way."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pullback.inspect.choices import choices
from pullback.inspect.probe import Probe
from pullback.ir.array import Array, concrete
from pullback.ir.builder import apply
from pullback.ir.graph import Node
from pullback.ir.types import float64
from pullback.ops.pointwise import Relu, Sigmoid, Tanh
from pullback.transforms.tree import flatten_arrays
from pullback.transforms.walk import walking

Change = Callable[..., Array]
"""The new result of a node, of its operands."""
Edit = Callable[[Probe], "Mapping[Node, Change]"]
"""The changes that it makes of a program; none where it has nothing to change."""


def edited(
    probe: Probe, changes: Mapping[Node, Change], beside: Sequence[Array] = ()
) -> Callable[..., Any]:
    """The loss with the changes; with `beside` the pair of it and of these of its values."""
    graph, captured = probe.replay.graph, probe.replay.traced.captured
    nodes = probe.nodes

    def loss(model: Any, *batch: Any) -> Any:
        leaves = flatten_arrays((model, *batch), "argument")[0]
        env = dict(zip(graph.inputs, (*leaves, *captured), strict=True))
        with walking() as at:
            for node in nodes:
                at(node, None)
                given = [env[x] for x in node.inputs]
                if node in changes:
                    env[node.outputs[0]] = changes[node](*given)
                else:
                    env.update(zip(node.outputs, apply(node.op, given), strict=True))
        out = env[graph.outputs[0]]
        return (out, tuple([env[x] for x in beside])) if beside else out

    return loss


# ---- edits ----------------------------------------------------------------------------------


def unsquashed(probe: Probe) -> Mapping[Node, Change]:
    """Tanh in place of a sigmoid, relu in place of other bounded activations."""
    changes: dict[Node, Change] = {}
    for each in probe.activations:
        known = probe.ranges[each.node.outputs[0]]
        if math.isfinite(known.high - known.low):
            steeper = Tanh() if isinstance(each.node.op, Sigmoid) else Relu()
            changes[each.node] = lambda x, op=steeper: op(x)
    return changes


def skipped(probe: Probe) -> Mapping[Node, Change]:
    """x + f(x)/depth in place of f(x), for layers that follow each other and are as wide."""
    ends = [x.node for x in probe.activations]
    pairs = [(a, b) for a, b in itertools.pairwise(ends) if a.outputs[0].type == b.outputs[0].type]
    scale = 3 / max(len(pairs), 3)
    made: dict[Node, Array] = {}

    def keep(node: Node) -> Change:
        def change(x: Array) -> Array:
            made[node] = node.op(x)
            return made[node]

        return change

    def skip(before: Node, node: Node) -> Change:
        def change(x: Array) -> Array:
            made[node] = made[before] + node.op(x) * scale
            return made[node]

        return change

    changes: dict[Node, Change] = {}
    for a, b in pairs:
        changes.setdefault(a, keep(a))
        changes[b] = skip(a, b)
    return changes


def tempered(probe: Probe) -> Mapping[Node, Change]:
    """Logits divided by their deviation where it is large; one for yes and no less its mean."""
    logits = probe.class_logits
    out = probe.output if logits is None else logits
    node = None if out is None else probe.makers.get(out)
    if node is None or out is None or len(node.outputs) > 1:
        return {}
    z = probe.numbers(out).astype(float64)
    mean = 0 * z[:1] if logits is not None else z.mean(axis=0, keepdims=True)
    std = max(float((z - mean).std()), 1.0)
    shift, kept = concrete(mean.astype(out.dtype)), node
    return {kept: lambda *xs: (kept.op(*xs) - shift) * (1 / std)}


def cooled(probe: Probe) -> Mapping[Node, Change]:
    """The scores of a softmax inside the network, as of attention, with a deviation of 1."""
    changes: dict[Node, Change] = {}
    for each in choices(probe):
        node = probe.makers[each.scores]
        if each.std > 1:
            changes[node] = lambda *xs, op=node.op, scale=1 / each.std: op(*xs) * scale
    return changes
