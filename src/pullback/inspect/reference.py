"""The run beside a model that is as simple as can be, on examples that this one has not seen.

What the loss reads of the network is replaced by a linear map of the inputs, and trained through
the loss itself: a ridge or a logistic regression, whatever the loss is. A network that has not
learnt what a linear map has learnt is not trained as it could be.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback.data.fingerprint import fingerprint
from pullback.inspect.outputs import Rest, ends
from pullback.inspect.probe import Probe
from pullback.ir.array import Array, concrete, numbers_of
from pullback.ir.types import Numbers, float32, float64, is_float
from pullback.ops.operators import reshape
from pullback.optim.adaptive import adam
from pullback.optim.schedules import linear
from pullback.train.state import TrainState, copied
from pullback.train.step import TrainStep, train_step
from pullback.transforms.tree import flatten

STEPS = 200
"""Steps in which the rate of a linear map falls to 0."""
RATE = 0.1
LENGTHS = (0.3, 3.0)
"""What the features of an example are multiplied by: for Adam another rate of the weights."""
SECONDS = 0.5
"""Processor time of one training, after its first step."""
HELD = 4
"""Batches that are held out, at most."""
FEWEST = 32
"""Examples that are held out, and that are left, at least."""
WIDTH = 2048
"""Columns of the inputs that are looked at."""
LARGEST = 1 << 22
"""Numbers of a linear map, and of the features of a batch, at most."""
FAR = 100.0
"""So many times as far from the constant a loss that has a least value is no lower any more."""


@dataclass(frozen=True, slots=True)
class Beside:
    """The mean loss of examples that the linear map has not seen."""

    network: float
    linear: float
    constant: float
    """Of the best constant output."""

    @property
    def learnt(self) -> float:
        """The share of the constant's loss that the linear map has taken away."""
        return (self.constant - self.linear) / max(abs(self.constant), 1e-12)

    @property
    def gap(self) -> float:
        """Of what the linear map has learnt the share that the network has not."""
        if not math.isfinite(self.network):
            return math.inf
        return (self.network - self.linear) / max(self.constant - self.linear, 1e-12)

    def __str__(self) -> str:
        return (
            f"loss {self.network:.3g}; a linear map of the inputs, trained on other examples: "
            f"{self.linear:.3g}; a constant: {self.constant:.3g}"
        )


def beside(probe: Probe, model: Any, batches: Sequence[Any], steps: int) -> Beside | None:
    """A network as it is, a linear map, and a constant, on batches that the last two do not know.

    None where the loss is no function of outputs of a sample each, where examples cannot be told
    apart or are too few, and where the loss falls without end.
    """
    pool = _split(batches)
    if pool is None:
        return None
    own, held = pool
    reference = Reference.of(probe, own)
    if reference is None:
        return None
    constant, best = reference.trained(0.0, steps), reference.best(steps)
    leaves = [_leaves(each) for each in held]
    known = [reference.judged(x, leaves) for x in (best, constant, best.further(FAR))]
    if not all(map(math.isfinite, known[:2])) or known[2] < known[0] - abs(known[1] - known[0]):
        return None
    given = [reference.rest.given(model, each) for each in held]
    return Beside(reference.loss(given, leaves), *known[:2])


def by_heart(probe: Probe, batch: Any, steps: int) -> tuple[float, float] | None:
    """The loss of a batch that the best constant and a linear map have learnt; None as above."""
    leaves = _leaves(batch)
    if any(x.shape[:1] != (probe.batch,) for x in leaves):
        return None
    reference = Reference.of(probe, leaves)
    if reference is None:
        return None
    constant, best = reference.trained(0.0, steps), reference.best(steps)
    return reference.judged(constant, [leaves]), reference.judged(best, [leaves])


@dataclass(frozen=True, slots=True)
class Map:
    """Weights of each output and what they are of: features of some length."""

    weights: Any
    length: float
    end: float
    """The mean of the last losses in training."""

    def further(self, factor: float) -> Map:
        """What it says, so many times louder."""
        return Map(
            [[factor * numbers_of(x) for x in each] for each in self.weights], self.length, self.end
        )


