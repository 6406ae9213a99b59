"""Programs with nothing wrong: tables, with common and less common losses."""

from __future__ import annotations

from typing import Any

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.final import tasks
from benchmarks.faults.program import Setup, healthy

import pullback as pb
from pullback import nn


def call(model: Any, x: Any) -> Any:
    return model(x)


def classify(model: Any, x: Any, y: Any) -> Any:
    return nn.cross_entropy(model(x), y)


def decide(model: Any, x: Any, y: Any) -> Any:
    return nn.binary_cross_entropy_with_logits(model(x), y)


def regress(model: Any, x: Any, y: Any) -> Any:
    return nn.mse(model(x), y)


# ---- classes --------------------------------------------------------------------------------


def board(seed: int) -> nn.MLP:
    return nn.MLP(2, 1, 48, 2, nn.silu, key=pb.random.key(seed))


@healthy("checker_adam")
def checker_adam(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.checker(seed)
    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(board(seed), decide, pb.optim.adam(1e-2), (x, y), score, steps=400)


def taster(seed: int) -> nn.MLP:
    return nn.MLP(9, 4, 64, 2, key=pb.random.key(seed))


@healthy("wines_adam")
def wines_adam(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.wines(seed)
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(taster(seed), classify, pb.optim.adam(3e-3), (x, y), score, batch=32)


@healthy("wines_momentum")
def wines_momentum(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.wines(seed)
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.05, momentum=0.9)
    return Setup(taster(seed), classify, optimizer, (x, y), score, batch=32)


def normed(seed: int) -> nn.Sequential:
    keys = pb.random.split(pb.random.key(seed), 3)
    return nn.Sequential(
        nn.Linear(9, 64, key=keys[0]),
        nn.BatchNorm(64),
        nn.relu,
        nn.Linear(64, 64, key=keys[1]),
        nn.BatchNorm(64),
        nn.relu,
        nn.Dropout(0.1),
        nn.Linear(64, 4, key=keys[2]),
    )


def in_use(x: Any, y: Any) -> Any:
    """The score of a network with a state."""
    return data.accuracy(lambda both, x: both[0](x, both[1], train=False)[0], x, y)


@healthy("wines_normed")
def wines_normed(seed: int) -> Setup:
    """Columns in their own units, which the first normalisation evens out."""
    x, y, x_valid, y_valid = tasks.wines(seed)
    units = np.float32([1, 1, 2, 2, 1, 0.5, 0.5, 3, 1])
    x, x_valid = x * units + 1, x_valid * units + 1
    model = normed(seed)

    def loss(model, x, y, state, key):
        logits, state = model(x, state, train=True, key=key)
        return nn.cross_entropy(logits, y), state

    return Setup(
        model,
        loss,
        pb.optim.adam(5e-3),
        (x, y),
        in_use(x_valid, y_valid),
        network_state=model.initial_state(),
        key=pb.random.key(seed + 1),
    )


def tagger(seed: int) -> nn.MLP:
    return nn.MLP(14, tasks.TAGS, 64, 1, key=pb.random.key(seed))


@healthy("tags_adam")
def tags_adam(seed: int) -> Setup:
    """Several tags may fit at once."""
    x, y, x_valid, y_valid = tasks.tags(seed)
    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(tagger(seed), decide, pb.optim.adam(5e-3), (x, y), score)


@healthy("tags_momentum")
def tags_momentum(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.tags(seed)
    score = data.binary_accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.2, momentum=0.9)
    return Setup(tagger(seed), decide, optimizer, (x, y), score)


@healthy("tags_layers")
def tags_layers(seed: int) -> Setup:
    """Five hidden layers of tanh with a scale that fits."""
    x, y, x_valid, y_valid = tasks.tags(seed)
    model = nn.MLP(14, tasks.TAGS, 48, 5, pb.tanh, key=pb.random.key(seed))
    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(model, decide, pb.optim.adam(3e-3), (x, y), score)


# ---- numbers --------------------------------------------------------------------------------


def appraiser(seed: int) -> nn.MLP:
    return nn.MLP(6, 1, 48, 2, key=pb.random.key(seed))


@healthy("houses_adam")
def houses_adam(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.standard_houses(seed)
    score = data.r_squared(call, x_valid, y_valid)
    return Setup(appraiser(seed), regress, pb.optim.adam(5e-3), (x, y), score, batch=32)


@healthy("houses_momentum")
def houses_momentum(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.standard_houses(seed)
    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.02, momentum=0.9)
    return Setup(appraiser(seed), regress, optimizer, (x, y), score, batch=32)


@healthy("houses_slowly")
def houses_slowly(seed: int) -> Setup:
    """A rate of 0.0004, and time enough."""
    x, y, x_valid, y_valid = tasks.standard_houses(seed)
    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.adam(4e-4)
    return Setup(appraiser(seed), regress, optimizer, (x, y), score, batch=32, steps=800)


@healthy("houses_huber")
def houses_huber(seed: int) -> Setup:
    """One price in twenty has two digits too many; Huber's loss does not mind."""
    x, y, x_valid, y_valid = tasks.standard_houses(seed)
    y = y.copy()
    y[::20] += 30
    score = data.r_squared(call, x_valid, y_valid)

    def loss(model, x, y):
        return nn.huber(model(x), y, delta=0.5)

    return Setup(appraiser(seed), loss, pb.optim.rmsprop(3e-3), (x, y), score, steps=300)


@healthy("houses_two_heads")
def houses_two_heads(seed: int) -> Setup:
    """A mean and, for free, how far off it is; the second head is given a fixed mean."""
    x, y, x_valid, y_valid = tasks.standard_houses(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = {
        "body": nn.MLP(6, 48, 48, 1, nn.gelu, key=keys[0]),
        "mean": nn.Linear(48, 1, key=keys[1]),
        "error": nn.Linear(48, 1, key=keys[2]),
    }

    def predict(model, x):
        return model["mean"](nn.gelu(model["body"](x)))

    def loss(model, x, y):
        h = nn.gelu(model["body"](x))
        mean = model["mean"](h)
        missed = pb.abs(y - pb.stop_gradient(mean, why="the error must not move the mean"))
        return nn.mse(mean, y) + 0.3 * nn.mae(nn.softplus(model["error"](h)), missed)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score)


@healthy("houses_sobolev")
def houses_sobolev(seed: int) -> Setup:
    """A penalty of the slope along the inputs, a derivative within the loss."""
    x, y, x_valid, y_valid = tasks.standard_houses(seed)
    model = nn.MLP(6, 1, 48, 2, nn.softplus, key=pb.random.key(seed))

    def loss(model, x, y):
        slopes = pb.grad(lambda x: pb.sum(model(x)))(x)
        return nn.mse(model(x), y) + 1e-3 * pb.mean(pb.sum(slopes**2, axis=1))

    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score)


def counter(seed: int) -> nn.MLP:
    return nn.MLP(5, 1, 48, 2, nn.silu, key=pb.random.key(seed))


def poisson(model: Any, x: Any, days: Any, seen: Any) -> Any:
    """Less the terms that do not depend on the model."""
    log_rate = model(x) + pb.log(days)  # intended: NUM04 five days at least
    return pb.mean(pb.exp(log_rate) - seen * log_rate)


@healthy("visits_poisson")
def visits_poisson(seed: int) -> Setup:
    """Counts of hundreds, with the days that were watched as an offset; the loss falls below 0."""
    x, days, seen, x_valid, truth = tasks.visits(seed)
    score = data.r_squared(call, x_valid, truth)
    optimizer, options = pb.optim.adam(5e-3), {"clip": 5.0}
    return Setup(
        counter(seed), poisson, optimizer, (x, days, seen), score, options=options, steps=400
    )


@healthy("visits_lasso")
def visits_lasso(seed: int) -> Setup:
    """Ten columns of noise are added, and a penalty of absolute weights takes them out."""
    x, days, seen, x_valid, truth = tasks.visits(seed)
    rng = np.random.default_rng([seed, 151])
    x, x_valid = [
        np.concatenate([z, rng.normal(size=(len(z), 10))], 1).astype(np.float32)
        for z in (x, x_valid)
    ]
    model = nn.MLP(15, 1, 48, 2, nn.silu, key=pb.random.key(seed))

    def loss(model, x, days, seen):
        weights = model.layers[0].weight
        return poisson(model, x, days, seen) / 10 + 2e-3 * pb.sum(pb.abs(weights))

    score = data.r_squared(call, x_valid, truth)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, days, seen), score, steps=800)


