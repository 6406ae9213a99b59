"""The reference interpreter: a graph on NumPy arrays, node by node."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from pullback.ir.array import Array
from pullback.ir.builder import compute
from pullback.ir.graph import Graph, Node
from pullback.ir.types import Numbers

Evaluate = Callable[[Node, Sequence[Numbers]], tuple[Numbers, ...]]


def evaluate_node(node: Node, inputs: Sequence[Numbers]) -> tuple[Numbers, ...]:
    """The reference meaning of one node."""
    return compute(node.op, inputs, [x.type for x in node.outputs])


_watch: ContextVar[Evaluate] = ContextVar("pullback watches graphs", default=evaluate_node)


@contextmanager
def watching(evaluate: Evaluate) -> Iterator[None]:
    """`evaluate` stands for the evaluation of every node of the graphs that ops hold."""
    token = _watch.set(evaluate)
    try:
        yield
    finally:
        _watch.reset(token)


def interpret(
    graph: Graph, inputs: Sequence[Numbers], evaluate: Evaluate | None = None
) -> list[Numbers]:
    """The numbers of the graph's outputs. `evaluate` may be replaced, to count or to watch."""
    evaluate = evaluate or _watch.get()
    env: dict[Array, Numbers] = dict(zip(graph.inputs, inputs, strict=True))
    for node in graph.nodes:
        env.update(zip(node.outputs, evaluate(node, [env[x] for x in node.inputs]), strict=True))
    return [env[x] for x in graph.outputs]
