"""Healthy programs of the pairs: tables, images, signals, curves."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import optree
from benchmarks.faults import data
from benchmarks.faults.pairs import objective_tasks as tasks
from benchmarks.faults.program import Setup, healthy

import pullback as pb
from pullback import nn


def call(model: Any, x: Any) -> Any:
    return model(x)


def classify(model: Any, x: Any, y: Any) -> Any:
    return nn.cross_entropy(model(x), y)


def decide(model: Any, x: Any, y: Any) -> Any:
    return nn.binary_cross_entropy_with_logits(model(x), y)


def regress(model: Any, x: Any, y: Any) -> Any:
    return nn.mse(model(x), y)


def flat(x: Any) -> Any:
    return pb.reshape(x, (x.shape[0], -1))


def tree_map(f: Any, *trees: Any) -> Any:
    return optree.tree_map(f, *trees, namespace="pullback")


# ---- classes --------------------------------------------------------------------------------


def geologist(seed: int) -> nn.MLP:
    return nn.MLP(10, tasks.MINERALS, 48, 2, nn.gelu, key=pb.random.key(seed))


@healthy("minerals_gelu")
def minerals_gelu(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.minerals(seed)
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(geologist(seed), classify, pb.optim.adam(5e-3), (x, y), score, batch=32)


@healthy("minerals_nesterov")
def minerals_nesterov(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.minerals(seed)
    model = nn.MLP(10, tasks.MINERALS, 64, 1, key=pb.random.key(seed))
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.05, momentum=0.9, nesterov=True)
    return Setup(model, classify, optimizer, (x, y), score, batch=32)


@healthy("minerals_smoothed")
def minerals_smoothed(seed: int) -> Setup:
    """Label smoothing, a decay of 0.1 and a warm-up: the loss ends far above 0."""
    x, y, x_valid, y_valid = tasks.minerals(seed)

    def loss(model, x, y):
        return nn.cross_entropy(model(x), y, label_smoothing=0.1)

    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.adamw(pb.optim.warmup_cosine(8e-3, 20, 200), weight_decay=0.1)
    return Setup(geologist(seed), loss, optimizer, (x, y), score)


def typist(seed: int) -> nn.Sequential:
    keys = pb.random.split(pb.random.key(seed), 2)
    return nn.Sequential(
        nn.Linear(16, 96, key=keys[0], initializer=nn.init.he_normal),
        nn.relu,
        nn.Linear(96, tasks.LETTERS, key=keys[1]),
    )


@healthy("letters_sgd")
def letters_sgd(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.letters(seed)
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(typist(seed), classify, pb.optim.sgd(0.2), (x, y), score, batch=32)


@healthy("letters_prototypes")
def letters_prototypes(seed: int) -> Setup:
    """Logits are minus the squared distances to a prototype of each class."""
    x, y, x_valid, y_valid = tasks.letters(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {
        "body": nn.MLP(16, 12, 64, 1, pb.tanh, key=keys[0]),
        "centres": pb.random.normal(keys[1], (tasks.LETTERS, 12)),
    }

    def predict(model, x):
        far = model["body"](x)[:, None, :] - model["centres"]
        return -pb.sum(far * far, axis=2)

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score)


def doctor(seed: int) -> nn.MLP:
    return nn.MLP(12, tasks.SYMPTOMS, 64, 2, nn.silu, key=pb.random.key(seed))


@healthy("symptoms_silu")
def symptoms_silu(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.symptoms(seed)
    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(doctor(seed), decide, pb.optim.adam(5e-3), (x, y), score)


def guard(seed: int) -> nn.MLP:
    return nn.MLP(8, 1, 48, 2, pb.tanh, key=pb.random.key(seed))


@healthy("alarms_rmsprop")
def alarms_rmsprop(seed: int) -> Setup:
    """Few alarms, no weights: the first loss is above what it falls to at once."""
    x, y, x_valid, y_valid = tasks.alarms(seed)
    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(guard(seed), decide, pb.optim.rmsprop(5e-3), (x, y), score, steps=400)


@healthy("alarms_weighted")
def alarms_weighted(seed: int) -> Setup:
    """An alarm counts three times; half of the accuracy is that of the alarms."""
    x, y, x_valid, y_valid = tasks.alarms(seed)

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(model(x), y, positive_weight=3.0)

    def score(model):
        right = (np.asarray(model(x_valid)) > 0) == (y_valid > 0.5)
        return float(right[y_valid > 0.5].mean() + right[y_valid < 0.5].mean()) / 2

    return Setup(guard(seed), loss, pb.optim.adam(5e-3), (x, y), score, steps=400)


def inspector(seed: int) -> nn.MLP:
    return nn.MLP(9, 1, 64, 2, key=pb.random.key(seed))


@healthy("defects_adamw")
def defects_adamw(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.defects(seed)
    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(inspector(seed), decide, pb.optim.adamw(3e-3), (x, y), score, steps=300)


# ---- numbers --------------------------------------------------------------------------------


def builder(seed: int) -> nn.MLP:
    return nn.MLP(6, 1, 64, 2, key=pb.random.key(seed))


@healthy("mortar_sgd")
def mortar_sgd(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.mortar(seed)
    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.02, momentum=0.9)
    return Setup(builder(seed), regress, optimizer, (x, y), score, batch=32, steps=300)


@healthy("mortar_lion")
def mortar_lion(seed: int) -> Setup:
    """Huber's loss, and a batch norm-free net in mish."""
    x, y, x_valid, y_valid = tasks.mortar(seed)
    model = nn.MLP(6, 1, 48, 2, nn.mish, key=pb.random.key(seed))

    def loss(model, x, y):
        return nn.huber(model(x), y)

    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.lion(pb.optim.cosine(2e-3, 400))
    return Setup(model, loss, optimizer, (x, y), score, steps=400)


