"""A loop over a sequence, forward and backward, as loops over segments of it.

A loop that stacks rows for the backward one is a single step of a program, and its rows are one
value, held until that one runs. Cut in segments, each a loop of its own, the forward pass is a
chain of steps which hand on the carry, and the planner drops what a segment has stacked and runs
it again, or does not, as with any other step: of all the rows, those of one segment need be there,
and the carries between them (Chen et al. 2016; Griewank and Walther 2000).

What makes the rows that a loop reads is cut with it where nothing else reads them, and so is what
adds up rows that the backward loop stacks, if it adds them in the order in which they come. All
else sees the whole, put together of its parts. Not a bit changes: a step of a loop is the same op
on the same operands, and so is a row of a product.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from pullback.errors import Site
from pullback.ir.array import Array
from pullback.ir.families import Elementwise
from pullback.ir.graph import Graph, Node, needed_nodes
from pullback.ir.op import Op, Parted
from pullback.ir.types import TensorType
from pullback.ops.contract import Contract
from pullback.ops.index import Gather
from pullback.ops.layout import Concat, Flip, Layout, Slice, Transpose
from pullback.ops.onward import Onward
from pullback.ops.scan import Scan

LEAST = 4
"""The steps of a loop that is worth cutting."""


def has_loops(graph: Graph) -> bool:
    """Whether there may be anything to cut."""
    return any(isinstance(node.op, Scan) and node.op.length >= LEAST for node in graph.nodes)


def cuts(graph: Graph) -> list[int]:
    """In how many segments it may be worth to cut the loops of a graph: √T of T steps."""
    longest = max(_pairs(graph), default=0)
    return [math.isqrt(longest)] if longest else []


def in_segments(graph: Graph, count: int) -> tuple[str, Graph]:
    """`graph` with the loops that a backward pass goes through again cut in about `count`, and
    what was cut in how many."""
    told = []
    for length, loops in _pairs(graph).items():
        bounds = _bounds(length, count)
        graph = _Cut(graph, frozenset(loops), bounds).graph()
        told.append(f"{len(loops)} loops of {length} steps in {len(bounds) - 1} segments")
    return ", ".join(told), graph


def _bounds(length: int, count: int) -> tuple[int, ...]:
    """Where the segments of a loop begin and end: equal ones, if their number is near to `count`,
    since their code is the same; else as many, of two sizes."""
    near = [n for n in range(2, length) if length % n == 0 and count <= 2 * n <= 4 * count]
    parts = min(near, key=lambda n: abs(math.log2(n / count)), default=min(count, length))
    return tuple([k * length // parts for k in range(parts + 1)])


def _pairs(graph: Graph) -> dict[int, list[Node]]:
    """By length, the loops that stack rows for one that runs the other way, and these."""
    found: dict[int, dict[Node, None]] = {}
    makers: dict[Array, Node] = {}
    for node in graph.nodes:
        if not isinstance(node.op, Scan) or node.op.length < LEAST:
            continue
        for x in _rows_read(node):
            maker = makers.get(x)
            if maker is not None and _turned(maker, node):
                found.setdefault(node.op.length, {}).update({maker: None, node: None})
        makers |= dict.fromkeys(node.outputs[node.op.carries :], node)
    return {length: list(nodes) for length, nodes in found.items()}


def _turned(first: Node, second: Node) -> bool:
    assert isinstance(first.op, Scan)
    assert isinstance(second.op, Scan)
    return first.op.reverse != second.op.reverse


def _rows_read(node: Node) -> tuple[Array, ...]:
    assert isinstance(node.op, Scan)
    return node.inputs[node.op.constants + node.op.carries :]


@dataclass(frozen=True, slots=True)
class _Factor:
    """An operand of a sum over the steps of a loop: the value that is cut, and the view of it."""

    value: Array
    axis: int
    view: Node | None


@dataclass
class _Cut:
    """What is cut of a graph, and the graph that comes of it."""

    given: Graph
    loops: frozenset[Node]
    bounds: tuple[int, ...]
    """The steps at which segments begin, and the last end."""
    axes: dict[Array, int] = field(default_factory=dict)
    """The values that are made in parts, and the axis along which each is cut."""
    ways: dict[Node, Parted] = field(default_factory=dict)
    """The nodes besides the loops that make parts, with the op of a part."""
    sums: dict[Node, tuple[_Factor, _Factor]] = field(default_factory=dict)
    """Products that add up rows of a loop in its order."""
    drivers: dict[Node, Node] = field(default_factory=dict)
    """For each of these the loop."""
    views: dict[Node, int] = field(default_factory=dict)
    """Views that nothing but they read, and the axis of what is viewed."""

    def __post_init__(self) -> None:
        self.count, self.length = len(self.bounds) - 1, self.bounds[-1]
        self.sizes = [b - a for a, b in itertools.pairwise(self.bounds)]
        self.ends = set(self.given.outputs)
        self.maker = {y: node for node in self.given.nodes for y in node.outputs}
        self.place = {node: i for i, node in enumerate(self.given.nodes)}
        self.readers: dict[Array, list[Node]] = {}
        for node in self.given.nodes:
            for x in dict.fromkeys(node.inputs):
                self.readers.setdefault(x, []).append(node)

    def graph(self) -> Graph:
        self._after()
        self._before()
        return _Writer(self).graph()

    # ---- what is made of rows that a loop stacks ----

    def _after(self) -> None:
        """Views of them, products of them that are smaller, and sums in the order of the loop."""
        origin: dict[Array, Node] = {}
        for node in self.given.nodes:
            if node in self.loops:
                rows = _stacked(node)
                self.axes |= dict.fromkeys(rows, 0)
                origin |= dict.fromkeys(rows, node)
            elif isinstance(node.op, Contract) and self._add_sum(node.op, node, origin):
                continue
            elif isinstance(node.op, Transpose | Contract):
                x = next((x for x in node.inputs if x in origin), None)
                if x is not None and node.outputs[0].type.nbytes <= x.type.nbytes:
                    self._follow(node, x, origin)

    def _follow(self, node: Node, x: Array, origin: dict[Array, Node]) -> None:
        """Cut the result of a node as its operand is cut, if it can be."""
        (made,) = node.outputs
        for axis in range(made.ndim):
            way = self._way(node, axis)
            if way is None:
                continue
            if any(y is x and a == self.axes[x] for y, a in zip(node.inputs, way[1], strict=True)):
                self.ways[node], self.axes[made], origin[made] = way, axis, origin[x]
                return

    def _add_sum(self, op: Contract, node: Node, origin: dict[Array, Node]) -> bool:
        """Whether a product adds up rows in the order of the last loop that stacks some of them."""
        views = [self._view(x) for x in node.inputs]
        values = [x if view is None else view.inputs[0] for x, view in zip(node.inputs, views)]  # noqa: B905
        loops = [origin[x] for x in values if x in origin]
        if not loops or not Onward.takes(op, *[x.type for x in node.inputs]):
            return False
        driver = max(loops, key=self.place.__getitem__)
        i = next(i for i, x in enumerate(values) if origin.get(x) is driver)
        letters = op.left, op.right
        summed = [c for c in op.left if c in op.right and c not in op.result]
        letter = letters[i][self.axes[values[i]]]
        if summed[:1] != [letter]:
            return False
        axes = [each.index(letter) for each in letters]
        assert isinstance(driver.op, Scan)
        for view, axis in zip(views, axes, strict=True):
            if driver.op.reverse != (view is not None and axis in _flipped(view)):
                return False
        left, right = map(_Factor, values, axes, views)
        self.sums[node], self.drivers[node] = (left, right), driver
        for view, axis in zip(views, axes, strict=True):
            if view is not None and len(self.readers[view.outputs[0]]) == 1:
                self.views[view] = axis
        return True

    def _view(self, x: Array) -> Node | None:
        """The node that turns a value round, if that is where an operand comes from."""
        node = self.maker.get(x)
        return node if node is not None and isinstance(node.op, Flip) else None

    # ---- what makes rows that a loop reads ----

    def _before(self) -> None:
        """Cut what is read in parts alone."""
        for node in reversed(self.given.nodes):
            if node in self.loops or node in self.ways or node in self.sums or node in self.views:
                continue
            y = node.outputs[0] if len(node.outputs) == 1 else None
            if y is None or y in self.ends:
                continue
            wanted = {axis for each in self.readers.get(y, ()) for axis in self._taken(each, y)}
            axis = wanted.pop() if len(wanted) == 1 else None
            way = None if axis is None else self._way(node, axis)
            if axis is not None and way is not None and any(a is not None for a in way[1]):
                self.ways[node], self.axes[y] = way, axis

    def _taken(self, node: Node, x: Array) -> Iterator[int | None]:
        """The axes along which a node takes parts of a value; None where it takes the whole."""
        if node in self.loops:
            assert isinstance(node.op, Scan)
            first = node.op.constants + node.op.carries
            yield from (0 if i >= first else None for i, y in enumerate(node.inputs) if y is x)
        elif node in self.views:
            yield self.views[node]
        elif node in self.sums:
            yield from (each.axis for each in self.sums[node] if each.value is x)
        elif node in self.ways:
            places = self.ways[node][1]
            yield from (axis for y, axis in zip(node.inputs, places, strict=True) if y is x)
        else:
            yield None

    def _way(self, node: Node, axis: int) -> Parted | None:
        """How a part of the only result of a node is made, where that keeps its bits."""
        (y,) = node.outputs
        if not isinstance(node.op, Elementwise | Layout | Contract | Gather):
            return None
        if y.shape[axis] % self.length or not y.shape[axis]:
            return None
        even = len(set(self.sizes)) == 1
        number = self.count if even else self.length
        way = node.op.parted(axis, number, *[x.type for x in node.inputs])
        if way is None or not (even or way[0] is node.op) or not self._keeps_bits(node, way):
            return None
        return way

    def _keeps_bits(self, node: Node, way: Parted) -> bool:
        """A product of one row and one column adds in an order of its own."""
        if not isinstance(node.op, Contract):
            return True
        shapes = [
            [x.shape, *[self.part_type(x.type, axis, k).shape for k in range(self.count)]]
            for x, axis in zip(node.inputs, way[1], strict=True)
        ]
        return len({node.op.is_dot(*each) for each in zip(*shapes, strict=True)}) == 1

    def part_type(self, kind: TensorType, axis: int | None, k: int) -> TensorType:
        """The type of part `k` of a value."""
        if axis is None:
            return kind
        shape = list(kind.shape)
        shape[axis] = shape[axis] // self.length * self.sizes[k]
        return kind.reshaped(tuple(shape))


def _stacked(node: Node) -> tuple[Array, ...]:
    assert isinstance(node.op, Scan)
    return node.outputs[node.op.carries :]


def _flipped(node: Node) -> tuple[int, ...]:
    assert isinstance(node.op, Flip)
    return node.op.axes


# ---- the graph that comes of it -------------------------------------------------------------


class _Writer:
    """Writes the nodes again: a loop segment by segment, and before each what it reads."""

    def __init__(self, cut: _Cut) -> None:
        self.cut = cut
        self.made: list[Node] = []
        self.maker = {y: node for node in cut.given.nodes for y in node.outputs}
        self.parts: dict[tuple[Array, int, int], Array] = {}
        """Parts of values: (value, axis, which)."""
        self.there: set[Array] = set(cut.given.inputs)
        """The values that exist as a whole."""
        self.totals: dict[Node, Array] = {}
        """The sums so far."""
        self.adding: set[Node] = set()
        """Sums that are added up while the loop runs."""

    def graph(self) -> Graph:
        cut, given = self.cut, self.cut.given
        for node in given.nodes:
            if node in cut.loops:
                self._loop(node)
            elif node in cut.sums:
                for number, k in enumerate(self._order(cut.drivers[node])):
                    if node not in self.adding:
                        self._add(node, number, k)
            elif node not in cut.ways and node not in cut.views:
                for x in node.inputs:
                    self._whole(x)
                self.made.append(node)
                self.there.update(node.outputs)
        for x in given.outputs:
            self._whole(x)
        return Graph(given.inputs, needed_nodes(self.made, given.outputs), given.outputs)

    def _order(self, node: Node) -> Sequence[int]:
        """The segments in the order in which a loop goes through them."""
        assert isinstance(node.op, Scan)
        every = range(self.cut.count)
        return every[::-1] if node.op.reverse else every

    def _loop(self, node: Node) -> None:
        """A loop for each segment, and after it what it adds to sums."""
        op, cut = node.op, self.cut
        assert isinstance(op, Scan)
        fixed = op.constants + op.carries
        for x in node.inputs[:fixed]:
            self._whole(x)
        constants, carry = node.inputs[: op.constants], node.inputs[op.constants : fixed]
        sums: list[Node] = []
        for number, k in enumerate(self._order(node)):
            rows = [self._part(x, 0, k) for x in node.inputs[fixed:]]
            inputs = (*constants, *carry, *rows)
            carry = node.outputs[: op.carries]
            if number < cut.count - 1:
                carry = tuple([self._like(x.type) for x in carry])
            rows = [self._like(cut.part_type(y.type, 0, k)) for y in _stacked(node)]
            piece = replace(op, length=cut.sizes[k])
            self.made.append(Node(piece, inputs, (*carry, *rows), node.site))
            self.parts |= {(y, 0, k): row for y, row in zip(_stacked(node), rows, strict=True)}
            if number == 0:
                sums = [each for each, loop in cut.drivers.items() if loop is node]
                sums = [each for each in sums if self._is_ready(each, k)]
                self.adding.update(sums)
            for each in sums:
                self._add(each, number, k)
        self.there.update(carry)

    # ---- sums over the steps ----

    def _is_ready(self, node: Node, k: int) -> bool:
        """Whether part `k` of both factors can be made now."""
        return all(self._exists(x.value, x.axis, k) for x in self.cut.sums[node])

    def _exists(self, x: Array, axis: int | None, k: int) -> bool:
        if x in self.there or (x, axis, k) in self.parts:
            return True
        node = self.maker[x]
        if node not in self.cut.ways:
            return False
        places = zip(node.inputs, self.cut.ways[node][1], strict=True)
        return axis is not None and all(self._exists(y, place, k) for y, place in places)

    def _add(self, node: Node, number: int, k: int) -> None:
        """What segment `k`, the one at place `number` in the order, adds to a sum."""
        op = node.op
        assert isinstance(op, Contract)
        factors = []
        for each in self.cut.sums[node]:
            part = self._part(each.value, each.axis, k)
            factors.append(
                part if each.view is None else self._one(each.view.op, [part], node.site)
            )
        last = number == self.cut.count - 1
        total = node.outputs[0] if last else self._like(node.outputs[0].type)
        if number == 0:
            self.made.append(Node(op, tuple(factors), (total,), node.site))
        else:
            inputs = *factors, self.totals[node]
            self.made.append(Node(Onward.after(op), inputs, (total,), node.site))
        self.totals[node] = total
        if last:
            self.there.add(total)

    # ---- parts and wholes ----

    def _part(self, x: Array, axis: int, k: int) -> Array:
        """Part `k` of a value along an axis, made when it is first asked for."""
        key = x, axis, k
        if key not in self.parts:
            node = self.maker.get(x)
            if node is not None and node in self.cut.ways and self.cut.axes[x] == axis:
                op, places = self.cut.ways[node]
                inputs = [
                    self._whole(y) if place is None else self._part(y, place, k)
                    for y, place in zip(node.inputs, places, strict=True)
                ]
                self.parts[key] = self._one(op, inputs, node.site)
            else:
                self.parts[key] = self._slice(self._whole(x), axis, k)
        return self.parts[key]

    def _slice(self, x: Array, axis: int, k: int) -> Array:
        unit, bounds = x.shape[axis] // self.cut.length, self.cut.bounds
        start = tuple([bounds[k] * unit if i == axis else 0 for i in range(x.ndim)])
        stop = tuple([bounds[k + 1] * unit if i == axis else n for i, n in enumerate(x.shape)])
        return self._one(Slice(start, stop, (1,) * x.ndim), [x], self._site(x))

    def _whole(self, x: Array) -> Array:
        """A value as a whole, put together when it is first asked for."""
        if x not in self.there:
            axis = self.cut.axes[x]
            parts = tuple([self._part(x, axis, k) for k in range(self.cut.count)])
            self.made.append(Node(Concat(axis), parts, (x,), self._site(x)))
            self.there.add(x)
        return x

    def _site(self, x: Array) -> Site:
        node = self.maker.get(x)
        return next(iter(self.cut.loops)).site if node is None else node.site

    def _one(self, op: Op, inputs: Sequence[Array], site: Site) -> Array:
        y = self._like(op.output_types(*[x.type for x in inputs])[0])
        self.made.append(Node(op, tuple(inputs), (y,), site))
        return y

    def _like(self, kind: TensorType) -> Array:
        return Array(kind, None, self.cut.given.outputs[0].trace)
