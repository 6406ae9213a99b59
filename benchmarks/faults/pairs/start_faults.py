"""Faults of the beginning and of the structure: equal units, scales, depth, no activation."""

from __future__ import annotations

from functools import partial

from benchmarks.faults import data
from benchmarks.faults.pairs import training_healthy as first
from benchmarks.faults.pairs import training_tasks as tasks
from benchmarks.faults.pairs.training_healthy import call, classify, flat, regress
from benchmarks.faults.program import Setup, fault

import pullback as pb
from pullback import nn

ASIDE = "GEN02 VER01 OPT02"
BROKEN = "NUM01 NUM02 OBJ04 OPT01 OPT03 SIG02 SIG03 CUT04 GEN02 VER01"

# ---- equal units ----------------------------------------------------------------------------


@fault(
    "a_tenth_each",
    "all weights of one value",
    "SIG06",
    "harvest_sgd",
    also=ASIDE + " SIG07 OBJ04 OPT01",
    layers=("layers",),
    at_once=True,
)
def a_tenth_each(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.harvest(seed)

    def tenth(key, shape, dtype="float32"):
        return 0.1 * nn.init.ones(key, shape, dtype)

    model = nn.MLP(6, 1, 48, 1, key=pb.random.key(seed), initializer=tenth)  # here
    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.02, momentum=0.9)
    return Setup(model, regress, optimizer, (x, y), score, batch=32, steps=400)


@fault(
    "means_for_filters",
    "all weights of one value",
    "SIG06",
    "stamps_conv",
    also=ASIDE + " SIG07",
    layers=("layers",),
    at_once=True,
)
def means_for_filters(seed: int) -> Setup:
    """Each filter begins as the mean of its window, each layer as a mean."""
    x, y, x_valid, y_valid = tasks.stamps(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, key=pb.random.key(0)),
        nn.relu,
        nn.Conv2d(12, 16, 3, key=pb.random.key(0)),
        nn.relu,
        nn.MaxPool2d(2),
        flat,
        nn.Linear(256, 4, key=pb.random.key(0)),
    )

    def evened(layer):
        weight = layer.weight
        return layer.replace(weight=pb.full(weight.shape, 1.0 / weight[0].size))  # here

    parts = [evened(p) if isinstance(p, nn.Conv2d) else p for p in model.layers]
    parts[-1] = evened(parts[-1])
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.adam(3e-3)
    return Setup(nn.Sequential(*parts), classify, optimizer, (x, y), score, batch=32)


@fault(
    "zeros_for_all",
    "all weights begin at 0",
    "SIG06 CUT04",
    "soil_adam",
    also=ASIDE + " SIG07",
    layers=("layers",),
    at_once=True,
)
def zeros_for_all(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.soil(seed)
    start = nn.init.zeros
    key = pb.random.key(seed)
    model = nn.MLP(10, tasks.SOILS, 48, 1, key=key, initializer=start)  # here
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, classify, pb.optim.adam(5e-3), (x, y), score)


@fault(
    "arrays_of_zeros",
    "all weights begin at 0",
    "SIG06 CUT04",
    "opening_by_hand",
    also=ASIDE + " SIG07 SIG01",
    layers=("in", "again", "head"),
    at_once=True,
)
def arrays_of_zeros(seed: int) -> Setup:
    """Room for the weights, which were to be read from a file."""
    x, y, x_valid, y_valid = tasks.opening(seed)
    shapes = {"in": (4, 32), "again": (32, 32), "bias": (32,), "head": (32, 4), "last": (4,)}
    model = {name: pb.zeros(shape) for name, shape in shapes.items()}  # here

    def predict(model, x):
        h = pb.zeros((x.shape[0], 32))
        steps = pb.moveaxis(pb.asarray(x), 1, 0)

        def step(h, row):
            return nn.tanh(row @ model["in"] + h @ model["again"] + model["bias"]), None

        h, _ = pb.scan(step, h, steps)
        return h @ model["head"] + model["last"]

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score, options = data.accuracy(predict, x_valid, y_valid), {"clip": 1.0}
    optimizer = pb.optim.adam(3e-3)
    return Setup(model, loss, optimizer, (x, y), score, steps=300, options=options)


# ---- scales ---------------------------------------------------------------------------------


