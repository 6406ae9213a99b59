"""Training programs with nothing wrong that look as if there were."""

from __future__ import annotations

from typing import Any

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.pairs import training_healthy_more as more
from benchmarks.faults.pairs import training_tasks as tasks
from benchmarks.faults.pairs.training_healthy import call, classify, regress
from benchmarks.faults.program import Setup, healthy

import pullback as pb
from pullback import nn


class Tied(nn.Module):
    """One table for both ends, and a block between."""

    signs: nn.Embedding
    places: pb.Array
    block: nn.TransformerBlock
    norm: nn.RMSNorm

    def __init__(self, seed: int) -> None:
        keys = pb.random.split(pb.random.key(seed), 3)
        start = nn.init.lecun_normal
        self.signs = nn.Embedding(tasks.SIGNS, 32, key=keys[0], initializer=start)
        self.places = 0.2 * pb.random.normal(keys[1], (6, 32))
        self.block = nn.TransformerBlock(32, 2, key=keys[2])
        self.norm = nn.RMSNorm(32)

    def __call__(self, x: Any) -> Any:
        return self.signs.attend(self.norm(self.block(self.signs(x) + self.places)))


@healthy("mirror_tied")
def mirror_tied(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.mirror(seed)
    score, options = data.accuracy(call, x_valid, y_valid), {"clip": 0.5}
    optimizer = pb.optim.adamw(pb.optim.warmup_cosine(5e-3, 30, 300), weight_decay=0.1)
    model = Tied(seed)
    return Setup(model, classify, optimizer, (x, y), score, batch=32, steps=300, options=options)


@healthy("lag_masked")
def lag_masked(seed: int) -> Setup:
    """Sequences that end sooner or later; what is behind the end is 0 and does not count."""
    x, y, x_valid, y_valid = tasks.lag(seed)
    rng = np.random.default_rng([seed, 351])
    there = np.arange(16) < rng.integers(6, 17, (len(x), 1))
    there = there[:, :, None].astype(np.float32)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {"cell": nn.LSTM(1, 24, key=keys[0]), "head": nn.Linear(24, 1, key=keys[1])}

    def predict(model, x):
        return model["head"](model["cell"](x)[0])

    def loss(model, x, y, there):
        return pb.sum(there * (predict(model, x) - y) ** 2) / pb.sum(there)

    score, batch = data.r_squared(predict, x_valid, y_valid), (x * there, y * there, there)
    return Setup(model, loss, pb.optim.adam(1e-2), batch, score, steps=400)


@healthy("swarm_large_batches")
def swarm_large_batches(seed: int) -> Setup:
    """Half of the samples in each batch."""
    x, y, x_valid, y_valid = tasks.swarm(seed)

    def loss(model, x, y):
        return nn.mse(more.survey(model, x), y)

    score = data.r_squared(more.survey, x_valid, y_valid)
    optimizer = pb.optim.adam(1e-2)
    return Setup(more.crowd(seed), loss, optimizer, (x, y), score, batch=640, steps=200)


@healthy("stars_sparse")
def stars_sparse(seed: int) -> Setup:
    """Sixteen ratings a batch: most rows of the tables have no gradient."""
    x, y, x_valid, y_valid = tasks.stars(seed)
    score, optimizer = data.r_squared(more.rate, x_valid, y_valid), pb.optim.adagrad(0.2)
    model = more.critic(seed)
    return Setup(model, more.rate_loss, optimizer, (x, y), score, batch=16, steps=900)


@healthy("soil_restarts")
def soil_restarts(seed: int) -> Setup:
    """A rate that falls and begins again, four times: the loss goes up and down."""
    x, y, x_valid, y_valid = tasks.soil(seed)
    model = nn.MLP(10, tasks.SOILS, 32, 1, nn.relu, key=pb.random.key(seed))

    def rate(t):
        turn = (pb.asarray(t) % 75) / 75
        return 0.1 * (1 + pb.cos(np.pi * turn)) / 2

    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(rate, momentum=0.9)
    return Setup(model, classify, optimizer, (x, y), score, steps=300)


@healthy("tide_head_at_zero")
def tide_head_at_zero(seed: int) -> Setup:
    """The last layer begins at 0 and learns; a small rate, which is enough."""
    x, y, x_valid, y_valid = tasks.tide(seed)
    model = nn.MLP(24, 1, 64, 1, nn.gelu, key=pb.random.key(seed))
    last = model.layers[-1]
    model = model.replace(layers=(model.layers[0], last.replace(weight=0 * last.weight)))
    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, regress, pb.optim.adam(2e-3), (x, y), score, batch=32, steps=300)


@healthy("twins_teacher")
def twins_teacher(seed: int) -> Setup:
    """One view is held still on purpose, now this one and now that."""
    x, y, x_valid, y_valid = tasks.twins(seed)

    def loss(model, x, y):
        z = model["eye"](x)
        still = pb.stop_gradient(z, why="a target, as of a teacher; each view is one in turn")
        far = (z[:, 0] - still[:, 1]) ** 2 + (z[:, 1] - still[:, 0]) ** 2
        logits = model["near"] - 0.25 * pb.sum(far, axis=1, keepdims=True)
        return nn.binary_cross_entropy_with_logits(logits, y)

    score = data.binary_accuracy(more.alike, x_valid, y_valid)
    return Setup(more.twin(seed), loss, pb.optim.adam(1e-2), (x, y), score)