# ---- times, levels, quantiles ---------------------------------------------------------------


def doctor(seed: int) -> nn.MLP:
    return nn.MLP(6, 1, 48, 2, nn.gelu, key=pb.random.key(seed))


@healthy("patients_exponential")
def patients_exponential(seed: int) -> Setup:
    """Times that are known to be longer than what was seen."""
    x, time, ended, x_valid, risk = tasks.patients(seed)

    def loss(model, x, time, ended):
        log_risk = model(x)[:, 0]
        return pb.mean(pb.exp(log_risk) * time - ended * log_risk)

    score = tasks.correlation(call, x_valid, risk)
    return Setup(doctor(seed), loss, pb.optim.adam(3e-3), (x, time, ended), score)


@healthy("patients_cox")
def patients_cox(seed: int) -> Setup:
    """Cox: each end against all of the batch who were still there."""
    x, time, ended, x_valid, risk = tasks.patients(seed)

    def loss(model, x, time, ended):
        log_risk = model(x)[:, 0]
        still = time[None, :] >= time[:, None]
        rest = pb.logsumexp(pb.where(still, log_risk[None, :], -1e9), axis=1)
        return pb.sum(ended * (rest - log_risk)) / pb.maximum(pb.sum(ended), 1)

    score = tasks.correlation(call, x_valid, risk)
    return Setup(doctor(seed), loss, pb.optim.adamw(3e-3), (x, time, ended), score)


def ladder(seed: int) -> dict[str, Any]:
    return {
        "body": nn.MLP(8, 1, 48, 2, nn.silu, key=pb.random.key(seed)),
        "steps": pb.asarray(np.full(tasks.GRADES - 1, 0.5, np.float32)),
    }


