"""`Node` and `Graph`: a program as a closed, typed, ordered list of operations on values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from pullback._trusted import trusted
from pullback.errors import GraphError, Site
from pullback.ir.array import Array
from pullback.ir.text import print_graph
from pullback.ir.types import is_float

if TYPE_CHECKING:
    from pullback.ir.op import Op


@trusted(frozen=True, slots=True, eq=False)
class Node:
    """One application of an op: `outputs = op(*inputs)`, and the user's line it comes from."""

    op: Op
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    site: Site


@trusted(frozen=True, slots=True, eq=False)
class Graph:
    """A closed program: every node reads inputs or earlier outputs; nothing else is visible."""

    inputs: tuple[Array, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Array, ...]

    def __str__(self) -> str:
        return print_graph(self)


def verify(graph: Graph) -> None:
    """Raise `GraphError` unless the graph is closed, ordered, and of the types its ops say."""
    known = set(graph.inputs)
    if len(known) != len(graph.inputs):
        raise GraphError("a graph input is listed twice")
    for position, node in enumerate(graph.nodes):
        where = f"node {position} ({node.op.name}) at {node.site}"
        if not known.issuperset(node.inputs):
            raise GraphError(f"{where} reads a value that no earlier node makes")
        if not known.isdisjoint(node.outputs):
            raise GraphError(f"{where} makes a value that exists already")
        expected = node.op.output_types(*(x.type for x in node.inputs))
        actual = tuple(x.type for x in node.outputs)
        if expected != actual:
            raise GraphError(f"{where} makes {_types(actual)}, its op says {_types(expected)}")
        known.update(node.outputs)
    if not known.issuperset(graph.outputs):
        raise GraphError("a graph output is made by no node")


def needed_nodes(nodes: Sequence[Node], outputs: Iterable[Array]) -> tuple[Node, ...]:
    """The nodes that `outputs` depend on, in order."""
    wanted = set(outputs)
    kept = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.outputs):
            kept.append(node)
            wanted.update(node.inputs)
    return tuple(reversed(kept))


def depends_on(nodes: Iterable[Node], sources: Iterable[Array]) -> set[Array]:
    """`sources` and every value computed from them."""
    reached = set(sources)
    for node in nodes:
        if not reached.isdisjoint(node.inputs):
            reached.update(node.outputs)
    return reached


def active_values(graph: Graph, sources: Iterable[Array]) -> set[Array]:
    """The values through which a derivative with respect to `sources` passes."""
    reached = {x for x in sources if is_float(x.dtype)}
    for node in graph.nodes:
        if node.op.differentiable and not reached.isdisjoint(node.inputs):
            reached.update([x for x in node.outputs if is_float(x.dtype)])
    return reached


def held_graphs(op: Op) -> tuple[Graph, ...]:
    """The graphs that an op holds, whether they run or not."""
    return tuple([x for x in vars(op).values() if isinstance(x, Graph)])


def every_node(nodes: Iterable[Node]) -> Iterator[Node]:
    """The nodes, and those of the graphs that they hold."""
    for node in nodes:
        yield node
        for graph in held_graphs(node.op):
            yield from every_node(graph.nodes)


def with_outputs(graph: Graph, outputs: Sequence[Array]) -> Graph:
    """`graph` with other values of it returned, and the nodes that these need."""
    return Graph(graph.inputs, needed_nodes(graph.nodes, outputs), tuple(outputs))


def without_numbers(graph: Graph) -> Graph:
    """A copy whose values have types only, so that holding it holds no activation."""
    copies: dict[Array, Array] = {}

    def copy(x: Array) -> Array:
        if x not in copies:
            copies[x] = Array(x.type, None, x.trace)
        return copies[x]

    def copy_all(values: Iterable[Array]) -> tuple[Array, ...]:
        return tuple(map(copy, values))

    nodes = tuple(
        [Node(n.op, copy_all(n.inputs), copy_all(n.outputs), n.site) for n in graph.nodes]
    )
    return Graph(copy_all(graph.inputs), nodes, copy_all(graph.outputs))


def is_same(a: Graph, b: Graph) -> bool:
    """Whether two graphs are one program: the same ops on the same types, wired alike."""
    if (len(a.inputs), len(a.nodes)) != (len(b.inputs), len(b.nodes)):
        return False
    numbers: tuple[dict[Array, int], dict[Array, int]] = ({}, {})

    def wired(first: Sequence[Array], second: Sequence[Array]) -> bool:
        known = [[n.setdefault(x, len(n)) for x in xs] for n, xs in zip(numbers, (first, second))]  # noqa: B905
        return known[0] == known[1] and [x.type for x in first] == [x.type for x in second]

    return (
        wired(a.inputs, b.inputs)
        and all(
            x.op == y.op and wired(x.inputs, y.inputs) and wired(x.outputs, y.outputs)
            for x, y in zip(a.nodes, b.nodes, strict=True)
        )
        and wired(a.outputs, b.outputs)
    )


def graph_flops(graph: Graph) -> int:
    """Floating-point operations of one evaluation."""
    return sum(
        node.op.flops([x.type for x in node.inputs], [x.type for x in node.outputs])
        for node in graph.nodes
    )


def _types(types: Iterable[object]) -> str:
    return "(" + ", ".join(map(str, types)) + ")"
