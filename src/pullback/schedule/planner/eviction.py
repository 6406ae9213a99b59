"""Oracle eviction: the program played in order, dropping what is cheapest to bring back.

Whenever the arena is full, the value goes that costs least to compute again for the bytes and the
time that it frees: online rematerialisation (Kirisame et al. 2021) with the next use known, as in
Belady's cache.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pullback.schedule.memory import Workload, lifetimes
from pullback.schedule.packing import aligned

Schedule = tuple[int, ...]

TASTES = ((1.0, 0.25), (1.0, 0.0), (1.0, 0.5), (2.0, 1.0), (1.0, 1.0), (0.5, 0.5), (0.5, 1.0))
"""(α, β): drop the value of least costᵅ / (bytes · (time until its next use)ᵝ)."""

DEPTH = 60
"""How many steps the price of bringing a value back may count."""

LONGEST = 6
"""A schedule of so many times the steps is given up."""


class Eviction:
    """The program to be played, and what is the same from play to play."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.maker, self.end = workload.maker, workload.count
        self.cost = [step.cost for step in workload.steps]
        apart = {x.value for x in lifetimes(workload).conflicts}
        donors = [value.donor is not None for value in workload.values]
        self.size = [
            0 if donors[i] and i not in apart else size for i, size in enumerate(workload.sizes)
        ]
        self.sources = [[i for i in read if i in self.maker] for read in workload.reads]
        """For each step what it reads that is made."""
        self.uses: dict[int, list[int]] = {i: [] for i in self.maker}
        """For each value the steps that read it, the first one last."""
        for i in workload.kept:
            self.uses[i].append(self.end)
        for k in reversed(range(self.end)):
            for i in dict.fromkeys(self.sources[k]):
                self.uses[i].append(k)
        self.readers: dict[int, list[int]] = {}
        for k, read in enumerate(workload.reads):
            for i in read:
                self.readers.setdefault(i, []).append(k)
        self.once = {k for k, step in enumerate(workload.steps) if not step.repeatable}
        # Of all values at once: what it takes to choose among them.
        self.bytes = np.array(self.size, np.float64)
        self.least = np.array([self._least(i) for i in range(len(self.size))], np.float64)
        """The price of each value where nothing else is missing."""

    def schedule(self, room: int, alpha: float, beta: float) -> Schedule | None:
        """A schedule for `room` bytes of arena; None where it is too small or the repeats too
        many."""
        return _Play(self, room, alpha, beta).schedule()

    def _least(self, i: int) -> int:
        ways = [self.maker.get(i, 0), *[k for k, _ in self.workload.shortcuts.get(i, ())]]
        return 1 + min([self.cost[k] for k in ways], default=0)


class _FullError(Exception):
    """No value can be dropped any more."""


@dataclass(slots=True)
class _Frame:
    """A step about to run, and how many of its inputs are there and held."""

    step: int
    held: int = 0


class _Play:
    """The program played once in order with `room` bytes of arena."""

    def __init__(self, program: Eviction, room: int, alpha: float, beta: float) -> None:
        self.program, self.workload = program, program.workload
        self.maker, self.end, self.cost = program.maker, program.end, program.cost
        self.size, self.sources = program.size, program.sources
        self.room, self.alpha, self.beta = room, alpha, beta
        self.uses = {i: uses.copy() for i, uses in program.uses.items()}
        self.once = set(program.once)
        """Steps that must not run again: with effects, or after a parameter that they read has been
        updated."""
        self.present: set[int] = set()
        self.held: Counter[int] = Counter()
        self.used = self.clock = 0
        self.made: list[int] = []
        self.is_there = np.zeros(len(self.size), bool)
        self.next_use = np.array([self._next_use(i) for i in range(len(self.size))], np.float64)
        self.least = program.least**alpha

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
            inputs = self.sources[frame.step]
            if frame.held < len(inputs):
                i = inputs[frame.held]
                frame.held += 1
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
            self._advance(step)
        inputs, outputs = self.sources[step], self.workload.writes[step]
        new = [i for i in outputs if i not in self.present]
        self._make_room(self._needed(step, new))
        self.made.append(step)
        for i in new:
            self._keep(i)
        for i in inputs:
            self.held[i] -= 1
        for i in (*inputs, *outputs):
            if not self.held[i] and not self.uses[i]:
                self._drop(i)

    def _advance(self, step: int) -> None:
        """A step of the program runs for the first time."""
        self.clock = step + 1
        for i in self.sources[step]:
            if self.uses[i] and self.uses[i][-1] == step:
                self.uses[i].pop()
                self.next_use[i] = self._next_use(i)

    def _next_use(self, i: int) -> int:
        uses = self.uses.get(i)
        return uses[-1] if uses else 0

    def _needed(self, step: int, new: Sequence[int]) -> int:
        """Bytes of what it writes and its workspace, less inputs that it writes over."""
        size = sum([self.size[i] for i in new]) + aligned(self.workload.steps[step].scratch)
        if not self.workload.steps[step].in_place:
            return size
        mine = Counter(self.sources[step])
        free = {i for i in mine if self.held[i] == mine[i] and not self.uses[i]}
        for written, read in self.workload.steps[step].in_place:
            root = self.workload.roots[read]
            if root in free and written in new and self.size[written] == self.size[root]:
                free.discard(root)
                size -= self.size[root]
        return size

    def _maker(self, i: int) -> int:
        """The step to make a value again with."""
        step = self.workload.maker_from(i, self.present)
        return self.maker[i] if step in self.once else step

    def _keep(self, i: int) -> None:
        self.present.add(i)
        self.used += self.size[i]
        self.is_there[i] = self.size[i] > 0
        donor = self.workload.values[i].donor
        if donor is not None:
            self.once.update(self.program.readers.get(donor, ()))

    def _drop(self, i: int) -> None:
        if i in self.present:
            self.present.discard(i)
            self.used -= self.size[i]
            self.is_there[i] = False

    def _make_room(self, size: int) -> None:
        if self.used + size <= self.room:
            return
        for i in self._cheapest():
            self._drop(i)
            if self.used + size <= self.room:
                return
        raise _FullError

    def _cheapest(self) -> Iterator[int]:
        """What may be dropped, cheapest for its weight first.

        A price is found out when it may be the least: it does not fall while more is dropped.
        """
        (there,) = np.nonzero(self.is_there)
        ahead = np.maximum(self.next_use[there] - self.clock, 0) + 1
        weights = self.program.bytes[there] * ahead**self.beta
        queue = list(zip((self.least[there] / weights).tolist(), there.tolist(), strict=True))
        weight = dict(zip(there.tolist(), weights.tolist(), strict=True))
        heapq.heapify(queue)
        while queue:
            ratio, i = queue[0]
            price = math.inf if self.held[i] else self._price(i)
            exact = price**self.alpha / weight[i]
            if price == math.inf or exact <= ratio:
                heapq.heappop(queue)
            else:
                heapq.heapreplace(queue, (exact, i))
                continue
            if price < math.inf:
                yield i

    def _price(self, i: int) -> float:
        """What it costs to bring a value back: its step, and those that this one misses."""
        first = self._maker(i)
        total, seen, stack = 1, {first}, [first]
        while stack and len(seen) <= DEPTH:
            step = stack.pop()
            if step in self.once:
                return math.inf
            total += self.cost[step]
            for operand in self.sources[step]:
                if operand not in self.present:
                    maker = self._maker(operand)
                    if maker not in seen:
                        seen.add(maker)
                        stack.append(maker)
        return total