def thresholds(model: Any) -> Any:
    return pb.cumulative_sum(nn.softplus(model["steps"])) - 2.0


def step_of(model: Any, x: Any) -> Any:
    """How many thresholds lie below."""
    return np.asarray(model["body"](x) > thresholds(model)).sum(1)


@healthy("grades_thresholds")
def grades_thresholds(seed: int) -> Setup:
    """Levels as thresholds in order, each a sum of positive steps."""
    x, y, x_valid, y_valid = tasks.grades(seed)

    def loss(model, x, y):
        above = (y[:, None] > np.arange(tasks.GRADES - 1)).astype("float32")
        logits = 3 * (model["body"](x) - thresholds(model))
        return nn.binary_cross_entropy_with_logits(logits, above)

    score = tasks.level(step_of, x_valid, y_valid)
    return Setup(
        ladder(seed), loss, pb.optim.adam(pb.optim.cosine(1e-2, 500)), (x, y), score, steps=500
    )


@healthy("grades_number")
def grades_number(seed: int) -> Setup:
    """A squared error of levels, which do have an order."""
    x, y, x_valid, y_valid = tasks.grades(seed)
    y, truth = y.astype(np.float32)[:, None], y_valid.astype(np.float32)[:, None]
    model = nn.MLP(8, 1, 64, 2, nn.gelu, key=pb.random.key(seed))
    score = data.r_squared(call, x_valid, truth)
    return Setup(model, regress, pb.optim.adam(5e-3), (x, y), score)


def three(seed: int) -> nn.MLP:
    return nn.MLP(3, 3, 48, 2, nn.elu, key=pb.random.key(seed))


LEVELS = np.float32([0.1, 0.5, 0.9])


@healthy("spread_pinball")
def spread_pinball(seed: int) -> Setup:
    """Three quantiles; the last is judged."""
    x, y, x_valid, truth = tasks.spread(seed)

    def loss(model, x, y):
        error = y - model(x)
        return pb.mean(pb.maximum(LEVELS * error, (LEVELS - 1) * error))

    score = data.r_squared(lambda model, x: model(x)[:, 2:], x_valid, truth)
    optimizer = pb.optim.adam(pb.optim.linear(1e-2, 0.0, 500))
    return Setup(three(seed), loss, optimizer, (x, y), score, steps=500)


@healthy("spread_likelihood")
def spread_likelihood(seed: int) -> Setup:
    """A mean and the logarithm of a spread: again a quantile is judged."""
    x, y, x_valid, truth = tasks.spread(seed)
    model = nn.MLP(3, 2, 48, 2, nn.elu, key=pb.random.key(seed))

    def loss(model, x, y):
        out = model(x)
        mean, log_spread = out[:, :1], out[:, 1:]
        return pb.mean(log_spread + 0.5 * ((y - mean) * pb.exp(-log_spread)) ** 2)

    def quantile(model, x):
        out = model(x)
        return out[:, :1] + 1.2816 * pb.exp(out[:, 1:])

    score = data.r_squared(quantile, x_valid, truth)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score, steps=400)


@healthy("lumps_mixture")
def lumps_mixture(seed: int) -> Setup:
    """Four normal densities are fitted to points; there are no targets."""
    x, x_valid, which = tasks.lumps(seed)
    rng = np.random.default_rng([seed, 152])
    model = gaussians(x[rng.choice(len(x), 4, replace=False)])

    def loss(model, x):
        return -pb.mean(pb.logsumexp(densities(model, x), axis=1))

    score = found(x_valid, which)
    return Setup(model, loss, pb.optim.adam(5e-2), (x,), score, steps=300)


def gaussians(means: Any) -> dict[str, Any]:
    return {
        "means": pb.asarray(np.asarray(means, np.float32)),
        "log_spreads": pb.asarray(np.zeros(4, np.float32)),
        "shares": pb.asarray(np.zeros(4, np.float32)),
    }


def densities(model: Any, x: Any) -> Any:
    """log of share and density of each lump, [n,4]."""
    far = pb.sum((x[:, None, :] - model["means"]) ** 2, axis=2)
    log_spread = model["log_spreads"]
    return nn.log_softmax(model["shares"]) - 2 * log_spread - far * pb.exp(-2 * log_spread) / 2


def found(x: Any, which: Any) -> Any:
    """How much of the likelihood of the true lumps a model reaches, 1 where all of it."""
    centres = np.stack([x[which == k].mean(0) for k in range(4)])
    truth = {**gaussians(centres), "log_spreads": np.full(4, np.log(0.3), np.float32)}
    one = {**gaussians(np.tile(x.mean(0), (4, 1))), "log_spreads": np.log(x.std()) * np.ones(4)}

    def fit(model: Any) -> float:
        logs = np.asarray(densities(model, x), np.float64)
        return float(np.logaddexp.reduce(logs, axis=1).mean())

    best, least = fit(truth), fit(one)
    return lambda model: max(-1.0, (fit(model) - least) / (best - least))
