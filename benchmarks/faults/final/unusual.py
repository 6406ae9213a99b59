"""Programs with nothing wrong that are not the usual one: odd losses, agents, loops by hand."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import optree
from benchmarks.faults import data
from benchmarks.faults.final import tasks
from benchmarks.faults.final.tables import board, call, classify, decide, taster
from benchmarks.faults.program import Setup, healthy

import pullback as pb
from pullback import nn


def tree_map(f: Any, *trees: Any) -> Any:
    return optree.tree_map(f, *trees, namespace="pullback")


# ---- distances ------------------------------------------------------------------------------


def ear(seed: int) -> nn.MLP:
    return nn.MLP(24, 8, 48, 1, nn.gelu, key=pb.random.key(seed))


def unit(z: Any) -> Any:
    return z / pb.sqrt(pb.sum(z * z, axis=1, keepdims=True) + 1e-6)


def partners(x: Any, y: Any, seed: int) -> tuple[Any, Any]:
    """To each sample another of its class, and one of another class."""
    rng = np.random.default_rng([seed, 154])
    same = [rng.choice(np.flatnonzero(y == k)) for k in y]
    other = [rng.choice(np.flatnonzero(y != k)) for k in y]
    return x[same], x[other]


@healthy("voices_contrast")
def voices_contrast(seed: int) -> Setup:
    """InfoNCE: the partner of a sample among the partners of the batch."""
    x, y, x_valid, y_valid = tasks.voices(seed)
    same, _ = partners(x, y, seed)

    def loss(model, x, same):
        alike = unit(model(x)) @ unit(model(same)).mT / 0.2
        return nn.cross_entropy(alike, pb.arange(len(x)))

    score = tasks.nearest(call, x, y, x_valid, y_valid)
    return Setup(ear(seed), loss, pb.optim.adam(5e-3), (x, same), score)


def triplet(model: Any, x: Any, same: Any, other: Any, margin: float = 0.5) -> Any:
    a, b, c = unit(model(x)), unit(model(same)), unit(model(other))
    near, far = pb.sum((a - b) ** 2, axis=1), pb.sum((a - c) ** 2, axis=1)
    return pb.mean(nn.relu(near - far + margin))


@healthy("voices_triplet")
def voices_triplet(seed: int) -> Setup:
    """A margin, which more and more triplets keep: their gradient is 0."""
    x, y, x_valid, y_valid = tasks.voices(seed)
    same, other = partners(x, y, seed)
    score = tasks.nearest(call, x, y, x_valid, y_valid)
    return Setup(ear(seed), triplet, pb.optim.adam(5e-3), (x, same, other), score)


@healthy("voices_classes")
def voices_classes(seed: int) -> Setup:
    """Plain gradient descent with few layers."""
    x, y, x_valid, y_valid = tasks.voices(seed)
    model = nn.MLP(24, tasks.VOICES, 48, 1, nn.gelu, key=pb.random.key(seed))
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, classify, pb.optim.sgd(0.1), (x, y), score)


# ---- codes ----------------------------------------------------------------------------------


def coder(seed: int, inputs: int = 24, code: int = 5) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 2)
    return {
        "encoder": nn.MLP(inputs, code, 48, 1, nn.gelu, key=keys[0]),
        "decoder": nn.MLP(code, inputs, 48, 1, nn.gelu, key=keys[1]),
    }


def rebuild(model: Any, x: Any) -> Any:
    return model["decoder"](model["encoder"](x))


@healthy("spectra_denoised")
def spectra_denoised(seed: int) -> Setup:
    """Noise of its own in each step; the targets are without it."""
    x, _, x_valid, _ = tasks.spectra(seed)

    def loss(model, x, key):
        noisy = x + 0.5 * pb.random.normal(key, x.shape)
        return nn.mse(rebuild(model, noisy), x)

    score = data.r_squared(rebuild, x_valid, x_valid)
    key = pb.random.key(seed + 1)
    return Setup(coder(seed), loss, pb.optim.adam(1e-2), (x,), score, steps=300, key=key)


def bits_loss(model: Any, x: Any, key: Any) -> Any:
    """A code of normal numbers and pixels that are black or white."""
    out = model["encoder"](x)
    mean, log_variance = out[:, :6], out[:, 6:]
    code = mean + pb.exp(log_variance / 2) * pb.random.normal(key, mean.shape)
    logits = model["decoder"](code)
    errors = nn.binary_cross_entropy_with_logits(logits, x, reduction="none")
    kl = pb.sum(pb.exp(log_variance) + mean**2 - 1 - log_variance, axis=1) / 2
    return pb.mean(pb.sum(errors, axis=1) + 0.3 * kl)


def printer(seed: int) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 2)
    return {
        "encoder": nn.MLP(25, 12, 48, 1, nn.silu, key=keys[0]),
        "decoder": nn.MLP(6, 25, 48, 1, nn.silu, key=keys[1]),
    }


def reprint(model: Any, x: Any) -> Any:
    return model["decoder"](model["encoder"](x)[:, :6])


@healthy("bars_vae")
def bars_vae(seed: int) -> Setup:
    x, _, x_valid, _ = tasks.bars(seed)
    score = data.binary_accuracy(reprint, x_valid, x_valid)
    key = pb.random.key(seed + 1)
    return Setup(printer(seed), bits_loss, pb.optim.adam(5e-3), (x,), score, steps=300, key=key)


CODES = 32


def book(seed: int) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 3)
    return {
        "encoder": nn.MLP(25, 4, 48, 1, nn.silu, key=keys[0]),
        "codes": pb.random.normal(keys[1], (CODES, 4)),
        "decoder": nn.MLP(4, 25, 48, 1, nn.silu, key=keys[2]),
    }


def nearest_code(model: Any, z: Any) -> Any:
    far = pb.sum((z[:, None, :] - model["codes"]) ** 2, axis=2)
    return pb.take(model["codes"], pb.argmin(far, axis=1), axis=0)


def look_up(model: Any, x: Any) -> Any:
    return model["decoder"](nearest_code(model, model["encoder"](x)))


@healthy("bars_codebook")
def bars_codebook(seed: int) -> Setup:
    """Vector quantisation: the derivative passes by the choice of a code."""
    x, _, x_valid, _ = tasks.bars(seed)

    def loss(model, x):
        z = model["encoder"](x)
        code = nearest_code(model, z)
        logits = model["decoder"](pb.straight_through(code, z))
        fixed = pb.stop_gradient(code, why="commitment moves the encoder alone")
        still = pb.stop_gradient(z, why="the codes follow the encoder")
        drawn = pb.mean((code - still) ** 2) + 0.25 * pb.mean((z - fixed) ** 2)
        return nn.binary_cross_entropy_with_logits(logits, x) + drawn

    score = data.binary_accuracy(look_up, x_valid, x_valid)
    return Setup(book(seed), loss, pb.optim.adam(5e-3), (x,), score, steps=400)


# ---- agents ---------------------------------------------------------------------------------


def nurse(seed: int) -> nn.MLP:
    return nn.MLP(4, tasks.DOSES, 32, 1, pb.tanh, key=pb.random.key(seed))


def dose_score(x: Any, gain: Any) -> Any:
    """The gain of what a policy prefers, 1 where it is always the best and 0 for a guess."""

    def score(model: Any) -> float:
        scores = np.asarray(model(x), np.float64)
        got = gain[np.arange(len(x)), scores.argmax(1)].mean()
        guess, best = gain.mean(), gain.max(1).mean()
        return float((got - guess) / (best - guess)) if np.isfinite(scores).all() else float("nan")

    return score


@healthy("doses_reinforce")
def doses_reinforce(seed: int) -> Setup:
    """REINFORCE: one dose is tried for each patient; the value of the loss means nothing."""
    x, gain, x_valid, gain_valid = tasks.doses(seed)

    def loss(model, x, gain, key):
        logits = model(x)
        tried = pb.one_hot(pb.random.categorical(key, logits), tasks.DOSES)
        reward = pb.sum(gain * tried, axis=1)
        log_chance = pb.sum(nn.log_softmax(logits) * tried, axis=1)
        return -pb.mean((reward - pb.mean(reward)) * log_chance)

    score, key = dose_score(x_valid, gain_valid), pb.random.key(seed + 1)
    return Setup(nurse(seed), loss, pb.optim.adam(1e-2), (x, gain), score, steps=300, key=key)


@healthy("doses_expected")
def doses_expected(seed: int) -> Setup:
    """All doses are weighed by their chance, with a bonus for entropy; a loss below 0."""
    x, gain, x_valid, gain_valid = tasks.doses(seed)

    def loss(model, x, gain):
        chance = pb.softmax(model(x))
        entropy = -pb.sum(chance * nn.log_softmax(model(x)), axis=1)
        return -pb.mean(pb.sum(chance * gain, axis=1) + 0.05 * entropy)

    score = dose_score(x_valid, gain_valid)
    return Setup(nurse(seed), loss, pb.optim.adam(1e-2), (x, gain), score)


def reach_loss(model: Any, x: Any, best: Any, key: Any) -> Any:
    """Of a normal policy with a fixed spread: what was better than usual is made likelier."""
    mean = model(x)
    noise = 0.3 * pb.random.normal(key, (4, *mean.shape))
    tried = pb.stop_gradient(mean + noise, why="an action is no function of the policy")
    reward = -pb.sum((tried - best) ** 2, axis=2)
    better = reward - pb.mean(reward, axis=0)
    log_density = -pb.sum((tried - mean) ** 2, axis=2) / (2 * 0.3**2)
    return -pb.mean(better * log_density)


def mover(seed: int) -> nn.MLP:
    return nn.MLP(3, 2, 48, 1, pb.tanh, key=pb.random.key(seed))


@healthy("arm_policy")
def arm_policy(seed: int) -> Setup:
    x, best, x_valid, best_valid = tasks.arm(seed)
    score, key = data.r_squared(call, x_valid, best_valid), pb.random.key(seed + 1)
    optimizer = pb.optim.adam(1e-2)
    return Setup(mover(seed), reach_loss, optimizer, (x, best), score, steps=400, key=key)


@healthy("walk_values")
def walk_values(seed: int) -> Setup:
    """Temporal differences: the target is the network's own next value, held fixed."""
    here, reward, there, goes_on, places, value = tasks.walk(seed)
    model = nn.Embedding(tasks.PLACES, 1, key=pb.random.key(seed), initializer=nn.init.zeros)

    def loss(model, here, reward, there, goes_on):
        after = pb.stop_gradient(model(there)[:, 0], why="the target of a temporal difference")
        return pb.mean((reward + goes_on * after - model(here)[:, 0]) ** 2)

    score = data.r_squared(call, places, value)
    samples = (here, reward, there, goes_on)
    optimizer = pb.optim.sgd(3.0)
    return Setup(model, loss, optimizer, samples, score, steps=500)


