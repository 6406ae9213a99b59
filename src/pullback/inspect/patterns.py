"""Composites recognised in a graph by what they compute, whoever wrote them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pullback.ir.array import Array
from pullback.ir.graph import Node
from pullback.ir.types import Axes
from pullback.ops.layout import Layout
from pullback.ops.pointwise import (
    Absolute,
    Add,
    Cast,
    Constant,
    Divide,
    Exp,
    Log,
    Maximum,
    Minimum,
    Multiply,
    Power,
    Select,
    Sqrt,
    Square,
    StopGradient,
    Subtract,
)
from pullback.ops.reduce import Max, Sum


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
        return math.prod(self.node.outputs[0].shape[a] for a in self.axes)


class Patterns:
    """The nodes of a graph, with what is asked of them: who made a value, what it is."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = tuple(nodes)
        self.makers = {y: node for node in nodes for y in node.outputs}
        self.first = _first_of_equals(nodes)
        """For a value that an equal application made before: that one."""

    def made_by(self, x: Array, *kinds: type) -> Node | None:
        """The node that made `x`, if its op is of these kinds."""
        node = self.makers.get(x)
        return node if node is not None and isinstance(node.op, kinds) else None

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
        total = None if node is None else self.log_partition(node.inputs[1])
        if node is None or total is None:
            return None
        given = node.inputs[0]  # with the peak that was subtracted before, or without
        if not (self.same(given, total.node.inputs[0]) or self.same(given, total.logits)):
            return None
        return Softmax(x, self._logits(given), total.axes, node)

    def log_partition(self, x: Array) -> Softmax | None:
        """log Σ e^z, that `x` is, as the softmax that it belongs to; its node is e^z."""
        x = self.strip(x)
        node = self.made_by(x, Log, Add, Select)
        if node is None:
            return None
        if isinstance(node.op, Select):
            return self.log_partition(node.inputs[2])
        if isinstance(node.op, Add):  # the peak, that was subtracted before
            for y, peak in (node.inputs, reversed(node.inputs)):
                if self.made_by(self.unguarded(peak), Max) is not None:
                    return self.log_partition(y)
            return None
        summed = self.made_by(self.unguarded(node.inputs[0]), Sum)
        powers = None if summed is None else self.made_by(self.strip(summed.inputs[0]), Exp)
        if summed is None or powers is None:
            return None
        assert isinstance(summed.op, Sum)
        return Softmax(x, self._logits(powers.inputs[0]), summed.op.axes, powers)

    def is_distance(self, x: Array) -> bool:
        """Whether it is Σ |a - b|ᵖ, or a root or a positive multiple of it."""
        while True:
            node = self.makers.get(self.strip(x))
            if node is None:
                return False
            if isinstance(node.op, Sum):
                break
            if isinstance(node.op, Multiply | Divide):
                rest = [y for y in node.inputs if not self._is_positive(y)]
                if len(rest) != 1 or (isinstance(node.op, Divide) and rest[0] is node.inputs[1]):
                    return False
                x = rest[0]
            elif isinstance(node.op, Sqrt | Add | Select | Maximum):
                rest = [y for y in node.inputs if not self._is_literal(y)]
                if not rest or (isinstance(node.op, Add) and len(rest) > 1):
                    return False
                x = rest[-1]
            else:
                return False
        power = self.makers.get(self.strip(node.inputs[0]))
        if power is None or not self.is_even(power):
            return False
        return self.made_by(self.strip(power.inputs[0]), Subtract) is not None

    def is_even(self, node: Node) -> bool:
        """Whether it is a square or a size."""
        if isinstance(node.op, Multiply):
            return self.same(*node.inputs)
        even = isinstance(node.op, Power) and node.op.exponent == 2
        return even or isinstance(node.op, Square | Absolute)

    def _is_positive(self, x: Array) -> bool:
        node = self.made_by(self.strip(x), Constant)
        return node is not None and isinstance(node.op, Constant) and node.op.value > 0

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

    def partitions(self) -> Iterator[Softmax]:
        """Every log Σ e^z of the program, in order."""
        for node in self.nodes:
            if isinstance(node.op, Log):
                found = self.log_partition(node.outputs[0])
                if found is not None:
                    yield found


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
