"""`Node` and `Graph`: a program as a closed, typed, ordered list of operations on values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pullback.errors import GraphError, Site
from pullback.ir.array import Array
from pullback.ir.text import print_graph

if TYPE_CHECKING:
    from pullback.ir.op import Op


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One application of an op: `outputs = op(*inputs)`, and the user's line it comes from."""

    op: Op
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    site: Site


@dataclass(frozen=True, slots=True, eq=False)
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


def _types(types: Iterable[object]) -> str:
    return "(" + ", ".join(map(str, types)) + ")"
