"""More faults of optimisers, loops and data: each is a healthy program with one thing changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import optree
from benchmarks.faults.program import PROGRAMS, Setup, fault

import pullback as pb

BROKEN = "NUM01 NUM02 OPT01 OPT03 SIG02 SIG03 SIG04 CUT04"
SLOW = "VER01 OPT02"

Enter = Callable[[Callable[[int], Setup]], Callable[[int], Setup]]


def tree_map(f: Any, *trees: Any) -> Any:
    return optree.tree_map(f, *trees, namespace="pullback")


def healthy(name: str, seed: int) -> Setup:
    return PROGRAMS[name].make(seed)


def by_hand(setup: Setup, optimizer: Any, step: Any) -> Setup:
    return replace(setup, optimizer=optimizer, step=step)


# ---- optimisers -----------------------------------------------------------------------------


@fault("varied_sum_of_all", "gradients never cleared", "LOOP01", "order_lstm", also=BROKEN)
def varied_sum_of_all(seed: int) -> Setup:
    """Adam is given the sum of all gradients so far."""
    inner = pb.optim.adam(1e-2)

    def init(params):
        return inner.init(params), tree_map(lambda p: p * 0, params)

    def update(grads, state, params):
        memory, total = state
        total = tree_map(lambda a, b: a + b, total, grads)  # here
        updates, memory = inner.update(total, memory, params)
        return updates, (memory, total)

    return replace(healthy("order_lstm", seed), optimizer=pb.optim.Optimizer(init, update))


@fault(
    "varied_memory_dropped",
    "optimiser made anew in each step",
    "LOOP03",
    "curve_tanh",
    also="OPT01",
)
def varied_memory_dropped(seed: int) -> Setup:
    """The new memory of Adam is not returned."""
    inner = pb.optim.adam(1e-2)

    def update(grads, state, params):
        updates, _ = inner.update(grads, state, params)  # here
        return updates, state

    optimizer = pb.optim.Optimizer(inner.init, update)
    return replace(healthy("curve_tanh", seed), optimizer=optimizer)


@fault(
    "varied_momentum_anew", "optimiser made anew in each step", "LOOP03", "wave_sgd", also="OPT02"
)
def varied_momentum_anew(seed: int) -> Setup:
    setup = healthy("wave_sgd", seed)
    optimizer, loss = pb.optim.sgd(0.004, momentum=0.95), setup.loss

    @pb.compile
    def step(state, x, y):
        model, _ = state
        value, grads = pb.value_and_grad(loss)(model, x, y)
        updates, memory = optimizer.update(grads, optimizer.init(model), model)  # here
        return (pb.optim.apply_updates(model, updates), memory), (value, grads)

    return by_hand(setup, optimizer, step)


@fault(
    "varied_schedule_of_epochs",
    "learning rate decays too soon",
    "OPT02 CUT02",
    "tones_conv",
    also=SLOW,
)
def varied_schedule_of_epochs(seed: int) -> Setup:
    return replace(
        healthy("tones_conv", seed), optimizer=pb.optim.adam(pb.optim.linear(3e-3, 0.0, 10))
    )


@fault(
    "varied_halved_each_step", "learning rate decays too soon", "OPT02", "shapes_conv", also=SLOW
)
def varied_halved_each_step(seed: int) -> Setup:
    optimizer = pb.optim.adam(pb.optim.exponential(5e-3, 0.7, 1))
    return replace(healthy("shapes_conv", seed), optimizer=optimizer)


@fault("varied_warm_up_for_ever", "warm-up longer than the run", "OPT02", "shapes_conv", also=SLOW)
def varied_warm_up_for_ever(seed: int) -> Setup:
    optimizer = pb.optim.adam(pb.optim.warmup_cosine(2e-3, 50_000, 90_000))
    return replace(healthy("shapes_conv", seed), optimizer=optimizer)


@fault("varied_rate_grows", "learning rate grows", "OPT01 OPT03", "digits_mlp", also=BROKEN)
def varied_rate_grows(seed: int) -> Setup:
    """A factor of 1.05 for one of 0.95."""
    optimizer = pb.optim.adam(pb.optim.exponential(2e-3, 1.05, 1))
    return replace(healthy("digits_mlp", seed), optimizer=optimizer)


@fault("varied_decay_in_adam", "weight decay too strong", "OBJ08", "friedman_rmsprop", also=SLOW)
def varied_decay_in_adam(seed: int) -> Setup:
    """Added to the gradient before Adam, which makes it as long as the gradient."""
    optimizer = pb.optim.chain(pb.optim.add_decayed_weights(1.0), pb.optim.adam(5e-3))
    return replace(healthy("friedman_rmsprop", seed), optimizer=optimizer)


@fault(
    "varied_beta_of_one", "second moment forgets nothing", "OPT02 OPT01", "digits_mlp", also=SLOW
)
def varied_beta_of_one(seed: int) -> Setup:
    """b1 and b2 exchanged."""
    optimizer = pb.optim.adam(2e-3, b1=0.9999, b2=0.9)
    return replace(healthy("digits_mlp", seed), optimizer=optimizer)


@fault("varied_adagrad_low", "learning rate too low", "OPT02", "rings_silu", also=SLOW)
def varied_adagrad_low(seed: int) -> Setup:
    return replace(healthy("rings_silu", seed), optimizer=pb.optim.adagrad(2e-5))


@fault(
    "varied_head_left_out",
    "parameters left out of the optimiser",
    "CUT02",
    "shapes_conv",
    also=SLOW,
)
def varied_head_left_out(seed: int) -> Setup:
    setup = healthy("shapes_conv", seed)
    paths, leaves, structure = optree.tree_flatten_with_path(setup.model, namespace="pullback")
    mask = structure.unflatten([i < 2 for i in range(len(leaves))])
    del paths
    return replace(setup, optimizer=pb.optim.masked(pb.optim.adam(5e-3), mask))


# ---- loops ----------------------------------------------------------------------------------


@fault("varied_grads_carried", "gradients never cleared", "LOOP01", "wave_sgd", also=BROKEN)
def varied_grads_carried(seed: int) -> Setup:
    """The sum is kept beside the optimiser's memory, and given to it in each step."""
    setup = healthy("wave_sgd", seed)
    inner, loss = pb.optim.sgd(0.1), setup.loss
    zero = tree_map(lambda p: p * 0, setup.model)
    optimizer = pb.optim.Optimizer(
        lambda params: (inner.init(params), zero),
        lambda grads, state, params: (inner.update(grads, state[0], params)[0], state),
    )

    @pb.compile
    def step(state, x, y):
        model, (memory, kept) = state
        value, grads = pb.value_and_grad(loss)(model, x, y)
        kept = tree_map(lambda a, b: a + b, kept, grads)  # here
        updates, memory = inner.update(kept, memory, model)
        return (pb.optim.apply_updates(model, updates), (memory, kept)), (value, kept)

    return by_hand(setup, optimizer, step)


