"""Faults of numbers: what is not finite on the way forward, or on the way back."""

from __future__ import annotations

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.pairs import objective_healthy as one
from benchmarks.faults.pairs import objective_healthy_more as more
from benchmarks.faults.pairs import objective_tasks as tasks
from benchmarks.faults.pairs.objective_healthy import call, regress
from benchmarks.faults.program import Setup, fault

import pullback as pb
from pullback import nn

NEAR = "NUM03 NUM04"

# ---- not finite on the way forward ----------------------------------------------------------


@fault(
    "incomes_log",
    "logarithm of a measurement that may be 0",
    "NUM01",
    "incomes_log1p",
    also=NEAR + " DAT01",
    at_once=True,
)
def incomes_log(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.incomes(seed)
    model = nn.MLP(7, 1, 48, 2, nn.gelu, key=pb.random.key(seed))

    def predict(model, x):
        return model(pb.concat([pb.log(x[:, :4]), x[:, 4:]], axis=1))  # here

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score, steps=300)


@fault(
    "scans_density",
    "logarithm of a measurement that may be 0",
    "NUM01",
    "scans_divided",
    also=NEAR + " DAT01",
    at_once=True,
)
def scans_density(seed: int) -> Setup:
    """The optical density of film; some pixels are quite black."""
    x, y, x_valid, y_valid = tasks.scans(seed)
    x, x_valid = x.astype(np.float32), x_valid.astype(np.float32)

    def predict(model, x):
        density = -pb.log10(x / 255)  # here
        return model(density)

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(one.philatelist(seed), loss, pb.optim.adam(5e-3), (x, y), score, batch=32)


@fault(
    "flats_rounded_rents",
    "logarithm of a likelihood that underflows",
    "NUM01",
    "flats_elu",
    also=NEAR,
    at_once=True,
)
def flats_rounded_rents(seed: int) -> Setup:
    """Rents are rounded: the chance of an interval, of a normal distribution that is known."""
    x, y, x_valid, y_valid = tasks.standard_flats(seed)

    def loss(model, x, y):
        off = (y - model(x)) / (0.15 * 2**0.5)
        chance = 0.5 * (pb.erf(off + 0.2) - pb.erf(off - 0.2))
        return -pb.mean(pb.log(chance))  # here

    score = data.r_squared(call, x_valid, y_valid)
    return Setup(one.agent(seed), loss, pb.optim.adam(5e-3), (x, y), score, steps=300)


@fault(
    "cipher_product",
    "logarithm of a likelihood that underflows",
    "NUM01",
    "cipher_lstm",
    also=NEAR + " NUM06",
    at_once=True,
)
def cipher_product(seed: int) -> Setup:
    """The likelihood of all that was observed is a product."""
    x, y, x_valid, y_valid = tasks.cipher(seed)

    def loss(model, x, y):
        p = pb.softmax(more.decode(model, x), axis=-1)
        seen = pb.take_along_axis(p, y[:, :, None], axis=2)
        likelihood = pb.prod(seen)
        return -pb.log(likelihood) / seen.size  # here

    score = data.accuracy(more.decode, x_valid, y_valid)
    return Setup(more.spy(seed), loss, pb.optim.adam(1e-2), (x, y), score, steps=300)


@fault(
    "towns_mean_of_none",
    "division by a count or a spread of 0",
    "NUM01",
    "towns_messages",
    also=NEAR,
    at_once=True,
)
def towns_mean_of_none(seed: int) -> Setup:
    """A mean over the neighbours; some towns have none."""
    nodes, roads, y, nodes_valid, roads_valid, y_valid = tasks.towns(seed)

    def trade(model, nodes, roads):
        own, sent = nn.silu(model["own"](nodes)), nn.silu(model["send"](nodes))
        degree = pb.sum(roads, axis=2, keepdims=True)
        heard = roads @ sent / degree  # here
        h = pb.concat([own, heard], axis=2)
        return model["head"](pb.mean(nn.silu(model["mix"](h)), axis=1))

    def loss(model, nodes, roads, y):
        return nn.mse(trade(model, nodes, roads), y)

    score = data.r_squared(lambda m, x: trade(m, x, roads_valid), nodes_valid, y_valid)
    optimizer, options = pb.optim.adam(1e-2), {"clip": 1.0}
    batch = (nodes, roads, y)
    return Setup(more.trader(seed), loss, optimizer, batch, score, steps=400, options=options)


@fault(
    "herds_of_one",
    "division by a count or a spread of 0",
    "NUM01",
    "herds_set",
    also=NEAR + " NUM02",
    at_once=True,
)
def herds_of_one(seed: int) -> Setup:
    """How much the animals of a herd differ is told as well; of one that is alone, nothing."""
    x, y, x_valid, y_valid = tasks.herds(seed)

    def predict(model, x):
        there = x[:, :, 3:]
        count = pb.sum(there, axis=1)
        each = model["each"](x[:, :, :3])
        mean = pb.sum(each * there, axis=1) / count
        off = (each - mean[:, None, :]) * there
        spread = pb.sum(off * off, axis=1) / (count - 1)  # here
        return model["all"](pb.concat([mean + 0.1 * spread, count / 8], axis=1))

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(more.shepherd(seed), loss, pb.optim.adam(5e-3), (x, y), score, steps=400)


