"""Faults of the way back: parameters that the loss does not reach."""

from __future__ import annotations

from typing import Any

from benchmarks.faults import data
from benchmarks.faults.pairs import training_healthy_more as more
from benchmarks.faults.pairs import training_tasks as tasks
from benchmarks.faults.pairs.training_healthy import call, classify
from benchmarks.faults.program import Setup, fault

import pullback as pb
from pullback import nn

ASIDE = "GEN02 VER01 OPT02"

# ---- hard choices ---------------------------------------------------------------------------


@fault(
    "looks_at_the_largest",
    "a hard choice on the way",
    "CUT01",
    "flag_pooled",
    also=ASIDE,
    layers=("look",),
    at_once=True,
)
def looks_at_the_largest(seed: int) -> Setup:
    """The step with the largest score is taken, and nothing but it."""
    x, y, x_valid, y_valid = tasks.flag(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = {
        "look": nn.MLP(3, 1, 16, 1, nn.tanh, key=keys[0]),
        "value": nn.Linear(3, 16, key=keys[1]),
        "head": nn.MLP(16, 4, 32, 1, key=keys[2]),
    }

    def predict(model, x):
        best = pb.argmax(model["look"](x)[:, :, 0], axis=1)  # here
        chosen = pb.one_hot(best, x.shape[1])[:, :, None]
        return model["head"](pb.sum(chosen * model["value"](x), axis=1))

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score, steps=300)


@fault(
    "parts_on_or_off",
    "a hard choice on the way",
    "CUT01",
    "circuits_graph",
    also=ASIDE,
    layers=("own", "near"),
    at_once=True,
)
def parts_on_or_off(seed: int) -> Setup:
    """Each hidden unit is on or off, as a neuron is."""
    nodes, wires, y, *valid = tasks.circuits(seed)

    def predict(model, nodes, wires):
        level = model["own"](nodes) + model["near"](wires @ nodes)
        h = pb.where(level > 0, 1.0, 0.0)  # here
        return pb.sum(model["read"](h), axis=1) / 3

    def loss(model, nodes, wires, y):
        return nn.mse(predict(model, nodes, wires), y)

    x_valid, wires_valid, y_valid = valid
    score = data.r_squared(lambda m, x: predict(m, x, wires_valid), x_valid, y_valid)
    model, optimizer = more.electrician(seed), pb.optim.adam(1e-2)
    return Setup(model, loss, optimizer, (nodes, wires, y), score, batch=32, steps=400)


@fault(
    "whole_codes",
    "numbers made whole",
    "CUT01",
    "folds_rounded",
    also=ASIDE,
    layers=("in",),
    at_once=True,
)
def whole_codes(seed: int) -> Setup:
    x, _, x_valid, _ = tasks.folds(seed)

    def rebuild(model, x):
        code = pb.round(4 * pb.tanh(model["in"](x)))  # here
        return model["out"](code / 2)

    def loss(model, x):
        return nn.mse(rebuild(model, x), x)

    score = data.r_squared(rebuild, x_valid, x_valid)
    return Setup(more.folder(seed), loss, pb.optim.adam(5e-3), (x,), score, steps=400)


@fault(
    "eight_bits",
    "numbers made whole",
    "CUT01",
    "beats_rmsprop",
    also=ASIDE,
    layers=("layers[0]", "layers[2]", "layers[4]"),
    at_once=True,
)
def eight_bits(seed: int) -> Setup:
    """Features of eight bits, as the chip will have them."""
    x, y, x_valid, y_valid = tasks.beats(seed)
    *body, _, head = more.drummer(seed).layers

    def pooled(h):
        level = 20 * pb.mean(h, axis=2)
        return level.astype("int32").astype("float32") / 20  # here

    model = nn.Sequential(*body, pooled, head)
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, classify, pb.optim.rmsprop(2e-3), (x, y), score, batch=32, steps=300)


# ---- gradients that are stopped -------------------------------------------------------------


@fault(
    "both_views_stopped",
    "gradient stopped in the wrong place",
    "CUT01",
    "twins_distance",
    also=ASIDE,
    layers=("eye",),
    at_once=True,
)
def both_views_stopped(seed: int) -> Setup:
    """One of the two views was to be a target."""
    x, y, x_valid, y_valid = tasks.twins(seed)

    def compare(model, x):
        z = pb.stop_gradient(model["eye"](x))  # here
        far = pb.sum((z[:, 0] - z[:, 1]) ** 2, axis=1, keepdims=True)
        return model["near"] - 0.5 * far

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(compare(model, x), y)

    score = data.binary_accuracy(compare, x_valid, y_valid)
    return Setup(more.twin(seed), loss, pb.optim.adam(5e-3), (x, y), score)