@fault("varied_applied_twice", "update applied twice", "OPT01 LOOP03", "clusters_sgd", also=BROKEN)
def varied_applied_twice(seed: int) -> Setup:
    """The update is applied by the step, and again by the loop: ten times in all."""
    setup = healthy("clusters_sgd", seed)
    optimizer, loss = pb.optim.sgd(0.5), setup.loss

    @pb.compile
    def step(state, x, y):
        model, memory = state
        value, grads = pb.value_and_grad(loss)(model, x, y)
        updates, memory = optimizer.update(grads, memory, model)
        for _ in range(12):
            model = pb.optim.apply_updates(model, updates)  # here
        return (model, memory), (value, grads)

    return by_hand(setup, optimizer, step)


@fault("varied_descent_uphill", "wrong sign of the step", "OBJ05", "wave_sgd", also=BROKEN)
def varied_descent_uphill(seed: int) -> Setup:
    setup = healthy("wave_sgd", seed)
    inner = pb.optim.sgd(0.1, momentum=0.9)

    def update(grads, state, params):
        updates, state = inner.update(grads, state, params)
        return tree_map(lambda u: -u, updates), state  # here

    return replace(setup, optimizer=pb.optim.Optimizer(inner.init, update))


@fault(
    "varied_one_behind",
    "gradients of the step before",
    "LOOP03",
    "rings_by_hand",
    also="OPT01 OPT03",
)
def varied_one_behind(seed: int) -> Setup:
    """The gradients of the model two steps ago, of its own batch."""
    setup = healthy("rings_by_hand", seed)
    inner, loss = pb.optim.sgd(1.0), setup.loss
    zero = tree_map(lambda p: p * 0, setup.model)
    optimizer = pb.optim.Optimizer(
        lambda params: (inner.init(params), zero),
        lambda grads, state, params: (inner.update(grads, state[0], params)[0], (state[0], grads)),
    )

    @pb.compile
    def step(state, x, y):
        model, (memory, old) = state
        value, grads = pb.value_and_grad(loss)(model, x, y)
        updates, memory = inner.update(old, memory, model)  # here
        return (pb.optim.apply_updates(model, updates), (memory, grads)), (value, old)

    return by_hand(setup, optimizer, step)


