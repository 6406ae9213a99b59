"""Does what is learnt hold for examples that were not learnt? Trained on some, asked of others."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback.data.fingerprint import fingerprint
from pullback.inspect.baseline import Baseline
from pullback.ir.array import numbers_of
from pullback.ir.types import Numbers
from pullback.train.state import copied
from pullback.train.step import TrainStep
from pullback.transforms.tree import flatten, map_leaves

STEPS = 160
EVERY = 20
"""Steps between two looks at the examples that were held out."""
TAKEN = 200
"""Steps that it takes, the looks included."""
SECONDS = 3.0
"""Processor time after the first step."""
SHARE = 4
"""One example of so many is held out."""
FEWEST = 16
"""Different examples, at least."""
LEARNT = 0.25
"""It says something where it lowers the loss by this share."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Losses of training on some of the examples, and of the others, before and meanwhile."""

    trained: tuple[float, ...]
    others: tuple[float, ...]
    """At the beginning, and after each `EVERY` steps."""
    constant: float
    """Of the others, that of the best constant output; NaN where it is not known."""

    @property
    def end(self) -> float:
        """The mean of the last losses in training."""
        return float(np.mean(self.trained[-10:]))

    @property
    def best(self) -> float:
        """The least loss of the examples that were held out."""
        return min(self.others)

    @property
    def is_finite(self) -> bool:
        return all(map(math.isfinite, (*self.trained, *self.others)))

    def __str__(self) -> str:
        return (
            f"loss {self.trained[0]:.3g} -> {self.end:.3g} of the examples trained on, "
            f"{self.others[0]:.3g} -> {self.others[-1]:.3g} of others"
        )


@dataclass(frozen=True, slots=True)
class Renewed:
    """The network from its beginning once more, by Adam and a step of `train_step`.

    It is trained on most of the first batches; these are losses of the others.
    """

    start: float
    """Before the first step, or of a constant output where that is less."""
    run: float
    """Of the run as it is."""
    adam: float
    steps: int

    def behind(self, other: float) -> float:
        """Of what a training learns that ends there, the share that the run has not.

        0 where that is little.
        """
        learnt = self.start - other
        if not learnt > LEARNT * abs(self.start):
            return 0.0
        return (self.run - other) / learnt if math.isfinite(self.run) else math.inf


def held_out(
    step: TrainStep, state: Any, batches: Sequence[Any], baseline: Baseline | None
) -> HeldOut | None:
    """Train on three quarters of the different examples of the batches, from the beginning.

    None where the examples cannot be told apart, or are too few.
    """
    pool = _different(batches)
    if pool is None:
        return None
    columns, structure, count = pool
    size = min(len(flatten(batches[0])[0][0]), count // SHARE)
    if count < FEWEST or size < 4:
        return None
    order = np.random.default_rng(0).permutation(count)
    others, own = order[: size * (count // SHARE // size)], order[count // SHARE :]

    def batch(rows: Numbers) -> Any:
        return structure.unflatten([x[rows] for x in columns])

    held = [batch(rows) for rows in others.reshape(-1, size)]
    state, until, rng = copied(state), math.inf, np.random.default_rng(1)
    trained: list[float] = []
    asked = [mean_loss(step, state, held)]
    for i in range(STEPS):
        state, metrics = step(state, *batch(rng.choice(own, size, replace=False)))
        trained.append(float(metrics.loss))
        until = min(until, time.process_time() + SECONDS)
        if (i + 1) % EVERY == 0:
            asked.append(mean_loss(step, state, held))
        if not math.isfinite(trained[-1]) or time.process_time() > until:
            break
    constant = math.nan if baseline is None else baseline.loss(held)
    return HeldOut(tuple(trained), tuple(asked), constant)


def mean_loss(step: TrainStep, state: Any, batches: Sequence[Any]) -> float:
    """The mean loss of batches: of a step that is not kept, because its program is there."""
    return float(np.mean([float(step(copied(state), *each)[1].loss) for each in batches]))


def _different(batches: Sequence[Any]) -> tuple[list[Numbers], Any, int] | None:
    """The examples of the batches, each once: columns, their structure, their number."""
    leaves = [[numbers_of(x) for x in flatten(each)[0]] for each in batches]
    if not leaves[0] or any(not x.ndim for x in leaves[0]):
        return None
    if any(len(x) != len(leaves[0][0]) for x in leaves[0]):
        return None
    if any([x.shape for x in each] != [x.shape for x in leaves[0]] for each in leaves):
        return None
    columns = [np.concatenate(parts) for parts in zip(*leaves, strict=True)]
    seen: dict[str, int] = {}
    for i in range(len(columns[0])):
        seen.setdefault(fingerprint([x[i] for x in columns]), i)
    rows = np.array(sorted(seen.values()))
    return [x[rows] for x in columns], flatten(map_leaves(numbers_of, batches[0]))[1], len(rows)
