"""Healthy programs are left in peace: no error and no warning from any of the questions."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from pullback import nn
from pullback.bench.models import CNN, GPT, LSTM, MLP, ResNet, ViT
from pullback.inspect import births, hazards
from pullback.transforms.tree import map_leaves

NETWORKS = {
    "MLP": MLP((20, 16, 16, 5), 8),
    "CNN": CNN((4, 8), 16, 8, batch=4),
    "ResNet": ResNet(1, (4, 8, 8), side=8, batch=4),
    "GPT": GPT(2, 16, 2, 8, 20, batch=3),
    "half GPT": GPT(2, 16, 2, 8, 20, batch=3, half=True),
    "ViT": ViT(2, 16, 2, 16, 4, batch=4),
    "LSTM": LSTM(5, 8, 6, 4),
}


def single(tree):
    return map_leaves(lambda x: x.astype(np.float32) if x.dtype.kind == "f" else x, tree)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name):
    model, rng = NETWORKS[name], np.random.default_rng(0)
    args = single(model.parameters(rng)), *single(model.examples(rng))
    for report in (
        hazards(model.loss, *args),
        births(model.loss, *args),
        pb.explain(model.loss, *args),
    ):
        assert not report.findings, str(report)


# ---- losses as people write them ------------------------------------------------------------

rng = np.random.default_rng(0)
W, V = rng.normal(size=(6, 4)) / 3, rng.normal(size=(4, 4)) / 3
X, Y = rng.normal(size=(8, 6)), rng.normal(size=8)
CLASSES = rng.integers(0, 4, 8)
P = {"w": W, "v": V, "scale": np.array(0.5)}


def hand_layer_norm(p, x, y):
    h = x @ p["w"]
    centred = h - pb.mean(h, axis=1, keepdims=True)
    deviation = pb.sqrt(pb.mean(centred**2, axis=1, keepdims=True) + 1e-5)
    return pb.mean((centred / deviation) ** 4)


def cosine(p, x, y):
    a, b = x @ p["w"], (x + 1.0) @ p["w"]
    lengths = pb.sqrt(pb.sum(a * a, axis=1) + 1e-8) * pb.sqrt(pb.sum(b * b, axis=1) + 1e-8)
    return -pb.mean(pb.sum(a * b, axis=1) / lengths)


def unit_vectors(p, x, y):
    h = x @ p["w"]
    h = h / (pb.linalg.vector_norm(h, axis=1, keepdims=True) + 1e-6)
    return pb.mean(h @ h.T)


def variational(p, x, y):
    mean, log_variance = x @ p["w"], pb.tanh(x @ p["w"]) @ p["v"]
    key = pb.random.key(0)
    z = mean + pb.exp(0.5 * log_variance) * pb.random.normal(key, mean.shape, mean.dtype)
    divergence = 0.5 * pb.sum(pb.exp(log_variance) + mean**2 - 1.0 - log_variance, axis=1)
    return pb.mean((pb.sum(z, axis=1) - y) ** 2) + pb.mean(divergence)


def adversarial(p, x, y):
    return -pb.mean(nn.log_sigmoid(x @ p["w"])) - pb.mean(nn.log_sigmoid(-(x + 2.0) @ p["w"]))


def policy_gradient(p, x, y):
    advantage = (y - pb.mean(y)) / (pb.std(y) + 1e-8)
    chosen = pb.take_along_axis(pb.log_softmax(x @ p["w"]), pb.asarray(CLASSES)[:, None], axis=1)
    return -pb.mean(chosen[:, 0] * pb.stop_gradient(advantage))


def entropy(p, x, y):
    logits = x @ p["w"]
    return pb.mean(pb.sum(pb.softmax(logits) * pb.log_softmax(logits), axis=1))


def contrastive(p, x, y):
    h = x @ p["w"]
    h = h / pb.sqrt(pb.sum(h * h, axis=1, keepdims=True) + 1e-12)
    return nn.cross_entropy(h @ h.T / 0.07, pb.arange(8))


def triplet(p, x, y):
    a, b, c = x @ p["w"], (x * 2.0) @ p["w"], (x - 1.0) @ p["w"]
    return pb.mean(nn.relu(pb.sum((a - b) ** 2, axis=1) - pb.sum((a - c) ** 2, axis=1) + 1.0))


def gaussian_likelihood(p, x, y):
    mean, spread = (x @ p["w"])[:, 0], nn.softplus((x @ p["w"])[:, 1]) + 1e-3
    return pb.mean(pb.log(spread) + 0.5 * ((y - mean) / spread) ** 2)


def masked_attention(p, x, y):
    q = x @ p["w"]
    seen = pb.asarray(np.tril(np.ones((8, 8), bool)))
    scores = pb.where(seen, q @ q.T / 2.0, -np.inf)
    return pb.mean((pb.softmax(scores) @ q) ** 2)


def mixture(p, x, y):
    weights, means = pb.log_softmax(x @ p["w"]), (x @ p["w"]) @ p["v"]
    return -pb.mean(pb.logsumexp(weights - 0.5 * (y[:, None] - means) ** 2, axis=1))


def poisson(p, x, y):
    rate = pb.exp(x @ p["w"])
    return pb.mean(rate - pb.round(pb.abs(y))[:, None] * (x @ p["w"]))


def recurrent(p, x, y):
    def turn(h, row):
        h = pb.tanh(row @ p["w"] + h @ p["v"])
        return h, h

    return pb.mean((pb.scan(turn, pb.zeros(4, dtype=pb.float64), x)[1]) ** 2)


def regularised(p, x, y):
    return nn.cross_entropy(x @ p["w"], CLASSES) + 1e-4 * sum(pb.sum(q**2) for q in p.values())


def quantised(p, x, y):
    h = x @ p["w"]
    return pb.mean((pb.straight_through(pb.round(h), h) @ p["v"]) ** 2)


def harmonic(p, x, y):
    rate = 1.0 / (1.0 + pb.exp(-(x @ p["w"])))
    return pb.mean(rate**2)


def pairwise_distances(p, x, y):
    h = x @ p["w"]
    d = h[:, None, :] - h[None, :, :]
    return pb.mean(pb.sqrt(pb.sum(d * d, axis=-1) + 1e-9))


def clipped_ratio(p, x, y):
    ratio = pb.exp(pb.clip((x @ p["w"])[:, 0], -5.0, 5.0))
    return -pb.mean(pb.minimum(ratio * y, pb.clip(ratio, 0.8, 1.2) * y))


def gates(p, x, y):
    gate = pb.sigmoid(x @ p["w"])
    return pb.mean((gate * (x @ p["w"]) + (1.0 - gate)) ** 2)


LOSSES = [
    hand_layer_norm,
    cosine,
    unit_vectors,
    variational,
    adversarial,
    policy_gradient,
    entropy,
    contrastive,
    triplet,
    gaussian_likelihood,
    masked_attention,
    mixture,
    poisson,
    recurrent,
    regularised,
    quantised,
    harmonic,
    pairwise_distances,
    clipped_ratio,
    gates,
]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.__name__)
def test_losses(loss):
    for report in (hazards(loss, P, X, Y), births(loss, P, X, Y)):
        assert not report.alarms, str(report)
    explained = pb.explain(loss, {**P}, X, Y)
    used = [x for x in explained.findings if "never used" not in x.what]
    assert not used, str(explained)
