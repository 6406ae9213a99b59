"""Training programs with nothing wrong: signals, codes, sequences, sets, graphs, pairs, choices."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.faults import data
from benchmarks.faults.pairs import training_tasks as tasks
from benchmarks.faults.pairs.training_healthy import call, classify, regress
from benchmarks.faults.program import Setup, healthy

import pullback as pb
from pullback import nn

# ---- signals --------------------------------------------------------------------------------


def drummer(seed: int) -> nn.Sequential:
    keys = pb.random.split(pb.random.key(seed), 4)
    return nn.Sequential(
        nn.Conv1d(1, 16, 5, padding=2, key=keys[0]),
        nn.relu,
        nn.Conv1d(16, 16, 5, stride=2, key=keys[1]),
        nn.relu,
        nn.Conv1d(16, 24, 3, stride=2, key=keys[2]),
        nn.relu,
        lambda x: pb.mean(x, axis=2),
        nn.Linear(24, 3, key=keys[3]),
    )


@healthy("beats_rmsprop")
def beats_rmsprop(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.beats(seed)
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.rmsprop(2e-3)
    return Setup(drummer(seed), classify, optimizer, (x, y), score, batch=32, steps=300)


@healthy("beats_smoothed")
def beats_smoothed(seed: int) -> Setup:
    """Smoothed labels, in half precision."""
    x, y, x_valid, y_valid = tasks.beats(seed)

    def loss(model, x, y):
        return nn.cross_entropy(model(x), y, label_smoothing=0.1)

    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.adam(5e-3)
    model = drummer(seed)
    return Setup(model, loss, optimizer, (x, y), score, batch=32, steps=300, precision="bf16")


# ---- codes ----------------------------------------------------------------------------------


def folder(seed: int) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 2)
    return {
        "in": nn.MLP(20, 4, 48, 1, nn.tanh, key=keys[0]),
        "out": nn.MLP(4, 20, 48, 1, nn.tanh, key=keys[1]),
    }


def refold(model: Any, x: Any) -> Any:
    return model["out"](model["in"](x))


@healthy("folds_coder")
def folds_coder(seed: int) -> Setup:
    x, _, x_valid, _ = tasks.folds(seed)

    def loss(model, x):
        return nn.mse(refold(model, x), x)

    score = data.r_squared(refold, x_valid, x_valid)
    return Setup(folder(seed), loss, pb.optim.adam(1e-2), (x,), score, steps=400)


def variational(seed: int) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 2)
    return {
        "in": nn.MLP(20, 8, 48, 1, nn.elu, key=keys[0]),
        "out": nn.MLP(4, 20, 48, 1, nn.elu, key=keys[1]),
    }


def middle(model: Any, x: Any) -> Any:
    return model["out"](model["in"](x)[:, :4])


@healthy("folds_variational")
def folds_variational(seed: int) -> Setup:
    x, _, x_valid, _ = tasks.folds(seed)

    def loss(model, x, key):
        code = model["in"](x)
        mean, log_var = code[:, :4], code[:, 4:]
        z = mean + pb.exp(0.5 * log_var) * pb.random.normal(key, mean.shape)
        spread = pb.sum(mean**2 + pb.exp(log_var) - log_var - 1, axis=1) / 2
        return nn.mse(model["out"](z), x) + 0.003 * pb.mean(spread)

    score, key = data.r_squared(middle, x_valid, x_valid), pb.random.key(seed + 1)
    return Setup(variational(seed), loss, pb.optim.adam(1e-2), (x,), score, steps=400, key=key)


@healthy("folds_rounded")
def folds_rounded(seed: int) -> Setup:
    """A code of whole numbers, with a slope that goes straight through."""
    x, _, x_valid, _ = tasks.folds(seed)

    def rebuild(model, x):
        code = 4 * pb.tanh(model["in"](x))
        return model["out"](pb.straight_through(pb.round(code), code) / 2)

    def loss(model, x):
        return nn.mse(rebuild(model, x), x)

    score = data.r_squared(rebuild, x_valid, x_valid)
    return Setup(folder(seed), loss, pb.optim.adam(5e-3), (x,), score, steps=400)


# ---- sequences ------------------------------------------------------------------------------


def watcher(seed: int) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 2)
    return {"cell": nn.GRU(3, 24, key=keys[0]), "head": nn.Linear(24, 4, key=keys[1])}


def watch(model: Any, x: Any) -> Any:
    return model["head"](model["cell"](x)[1])


@healthy("flag_gru")
def flag_gru(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.flag(seed)

    def loss(model, x, y):
        return nn.cross_entropy(watch(model, x), y)

    score, options = data.accuracy(watch, x_valid, y_valid), {"clip": 1.0}
    optimizer = pb.optim.adam(1e-2)
    return Setup(watcher(seed), loss, optimizer, (x, y), score, steps=300, options=options)


@healthy("flag_pooled")
def flag_pooled(seed: int) -> Setup:
    """One score a step, a softmax over the steps, and the weighted mean of what was seen."""
    x, y, x_valid, y_valid = tasks.flag(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = {
        "look": nn.MLP(3, 1, 16, 1, nn.tanh, key=keys[0]),
        "value": nn.Linear(3, 16, key=keys[1]),
        "head": nn.MLP(16, 4, 32, 1, key=keys[2]),
    }

    def predict(model, x):
        weights = nn.softmax(model["look"](x), axis=1)
        return model["head"](pb.sum(weights * model["value"](x), axis=1))

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score, steps=300)


def listener(seed: int) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 3)
    return {
        "in": nn.init.xavier_uniform(keys[0], (32, 4)),
        "again": nn.init.orthogonal(keys[1], (32, 32)),
        "bias": pb.zeros(32),
        "head": nn.Linear(32, 4, key=keys[2]),
    }


def listen(model: Any, x: Any) -> Any:
    """A recurrent net by hand, read at its end."""

    def step(h, row):
        return nn.tanh(row @ model["in"].T + h @ model["again"].T + model["bias"]), None

    h, _ = pb.scan(step, pb.zeros((x.shape[0], 32)), pb.moveaxis(pb.asarray(x), 1, 0))
    return model["head"](h)


def listen_loss(model: Any, x: Any, y: Any) -> Any:
    return nn.cross_entropy(listen(model, x), y)


@healthy("opening_by_hand")
def opening_by_hand(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.opening(seed)
    score, options = data.accuracy(listen, x_valid, y_valid), {"clip": 1.0}
    optimizer, model = pb.optim.adam(3e-3), listener(seed)
    return Setup(model, listen_loss, optimizer, (x, y), score, steps=300, options=options)


@healthy("opening_lstm")
def opening_lstm(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.opening(seed, 16)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {"cell": nn.LSTM(4, 24, key=keys[0]), "head": nn.Linear(24, 4, key=keys[1])}

    def predict(model, x):
        return model["head"](model["cell"](x)[1].hidden)

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score, steps=300)


class Mirror(nn.Module):
    """Signs, places, a block of a transformer."""

    signs: nn.Embedding
    places: pb.Array
    block: nn.TransformerBlock
    head: nn.Linear

    def __init__(self, seed: int) -> None:
        keys = pb.random.split(pb.random.key(seed), 4)
        self.signs = nn.Embedding(tasks.SIGNS, 32, key=keys[0], initializer=nn.init.normal)
        self.places = pb.random.normal(keys[1], (6, 32))
        self.block = nn.TransformerBlock(32, 2, key=keys[2])
        self.head = nn.Linear(32, tasks.SIGNS, key=keys[3])

    def __call__(self, x: Any) -> Any:
        return self.head(self.block(self.signs(x) + self.places))


@healthy("mirror_transformer")
def mirror_transformer(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.mirror(seed)
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.adamw(pb.optim.warmup_cosine(5e-3, 20, 200))
    return Setup(Mirror(seed), classify, optimizer, (x, y), score, batch=32)


def reader(seed: int) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 2)
    start = partial(nn.init.normal, std=0.3)
    return {
        "words": nn.Embedding(tasks.WORDS, 6, key=keys[0], initializer=start),
        "head": nn.MLP(6, 1, 32, 1, nn.gelu, key=keys[1]),
    }


def read(model: Any, x: Any) -> Any:
    return model["head"](pb.mean(model["words"](x), axis=1) * 3)


@healthy("chatter_bag")
def chatter_bag(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.chatter(seed)

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(read(model, x), y)

    score = data.binary_accuracy(read, x_valid, y_valid)
    return Setup(reader(seed), loss, pb.optim.adam(5e-3), (x, y), score)


@healthy("chatter_dropped")
def chatter_dropped(seed: int) -> Setup:
    """In each step a third of the words are unknown, other ones each time."""
    x, y, x_valid, y_valid = tasks.chatter(seed)

    def loss(model, x, y, key):
        known = pb.random.bernoulli(key, 2 / 3, (tasks.WORDS, 1))
        vectors = pb.take(model["words"].weight * known, x, axis=0)
        logits = model["head"](pb.mean(vectors, axis=1) * 4.5)
        return nn.binary_cross_entropy_with_logits(logits, y)

    score, key = data.binary_accuracy(read, x_valid, y_valid), pb.random.key(seed + 1)
    return Setup(reader(seed), loss, pb.optim.adam(5e-3), (x, y), score, steps=300, key=key)


@healthy("lag_gru")
def lag_gru(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.lag(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {"cell": nn.GRU(1, 24, key=keys[0]), "head": nn.Linear(24, 1, key=keys[1])}

    def predict(model, x):
        return model["head"](model["cell"](x)[0])

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score, steps=300)


@healthy("lag_filters")
def lag_filters(seed: int) -> Setup:
    """Convolutions that see the past alone."""
    x, y, x_valid, y_valid = tasks.lag(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = [
        nn.Conv1d(1, 24, 3, key=keys[0]),
        nn.Conv1d(24, 24, 3, key=keys[1]),
        nn.Conv1d(24, 1, 1, key=keys[2]),
    ]

    def predict(model, x):
        h = pb.swapaxes(pb.asarray(x), 1, 2)
        for conv in model[:-1]:
            past = pb.concat([pb.zeros((h.shape[0], h.shape[1], 2)), h], axis=2)
            h = nn.silu(conv(past))
        return pb.swapaxes(model[-1](h), 1, 2)

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score, batch=32, steps=300)


@healthy("tide_warm")
def tide_warm(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.tide(seed)
    model = nn.MLP(24, 1, 48, 2, nn.relu, key=pb.random.key(seed))
    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.adam(pb.optim.warmup_cosine(5e-3, 40, 300))
    return Setup(model, regress, optimizer, (x, y), score, steps=300)


# ---- sets, graphs, factors, pairs, choices --------------------------------------------------


def crowd(seed: int) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 2)
    return {
        "each": nn.MLP(3, 32, 48, 1, nn.silu, key=keys[0]),
        "all": nn.MLP(32, 1, 48, 1, nn.silu, key=keys[1]),
    }


def survey(model: Any, x: Any) -> Any:
    return model["all"](pb.mean(nn.silu(model["each"](x)), axis=1))


@healthy("swarm_means")
def swarm_means(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.swarm(seed)

    def loss(model, x, y):
        return nn.mse(survey(model, x), y)

    score = data.r_squared(survey, x_valid, y_valid)
    return Setup(crowd(seed), loss, pb.optim.adam(5e-3), (x, y), score, batch=32, steps=400)


def electrician(seed: int) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 3)
    return {
        "own": nn.Linear(3, 48, key=keys[0]),
        "near": nn.Linear(3, 48, use_bias=False, key=keys[1]),
        "read": nn.MLP(48, 1, 32, 1, key=keys[2]),
    }


def measure(model: Any, nodes: Any, wires: Any) -> Any:
    h = nn.relu(model["own"](nodes) + model["near"](wires @ nodes))
    return pb.sum(model["read"](h), axis=1) / 3


def measure_loss(model: Any, nodes: Any, wires: Any, y: Any) -> Any:
    return nn.mse(measure(model, nodes, wires), y)


def measure_score(nodes: Any, wires: Any, y: Any) -> Any:
    return data.r_squared(lambda model, x: measure(model, x, wires), nodes, y)


@healthy("circuits_graph")
def circuits_graph(seed: int) -> Setup:
    nodes, wires, y, *valid = tasks.circuits(seed)
    score, all_ = measure_score(*valid), (nodes, wires, y)
    optimizer = pb.optim.adam(1e-2)
    return Setup(electrician(seed), measure_loss, optimizer, all_, score, batch=32, steps=400)


def critic(seed: int) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 2)
    start = partial(nn.init.normal, std=0.3)
    return {
        "people": nn.Embedding(tasks.PEOPLE, 5, key=keys[0], initializer=start),
        "things": nn.Embedding(tasks.THINGS, 5, key=keys[1], initializer=start),
        "mild": pb.zeros((tasks.PEOPLE, 1)),
        "mean": pb.full((1,), 3.0),
    }


def rate(model: Any, x: Any) -> Any:
    product = pb.sum(model["people"](x[:, 0]) * model["things"](x[:, 1]), axis=1, keepdims=True)
    return product + pb.take(model["mild"], x[:, 0], axis=0) + model["mean"]


def rate_loss(model: Any, x: Any, y: Any) -> Any:
    return nn.mse(rate(model, x), y)


@healthy("stars_factors")
def stars_factors(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.stars(seed)
    score = data.r_squared(rate, x_valid, y_valid)
    return Setup(critic(seed), rate_loss, pb.optim.adam(2e-2), (x, y), score, steps=400)


def twin(seed: int) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 1)
    return {"eye": nn.MLP(12, 6, 48, 1, nn.relu, key=keys[0]), "near": pb.ones(1)}


def alike(model: Any, x: Any) -> Any:
    z = model["eye"](x)
    far = pb.sum((z[:, 0] - z[:, 1]) ** 2, axis=1, keepdims=True)
    return model["near"] - 0.5 * far


@healthy("twins_distance")
def twins_distance(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.twins(seed)

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(alike(model, x), y)

    score = data.binary_accuracy(alike, x_valid, y_valid)
    return Setup(twin(seed), loss, pb.optim.adam(5e-3), (x, y), score)


@healthy("stall_policy")
def stall_policy(seed: int) -> Setup:
    """Offers are drawn from the policy, and what they earn, less the mean, weighs their chance."""
    x, worth, x_valid, best = tasks.stall(seed)
    model = nn.MLP(6, 4, 32, 1, nn.tanh, key=pb.random.key(seed))

    def loss(model, x, worth, key):
        logits = model(x)
        drawn = pb.one_hot(pb.random.categorical(key, logits), 4)
        earned = pb.sum(drawn * worth, axis=1)
        better = pb.stop_gradient(earned - pb.mean(earned), why="a reward has no slope")
        return -pb.mean(better * pb.sum(drawn * nn.log_softmax(logits), axis=1))

    score, key = data.accuracy(call, x_valid, best), pb.random.key(seed + 1)
    optimizer = pb.optim.adam(2e-2)
    return Setup(model, loss, optimizer, (x, worth), score, batch=128, steps=600, key=key)


@healthy("alarms_mixture")
def alarms_mixture(seed: int) -> Setup:
    """Four experts and a gate that mixes them."""
    x, y, x_valid, y_valid = tasks.alarms(seed)
    keys = pb.random.split(pb.random.key(seed), 5)
    model = {
        "gate": nn.Linear(12, 4, key=keys[0]),
        "experts": [nn.MLP(12, tasks.ALARMS, 24, 1, key=k) for k in keys[1:]],
    }

    def predict(model, x):
        share = nn.softmax(model["gate"](x), axis=1)
        said = pb.stack([expert(x) for expert in model["experts"]], axis=1)
        return pb.sum(share[:, :, None] * said, axis=1)

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(predict(model, x), y)

    score = data.binary_accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score)
