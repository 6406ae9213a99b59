"""Programs with nothing wrong, though some are unusual: tables, factors, rewards, written loops."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import optree
from benchmarks.faults import data
from benchmarks.faults.program import Setup, healthy
from benchmarks.faults.trial import tasks

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


def tree_map(f: Any, *trees: Any) -> Any:
    return optree.tree_map(f, *trees, namespace="pullback")


def keys_of(seed: int, count: int) -> Any:
    return pb.random.split(pb.random.key(seed + 70), count)


# ---- points ---------------------------------------------------------------------------------


def highway(seed: int, carry: float = -1.0) -> dict[str, Any]:
    """Three layers, each of which replaces as much of its input as its gate says."""
    keys = keys_of(seed, 8)

    def gate(key: Any) -> nn.Linear:
        layer = nn.Linear(32, 32, key=key)
        return layer.replace(bias=pb.full((32,), carry))

    return {
        "first": nn.Linear(2, 32, key=keys[0]),
        "bodies": [nn.Linear(32, 32, key=key) for key in keys[1:4]],
        "gates": [gate(key) for key in keys[4:7]],
        "last": nn.Linear(32, 1, key=keys[7]),
    }


def along(model: Any, x: Any) -> Any:
    h = model["first"](x)
    for body, gate in zip(model["bodies"], model["gates"], strict=True):
        share = nn.sigmoid(gate(h))
        h = share * nn.relu(body(h)) + (1 - share) * h
    return model["last"](h)


def along_loss(model: Any, x: Any, y: Any) -> Any:
    return nn.binary_cross_entropy_with_logits(along(model, x), y)


@healthy("checks_highway")
def checks_highway(seed: int) -> Setup:
    """Gates that begin nearly closed."""
    x, y, x_valid, y_valid = tasks.checks(seed)
    score = data.binary_accuracy(along, x_valid, y_valid)
    return Setup(highway(seed), along_loss, pb.optim.adam(1e-2), (x, y), score, steps=300)


@healthy("checks_hinge")
def checks_hinge(seed: int) -> Setup:
    """A squared hinge: samples that are well apart add nothing."""
    x, y, x_valid, y_valid = tasks.checks(seed)
    model = nn.MLP(2, 1, 64, 2, key=pb.random.key(seed))

    def loss(model, x, y):
        return pb.mean(nn.relu(1 - (2 * y - 1) * model(x)) ** 2)

    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score, steps=250)


@healthy("surface_sines")
def surface_sines(seed: int) -> Setup:
    """Sines in place of relus, and first weights that are large on purpose."""
    x, y, x_valid, y_valid = tasks.surface(seed)
    model = sines(seed, pb.sin)
    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, square_loss, pb.optim.adam(3e-3), (x, y), score, batch=80)


def sines(seed: int, activation: Any) -> nn.Sequential:
    keys = keys_of(seed, 3)
    wide = partial(nn.init.normal, std=1.5)
    return nn.Sequential(
        nn.Linear(2, 48, key=keys[0], initializer=wide),
        activation,
        nn.Linear(48, 48, key=keys[1]),
        activation,
        nn.Linear(48, 1, key=keys[2]),
    )


@healthy("surface_bells")
def surface_bells(seed: int) -> Setup:
    """Radial bells with places and widths: far from each the slope is all but 0."""
    x, y, x_valid, y_valid = tasks.surface(seed)
    rng = np.random.default_rng(seed)
    model = {
        "centres": pb.asarray(rng.uniform(-1.7, 1.7, (50, 2)).astype(np.float32)),
        "log_width": pb.full((50,), -0.5),
        "heights": pb.zeros((50, 1)),
    }
    score = data.r_squared(bells, x_valid, y_valid)

    def loss(model, x, y):
        return nn.mse(bells(model, x), y)

    return Setup(model, loss, pb.optim.adam(3e-2), (x, y), score)


def bells(model: Any, x: Any) -> Any:
    square = pb.sum((x[:, None] - model["centres"]) ** 2, axis=2)
    return pb.exp(-square / pb.exp(2 * model["log_width"])) @ model["heights"]


# ---- tables ---------------------------------------------------------------------------------


def soil_net(seed: int, activation: Any = nn.relu) -> nn.MLP:
    return nn.MLP(9, tasks.SOILS, 64, 2, activation, key=pb.random.key(seed))


@healthy("soils_momentum")
def soils_momentum(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.soils(seed)
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.1, momentum=0.9)
    return Setup(soil_net(seed), class_loss, optimizer, (x, y), score, batch=50)


@healthy("soils_wrong_labels")
def soils_wrong_labels(seed: int) -> Setup:
    """Three labels in ten are guesses; the rest is enough."""
    x, y, x_valid, y_valid = tasks.soils(seed)
    rng = np.random.default_rng([seed, 71])
    y = np.where(rng.random(len(y)) < 0.3, rng.integers(0, tasks.SOILS, len(y)), y)
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.adamw(3e-3, weight_decay=0.1)
    return Setup(soil_net(seed, nn.silu), class_loss, optimizer, (x, y), score)


@healthy("soils_accumulated")
def soils_accumulated(seed: int) -> Setup:
    """Four parts of a batch, one after the other, and clipping."""
    x, y, x_valid, y_valid = tasks.soils(seed)
    score = data.accuracy(call, x_valid, y_valid)
    optimizer, options = pb.optim.rmsprop(3e-3), {"accumulate": 4, "clip": 5.0}
    return Setup(soil_net(seed), class_loss, optimizer, (x, y), score, options=options)


@healthy("soils_few")
def soils_few(seed: int) -> Setup:
    """Two hundred examples, all in each step, and a linear model with a decay: it holds."""
    x, _, x_valid, _ = tasks.soils(seed)
    y, y_valid = x[:, :3].argmax(1), x_valid[:, :3].argmax(1)
    model = nn.Linear(9, 3, key=pb.random.key(seed))
    score = data.accuracy(call, x_valid, y_valid)
    optimizer, few = pb.optim.adamw(3e-2, weight_decay=0.1), (x[:200], y[:200])
    return Setup(model, class_loss, optimizer, few, score, batch=200, steps=150)


@healthy("soils_by_hand")
def soils_by_hand(seed: int) -> Setup:
    """Momentum and a decay of the weights written out."""
    x, y, x_valid, y_valid = tasks.soils(seed)

    @pb.compile
    def step(state, x, y):
        model, speed = state
        loss, grads = pb.value_and_grad(class_loss)(model, x, y)
        speed = tree_map(lambda v, g: 0.9 * v + g, speed, grads)
        model = tree_map(lambda p, v: 0.9999 * p - 0.1 * v, model, speed)
        return (model, speed), (loss, grads)

    score = data.accuracy(call, x_valid, y_valid)
    return Setup(soil_net(seed), class_loss, resting(), (x, y), score, batch=50, step=step)


def resting() -> pb.optim.Optimizer:
    """An optimiser for loops by hand: its memory is the speed, 0 at the start."""
    return pb.optim.Optimizer(
        lambda params: tree_map(pb.zeros_like, params), lambda grads, state, params: (grads, state)
    )


@healthy("soils_lookahead")
def soils_lookahead(seed: int) -> Setup:
    """Slow weights, to which the fast ones return half way in every fifth step."""
    x, y, x_valid, y_valid = tasks.soils(seed)
    inner = pb.optim.adam(8e-3)

    def init(params):
        return inner.init(params), params, pb.asarray(0)

    def update(grads, state, params):
        memory, slow, count = state
        updates, memory = inner.update(grads, memory, params)
        now = count % 5 == 4
        fast = pb.optim.apply_updates(params, updates)
        slow = tree_map(lambda s, f: pb.where(now, (s + f) / 2, s), slow, fast)
        updates = tree_map(lambda s, f, p: pb.where(now, s, f) - p, slow, fast, params)
        return updates, (memory, slow, count + 1)

    optimizer = pb.optim.Optimizer(init, update)
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(soil_net(seed, nn.gelu), class_loss, optimizer, (x, y), score)


def tag_net(seed: int) -> nn.MLP:
    return nn.MLP(14, tasks.TAGS, 80, 2, nn.gelu, key=pb.random.key(seed))


@healthy("tags_binary")
def tags_binary(seed: int) -> Setup:
    """Any number of tags, each with a sigmoid of its own."""
    x, y, x_valid, y_valid = tasks.tags(seed)
    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(tag_net(seed), binary_loss, pb.optim.adam(4e-3), (x, y), score, steps=300)


@healthy("tags_missing")
def tags_missing(seed: int) -> Setup:
    """A third of the tags is not known: a mask takes them out of the mean."""
    x, y, x_valid, y_valid = tasks.tags(seed)
    known = (np.random.default_rng([seed, 72]).random(y.shape) < 0.67).astype(np.float32)

    def loss(model, x, y, known):
        each = nn.binary_cross_entropy_with_logits(model(x), y, reduction="none")
        return pb.sum(each * known) / pb.sum(known)

    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(tag_net(seed), loss, pb.optim.adam(4e-3), (x, y, known), score, steps=300)


def house_net(seed: int, activation: Any = nn.relu) -> nn.MLP:
    return nn.MLP(7, 1, 48, 2, activation, key=pb.random.key(seed))


def sparse_loss(model: Any, x: Any, y: Any) -> Any:
    """Errors, and the sizes of the first weights."""
    return nn.mse(model(x), y) + 2e-3 * pb.sum(pb.abs(model.layers[0].weight))


@healthy("houses_sparse")
def houses_sparse(seed: int) -> Setup:
    """A penalty of absolute values, which is the larger part of the loss at the end."""
    x, y, x_valid, y_valid = tasks.houses(seed)
    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.adam(5e-3)
    return Setup(house_net(seed), sparse_loss, optimizer, (x, y), score, steps=250)


@healthy("houses_slow")
def houses_slow(seed: int) -> Setup:
    """A small rate, and patience."""
    x, y, x_valid, y_valid = tasks.houses(seed)
    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.adam(3e-4)
    return Setup(house_net(seed, nn.elu), square_loss, optimizer, (x, y), score, steps=600)


@healthy("houses_descent")
def houses_descent(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.houses(seed)
    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.05, momentum=0.9)
    return Setup(house_net(seed, nn.gelu), square_loss, optimizer, (x, y), score, batch=40)


@healthy("houses_spread")
def houses_spread(seed: int) -> Setup:
    """A mean and a variance: the loss goes below zero."""
    x, y, x_valid, y_valid = tasks.houses(seed)
    model = nn.MLP(7, 2, 48, 2, nn.silu, key=pb.random.key(seed))

    def loss(model, x, y):
        out = model(x)
        log_variance = 6 * pb.tanh(out[:, 1:] / 6)
        return pb.mean(log_variance + (y - out[:, :1]) ** 2 * pb.exp(-log_variance)) / 2

    score = data.r_squared(lambda model, x: model(x)[:, :1], x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score, steps=250)


@healthy("houses_trusted")
def houses_trusted(seed: int) -> Setup:
    """A fifth of the prices are typing errors, which are known and count for nothing."""
    x, y, weight, x_valid, y_valid = mistyped(seed)

    def loss(model, x, y, weight):
        return pb.mean(weight[:, None] * (model(x) - y) ** 2)

    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.adam(5e-3)
    return Setup(house_net(seed), loss, optimizer, (x, y, weight), score, steps=250)


def mistyped(seed: int) -> Any:
    x, y, x_valid, y_valid = tasks.houses(seed)
    wrong = np.random.default_rng([seed, 73]).random(len(y)) < 0.2
    y = np.where(wrong[:, None], y + 3 * x[:, :1] + 2, y).astype(np.float32)
    return x, y, (~wrong).astype(np.float32), x_valid, y_valid


# ---- factors, rewards, times ----------------------------------------------------------------


def factors(seed: int, start: Any = None) -> dict[str, Any]:
    keys = keys_of(seed, 2)
    start = start or partial(nn.init.normal, std=0.4)
    return {
        "users": nn.Embedding(tasks.USERS, 3, key=keys[0], initializer=start),
        "pages": nn.Embedding(tasks.PAGES, 3, key=keys[1], initializer=start),
        "bias": pb.zeros((1,)),
    }


def liked(model: Any, x: Any) -> Any:
    product = model["users"](x[:, 0]) * model["pages"](x[:, 1])
    return pb.sum(product, axis=1, keepdims=True) + model["bias"]


def liked_loss(model: Any, x: Any, y: Any) -> Any:
    return nn.binary_cross_entropy_with_logits(liked(model, x), y)


@healthy("clicks_factors")
def clicks_factors(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.clicks(seed)
    score = data.binary_accuracy(liked, x_valid, y_valid)
    optimizer = pb.optim.adagrad(0.2)
    return Setup(factors(seed), liked_loss, optimizer, (x, y), score, batch=32, steps=300)


def chosen_loss(model: Any, x: Any, rewards: Any, key: Any) -> Any:
    """Williams' REINFORCE: rewards of levers that were drawn, less their mean."""
    log_shares = pb.log_softmax(model(x))
    lever = pb.random.categorical(key, pb.stop_gradient(log_shares, why="drawn levers"))
    drawn = pb.one_hot(lever, tasks.LEVERS)
    reward = pb.sum(rewards * drawn, axis=1)
    advantage = reward - pb.mean(reward)
    return -pb.mean(advantage * pb.sum(log_shares * drawn, axis=1))


