"""The transforms as functions graph → graph, for the ops that hold graphs."""

from __future__ import annotations

from collections.abc import Sequence

from pullback.ir.array import Array
from pullback.ir.builder import building
from pullback.ir.graph import Graph, Node, depends_on, needed_nodes
from pullback.ir.op import GraphTransforms
from pullback.ir.types import is_float
from pullback.ops.operators import repeated, zeros
from pullback.transforms.batch import play_batched
from pullback.transforms.forward import Forward
from pullback.transforms.reverse import Reverse
from pullback.transforms.walk import inline


class _Transforms(GraphTransforms):
    """The transforms, graph → graph: the user-level walks, played in an abstract builder."""

    def inline(self, graph: Graph, inputs: Sequence[Array]) -> tuple[Array, ...]:
        return inline(graph, inputs)

    def vjp(self, graph: Graph, wrt: Sequence[int]) -> tuple[Graph, Graph]:
        with building(evaluating=False) as builder:
            inputs = [builder.input(x.type) for x in graph.inputs]
            reverse = Reverse(graph, inputs, wrt, self)
            outputs = reverse.outputs
            bars = [builder.input(x.type) for x in graph.outputs if is_float(x.dtype)]
            supply = iter(bars)
            pulled = reverse.pull(
                [next(supply) if is_float(x.dtype) else None for x in graph.outputs]
            )
            cotangents = [
                zeros(graph.inputs[i].type) if bar is None else bar
                for i, bar in zip(wrt, pulled, strict=True)
            ]
            joint, _ = builder.finish([*outputs, *cotangents])
        return _split(joint, len(inputs), len(outputs))

    def jvp(self, graph: Graph, active: Sequence[bool]) -> Graph:
        with building(evaluating=False) as builder:
            inputs = [builder.input(x.type) for x in graph.inputs]
            dots = [
                builder.input(x.type) if moves else None
                for x, moves in zip(graph.inputs, active, strict=True)
            ]
            forward = Forward(graph, inputs, self)
            pushed = forward.push(dots)
            tangents = [
                zeros(x.type) if dot is None else dot
                for x, dot in zip(graph.outputs, pushed, strict=True)
                if is_float(x.dtype)
            ]
            result, _ = builder.finish([*forward.outputs, *tangents])
        return result

    def batch(
        self, graph: Graph, size: int, batched: Sequence[bool], force: Sequence[bool]
    ) -> tuple[Graph, tuple[bool, ...]]:
        with building(evaluating=False) as builder:
            inputs = [
                builder.input(x.type.reshaped((size, *x.shape)) if b else x.type)
                for x, b in zip(graph.inputs, batched, strict=True)
            ]
            outputs, flags = play_batched(graph, size, inputs, batched, self)
            outputs = [
                repeated(x, size) if wanted and not flag else x
                for x, flag, wanted in zip(outputs, flags, force, strict=True)
            ]
            result, _ = builder.finish(outputs)
        return result, tuple(a or b for a, b in zip(flags, force, strict=True))


TRANSFORMS = _Transforms()


def _split(joint: Graph, inputs: int, outputs: int) -> tuple[Graph, Graph]:
    """Cut `inputs + late inputs → outputs + late outputs` into an early and a late graph.

    The early graph computes all that does not depend on the late inputs; what the late one needs of
    it are the residuals. A value without inputs (a literal) is made again instead.
    """
    late_inputs = joint.inputs[inputs:]
    late_values = depends_on(joint.nodes, late_inputs)
    needed = needed_nodes(joint.nodes, joint.outputs)
    late_outputs = joint.outputs[outputs:]
    literals = {x for node in needed if not node.inputs for x in node.outputs}
    early: list[Node] = []
    late: list[Node] = []
    for node in needed:
        (late if not late_values.isdisjoint(node.outputs) else early).append(node)
    read = dict.fromkeys(x for node in late for x in node.inputs) | dict.fromkeys(late_outputs)
    residuals = tuple(x for x in read if x not in late_values and x not in literals)
    remade = [node for node in early if not node.inputs and not set(read).isdisjoint(node.outputs)]
    first = Graph(
        joint.inputs[:inputs],
        needed_nodes(early, (*joint.outputs[:outputs], *residuals)),
        (*joint.outputs[:outputs], *residuals),
    )
    second = Graph((*residuals, *late_inputs), (*remade, *late), late_outputs)
    return first, second
