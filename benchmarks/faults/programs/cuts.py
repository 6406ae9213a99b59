"""Faults of the way back: a gradient does not reach what it should."""

from __future__ import annotations

import numpy as np
import optree
from benchmarks.faults import data
from benchmarks.faults.program import Setup, fault
from benchmarks.faults.programs.healthy import (
    class_loss,
    logits,
    residual,
    unrolled,
)

import pullback as pb
from pullback import nn


@fault("stopped", "stop_gradient misplaced", "CUT01", "digits_mlp", at_once=True)
def stopped(seed: int) -> Setup:
    """The head sits on features that cannot learn; there are four of them."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {"body": nn.MLP(64, 4, 32, 1, key=keys[0]), "head": nn.Linear(4, 10, key=keys[1])}

    def predict(model, x):
        features = pb.stop_gradient(nn.relu(model["body"](x)))  # here
        return model["head"](features)

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(2e-3), (x, y), score)


@fault("stopped_state", "stop_gradient misplaced", "CUT01", "running_unrolled", at_once=True)
def stopped_state(seed: int) -> Setup:
    """The state is cut at each step, so nothing is learnt through time."""
    x, y, x_valid, y_valid = data.running(seed)
    model = unrolled(seed, nn.init.lecun_normal)

    def predict(model, x):
        h = pb.tanh(model.inputs(x[:, 0]))
        for t in range(1, x.shape[1]):
            h = pb.tanh(model.inputs(x[:, t]) + model.hidden(h))
            h = pb.stop_gradient(h)  # here
        return model.head(h)

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score)


@fault("rounded", "integer cast", "CUT01", "autoencoder", at_once=True)
def rounded(seed: int) -> Setup:
    """The code is stored in whole numbers: nothing comes back through the cast."""
    x, _, x_valid, _ = data.digits(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {"encoder": nn.MLP(64, 8, 48, 1, key=keys[0]), "decoder": nn.Linear(8, 64, key=keys[1])}

    def predict(model, x):
        code = model["encoder"](x).astype("int32")  # here
        return model["decoder"](code.astype("float32"))

    def loss(model, x):
        return nn.mse(predict(model, x), x)

    score = data.r_squared(predict, x_valid, x_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x,), score, steps=300)


@fault("hard_choice", "argmax", "CUT01", "sentence", at_once=True)
def hard_choice(seed: int) -> Setup:
    """Attention to the one best word: argmax has no derivative."""
    x, y, x_valid, y_valid = data.majority(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = {
        "words": nn.Embedding(data.WORDS, 16, key=keys[0]),
        "scorer": nn.Linear(16, 1, key=keys[1]),
        "head": nn.Linear(16, 3, key=keys[2]),
    }

    def predict(model, x):
        h = model["words"](x)
        best = pb.argmax(model["scorer"](h)[..., 0], axis=1)  # here
        chosen = pb.one_hot(best, x.shape[1])
        return model["head"](pb.sum(h * chosen[:, :, None], axis=1))

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score)


@fault("accuracy_as_loss", "comparison in the loss", "CUT01", "moons_bce", at_once=True)
def accuracy_as_loss(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.moons(seed)
    model = nn.MLP(2, 1, 24, 2, nn.gelu, key=pb.random.key(seed))

    def loss(model, x, y):
        right = (model(x) > 0) == (y > 0.5)  # here
        return 1 - pb.mean(right.astype("float32"))

    score = data.binary_accuracy(logits, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score)


@fault(
    "unused_layers", "unused parameter", "CUT01", "spirals_relu", layers=("second",), at_once=True
)
def unused_layers(seed: int) -> Setup:
    """The second layer is made, and the first applied in its place: what learns is too small."""
    x, y, x_valid, y_valid = data.spirals(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = {
        "first": nn.Linear(2, 3, key=keys[0]),
        "second": nn.MLP(3, 3, 48, 2, key=keys[1]),
    }

    def predict(model, x):
        return nn.relu(model["first"](x))

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score)


@fault("through_numpy", "detour through NumPy", "CUT01", "digits_mlp", at_once=True)
def through_numpy(seed: int) -> Setup:
    """The activation is that of NumPy."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {"body": nn.MLP(64, 4, 32, 1, key=keys[0]), "head": nn.Linear(4, 10, key=keys[1])}

    def predict(model, x):
        h = np.tanh(model["body"](x).numpy())  # here
        return model["head"](h)

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    def step(state, x, y):
        model, memory = state
        value, grads = pb.value_and_grad(loss)(model, x, y)
        updates, memory = optimizer.update(grads, memory, model)
        return (pb.optim.apply_updates(model, updates), memory), (value, grads)

    optimizer = pb.optim.sgd(0.1)
    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, optimizer, (x, y), score, step=step)


@fault(
    "frozen_body",
    "frozen by mistake",
    "CUT03",
    "digits_mlp",
    layers=("layers[0]", "layers[1]"),
    also="OPT02",
    at_once=True,
)
def frozen_body(seed: int) -> Setup:
    """Everything but the biases of a fresh network is frozen."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))
    model = nn.freeze(model, lambda m: [layer.weight for layer in m.layers])
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(2e-3), (x, y), score)


@fault(
    "frozen_head", "frozen by mistake", "CUT03 SIG07", "residual", layers=("head",), also="VER01"
)
def frozen_head(seed: int) -> Setup:
    """The new head is frozen at zero, and the body that was to be kept learns nothing."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = residual(seed, 3)
    model = model.replace(head=nn.Linear(48, 10, key=pb.random.key(1), initializer=nn.init.zeros))
    model = nn.freeze(model, "head")
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(1e-3), (x, y), score)


@fault(
    "masked_optimizer", "frozen by mistake", "CUT03 CUT02 OPT02", "digits_mlp", layers=("layers",)
)
def masked_optimizer(seed: int) -> Setup:
    """The mask of what is not to decay is handed to `masked`, which stops all else."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))

    def biases(params):
        return tree_map(lambda p: p.ndim == 1, params)

    optimizer = pb.optim.masked(pb.optim.adamw(2e-3), biases)
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, optimizer, (x, y), score)


def tree_map(f, tree):
    return optree.tree_map(f, tree, namespace="pullback")


@fault("zero_times", "gradient multiplied away", "CUT04", "wave_gelu", also="VER01", at_once=True)
def zero_times(seed: int) -> Setup:
    """A weight of a loss term that is 0 by integer division."""
    x, y, x_valid, y_valid = data.wave(seed)
    model = nn.MLP(4, 1, 48, 2, nn.gelu, key=pb.random.key(seed))
    samples, total = 64, 1280

    def loss(model, x, y):
        share = samples // total
        return share * nn.mse(model(x), y)  # here

    score = data.r_squared(logits, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score)


@fault(
    "clamped", "clip without slope", "CUT04 SIG03", "wave_gelu", also="OBJ03 VER01", at_once=True
)
def clamped(seed: int) -> Setup:
    """Predictions are kept in a range that was meant for other units: all are at its border."""
    x, y, x_valid, y_valid = data.wave(seed)
    model = nn.MLP(4, 1, 48, 2, nn.gelu, key=pb.random.key(seed))

    def loss(model, x, y):
        predicted = pb.clip(model(x), 10.0, 20.0)  # here
        return nn.mse(predicted, y)

    score = data.r_squared(logits, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score)
