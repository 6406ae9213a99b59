"""What the forward pass keeps for the backward one.

A value that the backward pass needs is kept, or computed again from values that are kept. The kept
ones are a minimum cut: of all that was computed before the first cotangent, the cut between what is
given (inputs, results of costly ops) and what the backward pass asks for. A value costs what it
takes to keep it: bytes written, read, and held; or what it takes to compute it again. Inside a
kernel that is next to nothing for elementwise work; a product is computed again only where it makes
more than it takes, as the scores of attention do.

What is computed again stands behind a `Barrier` that also takes a value of the backward pass: it
cannot begin earlier, and nothing merges it with the first computation. The same ops on the same
operands: the bits are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pullback.errors import Phase
from pullback.ir.array import Array
from pullback.ir.families import Elementwise
from pullback.ir.graph import Graph, Node, needed_nodes
from pullback.ops.contract import Contract
from pullback.ops.layout import Layout
from pullback.ops.reduce import Reduction
from pullback.ops.remat import Barrier
from pullback.passes.cut import UNLIMITED, Network

SMALL = 64 * 1024
"""Bytes of a value that is kept for nothing: it stays in a cache, or is one of few."""
HELD = 4
"""A byte held until the backward pass weighs as much as so many that are moved: memory limits what
can be trained at all."""
PRODUCTS = 16
"""Operations of a product in the time that a byte takes to or from main memory."""
ELEMENTWISE = 6
"""The same for elementwise work inside a kernel."""


def choose_saved(graph: Graph) -> Graph:
    """`graph` with cheap values computed again in the backward pass instead of kept for it."""
    early = _Early(graph)
    if not early.needed:
        return graph
    again = early.computed_again()
    if not again:
        return graph
    return _Recording(early, again).graph()


# ---- what could be kept ---------------------------------------------------------------------


@dataclass
class _Early:
    """What depends on no cotangent, and who needs it when there are cotangents."""

    graph: Graph
    root: dict[Array, Array] = field(default_factory=dict)
    """The value that a value is a view of."""
    maker: dict[Array, Node] = field(default_factory=dict)
    """The node of each early value that is no view."""
    cheap: set[Array] = field(default_factory=set)
    """Those that may be computed again."""
    trigger: dict[Node, Array] = field(default_factory=dict)
    """For each node that waits for a cotangent the last result of a costly one before it."""
    needed: dict[Array, bool] = field(default_factory=dict)
    """Early values that such a node reads, and whether one reads them from memory."""
    in_memory: set[Array] = field(default_factory=set)
    """Values that lie in main memory anyway: costly ops read them, or later kernels do."""

    def __post_init__(self) -> None:
        self.given = set(self.graph.inputs)
        late: set[Array] = set()
        depth: dict[Array, int] = {}
        trigger: Array | None = None
        for node in self.graph.nodes:
            backward = node.site.phase is Phase.BACKWARD
            cheap = _is_cheap(node)
            if (backward and not cheap) or not late.isdisjoint(node.inputs):
                late.update(node.outputs)
                if trigger is not None:
                    self.trigger[node] = trigger
                    self._need(node, cheap, late)
                if not cheap:
                    trigger = node.outputs[0]
            elif _is_view(node):
                self.root[node.outputs[0]] = self.root.get(node.inputs[0], node.inputs[0])
            else:
                self._add(node, cheap, depth)
        self.in_memory.update([self.root.get(x, x) for x in self.graph.outputs])

    def _need(self, node: Node, cheap: bool, late: set[Array]) -> None:
        for x in node.inputs:
            if x not in late:
                value = self.root.get(x, x)
                if not cheap and _reads_memory(node, x):
                    self.needed[value] = True
                else:
                    self.needed.setdefault(value, False)

    def _add(self, node: Node, cheap: bool, depth: dict[Array, int]) -> None:
        """An early node; its depth is the number of costly ones that end before it does."""
        again = cheap or _makes_more(node)
        roots = [self.root.get(x, x) for x in node.inputs]
        here = max([depth.get(x, 0) for x in roots], default=0) + (not again)
        for x, value in zip(node.inputs, roots, strict=True):
            if depth.get(value, 0) < here and (cheap or _reads_memory(node, x)):
                self.in_memory.add(value)
        for y in node.outputs:
            self.maker[y] = node
            depth[y] = here
            if again:
                self.cheap.add(y)

    def again(self, x: Array) -> bool:
        """Whether a value can be computed again at all."""
        return x in self.cheap

    # ---- the cut ----

    def computed_again(self) -> set[Array]:
        """The needed values that are not kept, and all that they are computed from."""
        network, ends = Network(), {}
        source, sink = network.node(), network.node()
        for x in self._open():
            ends[x] = network.node(), network.node()
        for x, (entry, leave) in ends.items():
            network.connect(source, entry, self._again_price(x) if self.again(x) else UNLIMITED)
            network.connect(entry, leave, self._keep_price(x))
            if x in self.needed:
                network.connect(leave, sink, UNLIMITED)
            for operand in self._operands(x) if self.again(x) else ():
                if operand in ends:
                    network.connect(ends[operand][1], entry, UNLIMITED)
        near = network.near(source, sink)
        return {x for x, (entry, _) in ends.items() if entry not in near}

    def _open(self) -> list[Array]:
        """The needed values that may be computed again, and what they could be computed from."""
        seen = dict.fromkeys(x for x in self.needed if not self._is_kept(x))
        pending = list(seen)
        while pending:
            x = pending.pop()
            if self.again(x):
                new = [y for y in self._operands(x) if y not in seen and not self._is_kept(y)]
                seen.update(dict.fromkeys(new))
                pending += new
        return list(seen)

    def _is_kept(self, x: Array) -> bool:
        """Whether a value is kept in any case: for nothing, or because there is no other way."""
        return not self._keep_price(x) or (x in self.needed and not self.again(x))

    def _operands(self, x: Array) -> Iterator[Array]:
        return (self.root.get(each, each) for each in self.maker[x].inputs)

    def _keep_price(self, x: Array) -> int:
        if x.type.nbytes < SMALL:
            return 0
        if x in self.given:
            return x.type.nbytes
        return x.type.nbytes * (2 if x in self.in_memory else 2 + HELD)

    def _again_price(self, x: Array) -> int:
        node = self.maker[x]
        types = [[each.type for each in values] for values in (node.inputs, node.outputs)]
        speed = PRODUCTS if isinstance(node.op, Contract) else ELEMENTWISE
        written = 2 * x.type.nbytes if self.needed.get(x) else 0
        return 1 + node.op.flops(*types) // speed + written


def _is_view(node: Node) -> bool:
    return isinstance(node.op, Layout) and node.op.is_view


def _is_cheap(node: Node) -> bool:
    """Whether a kernel can do it by the way."""
    return isinstance(node.op, (Elementwise, Reduction)) or not node.inputs or _is_view(node)


def _has_batch(op: Contract) -> bool:
    return any(c in op.left and c in op.right for c in op.result)


def _makes_more(node: Node) -> bool:
    """Whether a product, batch by batch, makes more bytes than it takes."""
    if not isinstance(node.op, Contract) or not _has_batch(node.op):
        return False
    return node.outputs[0].type.nbytes > sum(x.type.nbytes for x in node.inputs)


def _reads_memory(node: Node, x: Array) -> bool:
    """Whether a costly op reads its operand from main memory, not in a kernel of several."""
    small = x.type.nbytes <= node.outputs[0].type.nbytes if node.outputs else True
    return small or not (isinstance(node.op, Contract) and _has_batch(node.op))


# ---- the graph with the copies --------------------------------------------------------------


class _Recording:
    """Records the graph again, with copies of nodes right before they are needed."""

    def __init__(self, early: _Early, again: set[Array]) -> None:
        self.early = early
        self.nodes: list[Node] = []
        self.maker = {y: node for node in early.graph.nodes for y in node.outputs}
        self.copies: dict[Array, Array] = {}
        self.gone = again | {x for x, value in early.root.items() if value in again}
        """What is computed again, and the views of it."""

    def graph(self) -> Graph:
        given = self.early.graph
        for node in given.nodes:
            trigger = self.early.trigger.get(node)
            self.nodes.append(node if trigger is None else self._fed(node, trigger))
        nodes = needed_nodes(self.nodes, given.outputs)
        return Graph(given.inputs, nodes, given.outputs)

    def _fed(self, node: Node, trigger: Array) -> Node:
        """A node of the backward pass, on copies of what was not kept for it."""
        if self.gone.isdisjoint(node.inputs):
            return node
        self._copy([x for x in node.inputs if x in self.gone], trigger)
        inputs = tuple([self.copies[x] if x in self.gone else x for x in node.inputs])
        return Node(node.op, inputs, node.outputs, node.site)

    def _copy(self, values: Iterable[Array], trigger: Array) -> None:
        """Copies of values that are computed again, from kept ones behind a barrier."""
        nodes, kept = self._missing(values)
        held = [x for x in kept if x not in self.copies]
        if held:
            site = nodes[-1].site.during(Phase.BACKWARD)
            results = [self._like(x) for x in (*held, trigger)]
            self.nodes.append(Node(Barrier(), (*held, trigger), tuple(results), site))
            self.copies.update(zip(held, results, strict=False))
        for node in nodes:
            inputs = tuple([self.copies.get(x, x) for x in node.inputs])
            outputs = tuple([self._like(y) for y in node.outputs])
            self.copies.update(zip(node.outputs, outputs, strict=True))
            site = node.site.during(Phase.BACKWARD)
            self.nodes.append(Node(node.op, inputs, outputs, site))

    def _missing(self, values: Iterable[Array]) -> tuple[list[Node], list[Array]]:
        """The nodes to copy, in order, and the kept values that they read."""
        nodes: dict[Node, None] = {}
        kept: dict[Array, None] = {}
        pending = [(x, False) for x in values]
        while pending:
            x, ready = pending.pop()
            if ready:
                nodes[self.maker[x]] = None
            elif x in self.gone:
                if x not in self.copies:
                    pending.append((x, True))
                    pending += [(operand, False) for operand in self.maker[x].inputs]
            else:
                kept[x] = None
        return list(nodes), [x for x in kept if self._is_held(x)]

    def _is_held(self, x: Array) -> bool:
        """Literals need no barrier: they are part of the code."""
        node = self.maker.get(x)
        return node is None or bool(node.inputs)

    def _like(self, x: Array) -> Array:
        return Array(x.type, None, x.trace)
