"""Faults of the objective: how it begins, its sign, its sums, its shapes, its penalties."""

from __future__ import annotations

from functools import partial

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.pairs import objective_healthy as one
from benchmarks.faults.pairs import objective_healthy_more as more
from benchmarks.faults.pairs import objective_tasks as tasks
from benchmarks.faults.pairs.objective_healthy import call, classify, tree_map
from benchmarks.faults.program import Setup, fault

import pullback as pb
from pullback import nn

SLOW = "VER01 GEN02 SIG01"
AWAY = "OPT01 OPT03 NUM01 NUM02 SIG02 SIG03 SIG04 CUT04 VER01 GEN02"

# ---- how it begins --------------------------------------------------------------------------


@fault(
    "stamps_loud_head",
    "last layer begins far too large",
    "OBJ04 SIG07",
    "stamps_pooled",
    also=AWAY,
    layers=("layers[6]",),
    at_once=True,
)
def stamps_loud_head(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.stamps(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, key=keys[0]),
        nn.relu,
        nn.MaxPool2d(2),
        nn.Conv2d(12, 24, 3, key=keys[1]),
        nn.relu,
        one.flat,
        nn.Linear(216, tasks.STAMPS, key=keys[2], initializer=partial(nn.init.normal, std=3.0)),
    )
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, classify, pb.optim.adam(3e-3), (x, y), score, batch=32)


@fault(
    "refrain_table_of_ones",
    "last layer begins far too large",
    "OBJ04 SIG07",
    "refrain_tied",
    also=AWAY,
    layers=("back", "notes"),
    at_once=True,
)
def refrain_table_of_ones(seed: int) -> Setup:
    """The layer before a tied table is drawn with a deviation of 30."""
    x, y, x_valid, y_valid = tasks.refrain(seed)
    model = more.whistler(seed)
    drawn = pb.random.normal(pb.random.key(seed + 5), (24, 48))
    table = pb.random.normal(pb.random.key(seed + 6), (tasks.REFRAIN, 24))
    model["back"] = model["back"].replace(weight=30 * drawn)
    model["notes"] = model["notes"].replace(weight=table)

    def loss(model, x, y):
        return nn.cross_entropy(more.whistle(model, x), y)

    score = tasks.prefixes(more.whistle, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score, steps=300)


# ---- signs ----------------------------------------------------------------------------------


@fault(
    "beeps_likelihood_down",
    "sign of the loss",
    "OBJ05",
    "beeps_conv1d",
    also=AWAY + " OBJ04",
    at_once=True,
)
def beeps_likelihood_down(seed: int) -> Setup:
    """A mean log-likelihood, which is minimised."""
    x, y, x_valid, y_valid = tasks.beeps(seed)

    def loss(model, x, y):
        log_p = pb.log_softmax(one.hear(model, x), axis=-1)
        return pb.mean(pb.take_along_axis(log_p, y[:, None], axis=1))  # here

    score = data.accuracy(one.hear, x_valid, y_valid)
    options = {"accumulate": 2}
    return Setup(one.tuner(seed), loss, pb.optim.adamw(5e-3), (x, y), score, options=options)


@fault(
    "ads_regret_sought",
    "sign of the loss",
    "OBJ05",
    "ads_logged",
    also=AWAY,
    at_once=True,
)
def ads_regret_sought(seed: int) -> Setup:
    x, liking, x_valid, liking_valid = tasks.ads(seed)
    shown, reward = more.tried(seed, liking)
    advantage = (reward - reward.mean()).astype(np.float32)

    def loss(model, x, shown, advantage):
        log_p = pb.log_softmax(model(x), axis=1)
        chosen = pb.sum(log_p * pb.one_hot(shown, tasks.ADS), axis=1)
        return pb.mean(chosen * advantage)  # here

    score = tasks.liked(x_valid, liking_valid)
    batch = (x, shown, advantage)
    return Setup(more.editor(seed), loss, pb.optim.adam(5e-3), batch, score, steps=300)


