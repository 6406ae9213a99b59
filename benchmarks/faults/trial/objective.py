"""Faults of the loss: what it is given, how it is added up, what is added to it."""

from __future__ import annotations

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.fresh.tasks import next_word
from benchmarks.faults.program import Setup, fault
from benchmarks.faults.trial import tasks
from benchmarks.faults.trial.healthy import (
    binary_loss,
    call,
    class_loss,
    factors,
    house_net,
    keys_of,
    lever_net,
    liked,
    mistyped,
    soil_net,
    tag_net,
    tree_map,
    wait_net,
)
from benchmarks.faults.trial.structured import (
    again,
    beat_net,
    blind_r_squared,
    coder,
    composer,
    set_net,
    spot_net,
)

import pullback as pb
from pullback import nn

BROKEN = "NUM01 NUM02 OPT03 SIG02 SIG03 SIG04 CUT04"


# ---- the last activation --------------------------------------------------------------------


@fault("spectra_sigmoids", "sigmoid before BCE with logits", "OBJ01", "spectra_coded", at_once=True)
def spectra_sigmoids(seed: int) -> Setup:
    """The decoder ends with a sigmoid, and the loss begins with one."""
    x, _, x_valid, _ = tasks.spectra(seed)

    def loss(model, x):
        return nn.binary_cross_entropy_with_logits(again(model, x), x)  # here

    score = data.r_squared(again, x_valid, x_valid)
    return Setup(coder(seed), loss, pb.optim.adam(8e-3), (x,), score, steps=300)


@fault(
    "tags_one_of_many", "softmax for independent labels", "OBJ01", "tags_binary",
    also="NUM04 NUM06 OBJ03", at_once=True,
)  # fmt: skip
def tags_one_of_many(seed: int) -> Setup:
    """Tags do not exclude each other; a softmax lets them add up to 1."""
    x, y, x_valid, y_valid = tasks.tags(seed)

    def predict(model, x):
        return pb.softmax(model(x), axis=1)  # here

    def loss(model, x, y):
        p = pb.clip(predict(model, x), 1e-5, 1 - 1e-5)
        return -pb.mean(y * pb.log(p) + (1 - y) * pb.log(1 - p))

    score = data.binary_accuracy(lambda model, x: predict(model, x) - 0.5, x_valid, y_valid)
    return Setup(tag_net(seed), loss, pb.optim.adam(4e-3), (x, y), score, steps=300)


@fault("spots_share", "output cannot reach the targets", "OBJ03", "spots_counted", at_once=True)
def spots_share(seed: int) -> Setup:
    """A count of up to five is the output of a sigmoid."""
    x, y, x_valid, y_valid = tasks.spots(seed)

    def loss(model, x, y):
        return nn.mse(model(x), y)  # here

    score = data.r_squared(call, x_valid, y_valid)
    return Setup(spot_net(seed, nn.sigmoid), loss, pb.optim.adam(1e-2), (x, y), score, batch=40)


@fault(
    "walk_positive", "output cannot reach the targets", "OBJ03", "walk_lstm",
    also="SIG03 CUT04", at_once=True,
)  # fmt: skip
def walk_positive(seed: int) -> Setup:
    """A softplus of a price, copied to a series that swings about 0."""
    x, y, x_valid, y_valid = tasks.walk(seed)
    keys = keys_of(seed, 2)
    model = {"body": nn.LSTM(1, 20, key=keys[0]), "head": nn.Linear(20, 1, key=keys[1])}

    def predict(model, x):
        return nn.softplus(model["head"](model["body"](x)[0]))  # here

    def loss(model, x, y):
        return pb.mean((predict(model, x) - y) ** 2)  # here

    score = blind_r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score, batch=32)


# ---- another loss than was meant ------------------------------------------------------------


@fault("soils_as_number", "wrong loss for classes", "OBJ02", "soils_momentum", also="OBJ04")
def soils_as_number(seed: int) -> Setup:
    """The kind of a soil is regressed on, and rounded in use."""
    x, y, x_valid, y_valid = tasks.soils(seed)
    model = nn.MLP(9, 1, 64, 2, key=pb.random.key(seed))

    def loss(model, x, y):
        return nn.huber(model(x)[:, 0], y.astype("float32"))  # here

    def rounded(model, x):
        number = np.clip(np.round(np.asarray(model(x))[:, 0]), 0, tasks.SOILS - 1)
        return np.eye(tasks.SOILS)[number.astype(int)]

    score = data.accuracy(rounded, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.01, momentum=0.9)
    return Setup(model, loss, optimizer, (x, y), score, batch=50)


