"""Faults of the way back: cuts, factors of 0, rules that are wrong, what the optimiser leaves."""

from __future__ import annotations

from benchmarks.faults import data
from benchmarks.faults.fresh.tasks import next_word
from benchmarks.faults.program import Setup, fault
from benchmarks.faults.trial import tasks
from benchmarks.faults.trial.healthy import (
    call,
    class_loss,
    embed,
    highway,
    keys_of,
    lever_net,
    sines,
    soil_net,
    square_loss,
    tree_map,
    two_towers,
    unit,
)
from benchmarks.faults.trial.structured import (
    beat_net,
    coder,
    everywhere,
    grating_net,
    memory_net,
    parts,
    play,
    player,
)

import pullback as pb
from pullback import nn

# ---- cuts -----------------------------------------------------------------------------------


@fault("levers_untaught", "a draw in the network", "CUT01", "levers_drawn", at_once=True)
def levers_untaught(seed: int) -> Setup:
    """The reward of the lever that was drawn, as if it were a function of the shares."""
    x, rewards, x_valid, best = tasks.levers(seed)
    key = pb.random.key(seed + 9)

    def loss(model, x, rewards, key):
        lever = pb.random.categorical(key, pb.log_softmax(model(x)))  # here
        return -pb.mean(pb.take_along_axis(rewards, lever[:, None], axis=1))

    score = data.accuracy(call, x_valid, best)
    optimizer = pb.optim.adam(1e-2)
    return Setup(lever_net(seed), loss, optimizer, (x, rewards), score, steps=300, key=key)


@fault("views_both_stopped", "stop_gradient misplaced", "CUT01", "views_pairs", at_once=True)
def views_both_stopped(seed: int) -> Setup:
    """Each view is a target of the other, and a target is not to be trained."""
    a, b, a_valid, b_valid = tasks.views(seed)
    model = two_towers(seed) | {"temperature": pb.zeros((1,))}

    def loss(model, a, b):
        p = pb.stop_gradient(unit(model["a"](a)))  # here
        q = pb.stop_gradient(unit(model["b"](b)))  # here
        scores, right = p @ q.T * pb.exp(model["temperature"]), pb.arange(p.shape[0])
        return (nn.cross_entropy(scores, right) + nn.cross_entropy(scores.T, right)) / 2

    score = tasks.found(embed, a_valid, b_valid)
    return Setup(model, loss, pb.optim.adam(4e-3), (a, b), score)


@fault("clouds_sorted", "argsort in place of sort", "CUT01", "clouds_pooled", at_once=True)
def clouds_sorted(seed: int) -> Setup:
    """Features are sorted over the set; argsort gives places, which have no derivative."""
    x, y, x_valid, y_valid = tasks.clouds(seed)
    keys = keys_of(seed, 2)
    model = {"point": nn.Linear(2, 8, key=keys[0]), "last": nn.MLP(96, 1, 32, 1, key=keys[1])}

    def predict(model, x):
        order = pb.argsort(model["point"](x), axis=1)  # here
        return model["last"](order.astype("float32").reshape(x.shape[0], 96) / 12)

    def loss(model, x, y):
        return nn.huber(predict(model, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score, steps=250)


@fault("spectra_stored", "integer cast", "CUT01", "spectra_coded", at_once=True)
def spectra_stored(seed: int) -> Setup:
    """The code is stored in whole numbers, also while it is trained."""
    x, _, x_valid, _ = tasks.spectra(seed)
    model = coder(seed)

    def predict(model, x):
        stored = (2 * model["encoder"](x)).astype("int32")  # here
        return model["decoder"](stored.astype("float32") / 2)

    def loss(model, x):
        return nn.binary_cross_entropy_with_logits(predict(model, x), x)

    score = data.r_squared(lambda model, x: nn.sigmoid(predict(model, x)), x_valid, x_valid)
    return Setup(model, loss, pb.optim.adam(8e-3), (x,), score, steps=300)


@fault(
    "surface_skipped", "unused parameter", "CUT01", "surface_sines",
    layers=("second",), also="SIG07", at_once=True,
)  # fmt: skip
def surface_skipped(seed: int) -> Setup:
    """The first layer of waves is read by the last one; the one between is forgotten."""
    x, y, x_valid, y_valid = tasks.surface(seed)
    net = sines(seed, pb.sin)
    model = {"first": net.layers[0], "second": net.layers[2], "last": net.layers[4]}

    def predict(model, x):
        h = pb.sin(model["first"](x) / 3)
        pb.sin(model["second"](h))
        return model["last"](h)

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x, y), score, batch=80)


