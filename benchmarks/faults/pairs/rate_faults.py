"""Faults of random numbers, of the learning rate and its schedule."""

from __future__ import annotations

from benchmarks.faults import data
from benchmarks.faults.pairs import training_healthy as first
from benchmarks.faults.pairs import training_healthy_more as more
from benchmarks.faults.pairs import training_tasks as tasks
from benchmarks.faults.pairs.training_healthy import call, classify, decide, regress
from benchmarks.faults.program import Setup, fault

import pullback as pb
from pullback import nn

BROKEN = "NUM01 NUM02 OPT03 OBJ05 SIG02 SIG03 SIG04 CUT04 GEN02"
SLOW = "VER01 GEN02"

# ---- the same random numbers ----------------------------------------------------------------


@fault(
    "the_same_columns",
    "a constant key in the loss",
    "LOOP04",
    "doubled_columns",
    also="GEN02",
    at_once=True,
)
def the_same_columns(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.doubled(seed)
    model = nn.MLP(12, 1, 64, 1, key=pb.random.key(seed))

    def loss(model, x, y):
        seen = pb.random.bernoulli(pb.random.key(7), 0.75, (12,))  # here
        return nn.mse(model(pb.where(seen, x / 0.75, 0.0)), y)

    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score, steps=400)


@fault(
    "the_same_words",
    "a constant key in the loss",
    "LOOP04",
    "chatter_dropped",
    also="GEN02 CUT04",
    at_once=True,
)
def the_same_words(seed: int) -> Setup:
    """The key is made where the model is, for all steps."""
    x, y, x_valid, y_valid = tasks.chatter(seed)
    model, key = more.reader(seed), pb.random.key(seed + 1)

    def loss(model, x, y):
        known = pb.random.bernoulli(key, 2 / 3, (tasks.WORDS, 1))  # here
        vectors = pb.take(model["words"].weight * known, x, axis=0)
        logits = model["head"](pb.mean(vectors, axis=1) * 4.5)
        return nn.binary_cross_entropy_with_logits(logits, y)

    score = data.binary_accuracy(more.read, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score, steps=300)


@fault(
    "one_draw_for_ever",
    "a key that the loop does not move on",
    "LOOP04",
    "folds_variational",
    also="GEN02",
)
def one_draw_for_ever(seed: int) -> Setup:
    """The key is split, and the half that was to be kept is not. One draw serves a batch."""
    x, _, x_valid, _ = tasks.folds(seed)
    optimizer, root = pb.optim.adam(1e-2), pb.random.key(seed + 1)

    def loss(model, x, key):
        code = model["in"](x)
        mean, log_var = code[:, :4], code[:, 4:]
        z = mean + pb.exp(0.5 * log_var) * pb.random.normal(key, (1, 4))
        spread = pb.sum(mean**2 + pb.exp(log_var) - log_var - 1, axis=1) / 2
        return nn.mse(model["out"](z), x) + 0.003 * pb.mean(spread)

    gradient = pb.compile(pb.value_and_grad(loss))
    advance = pb.compile(optimizer.update)

    def step(state, x):
        model, memory = state
        _rest, key = pb.random.split(root)  # here
        value, grads = gradient(model, x, key)
        updates, memory = advance(grads, memory, model)
        return (pb.optim.apply_updates(model, updates), memory), (value, grads)

    score, model = data.r_squared(more.middle, x_valid, x_valid), more.variational(seed)
    return Setup(model, loss, optimizer, (x,), score, steps=400, step=step)


@fault(
    "folded_with_nought",
    "a key that the loop does not move on",
    "LOOP04",
    "chatter_dropped",
    also="GEN02 CUT04",
)
def folded_with_nought(seed: int) -> Setup:
    """The number that is folded in counts epochs, and nobody counts it on."""
    x, y, x_valid, y_valid = tasks.chatter(seed)
    optimizer, root, epoch = pb.optim.adam(5e-3), pb.random.key(seed + 2), 0

    def loss(net, x, y, key):
        chosen = pb.random.uniform(key, (tasks.WORDS,)) < 0.5
        table = pb.where(chosen[:, None], net["words"].weight, 0.0) / 0.5
        said = 3 * pb.mean(pb.take(table, x, axis=0), axis=1)
        return nn.binary_cross_entropy_with_logits(net["head"](said), y)

    @pb.compile
    def step(state, x, y):
        net, memory = state
        key = pb.random.fold_in(root, epoch)  # here
        value, grads = pb.value_and_grad(loss)(net, x, y, key)
        updates, memory = optimizer.update(grads, memory, net)
        return (pb.optim.apply_updates(net, updates), memory), (value, grads)

    score = data.binary_accuracy(more.read, x_valid, y_valid)
    return Setup(more.reader(seed), loss, optimizer, (x, y), score, steps=300, step=step)


