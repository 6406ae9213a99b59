"""Which nodes share a kernel: what stands between a graph and its schedule."""

from __future__ import annotations

from dataclasses import dataclass, field

from pullback._trusted import trusted
from pullback.ir.array import Array
from pullback.ir.graph import Graph, Node
from pullback.ir.strided import Strided
from pullback.ir.types import Shape
from pullback.ops.pointwise import Constant
from pullback.schedule.kernels import Extent


@dataclass(slots=True, eq=False)
class Group:
    """A kernel being filled. `shape` has no axes of size 1; `split` counts its outer ones.

    `needs` is the set of the groups that must run before this one, directly or through others, as
    the bits of a number: bit i for the group at position i. `needed`: whether any group needs it.
    """

    position: int
    shape: Shape
    split: int | None = None
    fusible: bool = True
    nodes: list[Node] = field(default_factory=list)
    extents: dict[Array, Extent] = field(default_factory=dict)
    needs: int = 0
    needed: bool = False

    def reaches(self, earlier: Group) -> bool:
        """Whether this group needs `earlier`, directly or through others."""
        return self is earlier or bool(self.needs >> earlier.position & 1)


@trusted(frozen=True, slots=True)
class Place:
    """A value as a view of the value that a kernel makes (or the program is given).

    Who reads it runs when the values `after` exist too.
    """

    root: Array
    layout: Strided
    after: tuple[Array, ...] = ()


@trusted(frozen=True, slots=True)
class Grouping:
    """The groups of a graph, where each value lies, and which group makes it.

    `home` names the group of a value that a group makes; `literals` the numbers of the text;
    `sources` the nodes without operands, made anew wherever an element of theirs is wanted.
    `outputs` are the graph's outputs, each in a row-major buffer of its own.
    """

    graph: Graph
    outputs: tuple[Array, ...]
    groups: tuple[Group, ...]
    places: dict[Array, Place]
    home: dict[Array, Group]
    literals: dict[Array, Constant]
    sources: dict[Array, Node]
