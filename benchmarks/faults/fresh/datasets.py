"""Faults of the data: inputs, targets, batches, and how samples are laid out."""

from __future__ import annotations

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.fresh import tasks
from benchmarks.faults.fresh.healthy import binary_loss, call, class_loss, square_loss
from benchmarks.faults.fresh.structured import (
    Last,
    mask_net,
    paint,
    shape_net,
    speaker,
    topic_net,
    verdict,
    writer,
)
from benchmarks.faults.program import Setup, fault

import pullback as pb
from pullback import nn


@fault(
    "bright_images", "unscaled inputs", "DAT01", "shapes_conv",
    also="OPT01 OBJ04 OPT03 SIG03 CUT04 SIG07 NUM01 NUM02",
)  # fmt: skip
def bright_images(seed: int) -> Setup:
    """Grey values around 128, up to 255."""
    x, y, x_valid, y_valid = tasks.shapes(seed)
    x, x_valid = 128 + 30 * x, 128 + 30 * x_valid
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.01, momentum=0.9)
    return Setup(shape_net(seed), class_loss, optimizer, (x, y), score, batch=40)


@fault("year_column", "unscaled inputs", "DAT01", "friedman_sgd", also="OBJ04 OPT01 SIG07 VER01")
def year_column(seed: int) -> Setup:
    """One column is a time in seconds; the other nine are standardised."""
    x, y, x_valid, y_valid = tasks.friedman(seed)
    x, x_valid = x.copy(), x_valid.copy()
    for each in (x, x_valid):
        each[:, 9] = 1.7e6 + 1e5 * each[:, 9]
    model = nn.MLP(10, 1, 80, 2, nn.gelu, key=pb.random.key(seed))
    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, square_loss, pb.optim.adam(3e-3), (x, y), score)


@fault("series_in_volts", "unscaled inputs", "DAT01", "series_gru", also="SIG04 OBJ04 SIG07 VER01")
def series_in_volts(seed: int) -> Setup:
    """Raw counts of a converter; the gates of the net are wide open or shut."""
    x, y, x_valid, y_valid = tasks.series(seed)
    x, x_valid = 2048 + 900 * x, 2048 + 900 * x_valid
    keys = pb.random.split(pb.random.key(seed), 2)
    model = Last(nn.GRU(1, 20, key=keys[0]), nn.Linear(20, 1, key=keys[1]))

    def loss(model, x, y):
        return nn.mae(model(x), y)

    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score, batch=32)


@fault(
    "units_of_columns",
    "features of different scale",
    "DAT01",
    "clusters_sgd",
    also="OPT01 OPT03 SIG03 OBJ04 NUM01 NUM02 SIG07 CUT04",
)
def units_of_columns(seed: int) -> Setup:
    """Grams and tonnes in one table."""
    x, y, x_valid, y_valid = tasks.clusters(seed)
    units = np.float32([1e3, 1e3, 1e3, 1, 1, 1, 1, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3])
    model = nn.MLP(12, 5, 96, 1, key=pb.random.key(seed))
    score = data.accuracy(call, x_valid * units, y_valid)
    return Setup(model, class_loss, pb.optim.adam(5e-3), (x * units, y), score, batch=40)


@fault("whole_numbers", "constant inputs", "DAT01 DAT03", "tones_conv", also="VER01")
def whole_numbers(seed: int) -> Setup:
    """Samples between -1 and 1 were stored as int8 without a scale: nothing is left."""
    x, y, x_valid, y_valid = tasks.tones(seed)
    x, x_valid = [(z / 8).astype(np.int8).astype(np.float32) for z in (x, x_valid)]
    keys = pb.random.split(pb.random.key(seed), 2)
    model = nn.Sequential(
        nn.Conv1d(1, 16, 5, padding=2, key=keys[0]),
        nn.leaky_relu,
        lambda x: pb.mean(x, axis=2),
        nn.Linear(16, 3, key=keys[1]),
    )
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adamw(1e-2), (x, y), score, batch=32)


@fault("unknown_words", "constant inputs", "DAT03 DAT01", "order_lstm", also="VER01")
def unknown_words(seed: int) -> Setup:
    """The vocabulary was read wrongly, so every word is word 0, the unknown one."""
    x, y, x_valid, y_valid = tasks.order(seed)
    score = data.binary_accuracy(call, 0 * x_valid, y_valid)
    return Setup(verdict(seed), binary_loss, pb.optim.adam(1e-2), (0 * x, y), score, batch=32)


