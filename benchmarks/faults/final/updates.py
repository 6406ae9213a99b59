"""Faults of the optimiser and of the loop: rates, decay, clipping, modes, steps by hand."""

from __future__ import annotations

from benchmarks.faults import data
from benchmarks.faults.final import structures, tables, tasks, unusual
from benchmarks.faults.final.tables import call, classify, decide, regress
from benchmarks.faults.final.unusual import tree_map
from benchmarks.faults.program import Setup, fault

import pullback as pb
from pullback import nn

BROKEN = "NUM01 NUM02 OPT03 SIG02 SIG03 SIG04 CUT04 GEN02"
SLOW = "VER01 GEN02"

# ---- rates ----------------------------------------------------------------------------------


@fault("wines_rate", "learning rate too high", "OPT01", "wines_adam", also=BROKEN)
def wines_rate(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.wines(seed)
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(tables.taster(seed), classify, pb.optim.adam(0.5), (x, y), score, batch=32)


@fault("arrows_rate", "learning rate too high", "OPT01", "arrows_momentum", also=BROKEN)
def arrows_rate(seed: int) -> Setup:
    """A rate from a recipe for networks with batch normalisation."""
    x, y, x_valid, y_valid = tasks.standard_arrows(seed)
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.5, momentum=0.9, weight_decay=1e-4)
    return Setup(structures.pointer(seed), classify, optimizer, (x, y), score, batch=32)


@fault("policy_rate", "learning rate too high", "OPT01", "arm_policy", also=BROKEN)
def policy_rate(seed: int) -> Setup:
    x, best, x_valid, best_valid = tasks.arm(seed)
    score, key = data.r_squared(call, x_valid, best_valid), pb.random.key(seed + 1)
    optimizer, loss = pb.optim.adam(1.0), unusual.reach_loss
    return Setup(unusual.mover(seed), loss, optimizer, (x, best), score, steps=400, key=key)


@fault("purchases_rate_low", "learning rate too low", "OPT02", "purchases_factors", also=SLOW)
def purchases_rate_low(seed: int) -> Setup:
    """The rate of a dense network, and a table of which a batch uses little."""
    x, y, x_valid, y_valid = tasks.purchases(seed)
    score = data.binary_accuracy(structures.fits, x_valid, y_valid)
    model, loss = structures.shop(seed), structures.buy_loss
    return Setup(model, loss, pb.optim.sgd(1e-2), (x, y), score, steps=300)


@fault("spread_rate_low", "learning rate too low", "OPT02", "spread_pinball", also=SLOW)
def spread_rate_low(seed: int) -> Setup:
    x, y, x_valid, truth = tasks.spread(seed)

    def loss(model, x, y):
        error = y - model(x)
        levels = tables.LEVELS
        return pb.mean(pb.maximum(levels * error, (levels - 1) * error))

    score = data.r_squared(lambda model, x: model(x)[:, 2:], x_valid, truth)
    return Setup(tables.three(seed), loss, pb.optim.adamw(1e-6), (x, y), score, steps=500)


@fault(
    "decays_each_step",
    "learning rate decays too soon",
    "OPT02",
    "houses_momentum",
    also=SLOW + " CUT02",
)
def decays_each_step(seed: int) -> Setup:
    """A tenth after every 3 steps, where 3 epochs were meant."""
    x, y, x_valid, y_valid = tasks.standard_houses(seed)
    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(pb.optim.step(0.02, 3, 0.1), momentum=0.9)
    return Setup(tables.appraiser(seed), regress, optimizer, (x, y), score, batch=32)


@fault("memory_of_adagrad", "accumulator begins too large", "OPT02", "purchases_sparse", also=SLOW)
def memory_of_adagrad(seed: int) -> Setup:
    """Adagrad's sum of squares begins at 1000, so its steps are small from the first on."""
    x, y, x_valid, y_valid = tasks.purchases(seed)
    score = data.binary_accuracy(structures.fits, x_valid, y_valid)
    optimizer, loss = pb.optim.adagrad(0.15, initial=1000.0), structures.buy_loss
    return Setup(structures.shop(seed), loss, optimizer, (x, y), score, batch=8, steps=900)


@fault("clipped_by_value", "clipping threshold too small", "OPT02", "tags_momentum", also=SLOW)
def clipped_by_value(seed: int) -> Setup:
    """Each element of the gradient is clipped to a hundred-thousandth."""
    x, y, x_valid, y_valid = tasks.tags(seed)
    score = data.binary_accuracy(call, x_valid, y_valid)
    clip = pb.optim.clip_by_value(1e-5)
    optimizer = pb.optim.chain(clip, pb.optim.sgd(0.2, momentum=0.9))
    return Setup(tables.tagger(seed), decide, optimizer, (x, y), score)


