"""Tasks of the pairs about the objective, the samples and the numbers: all drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Numbers = np.ndarray[Any, Any]
Four = tuple[Numbers, Numbers, Numbers, Numbers]
COUNT, TRAIN = 1600, 1280


def draw(seed: int, number: int) -> np.random.Generator:
    return np.random.default_rng([seed, 700 + number])


def cut(*arrays: Numbers) -> tuple[Numbers, ...]:
    """The first ones to train on, then the others to judge by."""
    return (*[a[:TRAIN] for a in arrays], *[a[TRAIN:] for a in arrays])


def whitened(x: Numbers) -> Numbers:
    return ((x - x.mean(0)) / x.std(0)).astype(np.float32)


# ---- tables ---------------------------------------------------------------------------------

MINERALS = 5


def minerals(seed: int) -> Four:
    """Ten measurements of five minerals, parted by a small random network: int64[n]."""
    rng = draw(seed, 1)
    x = rng.normal(size=(COUNT, 10))
    hidden = np.tanh(x @ rng.normal(size=(10, 4)) / 3)
    scores = hidden @ rng.normal(size=(4, MINERALS))
    scores = scores - np.median(scores, axis=0)
    return cut(x.astype(np.float32), scores.argmax(1))


LETTERS = 24


def letters(seed: int) -> Four:
    """Strokes of 24 letters, each of two ways to write it, float32[n,16] and int64[n]."""
    rng = draw(seed, 2)
    ways = rng.normal(size=(LETTERS, 2, 16))
    y, way = rng.integers(0, LETTERS, COUNT), rng.integers(0, 2, COUNT)
    x = ways[y, way] + rng.normal(0, 0.45, (COUNT, 16))
    return cut(whitened(x), y)


def mortar(seed: int) -> Four:
    """The strength of a mixture of six parts, float32[n,6] and float32[n,1] of variance 1."""
    rng = draw(seed, 3)
    x = rng.normal(size=(COUNT, 6))
    y = x[:, 0] * np.tanh(x[:, 1]) + np.abs(x[:, 2]) + 0.7 * np.sin(2 * x[:, 3]) + 0.5 * x[:, 4]
    y = whitened(y + rng.normal(0, 0.1, COUNT))
    return cut(x.astype(np.float32), y[:, None])


def flats(seed: int) -> Four:
    """Rents as they come: area, year built, income of the quarter, metres to the bus, floor."""
    rng = draw(seed, 4)
    area, year = rng.uniform(20, 160, COUNT), rng.integers(1890, 2021, COUNT)
    income, bus = rng.normal(42000, 9000, COUNT), rng.exponential(400, COUNT)
    floor = rng.integers(0, 9, COUNT)
    rent = 9 * area + 0.012 * income + 250 * np.sin((year - 1890) / 25) + 25 * floor
    rent = rent - 120 * np.log1p(bus / 100) + rng.normal(0, 40, COUNT)
    x = np.column_stack([area, year, income, bus, floor]).astype(np.float32)
    return cut(x, rent.astype(np.float32)[:, None])


def standard_flats(seed: int) -> Four:
    x, y, x_valid, y_valid = flats(seed)
    x, y = whitened(np.concatenate([x, x_valid])), whitened(np.concatenate([y, y_valid]))
    return cut(x, y)


SYMPTOMS = 7


def symptoms(seed: int) -> Four:
    """Twelve readings, and which of seven illnesses there are, some of them at once."""
    rng = draw(seed, 5)
    x = rng.normal(size=(COUNT, 12))
    level = np.tanh(x @ rng.normal(size=(12, 8)) / 2) @ rng.normal(size=(8, SYMPTOMS))
    y = level > np.quantile(level, 0.65, axis=0)
    return cut(x.astype(np.float32), y.astype(np.float32))


def alarms(seed: int) -> Four:
    """One case in six is an alarm: inside a shell of eight features; float32[n,1] of 0 and 1."""
    rng = draw(seed, 6)
    x = rng.normal(size=(COUNT, 8))
    level = (x[:, :3] ** 2).sum(1) + x[:, 4]
    y = (level < np.quantile(level, 1 / 6)).astype(np.float32)
    return cut(x.astype(np.float32), y[:, None])


def defects(seed: int) -> Four:
    """Good and bad parts, far apart in nine features: float32[n,1] of 0 and 1."""
    rng = draw(seed, 7)
    x = rng.normal(size=(2 * COUNT, 9))
    level = x[:, 0] + 0.8 * x[:, 1] * x[:, 2] + 0.6 * x[:, 3]
    x, level = x[np.abs(level) > 0.4][:COUNT], level[np.abs(level) > 0.4][:COUNT]
    return cut(x.astype(np.float32), (level > 0).astype(np.float32)[:, None])


def calls(seed: int) -> Four:
    """Calls an hour, counted, of five features; to judge, the logarithm of the true rate."""
    rng = draw(seed, 8)
    x = rng.normal(size=(COUNT, 5)).astype(np.float32)
    log_rate = 0.8 * np.sin(1.5 * x[:, :1]) + 0.5 * x[:, 1:2] + 0.4 * x[:, 2:3] * x[:, 3:4] + 0.8
    seen = rng.poisson(np.exp(np.minimum(log_rate, 3))).astype(np.float32)
    x, seen, x_valid, _ = cut(x, seen)
    return x, seen, x_valid, np.minimum(log_rate, 3)[TRAIN:].astype(np.float32)


def winds(seed: int) -> Four:
    """Wind with gusts that depend on the place; to judge, its mean, float32[n,1]."""
    rng = draw(seed, 9)
    x = rng.uniform(-1.7, 1.7, (COUNT, 4)).astype(np.float32)
    middle = np.sin(1.6 * x[:, :1]) + 0.6 * x[:, 1:2] * x[:, 2:3]
    width = 0.15 + 0.5 / (1 + np.exp(-2 * x[:, 3:]))
    y = middle + width * rng.normal(size=(COUNT, 1))
    return x[:TRAIN], y[:TRAIN].astype(np.float32), x[TRAIN:], middle[TRAIN:].astype(np.float32)


def incomes(seed: int) -> Four:
    """Earnings of four kinds, not all of which everybody has (then 0); log-linear in them."""
    rng = draw(seed, 10)
    amounts = np.exp(rng.normal(0, 1, (COUNT, 4))) * (rng.random((COUNT, 4)) < 0.9)
    x = np.concatenate([amounts, rng.normal(size=(COUNT, 3))], axis=1)
    y = np.log1p(amounts) @ [1.0, -1.2, 0.8, 1.0] + x[:, 4] * x[:, 5] + 0.5 * x[:, 6]
    return cut(x.astype(np.float32), whitened(y)[:, None])


# ---- images, signals, curves ----------------------------------------------------------------

STAMPS = 5


def stamps(seed: int) -> Four:
    """One of five small patterns somewhere on 10 x 10 pixels: float32[n,1,10,10], int64[n]."""
    rng = draw(seed, 11)
    patterns = np.zeros((STAMPS, 5, 5))
    patterns[0, 2, :] = patterns[0, :, 2] = 1
    patterns[1, [0, 4], :] = patterns[1, :, [0, 4]] = 1
    patterns[2] = np.maximum(np.eye(5), np.eye(5)[::-1])
    patterns[3, 1, :] = patterns[3, 3, :] = 1
    patterns[4, :, 1] = patterns[4, :, 3] = 1
    y = rng.integers(0, STAMPS, COUNT)
    x = rng.normal(0, 0.25, (COUNT, 1, 10, 10))
    for i, (a, b) in enumerate(rng.integers(0, 6, (COUNT, 2))):
        x[i, 0, a : a + 5, b : b + 5] += patterns[y[i]]
    return cut(((x - x.mean()) / x.std()).astype(np.float32), y)


def scans(seed: int) -> Four:
    """The same as bytes, as a scanner gives them: uint8[n,1,10,10]."""
    x, y, x_valid, y_valid = stamps(seed)
    bytes_ = [np.clip(50 + 40 * z, 0, 250).astype(np.uint8) for z in (x, x_valid)]
    return bytes_[0], y, bytes_[1], y_valid


BEEPS = 4


def beeps(seed: int) -> Four:
    """Tones of four pitches in noise, float32[n,1,32] and int64[n]."""
    rng = draw(seed, 12)
    y = rng.integers(0, BEEPS, COUNT)
    pitch = np.array([1.5, 2.5, 4.0, 6.0])[y][:, None] * rng.uniform(0.92, 1.08, (COUNT, 1))
    t = np.arange(32) / 32
    x = np.sin(2 * np.pi * (pitch * t + rng.random((COUNT, 1)))) * rng.uniform(0.6, 1.4, (COUNT, 1))
    x = x + rng.normal(0, 0.5, x.shape)
    return cut(((x - x.mean()) / x.std()).astype(np.float32)[:, None], y)


def contours(seed: int) -> Four:
    """Closed contours of 20 points, of four numbers each; the targets are the inputs."""
    rng = draw(seed, 13)
    t = np.arange(20) * 2 * np.pi / 20
    a, b = rng.normal(0, 1, (2, COUNT, 1)), rng.uniform(0, 2 * np.pi, (2, COUNT, 1))
    x = a[0] * np.sin(t + b[0]) + 0.6 * a[1] * np.sin(2 * t + b[1])
    x = (x / x.std() + rng.normal(0, 0.05, x.shape)).astype(np.float32)
    return cut(x, x)


def prints(seed: int) -> tuple[Numbers, ...]:
    """Pairs of prints, of one finger or of two: a, b float32[n,12], same float32[n] (and valid)."""
    rng = draw(seed, 14)
    fingers, mix = rng.normal(size=(40, 5)), rng.normal(size=(10, 12))
    who = rng.integers(0, 40, (COUNT, 2))
    same = rng.random(COUNT) < 0.5
    who[same, 1] = who[same, 0]

    def taken(which: Numbers) -> Numbers:
        noise = rng.normal(size=(COUNT, 5))
        return np.tanh(np.concatenate([fingers[which], 0.8 * noise], 1) @ mix / 2)

    a, b = taken(who[:, 0]), taken(who[:, 1])
    return cut(a.astype(np.float32), b.astype(np.float32), same.astype(np.float32))


# ---- sequences ------------------------------------------------------------------------------

REVIEW_WORDS = 16


def reviews(seed: int, length: int = 12) -> Four:
    """Words; 1 praises, 2 blames, 3 turns the next of them round; whether praise prevails.

    int64[n,T] (0: behind the end) and float32[n,1] of 0 and 1.
    """
    rng = draw(seed, 15)
    odds = np.array([0, 0.2, 0.2, 0.2] + [0.4 / 12] * 12)
    words = rng.choice(REVIEW_WORDS, (2 * COUNT, length), p=odds)
    there = np.arange(length) < rng.integers(7, length + 1, (2 * COUNT, 1))
    words = np.where(there, words, 0)
    before = np.concatenate([np.zeros((2 * COUNT, 1), int), words[:, :-1]], 1)
    praise = (words == 1) * 1.0 - (words == 2) * 1.0
    total = (praise * np.where(before == 3, -1, 1)).sum(1)
    words, total = words[total != 0][:COUNT], total[total != 0][:COUNT]
    return cut(words, (total > 0).astype(np.float32)[:, None])


CIPHER = 8


def cipher(seed: int, length: int = 10) -> Four:
    """To each symbol belongs the sum of it and the one before, modulo eight: int64[n,T] twice."""
    rng = draw(seed, 16)
    x = rng.integers(0, CIPHER, (COUNT, length))
    before = np.concatenate([np.zeros((COUNT, 1), int), x[:, :-1]], 1)
    return cut(x, (x + before) % CIPHER)


REFRAIN = 9


def refrain(seed: int, length: int = 12) -> Four:
    """Songs whose next note follows from the last two, nine times in ten; and it: int64[n,T]."""
    rng = draw(seed, 17)
    notes = np.zeros((COUNT, length + 1), int)
    notes[:, :2] = rng.integers(0, REFRAIN, (COUNT, 2))
    for t in range(2, length + 1):
        follows = (notes[:, t - 1] + notes[:, t - 2] % 3 + 1) % REFRAIN
        free = rng.integers(0, REFRAIN, COUNT)
        notes[:, t] = np.where(rng.random(COUNT) < 0.9, follows, free)
    return cut(notes[:, :-1], notes[:, 1:])


def tanks(seed: int, length: int = 16) -> Four:
    """What flows in and out, float32[n,T,2]; how full the tank is in the end, float32[n,1]."""
    rng = draw(seed, 18)
    x = rng.normal(size=(COUNT, length, 2))
    level = np.zeros(COUNT)
    for t in range(length):
        level = 0.85 * level + np.maximum(x[:, t, 0], 0) - 0.5 * np.maximum(x[:, t, 1], 0)
    return cut(x.astype(np.float32), whitened(level)[:, None])


# ---- sets, graphs, people -------------------------------------------------------------------


def herds(seed: int) -> Four:
    """Up to eight animals of three features, the last of four is 1 for an animal: float32[n,8,4];
    the target is a sum over them, of variance 1, float32[n,1]."""
    rng = draw(seed, 19)
    x = rng.normal(size=(COUNT, 8, 3))
    there = np.arange(8) < rng.integers(1, 9, (COUNT, 1))
    each = np.abs(x[:, :, 0]) + np.tanh(x[:, :, 1]) * x[:, :, 2]
    y = (each * there).sum(1) / np.sqrt(there.sum(1))
    x = np.concatenate([x * there[:, :, None], there[:, :, None]], axis=2)
    return cut(x.astype(np.float32), whitened(y)[:, None])


def towns(seed: int) -> tuple[Numbers, ...]:
    """Ten towns of four features and the roads between: float32[n,10,4], float32[n,10,10]; what
    is traded, float32[n,1]. Some towns have no road. The same to judge."""
    rng = draw(seed, 20)
    nodes = rng.normal(size=(COUNT, 10, 4))
    roads = np.triu(rng.random((COUNT, 10, 10)) < 0.22, 1)
    roads = (roads | roads.swapaxes(1, 2)).astype(np.float64)
    trade = np.maximum(nodes[:, :, 0], 0) * (roads @ np.tanh(nodes[:, :, 1:2]))[:, :, 0]
    y = trade.sum(1) + np.abs(nodes[:, :, 2]).sum(1)
    y = whitened(y)[:, None]
    return cut(nodes.astype(np.float32), roads.astype(np.float32), y)


ADS = 4


def ads(seed: int) -> Four:
    """Readers and how each of four advertisements would be liked: float32[n,5], float32[n,4]."""
    rng = draw(seed, 21)
    x = rng.normal(size=(COUNT, 5))
    liking = np.tanh(x @ rng.normal(size=(5, 6))) @ rng.normal(size=(6, ADS)) / 2
    return cut(x.astype(np.float32), (liking + 0.5).astype(np.float32))


READERS, BOOKS = 30, 40


def books(seed: int) -> Four:
    """Who read what and how they liked it, of variance 1: int64[n,2] and float32[n,1]."""
    rng = draw(seed, 22)
    people, things = rng.normal(size=(READERS, 2)), rng.normal(size=(BOOKS, 2))
    pairs = rng.permutation(READERS * BOOKS)
    who = np.stack([pairs // BOOKS, pairs % BOOKS], 1)
    y = (people[who[:, 0]] * things[who[:, 1]]).sum(1) + 0.5 * things[who[:, 1], 0]
    y = whitened(y + rng.normal(0, 0.1, len(y)))[:, None]
    return who[:1000], y[:1000], who[1000:], y[1000:]


# ---- judging --------------------------------------------------------------------------------

Score = Callable[..., float]


def liked(x: Numbers, liking: Numbers) -> Score:
    """What a policy gets: 1 where it always takes the best, 0 for a guess."""

    def score(model: Any) -> float:
        scores = np.asarray(model(x), np.float64)
        if not np.isfinite(scores).all():
            return float("nan")
        got, guess = liking[np.arange(len(x)), scores.argmax(1)].mean(), liking.mean()
        return float((got - guess) / (liking.max(1).mean() - guess))

    return score


def rounded(predict: Callable[..., Any], x: Numbers, y: Numbers) -> Score:
    """Share of the classes that a number, rounded, has right."""

    def score(model: Any) -> float:
        given = np.asarray(predict(model, x), np.float64).reshape(-1)
        return float((np.round(given) == y).mean()) if np.isfinite(given).all() else float("nan")

    return score


def threshold(predict: Callable[..., Any], x: Numbers, y: Numbers, at: float = 0.5) -> Score:
    """Accuracy of probabilities of yes."""

    def score(model: Any) -> float:
        given = np.asarray(predict(model, x), np.float64).reshape(y.shape)
        right = ((given > at) == (y > 0.5)).mean()
        return float(right) if np.isfinite(given).all() else float("nan")

    return score


def prefixes(predict: Callable[..., Any], x: Numbers, y: Numbers) -> Score:
    """Accuracy of the next note, where only what came before is known: the rest is 0."""

    def score(model: Any) -> float:
        right = []
        for t in (4, 7, 10):
            known = np.where(np.arange(x.shape[1]) <= t, x, 0)
            scores = np.asarray(predict(model, known), np.float64)[:, t]
            if not np.isfinite(scores).all():
                return float("nan")
            right.append((scores.argmax(-1) == y[:, t]).mean())
        return float(np.mean(right))

    return score
