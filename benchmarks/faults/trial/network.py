"""Faults of the network: activations, first weights, depth."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.faults import data
from benchmarks.faults.fresh.tasks import next_word
from benchmarks.faults.program import Setup, fault
from benchmarks.faults.trial import tasks
from benchmarks.faults.trial.healthy import (
    along,
    along_loss,
    call,
    class_loss,
    factors,
    highway,
    keys_of,
    liked,
    square_loss,
)
from benchmarks.faults.trial.structured import (
    grating_net,
    play,
    player,
    set_net,
    switch,
)

import pullback as pb
from pullback import nn

# ---- activations ----------------------------------------------------------------------------


@fault(
    "gratings_linear", "missing activations", "SIG09", "gratings_pooled",
    layers=("layers",), also="GEN02 VER01", at_once=True,
)  # fmt: skip
def gratings_linear(seed: int) -> Setup:
    """Convolutions, one after the other, and a mean."""
    x, y, x_valid, y_valid = tasks.gratings(seed)
    net = grating_net(seed, lambda x: x)
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(net, class_loss, pb.optim.adam(5e-3), (x, y), score, batch=40)


@fault(
    "houses_dropped_relu", "result of an activation dropped", "SIG09", "houses_descent",
    layers=("first", "second", "third"), also="GEN02 VER01", at_once=True,
)  # fmt: skip
def houses_dropped_relu(seed: int) -> Setup:
    """relu(h) is called as if it changed h."""
    x, y, x_valid, y_valid = tasks.houses(seed)
    keys = keys_of(seed, 3)
    model = {
        "first": nn.Linear(7, 48, key=keys[0]),
        "second": nn.Linear(48, 48, key=keys[1]),
        "third": nn.Linear(48, 1, key=keys[2]),
    }

    def predict(model, x):
        h = model["first"](x)
        nn.relu(h)  # here
        h = model["second"](h)  # here
        nn.relu(h)  # here
        return model["third"](h)  # here

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.sgd(0.05, momentum=0.9), (x, y), score, batch=40)


@fault(
    "checks_closed", "gates closed at the start", "SIG04", "checks_highway",
    layers=("gates",), also="CUT04 SIG01 VER01 OPT02",
)  # fmt: skip
def checks_closed(seed: int) -> Setup:
    """The gates begin at a bias of -30: nothing but the carried input passes, or ever will."""
    x, y, x_valid, y_valid = tasks.checks(seed)
    score = data.binary_accuracy(along, x_valid, y_valid)
    net, optimizer = highway(seed, carry=-30.0), pb.optim.adam(1e-2)
    return Setup(net, along_loss, optimizer, (x, y), score, steps=300)


@fault(
    "clouds_dead", "dead relu", "SIG03 CUT04", "clouds_pooled",
    layers=("last",), also="VER01", at_once=True,
)  # fmt: skip
def clouds_dead(seed: int) -> Setup:
    """Hidden biases begin at -20, by a sign."""
    x, y, x_valid, y_valid = tasks.clouds(seed)
    model = set_net(seed)
    first, last = model["last"].layers
    model["last"] = model["last"].replace(layers=(first.replace(bias=pb.full((32,), -20.0)), last))

    def predict(model, x):
        weights = pb.softmax(model["weight"](x), axis=1)
        return model["last"](pb.sum(weights * model["point"](x), axis=1))

    def loss(model, x, y):
        return nn.huber(predict(model, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score, steps=250)


@fault(
    "surface_saturated", "saturated tanh", "SIG04 SIG07", "surface_sines",
    layers=("layers",), also="SIG01 SIG02 OPT02 VER01",
)  # fmt: skip
def surface_saturated(seed: int) -> Setup:
    """The wide weights of a network of sines in one of tanh."""
    x, y, x_valid, y_valid = tasks.surface(seed)
    wide = partial(nn.init.normal, std=8.0)
    keys = keys_of(seed, 3)
    model = nn.Sequential(
        nn.Linear(2, 48, key=keys[0], initializer=wide),
        pb.tanh,
        nn.Linear(48, 48, key=keys[1], initializer=wide),
        pb.tanh,
        nn.Linear(48, 1, key=keys[2]),
    )
    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, square_loss, pb.optim.adam(3e-3), (x, y), score, batch=80)


# ---- first weights --------------------------------------------------------------------------


@fault(
    "gratings_all_alike", "constant weights", "SIG06", "gratings_pooled",
    layers=("layers",), also="GEN02 VER01", at_once=True,
)  # fmt: skip
def gratings_all_alike(seed: int) -> Setup:
    """Every filter begins as the same mean over its window."""
    x, y, x_valid, y_valid = tasks.gratings(seed)

    def flat(key, shape, dtype):
        return pb.full(shape, 0.05, dtype=dtype)

    net = grating_net(seed, start=flat)
    last = net.layers[5].replace(weight=pb.full((4, 16), 0.1))
    net = net.replace(layers=(*net.layers[:5], last))
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(net, class_loss, pb.optim.adam(5e-3), (x, y), score, batch=40)


@fault(
    "tune_copied", "units that are copies", "SIG06", "tune_shifted",
    layers=("head",), at_once=True,
)  # fmt: skip
def tune_copied(seed: int) -> Setup:
    """A unit is widened to 48 by copies, without noise."""
    x, y, x_valid, y_valid = tasks.tune(seed)
    model = player(seed)
    first, last = model["head"].layers
    first = first.replace(weight=pb.tile(first.weight[:1], (48, 1)))
    last = last.replace(weight=pb.tile(last.weight[:, :1], (1, 48)) / 7)
    model["head"] = model["head"].replace(layers=(first, last))

    def loss(model, x, y):
        return nn.cross_entropy(play(model, x)[:, 2:], y[:, 2:])

    score = next_word(play, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(8e-3), (x, y), score, batch=32)


@fault(
    "clicks_from_zero", "two factors begin at 0", "CUT04 SIG06", "clicks_factors",
    layers=("users", "pages"), also="VER01", at_once=True,
)  # fmt: skip
def clicks_from_zero(seed: int) -> Setup:
    """Both tables begin at 0, and each is the other's slope."""
    x, y, x_valid, y_valid = tasks.clicks(seed)

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(liked(model, x), y)

    score = data.binary_accuracy(liked, x_valid, y_valid)
    model, optimizer = factors(seed, nn.init.zeros), pb.optim.adagrad(0.2)
    return Setup(model, loss, optimizer, (x, y), score, batch=32, steps=300)


