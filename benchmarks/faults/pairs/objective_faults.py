"""Faults of the objective: the last activation, the kind of loss, the range of the output."""

from __future__ import annotations

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.pairs import objective_healthy as one
from benchmarks.faults.pairs import objective_healthy_more as more
from benchmarks.faults.pairs import objective_tasks as tasks
from benchmarks.faults.pairs.objective_healthy import call, classify, decide, regress
from benchmarks.faults.program import Setup, fault

import pullback as pb
from pullback import nn

SLOW = "VER01 GEN02 SIG01"
HELD = "VER01 GEN02 SIG01 SIG03 SIG04 CUT04"

# ---- the last activation --------------------------------------------------------------------


@fault(
    "letters_sure",
    "softmax before cross_entropy",
    "OBJ01",
    "letters_sgd",
    also=SLOW + " OPT02",
    at_once=True,
)
def letters_sure(seed: int) -> Setup:
    """The network ends in probabilities, as it would in a drawing of it."""
    x, y, x_valid, y_valid = tasks.letters(seed)
    body = one.typist(seed)
    model = nn.Sequential(*body.layers, lambda z: pb.softmax(z, axis=1))  # here
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, classify, pb.optim.sgd(0.2), (x, y), score, batch=32)


@fault(
    "album_of_shares",
    "softmax before cross_entropy",
    "OBJ01",
    "stamps_residual",
    also=SLOW + " OPT02",
    at_once=True,
)
def album_of_shares(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.stamps(seed)

    def probabilities(model, x):
        z = model(x)
        e = pb.exp(z - pb.max(z, axis=-1, keepdims=True))
        return e / pb.sum(e, axis=-1, keepdims=True)

    def loss(model, x, y):
        p = probabilities(model, x)
        return nn.cross_entropy(p, y)  # here

    score = data.accuracy(probabilities, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.05, momentum=0.9)
    return Setup(
        one.album(seed), loss, optimizer, (x, y), score, batch=32, steps=150, precision="bf16"
    )


@fault(
    "symptoms_squeezed",
    "sigmoid before a loss that has its own",
    "OBJ01",
    "symptoms_silu",
    also=SLOW,
    at_once=True,
)
def symptoms_squeezed(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.symptoms(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = nn.Sequential(
        nn.MLP(12, 64, 64, 1, nn.silu, key=keys[0]),
        nn.silu,
        nn.Linear(64, tasks.SYMPTOMS, key=keys[1]),
        nn.sigmoid,  # here
    )
    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(model, decide, pb.optim.adam(5e-3), (x, y), score)


@fault(
    "critic_between_0_and_1",
    "sigmoid before a loss that has its own",
    "OBJ01",
    "reviews_gru",
    also=SLOW,
    at_once=True,
)
def critic_between_0_and_1(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.reviews(seed)

    def predict(model, words):
        states, _ = model["cell"](model["words"](words))
        return 1 / (1 + pb.exp(-model["head"](states[:, -1])))  # here

    def loss(model, words, target):
        out = predict(model, words)
        return nn.binary_cross_entropy_with_logits(out, target)  # here

    score = data.binary_accuracy(predict, x_valid, y_valid)
    optimizer, options = pb.optim.adam(1e-2), {"clip": 1.0}
    return Setup(more.critic(seed), loss, optimizer, (x, y), score, steps=300, options=options)


@fault(
    "defects_one_column",
    "softmax over a single output",
    "OBJ01",
    "defects_adamw",
    also=HELD,
    at_once=True,
)
def defects_one_column(seed: int) -> Setup:
    """Probability of a defect, by a squared error (Brier's score)."""
    x, y, x_valid, y_valid = tasks.defects(seed)

    def predict(model, x):
        return pb.softmax(model(x), axis=1)  # here

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)

    score = tasks.threshold(predict, x_valid, y_valid)
    return Setup(one.inspector(seed), loss, pb.optim.adamw(3e-3), (x, y), score, steps=300)


@fault(
    "reviews_share_of_one",
    "softmax over a single output",
    "OBJ01",
    "reviews_gru",
    also=HELD + " NUM04 NUM06",
    at_once=True,
)
def reviews_share_of_one(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.reviews(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = {
        "words": nn.Embedding(tasks.REVIEW_WORDS, 16, key=keys[0], initializer=nn.init.normal),
        "cell": nn.LSTM(16, 32, key=keys[1]),
        "head": nn.Sequential(nn.Linear(32, 1, key=keys[2]), nn.softmax),  # here
    }

    def loss(model, x, y):
        p = pb.clip(more.judge(model, x), 1e-6, 1 - 1e-6)
        return -pb.mean(y * pb.log(p) + (1 - y) * pb.log(1 - p))

    score = tasks.threshold(more.judge, x_valid, y_valid)
    optimizer, options = pb.optim.adam(1e-2), {"clip": 1.0}
    return Setup(model, loss, optimizer, (x, y), score, steps=300, options=options)


@fault(
    "stamps_down_the_column",
    "softmax over the wrong axis",
    "OBJ01 DAT04",
    "stamps_pooled",
    also=SLOW,
    at_once=True,
)
def stamps_down_the_column(seed: int) -> Setup:
    """Brier's score of several classes."""
    x, y, x_valid, y_valid = tasks.stamps(seed)

    def loss(model, x, y):
        p = pb.softmax(model(x), axis=0)  # here
        return pb.mean((p - pb.one_hot(y, tasks.STAMPS)) ** 2)

    score = data.accuracy(call, x_valid, y_valid)
    return Setup(one.philatelist(seed), loss, pb.optim.adam(3e-3), (x, y), score, batch=32)


@fault(
    "letters_rows_and_columns",
    "softmax over the wrong axis",
    "OBJ01 DAT04",
    "letters_prototypes",
    also=SLOW,
    at_once=True,
)
def letters_rows_and_columns(seed: int) -> Setup:
    """Distances are laid out as classes by samples in the user's mind, but not in the array."""
    x, y, x_valid, y_valid = tasks.letters(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {
        "body": nn.MLP(16, 12, 64, 1, pb.tanh, key=keys[0]),
        "centres": pb.random.normal(keys[1], (tasks.LETTERS, 12)),
    }

    def nearness(model, x):
        return -pb.sum((model["body"](x)[:, None, :] - model["centres"]) ** 2, axis=2)

    def loss(model, x, y):
        z = nearness(model, x)
        log_p = z - pb.logsumexp(z, axis=0)  # here
        return -pb.mean(pb.take_along_axis(log_p, y[:, None], axis=1))

    score = data.accuracy(nearness, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score)


@fault(
    "letters_not_negative",
    "relu on the logits",
    "OBJ01",
    "letters_sgd",
    also=HELD,
    at_once=True,
)
def letters_not_negative(seed: int) -> Setup:
    """An activation after every layer, the last one included."""
    x, y, x_valid, y_valid = tasks.letters(seed)
    layers = []
    sizes = (16, 96, tasks.LETTERS)
    keys = pb.random.split(pb.random.key(seed), 2)
    for i in range(2):
        layers.append(nn.Linear(sizes[i], sizes[i + 1], key=keys[i], initializer=nn.init.he_normal))
        layers.append(nn.relu)  # here
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(nn.Sequential(layers), classify, pb.optim.sgd(0.2), (x, y), score, batch=32)


@fault(
    "stamps_held",
    "relu on the logits",
    "OBJ01",
    "stamps_pooled",
    also=HELD,
    at_once=True,
)
def stamps_held(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.stamps(seed)

    def loss(model, x, y):
        evidence = pb.maximum(model(x), 0.0)  # here
        return nn.cross_entropy(evidence, y)

    def predict(model, x):
        return pb.maximum(model(x), 0.0)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(one.philatelist(seed), loss, pb.optim.adam(3e-3), (x, y), score, batch=32)


# ---- classes as numbers ---------------------------------------------------------------------


@fault(
    "minerals_numbered",
    "squared error on the numbers of classes",
    "OBJ02",
    "minerals_gelu",
    also="GEN02",
    at_once=True,
)
def minerals_numbered(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.minerals(seed)
    model = nn.MLP(10, 1, 48, 2, nn.gelu, key=pb.random.key(seed))
    y = y.astype(np.float32)[:, None]
    score = tasks.rounded(call, x_valid, y_valid)

    def loss(model, x, y):
        return nn.mse(model(x), y)  # here

    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score, batch=32)


@fault(
    "stamps_on_a_line",
    "squared error on the numbers of classes",
    "OBJ02",
    "stamps_pooled",
    also="GEN02",
    at_once=True,
)
def stamps_on_a_line(seed: int) -> Setup:
    """Which stamp it is, to be read off a single unit."""
    x, y, x_valid, y_valid = tasks.stamps(seed)
    body = one.philatelist(seed)
    model = nn.Sequential(*body.layers[:-1], nn.Linear(216, 1, key=pb.random.key(seed + 9)))

    def predict(model, x):
        return model(x)[:, 0]

    def loss(model, x, y):
        off = predict(model, x) - y.astype("float32")  # here
        return pb.mean(pb.abs(off))  # here

    score = tasks.rounded(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x, y), score, batch=32)


# ---- out of reach ---------------------------------------------------------------------------


@fault(
    "contours_sigmoid",
    "output squeezed into an interval that the targets leave",
    "OBJ03",
    "contours_code",
    also=HELD,
    at_once=True,
)
def contours_sigmoid(seed: int) -> Setup:
    """A decoder for pixels, and contours that are standardised."""
    x, _, x_valid, _ = tasks.contours(seed)

    def predict(model, x):
        return nn.sigmoid(one.retrace(model, x))  # here

    def loss(model, x):
        return nn.mse(predict(model, x), x)

    score = data.r_squared(predict, x_valid, x_valid)
    return Setup(one.tracer(seed), loss, pb.optim.adam(5e-3), (x,), score, steps=300)


@fault(
    "flats_tanh",
    "output squeezed into an interval that the targets leave",
    "OBJ03",
    "flats_elu",
    also=HELD,
    at_once=True,
)
def flats_tanh(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.standard_flats(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = nn.Sequential(
        nn.Linear(5, 48, key=keys[0]),
        pb.tanh,
        nn.Linear(48, 48, key=keys[1]),
        pb.tanh,
        nn.Linear(48, 1, key=keys[2]),
        pb.tanh,  # here
    )
    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, regress, pb.optim.adam(5e-3), (x, y), score, steps=300)


@fault(
    "tank_never_below",
    "relu on an output with negative targets",
    "OBJ03",
    "tanks_scan",
    also=HELD,
    at_once=True,
)
def tank_never_below(seed: int) -> Setup:
    """A level is not negative, but these are standardised."""
    x, y, x_valid, y_valid = tasks.tanks(seed)

    def predict(model, x):
        return nn.relu(more.fill(model, x))  # here

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    optimizer, options = pb.optim.adam(5e-3), {"clip": 1.0}
    return Setup(more.gauge(seed), loss, optimizer, (x, y), score, steps=300, options=options)


@fault(
    "mortar_positive_part",
    "relu on an output with negative targets",
    "OBJ03",
    "mortar_lion",
    also=HELD,
    at_once=True,
)
def mortar_positive_part(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.mortar(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    sizes = [6, 48, 48, 1]
    parts = []
    for i, key in enumerate(keys):
        parts += [nn.Linear(sizes[i], sizes[i + 1], key=key), nn.relu]  # here
    model = nn.Sequential(*parts)

    def loss(model, x, y):
        return nn.huber(model(x), y)

    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.lion(pb.optim.cosine(2e-3, 400))
    return Setup(model, loss, optimizer, (x, y), score, steps=400)


@fault(
    "reviews_one_and_two",
    "binary targets that are not 0 and 1",
    "OBJ03",
    "reviews_pooled",
    also="GEN02 OPT03",
    at_once=True,
)
def reviews_one_and_two(seed: int) -> Setup:
    """The labels are counted from 1."""
    x, y, x_valid, y_valid = tasks.reviews(seed)
    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(more.Skimmer(seed), decide, pb.optim.adam(5e-3), (x, y + 1), score, steps=300)


@fault(
    "symptoms_in_percent",
    "binary targets that are not 0 and 1",
    "OBJ03",
    "symptoms_silu",
    also="GEN02 OPT03 OBJ04 DAT01",
    at_once=True,
)
def symptoms_in_percent(seed: int) -> Setup:
    """An illness is 100 or 0, as the doctors wrote it."""
    x, y, x_valid, y_valid = tasks.symptoms(seed)

    def loss(model, x, y):
        z = model(x)
        return pb.mean(nn.softplus(z) - y * z)

    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(one.doctor(seed), loss, pb.optim.adam(5e-3), (x, 100 * y), score)
