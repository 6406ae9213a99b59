"""Reverse mode: walk a graph backwards, each cotangent through its node's rule, add at merges."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from pullback.errors import Phase
from pullback.ir.array import Array
from pullback.ir.builder import replay
from pullback.ir.graph import Graph, Node, active_values
from pullback.ir.op import GraphTransforms, HigherOrder, Maybe, Pull
from pullback.transforms.walk import blaming, prepared, walking

Observer = Callable[[Node, Array, Array, Array], None]
"""Called with (node, input of the node, contribution to that input's cotangent, the sum so far)."""


class Reverse:
    """A graph played forward in the context at work, ready to be pulled back any number of times.

    `inputs` are arrays of the context at work; when they are the ones the graph was traced on,
    nothing is computed twice. `wrt` are positions in `graph.inputs`. What is `known` of its outputs
    is not computed either.
    """

    def __init__(
        self,
        graph: Graph,
        inputs: Sequence[Array],
        wrt: Iterable[int],
        transforms: GraphTransforms,
        known: Mapping[int, Array] | None = None,
    ) -> None:
        self.graph = graph = prepared(graph)
        self.transforms = transforms
        self.wrt = [graph.inputs[i] for i in wrt]
        self.active = active_values(graph, self.wrt)
        self.env: dict[Array, Array] = dict(zip(graph.inputs, inputs, strict=True))
        self.pulls: dict[Node, Pull] = {}
        self.known = {graph.outputs[i]: x for i, x in (known or {}).items()}
        with walking() as at:
            for node in graph.nodes:
                at(node, Phase.FORWARD)
                self._play(node)

    def _play(self, node: Node) -> None:
        inputs = tuple([self.env[x] for x in node.inputs])
        if isinstance(node.op, HigherOrder):
            outputs = self._played(node.op, node, inputs)
        elif node.outputs[0] in self.known:
            outputs = (self.known[node.outputs[0]],)
        else:
            outputs = replay(node, inputs)
        self.env.update(zip(node.outputs, outputs, strict=True))

    def _played(self, op: HigherOrder, node: Node, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        """The outputs of an op that holds graphs; what pulls back through it is remembered."""
        wanted = [x in self.active for x in node.inputs]
        if not any(wanted):
            return replay(node, inputs)
        with blaming(node):
            found = op.augmented(inputs, wanted, self.transforms)
            if found is None:
                outputs = replay(node, inputs)
                found = outputs, op.pulling(inputs, outputs, wanted, self.transforms)
        outputs, self.pulls[node] = found
        return outputs

    @property
    def outputs(self) -> list[Array]:
        return [self.env[x] for x in self.graph.outputs]

    def pull(self, bars: Sequence[Maybe], observe: Observer | None = None) -> list[Maybe]:
        """Cotangents of the `wrt` inputs from the cotangents of the graph's outputs."""
        total: dict[Array, Array] = {}
        for node, x, bar in self.contributions(bars, observe):
            total[x] = total[x] + bar if x in total else bar
            if observe is not None and node is not None:
                observe(node, x, bar, total[x])
        return [total.get(x) for x in self.wrt]

    def contributions(
        self, bars: Sequence[Maybe], observe: Observer | None = None
    ) -> Iterator[tuple[Node | None, Array, Array]]:
        """What each use of a `wrt` input adds to its cotangent, in the order it is to be added.

        The use is a node, or None where the input is an output of the graph. `observe` sees the
        contributions to all other values.
        """
        targets = set(self.wrt)
        total: dict[Array, Array] = {}
        for x, bar in zip(self.graph.outputs, bars, strict=True):
            if bar is not None and x in targets:
                yield None, x, bar
            elif bar is not None and x in self.active:
                total[x] = total[x] + bar if x in total else bar
        with walking() as at:
            # Reverse program order is topological: a builder appends in evaluation order.
            for node in reversed(self.graph.nodes):
                received = tuple([total.pop(x, None) for x in node.outputs])
                if any(bar is not None for bar in received):
                    at(node, Phase.BACKWARD)
                    for x, bar in self._cotangents(node, received):
                        if x in targets:
                            yield node, x, bar
                            continue
                        total[x] = total[x] + bar if x in total else bar
                        if observe is not None:
                            observe(node, x, bar, total[x])

    def _cotangents(self, node: Node, received: tuple[Maybe, ...]) -> Iterable[tuple[Array, Array]]:
        if isinstance(node.op, HigherOrder):
            return self._pulled(node, received)
        inputs = tuple([self.env[x] for x in node.inputs])
        wanted = [x in self.active for x in node.inputs]
        bars = node.op.cotangents(
            received, tuple([self.env[x] for x in node.outputs]), inputs, wanted
        )
        return [
            (x, bar)
            for x, needed, bar in zip(node.inputs, wanted, bars, strict=True)
            if needed and bar is not None
        ]

    def _pulled(self, node: Node, received: tuple[Maybe, ...]) -> Iterator[tuple[Array, Array]]:
        with blaming(node):
            for position, bar in self.pulls[node](received):
                if node.inputs[position] in self.active:
                    yield node.inputs[position], bar
