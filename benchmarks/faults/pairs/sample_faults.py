"""Faults of the data: scales, order, pairs of inputs and targets, inputs that are lost."""

from __future__ import annotations

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.pairs import objective_healthy as one
from benchmarks.faults.pairs import objective_healthy_more as more
from benchmarks.faults.pairs import objective_tasks as tasks
from benchmarks.faults.pairs.objective_healthy import call, classify, decide, regress
from benchmarks.faults.program import Setup, fault

import pullback as pb
from pullback import nn

SCALE = "VER01 GEN02 SIG01 SIG02 SIG03 SIG04 CUT04 OPT01 OPT02 OPT03 OBJ04"

# ---- scales ---------------------------------------------------------------------------------


@fault("flats_as_they_come", "inputs not scaled", "DAT01", "flats_elu", also=SCALE, at_once=True)
def flats_as_they_come(seed: int) -> Setup:
    """Years, incomes and metres go in; the rents are standardised."""
    x, _, x_valid, _ = tasks.flats(seed)
    _, y, _, y_valid = tasks.standard_flats(seed)
    score = data.r_squared(call, x_valid, y_valid)
    return Setup(one.agent(seed), regress, pb.optim.adam(5e-3), (x, y), score, steps=300)


@fault("tanks_raw_sensor", "inputs not scaled", "DAT01", "tanks_scan", also=SCALE, at_once=True)
def tanks_raw_sensor(seed: int) -> Setup:
    """What the converter gives: 2048 is no flow."""
    x, y, x_valid, y_valid = tasks.tanks(seed)
    x, x_valid = [np.round(2048 + 300 * z).astype(np.float32) for z in (x, x_valid)]

    def loss(model, x, y):
        return nn.mse(more.fill(model, x), y)

    score = data.r_squared(more.fill, x_valid, y_valid)
    optimizer, options = pb.optim.adam(5e-3), {"clip": 1.0}
    return Setup(more.gauge(seed), loss, optimizer, (x, y), score, steps=300, options=options)


@fault("flats_rent_in_euros", "targets not scaled", "DAT01", "flats_elu", also=SCALE, at_once=True)
def flats_rent_in_euros(seed: int) -> Setup:
    x, _, x_valid, _ = tasks.standard_flats(seed)
    _, y, _, y_valid = tasks.flats(seed)
    score = data.r_squared(call, x_valid, y_valid)
    return Setup(one.agent(seed), regress, pb.optim.adam(5e-3), (x, y), score, steps=300)


@fault("herds_in_grams", "targets not scaled", "DAT01", "herds_set", also=SCALE, at_once=True)
def herds_in_grams(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.herds(seed)
    grams = [250000 + 90000 * z for z in (y, y_valid)]

    def loss(model, x, y):
        return pb.mean(pb.abs(more.muster(model, x) - y))

    score = data.r_squared(more.muster, x_valid, grams[1])
    model, optimizer = more.shepherd(seed), pb.optim.adam(5e-3)
    return Setup(model, loss, optimizer, (x, grams[0]), score, steps=400)


@fault(
    "scans_divided_twice",
    "inputs far too small",
    "DAT01",
    "scans_divided",
    also=SCALE,
    at_once=True,
)
def scans_divided_twice(seed: int) -> Setup:
    """The loader divides by 255 already, and so does the user."""
    x, y, x_valid, y_valid = tasks.scans(seed)
    loaded, loaded_valid = x.astype(np.float32) / 255, x_valid.astype(np.float32) / 255
    x, x_valid = loaded / 255, loaded_valid / 255
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(one.philatelist(seed), classify, pb.optim.adam(5e-3), (x, y), score, batch=32)


@fault(
    "minerals_in_tonnes",
    "inputs far too small",
    "DAT01",
    "minerals_nesterov",
    also=SCALE,
    at_once=True,
)
def minerals_in_tonnes(seed: int) -> Setup:
    """Grams that were turned into tonnes."""
    x, y, x_valid, y_valid = tasks.minerals(seed)
    x, x_valid = x * np.float32(1e-6), x_valid * np.float32(1e-6)
    model = nn.MLP(10, tasks.MINERALS, 64, 1, key=pb.random.key(seed))
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.05, momentum=0.9, nesterov=True)
    return Setup(model, classify, optimizer, (x, y), score, batch=32)


