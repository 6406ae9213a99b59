"""Faults of the network: how it begins, and how signals and gradients pass through it."""

from __future__ import annotations

from functools import partial

from benchmarks.faults import data
from benchmarks.faults.program import Setup, fault
from benchmarks.faults.programs.healthy import (
    Reader,
    class_loss,
    flat,
    logits,
    square_loss,
    unrolled,
)

import pullback as pb
from pullback import nn


@fault(
    "weights_of_one", "initial weights too large", "SIG07 SIG02 SIG04", "deep_relu",
    also="OBJ04 NUM01 NUM02 OPT01", layers=("layers",),
)  # fmt: skip
def weights_of_one(seed: int) -> Setup:
    """Weights of standard deviation 1 in ten layers of 48."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    start = nn.init.normal
    model = nn.MLP(64, 10, 48, 10, key=pb.random.key(seed), initializer=start)
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(1e-3), (x, y), score)


@fault(
    "conv_weights_of_one", "initial weights too large", "SIG07 SIG02 OBJ04", "conv",
    layers=("layers",), also="OPT01 OPT02",
)  # fmt: skip
def conv_weights_of_one(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.images(seed)
    keys = pb.random.split(pb.random.key(seed), 4)
    start = partial(nn.init.normal, std=2.0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, key=keys[0], initializer=start),
        nn.relu,
        nn.Conv2d(8, 16, 3, padding=1, key=keys[1], initializer=start),
        nn.relu,
        nn.Conv2d(16, 16, 3, 2, padding=1, key=keys[2], initializer=start),
        nn.relu,
        flat,
        nn.Linear(256, 10, key=keys[3], initializer=start),
    )
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.sgd(3e-4), (x, y), score, batch=32)


@fault(
    "weights_too_small", "initial weights too small", "SIG07 SIG01", "deep_relu",
    also="CUT04 VER01 OPT02", layers=("layers",),
)  # fmt: skip
def weights_too_small(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.standard_digits(seed)
    start = partial(nn.init.normal, std=0.01)
    model = nn.MLP(64, 10, 48, 10, key=pb.random.key(seed), initializer=start)
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(1e-3), (x, y), score)


@fault(
    "tanh_too_small", "initial weights too small", "SIG07 SIG01", "deep_tanh",
    also="CUT04 VER01 OPT02", layers=("layers",),
)  # fmt: skip
def tanh_too_small(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.standard_digits(seed)
    start = partial(nn.init.normal, std=0.02)
    model = nn.MLP(64, 10, 32, 20, pb.tanh, key=pb.random.key(seed), initializer=start)
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(1e-3), (x, y), score)


@fault(
    "all_zero", "zero initialisation", "SIG06 CUT04", "digits_mlp", also="VER01",
    layers=("layers",), at_once=True,
)  # fmt: skip
def all_zero(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed), initializer=nn.init.zeros)
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(2e-3), (x, y), score)


@fault(
    "all_equal", "symmetric initialisation", "SIG06", "digits_sgd", also="SIG07 OBJ04",
    layers=("layers",), at_once=True,
)  # fmt: skip
def all_equal(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.digits(seed)

    def start(key, shape, dtype="float32"):
        return pb.full(shape, 1 / shape[1], dtype=dtype)

    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed), initializer=start)
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.sgd(0.1, momentum=0.9), (x, y), score)


@fault(
    "hidden_equal", "symmetric initialisation", "SIG06", "spirals_tanh",
    layers=("layers[0]", "layers[1]", "layers[2]"), at_once=True,
)  # fmt: skip
def hidden_equal(seed: int) -> Setup:
    """One key for all, and a start that ignores it."""
    x, y, x_valid, y_valid = data.spirals(seed)

    def start(key, shape, dtype="float32"):
        return pb.full(shape, 0.1, dtype=dtype)

    model = nn.MLP(2, 3, 32, 2, pb.tanh, key=pb.random.key(seed), initializer=start)
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(1e-2), (x, y), score)


@fault(
    "no_activation",
    "missing activation",
    "SIG09 SIG08",
    "spirals_tanh",
    also="GEN02 VER01",
    at_once=True,
)
def no_activation(seed: int) -> Setup:
    """Three affine layers, one after the other, are one affine layer."""
    x, y, x_valid, y_valid = data.spirals(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = {
        "first": nn.Linear(2, 32, key=keys[0]),
        "second": nn.Linear(32, 32, key=keys[1]),
        "head": nn.Linear(32, 3, key=keys[2]),
    }

    def predict(model, x):
        h = model["second"](model["first"](x))  # here
        return model["head"](h)  # here

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score)


@fault(
    "no_activation_wave", "missing activation", "SIG09 SIG08", "wave_gelu", also="GEN02 VER01",
    layers=("layers",), at_once=True,
)  # fmt: skip
def no_activation_wave(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.wave(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = nn.Sequential(nn.Linear(4, 48, key=keys[0]), nn.Linear(48, 1, key=keys[1]))
    score = data.r_squared(logits, x_valid, y_valid)
    return Setup(model, square_loss, pb.optim.adam(5e-3), (x, y), score)


@fault("dead_at_start", "dead relu", "SIG03 CUT04", "digits_mlp", also="VER01", at_once=True)
def dead_at_start(seed: int) -> Setup:
    """Biases of -10: no unit ever gives more than 0."""
    x, y, x_valid, y_valid = data.digits(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    params = {
        "w": pb.random.normal(keys[0], (64, 64)) / 8,
        "b": pb.full((64,), -10.0),
        "v": pb.random.normal(keys[1], (64, 10)) / 8,
        "c": pb.zeros((10,)),
    }

    def predict(params, x):
        h = nn.relu(x @ params["w"] + params["b"])  # here
        return h @ params["v"] + params["c"]

    def loss(params, x, y):
        return nn.cross_entropy(predict(params, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(params, loss, pb.optim.adam(2e-3), (x, y), score)


@fault(
    "dead_later", "dead relu", "SIG03 OPT01", "digits_mlp", also="CUT04 OPT03 OBJ04",
    layers=("layers",),
)  # fmt: skip
def dead_later(seed: int) -> Setup:
    """A few long steps push every unit below 0, for good."""
    x, y, x_valid, y_valid = data.digits(seed)
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(0.3), (x, y), score)


@fault("relu_on_logits", "dead relu", "SIG03 CUT04", "spirals_relu", also="OBJ01 OBJ03 VER01")
def relu_on_logits(seed: int) -> Setup:
    """A relu behind the last layer, whose bias starts below 0: the logits are all 0."""
    x, y, x_valid, y_valid = data.spirals(seed)
    model = nn.MLP(2, 3, 48, 2, key=pb.random.key(seed))

    def loss(model, x, y):
        scores = nn.relu(model(x) - 6.0)  # here
        return nn.cross_entropy(scores, y)

    score = data.accuracy(lambda model, x: nn.relu(model(x) - 6.0), x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score)


@fault(
    "saturated_sigmoid", "saturated sigmoid", "SIG04 SIG07", "sigmoid_shallow", also="SIG01 OPT02",
    layers=("layers",),
)  # fmt: skip
def saturated_sigmoid(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.standard_digits(seed)
    start = partial(nn.init.normal, std=4.0)
    model = nn.MLP(64, 10, 64, 2, nn.sigmoid, key=pb.random.key(seed), initializer=start)
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(1e-3), (x, y), score)


@fault(
    "saturated_tanh", "saturated tanh", "SIG04 SIG07", "spirals_tanh", also="OPT02 VER01",
    layers=("layers",),
)  # fmt: skip
def saturated_tanh(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.spirals(seed)
    start = partial(nn.init.normal, std=6.0)
    model = nn.MLP(2, 3, 32, 2, pb.tanh, key=pb.random.key(seed), initializer=start)
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(1e-3), (x, y), score)


@fault(
    "deep_sigmoid", "vanishing gradient", "SIG01", "sigmoid_shallow", also="VER01 SIG08 CUT04",
    layers=("layers",),
)  # fmt: skip
def deep_sigmoid(seed: int) -> Setup:
    """Twelve sigmoids, each of which divides the gradient by four."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.MLP(64, 10, 64, 12, nn.sigmoid, key=pb.random.key(seed))
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(1e-3), (x, y), score)


