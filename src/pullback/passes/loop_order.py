"""Sums over the steps of a loop are added in the order of the loop.

The gradient of a weight is a sum over the rows that the backward loop stacks, from the last step to
the first. A product that adds them in that order can go on while the loop runs, segment by segment,
and so needs none of the rows later: see `segments`. Whether it does is decided by a budget; the
order, and so the bits, are the same in any case.

The law: a product that sums over the steps of a loop goes through them in the order in which the
loop did, and through the other axes that it sums over inside each, in the same direction. A sum
over the steps and other axes is a sum over these in each step, and then one over the steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pullback.errors import Phase
from pullback.ir.array import Array
from pullback.ir.graph import Graph, Node, needed_nodes
from pullback.ir.op import Op
from pullback.ir.types import Axes
from pullback.ops.contract import Contract
from pullback.ops.layout import Flip, Transpose
from pullback.ops.pointwise import Cast
from pullback.ops.reduce import Sum, accumulated
from pullback.ops.scan import Scan

LONG = 4
"""The steps of a loop whose sums are worth an order of their own."""


def in_loop_order(graph: Graph) -> Graph:
    """`graph` whose sums over the steps of a backward loop follow the loop."""
    loops = [node for node in graph.nodes if _is_backward_loop(node)]
    if not loops:
        return graph
    found = _Order(graph, loops)
    nodes = [each for node in graph.nodes for each in found.written(node)]
    if len(nodes) == len(graph.nodes):
        return graph
    nodes = [found.loops.get(node, node) for node in nodes]
    return Graph(graph.inputs, needed_nodes(nodes, graph.outputs), graph.outputs)


def _is_backward_loop(node: Node) -> bool:
    op = node.op
    return isinstance(op, Scan) and op.length >= LONG and node.site.phase is Phase.BACKWARD


class _Order:
    """Writes sums over the steps of loops; `loops` are those that stack sums of each step too."""

    def __init__(self, graph: Graph, loops: list[Node]) -> None:
        self.loops: dict[Node, Node] = {}
        self.rows: dict[Array, tuple[Node, Axes]] = {}
        """For rows that a loop stacks, and views of them: the loop, and for each axis that of the
        stacked rows."""
        stacked = {y: node for node in loops for y in _stacked(node)}
        self.root: dict[Array, Array] = {}
        for y, node in stacked.items():
            self.rows[y], self.root[y] = (node, tuple(range(y.ndim))), y
        for node in graph.nodes:
            if isinstance(node.op, Transpose) and node.inputs[0] in self.rows:
                (x,), (y,) = node.inputs, node.outputs
                loop, axes = self.rows[x]
                self.rows[y] = loop, tuple([axes[i] for i in node.op.permutation])
                self.root[y] = self.root[x]

    def written(self, node: Node) -> Iterator[Node]:
        op = node.op
        if isinstance(op, Contract):
            yield from self._product(op, node)
        elif isinstance(op, Sum) and node.inputs[0] in self.rows and len(op.axes) > 1:
            yield from self._sum(op, node)
        else:
            yield node

    # ---- products ----

    def _product(self, op: Contract, node: Node) -> Iterator[Node]:
        """The same product, its summed axes in another order."""
        summed = [c for c in op.left if c in op.right and c not in op.result]
        step = self._letter_of_steps(op, node)
        if step is None:
            yield node
            return
        letter, backwards = step
        order = [letter, *[c for c in summed if c != letter]]
        letters = []
        operands = []
        for given, x in zip((op.left, op.right), node.inputs, strict=True):
            new = "".join([*order, *[c for c in given if c not in order]])
            for view in self._views(given, new, len(order) if backwards else 0):
                y = Array(view.output_types(x.type)[0], None, x.trace)
                yield Node(view, (x,), (y,), node.site)
                x = y
            letters.append(new)
            operands.append(x)
        yield Node(
            Contract(letters[0], letters[1], op.result), tuple(operands), node.outputs, node.site
        )

    def _letter_of_steps(self, op: Contract, node: Node) -> tuple[str, bool] | None:
        """The summed letter that stands for the steps of a loop, and whether it runs backwards."""
        for letters, x in reversed(list(zip((op.left, op.right), node.inputs, strict=True))):
            if x in self.rows:
                loop, axes = self.rows[x]
                letter = letters[axes.index(0)]
                if letter in op.left and letter in op.right and letter not in op.result:
                    assert isinstance(loop.op, Scan)
                    return letter, loop.op.reverse
        return None

    @staticmethod
    def _views(given: str, new: str, flipped: int) -> Iterator[Op]:
        if new != given:
            yield Transpose(tuple([given.index(c) for c in new]))
        if flipped:
            yield Flip(tuple(range(flipped)))

    # ---- sums ----

    def _sum(self, op: Sum, node: Node) -> Iterator[Node]:
        """The loop sums in each step; what is left is a sum over the steps."""
        (x,), (y,) = node.inputs, node.outputs
        loop, axes = self.rows[x]
        if axes.index(0) not in op.axes:
            yield node
            return
        inner = tuple(sorted([axes[a] - 1 for a in op.axes if axes[a]]))
        rows = self._sums_of_steps(loop, self.root[x], inner)
        kept = sorted([axes[a] for a in range(x.ndim) if a not in op.axes])
        wanted = [axes[a] for a in range(x.ndim) if a not in op.axes]
        total = Array(rows.type.without((0,)), None, y.trace)
        made = [Node(Sum((0,)), (rows,), (total,), node.site)]
        if kept != wanted:
            order = Transpose(tuple([kept.index(a) for a in wanted]))
            turned = Array(order.output_types(total.type)[0], None, y.trace)
            made.append(Node(order, (total,), (turned,), node.site))
        if total.dtype != y.dtype:
            last = made[-1].outputs[0]
            made.append(Node(Cast(y.dtype), (last,), (y,), node.site))
        made[-1] = replace(made[-1], outputs=(y,))
        yield from made

    def _sums_of_steps(self, loop: Node, rows: Array, axes: Axes) -> Array:
        """The sums over some axes of what each step stacks, stacked by the loop itself."""
        node = self.loops.get(loop, loop)
        op = node.op
        assert isinstance(op, Scan)
        body = op.body
        (row,) = [
            inner
            for inner, outer in zip(body.outputs[op.carries :], _stacked(loop), strict=False)
            if outer is rows
        ]
        added = list(body.nodes)
        wide = accumulated(row.dtype)
        if wide != row.dtype:
            cast = Array(row.type.of(wide), None, row.trace)
            added.append(Node(Cast(wide), (row,), (cast,), node.site))
            row = cast
        total = Array(row.type.without(axes), None, row.trace)
        added.append(Node(Sum(axes), (row,), (total,), node.site))
        stacked = Array(total.type.reshaped((op.length, *total.shape)), None, rows.trace)
        inside = Graph(body.inputs, tuple(added), (*body.outputs, total))
        self.loops[loop] = Node(
            replace(op, body=inside), node.inputs, (*node.outputs, stacked), node.site
        )
        return stacked


def _stacked(node: Node) -> tuple[Array, ...]:
    assert isinstance(node.op, Scan)
    return node.outputs[node.op.carries :]
