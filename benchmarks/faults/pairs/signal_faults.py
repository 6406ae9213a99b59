"""Faults of the signal: it vanishes, explodes, dies or saturates on its way."""

from __future__ import annotations

from functools import partial

from benchmarks.faults import data
from benchmarks.faults.pairs import training_tasks as tasks
from benchmarks.faults.pairs.training_healthy import call, classify, flat, regress
from benchmarks.faults.program import Setup, fault

import pullback as pb
from pullback import nn

ASIDE = "GEN02 VER01 OPT02"
BROKEN = "NUM01 NUM02 OBJ04 OPT01 OPT03 GEN02 VER01"

# ---- vanishing ------------------------------------------------------------------------------


@fault(
    "eight_of_sigmoid",
    "sigmoids in every layer",
    "SIG01",
    "soil_tanh",
    also=ASIDE + " SIG08 SIG07 CUT04",
    layers=("layers",),
)
def eight_of_sigmoid(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.soil(seed)
    start = nn.init.xavier_uniform
    key = pb.random.key(seed)
    model = nn.MLP(10, tasks.SOILS, 32, 8, nn.sigmoid, key=key, initializer=start)  # here
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.05, momentum=0.9)
    return Setup(model, classify, optimizer, (x, y), score, batch=32, steps=300)


@fault(
    "squashed_maps",
    "sigmoids in every layer",
    "SIG01",
    "stamps_momentum",
    also=ASIDE + " SIG08 SIG07 CUT04",
    layers=("convs",),
)
def squashed_maps(seed: int) -> Setup:
    """Maps between 0 and 1, as the image is, from the first layer to the sixth."""
    x, y, x_valid, y_valid = tasks.stamps(seed)
    keys = pb.random.split(pb.random.key(seed), 7)
    model = {
        "convs": [
            nn.Conv2d(1 if i == 0 else 12, 12, 3, padding=1, stride=2 if i == 3 else 1, key=keys[i])
            for i in range(6)
        ],
        "head": nn.Linear(300, 4, key=keys[6]),
    }

    def predict(model, x):
        h = x
        for conv in model["convs"]:
            h = 1 / (1 + pb.exp(-conv(h)))  # here
        return model["head"](flat(h))

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    optimizer = pb.optim.sgd(pb.optim.cosine(0.02, 200), momentum=0.9, weight_decay=5e-4)
    return Setup(model, loss, optimizer, (x, y), score, batch=32)


