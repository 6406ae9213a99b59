"""Groups of nodes as kernels over buffers."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from pullback._trusted import trusted
from pullback.ir.array import Array
from pullback.ir.families import Elementwise
from pullback.ir.graph import Node
from pullback.ir.strided import Strided, row_major_strides
from pullback.ir.types import Shape
from pullback.ops.index import Scatter
from pullback.ops.reduce import Reduction
from pullback.schedule.groups import Group, Grouping, Place
from pullback.schedule.kernels import (
    Access,
    Apply,
    Buffer,
    Call,
    Element,
    Extent,
    Fold,
    Kernel,
    Literal,
    Load,
    Loops,
    Operand,
    Schedule,
    Step,
    Store,
    Walk,
)

Strides = tuple[int, ...]


def write_schedule(grouping: Grouping) -> Schedule:
    """The kernels of the groups, in an order in which each follows those it needs."""
    return _Writer(grouping).schedule()


class _Writer:
    """Turns the groups into kernels over buffers."""

    def __init__(self, grouping: Grouping) -> None:
        self.grouping = grouping
        self.buffers: list[Buffer] = []
        self.number: dict[Array, int] = {}

    def schedule(self) -> Schedule:
        grouping = self.grouping
        inputs = tuple(self._buffer(x) for x in grouping.graph.inputs)
        kept = self._materialised()
        kernels: list[Kernel] = []
        for group in _ordered(grouping.groups):
            if group.fusible:
                kernels.append(self._loops(group, kept))
            else:
                kernels.append(self._call(group))
        outputs = tuple(self._buffer(grouping.places[x].root) for x in self.grouping.outputs)
        for buffer, x in zip(outputs, grouping.outputs, strict=True):
            self.buffers[buffer] = Buffer(x.type, self.buffers[buffer].value)
        return Schedule(tuple(kernels), tuple(self.buffers), inputs, outputs)

    def _buffer(self, x: Array) -> int:
        if x not in self.number:
            self.number[x] = len(self.buffers)
            self.buffers.append(Buffer(x.type, x))
        return self.number[x]

    def _materialised(self) -> set[Array]:
        """The values that another kernel, or the caller, reads from memory."""
        grouping = self.grouping
        kept = {grouping.places[x].root for x in self.grouping.outputs}
        for group in grouping.groups:
            for node in group.nodes:
                for x in node.inputs:
                    root = grouping.places[x].root
                    if grouping.home.get(root) is not group:
                        kept.add(root)
        return kept

    def _call(self, group: Group) -> Call:
        (node,) = group.nodes
        inputs = node.inputs
        start = self._literal(inputs[0]) if isinstance(node.op, Scatter) else None
        return Call(
            node.op,
            tuple(self._operand(x) for x in (inputs[1:] if start else inputs)),
            tuple(self._operand(y) for y in node.outputs),
            node.site,
            start=start,
        )

    def _literal(self, x: Array) -> Literal | None:
        """The number that all of `x` is, where the text says it."""
        literal = self.grouping.literals.get(self.grouping.places[x].root)
        return None if literal is None else Literal(literal.value, literal.dtype)

    def _operand(self, x: Array) -> Operand:
        place = self.grouping.places[x]
        return Operand(self._buffer(place.root), x.dtype, place.layout)

    def _loops(self, group: Group, kept: set[Array]) -> Loops:
        split = len(group.shape) if group.split is None else group.split
        places = self.grouping.places
        steps: list[Step] = []
        known: dict[object, int] = {}
        made: dict[Array, int] = {}
        for node in group.nodes:
            op, y = node.op, node.outputs[0]
            if isinstance(op, Reduction):
                walked = _Domain(group, node.inputs[0].type.shape, Extent.FULL, split)
            else:
                walked = _Domain(group, y.type.shape, group.extents[y], split)
            if not isinstance(op, Elementwise | Reduction):
                made[y] = len(steps)
                steps.append(self._element(node, walked))
                continue
            arguments = []
            for x in node.inputs:
                place = places[x]
                argument = made.get(place.root)
                if argument is None:
                    argument = self._read(place, walked, steps, known)
                arguments.append(argument)
            made[y] = len(steps)
            if isinstance(op, Reduction):
                steps.append(Fold(op, arguments[0], y.type.dtype, node.site))
            else:
                steps.append(Apply(op, tuple(arguments), y.type.dtype, walked.extent, node.site))
        stores = tuple(
            Store(position, self._home_access(y, group, split))
            for y, position in made.items()
            if y in kept
        )
        return Loops(group.shape[:split], group.shape[split:], tuple(steps), stores)

    def _read(
        self, place: Place, domain: _Domain, steps: list[Step], known: dict[object, int]
    ) -> int:
        """The step that gives what lies at `place`, for each element of a domain: one of those
        `known`, or a new one."""
        root = place.root
        literal = self.grouping.literals.get(root)
        if literal is not None:
            key: object = (repr(literal.value), literal.dtype)  # 0.0 == -0.0
        else:
            offset, outer, inner, extent = domain.walk(place.layout)
            key = (root, offset, outer, inner, extent is Extent.ROW)
        number = known.get(key)
        if number is not None:
            return number
        source = self.grouping.sources.get(root)
        if literal is not None:
            steps.append(Literal(literal.value, literal.dtype))
        elif source is not None:
            walk, kind = Walk(offset, outer, inner), root.dtype
            steps.append(Element(source.op, (), (), (walk,), kind, extent, source.site))
        else:
            access = Access(self._buffer(root), offset, outer, inner)
            steps.append(Load(access, root.dtype, extent))
        number = known[key] = len(steps) - 1
        return number

    def _element(self, node: Node, domain: _Domain) -> Element:
        (y,) = node.outputs
        operands = tuple(self._literal(x) or self._operand(x) for x in node.inputs)
        types = tuple(x.type for x in node.inputs)
        at = domain.coordinates()
        return Element(node.op, operands, types, at, y.dtype, domain.extent, node.site)

    def _home_access(self, y: Array, group: Group, split: int) -> Access:
        if group.extents[y] is Extent.FULL:
            strides = row_major_strides(group.shape)
            return Access(self._buffer(y), 0, strides[:split], strides[split:])
        return Access(self._buffer(y), 0, row_major_strides(group.shape[:split]), ())


@trusted(frozen=True, slots=True)
class _Domain:
    """The elements of a value of `shape`, as a kernel walks over them."""

    group: Group
    shape: Shape
    extent: Extent
    split: int

    def walk(self, layout: Strided) -> tuple[int, Strides, Strides, Extent]:
        """A walk along a view, and what it varies over: the row alone, if it may."""
        strides = layout.walked(self.shape)
        outer = strides[: self.split]
        if self.extent is not Extent.FULL:
            return layout.offset, outer, (), self.extent
        inner = strides[self.split :]
        if self.group.split is not None and not any(inner):
            return layout.offset, outer, (), Extent.ROW
        return layout.offset, outer, inner, Extent.FULL

    def coordinates(self) -> tuple[Walk, ...]:
        """For each axis of the value its coordinate."""
        axes = [a for a, n in enumerate(self.shape) if n != 1]
        walks = []
        for axis in range(len(self.shape)):
            steps = tuple(int(a == axis) for a in axes)
            inner = steps[self.split :] if self.extent is Extent.FULL else ()
            walks.append(Walk(0, steps[: self.split], inner))
        return tuple(walks)


def _ordered(groups: Sequence[Group]) -> list[Group]:
    """Each group after those it needs; among the possible orders the one nearest the graph's.

    A group that cannot run yet watches one of those it waits for.
    """
    waiting: dict[int, list[Group]] = {}
    left = sum(1 << group.position for group in groups)
    ready: list[tuple[int, Group]] = []

    def place(group: Group) -> None:
        missing = group.needs & left
        if missing:
            waiting.setdefault(missing.bit_length() - 1, []).append(group)
        else:
            heapq.heappush(ready, (group.position, group))

    for group in groups:
        place(group)
    result = []
    while ready:
        _, group = heapq.heappop(ready)
        result.append(group)
        left ^= 1 << group.position
        for each in waiting.pop(group.position, ()):
            place(each)
    return result
