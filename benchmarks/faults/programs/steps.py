"""Faults of the step: rate, momentum, decay, clipping, modes, and loops written by hand."""

from __future__ import annotations

from typing import Any

import optree
from benchmarks.faults import data
from benchmarks.faults.program import Setup, fault
from benchmarks.faults.programs.healthy import (
    batch_norm_score,
    class_loss,
    language,
    language_score,
    logits,
    normed_conv,
    sentence,
    square_loss,
)

import pullback as pb
from pullback import nn


def tree_map(f: Any, *trees: Any) -> Any:
    return optree.tree_map(f, *trees, namespace="pullback")


def digit_net(seed: int, optimizer: Any, loss: Any = class_loss, **more: Any) -> Setup:
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, loss, optimizer, (x, y), score, **more)


BROKEN = "NUM01 NUM02 OPT03 SIG03 CUT04 SIG02"


@fault("sgd_too_high", "learning rate too high", "OPT01", "wave_sgd", also=BROKEN)
def sgd_too_high(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.wave(seed)
    model = nn.MLP(4, 1, 64, 2, pb.tanh, key=pb.random.key(seed))
    score = data.r_squared(logits, x_valid, y_valid)
    return Setup(model, square_loss, pb.optim.sgd(1.5), (x, y), score)


@fault("adam_too_high", "learning rate too high", "OPT01", "digits_mlp", also=BROKEN)
def adam_too_high(seed: int) -> Setup:
    return digit_net(seed, pb.optim.adam(0.5))


@fault("conv_too_high", "learning rate too high", "OPT01", "conv_batch_norm", also=BROKEN)
def conv_too_high(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.images(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, padding=1, key=pb.random.key(seed)),
        nn.relu,
        lambda x: x.reshape(x.shape[0], -1),
        nn.Linear(128, 10, key=pb.random.key(seed + 1)),
    )
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.sgd(3.0), (x, y), score, batch=32)


@fault("linear_too_high", "learning rate too high", "OPT01", "plane_linear", also=BROKEN)
def linear_too_high(seed: int) -> Setup:
    """Just above 2/λ: least squares diverges slowly."""
    x, y, x_valid, y_valid = data.plane(seed)
    params = {"w": pb.zeros((8, 1)), "b": pb.zeros((1,))}

    def predict(params, x):
        return x @ params["w"] + params["b"]

    def loss(params, x, y):
        return pb.mean((predict(params, x) - y) ** 2)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(params, loss, pb.optim.sgd(0.9), (x, y), score)


@fault("no_warm_up", "no warm-up", "OPT01", "sentence", also=BROKEN)
def no_warm_up(seed: int) -> Setup:
    """A rate that is right after a thousand steps, from the first one on."""
    x, y, x_valid, y_valid = data.majority(seed)
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(sentence(seed), class_loss, pb.optim.adam(0.3), (x, y), score)


