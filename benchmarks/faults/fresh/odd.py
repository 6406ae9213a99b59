"""Programs with nothing wrong that look as if there were: odd data, odd losses, odd steps."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.fresh import tasks
from benchmarks.faults.fresh.healthy import binary_loss, call, class_loss, square_loss
from benchmarks.faults.program import Setup, healthy

import pullback as pb
from pullback import nn


@healthy("topics_counts")
def topics_counts(seed: int) -> Setup:
    """How often each word comes, as a logarithm: many entries are 0."""
    x, y, x_valid, y_valid = tasks.topics(seed)
    counts, valid = [np.log1p(np.eye(10)[z].sum(1)).astype(np.float32) for z in (x, x_valid)]
    model = nn.MLP(10, 3, 32, 1, key=pb.random.key(seed))
    score = data.accuracy(call, valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(1e-2), (counts, y), score)


@healthy("ratings_one_hot")
def ratings_one_hot(seed: int) -> Setup:
    """Seventy columns of 0 and 1, two of which are 1 in a row; all weights start at 0 but one."""
    x, y, x_valid, y_valid = tasks.ratings(seed)

    def hot(z: Any) -> Any:
        parts = [np.eye(tasks.USERS)[z[:, 0]], np.eye(tasks.ITEMS)[z[:, 1]]]
        return np.concatenate(parts, 1).astype(np.float32)

    keys = pb.random.split(pb.random.key(seed), 2)
    start = partial(nn.init.normal, std=0.2)
    model = {
        "factors": nn.Linear(70, 6, use_bias=False, key=keys[0], initializer=start),
        "line": nn.Linear(70, 1, key=keys[1], initializer=nn.init.zeros),
    }

    def predict(model, x):
        """A factorisation machine."""
        whole = model["factors"](x) ** 2
        own = (x * x) @ (model["factors"].weight.T ** 2)
        return 3 + model["line"](x) + pb.sum(whole - own, axis=1, keepdims=True) / 2

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)

    score = data.r_squared(predict, hot(x_valid), y_valid)
    return Setup(model, loss, pb.optim.adam(2e-2), (hot(x), y), score, batch=32, steps=400)


@healthy("friedman_likelihood")
def friedman_likelihood(seed: int) -> Setup:
    """A mean and a spread: the loss falls below 0, as densities may."""
    x, y, x_valid, y_valid = tasks.friedman(seed)
    model = nn.MLP(10, 2, 64, 2, nn.gelu, key=pb.random.key(seed))

    def loss(model, x, y):
        out = model(x)
        spread = nn.softplus(out[:, 1:]) + 1e-3
        return pb.mean(pb.log(spread) + 0.5 * ((y - out[:, :1]) / spread) ** 2)

    score = data.r_squared(lambda model, x: model(x)[:, :1], x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score, steps=300)


@healthy("curve_mixture")
def curve_mixture(seed: int) -> Setup:
    """A mixture of three normal densities: a logarithm of a sum of powers of e."""
    x, y, x_valid, y_valid = tasks.curve(seed)
    model = nn.MLP(1, 9, 48, 2, nn.silu, key=pb.random.key(seed))

    def parts(model, x):
        out = model(x)
        return pb.log_softmax(out[:, :3]), out[:, 3:6], pb.clip(out[:, 6:], -4.0, 4.0)

    def loss(model, x, y):
        log_share, mean, log_spread = parts(model, x)
        log_density = -log_spread - 0.5 * ((y - mean) * pb.exp(-log_spread)) ** 2
        return -pb.mean(pb.logsumexp(log_share + log_density, axis=1))

    def expected(model, x):
        log_share, mean, _ = parts(model, x)
        return pb.sum(pb.exp(log_share) * mean, axis=1, keepdims=True)

    score = data.r_squared(expected, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1.5e-2), (x, y), score, batch=128, steps=500)


@healthy("curve_whole")
def curve_whole(seed: int) -> Setup:
    """All samples in each step, momentum, a rate at which the loss does not fall evenly."""
    x, y, x_valid, y_valid = tasks.curve(seed)
    model = nn.MLP(1, 1, 48, 2, pb.tanh, key=pb.random.key(seed))
    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.04, momentum=0.9)
    return Setup(model, square_loss, optimizer, (x, y), score, batch=1280, steps=500)


@healthy("clusters_in_order")
def clusters_in_order(seed: int) -> Setup:
    """Not shuffled, and it need not be: rows were drawn at random. One column is constant."""
    x, y, x_valid, y_valid = tasks.clusters(seed)
    x, x_valid = [np.concatenate([z, np.ones_like(z[:, :1])], 1) for z in (x, x_valid)]
    model = nn.MLP(13, 5, 80, 1, nn.gelu, key=pb.random.key(seed))
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.adagrad(0.05)
    return Setup(model, class_loss, optimizer, (x, y), score, batch=40, shuffle=False)


@healthy("rare_focal")
def rare_focal(seed: int) -> Setup:
    """The focal loss, whose first value is small; one sample in fifteen is wanted."""
    x, y, x_valid, y_valid = tasks.rare(seed)
    model = nn.MLP(12, 1, 64, 1, nn.silu, key=pb.random.key(seed))

    def loss(model, x, y):
        return nn.focal(model(x), y, gamma=2.0, alpha=0.75)

    score = tasks.balanced(call, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score)


@healthy("rings_noisy")
def rings_noisy(seed: int) -> Setup:
    """Fresh noise on the inputs in each step; a third of the labels is wrong."""
    x, y, x_valid, y_valid = tasks.rings(seed)
    rng = np.random.default_rng([seed, 41])
    y = np.where(rng.random(len(y)) < 0.33, rng.integers(0, 4, len(y)), y)
    model = nn.MLP(2, 4, 40, 2, nn.silu, key=pb.random.key(seed))

    def loss(model, x, y, key):
        noise = 0.05 * pb.random.normal(key, x.shape)
        return nn.cross_entropy(model(x + noise), y)

    score = data.accuracy(call, x_valid, y_valid)
    key = pb.random.key(seed + 1)
    return Setup(model, loss, pb.optim.adam(8e-3), (x, y), score, batch=64, steps=300, key=key)


@healthy("digits_pairs")
def digits_pairs(seed: int) -> Setup:
    """Whether two images show one digit: distances with an eps under the root, a margin."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    rng = np.random.default_rng([seed, 42])
    other = rng.permutation(len(x))
    near = rng.random(len(x)) < 0.5
    own = np.array([rng.choice(np.flatnonzero(y == label)) for label in y])
    other = np.where(near, own, other)
    same = (y == y[other]).astype(np.float32)
    model = nn.MLP(64, 8, 64, 1, key=pb.random.key(seed))

    def loss(model, a, b, same):
        d = model(a) - model(b)
        distance = pb.sqrt(pb.sum(d * d, axis=1) + 1e-6)
        return pb.mean(same * distance**2 + (1 - same) * nn.relu(3 - distance) ** 2)

    def nearest(model, points):
        a, b = np.asarray(model(x)), np.asarray(model(points))
        return np.eye(10)[y[((b[:, None] - a[None]) ** 2).sum(-1).argmin(1)]]

    score = data.accuracy(nearest, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(2e-3), (x, x[other], same), score, steps=300)


