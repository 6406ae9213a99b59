"""Forward mode: carry a tangent beside every value."""

from __future__ import annotations

from collections.abc import Sequence

from pullback.errors import Phase
from pullback.ir.array import Array
from pullback.ir.builder import replay
from pullback.ir.graph import Graph, Node
from pullback.ir.op import GraphTransforms, HigherOrder, Maybe
from pullback.transforms.walk import At, blaming, prepared, walking


class Forward:
    """A graph played in the context at work, ready to push tangents through."""

    def __init__(self, graph: Graph, inputs: Sequence[Array], transforms: GraphTransforms) -> None:
        self.graph = graph = prepared(graph)
        self.transforms = transforms
        self.env: dict[Array, Array] = dict(zip(graph.inputs, inputs, strict=True))

    def push(self, dots: Sequence[Maybe]) -> list[Maybe]:
        """Tangents of the graph's outputs from those of its inputs; values are played once."""
        tangents = {
            x: dot for x, dot in zip(self.graph.inputs, dots, strict=True) if dot is not None
        }
        with walking() as at:
            for node in self.graph.nodes:
                received = tuple([tangents.get(x) for x in node.inputs])
                moving = any(dot is not None for dot in received)
                inputs = tuple([self.env[x] for x in node.inputs])
                if moving and isinstance(node.op, HigherOrder):
                    at(node, Phase.TANGENT)
                    with blaming(node):
                        outputs, made = node.op.tangents_of(received, inputs, self.transforms)
                    if outputs is None:
                        self._play(node, inputs, at)
                    else:
                        self.env.update(zip(node.outputs, outputs, strict=True))
                else:
                    self._play(node, inputs, at)
                    if not moving:
                        continue
                    at(node, Phase.TANGENT)
                    made = node.op.tangents(
                        received, tuple([self.env[x] for x in node.outputs]), inputs
                    )
                tangents.update(
                    (x, dot) for x, dot in zip(node.outputs, made, strict=True) if dot is not None
                )
        return [tangents.get(x) for x in self.graph.outputs]

    def _play(self, node: Node, inputs: tuple[Array, ...], at: At) -> None:
        if node.outputs[0] not in self.env:
            at(node, Phase.FORWARD)
            self.env.update(zip(node.outputs, replay(node, inputs), strict=True))

    @property
    def outputs(self) -> list[Array]:
        return [self.env[x] for x in self.graph.outputs]