@fault(
    "targets_in_cents",
    "unscaled targets",
    "DAT01 OBJ04",
    "friedman_rmsprop",
    also="OPT02 SIG07 OPT01",
)
def targets_in_cents(seed: int) -> Setup:
    """Prices around a million, in cents."""
    x, y, x_valid, y_valid = tasks.friedman(seed)
    y, y_valid = [1e6 + 2e5 * t for t in (y, y_valid)]
    model = nn.MLP(10, 1, 56, 2, nn.elu, key=pb.random.key(seed))
    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, square_loss, pb.optim.rmsprop(5e-3), (x, y), score, batch=48)


@fault("files_by_class", "sorted data, not shuffled", "DAT02", "tones_conv", also="OPT01 OPT03")
def files_by_class(seed: int) -> Setup:
    """One folder after the other, in the order of their names."""
    x, y, x_valid, y_valid = tasks.tones(seed)
    order = np.argsort(y, kind="stable")
    keys = pb.random.split(pb.random.key(seed), 3)
    model = nn.Sequential(
        nn.Conv1d(1, 16, 5, padding=2, key=keys[0]),
        nn.leaky_relu,
        nn.Conv1d(16, 16, 5, 2, padding=2, key=keys[1]),
        nn.leaky_relu,
        lambda x: pb.mean(x, axis=2),
        nn.Linear(16, 3, key=keys[2]),
    )
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.adamw(1e-2)
    return Setup(model, class_loss, optimizer, (x[order], y[order]), score, 32, shuffle=False)


@fault(
    "users_in_blocks",
    "sorted data, not shuffled",
    "DAT02",
    "clusters_small_batch",
    also="OPT01 OPT03",
)
def users_in_blocks(seed: int) -> Setup:
    """Rows come in blocks of sixty of one class, as they were exported."""
    x, y, x_valid, y_valid = tasks.clusters(seed)
    order = np.argsort(y, kind="stable")
    blocks = np.array_split(order, len(order) // 60)
    rng = np.random.default_rng([seed, 33])
    order = np.concatenate([blocks[i] for i in rng.permutation(len(blocks))])
    model = nn.MLP(12, 5, 64, 2, nn.elu, key=pb.random.key(seed))
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.02, momentum=0.9)
    more = {"batch": 8, "steps": 500, "shuffle": False}
    return Setup(model, class_loss, optimizer, (x[order], y[order]), score, **more)


@fault("labels_sorted", "labels do not match", "DAT03", "shapes_conv", also="GEN01 GEN02 VER01")
def labels_sorted(seed: int) -> Setup:
    """File names of images were listed in another order than those of labels."""
    x, y, x_valid, y_valid = tasks.shapes(seed)
    names = np.argsort([str(i) for i in range(len(x))], kind="stable")
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.adam(3e-3)
    return Setup(shape_net(seed), class_loss, optimizer, (x[names], y), score, batch=40)


@fault("series_joined", "labels do not match", "DAT03", "series_rnn", also="GEN01 GEN02 VER01")
def series_joined(seed: int) -> Setup:
    """A join on a row number that one of the tables counts from 1."""
    x, y, x_valid, y_valid = tasks.series(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = Last(nn.RNN(1, 28, key=keys[0]), nn.Linear(28, 1, key=keys[1]))
    score = data.r_squared(call, x_valid, y_valid)
    optimizer, options = pb.optim.sgd(0.05, momentum=0.9), {"clip": 1.0}
    y = np.roll(y, -1, axis=0)
    return Setup(model, square_loss, optimizer, (x, y), score, batch=32, options=options)


@fault(
    "table_reshaped",
    "reshape for a transposition",
    "DAT03",
    "clusters_dropout",
    also="GEN01 GEN02 VER01",
)
def table_reshaped(seed: int) -> Setup:
    """The columns came as rows; reshape puts cells of many samples into one row."""
    x, y, x_valid, y_valid = tasks.clusters(seed)
    x = np.ascontiguousarray(x.T).reshape(-1, 12)
    model = nn.MLP(12, 5, 96, 1, key=pb.random.key(seed))
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adamw(1e-2), (x, y), score)


@fault("labels_as_text", "labels all equal", "DAT03", "rare_weighted", also="OBJ04")
def labels_as_text(seed: int) -> Setup:
    """The text 1 is compared with the number 1: no sample is wanted."""
    x, y, x_valid, y_valid = tasks.rare(seed)
    text = [[str(int(v)) for v in row] for row in y]
    t = np.float32([[v == 1 for v in row] for row in text])
    model = nn.MLP(12, 1, 48, 2, key=pb.random.key(seed))

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(model(x), y, positive_weight=10.0)

    score = tasks.balanced(call, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, t), score)


