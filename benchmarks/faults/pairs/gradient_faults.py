"""Faults of numbers on the way back: slopes without end, and derivatives that are wrong."""

from __future__ import annotations

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.pairs import objective_healthy as one
from benchmarks.faults.pairs import objective_healthy_more as more
from benchmarks.faults.pairs import objective_tasks as tasks
from benchmarks.faults.pairs.objective_healthy import call
from benchmarks.faults.program import Setup, fault

import pullback as pb
from pullback import nn

NEAR = "NUM03 NUM04"
LOST = "VER01 GEN02 OPT03 CUT04"

# ---- slopes without end ---------------------------------------------------------------------


@fault(
    "towns_length_of_nothing",
    "root of a sum of squares that is 0",
    "NUM02",
    "towns_messages",
    also=NEAR,
    at_once=True,
)
def towns_length_of_nothing(seed: int) -> Setup:
    """How much a town hears: the length of what it was sent. Some are sent nothing."""
    nodes, roads, y, nodes_valid, roads_valid, y_valid = tasks.towns(seed)

    def trade(model, nodes, roads):
        own, sent = nn.silu(model["own"](nodes)), nn.silu(model["send"](nodes))
        heard = roads @ sent / 3
        loud = pb.sqrt(pb.sum(heard**2, axis=2, keepdims=True))  # here
        h = pb.concat([own, heard], axis=2) + 0.1 * loud
        return model["head"](pb.mean(nn.silu(model["mix"](h)), axis=1))

    def loss(model, nodes, roads, y):
        return nn.mse(trade(model, nodes, roads), y)

    score = data.r_squared(lambda m, x: trade(m, x, roads_valid), nodes_valid, y_valid)
    optimizer, options = pb.optim.adam(1e-2), {"clip": 1.0}
    batch = (nodes, roads, y)
    return Setup(more.trader(seed), loss, optimizer, batch, score, steps=400, options=options)


@fault(
    "prints_scanned_once",
    "root of a sum of squares that is 0",
    "NUM02",
    "prints_siamese",
    also=NEAR,
    at_once=True,
)
def prints_scanned_once(seed: int) -> Setup:
    """Some pairs are one print with itself, as it was scanned only once."""
    a, b, same, a_valid, b_valid, same_valid = tasks.prints(seed)
    once = (np.random.default_rng(seed).random(len(a)) < 0.1) & (same > 0.5)
    b = np.where(once[:, None], a, b)

    def alike(model, a, b):
        difference = model["body"](a) - model["body"](b)
        far = pb.sum(difference * difference, axis=1) ** 0.5  # here
        return model["shift"] - model["slope"] * far

    def loss(model, a, b, same):
        return nn.binary_cross_entropy_with_logits(alike(model, a, b), same)

    score = more.pair_score(alike, a_valid, b_valid, same_valid)
    return Setup(more.finger(seed), loss, pb.optim.adam(1e-2), (a, b, same), score, steps=400)


@fault(
    "towns_cubic_mean",
    "fractional power of 0",
    "NUM02",
    "towns_messages",
    also=NEAR,
    at_once=True,
)
def towns_cubic_mean(seed: int) -> Setup:
    """Neighbours are pooled by a mean of their cubes; a town without any has the mean 0."""
    nodes, roads, y, nodes_valid, roads_valid, y_valid = tasks.towns(seed)

    def trade(model, nodes, roads):
        own, sent = nn.silu(model["own"](nodes)), nn.softplus(model["send"](nodes))
        heard = (roads @ sent**3 / 3) ** (1 / 3)  # here
        h = pb.concat([own, heard], axis=2)
        return model["head"](pb.mean(nn.silu(model["mix"](h)), axis=1))

    def loss(model, nodes, roads, y):
        return nn.mse(trade(model, nodes, roads), y)

    score = data.r_squared(lambda m, x: trade(m, x, roads_valid), nodes_valid, y_valid)
    optimizer, options = pb.optim.adam(1e-2), {"clip": 1.0}
    batch = (nodes, roads, y)
    return Setup(more.trader(seed), loss, optimizer, batch, score, steps=400, options=options)