def lever_net(seed: int) -> nn.MLP:
    return nn.MLP(5, tasks.LEVERS, 32, 1, pb.tanh, key=pb.random.key(seed))


@healthy("levers_drawn")
def levers_drawn(seed: int) -> Setup:
    """The loss says little: it is 0 on the mean whatever is learnt."""
    x, rewards, x_valid, best = tasks.levers(seed)
    score, key = data.accuracy(call, x_valid, best), pb.random.key(seed + 9)
    optimizer = pb.optim.adam(1e-2)
    return Setup(lever_net(seed), chosen_loss, optimizer, (x, rewards), score, steps=300, key=key)


def wait_net(seed: int) -> nn.MLP:
    return nn.MLP(5, 1, 40, 2, nn.silu, key=pb.random.key(seed))


@healthy("waits_rates")
def waits_rates(seed: int) -> Setup:
    """The likelihood of times, some of which were not waited for."""
    x, time, event, x_valid, log_rate = tasks.waits(seed)

    def loss(model, x, time, event):
        log_rate = model(x)
        return pb.mean(pb.exp(log_rate) * time - event * log_rate)

    score = data.r_squared(call, x_valid, log_rate)
    optimizer = pb.optim.adam(5e-3)
    return Setup(wait_net(seed), loss, optimizer, (x, time, event), score, steps=250)