# ---- second order ---------------------------------------------------------------------------


def adapted(model: Any, x: Any, y: Any, rate: float = 0.1) -> Any:
    """After one step of gradient descent on the five points of a task."""
    grads = pb.grad(lambda model: nn.mse(model(x), y))(model)
    return tree_map(lambda p, g: p - rate * g, model, grads)


def wave_loss(model: Any, x: Any, y: Any, x_new: Any, y_new: Any) -> Any:
    """Of tasks at once: how good the model is after a step on each."""

    def one(x, y, x_new, y_new):
        return nn.mse(adapted(model, x, y)(x_new), y_new)

    return pb.mean(pb.vmap(one)(x, y, x_new, y_new))


def surfer(seed: int) -> nn.MLP:
    return nn.MLP(1, 1, 32, 2, pb.tanh, key=pb.random.key(seed))


def wave_data(seed: int) -> tuple[Any, Any]:
    parts = tasks.waves(seed)
    valid = [z[1280:1480] for z in parts]

    def predict(model, x_new):
        def one(x, y, x_new):
            return adapted(model, x, y)(x_new)

        return pb.vmap(one)(valid[0], valid[1], x_new)

    return tuple(z[:1280] for z in parts), data.r_squared(predict, valid[2], valid[3])


@healthy("waves_maml")
def waves_maml(seed: int) -> Setup:
    """Model-agnostic meta-learning, with the derivative of the inner step."""
    samples, score = wave_data(seed)
    optimizer = pb.optim.adam(5e-3)
    return Setup(surfer(seed), wave_loss, optimizer, samples, score, batch=16, steps=700)


