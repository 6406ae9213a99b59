"""Batching: play a graph for many examples at once, by each op's own rule."""

from __future__ import annotations

from collections.abc import Sequence

from pullback.ir.array import Array
from pullback.ir.builder import apply
from pullback.ir.graph import Graph
from pullback.ir.op import GraphTransforms, HigherOrder
from pullback.transforms.walk import walking


def play_batched(
    graph: Graph,
    size: int,
    inputs: Sequence[Array],
    batched: Sequence[bool],
    transforms: GraphTransforms,
) -> tuple[list[Array], list[bool]]:
    """The graph's outputs for `size` examples; batched arrays carry them along axis 0."""
    env: dict[Array, tuple[Array, bool]] = dict(
        zip(graph.inputs, zip(inputs, batched, strict=True), strict=True)
    )
    with walking() as at:
        for node in graph.nodes:
            at(node, None)
            known = [env[x] for x in node.inputs]
            arrays = tuple([x for x, _ in known])
            flags = [flag for _, flag in known]
            if not any(flags):
                outputs, outgoing = apply(node.op, arrays), (False,) * len(node.outputs)
            elif isinstance(node.op, HigherOrder):
                outputs, outgoing = node.op.batch_of(size, arrays, flags, transforms)
            else:
                outputs, outgoing = node.op.batch(size, arrays, flags)
            env.update(zip(node.outputs, zip(outputs, outgoing, strict=True), strict=True))
    return [env[x][0] for x in graph.outputs], [env[x][1] for x in graph.outputs]