@fault(
    "detached_to_save_memory",
    "gradient stopped in the wrong place",
    "CUT01",
    "lag_filters",
    also=ASIDE,
    layers=("[0]", "[1]"),
    at_once=True,
)
def detached_to_save_memory(seed: int) -> Setup:
    """The maps are detached from layer to layer, so that they need not be kept."""
    x, y, x_valid, y_valid = tasks.lag(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = [
        nn.Conv1d(1, 24, 3, key=keys[0]),
        nn.Conv1d(24, 24, 3, key=keys[1]),
        nn.Conv1d(24, 1, 1, key=keys[2]),
    ]

    def predict(model, x):
        h = pb.swapaxes(pb.asarray(x), 1, 2)
        for conv in model[:-1]:
            past = pb.concat([pb.zeros((h.shape[0], h.shape[1], 2)), h], axis=2)
            h = pb.stop_gradient(nn.silu(conv(past)))  # here
        return pb.swapaxes(model[-1](h), 1, 2)

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score, batch=32, steps=300)


# ---- another model than the one that is trained ---------------------------------------------


@fault(
    "table_of_outside",
    "a variable from outside in place of the parameter",
    "CUT01",
    "chatter_bag",
    also=ASIDE,
    layers=("words",),
    at_once=True,
)
def table_of_outside(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.chatter(seed)
    model = more.reader(seed)
    table = model["words"].weight

    def vectors(x):
        return pb.take(table, x, axis=0)  # here

    def predict(model, x):
        return model["head"](3 * pb.mean(vectors(x), axis=1))

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(predict(model, x), y)

    score = data.binary_accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score)


@fault(
    "cell_of_outside",
    "a variable from outside in place of the parameter",
    "CUT01",
    "flag_gru",
    also=ASIDE,
    layers=("cell",),
    at_once=True,
)
def cell_of_outside(seed: int) -> Setup:
    """`net` is what the script began with, `params` what is trained."""
    x, y, x_valid, y_valid = tasks.flag(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    net = {"cell": nn.GRU(3, 24, key=keys[0]), "head": nn.Linear(24, 4, key=keys[1])}

    def forward(params, x):
        _, last = net["cell"](x)  # here
        return params["head"](last)

    def loss(params, x, y):
        return nn.cross_entropy(forward(params, x), y)

    score, options = data.accuracy(forward, x_valid, y_valid), {"clip": 1.0}
    optimizer = pb.optim.adam(1e-2)
    return Setup(net, loss, optimizer, (x, y), score, steps=300, options=options)


# ---- layers that are made and never called --------------------------------------------------


@fault(
    "places_not_added",
    "a layer that is never called",
    "CUT01",
    "mirror_transformer",
    also=ASIDE,
    layers=("places",),
    at_once=True,
)
def places_not_added(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.mirror(seed)

    class Net(nn.Module):
        signs: nn.Embedding
        places: pb.Array
        block: nn.TransformerBlock
        head: nn.Linear

        def __init__(self) -> None:
            keys = pb.random.split(pb.random.key(seed), 4)
            self.signs = nn.Embedding(tasks.SIGNS, 32, key=keys[0], initializer=nn.init.normal)
            self.places = pb.random.normal(keys[1], (6, 32))
            self.block = nn.TransformerBlock(32, 2, key=keys[2])
            self.head = nn.Linear(32, tasks.SIGNS, key=keys[3])

        def __call__(self, x: Any) -> Any:
            h = self.signs(x)  # here
            return self.head(self.block(h))

    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.adamw(pb.optim.warmup_cosine(5e-3, 20, 200))
    return Setup(Net(), classify, optimizer, (x, y), score, batch=32)


@fault(
    "neighbours_forgotten",
    "a layer that is never called",
    "CUT01",
    "circuits_graph",
    also=ASIDE,
    layers=("near",),
    at_once=True,
)
def neighbours_forgotten(seed: int) -> Setup:
    """The messages are computed with the weights of the node itself."""
    nodes, wires, y, *valid = tasks.circuits(seed)

    def predict(model, nodes, wires):
        own = model["own"](nodes)
        message = model["own"](wires @ nodes)  # here
        return pb.sum(model["read"](nn.relu(own + message)), axis=1) / 3

    def loss(model, nodes, wires, y):
        return nn.mse(predict(model, nodes, wires), y)

    x_valid, wires_valid, y_valid = valid
    score = data.r_squared(lambda m, x: predict(m, x, wires_valid), x_valid, y_valid)
    model, optimizer = more.electrician(seed), pb.optim.adam(1e-2)
    return Setup(model, loss, optimizer, (nodes, wires, y), score, batch=32, steps=400)
