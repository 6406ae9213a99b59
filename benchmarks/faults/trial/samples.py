"""Faults of the data: scales, order, pairs, leaks."""

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
    house_net,
    keys_of,
    pair_loss,
    soil_net,
    square_loss,
    tag_net,
    two_towers,
)
from benchmarks.faults.trial.healthy import embed as embed_views
from benchmarks.faults.trial.structured import (
    beat_net,
    blind_r_squared,
    composer,
    forecast,
    graph_net,
    grating_net,
    player,
    spot_net,
    talk,
)

import pullback as pb
from pullback import nn

BROKEN = "NUM01 NUM02 OPT03 OPT01 SIG02 SIG03 SIG04 CUT04 OBJ04 SIG07"


# ---- scales ---------------------------------------------------------------------------------


@fault("houses_in_cents", "unscaled inputs", "DAT01", "houses_descent", also=BROKEN)
def houses_in_cents(seed: int) -> Setup:
    """One feature, the last price, is in cents."""
    x, y, x_valid, y_valid = tasks.houses(seed)
    scale = np.float32([1, 1, 1, 1, 1, 1, 2e4])
    score = data.r_squared(call, x_valid * scale, y_valid)
    optimizer = pb.optim.sgd(0.05, momentum=0.9)
    net = house_net(seed, nn.gelu)
    return Setup(net, square_loss, optimizer, (x * scale, y), score, batch=40)


@fault("beats_in_volts", "unscaled inputs", "DAT01", "beats_conv", also="VER01 OPT02 SIG07 SIG01")
def beats_in_volts(seed: int) -> Setup:
    """A heart gives millivolts, and the file is in volts."""
    x, y, x_valid, y_valid = tasks.beats(seed)
    score = data.binary_accuracy(call, 1e-3 * x_valid, y_valid)
    optimizer = pb.optim.sgd(0.05, momentum=0.9)
    volts = (1e-3 * x).astype(np.float32)
    return Setup(beat_net(seed), binary_loss, optimizer, (volts, y), score, batch=40)


@fault(
    "walk_in_pascals", "unscaled inputs", "DAT01", "walk_lstm", also="SIG04 OBJ04 OPT02 VER01 SIG07"
)
def walk_in_pascals(seed: int) -> Setup:
    """Pressures of 101 325 ± 1000, as inputs and as targets."""
    x, y, x_valid, y_valid = ((101325 + 1000 * z).astype(np.float32) for z in tasks.walk(seed))
    score = blind_r_squared(call, x_valid, y_valid)
    return Setup(forecast(seed), square_loss, pb.optim.adam(1e-2), (x, y), score, batch=32)


@fault(
    "spots_in_thousands", "unscaled targets", "DAT01 OBJ04", "spots_counted",
    also="OPT02 SIG07 OPT01 VER01",
)  # fmt: skip
def spots_in_thousands(seed: int) -> Setup:
    """Each spot stands for 50 000 cells, and cells are predicted."""
    x, y, x_valid, y_valid = tasks.spots(seed)
    score = data.r_squared(call, x_valid, 50000 * y_valid)
    optimizer, cells = pb.optim.adam(1e-2), 50000 * y
    return Setup(spot_net(seed), square_loss, optimizer, (x, cells), score, batch=40)


# ---- order ----------------------------------------------------------------------------------


@fault("soils_by_kind", "sorted data, not shuffled", "DAT02", "soils_momentum", also="OPT01 OPT03")
def soils_by_kind(seed: int) -> Setup:
    """Read from five files, one after the other."""
    x, y, x_valid, y_valid = tasks.soils(seed)
    order = np.argsort(y, kind="stable")
    score = data.accuracy(call, x_valid, y_valid)
    optimizer, arrays = pb.optim.sgd(0.1, momentum=0.9), (x[order], y[order])
    net = soil_net(seed)
    return Setup(net, class_loss, optimizer, arrays, score, batch=50, shuffle=False)


@fault(
    "houses_by_price", "sorted data, not shuffled", "DAT02", "houses_descent", also="OPT01 OPT03"
)
def houses_by_price(seed: int) -> Setup:
    """A table that was sorted by the price, read from the top."""
    x, y, x_valid, y_valid = tasks.houses(seed)
    order = np.argsort(y[:, 0])
    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.05, momentum=0.9)
    arrays, net = (x[order], y[order]), house_net(seed, nn.gelu)
    return Setup(net, square_loss, optimizer, arrays, score, batch=40, shuffle=False)


