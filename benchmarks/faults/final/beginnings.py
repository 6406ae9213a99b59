"""Faults of the network as it begins: its weights, its activations, its depth."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.final import structures, tables, tasks
from benchmarks.faults.final.tables import call, classify, decide, regress
from benchmarks.faults.program import Setup, fault

import pullback as pb
from pullback import nn

# ---- equal weights --------------------------------------------------------------------------


@fault(
    "shop_of_equal_factors",
    "symmetric initialisation",
    "SIG06",
    "purchases_factors",
    layers=("people", "things"),
    also="VER01",
    at_once=True,
)
def shop_of_equal_factors(seed: int) -> Setup:
    """All factors of a person begin equal, so they stay one factor."""
    x, y, x_valid, y_valid = tasks.purchases(seed)
    rng = np.random.default_rng([seed, 161])

    def table(rows):
        column = rng.normal(0, 0.3, (rows, 1)).astype(np.float32)
        return pb.asarray(np.repeat(column, 6, axis=1))

    model = structures.shop(seed)
    people, things = table(tasks.PEOPLE), table(tasks.THINGS)
    model = {
        "people": model["people"].replace(weight=people),
        "things": model["things"].replace(weight=things),
    }
    score = data.binary_accuracy(structures.fits, x_valid, y_valid)
    optimizer = pb.optim.adam(2e-2)
    return Setup(model, structures.buy_loss, optimizer, (x, y), score, steps=300)


@fault(
    "lumps_in_one_place",
    "components begin equal",
    "SIG06",
    "lumps_mixture",
    layers=("means", "log_spreads", "shares"),
    also="CUT04",
    at_once=True,
)
def lumps_in_one_place(seed: int) -> Setup:
    """All four densities begin at the mean of the points."""
    x, x_valid, which = tasks.lumps(seed)
    model = tables.gaussians(np.tile(x.mean(0), (4, 1)))

    def loss(model, x):
        return -pb.mean(pb.logsumexp(tables.densities(model, x), axis=1))

    score = tables.found(x_valid, which)
    return Setup(model, loss, pb.optim.adam(5e-2), (x,), score, steps=300)


@fault(
    "wines_constant",
    "constant initialisation",
    "SIG06",
    "wines_adam",
    layers=("layers",),
    also="VER01 SIG07 OBJ04 OPT01",
    at_once=True,
)
def wines_constant(seed: int) -> Setup:
    """0.05 everywhere."""
    x, y, x_valid, y_valid = tasks.wines(seed)
    start = partial(nn.init.normal, std=0.0, mean=0.05)
    model = nn.MLP(9, 4, 64, 2, key=pb.random.key(seed), initializer=start)
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, classify, pb.optim.adam(3e-3), (x, y), score, batch=32)


# ---- scales ---------------------------------------------------------------------------------


@fault(
    "wines_wide",
    "initial weights too large",
    "SIG07 SIG02",
    "wines_momentum",
    layers=("layers",),
    also="OBJ04 OPT01 OPT02 OPT03 SIG03 NUM01 NUM02",
)
def wines_wide(seed: int) -> Setup:
    """A standard deviation of 1, whatever the width."""
    x, y, x_valid, y_valid = tasks.wines(seed)
    model = nn.MLP(9, 4, 64, 2, key=pb.random.key(seed), initializer=nn.init.normal)
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.05, momentum=0.9)
    return Setup(model, classify, optimizer, (x, y), score, batch=32)


@fault(
    "arrows_faint",
    "initial weights too small",
    "SIG07 SIG01",
    "arrows_momentum",
    layers=("layers",),
    also="GEN02 VER01 OPT02 CUT04",
)
def arrows_faint(seed: int) -> Setup:
    """A standard deviation of 0.001 in every layer."""
    x, y, x_valid, y_valid = tasks.standard_arrows(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    start = partial(nn.init.normal, std=1e-3)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, key=keys[0], initializer=start),
        nn.relu,
        nn.Conv2d(12, 16, 3, stride=2, key=keys[1], initializer=start),
        nn.relu,
        structures.flat,
        nn.Linear(144, 4, key=keys[2], initializer=start),
    )
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.03, momentum=0.9, weight_decay=1e-4)
    return Setup(model, classify, optimizer, (x, y), score, batch=32)


@fault(
    "notes_loud",
    "embedding too large for its second use",
    "OBJ04 SIG07",
    "scales_attention",
    layers=("notes",),
    also="OPT02 SIG04 OPT01 OPT03",
)
def notes_loud(seed: int) -> Setup:
    """One table for both ends with a standard deviation of 4: the logits begin in the tens."""
    x, y, x_valid, y_valid = tasks.scales(seed)
    score = tasks.next_note(call, x_valid, y_valid)
    model = structures.Whistler(seed, std=4.0)
    return Setup(model, classify, pb.optim.adam(5e-3), (x, y), score, batch=32, steps=300)


@fault(
    "regime_explodes",
    "exploding recurrent net",
    "SIG02 SIG07",
    "regime_rnn",
    layers=("cell",),
    also="GEN02 OPT01 OPT03 NUM01 NUM02 OBJ04",
)
def regime_explodes(seed: int) -> Setup:
    """Relu in place of tanh, and hidden weights of variance 4 over the width."""
    x, y, x_valid, y_valid = tasks.regime(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    start = partial(nn.init.normal, std=2 / 24**0.5)
    model = {
        "cell": nn.RNN(1, 24, activation=nn.relu, key=keys[0], hidden_initializer=start),
        "head": nn.Linear(24, 3, key=keys[1]),
    }

    def predict(model, x):
        return model["head"](pb.mean(model["cell"](x)[0] ** 2, axis=1))

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.rmsprop(5e-3), (x, y), score)


# ---- activations ----------------------------------------------------------------------------


@fault(
    "tags_sigmoids",
    "vanishing gradient",
    "SIG01",
    "tags_layers",
    layers=("layers",),
    also="GEN02 VER01 SIG08 CUT04 SIG07 OPT02",
)
def tags_sigmoids(seed: int) -> Setup:
    """Seven hidden layers of sigmoids, with weights for tanh."""
    x, y, x_valid, y_valid = tasks.tags(seed)
    key = pb.random.key(seed)
    model = nn.MLP(14, tasks.TAGS, 48, 7, nn.sigmoid, key=key, initializer=nn.init.xavier_normal)
    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(model, decide, pb.optim.adam(3e-3), (x, y), score)


@fault(
    "highway_closed",
    "gates begin closed",
    "SIG04 SIG01",
    "checker_by_hand",
    layers=("gate", "body"),
    also="CUT04 OPT02 VER01 SIG09 SIG07 GEN02",
)
def highway_closed(seed: int) -> Setup:
    """Highway layers whose gates begin with a bias of -25: they are all carry."""
    x, y, x_valid, y_valid = tasks.checker(seed)
    keys = pb.random.split(pb.random.key(seed), 4)
    gate = nn.Linear(32, 32, key=keys[1])
    model = {
        "first": nn.Linear(2, 32, key=keys[0]),
        "gate": gate.replace(bias=gate.bias - 25.0),
        "body": nn.MLP(32, 32, 32, 1, key=keys[2]),
        "head": nn.Linear(32, 1, key=keys[3]),
    }

    def predict(model, x):
        h = model["first"](x)
        share = nn.sigmoid(model["gate"](h))
        return model["head"](share * model["body"](h) + (1 - share) * h)

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(predict(model, x), y)

    score = data.binary_accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.sgd(0.1, momentum=0.9), (x, y), score, steps=500)


@fault(
    "scores_multiplied",
    "attention scores multiplied by the width",
    "SIG04",
    "tagging_transformer",
    also="SIG07 SIG02 OPT02 VER01 OPT01 CUT04",
)
def scores_multiplied(seed: int) -> Setup:
    """The products of queries and keys are multiplied, not divided: each word sees one word."""
    x, y, x_valid, y_valid = tasks.tagging(seed)
    keys = pb.random.split(pb.random.key(seed), 7)
    model = {
        "words": nn.Embedding(tasks.WORDS, 24, key=keys[0], initializer=nn.init.normal),
        "places": pb.random.normal(keys[1], (10, 24)),
        **{k: nn.Linear(24, 24, key=keys[i]) for k, i in (("q", 2), ("k", 3), ("v", 4))},
        "after": nn.MLP(24, 3, 64, 1, nn.gelu, key=keys[5]),
    }

    def predict(model, x):
        h = model["words"](x) + model["places"]
        scores = model["q"](h) @ model["k"](h).mT * 24.0  # here
        scores = pb.where((x > 0)[:, None, :], scores, -1e9)
        h = h + pb.softmax(scores, axis=2) @ model["v"](h)  # here
        return model["after"](h)

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y, ignore_index=-1)

    score = tasks.kinds(predict, x_valid, y_valid)
    optimizer = pb.optim.adamw(pb.optim.warmup_cosine(5e-3, 30, 400))
    return Setup(model, loss, optimizer, (x, y), score, batch=32, steps=400)


@fault(
    "houses_no_activation",
    "missing activation",
    "SIG09",
    "houses_adam",
    also="GEN02 VER01",
    at_once=True,
)
def houses_no_activation(seed: int) -> Setup:
    """What relu gives is not kept."""
    x, y, x_valid, y_valid = tasks.standard_houses(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    sizes = [(6, 48), (48, 48), (48, 1)]
    model = [nn.Linear(*size, key=key) for size, key in zip(sizes, keys, strict=True)]

    def predict(model, x):
        for layer in model[:-1]:
            x = layer(x)  # here
            nn.relu(x)
        return model[-1](x)

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score, batch=32)


@fault(
    "board_linear",
    "activation None",
    "SIG09",
    "checker_adam",
    layers=("layers",),
    also="GEN02 VER01",
    at_once=True,
)
def board_linear(seed: int) -> Setup:
    """An activation that was looked up by name, and the name stands for none."""
    x, y, x_valid, y_valid = tasks.checker(seed)
    activations = {"silu": nn.silu, "linear": lambda x: x}
    model = nn.MLP(2, 1, 48, 2, activations["linear"], key=pb.random.key(seed))
    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(model, decide, pb.optim.adam(1e-2), (x, y), score, steps=400)


@fault(
    "houses_dead",
    "dead relu",
    "SIG03 CUT04",
    "houses_adam",
    layers=("layers[0]", "layers[1]"),
    also="GEN02 VER01 OPT02 DAT03",
)
def houses_dead(seed: int) -> Setup:
    """Biases that are drawn far below 0: no unit of the second layer ever answers."""
    x, y, x_valid, y_valid = tasks.standard_houses(seed)
    model = tables.appraiser(seed)
    first, second, last = model.layers
    second = second.replace(bias=second.bias - 40.0)
    model = model.replace(layers=(first, second, last))
    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, regress, pb.optim.adam(5e-3), (x, y), score, batch=32)


@fault(
    "arrows_thirty",
    "no residual in a deep net",
    "SIG08 SIG01 SIG07",
    "arrows_residual",
    layers=("layers",),
    also="GEN02 SIG05 VER01 SIG03 CUT04 OPT02",
)
def arrows_thirty(seed: int) -> Setup:
    """Thirty plain layers, with weights for layers without relu."""
    x, y, x_valid, y_valid = tasks.standard_arrows(seed)
    keys = pb.random.split(pb.random.key(seed), 31)
    layers: list[Any] = [structures.flat, nn.Linear(81, 32, key=keys[0])]
    for i in range(1, 30):
        layers += [nn.relu, nn.Linear(32, 32, key=keys[i])]
    model = nn.Sequential(*layers, nn.relu, nn.Linear(32, 4, key=keys[30]))
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.adamw(5e-3)
    return Setup(model, classify, optimizer, (x, y), score, batch=32, steps=150)
