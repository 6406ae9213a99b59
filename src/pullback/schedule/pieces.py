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
    for kernel in schedule.kernels:
        if isinstance(kernel, Loops) and (concat := _concatenation(kernel)) is not None:
            schedule = _without(schedule, kernel, concat) or schedule
    return schedule


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


def _without(schedule: Schedule, kernel: Loops, concat: _Concatenation) -> Schedule | None:
    """The schedule without the kernel that joins, or None."""
    kernels = list(schedule.kernels)
    buffers = [x.buffer for x in concat.parts]
    if not set(buffers).isdisjoint((*schedule.inputs, *schedule.outputs)):
        return None
    if any(each is not kernel and not each.reads().isdisjoint(buffers) for each in kernels):
        return None
    makers = [i for i, each in enumerate(kernels) if not each.writes().isdisjoint(buffers)]
    merged = _merged([kernels[i] for i in makers])
    if merged is None or not _may_wait(kernels, makers):
        return None
    stores: list[Store] = []
    for store in merged.stores:
        placed = _placed(merged, store, concat, buffers)
        if placed is None:
            return None
        stores.append(placed)
    kernels[makers[-1]] = replace(merged, stores=tuple(stores))
    left = [each for i, each in enumerate(kernels) if each is not kernel and i not in makers[:-1]]
    return replace(schedule, kernels=tuple(left))


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


def _may_wait(kernels: Sequence[Kernel], makers: Sequence[int]) -> bool:
    """Whether these kernels can all run in the place of the last of them."""
    return all(
        kernels[i].writes().isdisjoint(later.reads())
        for i in makers
        for later in kernels[i + 1 : makers[-1] + 1]
    )


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
