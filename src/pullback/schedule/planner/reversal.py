"""The optimal reversal of a chain of blocks in so many slots of memory.

Dynamic programming over substrings of the chain (Griewank & Walther 2000; with options for what a
block saves, Beaumont et al. 2021). Equal substrings are solved once: a stack of L equal layers has
about L of them, not L². Each state is a row over all numbers of slots.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

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


@dataclass
class Reversal:
    """The tables of a chain for 0 … `slots` slots. The input of the chain is not counted."""

    stages: Sequence[Stage]
    slots: int
    tables: dict[int, Costs] = field(default_factory=dict)
    """For each class of equal substrings."""

    def __post_init__(self) -> None:
        self.count = len(self.stages)
        self.passed = [0]
        for stage in self.stages:
            self.passed.append(self.passed[-1] + stage.cost)
        made = [0] + [stage.cotangent for stage in self.stages]
        self.classes = substrings(list(zip(self.stages, made, strict=False)))
        for length in range(1, self.count + 1):
            for first in range(self.count - length + 1):
                known = self.classes[first][length]
                if known not in self.tables:
                    self.tables[known] = self._solved(first, first + length - 1)

    def cost(self, slots: int) -> float:
        """The least time of the whole chain, ∞ where it needs more."""
        return float(self._table(0, self.count - 1)[min(slots, self.slots)])

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
        return self.tables[self.classes[first][last - first + 1]]

    def _solved(self, first: int, last: int) -> Costs:
        best = np.full(self.slots + 1, np.inf)
        for k in range(len(self.stages[first].options)):
            np.minimum(best, self._saving(first, last, k), out=best)
        for _, row in self._splits(first, last):
            np.minimum(best, row, out=best)
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

    def _splits(self, first: int, last: int) -> Iterator[tuple[int, Costs]]:
        """Run forward to each split, reverse what follows, then reverse what was passed."""
        stages, held, peak = self.stages, 0, 0
        for split in range(first + 1, last + 1):
            passed = stages[split - 1]
            peak = max(peak, held + passed.peak)
            held = passed.output
            ahead, behind = self._table(split, last), self._table(first, split - 1)
            row = np.full(self.slots + 1, np.inf)
            low = max(held, stages[last].cotangent + peak)
            forward = self.passed[split] - self.passed[first]
            np.add(ahead[low - held : self.slots + 1 - held], behind[low:], out=row[low:])
            row += forward
            yield split, row

    def _choice(self, first: int, last: int, room: int) -> tuple[int | None, int]:
        wanted = self._table(first, last)[room]
        for k in range(len(self.stages[first].options)):
            if self._saving(first, last, k)[room] == wanted:
                return k, first
        for split, row in self._splits(first, last):
            if row[room] == wanted:
                return None, split
        raise AssertionError("a table without a choice")


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
