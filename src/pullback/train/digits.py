"""The main job: a classifier of handwritten digits, trained by this library's backpropagation."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pullback import random
from pullback.data.digits import CLASSES, Digits, digits
from pullback.data.split import split
from pullback.errors import ArgumentError, NonFiniteError
from pullback.ir.array import Array
from pullback.ir.types import Numbers
from pullback.nn import MLP, Module, cross_entropy
from pullback.optim import adam, apply_updates
from pullback.train.run import Row, Run
from pullback.transforms.derivatives import value_and_grad
from pullback.transforms.tree import flatten, paths

PIXELS = 64
SPLIT_SEED = 0
"""The same images are tested whatever the seed of the training, so that runs compare."""
HELD_OUT = 0.1
"""Share of the images for validation, and again for the test."""


@dataclass(frozen=True)
class Settings:
    """What can be chosen. Raises `ArgumentError` for a value that makes no sense."""

    # No product of a step exceeds 2¹⁸ multiplications, up to which OpenBLAS stays on one thread: on
    # two busy cores its threads made a step of batch 64 and 128 units 3 to 6 times slower.
    epochs: int = 25
    batch_size: int = 32
    lr: float = 2e-3
    hidden: int = 90
    depth: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "hidden", "depth"):
            value = getattr(self, name)
            if value < 1:
                raise ArgumentError(f"{name} is at least 1, not {value}")
        adam(self.lr)
        random.key(self.seed)


@dataclass(frozen=True, eq=False)
class Parts:
    """The images in three parts, each image flat: float32[n,64]."""

    train: Digits
    validation: Digits
    test: Digits


def load() -> Parts:
    data = digits()
    flat = Digits(data.images.reshape(len(data), -1), data.labels)
    places = split(len(data), SPLIT_SEED, HELD_OUT, HELD_OUT)
    return Parts(flat[places.train], flat[places.validation], flat[places.test])


def network(settings: Settings) -> MLP:
    """Pixels → `depth` hidden layers of `hidden` units → one logit for each digit."""
    key = random.fold_in(random.key(settings.seed), 0)
    return MLP(PIXELS, CLASSES, settings.hidden, settings.depth, key=key)


def loss(model: MLP, images: Any, labels: Any) -> Array:
    """The cross-entropy of what the network says of the images, the mean over the batch."""
    return cross_entropy(model(images), labels)


def steps_per_epoch(settings: Settings, parts: Parts) -> int:
    """Number of whole batches; `ArgumentError` when there is none."""
    count = len(parts.train)
    if settings.batch_size > count:
        raise ArgumentError(
            f"a batch of {settings.batch_size} is larger than the {count} training images"
        )
    return count // settings.batch_size


# ---- the run --------------------------------------------------------------------------------


class Watcher(Protocol):
    """Is told the numbers of each step and of each epoch."""

    def step(self, row: Row, /) -> None: ...
    def epoch(self, row: Row, /) -> None: ...


def train(settings: Settings, run: Run, parts: Parts, *watchers: Watcher) -> MLP:
    """Train a network; the numbers of each step and epoch are kept in `run`.

    Raises `ArgumentError` when a batch is larger than the training part, `NonFiniteError` when the
    loss is no number any more.
    """
    steps_per_epoch(settings, parts)
    model = network(settings)
    optimizer = adam(settings.lr)
    state = optimizer.init(model)
    gradient = value_and_grad(loss)
    start = time.perf_counter()
    for epoch in range(1, settings.epochs + 1):
        for batch in batches(parts.train, settings, epoch):
            value, grads = gradient(model, batch.images, batch.labels)
            run.step(step=len(run.steps) + 1, loss=_finite(value, run), **gradient_norms(grads))
            for watcher in watchers:
                watcher.step(run.steps[-1])
            updates, state = optimizer.update(grads, state, model)
            model = apply_updates(model, updates)
        run.epoch(
            epoch=epoch,
            step=len(run.steps),
            seconds=time.perf_counter() - start,
            **_measured("train", evaluate(model, parts.train, settings.batch_size)),
            **_measured("validation", evaluate(model, parts.validation, settings.batch_size)),
        )
        for watcher in watchers:
            watcher.epoch(run.epochs[-1])
    return model


def batches(data: Digits, settings: Settings, epoch: int) -> Iterator[Digits]:
    """The images in an order that seed and epoch decide; a short last batch is left out."""
    size = settings.batch_size
    key = random.fold_in(random.key(settings.seed), epoch)
    order = random.permutation(key, len(data)).numpy()
    for first in range(0, len(data) - size + 1, size):
        yield data[order[first : first + size]]


def gradient_norms(grads: Module) -> dict[str, float]:
    """The Euclidean norm of each gradient, by the path of its parameter, in forward order."""
    leaves, structure = flatten(grads)
    names = (path.removeprefix("model.") for path in paths(structure, "model"))
    return {
        f"grad {name}": float(np.linalg.norm(leaf.numpy()))
        for name, leaf in zip(names, leaves, strict=True)
    }


# ---- measures -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Scores:
    """What a network says of labelled images: `logits` float32[n,10] and the true `labels`."""

    logits: Numbers
    labels: Numbers

    @property
    def loss(self) -> float:
        return float(cross_entropy(self.logits, self.labels))

    @property
    def predictions(self) -> Numbers:
        return np.asarray(np.argmax(self.logits, axis=-1))

    @property
    def accuracy(self) -> float:
        return float(np.mean(self.predictions == self.labels))

    @property
    def confusion(self) -> list[list[int]]:
        """Row: the true digit, column: what the network says."""
        table = np.zeros((CLASSES, CLASSES), int)
        np.add.at(table, (self.labels, self.predictions), 1)
        return table.tolist()


def evaluate(model: MLP, data: Digits, batch_size: int) -> Scores:
    """The scores of all images, computed batch by batch."""
    starts = range(0, len(data), batch_size)
    logits = [model(data.images[i : i + batch_size]).numpy() for i in starts]
    return Scores(np.concatenate(logits), data.labels)


def _measured(part: str, scores: Scores) -> dict[str, float]:
    return {f"{part}_loss": scores.loss, f"{part}_accuracy": scores.accuracy}


def _finite(value: Array, run: Run) -> float:
    number = value.item()
    if not math.isfinite(number):
        raise NonFiniteError(
            f"the loss is {number} at step {len(run.steps) + 1}",
            hint="take a smaller learning rate",
        )
    return number