@healthy("spring_equation")
def spring_equation(seed: int) -> Setup:
    """u'' = -4 u with u(0) = 1, u'(0) = 0: nothing but the equation is known."""
    rng = np.random.default_rng([seed, 155])
    t = rng.uniform(0, 2, (1280, 1)).astype(np.float32)
    model = nn.MLP(1, 1, 32, 2, pb.tanh, key=pb.random.key(seed))

    def place(model, t):
        """The beginning is built in."""
        return 1 + t**2 * model(t)

    def loss(model, t):
        def speed(t):
            return pb.jvp(lambda t: place(model, t), (t,), (pb.ones_like(t),))[1]

        force = pb.jvp(speed, (t,), (pb.ones_like(t),))[1]
        return pb.mean((force + 4 * place(model, t)) ** 2) / 16

    t_valid = np.linspace(0, 2, 200, dtype=np.float32)[:, None]
    score = data.r_squared(place, t_valid, np.cos(2 * t_valid))
    return Setup(model, loss, pb.optim.adam(1e-2), (t,), score, steps=500)


@healthy("wines_sharpness")
def wines_sharpness(seed: int) -> Setup:
    """SAM by hand: the gradient is taken a little uphill, and used where one stands."""
    x, y, x_valid, y_valid = tasks.wines(seed)
    optimizer = pb.optim.sgd(0.05, momentum=0.9)

    @pb.compile
    def step(state, x, y):
        model, memory = state
        loss, grads = pb.value_and_grad(classify)(model, x, y)
        size = 0.05 / (pb.optim.global_norm(grads) + 1e-8)
        above = tree_map(lambda p, g: p + size * g, model, grads)
        grads = pb.grad(classify)(above, x, y)
        updates, memory = optimizer.update(grads, memory, model)
        return (pb.optim.apply_updates(model, updates), memory), (loss, grads)

    score = data.accuracy(call, x_valid, y_valid)
    return Setup(taster(seed), classify, optimizer, (x, y), score, batch=32, step=step)