class Reference:
    """Linear maps of the inputs to the outputs; the features along the first `axes` axes."""

    def __init__(self, rest: Rest, own: list[Numbers], axes: int) -> None:
        self.rest, self._own, self._axes = rest, own, axes
        self._features = Features.of([own[i] for i in rest.inputs], axes)
        self._size = rest.outs[0].shape[0]
        self._centres = [_centre(rest, own, z) for z in rest.outs]
        self._zero = [
            [np.zeros((self._features.width, n), float32), np.zeros(n, float32)]
            for n in (math.prod(z.shape[axes:]) for z in rest.outs)
        ]
        self._program = self._made()

    @property
    def numbers(self) -> int:
        """Of its weights, or of the features of a batch where these are more."""
        features = [math.prod(z.shape[: self._axes]) for z in self.rest.outs]
        widest = max(*features, *[len(bias) for _, bias in self._zero])
        return self._features.width * widest

    @classmethod
    def of(cls, probe: Probe, own: list[Numbers]) -> Reference | None:
        """None where the loss is no function of outputs of a sample each."""
        outs = ends(probe)
        if not outs:
            return None
        rest = Rest(probe, outs)
        axes = {_axes(rest, z) for z in outs}
        if len(axes) != 1 or 0 in axes:
            return None
        made = cls(rest, own, axes.pop())
        return made if made.numbers <= LARGEST else None

    def best(self, steps: int) -> Map:
        """The one whose length was learnt with best."""
        return min([self.trained(x, steps) for x in LENGTHS], key=lambda x: x.end)

    def trained(self, length: float, steps: int) -> Map:
        """With features of length 0 it is the best constant that is learnt."""
        rng, count = np.random.default_rng(0), len(self._own[0])
        state, losses, until = self._state(self._zero), [], math.inf
        for _ in range(steps):
            rows = rng.choice(count, self._size, replace=count < self._size)
            batch = [x[rows] for x in self._own]
            state, metrics = self._step(state, length, self._means, batch)
            losses.append(float(metrics.loss))
            until = min(until, time.process_time() + SECONDS)
            if not math.isfinite(losses[-1]) or time.process_time() > until:
                break
        end = float(np.mean(losses[-10:]))
        return Map(copied(state).model, length, end if math.isfinite(end) else math.inf)

    def judged(self, it: Map, batches: Sequence[list[Numbers]]) -> float:
        """The mean loss of batches."""
        steps = [self._step(self._state(it.weights), it.length, self._means, x) for x in batches]
        return float(np.mean([float(metrics.loss) for _, metrics in steps]))

    def loss(self, outs: Sequence[Any], batches: Sequence[list[Numbers]]) -> float:
        """The mean loss of outputs that are given."""
        pairs = zip(outs, batches, strict=True)
        steps = [self._step(self._state(self._zero), 0.0, z, x) for z, x in pairs]
        return float(np.mean([float(metrics.loss) for _, metrics in steps]))

    @property
    def _means(self) -> list[Numbers]:
        pairs = zip(self.rest.outs, self._centres, strict=True)
        return [np.full(z.shape, mean, z.dtype) for z, (mean, _) in pairs]

    def _state(self, weights: Any) -> TrainState:
        return TrainState.create(
            [[concrete(np.array(numbers_of(x))) for x in each] for each in weights], OPTIMIZER
        )

    def _step(self, state: Any, length: float, means: Any, batch: Sequence[Numbers]) -> Any:
        x = self._features([batch[i] for i in self.rest.inputs]) * np.float32(length)
        return self._program(state, x, means, *batch)

    def _made(self) -> TrainStep:
        """The loss of what is added to `means`: of equal outputs the same map."""
        rest, sizes = self.rest, [size for _, size in self._centres]

        def loss(maps: Any, x: Any, means: Any, *batch: Any) -> Any:
            outs = []
            for z, i, mean, size in zip(rest.outs, rest.firsts, means, sizes, strict=True):
                weight, bias = maps[i]
                outs.append(mean + reshape(size * (x @ weight + bias), z.shape).astype(z.dtype))
            return rest(outs, batch)

        return train_step(loss, OPTIMIZER)


OPTIMIZER = adam(linear(RATE, 0.0, STEPS))


def _axes(rest: Rest, z: Array) -> int:
    """1 for an output of a row for each sample; 2 for one of a sequence, which has a place for each

    of the inputs and is told from that place alone, for it may not see what comes after it; 0 for
    what is neither, or has the form of its input.
    """
    inputs = [rest.data[i] for i in rest.inputs]
    if any(x.shape == z.shape and is_float(x.dtype) for x in inputs) and z.size > z.shape[0]:
        return 0
    if math.prod(z.shape[1:]) == z.shape[-1]:
        return 1
    return 2 if z.ndim > 2 and all(x.shape[:2] == z.shape[:2] for x in inputs) else 0


