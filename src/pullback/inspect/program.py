"""A traced loss as the static rules see it: ranges of values, what depends on what, patterns."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pullback._settings import override
from pullback.inspect.patterns import Patterns, Softmax
from pullback.inspect.tape import Replay
from pullback.ir.array import Array
from pullback.ir.families import Elementwise
from pullback.ir.graph import Graph, Node, depends_on, needed_nodes
from pullback.ir.op import HigherOrder
from pullback.ir.range import EVERYTHING, NOT_NEGATIVE, Range
from pullback.ir.types import bool_, is_float, is_integer
from pullback.ops.contract import Contract
from pullback.ops.index import Gather
from pullback.ops.pointwise import (
    BitAnd,
    BitOr,
    Comparison,
    Constant,
    Divide,
    LogicalNot,
    Multiply,
    Select,
)
from pullback.transforms.derivatives import chosen_positions


class Program(Patterns):
    """The forward graph of a loss, evaluated once at the given arguments.

    `ranges` holds for every value what it can be, whatever the parameters are; of a value that
    depends on no parameter, what it is.
    """

    def __init__(
        self, f: Callable[..., Any], args: Sequence[Any], argnums: Any, pull: bool = False
    ) -> None:
        self.args = tuple(args)
        with override(check=0):
            self.replay = Replay(f, args, chosen_positions(f, argnums, len(args)), pull=pull)
        graph = self.replay.graph
        self.name = self.replay.name
        super().__init__(needed_nodes(graph.nodes, graph.outputs))
        self.graph = Graph(graph.inputs, self.nodes, graph.outputs)
        self.learnt = depends_on(self.nodes, self.replay.parameters)
        """The parameters and what is computed from them."""
        self.fed = depends_on(self.nodes, self.replay.data)
        """The data and what is computed from them."""
        self.batches = {x.shape[0] for x in self.replay.data if x.ndim and x.shape[0] > 1}
        self.ranges: dict[Array, Range] = {}
        for x in graph.inputs:
            self.ranges[x] = self._given(x)
        for node in self.nodes:
            self._measure(node)

    @functools.cached_property
    def readers(self) -> dict[Array, list[Node]]:
        found: dict[Array, list[Node]] = {}
        for node in self.nodes:
            for x in dict.fromkeys(node.inputs):
                found.setdefault(x, []).append(node)
        return found

    def numbers(self, x: Array) -> np.ndarray[Any, Any]:
        return self.replay.numbers(x)

    @functools.cached_property
    def every(self) -> tuple[Program, ...]:
        """This program, and those inside its loops, branches and checkpoints."""
        inner = [
            Body(self, graph, [None if i is None else node.inputs[i] for i in places])
            for node in self.nodes
            if isinstance(node.op, HigherOrder)
            for graph, places in node.op.bodies()
        ]
        return (self, *(each for body in inner for each in body.every))

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
        if isinstance(node.op, Divide) and self.softmax(node.outputs[0]) is not None:
            return Range(0.0, 1.0)
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

    # ---- losses of classes ----

    def class_losses(self) -> Iterator[Softmax]:
        """Every log Σ e^z - z[label]: what is picked of the logits z is said by the data."""
        for found in self.partitions():
            for node in self.nodes:
                for x in node.inputs:
                    if self.same(x, found.logits) and self._picks(node, x):
                        yield found
                        break
                else:
                    continue
                break

    def _picks(self, node: Node, x: Array) -> bool:
        others = [y for y in node.inputs if y is not x]
        known = bool(others) and all(y not in self.learnt for y in others)
        if isinstance(node.op, Gather):
            return node.inputs[0] is x and known and any(y in self.fed for y in others)
        product = isinstance(node.op, Multiply | Contract)
        return product and known and all(y in self.fed for y in others)

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


class Body(Program):
    """What runs inside an op of the program: its values have ranges, and no numbers.

    An input has the range of the operand that it is, or is a row of. Nothing is known of what
    changes from step to step.
    """

    def __init__(self, outer: Program, graph: Graph, operands: Sequence[Array | None]) -> None:
        Patterns.__init__(self, needed_nodes(graph.nodes, graph.outputs))
        self.replay, self.name, self.batches = outer.replay, outer.name, outer.batches
        self.args = outer.args
        self.graph = graph
        pairs = list(zip(graph.inputs, operands, strict=True))
        self.learnt = depends_on(
            self.nodes, [x for x, y in pairs if y is None or y in outer.learnt]
        )
        self.fed = depends_on(self.nodes, [x for x, y in pairs if y is None or y in outer.fed])
        self.ranges = {x: _of_type(x) if y is None else outer.ranges[y] for x, y in pairs}
        for node in self.nodes:
            self._measure(node)

    def numbers(self, x: Array) -> np.ndarray[Any, Any]:
        """Ones: a stand-in, for what does not depend on the numbers."""
        return np.ones(x.shape, x.dtype)

    def _observed(self, x: Array) -> Range:
        node = self.makers[x]
        single = len(node.outputs) == 1
        return replace(self._reached(node).met(_of_type(x))) if single else _of_type(x)


def _of_type(x: Array) -> Range:
    if x.dtype == bool_:
        return Range(0.0, 1.0)
    if is_integer(x.dtype) and not is_float(x.dtype) and np.iinfo(x.dtype).min == 0:
        return NOT_NEGATIVE
    return EVERYTHING
