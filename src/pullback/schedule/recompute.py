"""A schedule that fits a byte budget by running cheap steps again instead of keeping their results.

Two stages. *Eviction* plays the program in order and, whenever the arena is full, drops the value
that is cheapest to bring back for the bytes and the time it frees: online rematerialisation
(Kirisame et al. 2021) with the next use known, as in Belady's cache. *Refinement* takes back the
repeats that there turns out to be room for. Both only propose; `evaluate` decides.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pullback.errors import MemoryPlanError
from pullback.schedule.memory import Lifetimes, Plan, Workload, evaluate, lifetimes
from pullback.schedule.packing import aligned
from pullback.schedule.picture import bytes_text

Schedule = tuple[int, ...]

TASTES = ((1.0, 1.0), (1.0, 0.5), (0.5, 1.0), (1.0, 0.0), (1.0, 0.25), (0.5, 0.5), (2.0, 1.0))
"""(α, β): drop the value of least costᵅ / (bytes · (time until its next use)ᵝ)."""

SHRINKS = (1.0, 0.98, 0.95, 0.9)
"""Shares of the budget to plan for, until the packed arena fits, too."""

CANDIDATES = 40
"""How many values are compared in full when room is needed."""

DEPTH = 60
"""How many steps the price of bringing a value back may count."""

LONGEST = 6
"""A schedule of so many times the steps is given up."""

ROUNDS = 6


def fit(workload: Workload, budget: int) -> Plan:
    """The cheapest plan found whose peak, resident values included, is at most `budget` bytes.

    Raises `MemoryPlanError` when a single step needs more, or when no schedule was found.
    """
    plan = evaluate(workload)
    if plan.peak_bytes <= budget:
        return plan
    _require_floor(workload, budget)
    arena = budget - workload.resident_bytes
    for share in SHRINKS:
        room = int(arena * share)
        found = [_proposal(workload, room, *taste) for taste in TASTES]
        schedules = sorted({x for x in found if x is not None}, key=lambda x: (workload.cost(x), x))
        if not schedules:
            break
        for schedule in schedules:
            plan = evaluate(workload, schedule)
            if plan.peak_bytes <= budget:
                return plan
    raise MemoryPlanError(
        f"no schedule was found that fits {bytes_text(budget)}",
        hint=f"without a budget the program needs {bytes_text(evaluate(workload).peak_bytes)}",
    )


def sweep(workload: Workload, budgets: Iterable[int]) -> dict[int, Plan]:
    """A plan for each budget that can be met; with more bytes a plan never costs more."""
    plans: dict[int, Plan] = {}
    best: Plan | None = None
    for budget in sorted(budgets):
        try:
            plan = fit(workload, budget)
        except MemoryPlanError:
            if best is None:
                continue
            plan = best
        if best is None or plan.lifetimes.cost < best.lifetimes.cost:
            best = plan
        plans[budget] = best
    return plans


def floor_bytes(workload: Workload) -> tuple[int, int]:
    """What the hungriest step needs with all it reads and writes, resident values included.

    Returns (bytes, step): no schedule has a smaller peak.
    """
    needs = [_arena_of_step(workload, i) for i in range(len(workload.steps))]
    most = max(needs, default=0)
    return workload.resident_bytes + most, needs.index(most) if needs else 0


def _arena_of_step(workload: Workload, index: int) -> int:
    step, values = workload.steps[index], workload.values
    apart = {i for i in workload.reads[index] if values[i].resident or values[i].donor is not None}
    read = set(workload.reads[index]) - apart
    over = {w for w, r in step.in_place if workload.roots[r] in read}
    new = [i for i in workload.writes[index] if i not in over and values[i].donor is None]
    return aligned(step.scratch) + sum(workload.sizes[i] for i in (*read, *new))


def _require_floor(workload: Workload, budget: int) -> None:
    least, index = floor_bytes(workload)
    if least > budget:
        step = workload.steps[index]
        used = sorted({*step.reads, *step.writes}, key=lambda i: -workload.values[i].bytes)
        largest = [f"{workload.values[i].label} {bytes_text(workload.sizes[i])}" for i in used[:3]]
        raise MemoryPlanError(
            f"{bytes_text(budget)} is too little: step {step.label!r} alone needs "
            f"{bytes_text(least)} with the resident values",
            hint=f"its largest values: {', '.join(largest)}",
        )


def _proposal(workload: Workload, room: int, alpha: float, beta: float) -> Schedule | None:
    schedule = _Eviction(workload, room, alpha, beta).schedule()
    return None if schedule is None else refine(workload, schedule, room)


# ---- eviction -------------------------------------------------------------------------------


class _FullError(Exception):
    """No value can be dropped any more."""


@dataclass(slots=True)
class _Frame:
    """A step about to run, and how many of its inputs are there and held."""

    step: int
    held: int = 0


class _Eviction:
    """The program played once in order with `room` bytes of arena."""

    def __init__(self, workload: Workload, room: int, alpha: float, beta: float) -> None:
        self.workload, self.room, self.alpha, self.beta = workload, room, alpha, beta
        self.producer = {i: k for k, made in enumerate(workload.writes) for i in made}
        self.end = len(workload.steps)
        self.uses: dict[int, list[int]] = {i: [] for i in self.producer}
        for k, read in enumerate(workload.reads):
            for i in dict.fromkeys(read):
                if i in self.uses:
                    self.uses[i].append(k)
        for i in workload.kept:
            self.uses[i].append(self.end)
        apart = {x.value for x in lifetimes(workload).conflicts}
        values = workload.values
        self.size = {
            i: 0 if values[i].donor is not None and i not in apart else workload.sizes[i]
            for i in self.producer
        }
        self.donor = {i: values[i].donor for i in self.producer}
        self.updated: set[int] = set()
        self.present: set[int] = set()
        self.held: Counter[int] = Counter()
        self.used = 0
        self.clock = 0
        self.made: list[int] = []

    def schedule(self) -> Schedule | None:
        """The schedule, or None where the room is too small or the repeats too many."""
        try:
            for k in range(self.end):
                self._execute(k)
            for i in self.workload.kept:
                self.clock = self.end
                if i not in self.present:
                    self._execute(self.producer[i])
        except _FullError:
            return None
        return tuple(self.made)

    def _execute(self, target: int) -> None:
        """Run a step, and before it all that is missing."""
        stack = [_Frame(target)]
        while stack:
            frame = stack[-1]
            inputs = self.workload.reads[frame.step]
            if frame.held < len(inputs):
                i = inputs[frame.held]
                frame.held += 1
                if i not in self.producer:
                    continue
                self.held[i] += 1
                if i not in self.present:
                    stack.append(_Frame(self.producer[i]))
                continue
            stack.pop()
            self._run(frame.step, final=not stack)

    def _run(self, step: int, *, final: bool) -> None:
        if len(self.made) > LONGEST * self.end or not (final or self._repeatable(step)):
            raise _FullError
        if final and self.clock < self.end:
            self.clock = step + 1
        inputs = [i for i in self.workload.reads[step] if i in self.producer]
        outputs = self.workload.writes[step]
        new = [i for i in outputs if i not in self.present]
        self._make_room(self._needed(step, new))
        self.made.append(step)
        self.present.update(new)
        self.used += sum(self.size[i] for i in new)
        self.updated.update([i for i in map(self.donor.get, outputs) if i is not None])
        self.held.subtract(inputs)
        for i in (*inputs, *outputs):
            if not self.held[i] and self._next_use(i) is None:
                self._drop(i)

    def _needed(self, step: int, new: Sequence[int]) -> int:
        """Bytes of what it writes and its workspace, less inputs that it writes over."""
        size = sum(self.size[i] for i in new) + aligned(self.workload.steps[step].scratch)
        mine = Counter(self.workload.reads[step])
        free = {i for i in mine if self.held[i] == mine[i] and self._next_use(i) is None}
        for written, read in self.workload.steps[step].in_place:
            root = self.workload.roots[read]
            if root in free and written in new and self.size[written] == self.size[root]:
                free.discard(root)
                size -= self.size[root]
        return size

    def _next_use(self, i: int) -> int | None:
        uses = self.uses[i]
        k = bisect.bisect_left(uses, self.clock)
        return uses[k] if k < len(uses) else None

    def _drop(self, i: int) -> None:
        if i in self.present:
            self.present.discard(i)
            self.used -= self.size[i]

    def _make_room(self, size: int) -> None:
        if self.used + size <= self.room:
            return
        weights: list[tuple[float, int]] = []
        for i in sorted(self.present):
            if self.held[i] or not self.size[i]:
                continue
            use = self._next_use(i)
            if use is None:
                self._drop(i)
            else:
                weights.append((self.size[i] * (use - self.clock + 1) ** self.beta, i))
        if self.used + size <= self.room:
            return
        weights.sort(reverse=True)
        for i in self._cheapest(weights):
            self._drop(i)
            if self.used + size <= self.room:
                return
        raise _FullError

    def _cheapest(self, weights: Sequence[tuple[float, int]]) -> Iterator[int]:
        """What may be dropped, cheapest for its weight first; what weighs little comes last."""
        prices = [(self._price(i) ** self.alpha / weight, i) for weight, i in weights[:CANDIDATES]]
        yield from (i for price, i in sorted(prices) if price < math.inf)
        rest = sorted([i for _, i in weights[CANDIDATES:]], key=lambda i: (-self.size[i], i))
        yield from (i for i in rest if self._price(i) < math.inf)

    def _price(self, i: int) -> float:
        """What it costs to bring a value back: its step, and those that this one misses."""
        total, seen, stack = 1, {self.producer[i]}, [self.producer[i]]
        while stack and len(seen) <= DEPTH:
            step = stack.pop()
            if not self._repeatable(step):
                return math.inf
            total += self.workload.steps[step].cost
            for j in self.workload.reads[step]:
                if j in self.producer and j not in self.present and self.producer[j] not in seen:
                    seen.add(self.producer[j])
                    stack.append(self.producer[j])
        return total

    def _repeatable(self, step: int) -> bool:
        """Not with side effects, and not after a parameter that it reads has been updated."""
        old = any(i in self.updated for i in self.workload.reads[step])
        return self.workload.steps[step].repeatable and not old


# ---- refinement -----------------------------------------------------------------------------


def refine(workload: Workload, schedule: Schedule, room: int) -> Schedule:
    """The schedule without the repeats that `room` bytes of arena have space to avoid."""
    for _ in range(ROUNDS):
        schedule = without_dead_repeats(workload, schedule)
        lives = lifetimes(workload, schedule)
        gone = _avoidable(lives, room)
        shorter = tuple([k for t, k in enumerate(schedule) if t not in gone])
        if not gone or lifetimes(workload, shorter).max_live > max(room, lives.max_live):
            break
        schedule = shorter
    return schedule


def without_dead_repeats(workload: Workload, schedule: Schedule) -> Schedule:
    """Only the runs whose results someone reads, and one of a step that nobody ever reads."""
    read = {i for reads in workload.reads for i in reads} | set(workload.kept)
    wanted, alone, kept = set(workload.kept), set[int](), []
    for k in reversed(schedule):
        made = workload.writes[k]
        if not wanted.isdisjoint(made) or (read.isdisjoint(made) and k not in alone):
            kept.append(k)
            alone.add(k)
            wanted.difference_update(made)
            wanted.update(workload.reads[k])
    return tuple(reversed(kept))


def _avoidable(lives: Lifetimes, room: int) -> set[int]:
    """Positions of repeats whose results can stay from the run before, dearest for a byte first."""
    live = lives.buffers.live_bytes(len(lives.schedule))
    repeats = []
    for t, spans in _repeats(lives):
        held = sum(size * max(end - start, 1) for start, end, size in spans)
        cost = lives.workload.steps[lives.schedule[t]].cost
        repeats.append((-cost / max(held, 1), t, spans))
    gone: set[int] = set()
    for _, t, spans in sorted(repeats):
        for start, end, size in spans:
            live[start:end] += size
        if all(live[start:end].max(initial=0) <= room for start, end, _ in spans):
            gone.add(t)
        else:
            for start, end, size in spans:
                live[start:end] -= size
    return gone


def _repeats(lives: Lifetimes) -> Iterator[tuple[int, list[tuple[int, int, int]]]]:
    """Each repeat, and what keeping its results instead would hold: (from, to, bytes)."""
    previous: dict[int, int] = {}
    for t, made in enumerate(lives.writes):
        spans = []
        for i in made:
            value, end = lives.instances[i].value, lives.instances[i].end
            if value is None:
                continue
            wanted = end > t + 1 or i in lives.kept
            if value in previous and wanted:
                spans.append((_free_from(lives, previous[value]), t, lives.workload.sizes[value]))
            if value not in previous or wanted:
                previous[value] = i
        if spans:
            yield t, spans


def _free_from(lives: Lifetimes, instance: int) -> int:
    """The step from which an instance holds no bytes of its own."""
    end, buffer = lives.instances[instance].end, lives.storage[instance]
    taken_over = buffer >= 0 and int(lives.buffers.ends[buffer]) > end
    return end - 1 if taken_over else end
