"""Programs with nothing wrong: dense networks, factors, autoencoders."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.fresh import tasks
from benchmarks.faults.program import Setup, healthy

import pullback as pb
from pullback import nn


def call(model: Any, x: Any) -> Any:
    return model(x)


def class_loss(model: Any, x: Any, y: Any) -> Any:
    return nn.cross_entropy(model(x), y)


def square_loss(model: Any, x: Any, y: Any) -> Any:
    return nn.mse(model(x), y)


def binary_loss(model: Any, x: Any, y: Any) -> Any:
    return nn.binary_cross_entropy_with_logits(model(x), y)


# ---- dense ----------------------------------------------------------------------------------


@healthy("rings_silu")
def rings_silu(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.rings(seed)
    model = nn.MLP(2, 4, 40, 3, nn.silu, key=pb.random.key(seed))
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adamw(8e-3), (x, y), score, batch=100)


@healthy("clusters_sgd")
def clusters_sgd(seed: int) -> Setup:
    """Plain gradient descent at a rate of 0.5, which works."""
    x, y, x_valid, y_valid = tasks.clusters(seed)
    model = nn.MLP(12, 5, 96, 1, key=pb.random.key(seed))
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.sgd(0.5), (x, y), score, batch=40)


@healthy("clusters_small_batch")
def clusters_small_batch(seed: int) -> Setup:
    """Eight samples a step: the loss is noise, and falls all the same."""
    x, y, x_valid, y_valid = tasks.clusters(seed)
    model = nn.MLP(12, 5, 64, 2, nn.elu, key=pb.random.key(seed))
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.02, momentum=0.9)
    return Setup(model, class_loss, optimizer, (x, y), score, batch=8, steps=500)


@healthy("clusters_dropout")
def clusters_dropout(seed: int) -> Setup:
    """Half of the units dropped, and a weight decay of 0.1."""
    x, y, x_valid, y_valid = tasks.clusters(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = nn.Sequential(
        nn.Linear(12, 160, key=keys[0]), nn.relu, nn.Dropout(0.5), nn.Linear(160, 5, key=keys[1])
    )

    def loss(model, x, y, key):
        return nn.cross_entropy(model(x, train=True, key=key), y)

    score = data.accuracy(lambda model, x: model(x, train=False), x_valid, y_valid)
    optimizer = pb.optim.adamw(1e-2, weight_decay=0.1)
    return Setup(model, loss, optimizer, (x, y), score, key=keys[2])


@healthy("friedman_rmsprop")
def friedman_rmsprop(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.friedman(seed)
    model = nn.MLP(10, 1, 56, 2, nn.elu, key=pb.random.key(seed))

    def loss(model, x, y):
        return nn.huber(model(x), y)

    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, loss, pb.optim.rmsprop(5e-3), (x, y), score, batch=48)


@healthy("friedman_sgd")
def friedman_sgd(seed: int) -> Setup:
    """Nesterov's momentum of 0.95, and targets of one axis."""
    x, y, x_valid, y_valid = tasks.friedman(seed)
    model = nn.MLP(10, 1, 80, 2, nn.gelu, key=pb.random.key(seed))

    def predict(model, x):
        return model(x)[:, 0]

    def loss(model, x, y):
        return pb.mean((predict(model, x) - y) ** 2)

    score = data.r_squared(predict, x_valid, y_valid[:, 0])
    optimizer = pb.optim.sgd(0.02, momentum=0.95, nesterov=True)
    return Setup(model, loss, optimizer, (x, y[:, 0]), score)


@healthy("curve_tanh")
def curve_tanh(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.curve(seed)
    model = nn.MLP(1, 1, 40, 3, pb.tanh, key=pb.random.key(seed))
    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, square_loss, pb.optim.adam(1e-2), (x, y), score, batch=128, steps=300)


@healthy("curve_quantiles")
def curve_quantiles(seed: int) -> Setup:
    """Three quantiles by the pinball loss, which has a kink at 0."""
    x, y, x_valid, y_valid = tasks.curve(seed)
    model = nn.MLP(1, 3, 48, 2, nn.silu, key=pb.random.key(seed))
    levels = np.float32([0.1, 0.5, 0.9])

    def loss(model, x, y):
        over = y - model(x)
        return pb.mean(pb.maximum(levels * over, (levels - 1) * over))

    score = data.r_squared(lambda model, x: model(x)[:, 1:2], x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1.5e-2), (x, y), score, batch=128, steps=300)