@fault(
    "weights_in_bfloat",
    "parameters in half precision",
    "OPT02",
    "houses_slowly",
    also=SLOW,
    layers=("layers",),
)
def weights_in_bfloat(seed: int) -> Setup:
    """Weights of 8 bits and a small rate: most steps are rounded away."""
    x, y, x_valid, y_valid = tasks.standard_houses(seed)
    model = tree_map(lambda p: p.astype("bfloat16"), tables.appraiser(seed))  # here
    optimizer = pb.optim.adam(4e-4)

    @pb.compile
    def step(state, x, y):
        model, memory = state
        loss, grads = pb.value_and_grad(regress)(model, x.astype("bfloat16"), y)
        updates, memory = optimizer.update(grads, memory, model)
        return (pb.optim.apply_updates(model, updates), memory), (loss, grads)  # here

    score = data.r_squared(lambda m, x: m(x).astype("float32"), x_valid, y_valid)
    return Setup(model, regress, optimizer, (x, y), score, batch=32, steps=800, step=step)


# ---- decay, modes, random numbers -----------------------------------------------------------


@fault(
    "decay_of_adam",
    "weight decay too strong",
    "OBJ08",
    "tagging_transformer",
    also="VER01 SIG01 SIG07 GEN02 CUT04",
)
def decay_of_adam(seed: int) -> Setup:
    """A decay of 1 in the gradient, which for Adam is most of the gradient."""
    x, y, x_valid, y_valid = tasks.tagging(seed)
    score = tasks.kinds(call, x_valid, y_valid)
    rate = pb.optim.warmup_cosine(5e-3, 30, 400)
    optimizer, loss = pb.optim.adam(rate, weight_decay=1.0), structures.tag_loss
    return Setup(structures.Reader(seed), loss, optimizer, (x, y), score, batch=32, steps=400)


@fault(
    "decay_of_arrows",
    "weight decay too strong",
    "OBJ08",
    "arrows_momentum",
    also="VER01 SIG01 SIG07 GEN02 CUT04",
)
def decay_of_arrows(seed: int) -> Setup:
    """0.9 was meant for the momentum."""
    x, y, x_valid, y_valid = tasks.standard_arrows(seed)
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.03, momentum=0.9, weight_decay=0.9)
    return Setup(structures.pointer(seed), classify, optimizer, (x, y), score, batch=32)


@fault(
    "statistics_dropped",
    "new statistics not handed on",
    "LOOP02",
    "wines_normed",
    also="DAT01 GEN02",
)
def statistics_dropped(seed: int) -> Setup:
    """The state that comes out of the network is not the one that the loss gives back."""
    x, y, x_valid, y_valid = tasks.wines(seed)
    x, x_valid = 6 * x + 20, 6 * x_valid + 20
    model = tables.normed(seed)

    def loss(model, x, y, state, key):
        logits, _ = model(x, state, train=True, key=key)  # here
        return nn.cross_entropy(logits, y), state

    return Setup(
        model,
        loss,
        pb.optim.adam(5e-3),
        (x, y),
        tables.in_use(x_valid, y_valid),
        network_state=model.initial_state(),
        key=pb.random.key(seed + 1),
    )


@fault(
    "tried_the_same_way", "same noise each step", "LOOP04", "arm_policy", also="GEN02", at_once=True
)
def tried_the_same_way(seed: int) -> Setup:
    """A policy that tries four fixed directions, the same ones in each step, all to one side."""
    x, best, x_valid, best_valid = tasks.arm(seed)

    def loss(model, x, best):
        mean = model(x)
        noise = 0.3 * pb.random.normal(pb.random.key(0), (2, 1, 2))  # here
        tried = pb.stop_gradient(mean + noise, why="an action is no function of the policy")
        reward = -pb.sum((tried - best) ** 2, axis=2)
        better = reward - pb.mean(reward, axis=0)
        log_density = -pb.sum((tried - mean) ** 2, axis=2) / (2 * 0.3**2)
        return -pb.mean(better * log_density)

    score = data.r_squared(call, x_valid, best_valid)
    optimizer = pb.optim.adam(1e-2)
    return Setup(unusual.mover(seed), loss, optimizer, (x, best), score, steps=400)


@fault("noise_is_offset", "same noise each step", "LOOP04", "spectra_denoised", at_once=True)
def noise_is_offset(seed: int) -> Setup:
    """The noise that is to be removed is one vector, from a key that never changes."""
    x, _, x_valid, _ = tasks.spectra(seed)

    def loss(model, x):
        noise = 0.8 * pb.random.normal(pb.random.key(42), (24,))  # here
        return nn.mse(unusual.rebuild(model, x + noise), x)

    score = data.r_squared(unusual.rebuild, x_valid, x_valid)
    return Setup(unusual.coder(seed), loss, pb.optim.adam(1e-2), (x,), score, steps=300)


# ---- loops by hand --------------------------------------------------------------------------