@fault(
    "mason_climbs",
    "update added with the wrong sign",
    "OBJ05",
    "mortar_descent",
    also=AWAY,
)
def mason_climbs(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.mortar(seed)

    def loss(model, x, y):
        return pb.mean((one.lay(model, x) - y) ** 2)

    @pb.compile
    def step(state, x, y):
        model, memory = state
        value, grads = pb.value_and_grad(loss)(model, x, y)
        model = tree_map(lambda p, g: p + 0.05 * g, model, grads)  # here
        return (model, memory), (value, grads)

    score = data.r_squared(one.lay, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.05)
    return Setup(one.mason(seed), loss, optimizer, (x, y), score, batch=32, steps=400, step=step)


@fault(
    "prints_twice_minus",
    "update added with the wrong sign",
    "OBJ05",
    "prints_siamese",
    also=AWAY,
)
def prints_twice_minus(seed: int) -> Setup:
    """What an optimiser gives has its minus already."""
    a, b, same, a_valid, b_valid, same_valid = tasks.prints(seed)

    def loss(model, a, b, same):
        return nn.binary_cross_entropy_with_logits(more.alike(model, a, b), same)

    optimizer = pb.optim.adam(1e-2)

    @pb.compile
    def step(state, a, b, same):
        model, memory = state
        value, grads = pb.value_and_grad(loss)(model, a, b, same)
        updates, memory = optimizer.update(grads, memory, model)
        model = tree_map(lambda p, u: p - u, model, updates)  # here
        return (model, memory), (value, grads)

    score = more.pair_score(more.alike, a_valid, b_valid, same_valid)
    batch = (a, b, same)
    return Setup(more.finger(seed), loss, optimizer, batch, score, steps=400, step=step)


# ---- sums -----------------------------------------------------------------------------------


@fault(
    "mortar_whole_error",
    "sum over the batch",
    "OBJ06",
    "mortar_sgd",
    also=AWAY,
    at_once=True,
)
def mortar_whole_error(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.mortar(seed)

    def loss(model, x, y):
        return pb.sum((model(x) - y) ** 2)  # here

    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.02, momentum=0.9)
    return Setup(one.builder(seed), loss, optimizer, (x, y), score, batch=32, steps=300)


@fault(
    "album_added_up",
    "sum over the batch",
    "OBJ06",
    "stamps_residual",
    also=AWAY,
    at_once=True,
)
def album_added_up(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.stamps(seed)

    def loss(model, x, y):
        return nn.cross_entropy(model(x), y, reduction="sum")  # here

    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.05, momentum=0.9)
    return Setup(
        one.album(seed), loss, optimizer, (x, y), score, batch=32, steps=150, precision="bf16"
    )


# ---- shapes ---------------------------------------------------------------------------------


@fault(
    "flats_all_with_all",
    "column minus row in the loss",
    "OBJ07",
    "flats_elu",
    also="GEN02 VER01",
    at_once=True,
)
def flats_all_with_all(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.standard_flats(seed)

    def loss(model, x, y):
        return pb.mean(pb.square(model(x) - y))  # here

    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.adam(5e-3)
    return Setup(one.agent(seed), loss, optimizer, (x, y[:, 0]), score, steps=300)


@fault(
    "tank_levels_flat",
    "column minus row in the loss",
    "OBJ07",
    "tanks_gru",
    also="GEN02 VER01",
    at_once=True,
)
def tank_levels_flat(seed: int) -> Setup:
    """A smooth absolute error; the prediction lost its last axis, the target did not."""
    x, y, x_valid, y_valid = tasks.tanks(seed)

    def predict(model, x):
        return pb.squeeze(more.measure(model, x), axis=1)

    def loss(model, x, y):
        error = y - predict(model, x)  # here
        return pb.mean(pb.sqrt(1 + error * error) - 1)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(more.meter(seed), loss, pb.optim.adam(1e-2), (x, y), score, steps=300)


@fault(
    "reviews_by_robots",
    "weights of samples broadcast against their losses",
    "OBJ07",
    "reviews_trusted",
    also="GEN02 VER01",
    at_once=True,
)
def reviews_by_robots(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.reviews(seed)
    y, weight = more.robots(y, seed)

    def loss(model, x, y, weight):
        out = more.judge(model, x)[:, 0]
        errors = nn.binary_cross_entropy_with_logits(out, y[:, 0], reduction="none")
        return pb.mean(errors * weight)  # here

    score = data.binary_accuracy(more.judge, x_valid, y_valid)
    optimizer, options = pb.optim.adam(1e-2), {"clip": 1.0}
    batch = (x, y, weight)
    return Setup(more.critic(seed), loss, optimizer, batch, score, steps=300, options=options)


@fault(
    "mortar_trusts_everything",
    "weights of samples broadcast against their losses",
    "OBJ07",
    "mortar_trusted",
    also="GEN02 VER01",
    at_once=True,
)
def mortar_trusts_everything(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.mortar(seed)
    y, weight = one.distrust(y, seed)

    def loss(model, x, y, weight):
        errors = pb.sum((model(x) - y) ** 2, axis=-1)
        return pb.mean(weight * errors) / (pb.mean(weight) + 1e-6)  # here

    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.adam(3e-3)
    return Setup(one.builder(seed), loss, optimizer, (x, y, weight), score, steps=300)


# ---- penalties ------------------------------------------------------------------------------


@fault(
    "mortar_ridge",
    "penalty of the weights too strong",
    "OBJ08",
    "mortar_sgd",
    also="GEN02 VER01",
)
def mortar_ridge(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.mortar(seed)

    def loss(model, x, y):
        size = sum(pb.sum(layer.weight**2) for layer in model.layers)
        return nn.mse(model(x), y) + 0.1 * size  # here

    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.02, momentum=0.9)
    return Setup(one.builder(seed), loss, optimizer, (x, y), score, batch=32, steps=300)


@fault(
    "books_shrunk",
    "penalty of the weights too strong",
    "OBJ08",
    "books_factors",
    also="GEN02 VER01",
)
def books_shrunk(seed: int) -> Setup:
    """The norms are summed over the tables, where a mean over what was looked up was meant."""
    x, y, x_valid, y_valid = tasks.books(seed)

    def loss(model, x, y):
        tables = [model["readers"].weight, model["books"].weight]
        norms = [pb.sum(pb.abs(table)) for table in tables]
        return nn.mse(more.enjoy(model, x), y) + 0.01 * (norms[0] + norms[1])  # here

    score = data.r_squared(more.enjoy, x_valid, y_valid)
    return Setup(more.library(seed), loss, pb.optim.adam(2e-2), (x, y), score, steps=400)


@fault(
    "letters_decay",
    "weight decay of the optimiser too strong",
    "OBJ08",
    "letters_sgd",
    also="GEN02 VER01 SIG01",
)
def letters_decay(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.letters(seed)
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.2, weight_decay=0.3)
    return Setup(one.typist(seed), classify, optimizer, (x, y), score, batch=32)


@fault(
    "spy_forgets",
    "weight decay of the optimiser too strong",
    "OBJ08",
    "cipher_lstm",
    also="GEN02 VER01 SIG01",
)
def spy_forgets(seed: int) -> Setup:
    """A decay of 10, which adamw multiplies with the rate."""
    x, y, x_valid, y_valid = tasks.cipher(seed)

    def loss(model, x, y):
        return nn.cross_entropy(more.decode(model, x), y)

    score = data.accuracy(more.decode, x_valid, y_valid)
    optimizer = pb.optim.adamw(1e-2, weight_decay=10.0)
    return Setup(more.spy(seed), loss, optimizer, (x, y), score, steps=300)


@fault(
    "contours_without_a_code",
    "a second term of the loss weighs too much",
    "OBJ08",
    "contours_vae",
    also="GEN02 VER01 CUT04",
)
def contours_without_a_code(seed: int) -> Setup:
    """The errors are a mean over the points, the divergence is a sum over the code."""
    x, _, x_valid, _ = tasks.contours(seed)

    def loss(model, x, key):
        out = model["encoder"](x)
        mean, log_var = out[:, :4], out[:, 4:]
        code = mean + pb.exp(log_var / 2) * pb.random.normal(key, mean.shape)
        errors = nn.mse(model["decoder"](code), x)
        kl = 0.5 * pb.sum(pb.exp(log_var) + mean**2 - 1 - log_var, axis=1)
        return errors + pb.mean(kl)  # here

    score, key = data.r_squared(one.retrace, x_valid, x_valid), pb.random.key(seed + 1)
    model = one.tracer(seed, out=8)
    return Setup(model, loss, pb.optim.adam(5e-3), (x,), score, steps=400, key=key)


@fault(
    "towns_alike",
    "a second term of the loss weighs too much",
    "OBJ08",
    "towns_messages",
    also="GEN02 VER01",
)
def towns_alike(seed: int) -> Setup:
    """The answer should not depend on small changes of the towns: a consistency term."""
    nodes, roads, y, nodes_valid, roads_valid, y_valid = tasks.towns(seed)

    def loss(model, nodes, roads, y, key):
        answer = more.trade(model, nodes, roads)
        moved = nodes + 0.3 * pb.random.normal(key, nodes.shape)
        change = pb.mean((answer - more.trade(model, moved, roads)) ** 2)
        return nn.mse(answer, y) + 50.0 * change  # here

    score = data.r_squared(lambda m, x: more.trade(m, x, roads_valid), nodes_valid, y_valid)
    optimizer, options, key = pb.optim.adam(1e-2), {"clip": 1.0}, pb.random.key(seed + 1)
    batch = (nodes, roads, y)
    return Setup(
        more.trader(seed), loss, optimizer, batch, score, steps=400, options=options, key=key
    )
