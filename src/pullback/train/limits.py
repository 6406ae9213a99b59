"""When a run evaluates and when it ends, and which evaluation is its best."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pullback.data.philox import require_count
from pullback.errors import ArgumentError, nearest
from pullback.train.source import Source

VALIDATION_LOSS, TRAIN_LOSS = "validation_loss", "train_loss"


@dataclass(frozen=True)
class Limits:
    """When to evaluate, and when to end."""

    epochs: int | None
    steps: int | None
    every: int | None
    patience: int | None
    metric: str
    mode: str

    def check(self, step: Any, validate: Any, log_every: Any) -> None:
        """Raise `ArgumentError` for what makes no sense."""
        for name in ("epochs", "steps", "every", "patience"):
            if getattr(self, name) is not None:
                require_count(name, getattr(self, name))
        require_count("log_every", log_every)
        if self.epochs is None and self.steps is None:
            raise ArgumentError("how long? give epochs= or steps=")
        if not callable(step):
            raise ArgumentError(
                f"step is a function of a state and a batch, not of type {type(step).__name__}",
                hint="step = pb.train.train_step(loss, optimizer)",
            )
        if validate is not None and not callable(validate):
            raise ArgumentError(f"validate is a function of the state, not {validate!r:.60}")
        if self.mode not in ("min", "max"):
            raise ArgumentError(f'mode is "min" or "max", not {self.mode!r:.40}')
        is_unused = self.metric == VALIDATION_LOSS and self.patience is None
        if validate is None and not is_unused and self.metric != TRAIN_LOSS:
            raise ArgumentError(
                f"nothing measures the metric {self.metric!r:.60}",
                hint="validate(state) returns numbers by name, and metric= names one of them; "
                f'metric="{TRAIN_LOSS}" is there without it',
            )

    def check_data(self, source: Source, evaluates: bool) -> None:
        """Refuse data that may never end where nothing else says when to evaluate."""
        if evaluates and self.epochs is None and self.every is None and source.length is None:
            raise ArgumentError(
                f"a {type(source.data).__name__} does not say how long an epoch is, so when to "
                "evaluate and save?",
                hint="every=100 does so each 100 steps",
            )

    def require_metric(self, known: Iterable[str]) -> None:
        names = [name for name in known if name not in ("epoch", "step", "seconds")]
        if self.metric not in names:
            near = nearest(self.metric, names)
            raise ArgumentError(
                f"there is no metric {self.metric!r}; there is {', '.join(names)}",
                hint=f"did you mean {near!r} ?"
                if near
                else "validate(state) returns numbers by name, and metric= names one of them",
            )

    def total(self, source: Source) -> int | None:
        """How many steps there will be, as far as that is known."""
        by_epochs = None
        if self.epochs is not None and source.length is not None:
            by_epochs = self.epochs * source.length
        return min((n for n in (self.steps, by_epochs) if n is not None), default=None)

    def is_better(self, value: float, best: float | None) -> bool:
        """Of equals the earlier is the better, and NaN is nobody's best."""
        if not math.isfinite(value):
            return False
        return best is None or (value < best if self.mode == "min" else value > best)
