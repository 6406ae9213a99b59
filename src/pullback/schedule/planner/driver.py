"""The cheapest schedule found that fits a byte budget.

Planners propose schedules; `evaluate` alone decides what they hold, so no budget is ever passed.
"""

from __future__ import annotations

import functools
import heapq
import math
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from pullback.errors import MemoryPlanError
from pullback.schedule.memory import Lifetimes, Plan, Workload, evaluate, lifetimes, packed
from pullback.schedule.packing import aligned, pack
from pullback.schedule.picture import bytes_text
from pullback.schedule.planner.alone import stored_alone
from pullback.schedule.planner.eviction import TASTES, Eviction
from pullback.schedule.planner.optimum import STEPS, Search
from pullback.schedule.planner.refine import refine
from pullback.schedule.planner.stack import Stack

Schedule = tuple[int, ...]

Proposer = Callable[[int], Lifetimes | None]
"""Gives a schedule that may fit so many bytes of arena."""

SHARES = (1.0, 0.98, 0.95, 0.9, 0.85, 0.8)
"""Shares of the arena to plan for: the first, and less until what is packed fits, too."""

SMALL = 128
"""For so few steps all shares are tried: the same greed in less room goes other ways."""

LESS = 0.005
"""The share of the arena by which the room shrinks at least when a schedule cannot be packed."""

ORDERS = 10
"""In how many orders the buffers of a schedule are placed."""

PLACEMENTS = 2_000
"""So many buffers may be placed where there are few: in more orders."""

TRIES = 3
"""How often each proposer is asked whether a budget can be met."""

MORE = 1.03
"""The share of the arena to play in where products may then store one of two results alone."""

NEAR = 64
"""The smallest possible budget is looked for to one part in so many."""

NAMED = 6
"""How many values a refusal names."""


class Proposal(NamedTuple):
    """The lifetimes of a schedule, and who proposed it for how much room."""

    lives: Lifetimes
    room: int
    proposer: int


class _Queue:
    """Proposals, the cheapest first, each schedule once."""

    def __init__(self) -> None:
        self.proposals: dict[Schedule, Proposal] = {}
        self.waiting: list[tuple[int, Schedule]] = []

    def add(self, proposal: Proposal) -> None:
        schedule = proposal.lives.schedule
        if schedule not in self.proposals:
            self.proposals[schedule] = proposal
            heapq.heappush(self.waiting, (proposal.lives.cost, schedule))

    def pop(self) -> Proposal:
        return self.proposals[heapq.heappop(self.waiting)[1]]


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
        return self._any(budget) is not None

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
    def eviction(self) -> Eviction:
        """The workload to be played in order."""
        return Eviction(self.workload)

    @functools.cached_property
    def states(self) -> list[Search]:
        """What a small workload can hold; at last with results stored alone, if there are such."""
        kinds = (False, True) if self.workload.alone else (False,)
        return [Search(self.workload, alone=alone) for alone in kinds]

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
            plan = self._any(middle)
            if plan is None:
                low = middle + 1
            else:
                best = plan
        return best

    # ---- the search ----

    def _search(self, budget: int) -> Plan | None:
        """The cheapest plan found. A proposal that cannot be packed is made again for less room, by
        as much as is missing."""
        if self.full.peak_bytes <= budget or self.floor[0] > budget:
            return self.full if self.full.peak_bytes <= budget else None
        began = time.perf_counter()
        arena = budget - self.workload.resident_bytes
        queue = _Queue()
        for share in SHARES if len(self.workload.steps) <= SMALL else SHARES[:1]:
            for proposer in range(len(self.proposers)):
                self._propose(queue, proposer, int(arena * share))
        best: Plan | None = None
        while best is None and queue.waiting:
            proposal = queue.pop()
            best, size = self._packed(proposal.lives, arena, began)
            room = proposal.room - max(size - arena, int(arena * LESS))
            if best is None and room >= arena * SHARES[-1]:
                self._propose(queue, proposal.proposer, room)
        return self._optimum(arena, best, began)

    def _any(self, budget: int) -> Plan | None:
        """A plan for a budget if one is found at once."""
        if self.full.peak_bytes <= budget or self.floor[0] > budget:
            return self.full if self.full.peak_bytes <= budget else None
        began = time.perf_counter()
        arena = budget - self.workload.resident_bytes
        for proposer in self.proposers:
            room = arena
            for _ in range(TRIES):
                lives = proposer(room)
                if lives is None:
                    break
                plan, size = self._packed(lives, arena, began)
                if plan is not None:
                    return plan
                room -= max(size - arena, int(arena * LESS))
        return self._optimum(arena, None, began)

    def _optimum(self, arena: int, known: Plan | None, began: float) -> Plan | None:
        """A cheaper plan than the one that is known, where the workload is small enough to look for
        the cheapest."""
        if len(self.workload.steps) > STEPS:
            return known
        for search in self.states:
            room, below = arena, math.inf if known is None else known.lifetimes.cost
            while room >= arena * SHARES[-1]:
                schedule = search.schedule(room, below)
                if schedule is None:
                    break
                lives = stored_alone(lifetimes(self.workload, schedule), room)
                plan, size = self._packed(lives, arena, began)
                if plan is not None:
                    return plan
                room -= max(size - arena, int(arena * LESS))
            if known is not None:
                break
        return known

    def _packed(self, lives: Lifetimes, arena: int, began: float) -> tuple[Plan | None, int]:
        """The plan of a schedule if it fits, and the bytes that it takes."""
        if len(lives.conflicts) > len(self.full.conflicts):
            return None, arena
        if lives.max_live > arena:
            return None, lives.max_live
        packing = pack(lives.buffers, arena, max(ORDERS * len(lives.buffers), PLACEMENTS))
        return (packed(lives, packing, began) if packing.size <= arena else None), packing.size

    def _propose(self, queue: _Queue, proposer: int, room: int) -> None:
        lives = self.proposers[proposer](room)
        if lives is not None:
            queue.add(Proposal(lives, room, proposer))

    @functools.cached_property
    def proposers(self) -> list[Proposer]:
        found: list[Proposer] = [functools.partial(self._evicted, taste, 1.0) for taste in TASTES]
        if self.workload.alone:
            found += [functools.partial(self._evicted, taste, MORE) for taste in TASTES[:3]]
        return [*found, self.stack.proposal] if self.stack.is_chain else found

    def _evicted(self, taste: tuple[float, float], more: float, room: int) -> Lifetimes | None:
        """Played in `more` than the room, if it then fits in it."""
        schedule = self.eviction.schedule(int(room * more), *taste)
        if schedule is None:
            return None
        lives = refine(self.workload, schedule, room)
        return lives if more == 1.0 or lives.max_live <= room else None

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