@fault(
    "incomes_concave",
    "fractional power of 0",
    "NUM02",
    "incomes_log1p",
    also=NEAR,
    at_once=True,
)
def incomes_concave(seed: int) -> Setup:
    """What an amount is worth grows with its root; how much of it counts is learnt."""
    x, y, x_valid, y_valid = tasks.incomes(seed)
    model = {
        "share": pb.zeros((4,)),
        "net": nn.MLP(7, 1, 48, 2, nn.gelu, key=pb.random.key(seed)),
    }

    def predict(model, x):
        worth = (x[:, :4] * pb.exp(model["share"])) ** 0.5  # here
        return model["net"](pb.concat([worth, x[:, 4:]], axis=1))

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score, steps=300)


@fault(
    "incomes_where",
    "where around what is not defined",
    "NUM02 NUM05",
    "incomes_log1p",
    also=NEAR + " NUM01",
    at_once=True,
)
def incomes_where(seed: int) -> Setup:
    """The logarithm of each amount goes through a small layer; 0 where there is no amount."""
    x, y, x_valid, y_valid = tasks.incomes(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {
        "amount": nn.Linear(1, 4, key=keys[0]),
        "net": nn.MLP(19, 1, 48, 2, nn.gelu, key=keys[1]),
    }

    def predict(model, x):
        amounts = x[:, :4, None]
        level = nn.gelu(model["amount"](pb.log(amounts)))  # here
        level = pb.where(amounts > 0, level, 0.0)  # here
        return model["net"](pb.concat([pb.reshape(level, (len(x), 16)), x[:, 4:]], axis=1))

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score, steps=300)


@fault(
    "towns_where",
    "where around what is not defined",
    "NUM02 NUM05",
    "towns_messages",
    also=NEAR + " NUM01",
    at_once=True,
)
def towns_where(seed: int) -> Setup:
    """The mean of the neighbours goes through a layer, and is put aside where there are none."""
    nodes, roads, y, nodes_valid, roads_valid, y_valid = tasks.towns(seed)

    def trade(model, nodes, roads):
        degree = pb.sum(roads, axis=2, keepdims=True)
        heard = nn.silu(model["send"](roads @ nodes / degree))  # here
        heard = pb.where(degree > 0, heard, 0.0)  # here
        h = pb.concat([nn.silu(model["own"](nodes)), heard], axis=2)
        return model["head"](pb.mean(nn.silu(model["mix"](h)), axis=1))

    def loss(model, nodes, roads, y):
        return nn.mse(trade(model, nodes, roads), y)

    score = data.r_squared(lambda m, x: trade(m, x, roads_valid), nodes_valid, y_valid)
    optimizer, options = pb.optim.adam(1e-2), {"clip": 1.0}
    batch = (nodes, roads, y)
    return Setup(more.trader(seed), loss, optimizer, batch, score, steps=400, options=options)


# ---- derivatives that are wrong -------------------------------------------------------------


