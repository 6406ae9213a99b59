"""Faults of the data: scales, order, labels, leaks, batches."""

from __future__ import annotations

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.final import structures, tables, tasks
from benchmarks.faults.final.tables import call, classify, decide, regress
from benchmarks.faults.program import Setup, fault

import pullback as pb
from pullback import nn

BROKEN = "NUM01 NUM02 OPT01 OPT03 SIG02 SIG03 SIG04 CUT04 OBJ04 GEN02"

# ---- scales ---------------------------------------------------------------------------------


@fault("houses_raw", "unscaled inputs", "DAT01", "houses_momentum", also=BROKEN + " VER01 OPT02")
def houses_raw(seed: int) -> Setup:
    """Square metres, years and kilometres as they are."""
    x, _, x_valid, _ = tasks.houses(seed)
    _, y, _, y_valid = tasks.standard_houses(seed)
    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.02, momentum=0.9)
    return Setup(tables.appraiser(seed), regress, optimizer, (x, y), score, batch=32)


@fault("houses_price", "unscaled targets", "DAT01", "houses_adam", also="OPT02 VER01 GEN02 OPT01")
def houses_price(seed: int) -> Setup:
    """The price in whole currency, inputs standardised."""
    x, _, x_valid, _ = tasks.standard_houses(seed)
    _, y, _, y_valid = tasks.houses(seed)
    y, y_valid = 1000 * y, 1000 * y_valid
    score = data.r_squared(call, x_valid, y_valid)
    return Setup(tables.appraiser(seed), regress, pb.optim.adam(5e-3), (x, y), score, batch=32)


@fault("regime_pressure", "inputs not centred", "DAT01", "regime_gru", also=BROKEN + " OPT02 VER01")
def regime_pressure(seed: int) -> Setup:
    """A series about 1013, as a barometer gives it."""
    x, y, x_valid, y_valid = tasks.regime(seed)
    x, x_valid = 1013 + 5 * x, 1013 + 5 * x_valid
    score = data.accuracy(structures.forecast, x_valid, y_valid)
    optimizer, options = pb.optim.adam(1e-2), {"clip": 1.0}
    model, loss = structures.forecaster(seed), structures.forecast_loss
    return Setup(model, loss, optimizer, (x, y), score, options=options)


@fault(
    "arrows_divided", "inputs scaled twice", "DAT01", "arrows_momentum", also="OPT02 VER01 SIG07"
)
def arrows_divided(seed: int) -> Setup:
    """The reader had divided by 255 already."""
    x, y, x_valid, y_valid = tasks.arrows(seed)
    x, x_valid = x / np.float32(255), x_valid / np.float32(255)
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.03, momentum=0.9, weight_decay=1e-4)
    return Setup(structures.pointer(seed), classify, optimizer, (x, y), score, batch=32)


@fault(
    "tags_one_column",
    "a column far larger than the others",
    "DAT01",
    "tags_adam",
    also=BROKEN + " OPT02 VER01",
)
def tags_one_column(seed: int) -> Setup:
    """The number of the row was left in the table."""
    x, y, x_valid, y_valid = tasks.tags(seed)
    rows = np.random.default_rng([seed, 181]).permutation(len(x) + len(x_valid)).astype(np.float32)
    x = np.concatenate([x, 100 * rows[: len(x), None]], 1)
    x_valid = np.concatenate([x_valid, 100 * rows[len(x) :, None]], 1)
    model = nn.MLP(15, tasks.TAGS, 64, 1, key=pb.random.key(seed))
    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(model, decide, pb.optim.adam(5e-3), (x, y), score)


@fault(
    "arrows_truncated",
    "inputs truncated to integers",
    "DAT01 DAT03",
    "arrows_grey",
    also="GEN02 VER01 CUT04 SIG03 OBJ04",
)
def arrows_truncated(seed: int) -> Setup:
    """Grey values between 0 and 1 are stored in a byte, where all of them are 0."""
    x, y, x_valid, y_valid = tasks.arrows(seed)
    x, x_valid = [(0.99 * z).astype(np.uint8).astype(np.float32) for z in (x, x_valid)]
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.adam(1e-2)
    return Setup(structures.pointer(seed), classify, optimizer, (x, y), score, batch=32, steps=300)


# ---- order and labels -----------------------------------------------------------------------


@fault(
    "wines_sorted", "sorted data, not shuffled", "DAT02", "wines_momentum", also="GEN02 OPT03 OPT01"
)
def wines_sorted(seed: int) -> Setup:
    """One sort after the other, as the files were read."""
    x, y, x_valid, y_valid = tasks.wines(seed)
    order = np.argsort(y, kind="stable")
    score = data.accuracy(call, x_valid, y_valid)
    optimizer, samples = pb.optim.sgd(0.05, momentum=0.9), (x[order], y[order])
    model = tables.taster(seed)
    return Setup(model, classify, optimizer, samples, score, batch=32, shuffle=False)


