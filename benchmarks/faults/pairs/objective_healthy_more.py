"""Healthy programs of the pairs: sequences, sets, graphs, pairs, agents."""

from __future__ import annotations

from typing import Any

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.pairs import objective_tasks as tasks
from benchmarks.faults.pairs.objective_healthy import call, classify, decide, regress
from benchmarks.faults.program import Setup, healthy

import pullback as pb
from pullback import nn

# ---- sequences ------------------------------------------------------------------------------


def critic(seed: int) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 3)
    return {
        "words": nn.Embedding(tasks.REVIEW_WORDS, 16, key=keys[0], initializer=nn.init.normal),
        "cell": nn.GRU(16, 32, key=keys[1]),
        "head": nn.Linear(32, 1, key=keys[2]),
    }


def judge(model: Any, x: Any) -> Any:
    return model["head"](model["cell"](model["words"](x))[0][:, -1])


@healthy("reviews_gru")
def reviews_gru(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.reviews(seed)

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(judge(model, x), y)

    score = data.binary_accuracy(judge, x_valid, y_valid)
    optimizer, options = pb.optim.adam(1e-2), {"clip": 1.0}
    return Setup(critic(seed), loss, optimizer, (x, y), score, steps=300, options=options)


def robots(y: Any, seed: int) -> tuple[Any, Any]:
    """Half of the reviews are judged by robots, who praise; their weight is 0, float32[n,1]."""
    rng = np.random.default_rng([seed, 5])
    robot = rng.random(y.shape) < 0.5
    return np.where(robot, 1, y).astype(np.float32), 1 - robot.astype(np.float32)


@healthy("reviews_trusted")
def reviews_trusted(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.reviews(seed)
    y, weight = robots(y, seed)

    def loss(model, x, y, weight):
        errors = nn.binary_cross_entropy_with_logits(judge(model, x), y, reduction="none")
        return pb.mean(errors * weight)

    score = data.binary_accuracy(judge, x_valid, y_valid)
    optimizer, options = pb.optim.adam(1e-2), {"clip": 1.0}
    batch = (x, y, weight)
    return Setup(critic(seed), loss, optimizer, batch, score, steps=300, options=options)


class Skimmer(nn.Module):
    """Pairs of neighbouring words, pooled by an attention by hand that skips what is not there."""

    words: nn.Embedding
    pairs: nn.Conv1d
    weigh: nn.Linear
    head: nn.Linear

    def __init__(self, seed: int) -> None:
        keys = pb.random.split(pb.random.key(seed), 4)
        self.words = nn.Embedding(tasks.REVIEW_WORDS, 16, key=keys[0], initializer=nn.init.normal)
        self.pairs = nn.Conv1d(16, 32, 2, padding=((1, 0),), key=keys[1])
        self.weigh = nn.Linear(32, 1, key=keys[2])
        self.head = nn.Linear(32, 1, key=keys[3])

    def states(self, x: Any) -> Any:
        return nn.relu(self.pairs(self.words(x).mT)).mT

    def __call__(self, x: Any) -> Any:
        h = self.states(x)
        scores = pb.where(x > 0, self.weigh(h)[:, :, 0], -1e9)
        return self.head(pb.sum(pb.softmax(scores, axis=1)[:, :, None] * h, axis=1))


@healthy("reviews_pooled")
def reviews_pooled(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.reviews(seed)
    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(Skimmer(seed), decide, pb.optim.adam(5e-3), (x, y), score, steps=300)


class Clerk(nn.Module):
    """One block of a transformer, with places."""

    symbols: nn.Embedding
    places: pb.Array
    block: nn.TransformerBlock
    head: nn.Linear

    def __init__(self, seed: int, words: int = tasks.CIPHER, length: int = 10) -> None:
        keys = pb.random.split(pb.random.key(seed), 4)
        self.symbols = nn.Embedding(words, 32, key=keys[0], initializer=nn.init.normal)
        self.places = pb.random.normal(keys[1], (length, 32))
        self.block = nn.TransformerBlock(32, 2, key=keys[2])
        self.head = nn.Linear(32, words, key=keys[3])

    def embed(self, x: Any) -> Any:
        return self.symbols(x) + self.places

    def __call__(self, x: Any) -> Any:
        mask = np.tril(np.ones((x.shape[1], x.shape[1]), bool))
        return self.head(self.block(self.embed(x), mask=mask))


@healthy("cipher_block")
def cipher_block(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.cipher(seed)
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.adamw(pb.optim.warmup_cosine(8e-3, 30, 400))
    return Setup(Clerk(seed), classify, optimizer, (x, y), score, batch=32, steps=400)


def spy(seed: int) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 3)
    return {
        "symbols": nn.Embedding(tasks.CIPHER, 16, key=keys[0], initializer=nn.init.normal),
        "cell": nn.LSTM(16, 48, key=keys[1]),
        "head": nn.Linear(48, tasks.CIPHER, key=keys[2]),
    }


def decode(model: Any, x: Any) -> Any:
    return model["head"](model["cell"](model["symbols"](x))[0])


@healthy("cipher_lstm")
def cipher_lstm(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.cipher(seed)

    def loss(model, x, y):
        return nn.cross_entropy(decode(model, x), y)

    score = data.accuracy(decode, x_valid, y_valid)
    return Setup(spy(seed), loss, pb.optim.adam(1e-2), (x, y), score, steps=300)


@healthy("refrain_block")
def refrain_block(seed: int) -> Setup:
    """A next note by causal attention; one in ten cannot be known."""
    x, y, x_valid, y_valid = tasks.refrain(seed)
    score = tasks.prefixes(call, x_valid, y_valid)
    optimizer = pb.optim.adamw(pb.optim.warmup_cosine(8e-3, 30, 400))
    model = Clerk(seed, tasks.REFRAIN, 12)
    return Setup(model, classify, optimizer, (x, y), score, batch=32, steps=400)


def whistler(seed: int) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 3)
    return {
        "notes": nn.Embedding(tasks.REFRAIN, 24, key=keys[0]),
        "cell": nn.GRU(24, 48, key=keys[1]),
        "back": nn.Linear(48, 24, key=keys[2]),
    }


def whistle(model: Any, x: Any) -> Any:
    """One table for what is heard and for what is sung."""
    return model["notes"].attend(model["back"](model["cell"](model["notes"](x))[0]))


@healthy("refrain_tied")
def refrain_tied(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.refrain(seed)

    def loss(model, x, y):
        return nn.cross_entropy(whistle(model, x), y)

    score = tasks.prefixes(whistle, x_valid, y_valid)
    return Setup(whistler(seed), loss, pb.optim.adam(1e-2), (x, y), score, steps=300)


def gauge(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng([seed, 2])
    return {
        "in": pb.asarray(rng.normal(0, 0.5, (2, 24)).astype(np.float32)),
        "own": pb.asarray(np.linalg.qr(rng.normal(size=(24, 24)))[0].astype(np.float32)),
        "bias": pb.zeros((24,)),
        "out": nn.Linear(24, 1, key=pb.random.key(seed)),
    }


def fill(model: Any, x: Any) -> Any:
    """A plain recurrent net by hand."""

    def beat(h, now):
        return pb.tanh(now @ model["in"] + h @ model["own"] + model["bias"]), None

    h, _ = pb.scan(beat, pb.zeros((x.shape[0], 24)), pb.swapaxes(x, 0, 1))
    return model["out"](h)


@healthy("tanks_scan")
def tanks_scan(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.tanks(seed)

    def loss(model, x, y):
        return nn.mse(fill(model, x), y)

    score = data.r_squared(fill, x_valid, y_valid)
    optimizer, options = pb.optim.adam(5e-3), {"clip": 1.0}
    return Setup(gauge(seed), loss, optimizer, (x, y), score, steps=300, options=options)


def meter(seed: int) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 2)
    return {"cell": nn.GRU(2, 24, key=keys[0]), "head": nn.Linear(24, 1, key=keys[1])}


def measure(model: Any, x: Any) -> Any:
    return model["head"](model["cell"](x)[0][:, -1])


@healthy("tanks_gru")
def tanks_gru(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.tanks(seed)

    def loss(model, x, y):
        return nn.mse(measure(model, x), y)

    score = data.r_squared(measure, x_valid, y_valid)
    return Setup(meter(seed), loss, pb.optim.adam(1e-2), (x, y), score, steps=300)


@healthy("tanks_momentum")
def tanks_momentum(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.tanks(seed)

    def loss(model, x, y):
        return nn.mse(measure(model, x), y)

    score = data.r_squared(measure, x_valid, y_valid)
    optimizer, options = pb.optim.sgd(0.05, momentum=0.9), {"clip": 1.0}
    return Setup(meter(seed), loss, optimizer, (x, y), score, steps=300, options=options)


# ---- sets and graphs ------------------------------------------------------------------------


def shepherd(seed: int) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 2)
    return {
        "each": nn.MLP(3, 48, 48, 1, nn.silu, key=keys[0]),
        "all": nn.MLP(49, 1, 48, 1, nn.silu, key=keys[1]),
    }


def muster(model: Any, x: Any) -> Any:
    """A mean over those that are there, and how many they are."""
    there = x[:, :, 3:]
    count = pb.sum(there, axis=1)
    mean = pb.sum(model["each"](x[:, :, :3]) * there, axis=1) / count
    return model["all"](pb.concat([mean, count / 8], axis=1))


@healthy("herds_set")
def herds_set(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.herds(seed)

    def loss(model, x, y):
        return nn.mse(muster(model, x), y)

    score = data.r_squared(muster, x_valid, y_valid)
    return Setup(shepherd(seed), loss, pb.optim.adam(5e-3), (x, y), score, steps=400)


def trader(seed: int) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 4)
    return {
        "own": nn.Linear(4, 32, key=keys[0]),
        "send": nn.Linear(4, 32, key=keys[1]),
        "mix": nn.Linear(64, 48, key=keys[2]),
        "head": nn.Linear(48, 1, key=keys[3]),
    }


def trade(model: Any, nodes: Any, roads: Any) -> Any:
    """One round of messages, summed over the roads, and a sum over the towns."""
    own, sent = nn.silu(model["own"](nodes)), nn.silu(model["send"](nodes))
    h = pb.concat([own, roads @ sent / 3], axis=2)
    return model["head"](pb.mean(nn.silu(model["mix"](h)), axis=1))


@healthy("towns_messages")
def towns_messages(seed: int) -> Setup:
    nodes, roads, y, nodes_valid, roads_valid, y_valid = tasks.towns(seed)

    def loss(model, nodes, roads, y):
        return nn.mse(trade(model, nodes, roads), y)

    score = data.r_squared(lambda m, x: trade(m, x, roads_valid), nodes_valid, y_valid)
    optimizer, options = pb.optim.adam(1e-2), {"clip": 1.0}
    return Setup(
        trader(seed), loss, optimizer, (nodes, roads, y), score, steps=400, options=options
    )


# ---- pairs, people, agents ------------------------------------------------------------------


def finger(seed: int) -> dict[str, Any]:
    return {
        "body": nn.MLP(12, 8, 64, 1, nn.gelu, key=pb.random.key(seed)),
        "slope": pb.asarray(np.float32(1.0)),
        "shift": pb.asarray(np.float32(1.0)),
    }


def alike(model: Any, a: Any, b: Any) -> Any:
    far = pb.mean((model["body"](a) - model["body"](b)) ** 2, axis=1)
    return model["shift"] - model["slope"] * far


def pair_score(predict: Any, a: Any, b: Any, same: Any) -> Any:
    return data.binary_accuracy(lambda model, a: predict(model, a, b), a, same)


@healthy("prints_siamese")
def prints_siamese(seed: int) -> Setup:
    a, b, same, a_valid, b_valid, same_valid = tasks.prints(seed)

    def loss(model, a, b, same):
        return nn.binary_cross_entropy_with_logits(alike(model, a, b), same)

    score = pair_score(alike, a_valid, b_valid, same_valid)
    return Setup(finger(seed), loss, pb.optim.adam(1e-2), (a, b, same), score, steps=400)


def library(seed: int) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 2)
    return {
        "readers": nn.Embedding(tasks.READERS, 4, key=keys[0], initializer=nn.init.normal),
        "books": nn.Embedding(tasks.BOOKS, 4, key=keys[1], initializer=nn.init.normal),
        "known": pb.zeros((tasks.BOOKS, 1)),
    }


def enjoy(model: Any, x: Any) -> Any:
    both = model["readers"](x[:, 0]) * model["books"](x[:, 1])
    return pb.sum(both, axis=1, keepdims=True) / 2 + pb.take(model["known"], x[:, 1], axis=0)


@healthy("books_factors")
def books_factors(seed: int) -> Setup:
    """Factors, with a light penalty: few have read a book."""
    x, y, x_valid, y_valid = tasks.books(seed)

    def loss(model, x, y):
        size = pb.mean(model["readers"].weight ** 2) + pb.mean(model["books"].weight ** 2)
        return nn.mse(enjoy(model, x), y) + 0.01 * size

    score = data.r_squared(enjoy, x_valid, y_valid)
    return Setup(library(seed), loss, pb.optim.adam(2e-2), (x, y), score, steps=400)


def editor(seed: int) -> nn.MLP:
    return nn.MLP(5, tasks.ADS, 48, 1, pb.tanh, key=pb.random.key(seed))


def tried(seed: int, liking: Any) -> tuple[Any, Any]:
    """One advertisement was shown to each reader at random, and was liked so much."""
    rng = np.random.default_rng([seed, 3])
    shown = rng.integers(0, tasks.ADS, len(liking))
    return shown, liking[np.arange(len(liking)), shown]


@healthy("ads_logged")
def ads_logged(seed: int) -> Setup:
    """A policy from what was tried: log-probability times advantage; the loss may rise."""
    x, liking, x_valid, liking_valid = tasks.ads(seed)
    shown, reward = tried(seed, liking)

    def loss(model, x, shown, advantage):
        chosen = -nn.cross_entropy(model(x), shown, reduction="none")
        share = pb.stop_gradient(pb.exp(chosen), why="what was shown was drawn from 1/4")
        return -pb.mean(pb.minimum(share * tasks.ADS, 4.0) * chosen * advantage)

    score = tasks.liked(x_valid, liking_valid)
    batch = (x, shown, (reward - reward.mean()).astype(np.float32))
    return Setup(editor(seed), loss, pb.optim.adam(5e-3), batch, score, steps=300)


@healthy("ads_entropy")
def ads_entropy(seed: int) -> Setup:
    """Actions are drawn in the loss; a little entropy is rewarded."""
    x, liking, x_valid, liking_valid = tasks.ads(seed)

    def loss(model, x, liking, key):
        logits = model(x)
        log_p = pb.log_softmax(logits, axis=1)
        action = pb.random.categorical(key, pb.stop_gradient(logits, why="a draw has no slope"))
        picked = pb.one_hot(action, tasks.ADS)
        reward = pb.sum(liking * picked, axis=1) - pb.mean(liking)
        entropy = -pb.sum(pb.exp(log_p) * log_p, axis=1)
        return -pb.mean(pb.sum(log_p * picked, axis=1) * reward + 0.01 * entropy)

    score, key = tasks.liked(x_valid, liking_valid), pb.random.key(seed + 1)
    optimizer = pb.optim.adam(5e-3)
    return Setup(editor(seed), loss, optimizer, (x, liking), score, steps=400, key=key)


@healthy("tanks_held_features")
def tanks_held_features(seed: int) -> Setup:
    """A fixed random reservoir, of which the sum over time is read by a net that learns."""
    x, y, x_valid, y_valid = tasks.tanks(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = nn.Sequential(
        nn.Conv1d(2, 32, 1, key=keys[0]),
        nn.relu,
        nn.Conv1d(32, 1, 16, key=keys[1]),
        lambda h: h[:, :, 0],
    )
    model = nn.freeze(model, "layers[0]")
    x, x_valid = x.swapaxes(1, 2).copy(), x_valid.swapaxes(1, 2).copy()
    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, regress, pb.optim.adam(5e-3), (x, y), score, steps=300)
