"""Small tasks of the fresh set: arrays to train on and to judge by, each drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from benchmarks.faults.data import Four, Numbers

TRAIN = 1280
COUNT = 1600


def parted(x: Numbers, y: Numbers) -> Four:
    return x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:]


def standard(y: Numbers) -> Numbers:
    return ((y - y.mean()) / y.std()).astype(np.float32)


# ---- points and tables ----------------------------------------------------------------------


def rings(seed: int) -> Four:
    """Four rings about the origin, float32[n,2] and int64[n]."""
    rng = np.random.default_rng([seed, 1])
    y = rng.integers(0, 4, COUNT)
    r = 0.4 + 0.5 * y + rng.normal(0, 0.07, COUNT)
    angle = rng.uniform(0, 2 * np.pi, COUNT)
    x = np.stack([r * np.cos(angle), r * np.sin(angle)], 1).astype(np.float32)
    return parted(x, y)


def clusters(seed: int) -> Four:
    """A table of twelve columns, five classes of three clusters each."""
    rng = np.random.default_rng([seed, 2])
    centres = rng.normal(0, 1.3, (15, 12))
    which = rng.integers(0, 15, COUNT)
    x = centres[which] + rng.normal(0, 0.9, (COUNT, 12))
    return parted(standard(x), which % 5)


def rare(seed: int) -> Four:
    """The same table; one cluster of the fifteen is wanted. float32[n,1] of 0 and 1."""
    rng = np.random.default_rng([seed, 3])
    centres = rng.normal(0, 1.3, (15, 12))
    which = rng.integers(0, 15, COUNT)
    x = centres[which] + rng.normal(0, 0.7, (COUNT, 12))
    return parted(standard(x), (which == 0).astype(np.float32)[:, None])


def friedman(seed: int) -> Four:
    """Friedman's first function of five of ten features; float32[n,1]."""
    rng = np.random.default_rng([seed, 4])
    x = rng.uniform(0, 1, (COUNT, 10))
    y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2
    y = y + 10 * x[:, 3] + 5 * x[:, 4] + rng.normal(0, 0.5, COUNT)
    return parted(((x - 0.5) * 12**0.5).astype(np.float32), standard(y)[:, None])


def curve(seed: int) -> Four:
    """A function of one number, with three periods; float32[n,1]."""
    rng = np.random.default_rng([seed, 5])
    x = rng.uniform(-1.7, 1.7, (COUNT, 1))
    y = np.sin(4 * x) + 0.5 * x + rng.normal(0, 0.1, x.shape)
    return parted(x.astype(np.float32), standard(y))


def amounts(seed: int) -> Four:
    """Amounts of money, from a few to thousands, and many zeros; float32[n,1]."""
    rng = np.random.default_rng([seed, 6])
    x = rng.normal(size=(COUNT, 6)).astype(np.float32)
    y = np.maximum(x[:, 0] + x[:, 1] * x[:, 2] + 0.5 * np.sin(2 * x[:, 3]), 0)
    return parted(x, y.astype(np.float32)[:, None])


USERS, ITEMS = 40, 30


def ratings(seed: int) -> Four:
    """Marks from 1 to 5 that users gave to items: int64[n,2] and float32[n,1]."""
    rng = np.random.default_rng([seed, 7])
    users, items = rng.normal(size=(USERS, 2)), rng.normal(size=(ITEMS, 2))
    x = np.stack([rng.integers(0, USERS, COUNT), rng.integers(0, ITEMS, COUNT)], 1)
    y = 3 + (users[x[:, 0]] * items[x[:, 1]]).sum(1) + rng.normal(0, 0.1, COUNT)
    return parted(x, np.clip(y, 1, 5).astype(np.float32)[:, None])


