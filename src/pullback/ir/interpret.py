"""The reference interpreter: a graph on NumPy arrays, node by node."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pullback.ir.array import Array
from pullback.ir.builder import compute
from pullback.ir.graph import Graph, Node
from pullback.ir.types import Numbers

Evaluate = Callable[[Node, Sequence[Numbers]], tuple[Numbers, ...]]


def evaluate_node(node: Node, inputs: Sequence[Numbers]) -> tuple[Numbers, ...]:
    """The reference meaning of one node."""
    return compute(node.op, inputs, [x.type for x in node.outputs])


def interpret(
    graph: Graph, inputs: Sequence[Numbers], evaluate: Evaluate = evaluate_node
) -> list[Numbers]:
    """The numbers of the graph's outputs. `evaluate` may be replaced, to count or to watch."""
    env: dict[Array, Numbers] = dict(zip(graph.inputs, inputs, strict=True))
    for node in graph.nodes:
        env.update(zip(node.outputs, evaluate(node, [env[x] for x in node.inputs]), strict=True))
    return [env[x] for x in graph.outputs]
