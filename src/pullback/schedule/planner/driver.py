"""The cheapest schedule found that fits a byte budget.

Planners propose schedules; `evaluate` alone decides what they hold, so no budget is ever passed.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Iterator, Sequence

from pullback.errors import MemoryPlanError
from pullback.schedule.memory import Plan, Workload, evaluate, lifetimes, packed
from pullback.schedule.packing import aligned, pack
from pullback.schedule.picture import bytes_text
from pullback.schedule.planner.eviction import TASTES, evicted
from pullback.schedule.planner.refine import refine
from pullback.schedule.planner.stack import Stack

Schedule = tuple[int, ...]

SHRINKS = (1.0, 0.98, 0.95, 0.9, 0.85, 0.8)
"""Shares of the arena to plan for, until what is packed fits, too."""

SMALL = 128
"""For so few steps all shares are tried: the same greed in less room goes other ways."""

ORDERS = 20
"""In how many orders the buffers of a schedule are placed."""

NEAR = 64
"""The smallest possible budget is looked for to one part in so many."""

NAMED = 6
"""How many values a refusal names."""


class Planner:
    """Plans of one workload for different budgets. All budgets count the resident values too."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload

    def fit(self, budget: int) -> Plan:
        """The cheapest plan found whose peak is at most `budget` bytes.

        Raises `MemoryPlanError`, which names the smallest possible budget, where there is none.
        """
        known = self.__dict__.get("least", self.full).peak_bytes
        plan = self._search(budget) if budget >= known or "least" not in self.__dict__ else None
        if plan is not None:
            return plan
        if self.least.peak_bytes <= budget:
            return self.least
        raise self._too_little(budget)

    def fits(self, budget: int) -> bool:
        """Whether a plan for a budget is found at once."""
        return self._search(budget, SHRINKS[:1]) is not None

    def sweep(self, budgets: Iterable[int]) -> dict[int, Plan]:
        """A plan for each budget that can be met; with more bytes a plan never costs more."""
        plans: dict[int, Plan] = {}
        best: Plan | None = None
        for budget in sorted(set(budgets)):
            try:
                plan = self.fit(budget)
            except MemoryPlanError:
                continue
            if best is None or plan.lifetimes.cost < best.lifetimes.cost:
                best = plan
            plans[budget] = best
        return plans

    @functools.cached_property
    def full(self) -> Plan:
        """The plan in which no step runs twice."""
        return evaluate(self.workload)

    @functools.cached_property
    def stack(self) -> Stack:
        """The workload as a chain of blocks."""
        return Stack(self.workload)

    @functools.cached_property
    def floor(self) -> tuple[int, int]:
        """What the hungriest step needs with all it reads and writes: (bytes, step).

        No schedule has a smaller peak.
        """
        needs = [_arena_of_step(self.workload, i) for i in range(self.workload.count)]
        most = max(needs, default=0)
        return self.workload.resident_bytes + most, needs.index(most) if needs else 0

    @functools.cached_property
    def least(self) -> Plan:
        """The plan of the smallest peak that was found."""
        best, low = self.full, self.floor[0]
        while best.peak_bytes - low > best.arena_bytes // NEAR:
            middle = (low + best.peak_bytes) // 2
            plan = self._search(middle, SHRINKS[:1])
            if plan is None:
                low = middle + 1
            else:
                best = plan
        return best

    # ---- the search ----

    def _search(self, budget: int, shares: Sequence[float] = SHRINKS) -> Plan | None:
        if self.full.peak_bytes <= budget:
            return self.full
        if self.floor[0] > budget:
            return None
        began = time.perf_counter()
        arena = budget - self.workload.resident_bytes
        best: Plan | None = None
        for share in shares:
            room = int(arena * share)
            found = sorted({*self._evictions(room), *self._reversals(room)}, key=self._price)
            plan, is_near = self._first_that_fits(found, arena, began)
            if plan is not None and (best is None or plan.lifetimes.cost < best.lifetimes.cost):
                best = plan
            if len(self.workload.steps) > SMALL and (best is not None or not is_near):
                break
        return best

    def _first_that_fits(
        self, found: Iterable[Schedule], arena: int, began: float
    ) -> tuple[Plan | None, bool]:
        """The first schedule that can be packed, and whether one fits but for the gaps between
        buffers."""
        is_near = False
        for schedule in found:
            lives = lifetimes(self.workload, schedule)
            in_place = len(lives.conflicts) <= len(self.full.conflicts)
            if in_place and lives.max_live <= arena:
                is_near = True
                packing = pack(lives.buffers, arena, ORDERS * len(lives.buffers))
                if packing.size <= arena:
                    return packed(lives, packing, began), True
        return None, is_near

    def _price(self, schedule: Schedule) -> tuple[int, Schedule]:
        return self.workload.cost(schedule), schedule

    def _evictions(self, room: int) -> Iterator[Schedule]:
        """Schedules that may fit `room` bytes of arena."""
        for taste in TASTES:
            schedule = evicted(self.workload, room, *taste)
            if schedule is not None:
                yield refine(self.workload, schedule, room)

    def _reversals(self, room: int) -> Iterator[Schedule]:
        if self.stack.is_chain:
            yield from self.stack.schedules(room)

    # ---- the refusal ----

    def _too_little(self, budget: int) -> MemoryPlanError:
        least = self.least
        workload = least.lifetimes.workload
        binding = least.schedule[least.peak_step] if least.schedule else 0
        held = [(x.bytes, x.label, x.source) for x in least.at_peak()]
        held += [
            (x.bytes, x.label, str(x.site.frame or ""))
            for x in workload.values
            if x.resident and x.view_of is None
        ]
        largest = "".join(
            f"\n    {bytes_text(size):>10}  {label}  {source}".rstrip()
            for size, label, source in sorted(held, reverse=True)[:NAMED]
        )
        return MemoryPlanError(
            f"memory= allows {bytes_text(budget)}, and the least that this program can do with is "
            f"{bytes_text(least.peak_bytes)} ({least.peak_bytes:,} bytes): "
            f"{bytes_text(least.resident_bytes)} of arguments, results and scratch, and "
            f"{bytes_text(least.arena_bytes)} between, at {workload.steps[binding].label!r}; "
            f"the largest:{largest}",
            hint=f"memory={least.peak_bytes} is possible; without a budget it takes "
            f"{bytes_text(self.full.peak_bytes)}; a smaller batch or shorter chunks need less",
        )


def _arena_of_step(workload: Workload, index: int) -> int:
    step, values = workload.steps[index], workload.values
    apart = {i for i in workload.reads[index] if values[i].resident or values[i].donor is not None}
    read = set(workload.reads[index]) - apart
    over = {w for w, r in step.in_place if workload.roots[r] in read}
    new = [i for i in workload.writes[index] if i not in over and values[i].donor is None]
    return aligned(step.scratch) + sum(workload.sizes[i] for i in (*read, *new))