def manifold(seed: int) -> Four:
    """Twenty columns that are functions of three hidden ones; the targets are the inputs."""
    rng = np.random.default_rng([seed, 8])
    hidden = rng.normal(size=(COUNT, 3))
    x = np.tanh(hidden @ rng.normal(size=(3, 12))) @ rng.normal(size=(12, 20))
    x = standard(x + rng.normal(0, 0.1, x.shape))
    return parted(x, x)


ACTIONS = 4


def bandit(seed: int) -> tuple[Numbers, Numbers, Numbers, Numbers, Numbers]:
    """Contexts, actions that were tried at random, their rewards; contexts and best actions."""
    rng = np.random.default_rng([seed, 9])
    x = rng.normal(size=(COUNT, 6)).astype(np.float32)
    best = (x @ rng.normal(size=(6, ACTIONS))).argmax(1)
    action = rng.integers(0, ACTIONS, COUNT)
    reward = (action == best) + rng.normal(0, 0.2, COUNT)
    return x[:TRAIN], action[:TRAIN], standard(reward)[:TRAIN], x[TRAIN:], best[TRAIN:]


# ---- images and curves ----------------------------------------------------------------------


def shapes(seed: int) -> Four:
    """A frame, a cross, a diagonal or a disc somewhere in noise: float32[n,1,10,10], int64[n]."""
    rng = np.random.default_rng([seed, 10])
    i, j = np.mgrid[:5, :5]
    frame = (i == 0) | (i == 4) | (j == 0) | (j == 4)
    drawn = np.stack([frame, (i == 2) | (j == 2), i == j, (i - 2) ** 2 + (j - 2) ** 2 < 5])
    y = rng.integers(0, 4, COUNT)
    x = rng.normal(0, 0.25, (COUNT, 1, 10, 10))
    for k, (a, b) in enumerate(rng.integers(0, 6, (COUNT, 2))):
        x[k, 0, a : a + 5, b : b + 5] += drawn[y[k]]
    return parted(standard(x), y)


def boxes(seed: int) -> Four:
    """A bright box in noise, and its pixels: float32[n,1,10,10] twice."""
    rng = np.random.default_rng([seed, 11])
    y = np.zeros((COUNT, 1, 10, 10), np.float32)
    for k, (a, b, h, w) in enumerate(rng.integers([0, 0, 3, 3], [5, 5, 6, 6], (COUNT, 4))):
        y[k, 0, a : a + h, b : b + w] = 1
    return parted(standard(y + rng.normal(0, 0.6, y.shape)), y)


def tones(seed: int) -> Four:
    """A sine, a square or a saw tooth of any phase: float32[n,1,32] and int64[n]."""
    rng = np.random.default_rng([seed, 12])
    y = rng.integers(0, 3, COUNT)
    phase = rng.uniform(0, 1, (COUNT, 1)) + np.arange(32) * rng.uniform(0.05, 0.1, (COUNT, 1))
    forms = [1.4 * np.sin(2 * np.pi * phase), np.sign(np.sin(2 * np.pi * phase))]
    forms.append(3.4 * (phase % 1) - 1.7)
    x = np.stack(forms)[y, np.arange(COUNT)] + rng.normal(0, 0.3, (COUNT, 32))
    return parted(standard(x)[:, None, :], y)


# ---- sequences ------------------------------------------------------------------------------


def adding(seed: int, length: int = 10) -> Four:
    """The sum of the two numbers that are marked: float32[n,T,2] and float32[n,1]."""
    rng = np.random.default_rng([seed, 13])
    x = np.zeros((COUNT, length, 2), np.float32)
    x[:, :, 0] = rng.normal(size=(COUNT, length))
    half = length // 2
    rows = np.arange(COUNT)
    x[rows, rng.integers(0, half, COUNT), 1] = 1
    x[rows, rng.integers(half, length, COUNT), 1] = 1
    return parted(x, standard((x[:, :, 0] * x[:, :, 1]).sum(1))[:, None])


