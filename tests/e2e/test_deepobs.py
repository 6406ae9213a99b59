"""The problem `quadratic_deep` of DeepOBS (Schneider, Balles & Hennig 2019), as published.

½ (θ − x)ᵀ Q (θ − x), x ~ N(0, 0.6²) in 100 dimensions; 90 eigenvalues of Q lie in (0, 1), 10 in
(30, 60), as those of a deep network's Hessian. Its numbers were published for Adam, ten seeds.
"""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb

SIZE, BATCH, POINTS = 100, 128, 1000
PUBLISHED = {1: 141.82, 2: 110.83, 5: 101.35, 10: 94.73, 20: 89.90}


def rotation(rng):
    """A rotation drawn by the subgroup algorithm (Diaconis & Shahshahani 1987)."""
    angle = 2 * np.pi * rng.uniform()
    turned = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    for n in range(3, SIZE + 1):
        direction = rng.normal(size=n)
        mirror = np.eye(n)[0] - direction / np.linalg.norm(direction)
        mirror /= np.linalg.norm(mirror)
        grown = np.eye(n)
        grown[1:, 1:] = turned
        turned = grown - 2 * np.outer(mirror, mirror @ grown)
    return -turned


def hessian():
    rng = np.random.RandomState(42)
    eigenvalues = np.concatenate([rng.uniform(0, 1, 90), rng.uniform(30, 60, 10)])
    turned = rotation(rng)
    return (turned.T @ (eigenvalues[:, None] * turned)).astype(np.float32)


def points(seed):
    return np.random.RandomState(seed).normal(0, 0.6, (POINTS, SIZE)).astype(np.float32)


def batches(x):
    return [x[i : i + BATCH] for i in range(0, POINTS - BATCH + 1, BATCH)]


Q = hessian()


def loss(theta, x):
    away = theta - x
    return 0.5 * pb.mean(pb.sum((away @ Q) * away, axis=1))


def measured(theta):
    return np.mean([loss(theta, x).item() for x in batches(points(43))])


def test_the_first_loss_to_every_digit():
    assert f"{measured(np.ones(SIZE, np.float32)):.4f}" == "353.4468"


@pytest.mark.parametrize("seed", range(3))
def test_adam_reaches_what_was_published(seed):
    optimizer = pb.optim.adam(0.0398107)
    step = pb.train.train_step(loss, optimizer)
    state = pb.train.TrainState.create(pb.ones(SIZE), optimizer)
    rng = np.random.default_rng(seed)
    found = {}
    for epoch in range(1, max(PUBLISHED) + 1):
        for x in batches(points(42)[rng.permutation(POINTS)]):
            state, _ = step(state, x)
        if epoch in PUBLISHED:
            found[epoch] = measured(state.model)
    assert found == pytest.approx(PUBLISHED, abs=1.0)