# ---- too high -------------------------------------------------------------------------------


@fault(
    "mirror_rate", "rate of another optimiser for Adam", "OPT01", "mirror_transformer", also=BROKEN
)
def mirror_rate(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.mirror(seed)
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(more.Mirror(seed), classify, pb.optim.adam(1.0), (x, y), score, batch=32)


@fault("mixture_rate", "rate of another optimiser for Adam", "OPT01", "alarms_lion", also=BROKEN)
def mixture_rate(seed: int) -> Setup:
    """Lion with the rate that gradient descent had."""
    x, y, x_valid, y_valid = tasks.alarms(seed)
    model = nn.MLP(12, tasks.ALARMS, 64, 1, nn.leaky_relu, key=pb.random.key(seed))
    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(model, decide, pb.optim.lion(0.5), (x, y), score, steps=300)


@fault("stamps_rate", "rate too high for momentum", "OPT01", "stamps_momentum", also=BROKEN)
def stamps_rate(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.stamps(seed)
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.5, momentum=0.9)
    return Setup(first.sorter(seed), classify, optimizer, (x, y), score, batch=32)


@fault("harvest_rate", "rate too high for momentum", "OPT01", "harvest_by_hand", also=BROKEN)
def harvest_rate(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.harvest(seed)
    optimizer = pb.optim.sgd(1.0, momentum=0.95)

    def loss(model, x, y):
        return nn.mse(first.through(model, x), y)

    @pb.compile
    def step(state, x, y):
        params, memory = state
        value, grads = pb.value_and_grad(loss)(params, x, y)
        updates, memory = optimizer.update(grads, memory, params)
        return (pb.optim.apply_updates(params, updates), memory), (value, grads)

    score = data.r_squared(first.through, x_valid, y_valid)
    model = first.layered(seed, (6, 40, 40, 1))
    return Setup(model, loss, optimizer, (x, y), score, steps=400, step=step)


@fault("swarm_rate_grows", "a rate that grows", "OPT03 OPT01", "swarm_means", also=BROKEN)
def swarm_rate_grows(seed: int) -> Setup:
    """A factor of 1.02 in each step, where 0.98 was meant."""
    x, y, x_valid, y_valid = tasks.swarm(seed)

    def loss(model, x, y):
        return nn.mse(more.survey(model, x), y)

    score = data.r_squared(more.survey, x_valid, y_valid)
    optimizer = pb.optim.adam(pb.optim.exponential(5e-3, 1.02))
    return Setup(more.crowd(seed), loss, optimizer, (x, y), score, batch=32, steps=400)


@fault("soil_rate_climbs", "a rate that grows", "OPT03 OPT01", "soil_momentum", also=BROKEN)
def soil_rate_climbs(seed: int) -> Setup:
    """A test of rates, from small ones to large ones, that was left in the script."""
    x, y, x_valid, y_valid = tasks.soil(seed)
    model = nn.MLP(10, tasks.SOILS, 32, 2, nn.silu, key=pb.random.key(seed))
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(lambda t: 0.005 * 1.05 ** pb.asarray(t), momentum=0.9)
    return Setup(model, classify, optimizer, (x, y), score, batch=32)


# ---- too low --------------------------------------------------------------------------------


@fault("circuits_rate_low", "learning rate too small", "OPT02", "circuits_graph", also=SLOW)
def circuits_rate_low(seed: int) -> Setup:
    nodes, wires, y, *valid = tasks.circuits(seed)
    score, all_ = more.measure_score(*valid), (nodes, wires, y)
    optimizer = pb.optim.adam(1e-5)
    model = more.electrician(seed)
    return Setup(model, more.measure_loss, optimizer, all_, score, batch=32, steps=400)


@fault("soil_rate_low", "learning rate too small", "OPT02", "soil_momentum", also=SLOW)
def soil_rate_low(seed: int) -> Setup:
    """The rate that Adam had."""
    x, y, x_valid, y_valid = tasks.soil(seed)
    model = nn.MLP(10, tasks.SOILS, 32, 2, nn.silu, key=pb.random.key(seed))
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, classify, pb.optim.sgd(1e-4), (x, y), score, batch=32)


@fault(
    "stamps_epochs",
    "a schedule that counts epochs",
    "OPT02",
    "stamps_momentum",
    also=SLOW + " CUT02",
)
def stamps_epochs(seed: int) -> Setup:
    """Ten epochs to the end of the cosine, and it counts steps."""
    x, y, x_valid, y_valid = tasks.stamps(seed)
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(pb.optim.cosine(0.02, 10), momentum=0.9, weight_decay=5e-4)
    return Setup(first.sorter(seed), classify, optimizer, (x, y), score, batch=32)


@fault(
    "tide_halves",
    "a schedule that counts epochs",
    "OPT02",
    "tide_warm",
    also=SLOW + " CUT02",
)
def tide_halves(seed: int) -> Setup:
    """Half of the rate after each epoch was meant."""
    x, y, x_valid, y_valid = tasks.tide(seed)
    model = nn.MLP(24, 1, 48, 2, nn.relu, key=pb.random.key(seed))
    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.adam(pb.optim.exponential(2e-3, 0.5))
    return Setup(model, regress, optimizer, (x, y), score, steps=300)


@fault("soil_clipped", "clipping far below the gradients", "OPT02", "soil_momentum", also=SLOW)
def soil_clipped(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.soil(seed)
    model = nn.MLP(10, tasks.SOILS, 32, 2, nn.silu, key=pb.random.key(seed))
    score, options = data.accuracy(call, x_valid, y_valid), {"clip": 1e-3}
    optimizer = pb.optim.sgd(0.05, momentum=0.9, nesterov=True)
    return Setup(model, classify, optimizer, (x, y), score, batch=32, options=options)


@fault("harvest_clipped", "clipping far below the gradients", "OPT02", "harvest_heavy", also=SLOW)
def harvest_clipped(seed: int) -> Setup:
    """The threshold of a policy's gradients, which were sums."""
    x, y, x_valid, y_valid = tasks.harvest(seed)
    optimizer = pb.optim.chain(
        pb.optim.clip_by_global_norm(1e-3), pb.optim.sgd(0.004, momentum=0.97)
    )
    model = nn.MLP(6, 1, 48, 1, key=pb.random.key(seed))

    @pb.compile
    def step(state, x, y):
        model, memory = state
        value, grads = pb.value_and_grad(regress)(model, x, y)
        updates, memory = optimizer.update(grads, memory, model)
        return (pb.optim.apply_updates(model, updates), memory), (value, grads)

    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, regress, optimizer, (x, y), score, batch=32, steps=800, step=step)


@fault("tide_warms_for_long", "a warm-up longer than the run", "OPT02", "tide_warm", also=SLOW)
def tide_warms_for_long(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.tide(seed)
    model = nn.MLP(24, 1, 48, 2, nn.relu, key=pb.random.key(seed))
    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.adam(pb.optim.warmup_cosine(5e-3, 100_000, 1_000_000))
    return Setup(model, regress, optimizer, (x, y), score, steps=300)


@fault(
    "mirror_as_published", "a warm-up longer than the run", "OPT02", "mirror_transformer", also=SLOW
)
def mirror_as_published(seed: int) -> Setup:
    """The schedule of a published transformer, which had a hundred thousand steps."""
    x, y, x_valid, y_valid = tasks.mirror(seed)

    def noam(t):
        t = pb.asarray(t) + 1.0
        return 512**-0.5 * pb.minimum(t**-0.5, t * 40_000**-1.5)

    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.adam(noam, b2=0.98, eps=1e-9)
    return Setup(more.Mirror(seed), classify, optimizer, (x, y), score, batch=32)


@fault("lag_eps", "an eps of 1", "OPT02", "lag_filters", also=SLOW)
def lag_eps(seed: int) -> Setup:
    """An eps that once was good for large image networks."""
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
            h = nn.silu(conv(past))
        return pb.swapaxes(model[-1](h), 1, 2)

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    optimizer = pb.optim.adam(5e-4, eps=1.0)
    return Setup(model, loss, optimizer, (x, y), score, batch=32, steps=300)


@fault("twins_eps", "an eps of 1", "OPT02", "twins_distance", also=SLOW)
def twins_eps(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.twins(seed)

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(more.alike(model, x), y)

    score = data.binary_accuracy(more.alike, x_valid, y_valid)
    return Setup(more.twin(seed), loss, pb.optim.rmsprop(2e-3, eps=1.0), (x, y), score)
