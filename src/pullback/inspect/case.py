"""`Case`: what the rules of a run look at, each thing computed when the first of them asks."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback.inspect.course import Course
from pullback.inspect.seen import Seen, Subject
from pullback.ir.array import DONATED, Array
from pullback.ir.types import Numbers, float64
from pullback.optim.optimizer import Optimizer
from pullback.train.function import UserFunction, drawn
from pullback.train.metrics import Names
from pullback.train.precision import PRECISIONS
from pullback.train.source import arguments as parts
from pullback.train.state import TrainState, copied, trained_part
from pullback.train.step import TrainStep, train_step
from pullback.transforms.tree import Tree, flatten, map_leaves, paths

__all__ = ["Case", "Job", "Told", "Visit", "parts"]


class Visit(Seen):
    """A model and a batch of a run that is under way; its symptom is that of the run."""

    def __init__(self, subject: Subject, course: Course) -> None:
        super().__init__(subject)
        self._course = course

    @property
    def symptom(self) -> str:
        return self._course.symptom


@dataclass(frozen=True)
class Job:
    """What the run computes: the loss, and how it is made smaller."""

    loss_fn: Any
    optimizer: Optimizer | None
    accumulate: int = 1
    clip: float | None = None
    precision: str = "fp32"
    has_aux: bool = False

    @classmethod
    def of(cls, step: TrainStep) -> Job:
        recipe = step._recipe
        names = {dtype: name for name, dtype in PRECISIONS.items()}
        return cls(
            recipe.loss.call,
            recipe.optimizer,
            recipe.accumulate,
            recipe.clip,
            names[recipe.compute],
            recipe.has_aux,
        )

    @property
    def is_plain(self) -> bool:
        """Whether the loss of a step is `loss_fn` as it stands: whole, in the model's precision."""
        return self.accumulate == 1 and self.precision in ("fp32", "fp64")

    def step(self, optimizer: Optimizer) -> TrainStep:
        """The same step with another optimiser."""
        return train_step(
            self.loss_fn,
            optimizer,
            accumulate=self.accumulate,
            clip=self.clip,
            precision=self.precision,
            has_aux=self.has_aux,
        )


@dataclass(frozen=True)
class Told:
    """What a loop without `train_step` tells of a step, in the form of `Metrics`."""

    loss: Any
    norms: Numbers
    ratios: Numbers
    names: Names

    @classmethod
    def nothing(cls) -> Told:
        return cls(math.nan, np.zeros(0), np.zeros(0), Names(()))


class Case:
    """A run: its beginning, its course, its present."""

    def __init__(self, job: Job | None, state: Any, is_stepped: bool) -> None:
        self.job = job
        self.is_stepped = is_stepped
        """Whether it is `train_step` that makes the steps."""
        self.course = Course()
        self.initial: Any = copied(state)
        self.batches: list[tuple[Any, ...]] = []
        """The first ones, copied."""
        self.now: tuple[Any, Any] = (None, ())
        """The last state, and the batch of the step that returned it."""
        self.rows: list[Mapping[str, float]] = []
        """Of evaluations."""
        self._model: Any = getattr(self.initial, "model", None)

    def keep(self, batch: Any) -> None:
        """Have a copy of a batch."""
        self.batches.append(map_leaves(_copied, parts(batch)))

    def forget(self) -> None:
        """Let go of what was computed for a look."""
        for name in ("first", "present"):
            vars(self).pop(name, None)

    # ---- visits ----

    @functools.cached_property
    def first(self) -> Visit:
        """The model before the first step, with the first batch."""
        return self.visit(self.initial, self.batches[0])

    @functools.cached_property
    def present(self) -> Visit | None:
        """The model as it is now, with the last batch; None where its memory was given away."""
        state, batch = self.now
        if any(isinstance(x, Array) and x.trace == DONATED for x in flatten(state)[0]):
            return None
        return self.visit(copied(state), parts(batch))  # evidence may outlive the state

    def visit(self, state: TrainState, batch: Sequence[Any]) -> Visit:
        assert self.job is not None
        key = state.key
        if key is not None and self.is_stepped:
            key = drawn(UserFunction.of(self.job.loss_fn, "loss_fn"), state)
        subject = Subject(
            state.model,
            self.job.loss_fn,
            tuple(batch),
            self.job.optimizer,
            state.network_state,
            key,
            self.job.has_aux,
            1.0,
        )
        return Visit(subject, self.course)

    # ---- a loop without train_step ----

    def state_with(self, model: Any) -> Any:
        """The state of a loop that has a model only."""
        if isinstance(model, TrainState) or not isinstance(self.initial, TrainState):
            return model
        return self.initial.replace(model=model)

    def told(self, model: Any, loss: Any, grads: Any) -> Told:
        """The metrics of a step after which the model is `model`."""
        before, self._model = self._model, model
        part = trained_part(model)
        after = _numbers(part)
        moved = [x - y for x, y in zip(after, _numbers(trained_part(before)), strict=True)]
        slopes = _numbers(grads) if grads is not None else []
        return Told(
            loss,
            np.array([np.linalg.norm(g.ravel()) for g in slopes]),
            np.array([_ratio(d, x) for d, x in zip(moved, after, strict=True)]),
            Names(tuple(x.removeprefix(".") for x in paths(flatten(part)[1], ""))),
        )


def _numbers(tree: Tree) -> list[Numbers]:
    leaves = flatten(tree)[0]
    return [np.asarray(x.numpy() if isinstance(x, Array) else x).astype(float64) for x in leaves]


def _ratio(moved: Numbers, after: Numbers) -> float:
    size = float(np.linalg.norm(after.ravel()))
    return float(np.linalg.norm(moved.ravel())) / size if size else 0.0


def _copied(x: Any) -> Any:
    return np.array(x.numpy() if isinstance(x, Array) else x)
