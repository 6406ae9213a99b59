"""Small tasks: arrays to train on, arrays to judge by. All from a seed, all within a second."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import pullback as pb

Numbers = np.ndarray[Any, Any]
Four = tuple[Numbers, Numbers, Numbers, Numbers]
"""Inputs and targets to train on, inputs and targets to judge by."""


def digits(seed: int) -> Four:
    """Handwritten digits, float32[n,64] in [0, 1] and int64[n] of ten classes."""
    data = pb.data.digits()
    order = np.random.default_rng(seed).permutation(len(data))
    x, y = data.images.reshape(-1, 64)[order], data.labels[order]
    return x[:1280], y[:1280], x[1280:], y[1280:]


def standard_digits(seed: int) -> Four:
    """Digits with mean 0 and variance 1 over all pixels."""
    x, y, x_valid, y_valid = digits(seed)
    mean, std = x.mean(), x.std()
    return (x - mean) / std, y, (x_valid - mean) / std, y_valid


def images(seed: int) -> Four:
    """Digits as float32[n,1,8,8]."""
    x, y, x_valid, y_valid = standard_digits(seed)
    return x.reshape(-1, 1, 8, 8), y, x_valid.reshape(-1, 1, 8, 8), y_valid


def spirals(seed: int) -> Four:
    """Three arms in the plane: no line parts them."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, 1600)
    r = rng.uniform(0.1, 1, 1600)
    angle = 4 * r + y * 2 * np.pi / 3 + rng.normal(0, 0.12, 1600)
    x = (2 * r[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)).astype(np.float32)
    return x[:1280], y[:1280], x[1280:], y[1280:]


def moons(seed: int) -> Four:
    """Two half circles; targets float32[n,1] of 0 and 1."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, 1600)
    angle = rng.uniform(0, np.pi, 1600)
    x = np.stack([np.cos(angle), np.sin(angle)], 1)
    x = np.where(y[:, None] == 1, [1, 0.5] - x, x) + rng.normal(0, 0.1, (1600, 2))
    x = ((x - x.mean(0)) / x.std(0)).astype(np.float32)
    t = y[:, None].astype(np.float32)
    return x[:1280], t[:1280], x[1280:], t[1280:]


def wave(seed: int) -> Four:
    """y = sin 2x₀ + x₁ x₂ + noise, float32[n,1], of variance 1."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1600, 4)).astype(np.float32)
    y = np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + rng.normal(0, 0.1, 1600)
    y = ((y - y.mean()) / y.std()).astype(np.float32)[:, None]
    return x[:1280], y[:1280], x[1280:], y[1280:]


def plane(seed: int) -> Four:
    """A linear function of eight features, with noise; float32[n,1]."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1600, 8)).astype(np.float32)
    y = x @ rng.normal(size=8) + rng.normal(0, 0.2, 1600)
    y = ((y - y.mean()) / y.std()).astype(np.float32)[:, None]
    return x[:1280], y[:1280], x[1280:], y[1280:]


def rates(seed: int) -> Four:
    """The rate of a Poisson process, a function of four features; float32[n,1]."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1600, 4)).astype(np.float32)
    rate = np.exp(0.8 * np.sin(x[:, :1]) + 0.5 * x[:, 1:2] + 0.5).astype(np.float32)
    return x[:1280], rate[:1280], x[1280:], rate[1280:]


def recall(seed: int, length: int = 12) -> Four:
    """Which of four symbols came first, before noise: float32[n,T,5] and int64[n]."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, 1600)
    x = np.zeros((1600, length, 5), np.float32)
    x[np.arange(1600), 0, y] = 1.0
    x[:, 1:, 4] = rng.normal(size=(1600, length - 1))
    return x[:1280], y[:1280], x[1280:], y[1280:]


def running(seed: int, length: int = 12) -> Four:
    """A decaying mean of a sequence: float32[n,T,1] and float32[n,1]."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1600, length, 1)).astype(np.float32)
    y = x[:, :, 0] @ (0.8 ** np.arange(length)[::-1])
    y = (y / y.std()).astype(np.float32)[:, None]
    return x[:1280], y[:1280], x[1280:], y[1280:]


WORDS = 12


def chain(seed: int, length: int = 12) -> Four:
    """Words of a chain: the next one is a function of the last, four times in five.

    int64[n,T] and the words shifted by one.
    """
    rng = np.random.default_rng(seed)
    follows = np.roll(rng.permutation(WORDS), 1)
    words = np.zeros((1600, length + 1), np.int64)
    words[:, 0] = rng.integers(0, WORDS, 1600)
    for t in range(length):
        drawn = rng.integers(0, WORDS, 1600)
        words[:, t + 1] = np.where(rng.random(1600) < 0.8, follows[words[:, t]], drawn)
    x, y = words[:, :-1], words[:, 1:]
    return x[:1280], y[:1280], x[1280:], y[1280:]


def majority(seed: int, length: int = 15) -> Four:
    """Which of three words is the most frequent in a sentence; int64[n,T] and int64[n]."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, 1600)
    favourite = rng.random((1600, length)) < 0.35
    x = np.where(favourite, y[:, None], rng.integers(0, WORDS, (1600, length)))
    return x[:1280], y[:1280], x[1280:], y[1280:]


# ---- judging --------------------------------------------------------------------------------

Predict = Callable[..., Any]


def accuracy(predict: Predict, x: Numbers, y: Numbers) -> Callable[..., float]:
    """Share of the classes that `predict(model, x)`, rows of scores, has right."""

    def score(model: Any) -> float:
        scores = np.asarray(predict(model, x), np.float64)
        right = (scores.argmax(-1) == y).mean()
        return float(right) if np.isfinite(scores).all() else float("nan")

    return score


def binary_accuracy(predict: Predict, x: Numbers, y: Numbers) -> Callable[..., float]:
    """The same of one logit a sample."""

    def score(model: Any) -> float:
        logits = np.asarray(predict(model, x), np.float64)
        right = ((logits > 0) == (y > 0.5)).mean()
        return float(right) if np.isfinite(logits).all() else float("nan")

    return score


def r_squared(predict: Predict, x: Numbers, y: Numbers) -> Callable[..., float]:
    """1 - mean squared error / variance of the targets; at least -1."""

    def score(model: Any) -> float:
        error = np.asarray(predict(model, x), np.float64).reshape(y.shape) - y
        return max(-1.0, float(1 - (error**2).mean() / y.var()))

    return score