@fault(
    "letters_angles",
    "exponential that overflows",
    "NUM01",
    "letters_prototypes",
    also=NEAR + " NUM02 NUM06 OBJ04",
)
def letters_angles(seed: int) -> Setup:
    """A hundred times the cosine of a letter and of what its class looks like."""
    x, y, x_valid, y_valid = tasks.letters(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {
        "body": nn.MLP(16, 12, 64, 1, pb.tanh, key=keys[0]),
        "centres": pb.random.normal(keys[1], (tasks.LETTERS, 12)),
    }

    def unit(z):
        return z / pb.sqrt(pb.sum(z * z, axis=1, keepdims=True) + 1e-6)

    def predict(model, x):
        return 100 * unit(model["body"](x)) @ unit(model["centres"]).mT

    def loss(model, x, y):
        likely = pb.exp(predict(model, x))  # here
        p = likely / (pb.sum(likely, axis=1, keepdims=True) + 1e-8)  # here
        return -pb.mean(pb.log(pb.take_along_axis(p, y[:, None], axis=1) + 1e-8))

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score)


@fault(
    "ads_cold_policy",
    "exponential that overflows",
    "NUM01",
    "ads_entropy",
    also=NEAR + " NUM02",
)
def ads_cold_policy(seed: int) -> Setup:
    """Boltzmann's policy over four values, nearly greedy, with a little of each."""
    x, liking, x_valid, liking_valid = tasks.ads(seed)
    coldness = 50.0

    def loss(model, x, liking):
        heat = pb.exp(coldness * model(x)) + 0.1  # here
        policy = heat / pb.sum(heat, axis=1, keepdims=True)  # here
        return -pb.mean(pb.sum(policy * liking, axis=1))

    score = tasks.liked(x_valid, liking_valid)
    model, optimizer = more.editor(seed), pb.optim.adam(5e-3)
    return Setup(model, loss, optimizer, (x, liking), score, steps=400)


@fault("flats_missing_floor", "NaN in the data", "NUM01 DAT01", "flats_elu", at_once=True)
def flats_missing_floor(seed: int) -> Setup:
    """Of one in thirty the floor is not known."""
    x, y, x_valid, y_valid = tasks.standard_flats(seed)
    x = x.copy()
    x[np.random.default_rng(seed).random(len(x)) < 1 / 30, 4] = np.nan
    score = data.r_squared(call, x_valid, y_valid)
    return Setup(one.agent(seed), regress, pb.optim.adam(5e-3), (x, y), score, steps=300)


@fault("tanks_sensor_off", "NaN in the data", "NUM01 DAT01", "tanks_gru", at_once=True)
def tanks_sensor_off(seed: int) -> Setup:
    """The sensor was off for some minutes; what it then says is standardised with the rest."""
    x, y, x_valid, y_valid = tasks.tanks(seed)
    rng = np.random.default_rng([seed, 6])
    off = rng.random(x.shape[:2]) < 0.01
    x = np.where(off[:, :, None], np.float32(np.nan), x)
    x = (x - np.nanmean(x)) / np.nanstd(x)

    def loss(model, x, y):
        return nn.mse(more.measure(model, x), y)

    score = data.r_squared(more.measure, x_valid, y_valid)
    return Setup(more.meter(seed), loss, pb.optim.adam(1e-2), (x, y), score, steps=300)


@fault(
    "reviews_mask_by_product",
    "mask that multiplies infinity",
    "NUM01",
    "reviews_pooled",
    also=NEAR,
    at_once=True,
)
def reviews_mask_by_product(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.reviews(seed)

    def predict(model, x):
        h = model.states(x)
        empty = (x == 0).astype("float32")
        scores = model.weigh(h)[:, :, 0] + empty * -np.inf  # here
        return model.head(pb.sum(pb.softmax(scores, axis=1)[:, :, None] * h, axis=1))

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(predict(model, x), y)

    score = data.binary_accuracy(predict, x_valid, y_valid)
    return Setup(more.Skimmer(seed), loss, pb.optim.adam(5e-3), (x, y), score, steps=300)


@fault(
    "herds_largest_there",
    "mask that multiplies infinity",
    "NUM01",
    "herds_set",
    also=NEAR,
    at_once=True,
)
def herds_largest_there(seed: int) -> Setup:
    """A maximum over the animals, those that are not there at minus infinity."""
    x, y, x_valid, y_valid = tasks.herds(seed)
    low = np.float32(-np.inf)

    def predict(model, x):
        there = x[:, :, 3:]
        each = model["each"](x[:, :, :3])
        seen = there * each + (1 - there) * low  # here
        mean = pb.sum(there * each, axis=1) / pb.sum(there, axis=1)
        both = mean + pb.max(seen, axis=1)
        return model["all"](pb.concat([both, pb.sum(there, axis=1) / 8], axis=1))

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(more.shepherd(seed), loss, pb.optim.adam(5e-3), (x, y), score, steps=400)
