"""Programs with nothing wrong: ordinary networks, and choices that are odd but fine."""

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


# ---- convolutions ---------------------------------------------------------------------------


def flat(x: Any) -> Any:
    return x.reshape(x.shape[0], -1)


def shape_net(seed: int, initializer: Any = nn.init.he_normal) -> nn.Sequential:
    keys = pb.random.split(pb.random.key(seed), 3)
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, key=keys[0], initializer=initializer),
        nn.relu,
        nn.MaxPool2d(2),
        nn.Conv2d(12, 16, 3, padding=1, key=keys[1], initializer=initializer),
        nn.relu,
        flat,
        nn.Linear(400, 4, key=keys[2]),
    )


@healthy("shapes_conv")
def shapes_conv(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.shapes(seed)
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(shape_net(seed), class_loss, pb.optim.adam(3e-3), (x, y), score, batch=40)


@healthy("shapes_half")
def shapes_half(seed: int) -> Setup:
    """The same in float16, the loss scaled."""
    x, y, x_valid, y_valid = tasks.shapes(seed)
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.adam(3e-3)
    net = shape_net(seed)
    return Setup(net, class_loss, optimizer, (x, y), score, batch=40, precision="fp16")


def normed_shapes(seed: int) -> nn.Sequential:
    keys = pb.random.split(pb.random.key(seed), 3)
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, use_bias=False, key=keys[0]),
        nn.BatchNorm(12),
        nn.relu,
        nn.AvgPool2d(2),
        nn.Conv2d(12, 12, 3, padding=1, use_bias=False, key=keys[1]),
        nn.BatchNorm(12),
        nn.relu,
        flat,
        nn.Linear(300, 4, key=keys[2]),
    )


def with_state(x_valid: Any, y_valid: Any) -> Any:
    return data.accuracy(lambda both, x: both[0](x, both[1], train=False)[0], x_valid, y_valid)


@healthy("shapes_batch_norm")
def shapes_batch_norm(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.shapes(seed)
    model = normed_shapes(seed)

    def loss(model, x, y, state):
        out, state = model(x, state, train=True)
        return nn.cross_entropy(out, y), state

    optimizer = pb.optim.sgd(0.1, momentum=0.9, nesterov=True)
    score, state = with_state(x_valid, y_valid), model.initial_state()
    return Setup(model, loss, optimizer, (x, y), score, batch=40, network_state=state)


@healthy("boxes_mask")
def boxes_mask(seed: int) -> Setup:
    """A pixel-wise answer: down, up again, and a bridge between."""
    x, y, x_valid, y_valid = tasks.boxes(seed)
    model = mask_net(seed)

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(paint(model, x), y)

    score = data.binary_accuracy(paint, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score, batch=32, steps=150)


def mask_net(seed: int) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 4)
    return {
        "first": nn.Conv2d(1, 8, 3, padding=1, key=keys[0]),
        "down": nn.Conv2d(8, 16, 2, 2, key=keys[1]),
        "up": nn.ConvTranspose2d(16, 8, 2, 2, key=keys[2]),
        "last": nn.Conv2d(16, 1, 3, padding=1, key=keys[3]),
    }


def paint(model: Any, x: Any) -> Any:
    fine = nn.relu(model["first"](x))
    coarse = nn.relu(model["up"](nn.relu(model["down"](fine))))
    return model["last"](pb.concat([fine, coarse], axis=1))


def tone_net(seed: int) -> nn.Sequential:
    keys = pb.random.split(pb.random.key(seed), 3)
    return nn.Sequential(
        nn.Conv1d(1, 16, 5, padding=2, key=keys[0]),
        nn.leaky_relu,
        nn.Conv1d(16, 16, 5, 2, padding=2, key=keys[1]),
        nn.leaky_relu,
        lambda x: pb.mean(x, axis=2),
        nn.Linear(16, 3, key=keys[2]),
    )


