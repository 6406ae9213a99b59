"""`Course`: what the steps of a run told of themselves, and whether it has a symptom."""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import add
from typing import Any

import numpy as np

from pullback.inspect.trials import ENOUGH, LEAST
from pullback.ir.array import float_of, numbers_of
from pullback.ir.types import Numbers, float64

FIRST = 20
"""Steps at the beginning of which everything is noted."""
LAST = 40
"""Noted steps that are kept, the first ones included."""
STRIDE = 10
"""After them the sizes of gradients and updates are noted at each so many steps."""
WINDOW = 20
"""Steps of which a loss is the mean."""
NEAR = 0.95
"""A loss that stands still above so much of that of a constant output has learnt nothing."""
FAR = 2.0
"""A loss so many times that of a constant output is a symptom even while it falls."""
PLATEAU = 0.5
"""A run that has spent more than this share of its steps at the loss of a constant output."""
STUCK = 0.02
"""A loss that falls by less than this share between sixths of the run stands still."""


def _once(measure: Callable[[Course], Any]) -> property:
    """A property that is computed once for each number of steps."""
    name = measure.__name__

    def known(course: Course) -> Any:
        count, found = course.count, course.known.get(name)
        if found is None or found[0] != count:
            found = course.known[name] = count, measure(course)
        return found[1]

    return property(known, doc=measure.__doc__)


