"""Healthy programs of the pairs that look as if something were wrong."""

from __future__ import annotations

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.pairs import objective_healthy as one
from benchmarks.faults.pairs import objective_healthy_more as more
from benchmarks.faults.pairs import objective_tasks as tasks
from benchmarks.faults.pairs.objective_healthy import call, classify, regress
from benchmarks.faults.program import Setup, healthy

import pullback as pb
from pullback import nn

# ---- losses ---------------------------------------------------------------------------------


@healthy("flats_noisy")
def flats_noisy(seed: int) -> Setup:
    """More than a third of the rents is chance: an R² of 0.6 is all there is."""
    x, y, x_valid, y_valid = tasks.standard_flats(seed)
    rng = np.random.default_rng([seed, 7])
    y, y_valid = [z + rng.normal(0, 0.75, z.shape).astype(np.float32) for z in (y, y_valid)]
    model = nn.MLP(5, 1, 24, 1, pb.tanh, key=pb.random.key(seed))
    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, regress, pb.optim.adam(5e-3), (x, y), score, steps=400)


@healthy("flats_classes_of_rent")
def flats_classes_of_rent(seed: int) -> Setup:
    """Seven classes of rent, which do have an order, as a number."""
    x, y, x_valid, y_valid = tasks.standard_flats(seed)
    y, y_valid = [np.clip(np.round(2 * z + 3), 0, 6).astype(np.float32) for z in (y, y_valid)]

    def loss(model, x, y):
        return nn.huber(model(x), y)

    score = data.r_squared(call, x_valid, y_valid)
    return Setup(one.agent(seed), loss, pb.optim.adam(5e-3), (x, y), score, steps=300)


@healthy("defects_ranked")
def defects_ranked(seed: int) -> Setup:
    """Each bad part is to lie above each good one: all pairs of a batch are compared."""
    x, y, x_valid, y_valid = tasks.defects(seed)

    def loss(model, x, y):
        z, bad = model(x)[:, 0], y[:, 0]
        above = z[:, None] - z[None, :]
        pairs = bad[:, None] * (1 - bad[None, :])
        level = 0.01 * pb.mean(z) ** 2
        return pb.sum(pairs * nn.softplus(-above)) / (pb.sum(pairs) + 1e-6) + level

    def score(model):
        z = np.asarray(model(x_valid))[:, 0]
        order = z[y_valid[:, 0] > 0.5][:, None] > z[y_valid[:, 0] < 0.5]
        return float(order.mean()) if np.isfinite(z).all() else float("nan")

    return Setup(one.inspector(seed), loss, pb.optim.adam(3e-3), (x, y), score, steps=300)


@healthy("prints_contrasted")
def prints_contrasted(seed: int) -> Setup:
    """The partner of a print is to be found among those of the batch."""
    a, b, same, a_valid, b_valid, same_valid = tasks.prints(seed)
    a, b = a[same > 0.5], b[same > 0.5]

    def unit(z):
        return z / pb.sqrt(pb.sum(z * z, axis=1, keepdims=True) + 1e-6)

    def loss(model, a, b):
        alike = unit(model["body"](a)) @ unit(model["body"](b)).mT / 0.2
        return nn.cross_entropy(alike, pb.arange(alike.shape[0]))

    def nearness(model, a, b):
        return pb.sum(unit(model["body"](a)) * unit(model["body"](b)), axis=1)

    def score(model):
        z = np.asarray(nearness(model, a_valid, b_valid))
        order = z[same_valid > 0.5][:, None] > z[same_valid < 0.5]
        return float(order.mean()) if np.isfinite(z).all() else float("nan")

    model = {"body": more.finger(seed)["body"]}
    return Setup(model, loss, pb.optim.adam(5e-3), (a, b), score, batch=32, steps=300)