def mason(seed: int) -> list[dict[str, Any]]:
    """Arrays in a list: a net by hand."""
    rng, sizes = np.random.default_rng([seed, 1]), (6, 48, 48, 1)
    return [
        {
            "w": pb.asarray(rng.normal(0, (1.5 / a) ** 0.5, (a, b)).astype(np.float32)),
            "b": pb.zeros((b,)),
        }
        for a, b in pairwise(sizes)
    ]


def lay(model: Any, x: Any) -> Any:
    for layer in model[:-1]:
        x = nn.silu(x @ layer["w"] + layer["b"])
    return x @ model[-1]["w"] + model[-1]["b"]


@healthy("mortar_descent")
def mortar_descent(seed: int) -> Setup:
    """A net and its descent by hand, with a rate that falls."""
    x, y, x_valid, y_valid = tasks.mortar(seed)

    def loss(model, x, y):
        return pb.mean((lay(model, x) - y) ** 2)

    @pb.compile
    def step(state, x, y):
        model, memory = state
        value, grads = pb.value_and_grad(loss)(model, x, y)
        updates, memory = optimizer.update(grads, memory, model)
        return (pb.optim.apply_updates(model, updates), memory), (value, grads)

    optimizer = pb.optim.sgd(pb.optim.cosine(0.15, 400))
    score = data.r_squared(lay, x_valid, y_valid)
    return Setup(mason(seed), loss, optimizer, (x, y), score, batch=32, steps=400, step=step)


def agent(seed: int) -> nn.MLP:
    return nn.MLP(5, 1, 48, 2, nn.elu, key=pb.random.key(seed))


@healthy("flats_elu")
def flats_elu(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.standard_flats(seed)
    score = data.r_squared(call, x_valid, y_valid)
    return Setup(agent(seed), regress, pb.optim.adam(5e-3), (x, y), score, steps=300)


def switchboard(seed: int) -> nn.MLP:
    return nn.MLP(5, 1, 48, 2, nn.silu, key=pb.random.key(seed))


@healthy("calls_poisson")
def calls_poisson(seed: int) -> Setup:
    """The logarithm of a rate; the loss falls below 0."""
    x, y, x_valid, log_rate = tasks.calls(seed)

    def loss(model, x, y):
        z = model(x)
        return pb.mean(pb.exp(z) - y * z)

    score = data.r_squared(call, x_valid, log_rate)
    options = {"clip": 5.0}
    optimizer = pb.optim.adam(3e-3)
    return Setup(switchboard(seed), loss, optimizer, (x, y), score, steps=300, options=options)


def vane(seed: int) -> nn.MLP:
    return nn.MLP(4, 2, 48, 2, nn.silu, key=pb.random.key(seed))


def first(model: Any, x: Any) -> Any:
    return model(x)[:, :1]


@healthy("winds_likelihood")
def winds_likelihood(seed: int) -> Setup:
    """Mean and logarithm of the deviation of a normal distribution."""
    x, y, x_valid, middle = tasks.winds(seed)

    def loss(model, x, y):
        out = model(x)
        mean, log_std = out[:, 0], out[:, 1]
        return pb.mean(log_std + 0.5 * ((y[:, 0] - mean) * pb.exp(-log_std)) ** 2)

    score = data.r_squared(first, x_valid, middle)
    optimizer, options = pb.optim.adam(5e-3), {"clip": 1.0}
    return Setup(vane(seed), loss, optimizer, (x, y), score, steps=400, options=options)


@healthy("incomes_log1p")
def incomes_log1p(seed: int) -> Setup:
    """Amounts that may be 0 go through log(1 + x)."""
    x, y, x_valid, y_valid = tasks.incomes(seed)
    model = nn.MLP(7, 1, 48, 2, nn.gelu, key=pb.random.key(seed))

    def predict(model, x):
        return model(pb.concat([pb.log1p(x[:, :4]), x[:, 4:]], axis=1))

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score, steps=300)


# ---- images, signals, curves ----------------------------------------------------------------


def philatelist(seed: int) -> nn.Sequential:
    keys = pb.random.split(pb.random.key(seed), 3)
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, key=keys[0]),
        nn.relu,
        nn.MaxPool2d(2),
        nn.Conv2d(12, 24, 3, key=keys[1]),
        nn.relu,
        flat,
        nn.Linear(216, tasks.STAMPS, key=keys[2]),
    )


