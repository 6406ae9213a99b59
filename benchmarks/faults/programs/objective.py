"""Faults of the loss: it does not say what its author meant."""

from __future__ import annotations

from typing import Any

import numpy as np
import optree
from benchmarks.faults import data
from benchmarks.faults.program import Setup, fault
from benchmarks.faults.programs.healthy import (
    flat,
    language,
    language_score,
    logits,
    sentence,
    square_loss,
)

import pullback as pb
from pullback import nn


@fault("softmax_twice", "softmax before cross-entropy", "OBJ01", "digits_sgd", at_once=True)
def softmax_twice(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.digits(seed)
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))

    def loss(model, x, y):
        probabilities = pb.softmax(model(x))
        return nn.cross_entropy(probabilities, y)  # here

    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, loss, pb.optim.sgd(0.02, momentum=0.9), (x, y), score)


@fault("softmax_in_model", "softmax before cross-entropy", "OBJ01", "conv", at_once=True)
def softmax_in_model(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.images(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, key=keys[0]),
        nn.relu,
        nn.Conv2d(8, 8, 3, 2, padding=1, key=keys[1]),
        nn.relu,
        flat,
        nn.Linear(128, 10, key=keys[2]),
        nn.softmax,
    )

    def loss(model, x, y):
        return nn.cross_entropy(model(x), y)  # here

    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-4), (x, y), score, batch=32)


@fault(
    "softmax_over_batch", "softmax over the wrong axis", "OBJ01 DAT04", "digits_mlp", at_once=True
)
def softmax_over_batch(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))

    def loss(model, x, y):
        p = pb.log_softmax(model(x), axis=0)  # here
        return -pb.mean(pb.sum(p * pb.one_hot(y, 10), axis=1))

    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, loss, pb.optim.sgd(0.05), (x, y), score)


