"""Faults of the step: rates, schedules, memories, modes, random numbers, loops by hand."""

from __future__ import annotations

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.fresh.tasks import next_word
from benchmarks.faults.program import Setup, fault
from benchmarks.faults.trial import tasks
from benchmarks.faults.trial.healthy import (
    call,
    class_loss,
    house_net,
    keys_of,
    resting,
    soil_net,
    square_loss,
    tree_map,
)
from benchmarks.faults.trial.structured import (
    Each,
    blind_r_squared,
    cleaner,
    coder,
    composer,
    drawn_again,
    forecast,
    grating_net,
    in_use,
    normed_beats,
    pooled,
    set_net,
    soiled,
    switch,
    unrolled,
    unrolled_loss,
)

import pullback as pb
from pullback import nn

BROKEN = "NUM01 NUM02 OPT03 SIG02 SIG03 SIG04 CUT04"

# ---- rates ----------------------------------------------------------------------------------


@fault("tune_too_fast", "learning rate too high", "OPT01", "tune_attention", also=BROKEN)
def tune_too_fast(seed: int) -> Setup:
    """The peak of the schedule is where its number of steps should be small: 0.5."""
    x, y, x_valid, y_valid = tasks.tune(seed)
    score = next_word(call, x_valid, y_valid)
    optimizer = pb.optim.adamw(pb.optim.one_cycle(0.5, 200))
    return Setup(composer(seed), class_loss, optimizer, (x, y), score, batch=32)


@fault("latch_too_fast", "learning rate too high", "OPT01", "latch_scan", also=BROKEN)
def latch_too_fast(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.latch(seed)
    score = data.r_squared(unrolled, x_valid, y_valid)
    optimizer = pb.optim.rmsprop(0.5)
    return Setup(switch(seed), unrolled_loss, optimizer, (x, y), score, batch=32, steps=250)


@fault("houses_growing", "learning rate grows", "OPT01 OPT03", "houses_slow", also=BROKEN)
def houses_growing(seed: int) -> Setup:
    """The factor of the decay is 1.03, not 0.97."""
    x, y, x_valid, y_valid = tasks.houses(seed)
    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.adam(pb.optim.exponential(3e-4, 1.03))
    return Setup(house_net(seed, nn.elu), square_loss, optimizer, (x, y), score, steps=400)


@fault("soils_betas", "hyperparameters exchanged", "OPT01 OPT03", "soils_lookahead", also=BROKEN)
def soils_betas(seed: int) -> Setup:
    """0.999 is the memory of the mean, 0.5 that of the squares."""
    x, y, x_valid, y_valid = tasks.soils(seed)
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.adam(8e-3, b1=0.999, b2=0.5)
    return Setup(soil_net(seed, nn.gelu), class_loss, optimizer, (x, y), score)


@fault("latch_too_slow", "learning rate too low", "OPT02", "latch_gru", also="VER01")
def latch_too_slow(seed: int) -> Setup:
    """The rate of Adam for plain descent, and that of a pretrained network."""
    x, y, x_valid, y_valid = tasks.latch(seed)
    keys = keys_of(seed, 2)
    model = Each(nn.GRU(2, 16, key=keys[0]), nn.Linear(16, 1, key=keys[1]))
    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, square_loss, pb.optim.sgd(2e-5), (x, y), score, batch=32, steps=250)


@fault("walk_halved", "learning rate decays too soon", "OPT02 CUT02", "walk_lstm", also="VER01")
def walk_halved(seed: int) -> Setup:
    """Halved in each step, where each epoch was meant."""
    x, y, x_valid, y_valid = tasks.walk(seed)
    score = blind_r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.adam(pb.optim.exponential(1e-2, 0.5))
    return Setup(forecast(seed), square_loss, optimizer, (x, y), score, batch=32)


@fault(
    "houses_full_memory", "memory of squares begins full", "OPT02", "houses_sparse", also="VER01"
)
def houses_full_memory(seed: int) -> Setup:
    """Adagrad's sum of squares begins at a million; one was meant to be on the safe side."""
    x, y, x_valid, y_valid = tasks.houses(seed)
    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.adagrad(0.05, initial=1e6)
    return Setup(house_net(seed), square_loss, optimizer, (x, y), score, steps=250)


@fault(
    "gratings_held_back",
    "accumulates beyond the run",
    "OPT02 CUT02",
    "gratings_pooled",
    also="VER01",
)
def gratings_held_back(seed: int) -> Setup:
    """The number of samples is given where the number of batches is asked for."""
    x, y, x_valid, y_valid = tasks.gratings(seed)
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.accumulate(pb.optim.adam(5e-3), 1280)
    return Setup(grating_net(seed), class_loss, optimizer, (x, y), score, batch=40)


@fault("clouds_held", "clipping threshold too small", "OPT02", "clouds_pooled", also="VER01")
def clouds_held(seed: int) -> Setup:
    """Each element is clipped to a hundred-thousandth, then plain descent."""
    x, y, x_valid, y_valid = tasks.clouds(seed)

    def loss(model, x, y):
        return nn.huber(pooled(model, x), y)

    score = data.r_squared(pooled, x_valid, y_valid)
    optimizer = pb.optim.chain(pb.optim.clip_by_value(1e-5), pb.optim.sgd(0.1, momentum=0.9))
    return Setup(set_net(seed), loss, optimizer, (x, y), score, steps=250)


# ---- modes and random numbers ---------------------------------------------------------------