@healthy("checker_by_hand")
def checker_by_hand(seed: int) -> Setup:
    """A loop by hand with momentum by hand."""
    x, y, x_valid, y_valid = tasks.checker(seed)
    optimizer = pb.optim.sgd(0.1, momentum=0.9)

    @pb.compile
    def step(state, x, y):
        model, memory = state
        loss, grads = pb.value_and_grad(decide)(model, x, y)
        updates, memory = optimizer.update(grads, memory, model)
        return (pb.optim.apply_updates(model, updates), memory), (loss, grads)

    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(board(seed), decide, optimizer, (x, y), score, steps=500, step=step)


# ---- teachers, labels, few samples ----------------------------------------------------------


def teacher(x: Any, y: Any, seed: int) -> Any:
    """Logits of a teacher that is nearly sure, and sometimes wrong."""
    rng = np.random.default_rng([seed, 156])
    return (5 * np.eye(4)[y] + rng.normal(0, 1.2, (len(y), 4))).astype(np.float32)


def imitate(model: Any, x: Any, logits: Any) -> Any:
    """The divergence from a teacher, both softened by a temperature of 3."""
    soft = pb.softmax(logits / 3)
    own = nn.log_softmax(model(x) / 3)
    return 9 * pb.mean(pb.sum(soft * (nn.log_softmax(logits / 3) - own), axis=1))


