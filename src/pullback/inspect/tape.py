"""`Tape`: one step played again, forward and then backward, with every number kept.

An eager function is played by the ops' references, which is how it ran. A compiled one is played
by a program of the same optimised graph that returns every value: by the law of bits, the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback._settings import override
from pullback.backend.program import Program, write_code
from pullback.compile.driver import CompiledFunction
from pullback.compile.signature import Chosen, Kind, ScalarType, read
from pullback.errors import Phase, ShapeError
from pullback.inspect.names import captured_name
from pullback.ir.array import Array, numbers_of
from pullback.ir.builder import Builder, building
from pullback.ir.graph import Graph, Node
from pullback.ir.types import DType, Numbers, is_float
from pullback.nn.freezing import trainable
from pullback.ops.operators import zeros
from pullback.schedule.fuse import fuse
from pullback.train.step import TrainStep
from pullback.transforms.derivatives import chosen_positions, name_of, value_and_grad
from pullback.transforms.graphs import TRANSFORMS
from pullback.transforms.reverse import Reverse
from pullback.transforms.trace import Traced, trace_leaves
from pullback.transforms.tree import (
    argument_names,
    argument_paths,
    flatten,
    flatten_arrays,
    paths,
)

Function = Callable[..., Any]


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """A value that the step began with: what to call it, and whether it is data."""

    name: str
    is_data: bool


@dataclass(frozen=True, slots=True, eq=False)
class Tape:
    """The nodes of a step in the order in which they ran, and the numbers of every value."""

    name: str
    nodes: tuple[Node, ...]
    numbers: Mapping[Array, Numbers]
    given: Mapping[Array, Given]
    outputs: tuple[tuple[str, Array], ...]
    """What the step is for: the loss and the gradients, each with what to call it."""
    forward_of: Mapping[Node, Node]
    """For a node of the backward pass the forward node whose rule recorded it, where known."""
    player: str

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def operands(self, node: Node) -> list[Numbers]:
        return [self.numbers[x] for x in node.inputs]

    def results(self, node: Node) -> list[Numbers]:
        return [self.numbers[y] for y in node.outputs]

    def makers(self) -> dict[Array, Node]:
        return {y: node for node in self.nodes for y in node.outputs}


def play(f: Function, args: Sequence[Any], argnums: int | tuple[int, ...]) -> Tape:
    """The tape of one step: of a loss and its gradient, or of a function that is a whole step.

    A function that returns one floating scalar is a loss; the arguments `argnums` are
    differentiated. What returns anything else is a step, and is played as it is.
    """
    if isinstance(f, TrainStep):
        f = f._program
    positions = chosen_positions(f, argnums, len(args))
    with override(check=0):
        if isinstance(f, CompiledFunction):
            return _play_compiled(f, args, positions)
        run = Replay(f, args, positions)
    return run.tape()


# ---- eager ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Use:
    """What one use of a value adds to its cotangent: the node that used it, the contribution."""

    node: Node
    bar: Array


class Replay:
    """A function traced with its numbers; if it is a loss, also pulled back.

    `graph` is the traced function; `totals` and `uses` speak of its values, their arrays are of the
    builder that played it, and all have numbers. `floats` are the inputs that are differentiated.
    """

    def __init__(
        self, f: Function, args: Sequence[Any], positions: Sequence[int], pull: bool = True
    ) -> None:
        leaves, treedef = flatten_arrays(args, "argument")
        for leaf in leaves:
            leaf.numpy()
        self.name = name_of(f)
        self.traced: Traced = trace_leaves(f, leaves, treedef, evaluating=True)
        self.graph: Graph = self.traced.graph
        names = argument_paths(treedef, argument_names(f, range(treedef.num_children)))
        counts = [each.num_leaves for each in treedef.children()]
        owners = [i for i, count in enumerate(counts) for _ in range(count)]
        self.names = dict(zip(self.graph.inputs, names, strict=False))
        self.data = {
            x for x, owner in zip(self.graph.inputs, owners, strict=False) if owner not in positions
        }
        self.parameters = [
            x
            for x, owner in zip(self.graph.inputs, owners, strict=False)
            if owner in positions and is_float(x.dtype)
        ]
        marks = [not learns for learns in flatten(trainable(tuple(args)))[0]]
        self.frozen = {x for x, mark in zip(self.graph.inputs, marks, strict=False) if mark}
        self.captured = self.graph.inputs[len(leaves) :]
        for x, outer in zip(self.captured, self.traced.captured, strict=True):
            self.names[x] = _captured(f, outer)
        self.is_loss = _is_loss(self.graph.outputs)
        self.pulled = pull and self.is_loss
        self.totals: dict[Array, Array] = {}
        self.uses: dict[Array, list[Use]] = {}
        self.forward_of: dict[Node, Node] = {}
        with building(evaluating=True) as builder:
            self._play(builder, (*leaves, *self.traced.captured))

    def require_loss(self, whose: str, asking: str, hint: str) -> None:
        """Raise `ShapeError` unless the function gives one floating scalar."""
        if not self.is_loss:
            kinds = ", ".join(str(y.type) for y in self.graph.outputs)
            raise ShapeError(f"{whose} returned {kinds}; {asking} needs one scalar loss", hint=hint)

    def _play(self, builder: Builder, inputs: Sequence[Array]) -> None:
        self.builder = builder
        played = [builder.input(x) for x in inputs]
        place = {x: i for i, x in enumerate(self.graph.inputs)}
        wrt = [place[x] for x in self.parameters] if self.pulled else []
        self.reverse = Reverse(self.graph, played, wrt, TRANSFORMS)
        if self.pulled:
            loss = self.graph.outputs[0]
            seed = zeros(loss.type) + 1
            self.totals[loss] = seed
            self._seen = len(builder.nodes)
            self.reverse.pull([seed], self._observe)

    def _observe(self, node: Node, x: Array, bar: Array, so_far: Array) -> None:
        for made in self.builder.nodes[self._seen :]:
            self.forward_of[made] = node
        self._seen = len(self.builder.nodes)
        self.uses.setdefault(x, []).append(Use(node, bar))
        self.totals[x] = so_far

    def numbers(self, x: Array) -> Numbers:
        """The numbers of a value of `graph`."""
        return self.reverse.env[x].numpy()

    def bar(self, x: Array) -> Numbers | None:
        """The cotangent of a value of `graph`; None where nothing flows back."""
        total = self.totals.get(x)
        return None if total is None else total.numpy()

    def tape(self) -> Tape:
        played = {self.reverse.env[x]: x for x in self.graph.inputs}
        outputs = [("the loss", self.reverse.env[self.graph.outputs[0]])]
        if not self.is_loss:
            names = paths(self.traced.result, "result")
            values = [self.reverse.env[y] for y in self.graph.outputs]
            outputs = list(zip(names, values, strict=True))
        outputs += [
            (f"the gradient of {self.names[x]}", self.totals[x])
            for x in self.parameters
            if x in self.totals
        ]
        env = {self.reverse.env[x]: x for x in (y for n in self.graph.nodes for y in n.outputs)}
        made = {y: node for node in self.graph.nodes for y in node.outputs}
        own = {
            node: made[env[node.outputs[0]]]
            for node in self.builder.nodes
            if node.outputs and node.outputs[0] in env
        }
        forward = {v: k for k, v in own.items()}
        nodes = tuple(self.builder.nodes)
        given = {x: Given(self.names[y], y in self.data) for x, y in played.items()}
        return Tape(
            name=self.name,
            nodes=nodes,
            numbers=_numbers(nodes, given, [y for _, y in outputs]),
            given=given,
            outputs=tuple(outputs),
            forward_of=_by_line(nodes)
            | {node: forward[ruled] for node, ruled in self.forward_of.items() if ruled in forward},
            player="reference",
        )


def _captured(f: Function, outer: Array) -> str:
    name = captured_name(f, outer)
    return "a captured array" if name is None else f"the captured array {name}"


def _is_loss(outputs: Sequence[Array]) -> bool:
    return len(outputs) == 1 and outputs[0].shape == () and is_float(outputs[0].dtype)


def _numbers(
    nodes: Sequence[Node], given: Mapping[Array, Given], outputs: Sequence[Array]
) -> dict[Array, Numbers]:
    values = [*given, *outputs]
    for node in nodes:
        values += [*node.inputs, *node.outputs]
    return {x: x.numpy() for x in dict.fromkeys(values)}


# ---- compiled -------------------------------------------------------------------------------


def _play_compiled(f: CompiledFunction, args: Sequence[Any], positions: Sequence[int]) -> Tape:
    whole, lowered = f, f.lower(*args)
    if positions and _is_loss(lowered.graph.outputs):
        both = value_and_grad(f._function, argnums=tuple(positions))
        whole = CompiledFunction(both, f._static, Chosen.of(f, (), "donate"), f._threads, None)
        lowered = whole.lower(*args)
    graph, names = lowered.optimized, lowered.signature.leaf_names(f._function)
    numbers = values_of(
        graph, [*_feeds(whole, args), *[x.numpy() for x in lowered.traced.captured]]
    )
    owners = [i for i, argument in lowered.signature.dynamic for _ in argument.kinds]
    outside = [_captured(f._function, x) for x in lowered.traced.captured]
    places = [*[i not in positions for i in owners], *[False] * len(outside)]
    given = {
        x: Given(name, is_data)
        for x, name, is_data in zip(graph.inputs, [*names, *outside], places, strict=True)
    }
    labels = paths(lowered.traced.result, "result")
    if whole is not f:
        chosen = [
            f"the gradient of {n}" for n, i in zip(names, owners, strict=True) if i in positions
        ]
        labels = ["the loss", *chosen]
    return Tape(
        name=name_of(f),
        nodes=graph.nodes,
        numbers=numbers,
        given=given,
        outputs=tuple(zip(labels, graph.outputs, strict=False)),
        forward_of=_by_line(graph.nodes),
        player="native kernels",
    )


def _feeds(f: CompiledFunction, args: Sequence[Any]) -> list[Numbers]:
    """What a call brings for each leaf, of the element type that the program takes."""
    signature, feeds = read(f._function, args, {}, f._static)
    leaves = [x for feed in feeds for x in (feed if isinstance(feed, list) else flatten(feed)[0])]
    return [numbers_of(x, _dtype(kind)) for x, kind in zip(leaves, signature.kinds, strict=True)]


def _dtype(kind: Kind) -> DType:
    return kind.type.dtype if isinstance(kind, ScalarType) else kind.dtype


def values_of(graph: Graph, inputs: Sequence[Numbers]) -> dict[Array, Numbers]:
    """The numbers of every value of an optimised graph, by native kernels."""
    made = tuple([y for node in graph.nodes for y in node.outputs])
    known = dict(zip(graph.inputs, inputs, strict=True))
    if not made:
        return known
    program = Program(code=write_code(fuse(Graph(graph.inputs, graph.nodes, made))))
    results = program([np.ascontiguousarray(x) for x in inputs])
    return known | dict(zip(made, results, strict=True))


def _by_line(nodes: Sequence[Node]) -> dict[Node, Node]:
    """For each backward node the forward node of its line that it, or what it reads, works on."""
    found: dict[Node, Node] = {}
    makers = {y: node for node in nodes for y in node.outputs}
    forward: dict[object, list[Node]] = {}
    for node in nodes:
        line = (node.site.frames, node.site.scope)
        if node.site.phase is Phase.FORWARD:
            forward.setdefault(line, []).append(node)
            continue
        read = set(node.inputs)
        near = [n for n in forward.get(line, ()) if read.intersection((*n.inputs, *n.outputs))]
        before = [found[makers[x]] for x in node.inputs if makers.get(x) in found]
        own = [n for n in before if n in forward.get(line, ())]
        if near or own:
            found[node] = (near or own)[-1]
    return found