@fault(
    "state_that_fades",
    "a recurrent net that forgets from the start",
    "SIG01 SIG07",
    "opening_by_hand",
    also=ASIDE + " CUT04",
    layers=("again",),
)
def state_that_fades(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.opening(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = {
        "in": nn.init.xavier_uniform(keys[0], (32, 4)),
        "again": nn.init.normal(keys[1], (32, 32), std=0.02),  # here
        "bias": pb.zeros(32),
        "head": nn.Linear(32, 4, key=keys[2]),
    }

    def predict(model, x):
        def step(h, row):
            h = nn.tanh(row @ model["in"].T + h @ model["again"].T + model["bias"])  # here
            return h, None

        steps = pb.moveaxis(pb.asarray(x), 1, 0)
        return model["head"](pb.scan(step, pb.zeros((x.shape[0], 32)), steps)[0])

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score, options = data.accuracy(predict, x_valid, y_valid), {"clip": 1.0}
    optimizer = pb.optim.sgd(0.1, momentum=0.9)
    return Setup(model, loss, optimizer, (x, y), score, steps=300, options=options)


@fault(
    "sigmoid_each_step",
    "a recurrent net that forgets from the start",
    "SIG01",
    "opening_by_hand",
    also=ASIDE + " SIG07 CUT04",
    layers=("cell",),
)
def sigmoid_each_step(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.opening(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    start, squash = nn.init.orthogonal, nn.sigmoid  # here
    net = {
        "cell": nn.RNN(4, 32, activation=squash, key=keys[0], hidden_initializer=start),  # here
        "out": nn.Linear(32, 4, key=keys[1]),
    }

    def predict(net, x):
        _, last = net["cell"](x)  # here
        return net["out"](last)

    def loss(net, x, y):
        return nn.cross_entropy(predict(net, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(net, loss, pb.optim.adam(3e-3), (x, y), score, steps=300)


# ---- exploding ------------------------------------------------------------------------------


@fault(
    "half_for_all",
    "a gradient that explodes at the start",
    "SIG02 SIG07",
    "soil_tanh",
    also=BROKEN + " SIG03 CUT04",
    layers=("layers",),
)
def half_for_all(seed: int) -> Setup:
    """A deviation of seven tenths for each weight, whatever the width."""
    x, y, x_valid, y_valid = tasks.soil(seed)
    start = partial(nn.init.normal, std=0.7)  # here
    key = pb.random.key(seed)
    model = nn.MLP(10, tasks.SOILS, 48, 8, nn.relu, key=key, initializer=start)  # here
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.05, momentum=0.9)
    return Setup(model, classify, optimizer, (x, y), score, batch=32, steps=300)


@fault(
    "state_that_grows",
    "a gradient that explodes at the start",
    "SIG02 SIG07",
    "opening_by_hand",
    also=BROKEN + " SIG03 CUT04",
    layers=("cell",),
)
def state_that_grows(seed: int) -> Setup:
    """A recurrent net of relu units, whose weights make more of the state in each step."""
    x, y, x_valid, y_valid = tasks.opening(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    again = partial(nn.init.normal, std=2.0)  # here
    cell = nn.RNN(4, 32, activation=nn.relu, key=keys[0], hidden_initializer=again)  # here
    model = {"cell": cell, "head": nn.Linear(32, 4, key=keys[1])}

    def predict(model, x):
        outputs, _ = model["cell"](x)
        return model["head"](outputs[:, -1])

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x, y), score, steps=300)


# ---- dead and saturated ---------------------------------------------------------------------


@fault(
    "kernels_cut_off",
    "relu of what is never above 0",
    "SIG03 CUT04",
    "soil_momentum",
    also=ASIDE,
    layers=("centres", "wide"),
    at_once=True,
)
def kernels_cut_off(seed: int) -> Setup:
    """How far a sample is from thirty centres, with a sign, through the usual activation."""
    x, y, x_valid, y_valid = tasks.soil(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {
        "centres": pb.random.normal(keys[0], (30, 10)),
        "wide": pb.ones(30),
        "head": nn.Linear(30, tasks.SOILS, key=keys[1]),
    }

    def predict(model, x):
        far = pb.sum((x[:, None, :] - model["centres"]) ** 2, axis=2) / 10
        return model["head"](nn.relu(-far * model["wide"] ** 2))  # here

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.05, momentum=0.9, nesterov=True)
    return Setup(model, loss, optimizer, (x, y), score, batch=32)


@fault(
    "less_its_maximum",
    "relu of what is never above 0",
    "SIG03 CUT04",
    "beats_rmsprop",
    also=ASIDE,
    layers=("first", "second"),
    at_once=True,
)
def less_its_maximum(seed: int) -> Setup:
    """Each map less its maximum, to be safe, before the relu."""
    x, y, x_valid, y_valid = tasks.beats(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = {
        "first": nn.Conv1d(1, 16, 5, padding=2, key=keys[0]),
        "second": nn.Conv1d(16, 24, 5, stride=2, key=keys[1]),
        "head": nn.Linear(24, 3, key=keys[2]),
    }

    def predict(model, x):
        h = nn.relu(model["first"](x))
        h = model["second"](h)
        h = nn.relu(h - pb.max(h, axis=2, keepdims=True))  # here
        return model["head"](pb.mean(h, axis=2))

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.rmsprop(2e-3), (x, y), score, batch=32, steps=300)


@fault(
    "sparse_from_the_start",
    "biases that begin far below 0",
    "SIG03",
    "harvest_adamw",
    also=ASIDE + " CUT04 SIG07",
    layers=("layers",),
)
def sparse_from_the_start(seed: int) -> Setup:
    """A bias below 0 shall make few units active."""
    x, y, x_valid, y_valid = tasks.harvest(seed)
    model = nn.MLP(6, 1, 48, 2, key=pb.random.key(seed))
    hidden = [p.replace(bias=pb.full((48,), -8.0)) for p in model.layers[:-1]]  # here
    model = model.replace(layers=(*hidden, model.layers[-1]))
    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.adamw(pb.optim.cosine(1e-2, 300), weight_decay=0.1)
    return Setup(model, regress, optimizer, (x, y), score, steps=300)


@fault(
    "threshold_of_filters",
    "biases that begin far below 0",
    "SIG03",
    "stamps_conv",
    also=ASIDE + " CUT04 SIG07",
    layers=("bank", "below"),
)
def threshold_of_filters(seed: int) -> Setup:
    """A filter answers above its threshold, and thresholds begin high."""
    x, y, x_valid, y_valid = tasks.stamps(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = {
        "bank": 0.3 * pb.random.normal(keys[0], (24, 1, 5, 5)),
        "below": pb.full((24, 1, 1), 20.0),  # here
        "head": nn.MLP(24 * 9, 4, 32, 1, key=keys[1]),
    }

    def predict(model, x):
        h = nn.relu(pb.conv2d(x, model["bank"]) - model["below"])  # here
        return model["head"](flat(pb.max_pool(h, 2)))

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x, y), score, batch=32)


@fault(
    "tanh_at_its_ends",
    "weights too large for bounded units",
    "SIG04 SIG07",
    "harvest_adamw",
    also=ASIDE + " OBJ04 SIG01 SIG02 CUT04",
    layers=("layers",),
)
def tanh_at_its_ends(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.harvest(seed)
    start = partial(nn.init.normal, std=4.0)  # here
    model = nn.MLP(6, 1, 48, 2, nn.tanh, key=pb.random.key(seed), initializer=start)  # here
    last = nn.Linear(48, 1, key=pb.random.key(seed + 1))
    model = model.replace(layers=(*model.layers[:-1], last))
    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.adamw(pb.optim.cosine(1e-2, 300), weight_decay=0.1)
    return Setup(model, regress, optimizer, (x, y), score, steps=300)


@fault(
    "gates_open_or_shut",
    "weights too large for bounded units",
    "SIG04 SIG07",
    "flag_gru",
    also=ASIDE + " OBJ04 SIG01 SIG02 CUT04",
    layers=("cell",),
)
def gates_open_or_shut(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.flag(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    wide = partial(nn.init.normal, std=6.0)  # here
    cell = nn.GRU(3, 24, key=keys[0], initializer=wide, hidden_initializer=wide)  # here
    model = {"cell": cell, "head": nn.Linear(24, 4, key=keys[1])}

    def predict(model, x):
        return model["head"](model["cell"](x)[1])

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score, options = data.accuracy(predict, x_valid, y_valid), {"clip": 1.0}
    optimizer = pb.optim.adam(1e-2)
    return Setup(model, loss, optimizer, (x, y), score, steps=300, options=options)
