"""`Task`: data, a network's business with them, and what is told of it.

A task is made of a source (`images`, `tables`, `texts`: one class each), is trained by `session`
and drawn by `report`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pullback import random
from pullback.data.loader import Crops, DataLoader
from pullback.errors import ArgumentError
from pullback.functions.losses import cross_entropy
from pullback.ir.array import Array
from pullback.ir.types import Numbers, Shape, float32, float64
from pullback.nn import Linear, init
from pullback.optim import adam, cosine
from pullback.train.config import Tables, Training
from pullback.train.models import Choice, apply
from pullback.train.objectives import (
    Baseline,
    Objective,
    Regression,
    Scores,
    repeated,
)
from pullback.train.state import TrainState
from pullback.train.step import train_step

Outputs = Callable[[Any, Any], Array]
"""A network and a batch of inputs → its outputs, compiled."""


class Task(ABC):
    """What is learnt, of which data, and how it is measured."""

    kind: ClassVar[str]
    """Of the source, in words."""
    data_choices: ClassVar[type]
    """The dataclass of the section `data`."""

    name: str
    """What the source is called."""
    title: str
    """Of the page."""
    notes: Sequence[str]
    """What was found in the data, and what was decided."""
    inputs: Shape
    outputs: int
    score: str
    """The score that is told first."""
    unit: str
    """Of the loss."""
    parts: Mapping[str, int]
    """How many examples (tokens) each part has."""
    measured: str
    """The part that the network is measured on at the end."""
    example: str
    """What an example is called: "images"."""

    @abstractmethod
    def defaults(self, model: str | None) -> Tables:
        """The sections that fit this data and network, where a user says nothing else."""

    @abstractmethod
    def loss(self, model: Any, x: Any, y: Any, key: Array) -> Array:
        """Of a batch, in training."""

    @abstractmethod
    def batches(self, training: Training, model: Choice) -> DataLoader | Crops:
        """The training part."""

    @abstractmethod
    def evaluate(self, run: Outputs, model: Any, part: str) -> Scores:
        """`loss` and other scores of a part: "train", "validation", "test"."""

    @abstractmethod
    def baselines(self, training: Training) -> list[Baseline]:
        """Simpler predictors, measured on the test part."""

    @abstractmethod
    def shown(self, name: str, value: float) -> str:
        """A score as people read it."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What a prediction needs beside the network, as plain data for JSON."""

    @property
    def held_out(self) -> str:
        """The part that is measured while training goes on."""
        return "validation" if self.parts.get("validation") else "test"


# ---- examples -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs and targets, along axis 0."""

    x: Numbers
    y: Numbers

    def __len__(self) -> int:
        return len(self.y)


class ExampleTask(Task):
    """A task of independent examples, each with one target."""

    measured = "test"
    objective: Objective
    examples: Mapping[str, Examples]
    """By part: train, validation (there may be none), test."""

    def prepared(self, x: Numbers) -> Numbers:
        """Inputs as the network takes them, of inputs as they are kept."""
        return x

    @property
    def parts(self) -> Mapping[str, int]:  # type: ignore[override]
        return {name: len(part) for name, part in self.examples.items()}

    @property
    def outputs(self) -> int:  # type: ignore[override]
        return self.objective.outputs

    @property
    def score(self) -> str:  # type: ignore[override]
        return self.objective.score

    @property
    def unit(self) -> str:  # type: ignore[override]
        return self.objective.unit

    def loss(self, model: Any, x: Any, y: Any, key: Array) -> Array:
        return self.objective.loss(apply(model, x, key), y)

    def batches(self, training: Training, model: Choice) -> DataLoader:
        train = self.examples["train"]
        if training.batch_size > len(train):
            raise ArgumentError(
                f"training.batch_size = {training.batch_size} is more than the training part has, "
                f"{len(train)} {self.example}"
            )
        return DataLoader(
            (train.x, train.y),
            training.batch_size,
            seed=training.seed,
            transform=lambda batch: (self.prepared(batch[0]), batch[1]),
        )

    def predictions(self, run: Outputs, model: Any, x: Numbers, size: int = 256) -> Numbers:
        """The outputs for inputs as they are kept, in batches of one size."""
        count = min(size, len(x))
        parts = []
        for first in range(0, len(x), count):
            chosen = np.arange(first, first + count) % len(x)  # the last batch is filled up
            parts.append(run(model, self.prepared(x[chosen])).numpy()[: len(x) - first])
        return np.concatenate(parts)

    def evaluate(self, run: Outputs, model: Any, part: str) -> Scores:
        examples = self.examples[part]
        return self.objective.scores(self.predictions(run, model, examples.x), examples.y)

    def baselines(self, training: Training) -> list[Baseline]:
        test, train = self.examples["test"], self.examples["train"]
        name, said = self.objective.constant(train.y)
        linear = linear_model(self, training)
        return [
            Baseline("linear model", self.objective.scores(linear(test.x), test.y)),
            Baseline(name, self.objective.scores(repeated(said, len(test)), test.y)),
        ]

    def shown(self, name: str, value: float) -> str:
        return self.objective.shown(name, value)


# ---- the linear baseline --------------------------------------------------------------------

LINEAR_STEPS, LINEAR_BATCH, MOST_EXAMPLES = 1500, 256, 20_000


def linear_model(task: ExampleTask, training: Training) -> Callable[[Numbers], Numbers]:
    """Inputs → outputs of the affine map with the least loss on the training part.

    Squares have a closed form. The cross-entropy is minimised by Adam, on standardised inputs.
    """
    train = task.examples["train"]
    chosen = np.linspace(0, len(train) - 1, min(len(train), MOST_EXAMPLES)).astype(int)
    x, y = _flat(task.prepared(train.x[chosen])), train.y[chosen]
    if isinstance(task.objective, Regression):
        weights, *_ = np.linalg.lstsq(_with_one(x), y.astype(float64), rcond=None)
        return lambda given: (_with_one(_flat(task.prepared(given))) @ weights)[:, None]
    mean, std = x.mean(0), x.std(0)
    scale = np.where(std > 0, std, 1)
    model = _logistic((x - mean) / scale, y, task.outputs, training)
    weight, bias = (each.numpy().astype(float64) for each in (model.weight, model.bias))
    return lambda given: (_flat(task.prepared(given)) - mean) / scale @ weight.T + bias


def _logistic(x: Numbers, y: Numbers, classes: int, training: Training) -> Any:
    def loss(model: Any, x: Any, y: Any) -> Array:
        return cross_entropy(model(x), y)

    optimizer = adam(cosine(3e-3, LINEAR_STEPS))
    model = Linear(x.shape[1], classes, key=random.key(0), initializer=init.zeros)
    state = TrainState.create(model, optimizer)
    step = train_step(loss, optimizer, threads=training.threads or None)
    loader = DataLoader((x.astype(float32), y), min(LINEAR_BATCH, len(y)))
    count = 0
    while count < LINEAR_STEPS:
        for batch in loader:
            state, _ = step(state, *batch)
            count += 1
            if count == LINEAR_STEPS:
                break
    return state.model


def _flat(x: Numbers) -> Numbers:
    return x.reshape(len(x), -1).astype(float64)


def _with_one(x: Numbers) -> Numbers:
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)
