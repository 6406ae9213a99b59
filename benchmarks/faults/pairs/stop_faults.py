"""Faults of the way back: masks of the optimiser, frozen layers, gradients of exactly 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import optree
from benchmarks.faults import data
from benchmarks.faults.pairs import training_healthy as first
from benchmarks.faults.pairs import training_healthy_more as more
from benchmarks.faults.pairs import training_tasks as tasks
from benchmarks.faults.pairs.training_healthy import call, classify, flat
from benchmarks.faults.program import Setup, fault

import pullback as pb
from pullback import nn

ASIDE = "GEN02 VER01 OPT02"


def tree_map(f: Any, *trees: Any) -> Any:
    return optree.tree_map(f, *trees, namespace="pullback")


# ---- what the optimiser leaves out ----------------------------------------------------------


@fault(
    "tables_masked",
    "a mask of the optimiser leaves parameters out",
    "CUT02",
    "stars_factors",
    also=ASIDE,
    layers=("people", "things"),
    at_once=True,
)
def tables_masked(seed: int) -> Setup:
    """The mask is that of the first phase, when only means were fitted."""
    x, y, x_valid, y_valid = tasks.stars(seed)
    mask = {"people": False, "things": False, "mild": True, "mean": True}  # here
    optimizer = pb.optim.masked(pb.optim.adam(2e-2), mask)
    score = data.r_squared(more.rate, x_valid, y_valid)
    return Setup(more.critic(seed), more.rate_loss, optimizer, (x, y), score, steps=400)


@fault(
    "mask_of_vectors",
    "a mask of the optimiser leaves parameters out",
    "CUT02",
    "soil_adam",
    also=ASIDE + " CUT03",
    layers=("layers[0].weight", "layers[1].weight"),
    at_once=True,
)
def mask_of_vectors(seed: int) -> Setup:
    """Biases were to be left out of the decay; it is the weights that are left out of all."""
    x, y, x_valid, y_valid = tasks.soil(seed)
    model = nn.MLP(10, tasks.SOILS, 48, 1, key=pb.random.key(seed))

    def flat_ones(params):
        return tree_map(lambda p: p.ndim < 2, params)

    optimizer = pb.optim.masked(pb.optim.adamw(5e-3), flat_ones)  # here
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, classify, optimizer, (x, y), score)


@fault(
    "last_layer_alone",
    "a step by hand moves a part",
    "CUT02",
    "harvest_by_hand",
    also=ASIDE + " LOOP03",
    layers=("[0]", "[1]"),
)
def last_layer_alone(seed: int) -> Setup:
    """What a loop left in the variable is taken for the list."""
    x, y, x_valid, y_valid = tasks.harvest(seed)
    optimizer = pb.optim.sgd(0.05, momentum=0.9)

    def loss(model, x, y):
        return nn.mse(first.through(model, x), y)

    @pb.compile
    def step(state, x, y):
        model, memory = state
        value, grads = pb.value_and_grad(loss)(model, x, y)
        updates, memory = optimizer.update(grads, memory, model)
        for layer, change in zip(model, updates, strict=True):
            new = {name: layer[name] + change[name] for name in layer}
        return ([*model[:-1], new], memory), (value, grads)  # here

    score = data.r_squared(first.through, x_valid, y_valid)
    model = first.layered(seed, (6, 40, 40, 1))
    return Setup(model, loss, optimizer, (x, y), score, steps=400, step=step)


@fault(
    "one_name_missing",
    "a step by hand moves a part",
    "CUT02",
    "flag_pooled",
    also=ASIDE + " LOOP03",
    layers=("look",),
)
def one_name_missing(seed: int) -> Setup:
    """An optimiser for each part, and a part that came later has none."""
    x, y, x_valid, y_valid = tasks.flag(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = {
        "look": nn.MLP(3, 1, 16, 1, nn.tanh, key=keys[0]),
        "value": nn.Linear(3, 16, key=keys[1]),
        "head": nn.MLP(16, 4, 32, 1, key=keys[2]),
    }
    optimizer = pb.optim.adam(1e-2)

    def predict(model, x):
        weights = nn.softmax(model["look"](x), axis=1)
        return model["head"](pb.sum(weights * model["value"](x), axis=1))

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    @pb.compile
    def step(state, x, y):
        model, memory = state
        value, grads = pb.value_and_grad(loss)(model, x, y)
        updates, memory = optimizer.update(grads, memory, model)
        after = dict(model)
        for part in ("value", "head"):  # here
            after[part] = pb.optim.apply_updates(model[part], updates[part])
        return (after, memory), (value, grads)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, optimizer, (x, y), score, steps=300, step=step)


# ---- frozen layers --------------------------------------------------------------------------


@fault(
    "biases_are_left",
    "all weights frozen",
    "CUT03",
    "soil_momentum",
    also=ASIDE,
    layers=("layers",),
    at_once=True,
)
def biases_are_left(seed: int) -> Setup:
    """A network that is not trained yet is tuned by its biases, as large ones are."""
    x, y, x_valid, y_valid = tasks.soil(seed)
    model = nn.MLP(10, tasks.SOILS, 32, 2, nn.silu, key=pb.random.key(seed))
    model = nn.freeze(model, "*weight")  # here
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.05, momentum=0.9, nesterov=True)
    return Setup(model, classify, optimizer, (x, y), score, batch=32)


@fault(
    "norms_are_left",
    "all weights frozen",
    "CUT03",
    "stamps_grouped",
    also=ASIDE,
    layers=("layers",),
    at_once=True,
)
def norms_are_left(seed: int) -> Setup:
    """Every convolution and the last layer are frozen, the norms between them are not."""
    x, y, x_valid, y_valid = tasks.stamps(seed)
    keys = pb.random.split(pb.random.key(seed), 6)
    convs = [nn.Conv2d(1, 16, 3, stride=2, padding=1, key=keys[0])]
    convs += [nn.Conv2d(16, 16, 3, padding=1, key=k) for k in keys[1:5]]
    convs, head = [nn.freeze(c) for c in convs], nn.freeze(nn.Linear(16, 4, key=keys[5]))  # here

    def block(one, two):
        inner = (nn.GroupNorm(4, 16), nn.relu, one, nn.GroupNorm(4, 16), nn.relu, two)
        return nn.ResidualBlock(nn.Sequential(*inner))

    model = nn.Sequential(
        convs[0],
        block(convs[1], convs[2]),
        block(convs[3], convs[4]),
        nn.relu,
        lambda x: pb.mean(x, axis=(2, 3)),
        head,
    )
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.adamw(pb.optim.one_cycle(1e-2, 200))
    return Setup(model, classify, optimizer, (x, y), score, batch=32)


@fault(
    "head_for_the_body",
    "the head frozen in place of the body",
    "CUT03",
    "stamps_conv",
    also=ASIDE + " CUT04",
    layers=("layers[6]",),
    at_once=True,
)
def head_for_the_body(seed: int) -> Setup:
    """The new head begins at 0; it is the filters that were to be kept."""
    x, y, x_valid, y_valid = tasks.stamps(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, key=keys[0]),
        nn.relu,
        nn.Conv2d(12, 16, 3, key=keys[1]),
        nn.relu,
        nn.MaxPool2d(2),
        flat,
        nn.Linear(256, 4, key=keys[2], initializer=nn.init.zeros),
    )
    model = nn.freeze(model, "layers[6]")  # here
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, classify, pb.optim.adam(3e-3), (x, y), score, batch=32)


@fault(
    "readout_frozen",
    "the head frozen in place of the body",
    "CUT03",
    "harvest_gated",
    also=ASIDE + " CUT04 SIG07",
    layers=("head",),
    at_once=True,
)
def readout_frozen(seed: int) -> Setup:
    """A head that begins small, and a list of what is frozen that names it."""
    x, y, x_valid, y_valid = tasks.harvest(seed)
    keys = pb.random.split(pb.random.key(seed), 3)

    def small(key, shape, dtype="float32"):
        return nn.init.normal(key, shape, dtype, std=1e-3)

    net = {
        "value": nn.Linear(6, 48, key=keys[0]),
        "gate": nn.Linear(6, 48, key=keys[1]),
        "head": nn.Linear(48, 1, key=keys[2], initializer=small),
    }
    net = nn.freeze(net, lambda parts: [parts["head"]])  # here

    def predict(net, x):
        h = nn.tanh(net["value"](x)) * nn.sigmoid(net["gate"](x))
        return net["head"](h)

    def loss(net, x, y):
        return nn.huber(predict(net, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    optimizer = pb.optim.rmsprop(1e-2)
    return Setup(net, loss, optimizer, (x, y), score, batch=32, steps=600)


# ---- gradients of exactly 0 -----------------------------------------------------------------


@fault(
    "weights_of_one_each",
    "a softmax over one element",
    "CUT04",
    "flag_pooled",
    also=ASIDE,
    layers=("look",),
    at_once=True,
)
def weights_of_one_each(seed: int) -> Setup:
    """The scores are [n, T, 1], and it is the last axis that is normalised."""
    x, y, x_valid, y_valid = tasks.flag(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = {
        "look": nn.MLP(3, 1, 16, 1, nn.tanh, key=keys[0]),
        "value": nn.Linear(3, 16, key=keys[1]),
        "head": nn.MLP(16, 4, 32, 1, key=keys[2]),
    }

    def predict(model, x):
        weights = nn.softmax(model["look"](x))  # here
        return model["head"](pb.sum(weights * model["value"](x), axis=1))

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score, steps=300)


@fault(
    "chance_of_one_class",
    "a softmax over one element",
    "CUT04 OBJ01",
    "fraud_weighted",
    also=ASIDE + " OBJ03 OBJ04 NUM06",
    layers=("layers",),
    at_once=True,
)
def chance_of_one_class(seed: int) -> Setup:
    """One output, and a softmax of it for the chance."""
    x, y, x_valid, y_valid = tasks.fraud(seed)
    model = nn.MLP(8, 1, 32, 1, nn.silu, key=pb.random.key(seed))

    def loss(model, x, y):
        p = nn.softmax(model(x), axis=1)  # here
        each = 8 * y * pb.log(p + 1e-6) + (1 - y) * pb.log(1 - p + 1e-6)
        return -pb.mean(each)

    score = tasks.balanced(call, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score, steps=200)


@fault(
    "only_the_padding",
    "a mask that chooses nothing",
    "CUT04",
    "lag_gru",
    also=ASIDE,
    layers=("cell", "head"),
    at_once=True,
)
def only_the_padding(seed: int) -> Setup:
    """The steps behind the end count, not those before; and no sequence here is short."""
    x, y, x_valid, y_valid = tasks.lag(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {"cell": nn.GRU(1, 24, key=keys[0]), "head": nn.Linear(24, 1, key=keys[1])}
    ends = np.full(len(x), 16)

    def predict(model, x):
        return model["head"](model["cell"](x)[0])

    def loss(model, x, y, end):
        counts = (np.arange(16) >= end[:, None]).astype("float32")[:, :, None]  # here
        error = (predict(model, x) - y) ** 2
        return pb.sum(counts * error) / pb.maximum(pb.sum(counts), 1.0)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y, ends), score, steps=300)


@fault(
    "known_ones_left_out",
    "a mask that chooses nothing",
    "CUT04",
    "alarms_mixture",
    also=ASIDE,
    layers=("gate", "experts"),
    at_once=True,
)
def known_ones_left_out(seed: int) -> Setup:
    """Alarms that nobody noted are -1, and shall not count. Here all are noted."""
    x, y, x_valid, y_valid = tasks.alarms(seed)
    keys = pb.random.split(pb.random.key(seed), 5)
    model = {
        "gate": nn.Linear(12, 4, key=keys[0]),
        "experts": [nn.MLP(12, tasks.ALARMS, 24, 1, key=k) for k in keys[1:]],
    }

    def predict(model, x):
        share = nn.softmax(model["gate"](x), axis=1)
        said = pb.stack([expert(x) for expert in model["experts"]], axis=1)
        return pb.sum(share[:, :, None] * said, axis=1)

    def loss(model, x, y):
        each = nn.binary_cross_entropy_with_logits(predict(model, x), y, reduction="none")
        noted = y < 0  # here
        return pb.sum(pb.where(noted, each, 0.0)) / pb.maximum(pb.sum(noted), 1)

    score = data.binary_accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score)


@fault(
    "both_tables_at_zero",
    "two factors that begin at 0",
    "CUT04 SIG06",
    "stars_factors",
    also=ASIDE + " SIG07",
    layers=("people", "things"),
    at_once=True,
)
def both_tables_at_zero(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.stars(seed)
    zeros = {"key": pb.random.key(seed), "initializer": nn.init.zeros}
    model = {
        "people": nn.Embedding(tasks.PEOPLE, 5, **zeros),  # here
        "things": nn.Embedding(tasks.THINGS, 5, **zeros),  # here
        "mild": pb.zeros((tasks.PEOPLE, 1)),
        "mean": pb.full((1,), 3.0),
    }
    score = data.r_squared(more.rate, x_valid, y_valid)
    return Setup(model, more.rate_loss, pb.optim.adam(2e-2), (x, y), score, steps=400)


@fault(
    "branch_twice_at_zero",
    "two factors that begin at 0",
    "CUT04 SIG06",
    "harvest_adamw",
    also=ASIDE + " SIG07 SIG09",
    layers=("branch", "by"),
    at_once=True,
)
def branch_twice_at_zero(seed: int) -> Setup:
    """What is added to a linear model begins at 0 by its last layer, and by its factor too."""
    x, y, x_valid, y_valid = tasks.harvest(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = {
        "line": nn.Linear(6, 1, key=keys[0]),
        "branch": nn.Sequential(
            nn.Linear(6, 48, key=keys[1]),
            nn.gelu,
            nn.Linear(48, 1, key=keys[2], initializer=nn.init.zeros),  # here
        ),
        "by": pb.zeros(1),  # here
    }

    def predict(model, x):
        return model["line"](x) + model["by"] * model["branch"](x)

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    optimizer = pb.optim.adamw(pb.optim.cosine(1e-2, 300), weight_decay=0.1)
    return Setup(model, loss, optimizer, (x, y), score, steps=300)


@fault(
    "clipped_to_stars",
    "an output clipped to where it is not yet",
    "CUT04",
    "stars_factors",
    also=ASIDE + " OBJ04",
    layers=("people", "things", "mild", "mean"),
    at_once=True,
)
def clipped_to_stars(seed: int) -> Setup:
    """There is no rating below 1, and the sum begins at 0."""
    x, y, x_valid, y_valid = tasks.stars(seed)
    model = {**more.critic(seed), "mean": pb.zeros(1)}
    tables = {k: model[k].replace(weight=0.3 * model[k].weight) for k in ("people", "things")}
    model = {**model, **tables}

    def predict(model, x):
        return pb.clip(more.rate(model, x), 1.0, 5.0)  # here

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(2e-2), (x, y), score, steps=400)


@fault(
    "rate_has_a_floor",
    "an output clipped to where it is not yet",
    "CUT04",
    "calls_counted",
    also=ASIDE + " OBJ04",
    layers=("layers",),
    at_once=True,
)
def rate_has_a_floor(seed: int) -> Setup:
    """Never less than e⁴ calls, for safety; the bias begins at 0."""
    x, y, x_valid, y_valid = tasks.calls(seed)
    model = nn.MLP(5, 1, 32, 2, nn.tanh, key=pb.random.key(seed), initializer=nn.init.lecun_normal)

    def loss(model, x, y):
        log_rate = pb.minimum(pb.maximum(model(x), 4.0), 9.0)  # here
        return pb.mean(pb.exp(log_rate) - y * log_rate) / 100

    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score, steps=500)