# ---- pairs ----------------------------------------------------------------------------------


@fault(
    "gratings_tiled", "labels do not match", "DAT03", "gratings_pooled", also="GEN01 GEN02 VER01"
)
def gratings_tiled(seed: int) -> Setup:
    """Two noisy copies of each image: images are tiled, labels are repeated."""
    x, y, x_valid, y_valid = tasks.gratings(seed)
    rng = np.random.default_rng([seed, 81])
    copies = np.tile(x, (2, 1, 1, 1))
    copies = (copies + rng.normal(0, 0.1, copies.shape)).astype(np.float32)
    score = data.accuracy(call, x_valid, y_valid)
    net, optimizer, arrays = grating_net(seed), pb.optim.adam(5e-3), (copies, np.repeat(y, 2))
    return Setup(net, class_loss, optimizer, arrays, score, batch=40)


@fault("houses_gaps", "labels do not match", "DAT03", "houses_slow", also="GEN01 GEN02 VER01")
def houses_gaps(seed: int) -> Setup:
    """Rows with gaps are dropped from the features, and the last ones from the prices."""
    x, y, x_valid, y_valid = tasks.houses(seed)
    kept = np.random.default_rng([seed, 82]).random(len(x)) > 0.15
    kept[0] = False
    features = x[kept]
    score = data.r_squared(call, x_valid, y_valid)
    arrays, optimizer = (features, y[: len(features)]), pb.optim.adam(3e-4)
    return Setup(house_net(seed, nn.elu), square_loss, optimizer, arrays, score, steps=600)


@fault(
    "graphs_other_edges",
    "inputs do not match",
    "DAT03",
    "graphs_messages",
    also="GEN01 GEN02 VER01",
)
def graphs_other_edges(seed: int) -> Setup:
    """Node features are sorted for reading, the edges and answers are not."""
    x, edges, y, valid, y_valid = tasks.graphs(seed)
    x = x[np.argsort(x[:, 0, 1])]

    def loss(model, x, edges, y):
        return nn.binary_cross_entropy_with_logits(talk(model, x, edges), y)

    score = data.binary_accuracy(lambda model, both: talk(model, *both), valid, y_valid)
    return Setup(graph_net(seed), loss, pb.optim.adam(1e-2), (x, edges, y), score, steps=300)


@fault("beats_drowned", "inputs drowned in noise", "DAT03", "beats_conv", also="GEN01 GEN02 VER01")
def beats_drowned(seed: int) -> Setup:
    """Augmentation: noise of twenty times the signal, where a twentieth was meant."""
    x, y, x_valid, y_valid = tasks.beats(seed)
    noisy = x + np.random.default_rng([seed, 83]).normal(0, 20, x.shape)
    noisy = (noisy / noisy.std()).astype(np.float32)
    score = data.binary_accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.05, momentum=0.9)
    return Setup(beat_net(seed), binary_loss, optimizer, (noisy, y), score, batch=40)


@fault("soils_cast", "constant inputs", "DAT03 DAT01", "soils_momentum", also="VER01 GEN02")
def soils_cast(seed: int) -> Setup:
    """Shares between 0 and 1 were read into a column of whole numbers."""
    x, y, x_valid, y_valid = tasks.soils(seed)

    def stored(x):
        shares = 1 / (1 + np.exp(-x))
        return shares.astype(np.int64).astype(np.float32)

    score = data.accuracy(call, stored(x_valid), y_valid)
    optimizer = pb.optim.sgd(0.1, momentum=0.9)
    return Setup(soil_net(seed), class_loss, optimizer, (stored(x), y), score, batch=50)


# ---- draws ----------------------------------------------------------------------------------


@fault("tags_sampler", "sampler seeded in each step", "DAT05", "tags_binary", also="GEN01")
def tags_sampler(seed: int) -> Setup:
    """A batch is drawn by a generator that begins anew each time."""
    x, y, x_valid, y_valid = tasks.tags(seed)

    def batches(i):
        rows = np.random.default_rng(seed).choice(len(x), 64, replace=False)
        return x[rows], y[rows]

    score = data.binary_accuracy(call, x_valid, y_valid)
    net, optimizer = tag_net(seed), pb.optim.adam(4e-3)
    return Setup(net, binary_loss, optimizer, (x, y), score, steps=300, batches=batches)