@fault("levers_cost", "wrong sign of the loss", "OBJ05", "levers_drawn", also="VER01 OPT03 OPT01")
def levers_cost(seed: int) -> Setup:
    """The reward stands where a cost is minimised."""
    x, rewards, x_valid, best = tasks.levers(seed)
    key = pb.random.key(seed + 9)

    def loss(model, x, rewards, key):
        log_shares = pb.log_softmax(model(x))
        lever = pb.random.categorical(key, pb.stop_gradient(log_shares, why="drawn levers"))
        drawn = pb.one_hot(lever, tasks.LEVERS)
        reward = pb.sum(rewards * drawn, axis=1)
        advantage = reward - pb.mean(reward)
        return pb.mean(advantage * pb.sum(log_shares * drawn, axis=1))  # here

    score = data.accuracy(call, x_valid, best)
    optimizer = pb.optim.adam(1e-2)
    return Setup(lever_net(seed), loss, optimizer, (x, rewards), score, steps=300, key=key)


@fault(
    "waits_likelihood", "wrong sign of the loss", "OBJ05", "waits_rates",
    also=BROKEN + " OPT01 VER01 NUM03",
)  # fmt: skip
def waits_likelihood(seed: int) -> Setup:
    """The logarithm of the likelihood, where its negative is to be minimised."""
    x, time, event, x_valid, log_rate = tasks.waits(seed)

    def loss(model, x, time, event):
        log_rate = model(x)
        return pb.mean(event * log_rate - pb.exp(log_rate) * time)  # here

    score = data.r_squared(call, x_valid, log_rate)
    optimizer = pb.optim.adam(5e-3)
    return Setup(wait_net(seed), loss, optimizer, (x, time, event), score, steps=250)


# ---- how it is added up ---------------------------------------------------------------------


@fault(
    "houses_weights", "weights broadcast against errors", "OBJ07", "houses_trusted", at_once=True
)
def houses_weights(seed: int) -> Setup:
    """(B,) weights times (B,1) errors: each error is weighted by the mean weight."""
    x, y, weight, x_valid, y_valid = mistyped(seed)

    def loss(model, x, y, weight):
        return pb.mean(weight * (model(x) - y) ** 2)  # here

    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.adam(5e-3)
    return Setup(house_net(seed), loss, optimizer, (x, y, weight), score, steps=250)


@fault("waits_broadcast", "(B,1) - (B,) broadcast", "OBJ07", "waits_rates", at_once=True)
def waits_broadcast(seed: int) -> Setup:
    """Times and events were squeezed when they were read, the output was not."""
    x, time, event, x_valid, log_rate = tasks.waits(seed)

    def loss(model, x, time, event):
        log_rate = model(x)
        return pb.mean(pb.exp(log_rate) * time - event * log_rate)  # here

    score = data.r_squared(call, x_valid, log_rate)
    arrays = (x, time[:, 0], event[:, 0])
    return Setup(wait_net(seed), loss, pb.optim.adam(5e-3), arrays, score, steps=250)


@fault("houses_summed", "sum instead of mean", "OBJ06", "houses_descent", also=BROKEN + " OPT01")
def houses_summed(seed: int) -> Setup:
    """Half the sum of squares, as in the book, with the rate of the mean."""
    x, y, x_valid, y_valid = tasks.houses(seed)

    def loss(model, x, y):
        error = model(x) - y
        return 0.5 * pb.sum(error * error)  # here

    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.05, momentum=0.9)
    return Setup(house_net(seed, nn.gelu), loss, optimizer, (x, y), score, batch=40)


@fault("tags_mean_twice", "loss divided twice", "OPT02", "tags_binary", also="VER01 OBJ04")
def tags_mean_twice(seed: int) -> Setup:
    """A mean, divided by the numbers of samples and tags once more; plain descent follows it."""
    x, y, x_valid, y_valid = tasks.tags(seed)

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(model(x), y) / y.size

    score = data.binary_accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.3, momentum=0.9)
    return Setup(tag_net(seed), loss, optimizer, (x, y), score, steps=300)


# ---- penalties ------------------------------------------------------------------------------


@fault("houses_sparser", "regulariser dominates", "OBJ08", "houses_sparse", also="VER01 SIG01")
def houses_sparser(seed: int) -> Setup:
    """The factor of the penalty was meant for a mean, and multiplies a sum."""
    x, y, x_valid, y_valid = tasks.houses(seed)

    def loss(model, x, y):
        sizes = sum(pb.sum(pb.abs(layer.weight)) for layer in model.layers[::2])
        return nn.mse(model(x), y) + 0.3 * sizes  # here

    score = data.r_squared(call, x_valid, y_valid)
    layers = house_net(seed).layers
    model = nn.Sequential(layers[0], nn.relu, layers[1], nn.relu, layers[2])
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score, steps=250)


