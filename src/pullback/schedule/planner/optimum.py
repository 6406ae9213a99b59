"""The cheapest schedule of a small program: A* over what is in memory.

A state is the set of values that are there. A step leads to another, and so does dropping a value.
What is still missing costs at least what it would cost if nothing had ever to be dropped: with this
bound the first schedule found is the cheapest of all orders and all repeats. (A step's workspace,
buffers that results take over and donors count as `evaluate` counts them, the gaps between buffers
do not.)
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pullback.schedule.memory import Workload, lifetimes
from pullback.schedule.packing import aligned

Schedule = tuple[int, ...]
Mask = int
"""A set, a bit for each member."""

STEPS = 40
"""No longer programs are searched."""

STATES = 10_000
"""So many states are looked at, about a second, before the search is given up."""


class _Move(NamedTuple):
    """A step: what it takes, what it makes, and which of these may lie over which."""

    step: int
    reads: Mask
    writes: Mask
    forbidden: Mask
    """With any of these there, it cannot run: what took over the memory that it reads, and its own
    token where it must not run again."""
    required: Mask
    cost: int
    scratch: int
    in_place: tuple[tuple[Mask, Mask, int], ...]
    """(written, read, bytes)."""


class Search:
    """The states of one workload. Beside the values, each step that is to run once, before others,
    or for nobody, has a token of no bytes."""

    def __init__(self, workload: Workload, *, alone: bool = False) -> None:
        """Where `alone`, also steps that store one of two results: more ways, so fewer steps are
        looked ahead."""
        self.workload = workload
        made = sorted(workload.maker)
        wanted = {i for read in workload.reads for i in read}.union(workload.kept)
        tokens = [
            k
            for k, step in enumerate(workload.steps[: workload.count])
            if step.guards or not step.repeatable or wanted.isdisjoint(workload.writes[k])
        ]
        names = [*made, *[~k for k in tokens]]
        self.bit = {name: 1 << n for n, name in enumerate(names)}
        apart = {x.value for x in lifetimes(workload).conflicts}
        self.taken = {
            value.donor: i
            for i, value in enumerate(workload.values)
            if value.donor is not None and i not in apart
        }
        pinned = {*self.taken.values(), *[~k for k in tokens]}
        self.size = {self.bit[i]: 0 if i in pinned else workload.sizes[i] for i in names}
        self.pinned = self._mask(pinned)
        self.goal = self._mask([*workload.kept, *[~k for k in tokens]])
        self.moves = [self._move(k) for k in range(len(workload.steps))]
        apart = {k for ways in workload.alone.values() for k in ways.values()}
        self.ways = [move for move in self.moves if alone or move.step not in apart]
        self.back = [
            (move.reads, move.writes, self._price(move) if alone else move.cost)
            for move in self.moves[: workload.count][::-1]
        ]
        self.cheap = {
            self.bit[i]: min(workload.steps[k].cost for k, _ in ways)
            for i, ways in workload.shortcuts.items()
        }
        self.spared = self._mask(workload.shortcuts)
        """What a spare step makes, and what that costs."""

    def schedule(self, room: int, below: float) -> Schedule | None:
        """The cheapest schedule in `room` bytes of arena that costs less than `below`; None where
        there is none, or it is too far."""
        start = 0
        spent, before = {start: 0}, dict[Mask, tuple[Mask, int]]()
        queue, closed = [(self.missing(start), 0, start)], set[Mask]()
        while queue and len(closed) < STATES:
            _, _, state = heapq.heappop(queue)
            if state in closed:
                continue
            closed.add(state)
            if not self.goal & ~state:
                return self._path(before, state)
            cost = spent[state]
            for after, step in self._next(state, room):
                total = cost + (self.moves[step].cost if step >= 0 else 0)
                if total < spent.get(after, below):
                    bound = total + self.missing(after)
                    if bound < below:
                        spent[after], before[after] = total, (state, step)
                        heapq.heappush(queue, (bound, -total, after))
        return None

    def missing(self, state: Mask) -> int:
        """The time to make what is missing where there is room for everything."""
        wanted, cost = self.goal & ~state, 0
        for reads, writes, price in self.back:
            made = wanted & writes
            if not made:
                continue
            if made & ~self.spared:
                cost += price
                wanted = wanted & ~made | reads & ~state
            else:
                cost += max([self.cheap[bit] for bit in _bits(made)])
                wanted &= ~made
        return cost

    def _next(self, state: Mask, room: int) -> Iterator[tuple[Mask, int]]:
        """(state, step that leads to it, or -1 where a value is dropped)."""
        used = self._bytes(state)
        is_tight = False
        for move in self.ways:
            if move.reads & ~state or move.required & ~state or move.forbidden & state:
                continue
            if not move.writes & ~state:
                continue
            new = self._bytes(move.writes & ~state) + move.scratch
            if used + new <= room:
                yield state | move.writes, move.step
                continue
            is_tight = True
            for written, read, size in move.in_place:
                if written & ~state and used + new - size <= room and not read & self.goal:
                    yield (state | move.writes) & ~read, move.step
        if is_tight:
            for bit in _bits(state & ~self.pinned):
                yield state & ~bit, -1

    def _move(self, k: int) -> _Move:
        workload, step = self.workload, self.workload.steps[k]
        reads, writes = workload.reads[k], workload.writes[k]
        own = self.bit.get(~k, 0)
        old = [self.taken[i] for i in reads if i in self.taken]
        guarded = {workload.values[i].donor for i in writes}
        first = [~j for j, other in enumerate(workload.steps) if j != k and other.guards & guarded]
        pairs = [
            (self.bit[w], self.bit[r], workload.sizes[w])
            for w, r in [(w, workload.roots[r]) for w, r in step.in_place]
            if r in self.bit and workload.sizes[w] == workload.sizes[r] and self.size[self.bit[w]]
        ]
        return _Move(
            k,
            self._mask([i for i in reads if i in self.bit]),
            self._mask(writes) | own,
            self._mask([i for i in old if i not in writes]) | (0 if step.repeatable else own),
            self._mask(first),
            step.cost,
            aligned(step.scratch),
            tuple(pairs),
        )

    def _price(self, move: _Move) -> int:
        """What it costs at least to make what a step makes, of what it reads."""
        alone = self.workload.alone.get(move.step, {}).values()
        return min([move.cost, *[self.workload.steps[k].cost for k in alone]])

    def _mask(self, names: Iterable[int]) -> Mask:
        mask = 0
        for name in names:
            mask |= self.bit[name]
        return mask

    def _bytes(self, state: Mask) -> int:
        return sum([self.size[bit] for bit in _bits(state)])

    def _path(self, before: dict[Mask, tuple[Mask, int]], state: Mask) -> Schedule:
        steps = []
        while state in before:
            state, step = before[state]
            if step >= 0:
                steps.append(step)
        return tuple(reversed(steps))


def _bits(mask: Mask) -> Iterator[Mask]:
    while mask:
        bit = mask & -mask
        yield bit
        mask ^= bit
