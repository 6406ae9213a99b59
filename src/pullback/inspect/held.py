"""A loss as the rules of derivatives see it: what they take for a constant is held.

`stop_gradient`, a rounding or a comparison cut the way of a derivative on purpose. A measured slope
sees through them; of the loss with the results of all cuts held at their numbers it does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pullback.ir.graph import Graph, Node
from pullback.ir.interpret import evaluate_node, interpret, watching
from pullback.ir.types import Numbers
from pullback.ops.pointwise import StraightThrough
from pullback.transforms.trace import trace_leaves
from pullback.transforms.tree import flatten_arrays


class Held:
    """`held(numbers)`: the loss where its first arguments have these numbers."""

    def __init__(self, f: Callable[..., Any], args: Sequence[Any]) -> None:
        leaves, treedef = flatten_arrays(tuple(args), "argument")
        traced = trace_leaves(f, leaves, treedef, evaluating=True)
        self._graph: Graph = traced.graph
        self._inputs = [x.numpy() for x in (*leaves, *traced.captured)]
        self._kept: list[tuple[Numbers, ...]] = []
        with watching(self._keep):
            interpret(self._graph, self._inputs)

    def __call__(self, numbers: Sequence[Numbers]) -> float:
        kept = iter(self._kept)

        def evaluate(node: Node, inputs: Sequence[Numbers]) -> tuple[Numbers, ...]:
            if isinstance(node.op, StraightThrough):  # hard, with the derivative of soft
                out, soft = next(kept)
                return (out + (inputs[1] - soft),)
            return next(kept) if _is_cut(node) else evaluate_node(node, inputs)

        with watching(evaluate):
            found = interpret(self._graph, [*numbers, *self._inputs[len(numbers) :]])
        return float(found[0])

    def _keep(self, node: Node, inputs: Sequence[Numbers]) -> tuple[Numbers, ...]:
        found = evaluate_node(node, inputs)
        if isinstance(node.op, StraightThrough):
            self._kept.append((found[0], inputs[1]))
        elif _is_cut(node):
            self._kept.append(found)
        return found


def _is_cut(node: Node) -> bool:
    return bool(node.inputs) and node.op.cut(*(x.type for x in node.inputs)) is not None