@fault(
    "six_sigmoids", "vanishing gradient", "SIG01", "digits_sgd", also="VER01 SIG08 OPT02",
    layers=("layers",),
)  # fmt: skip
def six_sigmoids(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.digits(seed)
    model = nn.MLP(64, 10, 64, 6, nn.sigmoid, key=pb.random.key(seed))
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.sgd(0.1, momentum=0.9), (x, y), score)


@fault(
    "thirty_layers", "no residual in a deep net", "SIG08 SIG01 SIG07 SIG05", "deep_relu",
    also="VER01", layers=("layers",),
)  # fmt: skip
def thirty_layers(seed: int) -> Setup:
    """Thirty relu layers whose start loses half of the signal in each."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    start = nn.init.lecun_normal
    model = nn.MLP(64, 10, 32, 30, key=pb.random.key(seed), initializer=start)
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(1e-3), (x, y), score)


@fault(
    "exploding_recurrent", "exploding recurrent net", "SIG02 SIG07", "running_rnn",
    also="OPT01 OPT03 NUM01 NUM02 OBJ04", layers=("hidden",),
)  # fmt: skip
def exploding_recurrent(seed: int) -> Setup:
    """A linear recurrence whose weights are too large: 12 factors above 1."""
    x, y, x_valid, y_valid = data.running(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    params = {
        "inputs": nn.Linear(1, 24, key=keys[0]),
        "hidden": nn.Linear(24, 24, key=keys[1], initializer=nn.init.normal),
        "head": nn.Linear(24, 1, key=keys[2]),
    }

    def predict(params, x):
        h = params["inputs"](x[:, 0])
        for t in range(1, x.shape[1]):
            h = nn.relu(params["inputs"](x[:, t]) + params["hidden"](h))  # here
        return params["head"](h)

    def loss(params, x, y):
        return nn.mse(predict(params, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(params, loss, pb.optim.adam(5e-3), (x, y), score)


@fault(
    "exploding_rnn", "exploding recurrent net", "SIG02 SIG07", "running_rnn",
    also="OPT01 OPT03 NUM01 NUM02 OBJ04", layers=("body.weight_hidden", "body"),
)  # fmt: skip
def exploding_rnn(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.running(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    start = partial(nn.init.normal, std=0.6)
    body = nn.RNN(1, 24, activation=nn.relu, key=keys[0], hidden_initializer=start)
    model = Reader(body, nn.Linear(24, 1, key=keys[1]))
    score = data.r_squared(logits, x_valid, y_valid)
    return Setup(model, square_loss, pb.optim.adam(5e-3), (x, y), score)


@fault(
    "forgetful_recurrent", "vanishing recurrent net", "SIG01 SIG07", "running_unrolled",
    also="OPT02 VER01", layers=("hidden", "inputs"),
)  # fmt: skip
def forgetful_recurrent(seed: int) -> Setup:
    """Recurrent weights near 0: after two steps nothing is left of an input."""
    x, y, x_valid, y_valid = data.running(seed)
    model = unrolled(seed, partial(nn.init.normal, std=0.01))
    score = data.r_squared(logits, x_valid, y_valid)
    return Setup(model, square_loss, pb.optim.sgd(0.01), (x, y), score)


@fault(
    "branches_too_strong", "residual branches unscaled", "SIG07 SIG02 OBJ04", "residual",
    also="OPT01 NUM01 NUM02", layers=("blocks",),
)  # fmt: skip
def branches_too_strong(seed: int) -> Setup:
    """Residual blocks without normalisation, each of which trebles the signal."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    keys = pb.random.split(pb.random.key(seed), 26)
    start = partial(nn.init.he_normal, gain=2.0)

    def block(i):
        first = nn.Linear(48, 48, key=keys[2 * i], initializer=start)
        second = nn.Linear(48, 48, key=keys[2 * i + 1], initializer=start)
        return nn.ResidualBlock(nn.Sequential(first, nn.relu, second))

    model = {
        "inputs": nn.Linear(64, 48, key=keys[-1]),
        "blocks": tuple(block(i) for i in range(12)),
        "head": nn.Linear(48, 10, key=keys[-2]),
    }

    def predict(model, x):
        h = model["inputs"](x)
        for each in model["blocks"]:
            h = each(h)  # here
        return model["head"](h)

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-3), (x, y), score)


@fault(
    "large_logits",
    "last layer too large",
    "OBJ04",
    "zero_head",
    layers=("layers[2]",),
    also="SIG07 OPT02",
)
def large_logits(seed: int) -> Setup:
    """The loss starts at a hundred: the first steps only make the weights smaller."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    head = nn.Linear(64, 10, key=keys[1], initializer=partial(nn.init.normal, std=30.0))
    model = nn.Sequential(nn.Linear(64, 64, key=keys[0]), nn.relu, head)
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(1e-3), (x, y), score)