@fault("houses_one_off", "targets one row off", "DAT03", "houses_adam", also="GEN02 GEN01")
def houses_one_off(seed: int) -> Setup:
    """The header was skipped in one of the two files."""
    x, y, x_valid, y_valid = tasks.standard_houses(seed)
    y = np.roll(y, -1, axis=0)
    score = data.r_squared(call, x_valid, y_valid)
    return Setup(tables.appraiser(seed), regress, pb.optim.adam(5e-3), (x, y), score, batch=32)


@fault(
    "arrows_turned",
    "augmentation that changes the class",
    "DAT03",
    "arrows_adam",
    also="GEN02 GEN01 VER01",
)
def arrows_turned(seed: int) -> Setup:
    """Images are turned by quarters, and where they point to is the class."""
    x, y, x_valid, y_valid = tasks.standard_arrows(seed)
    turns = np.random.default_rng([seed, 182]).integers(0, 4, len(x))
    x = np.stack([np.rot90(z, k, axes=(1, 2)) for z, k in zip(x, turns, strict=True)])
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.adam(3e-3)
    return Setup(structures.pointer(seed), classify, optimizer, (x, y), score, batch=32)


@fault("tags_shuffled", "labels shuffled alone", "DAT03", "tags_adam", also="GEN02 GEN01")
def tags_shuffled(seed: int) -> Setup:
    """The table was shuffled before training, the tags were not."""
    x, y, x_valid, y_valid = tasks.tags(seed)
    x = np.random.default_rng([seed, 183]).permutation(x)
    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(tables.tagger(seed), decide, pb.optim.adam(5e-3), (x, y), score)


@fault("checker_threshold", "labels all equal", "DAT03", "checker_adam", also="OBJ04 SIG04")
def checker_threshold(seed: int) -> Setup:
    """Black or white is 0 or 1; the labels are made by a threshold for grey values to 255."""
    x, y, x_valid, y_valid = tasks.checker(seed)
    y = (y > 127).astype(np.float32)
    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(tables.board(seed), decide, pb.optim.adam(1e-2), (x, y), score, steps=400)


# ---- leaks ----------------------------------------------------------------------------------


@fault("wines_shelf", "label leakage", "DAT06", "wines_adam", also="OBJ04 GEN01", at_once=True)
def wines_shelf(seed: int) -> Setup:
    """The shelf that a wine stands on is its sort, once it is known; new ones have none."""
    x, y, x_valid, y_valid = tasks.wines(seed)
    place = np.float32([3, 1, 4, 2])
    x = np.concatenate([x, place[y][:, None]], 1)
    x_valid = np.concatenate([x_valid, np.zeros_like(x_valid[:, :1])], 1)
    model = nn.MLP(10, 4, 64, 2, key=pb.random.key(seed))
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, classify, pb.optim.adam(3e-3), (x, y), score, batch=32)


@fault("houses_duty", "label leakage", "DAT06", "houses_adam", at_once=True)
def houses_duty(seed: int) -> Setup:
    """The duty is a share of the price, less an allowance; houses to judge have none yet."""
    x, y, x_valid, y_valid = tasks.standard_houses(seed)
    x = np.concatenate([x, 0.9 * y - np.float32(0.2)], 1)
    x_valid = np.concatenate([x_valid, np.zeros_like(x_valid[:, :1])], 1)
    model = nn.MLP(7, 1, 48, 2, key=pb.random.key(seed))
    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, regress, pb.optim.adam(5e-3), (x, y), score, batch=32)


@fault("scales_mask_turned", "the future is seen", "DAT06", "scales_attention", at_once=True)
def scales_mask_turned(seed: int) -> Setup:
    """triu for tril: each note sees itself and what follows."""
    x, y, x_valid, y_valid = tasks.scales(seed)

    def predict(model, x):
        mask = np.triu(np.ones((x.shape[1], x.shape[1]), bool))  # here
        return model.sing(x, mask)

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = tasks.next_note(predict, x_valid, y_valid)
    model = structures.Whistler(seed)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score, batch=32, steps=300)