@fault(
    "soils_positive", "weights all positive", "SIG07", "soils_momentum",
    layers=("layers",), also="OBJ04 SIG02 SIG03 OPT01 OPT03 NUM01 NUM02 CUT04 SIG06",
)  # fmt: skip
def soils_positive(seed: int) -> Setup:
    """Weights from 0 to 1, as `random.rand` gives them."""
    x, y, x_valid, y_valid = tasks.soils(seed)

    def between(key, shape, dtype):
        return pb.random.uniform(key, shape, dtype)

    key = pb.random.key(seed)
    model = nn.MLP(9, tasks.SOILS, 64, 2, key=key, initializer=between)
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.1, momentum=0.9)
    return Setup(model, class_loss, optimizer, (x, y), score, batch=50)


@fault(
    "latch_explodes", "exploding recurrent net", "SIG02 SIG07", "latch_scan",
    layers=("hidden",), also="OPT01 OPT03 NUM01 NUM02 OBJ04 NUM03",
)  # fmt: skip
def latch_explodes(seed: int) -> Setup:
    """Without an activation in the cell, and hidden weights that double the state."""
    x, y, x_valid, y_valid = tasks.latch(seed)
    model = switch(seed, spread=0.8)

    def predict(model, x):
        h, out = pb.zeros((x.shape[0], 24)), []
        for t in range(x.shape[1]):
            h = nn.leaky_relu(model["inputs"](x[:, t]) + model["hidden"](h))
            out.append(model["last"](h))
        return pb.stack(out, axis=1)

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.rmsprop(3e-3), (x, y), score, batch=32, steps=250)


# ---- depth ----------------------------------------------------------------------------------


@fault(
    "houses_ten_sigmoids", "vanishing gradient", "SIG01", "houses_descent",
    layers=("layers",), also="VER01 SIG08 OPT02 CUT04 SIG07 GEN02",
)  # fmt: skip
def houses_ten_sigmoids(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.houses(seed)
    model = nn.MLP(7, 1, 32, 10, nn.sigmoid, key=pb.random.key(seed))
    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, square_loss, pb.optim.sgd(0.05, momentum=0.9), (x, y), score, batch=40)


@fault(
    "surface_small_tanh", "vanishing gradient", "SIG01 SIG07", "surface_sines",
    layers=("layers",), also="VER01 SIG08 OPT02 CUT04 GEN02",
)  # fmt: skip
def surface_small_tanh(seed: int) -> Setup:
    """Eight layers, all weights begun with a deviation of 0.02."""
    x, y, x_valid, y_valid = tasks.surface(seed)
    small = partial(nn.init.normal, std=0.02)
    model = nn.MLP(2, 1, 48, 8, pb.tanh, key=pb.random.key(seed), initializer=small)
    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, square_loss, pb.optim.adam(3e-3), (x, y), score, batch=80)


@fault(
    "soils_forty", "no residual in a deep net", "SIG08 SIG05 SIG01 SIG07", "soils_momentum",
    layers=("layers",), also="VER01 GEN02 OPT02",
)  # fmt: skip
def soils_forty(seed: int) -> Setup:
    """Forty narrow layers of relu, one after the other."""
    x, y, x_valid, y_valid = tasks.soils(seed)
    model = nn.MLP(9, tasks.SOILS, 16, 40, key=pb.random.key(seed))
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.1, momentum=0.9)
    return Setup(model, class_loss, optimizer, (x, y), score, batch=50)


@fault(
    "gratings_branches", "residual branches unscaled", "SIG07 SIG02 OBJ04", "gratings_blocks",
    layers=("layers",), also="OPT01 OPT03 NUM01 NUM02 SIG03",
)  # fmt: skip
def gratings_branches(seed: int) -> Setup:
    """Twelve blocks without normalisation, each of which adds more than it gets."""
    x, y, x_valid, y_valid = tasks.gratings(seed)
    keys = keys_of(seed, 14)
    strong = partial(nn.init.he_normal, gain=2.0)

    def block(key: Any) -> nn.ResidualBlock:
        inner = nn.Conv2d(8, 8, 3, padding=1, key=key, initializer=strong)
        return nn.ResidualBlock(nn.Sequential(inner, nn.relu))

    model = nn.Sequential(
        nn.Conv2d(1, 8, 4, key=keys[0]),
        *[block(key) for key in keys[1:13]],
        lambda x: pb.mean(x, axis=(2, 3)),
        nn.Linear(8, 4, key=keys[13]),
    )
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.1, momentum=0.9, nesterov=True)
    return Setup(model, class_loss, optimizer, (x, y), score, batch=40, steps=150)
