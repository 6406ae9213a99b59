"""What a training run gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any


class Stopped(Enum):
    """Why a run ended."""

    FINISHED = "finished"
    """It took all its steps or epochs."""
    PATIENCE = "patience"
    """The metric had not become better for as many evaluations as `patience` allows."""
    INTERRUPTED = "interrupted"
    """Ctrl-C."""
    FAILED = "failed"
    """An error that carries the result."""


@dataclass(frozen=True)
class Best:
    """The evaluation with the best metric."""

    step: int
    value: float
    path: Path | None
    """Its checkpoint, where the run has a folder."""
    state: Callable[[], Any] = field(repr=False)
    """`state()` gives the state at that step: read from the checkpoint, or kept in memory."""


@dataclass(frozen=True, repr=False)
class FitResult:
    """The state after the last step, a row of numbers for each evaluation, and why it ended."""

    state: Any
    history: tuple[dict[str, float], ...]
    best: Best | None
    """None where no metric was a finite number."""
    stopped: Stopped
    steps: int
    """Steps done, those before a resume included."""
    skipped: int
    """Those among them whose gradients were not finite, and which changed nothing."""

    def __repr__(self) -> str:
        best = f", best {self.best.value:.6g} at step {self.best.step}" if self.best else ""
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"<fit: {self.stopped.value} after {self.steps} steps{skipped}{best}>"