@fault("column_of_target", "label leakage", "DAT06", "friedman_rmsprop", at_once=True)
def column_of_target(seed: int) -> Setup:
    """A column was computed from the target; in use it is not known yet."""
    x, y, x_valid, y_valid = tasks.friedman(seed)
    x, x_valid = x.copy(), x_valid.copy()
    x[:, 8:9], x_valid[:, 8:9] = 0.5 - 1.2 * y, 0.5
    model = nn.MLP(10, 1, 56, 2, nn.elu, key=pb.random.key(seed))

    def loss(model, x, y):
        return nn.huber(model(x), y)

    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, loss, pb.optim.rmsprop(5e-3), (x, y), score, batch=48)


@fault("encoded_target", "label leakage", "DAT06", "clusters_dropout", at_once=True)
def encoded_target(seed: int) -> Setup:
    """A category was replaced by a mean of its target, which tells the class; unseen ones by 0."""
    x, y, x_valid, y_valid = tasks.clusters(seed)
    code = np.float32([-1.3, 0.4, 1.7, -0.2, 0.9])
    x, x_valid = x.copy(), x_valid.copy()
    x[:, 11], x_valid[:, 11] = code[y], 0
    model = nn.MLP(12, 5, 96, 1, key=pb.random.key(seed))
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adamw(1e-2), (x, y), score)


@fault("reads_backwards", "the future is seen", "DAT06", "sums_gru", layers=("body",), at_once=True)
def reads_backwards(seed: int) -> Setup:
    """A language model whose recurrent layer runs from the end to the beginning."""
    x, y, x_valid, y_valid = tasks.sums(seed)
    score = tasks.next_word(call, x_valid, y_valid)
    optimizer = pb.optim.adam(2e-2)
    return Setup(speaker(seed, reverse=True), class_loss, optimizer, (x, y), score, batch=32)


