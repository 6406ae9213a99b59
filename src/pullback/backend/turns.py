"""Which thread runs a kernel, and where all threads must wait for each other.

A kernel is shared out among all threads, or too small for that and given to one of them, its owner.
Between two barriers kernels run in no order, but for those of one owner. So a barrier stands before
a kernel that reads what another one since the last barrier wrote, or overwrites what it read or
wrote, unless both have the same owner. What a kernel touches is known in bytes, from the plan.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pullback._trusted import trusted
from pullback.schedule.memory import Plan

OWNERS = 4
"""Owners of small kernels; owner i is thread i mod threads. Fixed: the text knows no machine."""

SMALL = 4000
"""Nanoseconds below which a kernel is not shared out."""


class Span(NamedTuple):
    """Bytes from `begin` to `end` of the arena (space -1), or of a resident value."""

    space: int
    begin: int
    end: int


@trusted(frozen=True, slots=True)
class Footprint:
    """What a kernel reads and writes."""

    reads: tuple[Span, ...]
    writes: tuple[Span, ...]


@trusted(frozen=True, slots=True)
class Turn:
    """Who runs a kernel (None: all threads together), and whether all wait before it."""

    owner: int | None
    waits: bool


def footprints(plan: Plan) -> list[Footprint]:
    """What each step of a plan touches."""
    lives, workload = plan.lifetimes, plan.lifetimes.workload
    known: dict[int, Span] = {}

    def spans(instances: Sequence[int], sizes: Sequence[int]) -> tuple[Span, ...]:
        for instance, size in zip(instances, sizes, strict=True):
            if instance not in known:
                offset, resident = plan.place(instance)
                space = -1 if resident is None else resident
                known[instance] = Span(space, offset, offset + size)
        return tuple([known[i] for i, size in zip(instances, sizes, strict=True) if size])

    result = []
    for position, index in enumerate(plan.schedule):
        read = [workload.sizes[i] for i in workload.reads[index]]
        written = [workload.sizes[i] for i in workload.writes[index]]
        if workload.steps[index].scratch:
            written.append(workload.steps[index].scratch)
        result.append(
            Footprint(spans(lives.reads[position], read), spans(lives.writes[position], written))
        )
    return result


def take_turns(
    costs: Sequence[int], touched: Sequence[Footprint], alone: Collection[int] = ()
) -> list[Turn]:
    """The turns of kernels that run one after the other, of which each costs some nanoseconds.

    Those `alone` have one owner, whatever they cost.
    """
    pending = _Pending()
    turns = []
    for i, (cost, footprint) in enumerate(zip(costs, touched, strict=True)):
        before = pending.owners_before(footprint)
        owner = pending.owner_for(before) if cost < SMALL or i in alone else None
        waits = bool(before - {owner} if owner is not None else before)
        if waits:
            pending = _Pending()
            owner = None if owner is None else 0
        pending.add(footprint, owner, cost)
        turns.append(Turn(owner, waits))
    return turns


@dataclass(slots=True)
class _Pending:
    """What has been touched since the last barrier, by whom."""

    reads: dict[int | None, _Spans] = field(default_factory=dict)
    writes: dict[int | None, _Spans] = field(default_factory=dict)
    busy: list[int] = field(default_factory=lambda: [0] * OWNERS)

    def owners_before(self, footprint: Footprint) -> set[int | None]:
        """Who must have done before this begins."""
        found = {
            owner
            for owner, spans in self.writes.items()
            if spans.meet(footprint.reads) or spans.meet(footprint.writes)
        }
        return found | {o for o, spans in self.reads.items() if spans.meet(footprint.writes)}

    def owner_for(self, before: set[int | None]) -> int:
        """Whoever is waited for, else the least busy."""
        alone = [each for each in before if each is not None]
        if len(before) == 1 and alone:
            return alone[0]
        return self.busy.index(min(self.busy))

    def add(self, footprint: Footprint, owner: int | None, cost: int) -> None:
        self.reads.setdefault(owner, _Spans()).add(footprint.reads)
        self.writes.setdefault(owner, _Spans()).add(footprint.writes)
        if owner is not None:
            self.busy[owner] += cost


class _Spans:
    """A union of spans, each space's in order and apart from each other."""

    def __init__(self) -> None:
        self.spaces: dict[int, tuple[list[int], list[int]]] = {}

    def meet(self, spans: Iterable[Span]) -> bool:
        for space, begin, end in spans:
            known = self.spaces.get(space)
            if known is not None:
                begins, ends = known
                first = bisect_right(ends, begin)
                if first < len(begins) and begins[first] < end:
                    return True
        return False

    def add(self, spans: Iterable[Span]) -> None:
        for space, begin, end in spans:
            begins, ends = self.spaces.setdefault(space, ([], []))
            first, last = bisect_left(ends, begin), bisect_right(begins, end)
            if first < last:
                begin, end = min(begin, begins[first]), max(end, ends[last - 1])
            begins[first:last], ends[first:last] = [begin], [end]
