"""Faults of the network: its first weights, its activations, its depth."""

from __future__ import annotations

from functools import partial

from benchmarks.faults import data
from benchmarks.faults.fresh import tasks
from benchmarks.faults.fresh.healthy import binary_loss, call, class_loss, square_loss
from benchmarks.faults.fresh.structured import Last, Verdict, flat, shape_net
from benchmarks.faults.program import Setup, fault

import pullback as pb
from pullback import nn


@fault(
    "shapes_tiny_weights", "initial weights too small", "SIG07 SIG01", "shapes_conv",
    layers=("layers",), also="CUT04 VER01 OPT02",
)  # fmt: skip
def shapes_tiny_weights(seed: int) -> Setup:
    """Six convolutions whose weights have a standard deviation of 0.01."""
    x, y, x_valid, y_valid = tasks.shapes(seed)
    keys = pb.random.split(pb.random.key(seed), 7)
    start = partial(nn.init.normal, std=0.01)
    layers = []
    for i in range(6):
        layers += [
            nn.Conv2d(12 if i else 1, 12, 3, padding=1, key=keys[i], initializer=start),
            nn.relu,
        ]
    model = nn.Sequential(*layers, nn.MaxPool2d(2), flat, nn.Linear(300, 4, key=keys[6]))
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.sgd(0.05, momentum=0.9), (x, y), score, batch=40)


@fault(
    "clusters_tiny_weights", "initial weights too small", "SIG07 SIG01", "clusters_sgd",
    layers=("layers",), also="CUT04 VER01 OPT02",
)  # fmt: skip
def clusters_tiny_weights(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.clusters(seed)
    start = partial(nn.init.truncated_normal, std=1e-3)
    model = nn.MLP(12, 5, 96, 3, key=pb.random.key(seed), initializer=start)
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.sgd(0.3), (x, y), score, batch=40)


@fault(
    "friedman_large_weights", "initial weights too large", "SIG07 SIG02", "friedman_sgd",
    layers=("layers",), also="OBJ04 OPT01 OPT02 OPT03 NUM01 NUM02",
)  # fmt: skip
def friedman_large_weights(seed: int) -> Setup:
    """Uniform weights from -1 to 1 in four layers of 80."""
    x, y, x_valid, y_valid = tasks.friedman(seed)

    def start(key, shape, dtype="float32"):
        return 2 * pb.random.uniform(key, shape, dtype) - 1

    model = nn.MLP(10, 1, 80, 4, nn.gelu, key=pb.random.key(seed), initializer=start)
    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, square_loss, pb.optim.adam(1e-3), (x, y), score)


@fault(
    "tones_large_weights", "initial weights too large", "SIG07 SIG02", "tones_conv",
    layers=("layers",), also="OBJ04 OPT01 OPT02 OPT03",
)  # fmt: skip
def tones_large_weights(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.tones(seed)
    keys = pb.random.split(pb.random.key(seed), 4)
    start = partial(nn.init.normal, std=1.5)
    model = nn.Sequential(
        nn.Conv1d(1, 16, 5, padding=2, key=keys[0], initializer=start),
        nn.leaky_relu,
        nn.Conv1d(16, 16, 5, 2, padding=2, key=keys[1], initializer=start),
        nn.leaky_relu,
        nn.Conv1d(16, 16, 5, 2, padding=2, key=keys[2], initializer=start),
        nn.leaky_relu,
        lambda x: pb.mean(x, axis=2),
        nn.Linear(16, 3, key=keys[3]),
    )
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(2e-3), (x, y), score, batch=32)


@fault(
    "curve_saturated", "saturated tanh", "SIG04 SIG07", "curve_tanh",
    layers=("layers",), also="OPT02 VER01 SIG02",
)  # fmt: skip
def curve_saturated(seed: int) -> Setup:
    """He's start with a gain of ten."""
    x, y, x_valid, y_valid = tasks.curve(seed)
    start = partial(nn.init.he_normal, gain=10.0)
    model = nn.MLP(1, 1, 40, 3, pb.tanh, key=pb.random.key(seed), initializer=start)
    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.adam(1e-3)
    return Setup(model, square_loss, optimizer, (x, y), score, batch=128, steps=300)


