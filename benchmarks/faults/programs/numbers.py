"""Faults of numbers: something is not finite, or loses its digits."""

from __future__ import annotations

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.program import Setup, fault
from benchmarks.faults.programs.healthy import logits, square_loss

import pullback as pb
from pullback import nn


@fault("log_of_zero", "log(0)", "NUM01", "digits_mlp", also="NUM06 NUM04 OBJ04 DAT01", at_once=True)
def log_of_zero(seed: int) -> Setup:
    """One sample of a batch is far away; its softmax underflows."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    x = x.copy()
    x[::40] *= 300
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))

    def loss(model, x, y):
        p = pb.softmax(model(x))
        return -pb.mean(pb.log(pb.sum(p * pb.one_hot(y, 10), axis=1)))  # here

    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(2e-3), (x, y), score)


@fault("log_of_output", "log of what may be negative", "NUM01 NUM04", "moons_bce", at_once=True)
def log_of_output(seed: int) -> Setup:
    """The cross-entropy of probabilities, given logits."""
    x, y, x_valid, y_valid = data.moons(seed)
    model = nn.MLP(2, 1, 24, 2, nn.gelu, key=pb.random.key(seed))

    def loss(model, x, y):
        p = model(x)
        return -pb.mean(y * pb.log(p) + (1 - y) * pb.log(1 - p))  # here

    score = data.binary_accuracy(logits, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score)


@fault("root_of_zero", "sqrt at 0", "NUM02 NUM04", "contrast", at_once=True)
def root_of_zero(seed: int) -> Setup:
    """The distances of all pairs, also of a sample to itself."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.MLP(64, 16, 64, 1, key=pb.random.key(seed))

    def loss(model, x, y):
        z = model(x)
        d = z[:, None, :] - z[None, :, :]
        distance = pb.sqrt(pb.sum(d * d, axis=-1))  # here
        same = (y[:, None] == y[None, :]).astype(np.float32)
        return pb.mean(same * distance + (1 - same) * pb.maximum(2.0 - distance, 0.0))

    def nearest(model, points):
        a, b = np.asarray(model(x)), np.asarray(model(points))
        return np.eye(10)[y[((b[:, None] - a[None]) ** 2).sum(-1).argmin(1)]]

    score = data.accuracy(nearest, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x, y), score)


@fault("norm_of_zero", "sqrt at 0", "NUM02 NUM04", "wave_gelu", at_once=True)
def norm_of_zero(seed: int) -> Setup:
    """The root of the mean square: with weights of 0 the residual of some samples is 0."""
    x, y, x_valid, y_valid = data.wave(seed)
    y = np.where(y > 0, y, 0)
    model = nn.Sequential(
        nn.Linear(4, 48, key=pb.random.key(seed)),
        nn.relu,
        nn.Linear(48, 1, key=pb.random.key(seed), initializer=nn.init.zeros),
    )

    def loss(model, x, y):
        return pb.mean(pb.sqrt((model(x) - y) ** 2))  # here

    score = data.r_squared(logits, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score)


@fault("where_trap", "where trap", "NUM01 NUM02 NUM05", "wave_gelu", also="NUM04", at_once=True)
def where_trap(seed: int) -> Setup:
    """The branch that is not chosen is computed all the same."""
    x, y, x_valid, y_valid = data.wave(seed)
    model = nn.MLP(4, 1, 48, 2, nn.gelu, key=pb.random.key(seed))

    def signed_root(z):
        return pb.where(z > 0, 5 * pb.tanh(pb.sqrt(z)), z)  # here

    def loss(model, x, y):
        return pb.mean((signed_root(model(x)) - y) ** 2)

    score = data.r_squared(lambda model, x: signed_root(model(x)), x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score)


