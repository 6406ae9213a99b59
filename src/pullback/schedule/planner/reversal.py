"""The optimal reversal of a chain of blocks in so many slots of memory.

Dynamic programming over substrings of the chain (Griewank & Walther 2000; with options for what a
block saves, Beaumont et al. 2021). Equal substrings are solved once: a stack of L equal layers has
about L of them, not L². Each state is a row over all numbers of slots.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Costs = NDArray[np.float64]
"""The least time for each number of slots; ∞ where there are too few."""


@dataclass(frozen=True)
class Option:
    """A way to run a block forward and backward, memory in slots.

    `saved` is what it holds from its forward to its backward run, its output included; `forward`
    and `backward` are the most that it holds during these runs.
    """

    cost: int
    saved: int
    forward: int
    backward: int


@dataclass(frozen=True)
class Stage:
    """A block: what it takes to run it forward for its output alone, and its options.

    `output` and `cotangent` are the slots of its output and of that one's gradient.
    """

    cost: int
    output: int
    cotangent: int
    peak: int
    options: tuple[Option, ...]


@dataclass(frozen=True, slots=True)
class Act:
    """Run block `block`: forward for its output alone, forward to save (`option`), or backward.

    Where it `ends` with its input, nobody needs that any more.
    """

    kind: str
    block: int
    option: int = -1
    ends: bool = False


PASS, SAVE, BACK = "pass", "save", "back"


class Reversal:
    """The tables of a chain for 0 … `slots` slots. The input of the chain is not counted."""

    def __init__(self, stages: Sequence[Stage], slots: int) -> None:
        self.stages, self.slots, self.count = stages, slots, len(stages)
        self.passed = np.cumsum([0, *[stage.cost for stage in stages]])
        self.outputs = np.array([stage.output for stage in stages])
        self.classes = substrings(stages)
        number = 1 + max((known for row in self.classes for known in row), default=0)
        self.rows = np.full((number, slots + 1), np.inf)
        """The table of each class of equal substrings."""
        solved: set[int] = set()
        for length in range(1, self.count + 1):
            for first in range(self.count - length + 1):
                known = self.classes[first][length]
                if known not in solved:
                    solved.add(known)
                    self.rows[known] = self._solved(first, first + length - 1)

    def cost(self, slots: int, length: int | None = None) -> float:
        """The least time of the whole chain, or of its first blocks; ∞ where it needs more."""
        last = self.count if length is None else length
        return float(self._table(0, last - 1)[min(slots, self.slots)])

    def least(self) -> int | None:
        """The fewest slots in which the chain can be reversed."""
        possible = np.flatnonzero(np.isfinite(self._table(0, self.count - 1)))
        return int(possible[0]) if len(possible) else None

    def acts(self, slots: int) -> Iterator[Act]:
        """What to run, in order, for the least time in so many slots."""
        stack: list[tuple[int, int, int] | Act] = [(0, self.count - 1, slots)]
        while stack:
            top = stack.pop()
            if isinstance(top, Act):
                yield top
                continue
            first, last, room = top
            option, split = self._choice(first, last, room)
            if option is not None:
                yield Act(SAVE, first, option)
                stack.append(Act(BACK, first, option))
                if first < last:
                    stack.append((first + 1, last, room - self.stages[first].options[option].saved))
            else:
                yield from (Act(PASS, i, ends=i > first) for i in range(first, split))
                stack.append((first, split - 1, room))
                stack.append((split, last, room - self.stages[split - 1].output))

    # ---- the tables ----

    def _table(self, first: int, last: int) -> Costs:
        row: Costs = self.rows[self.classes[first][last - first + 1]]
        return row

    def _solved(self, first: int, last: int) -> Costs:
        best: Costs = self._splits(first, last).min(axis=0, initial=np.inf)
        for k in range(len(self.stages[first].options)):
            np.minimum(best, self._saving(first, last, k), out=best)
        return best

    def _saving(self, first: int, last: int, k: int) -> Costs:
        """Save option `k` of the first block, reverse the rest, run the block backward."""
        stage = self.stages[first]
        option = stage.options[k]
        least = max(self.stages[last].cotangent + option.forward, stage.cotangent + option.backward)
        if first == last:
            rest = np.zeros(self.slots + 1)
        else:
            rest = _shifted(self._table(first + 1, last), option.saved)
        return _from(rest + option.cost, least)

    def _splits(self, first: int, last: int) -> Costs:
        """For each split, a row: run forward to it, reverse what follows, then what was passed."""
        inner = range(first + 1, last + 1)
        ahead = np.array([self.classes[split][last - split + 1] for split in inner], int)
        behind = np.array([self.classes[first][split - first] for split in inner], int)
        forward = self.passed[first + 1 : last + 1] - self.passed[first]
        held = self.outputs[first:last]
        least = np.maximum(held, self.stages[last].cotangent + self._peaks(first, last))
        rows = np.full((len(inner), self.slots + 1), np.inf)
        for each in np.unique(held[held <= self.slots]):
            same = np.flatnonzero(held == each)
            rows[same, each:] = self.rows[ahead[same], : self.slots + 1 - each]
        rows += self.rows[behind]
        rows += forward[:, None]
        rows[np.arange(self.slots + 1) < least[:, None]] = np.inf
        return rows

    def _peaks(self, first: int, last: int) -> NDArray[np.int64]:
        """The most slots held when running forward from `first` to each split."""
        below = np.concatenate(([0], self.outputs[first:last]))[:-1]
        peaks = [stage.peak for stage in self.stages[first:last]]
        most: NDArray[np.int64] = np.maximum.accumulate(below + np.array(peaks, np.int64))
        return most

    def _choice(self, first: int, last: int, room: int) -> tuple[int | None, int]:
        wanted = self._table(first, last)[room]
        for k in range(len(self.stages[first].options)):
            if self._saving(first, last, k)[room] == wanted:
                return k, first
        return None, first + 1 + int(self._splits(first, last)[:, room].argmin())


def substrings(letters: Sequence[Hashable]) -> list[list[int]]:
    """For each first letter and length the number of the class of that substring: equal ones are
    one class."""
    count = len(letters)
    known: dict[tuple[int, Hashable], int] = {}
    classes = [[-1] * (count - first + 1) for first in range(count)]
    for length in range(1, count + 1):
        for first in range(count - length + 1):
            key = classes[first][length - 1], letters[first + length - 1]
            classes[first][length] = known.setdefault(key, len(known))
    return classes


def _shifted(row: Costs, slots: int) -> Costs:
    """The row for so many slots less."""
    if slots >= len(row):
        return np.full(len(row), np.inf)
    return np.concatenate((np.full(slots, np.inf), row[: len(row) - slots]))


def _from(row: Costs, least: int) -> Costs:
    """The row, ∞ for fewer than `least` slots."""
    row[: min(least, len(row))] = np.inf
    return row
