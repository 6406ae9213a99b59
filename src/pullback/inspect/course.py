"""`Course`: what the steps of a run told of themselves, and whether it has a symptom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pullback.inspect.trials import ENOUGH, LEAST
from pullback.ir.types import Numbers

FIRST = 20
"""Steps at the beginning of which everything is noted."""
STRIDE = 10
"""After them the sizes of gradients and updates are noted at each so many steps."""
WINDOW = 20
"""Steps of which a loss is the mean."""
STUCK = 0.02
"""A loss that falls by less than this share from one half of the run to the other stands still."""


class Course:
    """Losses of all steps; norms of gradients and ratios of updates of some of them."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self._waiting: list[Any] = []
        self._losses: list[float] = []
        self._noted: list[tuple[int, Any, Any]] = []
        self.count = 0
        self.baseline = math.nan
        """The loss of the best constant output, where it is known."""

    def add(self, metrics: Any) -> None:
        """One step. Numbers are read later, many together."""
        self.count += 1
        self._waiting.append(metrics.loss)
        if self.count <= FIRST or not self.count % STRIDE:
            self._note(metrics)

    def _note(self, metrics: Any) -> None:
        if hasattr(metrics, "norms"):
            self.names = metrics.names.paths
            self._noted.append((self.count, metrics.norms, metrics.ratios))

    # ---- series ----

    @property
    def losses(self) -> Sequence[float]:
        self._losses += [float(x) for x in self._waiting]
        self._waiting.clear()
        return self._losses

    @property
    def steps(self) -> list[int]:
        """The steps whose norms and ratios are noted."""
        return [step for step, _, _ in self._noted]

    @property
    def norms(self) -> Numbers:
        """(noted steps, parameters): the norm of each gradient."""
        return self._table(1)

    @property
    def ratios(self) -> Numbers:
        """(noted steps, parameters): ‖update‖ / ‖parameter‖."""
        return self._table(2)

    def _table(self, column: int) -> Numbers:
        rows = [np.asarray(_numbers(each[column]), np.float64) for each in self._noted]
        return np.stack(rows) if rows else np.zeros((0, len(self.names)))

    # ---- symptoms ----

    @property
    def start(self) -> float:
        """The loss at the beginning. The first may be far off by chance, the next by a jump."""
        losses = self.losses
        if not np.isfinite(losses).all():
            return losses[0]
        spread = float(np.std(losses[-WINDOW:]))
        return float(min(np.median(losses[:5]), losses[0] + 2 * spread))

    @property
    def end(self) -> float:
        """The mean of the last losses."""
        return float(np.mean(self.losses[-min(WINDOW, max(len(self.losses) // 3, 1)) :]))

    @property
    def fall(self) -> float:
        """(start - end) / |start|; -∞ where a loss is not finite."""
        if not np.isfinite(self.losses).all():
            return -math.inf
        return (self.start - self.end) / max(abs(self.start), 1e-12)

    @property
    def rise(self) -> float:
        """The largest finite loss, as a mean of three, / that of the first step."""
        losses = self.losses
        if not losses or not np.isfinite(losses[0]):
            return 0.0
        if not np.isfinite(losses).all():
            losses = [x for x in losses if math.isfinite(x)]
        smooth = np.convolve(losses, np.ones(3) / 3, "valid") if len(losses) > 3 else losses
        return float(np.max(smooth)) / abs(losses[0]) if losses[0] else 0.0

    @property
    def stands_still(self) -> bool:
        """Whether the second half of the run is no better than the first."""
        losses = self.losses
        late = float(np.mean(losses[-len(losses) // 4 :]))
        before = float(np.mean(losses[len(losses) // 4 : len(losses) // 2]))
        return before - late < STUCK * abs(before)

    @property
    def symptom(self) -> str:
        """What says that something is wrong, beside any threshold; empty where nothing does."""
        if not self.losses:
            return ""
        fall = self.fall
        if fall == -math.inf:
            return f"the loss is not finite at step {self.count}"
        if self.count < LEAST:
            return ""
        if fall < -1:
            return f"the loss rose from {self.start:.4g} to {self.end:.4g} in {self.count} steps"
        if fall < ENOUGH:
            return f"in {self.count} steps the loss fell by {max(fall, 0):.1%}"
        if self.end > 0.98 * self.baseline and self.stands_still:
            return (
                f"after {self.count} steps the loss is {self.end:.4g}; that of a constant output "
                f"is {self.baseline:.4g}"
            )
        return ""


def _numbers(x: Any) -> Any:
    return x.numpy() if hasattr(x, "numpy") else x