@healthy("tones_conv")
def tones_conv(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.tones(seed)
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.adamw(pb.optim.one_cycle(2e-2, 200))
    return Setup(tone_net(seed), class_loss, optimizer, (x, y), score, batch=32)


# ---- recurrent nets -------------------------------------------------------------------------


class Last(nn.Module):
    """A recurrent layer, and a head on what it gives last."""

    body: nn.Module
    head: nn.Linear

    def __call__(self, x):
        return self.head(self.body(x)[0][:, -1])


@healthy("adding_lstm")
def adding_lstm(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.adding(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = Last(nn.LSTM(2, 24, key=keys[0]), nn.Linear(24, 1, key=keys[1]))
    score = data.r_squared(call, x_valid, y_valid)
    optimizer, options = pb.optim.adam(1e-2), {"clip": 1.0}
    return Setup(model, square_loss, optimizer, (x, y), score, steps=500, options=options)


@healthy("series_gru")
def series_gru(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.series(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = Last(nn.GRU(1, 20, key=keys[0]), nn.Linear(20, 1, key=keys[1]))

    def loss(model, x, y):
        return nn.mae(model(x), y)

    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score, batch=32)


@healthy("series_rnn")
def series_rnn(seed: int) -> Setup:
    """A tanh net with gradient descent, its gradient clipped."""
    x, y, x_valid, y_valid = tasks.series(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = Last(nn.RNN(1, 28, key=keys[0]), nn.Linear(28, 1, key=keys[1]))
    score = data.r_squared(call, x_valid, y_valid)
    optimizer, options = pb.optim.sgd(0.05, momentum=0.9), {"clip": 1.0}
    return Setup(model, square_loss, optimizer, (x, y), score, batch=32, options=options)


class Verdict(nn.Module):
    """Words, a recurrent layer, one logit or some."""

    words: nn.Embedding
    body: nn.Module
    head: nn.Linear

    def __call__(self, words):
        return self.head(self.body(self.words(words))[0][:, -1])


def verdict(seed: int, outputs: int = 1) -> Verdict:
    keys = pb.random.split(pb.random.key(seed), 3)
    words = nn.Embedding(tasks.TOKENS, 12, key=keys[0], initializer=nn.init.normal)
    return Verdict(words, nn.LSTM(12, 24, key=keys[1]), nn.Linear(24, outputs, key=keys[2]))


@healthy("order_lstm")
def order_lstm(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.order(seed)
    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(verdict(seed), binary_loss, pb.optim.adam(1e-2), (x, y), score, batch=32)


class Speaker(nn.Module):
    """A recurrent language model."""

    words: nn.Embedding
    body: nn.Module
    head: nn.Linear

    def __call__(self, words):
        return self.head(self.body(self.words(words))[0])


@healthy("sums_gru")
def sums_gru(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.sums(seed)
    model = speaker(seed)
    score = tasks.next_word(call, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(2e-2), (x, y), score, batch=32)


def speaker(seed: int, reverse: bool = False) -> Speaker:
    keys = pb.random.split(pb.random.key(seed), 3)
    words = nn.Embedding(tasks.MODULUS, 12, key=keys[0], initializer=nn.init.normal)
    body = nn.GRU(12, 40, reverse=reverse, key=keys[1])
    return Speaker(words, body, nn.Linear(40, tasks.MODULUS, key=keys[2]))


# ---- attention ------------------------------------------------------------------------------


class Writer(nn.Module):
    """Words, places, blocks, the next word."""

    words: nn.Embedding
    places: nn.Embedding
    blocks: tuple[nn.TransformerBlock, ...]
    norm: nn.LayerNorm
    head: nn.Linear

    def __call__(self, words):
        h = self.words(words) + self.places(pb.arange(words.shape[1]))
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h))


def writer(seed: int, **how: Any) -> Writer:
    keys = pb.random.split(pb.random.key(seed), 5)
    start = partial(nn.init.normal, std=0.5)
    blocks = (nn.TransformerBlock(24, 2, key=keys[0], **({"causal": True} | how)),)
    words = nn.Embedding(tasks.MODULUS, 24, key=keys[2], initializer=start)
    places = nn.Embedding(12, 24, key=keys[3], initializer=start)
    head = nn.Linear(24, tasks.MODULUS, key=keys[4])
    return Writer(words, places, blocks, nn.LayerNorm(24), head)


@healthy("sums_transformer")
def sums_transformer(seed: int) -> Setup:
    """AdamW, warm-up and clipping."""
    x, y, x_valid, y_valid = tasks.sums(seed)
    optimizer = pb.optim.adamw(pb.optim.warmup_cosine(1e-2, 30, 300))
    score = tasks.next_word(call, x_valid, y_valid)
    more: Any = {"steps": 300, "options": {"clip": 1.0}}
    return Setup(writer(seed), class_loss, optimizer, (x, y), score, batch=32, **more)


@healthy("sums_brain_float")
def sums_brain_float(seed: int) -> Setup:
    """Computed in bfloat16; two halves of a batch, one after the other."""
    x, y, x_valid, y_valid = tasks.sums(seed)
    score = tasks.next_word(call, x_valid, y_valid)
    return Setup(
        writer(seed, norm=nn.RMSNorm),
        class_loss,
        pb.optim.adamw(6e-3),
        (x, y),
        score,
        batch=32,
        steps=200,
        options={"accumulate": 2},
        precision="bf16",
    )


class Finder(nn.Module):
    """Words and places, attention among them, the sum of what was read."""

    words: nn.Embedding
    places: nn.Embedding
    block: nn.TransformerBlock
    head: nn.Linear

    def __call__(self, words):
        h = self.words(words) + self.places(pb.arange(words.shape[1]))
        return self.head(pb.mean(self.block(h), axis=1))


def finder(seed: int, outputs: int = 1) -> Finder:
    keys = pb.random.split(pb.random.key(seed), 4)
    start = nn.init.normal
    return Finder(
        nn.Embedding(tasks.TOKENS, 20, key=keys[0], initializer=start),
        nn.Embedding(10, 20, key=keys[1], initializer=start),
        nn.TransformerBlock(20, 2, 40, key=keys[2]),
        nn.Linear(20, outputs, key=keys[3]),
    )


@healthy("order_attention")
def order_attention(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.order(seed)
    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(finder(seed), binary_loss, pb.optim.adam(3e-3), (x, y), score, batch=64)


def topic_net(seed: int) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 3)
    start = nn.init.normal
    return {
        "words": nn.Embedding(tasks.TOKENS, 16, key=keys[0], initializer=start),
        "attention": nn.MultiHeadAttention(16, 4, key=keys[1]),
        "head": nn.Linear(16, 3, key=keys[2]),
    }


def topic(model: Any, x: Any) -> Any:
    """Padding is neither attended to nor counted in the mean."""
    seen = x != 0
    h = model["words"](x)
    h = h + model["attention"](h, mask=seen[:, None, None, :])
    share = seen / seen.sum(axis=1, keepdims=True)
    return model["head"](pb.sum(h * share.astype(np.float32)[:, :, None], axis=1))


@healthy("topics_padded")
def topics_padded(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.topics(seed)

    def loss(model, x, y):
        return nn.cross_entropy(topic(model, x), y, label_smoothing=0.05)

    score = data.accuracy(topic, x_valid, y_valid)
    return Setup(topic_net(seed), loss, pb.optim.adam(3e-3), (x, y), score)


@healthy("marked_pooling")
def marked_pooling(seed: int) -> Setup:
    """Scores of places, a softmax over them, a weighted sum: attention by hand."""
    x, y, x_valid, y_valid = tasks.marked(seed)
    model = pooling_net(seed)

    def predict(model, x):
        h = model["body"](model["words"](x))[0]
        weights = pb.softmax(model["scorer"](h), axis=1)
        return model["head"](pb.sum(weights * h, axis=1))

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score)


def pooling_net(seed: int) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 4)
    words = nn.Embedding(tasks.TOKENS, 16, key=keys[0], initializer=nn.init.normal)
    return {
        "words": words,
        "body": nn.GRU(16, 24, key=keys[1]),
        "scorer": nn.Linear(24, 1, key=keys[2]),
        "head": nn.Linear(24, 4, key=keys[3]),
    }


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