@fault(
    "varied_scale_never_removed",
    "loss scale never divided out",
    "OPT01 LOOP01",
    "digits_mlp",
    also=BROKEN,
)
def varied_scale_never_removed(seed: int) -> Setup:
    """The loss is multiplied for half precision; the gradients are not divided."""
    setup = healthy("digits_mlp", seed)
    optimizer, loss = pb.optim.sgd(0.1), setup.loss

    @pb.compile
    def step(state, x, y):
        model, memory = state
        value, grads = pb.value_and_grad(lambda m: 1024 * loss(m, x, y))(model)
        updates, memory = optimizer.update(grads, memory, model)  # here
        return (pb.optim.apply_updates(model, updates), memory), (value / 1024, grads)

    return by_hand(setup, optimizer, step)


@fault(
    "varied_half_a_step",
    "gradients of half of the batch",
    "LOOP03 DAT05",
    "rings_by_hand",
    also="OPT01",
)
def varied_half_a_step(seed: int) -> Setup:
    """Only the first four examples of each batch are learnt from."""
    setup = healthy("rings_by_hand", seed)
    optimizer, loss = setup.optimizer, setup.loss

    @pb.compile
    def step(state, x, y):
        model, memory = state
        value, grads = pb.value_and_grad(loss)(model, x[:4], y[:4])  # here
        updates, memory = optimizer.update(grads, memory, model)
        return (pb.optim.apply_updates(model, updates), memory), (value, grads)

    return by_hand(setup, optimizer, step)


# ---- order and choice of examples -----------------------------------------------------------


@fault(
    "varied_sorted_targets", "sorted data, not shuffled", "DAT02", "wave_sgd", also="OPT01 OPT03"
)
def varied_sorted_targets(seed: int) -> Setup:
    """In the order of the targets, of which no two are the same."""
    setup = healthy("wave_sgd", seed)
    x, y = setup.data
    order = np.argsort(y.ravel())
    return replace(setup, data=(x[order], y[order]), shuffle=False)


@fault(
    "varied_sorted_feature",
    "sorted data, not shuffled",
    "DAT02",
    "clusters_small_batch",
    also="OPT01 OPT03",
)
def varied_sorted_feature(seed: int) -> Setup:
    """In the order of one column."""
    setup = healthy("friedman_sgd", seed)
    x, y = setup.data
    order = np.argsort(x[:, 3] + x[:, 4])
    return replace(setup, data=(x[order], y[order]), shuffle=False)