@fault(
    "gradients_pile_up",
    "gradients never cleared",
    "LOOP01",
    "checker_by_hand",
    also=BROKEN + " OPT01 OBJ05",
)
def gradients_pile_up(seed: int) -> Setup:
    """Gradients are added to a dictionary that is never emptied."""
    x, y, x_valid, y_valid = tasks.checker(seed)
    optimizer = pb.optim.sgd(0.1, momentum=0.9)
    gradient = pb.compile(pb.value_and_grad(decide))
    kept = {}

    def step(state, x, y):
        model, memory = state
        loss, grads = gradient(model, x, y)
        old = kept.get("grads")
        kept["grads"] = grads if old is None else tree_map(lambda a, b: a + b, old, grads)  # here
        updates, memory = optimizer.update(kept["grads"], memory, model)
        return (pb.optim.apply_updates(model, updates), memory), (loss, kept["grads"])

    score = data.binary_accuracy(call, x_valid, y_valid)
    model = tables.board(seed)
    return Setup(model, decide, optimizer, (x, y), score, steps=500, step=step)


@fault(
    "gradients_of_long_ago",
    "gradient computed once",
    "LOOP03",
    "checker_by_hand",
    also=BROKEN + " OPT01 OBJ05",
)
def gradients_of_long_ago(seed: int) -> Setup:
    """The gradient is computed outside of the inner loop, for fifty steps."""
    x, y, x_valid, y_valid = tasks.checker(seed)
    optimizer = pb.optim.sgd(0.1, momentum=0.9)
    gradient = pb.compile(pb.value_and_grad(decide))
    kept = {"step": 0}

    def step(state, x, y):
        model, memory = state
        if kept["step"] % 50 == 0:
            kept["told"] = gradient(model, x, y)  # here
        kept["step"] += 1
        loss, grads = kept["told"]
        updates, memory = optimizer.update(grads, memory, model)
        return (pb.optim.apply_updates(model, updates), memory), (loss, grads)

    score = data.binary_accuracy(call, x_valid, y_valid)
    model = tables.board(seed)
    return Setup(model, decide, optimizer, (x, y), score, steps=500, step=step)


@fault(
    "new_model_lost",
    "new parameters dropped",
    "LOOP03",
    "checker_by_hand",
    also="CUT02 OPT02 VER01 GEN02",
)
def new_model_lost(seed: int) -> Setup:
    """A loop over parameters gives new names new values, and the model is as it was."""
    x, y, x_valid, y_valid = tasks.checker(seed)

    @pb.compile
    def step(state, x, y):
        model, memory = state
        loss, grads = pb.value_and_grad(decide)(model, x, y)
        for layer, slope in zip(model.layers, grads.layers, strict=True):
            weight = layer.weight - 0.1 * slope.weight
            layer = layer.replace(weight=weight)  # here
        return (model, memory), (loss, grads)  # here

    score = data.binary_accuracy(call, x_valid, y_valid)
    model, optimizer = tables.board(seed), pb.optim.sgd(0.1)
    return Setup(model, decide, optimizer, (x, y), score, steps=500, step=step)


@fault(
    "begun_each_epoch",
    "model made anew in each epoch",
    "LOOP03",
    "checker_by_hand",
    also="OPT03 OPT02 GEN02",
)
def begun_each_epoch(seed: int) -> Setup:
    """The model is built inside the loop over epochs."""
    x, y, x_valid, y_valid = tasks.checker(seed)
    optimizer = pb.optim.sgd(0.1, momentum=0.9)
    done = {"steps": 0}

    @pb.compile
    def one(model, memory, x, y):
        loss, grads = pb.value_and_grad(decide)(model, x, y)
        updates, memory = optimizer.update(grads, memory, model)
        return pb.optim.apply_updates(model, updates), memory, loss, grads

    def step(state, x, y):
        model, memory = state
        if done["steps"] % 20 == 0:
            model = tables.board(seed)  # here
            memory = optimizer.init(model)
        done["steps"] += 1
        model, memory, loss, grads = one(model, memory, x, y)
        return (model, memory), (loss, grads)

    score = data.binary_accuracy(call, x_valid, y_valid)
    model = tables.board(seed)
    return Setup(model, decide, optimizer, (x, y), score, steps=500, step=step)


@fault(
    "uphill_by_hand", "wrong sign of the step", "OBJ05", "wines_sharpness", also=BROKEN + " OPT01"
)
def uphill_by_hand(seed: int) -> Setup:
    """The updates of an optimiser have their sign already, and are taken off."""
    x, y, x_valid, y_valid = tasks.wines(seed)
    optimizer = pb.optim.sgd(0.05, momentum=0.9)

    @pb.compile
    def step(state, x, y):
        model, memory = state
        loss, grads = pb.value_and_grad(classify)(model, x, y)
        updates, memory = optimizer.update(grads, memory, model)
        return (tree_map(lambda p, u: p - u, model, updates), memory), (loss, grads)  # here

    score = data.accuracy(call, x_valid, y_valid)
    model = tables.taster(seed)
    return Setup(model, classify, optimizer, (x, y), score, batch=32, step=step)
