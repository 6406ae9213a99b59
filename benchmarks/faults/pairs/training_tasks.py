"""Small tasks for training programs: arrays to train on and to judge by, drawn from a seed."""

from __future__ import annotations

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

SOILS = 5


def soil(seed: int) -> Four:
    """Ten measurements, five sorts of soil, each found in two forms: float32[n,10], int64[n]."""
    rng = np.random.default_rng([seed, 301])
    y, form = rng.integers(0, SOILS, COUNT), rng.integers(0, 2, COUNT)
    centres = rng.normal(size=(SOILS, 2, 10))
    x = (centres[y, form] + 0.65 * rng.normal(size=(COUNT, 10))) / 1.2
    return parted(x.astype(np.float32), y)


def harvest(seed: int, noise: float = 0.1) -> Four:
    """A curved function of six features, of variance 1: float32[n,6] and float32[n,1]."""
    rng = np.random.default_rng([seed, 302])
    x = rng.normal(size=(COUNT, 6)).astype(np.float32)
    y = np.sin(1.5 * x[:, 0]) + 0.6 * x[:, 1] * x[:, 2] + np.abs(x[:, 3]) + 0.4 * x[:, 4]
    y = y + rng.normal(0, noise, COUNT)
    return parted(x, standard(y[:, None]))


ALARMS = 5


def alarms(seed: int) -> Four:
    """Twelve sensors and which of five alarms ring: float32[n,12] and float32[n,5]."""
    rng = np.random.default_rng([seed, 303])
    x = rng.normal(size=(COUNT, 12))
    level = x @ rng.normal(size=(12, ALARMS)) / 12**0.5
    level = level + 0.8 * x[:, :ALARMS] * x[:, ALARMS : 2 * ALARMS]
    y = level > np.quantile(level, 0.6, axis=0)
    return parted(x.astype(np.float32), y.astype(np.float32))


def doubled(seed: int) -> Four:
    """Each of six numbers is measured twice; what counts are the numbers: float32[n,12], [n,1]."""
    rng = np.random.default_rng([seed, 304])
    z = rng.normal(size=(COUNT, 6))
    x = np.concatenate([z, z], 1) + rng.normal(0, 0.15, (COUNT, 12))
    y = z @ np.array([1.0, -1.0, 0.8, 0.8, -0.6, 0.6]) + 0.8 * np.sin(2 * z[:, 0])
    return parted(x.astype(np.float32), standard(y[:, None]))


def fraud(seed: int) -> Four:
    """Payments of which one in nine is a fraud: float32[n,8] and float32[n,1] of 0 and 1."""
    rng = np.random.default_rng([seed, 305])
    x = rng.normal(size=(COUNT, 8))
    level = x[:, 0] + x[:, 1] ** 2 + 0.7 * x[:, 2] * x[:, 3]
    y = level > np.quantile(level, 8 / 9)
    return parted(x.astype(np.float32), y.astype(np.float32)[:, None])


def stars(seed: int) -> Four:
    """Who rates what, and with how many stars from 1 to 5: int64[n,2] and float32[n,1]."""
    rng = np.random.default_rng([seed, 306])
    people, things = rng.normal(size=(PEOPLE, 3)), rng.normal(size=(THINGS, 3))
    who, what = rng.integers(0, PEOPLE, 4800), rng.integers(0, THINGS, 4800)
    level = (people[who] * things[what]).sum(1) * 0.7 + 0.5 * people[who, 0] + 3.0
    y = np.clip(level + rng.normal(0, 0.2, 4800), 1, 5).astype(np.float32)[:, None]
    x = np.stack([who, what], 1)
    return x[:4000], y[:4000], x[4000:], y[4000:]


PEOPLE = 40
THINGS = 30


def calls(seed: int) -> tuple[Numbers, ...]:
    """Features and how many calls came, some hundreds; of others the features, log of the rate."""
    rng = np.random.default_rng([seed, 307])
    x = rng.normal(size=(COUNT, 5)).astype(np.float32)
    log_rate = 0.5 * np.sin(2 * x[:, 0]) + 0.4 * x[:, 1] - 0.3 * x[:, 2] * x[:, 3] + 5.0
    seen = rng.poisson(np.exp(log_rate)).astype(np.float32)[:, None]
    return x[:TRAIN], seen[:TRAIN], x[TRAIN:], log_rate[TRAIN:, None].astype(np.float32)


# ---- images and signals ---------------------------------------------------------------------