def series(seed: int, length: int = 16) -> Four:
    """A noisy oscillation and its next value: float32[n,T,1] and float32[n,1]."""
    rng = np.random.default_rng([seed, 14])
    t = np.arange(length + 1)
    speed, phase = rng.uniform(0.3, 1.2, (COUNT, 1)), rng.uniform(0, 2 * np.pi, (COUNT, 1))
    x = 1.4 * np.sin(speed * t + phase) + rng.normal(0, 0.05, (COUNT, length + 1))
    x = x.astype(np.float32)
    return parted(x[:, :-1, None], x[:, -1:])


TOKENS = 10


def order(seed: int, length: int = 10) -> Four:
    """Whether word 8 comes before word 9: int64[n,T] and float32[n,1] of 0 and 1."""
    rng = np.random.default_rng([seed, 15])
    x = rng.integers(0, 8, (COUNT, length))
    places = np.array([rng.choice(length, 2, replace=False) for _ in range(COUNT)])
    x[np.arange(COUNT), places[:, 0]], x[np.arange(COUNT), places[:, 1]] = 8, 9
    return parted(x, (places[:, 0] < places[:, 1]).astype(np.float32)[:, None])


def marked(seed: int, length: int = 10) -> Four:
    """The word that follows the mark 9 is the class: int64[n,T] and int64[n]."""
    rng = np.random.default_rng([seed, 16])
    x = rng.integers(0, 9, (COUNT, length))
    place = rng.integers(0, length - 1, COUNT)
    x[np.arange(COUNT), place] = 9
    y = rng.integers(0, 4, COUNT)
    x[np.arange(COUNT), place + 1] = y
    return parted(x, y)


def topics(seed: int, length: int = 14) -> Four:
    """Sentences of three topics, 0 where there is no word: int64[n,T] and int64[n]."""
    rng = np.random.default_rng([seed, 17])
    y = rng.integers(0, 3, COUNT)
    own = rng.random((COUNT, length)) < 0.5
    x = np.where(own, 1 + 3 * y[:, None] + rng.integers(0, 3, own.shape), 0)
    x = np.where(own, x, rng.integers(1, TOKENS, own.shape))
    lengths = rng.integers(6, length + 1, (COUNT, 1))
    return parted(np.where(np.arange(length) < lengths, x, 0), y)


MODULUS = 5


def sums(seed: int, length: int = 12) -> Four:
    """Each word is the sum of the two before it, nine times in ten: int64[n,T] and the next."""
    rng = np.random.default_rng([seed, 18])
    words = rng.integers(0, MODULUS, (COUNT, length + 1))
    for t in range(2, length + 1):
        right = (words[:, t - 1] + words[:, t - 2]) % MODULUS
        words[:, t] = np.where(rng.random(COUNT) < 0.9, right, words[:, t])
    return parted(words[:, :-1], words[:, 1:])


# ---- judging --------------------------------------------------------------------------------


def balanced(predict: Callable[..., Any], x: Numbers, y: Numbers) -> Callable[..., float]:
    """The mean of the two shares of right answers, of samples that are wanted and that are not."""

    def score(model: Any) -> float:
        logits = np.asarray(predict(model, x), np.float64)
        if not np.isfinite(logits).all():
            return float("nan")
        return float(((logits > 0)[y == 1].mean() + (logits <= 0)[y == 0].mean()) / 2)

    return score


def next_word(predict: Callable[..., Any], x: Numbers, y: Numbers) -> Callable[..., float]:
    """Accuracy of the next word, each from a prefix: no word can be read before it is said."""
    places = (4, 7, 10)

    def score(model: Any) -> float:
        right = []
        for t in places:
            prefix = np.where(np.arange(x.shape[1]) <= t, x, 0)
            scores = np.asarray(predict(model, prefix), np.float64)[:, t]
            if not np.isfinite(scores).all():
                return float("nan")
            right.append((scores.argmax(-1) == y[:, t]).mean())
        return float(np.mean(right))

    return score
