"""Faults of the step: rates, momentum, decay, clipping, modes, random numbers, written loops."""

from __future__ import annotations

from typing import Any

import optree
from benchmarks.faults import data
from benchmarks.faults.fresh import tasks
from benchmarks.faults.fresh.healthy import binary_loss, call, class_loss, square_loss
from benchmarks.faults.fresh.structured import (
    Last,
    finder,
    normed_shapes,
    shape_net,
    speaker,
    verdict,
    with_state,
    writer,
)
from benchmarks.faults.program import Setup, fault

import pullback as pb
from pullback import nn

BROKEN = "NUM01 NUM02 OPT03 SIG02 SIG03 SIG04 CUT04"


def tree_map(f: Any, *trees: Any) -> Any:
    return optree.tree_map(f, *trees, namespace="pullback")


# ---- rates ----------------------------------------------------------------------------------


@fault("shapes_rate", "learning rate too high", "OPT01", "shapes_conv", also=BROKEN)
def shapes_rate(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.shapes(seed)
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(shape_net(seed), class_loss, pb.optim.adam(0.15), (x, y), score, batch=40)


@fault("order_rate", "learning rate too high", "OPT01", "order_lstm", also=BROKEN)
def order_rate(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.order(seed)
    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(verdict(seed), binary_loss, pb.optim.rmsprop(0.5), (x, y), score, batch=32)


@fault("friedman_rate", "learning rate too high", "OPT01", "friedman_sgd", also=BROKEN)
def friedman_rate(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.friedman(seed)
    model = nn.MLP(10, 1, 80, 2, nn.gelu, key=pb.random.key(seed))
    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.4, momentum=0.95, nesterov=True)
    return Setup(model, square_loss, optimizer, (x, y), score)


@fault("digits_lion", "learning rate too high", "OPT01", "digits_distilled", also=BROKEN)
def digits_lion(seed: int) -> Setup:
    """Lion steps by the sign alone, and is given the rate of gradient descent."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.MLP(64, 10, 72, 1, nn.gelu, key=pb.random.key(seed))
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.lion(0.3), (x, y), score)


@fault("attention_rate", "no warm-up", "OPT01", "sums_transformer", also=BROKEN)
def attention_rate(seed: int) -> Setup:
    """A transformer that meets a rate of 0.2 in its first step."""
    x, y, x_valid, y_valid = tasks.sums(seed)
    score = tasks.next_word(call, x_valid, y_valid)
    optimizer = pb.optim.adamw(pb.optim.cosine(0.2, 300))
    return Setup(writer(seed), class_loss, optimizer, (x, y), score, batch=32, steps=300)


@fault("adding_rate_low", "learning rate too low", "OPT02", "adding_lstm", also="VER01")
def adding_rate_low(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.adding(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = Last(nn.LSTM(2, 24, key=keys[0]), nn.Linear(24, 1, key=keys[1]))
    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, square_loss, pb.optim.sgd(1e-4), (x, y), score, steps=500)


@fault("attention_rate_low", "learning rate too low", "OPT02", "order_attention", also="VER01")
def attention_rate_low(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.order(seed)
    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(finder(seed), binary_loss, pb.optim.adam(3e-6), (x, y), score)


@fault("warm_up_too_long", "warm-up longer than the run", "OPT02", "sums_gru", also="VER01")
def warm_up_too_long(seed: int) -> Setup:
    """A schedule of a large run: after 200 of 100 000 steps the rate is still nothing."""
    x, y, x_valid, y_valid = tasks.sums(seed)
    score = tasks.next_word(call, x_valid, y_valid)
    optimizer = pb.optim.adam(pb.optim.warmup_cosine(2e-2, 100_000, 500_000))
    return Setup(speaker(seed), class_loss, optimizer, (x, y), score, batch=32)


@fault(
    "schedule_in_epochs",
    "learning rate decays too soon",
    "OPT02 CUT02",
    "clusters_sgd",
    also="VER01",
)
def schedule_in_epochs(seed: int) -> Setup:
    """A cosine over five epochs, which is given the number of the step: it ends at step 5."""
    x, y, x_valid, y_valid = tasks.clusters(seed)
    model = nn.MLP(12, 5, 96, 1, key=pb.random.key(seed))
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(pb.optim.cosine(0.5, 5))
    return Setup(model, class_loss, optimizer, (x, y), score, batch=40)


@fault("epsilon_of_one", "epsilon of the optimiser too large", "OPT02", "tones_conv", also="VER01")
def epsilon_of_one(seed: int) -> Setup:
    """Adam's eps is 1: it divides by 1, not by the size of the gradient."""
    x, y, x_valid, y_valid = tasks.tones(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = nn.Sequential(
        nn.Conv1d(1, 16, 5, padding=2, key=keys[0]),
        nn.leaky_relu,
        nn.Conv1d(16, 16, 5, 2, padding=2, key=keys[1]),
        nn.leaky_relu,
        lambda x: pb.mean(x, axis=2),
        nn.Linear(16, 3, key=keys[2]),
    )
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.adam(2e-3, eps=1.0)
    return Setup(model, class_loss, optimizer, (x, y), score, batch=32)


@fault("momentum_of_ones", "momentum too high", "OPT01 OPT03", "series_rnn", also=BROKEN)
def momentum_of_ones(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.series(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = Last(nn.RNN(1, 28, key=keys[0]), nn.Linear(28, 1, key=keys[1]))
    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.05, momentum=0.998)
    return Setup(model, square_loss, optimizer, (x, y), score, batch=32)


@fault("clip_of_nothing", "clipping threshold too small", "OPT02", "series_rnn", also="VER01")
def clip_of_nothing(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.series(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = Last(nn.RNN(1, 28, key=keys[0]), nn.Linear(28, 1, key=keys[1]))
    score = data.r_squared(call, x_valid, y_valid)
    optimizer, options = pb.optim.sgd(0.05, momentum=0.9), {"clip": 5e-4}
    return Setup(model, square_loss, optimizer, (x, y), score, batch=32, options=options)


@fault("decay_of_all", "weight decay too strong", "OBJ08", "clusters_sgd", also="VER01 SIG01 SIG07")
def decay_of_all(seed: int) -> Setup:
    """0.2, added to the gradient."""
    x, y, x_valid, y_valid = tasks.clusters(seed)
    model = nn.MLP(12, 5, 96, 1, key=pb.random.key(seed))
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.5, weight_decay=0.2)
    return Setup(model, class_loss, optimizer, (x, y), score, batch=40)


@fault("decay_of_words", "weight decay too strong", "OBJ08", "order_lstm", also="VER01 SIG01 SIG07")
def decay_of_words(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.order(seed)
    score = data.binary_accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.adamw(1e-2, weight_decay=20.0)
    return Setup(verdict(seed), binary_loss, optimizer, (x, y), score, batch=32)


# ---- modes and random numbers ---------------------------------------------------------------


@fault(
    "norms_in_use",
    "batch norm modes mixed",
    "LOOP02",
    "shapes_batch_norm",
    also="DAT01 OBJ04 SIG07 OPT01 OPT03 NUM01 NUM02",
)
def norms_in_use(seed: int) -> Setup:
    """train=False in training: raw grey values pass as they are."""
    x, y, x_valid, y_valid = tasks.shapes(seed)
    x, x_valid = 128 + 40 * x, 128 + 40 * x_valid
    model = normed_shapes(seed)

    def loss(model, x, y, state):
        out, state = model(x, state, train=False)  # here
        return nn.cross_entropy(out, y), state

    optimizer = pb.optim.sgd(0.1, momentum=0.9, nesterov=True)
    score, state = with_state(x_valid, y_valid), model.initial_state()
    return Setup(model, loss, optimizer, (x, y), score, batch=40, network_state=state)


@fault("dropped_for_ever", "same dropout key each step", "LOOP04", "clusters_dropout", at_once=True)
def dropped_for_ever(seed: int) -> Setup:
    """Units are dropped for a whole batch, and by a constant key the same ones each time."""
    x, y, x_valid, y_valid = tasks.clusters(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {"body": nn.Linear(12, 160, key=keys[0]), "head": nn.Linear(160, 5, key=keys[1])}

    def predict(model, x):
        return model["head"](nn.relu(model["body"](x)))

    def loss(model, x, y):
        kept = pb.random.bernoulli(pb.random.key(3), 0.3, (160,))  # here
        h = nn.relu(model["body"](x)) * kept.astype("float32") / 0.3
        return nn.cross_entropy(model["head"](h), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x, y), score)


@fault("noise_for_ever", "same noise each step", "LOOP04", "manifold_vae", at_once=True)
def noise_for_ever(seed: int) -> Setup:
    """The noise of the code is one vector, drawn with a constant key: the decoder takes it off."""
    x, _, x_valid, _ = tasks.manifold(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {
        "encoder": nn.MLP(20, 8, 48, 1, nn.silu, key=keys[0]),
        "decoder": nn.MLP(4, 20, 48, 1, nn.silu, key=keys[1]),
    }

    def loss(model, x):
        code = model["encoder"](x)
        mean, log_variance = code[:, :4], code[:, 4:]
        noise = pb.random.normal(pb.random.key(7), (4,))  # here
        drawn = mean + pb.exp(log_variance / 2) * noise
        error = pb.sum((model["decoder"](drawn) - x) ** 2, axis=1)
        kl = 0.5 * pb.sum(pb.exp(log_variance) + mean**2 - 1 - log_variance, axis=1)
        return pb.mean(error + 0.1 * kl)

    score = data.r_squared(
        lambda model, x: model["decoder"](model["encoder"](x)[:, :4]), x_valid, x_valid
    )
    return Setup(model, loss, pb.optim.adam(8e-3), (x,), score, steps=250)


# ---- loops written by hand ------------------------------------------------------------------


@fault(
    "gradients_kept",
    "gradients never cleared",
    "LOOP01",
    "rings_by_hand",
    also=BROKEN + " OPT01 OBJ06",
)
def gradients_kept(seed: int) -> Setup:
    """The sum for a large batch is begun once, before the loop."""
    x, y, x_valid, y_valid = tasks.rings(seed)
    model = nn.MLP(2, 4, 48, 2, pb.tanh, key=pb.random.key(seed))
    inner = pb.optim.sgd(0.2)

    def init(params):
        return inner.init(params), tree_map(lambda p: p * 0, params)

    def update(grads, state, params):
        memory, total = state
        total = tree_map(lambda a, b: a + b, total, grads)  # here
        updates, memory = inner.update(total, memory, params)
        return updates, (memory, total)

    optimizer = pb.optim.Optimizer(init, update)
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, class_loss, optimizer, (x, y), score, batch=100)


@fault(
    "parts_added",
    "accumulated gradients never averaged",
    "OPT01 OBJ06",
    "clusters_sgd",
    also=BROKEN,
)
def parts_added(seed: int) -> Setup:
    """Twenty small batches are added up, with the rate of one of them."""
    x, y, x_valid, y_valid = tasks.clusters(seed)
    model = nn.MLP(12, 5, 96, 1, key=pb.random.key(seed))
    optimizer = pb.optim.sgd(0.5)

    @pb.compile
    def step(state, x, y):
        model, memory = state
        loss, total = pb.value_and_grad(class_loss)(model, x[:2], y[:2])
        for i in range(2, 40, 2):
            value, grads = pb.value_and_grad(class_loss)(model, x[i : i + 2], y[i : i + 2])
            total, loss = tree_map(lambda a, b: a + b, total, grads), loss + value
        updates, memory = optimizer.update(total, memory, model)  # here
        return (pb.optim.apply_updates(model, updates), memory), (loss / 20, total)

    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, class_loss, optimizer, (x, y), score, batch=40, step=step)


@fault("update_not_kept", "new parameters dropped", "LOOP03", "rings_by_hand", also="CUT02 OPT02")
def update_not_kept(seed: int) -> Setup:
    """The state of the optimiser goes on, the new model does not."""
    x, y, x_valid, y_valid = tasks.rings(seed)
    model = nn.MLP(2, 4, 48, 2, pb.tanh, key=pb.random.key(seed))
    optimizer = pb.optim.adam(1e-2)

    @pb.compile
    def step(state, x, y):
        model, memory = state
        loss, grads = pb.value_and_grad(class_loss)(model, x, y)
        updates, memory = optimizer.update(grads, memory, model)
        pb.optim.apply_updates(model, updates)  # here
        return (model, memory), (loss, grads)

    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, class_loss, optimizer, (x, y), score, batch=100, step=step)


@fault(
    "first_model_bound",
    "optimiser on stale parameters",
    "LOOP03",
    "rings_by_hand",
    also="OPT01 OPT03 OPT02",
)
def first_model_bound(seed: int) -> Setup:
    """Gradients are taken at the first model, which was bound by the closure."""
    x, y, x_valid, y_valid = tasks.rings(seed)
    first = nn.MLP(2, 4, 48, 2, pb.tanh, key=pb.random.key(seed))
    optimizer = pb.optim.adam(1e-2)

    @pb.compile
    def step(state, x, y):
        model, memory = state
        loss, grads = pb.value_and_grad(lambda m: class_loss(m, x, y))(first)  # here
        updates, memory = optimizer.update(grads, memory, model)
        return (pb.optim.apply_updates(model, updates), memory), (loss, grads)

    score = data.accuracy(call, x_valid, y_valid)
    return Setup(first, class_loss, optimizer, (x, y), score, batch=100, step=step)


@fault("plus_for_minus", "wrong sign of the step", "OBJ05", "rings_by_hand", also=BROKEN + " OPT01")
def plus_for_minus(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.rings(seed)
    model = nn.MLP(2, 4, 48, 2, pb.tanh, key=pb.random.key(seed))

    @pb.compile
    def step(state, x, y):
        model, memory = state
        loss, grads = pb.value_and_grad(class_loss)(model, x, y)
        model = tree_map(lambda p, g: p + 0.3 * g, model, grads)  # here
        return (model, memory), (loss, grads)

    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.sgd(0.3), (x, y), score, batch=100, step=step)


@fault("new_optimizer", "optimiser made anew in each step", "LOOP03", "rings_by_hand", also="OPT01")
def new_optimizer(seed: int) -> Setup:
    """The optimiser's memory begins anew in each step, so Adam steps by signs alone."""
    x, y, x_valid, y_valid = tasks.rings(seed)
    model = nn.MLP(2, 4, 48, 2, pb.tanh, key=pb.random.key(seed))
    optimizer = pb.optim.adam(4e-2)

    @pb.compile
    def step(state, x, y):
        model, _ = state
        loss, grads = pb.value_and_grad(class_loss)(model, x, y)
        memory = optimizer.init(model)  # here
        updates, memory = optimizer.update(grads, memory, model)
        return (pb.optim.apply_updates(model, updates), memory), (loss, grads)

    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, class_loss, optimizer, (x, y), score, batch=100, step=step)