@fault(
    "where_trap_log", "where trap", "NUM01 NUM02 NUM05", "plane_linear", also="NUM04", at_once=True
)
def where_trap_log(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.plane(seed)
    params = {"w": pb.random.normal(pb.random.key(seed), (8, 1)) / 3, "b": pb.zeros((1,))}

    def predict(params, x):
        features = x / pb.sum(x, axis=1, keepdims=True) ** 0
        h = features @ params["w"] + params["b"]
        return pb.where(h > 1, 1 + nn.sigmoid(pb.log(h)), h)  # here

    def loss(params, x, y):
        return pb.mean((predict(params, x) - y) ** 2)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(params, loss, pb.optim.sgd(0.1), (x, y), score)


@fault(
    "divided_by_spread",
    "division by 0",
    "NUM01 NUM02 NUM04",
    "digits_mlp",
    also="DAT01",
    at_once=True,
)
def divided_by_spread(seed: int) -> Setup:
    """Pixels at the border are always 0, and so is their standard deviation."""
    x, y, x_valid, y_valid = data.digits(seed)
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))

    def loss(model, x, y):
        z = (x - pb.mean(x, axis=0)) / pb.std(x, axis=0)  # here
        return nn.cross_entropy(model(z), y)

    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(2e-3), (x, y), score)


@fault("nan_in_data", "NaN in the data", "NUM01 DAT01", "wave_gelu", at_once=True)
def nan_in_data(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.wave(seed)
    x = x.copy()
    x[::50, 2] = np.nan
    model = nn.MLP(4, 1, 48, 2, nn.gelu, key=pb.random.key(seed))
    score = data.r_squared(logits, x_valid, y_valid)
    return Setup(model, square_loss, pb.optim.adam(5e-3), (x, y), score)


@fault("exp_overflow", "exp overflow", "NUM01 NUM02", "counts", also="NUM03 OPT01", at_once=True)
def exp_overflow(seed: int) -> Setup:
    """A rate for each second, where the counts are of an hour: e to the power of hundreds."""
    x, rate, x_valid, rate_valid = data.rates(seed)
    y = np.random.default_rng(seed + 5).poisson(rate).astype(np.float32)
    model = nn.MLP(4, 1, 32, 1, pb.tanh, key=pb.random.key(seed))

    def loss(model, x, y):
        z = 100 * model(x)
        return pb.mean(pb.exp(z) - y * z)  # here

    score = data.r_squared(lambda model, x: pb.exp(100 * model(x)), x_valid, rate_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score)


@fault("fp16_overflow", "fp16 overflow", "NUM01", "fp16", also="DAT01 OBJ04", at_once=True)
def fp16_overflow(seed: int) -> Setup:
    """A sum of squares of pixels up to 255, in half precision: beyond 65504."""
    x, y, x_valid, y_valid = data.digits(seed)
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))

    def predict(model, x):
        z = x.astype("float16") * 255
        length = pb.sum(z * z, axis=1, keepdims=True)  # here
        return model((z / length * 1000).astype("float32"))

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(2e-3), (x, y), score)


@fault("bf16_counter", "bf16 accumulation", "CUT04 OPT02 NUM07", "plane_linear")
def bf16_parameters(seed: int) -> Setup:
    """Parameters kept in bfloat16: steps below 2⁻⁹ of a weight are rounded away."""
    x, y, x_valid, y_valid = data.plane(seed)
    params = {"w": pb.ones((8, 1), dtype="bfloat16"), "b": pb.zeros((1,))}

    def predict(params, x):
        return x @ params["w"].astype("float32") + params["b"]

    def loss(params, x, y):
        return pb.mean((predict(params, x) - y) ** 2)

    @pb.compile
    def step(state, x, y):
        params, memory = state
        value, grads = pb.value_and_grad(loss)(params, x, y)
        params = {name: (p - 0.002 * grads[name]).astype(p.dtype) for name, p in params.items()}
        return (params, memory), (value, grads)  # here

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(params, loss, pb.optim.sgd(2e-3), (x, y), score, steps=1500, step=step)