@healthy("stamps_pooled")
def stamps_pooled(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.stamps(seed)
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(philatelist(seed), classify, pb.optim.adam(3e-3), (x, y), score, batch=32)


def album(seed: int) -> nn.Sequential:
    keys = pb.random.split(pb.random.key(seed), 6)

    def block(i: int) -> nn.ResidualBlock:
        norm = nn.GroupNorm(4, 16)
        body = nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1, key=keys[i]),
            nn.GroupNorm(4, 16),
            nn.relu,
            nn.Conv2d(16, 16, 3, padding=1, key=keys[i + 1]),
            norm.replace(weight=norm.weight * 0),
        )
        return nn.ResidualBlock(body)

    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1, key=keys[0]),
        nn.relu,
        block(1),
        block(3),
        flat,
        nn.Linear(400, tasks.STAMPS, key=keys[5]),
    )


@healthy("stamps_residual")
def stamps_residual(seed: int) -> Setup:
    """Residual branches that begin at 0, in half precision."""
    x, y, x_valid, y_valid = tasks.stamps(seed)
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.05, momentum=0.9)
    return Setup(
        album(seed), classify, optimizer, (x, y), score, batch=32, steps=150, precision="bf16"
    )


@healthy("scans_divided")
def scans_divided(seed: int) -> Setup:
    """Bytes, divided by 255 on the way in."""
    x, y, x_valid, y_valid = tasks.scans(seed)
    x, x_valid = x.astype(np.float32) / 255, x_valid.astype(np.float32) / 255
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(philatelist(seed), classify, pb.optim.adam(5e-3), (x, y), score, batch=32)


def tuner(seed: int) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 3)
    return {
        "one": nn.Conv1d(1, 16, 7, padding=3, key=keys[0]),
        "two": nn.Conv1d(16, 24, 5, stride=2, key=keys[1]),
        "head": nn.Linear(24, tasks.BEEPS, key=keys[2]),
    }


def hear(model: Any, x: Any) -> Any:
    h = nn.relu(model["two"](nn.relu(model["one"](x))))
    return model["head"](pb.mean(h, axis=2))


@healthy("beeps_conv1d")
def beeps_conv1d(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.beeps(seed)

    def loss(model, x, y):
        return nn.cross_entropy(hear(model, x), y)

    score = data.accuracy(hear, x_valid, y_valid)
    options = {"accumulate": 2}
    return Setup(tuner(seed), loss, pb.optim.adamw(5e-3), (x, y), score, options=options)


def tracer(seed: int, code: int = 4, out: int = 4) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 2)
    return {
        "encoder": nn.MLP(20, out, 48, 1, nn.gelu, key=keys[0]),
        "decoder": nn.MLP(code, 20, 48, 1, nn.gelu, key=keys[1]),
    }


def retrace(model: Any, x: Any) -> Any:
    return model["decoder"](model["encoder"](x)[:, :4])


@healthy("contours_code")
def contours_code(seed: int) -> Setup:
    x, _, x_valid, _ = tasks.contours(seed)

    def loss(model, x):
        return nn.mse(retrace(model, x), x)

    score = data.r_squared(retrace, x_valid, x_valid)
    return Setup(tracer(seed), loss, pb.optim.adam(5e-3), (x,), score, steps=300)


@healthy("contours_vae")
def contours_vae(seed: int) -> Setup:
    """Errors and divergence are summed over a sample, with a known noise of 0.2."""
    x, _, x_valid, _ = tasks.contours(seed)

    def loss(model, x, key):
        out = model["encoder"](x)
        mean, log_var = out[:, :4], out[:, 4:]
        code = mean + pb.exp(log_var / 2) * pb.random.normal(key, mean.shape)
        errors = pb.sum((model["decoder"](code) - x) ** 2, axis=1) / (2 * 0.2**2)
        kl = 0.5 * pb.sum(pb.exp(log_var) + mean**2 - 1 - log_var, axis=1)
        return pb.mean(errors + kl) / 20

    score, key = data.r_squared(retrace, x_valid, x_valid), pb.random.key(seed + 1)
    model = tracer(seed, out=8)
    return Setup(model, loss, pb.optim.adam(5e-3), (x,), score, steps=400, key=key)


def distrust(y: Any, seed: int) -> tuple[Any, Any]:
    """Three in five targets are of another sample; a weight of 0 says which, float32[n,1]."""
    rng = np.random.default_rng([seed, 4])
    wrong = rng.random((len(y), 1)) < 0.6
    y = np.where(wrong, 2 + rng.permutation(y), y).astype(np.float32)
    return y, 1 - wrong.astype(np.float32)


@healthy("mortar_trusted")
def mortar_trusted(seed: int) -> Setup:
    """Measurements that are not trusted have the weight 0."""
    x, y, x_valid, y_valid = tasks.mortar(seed)
    y, weight = distrust(y, seed)

    def loss(model, x, y, weight):
        errors = weight * (model(x) - y) ** 2
        return pb.sum(errors) / (pb.sum(weight) + 1e-6)

    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.adam(3e-3)
    return Setup(builder(seed), loss, optimizer, (x, y, weight), score, steps=300)