@healthy("digits_experts")
def digits_experts(seed: int) -> Setup:
    """Four experts and a gate that shares the samples out among them."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    keys = pb.random.split(pb.random.key(seed), 5)
    model = {
        "gate": nn.Linear(64, 4, key=keys[0]),
        "experts": [nn.MLP(64, 10, 24, 1, key=key) for key in keys[1:]],
    }

    def predict(model, x):
        share = pb.softmax(model["gate"](x), axis=-1)
        out = pb.stack([expert(x) for expert in model["experts"]], axis=1)
        return pb.sum(share[:, :, None] * out, axis=1)

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adamw(5e-3), (x, y), score, batch=32)


@healthy("series_dilated")
def series_dilated(seed: int) -> Setup:
    """Convolutions over time that look back one, two and four steps."""
    x, y, x_valid, y_valid = tasks.series(seed)
    keys = pb.random.split(pb.random.key(seed), 4)
    model = {
        "convs": [
            nn.Conv1d(1 if i == 0 else 12, 12, 2, dilation=2**i, key=keys[i]) for i in range(3)
        ],
        "head": nn.Linear(12, 1, key=keys[3]),
    }

    def predict(model, x):
        h = pb.permute_dims(x, (0, 2, 1))
        for conv in model["convs"]:
            h = nn.silu(conv(h))
        return model["head"](h[:, :, -1])

    def loss(model, x, y):
        return nn.mse(predict(model, pb.asarray(x)), y)

    score = data.r_squared(lambda model, x: predict(model, pb.asarray(x)), x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score, batch=32)


@healthy("order_both_ways")
def order_both_ways(seed: int) -> Setup:
    """Read forwards and backwards: the whole sentence is there, so nothing is a secret."""
    x, y, x_valid, y_valid = tasks.order(seed)
    keys = pb.random.split(pb.random.key(seed), 4)
    model = {
        "words": nn.Embedding(tasks.TOKENS, 12, key=keys[0], initializer=nn.init.normal),
        "forwards": nn.GRU(12, 16, key=keys[1]),
        "backwards": nn.GRU(12, 16, reverse=True, key=keys[2]),
        "head": nn.Linear(32, 1, key=keys[3]),
    }

    def predict(model, x):
        h = model["words"](x)
        ends = [model["forwards"](h)[1], model["backwards"](h)[1]]
        return model["head"](pb.concat(ends, axis=1))

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(predict(model, x), y)

    score = data.binary_accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score, batch=32)


@healthy("rare_linear")
def rare_linear(seed: int) -> Setup:
    """A squared margin on squares of the columns, weights from 0: the problem is convex."""
    x, y, x_valid, y_valid = tasks.rare(seed)

    def squares(z: Any) -> Any:
        pairs = (z[:, :, None] * z[:, None, :])[:, *np.triu_indices(12)]
        return np.concatenate([z, pairs], 1).astype(np.float32)

    params = {"w": pb.zeros((90, 1)), "b": pb.zeros((1,))}

    def predict(params, x):
        return x @ params["w"] + params["b"]

    def loss(params, x, sign):
        margin = nn.relu(1 - sign * predict(params, x))
        weight = pb.where(sign > 0, 10.0, 1.0)
        return pb.mean(weight * margin**2) + 1e-3 * pb.sum(params["w"] ** 2)

    score = tasks.balanced(predict, squares(x_valid), y_valid)
    data_ = (squares(x), 2 * y - 1)
    return Setup(params, loss, pb.optim.sgd(0.005, momentum=0.9), data_, score)


@healthy("order_logits")
def order_logits(seed: int) -> Setup:
    """An MLP on one-hot words, trained far beyond what it needs: its gradients die out."""
    x, y, x_valid, y_valid = tasks.order(seed)
    hot, valid = [np.eye(10, dtype=np.float32)[z].reshape(len(z), -1) for z in (x, x_valid)]
    model = nn.MLP(100, 1, 32, 1, pb.tanh, key=pb.random.key(seed))
    score = data.binary_accuracy(call, valid, y_valid)
    return Setup(model, binary_loss, pb.optim.adam(2e-2), (hot, y), score, steps=400)
