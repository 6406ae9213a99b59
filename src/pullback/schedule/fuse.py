"""Which nodes share a kernel.

A node joins a kernel when every value it takes from that kernel is local to one outer iteration:
it is read at the very place where it was made, or is the row's own value. Layout ops make no
kernel: they say where an operand's elements lie. The decision depends on the graph alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from pullback.errors import NOWHERE, Site
from pullback.ir.array import Array
from pullback.ir.families import Elementwise
from pullback.ir.graph import Graph, Node
from pullback.ir.strided import Strided, row_major_strides
from pullback.ir.types import Shape, TensorType
from pullback.ops.contract import Contract
from pullback.ops.layout import Layout
from pullback.ops.pointwise import Constant, StopGradient
from pullback.ops.reduce import Reduction
from pullback.schedule.kernels import (
    Access,
    Apply,
    Call,
    Extent,
    Fold,
    Kernel,
    Literal,
    Load,
    Loops,
    Operand,
    Step,
    Store,
)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Kernels in order, the buffers between them, and where the graph's inputs and outputs are."""

    kernels: tuple[Kernel, ...]
    buffers: tuple[Buffer, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.kernels))


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory for one value, row-major."""

    type: TensorType
    value: Array


def fuse(graph: Graph) -> Schedule:
    """The kernels of a graph."""
    return _Fuser(graph).schedule()


@dataclass(slots=True, eq=False)
class _Group:
    """A kernel being filled. `shape` has no axes of size 1; `split` counts its outer ones."""

    position: int
    shape: Shape
    split: int | None = None
    fusible: bool = True
    nodes: list[Node] = field(default_factory=list)
    extents: dict[Array, Extent] = field(default_factory=dict)
    needs: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Place:
    """A value as a view of the value that a kernel makes (or the program is given)."""

    root: Array
    layout: Strided


class _Fuser:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.places: dict[Array, _Place] = {
            x: _Place(x, Strided.row_major(x.shape)) for x in graph.inputs
        }
        self.groups: list[_Group] = []
        self.home: dict[Array, _Group] = {}
        self.literals: dict[Array, Constant] = {}

    # ---- which kernel ----

    def schedule(self) -> Schedule:
        for node in self.graph.nodes:
            self._assign(node)
        outputs = [self._settled(x) for x in self.graph.outputs]
        return _Writer(self, outputs).schedule()

    def _assign(self, node: Node) -> None:
        op = node.op
        if isinstance(op, Constant):
            self.literals[node.outputs[0]] = op
            self._made(node)
        elif isinstance(op, Layout):
            self._view(op, node)
        elif isinstance(op, Elementwise):
            self._join(node, _squeezed(node.outputs[0].shape), None)
        elif isinstance(op, Reduction):
            self._reduce(op, node)
        else:
            self._call(node)

    def _reduce(self, op: Reduction, node: Node) -> None:
        """Trailing axes are folded row by row; each other block of axes in a kernel of its own."""
        (x,), (y,) = node.inputs, node.outputs
        blocks = _blocks(op.axes, x.type)
        if all(x.shape[a] == 1 for a in op.axes):
            self._alone(x, y)
        elif len(blocks) > 1:
            kept = tuple(a for block in blocks[:-1] for a in block)
            part = Array(x.type.without(blocks[-1]), None, x.trace)
            self._reduce_node(replace(op, axes=blocks[-1]), x, part, node)
            self._reduce(replace(op, axes=kept), Node(op, (part,), (y,), node.site))
        else:
            self._reduce_node(op, x, y, node)

    def _alone(self, x: Array, y: Array) -> None:
        """A reduction of one element each is that element."""
        layout = self.places[x].layout.reshaped(y.shape)
        assert layout is not None
        self.places[y] = _Place(self.places[x].root, layout)

    def _reduce_node(self, op: Reduction, x: Array, y: Array, origin: Node) -> None:
        node = Node(op, (x,), (y,), origin.site)
        if _trailing(op, x.type):
            self._join(node, _squeezed(x.shape), len(_squeezed(y.shape)))
        else:
            self._call(node)

    def _view(self, op: Layout, node: Node) -> None:
        (x,), (y,) = node.inputs, node.outputs
        place = self.places[x]
        layout = op.view(place.layout)
        if layout is None:
            x = self._copied(x, node.site)
            layout = op.view(self.places[x].layout)
        if layout is None:
            self._call(node)
        else:
            self.places[y] = _Place(self.places[x].root, layout)

    def _copied(self, x: Array, site: Site) -> Array:
        """`x` again, in a buffer of its own."""
        copy = Array(x.type, None, x.trace)
        identity = Node(StopGradient(), (x,), (copy,), site)
        self._join(identity, _squeezed(x.shape), None)
        return copy

    def _join(self, node: Node, shape: Shape, split: int | None) -> None:
        roots = [self.places[x].root for x in node.inputs]
        candidates = {self.home[r].position for r in roots if r in self.home}
        for position in sorted(candidates, reverse=True):
            group = self.groups[position]
            if group.fusible and self._fits(node, shape, split, group):
                break
        else:
            group = self._open(shape)
        if split is not None:
            group.split = split
        for position in sorted(candidates):
            other = self.groups[position]
            if other is not group and self._fits(node, shape, split, other):
                self._merge(other, group)
        self._place(node, group, split)

    def _merge(self, other: _Group, group: _Group) -> None:
        """Take in a kernel over the same domain, when neither needs the other."""
        same = other.shape == group.shape and other.split == group.split
        if not (same and other.fusible and group.fusible):
            return
        if self._reaches(other, group) or self._reaches(group, other):
            return
        group.nodes += other.nodes
        group.extents |= other.extents
        group.needs |= other.needs
        for y in other.extents:
            self.home[y] = group
        for each in self.groups:
            if other.position in each.needs:
                each.needs = (each.needs - {other.position}) | {group.position}
        other.nodes, other.extents, other.needs = [], {}, set()

    def _fits(self, node: Node, shape: Shape, split: int | None, group: _Group) -> bool:
        if split is None:
            extent = _extent(shape, group)
            if extent is None:
                return False
        else:
            extent = Extent.FULL
            if shape != group.shape or group.split not in (None, split):
                return False
        domain = node.outputs[0].shape if split is None else node.inputs[0].shape
        for x in node.inputs:
            place = self.places[x]
            if self.home.get(place.root) is group:
                if not _aligned(place, group, domain, extent):
                    return False
            elif place.root in self.home and self._reaches(self.home[place.root], group):
                return False
        return True

    def _reaches(self, later: _Group, earlier: _Group) -> bool:
        """Whether `later` needs `earlier`, directly or through others."""
        pending, seen = [later.position], set()
        while pending:
            position = pending.pop()
            if position == earlier.position:
                return True
            if position not in seen:
                seen.add(position)
                pending += self.groups[position].needs
        return False

    def _open(self, shape: Shape, fusible: bool = True) -> _Group:
        group = _Group(len(self.groups), shape, fusible=fusible)
        self.groups.append(group)
        return group

    def _place(self, node: Node, group: _Group, split: int | None) -> None:
        group.nodes.append(node)
        homes = [self.home.get(self.places[x].root) for x in node.inputs]
        group.needs |= {each.position for each in homes if each is not None and each is not group}
        for y in node.outputs:
            shape = _squeezed(y.shape)
            full = split is None and shape == group.shape
            group.extents[y] = Extent.FULL if full else Extent.ROW
            self.home[y] = group
        self._made(node)

    def _call(self, node: Node) -> None:
        inputs = node.inputs
        if not isinstance(node.op, Contract):
            inputs = tuple(self._settled(x) for x in inputs)
        group = self._open((), fusible=False)
        self._place(Node(node.op, inputs, node.outputs, node.site), group, None)

    def _settled(self, x: Array) -> Array:
        """`x` where it has a row-major buffer of its own: itself, or a copy of the view it is."""
        place = self.places[x]
        computed = place.root in self.home or (place.root is x and x not in self.literals)
        if computed and place.layout.is_row_major and place.root.size == x.size:
            return x
        return self._copied(x, self._site_of(x))

    def _site_of(self, x: Array) -> Site:
        for node in self.graph.nodes:
            if any(x is y for y in node.outputs):
                return node.site
        return NOWHERE

    def _made(self, node: Node) -> None:
        for y in node.outputs:
            self.places[y] = _Place(y, Strided.row_major(y.shape))


def _extent(shape: Shape, group: _Group) -> Extent | None:
    if shape == group.shape:
        return Extent.FULL
    if group.split is not None and shape == group.shape[: group.split]:
        return Extent.ROW
    return None


def _aligned(place: _Place, group: _Group, domain: Shape, extent: Extent) -> bool:
    """Whether an outer iteration of `group` reads of `place` only what it made itself."""
    seen = place.layout.broadcast_to(domain)
    strides = tuple(s for s, n in zip(seen.strides, seen.shape, strict=True) if n != 1)
    made = group.extents[place.root]
    if made is Extent.FULL:
        expected = row_major_strides(group.shape)
        return extent is Extent.FULL and seen.offset == 0 and strides == expected
    outer = group.shape[: group.split]
    expected = row_major_strides(outer)
    if extent is Extent.FULL:
        expected += (0,) * (len(group.shape) - len(outer))
    return seen.offset == 0 and strides == expected


def _squeezed(shape: Shape) -> Shape:
    return tuple(n for n in shape if n != 1)


def _blocks(axes: tuple[int, ...], x: TensorType) -> list[tuple[int, ...]]:
    """Reduced axes in runs with no kept axis (of size above 1) between them."""
    blocks: list[list[int]] = []
    for axis in axes:
        joined = blocks and all(x.shape[a] == 1 for a in range(blocks[-1][-1] + 1, axis))
        if joined:
            blocks[-1].append(axis)
        else:
            blocks.append([axis])
    return [tuple(block) for block in blocks] or [()]


def _trailing(op: Reduction, x: TensorType) -> bool:
    """Whether only size-1 axes follow the first reduced one, apart from reduced ones."""
    kept = [i for i in range(x.ndim) if i not in op.axes and x.shape[i] != 1]
    folded = [a for a in op.axes if x.shape[a] != 1]
    return not kept or not folded or max(kept) < min(folded)


# ---- writing the kernels down ---------------------------------------------------------------


class _Writer:
    """Turns the groups into kernels over buffers."""

    def __init__(self, fuser: _Fuser, outputs: Sequence[Array]) -> None:
        self.fuser = fuser
        self.outputs = outputs
        self.buffers: list[Buffer] = []
        self.number: dict[Array, int] = {}

    def schedule(self) -> Schedule:
        fuser = self.fuser
        inputs = tuple(self._buffer(x) for x in fuser.graph.inputs)
        kept = self._materialised()
        kernels: list[Kernel] = []
        for group in _ordered([g for g in fuser.groups if g.nodes]):
            if group.fusible:
                kernels.append(self._loops(group, kept))
            else:
                kernels.append(self._call(group))
        outputs = tuple(self._buffer(fuser.places[x].root) for x in self.outputs)
        return Schedule(tuple(kernels), tuple(self.buffers), inputs, outputs)

    def _buffer(self, x: Array) -> int:
        if x not in self.number:
            self.number[x] = len(self.buffers)
            self.buffers.append(Buffer(x.type, x))
        return self.number[x]

    def _materialised(self) -> set[Array]:
        """The values that another kernel, or the caller, reads from memory."""
        fuser = self.fuser
        kept = {fuser.places[x].root for x in self.outputs}
        for group in fuser.groups:
            for node in group.nodes:
                for x in node.inputs:
                    root = fuser.places[x].root
                    if fuser.home.get(root) is not group:
                        kept.add(root)
        return kept

    def _call(self, group: _Group) -> Call:
        (node,) = group.nodes
        return Call(
            node.op,
            tuple(self._operand(x) for x in node.inputs),
            tuple(self._operand(y) for y in node.outputs),
            node.site,
        )

    def _operand(self, x: Array) -> Operand:
        place = self.fuser.places[x]
        return Operand(self._buffer(place.root), x.dtype, place.layout)

    def _loops(self, group: _Group, kept: set[Array]) -> Loops:
        split = len(group.shape) if group.split is None else group.split
        steps: list[Step] = []
        known: dict[object, int] = {}
        made: dict[Array, int] = {}

        def add(key: object, step: Step) -> int:
            if key not in known:
                known[key] = len(steps)
                steps.append(step)
            return known[key]

        for node in group.nodes:
            domain = (
                node.inputs[0].shape if isinstance(node.op, Reduction) else node.outputs[0].shape
            )
            extent = (
                Extent.FULL if isinstance(node.op, Reduction) else group.extents[node.outputs[0]]
            )
            arguments = []
            for x in node.inputs:
                place = self.fuser.places[x]
                if place.root in made:
                    arguments.append(made[place.root])
                elif place.root in self.fuser.literals:
                    literal = self.fuser.literals[place.root]
                    arguments.append(add(literal, Literal(literal.value, literal.dtype)))
                else:
                    load = self._load(place, domain, extent, group, split)
                    arguments.append(add(load, load))
            y = node.outputs[0]
            if isinstance(node.op, Reduction):
                step: Step = Fold(node.op, arguments[0], y.dtype, node.site)
            else:
                assert isinstance(node.op, Elementwise)
                step = Apply(node.op, tuple(arguments), y.dtype, extent, node.site)
            made[y] = len(steps)
            steps.append(step)
        stores = tuple(
            Store(position, self._home_access(y, group, split))
            for y, position in made.items()
            if y in kept
        )
        return Loops(group.shape[:split], group.shape[split:], tuple(steps), stores)

    def _load(
        self, place: _Place, domain: Shape, extent: Extent, group: _Group, split: int
    ) -> Load:
        seen = place.layout.broadcast_to(domain)
        strides = tuple(s for s, n in zip(seen.strides, seen.shape, strict=True) if n != 1)
        inner = strides[split:] if extent is Extent.FULL else ()
        if extent is Extent.FULL and not any(inner) and group.split is not None:
            extent = Extent.ROW
            inner = ()
        access = Access(self._buffer(place.root), seen.offset, strides[:split], inner)
        return Load(access, place.root.dtype, extent)

    def _home_access(self, y: Array, group: _Group, split: int) -> Access:
        if group.extents[y] is Extent.FULL:
            strides = row_major_strides(group.shape)
            return Access(self._buffer(y), 0, strides[:split], strides[split:])
        return Access(self._buffer(y), 0, row_major_strides(group.shape[:split]), ())


def _ordered(groups: Iterable[_Group]) -> list[_Group]:
    """Each group after those it needs; among the possible orders the one nearest the graph's."""
    pending = list(groups)
    done: set[int] = set()
    result = []
    while pending:
        ready = next(g for g in pending if g.needs <= done)
        pending.remove(ready)
        done.add(ready.position)
        result.append(ready)
    return result