# ---- what the optimiser leaves --------------------------------------------------------------


@fault(
    "soils_no_decay_mask", "mask of the decay taken for that of training", "CUT02",
    "soils_momentum", layers=("layers",), also="VER01 OPT02", at_once=True,
)  # fmt: skip
def soils_no_decay_mask(seed: int) -> Setup:
    """The mask of what is not to decay, the biases, is given to the optimiser as a whole."""
    x, y, x_valid, y_valid = tasks.soils(seed)
    optimizer = pb.optim.masked(
        pb.optim.sgd(0.1, momentum=0.9), lambda params: tree_map(lambda p: p.ndim == 1, params)
    )
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(soil_net(seed), class_loss, optimizer, (x, y), score, batch=50)


@fault(
    "beats_head_alone", "parameters left out of the loop", "CUT02", "beats_conv",
    layers=("body",), also="VER01 OPT02 LOOP03",
)  # fmt: skip
def beats_head_alone(seed: int) -> Setup:
    """A loop by hand steps the head; the body's gradients are computed and forgotten."""
    x, y, x_valid, y_valid = tasks.beats(seed)
    net = beat_net(seed)
    head = nn.Linear(10, 1, key=keys_of(seed, 4)[3])
    model = {"body": nn.Sequential(*net.layers[:4]), "head": head}

    def predict(model, x):
        return model["head"](pb.max(model["body"](x), axis=2))

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(predict(model, x), y)

    @pb.compile
    def step(state, x, y):
        model, memory = state
        value, grads = pb.value_and_grad(loss)(model, x, y)
        head = tree_map(lambda p, g: p - 0.05 * g, model["head"], grads["head"])  # here
        return ({"body": model["body"], "head": head}, memory), (value, grads)

    score = data.binary_accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.sgd(0.05), (x, y), score, batch=40, step=step)


@fault(
    "gratings_frozen_zero", "frozen by mistake", "CUT03", "gratings_pooled",
    layers=("layers[5]",), also="CUT04 VER01 OPT02 CUT01", at_once=True,
)  # fmt: skip
def gratings_frozen_zero(seed: int) -> Setup:
    """A new last layer of zeros, and the pattern of what to freeze matches it."""
    x, y, x_valid, y_valid = tasks.gratings(seed)
    net = grating_net(seed)
    last = nn.Linear(16, 4, key=pb.random.key(0), initializer=nn.init.zeros)
    net = nn.freeze(net.replace(layers=(*net.layers[:5], last)), "layers[5]")
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(net, class_loss, pb.optim.adam(5e-3), (x, y), score, batch=40)


# ---- gradients of 0 -------------------------------------------------------------------------


@fault("tune_silent", "mask turned round", "CUT04", "tune_shifted", also="VER01", at_once=True)
def tune_silent(seed: int) -> Setup:
    """The mask that leaves out the first places has True where there is padding: nowhere."""
    x, y, x_valid, y_valid = tasks.tune(seed)

    def loss(model, x, y):
        each = nn.cross_entropy(play(model, x), y, reduction="none")
        padding = (y < 0).astype("float32")
        return pb.sum(each * padding) / pb.maximum(pb.sum(padding), 1.0)  # here

    score = next_word(play, x_valid, y_valid)
    return Setup(player(seed), loss, pb.optim.adam(8e-3), (x, y), score, batch=32)


