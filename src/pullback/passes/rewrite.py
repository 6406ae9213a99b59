"""The engine of the passes: one sweep that records a graph again and rewrites as it records.

A `Sweep` is a builder. Each node of the graph is offered to the rewrites of its op class; what they
make of it is recorded in the same builder, and so rewritten in turn. The operands of a node are in
their final form before the node is looked at: one sweep reaches the fixpoint of all rewrites that
look at a node and the nodes that made its operands.

Every sweep also merges equal applications and drops the nodes that nothing needs. A value that
keeps its meaning keeps its identity, so an unchanged graph is returned as it is.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

from pullback._settings import settings
from pullback.errors import PassError, Site
from pullback.ir.array import Array
from pullback.ir.builder import Builder, at_work
from pullback.ir.graph import Graph, Node, needed_nodes
from pullback.ir.op import HigherOrder, Op
from pullback.ops.layout import Broadcast, Flip, Reshape, Slice, Transpose
from pullback.ops.operators import broadcast_to
from pullback.ops.pointwise import Constant
from pullback.ops.remat import Barrier

Result = Array | tuple[Array, ...] | None

DEPTH = 64
"""How many rewrites may stand inside each other. Each makes a graph smaller or sinks a layout, so
they end; the bound is for a pair of rules that undo each other."""

REARRANGING = (Broadcast, Flip, Reshape, Slice, Transpose)
"""Layouts that add no element of their own: of equal elements they make equal elements."""


class Spread:
    """The head of a literal that fills an array."""


LITERAL = (Constant, Spread)

Head = type[Op] | type[Spread] | None
Heads = tuple[Head, ...]
"""What made each operand of an application: an op, or `Spread`; None for an input."""


class Rewrite(Protocol):
    """Something better for an application, or None."""

    @property
    def name(self) -> str: ...

    def at(self, op: type[Op], heads: Heads) -> Rewrite | None:
        """What of it may apply to such applications, if anything; this is asked once for each."""
        ...

    def __call__(self, sweep: Sweep, op: Any, inputs: tuple[Array, ...]) -> Result: ...


Makers = type[Op] | tuple[type[Op] | type[Spread], ...]


@dataclass(frozen=True, eq=False)
class Local:
    """A rewrite written out: `function(sweep, op, *inputs)`, of a `root` on something `of` made.

    Where it is `throughout`, `of` made every operand.
    """

    root: type[Op]
    of: Makers
    function: Callable[..., Result]
    throughout: bool = False

    @property
    def name(self) -> str:
        return self.function.__name__

    def at(self, op: type[Op], heads: Heads) -> Local | None:
        if not issubclass(op, self.root):
            return None
        fitting = [head is not None and issubclass(head, self.of) for head in heads]
        fits = all(fitting) if self.throughout else any(fitting)
        return self if fits or not self.of else None

    def __call__(self, sweep: Sweep, op: Any, inputs: tuple[Array, ...]) -> Result:
        return self.function(sweep, op, *inputs)


def rewrites(
    root: type[Op], of: Makers = (), throughout: bool = False
) -> Callable[[Callable[..., Result]], Local]:
    """The decorator of a `Local` rewrite."""
    return lambda function: Local(root, of, function, throughout)


class Rewrites:
    """Rewrites, found by the op and by the ops that made its operands."""

    def __init__(self, *every: Rewrite) -> None:
        self.every = tuple(dict.fromkeys(every))
        self._for: dict[tuple[type[Op], Heads], tuple[Rewrite, ...]] = {}

    def of(self, op: type[Op], heads: Heads) -> tuple[Rewrite, ...]:
        """Those that may apply, in order."""
        found = self._for.get((op, heads))
        if found is None:
            parts = [each.at(op, heads) for each in self.every]
            found = self._for[op, heads] = tuple([part for part in parts if part is not None])
        return found


def sweep(graph: Graph, using: Rewrites) -> Graph:
    """`graph` rewritten, without equal applications and without nodes that nothing needs."""
    return Sweep(graph, using).run()


ROUNDS = 8
"""Two do; the bound is for rewrites that undo each other."""


def settled(graph: Graph, using: Rewrites) -> Graph:
    """`graph` in the form that no rewrite changes."""
    for _ in range(ROUNDS):
        once = Sweep(graph, using)
        graph = once.run()
        if once.is_settled:
            break
    return graph


class Sweep(Builder):
    """A builder that rewrites each application as it records it."""

    def __init__(self, graph: Graph, using: Rewrites) -> None:
        super().__init__(None, evaluating=False)
        self.graph = graph
        self.using = using
        self.made_by: dict[Array, Node] = {}
        self.literals: dict[Array, Constant] = {}
        self._heads: dict[Array, Head] = {}
        self._free: set[Array] = set()
        self._known: dict[object, list[tuple[Array, ...]]] = {}
        self._pending = needed_nodes(graph.nodes, graph.outputs)
        self._uses = _uses(self._pending, graph.outputs)
        self._refused: set[Array] = set()
        self._ended_early = False
        self._bodies: dict[Graph, Graph] = {}
        self._barriers = 0
        self._depth = 0

    def run(self) -> Graph:
        env: dict[Array, Array] = {}
        with at_work(self):
            for node in self._pending:
                given = node.inputs
                changed = not env.keys().isdisjoint(given)
                inputs = tuple([env.get(x, x) for x in given]) if changed else given
                self.inherited = node.site
                made = self._visit(node, inputs)
                if made is not node.outputs:
                    self._replace(node, made, env)
        outputs = tuple([env.get(x, x) for x in self.graph.outputs])
        nodes = needed_nodes(self.nodes, outputs)
        if self._refused:
            uses = _uses(nodes, outputs)
            self._refused = {x for x in self._refused if uses[x] == 1}
        if nodes == self.graph.nodes and all(map(operator.is_, outputs, self.graph.outputs)):
            return self.graph
        return Graph(self.graph.inputs, nodes, outputs)

    def _replace(self, node: Node, made: tuple[Array, ...], env: dict[Array, Array]) -> None:
        """Who used the outputs of a node uses from now on what was made of it."""
        for old, new in zip(node.outputs, made, strict=True):
            if new is not old:
                env[old] = new
                self._uses[new] += self._uses[old]

    @property
    def is_settled(self) -> bool:
        """Whether another sweep would change nothing.

        Each application was recorded as no rewrite changes it: a rewrite looks at the nodes above
        it, which are final, and at who else uses them, which is what may have changed since.
        """
        return not (self._refused or self._ended_early)

    # ---- what rewrites ask ----

    def maker(self, x: Array, op: type[Op]) -> Node | None:
        """The node that made `x`, if it applies an `op`."""
        node = self.made_by.get(x)
        return node if node is not None and isinstance(node.op, op) else None

    def used_once(self, x: Array) -> bool:
        """Whether no other node needs `x`, so that to replace it costs nothing twice."""
        once = self._uses[x] == 1
        if not once:
            self._refused.add(x)
        return once

    # ---- recording ----

    def record(self, op: Op, inputs: Sequence[Array]) -> tuple[Array, ...]:
        operands = tuple(inputs)
        if isinstance(op, HigherOrder):
            op = self._with_bodies_settled(op)
        made = self._rewritten(op, operands, None)
        return self._append(op, operands, None) if made is None else made

    def _visit(self, node: Node, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        op = node.op
        if isinstance(op, HigherOrder):
            op = self._with_bodies_settled(op)
        made = self._rewritten(op, inputs, node)
        if made is None:
            return self._append(op, inputs, node)
        if any(made[0] is x for x in inputs):  # nobody uses these operands in place of the node
            self._uses.subtract(inputs)
        return made

    def _with_bodies_settled(self, op: HigherOrder) -> HigherOrder:
        changed: dict[str, Any] = {}
        for field in fields(op):
            body = getattr(op, field.name)
            if isinstance(body, Graph):
                better = self._bodies.get(body)
                if better is None:
                    better = self._bodies[body] = settled(body, self.using)
                    self._bodies[better] = better
                if better is not body:
                    changed[field.name] = better
        return replace(op, **changed) if changed else op

    def _rewritten(
        self, op: Op, inputs: tuple[Array, ...], node: Node | None
    ) -> tuple[Array, ...] | None:
        candidates = self.using.of(type(op), tuple(map(self._heads.get, inputs)))
        if not candidates:
            return None
        if self._depth == DEPTH:
            self._ended_early = True
            self._report(candidates)
            return None
        self._depth += 1
        try:
            for rewrite in candidates:
                made = rewrite(self, op, inputs)
                if made is not None:
                    return made if isinstance(made, tuple) else (_fitted(made, op, inputs, node),)
        finally:
            self._depth -= 1
        return None

    def _report(self, candidates: Sequence[Rewrite]) -> None:
        if settings().check:
            names = ", ".join(each.name for each in candidates)
            raise PassError(f"rewrites undo each other, among them one of {names}")

    def _append(self, op: Op, inputs: tuple[Array, ...], node: Node | None) -> tuple[Array, ...]:
        """Record the application, as a copy of `node` if given, unless it is there already."""
        free = self._is_free(op, inputs)
        known = self._known.setdefault(self._key(op, inputs, free), [])  # hashed once
        if known:
            return known[0]
        if node is None:
            types = op.output_types(*[x.type for x in inputs])
            outputs = tuple([Array(kind, None, self.trace) for kind in types])
            node = Node(op, inputs, outputs, self.inherited or Site())
        elif op is not node.op or inputs is not node.inputs:
            node = Node(op, inputs, node.outputs, node.site)
        self.nodes.append(node)
        self._learn(node, free)
        known.append(node.outputs)
        return node.outputs

    def _key(self, op: Op, inputs: tuple[Array, ...], free: bool) -> object:
        """Equal for applications that may be merged: no two barriers are.

        What needs no input does not wait for a barrier. It would be shared by a first computation
        and a recomputation, and live in between; so it is merged between barriers only.
        """
        if type(op) is Barrier:
            return Barrier, self._barriers
        places = map(id, inputs)  # no hashing by ==, which for arrays compares elements
        epoch = self._barriers if free else 0
        return (op, epoch, *(sorted(places) if op.commutative else places))

    def _is_free(self, op: Op, inputs: tuple[Array, ...]) -> bool:
        """Whether the application depends on no input, and is not made of literals alone."""
        if not inputs:
            return type(op) is not Constant
        free, literals = self._free, self.literals
        return not free.isdisjoint(inputs) and all(x in free or x in literals for x in inputs)

    def _learn(self, node: Node, free: bool) -> None:
        op = node.op
        head: Head = type(op)
        if head is Constant:
            self.literals[node.outputs[0]] = op  # type: ignore[assignment]
        elif head is Barrier:
            self._barriers += 1
        elif head in REARRANGING and node.inputs[0] in self.literals:
            self.literals[node.outputs[0]] = self.literals[node.inputs[0]]
            head = Spread
        elif free:
            self._free.update(node.outputs)
        for x in node.outputs:
            self.made_by[x] = node
            self._heads[x] = head


def _uses(nodes: Sequence[Node], outputs: Sequence[Array]) -> Counter[Array]:
    """How many operands and outputs each value is."""
    uses = Counter([x for node in nodes for x in node.inputs])
    uses.update(outputs)
    return uses


def _fitted(made: Array, op: Op, inputs: tuple[Array, ...], node: Node | None) -> Array:
    """A replacement that has fewer elements than the application is spread to its shape."""
    types = op.output_types(*[x.type for x in inputs]) if node is None else [node.outputs[0].type]
    return broadcast_to(made, types[0].shape)