def stamps(seed: int) -> Four:
    """A cross, a frame, a saltire or a block somewhere in noise: float32[n,1,10,10], int64[n]."""
    rng = np.random.default_rng([seed, 311])
    shapes = np.zeros((4, 5, 5))
    shapes[0, 2, :] = shapes[0, :, 2] = 1
    shapes[1] = 1
    shapes[1, 1:4, 1:4] = 0
    shapes[2] = np.clip(np.eye(5) + np.eye(5)[::-1], 0, 1)
    shapes[3, 1:4, 1:4] = 1
    y = rng.integers(0, 4, COUNT)
    x = rng.normal(0, 0.3, (COUNT, 1, 10, 10))
    rows, columns = rng.integers(0, 6, (2, COUNT))
    for i in range(COUNT):
        x[i, 0, rows[i] : rows[i] + 5, columns[i] : columns[i] + 5] += shapes[y[i]]
    return parted(((x - x.mean()) / x.std()).astype(np.float32), y)


def beats(seed: int) -> Four:
    """A sine, a square or a saw of any pitch and phase, in noise: float32[n,1,32], int64[n]."""
    rng = np.random.default_rng([seed, 312])
    y = rng.integers(0, 3, COUNT)
    turns = rng.uniform(1.5, 3.5, (COUNT, 1)) * np.linspace(0, 1, 32) + rng.random((COUNT, 1))
    forms = np.stack([np.sin(2 * np.pi * turns) * 1.4, np.sign(np.sin(2 * np.pi * turns))])
    forms = np.concatenate([forms, (2 * (turns % 1) - 1)[None] * 1.7])
    x = forms[y, np.arange(COUNT)] + rng.normal(0, 0.2, (COUNT, 32))
    return parted(x[:, None].astype(np.float32), y)


def folds(seed: int) -> Four:
    """Points of a curved surface of three dimensions in twenty: float32[n,20], twice."""
    rng = np.random.default_rng([seed, 313])
    z = rng.normal(size=(COUNT, 3))
    x = np.tanh(z @ rng.normal(size=(3, 10))) @ rng.normal(size=(10, 20))
    x = standard(x + rng.normal(0, 0.05, x.shape))
    return parted(x, x)


# ---- sequences ------------------------------------------------------------------------------


def flag(seed: int, length: int = 12) -> Four:
    """A flag at one step: the signs of the two numbers there: float32[n,T,3] and int64[n]."""
    rng = np.random.default_rng([seed, 321])
    x = rng.normal(size=(COUNT, length, 3))
    x[:, :, 2] = 0
    place, each = rng.integers(0, length, COUNT), np.arange(COUNT)
    x[each, place, 2] = 2
    x[each, place, :2] += 0.5 * np.sign(x[each, place, :2])
    y = 2 * (x[each, place, 0] > 0) + (x[each, place, 1] > 0)
    return parted(x.astype(np.float32), y)


def opening(seed: int, length: int = 25) -> Four:
    """Which of four notes was played in the first two steps, then noise: float32[n,T,4]."""
    rng = np.random.default_rng([seed, 322])
    y = rng.integers(0, 4, COUNT)
    x = rng.normal(0, 0.3, (COUNT, length, 4))
    x[np.arange(COUNT), 0, y] += 2
    x[np.arange(COUNT), 1, y] += 2
    return parted(x.astype(np.float32), y)


SIGNS = 8


def mirror(seed: int, length: int = 6) -> Four:
    """Six signs, and the same backwards: int64[n,6] and int64[n,6]."""
    rng = np.random.default_rng([seed, 323])
    x = rng.integers(0, SIGNS, (COUNT, length))
    return parted(x, x[:, ::-1].copy())


WORDS = 24


def chatter(seed: int) -> Four:
    """Sentences of twelve words, praise or blame: int64[n,12] and float32[n,1] of 0 and 1."""
    rng = np.random.default_rng([seed, 324])
    x = rng.integers(0, WORDS, (COUNT, 12))
    value = rng.permutation(np.linspace(-1, 1, WORDS))
    y = value[x].sum(1) > 0
    return parted(x, y.astype(np.float32)[:, None])


def lag(seed: int) -> Four:
    """At each step a function of the steps before: float32[n,16,1] and float32[n,16,1]."""
    rng = np.random.default_rng([seed, 325])
    x = rng.normal(size=(COUNT, 16, 1))
    before = np.concatenate([np.zeros((COUNT, 3, 1)), x], 1)
    y = 0.7 * before[:, 1:-2] + np.tanh(2 * before[:, 2:-1]) * 0.7
    return parted(x.astype(np.float32), (y / y.std()).astype(np.float32))