def _centre(rest: Rest, own: Sequence[Numbers], z: Array) -> tuple[float, float]:
    """Mean and deviation of the targets, where they are numbers that are like an output."""
    fits = [
        y
        for i, y in enumerate(own)
        if i not in rest.inputs and is_float(y.dtype) and y[0].size == math.prod(z.shape[1:])
    ]
    if len(fits) != 1 or np.isin(fits[0], (0, 1)).all():
        return 0.0, 1.0
    wide = fits[0].astype(float64)
    return float(wide.mean()), float(wide.std()) or 1.0


# ---- inputs as columns ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Features:
    """Numbers with mean 0 and variance 1, whole numbers as yes and no; of length about 1."""

    axes: int
    known: list[tuple[Numbers, Numbers] | int]
    """Of each input the mean and deviation of its columns, or how many whole numbers there are."""
    width: int

    @classmethod
    def of(cls, inputs: Sequence[Numbers], axes: int) -> Features:
        known: list[tuple[Numbers, Numbers] | int] = []
        for x in inputs:
            if is_float(x.dtype) or x.dtype == bool:
                rows = _columns(x, axes).reshape(-1, _columns(x, axes).shape[-1])
                std = rows.std(axis=0)
                known.append((rows.mean(axis=0), np.where(std > 1e-8, std, 1.0)))
            else:
                most = int(x.max(initial=0)) + 1
                known.append(most if x.min(initial=0) >= 0 and most <= WIDTH else 0)
        made = cls(axes, known, 0)
        return cls(axes, known, made([x[:1] for x in inputs]).shape[-1])

    def __call__(self, inputs: Sequence[Numbers]) -> Numbers:
        parts = []
        for x, known in zip(inputs, self.known, strict=True):
            if isinstance(known, int):
                parts.append(_yes_and_no(x.reshape(*x.shape[: self.axes], -1), known))
            else:
                rows = (_columns(x, self.axes) - known[0]) / known[1]
                parts.append(rows / math.sqrt(max(rows.shape[-1], 1)))
        return np.concatenate(parts, axis=-1).astype(float32)


def _columns(x: Numbers, axes: int) -> Numbers:
    """The numbers of each place; of many some."""
    rows = x.reshape(*x.shape[:axes], -1)
    some: Numbers = rows[..., :: max(1, -(-rows.shape[-1] // WIDTH))]
    return some.astype(float64)


def _yes_and_no(x: Numbers, count: int) -> Numbers:
    """Which whole number stands where; where these are too many, how often each is there."""
    rows = x.reshape(-1, x.shape[-1]).astype(np.int64)
    places = np.arange(x.shape[-1]) if x.shape[-1] * count <= WIDTH else np.zeros(1, np.int64)
    told = np.zeros((len(rows), len(places) * count))
    inside = (rows >= 0) & (rows < count)
    where = np.nonzero(inside)[0], (rows + places * count)[inside]
    np.add.at(told, where, 1 / math.sqrt(max(x.shape[-1], 1)))
    return told.reshape(*x.shape[:-1], -1)


# ---- examples -------------------------------------------------------------------------------


def _leaves(batch: Any) -> list[Numbers]:
    return [numbers_of(x) for x in flatten(batch)[0]]


def _split(batches: Sequence[Any]) -> tuple[list[Numbers], list[Any]] | None:
    """Columns of examples to learn, and batches of which no example is among them."""
    leaves = [_leaves(each) for each in batches]
    first = leaves[0]
    if len(leaves) < 2 or not first or any(x.shape[:1] != first[0].shape[:1] for x in first):
        return None
    if not first[0].ndim or any(
        [x.shape for x in each] != [x.shape for x in first] for each in leaves
    ):
        return None
    size = len(first[0])
    names = [[fingerprint([x[j] for x in each]) for j in range(size)] for each in leaves]
    every = {name for each in names for name in each}
    held: set[str] = set()
    chosen: list[int] = []
    for i in reversed(range(len(names))):
        if len(chosen) < HELD and len(held.union(names[i])) <= len(every) // 2:
            chosen.append(i)
            held.update(names[i])
    rows = {name: (i, j) for i, each in enumerate(names) for j, name in enumerate(each)}
    own = [place for name, place in rows.items() if name not in held]
    if min(len(held), len(own)) < FEWEST:
        return None
    columns = [np.stack([leaves[i][k][j] for i, j in own]) for k in range(len(first))]
    return columns, [batches[i] for i in chosen]
