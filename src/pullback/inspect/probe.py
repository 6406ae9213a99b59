"""`Probe`: a loss with the real batch, evaluated and pulled back once, seen as layers of units."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback.inspect.program import Program
from pullback.ir.array import Array, concrete
from pullback.ir.builder import quiet
from pullback.ir.families import Elementwise, Multilinear
from pullback.ir.graph import Graph, Node, depends_on, every_node, needed_nodes
from pullback.ir.range import EVERYTHING
from pullback.ir.types import Numbers, float64, is_float, is_integer
from pullback.ops.contract import Contract
from pullback.ops.layout import Layout
from pullback.ops.pointwise import Add, Cast, DeclaredStop
from pullback.ops.rows import Rows
from pullback.ops.sampling import RandomBits
from pullback.transforms.walk import inline

FLAT = 0.05
"""A unit is saturated where its slope is below this share of the largest one."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A product of data with a weight: dense, convolution, a projection of attention.

    `z` is what it gives, with its bias; `signal` is what it reads. `unit` is the axis of `z` along
    which its units lie.
    """

    name: str
    node: Node
    weight: Array
    operand: Array
    """The weight as the product reads it: transposed, cast."""
    signal: Array
    z: Array
    unit: int

    @property
    def fan_in(self) -> int:
        """Elements of the signal that one element of the result adds up."""
        if isinstance(self.node.op, Contract):
            op = self.node.op
            shared = set(op.left) & set(op.right) - set(op.result)
            sizes = dict(zip(op.left, self.node.inputs[0].shape, strict=True))
            return math.prod(sizes[x] for x in shared)
        return math.prod(self.weight.shape[1:])

    @property
    def width(self) -> int:
        return self.z.shape[self.unit]


@dataclass(frozen=True, slots=True, eq=False)
class Activation:
    """An op of one learnt operand behind a layer: where its slope is 0 or small."""

    layer: Layer
    node: Node
    dead: float
    """Share of the units whose slope is 0 for every sample."""
    flat: float
    """Share of the elements whose slope is below `FLAT` of the largest; 0 where it is unbounded."""


class Probe(Program):
    """The program of a loss at its first step: values, cotangents, layers, the output."""

    def __init__(self, f: Callable[..., Any], args: Sequence[Any]) -> None:
        super().__init__(f, args, 0, pull=True)
        leading = [x.shape[0] for x in self.replay.data if x.ndim]
        self.batch = max(set(leading), key=leading.count) if leading else 0

    @property
    def loss(self) -> float:
        return float(self.numbers(self.graph.outputs[0]))

    def bar(self, x: Array) -> Numbers | None:
        return self.replay.bar(x)

    @property
    def named(self) -> dict[Array, str]:
        """The parameters by path, without the word `model` before it."""
        return {x: within_model(self.replay.names[x]) for x in self.replay.parameters}

    @functools.cached_property
    def layers(self) -> list[Layer]:
        """In forward order."""
        return self._products(self.named)

    @functools.cached_property
    def chain(self) -> list[Layer]:
        """The layers, and those of which each weight is a row of a parameter, as a scan over

        stacked weights has them.
        """
        rows = {
            y: f"{self.named[x]}[{i}]"
            for node in self.nodes
            if isinstance(node.op, Rows) and (x := self.strip(node.inputs[0])) in self.named
            for i, y in enumerate(node.outputs)
        }
        return self._products(self.named | rows) if rows else self.layers

    @functools.cached_property
    def depth(self) -> int:
        """Layers with a weight each; of parts of one parameter each counts."""
        return len({x.operand if x.operand.size < x.weight.size else x.weight for x in self.chain})

    def _products(self, parameters: dict[Array, str]) -> list[Layer]:
        """The layers of which these are the weights."""
        found = []
        for node in self.nodes:
            if not isinstance(node.op, Multilinear):
                continue
            roots = [self.strip(x) for x in node.inputs]
            weights = [i for i, root in enumerate(roots) if root in parameters]
            if len(weights) == 1 and node.inputs[1 - weights[0]] in self.fed:
                found.append(self._layer(node, weights[0], parameters[roots[weights[0]]]))
        return found

    def _layer(self, node: Node, i: int, name: str) -> Layer:
        y = node.outputs[0]
        unit = 1
        if isinstance(node.op, Contract):
            own = (node.op.left, node.op.right)[i]
            units = [k for k, letter in enumerate(node.op.result) if letter in own]
            unit = units[-1] if units else y.ndim - 1
        return Layer(
            name,
            node,
            self.strip(node.inputs[i]),
            node.inputs[i],
            node.inputs[1 - i],
            self._biased(y),
            unit,
        )

    def _biased(self, y: Array) -> Array:
        """`y` with the bias that is added to it."""
        readers = self.readers.get(y, [])
        if len(readers) == 1 and isinstance(readers[0].op, Add):
            other = next((x for x in readers[0].inputs if x is not y), y)
            if other not in self.fed and readers[0].outputs[0].shape == y.shape:
                return readers[0].outputs[0]
        return y

    # ---- activations ----

    @functools.cached_property
    def activations(self) -> list[Activation]:
        """Of the hidden layers, each op that reads one learnt value and constants."""
        found = []
        for layer in self.chain:
            for node in self.readers.get(layer.z, []):
                if isinstance(node.op, Elementwise) and self._is_unary(node):
                    seen = self._activation(layer, node)
                    if seen is not None:
                        found.append(seen)
        return found

    def _is_unary(self, node: Node) -> bool:
        return len(node.inputs) == 1 and is_float(node.outputs[0].dtype) and node.op.differentiable

    def _activation(self, layer: Layer, node: Node) -> Activation | None:
        slope = slopes(node, self.numbers(layer.z))
        if slope is None:
            return None
        others = tuple(k for k in range(slope.ndim) if k != layer.unit)
        dead = float((slope == 0).all(axis=others).mean())
        reached = node.op.reach(EVERYTHING)
        bounded = math.isfinite(reached.low) and math.isfinite(reached.high)
        peak = slopes(node, np.linspace(-4, 4, 801, dtype=slope.dtype))
        flat = 0.0
        if bounded and peak is not None:
            flat = float((np.abs(slope) < FLAT * np.abs(peak).max()).mean())
        return Activation(layer, node, dead, flat)

    # ---- the output ----

    @functools.cached_property
    def output(self) -> Array | None:
        """What the last layer gives, where it has a row for each sample."""
        rows = [x.z for x in self.layers if x.z.ndim and x.z.shape[0] == self.batch > 1]
        return rows[-1] if rows else None

    @functools.cached_property
    def class_logits(self) -> Array | None:
        """The logits of the network's cross-entropy: not a teacher's, which are data."""
        found = [
            x.logits
            for x in (*self.softmaxes(), *self.class_losses())
            if x.length == self.classes > 1 and x.logits in self.learnt
        ]
        return found[-1] if found else None

    @functools.cached_property
    def network(self) -> Graph | None:
        """The graph up to the output."""
        if self.output is None:
            return None
        nodes = needed_nodes(self.nodes, [self.output])
        return Graph(self.graph.inputs, nodes, (self.output,))

    @functools.cached_property
    def draws_beyond(self) -> bool:
        """Whether the loss draws random numbers after the output, as of actions that are tried.

        The value of such a loss means little: its gradient is what was meant.
        """
        before = set() if self.network is None else set(self.network.nodes)
        after = [node for node in self.nodes if node not in before]
        return any(isinstance(node.op, RandomBits) for node in every_node(after))

    @functools.cached_property
    def is_surrogate(self) -> bool:
        """Whether the value of the loss means little, because only its gradient was meant.

        It draws what it is taken of, or its target moves with the parameters that it trains, as
        that of temporal differences does: a `stop_gradient` that says why reads one of them.
        """
        moved = [
            p
            for p in self.replay.parameters
            if (bar := self.bar(p)) is not None and p not in self.replay.frozen and np.any(bar)
        ]
        stopped = [node for node in self.nodes if isinstance(node.op, DeclaredStop)]
        if not stopped:
            return self.draws_beyond
        moving = depends_on(self.nodes, moved or self.replay.parameters)
        return self.draws_beyond or any(x in moving for node in stopped for x in node.inputs)

    def inputs_of(self, graph: Graph) -> list[Array]:
        """The data that a graph reads, with a row for each sample."""
        read = {x for node in graph.nodes for x in node.inputs}
        return [x for x in self.replay.data if x in read and x.shape[:1] == (self.batch,)]

    def is_numeric(self, x: Array) -> bool:
        """Whether it is of numbers: floating, or integers that are only read as such, as pixels."""
        if is_float(x.dtype):
            return True
        readers, due = [], [x]
        while due:
            for node in self.readers.get(due.pop(), []):
                if isinstance(node.op, Layout):
                    due.append(node.outputs[0])
                else:
                    readers.append(node)
        casts = [isinstance(n.op, Cast) and is_float(n.outputs[0].dtype) for n in readers]
        return is_integer(x.dtype) and bool(casts) and all(casts)

    def integers_beside(self) -> list[Array]:
        """Data that the network does not read: the targets."""
        read = [] if self.network is None else self.inputs_of(self.network)
        return [x for x in self.graph.inputs if x in self.replay.data and x not in set(read)]

    def as_function(self, graph: Graph, x: Array) -> Callable[[Array], Array]:
        """The graph as a function of one input."""
        given = [concrete(self.numbers(y)) for y in graph.inputs]
        place = next(i for i, y in enumerate(graph.inputs) if y is x)
        return lambda value: inline(graph, [*given[:place], value, *given[place + 1 :]])[0]

    # ---- what kind of loss ----

    @functools.cached_property
    def classes(self) -> int:
        """K, where the loss is a cross-entropy of K classes; else 0."""
        found = [
            x.length
            for x in self.softmaxes()
            if x.out in self.learnt and self.log_softmax(x.out) is not None
        ]
        found = found or [x.length for x in self.class_losses() if x.out in self.learnt]
        return found[-1] if found else 0

    def prior_entropy(self) -> float:
        """H of the frequencies of the labels in the batch; ln K where there are none."""
        labels = [self.numbers(x) for x in self.integers_beside() if is_integer(x.dtype)]
        for each in labels:
            if each.size and each.min() >= 0 and each.max() < self.classes:
                p = np.bincount(each.ravel(), minlength=self.classes) / each.size
                p = p[p > 0]
                return float(-(p * np.log(p)).sum())
        return math.log(self.classes)


def within_model(path: str) -> str:
    """The path of a parameter, without the word `model` before it."""
    return path.removeprefix("model").removeprefix(".")


def slopes(node: Node, x: Numbers) -> Numbers | None:
    """dy/dx of an op of one operand, element by element."""
    with quiet(), np.errstate(all="ignore"):
        value = concrete(x)
        (bar,) = node.op.cotangents(
            (concrete(np.ones_like(x)),), node.op.outputs(value), (value,), (True,)
        )
    return None if bar is None else bar.numpy()


def norm(x: Numbers) -> float:
    return float(np.linalg.norm(x.astype(float64).ravel()))


def second_moment(x: Numbers) -> float:
    return norm(x) ** 2 / max(x.size, 1)
