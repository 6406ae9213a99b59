"""Oracle eviction: the program played in order, dropping what is cheapest to bring back.

Whenever the arena is full, the value goes that costs least to compute again for the bytes and the
time that it frees: online rematerialisation (Kirisame et al. 2021) with the next use known, as in
Belady's cache.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pullback.schedule.memory import Workload, lifetimes
from pullback.schedule.packing import aligned

Schedule = tuple[int, ...]

TASTES = ((1.0, 1.0), (1.0, 0.5), (0.5, 1.0), (1.0, 0.0), (1.0, 0.25), (0.5, 0.5), (2.0, 1.0))
"""(α, β): drop the value of least costᵅ / (bytes · (time until its next use)ᵝ)."""

CANDIDATES = 40
"""How many values are compared in full when room is needed."""

DEPTH = 60
"""How many steps the price of bringing a value back may count."""

LONGEST = 6
"""A schedule of so many times the steps is given up."""


def evicted(workload: Workload, room: int, alpha: float, beta: float) -> Schedule | None:
    """A schedule for `room` bytes of arena; None where it is too small or the repeats too many."""
    return _Eviction(workload, room, alpha, beta).schedule()


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
        self.producer = workload.maker
        self.end = workload.count
        self.uses: dict[int, list[int]] = {i: [] for i in self.producer}
        for k, read in enumerate(workload.reads[: self.end]):
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
        self.sources = [
            [i for i in dict.fromkeys(read) if i in self.producer] for read in workload.reads
        ]
        """For each step what it reads that is made."""
        self.readers: dict[int, list[int]] = {}
        for k, read in enumerate(workload.reads):
            for i in read:
                self.readers.setdefault(i, []).append(k)
        self.once = {k for k, step in enumerate(workload.steps) if not step.repeatable}
        """Steps that must not run again: with effects, or after a parameter that they read has been
        updated."""
        self.present: set[int] = set()
        self.held: Counter[int] = Counter()
        self.used = 0
        self.clock = 0
        self.made: list[int] = []

    def schedule(self) -> Schedule | None:
        """The schedule, or None where the room is too small or the repeats too many."""
        try:
            for k in range(self.end):
                for spare in self.workload.rescued(k, self.present):
                    if spare not in self.once:
                        self._execute(spare)
                self._execute(k)
            for i in self.workload.kept:
                self.clock = self.end
                if i not in self.present:
                    self._execute(self._maker(i))
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
                    stack.append(_Frame(self._maker(i)))
                continue
            stack.pop()
            self._run(frame.step, final=not stack)

    def _run(self, step: int, *, final: bool) -> None:
        if len(self.made) > LONGEST * self.end or not (final or step not in self.once):
            raise _FullError
        if final and step < self.end and self.clock < self.end:
            self.clock = step + 1
        inputs = [i for i in self.workload.reads[step] if i in self.producer]
        outputs = self.workload.writes[step]
        new = [i for i in outputs if i not in self.present]
        self._make_room(self._needed(step, new))
        self.made.append(step)
        self.present.update(new)
        self.used += sum(self.size[i] for i in new)
        for i in new:
            donor = self.workload.values[i].donor
            if donor is not None:
                self.once.update(self.readers.get(donor, ()))
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

    def _maker(self, i: int) -> int:
        """The step to make a value again with."""
        step = self.workload.maker_from(i, self.present)
        return self.producer[i] if step in self.once else step

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
        first = self._maker(i)
        total, seen, stack = 1, {first}, [first]
        while stack and len(seen) <= DEPTH:
            step = stack.pop()
            if step in self.once:
                return math.inf
            total += self.workload.steps[step].cost
            for operand in self.sources[step]:
                if operand not in self.present:
                    maker = self._maker(operand)
                    if maker not in seen:
                        seen.add(maker)
                        stack.append(maker)
        return total
