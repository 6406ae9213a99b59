"""Concatenations that nobody computes: what makes a part stores it where it belongs.

A kernel that only joins parts is left out where each part is made by a kernel of loops for it
alone: that one stores into the joined value instead. A value has one kernel that writes it, so the
makers become one kernel, in the place of the last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pullback.ir.strided import row_major_strides
from pullback.ops.layout import Concat
from pullback.schedule.kernels import (
    Access,
    Apply,
    Element,
    Fold,
    Kernel,
    Load,
    Loops,
    Operand,
    Schedule,
    Step,
    Store,
)


def joined(schedule: Schedule) -> Schedule:
    """The schedule with parts stored where they belong."""
    concats = [
        (i, concat)
        for i, kernel in enumerate(schedule.kernels)
        if isinstance(kernel, Loops) and (concat := _concatenation(kernel)) is not None
    ]
    return _Joiner(schedule).joined(concats) if concats else schedule


@dataclass(frozen=True, slots=True)
class _Concatenation:
    axis: int
    parts: tuple[Operand, ...]
    result: int
    """The buffer of all of it."""

    def store(self, number: int, domain: Sequence[int], outer: int) -> Access | None:
        """Where a kernel over `domain` puts a part that it walks through in order."""
        part, rows = self.parts[number], [x.layout.shape[self.axis :] for x in self.parts]
        if math.prod(domain) != math.prod(part.layout.shape):
            return None
        block, whole = math.prod(rows[number]), sum(map(math.prod, rows))
        strides = []
        for size, step in zip(domain, row_major_strides(tuple(domain)), strict=True):
            if step % block and size * step > block:
                return None  # it walks across the border of a row
            strides.append(step if step < block else step // block * whole)
        first = sum(map(math.prod, rows[:number]))
        return Access(self.result, first, tuple(strides[:outer]), tuple(strides[outer:]))


def _concatenation(kernel: Loops) -> _Concatenation | None:
    """What a kernel joins, if it does nothing else."""
    if len(kernel.steps) != 1 or len(kernel.stores) != 1:
        return None
    (step,), (store,) = kernel.steps, kernel.stores
    if not (isinstance(step, Element) and isinstance(step.op, Concat)):
        return None
    parts = [x for x in step.operands if isinstance(x, Operand) and x.layout.is_row_major]
    if len(parts) < len(step.operands) or len({x.buffer for x in parts}) < len(parts):
        return None
    if any(0 in x.layout.shape for x in parts):
        return None
    return _Concatenation(step.op.axis, tuple(parts), store.access.buffer)


class _Joiner:
    """Kernels by their places; None where one has gone into another."""

    def __init__(self, schedule: Schedule) -> None:
        self.given = schedule
        self.ends = {*schedule.inputs, *schedule.outputs}
        self.kernels: list[Kernel | None] = list(schedule.kernels)
        self.maker: dict[int, int] = {}
        self.readers: dict[int, set[int]] = {}
        for i, kernel in enumerate(schedule.kernels):
            self._note(i, kernel)

    def _note(self, i: int, kernel: Kernel) -> None:
        self.maker |= dict.fromkeys(kernel.writes(), i)
        for buffer in kernel.reads():
            self.readers.setdefault(buffer, set()).add(i)

    def joined(self, concats: Sequence[tuple[int, _Concatenation]]) -> Schedule:
        for i, concat in concats:
            self._join(i, concat)
        left = [kernel for kernel in self.kernels if kernel is not None]
        return replace(self.given, kernels=tuple(left))

    def _join(self, place: int, concat: _Concatenation) -> None:
        """Leave out the kernel there, if the makers of its parts can do its work."""
        buffers = [x.buffer for x in concat.parts]
        if not self.ends.isdisjoint(buffers):
            return
        if any(self._read_by(b) != [place] for b in buffers):
            return
        makers = sorted({self.maker[b] for b in buffers})
        merged = _merged([kernel for i in makers if (kernel := self.kernels[i]) is not None])
        if merged is None or not self._may_wait(makers):
            return
        stores = [_placed(merged, store, concat, buffers) for store in merged.stores]
        placed = tuple([store for store in stores if store is not None])
        if len(placed) < len(stores):
            return
        for i in (place, *makers):
            self.kernels[i] = None
        last, whole = makers[-1], replace(merged, stores=placed)
        self.kernels[last] = whole
        self._note(last, whole)

    def _read_by(self, buffer: int) -> list[int]:
        return sorted(i for i in self.readers.get(buffer, ()) if self.kernels[i] is not None)

    def _may_wait(self, makers: Sequence[int]) -> bool:
        """Whether these kernels can all run in the place of the last of them."""
        written = ((i, b) for i in makers for b in self._kernel(i).writes())
        return not any(i < k <= makers[-1] for i, b in written for k in self._read_by(b))

    def _kernel(self, i: int) -> Kernel:
        kernel = self.kernels[i]
        assert kernel is not None
        return kernel


def _placed(
    loops: Loops, store: Store, concat: _Concatenation, buffers: Sequence[int]
) -> Store | None:
    """A store, of a part where it belongs."""
    if store.access.buffer not in buffers:
        return store
    domain, outer = (*loops.outer, *loops.inner), len(loops.outer)
    number = buffers.index(store.access.buffer)
    strides = row_major_strides(tuple(domain))
    if store.access.outer + store.access.inner != strides:
        return None  # one value a row
    access = concat.store(number, domain, outer)
    if access is None or access.inner != strides[outer:] or (strides and _last(access) != 1):
        return None  # vectors are stored whole
    return replace(store, access=access)


def _last(access: Access) -> int:
    return (*access.outer, *access.inner)[-1]


def _merged(kernels: Sequence[Kernel]) -> Loops | None:
    """Kernels of loops over one domain as one kernel."""
    loops = [each for each in kernels if isinstance(each, Loops)]
    if not loops or len(loops) < len(kernels):
        return None
    first, *rest = loops
    if any((each.outer, each.inner) != (first.outer, first.inner) for each in rest):
        return None
    steps: list[Step] = []
    stores: list[Store] = []
    loads: dict[Step, int] = {}
    for each in loops:
        new: list[int] = []
        for step in each.steps:
            step = _renumbered(step, new)
            if isinstance(step, Load) and step in loads:
                new.append(loads[step])
                continue
            if isinstance(step, Load):
                loads[step] = len(steps)
            new.append(len(steps))
            steps.append(step)
        stores += [replace(store, value=new[store.value]) for store in each.stores]
    return Loops(first.outer, first.inner, tuple(steps), tuple(stores))


def _renumbered(step: Step, new: Sequence[int]) -> Step:
    match step:
        case Apply():
            return replace(step, arguments=tuple([new[i] for i in step.arguments]))
        case Fold():
            return replace(step, argument=new[step.argument])
    return step