@healthy("cipher_some_known")
def cipher_some_known(seed: int) -> Setup:
    """Four in ten answers are known; the others are marked by -1."""
    x, y, x_valid, y_valid = tasks.cipher(seed)
    y = np.where(np.random.default_rng([seed, 8]).random(y.shape) < 0.4, y, -1)

    def loss(model, x, y):
        return nn.cross_entropy(model(x), y, ignore_index=-1)

    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.adamw(pb.optim.warmup_cosine(8e-3, 40, 500), weight_decay=0.1)
    return Setup(more.Clerk(seed), loss, optimizer, (x, y), score, steps=500)


@healthy("contours_bounded")
def contours_bounded(seed: int) -> Setup:
    """A decoder that ends in tanh, for contours that are divided by their largest value."""
    x, _, x_valid, _ = tasks.contours(seed)
    largest = max(np.abs(x).max(), np.abs(x_valid).max()) * np.float32(1.05)
    x, x_valid = x / largest, x_valid / largest

    def predict(model, x):
        return pb.tanh(one.retrace(model, x))

    def loss(model, x):
        return nn.mse(predict(model, x), x)

    score = data.r_squared(predict, x_valid, x_valid)
    return Setup(one.tracer(seed), loss, pb.optim.adam(5e-3), (x,), score, steps=400)


@healthy("ads_values")
def ads_values(seed: int) -> Setup:
    """What was shown is rated, the others get no gradient; the best rating is then shown."""
    x, liking, x_valid, liking_valid = tasks.ads(seed)
    shown, reward = more.tried(seed, liking)

    def loss(model, x, shown, reward):
        rated = pb.take_along_axis(model(x), shown[:, None], axis=1)[:, 0]
        return pb.mean((rated - reward) ** 2)

    score = tasks.liked(x_valid, liking_valid)
    batch = (x, shown, reward)
    return Setup(more.editor(seed), loss, pb.optim.adam(5e-3), batch, score, steps=400)


# ---- numbers --------------------------------------------------------------------------------


@healthy("incomes_guarded")
def incomes_guarded(seed: int) -> Setup:
    """The logarithm of an amount is made safe before it is taken, and put aside after it."""
    x, y, x_valid, y_valid = tasks.incomes(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {
        "amount": nn.Linear(1, 4, key=keys[0]),
        "net": nn.MLP(19, 1, 48, 2, nn.gelu, key=keys[1]),
    }

    def predict(model, x):
        amounts = x[:, :4, None]
        safe = pb.where(amounts > 0, amounts, 1.0)
        level = pb.where(amounts > 0, nn.gelu(model["amount"](pb.log(safe))), 0.0)
        return model["net"](pb.concat([pb.reshape(level, (len(x), 16)), x[:, 4:]], axis=1))

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score, steps=300)


@healthy("towns_lengths")
def towns_lengths(seed: int) -> Setup:
    """Lengths and means of what may be nothing, each with a floor."""
    nodes, roads, y, nodes_valid, roads_valid, y_valid = tasks.towns(seed)

    def trade(model, nodes, roads):
        own, sent = nn.silu(model["own"](nodes)), nn.silu(model["send"](nodes))
        heard = roads @ sent / pb.sqrt(pb.maximum(pb.sum(roads, axis=2, keepdims=True), 1.0))
        loud = pb.sqrt(pb.sum(heard**2, axis=2, keepdims=True) + 1e-4)
        h = pb.concat([own, heard], axis=2) + 0.1 * loud
        return model["head"](pb.mean(nn.silu(model["mix"](h)), axis=1))

    def loss(model, nodes, roads, y):
        return nn.mse(trade(model, nodes, roads), y)

    score = data.r_squared(lambda m, x: trade(m, x, roads_valid), nodes_valid, y_valid)
    optimizer, options = pb.optim.adam(1e-2), {"clip": 1.0}
    batch = (nodes, roads, y)
    return Setup(more.trader(seed), loss, optimizer, batch, score, steps=400, options=options)


