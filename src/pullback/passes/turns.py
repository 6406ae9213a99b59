"""A value far wider than what it is made from is made, used and forgotten part by part.

The logits of a large vocabulary are the example: a product makes V numbers a row, a softmax folds
them, their gradient goes into two products, and nothing else reads them. Where each part of such a
value, and of all that is as large, leads to a part of a smaller one or to a term of a sum, a loop
goes through the parts in turn, and no more than one is ever held. Forward and backward lie in one
loop, so nothing is computed twice; where they cannot, the graph stays as it is.

What the parts make keeps its bits. A sum over the cut axis, as the gradient of a weight is, adds
the sums of the parts in order, beginning with 0: a law of its own, which holds where the shapes ask
for parts, whatever the threads and the budget. In half precision these sums are kept in float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from pullback.errors import Phase, Site
from pullback.ir.array import Array
from pullback.ir.graph import Graph, Node, depends_on, needed_nodes
from pullback.ir.op import Op, Parted
from pullback.ir.types import TensorType, is_integer
from pullback.ops.contract import Contract
from pullback.ops.layout import Broadcast, Reshape, Transpose
from pullback.ops.pointwise import Add, Cast, Constant
from pullback.ops.reduce import accumulated
from pullback.ops.scan import Scan

HUGE = 32 * 1024 * 1024
"""Bytes of a value that is worth a loop."""
PART = 8 * 1024 * 1024
"""Bytes of a part that is small enough."""
ROWS = 256
"""Rows of a product that a part must have: with fewer, the weights that every part reads, and the
sums that it writes, take longer than the products."""
WIDER = 4
"""How many times larger the value is than the operand that is cut with it, at least."""


def in_turns(graph: Graph, huge: int = HUGE, part: int = PART, rows: int = ROWS) -> Graph:
    """`graph` with loops over the parts of values of `huge` bytes or more, where that is right."""
    for seed in graph.nodes:
        if isinstance(seed.op, Contract) and seed.outputs[0].type.nbytes >= huge:
            found = _best(graph, seed, part, rows)
            if found is not None:
                return in_turns(found.graph(), huge, part, rows)
    nodes = tuple([_with_body(node, huge, part, rows) for node in graph.nodes])
    return graph if nodes == graph.nodes else replace(graph, nodes=nodes)


def _with_body(node: Node, huge: int, part: int, rows: int) -> Node:
    """A loop with the same done in its body."""
    if not isinstance(node.op, Scan):
        return node
    body = in_turns(node.op.body, huge, part, rows)
    return node if body is node.op.body else replace(node, op=replace(node.op, body=body))


def _best(graph: Graph, seed: Node, part: int, rows: int) -> _Turns | None:
    """The most turns that can be, with the fewest bytes moved besides."""
    found = []
    for axis, count in _cuts(seed, part, rows):
        turns = _Turns(graph, seed, axis, count)
        if turns.settle():
            found.append(turns)
    return min(found, key=lambda turns: (-turns.count, turns.traffic), default=None)


def _cuts(seed: Node, part: int, rows: int) -> Iterator[tuple[int, int]]:
    """Axes of a product along which it is much wider than the operand that has them, and in how
    many parts.
    """
    op, (y, *_) = seed.op, seed.outputs
    if not isinstance(op, Contract) or any(c in op.left and c in op.right for c in op.result):
        return
    for letters, x in zip((op.left, op.right), seed.inputs, strict=True):
        own = [i for i, c in enumerate(op.result) if c in letters]
        whole = math.prod([y.shape[i] for i in own])
        most = min(-(-y.type.nbytes // part), whole // rows)
        for axis in own if y.type.size > WIDER * x.type.size else ():
            count = max((n for n in range(2, most + 1) if y.shape[axis] % n == 0), default=1)
            if count > 1:
                yield axis, count


# ---- what belongs to the loop ---------------------------------------------------------------


@dataclass
class _Turns:
    """The nodes that a loop over the parts of one value takes in, and how each is cut."""

    given: Graph
    seed: Node
    axis: int
    count: int
    axes: dict[Array, int] = field(default_factory=dict)
    """For each value that is cut the axis."""
    inside: dict[Node, Op] = field(default_factory=dict)
    """For each node of the loop the op that makes a part of its output, or a term of it."""
    sums: dict[Array, None] = field(default_factory=dict)
    whole: set[Array] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.maker = {y: node for node in self.given.nodes for y in node.outputs}
        self.ends = set(self.given.outputs)
        self.readers: dict[Array, list[Node]] = {}
        for node in self.given.nodes:
            for x in dict.fromkeys(node.inputs):
                self.readers.setdefault(x, []).append(node)

    def settle(self) -> bool:
        """Find all that belongs to the loop; whether there is a way to cut it."""
        (y,) = self.seed.outputs
        try:
            pending = self._cut(y, self.axis)
            while pending:
                while pending:
                    pending += self._take(pending.pop())
                pending = self._between()
        except _Uncut:
            return False
        return self._is_closed()

    def _cut(self, x: Array, axis: int) -> list[Node]:
        """Cut a value; the nodes that come into the loop with it, if it is a large one."""
        if x in self.axes:
            if self.axes[x] != axis:
                raise _Uncut
            return []
        if x.shape[axis] % self.count:
            raise _Uncut
        self.axes[x] = axis
        if x not in self.maker or not self._is_large(x):
            return []
        if x in self.ends:
            raise _Uncut
        return [self.maker[x], *self.readers.get(x, ())]

    def _is_large(self, x: Array) -> bool:
        return 2 * x.type.size >= self.seed.outputs[0].type.size

    def _take(self, node: Node) -> list[Node]:
        """Take a node into the loop: how it is cut follows from what is cut already."""
        if node in self.inside:
            return []
        if len(node.outputs) != 1 or not node.inputs:
            raise _Uncut
        (y,) = node.outputs
        axis, (op, places) = self._way(node)
        self.inside[node] = op
        pending = []
        if axis is None:
            self.sums[y] = None
        else:
            pending += self._cut(y, axis)
        for x, place in zip(node.inputs, places, strict=True):
            if place is None:
                self.whole.add(x)
            else:
                pending += self._cut(x, place)
        return pending

    def _way(self, node: Node) -> tuple[int | None, Parted]:
        """The axis along which an output is cut, or None where parts add up to it; and how."""
        (y,) = node.outputs
        types = [x.type for x in node.inputs]
        known = [(i, self.axes[x]) for i, x in enumerate(node.inputs) if x in self.axes]
        for axis in [self.axes[y]] if y in self.axes else range(y.ndim):
            if y.shape[axis] > 1 and y.shape[axis] % self.count == 0:
                parted = node.op.parted(axis, self.count, *types)
                if parted is not None and all(parted[1][i] == a for i, a in known):
                    return axis, parted
        summed = node.op.summed(*known[0]) if known and y not in self.axes else None
        if summed is None:
            raise _Uncut
        return None, (node.op, summed)

    def _between(self) -> list[Node]:
        """Nodes outside that need one of the loop and are needed by one."""
        made = [y for node in self.inside for y in node.outputs]
        after = depends_on(self.given.nodes, made)
        read = [x for node in self.inside for x in node.inputs]
        before = needed_nodes(self.given.nodes, read)
        return [
            node for node in before if node not in self.inside and not after.isdisjoint(node.inputs)
        ]

    def _is_closed(self) -> bool:
        """Whether nothing in the loop reads the whole of what only its parts make."""
        read = {x for node in self.inside for x in node.inputs}
        return self.whole.isdisjoint(self.axes) and read.isdisjoint(self.sums)

    # ---- its price ----

    @property
    def traffic(self) -> int:
        """Bytes that the loop moves and the graph does not: sums in each turn, and copies."""
        ends = [*self.rows, *self.results]
        copied = [x.type.nbytes for x in ends if self.axes[x]]
        return 2 * (self.count * sum(y.type.nbytes for y in self.sums) + sum(copied))

    # ---- what it reads and gives ----

    @property
    def nodes(self) -> list[Node]:
        return [node for node in self.given.nodes if node in self.inside]

    @property
    def rows(self) -> list[Array]:
        """Values made outside that the loop takes part by part."""
        read = dict.fromkeys(x for node in self.nodes for x in node.inputs)
        return [x for x in read if x in self.axes and self.maker.get(x) not in self.inside]

    @property
    def constants(self) -> list[Array]:
        """Values that each turn reads whole, but for those that are part of the code."""
        read = dict.fromkeys(x for node in self.nodes for x in node.inputs if x in self.whole)
        return [x for x in read if not self._is_free(x)]

    def _is_free(self, x: Array) -> bool:
        return x in self.maker and not self.maker[x].inputs

    @property
    def results(self) -> list[Array]:
        """What is made in the loop and read outside."""
        made = [y for node in self.nodes for y in node.outputs if y in self.axes]
        outside = set(self.ends)
        for y in made:
            outside.update([y for node in self.readers.get(y, ()) if node not in self.inside])
        return [y for y in made if y in outside]

    def graph(self) -> Graph:
        """The graph with the loop, where the last of its nodes stood."""
        late = depends_on(self.given.nodes, [y for node in self.inside for y in node.outputs])
        last = self.given.nodes.index(self.nodes[-1])
        before: list[Node] = []
        after: list[Node] = []
        for i, node in enumerate(self.given.nodes):
            if node not in self.inside:
                early = i < last and late.isdisjoint(node.outputs)
                (before if early else after).append(node)
        return Graph(self.given.inputs, (*before, *_Loop(self).nodes(), *after), self.given.outputs)


class _Uncut(Exception):
    """A node or a value that the loop needs and cannot cut."""


# ---- the loop -------------------------------------------------------------------------------


class _Loop:
    """Writes the nodes of a loop, and of what brings its operands and results in place."""

    def __init__(self, turns: _Turns) -> None:
        self.turns = turns
        self.made: list[Node] = []
        phases = {node.site.phase for node in turns.nodes}
        phase = Phase.BACKWARD if Phase.BACKWARD in phases else turns.seed.site.phase
        self.site = turns.seed.site.during(phase)

    def nodes(self) -> list[Node]:
        turns = self.turns
        starts = [self._zeros(self._sum_type(y)) for y in turns.sums]
        rows = [self._apart(x, turns.axes[x]) for x in turns.rows]
        constants = turns.constants
        loop = Scan(self._body(), len(constants), len(starts), turns.count)
        made = self._apply(loop, [*constants, *starts, *rows], self.site)
        for y, total in zip(turns.sums, made, strict=False):
            self._give(self._whole_sum(y, total), y)
        for y, parts in zip(turns.results, made[len(starts) :], strict=True):
            self._give(self._together(parts, turns.axes[y]), y)
        return self.made

    def _body(self) -> Graph:
        """One turn: (constants, sums so far, parts) → (sums, parts of the results)."""
        turns, inner = self.turns, _Loop(self.turns)
        constants = {x: self._like(x.type) for x in turns.constants}
        sums = {y: self._like(self._sum_type(y)) for y in turns.sums}
        rows = {x: self._like(self._part_type(x)) for x in turns.rows}
        inputs = (*constants.values(), *sums.values(), *rows.values())
        known = constants | rows
        for node in turns.given.nodes:
            if not node.inputs:
                known |= zip(node.outputs, inner._apply(node.op, [], node.site), strict=True)
            elif node in turns.inside:
                (y,) = node.outputs
                operands = [known[x] for x in node.inputs]
                if y in sums:
                    known[y] = inner._term(node, operands, sums[y])
                else:
                    (known[y],) = inner._apply(turns.inside[node], operands, node.site)
        outputs = tuple([known[y] for y in (*turns.sums, *turns.results)])
        return Graph(inputs, needed_nodes(inner.made, outputs), outputs)

    def _term(self, node: Node, operands: Sequence[Array], before: Array) -> Array:
        """The sum so far and what one part adds to it."""
        wide = [
            self._one(Cast(before.dtype), [x], node.site) if x.dtype != before.dtype else x
            for x in operands
        ]
        return self._one(Add(), [before, self._one(node.op, wide, node.site)], node.site)

    # ---- parts of values ----

    def _sum_type(self, y: Array) -> TensorType:
        return y.type.of(accumulated(y.dtype))

    def _part_type(self, x: Array) -> TensorType:
        axis, shape = self.turns.axes[x], list(x.shape)
        shape[axis] //= self.turns.count
        return x.type.reshaped(tuple(shape))

    def _apart(self, x: Array, axis: int) -> Array:
        """A value as rows, each a part of it along an axis."""
        count, shape = self.turns.count, x.shape
        split = (*shape[:axis], count, shape[axis] // count, *shape[axis + 1 :])
        parts = self._one(Reshape(split), [x], self.site)
        order = (axis, *[i for i in range(len(split)) if i != axis])
        return parts if axis == 0 else self._one(Transpose(order), [parts], self.site)

    def _together(self, parts: Array, axis: int) -> Node:
        """The value that has the rows as its parts along an axis."""
        order = (*range(1, axis + 1), 0, *range(axis + 1, parts.ndim))
        moved = parts if axis == 0 else self._one(Transpose(order), [parts], self.site)
        shape = list(moved.shape)
        shape[axis : axis + 2] = [shape[axis] * shape[axis + 1]]
        return Node(Reshape(tuple(shape)), (moved,), (), self.site)

    def _zeros(self, kind: TensorType) -> Array:
        zero = self._one(Constant(0 if is_integer(kind.dtype) else 0.0, kind.dtype), [], self.site)
        return self._one(Broadcast(kind.shape, tuple(range(kind.ndim))), [zero], self.site)

    def _whole_sum(self, y: Array, total: Array) -> Node:
        op = Reshape(y.shape) if y.dtype == total.dtype else Cast(y.dtype)
        return Node(op, (total,), (), self.site)

    # ---- nodes ----

    def _give(self, last: Node, y: Array) -> None:
        """Let a node make a value that the graph knows."""
        self.made.append(replace(last, outputs=(y,)))

    def _one(self, op: Op, inputs: Sequence[Array], site: Site) -> Array:
        return self._apply(op, inputs, site)[0]

    def _apply(self, op: Op, inputs: Sequence[Array], site: Site) -> tuple[Array, ...]:
        outputs = tuple([self._like(kind) for kind in op.output_types(*[x.type for x in inputs])])
        self.made.append(Node(op, tuple(inputs), outputs, site))
        return outputs

    def _like(self, kind: TensorType) -> Array:
        return Array(kind, None, self.turns.seed.outputs[0].trace)
