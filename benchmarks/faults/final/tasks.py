"""Small tasks of the final set: arrays to train on and to judge by, each drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from benchmarks.faults.data import Four, Numbers

TRAIN = 1280
COUNT = 1600


def parted(x: Numbers, y: Numbers) -> Four:
    return x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:]


def standard(x: Numbers) -> Numbers:
    return ((x - x.mean(0)) / x.std(0)).astype(np.float32)


# ---- tables ---------------------------------------------------------------------------------


def checker(seed: int) -> Four:
    """The fields of a board of 3 x 3, black or white: float32[n,2], float32[n,1] of 0 and 1."""
    rng = np.random.default_rng([seed, 101])
    x = rng.uniform(-1.5, 1.5, (COUNT, 2))
    y = np.floor(x + 1.5).sum(1) % 2
    return parted(x.astype(np.float32), y.astype(np.float32)[:, None])


def wines(seed: int) -> Four:
    """Nine measured columns and four sorts, quadratic in three of them; int64[n]."""
    rng = np.random.default_rng([seed, 102])
    x = rng.normal(size=(COUNT, 9))
    x[:, :4] += 0.4 * np.sign(x[:, :4])
    first = x[:, 0] * x[:, 1] > 0
    second = x[:, 2] + 0.3 * x[:, 3] > 0
    return parted(x.astype(np.float32), 2 * first + second)


ROOMS = 12


def houses(seed: int) -> Four:
    """Area in square metres, rooms, age, distance, two marks; the price, in thousands; [n,1]."""
    rng = np.random.default_rng([seed, 103])
    area = np.exp(rng.normal(4.6, 0.4, COUNT))
    rooms = rng.integers(1, ROOMS, COUNT)
    age, far = rng.uniform(0, 90, COUNT), rng.uniform(0.2, 25, COUNT)
    marks = rng.uniform(0, 1, (COUNT, 2))
    price = 2.5 * area + 6 * rooms - 2 * np.abs(age - 40) - 60 * np.log(far) * marks[:, 0]
    price = price + 60 * marks[:, 1] + rng.normal(0, 8, COUNT)
    x = np.column_stack([area, rooms, age, far, marks]).astype(np.float32)
    return parted(x, (price + 250).astype(np.float32)[:, None])


def standard_houses(seed: int) -> Four:
    """The same, inputs and price of mean 0 and variance 1."""
    x, y, x_valid, y_valid = houses(seed)
    return parted(standard(np.concatenate([x, x_valid])), standard(np.concatenate([y, y_valid])))


def visits(seed: int) -> tuple[Numbers, ...]:
    """Features, days watched, how often they came; and of others the features and true rates."""
    rng = np.random.default_rng([seed, 104])
    x = rng.normal(size=(COUNT, 5)).astype(np.float32)
    rate = np.exp(0.9 * np.tanh(x[:, 0]) + 0.5 * x[:, 1] * (x[:, 2] > 0) - 1.5)
    days = rng.uniform(5, 60, COUNT)
    seen = rng.poisson(rate * days)
    days, seen = days.astype(np.float32)[:, None], seen.astype(np.float32)[:, None]
    log_rate = np.log(rate).astype(np.float32)[:, None]
    return x[:TRAIN], days[:TRAIN], seen[:TRAIN], x[TRAIN:], log_rate[TRAIN:]


def patients(seed: int) -> tuple[Numbers, ...]:
    """Features, the time until the end or until nobody looked, whether it ended; truth to judge."""
    rng = np.random.default_rng([seed, 105])
    x = rng.normal(size=(COUNT, 6)).astype(np.float32)
    risk = 1.2 * x[:, 0] - x[:, 1] + 1.2 * x[:, 2] * x[:, 3]
    life, looked = rng.exponential(np.exp(-risk)), rng.uniform(0.1, 8, COUNT)
    time = np.minimum(life, looked).astype(np.float32) + np.float32(1e-3)
    ended = (life <= looked).astype(np.float32)
    risk = risk.astype(np.float32)[:, None]
    return x[:TRAIN], time[:TRAIN], ended[:TRAIN], x[TRAIN:], risk[TRAIN:]


GRADES = 5


def grades(seed: int) -> Four:
    """Marks from 0 to 4 that do have an order, a function of eight columns; int64[n]."""
    rng = np.random.default_rng([seed, 106])
    x = rng.normal(size=(COUNT, 8)).astype(np.float32)
    level = x[:, 0] + np.sin(2 * x[:, 1]) + 0.7 * x[:, 2] + rng.normal(0, 0.1, COUNT)
    return parted(x, np.digitize(level, np.quantile(level, [0.2, 0.4, 0.6, 0.8])))


TAGS = 6


def tags(seed: int) -> Four:
    """Which of six tags fit, none to all: float32[n,14] and float32[n,6] of 0 and 1."""
    rng = np.random.default_rng([seed, 107])
    x = rng.normal(size=(COUNT, 14))
    hidden = np.maximum(x @ rng.normal(size=(14, 10)) / 14**0.5, 0)
    level = hidden @ rng.normal(size=(10, TAGS))
    y = level > np.quantile(level, 0.6, axis=0)
    return parted(x.astype(np.float32), y.astype(np.float32))


def spread(seed: int) -> Four:
    """Noise that grows with one of three features, float32[n,3]; to judge, the true quantile."""
    rng = np.random.default_rng([seed, 108])
    x = rng.uniform(-1.7, 1.7, (COUNT, 3)).astype(np.float32)
    middle, width = np.sin(2 * x[:, :1]) + 0.5 * x[:, 2:], 0.3 + 0.25 * (x[:, 1:2] + 1.7)
    y = middle + width * rng.normal(size=(COUNT, 1))
    truth = middle + 1.2816 * width
    x, y, x_valid, _ = parted(x, y.astype(np.float32))
    return x, y, x_valid, truth[TRAIN:].astype(np.float32)


def lumps(seed: int) -> tuple[Numbers, Numbers, Numbers]:
    """Points of four lumps in the plane, without labels; points to judge and their lumps."""
    rng = np.random.default_rng([seed, 109])
    centres = np.array([[-1.2, -1.0], [1.2, -1.0], [-1.2, 1.0], [1.3, 1.1]])
    which = rng.integers(0, 4, COUNT)
    x = (centres[which] + rng.normal(0, 0.3, (COUNT, 2))).astype(np.float32)
    return x[:TRAIN], x[TRAIN:], which[TRAIN:]


VOICES = 8


def voices(seed: int) -> Four:
    """Twenty-four columns of eight speakers, with the same disturbances: int64[n]."""
    rng = np.random.default_rng([seed, 110])
    who = rng.integers(0, VOICES, COUNT)
    speaker, noise = rng.normal(size=(VOICES, 6)), rng.normal(size=(COUNT, 6))
    mixed = np.tanh(np.concatenate([speaker[who], noise], 1) @ rng.normal(size=(12, 24)) / 3)
    return parted(standard(mixed + rng.normal(0, 0.1, mixed.shape)), who)


# ---- images, signals, sets, graphs ----------------------------------------------------------


def arrows(seed: int) -> Four:
    """An arrow somewhere that points up, left, down or right: float32[n,1,9,9] and int64[n]."""
    rng = np.random.default_rng([seed, 111])
    arrow = np.array([[0, 0, 1, 0, 0], [0, 1, 1, 1, 0], [1, 0, 1, 0, 1], [0, 0, 1, 0, 0]])
    arrow = np.concatenate([arrow, [[0, 0, 1, 0, 0]]])
    y = rng.integers(0, 4, COUNT)
    x = rng.normal(0, 0.12, (COUNT, 1, 9, 9))
    for k, (a, b) in enumerate(rng.integers(0, 5, (COUNT, 2))):
        x[k, 0, a : a + 5, b : b + 5] += np.rot90(arrow, y[k])
    x = (x - x.min()) / (x.max() - x.min())
    return parted(x.astype(np.float32), y)


def standard_arrows(seed: int) -> Four:
    x, y, x_valid, y_valid = arrows(seed)
    mean, std = x.mean(), x.std()
    return (x - mean) / std, y, (x_valid - mean) / std, y_valid


def pulses(seed: int) -> Four:
    """Two channels of 40 values: one beat, two close or two far apart: float32[n,2,40]."""
    rng = np.random.default_rng([seed, 112])
    y = rng.integers(0, 3, COUNT)
    t, start = np.arange(40), rng.integers(6, 20, (COUNT, 1))
    gap = np.array([0, 6, 12])[y][:, None]
    beat = np.exp(-((t - start) ** 2) / 3) + (gap > 0) * np.exp(-((t - start - gap) ** 2) / 3)
    x = np.stack([beat, np.roll(beat, 2, axis=1)], 1) + rng.normal(0, 0.15, (COUNT, 2, 40))
    return parted(((x - x.mean()) / x.std()).astype(np.float32), y)


def spectra(seed: int) -> Four:
    """Two peaks on 24 channels, of any place and height; the targets are the inputs."""
    rng = np.random.default_rng([seed, 113])
    place, height = rng.uniform(3, 21, (2, COUNT, 1)), rng.uniform(0.5, 1.5, (2, COUNT, 1))
    x = (height * np.exp(-((np.arange(24) - place) ** 2) / 18)).sum(0)
    x = ((x - x.mean()) / x.std() + rng.normal(0, 0.05, x.shape)).astype(np.float32)
    return parted(x, x)


def bars(seed: int) -> Four:
    """Black and white images 5 x 5 of whole rows, drawn apart: float32[n,25] of 0 and 1."""
    rng = np.random.default_rng([seed, 114])
    rows = rng.random((COUNT, 5, 1)) < 0.5
    x = np.broadcast_to(rows, (COUNT, 5, 5)) ^ (rng.random((COUNT, 5, 5)) < 0.02)
    x = x.reshape(COUNT, 25).astype(np.float32)
    return parted(x, x)


def bags(seed: int) -> Four:
    """Up to nine points, the others 0 and marked so: float32[n,9,4], of which the last is 1 for a
    point; the target is a function of the mean of a function of the points, float32[n,1]."""
    rng = np.random.default_rng([seed, 115])
    points = rng.normal(size=(COUNT, 9, 3))
    there = np.arange(9) < rng.integers(2, 10, (COUNT, 1))
    each = np.sin(points[:, :, 0]) * points[:, :, 1] + np.abs(points[:, :, 2])
    y = (each * there).sum(1) / there.sum(1)
    x = np.concatenate([points * there[:, :, None], there[:, :, None]], 2)
    return parted(x.astype(np.float32), standard(y)[:, None])


def molecules(seed: int) -> tuple[Numbers, ...]:
    """Graphs of eight nodes: nodes float32[n,8,5], edges float32[n,8,8], whether two nodes of the
    first kind are neighbours, float32[n,1]; the same to judge."""
    rng = np.random.default_rng([seed, 116])
    kind = rng.integers(1, 5, (COUNT, 8))
    kind[:, :3] = np.where(rng.random((COUNT, 3)) < 0.8, 0, kind[:, :3])
    order = rng.permuted(np.tile(np.arange(8), (COUNT, 1)), axis=1)
    kind = np.take_along_axis(kind, order, 1)
    edges = np.triu(rng.random((COUNT, 8, 8)) < 0.28, 1)
    edges = edges | edges.swapaxes(1, 2)
    own = kind == 0
    y = (edges & own[:, :, None] & own[:, None, :]).any((1, 2))
    nodes, edges = np.eye(5, dtype=np.float32)[kind], edges.astype(np.float32)
    y = y.astype(np.float32)[:, None]
    return nodes[:TRAIN], edges[:TRAIN], y[:TRAIN], nodes[TRAIN:], edges[TRAIN:], y[TRAIN:]


# ---- sequences ------------------------------------------------------------------------------


def regime(seed: int, length: int = 18) -> Four:
    """A series that returns, wanders or swings: float32[n,T,1] and int64[n]."""
    rng = np.random.default_rng([seed, 117])
    y = rng.integers(0, 3, COUNT)
    memory = np.array([0.2, 0.95, -0.8])[y]
    x = np.zeros((COUNT, length))
    x[:, 0] = rng.normal(size=COUNT)
    for t in range(1, length):
        x[:, t] = memory * x[:, t - 1] + rng.normal(0, 0.7, COUNT)
    return parted(((x - x.mean()) / x.std()).astype(np.float32)[:, :, None], y)


WORDS = 12


def tagging(seed: int, length: int = 10) -> Four:
    """Sentences with a kind for each word, that of most words depends on the word before; -1 for
    places behind the end, where the word is 0: int64[n,T] twice."""
    rng = np.random.default_rng([seed, 118])
    words = rng.integers(1, WORDS, (COUNT, length))
    before = np.concatenate([np.ones((COUNT, 1), int), words[:, :-1]], 1)
    kind = np.where(words < 4, words % 3, (words + before) % 3)
    there = np.arange(length) < rng.integers(5, length + 1, (COUNT, 1))
    return parted(np.where(there, words, 0), np.where(there, kind, -1))


NOTES = 7


def scales(seed: int, length: int = 10) -> Four:
    """Tunes that go on by a step of their own, modulo seven: int64[n,T] and the next note."""
    rng = np.random.default_rng([seed, 119])
    start, stride = rng.integers(0, NOTES, (COUNT, 1)), rng.integers(1, 4, (COUNT, 1))
    notes = (start + stride * np.arange(length + 1)) % NOTES
    wrong = rng.random(notes.shape) < 0.03
    notes = np.where(wrong, rng.integers(0, NOTES, notes.shape), notes)
    return parted(notes[:, :-1], notes[:, 1:])


# ---- people and things, agents, tasks -------------------------------------------------------

PEOPLE, THINGS = 40, 40


def purchases(seed: int) -> Four:
    """Who might buy what, and whether they did: int64[n,2] and float32[n,1] of 0 and 1."""
    rng = np.random.default_rng([seed, 120])
    people, things = rng.normal(size=(PEOPLE, 2)), rng.normal(size=(THINGS, 2))
    x = np.stack([rng.integers(0, PEOPLE, 2 * COUNT), rng.integers(0, THINGS, 2 * COUNT)], 1)
    y = ((people[x[:, 0]] * things[x[:, 1]]).sum(1) > 0).astype(np.float32)[:, None]
    return x[:-320], y[:-320], x[-320:], y[-320:]


def wants(seed: int) -> Numbers:
    """Of each person and thing, how much it is wanted, float32[40,40]."""
    rng = np.random.default_rng([seed, 120])
    return (rng.normal(size=(PEOPLE, 2)) @ rng.normal(size=(THINGS, 2)).T).astype(np.float32)


DOSES = 5


def doses(seed: int) -> Four:
    """Patients and what each of five doses would do: float32[n,4] and float32[n,5]."""
    rng = np.random.default_rng([seed, 121])
    x = rng.normal(size=(COUNT, 4)).astype(np.float32)
    right = 2 + 1.2 * x[:, :1] + 0.8 * x[:, 1:2]
    gain = -((np.arange(DOSES) - np.clip(right, 0, 4)) ** 2) / 2
    return parted(x, np.maximum(gain, -2).astype(np.float32) + 1)


def arm(seed: int) -> Four:
    """Where things lie and the two angles that reach for them best: float32[n,3], float32[n,2]."""
    rng = np.random.default_rng([seed, 122])
    x = rng.normal(size=(COUNT, 3)).astype(np.float32)
    best = np.stack([np.sin(x[:, 0]) + 0.5 * x[:, 1], x[:, 1] - 0.7 * x[:, 2]], 1)
    return parted(x, best.astype(np.float32))


PLACES = 12


def walk(seed: int) -> tuple[Numbers, ...]:
    """Steps of a random walk on twelve places: place, reward, next place, whether it goes on; then
    all places and their true values, float32[12,1]."""
    rng = np.random.default_rng([seed, 123])
    here = rng.integers(0, PLACES, COUNT)
    there = here + rng.choice([-1, 1], COUNT)
    goes_on = ((there >= 0) & (there < PLACES)).astype(np.float32)
    reward = (there == PLACES).astype(np.float32)
    value = (np.arange(1, PLACES + 1) / (PLACES + 1)).astype(np.float32)[:, None]
    return here, reward, np.clip(there, 0, PLACES - 1), goes_on, np.arange(PLACES), value


def waves(seed: int) -> tuple[Numbers, ...]:
    """Tasks: five points of a wave of its own, and ten others of it: x and y, float32[n,k,1]."""
    rng = np.random.default_rng([seed, 124])
    x = rng.uniform(-2, 2, (COUNT, 15, 1))
    size, phase = rng.uniform(0.5, 2, (COUNT, 1, 1)), rng.choice([0, np.pi / 2], (COUNT, 1, 1))
    y = size * np.sin(1.5 * x + phase)
    x, y = x.astype(np.float32), y.astype(np.float32)
    return x[:, :5], y[:, :5], x[:, 5:], y[:, 5:]


# ---- judging --------------------------------------------------------------------------------

Predict = Callable[..., Any]
Score = Callable[..., float]


def nearest(embed: Predict, x: Numbers, y: Numbers, x_valid: Numbers, y_valid: Numbers) -> Score:
    """Share of samples that lie nearest, by angle, to the mean of their own class."""

    def score(model: Any) -> float:
        known, new = [np.asarray(embed(model, z), np.float64) for z in (x, x_valid)]
        if not (np.isfinite(known).all() and np.isfinite(new).all()):
            return float("nan")
        known, new = [z / (np.linalg.norm(z, axis=1, keepdims=True) + 1e-12) for z in (known, new)]
        centres = np.stack([known[y == k].mean(0) for k in range(y.max() + 1)])
        return float(((new @ centres.T).argmax(1) == y_valid).mean())

    return score


def correlation(predict: Predict, x: Numbers, y: Numbers) -> Score:
    """The correlation of what is predicted and the truth."""

    def score(model: Any) -> float:
        given = np.asarray(predict(model, x), np.float64).ravel()
        if not np.isfinite(given).all():
            return float("nan")
        return float(np.corrcoef(given, y.ravel())[0, 1]) if given.std() > 1e-9 else 0.0

    return score


def level(predict: Predict, x: Numbers, y: Numbers) -> Score:
    """Share of ordered levels that a single number, rounded, has right."""

    def score(model: Any) -> float:
        given = np.asarray(predict(model, x), np.float64).reshape(y.shape)
        return float((np.round(given) == y).mean()) if np.isfinite(given).all() else float("nan")

    return score


def kinds(predict: Predict, x: Numbers, y: Numbers) -> Score:
    """Accuracy at the places whose target is not -1."""

    def score(model: Any) -> float:
        scores = np.asarray(predict(model, x), np.float64)
        right = (scores.argmax(-1) == y)[y >= 0].mean()
        return float(right) if np.isfinite(scores).all() else float("nan")

    return score


def next_note(predict: Predict, x: Numbers, y: Numbers) -> Score:
    """Accuracy of the next note, each from a prefix: what comes later is 0."""

    def score(model: Any) -> float:
        right = []
        for t in (3, 6, 8):
            prefix = np.where(np.arange(x.shape[1]) <= t, x, 0)
            scores = np.asarray(predict(model, prefix), np.float64)[:, t]
            if not np.isfinite(scores).all():
                return float("nan")
            right.append((scores.argmax(-1) == y[:, t]).mean())
        return float(np.mean(right))

    return score
