"""Programs with nothing wrong: images, signals, sequences, sets, graphs, people and things."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.final import tasks
from benchmarks.faults.final.tables import call, classify
from benchmarks.faults.program import Setup, healthy

import pullback as pb
from pullback import nn

# ---- images and signals ---------------------------------------------------------------------


def flat(x: Any) -> Any:
    return pb.reshape(x, (x.shape[0], -1))


def pointer(seed: int, act: Any = nn.relu) -> nn.Sequential:
    keys = pb.random.split(pb.random.key(seed), 3)
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, key=keys[0]),
        act,
        nn.Conv2d(12, 16, 3, stride=2, key=keys[1]),
        act,
        flat,
        nn.Linear(144, 4, key=keys[2]),
    )


@healthy("arrows_adam")
def arrows_adam(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.standard_arrows(seed)
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(pointer(seed), classify, pb.optim.adam(3e-3), (x, y), score, batch=32)


@healthy("arrows_momentum")
def arrows_momentum(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.standard_arrows(seed)
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.03, momentum=0.9, weight_decay=1e-4)
    return Setup(pointer(seed), classify, optimizer, (x, y), score, batch=32)


@healthy("arrows_grey")
def arrows_grey(seed: int) -> Setup:
    """Grey values between 0 and 1, as they come."""
    x, y, x_valid, y_valid = tasks.arrows(seed)
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(pointer(seed), classify, pb.optim.adam(1e-2), (x, y), score, batch=32, steps=300)


@healthy("arrows_residual")
def arrows_residual(seed: int) -> Setup:
    """Three residual blocks, each with a group norm whose scale begins at 0: it is the identity."""
    x, y, x_valid, y_valid = tasks.standard_arrows(seed)
    keys = pb.random.split(pb.random.key(seed), 8)

    def block(i):
        norm = nn.GroupNorm(4, 12)
        body = nn.Sequential(
            nn.Conv2d(12, 12, 3, padding=1, key=keys[i]),
            nn.silu,
            nn.Conv2d(12, 12, 3, padding=1, use_bias=False, key=keys[i + 1]),
            norm.replace(weight=norm.weight * 0),
        )
        return nn.ResidualBlock(body, activation=nn.silu)

    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, stride=2, key=keys[0]),
        nn.silu,
        *[block(i) for i in (1, 3, 5)],
        flat,
        nn.Linear(192, 4, key=keys[7]),
    )
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, classify, pb.optim.adamw(5e-3), (x, y), score, batch=32, steps=150)


@healthy("arrows_fixed_filters")
def arrows_fixed_filters(seed: int) -> Setup:
    """The first filters are edges that were written down, and stay."""
    x, y, x_valid, y_valid = tasks.standard_arrows(seed)
    model = pointer(seed)
    edge = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 4
    bank = np.stack([np.rot90(edge, k) * s for s in (1, 0.7, 1.4) for k in range(4)])
    first = model.layers[0].replace(weight=pb.asarray(bank.astype(np.float32)[:, None]))
    model = nn.freeze(model.replace(layers=(first, *model.layers[1:])), "layers[0]")
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, classify, pb.optim.adam(5e-3), (x, y), score, batch=32)


def listener(seed: int) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 3)
    return {
        "near": nn.Conv1d(2, 16, 5, padding=2, key=keys[0]),
        "far": nn.Conv1d(16, 16, 5, padding=8, dilation=4, key=keys[1]),
        "head": nn.Linear(32, 3, key=keys[2]),
    }


def hear(model: Any, x: Any) -> Any:
    """Mean and deviation over time, as speakers are told apart."""
    h = nn.relu(model["far"](nn.relu(model["near"](x))))
    mean = pb.mean(h, axis=2)
    variance = pb.mean((h - mean[:, :, None]) ** 2, axis=2)
    return model["head"](pb.concat([mean, pb.sqrt(variance + 1e-3)], axis=1))


def hear_loss(model: Any, x: Any, y: Any) -> Any:
    return nn.cross_entropy(hear(model, x), y)


@healthy("pulses_pooled")
def pulses_pooled(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.pulses(seed)
    score = data.accuracy(hear, x_valid, y_valid)
    return Setup(listener(seed), hear_loss, pb.optim.adam(1e-2), (x, y), score, batch=32)


@healthy("pulses_bf16")
def pulses_bf16(seed: int) -> Setup:
    """In half precision, the parameters kept in float32."""
    x, y, x_valid, y_valid = tasks.pulses(seed)
    score = data.accuracy(hear, x_valid, y_valid)
    optimizer = pb.optim.adam(1e-2)
    return Setup(
        listener(seed), hear_loss, optimizer, (x, y), score, batch=32, precision="bf16", steps=150
    )


# ---- sequences ------------------------------------------------------------------------------


def forecaster(seed: int) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 2)
    return {"cell": nn.GRU(1, 24, key=keys[0]), "head": nn.Linear(24, 3, key=keys[1])}


def forecast(model: Any, x: Any) -> Any:
    return model["head"](model["cell"](x)[0][:, -1])


def forecast_loss(model: Any, x: Any, y: Any) -> Any:
    return nn.cross_entropy(forecast(model, x), y)


@healthy("regime_gru")
def regime_gru(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.regime(seed)
    score = data.accuracy(forecast, x_valid, y_valid)
    optimizer, options = pb.optim.adam(1e-2), {"clip": 1.0}
    return Setup(forecaster(seed), forecast_loss, optimizer, (x, y), score, options=options)


@healthy("regime_rnn")
def regime_rnn(seed: int) -> Setup:
    """A plain recurrent net, read at its mean."""
    x, y, x_valid, y_valid = tasks.regime(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {"cell": nn.RNN(1, 24, key=keys[0]), "head": nn.Linear(24, 3, key=keys[1])}

    def predict(model, x):
        return model["head"](pb.mean(model["cell"](x)[0] ** 2, axis=1))

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.rmsprop(5e-3), (x, y), score)


class Reader(nn.Module):
    """Words, places, one block of a transformer that may look both ways."""

    words: nn.Embedding
    places: pb.Array
    block: nn.TransformerBlock
    head: nn.Linear

    def __init__(self, seed: int) -> None:
        keys = pb.random.split(pb.random.key(seed), 4)
        self.words = nn.Embedding(tasks.WORDS, 24, key=keys[0], initializer=nn.init.normal)
        self.places = pb.random.normal(keys[1], (10, 24))
        self.block = nn.TransformerBlock(24, 2, key=keys[2])
        self.head = nn.Linear(24, 3, key=keys[3])

    def __call__(self, x: Any) -> Any:
        there = (x > 0)[:, None, None, :]
        return self.head(self.block(self.words(x) + self.places, mask=there))


def tag_loss(model: Any, x: Any, y: Any) -> Any:
    return nn.cross_entropy(model(x), y, ignore_index=-1)


@healthy("tagging_transformer")
def tagging_transformer(seed: int) -> Setup:
    """Places behind the end of a sentence are neither seen nor learnt."""
    x, y, x_valid, y_valid = tasks.tagging(seed)
    score = tasks.kinds(call, x_valid, y_valid)
    optimizer = pb.optim.adamw(pb.optim.warmup_cosine(5e-3, 30, 400))
    return Setup(Reader(seed), tag_loss, optimizer, (x, y), score, batch=32, steps=400)


class Whistler(nn.Module):
    """The next note, by attention to what was sung, with one table for both ends."""

    notes: nn.Embedding
    places: pb.Array
    attention: nn.MultiHeadAttention
    after: nn.MLP
    norm: nn.LayerNorm

    def __init__(self, seed: int, std: float = 0.1) -> None:
        keys = pb.random.split(pb.random.key(seed), 4)
        self.notes = nn.Embedding(
            tasks.NOTES, 24, key=keys[0], initializer=partial(nn.init.normal, std=std)
        )
        self.places = 0.1 * pb.random.normal(keys[1], (10, 24))
        self.attention = nn.MultiHeadAttention(24, 2, key=keys[2])
        self.after = nn.MLP(24, 24, 64, 1, nn.gelu, key=keys[3])
        self.norm = nn.LayerNorm(24)

    def __call__(self, x: Any) -> Any:
        return self.sing(x, np.tril(np.ones((x.shape[1], x.shape[1]), bool)))

    def sing(self, x: Any, mask: Any) -> Any:
        h = self.notes(x) + self.places[: x.shape[1]]
        h = h + self.attention(h, mask=mask)
        return self.notes.attend(self.norm(h + self.after(h)))


@healthy("scales_attention")
def scales_attention(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.scales(seed)
    score = tasks.next_note(call, x_valid, y_valid)
    return Setup(Whistler(seed), classify, pb.optim.adam(1e-2), (x, y), score, batch=32, steps=300)


def singer(seed: int) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 3)
    return {
        "notes": nn.Embedding(tasks.NOTES, 16, key=keys[0], initializer=nn.init.normal),
        "cell": nn.LSTM(16, 32, key=keys[1]),
        "head": nn.Linear(32, tasks.NOTES, key=keys[2]),
    }


def sing(model: Any, x: Any) -> Any:
    return model["head"](model["cell"](model["notes"](x))[0])


@healthy("scales_lstm")
def scales_lstm(seed: int) -> Setup:
    """The first note of a tune cannot be known, so the loss stays above 0."""
    x, y, x_valid, y_valid = tasks.scales(seed)

    def loss(model, x, y):
        return nn.cross_entropy(sing(model, x), y)

    score = tasks.next_note(sing, x_valid, y_valid)
    return Setup(singer(seed), loss, pb.optim.adam(2e-2), (x, y), score, batch=32)


# ---- sets and graphs ------------------------------------------------------------------------


def bagger(seed: int, act: Any = nn.silu) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 2)
    return {
        "each": nn.MLP(4, 32, 48, 1, act, key=keys[0]),
        "all": nn.MLP(32, 1, 32, 1, act, key=keys[1]),
    }


def pool(model: Any, x: Any) -> Any:
    there = x[:, :, 3:]
    h = pb.sum(nn.silu(model["each"](x)) * there, axis=1)
    return model["all"](h / pb.maximum(pb.sum(there, axis=1), 1))


@healthy("bags_mean")
def bags_mean(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.bags(seed)

    def loss(model, x, y):
        return nn.mse(pool(model, x), y)

    score = data.r_squared(pool, x_valid, y_valid)
    return Setup(bagger(seed), loss, pb.optim.adam(5e-3), (x, y), score, steps=400)


def chemist(seed: int) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 5)
    return {
        "own1": nn.Linear(5, 32, key=keys[0]),
        "near1": nn.Linear(5, 32, use_bias=False, key=keys[1]),
        "own2": nn.Linear(32, 32, key=keys[2]),
        "near2": nn.Linear(32, 32, use_bias=False, key=keys[3]),
        "head": nn.Linear(32, 1, key=keys[4]),
    }


def react(model: Any, nodes: Any, edges: Any) -> Any:
    """Each node and the sum of its neighbours, twice; then the largest of all nodes."""
    h = nn.relu(model["own1"](nodes) + model["near1"](edges @ nodes))
    h = nn.relu(model["own2"](h) + model["near2"](edges @ h))
    return model["head"](pb.max(h, axis=1))


def react_loss(model: Any, nodes: Any, edges: Any, y: Any) -> Any:
    return nn.binary_cross_entropy_with_logits(react(model, nodes, edges), y)


def react_score(nodes: Any, edges: Any, y: Any) -> Any:
    return data.binary_accuracy(lambda model, x: react(model, x, edges), nodes, y)


@healthy("molecules_graph")
def molecules_graph(seed: int) -> Setup:
    nodes, edges, y, *valid = tasks.molecules(seed)
    optimizer = pb.optim.adam(1e-2)
    return Setup(
        chemist(seed), react_loss, optimizer, (nodes, edges, y), react_score(*valid), batch=32
    )


# ---- people and things ----------------------------------------------------------------------


def shop(seed: int) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 2)
    start = {"initializer": partial(nn.init.normal, std=0.3)}
    return {
        "people": nn.Embedding(tasks.PEOPLE, 6, key=keys[0], **start),
        "things": nn.Embedding(tasks.THINGS, 6, key=keys[1], **start),
    }


def fits(model: Any, x: Any) -> Any:
    return pb.sum(model["people"](x[:, 0]) * model["things"](x[:, 1]), axis=1, keepdims=True)


def buy_loss(model: Any, x: Any, y: Any) -> Any:
    return nn.binary_cross_entropy_with_logits(fits(model, x), y)


@healthy("purchases_factors")
def purchases_factors(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.purchases(seed)
    score = data.binary_accuracy(fits, x_valid, y_valid)
    return Setup(shop(seed), buy_loss, pb.optim.adam(2e-2), (x, y), score, steps=300)


@healthy("purchases_sparse")
def purchases_sparse(seed: int) -> Setup:
    """Eight pairs a batch: most rows of both tables have a gradient of 0."""
    x, y, x_valid, y_valid = tasks.purchases(seed)
    score = data.binary_accuracy(fits, x_valid, y_valid)
    return Setup(shop(seed), buy_loss, pb.optim.adagrad(0.15), (x, y), score, batch=8, steps=900)


@healthy("purchases_ranked")
def purchases_ranked(seed: int) -> Setup:
    """A thing that was bought against one drawn at random; the loss begins at log 2."""
    x, y, x_valid, y_valid = tasks.purchases(seed)
    bought = x[y[:, 0] == 1]
    wanted = tasks.wants(seed)
    rng = np.random.default_rng([seed, 153])
    other = np.array([rng.choice(np.flatnonzero(wanted[who] <= 0)) for who, _ in bought])
    negative = np.stack([bought[:, 0], other], 1)

    def loss(model, better, worse):
        return -pb.mean(nn.log_sigmoid(fits(model, better) - fits(model, worse)))

    score = data.binary_accuracy(fits, x_valid, y_valid)
    return Setup(shop(seed), loss, pb.optim.adam(2e-2), (bought, negative), score, steps=300)
