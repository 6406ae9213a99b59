"""Training programs with nothing wrong: tables, images, signals."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.pairs import training_tasks as tasks
from benchmarks.faults.program import Setup, healthy

import pullback as pb
from pullback import nn


def call(model: Any, x: Any) -> Any:
    return model(x)


def classify(model: Any, x: Any, y: Any) -> Any:
    return nn.cross_entropy(model(x), y)


def regress(model: Any, x: Any, y: Any) -> Any:
    return nn.mse(model(x), y)


def decide(model: Any, x: Any, y: Any) -> Any:
    return nn.binary_cross_entropy_with_logits(model(x), y)


def flat(x: Any) -> Any:
    return pb.reshape(x, (x.shape[0], -1))


def in_use(x: Any, y: Any) -> Any:
    """The score of a classifier with running statistics."""
    return data.accuracy(lambda both, x: both[0](x, both[1], train=False)[0], x, y)


# ---- tables ---------------------------------------------------------------------------------


@healthy("soil_adam")
def soil_adam(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.soil(seed)
    model = nn.MLP(10, tasks.SOILS, 48, 1, key=pb.random.key(seed))
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, classify, pb.optim.adam(5e-3), (x, y), score)


@healthy("soil_momentum")
def soil_momentum(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.soil(seed)
    model = nn.MLP(10, tasks.SOILS, 32, 2, nn.silu, key=pb.random.key(seed))
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.05, momentum=0.9, nesterov=True)
    return Setup(model, classify, optimizer, (x, y), score, batch=32)


@healthy("soil_tanh")
def soil_tanh(seed: int) -> Setup:
    """Four layers of tanh, begun as Glorot said."""
    x, y, x_valid, y_valid = tasks.soil(seed)
    start = nn.init.xavier_uniform
    model = nn.MLP(10, tasks.SOILS, 32, 4, nn.tanh, key=pb.random.key(seed), initializer=start)
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.05, momentum=0.9)
    return Setup(model, classify, optimizer, (x, y), score, batch=32, steps=300)


@healthy("soil_scaled")
def soil_scaled(seed: int) -> Setup:
    """Six residual blocks whose branches begin at 0, with much decay."""
    x, y, x_valid, y_valid = tasks.soil(seed)
    keys = pb.random.split(pb.random.key(seed), 8)
    model = {
        "stem": nn.Linear(10, 32, key=keys[0]),
        "blocks": [
            {
                "norm": nn.LayerNorm(32),
                "mlp": nn.MLP(32, 32, 32, 1, nn.gelu, key=k),
                "by": pb.zeros(32),
            }
            for k in keys[1:7]
        ],
        "head": nn.Linear(32, tasks.SOILS, key=keys[7]),
    }

    def predict(model, x):
        h = model["stem"](x)
        for block in model["blocks"]:
            h = h + block["by"] * block["mlp"](block["norm"](h))
        return model["head"](h)

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    optimizer = pb.optim.adamw(5e-3, weight_decay=0.1)
    return Setup(model, loss, optimizer, (x, y), score, steps=150)


def normed(seed: int, depth: int = 3) -> nn.Sequential:
    keys = pb.random.split(pb.random.key(seed), depth + 1)
    sizes = [10, *[40] * depth]
    parts: list[Any] = []
    for i in range(depth):
        parts += [nn.Linear(sizes[i], 40, use_bias=False, key=keys[i]), nn.BatchNorm(40), nn.relu]
    return nn.Sequential(*parts, nn.Dropout(0.1), nn.Linear(40, tasks.SOILS, key=keys[depth]))


@healthy("soil_normed")
def soil_normed(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.soil(seed)
    model = normed(seed)

    def loss(model, x, y, state, key):
        logits, state = model(x, state, train=True, key=key)
        return nn.cross_entropy(logits, y), state

    return Setup(
        model,
        loss,
        pb.optim.sgd(0.1, momentum=0.9),
        (x, y),
        in_use(x_valid, y_valid),
        network_state=model.initial_state(),
        key=pb.random.key(seed + 1),
    )


@healthy("harvest_adamw")
def harvest_adamw(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.harvest(seed)
    model = nn.MLP(6, 1, 48, 2, nn.gelu, key=pb.random.key(seed))
    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.adamw(pb.optim.cosine(1e-2, 300), weight_decay=0.1)
    return Setup(model, regress, optimizer, (x, y), score, steps=300)


@healthy("harvest_sgd")
def harvest_sgd(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.harvest(seed)
    model = nn.MLP(6, 1, 48, 1, key=pb.random.key(seed))
    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.02, momentum=0.9)
    return Setup(model, regress, optimizer, (x, y), score, batch=32, steps=400)


@healthy("harvest_noisy")
def harvest_noisy(seed: int) -> Setup:
    """A quarter of the variance is noise that nothing explains."""
    x, y, x_valid, y_valid = tasks.harvest(seed, noise=0.6)
    model = nn.MLP(6, 1, 24, 1, nn.silu, key=pb.random.key(seed))
    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, regress, pb.optim.adam(1e-2), (x, y), score, batch=128, steps=250)


def layered(seed: int, sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """A network that is a list of arrays."""
    keys = pb.random.split(pb.random.key(seed), len(sizes))
    pairs = itertools.pairwise(sizes)
    return [
        {"w": pb.random.normal(keys[i], (a, b)) / a**0.5, "b": pb.zeros(b)}
        for i, (a, b) in enumerate(pairs)
    ]


def through(model: Any, x: Any) -> Any:
    for layer in model[:-1]:
        x = pb.tanh(x @ layer["w"] + layer["b"])
    return x @ model[-1]["w"] + model[-1]["b"]


@healthy("harvest_by_hand")
def harvest_by_hand(seed: int) -> Setup:
    """A list of arrays, and a step that is written out."""
    x, y, x_valid, y_valid = tasks.harvest(seed)
    optimizer = pb.optim.sgd(0.05, momentum=0.9)

    def loss(model, x, y):
        return nn.mse(through(model, x), y)

    @pb.compile
    def step(state, x, y):
        model, memory = state
        value, grads = pb.value_and_grad(loss)(model, x, y)
        updates, memory = optimizer.update(grads, memory, model)
        return (pb.optim.apply_updates(model, updates), memory), (value, grads)

    score = data.r_squared(through, x_valid, y_valid)
    model = layered(seed, (6, 40, 40, 1))
    return Setup(model, loss, optimizer, (x, y), score, steps=400, step=step)


@healthy("harvest_heavy")
def harvest_heavy(seed: int) -> Setup:
    """Short steps and much momentum; the loss swings."""
    x, y, x_valid, y_valid = tasks.harvest(seed)
    model = nn.MLP(6, 1, 48, 1, key=pb.random.key(seed))
    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.004, momentum=0.97)
    return Setup(model, regress, optimizer, (x, y), score, batch=32, steps=800)


@healthy("harvest_gated")
def harvest_gated(seed: int) -> Setup:
    """Each hidden unit has a gate."""
    x, y, x_valid, y_valid = tasks.harvest(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = {
        "value": nn.Linear(6, 48, key=keys[0]),
        "gate": nn.Linear(6, 48, key=keys[1]),
        "head": nn.Linear(48, 1, key=keys[2]),
    }

    def predict(model, x):
        return model["head"](model["value"](x) * nn.sigmoid(model["gate"](x)))

    def loss(model, x, y):
        return nn.huber(predict(model, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.rmsprop(1e-2), (x, y), score, batch=32, steps=600)


@healthy("harvest_shaken")
def harvest_shaken(seed: int) -> Setup:
    """Weights with noise in training, other noise in each step."""
    x, y, x_valid, y_valid = tasks.harvest(seed)

    def loss(model, x, y, key):
        keys = pb.random.split(key, len(model))
        shaken = [
            {"w": p["w"] + 0.03 * pb.random.normal(k, p["w"].shape), "b": p["b"]}
            for p, k in zip(model, keys, strict=True)
        ]
        return nn.mse(through(shaken, x), y)

    score, key = data.r_squared(through, x_valid, y_valid), pb.random.key(seed + 1)
    model = layered(seed, (6, 48, 1))
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score, steps=400, key=key)


@healthy("alarms_parts")
def alarms_parts(seed: int) -> Setup:
    """Batches of 128 in four parts."""
    x, y, x_valid, y_valid = tasks.alarms(seed)
    model = nn.MLP(12, tasks.ALARMS, 64, 1, nn.elu, key=pb.random.key(seed))
    score = data.binary_accuracy(call, x_valid, y_valid)
    options = {"accumulate": 4, "clip": 1.0}
    optimizer = pb.optim.adam(1e-2)
    return Setup(model, decide, optimizer, (x, y), score, batch=128, steps=150, options=options)


@healthy("alarms_lion")
def alarms_lion(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.alarms(seed)
    model = nn.MLP(12, tasks.ALARMS, 64, 1, nn.leaky_relu, key=pb.random.key(seed))
    score = data.binary_accuracy(call, x_valid, y_valid)
    rate = pb.optim.warmup_cosine(6e-3, 20, 300)
    return Setup(model, decide, pb.optim.lion(rate, weight_decay=0.1), (x, y), score, steps=300)


@healthy("doubled_columns")
def doubled_columns(seed: int) -> Setup:
    """In training half of the columns are hidden, others in each step."""
    x, y, x_valid, y_valid = tasks.doubled(seed)
    model = nn.MLP(12, 1, 64, 1, key=pb.random.key(seed))

    def loss(model, x, y, key):
        seen = pb.random.bernoulli(key, 0.75, (12,))
        return nn.mse(model(pb.where(seen, x / 0.75, 0.0)), y)

    score, key = data.r_squared(call, x_valid, y_valid), pb.random.key(seed + 1)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score, steps=400, key=key)


@healthy("fraud_weighted")
def fraud_weighted(seed: int) -> Setup:
    """What is rare counts more."""
    x, y, x_valid, y_valid = tasks.fraud(seed)
    model = nn.MLP(8, 1, 32, 1, nn.silu, key=pb.random.key(seed))

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(model(x), y, positive_weight=8.0)

    score = tasks.balanced(call, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score, steps=200)


@healthy("calls_counted")
def calls_counted(seed: int) -> Setup:
    """Counts: exp(f) - y f, the bias at the logarithm of their mean."""
    x, y, x_valid, y_valid = tasks.calls(seed)
    model = nn.MLP(5, 1, 32, 2, nn.tanh, key=pb.random.key(seed))
    last = model.layers[-1].replace(bias=pb.full((1,), float(np.log(y.mean()))))
    model = model.replace(layers=(*model.layers[:-1], last))

    def loss(model, x, y):
        log_rate = pb.clip(model(x), 1.0, 9.0)
        return pb.mean(pb.exp(log_rate) - y * log_rate) / 100

    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score, steps=500)


# ---- images ---------------------------------------------------------------------------------


def sorter(seed: int) -> nn.Sequential:
    keys = pb.random.split(pb.random.key(seed), 3)
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, key=keys[0]),
        nn.relu,
        nn.Conv2d(12, 16, 3, key=keys[1]),
        nn.relu,
        nn.MaxPool2d(2),
        flat,
        nn.Linear(256, 4, key=keys[2]),
    )


@healthy("stamps_conv")
def stamps_conv(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.stamps(seed)
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(sorter(seed), classify, pb.optim.adam(3e-3), (x, y), score, batch=32)


@healthy("stamps_momentum")
def stamps_momentum(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.stamps(seed)
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(pb.optim.cosine(0.02, 200), momentum=0.9, weight_decay=5e-4)
    return Setup(sorter(seed), classify, optimizer, (x, y), score, batch=32)


@healthy("stamps_grouped")
def stamps_grouped(seed: int) -> Setup:
    """Blocks with group norms; the mean over the image at the end."""
    x, y, x_valid, y_valid = tasks.stamps(seed)
    keys = pb.random.split(pb.random.key(seed), 6)

    def block(i):
        return nn.ResidualBlock(
            nn.Sequential(
                nn.GroupNorm(4, 16),
                nn.relu,
                nn.Conv2d(16, 16, 3, padding=1, key=keys[i]),
                nn.GroupNorm(4, 16),
                nn.relu,
                nn.Conv2d(16, 16, 3, padding=1, key=keys[i + 1]),
            )
        )

    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1, key=keys[0]),
        block(1),
        block(3),
        nn.relu,
        lambda x: pb.mean(x, axis=(2, 3)),
        nn.Linear(16, 4, key=keys[5]),
    )
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.adamw(pb.optim.one_cycle(1e-2, 200))
    return Setup(model, classify, optimizer, (x, y), score, batch=32)


def stamper(seed: int) -> nn.Sequential:
    keys = pb.random.split(pb.random.key(seed), 3)
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, use_bias=False, key=keys[0]),
        nn.BatchNorm(12),
        nn.relu,
        nn.MaxPool2d(2),
        nn.Conv2d(12, 16, 3, use_bias=False, key=keys[1]),
        nn.BatchNorm(16),
        nn.relu,
        flat,
        nn.Linear(144, 4, key=keys[2]),
    )


@healthy("stamps_batchnorm")
def stamps_batchnorm(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.stamps(seed)
    model = stamper(seed)

    def loss(model, x, y, state):
        logits, state = model(x, state, train=True)
        return nn.cross_entropy(logits, y), state

    score = in_use(x_valid, y_valid)
    state = model.initial_state()
    optimizer = pb.optim.sgd(0.05, momentum=0.9)
    return Setup(model, loss, optimizer, (x, y), score, batch=32, network_state=state)


@healthy("stamps_fixed")
def stamps_fixed(seed: int) -> Setup:
    """The first filters are written down and frozen on purpose."""
    x, y, x_valid, y_valid = tasks.stamps(seed)
    rng = np.random.default_rng([seed, 341])
    bank = np.linalg.qr(rng.normal(size=(9, 9)))[0].reshape(9, 1, 3, 3)
    filters = np.concatenate([bank, -bank]).astype(np.float32)
    keys = pb.random.split(pb.random.key(seed), 3)
    first = nn.Conv2d(1, 18, 3, padding=1, key=keys[0]).replace(weight=pb.asarray(filters))
    model = nn.Sequential(
        first,
        nn.relu,
        nn.Conv2d(18, 16, 3, key=keys[1]),
        nn.relu,
        nn.AvgPool2d(2),
        flat,
        nn.Linear(256, 4, key=keys[2]),
    )
    model = nn.freeze(model, "layers[0]")
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, classify, pb.optim.adam(5e-3), (x, y), score, batch=32)
