"""Where the bytes of a training step lie, by what they are to its user."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from pullback.compile.report import MemoryReport, Saved
from pullback.errors import Phase
from pullback.schedule.memory import Holding, Workload

KINDS = (
    ("state.model", "parameters"),
    ("state.optimizer", "optimiser state"),
    ("state.", "key, step, state of layers"),
    ("result ", "results"),
    ("scratch of the threads", "scratch of the threads"),
)
"""What a resident value is, by how its label begins; what begins otherwise is the batch."""

SCALAR = 64
"""Bytes of a buffer that holds a few numbers."""


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of one kind."""

    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Group:
    """Saved values of one form: the same value of equal layers, which are `[*]` in its name."""

    label: str
    layer: str
    source: str
    count: int
    bytes: int
    """Of all of them."""
    start: int
    end: int
    """From when the first is made until the last is needed no more."""
    again: int
    """Nanoseconds to compute all of them again."""


class Ledger:
    """The account of a plan of `pb.train.train_step`: its parts add up to the peak, to the byte."""

    def __init__(self, plan: MemoryReport) -> None:
        self.plan = plan
        workload = plan.lifetimes.workload
        self._copies = frozenset(_copies(workload))
        self._gradients = frozenset(_gradients(workload))
        self._number = {id(value): i for i, value in enumerate(workload.values)}

    def resident(self) -> list[Part]:
        """What lies outside the arena, the whole step long."""
        sums: dict[str, int] = {}
        workload = self.plan.lifetimes.workload
        for value, size in zip(workload.values, workload.sizes, strict=True):
            if value.resident and value.view_of is None:
                kind = next((name for head, name in KINDS if value.label.startswith(head)), "batch")
                sums[kind] = sums.get(kind, 0) + size
        return _sorted(sums)

    def arena(self) -> list[Part]:
        """What lies in the arena at its peak, and what gaps between buffers take."""
        sums: dict[str, int] = {}
        for holding in self.plan.at_peak():
            kind = self._kind(holding)
            sums[kind] = sums.get(kind, 0) + holding.bytes
        sums["gaps"] = self.plan.arena_bytes - sum(sums.values())
        return _sorted(sums)

    def gradients(self) -> tuple[int, int]:
        """(the most bytes of gradients of parameters in the arena at once, the step when)."""
        lives, change = self.plan.lifetimes, [0] * (len(self.plan.schedule) + 2)
        for instance, storage in zip(lives.instances, lives.storage, strict=True):
            if instance.value in self._gradients and storage >= 0:
                assert instance.value is not None
                change[instance.start] += lives.workload.sizes[instance.value]
                change[instance.end] -= lives.workload.sizes[instance.value]
        held = list(accumulate(change))
        return max(held), held.index(max(held))

    def groups(self) -> list[Group]:
        """The values saved for the backward pass, those of equal layers together, largest first."""
        found: dict[tuple[str, str, str, int], list[Saved]] = {}
        copied = {(x.label, x.start, x.end) for x in self.plan.holdings if self._is_copy(x)}
        for each in self.plan.saved():
            is_copy = (each.label, each.start, each.end) in copied
            layer = "" if is_copy else re.sub(r"\[\d+\]", "[*]", each.layer)
            label, source = ("(parameters)", "") if is_copy else (each.label, each.source)
            key = label, layer, source, 0 if is_copy else each.bytes
            found.setdefault(key, []).append(each)
        groups = [
            Group(
                *key[:3],
                len(members),
                sum(x.bytes for x in members),
                min(x.start for x in members),
                max(x.end for x in members),
                sum(x.again for x in members),
            )
            for key, members in found.items()
        ]
        return sorted(groups, key=lambda x: (-x.bytes, x.start))

    def _is_copy(self, holding: Holding) -> bool:
        return holding.value is not None and self._number[id(holding.value)] in self._copies

    def _kind(self, holding: Holding) -> str:
        if holding.value is None:
            return "workspace of the kernel"
        if self._number[id(holding.value)] in self._gradients:
            return "gradients of parameters"
        if self._is_copy(holding):
            return "parameters in the precision of the step"
        if holding.value.site.phase is not Phase.FORWARD:
            return "made by the backward pass"
        turn = self.plan.turn
        is_later = 0 < turn <= self.plan.schedule[holding.start]
        return "made by the update" if is_later else "made by the forward pass"


def _sorted(sums: dict[str, int]) -> list[Part]:
    return sorted((Part(*item) for item in sums.items() if item[1]), key=lambda x: -x.bytes)


def _copies(workload: Workload) -> Iterator[int]:
    """What is computed from parameters alone: themselves, in the precision of the step."""
    known = {i for i, x in enumerate(workload.values) if x.label.startswith("state.model")}
    for step, read in zip(workload.steps, workload.reads, strict=True):
        if read and known.issuperset(read):
            known.update(step.writes)
            yield from (i for i in step.writes if workload.values[i].donor is None)


def _gradients(workload: Workload) -> Iterator[int]:
    """What the steps that write new parameters read, but for numbers such as a norm."""
    values = workload.values
    for step, read in zip(workload.steps, workload.reads, strict=True):
        donors = [values[i].donor for i in step.writes]
        if any(i is not None and values[i].label.startswith("state.model") for i in donors):
            yield from (i for i in read if not values[i].resident and values[i].bytes > SCALAR)


def rest(groups: Sequence[Group], shown: int) -> Part:
    """What is not shown."""
    left = groups[shown:]
    return Part(f"and {len(left)} more", sum(x.bytes for x in left))
