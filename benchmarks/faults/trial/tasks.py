"""Small tasks of the trial set: arrays to train on and to judge by, each drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from benchmarks.faults.data import Four, Numbers
from benchmarks.faults.fresh.tasks import COUNT, TRAIN, parted, standard

# ---- tables ---------------------------------------------------------------------------------


def checks(seed: int) -> Four:
    """The fields of a board, three by three, black or white: float32[n,2], float32[n,1]."""
    rng = np.random.default_rng([seed, 31])
    x = rng.uniform(-1.5, 1.5, (COUNT, 2))
    y = np.floor(x + 0.5).sum(1) % 2
    x = x + rng.normal(0, 0.04, x.shape)
    return parted((1.15 * x).astype(np.float32), y.astype(np.float32)[:, None])


SOILS = 5


def soils(seed: int) -> Four:
    """Nine measurements of a soil, one of five kinds: float32[n,9], int64[n]."""
    rng = np.random.default_rng([seed, 32])
    x = rng.normal(size=(COUNT, 9)).astype(np.float32)
    scores = np.tanh(0.4 * x @ rng.normal(size=(9, 6))) @ rng.normal(size=(6, SOILS))
    return parted(x, (scores - scores.mean(0)).argmax(1))


TAGS = 6


def tags(seed: int) -> Four:
    """Any of six tags for fourteen numbers: float32[n,14], float32[n,6] of 0 and 1."""
    rng = np.random.default_rng([seed, 33])
    x = rng.normal(size=(COUNT, 14)).astype(np.float32)
    scores = x @ rng.normal(size=(14, TAGS)) / 2 + 1.5 * x[:, :TAGS] * x[:, 6 : 6 + TAGS]
    return parted(x, (scores > 0.3).astype(np.float32))


def houses(seed: int) -> Four:
    """Prices, a function of seven features with kinks: float32[n,7], float32[n,1]."""
    rng = np.random.default_rng([seed, 34])
    x = rng.normal(size=(COUNT, 7)).astype(np.float32)
    y = np.log1p(np.exp(2 * x[:, 0])) * (1 + 0.5 * x[:, 1]) + np.abs(x[:, 2]) - 0.7 * x[:, 3]
    return parted(x, standard(y + rng.normal(0, 0.15, COUNT))[:, None])


def surface(seed: int) -> Four:
    """Waves on a plane: float32[n,2], float32[n,1]."""
    rng = np.random.default_rng([seed, 35])
    x = rng.uniform(-1.7, 1.7, (COUNT, 2))
    y = np.sin(3 * x[:, 0]) * np.cos(2 * x[:, 1]) + 0.3 * x[:, 0]
    y = standard(y + rng.normal(0, 0.05, COUNT))[:, None]
    return parted(x.astype(np.float32), y)


USERS, PAGES = 25, 20


def clicks(seed: int) -> Four:
    """Who clicked on what: int64[n,2], float32[n,1] of 0 and 1."""
    rng = np.random.default_rng([seed, 36])
    users, pages = rng.normal(size=(USERS, 2)), rng.normal(size=(PAGES, 2))
    x = np.stack([rng.integers(0, USERS, COUNT), rng.integers(0, PAGES, COUNT)], 1)
    liked = (users[x[:, 0]] * pages[x[:, 1]]).sum(1) + rng.normal(0, 0.1, COUNT)
    return parted(x, (liked > 0).astype(np.float32)[:, None])


LEVERS = 3


def levers(seed: int) -> Four:
    """The reward of each of three levers in a context; float32[n,5], float32[n,3] and the best."""
    rng = np.random.default_rng([seed, 37])
    x = rng.normal(size=(COUNT, 5)).astype(np.float32)
    worth = np.tanh(x @ rng.normal(size=(5, LEVERS)))
    rewards = (worth + rng.normal(0, 0.3, worth.shape)).astype(np.float32)
    return x[:TRAIN], rewards[:TRAIN], x[TRAIN:], worth.argmax(1)[TRAIN:]


def waits(seed: int) -> tuple[Numbers, Numbers, Numbers, Numbers, Numbers]:
    """Features, times until an event or until 3, whether it happened; features, log of rates."""
    rng = np.random.default_rng([seed, 38])
    x = rng.normal(size=(COUNT, 5)).astype(np.float32)
    log_rate = 1.2 * np.sin(x[:, :1]) + 0.8 * x[:, 1:2] - 0.5 * np.abs(x[:, 2:3])
    time = rng.exponential(size=log_rate.shape) / np.exp(log_rate)
    event = (time < 3).astype(np.float32)
    time = np.minimum(time, 3).astype(np.float32)
    return x[:TRAIN], time[:TRAIN], event[:TRAIN], x[TRAIN:], log_rate[TRAIN:]


# ---- images, spectra, sets ------------------------------------------------------------------


def gratings(seed: int) -> Four:
    """Stripes of four directions and any phase, in noise: float32[n,1,9,9], int64[n]."""
    rng = np.random.default_rng([seed, 39])
    y = rng.integers(0, 4, COUNT)
    angle = (y * np.pi / 4)[:, None, None]
    i, j = np.mgrid[:9, :9]
    phase = rng.uniform(0, 2 * np.pi, (COUNT, 1, 1))
    x = np.cos(1.4 * (i * np.cos(angle) + j * np.sin(angle)) + phase)
    return parted(standard(x + rng.normal(0, 0.6, x.shape))[:, None], y)


def spots(seed: int) -> Four:
    """How many bright spots, none to five: float32[n,1,9,9], float32[n,1]."""
    rng = np.random.default_rng([seed, 40])
    y = rng.integers(0, 6, COUNT)
    x = rng.normal(0, 0.2, (COUNT, 9, 9))
    for k in range(COUNT):
        place = rng.choice(16, y[k], replace=False)
        x[k, 1 + 2 * (place // 4), 1 + 2 * (place % 4)] += 2
    return parted(standard(x)[:, None], y.astype(np.float32)[:, None])


def beats(seed: int) -> Four:
    """Three beats of a heart; the middle one may be late: float32[n,1,36], float32[n,1]."""
    rng = np.random.default_rng([seed, 41])
    late = rng.integers(0, 2, COUNT)
    first, gap = rng.uniform(3, 9, COUNT), rng.uniform(9, 12, COUNT)
    middle = first + gap + np.where(late, 3.0, 0.0)
    t = np.arange(36)
    centres = np.stack([first, middle, first + 2 * gap], 1)[:, :, None]
    x = np.exp(-(((t - centres) / 1.2) ** 2)).sum(1) + rng.normal(0, 0.1, (COUNT, 36))
    return parted(standard(x)[:, None], late.astype(np.float32)[:, None])


BINS = 24


def spectra(seed: int) -> Four:
    """Two lines of any place and height, in [0, 1]: float32[n,24] twice."""
    rng = np.random.default_rng([seed, 42])
    place, height = rng.uniform(3, 21, (COUNT, 2, 1)), rng.uniform(0.4, 1, (COUNT, 2, 1))
    lines = height * np.exp(-(((np.arange(BINS) - place) / 2.5) ** 2))
    x = np.clip(lines.max(1), 0, 1).astype(np.float32)
    return parted(x, x)


def clouds(seed: int) -> Four:
    """Sets of twelve points, how much wider than high: float32[n,12,2], float32[n,1]."""
    rng = np.random.default_rng([seed, 43])
    spread = rng.uniform(0.3, 1.6, (COUNT, 1, 2))
    x = (spread * rng.normal(size=(COUNT, 12, 2))).astype(np.float32)
    y = np.log((x[:, :, 0] ** 2).mean(1) / (x[:, :, 1] ** 2).mean(1))
    return parted(x, standard(y)[:, None])


def graphs(seed: int) -> tuple[Numbers, Numbers, Numbers, tuple[Numbers, Numbers], Numbers]:
    """Features of eight nodes and who is whose neighbour: are neighbourhoods alike?

    float32[n,8,3], float32[n,8,8], float32[n,1] of 0 and 1; the same to judge by, inputs in pairs.
    """
    rng = np.random.default_rng([seed, 44])
    x = rng.normal(size=(COUNT, 8, 3)).astype(np.float32)
    edges = np.triu(rng.random((COUNT, 8, 8)) < 0.3, 1)
    ring = np.roll(np.eye(8, dtype=bool), 1, axis=1)
    edges = (edges | edges.mT | ring | ring.T).astype(np.float32)
    means = (edges @ x[:, :, :1]) / edges.sum(2, keepdims=True)
    apart = np.abs(means).mean((1, 2))
    y = (apart > np.median(apart)).astype(np.float32)[:, None]
    return x[:TRAIN], edges[:TRAIN], y[:TRAIN], (x[TRAIN:], edges[TRAIN:]), y[TRAIN:]


def views(seed: int) -> Four:
    """Two views of the same hidden cause: float32[n,12] and float32[n,10]."""
    rng = np.random.default_rng([seed, 45])
    hidden = rng.normal(size=(COUNT, 4))
    a = np.tanh(hidden @ rng.normal(size=(4, 12))) + rng.normal(0, 0.1, (COUNT, 12))
    b = np.tanh(hidden @ rng.normal(size=(4, 10))) + rng.normal(0, 0.1, (COUNT, 10))
    return parted(standard(a), standard(b))


# ---- sequences ------------------------------------------------------------------------------


def latch(seed: int, length: int = 14) -> Four:
    """A switch that is set and reset by rare pulses: float32[n,T,2], float32[n,T,1]."""
    rng = np.random.default_rng([seed, 46])
    pulse = rng.choice([-1, 0, 1], (COUNT, length), p=[0.12, 0.76, 0.12])
    pulse[:, 0] = rng.choice([-1, 1], COUNT)
    y = pulse.copy()
    for t in range(1, length):
        y[:, t] = np.where(pulse[:, t] == 0, y[:, t - 1], pulse[:, t])
    x = np.stack([pulse, rng.normal(size=pulse.shape)], 2)
    return parted(x.astype(np.float32), y[:, :, None].astype(np.float32))


def walk(seed: int, length: int = 14) -> Four:
    """A damped oscillation, pushed at random, and its next values: float32[n,T,1] twice."""
    rng = np.random.default_rng([seed, 47])
    x = rng.normal(size=(COUNT, length + 21))
    for t in range(2, x.shape[1]):
        x[:, t] = 1.6 * x[:, t - 1] - 0.85 * x[:, t - 2] + 0.4 * x[:, t]
    x = standard(x)[:, 20:, None]
    return parted(x[:, :-1], x[:, 1:])


NOTES = 6


def tune(seed: int, length: int = 12) -> Four:
    """Notes that are one above the last but one, nine times in ten: int64[n,T] and the next."""
    rng = np.random.default_rng([seed, 48])
    notes = rng.integers(0, NOTES, (COUNT, length + 1))
    for t in range(2, length + 1):
        right = (notes[:, t - 2] + 1) % NOTES
        notes[:, t] = np.where(rng.random(COUNT) < 0.9, right, notes[:, t])
    return parted(notes[:, :-1], notes[:, 1:])


KEYS, VALUES = 8, 4


def lookup(seed: int, pairs: int = 5) -> Four:
    """Five keys, their values, and a key of which the value is asked: int64[n,11], int64[n]."""
    rng = np.random.default_rng([seed, 49])
    keys = rng.permuted(np.tile(np.arange(KEYS), (COUNT, 1)), axis=1)[:, :pairs]
    values = rng.integers(0, VALUES, (COUNT, pairs))
    rows, asked = np.arange(COUNT), rng.integers(0, pairs, COUNT)
    x = np.concatenate([keys, values, keys[rows, asked][:, None]], 1)
    return parted(x, values[rows, asked])


# ---- judging --------------------------------------------------------------------------------


def found(embed: Callable[..., Any], a: Numbers, b: Numbers) -> Callable[..., float]:
    """How often the nearest of the first 64 second views is the right one."""

    def score(model: Any) -> float:
        p, q = (np.asarray(z, np.float64) for z in embed(model, a[:64], b[:64]))
        if not (np.isfinite(p).all() and np.isfinite(q).all()):
            return float("nan")
        p, q = (z / (np.linalg.norm(z, axis=1, keepdims=True) + 1e-12) for z in (p, q))
        return float(((p @ q.T).argmax(1) == np.arange(64)).mean())

    return score
