"""Faults that end in a number that is not finite."""

from __future__ import annotations

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.program import Setup, fault
from benchmarks.faults.trial import tasks
from benchmarks.faults.trial.healthy import (
    call,
    class_loss,
    house_net,
    keys_of,
    soil_net,
    square_loss,
    two_towers,
    wait_net,
)
from benchmarks.faults.trial.structured import (
    blind_r_squared,
    forecast,
    graph_net,
    grating_net,
    memory_net,
    parts,
)

import pullback as pb
from pullback import nn


@fault("waits_relu", "log(0)", "NUM01 NUM04", "waits_rates", also="NUM02 SIG03", at_once=True)
def waits_relu(seed: int) -> Setup:
    """A rate that a relu keeps from being negative, but not from being 0."""
    x, time, event, x_valid, log_rate = tasks.waits(seed)

    def loss(model, x, time, event):
        rate = nn.relu(model(x))
        return pb.mean(rate * time - event * pb.log(rate))  # here

    score = data.r_squared(lambda m, x: np.log(np.asarray(nn.relu(m(x)))), x_valid, log_rate)
    return Setup(wait_net(seed), loss, pb.optim.adam(5e-3), (x, time, event), score, steps=250)


@fault(
    "houses_variance", "log of what may be negative", "NUM01 NUM04", "houses_spread",
    also="NUM02", at_once=True,
)  # fmt: skip
def houses_variance(seed: int) -> Setup:
    """The second output is taken for a variance, and nothing makes it positive."""
    x, y, x_valid, y_valid = tasks.houses(seed)
    model = nn.MLP(7, 2, 48, 2, nn.silu, key=pb.random.key(seed))

    def loss(model, x, y):
        mean, variance = model(x)[:, :1], model(x)[:, 1:]
        return pb.mean(pb.log(variance) + (y - mean) ** 2 / variance) / 2  # here

    score = data.r_squared(lambda model, x: model(x)[:, :1], x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score, steps=250)


@fault("graphs_alone", "division by 0", "NUM01 NUM04", "graphs_messages", also="NUM02")
def graphs_alone(seed: int) -> Setup:
    """The mean over the neighbours of a node that has none."""
    x, edges, y, valid, y_valid = tasks.graphs(seed)
    edges = edges.copy()
    edges[::150, 0] = edges[::150, :, 0] = 0

    def predict(model, x, edges):
        means = edges @ x / pb.sum(edges, axis=2, keepdims=True)  # here
        h = nn.relu(model["own"](x) + model["others"](means))
        return model["last"](pb.mean(nn.relu(model["mix"](h)), axis=1))

    def loss(model, x, edges, y):
        return nn.binary_cross_entropy_with_logits(predict(model, x, edges), y)

    score = data.binary_accuracy(lambda model, both: predict(model, *both), valid, y_valid)
    return Setup(graph_net(seed), loss, pb.optim.adam(1e-2), (x, edges, y), score, steps=300)


@fault("graphs_degrees", "negative power of 0", "NUM01 NUM04", "graphs_messages", also="NUM02")
def graphs_degrees(seed: int) -> Setup:
    """Edges are divided by roots of degrees, d to the power of -1/2; padded nodes have none."""
    x, edges, y, valid, y_valid = tasks.graphs(seed)
    edges = edges.copy()
    edges[::90, 6:] = edges[::90, :, 6:] = 0

    def predict(model, x, edges):
        degree = pb.sum(edges, axis=2)
        scale = degree**-0.5  # here
        mixed = (edges * scale[:, :, None] * scale[:, None, :]) @ x  # here
        h = nn.relu(model["own"](x) + model["others"](mixed))
        return model["last"](pb.mean(nn.relu(model["mix"](h)), axis=1))

    def loss(model, x, edges, y):
        return nn.binary_cross_entropy_with_logits(predict(model, x, edges), y)

    score = data.binary_accuracy(lambda model, both: predict(model, *both), valid, y_valid)
    return Setup(graph_net(seed), loss, pb.optim.adam(1e-2), (x, edges, y), score, steps=300)


