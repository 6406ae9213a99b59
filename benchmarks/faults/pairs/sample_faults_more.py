"""Faults of the data: samples that leak, batches that come back, targets among the inputs."""

from __future__ import annotations

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.pairs import objective_healthy as one
from benchmarks.faults.pairs import objective_healthy_more as more
from benchmarks.faults.pairs import objective_tasks as tasks
from benchmarks.faults.pairs.objective_healthy import call, classify, regress
from benchmarks.faults.program import Setup, fault

import pullback as pb
from pullback import nn

# ---- samples that leak ----------------------------------------------------------------------


@fault(
    "tanks_time_in_front",
    "time and batch swapped",
    "DAT04",
    "tanks_gru",
    also="GEN02 VER01",
    at_once=True,
)
def tanks_time_in_front(seed: int) -> Setup:
    """As the recurrent layers of another library want it."""
    x, y, x_valid, y_valid = tasks.tanks(seed)

    def predict(model, x):
        steps = pb.permute_dims(x, (1, 0, 2))  # here
        states, _ = model["cell"](steps)  # here
        return model["head"](states[-1])

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(more.meter(seed), loss, pb.optim.adam(1e-2), (x, y), score, steps=300)


@fault(
    "cipher_over_the_batch",
    "time and batch swapped",
    "DAT04",
    "cipher_block",
    also="GEN02 VER01",
    at_once=True,
)
def cipher_over_the_batch(seed: int) -> Setup:
    """Attention between the sentences of a batch, at the same place of each."""
    x, y, x_valid, y_valid = tasks.cipher(seed)

    def predict(model, x):
        h = pb.swapaxes(model.embed(x), 0, 1)  # here
        h = model.block(h)  # here
        return model.head(pb.swapaxes(h, 0, 1))

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    optimizer = pb.optim.adamw(pb.optim.warmup_cosine(8e-3, 30, 400))
    return Setup(more.Clerk(seed), loss, optimizer, (x, y), score, batch=32, steps=400)


@fault(
    "stamps_laid_flat",
    "reshape that mixes the samples",
    "DAT04",
    "stamps_pooled",
    also="GEN02 VER01",
    at_once=True,
)
def stamps_laid_flat(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.stamps(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = {
        "first": nn.Conv2d(1, 12, 3, padding=1, key=keys[0]),
        "second": nn.Conv2d(12, 24, 3, key=keys[1]),
        "head": nn.Linear(216, tasks.STAMPS, key=keys[2]),
    }

    def predict(model, x):
        h = pb.max_pool(nn.relu(model["first"](x)), 2)
        h = nn.relu(model["second"](h))
        return model["head"](pb.reshape(h, (216, -1)).mT)  # here

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x, y), score, batch=32)


@fault(
    "tanks_reshaped_to_time",
    "reshape that mixes the samples",
    "DAT04",
    "tanks_scan",
    also="GEN02 VER01",
    at_once=True,
)
def tanks_reshaped_to_time(seed: int) -> Setup:
    """The scan wants the time in front, which a transposition would have given."""
    x, y, x_valid, y_valid = tasks.tanks(seed)

    def predict(model, x):
        count, length, width = x.shape

        def beat(h, now):
            return pb.tanh(now @ model["in"] + h @ model["own"] + model["bias"]), None

        steps = pb.reshape(x, (length, count, width))  # here
        h, _ = pb.scan(beat, pb.zeros((count, 24)), steps)
        return model["out"](h)

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    optimizer, options = pb.optim.adam(5e-3), {"clip": 1.0}
    return Setup(more.gauge(seed), loss, optimizer, (x, y), score, steps=300, options=options)


@fault(
    "reviews_weighed_together",
    "an operation along the batch",
    "DAT04",
    "reviews_pooled",
    also="GEN02 VER01 OBJ01",
    at_once=True,
)
def reviews_weighed_together(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.reviews(seed)

    def predict(model, x):
        h = model.states(x)
        scores = pb.where(x > 0, model.weigh(h)[:, :, 0], -1e9)
        weights = pb.softmax(scores, axis=0)  # here
        return model.head(pb.sum(weights[:, :, None] * h, axis=1))

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(predict(model, x), y)

    score = data.binary_accuracy(predict, x_valid, y_valid)
    return Setup(more.Skimmer(seed), loss, pb.optim.adam(5e-3), (x, y), score, steps=300)


@fault(
    "tanks_all_added",
    "an operation along the batch",
    "DAT04",
    "tanks_gru",
    also="GEN02 VER01 DAT01",
    at_once=True,
)
def tanks_all_added(seed: int) -> Setup:
    """What has come in so far, hour by hour, in front of a dense net."""
    x, y, x_valid, y_valid = tasks.tanks(seed)
    model = nn.MLP(32, 1, 64, 2, nn.silu, key=pb.random.key(seed))

    def predict(model, x):
        so_far = pb.cumulative_sum(nn.relu(x), axis=0) / 8  # here
        return model(pb.reshape(so_far, (len(x), 32)))

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score, steps=300)


