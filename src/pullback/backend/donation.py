"""Donated inputs: each gives its memory to an output.

An output is written into the memory of its donor once nothing reads the old numbers any more; where
that cannot be, a copy at the end of the program moves it there. What may fail comes before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pullback.backend.written import Written
from pullback.ir.array import Array
from pullback.ir.strided import row_major_strides
from pullback.schedule.bounds import cannot_fail
from pullback.schedule.kernels import Access, Buffer, Extent, Load, Loops, Schedule, Store
from pullback.schedule.memory import Lifetimes, Plan


@dataclass(frozen=True, slots=True)
class Donation:
    """A schedule in which each donated input's new value is an output of its own.

    `donors` gives for such an output buffer the input buffer whose memory it takes over.
    """

    schedule: Schedule
    donors: dict[int, int]

    def ordered(self, order: Sequence[int]) -> Donation:
        """With the kernels in another order."""
        kernels = tuple([self.schedule.kernels[i] for i in order])
        return replace(self, schedule=replace(self.schedule, kernels=kernels))


def separate(schedule: Schedule, pairs: Mapping[int, int]) -> Donation:
    """Give each donated input's new value a buffer of its own. `pairs`: output → input, places.

    An input that is its own new value stays as it is. What else is a donated input, or is the new
    value of another one too, is copied.
    """
    inputs = frozenset(schedule.inputs)
    donated = {schedule.inputs[i] for i in pairs.values()}
    donors: dict[int, int] = {}
    result, before = schedule, set[int]()
    for place, buffer in enumerate(schedule.outputs):
        home = schedule.inputs[pairs[place]] if place in pairs else None
        if home != buffer:
            if buffer in donated or (home is not None and buffer in inputs):
                result, buffer = _copied(result, place, first=True)
            elif buffer in donors or (home is not None and buffer in before):
                result, buffer = _copied(result, place, first=False)
            if home is not None:
                donors[buffer] = home
        before.add(buffer)
    return Donation(result, donors)


def settled(donation: Donation, lives: Lifetimes) -> Donation:
    """Outputs that cannot be written over their donors at once are copied there at the end.

    The kernels that copy are the last ones of the schedule. Where there is none, the donation is
    the one given.
    """
    schedule, donors = donation.schedule, dict(donation.donors)
    for conflict in lives.conflicts:
        place = schedule.outputs.index(conflict.value)
        schedule, copy = _copied(schedule, place, first=False)
        donors[copy] = donors.pop(conflict.value)
    return Donation(schedule, donors) if lives.conflicts else donation


def _copied(schedule: Schedule, place: int, first: bool) -> tuple[Schedule, int]:
    """The schedule with a copy of an output returned in its place, and the copy's buffer."""
    source, buffers = schedule.outputs[place], schedule.buffers
    kind = buffers[source].type
    copy = len(buffers)
    shape = (math.prod(kind.shape),) if kind.size != 1 else ()
    strides = row_major_strides(shape)
    load = Load(Access(source, 0, strides, ()), kind.dtype, Extent.FULL)
    kernel = Loops(shape, (), (load,), (Store(0, Access(copy, 0, strides, ())),))
    kernels = (kernel, *schedule.kernels) if first else (*schedule.kernels, kernel)
    outputs = (*schedule.outputs[:place], copy, *schedule.outputs[place + 1 :])
    buffer = Buffer(kind, Array(kind, None))
    return replace(schedule, kernels=kernels, buffers=(*buffers, buffer), outputs=outputs), copy


def checks_first(schedule: Schedule, kernels: Sequence[Written]) -> list[int]:
    """An order of the kernels in which those that may fail, and what they need, come first."""
    makers = {b: i for i, kernel in enumerate(kernels) for b in kernel.use.writes}
    early: set[int] = set()
    safe = cannot_fail(schedule.kernels)
    pending = [i for i, written in enumerate(kernels) if written.checks and i not in safe]
    while pending:
        i = pending.pop()
        if i not in early:
            early.add(i)
            pending += [makers[b] for b in kernels[i].use.reads if b in makers]
    return sorted(range(len(kernels)), key=lambda i: i not in early)


def first_overwriting(plan: Plan, schedule: Schedule) -> int | None:
    """The first kernel that writes into the memory of an input."""
    inputs = frozenset(schedule.inputs)
    for position in range(len(plan.schedule)):
        homes = [place.resident for place in plan.writes(position)]
        if any(home in inputs for home in homes):
            return position
    return None
