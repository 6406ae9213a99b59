"""What a loop stacks for another one that could compute it in its own step.

The backward loop reads, row by row, what the forward loop stacked: derivatives such as y and 1 − y²
side by side. What is cheap elementwise work on other rows that the reader has is done there: the
one loop need not write it, the other need not read it, and nothing holds it in between. The same
ops on the same operands: the bits are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pullback.ir.array import Array
from pullback.ir.costly import has_costly_body
from pullback.ir.families import Elementwise
from pullback.ir.graph import Graph, Node, needed_nodes
from pullback.ops.pointwise import Constant
from pullback.ops.scan import Scan


def unstacked(graph: Graph) -> Graph:
    """`graph` whose loops stack no row that its reader can compute, and none that nobody reads."""
    makers = {y: node for node in graph.nodes for y in node.outputs if isinstance(node.op, Scan)}
    if not makers:
        return graph
    nodes = [_reading_less(n, makers) if isinstance(n.op, Scan) else n for n in graph.nodes]
    used = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(nodes):
        less = _stacking_less(node, used) if isinstance(node.op, Scan) else node
        used.update(less.inputs)
        kept.append(less)
    kept.reverse()
    if all(new is old for new, old in zip(kept, graph.nodes, strict=True)):
        return graph
    return Graph(graph.inputs, needed_nodes(kept, graph.outputs), graph.outputs)


def _stacking_less(node: Node, used: set[Array]) -> Node:
    """A loop without the rows that nobody reads."""
    op = node.op
    assert isinstance(op, Scan)
    ends = list(zip(op.body.outputs, node.outputs, strict=True))
    rows = [pair for pair in ends[op.carries :] if pair[1] in used]
    if len(rows) == len(ends) - op.carries:
        return node
    inside, outside = zip(*ends[: op.carries], *rows, strict=True) if ends else ((), ())
    body = Graph(op.body.inputs, needed_nodes(op.body.nodes, inside), inside)
    return Node(replace(op, body=body), node.inputs, outside, node.site)


def _reading_less(node: Node, makers: Mapping[Array, Node]) -> Node:
    """A loop that computes rows from others where it can."""
    op = node.op
    assert isinstance(op, Scan)
    first = op.constants + op.carries
    rows = dict(zip(node.inputs[first:], op.body.inputs[first:], strict=True))
    made: list[Node] = []
    gone: set[Array] = set()
    for maker in dict.fromkeys([makers[x] for x in rows if x in makers]):
        step = _Step.of(maker, rows)
        gone |= step.computed()
        made += step.nodes
    if not gone:
        return node
    kept = [
        (x, y)
        for i, (x, y) in enumerate(zip(node.inputs, op.body.inputs, strict=True))
        if i < first or y not in gone
    ]
    outside, inside = zip(*kept, strict=True)
    body = Graph(inside, (*made, *op.body.nodes), op.body.outputs)
    return Node(replace(op, body=body), outside, node.outputs, node.site)


@dataclass
class _Step:
    """A step of the loop that stacked the rows; `seen` gives for its values those of the reader."""

    makers: dict[Array, Node]
    seen: dict[Array, Array]
    nodes: list[Node] = field(default_factory=list)

    @classmethod
    def of(cls, maker: Node, rows: Mapping[Array, Array]) -> _Step:
        op = maker.op
        assert isinstance(op, Scan)
        stacked = zip(op.body.outputs[op.carries :], maker.outputs[op.carries :], strict=True)
        seen = {inner: rows[outer] for inner, outer in stacked if outer in rows}
        return cls({y: node for node in op.body.nodes for y in node.outputs}, seen)

    def computed(self) -> set[Array]:
        """The rows of the reader that its step computes from now on, by `nodes`.

        In the order of the first computation: what one is made of is a row, or there already.
        """
        order = {y: i for i, y in enumerate(self.makers)}
        rows = sorted((y for y in self.seen if y in order), key=order.__getitem__, reverse=True)
        gone = [y for y in rows if self._derivable(self.makers[y])]
        targets = [self.seen.pop(y) for y in gone]
        for y, target in zip(reversed(gone), reversed(targets), strict=True):
            self._compute(self.makers[y], target)
        return set(targets)

    def _derivable(self, node: Node) -> bool:
        """Whether cheap work on rows, and on nothing else, makes the result of a node."""
        return _is_cheap(node) and all(
            x in self.seen or (x in self.makers and self._derivable(self.makers[x]))
            for x in node.inputs
        )

    def _compute(self, node: Node, target: Array | None = None) -> Array:
        (y,) = node.outputs
        inputs = tuple(
            [self.seen[x] if x in self.seen else self._compute(self.makers[x]) for x in node.inputs]
        )
        made = Array(y.type, None, y.trace) if target is None else target
        self.nodes.append(Node(node.op, inputs, (made,), node.site))
        self.seen[y] = made
        return made


def _is_cheap(node: Node) -> bool:
    if isinstance(node.op, Constant):
        return True
    op = node.op
    return isinstance(op, Elementwise) and not has_costly_body(op.body, len(node.inputs))
