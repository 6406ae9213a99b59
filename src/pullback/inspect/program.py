"""A traced loss as the static rules see it: ranges of values, what depends on what, patterns."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pullback._settings import override
from pullback.inspect.tape import Replay
from pullback.ir.array import Array
from pullback.ir.families import Elementwise
from pullback.ir.graph import Graph, Node, depends_on, needed_nodes
from pullback.ir.range import EVERYTHING, NOT_NEGATIVE, Range
from pullback.ir.types import Axes, bool_, is_float, is_integer
from pullback.ops.layout import Layout
from pullback.ops.pointwise import (
    Add,
    BitAnd,
    BitOr,
    Cast,
    Comparison,
    Constant,
    Divide,
    Exp,
    Log,
    LogicalNot,
    Maximum,
    Minimum,
    Select,
    StopGradient,
    Subtract,
)
from pullback.ops.reduce import Max, Sum
from pullback.transforms.derivatives import chosen_positions


@dataclass(frozen=True, slots=True, eq=False)
class Softmax:
    """A softmax, or the logarithm of one, written in whatever way: `out` from `logits`."""

    out: Array
    logits: Array
    axes: Axes
    node: Node

    @property
    def length(self) -> int:
        """Elements that add up to 1."""
        return math.prod(self.logits.shape[a] for a in self.axes)


class Program:
    """The forward graph of a loss, evaluated once at the given arguments.

    `ranges` holds for every value what it can be, whatever the parameters are; of a value that
    depends on no parameter, what it is.
    """

    def __init__(self, f: Callable[..., Any], args: Sequence[Any], argnums: Any) -> None:
        with override(check=0):
            self.replay = Replay(f, args, chosen_positions(f, argnums, len(args)), pull=False)
        graph = self.replay.graph
        self.name = self.replay.name
        self.nodes = needed_nodes(graph.nodes, graph.outputs)
        self.graph = Graph(graph.inputs, self.nodes, graph.outputs)
        self.makers = {y: node for node in self.nodes for y in node.outputs}
        self.learnt = depends_on(self.nodes, self.replay.parameters)
        """The parameters and what is computed from them."""
        self.fed = depends_on(self.nodes, self.replay.data)
        """The data and what is computed from them."""
        self.batches = {x.shape[0] for x in self.replay.data if x.ndim and x.shape[0] > 1}
        self.first = _first_of_equals(self.nodes)
        self.ranges: dict[Array, Range] = {}
        for x in graph.inputs:
            self.ranges[x] = self._given(x)
        for node in self.nodes:
            self._measure(node)

    def maker(self, x: Array) -> Node | None:
        return self.makers.get(x)

    def made_by(self, x: Array, *kinds: type) -> Node | None:
        """The node that made `x`, if its op is of these kinds."""
        node = self.makers.get(x)
        return node if node is not None and isinstance(node.op, kinds) else None

    @functools.cached_property
    def readers(self) -> dict[Array, list[Node]]:
        found: dict[Array, list[Node]] = {}
        for node in self.nodes:
            for x in dict.fromkeys(node.inputs):
                found.setdefault(x, []).append(node)
        return found

    def numbers(self, x: Array) -> np.ndarray[Any, Any]:
        return self.replay.numbers(x)

    # ---- ranges ----

    def _given(self, x: Array) -> Range:
        if x in self.learnt:
            return _of_type(x)
        return self._observed(x)

    def _observed(self, x: Array) -> Range:
        """What the numbers of a value are, that no parameter changes."""
        numbers = self.numbers(x)
        if not numbers.size or not np.isfinite(numbers.astype(np.float64)).all():
            return _of_type(x)
        return Range(float(numbers.min()), float(numbers.max()), holed=bool((numbers != 0).all()))

    def _measure(self, node: Node) -> None:
        for y in node.outputs:
            if y in self.first:
                self.ranges[y] = self.ranges[self.first[y]]
            elif y not in self.learnt and not isinstance(node.op, Constant):
                self.ranges[y] = self._observed(y)
            elif len(node.outputs) > 1:
                self.ranges[y] = _of_type(y)
            else:
                # a new object each time: the same object stands for the same value
                self.ranges[y] = replace(self._reached(node).met(_of_type(y)))

    def _reached(self, node: Node) -> Range:
        ranges = [self.ranges[x] for x in node.inputs]
        if isinstance(node.op, Select):
            chosen, x, y = node.inputs
            ranges[1] = ranges[1].met(self._known(x, chosen, holds=True))
            ranges[2] = ranges[2].met(self._known(y, chosen, holds=False))
        return node.op.reach(*ranges)

    def _known(self, x: Array, condition: Array, holds: bool) -> Range:
        """What is known of `x` where the condition holds, or where it does not."""
        node = self.makers.get(condition)
        if node is None:
            return EVERYTHING
        match node.op:
            case LogicalNot():
                return self._known(x, node.inputs[0], not holds)
            case BitAnd() if holds:
                both = [self._known(x, each, holds) for each in node.inputs]
                return both[0].met(both[1])
            case BitOr() if not holds:
                both = [self._known(x, each, holds) for each in node.inputs]
                return both[0].met(both[1])
            case Comparison():
                return self._compared(x, node, holds)
        return EVERYTHING

    def _compared(self, x: Array, node: Node, holds: bool) -> Range:
        assert isinstance(node.op, Comparison)
        found = EVERYTHING
        for i, each in enumerate(node.inputs):
            if self.same(each, x):
                found = found.met(node.op.narrowed(holds, i, self.ranges[node.inputs[1 - i]]))
        return found

    # ---- patterns ----

    def strip(self, x: Array, *kinds: type) -> Array:
        """The value that `x` is another layout, type or stopped copy of, or made of by `kinds`."""
        node = self.makers.get(x)
        while node is not None and isinstance(node.op, (Layout, Cast, StopGradient, *kinds)):
            x = node.inputs[0]
            node = self.makers.get(x)
        return x

    def same(self, x: Array, y: Array) -> bool:
        """Whether two values hold the same numbers, in whatever layout."""
        x, y = self.strip(x), self.strip(y)
        return self.first.get(x, x) is self.first.get(y, y)

    def unguarded(self, x: Array, *kinds: type) -> Array:
        """`x` before what bounds it, or replaces it where it is 0, or adds a little to it."""
        while True:
            x = self.strip(x, *kinds)
            node = self.made_by(x, Select, Maximum, Minimum, Add)
            inner = [] if node is None else [y for y in node.inputs[-2:] if not self._is_literal(y)]
            if len(inner) != 1:
                return x
            x = inner[0]

    def _is_literal(self, x: Array) -> bool:
        return self.made_by(self.strip(x), Constant) is not None

    def softmax(self, x: Array) -> Softmax | None:
        """The softmax that `x` is: e^z / Σ e^z."""
        x = self.strip(x)
        node = self.made_by(x, Divide)
        if node is None:
            return None
        powers, total = self.strip(node.inputs[0]), self.unguarded(node.inputs[1])
        exponential, summed = self.made_by(powers, Exp), self.made_by(total, Sum)
        if exponential is None or summed is None or not self.same(summed.inputs[0], powers):
            return None
        assert isinstance(summed.op, Sum)
        return Softmax(x, self._logits(exponential.inputs[0]), summed.op.axes, node)

    def log_softmax(self, x: Array) -> Softmax | None:
        """The log-softmax that `x` is: z - log Σ e^z."""
        x = self.strip(x)
        node = self.made_by(x, Subtract)
        log = None if node is None else self.made_by(self.strip(node.inputs[1]), Log)
        if node is None or log is None:
            return None
        summed = self.made_by(self.unguarded(log.inputs[0]), Sum)
        powers = None if summed is None else self.made_by(self.strip(summed.inputs[0]), Exp)
        if summed is None or powers is None or not self.same(powers.inputs[0], node.inputs[0]):
            return None
        assert isinstance(summed.op, Sum)
        return Softmax(x, self._logits(node.inputs[0]), summed.op.axes, node)

    def _logits(self, x: Array) -> Array:
        """`x` before its peak was subtracted."""
        node = self.made_by(self.strip(x), Subtract)
        if node is None or self.made_by(self.unguarded(node.inputs[1]), Max) is None:
            return self.strip(x)
        return self.strip(node.inputs[0])

    def softmaxes(self) -> Iterator[Softmax]:
        """Every softmax and log-softmax of the program, in order."""
        for node in self.nodes:
            if isinstance(node.op, Divide | Subtract):
                found = self.softmax(node.outputs[0]) or self.log_softmax(node.outputs[0])
                if found is not None:
                    yield found

    # ---- domains ----

    def outside(self, node: Node, smooth: bool) -> tuple[int, Range] | None:
        """The operand that may leave the domain of an op, and that domain."""
        if not isinstance(node.op, Elementwise):
            return None
        domains = node.op.smooth_on() if smooth else node.op.finite_on()
        for i, domain in enumerate(domains):
            if not self.ranges[node.inputs[i]].within(domain):
                return i, domain
        return None


def _first_of_equals(nodes: Sequence[Node]) -> dict[Array, Array]:
    """For a value that an equal application made before: that one. A stopped copy is equal."""
    first: dict[Array, Array] = {}
    known: dict[object, Node] = {}
    for node in nodes:
        inputs = [first.get(x, x) for x in node.inputs]
        if isinstance(node.op, StopGradient):
            first[node.outputs[0]] = inputs[0]
            continue
        before = known.setdefault((node.op, *map(id, inputs)), node)
        if before is not node:
            first.update(zip(node.outputs, before.outputs, strict=True))
    return first


def _of_type(x: Array) -> Range:
    if x.dtype == bool_:
        return Range(0.0, 1.0)
    if is_integer(x.dtype) and not is_float(x.dtype) and np.iinfo(x.dtype).min == 0:
        return NOT_NEGATIVE
    return EVERYTHING