@healthy("amounts_hurdle")
def amounts_hurdle(seed: int) -> Setup:
    """Most targets are 0; the network ends with a softplus, which reaches all others."""
    x, y, x_valid, y_valid = tasks.amounts(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = nn.Sequential(
        nn.Linear(6, 64, key=keys[0]),
        nn.silu,
        nn.Linear(64, 32, key=keys[1]),
        nn.silu,
        nn.Linear(32, 1, key=keys[2]),
        nn.softplus,
    )
    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, square_loss, pb.optim.adam(1e-2), (x, y), score, batch=80)


@healthy("ratings_factors")
def ratings_factors(seed: int) -> Setup:
    """Products of learnt factors: most rows of a table have no gradient in a step."""
    x, y, x_valid, y_valid = tasks.ratings(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    start = partial(nn.init.normal, std=0.3)
    model = {
        "users": nn.Embedding(tasks.USERS, 4, key=keys[0], initializer=start),
        "items": nn.Embedding(tasks.ITEMS, 4, key=keys[1], initializer=start),
        "mean": pb.zeros((1,)),
    }

    def predict(model, x):
        product = model["users"](x[:, 0]) * model["items"](x[:, 1])
        return 3 + model["mean"] + pb.sum(product, axis=1, keepdims=True)

    def loss(model, x, y):
        squares = pb.mean(model["users"].weight ** 2) + pb.mean(model["items"].weight ** 2)
        return nn.mse(predict(model, x), y) + 0.01 * squares

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-2), (x, y), score, batch=32, steps=300)


@healthy("rare_weighted")
def rare_weighted(seed: int) -> Setup:
    """One sample in fifteen is wanted, and counts ten times."""
    x, y, x_valid, y_valid = tasks.rare(seed)
    model = nn.MLP(12, 1, 48, 2, key=pb.random.key(seed))

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(model(x), y, positive_weight=10.0)

    score = tasks.balanced(call, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score)


@healthy("digits_cosine")
def digits_cosine(seed: int) -> Setup:
    """A classifier of cosines times twenty: large logits on purpose."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {
        "body": nn.MLP(64, 32, 96, 1, nn.leaky_relu, key=keys[0]),
        "classes": pb.random.normal(keys[1], (10, 32)),
    }

    def unit(z):
        return z * pb.rsqrt(pb.sum(z * z, axis=-1, keepdims=True) + 1e-6)

    def predict(model, x):
        return 20 * unit(model["body"](x)) @ unit(model["classes"]).T

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x, y), score, batch=50)


@healthy("digits_deep_residual")
def digits_deep_residual(seed: int) -> Setup:
    """Sixteen blocks with normalisation, whose branches start small."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    keys = pb.random.split(pb.random.key(seed), 18)
    small = partial(nn.init.he_normal, gain=0.2)

    def block(key):
        inner = nn.Linear(32, 32, key=key, initializer=small)
        return nn.ResidualBlock(nn.Sequential(nn.RMSNorm(32), inner, nn.gelu))

    model = nn.Sequential(
        nn.Linear(64, 32, key=keys[-1]),
        *[block(key) for key in keys[:16]],
        nn.RMSNorm(32),
        nn.Linear(32, 10, key=keys[-2]),
    )
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(2e-3), (x, y), score, batch=32)


@healthy("digits_whitened")
def digits_whitened(seed: int) -> Setup:
    """A first layer computed from the data, and frozen."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    _, spread, axes = np.linalg.svd(x, full_matrices=False)
    whitening = axes[:24] * (len(x) ** 0.5 / spread[:24, None])
    model = nn.MLP(64, 10, 24, 2, pb.tanh, key=pb.random.key(seed))
    first = model.layers[0].replace(weight=pb.asarray(whitening.astype(np.float32)))
    model = nn.freeze(model.replace(layers=(first, *model.layers[1:])), "layers[0]")
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(4e-3), (x, y), score)


@healthy("digits_distilled")
def digits_distilled(seed: int) -> Setup:
    """Soft labels of an ensemble in place of classes."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    soft = (0.8 * np.eye(10)[y] + 0.02).astype(np.float32)
    model = nn.MLP(64, 10, 72, 1, nn.gelu, key=pb.random.key(seed))

    def loss(model, x, soft):
        return nn.kl_divergence(model(x), soft)

    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, loss, pb.optim.lion(1e-3), (x, soft), score)