@fault("momentum_too_high", "momentum too high", "OPT01 OPT03", "wave_sgd", also=BROKEN)
def momentum_too_high(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.wave(seed)
    model = nn.MLP(4, 1, 64, 2, pb.tanh, key=pb.random.key(seed))
    score = data.r_squared(logits, x_valid, y_valid)
    return Setup(model, square_loss, pb.optim.sgd(0.05, momentum=0.999), (x, y), score)


@fault("sgd_too_low", "learning rate too low", "OPT02", "digits_sgd", also="VER01")
def sgd_too_low(seed: int) -> Setup:
    return digit_net(seed, pb.optim.sgd(1e-4))


@fault("adam_too_low", "learning rate too low", "OPT02", "digits_mlp", also="VER01")
def adam_too_low(seed: int) -> Setup:
    return digit_net(seed, pb.optim.adam(1e-6))


@fault("gru_too_low", "learning rate too low", "OPT02", "recall_gru", also="VER01")
def gru_too_low(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.recall(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {"body": nn.GRU(5, 24, key=keys[0]), "head": nn.Linear(24, 4, key=keys[1])}

    def predict(model, x):
        return model["head"](model["body"](x)[0][:, -1])

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-5), (x, y), score)


@fault("decayed_away", "learning rate decays too soon", "OPT02", "digits_mlp", also="VER01")
def decayed_away(seed: int) -> Setup:
    """The schedule counts in epochs, and is given steps."""
    return digit_net(seed, pb.optim.adam(pb.optim.exponential(2e-3, 0.5, 2)))


@fault("clip_too_small", "clipping threshold too small", "OPT02 OPT04", "digits_sgd", also="VER01")
def clip_too_small(seed: int) -> Setup:
    return digit_net(seed, pb.optim.sgd(0.1, momentum=0.9), options={"clip": 1e-3})


@fault(
    "clip_value_too_small", "clipping threshold too small", "OPT02 OPT04", "wave_sgd", also="VER01"
)
def clip_value_too_small(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.wave(seed)
    model = nn.MLP(4, 1, 64, 2, pb.tanh, key=pb.random.key(seed))
    optimizer = pb.optim.chain(pb.optim.clip_by_value(1e-5), pb.optim.sgd(0.05, momentum=0.9))
    score = data.r_squared(logits, x_valid, y_valid)
    return Setup(model, square_loss, optimizer, (x, y), score)


@fault(
    "decay_too_strong",
    "weight decay too strong",
    "OBJ08 OPT05",
    "digits_mlp",
    also="VER01 SIG01 SIG07",
)
def decay_too_strong(seed: int) -> Setup:
    return digit_net(seed, pb.optim.adamw(2e-3, weight_decay=100.0))


@fault(
    "decay_on_everything",
    "weight decay too strong",
    "OBJ08 OPT05",
    "sentence",
    also="VER01 SIG01 SIG07",
)
def decay_on_everything(seed: int) -> Setup:
    """Scales of norms and biases decay as well, and ten times too fast."""
    x, y, x_valid, y_valid = data.majority(seed)
    score = data.accuracy(logits, x_valid, y_valid)
    optimizer = pb.optim.adamw(3e-3, weight_decay=30.0)
    return Setup(sentence(seed), class_loss, optimizer, (x, y), score)


def adam_uncorrected(lr: float, b1: float = 0.9, b2: float = 0.999) -> pb.optim.Optimizer:
    """Adam as it is often written from memory: without the bias correction."""

    def init(params: Any) -> Any:
        zero = tree_map(lambda p: p * 0, params)
        return zero, zero

    def update(grads: Any, state: Any, params: Any) -> Any:
        m = tree_map(lambda m, g: b1 * m + (1 - b1) * g, state[0], grads)
        v = tree_map(lambda v, g: b2 * v + (1 - b2) * g * g, state[1], grads)
        return tree_map(lambda m, v: -lr * m / (pb.sqrt(v) + 1e-8), m, v), (m, v)

    return pb.optim.Optimizer(init, update)


@fault("no_bias_correction", "missing bias correction", "OPT01", "digits_mlp", also=BROKEN)
def no_bias_correction(seed: int) -> Setup:
    """The first steps are √1000/10 times too long."""
    return digit_net(seed, adam_uncorrected(0.1))


@fault("no_bias_correction_slow", "missing bias correction", "OPT01", "sentence", also=BROKEN)
def no_bias_correction_slow(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.majority(seed)
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(sentence(seed), class_loss, adam_uncorrected(0.15, b2=0.9999), (x, y), score)


# ---- modes ----------------------------------------------------------------------------------


@fault("same_dropout", "same dropout key each step", "LOOP04", "dropout", at_once=True)
def same_dropout(seed: int) -> Setup:
    """The key is a constant: the same units are dropped for ever, and the others never trained."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = nn.Sequential(
        nn.Linear(64, 32, key=keys[0]),
        nn.relu,
        nn.Dropout(0.85),
        nn.Linear(32, 10, key=keys[1]),
    )
    dropped = pb.random.key(seed)

    def loss(model, x, y):
        return nn.cross_entropy(model(x, train=True, key=dropped), y)  # here

    score = data.accuracy(lambda model, x: model(x, train=False), x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x, y), score)


@fault("statistics_lost", "batch norm modes mixed", "LOOP02", "conv_batch_norm")
def statistics_lost(seed: int) -> Setup:
    """The new running statistics are dropped: in use, the first ones are taken."""
    x, y, x_valid, y_valid = data.images(seed)
    x, x_valid = 3 * x + 2, 3 * x_valid + 2
    model = normed_conv(seed)
    first = model.initial_state()

    def loss(model, x, y):
        out, _ = model(x, first, train=True)  # here
        return nn.cross_entropy(out, y)

    score = data.accuracy(lambda model, x: model(x, first, train=False)[0], x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x, y), score, batch=32)


@fault(
    "trained_in_eval",
    "batch norm modes mixed",
    "LOOP02",
    "conv_batch_norm",
    also="OBJ04 DAT01 SIG07",
)
def trained_in_eval(seed: int) -> Setup:
    """Trained with train=False: nothing is normalised, the statistics stay as they were."""
    x, y, x_valid, y_valid = data.images(seed)
    x, x_valid = 50 * x, 50 * x_valid
    model = normed_conv(seed)

    def loss(model, x, y, state):
        out, state = model(x, state, train=False)  # here
        return nn.cross_entropy(out, y), state

    score = batch_norm_score(x_valid, y_valid)
    state = model.initial_state()
    optimizer = pb.optim.sgd(0.01)
    return Setup(model, loss, optimizer, (x, y), score, batch=32, network_state=state)


# ---- loops written by hand ------------------------------------------------------------------


@fault(
    "sum_of_parts",
    "accumulated gradients never averaged",
    "OPT01 OBJ06 LOOP01",
    "digits_sgd",
    also=BROKEN,
)
def sum_of_parts(seed: int) -> Setup:
    """The gradients of sixteen parts are added, and the rate is that of one."""
    optimizer = pb.optim.sgd(0.1, momentum=0.9)

    @pb.compile
    def step(state, x, y):
        model, memory = state
        total, loss = None, 0.0
        for i in range(16):
            part = slice(4 * i, 4 * i + 4)
            value, grads = pb.value_and_grad(class_loss)(model, x[part], y[part])
            total = grads if total is None else tree_map(lambda a, b: a + b, total, grads)
            loss = loss + value / 16
        updates, memory = optimizer.update(total, memory, model)  # here
        return (pb.optim.apply_updates(model, updates), memory), (loss, total)

    return digit_net(seed, optimizer, step=step)


@fault(
    "never_cleared", "gradients never cleared", "LOOP01", "digits_sgd", also=BROKEN + " OPT01 OBJ06"
)
def never_cleared(seed: int) -> Setup:
    """The gradients of all earlier steps are added to each new one."""
    inner = pb.optim.sgd(0.1)

    def init(params):
        return inner.init(params), tree_map(lambda p: p * 0, params)

    def update(grads, state, params):
        memory, total = state
        total = tree_map(lambda a, b: a + b, total, grads)  # here
        updates, memory = inner.update(total, memory, params)
        return updates, (memory, total)

    return digit_net(seed, pb.optim.Optimizer(init, update))


@fault(
    "stale_parameters",
    "optimiser on stale parameters",
    "LOOP03",
    "digits_sgd",
    also="OPT01 OPT03 OPT02 NUM01",
)
def stale_parameters(seed: int) -> Setup:
    """The gradient is that of the first model, whatever was learnt since."""
    setup = digit_net(seed, pb.optim.sgd(0.01, momentum=0.9))
    first = setup.model

    @pb.compile
    def step(state, x, y):
        model, memory = state
        loss, grads = pb.value_and_grad(class_loss)(first, x, y)  # here
        updates, memory = setup.optimizer.update(grads, memory, model)
        return (pb.optim.apply_updates(model, updates), memory), (loss, grads)

    return Setup(**{**vars(setup), "step": step})


@fault("result_dropped", "new parameters dropped", "LOOP03 CUT02", "wave_sgd", also="OPT02")
def result_dropped(seed: int) -> Setup:
    """apply_updates is called, and what it returns is not kept."""
    x, y, x_valid, y_valid = data.wave(seed)
    model = nn.MLP(4, 1, 64, 2, pb.tanh, key=pb.random.key(seed))
    optimizer = pb.optim.sgd(0.05, momentum=0.9)

    @pb.compile
    def step(state, x, y):
        model, memory = state
        loss, grads = pb.value_and_grad(square_loss)(model, x, y)
        updates, memory = optimizer.update(grads, memory, model)
        pb.optim.apply_updates(model, updates)  # here
        return (model, memory), (loss, grads)

    score = data.r_squared(logits, x_valid, y_valid)
    return Setup(model, square_loss, optimizer, (x, y), score, step=step)


@fault("language_too_high", "learning rate too high", "OPT01", "language", also=BROKEN)
def language_too_high(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.chain(seed)
    score = language_score(x_valid, y_valid)
    optimizer = pb.optim.adam(0.3)
    return Setup(language(seed), class_loss, optimizer, (x, y), score, batch=16)
