"""`Course`: what the steps of a run told of themselves, and whether it has a symptom."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pullback.inspect.trials import ENOUGH, LEAST
from pullback.ir.array import numbers_of
from pullback.ir.types import Numbers, float64

FIRST = 20
"""Steps at the beginning of which everything is noted."""
LAST = 40
"""Noted steps that are kept, the first ones included."""
STRIDE = 10
"""After them the sizes of gradients and updates are noted at each so many steps."""
WAITING = 32
"""Losses that wait to be read: few, or the collector of cycles has to walk over them."""
WINDOW = 20
"""Steps of which a loss is the mean."""
NEAR = 0.95
"""A loss that stands still above so much of that of a constant output has learnt nothing."""
FAR = 2.0
"""A loss so many times that of a constant output is a symptom even while it falls."""
PLATEAU = 0.25
"""A run that has spent more than this share of its steps at the loss of a constant output."""
STUCK = 0.02
"""A loss that falls by less than this share between sixths of the run stands still."""


class Course:
    """Losses of all steps; norms of gradients and ratios of updates of some of them."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.count = 0
        self.baseline = math.nan
        """The loss of the best constant output, where it is known."""
        self.is_broken = False
        """Whether a step was not finite, and so not applied."""
        self._waiting: list[Any] = []
        self._losses = np.empty(1024)
        self._read = 0
        self._sizes: list[Any] = []
        """Metrics of the noted steps whose numbers were not read yet."""
        self._rows: list[tuple[Numbers, Numbers]] = []
        self._told = (-1, "")

    def add(self, metrics: Any) -> None:
        """One step. Numbers are read later, many together."""
        self.count += 1
        self._waiting.append(metrics.loss)
        if self.count <= FIRST or not self.count % STRIDE:
            self._sizes.append(metrics)
            self._noted()  # what else the metrics hold is let go
        if len(self._waiting) >= WAITING:
            self._read_losses()

    # ---- series ----

    @property
    def losses(self) -> Numbers:
        """Of every step."""
        self._read_losses()
        return self._losses[: self._read]

    def _read_losses(self) -> None:
        new = [float(x) for x in self._waiting]
        self._waiting.clear()
        end = self._read + len(new)
        while end > len(self._losses):
            self._losses = np.concatenate([self._losses, np.empty(len(self._losses))])
        self._losses[self._read : end] = new
        self._read = end

    @property
    def norms(self) -> Numbers:
        """(noted steps, parameters): the norm of each gradient, of the first and the last steps."""
        return self._table(0)

    @property
    def ratios(self) -> Numbers:
        """(noted steps, parameters): ‖update‖ / ‖parameter‖."""
        return self._table(1)

    @property
    def is_lively(self) -> bool:
        """Whether in the last noted step every parameter had a gradient and was moved."""
        rows = self._noted()
        return bool(rows and rows[-1][0].all() and rows[-1][1].all())

    def _noted(self) -> list[tuple[Numbers, Numbers]]:
        for metrics in self._sizes:
            if hasattr(metrics, "norms"):
                self.names = metrics.names.paths
                sizes = [numbers_of(x, float64) for x in (metrics.norms, metrics.ratios)]
                self._rows.append((sizes[0], sizes[1]))
        self._sizes.clear()
        del self._rows[FIRST : -(LAST - FIRST)]
        return self._rows

    def _table(self, column: int) -> Numbers:
        rows = [row[column] for row in self._noted()]
        return np.stack(rows) if rows else np.zeros((0, len(self.names)))

    # ---- symptoms ----

    @property
    def start(self) -> float:
        """The loss at the beginning. The first may be far off by chance, the next by a jump."""
        losses = self.losses
        if not np.isfinite(losses).all():
            return float(losses[0])
        spread = float(np.std(losses[-WINDOW:]))
        return float(min(np.median(losses[:5]), losses[0] + 2 * spread))

    @property
    def end(self) -> float:
        """The mean of the last losses."""
        return float(np.mean(self.losses[-min(WINDOW, max(len(self.losses) // 3, 1)) :]))

    @property
    def fall(self) -> float:
        """(start - end) / |start|; -∞ where a loss is not finite."""
        if self.is_broken or not np.isfinite(self.losses).all():
            return -math.inf
        return (self.start - self.end) / max(abs(self.start), 1e-12)

    @property
    def rise(self) -> float:
        """The largest finite loss, as a mean of three, / that of the first step."""
        losses = self.losses
        if not len(losses) or not np.isfinite(losses[0]):
            return 0.0
        if not np.isfinite(losses).all():
            losses = losses[np.isfinite(losses)]
        smooth = np.convolve(losses, np.ones(3) / 3, "valid") if len(losses) > 3 else losses
        return float(np.max(smooth) / abs(losses[0])) if losses[0] else 0.0

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
        late = float(np.mean(losses[-size:]))
        before = float(np.mean(losses[-2 * size : -size]))
        return before - late < STUCK * abs(before)

    @property
    def plateau(self) -> int:
        """The steps until the loss was below that of a constant output."""
        losses = self.losses
        if not len(losses) >= WINDOW or math.isnan(self.baseline):
            return 0
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
