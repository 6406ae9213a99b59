"""`Handmade`: a step that was written by hand, traced, so that its lines can be named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pullback.compile.driver import uncompiled
from pullback.errors import Site
from pullback.ir.array import Array
from pullback.ir.graph import Graph, Node
from pullback.ops.pointwise import Constant, Multiply
from pullback.transforms.trace import trace_leaves
from pullback.transforms.tree import flatten, flatten_arrays


class Handmade:
    """The graph of a step: from a batch to whatever it returns, the new model first."""

    def __init__(self, step: Callable[..., Any], batch: Sequence[Any], params: Any) -> None:
        leaves, treedef = flatten_arrays(tuple(batch), "batch")
        self.graph: Graph = trace_leaves(uncompiled(step), leaves, treedef, evaluating=True).graph
        self._shapes = [x.shape for x in flatten(params)[0]]

    @property
    def applied(self) -> Site | None:
        """Where the new parameters are made; else the last thing made that has their form."""
        new = set(self._like(self.graph.outputs))
        made = [x for x in self._nodes if not new.isdisjoint(x.outputs)]
        read = {x for node in self.graph.nodes for x in node.inputs} | {*self.graph.outputs}
        left = [x for x in self._nodes if read.isdisjoint(x.outputs) and self._like(x.outputs)]
        return _last([*made] or left)

    @property
    def differentiated(self) -> Site | None:
        """Where the loss is called."""
        inputs = {*self.graph.inputs}
        readers = [x for x in self._nodes if not inputs.isdisjoint(x.inputs)]
        return readers[0].site if readers else None

    @property
    def begun(self) -> Site | None:
        """Where zeros of the form of parameters are made: a new memory."""
        zeros = {x.outputs[0] for x in self._nodes if _is_zero(x)}
        made = [x for x in self._nodes if not zeros.isdisjoint(x.inputs) and self._like(x.outputs)]
        return made[0].site if made else self.applied

    @property
    def scaled(self) -> Site | None:
        """Where something of the form of parameters is multiplied by a number, at the last."""
        numbers = {x.outputs[0] for x in self._nodes if isinstance(x.op, Constant)}
        own = {x for x in self.graph.inputs if x.shape in self._shapes and x.ndim}
        made = [
            x
            for x in self._nodes
            if isinstance(x.op, Multiply)
            and not own.isdisjoint(x.inputs)
            and not numbers.isdisjoint(x.inputs)
        ]
        return _last(made) or self.applied

    @property
    def handed(self) -> Site | None:
        """Where the gradients that it returns are made."""
        count = len(self._shapes)
        told = set(self._like(self.graph.outputs[-count:]))
        return _last([x for x in self._nodes if not told.isdisjoint(x.outputs)]) or self.applied

    @property
    def _nodes(self) -> list[Node]:
        return [x for x in self.graph.nodes if x.site.frame is not None]

    def _like(self, values: Sequence[Array]) -> list[Array]:
        """The first of these that have the shapes of the parameters, one after the other."""
        found: list[Array] = []
        for x in values:
            if len(found) < len(self._shapes) and x.shape == self._shapes[len(found)]:
                found.append(x)
        return found or [x for x in values if x.shape in self._shapes and x.ndim > 0]


def _is_zero(node: Node) -> bool:
    return isinstance(node.op, Constant) and not node.op.value


def _last(nodes: Sequence[Node]) -> Site | None:
    return nodes[-1].site if nodes else None