class Course:
    """Losses of all steps; norms of gradients and ratios of updates of some of them.

    What is measured of them goes on from where it was: a run may be long.
    """

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.baseline = math.nan
        """The loss of the best constant output, where it is known."""
        self.is_broken = False
        """Whether a step was not finite, and so not applied."""
        self._heard: list[float] = []
        """The last losses, not yet among the others."""
        self.hear: Callable[[float], None] = self._heard.append
        """The loss of one step, of which nothing else is noted."""
        self._read = 0
        self._losses = np.empty(1 << 10)
        """Of every step; `_read` of them are there."""
        self._rows: list[Any] = []
        """Of the noted steps `sizes`, which become numbers when they are read."""
        self._told = (-1, "")
        self._extremes = _Extremes()
        self._early: float | None = None
        self.known: dict[str, tuple[int, Any]] = {}
        """What was measured, and after how many steps."""

    def add(self, metrics: Any) -> int:
        """One step: its loss, and of some what there is besides. Returns the number of steps."""
        heard = self._heard
        heard.append(float_of(metrics.loss))
        count = self._read + len(heard)
        if count <= FIRST or not count % STRIDE:
            sizes = getattr(metrics, "sizes", None)
            if sizes is not None:
                rows = self._rows
                rows.append(sizes)
                if len(rows) > LAST:
                    del rows[FIRST]
                elif len(rows) == 1:
                    self.names = metrics.names.paths
        return count

    def read(self) -> int:
        """Put what was heard to the losses. Returns the number of steps."""
        heard, start = self._heard, self._read
        if heard:
            self._read = end = start + len(heard)
            if end > len(self._losses):
                self._losses = np.concatenate([self._losses, np.empty(end)])
            self._losses[start:end] = heard
            self._extremes.take(heard)
            heard.clear()
        return self._read

    @property
    def count(self) -> int:
        """Steps so far."""
        return self._read + len(self._heard)

    # ---- series ----

    @property
    def losses(self) -> Numbers:
        """Of every step."""
        count = self.read()
        return self._losses[:count]

    @_once
    def norms(self) -> Numbers:
        """(noted steps, parameters): the norm of each gradient, of the first and the last steps."""
        return self._table(0)

    @_once
    def ratios(self) -> Numbers:
        """(noted steps, parameters): ‖update‖ / ‖parameter‖."""
        return self._table(1)

    @_once
    def is_lively(self) -> bool:
        """Whether in the last noted step every parameter had a gradient and was moved."""
        return bool(self._rows) and bool(numbers_of(self._rows[-1])[:2].all())

    def _table(self, row: int) -> Numbers:
        self._rows = [
            x if isinstance(x, np.ndarray) else numbers_of(x, float64) for x in self._rows
        ]
        rows = [x[row] for x in self._rows]
        return np.stack(rows) if rows else np.zeros((0, len(self.names)))

    # ---- symptoms ----

    @property
    def is_finite(self) -> bool:
        """Whether all losses are."""
        self.read()
        return self._extremes.are_finite

    @property
    def lowest(self) -> float:
        """The least loss, where all are finite."""
        self.read()
        return self._extremes.lowest

    @property
    def early(self) -> float:
        """The mean loss of the second half of the first steps."""
        if self._early is None or self.count <= FIRST:
            self._early = _mean(self.losses[FIRST // 2 : FIRST])
        return self._early

    @_once
    def start(self) -> float:
        """The loss at the beginning. The first may be far off by chance, the next by a jump."""
        losses = self.losses
        first: list[float] = losses[:5].tolist()
        if not self.is_finite:
            return first[0]
        usual = _median(first)
        if usual <= first[0]:
            return usual
        late = losses[-WINDOW:] - _mean(losses[-WINDOW:])
        return min(usual, first[0] + 2 * math.sqrt(_mean(late * late)))

    @_once
    def end(self) -> float:
        """The mean of the last losses."""
        losses: Numbers = self.losses
        return _mean(losses[-min(WINDOW, max(len(losses) // 3, 1)) :])

    @property
    def fall(self) -> float:
        """(start - end) / |start|; -∞ where a loss is not finite."""
        if self.is_broken or not self.is_finite:
            return -math.inf
        start: float = self.start
        return (start - float(self.end)) / max(abs(start), 1e-12)

    @_once
    def rise(self) -> float:
        """The largest finite loss, as a mean of three, / that of the first step."""
        losses = self.losses
        if not len(losses) or not math.isfinite(first := float(losses[0])):
            return 0.0
        extremes = self._extremes
        if not extremes.are_finite:
            extremes = _Extremes()
            extremes.take(losses[np.isfinite(losses)].tolist())
        return extremes.highest / abs(first) if first else 0.0

    @property
    def grief(self) -> int:
        """The first step at which the loss was twice the first one; 0 where it never was."""
        losses = self.losses
        high = np.flatnonzero(~(losses <= losses[0] + abs(losses[0]))) if len(losses) else losses
        return int(high[0]) if len(high) else 0

    @property
    def stands_still(self) -> bool:
        """Whether the last sixth of the run is no better than the one before it."""
        losses = self.losses
        size = max(len(losses) // 6, 1)
        late, before = _mean(losses[-size:]), _mean(losses[-2 * size : -size])
        return before - late < STUCK * abs(before)

    @_once
    def plateau(self) -> int:
        """The steps until the loss was below that of a constant output."""
        losses = self.losses
        if not len(losses) >= WINDOW or math.isnan(self.baseline):
            return 0
        count, known = self.known.get("plateau", (0, 0))
        if 0 < known < count:
            return int(known)
        smooth = np.convolve(losses, np.ones(WINDOW) / WINDOW, "valid")
        below = np.flatnonzero(smooth < NEAR * self.baseline)
        return int(below[0]) + WINDOW // 2 if len(below) else len(losses)

    @property
    def symptom(self) -> str:
        """What says that something is wrong, beside any threshold; empty where nothing does."""
        if self._told[0] != self.count:
            self._told = self.count, self._symptom()
        return self._told[1]

    def _symptom(self) -> str:
        if not self.count:
            return ""
        fall = self.fall
        if fall == -math.inf:
            return f"the loss or its gradient is not finite at step {self.count}"
        if self.count < LEAST:
            return ""
        if fall < -1:
            return f"the loss rose from {self.start:.4g} to {self.end:.4g} in {self.count} steps"
        if fall < ENOUGH:
            return f"in {self.count} steps the loss fell by {max(fall, 0):.1%}"
        above = self.end > NEAR * self.baseline
        if above and (self.stands_still or self.end > FAR * self.baseline):
            return (
                f"after {self.count} steps the loss is {self.end:.4g}; that of a constant output "
                f"is {self.baseline:.4g}"
            )
        if self.plateau > max(LEAST, PLATEAU * self.count):
            return (
                f"for {self.plateau} of {self.count} steps the loss was that of a constant "
                f"output, {self.baseline:.4g}"
            )
        return ""


class _Extremes:
    """What is least and greatest of a series that grows. Of few numbers a list is the quickest."""

    def __init__(self) -> None:
        self.are_finite = True
        self.lowest = math.inf
        self.highest = -math.inf
        """As a mean of three that follow each other; of three and fewer the greatest."""
        self._last: list[float] = []
        self._count = 0

    def take(self, new: list[float]) -> None:
        """What follows."""
        if self.are_finite and not math.isfinite(sum(new)):
            self.are_finite = all(map(math.isfinite, new))
        self.lowest = min(self.lowest, *new)
        near, self._count = self._last + new, self._count + len(new)
        self._last = near[-3:]
        top = max(near)
        if self._count <= 3:
            self.highest = top
        elif top > self.highest or len(near) == self._count:
            greatest = max(map(add, map(add, near, near[1:]), near[2:])) / 3
            self.highest = greatest if len(near) == self._count else max(self.highest, greatest)


def _median(x: list[float]) -> float:
    middle = sorted(x)
    return (middle[(len(x) - 1) // 2] + middle[len(x) // 2]) / 2


def _mean(x: Numbers) -> float:
    """As `np.mean` has it, in a fifth of the time."""
    return float(np.add.reduce(x)) / len(x)