def tide(seed: int) -> Four:
    """Two tides of unknown phase and height, and the next value: float32[n,24], float32[n,1]."""
    rng = np.random.default_rng([seed, 326])
    t, height = np.arange(25), rng.uniform(0.5, 1.5, (COUNT, 2, 1))
    phase = rng.uniform(0, 2 * np.pi, (COUNT, 2, 1))
    waves = height * np.sin(np.array([0.5, 0.83])[:, None] * t + phase)
    x = waves.sum(1) + rng.normal(0, 0.1, (COUNT, 25))
    return parted(x[:, :24].astype(np.float32), x[:, 24:].astype(np.float32))


# ---- sets, graphs, pairs, choices -----------------------------------------------------------


def swarm(seed: int) -> Four:
    """Ten points of unlike spread: how wide and how far off they are: float32[n,10,3], [n,1]."""
    rng = np.random.default_rng([seed, 331])
    wide, centre = rng.uniform(0.3, 1.6, (COUNT, 1, 1)), rng.normal(0, 0.7, (COUNT, 1, 3))
    x = centre + wide * rng.normal(size=(COUNT, 10, 3))
    y = np.log(x.std(axis=1).mean(1)) + 0.7 * np.abs(x.mean(1)).sum(1)
    return parted(x.astype(np.float32), standard(y[:, None]))


def circuits(seed: int) -> tuple[Numbers, ...]:
    """Eight parts, their wires, how much they differ from neighbours: [n,8,3], [n,8,8], [n,1]."""
    rng = np.random.default_rng([seed, 332])
    nodes = rng.normal(size=(COUNT, 8, 3))
    wires = np.triu(rng.random((COUNT, 8, 8)) < 0.35, 1)
    wires = (wires | wires.transpose(0, 2, 1)).astype(np.float64)
    wires = wires / np.maximum(wires.sum(2, keepdims=True), 1)
    near = wires @ nodes
    y = np.abs(nodes[:, :, 0] - near[:, :, 0]).sum(1) + (nodes[:, :, 1] * near[:, :, 2]).sum(1)
    parts = nodes.astype(np.float32), wires.astype(np.float32), standard(y[:, None])
    return tuple(x[:TRAIN] for x in parts) + tuple(x[TRAIN:] for x in parts)


def twins(seed: int) -> Four:
    """Two looks, in any light, at one of six things or at two: float32[n,2,12], float32[n,1]."""
    rng = np.random.default_rng([seed, 333])
    things = rng.normal(size=(6, 4))
    y = rng.integers(0, 2, COUNT)
    one = rng.integers(0, 6, COUNT)
    two = np.where(y == 1, one, (one + rng.integers(1, 6, COUNT)) % 6)
    z = things[np.stack([one, two], 1)] + rng.normal(0, 0.25, (COUNT, 2, 4))
    z = np.concatenate([z, 0.8 * rng.normal(size=(COUNT, 2, 2))], 2)
    x = np.tanh(0.7 * z @ rng.normal(size=(6, 12)))
    x = (x - x.mean((0, 1))) / x.std((0, 1))
    return parted(x.astype(np.float32), y.astype(np.float32)[:, None])


def stall(seed: int) -> tuple[Numbers, ...]:
    """A visitor and what each of four offers earns; to judge, the best: [n,6], [n,4]; int64[n]."""
    rng = np.random.default_rng([seed, 334])
    x = rng.normal(size=(COUNT, 6)).astype(np.float32)
    worth = np.tanh(x @ rng.normal(size=(6, 4)) * 0.5)
    return x[:TRAIN], worth[:TRAIN].astype(np.float32), x[TRAIN:], worth[TRAIN:].argmax(1)


# ---- judging --------------------------------------------------------------------------------


def balanced(predict: Any, x: Numbers, y: Numbers) -> Any:
    """The mean of the shares that are right among those with 1 and those with 0."""

    def score(model: Any) -> float:
        logits = np.asarray(predict(model, x), np.float64)
        right = (logits > 0) == (y > 0.5)
        both = (right[y > 0.5].mean() + right[y <= 0.5].mean()) / 2
        return float(both) if np.isfinite(logits).all() else float("nan")

    return score