@fault(
    "varied_batches_of_one_class",
    "batches of one class",
    "DAT02",
    "clusters_sgd",
    also="OPT01 OPT03",
)
def varied_batches_of_one_class(seed: int) -> Setup:
    """The batches are shuffled, the examples are not."""
    setup = healthy("clusters_sgd", seed)
    x, y = setup.data
    order = np.argsort(y, kind="stable")
    x, y = x[order], y[order]
    rng = np.random.default_rng([seed, 3])

    def batches(i):
        start = 40 * rng.integers(0, len(x) // 40)
        return x[start : start + 40], y[start : start + 40]

    return replace(setup, batches=batches)


@fault("varied_few_examples", "the same few examples", "DAT05", "digits_mlp", also="GEN01")
def varied_few_examples(seed: int) -> Setup:
    """A subset that was meant for a first try."""
    setup = healthy("digits_mlp", seed)
    return replace(setup, data=tuple([z[:64] for z in setup.data]))


@fault(
    "varied_rows_of_one",
    "the same example in the whole batch",
    "DAT05 DAT01",
    "clusters_sgd",
    also="OPT01 OPT03 GEN02",
)
def varied_rows_of_one(seed: int) -> Setup:
    """Each batch is one example, forty times."""
    setup = healthy("clusters_sgd", seed)
    x, y = setup.data
    rng = np.random.default_rng([seed, 5])

    def batches(i):
        k = rng.integers(0, len(x))
        return np.repeat(x[k : k + 1], 40, 0), np.repeat(y[k : k + 1], 40, 0)

    return replace(setup, batches=batches)


# ---- inputs and targets ---------------------------------------------------------------------


def relabelled(name: str, seed: int, change: Any) -> Setup:
    setup = healthy(name, seed)
    *x, y = setup.data
    return replace(setup, data=(*x, change(y)))


@fault(
    "varied_labels_rolled", "labels do not match", "DAT03", "shapes_conv", also="GEN01 GEN02 VER01"
)
def varied_labels_rolled(seed: int) -> Setup:
    """The header line was counted: each example has the label of the one before."""
    return relabelled("shapes_conv", seed, lambda y: np.roll(y, 1))


@fault(
    "varied_targets_of_others",
    "labels do not match",
    "DAT03",
    "curve_tanh",
    also="GEN01 GEN02 VER01",
)
def varied_targets_of_others(seed: int) -> Setup:
    return relabelled(
        "curve_tanh", seed, lambda y: y[np.random.default_rng(seed).permutation(len(y))]
    )


@fault(
    "varied_half_of_the_labels",
    "labels do not match",
    "DAT03",
    "digits_mlp",
    also="GEN01 GEN02 VER01",
)
def varied_half_of_the_labels(seed: int) -> Setup:
    """The second of two files was joined in the wrong order."""

    def change(y):
        half = len(y) // 4
        rest = np.random.default_rng(seed).permutation(y[half:])
        return np.concatenate([y[:half], rest])

    return relabelled("digits_mlp", seed, change)


@fault(
    "varied_images_without_masks",
    "augmentation of the inputs alone",
    "DAT03",
    "boxes_mask",
    also="GEN02 VER01",
)
def varied_images_without_masks(seed: int) -> Setup:
    """Images are mirrored at random, masks are not."""
    setup = healthy("boxes_mask", seed)
    x, y = setup.data
    rng = np.random.default_rng([seed, 6])
    flips = rng.random(len(x)) < 0.5
    return replace(setup, data=(np.where(flips[:, None, None, None], x[..., ::-1], x), y))


@fault(
    "varied_scaled_twice", "inputs scaled twice", "DAT01", "digits_sgd", also=SLOW + " SIG07 OBJ04"
)
def varied_scaled_twice(seed: int) -> Setup:
    """Divided by 255 when read, and again before training."""
    setup = healthy("digits_sgd", seed)
    x, y = setup.data
    rescaled = (x / 255).astype(np.float32)
    return replace(setup, data=(rescaled, y))


@fault(
    "varied_one_row_scaled",
    "normalised over the wrong axis",
    "DAT01 DAT03",
    "friedman_sgd",
    also="GEN02 SIG07",
)
def varied_one_row_scaled(seed: int) -> Setup:
    """A table whose one wide column hides the others, each row scaled by its own deviation."""
    setup = healthy("friedman_sgd", seed)
    x, y = setup.data
    wide = x * np.float32([1, 1, 1, 1, 1, 5000, 1, 1, 1, 1])
    x = (wide - wide.mean(1, keepdims=True)) / wide.std(1, keepdims=True)
    return replace(setup, data=(x.astype(np.float32), y))


@fault(
    "varied_missing_as_number",
    "missing values as a number",
    "DAT01",
    "clusters_sgd",
    also=BROKEN + " OBJ04 SIG07",
)
def varied_missing_as_number(seed: int) -> Setup:
    """-9999 where a value is missing."""
    setup = healthy("clusters_sgd", seed)
    x, y = setup.data
    x = np.where(np.random.default_rng(seed).random(x.shape) < 0.02, -9999, x)
    return replace(setup, data=(x.astype(np.float32), y))


@fault("varied_targets_raw", "unscaled targets", "DAT01 OBJ04", "friedman_sgd", also=BROKEN)
def varied_targets_raw(seed: int) -> Setup:
    setup = healthy("friedman_sgd", seed)
    x, y = setup.data
    return replace(setup, data=(x, (2000 + 500 * y).astype(np.float32)))


@fault(
    "varied_grey_values",
    "unscaled inputs",
    "DAT01",
    "shapes_conv",
    also=BROKEN + " OBJ04 SIG07 OPT01",
)
def varied_grey_values(seed: int) -> Setup:
    setup = healthy("shapes_conv", seed)
    x, y = setup.data
    return replace(setup, data=((1280 + 400 * x).astype(np.float32), y))


@fault(
    "varied_pixels_mixed",
    "each image mixed by itself",
    "DAT03",
    "shapes_conv",
    also="GEN01 GEN02 VER01",
)
def varied_pixels_mixed(seed: int) -> Setup:
    """A permutation of the pixels that is drawn anew for each image."""
    setup = healthy("shapes_conv", seed)
    x, y = setup.data
    rng = np.random.default_rng([seed, 7])
    flat = np.stack([rng.permutation(z.ravel()) for z in x])
    return replace(setup, data=(flat.reshape(x.shape), y))


@fault(
    "varied_noise_for_inputs", "inputs are noise", "DAT03", "series_gru", also="GEN01 GEN02 VER01"
)
def varied_noise_for_inputs(seed: int) -> Setup:
    """An array that was made by empty, and never filled."""
    setup = healthy("series_gru", seed)
    x, y = setup.data
    noise = np.random.default_rng(seed).normal(size=x.shape)
    return replace(setup, data=(noise.astype(np.float32), y))


@fault(
    "varied_wrong_argmax",
    "classes over the wrong axis",
    "DAT03",
    "clusters_sgd",
    also="GEN01 GEN02 VER01",
)
def varied_wrong_argmax(seed: int) -> Setup:
    """Labels from scores that were sorted column by column."""

    def change(y):
        scores = np.eye(5)[y] + np.random.default_rng(seed).normal(0, 0.1, (len(y), 5))
        return np.sort(scores, axis=0).argmax(axis=1)

    return relabelled("clusters_sgd", seed, change)