@healthy("wines_taught")
def wines_taught(seed: int) -> Setup:
    """Distillation without the labels."""
    x, y, x_valid, y_valid = tasks.wines(seed)
    score = data.accuracy(call, x_valid, y_valid)
    samples = (x, teacher(x, y, seed))
    return Setup(taster(seed), imitate, pb.optim.adam(3e-3), samples, score, batch=32)


@healthy("wines_wrong_labels")
def wines_wrong_labels(seed: int) -> Setup:
    """Three labels in ten are drawn anew, and the loss smooths them."""
    x, y, x_valid, y_valid = tasks.wines(seed)
    rng = np.random.default_rng([seed, 157])
    y = np.where(rng.random(len(y)) < 0.3, rng.integers(0, 4, len(y)), y)

    def loss(model, x, y):
        return nn.cross_entropy(model(x), y, label_smoothing=0.1)

    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.adamw(pb.optim.cosine(3e-3, 200), weight_decay=0.05)
    return Setup(taster(seed), loss, optimizer, (x, y), score)


@healthy("wines_few")
def wines_few(seed: int) -> Setup:
    """A hundred and ninety-two samples of two columns, all in each step."""
    x, y, x_valid, y_valid = tasks.wines(seed)
    x, x_valid, y, y_valid = x[:192, 2:4], x_valid[:, 2:4], y[:192] % 2, y_valid % 2
    model = nn.MLP(2, 2, 16, 1, key=pb.random.key(seed))
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.adam(1e-2, weight_decay=1e-3)
    return Setup(model, classify, optimizer, (x, y), score, batch=192, steps=150)


@healthy("wines_margin")
def wines_margin(seed: int) -> Setup:
    """The loss of a support vector machine with four classes, begun at 0."""
    x, y, x_valid, y_valid = tasks.wines(seed)
    model = taster(seed)
    last = model.layers[-1]
    model = model.replace(layers=(*model.layers[:-1], last.replace(weight=last.weight * 0)))

    def loss(model, x, y):
        logits = model(x)
        right = pb.one_hot(y, 4)
        own = pb.sum(logits * right, axis=1, keepdims=True)
        over = nn.relu(logits - own + 1) * (1 - right)
        return pb.mean(pb.sum(over, axis=1))

    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x, y), score, batch=32)


@healthy("wines_small_rate")
def wines_small_rate(seed: int) -> Setup:
    """Lion with a rate of 0.0004: it moves each weight by just so much."""
    x, y, x_valid, y_valid = tasks.wines(seed)
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.lion(4e-4, weight_decay=0.1)
    return Setup(taster(seed), classify, optimizer, (x, y), score, batch=32, steps=600)


@healthy("wines_two_signs")
def wines_two_signs(seed: int) -> Setup:
    """Hidden weights of -1 and 1, whose derivative is that of the numbers behind them."""
    x, y, x_valid, y_valid = tasks.wines(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = {
        "first": nn.Linear(9, 96, key=keys[0]),
        "second": 0.1 * pb.random.normal(keys[1], (96, 64)),
        "head": nn.Linear(64, 4, key=keys[2]),
    }

    def predict(model, x):
        hard = pb.straight_through(pb.sign(model["second"]), model["second"])
        h = nn.relu(model["first"](x))
        return model["head"](nn.relu(h @ hard / 10))

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score, batch=32, steps=300)


@healthy("checker_waves")
def checker_waves(seed: int) -> Setup:
    """Sines of fixed random frequencies, frozen, before a small network."""
    x, y, x_valid, y_valid = tasks.checker(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    start = partial(nn.init.normal, std=2.0)
    waves = nn.Linear(2, 32, use_bias=False, key=keys[0], initializer=start)
    model = {"waves": nn.freeze(waves), "rest": nn.MLP(64, 1, 32, 1, key=keys[1])}

    def predict(model, x):
        z = model["waves"](x)
        return model["rest"](pb.concat([pb.sin(z), pb.cos(z)], axis=1))

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(predict(model, x), y)

    score = data.binary_accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score)