# ---- order ----------------------------------------------------------------------------------


@fault(
    "stamps_by_folder",
    "examples in the order of their classes",
    "DAT02",
    "stamps_pooled",
    also="OPT01 OPT03 GEN02",
)
def stamps_by_folder(seed: int) -> Setup:
    """A folder for each class, read one after the other."""
    x, y, x_valid, y_valid = tasks.stamps(seed)
    folders = [np.flatnonzero(y == k) for k in range(tasks.STAMPS)]
    order = np.concatenate(folders)
    score = data.accuracy(call, x_valid, y_valid)
    model, optimizer = one.philatelist(seed), pb.optim.adam(3e-3)
    return Setup(model, classify, optimizer, (x[order], y[order]), score, batch=32, shuffle=False)


@fault(
    "minerals_by_drawer",
    "examples in the order of their classes",
    "DAT02",
    "minerals_nesterov",
    also="OPT01 OPT03 GEN02",
)
def minerals_by_drawer(seed: int) -> Setup:
    """Drawer by drawer, and round again, by an index that the user keeps."""
    x, y, x_valid, y_valid = tasks.minerals(seed)
    drawers = sorted(range(len(y)), key=lambda row: y[row])
    x, y = x[drawers], y[drawers]

    def batches(i):
        start = 32 * i % len(x)
        return x[start : start + 32], y[start : start + 32]

    model = nn.MLP(10, tasks.MINERALS, 64, 1, key=pb.random.key(seed))
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.05, momentum=0.9, nesterov=True)
    return Setup(model, classify, optimizer, (x, y), score, batch=32, batches=batches)