@fault("softmax_of_one", "softmax over one unit", "OBJ01", "moons_bce", also="CUT04", at_once=True)
def softmax_of_one(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.moons(seed)
    model = nn.MLP(2, 1, 24, 2, key=pb.random.key(seed))

    def loss(model, x, y):
        p = pb.softmax(model(x))  # here
        return -pb.mean(y * pb.log(p + 1e-6) + (1 - y) * pb.log(1 - p + 1e-6))

    score = data.binary_accuracy(logits, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score)


@fault("sigmoid_twice", "sigmoid before BCE with logits", "OBJ01", "moons_bce", at_once=True)
def sigmoid_twice(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.moons(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = nn.Sequential(
        nn.Linear(2, 24, key=keys[0]), nn.gelu, nn.Linear(24, 1, key=keys[1]), nn.sigmoid
    )

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(model(x), y)  # here

    score = data.binary_accuracy(lambda model, x: model(x) - 0.5, x_valid, y_valid)
    return Setup(model, loss, pb.optim.sgd(1e-2), (x, y), score)


@fault("sigmoid_rare", "sigmoid before BCE with logits", "OBJ01", "rare_class", at_once=True)
def sigmoid_rare(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.standard_digits(seed)
    t, t_valid = [(labels == 3).astype(np.float32)[:, None] for labels in (y, y_valid)]
    model = nn.MLP(64, 1, 32, 1, key=pb.random.key(seed))

    def loss(model, x, y):
        p = nn.sigmoid(model(x))
        return nn.binary_cross_entropy_with_logits(p, y)  # here

    score = data.binary_accuracy(lambda m, x: nn.sigmoid(m(x)) - 0.5, x_valid, t_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x, t), score)


@fault("broadcast", "(B,1) - (B,) broadcast", "OBJ07", "wave_gelu", at_once=True)
def broadcast(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.wave(seed)
    model = nn.MLP(4, 1, 48, 2, nn.gelu, key=pb.random.key(seed))

    def loss(model, x, y):
        return pb.mean((model(x) - y) ** 2)  # here

    score = data.r_squared(logits, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y[:, 0]), score)


@fault("broadcast_huber", "(B,1) - (B,) broadcast", "OBJ07", "running_rnn", at_once=True)
def broadcast_abs(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.running(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {"body": nn.GRU(1, 24, key=keys[0]), "head": nn.Linear(24, 1, key=keys[1])}

    def predict(model, x):
        return model["head"](model["body"](x)[0][:, -1])

    def loss(model, x, y):
        error = predict(model, x) - y  # here
        return pb.mean(pb.abs(error))

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y[:, 0]), score)


@fault("tanh_range", "output cannot reach the targets", "OBJ03", "wave_gelu", at_once=True)
def tanh_range(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.wave(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = nn.Sequential(
        nn.Linear(4, 48, key=keys[0]), nn.gelu, nn.Linear(48, 1, key=keys[1]), pb.tanh
    )

    def loss(model, x, y):
        return nn.mse(model(x), y)  # here

    score = data.r_squared(logits, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score)


@fault("relu_range", "output cannot reach the targets", "OBJ03", "plane_linear", at_once=True)
def relu_range(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.plane(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = nn.Sequential(
        nn.Linear(8, 24, key=keys[0]), nn.relu, nn.Linear(24, 1, key=keys[1]), nn.relu
    )

    def loss(model, x, y):
        return pb.mean((model(x) - y) ** 2)  # here

    score = data.r_squared(logits, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score)


@fault("sigmoid_range", "output cannot reach the targets", "OBJ03", "autoencoder", at_once=True)
def sigmoid_range(seed: int) -> Setup:
    """Standardised pixels, and a sigmoid that gives 0 to 1."""
    x, _, x_valid, _ = data.standard_digits(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = nn.Sequential(
        nn.Linear(64, 24, key=keys[0]), nn.relu, nn.Linear(24, 64, key=keys[1]), nn.sigmoid
    )

    def loss(model, x):
        return pb.mean((model(x) - x) ** 2)  # here

    score = data.r_squared(logits, x_valid, x_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x,), score, steps=300)


@fault("sum_loss", "sum instead of mean", "OBJ06", "wave_sgd", also="OPT01 NUM01 NUM02 OPT03")
def sum_loss(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.wave(seed)
    model = nn.MLP(4, 1, 64, 2, pb.tanh, key=pb.random.key(seed))

    def loss(model, x, y):
        return pb.sum((model(x) - y) ** 2)  # here

    score = data.r_squared(logits, x_valid, y_valid)
    return Setup(model, loss, pb.optim.sgd(0.05, momentum=0.9), (x, y), score)


@fault(
    "sum_cross_entropy",
    "sum instead of mean",
    "OBJ06",
    "digits_sgd",
    also="OPT01 OPT03 NUM01 NUM02",
)
def sum_cross_entropy(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.digits(seed)
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))

    def loss(model, x, y):
        return nn.cross_entropy(model(x), y, reduction="sum")  # here

    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, loss, pb.optim.sgd(0.1, momentum=0.9), (x, y), score)


@fault("labels_as_numbers", "wrong loss for classes", "OBJ02", "digits_mlp", also="OBJ04")
def labels_as_numbers(seed: int) -> Setup:
    """The class is learnt as if it were a quantity."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.MLP(64, 1, 64, 2, key=pb.random.key(seed))

    def loss(model, x, y):
        return nn.mse(model(x)[:, 0], y)  # here

    def nearest(model, x):
        return -((np.arange(10) - np.asarray(model(x))) ** 2)

    score = data.accuracy(nearest, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(2e-3), (x, y.astype(np.float32)), score)


@fault(
    "uphill", "wrong sign of the loss", "OBJ05", "digits_mlp", also="OPT03 NUM01 NUM02 VER01 OPT01"
)
def uphill(seed: int) -> Setup:
    """A log likelihood, without the minus."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))

    def loss(model, x, y):
        p = pb.log_softmax(model(x))
        return pb.mean(pb.sum(p * pb.one_hot(y, 10), axis=1))  # here

    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(2e-3), (x, y), score)


@fault(
    "gradient_ascent", "wrong sign of the step", "OBJ05", "wave_sgd", also="OPT03 OPT01 NUM01 NUM02"
)
def gradient_ascent(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.wave(seed)
    model = nn.MLP(4, 1, 64, 2, pb.tanh, key=pb.random.key(seed))

    def update(grads, state, params):
        return pb.optim.sgd(0.02).update(grads, state, params)[0], state

    def ascent(grads, state, params):
        updates, state = update(grads, state, params)
        return negative(updates), state  # here

    optimizer = pb.optim.Optimizer(pb.optim.sgd(0.02).init, ascent)
    score = data.r_squared(logits, x_valid, y_valid)
    return Setup(model, square_loss, optimizer, (x, y), score)


def negative(tree: Any) -> Any:
    return optree.tree_map(lambda x: -x, tree, namespace="pullback")


@fault("penalty", "regulariser dominates", "OBJ08", "digits_mlp")
def penalty(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))

    def loss(model, x, y):
        squares = [pb.sum(layer.weight**2) for layer in model.layers]
        return nn.cross_entropy(model(x), y) + 0.5 * sum(squares)  # here

    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(2e-3), (x, y), score)


@fault("samples_mixed", "wrong reshape", "DAT04", "conv", at_once=True)
def samples_mixed(seed: int) -> Setup:
    """Channels last are wanted, and reshape is taken for a transposition."""
    x, y, x_valid, y_valid = data.images(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {
        "conv": nn.Conv2d(1, 8, 3, padding=1, key=keys[0]),
        "head": nn.Linear(512, 10, key=keys[1]),
    }

    def predict(model, x):
        h = nn.relu(model["conv"](x))
        h = pb.permute_dims(h, (1, 0, 2, 3)).reshape(x.shape[0], -1)  # here
        return model["head"](h)

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x, y), score, batch=32)


@fault("attention_over_batch", "wrong axis", "DAT04", "sentence", at_once=True)
def attention_over_batch(seed: int) -> Setup:
    """The layer wants (batch, time, size), and is given (time, batch, size)."""
    x, y, x_valid, y_valid = data.majority(seed)
    keys = pb.random.split(pb.random.key(seed), 4)
    model = {
        "words": nn.Embedding(data.WORDS, 16, key=keys[0]),
        "attention": nn.MultiHeadAttention(16, 2, key=keys[1]),
        "head": nn.Linear(16, 3, key=keys[2]),
    }

    def predict(model, x):
        h = pb.permute_dims(model["words"](x), (1, 0, 2))
        h = model["attention"](h)  # here
        return model["head"](h[-1])

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x, y), score)


@fault("mean_over_classes", "wrong axis", "CUT04 OBJ01", "digits_mlp", also="VER01", at_once=True)
def mean_over_classes(seed: int) -> Setup:
    """The mean over the classes is taken before the softmax: keepdims makes the shapes fit."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))

    def loss(model, x, y):
        scores = pb.mean(model(x), axis=1, keepdims=True)
        p = pb.log_softmax(scores, axis=1)  # here
        return -pb.mean(p * pb.one_hot(y, 10))

    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(2e-3), (x, y), score)


# ---- attention ------------------------------------------------------------------------------


@fault("future_seen", "mask leaks the future", "DAT06", "language", at_once=True)
def future_seen(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.chain(seed)
    model = language(seed, causal=False)

    def loss(model, x, y):
        return nn.cross_entropy(model(x), y)  # here

    score = language_score(x_valid, y_valid)
    return Setup(model, loss, pb.optim.adamw(1e-2), (x, y), score, batch=16)


@fault("mask_off_by_one", "mask leaks the future", "DAT06", "language", at_once=True)
def mask_off_by_one(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.chain(seed)
    keys = pb.random.split(pb.random.key(seed), 4)
    model = {
        "words": nn.Embedding(data.WORDS, 16, key=keys[0]),
        "places": nn.Embedding(12, 16, key=keys[1]),
        "attention": nn.MultiHeadAttention(16, 2, key=keys[2]),
        "head": nn.Linear(16, data.WORDS, key=keys[3]),
    }

    def predict(model, words):
        i = pb.arange(words.shape[1])
        h = model["words"](words) + model["places"](i)
        mask = i[None, :] <= i[:, None] + 1
        h = h + model["attention"](h, mask=mask)  # here
        return model["head"](h)

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    def last_word(model, words):
        scores = []
        for t in (3, 7, 11):
            prefix = np.where(np.arange(words.shape[1]) <= t, words, 0)
            scores.append(np.asarray(predict(model, prefix))[:, t])
        return np.stack(scores, 1)

    score = data.accuracy(last_word, x_valid[:100], y_valid[:100, [3, 7, 11]])
    return Setup(model, loss, pb.optim.adamw(1e-2), (x, y), score, batch=16)


@fault("all_masked", "mask hides everything", "CUT04 NUM01", "sentence", at_once=True)
def all_masked(seed: int) -> Setup:
    """The mask says what is padding, and the layer takes it for what may be seen."""
    x, y, x_valid, y_valid = data.majority(seed)
    padding = np.zeros(x.shape, bool)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = {
        "words": nn.Embedding(data.WORDS, 16, key=keys[0]),
        "attention": nn.MultiHeadAttention(16, 2, key=keys[1]),
        "head": nn.Linear(16, 3, key=keys[2]),
    }

    def predict(model, x, padding):
        h = model["words"](x)
        h = model["attention"](h, mask=padding[:, None, None, :])  # here
        return model["head"](pb.mean(h, axis=1))

    def loss(model, x, y, padding):
        return nn.cross_entropy(predict(model, x, padding), y)

    score = data.accuracy(lambda m, x: predict(m, x, padding[: len(x)]), x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x, y, padding), score)


@fault("masked_by_hand", "mask hides everything", "NUM01", "sentence", at_once=True)
def masked_by_hand(seed: int) -> Setup:
    """Scores of -∞ for a sentence that is all padding: its softmax is 0/0."""
    x, y, x_valid, y_valid = data.majority(seed)
    seen = np.ones(x.shape, bool)
    seen[5] = False
    model = sentence(seed)

    def attend(layer, h, seen):
        q, k, v = layer.query(h), layer.key(h), layer.value(h)
        scores = q @ k.mT / 16**0.5
        scores = pb.where(seen[:, None, :], scores, -np.inf)
        e = pb.exp(scores - pb.max(scores, axis=-1, keepdims=True))  # here
        return layer.output(e / pb.sum(e, axis=-1, keepdims=True) @ v)

    def loss(model, x, y, seen):
        h = model.words(x)
        h = model.norm(h + attend(model.attention, h, seen))
        return nn.cross_entropy(model.head(pb.mean(h, axis=1)), y)

    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x, y, seen), score)