@healthy("tanks_softsign")
def tanks_softsign(seed: int) -> Setup:
    """An activation with a derivative of its own, which is right."""
    x, y, x_valid, y_valid = tasks.tanks(seed)

    @pb.custom_derivative
    def softsign(z):
        return z / (1 + pb.abs(z))

    softsign.defvjp(
        lambda z: (softsign(z), z),
        lambda z, bar: (bar / (1 + pb.abs(z)) ** 2,),
    )

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


# ---- samples and steps ----------------------------------------------------------------------


@healthy("beeps_normed")
def beeps_normed(seed: int) -> Setup:
    """Batch normalisation and a little dropout; noise of its own in each step."""
    x, y, x_valid, y_valid = tasks.beeps(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = nn.Sequential(
        nn.Conv1d(1, 16, 7, padding=3, use_bias=False, key=keys[0]),
        nn.BatchNorm(16),
        nn.relu,
        nn.Conv1d(16, 24, 5, stride=2, use_bias=False, key=keys[1]),
        nn.BatchNorm(24),
        nn.relu,
        lambda h: pb.mean(h, axis=2),
        nn.Dropout(0.1),
        nn.Linear(24, tasks.BEEPS, key=keys[2]),
    )

    def loss(model, x, y, state, key):
        noisy = x + 0.1 * pb.random.normal(pb.random.fold_in(key, 1), x.shape)
        logits, state = model(noisy, state, train=True, key=key)
        return nn.cross_entropy(logits, y), state

    score = data.accuracy(lambda both, x: both[0](x, both[1], train=False)[0], x_valid, y_valid)
    return Setup(
        model,
        loss,
        pb.optim.adam(1e-2),
        (x, y),
        score,
        network_state=model.initial_state(),
        key=pb.random.key(seed + 1),
    )


@healthy("letters_all_at_once")
def letters_all_at_once(seed: int) -> Setup:
    """All 1280 in each step."""
    x, y, x_valid, y_valid = tasks.letters(seed)
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.adam(pb.optim.warmup_cosine(2e-2, 10, 120))
    return Setup(
        one.typist(seed), classify, optimizer, (x, y), score, batch=1280, steps=120, shuffle=False
    )


@healthy("mortar_as_it_came")
def mortar_as_it_came(seed: int) -> Setup:
    """Not shuffled: what came in was in no order."""
    x, y, x_valid, y_valid = tasks.mortar(seed)
    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.rmsprop(2e-3)
    return Setup(one.builder(seed), regress, optimizer, (x, y), score, steps=400, shuffle=False)


@healthy("stamps_taught")
def stamps_taught(seed: int) -> Setup:
    """What is said of a clean stamp teaches what is said of a noisy one."""
    x, y, x_valid, y_valid = tasks.stamps(seed)

    def loss(model, x, y, key):
        logits = model(x)
        noisy = model(x + 0.2 * pb.random.normal(key, x.shape))
        taught = pb.stop_gradient(pb.softmax(logits, axis=1), why="the clean one is the teacher")
        return nn.cross_entropy(logits, y) + 0.3 * nn.cross_entropy(noisy, taught)

    score, key = data.accuracy(call, x_valid, y_valid), pb.random.key(seed + 1)
    model, optimizer = one.philatelist(seed), pb.optim.adam(3e-3)
    return Setup(model, loss, optimizer, (x, y), score, batch=32, key=key)


@healthy("stamps_rare_ones")
def stamps_rare_ones(seed: int) -> Setup:
    """Two patterns are rare to train on, and count more."""
    x, y, x_valid, y_valid = tasks.stamps(seed)
    keep = (y < 3) | (np.random.default_rng([seed, 9]).random(len(y)) < 0.35)
    x, y = x[keep], y[keep]
    weights = np.array([1, 1, 1, 2.5, 2.5], np.float32)

    def loss(model, x, y):
        return nn.cross_entropy(model(x), y, weights=weights)

    score = data.accuracy(call, x_valid, y_valid)
    model, optimizer = one.philatelist(seed), pb.optim.adam(3e-3)
    return Setup(model, loss, optimizer, (x, y), score, batch=32, steps=300)