@fault("views_window", "the same few batches", "DAT05", "views_pairs", also="GEN01")
def views_window(seed: int) -> Setup:
    """The start of a batch is taken modulo the size of a batch, not of the data."""
    a, b, a_valid, b_valid = tasks.views(seed)

    def batches(i):
        start = 16 * i % 64
        return a[start : start + 64], b[start : start + 64]

    score = tasks.found(embed_views, a_valid, b_valid)
    net, optimizer = two_towers(seed), pb.optim.adam(4e-3)
    return Setup(net, pair_loss, optimizer, (a, b), score, batches=batches)


# ---- leaks ----------------------------------------------------------------------------------


@fault("houses_tax", "label leakage", "DAT06", "houses_slow", at_once=True)
def houses_tax(seed: int) -> Setup:
    """The tax of a house, a share of its price, is among the features; later it is not known."""
    x, y, x_valid, y_valid = tasks.houses(seed)
    x = np.concatenate([x[:, :6], 0.8 * y + 0.3], axis=1)
    x_valid = np.concatenate([x_valid[:, :6], np.zeros_like(y_valid)], axis=1)
    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.adam(3e-4)
    return Setup(house_net(seed, nn.elu), square_loss, optimizer, (x, y), score, steps=600)


@fault("walk_both_ways", "the future is seen", "DAT06", "walk_lstm", layers=("back",), at_once=True)
def walk_both_ways(seed: int) -> Setup:
    """A forecast by a network that reads the series in both directions."""
    x, y, x_valid, y_valid = tasks.walk(seed)
    keys = keys_of(seed, 3)
    model = {
        "body": nn.LSTM(1, 12, key=keys[0]),
        "back": nn.LSTM(1, 12, reverse=True, key=keys[1]),
        "head": nn.Linear(24, 1, key=keys[2]),
    }

    def predict(model, x):
        both = pb.concat([model["body"](x)[0], model["back"](x)[0]], axis=2)  # here
        return model["head"](both)

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)

    score = blind_r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score, batch=32)


@fault(
    "tune_open", "the future is seen", "DAT06", "tune_attention", layers=("blocks",), at_once=True
)
def tune_open(seed: int) -> Setup:
    """Attention without a mask."""
    x, y, x_valid, y_valid = tasks.tune(seed)
    score = next_word(call, x_valid, y_valid)
    net = composer(seed, causal=False)
    optimizer = pb.optim.adamw(pb.optim.warmup_cosine(8e-3, 20, 200))
    return Setup(net, class_loss, optimizer, (x, y), score, batch=32)


@fault(
    "tune_rolled_wrong_way", "shift in the wrong direction", "DAT06", "tune_shifted", at_once=True
)
def tune_rolled_wrong_way(seed: int) -> Setup:
    """A roll by -1 brings the next note, not the last one."""
    x, y, x_valid, y_valid = tasks.tune(seed)

    def predict(model, x):
        h = model["notes"](x)
        near = [h, pb.roll(h, -1, axis=1), pb.roll(h, -2, axis=1)]  # here
        return model["head"](pb.concat(near, axis=2))

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x)[:, :-2], y[:, :-2])

    score = next_word(predict, x_valid, y_valid)
    return Setup(player(seed), loss, pb.optim.adam(8e-3), (x, y), score, batch=32)


@fault("tune_rolled_samples", "shift along the wrong axis", "DAT04", "tune_shifted", at_once=True)
def tune_rolled_samples(seed: int) -> Setup:
    """The last notes are those of another tune."""
    x, y, x_valid, y_valid = tasks.tune(seed)

    def predict(model, x):
        h = model["notes"](x)
        near = [h, pb.roll(h, 1, axis=0), pb.roll(h, 2, axis=0)]  # here
        return model["head"](pb.concat(near, axis=2))

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x)[:, 2:], y[:, 2:])

    score = next_word(predict, x_valid, y_valid)
    return Setup(player(seed), loss, pb.optim.adam(8e-3), (x, y), score, batch=32)