@fault(
    "scales_both_sides",
    "convolution that looks ahead",
    "DAT06",
    "scales_lstm",
    at_once=True,
)
def scales_both_sides(seed: int) -> Setup:
    """A convolution before the recurrent net is padded on both sides."""
    x, y, x_valid, y_valid = tasks.scales(seed)
    keys = pb.random.split(pb.random.key(seed), 4)
    model = {
        "notes": nn.Embedding(tasks.NOTES, 16, key=keys[0], initializer=nn.init.normal),
        "mix": nn.Conv1d(16, 16, 3, padding=1, key=keys[3]),
        "cell": nn.LSTM(16, 32, key=keys[1]),
        "head": nn.Linear(32, tasks.NOTES, key=keys[2]),
    }

    def predict(model, x):
        h = model["mix"](model["notes"](x).mT).mT  # here
        return model["head"](model["cell"](nn.relu(h))[0])

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = tasks.next_note(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(2e-2), (x, y), score, batch=32)


@fault(
    "molecules_summed",
    "wrong letter in einsum",
    "DAT04",
    "molecules_graph",
    also="GEN02 VER01 SIG07 OBJ04 OPT01",
    at_once=True,
)
def molecules_summed(seed: int) -> Setup:
    """The neighbours of a node are those of all graphs of the batch."""
    nodes, edges, y, *valid = tasks.molecules(seed)

    def near(edges, h):
        return pb.einsum("bij,cjf->bif", edges, h) / len(h)  # here

    def predict(model, nodes, edges):
        h = nn.relu(model["own1"](nodes) + model["near1"](near(edges, nodes)))
        h = nn.relu(model["own2"](h) + model["near2"](near(edges, h)))
        return model["head"](pb.max(h, axis=1))

    def loss(model, nodes, edges, y):
        return nn.binary_cross_entropy_with_logits(predict(model, nodes, edges), y)

    score = data.binary_accuracy(lambda m, x: predict(m, x, valid[1]), valid[0], valid[2])
    optimizer, samples = pb.optim.adam(1e-2), (nodes, edges, y)
    return Setup(structures.chemist(seed), loss, optimizer, samples, score, batch=32)


@fault(
    "bags_scaled_by_batch",
    "scaled over the wrong axis",
    "DAT04",
    "bags_mean",
    also="SIG07 OPT02",
    at_once=True,
)
def bags_scaled_by_batch(seed: int) -> Setup:
    """Weights of points should add up to 1 within a bag, and do so over the samples."""
    x, y, x_valid, y_valid = tasks.bags(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = structures.bagger(seed) | {"weigh": nn.Linear(4, 1, key=keys[2])}

    def predict(model, x):
        weight = nn.softplus(model["weigh"](x)) * x[:, :, 3:]
        weight = weight / (pb.sum(weight, axis=0, keepdims=True) + 1e-6)  # here
        h = pb.sum(weight * nn.silu(model["each"](x)), axis=1)
        return model["all"](h)

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score, steps=400)


@fault(
    "regime_time_second",
    "batch read as time",
    "DAT04",
    "regime_gru",
    also="GEN02 VER01",
    at_once=True,
)
def regime_time_second(seed: int) -> Setup:
    """The series are handed over time first to a layer that wants samples first."""
    x, y, x_valid, y_valid = tasks.regime(seed)

    def predict(model, x):
        states = model["cell"](pb.permute_dims(x, (1, 0, 2)))[0]  # here
        return model["head"](states[-1])

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    optimizer, options = pb.optim.adam(1e-2), {"clip": 1.0}
    model = structures.forecaster(seed)
    return Setup(model, loss, optimizer, (x, y), score, options=options)


# ---- batches --------------------------------------------------------------------------------


@fault(
    "first_batch_for_ever", "iterator made anew in each step", "DAT05", "tags_adam", also="GEN01"
)
def first_batch_for_ever(seed: int) -> Setup:
    """next(iter(loader)) in the loop, of a loader that does not shuffle."""
    x, y, x_valid, y_valid = tasks.tags(seed)

    def batches(_):
        loader = zip(np.split(x, 20), np.split(y, 20), strict=True)
        return next(iter(loader))

    score = data.binary_accuracy(call, x_valid, y_valid)
    model, optimizer = tables.tagger(seed), pb.optim.adam(5e-3)
    return Setup(model, decide, optimizer, (x, y), score, batches=batches)


@fault("left_from_debugging", "a subset left from debugging", "DAT05", "arrows_adam", also="GEN01")
def left_from_debugging(seed: int) -> Setup:
    """Thirty-two images, from the time when the code was tried out."""
    x, y, x_valid, y_valid = tasks.standard_arrows(seed)
    score = data.accuracy(call, x_valid, y_valid)
    optimizer, few = pb.optim.adam(3e-3), (x[:32], y[:32])
    return Setup(structures.pointer(seed), classify, optimizer, few, score, batch=32)
