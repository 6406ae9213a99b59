"""Where the way from a parameter to the loss is cut for derivatives, and where a gradient dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pullback._settings import override
from pullback.errors import Site
from pullback.inspect.patterns import Patterns, Softmax
from pullback.inspect.tape import Replay, Use
from pullback.ir.array import Array, concrete, noting_reads
from pullback.ir.builder import quiet
from pullback.ir.families import Elementwise, Linear, Multilinear
from pullback.ir.graph import Graph, Node, depends_on, needed_nodes
from pullback.ir.types import Numbers, float64, is_float
from pullback.ops.layout import Concat, Layout
from pullback.ops.pointwise import Add, Cast, Constant, Multiply, Select, Subtract
from pullback.transforms.trace import Traced, trace_leaves
from pullback.transforms.tree import flatten_arrays

PUSH = 1e-2
"""By how much a parameter is moved to see which constants of the trace move with it."""

# ---- no way for a derivative ----------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """A node that gives a value on to the loss and no derivative back."""

    node: Node
    reason: str
    depth: int
    """0 for a cut that the parameter reaches, 1 for one that lies behind such a cut, …"""


def readers(graph: Graph, x: Array) -> list[Node]:
    """The nodes that read a value."""
    return [node for node in graph.nodes if not {x}.isdisjoint(node.inputs)]


def _place(values: Sequence[Array], x: Array) -> int:
    return next(i for i, each in enumerate(values) if each is x)


def passed(node: Node) -> list[Array]:
    """The outputs of a node that a derivative can pass to."""
    if node.op.cut(*(x.type for x in node.inputs)) is not None:
        return []
    return [y for y in node.outputs if is_float(y.dtype)]


def cuts(graph: Graph, source: Array) -> list[Cut]:
    """The cuts between `source` and the loss; [] if a derivative passes, or no value does.

    Those behind other cuts follow, because to open the first would not be enough.
    """
    needed = needed_nodes(graph.nodes, graph.outputs)
    opened: set[Node] = set()
    found: list[Cut] = []
    depth = 0
    while not _reaches(graph, live(needed, source, opened)):
        frontier = _frontier(graph, needed, source, opened)
        if not frontier:
            break
        found += [Cut(node, _reason(node), depth) for node in frontier]
        opened.update(frontier)
        depth += 1
    return found


def live(nodes: Sequence[Node], source: Array, opened: set[Node]) -> set[Array]:
    """The values that a derivative reaches from `source`, if the `opened` cuts let it by."""
    reached = {source}
    for node in nodes:
        if not reached.isdisjoint(node.inputs):
            reached.update(node.outputs if node in opened else passed(node))
    return reached


def _reaches(graph: Graph, values: set[Array]) -> bool:
    return not values.isdisjoint(graph.outputs)


def _frontier(graph: Graph, needed: Sequence[Node], source: Array, opened: set[Node]) -> list[Node]:
    """The cuts that are reached, without those that a derivative passes by (in a softmax)."""
    stopping = _stopping(needed, source, opened)
    return [node for node in stopping if _leads_on(graph, needed, source, opened, node, stopping)]


def _leads_on(
    graph: Graph,
    needed: Sequence[Node],
    source: Array,
    opened: set[Node],
    node: Node,
    stopping: Sequence[Node],
) -> bool:
    """Whether the loss is behind this cut, without opening the others that stop beside it."""
    wider = opened | {node}
    while not _reaches(graph, live(needed, source, wider)):
        new = set(_stopping(needed, source, wider)).difference(stopping)
        if not new:
            return False
        wider |= new
    return True


def _stopping(needed: Sequence[Node], source: Array, opened: set[Node]) -> list[Node]:
    """The nodes at which a derivative from `source` ends."""
    reached = live(needed, source, opened)
    return [
        node
        for node in needed
        if node not in opened
        and not reached.isdisjoint(node.inputs)
        and len(passed(node)) < len(node.outputs)
    ]


def _reason(node: Node) -> str:
    said = node.op.cut(*(x.type for x in node.inputs))
    kinds = [str(y.dtype) for y in node.outputs if not is_float(y.dtype)]
    return said or f"{node.op.name} gives {kinds[0]}, which has no derivative"


# ---- a detour through NumPy -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Detour:
    """A constant of the graph that was computed from a parameter outside of it."""

    site: Site | None
    """Where it comes in again."""
    what: str
    node: Node | None = None
    """The first that reads it, in the moved trace."""
    start: Site | None = None
    """Where the value was taken out, if that is known."""

    @property
    def place(self) -> Site | None:
        """The line that is told: where the detour begins."""
        return self.start or self.site


def detours(
    f: Callable[..., Any], args: Sequence[Any], replay: Replay, source: Array
) -> list[Detour]:
    """The constants of the trace that move when the parameter does: `.numpy()`, `float(x)`."""
    leaves, treedef = flatten_arrays(tuple(args), "argument")
    place = _place(replay.graph.inputs, source)
    before = leaves[place].numpy()
    moved = list(leaves)
    moved[place] = concrete((before + PUSH * (1 + np.abs(before))).astype(before.dtype))
    with override(check=0), noting_reads() as reads:
        traced = trace_leaves(f, moved, treedef, evaluating=True)
    found = [*_moved_arrays(replay, traced), *_moved_literals(replay.graph, traced.graph)]
    leading = depends_on(traced.graph.nodes, [traced.graph.inputs[place]])
    taken = [(x, site) for x, site in reads if x in leading and site.frames]
    return [replace(x, start=_start(traced.graph, x, taken)) for x in found]


def _start(graph: Graph, detour: Detour, taken: Sequence[tuple[Array, Site]]) -> Site | None:
    """The line that took out the last value before the constant came in."""
    known = set(graph.inputs)
    for node in graph.nodes:
        if node is detour.node:
            break
        known.update(node.outputs)
    return next((site for x, site in reversed(taken) if x in known), None)


def _moved_arrays(replay: Replay, traced: Traced) -> Iterator[Detour]:
    if len(traced.captured) != len(replay.captured):
        return
    inputs = traced.graph.inputs[len(traced.graph.inputs) - len(traced.captured) :]
    pairs = zip(replay.captured, replay.traced.captured, traced.captured, inputs, strict=True)
    for x, old, new, inside in pairs:
        if old.type == new.type and not np.array_equal(
            old.numpy(), new.numpy(), equal_nan=is_float(old.dtype)
        ):
            site = next((node.site for node in readers(replay.graph, x)), None)
            node = next(iter(readers(traced.graph, inside)), None)
            yield Detour(site, f"an array ({x.type}) that NumPy computed from it", node)


def _moved_literals(old: Graph, new: Graph) -> Iterator[Detour]:
    """The literals that the moved trace has and the other has not: equal ones are one node."""
    known = {node.op for node in old.nodes if isinstance(node.op, Constant)}
    for node in new.nodes:
        if isinstance(node.op, Constant) and node.op not in known:
            what = f"a number taken out of an array, here {node.op.value:.4g}"
            yield Detour(node.site, what, node)


# ---- where a gradient dies ------------------------------------------------------------------

UNDERFLOW = (
    "go on with the logarithm of what is that small; in half precision, loss scaling or bfloat16"
)


@dataclass(frozen=True, slots=True, eq=False)
class Death:
    """A use of a value whose cotangent is all 0 although that of its result is not."""

    node: Node
    value: Array
    reason: str
    fix: str = ""
    cancels: bool = False
    """Whether each contribution to it is alive, and their sum is 0."""
    is_softmax: bool = False
    source: Site | None = None
    """Where the factor that is 0, or the mask that chooses nothing, is made."""

    @property
    def name(self) -> str:
        """What it dies in."""
        return "softmax" if self.is_softmax else self.node.op.name


def deaths(replay: Replay, source: Array) -> list[Death]:
    """Where the gradient of `source` became 0, from the loss on."""
    leading = depends_on(replay.graph.nodes, [source])
    softmaxes = {y: x for x in Patterns(replay.graph.nodes).softmaxes() for y in x.node.inputs}
    found = []
    for x in [source, *(y for node in replay.graph.nodes for y in node.outputs)]:
        if x not in leading:
            continue
        uses = replay.uses.get(x, [])
        dying = [use for use in uses if _is_alive(replay, use.node) and not _is_alive_at(use)]
        found += [_death(replay, use, x) for use in dying]
        if _cancels(replay, x, uses):
            found.append(_cancelled(softmaxes.get(x), uses, x))
    order = {node: i for i, node in enumerate(replay.graph.nodes)}
    return sorted(found, key=lambda death: -order[death.node])


def _is_alive(replay: Replay, node: Node) -> bool:
    bars = [replay.bar(y) for y in node.outputs]
    return any(bar is not None and bool(np.any(bar)) for bar in bars)


def _is_alive_at(use: Use) -> bool:
    return bool(np.any(use.bar.numpy()))


def _cancels(replay: Replay, x: Array, uses: Sequence[Use]) -> bool:
    total = replay.bar(x)
    return total is not None and not np.any(total) and any(map(_is_alive_at, uses))


def _cancelled(softmax: Softmax | None, uses: Sequence[Use], x: Array) -> Death:
    if softmax is not None and softmax.length == 1:
        reason = "over an axis of length 1 a softmax is 1, whatever it is given"
        fix = "the axis of the classes; nn.sigmoid for one output"
        return Death(softmax.node, x, reason, fix, is_softmax=True)
    return Death(uses[-1].node, x, f"its {len(uses)} contributions cancel", cancels=True)


def _death(replay: Replay, use: Use, x: Array) -> Death:
    node = use.node
    operand = _place(node.inputs, x)
    exact = _in_double(replay, node, operand)
    if exact is not None and np.any(exact):
        least = np.abs(exact[exact != 0]).max()
        reason = f"underflow: at most {least:.3g}, which {x.dtype} holds as 0"
        return Death(node, x, reason, UNDERFLOW)
    reader = _taking(replay, node)
    if reader is not node:
        reason = (
            f"{reader.op.name} passes nothing back to any of the {x.size} elements of this part"
        )
        return Death(reader, x, reason, reader.op.revival)
    if isinstance(node.op, Add | Subtract):  # its slope is never 0: it was broadcast
        return Death(node, x, "what its elements hand back adds up to 0", cancels=True)
    numbers = [replay.numbers(y) for y in node.inputs]
    reason = node.op.stillness(operand, replay.numbers(node.outputs[0]), *numbers)
    return Death(node, x, reason, node.op.revival, source=_zeros(replay, node, operand))


def _zeros(replay: Replay, node: Node, operand: int) -> Site | None:
    """Where the numbers are made that let nothing pass: zeros, or a mask that is all alike."""
    if isinstance(node.op, Select):
        blocking = node.inputs[0]
    elif isinstance(node.op, Multilinear | Multiply):
        blocking = node.inputs[1 - operand]
        if np.any(replay.numbers(blocking)):
            return None
    else:
        return None
    makers = {y: each for each in replay.graph.nodes for y in each.outputs}
    maker = makers.get(blocking)
    while maker is not None and isinstance(maker.op, Layout | Cast | Multiply | Select):
        empty = [x for x in maker.inputs if x in makers and not np.any(replay.numbers(x))]
        before = [makers[x] for x in empty if not isinstance(makers[x].op, Constant)]
        if not before:
            break
        maker = before[0]
    return None if maker is None or isinstance(maker.op, Constant) else maker.site


def _taking(replay: Replay, node: Node) -> Node:
    """The node, or the one that reads what it lays beside other values."""
    while isinstance(node.op, Concat):
        uses = replay.uses.get(node.outputs[0], [])
        if len(uses) != 1:
            break
        node = uses[0].node
    return node


def _in_double(replay: Replay, node: Node, operand: int) -> Numbers | None:
    """The contribution in double precision, where the rule does not depend on the type."""
    if not isinstance(node.op, Elementwise | Linear | Multilinear) or isinstance(node.op, Cast):
        return None
    if node.outputs[0].dtype == float64:
        return None
    bar = replay.bar(node.outputs[0])
    if bar is None:
        return None

    def wide(numbers: Numbers) -> Array:
        return concrete(numbers.astype(float64) if is_float(numbers.dtype) else numbers)

    inputs = tuple([wide(replay.numbers(x)) for x in node.inputs])
    wanted = [i == operand for i in range(len(inputs))]
    with override(check=0), quiet():
        out = node.op(*inputs)
        result = node.op.cotangents((wide(bar),), (out,), inputs, wanted)[operand]
    return None if result is None else result.numpy()
