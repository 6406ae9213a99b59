"""What a doctor costs while all is well: `python benchmarks/doctor.py`, two minutes.

One run, whose steps are told to no doctor and to three, block by block in turn; the time of a block
with one is divided by that of the block without beside it, and the median of the quotients is told
with half the distance of their quartiles: always on, with a look each 50 steps, and at its own
pace after the first 200 steps. "None again" is a block without a doctor, too: what it differs by is
chance. What the looks of the first 200 steps have cost is told apart: it is once in a run.
Processor time, one thread.
"""

from __future__ import annotations

import itertools
import time

import numpy as np

import pullback as pb
from pullback import nn
from pullback.bench.models import GPT
from pullback.inspect import Doctor
from pullback.ir.types import Numbers
from pullback.transforms.tree import map_leaves

BATCHES = 40
SECONDS = 5.0
"""Of all blocks of a kind."""
LENGTH = 50
"""Steps of a block, so that each has its look."""


class CNN(nn.Module):
    """Two convolutions of 3 × 3, pooled, and a dense layer."""

    first: nn.Conv2d
    second: nn.Conv2d
    head: nn.Linear

    def __init__(self, key: pb.Array) -> None:
        a, b, c = pb.random.split(key, 3)
        self.first = nn.Conv2d(1, 8, 3, padding=1, key=a)
        self.second = nn.Conv2d(8, 16, 3, padding=1, key=b)
        self.head = nn.Linear(16, 10, key=c)

    def __call__(self, x: pb.Array) -> pb.Array:
        x = nn.relu(self.second(nn.relu(self.first(x))))
        return self.head(pb.mean(x, axis=(2, 3)))


def classes(model, x, y):
    return nn.cross_entropy(model(x), y)


def subjects():
    """(name, model, loss, batches) that can be learnt: a doctor that is alarmed does more."""
    rng = np.random.default_rng(0)
    key = pb.random.key(0)
    centres = rng.standard_normal((10, 32))
    y = rng.integers(0, 10, (BATCHES, 64))
    x = (centres[y] + rng.standard_normal((BATCHES, 64, 32))).astype(np.float32)
    yield "MLP 32-64-64-10, batch 64", nn.MLP(32, 10, 64, 2, key=key), classes, pairs(x, y)
    y = y[:, :32]
    waves = np.cos(np.linspace(0, 12, 28)) * np.ones((28, 1))
    kinds = np.stack([(k // 2 - 2) / 2 + (waves, waves.T)[k % 2] for k in range(10)])
    x = kinds[y, None] + 0.3 * rng.standard_normal((BATCHES, 32, 1, 28, 28))
    yield "CNN 28 x 28, batch 32", CNN(key), classes, pairs(x.astype(np.float32), y)
    gpt = GPT(2, 64, 4, 32, 65, batch=16)
    params = map_leaves(lambda x: x.astype(np.float32), gpt.parameters(rng))
    tokens = rng.integers(0, 65, (BATCHES, 16, 33))
    for i in range(32):
        tokens[..., i + 1] = (3 * tokens[..., i] + tokens[..., i + 1] % 3) % 65
    yield "GPT 2 x 64, batch 16 x 32", params, gpt.loss, pairs(tokens[..., :-1], tokens[..., 1:])


def pairs(x, y):
    return [(np.ascontiguousarray(a), np.ascontiguousarray(b)) for a, b in zip(x, y, strict=True)]


class Run:
    """Steps as `fit` makes them, told to a doctor or to none."""

    def __init__(self, model, loss, batches) -> None:
        optimizer = pb.optim.adam(1e-3)
        self.step = pb.train.train_step(loss, optimizer, threads=1)
        self.state = pb.train.TrainState.create(model, optimizer)
        self.batches = itertools.cycle(batches)

    def steps(self, count: int, *doctors: Doctor) -> float:
        """How long so many of them take."""
        begin = time.process_time()
        for batch in itertools.islice(self.batches, count):
            self.state, metrics = self.step(self.state, *batch)
            float(metrics.loss)
            bool(metrics.skipped)
            for doctor in doctors:
                doctor.see(self.state, batch, metrics)
        return time.process_time() - begin


def measured(run: Run) -> tuple[float, Numbers, Numbers, float]:
    """(seconds a step, quotients of the kinds, their quartiles, seconds of the first looks).

    The kinds: without a doctor once more, always on, a look each 50 steps, at its own pace.
    """
    rare, often, own = Doctor(every=10**9), steady(LENGTH), Doctor()
    told = [(), (), (rare,), (often,), (own,)]
    for doctor in (rare, often, own):
        doctor.begin(run.step, run.state)
    run.steps(4 * LENGTH, rare, often, own)
    first = own.seconds
    one = min(run.steps(LENGTH) for _ in range(5)) / LENGTH
    quotients = []
    for i in range(max(9, round(SECONDS / one / LENGTH))):
        order = np.roll(range(5), i)[:: 1 if i % 2 else -1]
        times = {k: run.steps(LENGTH, *told[k]) for k in order}
        quotients.append([times[k] / times[0] for k in range(1, 5)])
    assert not often.report().alarms, often.report()
    quartiles = np.quantile(quotients, [0.25, 0.75], axis=0)
    return one, np.median(quotients, axis=0), quartiles, first


def steady(every):
    """One that looks as often however quiet the run is. Of no class of its own: Python runs a
    method that two classes share more slowly."""
    doctor = Doctor(every=every)
    doctor._next = lambda count: count + every
    return doctor


def main() -> None:
    heads = ("none again", "always on", "each 50", "own pace")
    print(f"{'':28} {'step':>9} {' '.join(f'{x:>16}' for x in heads)} {'first looks':>12}")
    for name, model, loss, batches in subjects():
        one, costs, quartiles, first = measured(Run(model, loss, batches))
        spread = (quartiles[1] - quartiles[0]) / 2
        cells = [f"{x - 1:+9.1%} ±{y:5.1%}" for x, y in zip(costs, spread, strict=True)]
        print(f"{name:28} {one * 1e6:6.0f} us {' '.join(cells)} {first:10.2f} s")


if __name__ == "__main__":
    main()
