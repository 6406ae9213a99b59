"""Which nodes share a kernel.

A node joins a kernel when every value it takes from that kernel is local to one outer iteration:
it is read at the very place where it was made, or is the row's own value. Layout ops make no
kernel: they say where an operand's elements lie. The decision depends on the graph alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pullback.errors import NOWHERE, Site
from pullback.ir.array import Array
from pullback.ir.families import Elementwise
from pullback.ir.graph import Graph, Node
from pullback.ir.op import HigherOrder
from pullback.ir.strided import Strided, row_major_strides
from pullback.ir.types import DType, Shape, TensorType
from pullback.ops.contract import Contract
from pullback.ops.control import Check
from pullback.ops.index import Scatter
from pullback.ops.layout import Layout, Reshape
from pullback.ops.onward import Onward
from pullback.ops.pointwise import Cast, Constant, StopGradient
from pullback.ops.reduce import Reduction, accumulated
from pullback.ops.remat import Barrier
from pullback.ops.rows import Rows
from pullback.schedule.blocks import Cut, cut, cut_columns
from pullback.schedule.chain import chained
from pullback.schedule.epilogue import join_epilogues
from pullback.schedule.groups import Group, Grouping, Place
from pullback.schedule.kernels import Extent, Schedule
from pullback.schedule.nested import nested
from pullback.schedule.pieces import joined
from pullback.schedule.writing import write_schedule


def fuse(graph: Graph) -> Schedule:
    """The kernels of a graph, and of the graphs that its ops hold."""
    return nested(_Fuser(graph).schedule(), fuse)


class _Fuser:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.places: dict[Array, Place] = {
            x: Place(x, Strided.row_major(x.shape)) for x in graph.inputs
        }
        self.groups: list[Group] = []
        self.home: dict[Array, Group] = {}
        self.literals: dict[Array, Constant] = {}
        self.sources: dict[Array, Node] = {}
        self.sites: dict[Array, Site] | None = None

    # ---- which kernel ----

    def schedule(self) -> Schedule:
        for node in self.graph.nodes:
            self._assign(node)
        for group in self.groups:
            if group.fusible and group.split is not None:
                self._absorb(group)
        outputs = self._results()
        groups = tuple([group for group in self.groups if group.nodes])
        grouping = Grouping(
            self.graph, outputs, groups, self.places, self.home, self.literals, self.sources
        )
        return joined(join_epilogues(chained(write_schedule(grouping))))

    def _assign(self, node: Node) -> None:
        op = node.op
        if isinstance(op, Elementwise):  # most nodes: asked first
            self._join(node, _squeezed(node.outputs[0].type.shape), None)
        elif isinstance(op, Constant):
            self.literals[node.outputs[0]] = op
            self._made(node)
        elif op.by_element and not node.inputs and node.outputs[0].ndim == 1:
            self.sources[node.outputs[0]] = node
            self._made(node)
        elif isinstance(op, Layout):
            self._view(op, node)
        elif isinstance(op, Barrier):
            self._hold(node)
        elif isinstance(op, Rows):
            self._rows(op, node)
        elif isinstance(op, Check):
            self._check(node)
        elif isinstance(op, Reduction):
            self._reduce(op, node)
        elif op.by_element:
            self._element(node)
        else:
            self._call(node)

    def _rows(self, op: Rows, node: Node) -> None:
        (x,) = node.inputs
        for y, layout in zip(node.outputs, op.views(self.places[x].layout), strict=True):
            self.places[y] = replace(self.places[x], layout=layout)

    def _element(self, node: Node) -> None:
        """An op that reads its operands anywhere begins a kernel, which others join."""
        made_anew = [self.places[x].root in self.sources for x in node.inputs]
        inputs = tuple(
            self._settled(x) if anew else x for x, anew in zip(node.inputs, made_anew, strict=True)
        )
        group = self._open(_squeezed(node.outputs[0].shape))
        self._place(Node(node.op, inputs, node.outputs, node.site), group, Extent.FULL)

    def _reduce(self, op: Reduction, node: Node) -> None:
        """Trailing axes are folded row by row; each other block of axes in a kernel of its own."""
        (x,), (y,) = node.inputs, node.outputs
        blocks = _blocks(op.axes, x.type)
        if all(x.shape[a] == 1 for a in op.axes):
            self._alone(x, y)
        elif len(blocks) > 1:
            kept = tuple(a for block in blocks[:-1] for a in block)
            part = Array(x.type.without(blocks[-1]), None, x.trace)
            self._reduce(replace(op, axes=blocks[-1]), Node(op, (x,), (part,), node.site))
            self._reduce(replace(op, axes=kept), Node(op, (part,), (y,), node.site))
        else:
            self._reduce_node(op, x, y, node)

    def _alone(self, x: Array, y: Array) -> None:
        """A reduction of one element each is that element."""
        layout = self.places[x].layout.reshaped(y.shape)
        assert layout is not None
        self.places[y] = replace(self.places[x], layout=layout)

    def _reduce_node(self, op: Reduction, x: Array, y: Array, origin: Node) -> None:
        node = Node(op, (x,), (y,), origin.site)
        rows = _trailing(op, x.type)
        blocks = (cut if rows else cut_columns)(x.shape, op.axes)
        if blocks is not None:
            self._in_blocks(op, blocks, node)
        elif rows:
            self._join(node, _squeezed(x.shape), len(_squeezed(y.shape)))
        else:
            self._call(node)

    def _in_blocks(self, op: Reduction, blocks: Cut, node: Node) -> None:
        """Few long rows: blocks of them, then the results of the blocks, rounded at the end."""
        (x,), (y,), site = node.inputs, node.outputs, node.site
        wide = accumulated(x.dtype)
        if wide != x.dtype:
            x = self._elementwise(Cast(wide), x, wide, site)
        if blocks.shape != x.shape:
            seen = Array(x.type.reshaped(blocks.shape), None, x.trace)
            self._view(Reshape(blocks.shape), Node(Reshape(blocks.shape), (x,), (seen,), site))
            x = seen
        part = Array(x.type.without(blocks.first), None, x.trace)
        total = y if wide == y.dtype else Array(y.type.of(wide), None, y.trace)
        self._reduce_node(replace(op, axes=blocks.first), x, part, node)
        self._reduce(replace(op, axes=blocks.then), Node(op, (part,), (total,), site))
        if total is not y:
            self._join(Node(Cast(y.dtype), (total,), (y,), site), _squeezed(y.shape), None)

    def _view(self, op: Layout, node: Node) -> None:
        (x,), (y,) = node.inputs, node.outputs
        place = self.places[x]
        layout = op.view(place.layout)
        if layout is None and op.by_element:
            self._element(node)
            return
        if layout is None:
            x = self._copied(x, node.site)
            layout = op.view(self.places[x].layout)
        if layout is None:
            self._call(node)
        else:
            place = self.places[x]
            self.places[y] = Place(place.root, layout, place.after)

    def _hold(self, node: Node) -> None:
        """What is computed from the results runs when all the operands exist."""
        after = tuple(dict.fromkeys(self._roots(node)))
        for x, y in zip(node.inputs, node.outputs, strict=True):
            self.places[y] = replace(self.places[x], after=after)

    def _check(self, node: Node) -> None:
        """The results are the operands after the first, which a kernel looks at."""
        for x, y in zip(node.inputs[1:], node.outputs, strict=True):
            self.places[y] = self.places[x]
        holds = node.inputs[:1]
        self._call(Node(node.op, holds, (), node.site))

    def _copied(self, x: Array, site: Site) -> Array:
        """`x` again, in a buffer of its own."""
        return self._elementwise(StopGradient(), x, x.dtype, site)

    def _elementwise(self, op: Elementwise, x: Array, dtype: DType, site: Site) -> Array:
        y = Array(x.type.of(dtype), None, x.trace)
        self._join(Node(op, (x,), (y,), site), _squeezed(x.shape), None)
        return y

    def _join(self, node: Node, shape: Shape, split: int | None) -> None:
        candidates = self._makers(node)
        for group in candidates:
            if group.fusible and self._fits(node, shape, split, group):
                break
        else:
            group = self._open(shape)
        if split is not None:
            group.split = split
        for other in reversed(candidates):
            if other is not group and self._may_merge(node, shape, split, other, group):
                self._merge(other, group)
        full = split is None and shape == group.shape
        self._place(node, group, Extent.FULL if full else Extent.ROW)

    def _makers(self, node: Node) -> list[Group]:
        """The groups that make the operands.

        The largest domain first: a kernel of rows takes in one that makes a value for each row.
        """
        makers: list[Group] = []
        for x in node.inputs:
            group = self.home.get(self.places[x].root)
            if group is not None and group not in makers:
                makers.append(group)
        if len(makers) > 1:
            makers.sort(key=lambda group: (len(group.shape), group.position), reverse=True)
        return makers

    def _may_merge(
        self, node: Node, shape: Shape, split: int | None, other: Group, group: Group
    ) -> bool:
        """Whether `group` can take in a kernel over its domain, or over its rows.

        One that folds nothing has no rows yet: every split of its domain is as good.
        """
        if not (other.fusible and group.fusible):
            return False
        if other.reaches(group) or group.reaches(other):
            return False
        if other.shape == group.shape:
            same = len({other.split, group.split} - {None}) <= 1
            return same and self._fits(node, shape, split, other)
        return _is_rows(other, group) and self._reads_rows(node, shape, split, other, group)

    def _reads_rows(
        self, node: Node, shape: Shape, split: int | None, other: Group, group: Group
    ) -> bool:
        """Whether `node` reads what `other` makes at its own row of `group`."""
        rows = replace(group, extents=dict.fromkeys(other.extents, Extent.ROW))
        extent = Extent.FULL if split is not None else _extent(shape, group)
        domain = node.outputs[0].shape if split is None else node.inputs[0].shape
        places = [self.places[x] for x in node.inputs]
        mine = [place for place in places if self.home.get(place.root) is other]
        return extent is not None and all(_aligned(p, rows, domain, extent) for p in mine)

    def _absorb(self, group: Group) -> None:
        """Take in the kernels that make nothing but values for the rows of `group`.

        They could not join before it had rows.
        """
        for other in {self.home[r].position: self.home[r] for r in self._read_by(group)}.values():
            if not (other.fusible and _is_rows(other, group)) or self._stands_between(other, group):
                continue
            if all(self._reads_own_row(node, other, group) for node in group.nodes):
                group.nodes, other.nodes = [*other.nodes, *group.nodes], []
                group.needs &= ~(1 << other.position)
                self._merge(other, group)

    def _stands_between(self, earlier: Group, later: Group) -> bool:
        """Whether a kernel needs the one and is needed by the other."""
        others = (g for g in self.groups if g.nodes and g is not earlier and g is not later)
        return any(g.reaches(earlier) and later.reaches(g) for g in others)

    def _read_by(self, group: Group) -> Iterator[Array]:
        """The values that a group reads and a kernel makes."""
        roots = (self.places[x].root for node in group.nodes for x in node.inputs)
        return (root for root in roots if root in self.home)

    def _reads_own_row(self, node: Node, other: Group, group: Group) -> bool:
        y = node.outputs[0]
        folds = isinstance(node.op, Reduction)
        if not folds and node.op.by_element:
            return all(self.home.get(self.places[x].root) is not other for x in node.inputs)
        shape = _squeezed(node.inputs[0].shape) if folds else _squeezed(y.shape)
        return self._reads_rows(node, shape, group.split if folds else None, other, group)

    def _merge(self, other: Group, group: Group) -> None:
        """Take in a kernel."""
        rows = other.shape != group.shape
        group.nodes += other.nodes
        group.extents |= dict.fromkeys(other.extents, Extent.ROW) if rows else other.extents
        group.split = group.split if other.split is None else other.split
        for y in other.extents:
            self.home[y] = group
        self._need(group, other.needs)
        if other.needed:
            self._pass_on(other, group.needs | 1 << group.position)
            group.needed = True
        other.nodes, other.extents = [], {}

    def _fits(self, node: Node, shape: Shape, split: int | None, group: Group) -> bool:
        if split is None:
            extent = _extent(shape, group)
            if extent is None:
                return False
        else:
            extent = Extent.FULL
            if shape != group.shape or group.split not in (None, split):
                return False
        domain = (node.outputs[0] if split is None else node.inputs[0]).type.shape
        for x in node.inputs:
            place = self.places[x]
            home = self.home.get(place.root)
            if home is group:
                if not _aligned(place, group, domain, extent):
                    return False
            elif home is not None and home.reaches(group):
                return False
            for root in place.after:
                if root in self.home and self.home[root].reaches(group):
                    return False
        return True

    def _need(self, group: Group, needed: int) -> None:
        """`group` needs these groups too, and so does whatever needs `group`."""
        if needed & ~group.needs == 0:
            return
        group.needs |= needed
        if group.needed:
            self._pass_on(group, needed)

    def _pass_on(self, group: Group, needed: int) -> None:
        for each in self.groups:
            if each.needs >> group.position & 1:
                each.needs |= needed

    def _open(self, shape: Shape, fusible: bool = True) -> Group:
        group = Group(len(self.groups), shape, fusible=fusible)
        self.groups.append(group)
        return group

    def _place(self, node: Node, group: Group, extent: Extent) -> None:
        group.nodes.append(node)
        needed = 0
        for root in self._roots(node):
            home = self.home.get(root)
            if home is not None and home is not group:
                needed |= home.needs | 1 << home.position
                home.needed = True
        if needed:
            self._need(group, needed)
        for y in node.outputs:
            group.extents[y] = extent
            self.home[y] = group
        self._made(node)

    def _roots(self, node: Node) -> list[Array]:
        """The values that must exist before a node runs."""
        roots: list[Array] = []
        for x in node.inputs:
            place = self.places[x]
            roots.append(place.root)
            if place.after:
                roots += place.after
        return roots

    def _call(self, node: Node) -> None:
        inputs = node.inputs
        if isinstance(node.op, Scatter) and self.places[inputs[0]].root in self.literals:
            inputs = (inputs[0], *[self._settled(x) for x in inputs[1:]])
        elif isinstance(node.op, HigherOrder | Reduction):
            inputs = tuple(x if self._is_dense(x) else self._settled(x) for x in inputs)
        elif isinstance(node.op, Contract | Onward):
            sums = tuple([self._settled(x) for x in inputs[2:]])
            inputs = tuple(x if self._lies_in_memory(x) else self._settled(x) for x in inputs[:2])
            inputs += sums
        else:
            inputs = tuple(self._settled(x) for x in inputs)
        group = self._open((), fusible=False)
        self._place(Node(node.op, inputs, node.outputs, node.site), group, Extent.FULL)

    def _results(self) -> tuple[Array, ...]:
        """The outputs in row-major buffers, each in one of its own, or an input as it is."""
        shapes = {x: x.shape for x in self.graph.inputs}
        results: list[Array] = []
        taken: set[Array] = set()
        for x in map(self._settled, self.graph.outputs):
            root = self.places[x].root
            fits = root not in taken and shapes.get(root, x.shape) == x.shape
            results.append(x if fits else self._copied(x, self._site_of(x)))
            if root not in shapes:
                taken.add(root)
        return tuple(results)

    def _is_dense(self, x: Array) -> bool:
        """Whether the elements of `x` lie one after the other, anywhere in a buffer."""
        return self._lies_in_memory(x) and replace(self.places[x].layout, offset=0).is_row_major

    def _lies_in_memory(self, x: Array) -> bool:
        root = self.places[x].root
        return root not in self.literals and root not in self.sources

    def _settled(self, x: Array) -> Array:
        """`x` where it has a row-major buffer of its own: itself, or a copy of the view it is."""
        place = self.places[x]
        given = place.root is x and x not in self.literals and x not in self.sources
        computed = place.root in self.home or given
        if computed and place.layout.is_row_major and place.root.size == x.size:
            return x
        return self._copied(x, self._site_of(x))

    def _site_of(self, x: Array) -> Site:
        if self.sites is None:
            self.sites = {y: node.site for node in self.graph.nodes for y in node.outputs}
        return self.sites.get(x, NOWHERE)

    def _made(self, node: Node) -> None:
        for y in node.outputs:
            self.places[y] = Place(y, Strided.row_major(y.type.shape))


def _extent(shape: Shape, group: Group) -> Extent | None:
    if shape == group.shape:
        return Extent.FULL
    if group.split is not None and shape == group.shape[: group.split]:
        return Extent.ROW
    return None


def _is_rows(other: Group, group: Group) -> bool:
    """Whether a kernel makes one value for each row of another."""
    return (
        other.split is None
        and group.split is not None
        and other.shape == group.shape[: group.split]
    )


def _aligned(place: Place, group: Group, domain: Shape, extent: Extent) -> bool:
    """Whether an outer iteration of `group` reads of `place` only what it made itself."""
    if place.layout.offset:
        return False
    if group.extents[place.root] is Extent.FULL:
        expected = row_major_strides(group.shape)
        return extent is Extent.FULL and place.layout.walked(domain) == expected
    outer = group.shape[: group.split]
    expected = row_major_strides(outer)
    if extent is Extent.FULL:
        expected += (0,) * (len(group.shape) - len(outer))
    return place.layout.walked(domain) == expected


def _squeezed(shape: Shape) -> Shape:
    return tuple([n for n in shape if n != 1]) if 1 in shape else shape


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