# ---- two views ------------------------------------------------------------------------------


def two_towers(seed: int, activation: Any = nn.gelu) -> dict[str, Any]:
    keys = keys_of(seed, 2)
    return {
        "a": nn.MLP(12, 8, 48, 1, activation, key=keys[0]),
        "b": nn.MLP(10, 8, 48, 1, activation, key=keys[1]),
    }


def unit(z: Any) -> Any:
    return z * pb.rsqrt(pb.sum(z * z, axis=-1, keepdims=True) + 1e-6)


def embed(model: Any, a: Any, b: Any) -> Any:
    return unit(model["a"](a)), unit(model["b"](b))


def pair_loss(model: Any, a: Any, b: Any) -> Any:
    """Each first view is to find its second among those of the batch, and the reverse."""
    p, q = embed(model, a, b)
    scores, right = p @ q.T / 0.2, pb.arange(p.shape[0])
    return (nn.cross_entropy(scores, right) + nn.cross_entropy(scores.T, right)) / 2


@healthy("views_pairs")
def views_pairs(seed: int) -> Setup:
    """All samples of a batch are looked at together, on purpose."""
    a, b, a_valid, b_valid = tasks.views(seed)
    score = tasks.found(embed, a_valid, b_valid)
    return Setup(two_towers(seed), pair_loss, pb.optim.adam(4e-3), (a, b), score)


def margin_loss(model: Any, a: Any, b: Any) -> Any:
    """The right second view is nearer than the next sample's, by a margin."""
    p, q = embed(model, a, b)
    right = pb.sum(p * q, axis=1)
    wrong = pb.sum(p * pb.roll(q, 1, axis=0), axis=1)
    return pb.mean(nn.relu(0.5 + wrong - right))


@healthy("views_margin")
def views_margin(seed: int) -> Setup:
    a, b, a_valid, b_valid = tasks.views(seed)
    score = tasks.found(embed, a_valid, b_valid)
    return Setup(two_towers(seed), margin_loss, pb.optim.adam(5e-3), (a, b), score, steps=300)