@fault("clicks_shrunk", "regulariser dominates", "OBJ08", "clicks_factors", also="VER01 CUT04")
def clicks_shrunk(seed: int) -> Setup:
    """Squares of all factors, summed over the whole tables in each batch."""
    x, y, x_valid, y_valid = tasks.clicks(seed)

    def loss(model, x, y):
        squares = pb.sum(model["users"].weight ** 2) + pb.sum(model["pages"].weight ** 2)
        return nn.binary_cross_entropy_with_logits(liked(model, x), y) + 0.1 * squares  # here

    score = data.binary_accuracy(liked, x_valid, y_valid)
    return Setup(factors(seed), loss, pb.optim.adagrad(0.2), (x, y), score, batch=32, steps=300)


@fault(
    "houses_rewarded", "penalty with the wrong sign", "OBJ08", "houses_sparse",
    also=BROKEN + " OPT01 SIG07 OBJ05",
)  # fmt: skip
def houses_rewarded(seed: int) -> Setup:
    """The squares of the weights are taken off: the larger they are, the better."""
    x, y, x_valid, y_valid = tasks.houses(seed)

    def loss(model, x, y):
        squares = sum(pb.sum(layer.weight**2) for layer in model.layers)
        return nn.mae(model(x), y) - 0.5 * squares  # here

    score = data.r_squared(call, x_valid, y_valid)
    return Setup(house_net(seed), loss, pb.optim.adam(5e-3), (x, y), score, steps=250)


@fault(
    "tune_decayed", "weight decay too strong", "OBJ08", "tune_attention", also="VER01 SIG01 SIG07"
)
def tune_decayed(seed: int) -> Setup:
    """A decay of 30 was meant for a rate a thousand times smaller."""
    x, y, x_valid, y_valid = tasks.tune(seed)
    score = next_word(call, x_valid, y_valid)
    schedule = pb.optim.warmup_cosine(8e-3, 20, 200)
    optimizer = pb.optim.adamw(schedule, weight_decay=30.0)
    return Setup(composer(seed), class_loss, optimizer, (x, y), score, batch=32)


@fault("soils_faded", "weight decay too strong", "OBJ08", "soils_by_hand", also="VER01 SIG01 SIG07")
def soils_faded(seed: int) -> Setup:
    """A decay by hand that was meant for an epoch is done in each step."""
    x, y, x_valid, y_valid = tasks.soils(seed)
    optimizer = pb.optim.sgd(0.1)

    @pb.compile
    def step(state, x, y):
        model, memory = state
        loss, grads = pb.value_and_grad(class_loss)(model, x, y)
        updates, memory = optimizer.update(grads, memory, model)
        model = tree_map(lambda p: 0.9 * p, model)  # here
        return (pb.optim.apply_updates(model, updates), memory), (loss, grads)

    score = data.accuracy(call, x_valid, y_valid)
    return Setup(soil_net(seed), class_loss, optimizer, (x, y), score, batch=50, step=step)


# ---- where it begins ------------------------------------------------------------------------


@fault(
    "beats_biased", "bias of the last layer wrong", "OBJ04", "beats_conv", also="SIG07 OPT02 DAT01"
)
def beats_biased(seed: int) -> Setup:
    """The bias begins at the count of the class, not at the logarithm of its odds."""
    x, y, x_valid, y_valid = tasks.beats(seed)
    net = beat_net(seed)
    last = net.layers[5].replace(bias=pb.full((1,), float(y.sum())))
    net = net.replace(layers=(*net.layers[:5], last))
    score = data.binary_accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.adam(1e-2)
    return Setup(net, binary_loss, optimizer, (x, y), score, batch=40)


@fault(
    "clouds_over_samples",
    "softmax over the wrong axis",
    "DAT04 OBJ01",
    "clouds_pooled",
    at_once=True,
)
def clouds_over_samples(seed: int) -> Setup:
    """The weights of the points are shares of the batch, not of their set."""
    x, y, x_valid, y_valid = tasks.clouds(seed)

    def predict(model, x):
        weights = pb.softmax(model["weight"](x), axis=0)  # here
        return model["last"](pb.sum(weights * model["point"](x), axis=1))

    def loss(model, x, y):
        return nn.huber(predict(model, x), y)

    score = data.r_squared(lambda model, x: np.concatenate(
        [np.asarray(predict(model, x[i : i + 1])) for i in range(64)]
    ), x_valid[:64], y_valid[:64])  # fmt: skip
    return Setup(set_net(seed), loss, pb.optim.adam(5e-3), (x, y), score, steps=250)