@fault(
    "views_met", "margin that is always met", "CUT04", "views_margin", also="VER01", at_once=True
)
def views_met(seed: int) -> Setup:
    """The margin has the wrong sign and a scale of distances: nothing is ever too near."""
    a, b, a_valid, b_valid = tasks.views(seed)

    def loss(model, a, b):
        p, q = embed(model, a, b)
        right = pb.sum(p * q, axis=1)
        wrong = pb.sum(p * pb.roll(q, 1, axis=0), axis=1)
        return pb.mean(nn.relu(wrong - right - 2.5))  # here

    score = tasks.found(embed, a_valid, b_valid)
    return Setup(two_towers(seed), loss, pb.optim.adam(5e-3), (a, b), score, steps=300)


@fault(
    "lookup_axis_of_one",
    "softmax over one element",
    "CUT04 OBJ01",
    "lookup_attention",
    at_once=True,
)
def lookup_axis_of_one(seed: int) -> Setup:
    """Scores are (B, 5, 1), and the shares are taken over the last axis: each is 1."""
    x, y, x_valid, y_valid = tasks.lookup(seed)

    def predict(model, x):
        keys, values, asked = parts(x)
        scores = model["keys"](keys) @ model["queries"](asked)[:, :, None] / 4
        shares = pb.softmax(scores, axis=-1)  # here
        return model["last"](pb.sum(shares * model["values"](values), axis=1))

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(memory_net(seed), loss, pb.optim.adam(2e-2), (x, y), score)


# ---- rules ----------------------------------------------------------------------------------


@fault("surface_wrong_rule", "wrong derivative", "VER02", "surface_sines", at_once=True)
def surface_wrong_rule(seed: int) -> Setup:
    """The derivative of a sine is a cosine, and here it is the sine."""
    x, y, x_valid, y_valid = tasks.surface(seed)

    @pb.custom_derivative
    def wave(x):
        return pb.sin(x)

    def forward(x):
        return pb.sin(x), x

    def backward(x, g):
        return (g * pb.sin(x),)  # here

    wave.defvjp(forward, backward)
    model = sines(seed, wave)
    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, square_loss, pb.optim.adam(3e-3), (x, y), score, batch=80)


@fault(
    "gratings_reversed", "sign of a derivative", "VER02", "gratings_pooled",
    also="OBJ05 OPT03", at_once=True,
)  # fmt: skip
def gratings_reversed(seed: int) -> Setup:
    """A pooling by hand whose rule has the sign of a reversal of the gradient."""
    x, y, x_valid, y_valid = tasks.gratings(seed)
    layers = list(grating_net(seed).layers)

    @pb.custom_derivative
    def pooled(x):
        return everywhere(x)

    def forward(x):
        return everywhere(x), x

    def backward(x, g):
        return (-pb.broadcast_to(g[:, :, None, None], x.shape) / (x.shape[2] * x.shape[3]),)  # here

    pooled.defvjp(forward, backward)
    layers[4] = pooled
    model = nn.Sequential(*layers)
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.sgd(0.05, momentum=0.9), (x, y), score, batch=40)


@fault("checks_gate_rule", "slope of another function", "VER02", "checks_highway", at_once=True)
def checks_gate_rule(seed: int) -> Setup:
    """A fast sigmoid whose tangent is that of the argument, not of the result."""
    x, y, x_valid, y_valid = tasks.checks(seed)

    @pb.custom_derivative
    def fast(x):
        return 0.5 + 0.5 * x / (1 + pb.abs(x))

    @fast.defjvp
    def rule(primals, tangents):
        (x,), (t,) = primals, tangents
        return fast(x), t * x * (1 - x)  # here

    def predict(model, x):
        h = model["first"](x)
        for body, gate in zip(model["bodies"], model["gates"], strict=True):
            share = fast(gate(h))
            h = share * nn.relu(body(h)) + (1 - share) * h
        return model["last"](h)

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(predict(model, x), y)

    score = data.binary_accuracy(predict, x_valid, y_valid)
    return Setup(highway(seed), loss, pb.optim.adam(1e-2), (x, y), score, steps=300)