@fault(
    "drawn_without_a_scale",
    "weights with a deviation of 1",
    "SIG07",
    "harvest_by_hand",
    also=BROKEN + " SIG04",
    layers=("[0]", "[1]", "[2]"),
)
def drawn_without_a_scale(seed: int) -> Setup:
    """Normal numbers as they are drawn, in a network of relu units."""
    x, y, x_valid, y_valid = tasks.harvest(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    sizes = [(6, 40), (40, 40), (40, 1)]
    model = [
        {"w": pb.random.normal(k, size), "b": pb.zeros(size[1])}  # here
        for k, size in zip(keys, sizes, strict=True)
    ]
    optimizer = pb.optim.sgd(0.05, momentum=0.9)

    def forward(model, x):
        for layer in model[:-1]:
            x = nn.relu(x @ layer["w"] + layer["b"])
        return x @ model[-1]["w"] + model[-1]["b"]

    def loss(model, x, y):
        return nn.mse(forward(model, x), y)

    score = data.r_squared(forward, x_valid, y_valid)
    return Setup(model, loss, optimizer, (x, y), score, steps=400)


@fault(
    "wide_filters",
    "weights with a deviation of 1",
    "SIG07",
    "stamps_momentum",
    also=BROKEN,
    layers=("layers",),
)
def wide_filters(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.stamps(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    wide = {"initializer": nn.init.normal}  # here
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, key=keys[0], **wide),  # here
        nn.relu,
        nn.Conv2d(12, 16, 3, key=keys[1], **wide),  # here
        nn.relu,
        nn.MaxPool2d(2),
        flat,
        nn.Linear(256, 4, key=keys[2], **wide),  # here
    )
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(pb.optim.cosine(0.02, 200), momentum=0.9, weight_decay=5e-4)
    return Setup(model, classify, optimizer, (x, y), score, batch=32)


@fault(
    "hundredths_deep",
    "weights that begin far too small",
    "SIG07 SIG01",
    "soil_tanh",
    also=ASIDE + " CUT04 SIG08",
    layers=("layers",),
)
def hundredths_deep(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.soil(seed)
    small = partial(nn.init.truncated_normal, std=0.01)  # here
    key = pb.random.key(seed)
    model = nn.MLP(10, tasks.SOILS, 32, 5, nn.relu, key=key, initializer=small)  # here
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.05, momentum=0.9)
    return Setup(model, classify, optimizer, (x, y), score, batch=32, steps=300)


@fault(
    "faint_filters",
    "weights that begin far too small",
    "SIG07 SIG01",
    "stamps_momentum",
    also=ASIDE + " CUT04",
    layers=("convs",),
)
def faint_filters(seed: int) -> Setup:
    """Uniform numbers below a hundredth, as in a network of twenty years ago."""
    x, y, x_valid, y_valid = tasks.stamps(seed)
    keys = pb.random.split(pb.random.key(seed), 5)
    shapes = [(12, 1, 3, 3), (12, 12, 3, 3), (12, 12, 3, 3), (12, 12, 3, 3)]
    model = {
        "convs": [
            0.02 * pb.random.uniform(k, shape) - 0.01  # here
            for k, shape in zip(keys[:4], shapes, strict=True)
        ],
        "head": nn.Linear(192, 4, key=keys[4]),
    }

    def predict(model, x):
        for weight in model["convs"][:3]:
            x = nn.relu(pb.conv2d(x, weight, padding=1))
        x = nn.relu(pb.conv2d(x, model["convs"][3]))
        return model["head"](flat(pb.max_pool(x, 2)))

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    optimizer = pb.optim.sgd(pb.optim.cosine(0.02, 200), momentum=0.9, weight_decay=5e-4)
    return Setup(model, loss, optimizer, (x, y), score, batch=32)


# ---- depth ----------------------------------------------------------------------------------


@fault(
    "thirty_plain_layers",
    "very deep and plain",
    "SIG08 SIG05",
    "soil_tanh",
    also=ASIDE + " SIG01 SIG02 SIG03 SIG07 OPT01 OPT03 CUT04 OBJ04",
    layers=("layers",),
)
def thirty_plain_layers(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.soil(seed)
    model = nn.MLP(10, tasks.SOILS, 24, 30, nn.relu, key=pb.random.key(seed))  # here
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.05, momentum=0.9)
    return Setup(model, classify, optimizer, (x, y), score, batch=32, steps=300)


@fault(
    "a_tower_of_filters",
    "very deep and plain",
    "SIG08 SIG05",
    "beats_rmsprop",
    also=ASIDE + " SIG01 SIG02 SIG03 SIG07 OPT01 OPT03 CUT04 OBJ04",
    layers=("filters", "biases"),
)
def a_tower_of_filters(seed: int) -> Setup:
    """Twenty-eight convolutions, one after the other, by a scan over their weights."""
    x, y, x_valid, y_valid = tasks.beats(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = {
        "stem": nn.Conv1d(1, 16, 5, stride=2, key=keys[0]),
        "filters": pb.random.normal(keys[1], (28, 16, 16, 3)) * (2 / 48) ** 0.5,
        "biases": pb.zeros((28, 16)),
        "head": nn.Linear(16, 3, key=keys[2]),
    }

    def predict(model, x):
        def layer(h, weights):
            kernel, bias = weights
            return nn.relu(pb.conv1d(h, kernel, bias, padding=1)), None  # here

        h = nn.relu(model["stem"](x))
        h, _ = pb.scan(layer, h, (model["filters"], model["biases"]))
        return model["head"](pb.mean(h, axis=2))

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.rmsprop(2e-3), (x, y), score, batch=32, steps=300)


# ---- no activation --------------------------------------------------------------------------


@fault(
    "three_affine_layers",
    "layers without an activation",
    "SIG09",
    "harvest_sgd",
    also=ASIDE,
    layers=("layers",),
    at_once=True,
)
def three_affine_layers(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.harvest(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = nn.Sequential(
        nn.Linear(6, 48, key=keys[0]),  # here
        nn.Linear(48, 48, key=keys[1]),  # here
        nn.Linear(48, 1, key=keys[2]),  # here
    )
    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.02, momentum=0.9)
    return Setup(model, regress, optimizer, (x, y), score, batch=32, steps=400)


@fault(
    "filters_upon_filters",
    "layers without an activation",
    "SIG09",
    "stamps_conv",
    also=ASIDE,
    layers=("near", "far", "head"),
    at_once=True,
)
def filters_upon_filters(seed: int) -> Setup:
    """Two convolutions and a mean over windows: all of it is linear."""
    x, y, x_valid, y_valid = tasks.stamps(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = {
        "near": nn.Conv2d(1, 12, 3, padding=1, key=keys[0]),
        "far": nn.Conv2d(12, 16, 3, key=keys[1]),
        "head": nn.Linear(256, 4, key=keys[2]),
    }

    def predict(model, x):
        h = model["far"](model["near"](x))  # here
        h = nn.AvgPool2d(2)(h)
        return model["head"](flat(h))

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x, y), score, batch=32)


@fault(
    "result_not_kept",
    "an activation whose result is dropped",
    "SIG09",
    "harvest_by_hand",
    also=ASIDE,
    layers=("[0]", "[1]", "[2]"),
    at_once=True,
)
def result_not_kept(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.harvest(seed)

    def forward(model, x):
        for layer in model[:-1]:
            x = x @ layer["w"] + layer["b"]  # here
            pb.tanh(x)  # here
        return x @ model[-1]["w"] + model[-1]["b"]  # here

    def loss(model, x, y):
        return nn.mse(forward(model, x), y)

    score = data.r_squared(forward, x_valid, y_valid)
    model, optimizer = first.layered(seed, (6, 40, 40, 1)), pb.optim.sgd(0.05, momentum=0.9)
    return Setup(model, loss, optimizer, (x, y), score, steps=400)


@fault(
    "the_wrong_variable",
    "an activation whose result is dropped",
    "SIG09",
    "swarm_means",
    also=ASIDE,
    layers=("lift", "each", "merge", "out"),
    at_once=True,
)
def the_wrong_variable(seed: int) -> Setup:
    """`_act` is what the activation gave, and `h` goes on."""
    x, y, x_valid, y_valid = tasks.swarm(seed)
    keys = pb.random.split(pb.random.key(seed), 4)
    model = {
        "lift": nn.Linear(3, 48, key=keys[0]),
        "each": nn.Linear(48, 32, key=keys[1]),
        "merge": nn.Linear(32, 48, key=keys[2]),
        "out": nn.Linear(48, 1, key=keys[3]),
    }

    def predict(model, x):
        h = model["lift"](x)
        _act = nn.silu(h)
        h = model["each"](h)  # here
        _act = nn.silu(h)
        h = model["merge"](pb.mean(h, axis=1))  # here
        _act = nn.silu(h)
        return model["out"](h)  # here

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    optimizer = pb.optim.adam(5e-3)
    return Setup(model, loss, optimizer, (x, y), score, batch=32, steps=400)
