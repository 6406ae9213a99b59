"""The order of steps that holds least without running anything twice.

A step that holds no more than it frees runs as soon as it can: the gradient of a weight right after
the cotangent that it is made of, and the weight's update once its old value is read for the last
time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from pullback.schedule.memory import Lifetimes, Workload, lifetimes
from pullback.schedule.packing import SLAB

Schedule = tuple[int, ...]


def frugal_order(given: Lifetimes) -> Lifetimes:
    """A permutation of the steps: the one given, where another order holds no less."""
    found = _Order(given.workload).schedule()
    if found == given.schedule:
        return given
    other = lifetimes(given.workload, found)
    better = _held(other) < _held(given) and len(other.conflicts) <= len(given.conflicts)
    return other if better else given


def _held(lives: Lifetimes) -> tuple[int, int]:
    """The most bytes at once, and then bytes times steps."""
    return lives.max_live, int(lives.buffers.live_bytes(len(lives.schedule)).sum())


class _Order:
    """The steps in the order given, those that free memory as soon as they are ready."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        count = len(workload.steps)
        self.readers: dict[int, set[int]] = {}
        for k, read in enumerate(workload.reads):
            for i in read:
                self.readers.setdefault(i, set()).add(k)
        self.missing = [0] * count
        """For each step the number of steps before it that have not run."""
        self.followers: list[list[int]] = [[] for _ in range(count)]
        for before, after in self._edges():
            self.followers[before].append(after)
            self.missing[after] += 1
        self.kept = set(workload.kept)
        self.done: list[int] = []
        self.has_run = [False] * count

    def schedule(self) -> Schedule:
        steps = range(len(self.has_run))
        self._run([k for k in steps if self._is_free(k)])
        for k in steps:
            self._run([k])
        return tuple(self.done)

    def _edges(self) -> Iterator[tuple[int, int]]:
        """Pairs of steps, the first before the second: what it makes is read there, or the memory
        of what it reads is taken over there."""
        guards: dict[int, list[int]] = {}
        for k, made in enumerate(self.workload.writes):
            for i in made:
                yield from ((k, reader) for reader in self.readers.get(i, ()))
                donor = self.workload.values[i].donor
                if donor is not None:
                    earlier = (*self.readers.get(donor, ()), *guards.get(donor, ()))
                    yield from ((j, k) for j in earlier if j < k)
            for i in self.workload.steps[k].guards:
                guards.setdefault(i, []).append(k)

    def _run(self, first: Sequence[int]) -> None:
        """Run steps, and then all that is free."""
        pending = deque(first)
        while pending:
            k = pending.popleft()
            if self.has_run[k]:
                continue
            self.has_run[k] = True
            self.done.append(k)
            near = set(self.followers[k])
            for i in self.workload.reads[k]:
                left = self.readers[i]
                left.discard(k)
                if len(left) == 1:  # it frees the value now
                    near |= left
            for after in self.followers[k]:
                self.missing[after] -= 1
            pending.extend([j for j in sorted(near) if self._is_free(j)])

    def _is_free(self, k: int) -> bool:
        """Whether a step can run now, and frees as much as it makes, but for a trifle."""
        if self.has_run[k] or self.missing[k]:
            return False
        sizes, values = self.workload.sizes, self.workload.values
        last = {i for i in self.workload.reads[k] if self.readers[i] == {k}}
        freed = sum(sizes[i] for i in last - self.kept if not values[i].resident)
        made = sum(sizes[i] for i in self.workload.writes[k] if values[i].donor is None)
        return made <= freed + SLAB