@healthy("digits_triplets")
def digits_triplets(seed: int) -> Setup:
    """A margin: triplets that are far enough apart add nothing."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    rng = np.random.default_rng([seed, 21])
    same = np.array([rng.choice(np.flatnonzero(y == label)) for label in y])
    other = np.array([rng.choice(np.flatnonzero(y != label)) for label in y])
    model = nn.MLP(64, 12, 64, 1, key=pb.random.key(seed))

    def loss(model, anchor, near, far):
        a, b, c = model(anchor), model(near), model(far)
        gap = pb.mean((a - b) ** 2, axis=1) - pb.mean((a - c) ** 2, axis=1)
        return pb.mean(nn.relu(gap + 1.0))

    def nearest(model, points):
        a, b = np.asarray(model(x)), np.asarray(model(points))
        return np.eye(10)[y[((b[:, None] - a[None]) ** 2).sum(-1).argmin(1)]]

    score = data.accuracy(nearest, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(2e-3), (x, x[same], x[other]), score)


@healthy("bandit_policy")
def bandit_policy(seed: int) -> Setup:
    """The reward that a policy would have had, by the shares of the actions that were tried."""
    x, action, reward, x_valid, best = tasks.bandit(seed)
    model = nn.MLP(6, tasks.ACTIONS, 32, 1, pb.tanh, key=pb.random.key(seed))

    def loss(model, x, action, reward):
        chosen = pb.sum(pb.softmax(model(x)) * pb.one_hot(action, tasks.ACTIONS), axis=1)
        return -pb.mean(chosen * reward)

    score = data.accuracy(call, x_valid, best)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, action, reward), score)


# ---- autoencoders ---------------------------------------------------------------------------


@healthy("manifold_code")
def manifold_code(seed: int) -> Setup:
    x, _, x_valid, _ = tasks.manifold(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {
        "encoder": nn.MLP(20, 4, 48, 1, pb.tanh, key=keys[0]),
        "decoder": nn.MLP(4, 20, 48, 1, pb.tanh, key=keys[1]),
    }

    def predict(model, x):
        return model["decoder"](model["encoder"](x))

    def loss(model, x):
        return nn.mse(predict(model, x), x)

    score = data.r_squared(predict, x_valid, x_valid)
    return Setup(model, loss, pb.optim.adam(8e-3), (x,), score, steps=300)


@healthy("manifold_vae")
def manifold_vae(seed: int) -> Setup:
    x, _, x_valid, _ = tasks.manifold(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = {
        "encoder": nn.MLP(20, 8, 48, 1, nn.silu, key=keys[0]),
        "decoder": nn.MLP(4, 20, 48, 1, nn.silu, key=keys[1]),
    }

    def loss(model, x, key):
        code = model["encoder"](x)
        mean, log_variance = code[:, :4], code[:, 4:]
        noise = pb.random.normal(key, mean.shape)
        drawn = mean + pb.exp(log_variance / 2) * noise
        error = pb.sum((model["decoder"](drawn) - x) ** 2, axis=1)
        kl = 0.5 * pb.sum(pb.exp(log_variance) + mean**2 - 1 - log_variance, axis=1)
        return pb.mean(error + 0.1 * kl)

    score = data.r_squared(
        lambda model, x: model["decoder"](model["encoder"](x)[:, :4]), x_valid, x_valid
    )
    return Setup(model, loss, pb.optim.adam(8e-3), (x,), score, steps=250, key=keys[2])


@healthy("manifold_bits")
def manifold_bits(seed: int) -> Setup:
    """A code of bits, through which the gradient goes straight on purpose."""
    x, _, x_valid, _ = tasks.manifold(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {
        "encoder": nn.MLP(20, 24, 48, 1, key=keys[0]),
        "decoder": nn.MLP(24, 20, 48, 1, key=keys[1]),
    }

    def predict(model, x):
        soft = pb.tanh(model["encoder"](x))
        return model["decoder"](pb.straight_through(pb.sign(soft), soft))

    def loss(model, x):
        return nn.mse(predict(model, x), x)

    score = data.r_squared(predict, x_valid, x_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x,), score, steps=300)


# ---- loops written by hand ------------------------------------------------------------------


@healthy("rings_by_hand")
def rings_by_hand(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.rings(seed)
    model = nn.MLP(2, 4, 48, 2, pb.tanh, key=pb.random.key(seed))
    optimizer = pb.optim.adam(1e-2)

    @pb.compile
    def step(state, x, y):
        model, memory = state
        loss, grads = pb.value_and_grad(class_loss)(model, x, y)
        updates, memory = optimizer.update(grads, memory, model)
        return (pb.optim.apply_updates(model, updates), memory), (loss, grads)

    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, class_loss, optimizer, (x, y), score, batch=100, step=step)