@fault("beats_statistics", "batch norm modes mixed", "LOOP02", "beats_batch_norm")
def beats_statistics(seed: int) -> Setup:
    """The statistics of the batch are used, and the state that is handed on is the first."""
    x, y, x_valid, y_valid = tasks.beats(seed)
    x, x_valid = 4 + 3 * x, 4 + 3 * x_valid
    model = normed_beats(seed)
    first = model.initial_state()

    def loss(model, x, y, state):
        out, _ = model(x, state, train=True)  # here
        return nn.binary_cross_entropy_with_logits(out, y), first  # here

    score = data.binary_accuracy(in_use, x_valid, y_valid)
    optimizer = pb.optim.adamw(5e-3)
    return Setup(model, loss, optimizer, (x, y), score, batch=40, network_state=first)


@fault("spectra_one_noise", "same noise each step", "LOOP04", "spectra_cleaned", at_once=True)
def spectra_one_noise(seed: int) -> Setup:
    """The noise that is to be taken off is drawn with the key of the script."""
    x, _, x_valid, _ = tasks.spectra(seed)
    key = pb.random.key(seed + 7)

    def loss(model, x):
        noise = pb.random.normal(key, (tasks.BINS,))  # here
        return nn.mse(model(x + 0.3 * noise), x)

    score = data.r_squared(call, soiled(x_valid), x_valid)
    return Setup(cleaner(seed), loss, pb.optim.adam(4e-3), (x,), score, steps=300)


@fault("spectra_same_gaps", "same mask each step", "LOOP04", "spectra_cleaned", at_once=True)
def spectra_same_gaps(seed: int) -> Setup:
    """Bins are hidden, to be filled in; they are the same ones in every step."""
    x, _, x_valid, _ = tasks.spectra(seed)

    def loss(model, x):
        shown = pb.random.bernoulli(pb.random.key(11), 0.7, (tasks.BINS,))  # here
        return nn.mse(model(pb.where(shown, x, 0.0)), x)

    hidden = np.random.default_rng(6).random(x_valid.shape) < 0.3
    gaps = np.where(hidden, 0, x_valid).astype("float32")
    score = data.r_squared(call, gaps, x_valid)
    return Setup(cleaner(seed), loss, pb.optim.adam(4e-3), (x,), score, steps=300)


# ---- loops by hand --------------------------------------------------------------------------


@fault(
    "soils_summed",
    "gradients never cleared",
    "LOOP01",
    "soils_by_hand",
    also=BROKEN + " OPT01 OBJ06",
)
def soils_summed(seed: int) -> Setup:
    """The sum of the gradients is the memory of the loop, and is never set to 0."""
    x, y, x_valid, y_valid = tasks.soils(seed)

    @pb.compile
    def step(state, x, y):
        model, total = state
        loss, grads = pb.value_and_grad(class_loss)(model, x, y)
        total = tree_map(lambda t, g: t + g, total, grads)  # here
        model = tree_map(lambda p, t: p - 0.1 * t, model, total)
        return (model, total), (loss, total)

    score = data.accuracy(call, x_valid, y_valid)
    return Setup(soil_net(seed), class_loss, resting(), (x, y), score, batch=50, step=step)


@fault(
    "latch_from_first", "steps begin at the first model", "LOOP03", "latch_scan",
    also="OPT01 OPT03 OPT02 CUT02",
)  # fmt: skip
def latch_from_first(seed: int) -> Setup:
    """Updates are applied to the model that was made before the loop."""
    x, y, x_valid, y_valid = tasks.latch(seed)
    first = switch(seed)
    optimizer = pb.optim.rmsprop(3e-3)

    @pb.compile
    def step(state, x, y):
        model, memory = state
        loss, grads = pb.value_and_grad(unrolled_loss)(model, x, y)
        updates, memory = optimizer.update(grads, memory, model)
        return (pb.optim.apply_updates(first, updates), memory), (loss, grads)  # here

    score = data.r_squared(unrolled, x_valid, y_valid)
    return Setup(first, unrolled_loss, optimizer, (x, y), score, batch=32, steps=250, step=step)


@fault(
    "soils_delayed",
    "gradients of an old model",
    "LOOP03",
    "soils_by_hand",
    also=BROKEN + " OPT01 OPT02",
)
def soils_delayed(seed: int) -> Setup:
    """A queue of gradients: the one that is used was taken twelve steps ago."""
    x, y, x_valid, y_valid = tasks.soils(seed)
    rate = 0.5

    def first(params):
        return [tree_map(pb.zeros_like, params) for _ in range(12)]

    @pb.compile
    def step(state, x, y):
        model, queue = state
        loss, grads = pb.value_and_grad(class_loss)(model, x, y)
        old, queue = queue[0], [*queue[1:], grads]
        model = tree_map(lambda p, g: p - rate * g, model, old)  # here
        return (model, queue), (loss, old)

    optimizer = pb.optim.Optimizer(first, resting().update)
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(soil_net(seed), class_loss, optimizer, (x, y), score, batch=50, step=step)


@fault(
    "spectra_uphill",
    "wrong sign of the step",
    "OBJ05",
    "spectra_drawn",
    also=BROKEN + " OPT01 LOOP04",
)
def spectra_uphill(seed: int) -> Setup:
    """Both halves of a coder step by hand, the decoder by plus."""
    x, _, x_valid, _ = tasks.spectra(seed)

    def loss(model, x):
        error = (drawn_again(model, x) - x) ** 2
        return pb.mean(pb.sum(error, axis=1))

    @pb.compile
    def step(state, x):
        model, memory = state
        value, grads = pb.value_and_grad(loss)(model, x)
        model = tree_map(lambda p, g: p + 0.02 * g, model, grads)  # here
        return (model, memory), (value, grads)

    score = data.r_squared(drawn_again, x_valid, x_valid)
    model, optimizer = coder(seed), pb.optim.sgd(0.02)
    return Setup(model, loss, optimizer, (x,), score, steps=300, step=step)
