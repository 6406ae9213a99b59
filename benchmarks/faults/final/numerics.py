"""Faults of arithmetic: a number that is not finite is born in the loss or in a derivative."""

from __future__ import annotations

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.final import structures, tables, tasks
from benchmarks.faults.program import Setup, fault

import pullback as pb
from pullback import nn


@fault(
    "visits_stirling", "0 log 0", "NUM01 NUM04", "visits_poisson", also="NUM02 NUM03", at_once=True
)
def visits_stirling(seed: int) -> Setup:
    """The whole density, by Stirling's formula, of counts that may be 0."""
    x, days, seen, x_valid, truth = tasks.visits(seed)

    def loss(model, x, days, seen):
        log_rate = model(x) + pb.log(days)
        stirling = seen * pb.log(seen) - seen  # here
        return pb.mean(pb.exp(log_rate) - seen * log_rate + stirling)

    score = data.r_squared(tables.call, x_valid, truth)
    optimizer, samples = pb.optim.adam(5e-3), (x, days, seen)
    options = {"clip": 5.0}
    return Setup(tables.counter(seed), loss, optimizer, samples, score, options=options, steps=400)


@fault(
    "visits_days",
    "exp overflow",
    "NUM01",
    "visits_poisson",
    also="NUM02 NUM03 OBJ04 DAT01 OPT01",
    at_once=True,
)
def visits_days(seed: int) -> Setup:
    """Half days, up to 120, are added to a logarithm as they are, not their logarithm."""
    x, days, seen, x_valid, truth = tasks.visits(seed)
    days, truth = 2 * days, truth - np.log(np.float32(2))

    def loss(model, x, days, seen):
        log_rate = model(x) + days  # here
        return pb.mean(pb.exp(log_rate) - seen * log_rate)  # here

    score = data.r_squared(tables.call, x_valid, truth)
    optimizer, samples = pb.optim.adam(5e-3), (x, days, seen)
    options = {"clip": 5.0}
    return Setup(tables.counter(seed), loss, optimizer, samples, score, options=options, steps=400)


@fault(
    "spread_negative",
    "log of a negative number",
    "NUM01 NUM04",
    "spread_likelihood",
    also="NUM02 NUM03 OPT03",
    at_once=True,
)
def spread_negative(seed: int) -> Setup:
    """The spread is the output of a linear layer, which nothing keeps above 0."""
    x, y, x_valid, truth = tasks.spread(seed)
    model = nn.MLP(3, 2, 48, 2, nn.elu, key=pb.random.key(seed))

    def loss(model, x, y):
        out = model(x)
        mean, spread = out[:, :1], out[:, 1:]
        return pb.mean(pb.log(spread) + 0.5 * ((y - mean) / spread) ** 2)  # here

    score = data.r_squared(
        lambda model, x: model(x)[:, :1] + 1.2816 * model(x)[:, 1:], x_valid, truth
    )
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score, steps=400)


@fault(
    "flat_signals",
    "division by a deviation of 0",
    "NUM01 NUM04",
    "pulses_pooled",
    also="NUM02 DAT01",
)
def flat_signals(seed: int) -> Setup:
    """Each recording is divided by its own deviation; a sensor was off now and then."""
    x, y, x_valid, y_valid = tasks.pulses(seed)
    x = x.copy()
    x[5::60] = 0

    def scaled(x):
        mean = pb.mean(x, axis=2, keepdims=True)
        return (x - mean) / pb.std(x, axis=2, keepdims=True)  # here

    def predict(model, x):
        return structures.hear(model, scaled(x))

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(structures.listener(seed), loss, pb.optim.adam(1e-2), (x, y), score, batch=32)


@fault(
    "weights_normed",
    "division by a norm of 0",
    "NUM01 NUM04",
    "wines_adam",
    also="NUM02",
    at_once=True,
)
def weights_normed(seed: int) -> Setup:
    """Weights as length times direction, and the direction of the last layer begins at 0."""
    x, y, x_valid, y_valid = tasks.wines(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {
        "body": nn.MLP(9, 64, 64, 1, key=keys[0]),
        "length": pb.asarray(np.ones(4, np.float32)),
        "direction": pb.asarray(np.zeros((64, 4), np.float32)),
    }

    def predict(model, x):
        v = model["direction"]
        weight = model["length"] * v / pb.linalg.vector_norm(v, axis=0)  # here
        return nn.relu(model["body"](x)) @ weight

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x, y), score, batch=32)


@fault(
    "distance_by_hand",
    "norm of a difference of equals",
    "NUM02 NUM04",
    "voices_contrast",
    also="NUM01 NUM03",
    at_once=True,
)
def distance_by_hand(seed: int) -> Setup:
    """Distances of all pairs of a batch, and those of a sample to itself are among them."""
    x, y, x_valid, y_valid = tasks.voices(seed)
    model = nn.MLP(24, 8, 48, 1, nn.gelu, key=pb.random.key(seed))

    def loss(model, x, y):
        z = model(x)
        far = pb.sqrt(pb.sum((z[:, None, :] - z[None, :, :]) ** 2, axis=2))  # here
        same = y[:, None] == y[None, :]
        return pb.mean(pb.where(same, far, nn.relu(2 - far)))

    score = tasks.nearest(tables.call, x, y, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score)


@fault(
    "entropy_by_hand",
    "log of a sigmoid",
    "NUM06 NUM01 NUM04",
    "checker_adam",
    also="NUM02 NUM03",
)
def entropy_by_hand(seed: int) -> Setup:
    """Both logarithms of a chance, in a loop that is not compiled; some chances become 1."""
    x, y, x_valid, y_valid = tasks.checker(seed)
    optimizer = pb.optim.adam(1e-2)

    def loss(model, x, y):
        p = nn.sigmoid(8 * model(x))
        return -pb.mean(y * pb.log(p) + (1 - y) * pb.log(1 - p))  # here

    def step(state, x, y):
        model, memory = state
        value, grads = pb.value_and_grad(loss)(model, x, y)
        updates, memory = optimizer.update(grads, memory, model)
        return (pb.optim.apply_updates(model, updates), memory), (value, grads)

    score = data.binary_accuracy(tables.call, x_valid, y_valid)
    model = tables.board(seed)
    return Setup(model, loss, optimizer, (x, y), score, steps=400, step=step)


@fault(
    "logarithm_in_where",
    "where trap",
    "NUM02 NUM05 NUM04",
    "patients_exponential",
    also="NUM01",
    at_once=True,
)
def logarithm_in_where(seed: int) -> Setup:
    """A feature as a logarithm where it is above 0; the other branch is not a number."""
    x, time, ended, x_valid, risk = tasks.patients(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {
        "doctor": nn.MLP(6, 1, 48, 2, nn.gelu, key=keys[0]),
        "dose": 0.1 * pb.random.normal(keys[1], (6,)),
    }

    def predict(model, x):
        dose = pb.where(x > 0, pb.tanh(model["dose"] * pb.log(x)), 0.0)  # here
        return model["doctor"](x + dose)

    def loss(model, x, time, ended):
        log_risk = predict(model, x)[:, 0]
        return pb.mean(pb.exp(log_risk) * time - ended * log_risk)

    score = tasks.correlation(predict, x_valid, risk)
    return Setup(model, loss, pb.optim.adam(3e-3), (x, time, ended), score)