@fault(
    "mason_own_silu",
    "derivative of an activation that is wrong",
    "VER02",
    "mortar_descent",
    also=LOST,
    at_once=True,
)
def mason_own_silu(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.mortar(seed)

    @pb.custom_derivative
    def swish(z):
        return z / (1 + pb.exp(-z))  # here

    @swish.defjvp  # here
    def rule(primals, tangents):  # here
        (z,), (t,) = primals, tangents
        s = 1 / (1 + pb.exp(-z))
        return swish(z), t * s * (z * (1 - s) - 1)  # here

    def predict(model, x):
        for layer in model[:-1]:
            x = swish(x @ layer["w"] + layer["b"])
        return x @ model[-1]["w"] + model[-1]["b"]

    def loss(model, x, y):
        return pb.mean((predict(model, x) - y) ** 2)

    optimizer = pb.optim.sgd(pb.optim.cosine(0.15, 400))

    @pb.compile
    def step(state, x, y):
        model, memory = state
        value, grads = pb.value_and_grad(loss)(model, x, y)
        updates, memory = optimizer.update(grads, memory, model)
        return (pb.optim.apply_updates(model, updates), memory), (value, grads)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(one.mason(seed), loss, optimizer, (x, y), score, batch=32, steps=400, step=step)


@fault(
    "tanks_own_softsign",
    "derivative of an activation that is wrong",
    "VER02",
    "tanks_scan",
    also=LOST,
    at_once=True,
)
def tanks_own_softsign(seed: int) -> Setup:
    """x / (1 + |x|): of the quotient only the denominator was derived."""
    x, y, x_valid, y_valid = tasks.tanks(seed)

    @pb.custom_derivative
    def softsign(z):
        return z / (1 + pb.abs(z))  # here

    def forward(z):
        return softsign(z), z

    def backward(z, bar):
        return (-bar * z / (1 + pb.abs(z)) ** 2,)  # here

    softsign.defvjp(forward, backward)  # here

    def predict(model, x):
        def beat(h, now):
            return softsign(now @ model["in"] + h @ model["own"] + model["bias"]), None

        h, _ = pb.scan(beat, pb.zeros((x.shape[0], 24)), pb.swapaxes(x, 0, 1))
        return model["out"](h)

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    optimizer, options = pb.optim.adam(5e-3), {"clip": 1.0}
    return Setup(more.gauge(seed), loss, optimizer, (x, y), score, steps=300, options=options)


@fault(
    "letters_half_a_rule",
    "derivative of a loss that is wrong",
    "VER02",
    "letters_sgd",
    also=LOST,
    at_once=True,
)
def letters_half_a_rule(seed: int) -> Setup:
    """A cross-entropy of one's own; its derivative lacks the target."""
    x, y, x_valid, y_valid = tasks.letters(seed)

    @pb.custom_derivative
    def surprise(z, target):
        return pb.logsumexp(z, axis=1) - pb.sum(z * target, axis=1)  # here

    def forward(z, target):
        return surprise(z, target), (pb.softmax(z, axis=1), target)

    def backward(kept, bar):
        p, target = kept
        return bar[:, None] * p, pb.zeros_like(target)  # here

    surprise.defvjp(forward, backward)  # here

    def loss(model, x, y):
        return pb.mean(surprise(model(x), pb.one_hot(y, tasks.LETTERS)))

    score = data.accuracy(call, x_valid, y_valid)
    return Setup(one.typist(seed), loss, pb.optim.sgd(0.2), (x, y), score, batch=32)


@fault(
    "flats_own_huber",
    "derivative of a loss that is wrong",
    "VER02",
    "flats_elu",
    also=LOST,
    at_once=True,
)
def flats_own_huber(seed: int) -> Setup:
    """Beyond the bend the slope is 0.2, whichever side the error lies."""
    x, y, x_valid, y_valid = tasks.standard_flats(seed)

    @pb.custom_derivative
    def robust(e):
        size = pb.abs(e)
        return pb.where(size < 0.2, e * e / 2, 0.2 * (size - 0.1))  # here

    @robust.defjvp  # here
    def rule(primals, tangents):  # here
        (e,), (t,) = primals, tangents
        return robust(e), t * pb.where(pb.abs(e) < 0.2, e, 0.2)  # here

    def loss(model, x, y):
        return pb.mean(robust(model(x) - y))

    score = data.r_squared(call, x_valid, y_valid)
    return Setup(one.agent(seed), loss, pb.optim.adam(5e-3), (x, y), score, steps=300)


@fault(
    "beeps_ratio",
    "derivatives of two arguments mistaken",
    "VER02",
    "beeps_conv1d",
    also=LOST,
    at_once=True,
)
def beeps_ratio(seed: int) -> Setup:
    """Channels as shares of two: each argument is given the derivative of the other."""
    x, y, x_valid, y_valid = tasks.beeps(seed)

    @pb.custom_derivative
    def share(u, v):
        return u / (u + v + 0.1)  # here

    def forward(u, v):
        return share(u, v), (u, v)

    def backward(kept, bar):
        u, v = kept
        whole = u + v + 0.1
        return -bar * u / whole**2, bar * (v + 0.1) / whole**2  # here

    share.defvjp(forward, backward)  # here
    keys = pb.random.split(pb.random.key(seed), 3)
    model = {
        "one": nn.Conv1d(1, 16, 7, padding=3, key=keys[0]),
        "two": nn.Conv1d(16, 48, 5, stride=2, key=keys[1]),
        "head": nn.Linear(24, tasks.BEEPS, key=keys[2]),
    }

    def predict(model, x):
        h = model["two"](nn.relu(model["one"](x))) ** 2
        h = share(h[:, :24], h[:, 24:])
        return model["head"](4 * pb.mean(h, axis=2) - 2)

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    options = {"accumulate": 2}
    return Setup(model, loss, pb.optim.adamw(5e-3), (x, y), score, options=options)


@fault(
    "prints_own_distance",
    "derivatives of two arguments mistaken",
    "VER02",
    "prints_siamese",
    also=LOST,
    at_once=True,
)
def prints_own_distance(seed: int) -> Setup:
    """The derivative for the second point has the sign of that for the first."""
    a, b, same, a_valid, b_valid, same_valid = tasks.prints(seed)

    @pb.custom_derivative
    def apart(u, v):
        return pb.mean((u - v) ** 2, axis=1)  # here

    def forward(u, v):
        return apart(u, v), u - v

    def backward(difference, bar):
        slope = 2 * difference * bar[:, None] / difference.shape[1]
        return slope, slope  # here

    apart.defvjp(forward, backward)  # here

    def alike(model, a, b):
        return model["shift"] - model["slope"] * apart(model["body"](a), model["body"](b))

    def loss(model, a, b, same):
        return nn.binary_cross_entropy_with_logits(alike(model, a, b), same)

    score = more.pair_score(alike, a_valid, b_valid, same_valid)
    return Setup(more.finger(seed), loss, pb.optim.adam(1e-2), (a, b, same), score, steps=400)


@fault(
    "stamps_own_relu",
    "derivative on the wrong side of a bound",
    "VER02",
    "stamps_pooled",
    also=LOST,
    at_once=True,
)
def stamps_own_relu(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.stamps(seed)

    @pb.custom_derivative
    def rectified(z):
        return pb.maximum(z, 0.0)  # here

    rectified.defvjp(  # here
        lambda z: (rectified(z), z),
        lambda z, bar: (pb.where(z > 0, 0.0, bar),),  # here
    )
    keys = pb.random.split(pb.random.key(seed), 3)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, key=keys[0]),
        rectified,
        nn.MaxPool2d(2),
        nn.Conv2d(12, 24, 3, key=keys[1]),
        rectified,
        one.flat,
        nn.Linear(216, tasks.STAMPS, key=keys[2]),
    )

    def loss(model, x, y):
        return nn.cross_entropy(model(x), y)

    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x, y), score, batch=32)


@fault(
    "calls_held_in_bounds",
    "derivative on the wrong side of a bound",
    "VER02",
    "calls_poisson",
    also=LOST,
    at_once=True,
)
def calls_held_in_bounds(seed: int) -> Setup:
    """The logarithm of the rate is kept between -4 and 4."""
    x, y, x_valid, log_rate = tasks.calls(seed)

    @pb.custom_derivative
    def bounded(z):
        return pb.clip(z, -4, 4)  # here

    @bounded.defjvp  # here
    def rule(primals, tangents):  # here
        z, t = primals[0], tangents[0]
        outside = (pb.abs(z) > 4).astype("float32")
        return bounded(z), t * outside  # here

    def predict(model, x):
        return bounded(model(x))

    def loss(model, x, y):
        z = predict(model, x)
        return pb.mean(pb.exp(z) - y * z)

    score = data.r_squared(predict, x_valid, log_rate)
    options, optimizer = {"clip": 5.0}, pb.optim.adam(3e-3)
    return Setup(one.switchboard(seed), loss, optimizer, (x, y), score, steps=300, options=options)
