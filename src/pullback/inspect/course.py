"""`Course`: what the steps of a run told of themselves, and whether it has a symptom."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import add, gt
from typing import Any

import numpy as np

from pullback.inspect.trials import ENOUGH, LEAST
from pullback.ir.array import float_of, numbers_of
from pullback.ir.types import Numbers, float64

FIRST = 20
"""Steps at the beginning of which everything is noted."""
LAST = 40
"""Noted steps that are kept, the first ones included."""
BETWEEN = 60
"""Steps between the first and the last ones of which the sizes are kept to be shown."""
STRIDE = 10
"""After them the sizes of gradients and updates are noted at each so many steps."""
MANY = 1000
"""Losses that wait to be put into an array, at most."""
WINDOW = 20
"""Steps of which a loss is the mean."""
NEAR = 0.95
"""A loss that stands still above so much of that of a constant output has learnt nothing."""
FAR = 2.0
"""A loss so many times that of a constant output is a symptom even while it falls."""
PLATEAU = 0.5
"""A run that has spent more than this share of its steps at the loss of a constant output."""
PATIENCE = 2
"""A run that may be as good as another one in so many times as many steps is still on its way."""
STUCK = 0.02
"""A loss that falls by less than this share between sixths of the run stands still."""
GONE = 0.01
"""Steps shorter than so much of the first ones have come to nothing."""


def _once(measure: Callable[[Course], Any]) -> property:
    """A property that is computed once for each number of steps."""
    name = measure.__name__

    def known(course: Course) -> Any:
        if course._heard:
            course.read()
        if name not in course._known:
            course._known[name] = measure(course)
        return course._known[name]

    return property(known, doc=measure.__doc__)


@dataclass(frozen=True, slots=True)
class Calm:
    """What a run may do until a look at it would find something where the last one found nothing.

    Its losses are finite, and at most `height` above the least of all: since the last look and
    `WINDOW` steps before it, so every mean of the last ones is. In the last noted step every
    parameter had a gradient and was moved, and where `goes_on` is asked, not all of them next to
    nothing.
    """

    height: float = math.inf
    goes_on: bool = False

    def __and__(self, other: Calm) -> Calm:
        """What satisfies both."""
        return Calm(min(self.height, other.height), self.goes_on or other.goes_on)


NEVER = Calm(-math.inf)
"""Of what must be looked at each time."""


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
        self._late: list[float] = []
        """Those before them, not yet in the array."""
        self._losses = np.empty(1 << 10)
        """Of every step; `_kept` of them are there."""
        self._kept = 0
        self._read = 0
        self._begun: list[Any] = []
        """Of the first noted steps `sizes`, which become numbers when they are read."""
        self._noted: deque[Any] = deque(maxlen=LAST - FIRST)
        """Of the last ones."""
        self._gap = 0
        self._between: list[tuple[int, Any]] = []
        """Of a few steps at looks, with their numbers: what there is to see of a long run."""
        self.note: Callable[[Any], None] = self._noted.append
        """The sizes of one step, after the first ones."""
        self._outdone = (-1, "")
        self._extremes = _Extremes()
        self._first: list[float] = []
        self._early: float | None = None
        self._least: list[float] = []
        self._plateau = 0
        self._known: dict[str, Any] = {}
        """What was measured of the steps that were read."""

    def add(self, metrics: Any) -> int:
        """One step: its loss, and of some what there is besides. Returns the number of steps."""
        heard = self._heard
        heard.append(float_of(metrics.loss))
        count = self._read + len(heard)
        if count <= FIRST or not count % STRIDE:
            sizes = getattr(metrics, "sizes", None)
            if sizes is not None:
                (self.note if self.has_begun else self._begun.append)(sizes)
                self.names = self.names or metrics.names.paths
        return count

    def remember(self) -> None:
        """Keep the sizes that were noted last; of more than `BETWEEN` every second one."""
        between, step = self._between, self.count - self.count % STRIDE
        if self._noted and (not between or step >= between[-1][0] + self._gap):
            between.append((step, self._noted[-1]))
            if len(between) > BETWEEN:
                self._gap = 2 * max(self._gap, between[1][0] - between[0][0])
                del between[1::2]

    def noted(self) -> tuple[tuple[int, ...], Numbers]:
        """The steps whose sizes are known, in order, and (steps, kinds of sizes, parameters)."""
        found: dict[int, Any] = dict(enumerate(self._begun, 1))
        found |= dict(self._between)
        last = self.count - self.count % STRIDE
        found |= {last - STRIDE * i: x for i, x in enumerate(reversed(self._noted))}
        rows = [np.asarray(numbers_of(found[i]), float64)[:2] for i in sorted(found)]
        return tuple(sorted(found)), np.stack(rows) if rows else np.zeros((0, 2, 0))

    @property
    def has_begun(self) -> bool:
        """Whether as many steps were noted as are kept of the beginning."""
        return len(self._begun) == FIRST

    def read(self) -> int:
        """Put what was heard to the losses. Returns the number of steps."""
        heard = self._heard
        if heard:
            self._read += len(heard)
            self._extremes.take(heard)
            self._late += heard
            heard.clear()
            self._known.clear()
            if len(self._late) > MANY:
                self._keep()
        return self._read

    def _keep(self) -> None:
        start, self._kept = self._kept, self._read
        if self._read > len(self._losses):
            self._losses = np.concatenate([self._losses, np.empty(self._read)])
        self._losses[start : self._read] = self._late
        self._late.clear()

    @property
    def count(self) -> int:
        """Steps so far."""
        return self._read + len(self._heard)

    # ---- series ----

    @property
    def losses(self) -> Numbers:
        """Of every step."""
        if self.read() > self._kept:
            self._keep()
        return self._losses[: self._read]

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
        return self._moves(False)

    @_once
    def goes_on(self) -> bool:
        """Whether one of them was moved by more than next to nothing, besides."""
        return self._moves(True)

    def _moves(self, goes_on: bool) -> bool:
        rows = self._noted or self._begun
        if not rows:
            return False
        norms, ratios = numbers_of(rows[-1]).tolist()[:2]
        return all(norms) and all(ratios) and (not goes_on or any(map(gt, ratios, self.least)))

    @property
    def least(self) -> list[float]:
        """Of each parameter the ratio that is next to nothing of its first ones; ∞ where these are.

        One that is above it keeps OPT02 from saying that the steps have come to nothing.
        """
        if self._least:
            return self._least
        first = self.ratios[:FIRST].T.tolist()
        found = [GONE * max(x, default=0.0) or math.inf for x in first]
        if self.has_begun:
            self._least = found
        return found

    def _table(self, row: int) -> Numbers:
        for noted in (self._begun, self._noted):
            for i, x in enumerate(noted):
                noted[i] = x if isinstance(x, np.ndarray) else numbers_of(x, float64)
        rows = [x[row] for x in (*self._begun, *self._noted)]
        return np.stack(rows) if rows else np.zeros((0, len(self.names)))

    # ---- calm ----

    def keeps(self, calm: Calm) -> bool:
        """Whether a look would find what the last one did, which was nothing."""
        self.read()
        losses = self._extremes
        height, losses.top = losses.top - losses.lowest, -math.inf
        return height <= calm.height and losses.are_finite and self._moves(calm.goes_on)

    def below(self, bar: float) -> Calm:
        """Losses of at most so much."""
        return Calm(bar - self.lowest)

    @property
    def starts(self) -> tuple[float, float]:
        """The least and the greatest that `start` can come to be."""
        usual = _median(self.first)
        return min(usual, self.first[0]), usual

    @property
    def scale(self) -> float:
        """The least that |start| can come to be."""
        least, greatest = self.starts
        return max(least, -greatest, 0.0)

    @property
    def calm(self) -> Calm:
        """Without a symptom: up to where there is none."""
        if self.symptom or self.count < LEAST:
            return NEVER
        if not self._plateau and not math.isnan(self.baseline):
            return NEVER  # it is not over yet
        least = self.starts[0]
        enough = least - ENOUGH * max(abs(least), 1e-12)
        return self.below(min(enough, NEAR * self.baseline))  # of NaN the first one is taken

    # ---- symptoms ----

    @_once
    def is_finite(self) -> bool:
        """Whether all losses are."""
        return self._extremes.are_finite

    @_once
    def lowest(self) -> float:
        """The least loss, where all are finite."""
        return self._extremes.lowest

    @_once
    def recent(self) -> list[float]:
        """The last losses, of `WINDOW` steps."""
        return self._extremes.recent

    @property
    def early(self) -> float:
        """The mean loss of the second half of the first steps."""
        if self._early is None or self.count <= FIRST:
            self._early = mean(self.losses[FIRST // 2 : FIRST].tolist())
        return self._early

    @property
    def first(self) -> list[float]:
        """The first losses, of five steps."""
        if len(self._first) < 5:
            self._first = self.losses[:5].tolist()
        return self._first

    @_once
    def start(self) -> float:
        """The loss at the beginning. The first may be far off by chance, the next by a jump."""
        first = self.first
        if not self.is_finite:
            return first[0]
        usual = _median(first)
        if usual <= first[0]:
            return usual
        late, usually = self.recent, mean(self.recent)
        return min(usual, first[0] + 2 * math.sqrt(mean([(x - usually) ** 2 for x in late])))

    @_once
    def end(self) -> float:
        """The mean of the last losses."""
        return mean(self.recent[-min(WINDOW, max(self._read // 3, 1)) :])

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
        if not self.count or not math.isfinite(first := self.first[0]):
            return 0.0
        extremes = self._extremes
        if not extremes.are_finite:
            losses, extremes = self.losses, _Extremes()
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
        late, before = np.mean(losses[-size:]), np.mean(losses[-2 * size : -size])
        return bool(before - late < STUCK * abs(before))

    @_once
    def plateau(self) -> int:
        """The steps until the loss was below that of a constant output."""
        if self._plateau:
            return self._plateau
        losses = self.losses
        if not len(losses) >= WINDOW or math.isnan(self.baseline):
            return 0
        smooth = np.convolve(losses, np.ones(WINDOW) / WINDOW, "valid")
        below = np.flatnonzero(smooth < NEAR * self.baseline)
        if not len(below):
            return len(losses)
        self._plateau = int(below[0]) + WINDOW // 2
        return self._plateau

    @property
    def to_come(self) -> float:
        """By how much the loss falls in `PATIENCE` times as many steps, at the present pace."""
        losses: Numbers = self.losses
        size = max(len(losses) // 6, 1)
        before, late = np.mean(losses[-2 * size : -size]), np.mean(losses[-size:])
        return float(6 * PATIENCE * (before - late))

    def outdone(self, said: str) -> None:
        """What a simpler model has learnt and the run has not is a symptom, until the next step."""
        self._outdone = (self.count, said)
        self._known.pop("symptom", None)

    @_once
    def symptom(self) -> str:
        """What says that something is wrong, beside any threshold; empty where nothing does."""
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
        return self._outdone[1] if self._outdone[0] == self.count else ""


class _Extremes:
    """What is last, least and greatest of a series that grows."""

    def __init__(self) -> None:
        self.are_finite = True
        self.lowest = math.inf
        self.top = -math.inf
        """The greatest since the last look, and of `WINDOW` steps before it."""
        self.highest = -math.inf
        """As a mean of three that follow each other; of three and fewer the greatest."""
        self.recent: list[float] = []
        self._count = 0

    def take(self, new: list[float]) -> None:
        """What follows."""
        if self.are_finite and not math.isfinite(sum(new)):
            self.are_finite = all(map(math.isfinite, new))
        self.lowest = min(self.lowest, *new)
        near, self._count = self.recent + new, self._count + len(new)
        self.recent = near[-WINDOW:]
        top = max(near)
        self.top = max(self.top, top)
        if self._count <= 3:
            self.highest = top
        elif top > self.highest or len(near) == self._count:
            greatest = max(map(add, map(add, near, near[1:]), near[2:])) / 3
            self.highest = greatest if len(near) == self._count else max(self.highest, greatest)


def _median(x: list[float]) -> float:
    middle = sorted(x)
    return (middle[(len(x) - 1) // 2] + middle[len(x) // 2]) / 2


def mean(x: Sequence[float]) -> float:
    """Of few numbers a list is the quickest."""
    return sum(x) / len(x)
