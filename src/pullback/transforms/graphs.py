"""The transforms as functions graph → graph, for the ops that hold graphs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pullback.ir.array import Array
from pullback.ir.builder import building
from pullback.ir.graph import Graph, Node, depends_on, needed_nodes, with_outputs
from pullback.ir.op import GraphTransforms, Maybe, Pull
from pullback.ir.types import is_float
from pullback.ops.layout import Layout
from pullback.ops.operators import repeated, zeros
from pullback.transforms.batch import play_batched
from pullback.transforms.forward import Forward
from pullback.transforms.reverse import Reverse
from pullback.transforms.walk import inline


class _Transforms(GraphTransforms):
    """The transforms, graph → graph: the user-level walks, played in an abstract builder."""

    def inline(self, graph: Graph, inputs: Sequence[Array]) -> tuple[Array, ...]:
        return inline(graph, inputs)

    def reverse(
        self,
        graph: Graph,
        inputs: Sequence[Array],
        wrt: Sequence[int],
        known: Mapping[int, Array] | None = None,
    ) -> tuple[tuple[Array, ...], Pull]:
        played = Reverse(graph, inputs, wrt, self, known)
        position = {graph.inputs[i]: i for i in wrt}

        def pull(bars: tuple[Maybe, ...]) -> Iterator[tuple[int, Array]]:
            for _, x, bar in played.contributions(bars):
                yield position[x], bar

        return tuple(played.outputs), pull

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
    it are the residuals. A literal, also one broadcast to a shape, is made again instead.
    """
    late_inputs = joint.inputs[inputs:]
    late_values = depends_on(joint.nodes, late_inputs)
    needed = needed_nodes(joint.nodes, joint.outputs)
    late_outputs = joint.outputs[outputs:]
    early = [node for node in needed if late_values.isdisjoint(node.outputs)]
    late = [node for node in needed if not late_values.isdisjoint(node.outputs)]
    literals = _literals(early)
    read = dict.fromkeys(x for node in late for x in node.inputs) | dict.fromkeys(late_outputs)
    residuals = tuple(x for x in read if x not in late_values and x not in literals)
    remade = [x for x in read if x in literals]
    first = with_outputs(
        Graph(joint.inputs[:inputs], tuple(early), ()), (*joint.outputs[:outputs], *residuals)
    )
    return first, Graph(
        (*residuals, *late_inputs), (*needed_nodes(early, remade), *late), late_outputs
    )


def _literals(nodes: Sequence[Node]) -> set[Array]:
    """Values that no input reaches and that cost nothing: literals, and layouts of them."""
    free: set[Array] = set()
    for node in nodes:
        layout_of_free = isinstance(node.op, Layout) and free.issuperset(node.inputs)
        if not node.inputs or layout_of_free:
            free.update(node.outputs)
    return free