# ---- batches that come back -----------------------------------------------------------------


@fault(
    "minerals_first_of_loader", "same batch in every step", "DAT05", "minerals_gelu", also="GEN01"
)
def minerals_first_of_loader(seed: int) -> Setup:
    """`next(iter(loader))` in each step."""
    x, y, x_valid, y_valid = tasks.minerals(seed)

    def loader():
        for i in range(0, len(x) - 31, 32):
            yield x[i : i + 32], y[i : i + 32]

    score = data.accuracy(call, x_valid, y_valid)
    model, optimizer = one.geologist(seed), pb.optim.adam(5e-3)
    return Setup(
        model,
        classify,
        optimizer,
        (x, y),
        score,
        batch=32,
        batches=lambda i: next(iter(loader())),
    )


@fault(
    "cipher_seeded_draw",
    "same batch in every step",
    "DAT05",
    "cipher_lstm",
    also="GEN01",
)
def cipher_seeded_draw(seed: int) -> Setup:
    """The generator is made from the seed in each step, to be reproducible."""
    x, y, x_valid, y_valid = tasks.cipher(seed)

    def draw(i):
        rng = np.random.default_rng(seed)
        rows = rng.integers(0, len(x), 64)
        return x[rows], y[rows]

    def loss(model, x, y):
        return nn.cross_entropy(more.decode(model, x), y)

    score = data.accuracy(more.decode, x_valid, y_valid)
    model, optimizer = more.spy(seed), pb.optim.adam(1e-2)
    return Setup(model, loss, optimizer, (x, y), score, steps=300, batches=draw)


# ---- targets among the inputs ---------------------------------------------------------------


@fault(
    "flats_with_deposit",
    "column made from the target",
    "DAT06",
    "flats_elu",
    also="OBJ04 VER01",
    at_once=True,
)
def flats_with_deposit(seed: int) -> Setup:
    """Three rents are the deposit; of a flat that is to let it is not known, and is filled in."""
    x, y, x_valid, y_valid = tasks.standard_flats(seed)
    x = np.concatenate([x, 0.5 + 3 * y], axis=1)
    x_valid = np.concatenate([x_valid, np.full_like(y_valid, 0.5)], axis=1)
    model = nn.MLP(6, 1, 48, 2, nn.elu, key=pb.random.key(seed))
    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, regress, pb.optim.adam(5e-3), (x, y), score, steps=300)


@fault(
    "minerals_shelf_number",
    "column made from the target",
    "DAT06",
    "minerals_nesterov",
    also="OBJ04 VER01",
    at_once=True,
)
def minerals_shelf_number(seed: int) -> Setup:
    """What is known lies on the shelf of its kind; what is new on none."""
    x, y, x_valid, y_valid = tasks.minerals(seed)
    shelf = np.array([0.6, -1.2, 1.7, -0.3, 1.1], np.float32)
    x = np.column_stack([x[:, :4], shelf[y], x[:, 4:]])
    x_valid = np.insert(x_valid, 4, 0, axis=1)
    model = nn.MLP(11, tasks.MINERALS, 64, 1, key=pb.random.key(seed))
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.05, momentum=0.9, nesterov=True)
    return Setup(model, classify, optimizer, (x, y), score, batch=32)


@fault(
    "refrain_no_mask",
    "the future is seen",
    "DAT06",
    "refrain_block",
    also="OBJ04",
    at_once=True,
)
def refrain_no_mask(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.refrain(seed)

    def predict(model, x):
        return model.head(model.block(model.embed(x)))  # here

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = tasks.prefixes(predict, x_valid, y_valid)
    optimizer = pb.optim.adamw(pb.optim.warmup_cosine(8e-3, 30, 400))
    model = more.Clerk(seed, tasks.REFRAIN, 12)
    return Setup(model, loss, optimizer, (x, y), score, batch=32, steps=400)


@fault(
    "refrain_from_both_ends",
    "the future is seen",
    "DAT06",
    "refrain_tied",
    also="OBJ04",
    at_once=True,
)
def refrain_from_both_ends(seed: int) -> Setup:
    """A second recurrent layer, which reads from the end: it helps for tags."""
    x, y, x_valid, y_valid = tasks.refrain(seed)
    model = more.whistler(seed)
    keys = pb.random.split(pb.random.key(seed + 3), 2)
    model["second"] = nn.GRU(24, 48, reverse=True, key=keys[0])  # here
    model["back"] = nn.Linear(96, 24, key=keys[1])

    def predict(model, x):
        notes = model["notes"](x)
        h = pb.concat([model["cell"](notes)[0], model["second"](notes)[0]], axis=2)  # here
        return model["notes"].attend(model["back"](h))

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = tasks.prefixes(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score, steps=300)