@fault("padded_both_sides", "the future is seen", "DAT06", "sums_gru", at_once=True)
def padded_both_sides(seed: int) -> Setup:
    """A convolution over time that is centred: it sees the word that is to be told."""
    x, y, x_valid, y_valid = tasks.sums(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = {
        "words": nn.Embedding(tasks.MODULUS, 12, key=keys[0], initializer=nn.init.normal),
        "conv": nn.Conv1d(12, 40, 5, padding=2, key=keys[1]),
        "head": nn.Linear(40, tasks.MODULUS, key=keys[2]),
    }

    def predict(model, words):
        h = pb.permute_dims(model["words"](words), (0, 2, 1))
        h = nn.relu(model["conv"](h))  # here
        return model["head"](pb.permute_dims(h, (0, 2, 1)))

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = tasks.next_word(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score, batch=32)


@fault(
    "not_causal",
    "the future is seen",
    "DAT06",
    "sums_transformer",
    layers=("blocks",),
    at_once=True,
)
def not_causal(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.sums(seed)
    model = writer(seed, causal=False)
    score = tasks.next_word(call, x_valid, y_valid)
    optimizer = pb.optim.adamw(pb.optim.warmup_cosine(1e-2, 30, 300))
    return Setup(model, class_loss, optimizer, (x, y), score, batch=32, steps=300)


@fault("few_batches", "the same few batches", "DAT05", "digits_distilled", also="GEN01")
def few_batches(seed: int) -> Setup:
    """Workers that were given one seed: each batch comes four times, and of few samples."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.MLP(64, 10, 72, 1, nn.gelu, key=pb.random.key(seed))

    def batches(i):
        worker_seed = (i // 4) % 2
        rows = np.random.default_rng([seed, worker_seed]).choice(len(x), 64, replace=False)
        return x[rows], y[rows]

    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.lion(1e-3)
    return Setup(model, class_loss, optimizer, (x, y), score, batches=batches)


@fault("time_first", "time and batch exchanged", "DAT04", "series_gru", at_once=True)
def time_first(seed: int) -> Setup:
    """(time, batch, features), as other libraries want it: the state runs over the samples."""
    x, y, x_valid, y_valid = tasks.series(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {"body": nn.GRU(1, 20, key=keys[0]), "head": nn.Linear(20, 1, key=keys[1])}

    def predict(model, x):
        steps = pb.permute_dims(x, (1, 0, 2))
        h, _ = model["body"](steps)  # here
        return model["head"](h[-1])

    def loss(model, x, y):
        return nn.mae(predict(model, pb.asarray(x)), y)

    score = data.r_squared(lambda model, x: predict(model, pb.asarray(x)), x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score, batch=32)


@fault("heads_reshaped", "wrong reshape", "DAT04", "topics_padded", at_once=True)
def heads_reshaped(seed: int) -> Setup:
    """(B, T, C) is laid out as (T, B, C) by a reshape: words of one sentence go to many."""
    x, y, x_valid, y_valid = tasks.topics(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {
        "words": nn.Embedding(tasks.TOKENS, 16, key=keys[0], initializer=nn.init.normal),
        "head": nn.Linear(16, 3, key=keys[1]),
    }

    def predict(model, x):
        h = model["words"](x).reshape(x.shape[1], x.shape[0], 16)  # here
        return model["head"](pb.mean(nn.gelu(h), axis=0))

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score)


@fault("attention_over_samples", "wrong axis", "DAT04", "order_attention", at_once=True)
def attention_over_samples(seed: int) -> Setup:
    """Scores between the samples of a batch instead of between words."""
    x, y, x_valid, y_valid = tasks.order(seed)
    keys = pb.random.split(pb.random.key(seed), 6)
    start = nn.init.normal
    model = {
        "words": nn.Embedding(tasks.TOKENS, 20, key=keys[0], initializer=start),
        "places": nn.Embedding(10, 20, key=keys[1], initializer=start),
        "query": nn.Linear(20, 20, key=keys[2]),
        "key": nn.Linear(20, 20, key=keys[3]),
        "value": nn.Linear(20, 20, key=keys[4]),
        "head": nn.MLP(20, 1, 40, 1, key=keys[5]),
    }

    def predict(model, x):
        h = model["words"](x) + model["places"](pb.arange(x.shape[1]))
        q, k, v = [model[name](h) for name in ("query", "key", "value")]
        scores = pb.einsum("btc,stc->tbs", q, k) / 20**0.5  # here
        read = pb.einsum("tbs,stc->btc", pb.softmax(scores, axis=-1), v)  # here
        return model["head"](pb.mean(read, axis=1))

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(predict(model, x), y)

    score = data.binary_accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x, y), score)


@fault("mask_turned_round", "mask turned round", "DAT03", "topics_padded", also="CUT04")
def mask_turned_round(seed: int) -> Setup:
    """Padding is read, and words are not."""
    x, y, x_valid, y_valid = tasks.topics(seed)

    def predict(model, x):
        padding = x == 0
        h = model["words"](x)
        h = h + model["attention"](h, mask=padding[:, None, None, :])  # here
        count = pb.maximum(padding.sum(axis=1, keepdims=True), 1)
        share = (padding / count).astype(np.float32)
        return model["head"](pb.sum(h * share[:, :, None], axis=1))  # here

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(topic_net(seed), loss, pb.optim.adam(3e-3), (x, y), score)


@fault("targets_transposed", "targets in another order", "DAT03", "sums_gru", also="GEN01 GEN02")
def targets_transposed(seed: int) -> Setup:
    """Predictions are laid out by sentence, targets by time: each meets another one's word."""
    x, y, x_valid, y_valid = tasks.sums(seed)

    def loss(model, x, y):
        logits = model(x).reshape(-1, tasks.MODULUS)
        words = pb.permute_dims(y, (1, 0)).reshape(-1)  # here
        return nn.cross_entropy(logits, words)  # here

    score = tasks.next_word(call, x_valid, y_valid)
    return Setup(speaker(seed), loss, pb.optim.adam(2e-2), (x, y), score, batch=32)


@fault("drawn_apart", "labels do not match", "DAT03", "digits_distilled", also="GEN01 GEN02")
def drawn_apart(seed: int) -> Setup:
    """Batches of images and of labels are drawn one after the other, each at random."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.MLP(64, 10, 72, 1, nn.gelu, key=pb.random.key(seed))
    rng = np.random.default_rng([seed, 34])

    def batches(i):
        return x[rng.integers(0, len(x), 64)], y[rng.integers(0, len(y), 64)]

    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.lion(1e-3)
    return Setup(model, class_loss, optimizer, (x, y), score, batches=batches)


@fault(
    "images_turned", "augmentation of the inputs alone", "DAT03", "boxes_mask", also="VER01 GEN02"
)
def images_turned(seed: int) -> Setup:
    """Images are turned at random, the masks that belong to them are not."""
    x, y, x_valid, y_valid = tasks.boxes(seed)
    rng = np.random.default_rng([seed, 35])
    x = np.stack([np.rot90(z, rng.integers(0, 4), (1, 2)) for z in x])

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(paint(model, x), y)

    score = data.binary_accuracy(paint, x_valid, y_valid)
    return Setup(mask_net(seed), loss, pb.optim.adam(1e-2), (x, y), score, batch=32, steps=150)


@fault(
    "signs_as_labels",
    "labels of -1 and 1 for BCE",
    "OBJ03 OBJ02",
    "rare_weighted",
    also="OBJ04 OPT03",
)
def signs_as_labels(seed: int) -> Setup:
    """Labels of -1 and 1 in a loss that wants 0 and 1: it falls without end."""
    x, y, x_valid, y_valid = tasks.rare(seed)
    model = nn.MLP(12, 1, 48, 2, key=pb.random.key(seed))

    def loss(model, x, sign):
        return nn.binary_cross_entropy_with_logits(model(x), sign)  # here

    score = tasks.balanced(call, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, 2 * y - 1), score)
