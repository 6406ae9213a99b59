"""What is to be predicted, of examples: a class, or a number. Loss, scores and baselines of both.

Scores are computed in NumPy, of all outputs at once, in float64.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pullback.functions.losses import cross_entropy, mse
from pullback.ir.array import Array
from pullback.ir.types import Numbers, float64
from pullback.ops.operators import reshape

Scores = Mapping[str, float]


@dataclass(frozen=True)
class Baseline:
    """What a simpler predictor reaches on the test part, fitted on the training part."""

    name: str
    scores: Scores


class Objective(ABC):
    """Classification or regression."""

    score: ClassVar[str]
    """The score that is told first, beside the loss."""
    unit: ClassVar[str]
    """Of the loss."""
    outputs: int

    @abstractmethod
    def loss(self, outputs: Array, targets: Any) -> Array:
        """The mean over a batch."""

    @abstractmethod
    def scores(self, outputs: Numbers, targets: Numbers) -> Scores:
        """`loss`, `score` and others of all examples."""

    @abstractmethod
    def constant(self, targets: Numbers) -> tuple[str, Numbers]:
        """(what it is, its outputs for one example): the best predictor that sees no input."""

    @abstractmethod
    def shown(self, name: str, value: float) -> str:
        """A score as people read it."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Plain data, for JSON."""


@dataclass(frozen=True)
class Classification(Objective):
    """One of some classes; outputs are logits, targets the numbers of the classes."""

    score: ClassVar[str] = "accuracy"
    unit: ClassVar[str] = "cross-entropy (nats)"
    classes: tuple[Any, ...]

    @property
    def outputs(self) -> int:  # type: ignore[override]
        return len(self.classes)

    def loss(self, outputs: Array, targets: Any) -> Array:
        return cross_entropy(outputs, targets)

    def scores(self, outputs: Numbers, targets: Numbers) -> Scores:
        logs = log_probabilities(outputs)
        right = np.argmax(outputs, axis=-1) == targets
        return {
            "loss": float(-np.mean(logs[np.arange(len(targets)), targets])),
            "accuracy": float(np.mean(right)),
        }

    def constant(self, targets: Numbers) -> tuple[str, Numbers]:
        counts = np.bincount(targets, minlength=self.outputs)
        frequent = self.classes[int(np.argmax(counts))]
        # One example more of each class: no class is impossible.
        return f"always {frequent!r:.30}", np.log((counts + 1) / (counts.sum() + self.outputs))

    def shown(self, name: str, value: float) -> str:
        return f"{value:.2%}" if name == "accuracy" else f"{value:.4f}"

    def confusion(self, outputs: Numbers, targets: Numbers) -> list[list[int]]:
        """Row: the true class, column: the predicted one."""
        table = np.zeros((self.outputs, self.outputs), int)
        np.add.at(table, (targets, np.argmax(outputs, axis=-1)), 1)
        return table.tolist()

    def state(self) -> dict[str, Any]:
        return {"classes": list(self.classes)}


@dataclass(frozen=True)
class Regression(Objective):
    """A number; outputs and targets are on the scale of the training part, scores in its own."""

    score: ClassVar[str] = "rmse"
    unit: ClassVar[str] = "mean squared error (standardised)"
    target: str
    mean: float
    std: float

    @property
    def outputs(self) -> int:  # type: ignore[override]
        return 1

    def loss(self, outputs: Array, targets: Any) -> Array:
        return mse(reshape(outputs, outputs.shape[:-1]), targets)

    def scores(self, outputs: Numbers, targets: Numbers) -> Scores:
        errors = outputs.reshape(-1).astype(float64) - targets
        spread = float(np.mean((targets - np.mean(targets)) ** 2))
        loss = float(np.mean(errors**2))
        return {
            "loss": loss,
            "rmse": self.std * float(np.sqrt(loss)),
            "mae": self.std * float(np.mean(np.abs(errors))),
            "r2": 1 - loss / spread if spread else float("nan"),
        }

    def constant(self, targets: Numbers) -> tuple[str, Numbers]:
        return f"always the mean, {readable(self.mean)}", np.zeros(1)

    def numbers(self, outputs: Numbers) -> Numbers:
        """Outputs or targets in the unit of the target."""
        return np.asarray(outputs.reshape(-1).astype(float64) * self.std + self.mean)

    def shown(self, name: str, value: float) -> str:
        return f"{value:.4f}" if name in ("loss", "r2") else readable(value)

    def state(self) -> dict[str, Any]:
        return {"target": self.target, "mean": self.mean, "std": self.std}


def readable(value: float) -> str:
    """Four digits that count, and 150,000 instead of 1.5e+05."""
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e12 else f"{value:.4g}"


def log_probabilities(logits: Numbers) -> Numbers:
    """log softmax over the last axis, in float64."""
    wide = logits.astype(float64)
    shifted = wide - wide.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def repeated(outputs: Numbers, count: int) -> Numbers:
    """The outputs of a predictor that says the same of every example."""
    return np.broadcast_to(outputs, (count, len(outputs)))


def listed(names: Sequence[Any], most: int = 6) -> str:
    """Names for a message: the first few."""
    shown = ", ".join(f"{each!s:.30}" for each in names[:most])
    return f"{shown}, … ({len(names)} in all)" if len(names) > most else shown