@fault(
    "mortar_by_strength",
    "examples in the order of a number",
    "DAT02",
    "mortar_sgd",
    also="OPT01 OPT03 GEN02",
)
def mortar_by_strength(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.mortar(seed)
    order = y[:, 0].argsort()
    score = data.r_squared(call, x_valid, y_valid)
    model, optimizer = one.builder(seed), pb.optim.sgd(0.02, momentum=0.9)
    batch = (x[order], y[order])
    return Setup(model, regress, optimizer, batch, score, batch=32, steps=300, shuffle=False)


@fault(
    "tanks_from_empty_to_full",
    "examples in the order of a number",
    "DAT02",
    "tanks_momentum",
    also="OPT01 OPT03 GEN02",
)
def tanks_from_empty_to_full(seed: int) -> Setup:
    """A table of the data base, which has an index on the level."""
    x, y, x_valid, y_valid = tasks.tanks(seed)
    index = np.argsort(-y.ravel(), kind="stable")
    x, y = np.take(x, index, axis=0), np.take(y, index, axis=0)

    def loss(model, x, y):
        return nn.mse(more.measure(model, x), y)

    score = data.r_squared(more.measure, x_valid, y_valid)
    optimizer, options = pb.optim.sgd(0.05, momentum=0.9), {"clip": 1.0}
    return Setup(
        more.meter(seed),
        loss,
        optimizer,
        (x, y),
        score,
        steps=300,
        shuffle=False,
        options=options,
    )


# ---- what belongs together ------------------------------------------------------------------


@fault(
    "minerals_apart",
    "inputs and targets shuffled apart",
    "DAT03",
    "minerals_gelu",
    also="GEN01 GEN02",
)
def minerals_apart(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.minerals(seed)
    rng = np.random.default_rng(seed)
    rng.shuffle(x := x.copy())
    rng.shuffle(y := y.copy())
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(one.geologist(seed), classify, pb.optim.adam(5e-3), (x, y), score, batch=32)


@fault(
    "towns_drawn_apart",
    "inputs and targets shuffled apart",
    "DAT03",
    "towns_messages",
    also="GEN01 GEN02",
)
def towns_drawn_apart(seed: int) -> Setup:
    """Batches drawn by hand, with one draw for the towns and one for what is traded."""
    nodes, roads, y, nodes_valid, roads_valid, y_valid = tasks.towns(seed)
    rng = np.random.default_rng(seed)

    def batches(i):
        rows = rng.choice(len(nodes), 64, replace=False)
        others = rng.choice(len(y), 64, replace=False)
        return nodes[rows], roads[rows], y[others]

    def loss(model, nodes, roads, y):
        return nn.mse(more.trade(model, nodes, roads), y)

    score = data.r_squared(lambda m, x: more.trade(m, x, roads_valid), nodes_valid, y_valid)
    optimizer, options = pb.optim.adam(1e-2), {"clip": 1.0}
    batch = (nodes, roads, y)
    return Setup(
        more.trader(seed),
        loss,
        optimizer,
        batch,
        score,
        steps=400,
        options=options,
        batches=batches,
    )


@fault(
    "tanks_one_row_on",
    "targets of the row before",
    "DAT03",
    "tanks_gru",
    also="GEN01 GEN02",
)
def tanks_one_row_on(seed: int) -> Setup:
    """A join that is off by one."""
    x, y, x_valid, y_valid = tasks.tanks(seed)
    x, y = x[1:], y[:-1]

    def loss(model, x, y):
        return nn.mse(more.measure(model, x), y)

    score = data.r_squared(more.measure, x_valid, y_valid)
    return Setup(more.meter(seed), loss, pb.optim.adam(1e-2), (x, y), score, steps=300)


@fault(
    "defects_header_line", "targets of the row before", "DAT03", "defects_adamw", also="GEN01 GEN02"
)
def defects_header_line(seed: int) -> Setup:
    """The file of the labels has a header that was read as the first of them."""
    x, y, x_valid, y_valid = tasks.defects(seed)
    labels = np.concatenate([np.zeros((1, 1), np.float32), y])[: len(x)]
    score = data.binary_accuracy(call, x_valid, y_valid)
    model, optimizer = one.inspector(seed), pb.optim.adamw(3e-3)
    return Setup(model, decide, optimizer, (x, labels), score, steps=300)


@fault(
    "scans_whole_numbers",
    "inputs lost on the way in",
    "DAT01 DAT03",
    "scans_divided",
    also="GEN02 VER01 CUT04 SIG03",
    at_once=True,
)
def scans_whole_numbers(seed: int) -> Setup:
    """The division is one of whole numbers."""
    x, y, x_valid, y_valid = tasks.scans(seed)
    x, x_valid = (x // 255).astype(np.float32), (x_valid // 255).astype(np.float32)
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(one.philatelist(seed), classify, pb.optim.adam(5e-3), (x, y), score, batch=32)


@fault(
    "reviews_all_unknown",
    "inputs lost on the way in",
    "DAT01 DAT03",
    "reviews_gru",
    also="GEN02 VER01 CUT04",
    at_once=True,
)
def reviews_all_unknown(seed: int) -> Setup:
    """The keys of the vocabulary are texts, the words are numbers: each is unknown."""
    x, y, x_valid, y_valid = tasks.reviews(seed)
    vocabulary = {str(k): k for k in range(tasks.REVIEW_WORDS)}
    x, x_valid = [
        np.array([[vocabulary.get(word, 0) for word in row] for row in rows])
        for rows in (x, x_valid)
    ]

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(more.judge(model, x), y)

    score = data.binary_accuracy(more.judge, x_valid, y_valid)
    optimizer, options = pb.optim.adam(1e-2), {"clip": 1.0}
    return Setup(more.critic(seed), loss, optimizer, (x, y), score, steps=300, options=options)


@fault("defects_all_true", "targets that are all the same", "DAT03", "defects_adamw", also="GEN02")
def defects_all_true(seed: int) -> Setup:
    """Labels of -1 and 1, made to truth values: both are true."""
    x, y, x_valid, y_valid = tasks.defects(seed)
    signs = 2 * y - 1
    y = signs.astype(bool).astype(np.float32)
    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(one.inspector(seed), decide, pb.optim.adamw(3e-3), (x, y), score, steps=300)


@fault(
    "cipher_column_of_one", "targets that are all the same", "DAT03", "cipher_lstm", also="GEN02"
)
def cipher_column_of_one(seed: int) -> Setup:
    """Labels are taken for one-hot rows: the largest of one number is the first."""
    x, y, x_valid, y_valid = tasks.cipher(seed)
    y = np.argmax(y[:, :, None], axis=2)

    def loss(model, x, y):
        return nn.cross_entropy(more.decode(model, x), y)

    score = data.accuracy(more.decode, x_valid, y_valid)
    return Setup(more.spy(seed), loss, pb.optim.adam(1e-2), (x, y), score, steps=300)
