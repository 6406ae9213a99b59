"""Groups of nodes as kernels over buffers."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from pullback.ir.array import Array
from pullback.ir.families import Elementwise
from pullback.ir.strided import row_major_strides
from pullback.ir.types import Shape
from pullback.ops.reduce import Reduction
from pullback.schedule.groups import Group, Grouping, Place
from pullback.schedule.kernels import (
    Access,
    Apply,
    Buffer,
    Call,
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
)


def write_schedule(grouping: Grouping) -> Schedule:
    """The kernels of the groups, in an order in which each follows those it needs."""
    return _Writer(grouping).schedule()


class _Writer:
    """Turns the groups into kernels over buffers."""

    def __init__(self, grouping: Grouping) -> None:
        self.grouping = grouping
        self.buffers: list[Buffer] = []
        self.number: dict[Array, int] = {}
        # A result may be a reshaped view of what a kernel makes: the caller gets its shape.
        self.types = {grouping.places[x].root: x.type for x in grouping.outputs}

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
        return Schedule(tuple(kernels), tuple(self.buffers), inputs, outputs)

    def _buffer(self, x: Array) -> int:
        if x not in self.number:
            self.number[x] = len(self.buffers)
            self.buffers.append(Buffer(self.types.get(x, x.type), x))
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
        return Call(
            node.op,
            tuple(self._operand(x) for x in node.inputs),
            tuple(self._operand(y) for y in node.outputs),
            node.site,
        )

    def _operand(self, x: Array) -> Operand:
        place = self.grouping.places[x]
        return Operand(self._buffer(place.root), x.dtype, place.layout)

    def _loops(self, group: Group, kept: set[Array]) -> Loops:
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
                place = self.grouping.places[x]
                if place.root in made:
                    arguments.append(made[place.root])
                elif place.root in self.grouping.literals:
                    literal = self.grouping.literals[place.root]
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

    def _load(self, place: Place, domain: Shape, extent: Extent, group: Group, split: int) -> Load:
        seen = place.layout.broadcast_to(domain)
        strides = tuple(s for s, n in zip(seen.strides, seen.shape, strict=True) if n != 1)
        inner = strides[split:] if extent is Extent.FULL else ()
        if extent is Extent.FULL and not any(inner) and group.split is not None:
            extent = Extent.ROW
            inner = ()
        access = Access(self._buffer(place.root), seen.offset, strides[:split], inner)
        return Load(access, place.root.dtype, extent)

    def _home_access(self, y: Array, group: Group, split: int) -> Access:
        if group.extents[y] is Extent.FULL:
            strides = row_major_strides(group.shape)
            return Access(self._buffer(y), 0, strides[:split], strides[split:])
        return Access(self._buffer(y), 0, row_major_strides(group.shape[:split]), ())


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