@fault("clouds_deviation", "sqrt at 0", "NUM02 NUM04", "clouds_pooled", also="NUM01", at_once=True)
def clouds_deviation(seed: int) -> Setup:
    """Sets are summed up by deviations; a relu makes some of their columns constant."""
    x, y, x_valid, y_valid = tasks.clouds(seed)
    x = x.copy()
    x[::40] = x[::40, :1]
    keys = keys_of(seed, 2)
    model = {"point": nn.Linear(2, 32, key=keys[0]), "last": nn.MLP(32, 1, 32, 1, key=keys[1])}

    def predict(model, x):
        h = nn.relu(model["point"](x))
        centred = h - pb.mean(h, axis=1, keepdims=True)
        return model["last"](pb.sqrt(pb.mean(centred**2, axis=1)))  # here

    def loss(model, x, y):
        return nn.huber(predict(model, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score, steps=250)


@fault("houses_half_norm", "root of a penalty at 0", "NUM02 NUM04", "houses_sparse", at_once=True)
def houses_half_norm(seed: int) -> Setup:
    """A norm with the exponent 1/2 of all parameters: biases begin at 0."""
    x, y, x_valid, y_valid = tasks.houses(seed)

    def loss(model, x, y):
        penalty = sum(
            pb.sum(pb.sqrt(pb.sum(p * p, axis=-1)))  # here
            for layer in model.layers
            for p in (layer.weight, layer.bias[:, None])
        )
        return nn.mse(model(x), y) + 1e-4 * penalty

    score = data.r_squared(call, x_valid, y_valid)
    return Setup(house_net(seed), loss, pb.optim.adam(5e-3), (x, y), score, steps=250)


@fault("views_cold", "exp overflow", "NUM01", "views_pairs", also="NUM02 NUM04", at_once=True)
def views_cold(seed: int) -> Setup:
    """Cosines over a temperature of 1/200, and a softmax without a shift."""
    a, b, a_valid, b_valid = tasks.views(seed)

    def embed(model, a, b):
        p, q = model["a"](a), model["b"](b)
        return (z * pb.rsqrt(pb.sum(z * z, axis=1, keepdims=True) + 1e-6) for z in (p, q))

    def loss(model, a, b):
        p, q = embed(model, a, b)
        powers = pb.exp((p @ q.T) / 0.005)  # here
        right = pb.sum(powers * pb.eye(p.shape[0]), axis=1)
        return -pb.mean(pb.log(right / pb.sum(powers, axis=1)))

    score = tasks.found(embed, a_valid, b_valid)
    return Setup(two_towers(seed), loss, pb.optim.adam(4e-3), (a, b), score)


@fault("lookup_nothing_left", "mask hides everything", "NUM01", "lookup_attention", also="NUM02")
def lookup_nothing_left(seed: int) -> Setup:
    """Keys that are not the one asked for are hidden; one query in sixty has been lost."""
    x, y, x_valid, y_valid = tasks.lookup(seed)
    x = x.copy()
    lost = np.arange(0, len(x), 60)
    x[lost, 10] = [next(k for k in range(8) if k not in row) for row in x[lost, :5]]

    def predict(model, x):
        keys, values, asked = parts(x)
        scores = pb.einsum("bd,bkd->bk", model["queries"](asked), model["keys"](keys)) / 4
        scores = pb.where(keys == asked[:, None], scores, -pb.inf)
        return model["last"](pb.einsum("bk,bkd->bd", shares(scores), model["values"](values)))

    def shares(scores):
        powers = pb.exp(scores - pb.max(scores, axis=1, keepdims=True))  # here
        return powers / pb.sum(powers, axis=1, keepdims=True)

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(memory_net(seed), loss, pb.optim.adam(2e-2), (x, y), score)


@fault("walk_logarithms", "NaN in the data", "NUM01 DAT01", "walk_lstm", at_once=True)
def walk_logarithms(seed: int) -> Setup:
    """Values that were kept as logarithms of prices, and some prices were 0."""
    x, y, x_valid, y_valid = tasks.walk(seed)
    prices = np.exp(x) * (np.random.default_rng(seed).random(x.shape) > 0.002)
    with np.errstate(divide="ignore"):
        x = np.log(prices).astype(np.float32)
    score = blind_r_squared(call, x_valid, y_valid)
    return Setup(forecast(seed), square_loss, pb.optim.adam(1e-2), (x, y), score, batch=32)


@fault("soils_same_column", "NaN in the data", "NUM01 DAT01", "soils_momentum", at_once=True)
def soils_same_column(seed: int) -> Setup:
    """A column that was 7 for all samples is divided by its deviation."""
    x, y, x_valid, y_valid = tasks.soils(seed)

    def standardised(x):
        raw = np.concatenate([x[:, :8], np.full((len(x), 1), 7.0)], axis=1)
        with np.errstate(invalid="ignore"):
            return ((raw - raw.mean(0)) / raw.std(0)).astype(np.float32)

    score = data.accuracy(call, standardised(x_valid), y_valid)
    optimizer, arrays = pb.optim.sgd(0.1, momentum=0.9), (standardised(x), y)
    return Setup(soil_net(seed), class_loss, optimizer, arrays, score, batch=50)


@fault(
    "waits_in_days", "exp overflow", "NUM01 DAT01", "waits_rates",
    also="NUM02 OBJ04 OPT01 OPT03 SIG07",
)  # fmt: skip
def waits_in_days(seed: int) -> Setup:
    """Ages in days, up to 30 000, go through a network that ends with e to the power of it."""
    x, time, event, x_valid, log_rate = tasks.waits(seed)

    def in_days(x):
        return np.concatenate([x[:, :4], 15000 + 5000 * x[:, 4:]], axis=1).astype(np.float32)

    def loss(model, x, time, event):
        log_rate = model(x)
        return pb.mean(pb.exp(log_rate) * time - event * log_rate)  # here

    score = data.r_squared(call, in_days(x_valid), log_rate)
    arrays = (in_days(x), time, event)
    return Setup(wait_net(seed), loss, pb.optim.adam(5e-3), arrays, score, steps=250)


@fault(
    "gratings_energy", "overflow in half precision", "NUM01", "gratings_brain_float", also="NUM02"
)
def gratings_energy(seed: int) -> Setup:
    """The share that each pixel has of the energy: squares that float16 cannot hold."""
    x, y, x_valid, y_valid = tasks.gratings(seed)
    net = grating_net(seed, nn.silu)

    def predict(model, x):
        large = 300 * x
        power = large * large  # here
        return model(81 * power / pb.sum(power, axis=(1, 2, 3), keepdims=True) - 1)

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    def judged(model, x):
        return predict(model, x.astype(np.float16))

    score, optimizer = data.accuracy(judged, x_valid, y_valid), pb.optim.adamw(5e-3)
    return Setup(net, loss, optimizer, (x, y), score, batch=40, precision="fp16")


@fault("checks_certain", "log(0)", "NUM01 NUM04", "checks_hinge", also="NUM02 SIG04 OPT01")
def checks_certain(seed: int) -> Setup:
    """Probabilities from a tanh, which is 1 to the last digit from 9 on."""
    x, y, x_valid, y_valid = tasks.checks(seed)
    model = nn.MLP(2, 1, 64, 2, key=pb.random.key(seed))

    def loss(model, x, y):
        p = (1 + pb.tanh(4 * model(x))) / 2
        return -pb.mean(y * pb.log(p) + (1 - y) * pb.log(1 - p))  # here

    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score, steps=250)