@fault(
    "series_saturated", "saturated recurrent net", "SIG04 SIG07", "series_rnn",
    layers=("body",), also="SIG02 OPT02 VER01 SIG01",
)  # fmt: skip
def series_saturated(seed: int) -> Setup:
    """Recurrent weights of standard deviation 3: every state is -1 or 1."""
    x, y, x_valid, y_valid = tasks.series(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    start = partial(nn.init.normal, std=3.0)
    body = nn.RNN(1, 28, key=keys[0], hidden_initializer=start)
    model = Last(body, nn.Linear(28, 1, key=keys[1]))
    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, square_loss, pb.optim.adam(2e-3), (x, y), score, batch=32)


@fault(
    "adding_forgets", "forget gate closed", "SIG01 SIG04", "adding_lstm",
    layers=("body",), also="VER01 OPT02 SIG07",
)  # fmt: skip
def adding_forgets(seed: int) -> Setup:
    """The bias of all gates starts at -6: nothing gets in, nothing is kept."""
    x, y, x_valid, y_valid = tasks.adding(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    body = nn.LSTM(2, 24, key=keys[0])
    body = body.replace(bias=pb.full((96,), -6.0))
    model = Last(body, nn.Linear(24, 1, key=keys[1]))
    score = data.r_squared(call, x_valid, y_valid)
    optimizer, options = pb.optim.adam(1e-2), {"clip": 1.0}
    return Setup(model, square_loss, optimizer, (x, y), score, steps=500, options=options)


@fault(
    "order_exploding", "exploding recurrent net", "SIG02 SIG07", "order_lstm",
    layers=("body",), also="OPT01 OPT03 NUM01 NUM02 OBJ04",
)  # fmt: skip
def order_exploding(seed: int) -> Setup:
    """A relu net whose state grows fourfold with every word."""
    x, y, x_valid, y_valid = tasks.order(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    start = partial(nn.init.he_normal, gain=4.0)
    body = nn.RNN(12, 24, activation=nn.relu, key=keys[0], hidden_initializer=start)
    words = nn.Embedding(tasks.TOKENS, 12, key=keys[1], initializer=nn.init.normal)
    model = Verdict(words, body, nn.Linear(24, 1, key=keys[2]))
    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(model, binary_loss, pb.optim.adam(1e-2), (x, y), score, batch=32)


@fault(
    "adding_vanishing", "vanishing recurrent net", "SIG01", "adding_lstm",
    layers=("body",), also="SIG07 VER01 OPT02",
)  # fmt: skip
def adding_vanishing(seed: int) -> Setup:
    """Sigmoid units in a plain recurrent net, weights of 0.05."""
    x, y, x_valid, y_valid = tasks.adding(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    start = partial(nn.init.normal, std=0.05)
    body = nn.RNN(2, 24, activation=nn.sigmoid, key=keys[0], hidden_initializer=start)
    model = Last(body, nn.Linear(24, 1, key=keys[1]))
    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, square_loss, pb.optim.adam(1e-2), (x, y), score, steps=500)


@fault(
    "rings_sigmoids", "vanishing gradient", "SIG01", "rings_silu",
    layers=("layers",), also="VER01 SIG08 CUT04 SIG07",
)  # fmt: skip
def rings_sigmoids(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.rings(seed)
    model = nn.MLP(2, 4, 40, 9, nn.sigmoid, key=pb.random.key(seed))
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adamw(8e-3), (x, y), score, batch=100)


@fault(
    "code_sigmoids", "vanishing gradient", "SIG01", "manifold_code",
    layers=("encoder", "decoder"), also="VER01 SIG08 CUT04 SIG07",
)  # fmt: skip
def code_sigmoids(seed: int) -> Setup:
    """An encoder and a decoder of four sigmoid layers each."""
    x, _, x_valid, _ = tasks.manifold(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {
        "encoder": nn.MLP(20, 4, 48, 4, nn.sigmoid, key=keys[0]),
        "decoder": nn.MLP(4, 20, 48, 4, nn.sigmoid, key=keys[1]),
    }

    def predict(model, x):
        return model["decoder"](nn.sigmoid(model["encoder"](x)))

    def loss(model, x):
        return nn.mse(predict(model, x), x)

    score = data.r_squared(predict, x_valid, x_valid)
    return Setup(model, loss, pb.optim.adam(8e-3), (x,), score, steps=300)


@fault(
    "digits_unscaled_branches", "residual branches unscaled", "SIG07 SIG02",
    "digits_deep_residual", also="OBJ04 OPT01 OPT03 NUM01 NUM02",
    layers=("layers",),
)  # fmt: skip
def digits_unscaled_branches(seed: int) -> Setup:
    """Twenty-four relu branches of full size and no normalisation: the signal doubles in each."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    keys = pb.random.split(pb.random.key(seed), 26)

    def block(key):
        keys = pb.random.split(key, 2)
        first = nn.Linear(32, 32, key=keys[0], initializer=nn.init.he_normal)
        second = nn.Linear(32, 32, key=keys[1], initializer=nn.init.he_normal)
        return nn.ResidualBlock(nn.Sequential(first, nn.relu, second))

    model = nn.Sequential(
        nn.Linear(64, 32, key=keys[-1]),
        *[block(key) for key in keys[:24]],
        nn.Linear(32, 10, key=keys[-2]),
    )
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(2e-3), (x, y), score, batch=32)


@fault(
    "digits_forty_layers", "no residual in a deep net", "SIG05 SIG08 SIG07",
    "digits_deep_residual", layers=("layers",), also="VER01 SIG01 SIG03 CUT04",
)  # fmt: skip
def digits_forty_layers(seed: int) -> Setup:
    """Forty relu layers of 24 units; He's start keeps the variance, and nothing else."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    start = nn.init.he_normal
    model = nn.MLP(64, 10, 24, 40, key=pb.random.key(seed), initializer=start)
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(2e-3), (x, y), score, batch=32)


@fault(
    "shapes_equal_filters", "symmetric initialisation", "SIG06", "shapes_conv",
    layers=("layers[0]", "layers[3]"), also="VER01", at_once=True,
)  # fmt: skip
def shapes_equal_filters(seed: int) -> Setup:
    """All filters are means over their windows, and stay equal."""
    x, y, x_valid, y_valid = tasks.shapes(seed)

    def start(key, shape, dtype="float32"):
        return pb.full(shape, 1.0 / (shape[1] * shape[2] * shape[3]), dtype=dtype)

    model = shape_net(seed, start)
    head = model.layers[6].replace(weight=pb.full((4, 400), 0.01))
    model = model.replace(layers=(*model.layers[:6], head))
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(3e-3), (x, y), score, batch=40)


@fault(
    "series_ones", "symmetric initialisation", "SIG06", "series_rnn",
    layers=("body",), also="VER01 SIG07 SIG04 SIG02", at_once=True,
)  # fmt: skip
def series_ones(seed: int) -> Setup:
    """A recurrent net with all its weights equal: 28 copies of one unit."""
    x, y, x_valid, y_valid = tasks.series(seed)

    def start(key, shape, dtype="float32"):
        return pb.full(shape, 1.0 / 28, dtype=dtype)

    body = nn.RNN(1, 28, key=pb.random.key(seed), initializer=start, hidden_initializer=start)
    model = Last(body, nn.Linear(28, 1, key=pb.random.key(seed), initializer=start))
    score = data.r_squared(call, x_valid, y_valid)
    optimizer, options = pb.optim.sgd(0.05, momentum=0.9), {"clip": 1.0}
    return Setup(model, square_loss, optimizer, (x, y), score, batch=32, options=options)


@fault(
    "adapter_zero", "both factors of a product are 0", "CUT04 SIG06", "digits_whitened",
    layers=("down", "up"), also="VER01", at_once=True,
)  # fmt: skip
def adapter_zero(seed: int) -> Setup:
    """An adapter of low rank on a frozen layer; it begins with two matrices of zeros."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    frozen = nn.freeze(nn.MLP(64, 10, 24, 2, pb.tanh, key=keys[0]))
    model = {"base": frozen, "down": pb.zeros((64, 8)), "up": pb.zeros((8, 10))}

    def predict(model, x):
        return model["base"](x) + x @ model["down"] @ model["up"]

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(4e-3), (x, y), score)


@fault(
    "lstm_zero", "zero initialisation", "SIG06 CUT04", "order_lstm",
    layers=("body", "head"), also="VER01", at_once=True,
)  # fmt: skip
def lstm_zero(seed: int) -> Setup:
    """The recurrent layer and the head start at 0."""
    x, y, x_valid, y_valid = tasks.order(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    zeros = nn.init.zeros
    body = nn.LSTM(12, 24, key=keys[0], initializer=zeros, hidden_initializer=zeros)
    words = nn.Embedding(tasks.TOKENS, 12, key=keys[1], initializer=nn.init.normal)
    model = Verdict(words, body, nn.Linear(24, 1, key=keys[2], initializer=zeros))
    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(model, binary_loss, pb.optim.adam(1e-2), (x, y), score, batch=32)


@fault(
    "rings_linear", "missing activation", "SIG09", "rings_silu",
    also="GEN02 VER01", at_once=True,
)  # fmt: skip
def rings_linear(seed: int) -> Setup:
    """The activation is made and not called: layers follow each other directly."""
    x, y, x_valid, y_valid = tasks.rings(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = [
        nn.Linear(2, 40, key=keys[0]),
        nn.Linear(40, 40, key=keys[1]),
        nn.Linear(40, 4, key=keys[2]),
    ]

    def predict(model, x):
        for layer in model:
            x = layer(x)  # here
        return x

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adamw(8e-3), (x, y), score, batch=100)


@fault(
    "shapes_linear", "missing activation", "SIG09", "shapes_conv",
    layers=("layers",), also="GEN02 VER01 GEN01", at_once=True,
)  # fmt: skip
def shapes_linear(seed: int) -> Setup:
    """Two convolutions and a mean over windows: a linear function of the image."""
    x, y, x_valid, y_valid = tasks.shapes(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, key=keys[0]),
        nn.Conv2d(12, 16, 3, padding=1, key=keys[1]),
        nn.AvgPool2d(2),
        flat,
        nn.Linear(400, 4, key=keys[2]),
    )
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(3e-3), (x, y), score, batch=40)


@fault(
    "shapes_dead", "dead relu", "SIG03 CUT04", "shapes_conv", layers=("layers[0]", "layers[1]"),
    also="VER01",
)  # fmt: skip
def shapes_dead(seed: int) -> Setup:
    """Biases of -20 before a relu: no filter ever fires."""
    x, y, x_valid, y_valid = tasks.shapes(seed)
    model = shape_net(seed)
    first = model.layers[0].replace(bias=pb.full((12,), -20.0))
    model = model.replace(layers=(first, *model.layers[1:]))
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(3e-3), (x, y), score, batch=40)


@fault(
    "clusters_dying", "learning rate too high", "OPT01", "clusters_sgd",
    also="SIG03 CUT04 OPT03 OBJ04 SIG02",
)  # fmt: skip
def clusters_dying(seed: int) -> Setup:
    """A rate that throws units of three relu layers below 0 for good."""
    x, y, x_valid, y_valid = tasks.clusters(seed)
    model = nn.MLP(12, 5, 32, 3, key=pb.random.key(seed))
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.rmsprop(0.2), (x, y), score, batch=40)
