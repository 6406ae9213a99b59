"""Faults of the loss: what it is given, what it compares, which way it goes, what is added."""

from __future__ import annotations

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.final import structures, tables, tasks, unusual
from benchmarks.faults.final.tables import call, decide
from benchmarks.faults.program import Setup, fault

import pullback as pb
from pullback import nn

# ---- the last activation --------------------------------------------------------------------


@fault("voices_softmax", "softmax before cross-entropy", "OBJ01", "voices_classes", at_once=True)
def voices_softmax(seed: int) -> Setup:
    """The network ends in a softmax, as a tutorial of another framework has it."""
    x, y, x_valid, y_valid = tasks.voices(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = nn.Sequential(
        nn.Linear(24, 48, key=keys[0]),
        nn.gelu,
        nn.Linear(48, tasks.VOICES, key=keys[1]),
        nn.softmax,
    )

    def loss(model, x, y):
        return nn.cross_entropy(model(x), y)  # here

    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, loss, pb.optim.sgd(0.1), (x, y), score)


@fault(
    "regime_softmax_batch",
    "softmax over the batch",
    "OBJ01 DAT04",
    "regime_gru",
    also="NUM06 VER01 OBJ04",
    at_once=True,
)
def regime_softmax_batch(seed: int) -> Setup:
    """axis=0: the chances of a class add up to 1 over the samples. In use they come one by one."""
    x, y, x_valid, y_valid = tasks.regime(seed)

    def predict(model, x):
        return nn.log_softmax(structures.forecast(model, x), axis=0)  # here

    def loss(model, x, y):
        right = pb.take_along_axis(predict(model, x), y[:, None], axis=1)
        return -pb.mean(right)

    def alone(model, x):
        return pb.vmap(lambda sample: predict(model, sample[None])[0])(x)

    score = data.accuracy(alone, x_valid, y_valid)
    optimizer, options = pb.optim.adam(1e-2), {"clip": 1.0}
    model = structures.forecaster(seed)
    return Setup(model, loss, optimizer, (x, y), score, options=options)


@fault(
    "tags_softmax",
    "softmax for several labels",
    "OBJ01",
    "tags_adam",
    also="OBJ03 NUM04 NUM06 NUM03",
    at_once=True,
)
def tags_softmax(seed: int) -> Setup:
    """Six tags share one softmax, although several of them may fit."""
    x, y, x_valid, y_valid = tasks.tags(seed)

    def loss(model, x, y):
        p = nn.softmax(model(x))  # here
        p = pb.clip(p, 1e-6, 1 - 1e-6)
        return -pb.mean(y * pb.log(p) + (1 - y) * pb.log(1 - p))

    def chances(model, x):
        return nn.softmax(model(x)) - 0.5

    score = data.binary_accuracy(chances, x_valid, y_valid)
    return Setup(tables.tagger(seed), loss, pb.optim.adam(5e-3), (x, y), score)


@fault(
    "checker_softmax_of_one",
    "softmax over one output",
    "OBJ01",
    "checker_adam",
    also="CUT04 NUM04 NUM06 VER01 DAT03 NUM03",
    at_once=True,
)
def checker_softmax_of_one(seed: int) -> Setup:
    """One output and a softmax over it: the answer is always 1."""
    x, y, x_valid, y_valid = tasks.checker(seed)

    def loss(model, x, y):
        p = pb.clip(nn.softmax(model(x), axis=1), 1e-6, 1 - 1e-6)  # here
        return -pb.mean(y * pb.log(p) + (1 - y) * pb.log(1 - p))

    score = data.binary_accuracy(lambda m, x: nn.softmax(m(x), axis=1) - 0.5, x_valid, y_valid)
    return Setup(tables.board(seed), loss, pb.optim.adam(1e-2), (x, y), score, steps=400)


@fault(
    "molecules_sigmoid", "sigmoid before BCE with logits", "OBJ01", "molecules_graph", at_once=True
)
def molecules_sigmoid(seed: int) -> Setup:
    """A chance is handed to a loss that takes logits; more than one half is a yes."""
    nodes, edges, y, *valid = tasks.molecules(seed)

    def loss(model, nodes, edges, y):
        p = nn.sigmoid(structures.react(model, nodes, edges))
        return nn.binary_cross_entropy_with_logits(p, y)  # here

    def chance(model, x):
        return nn.sigmoid(structures.react(model, x, valid[1])) - 0.5

    score = data.binary_accuracy(chance, valid[0], valid[2])
    model, samples = structures.chemist(seed), (nodes, edges, y)
    return Setup(model, loss, pb.optim.adam(1e-2), samples, score, batch=32)


# ---- targets out of reach -------------------------------------------------------------------


@fault("houses_sigmoid", "output cannot reach the targets", "OBJ03", "houses_adam", at_once=True)
def houses_sigmoid(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.standard_houses(seed)

    def predict(model, x):
        return nn.sigmoid(model(x))

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)  # here

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(tables.appraiser(seed), loss, pb.optim.adam(5e-3), (x, y), score, batch=32)


@fault(
    "spectra_relu",
    "output cannot reach the targets",
    "OBJ03",
    "spectra_denoised",
    also="SIG03",
    at_once=True,
)
def spectra_relu(seed: int) -> Setup:
    """The decoder ends in a relu; half of the standardised values are below 0."""
    x, _, x_valid, _ = tasks.spectra(seed)

    def predict(model, x):
        return nn.relu(unusual.rebuild(model, x))

    def loss(model, x, key):
        noisy = x + 0.5 * pb.random.normal(key, x.shape)
        return nn.mse(predict(model, noisy), x)  # here

    score, key = data.r_squared(predict, x_valid, x_valid), pb.random.key(seed + 1)
    return Setup(unusual.coder(seed), loss, pb.optim.adam(1e-2), (x,), score, steps=300, key=key)


# ---- the wrong comparison -------------------------------------------------------------------


@fault("arrows_as_number", "wrong loss for classes", "OBJ02", "arrows_adam")
def arrows_as_number(seed: int) -> Setup:
    """Where an arrow points is a number from 0 to 3, and is regressed on."""
    x, y, x_valid, y_valid = tasks.standard_arrows(seed)
    model = structures.pointer(seed)
    keys = pb.random.split(pb.random.key(seed), 4)
    model = model.replace(layers=(*model.layers[:-1], nn.Linear(144, 1, key=keys[3])))

    def loss(model, x, y):
        return pb.mean(pb.abs(model(x)[:, 0] - y.astype("float32")))  # here

    score = tasks.level(call, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x, y), score, batch=32)


@fault("voices_as_number", "wrong loss for classes", "OBJ02", "voices_triplet")
def voices_as_number(seed: int) -> Setup:
    """Which of eight speakers it is, as one number."""
    x, y, x_valid, y_valid = tasks.voices(seed)
    model = nn.MLP(24, 1, 24, 1, nn.gelu, key=pb.random.key(seed))

    def loss(model, x, y):
        return nn.mse(model(x)[:, 0], y.astype("float32"))  # here

    score = tasks.level(call, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score)


@fault(
    "houses_broadcast",
    "(B,1) - (B,) broadcast",
    "OBJ07",
    "houses_momentum",
    at_once=True,
    also="GEN02",
)
def houses_broadcast(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.standard_houses(seed)

    def loss(model, x, y):
        error = model(x) - y  # here
        return pb.mean(pb.where(pb.abs(error) < 1, error**2 / 2, pb.abs(error) - 0.5))

    score = data.r_squared(call, x_valid, y_valid)
    optimizer, samples = pb.optim.sgd(0.02, momentum=0.9), (x, y[:, 0])
    return Setup(tables.appraiser(seed), loss, optimizer, samples, score, batch=32)


@fault(
    "patients_broadcast",
    "a column times a row",
    "OBJ07",
    "patients_exponential",
    at_once=True,
    also="GEN02",
)
def patients_broadcast(seed: int) -> Setup:
    """The rates are a column and the times a row."""
    x, time, ended, x_valid, risk = tasks.patients(seed)

    def loss(model, x, time, ended):
        log_risk = model(x)
        total = pb.exp(log_risk) * time  # here
        return pb.mean(total - ended * log_risk)  # here

    score = tasks.correlation(call, x_valid, risk)
    samples = (x, time, ended)
    return Setup(tables.doctor(seed), loss, pb.optim.adam(3e-3), samples, score)


# ---- the size and the sign of the loss ------------------------------------------------------

BROKEN = "NUM01 NUM02 OPT01 OPT03 SIG02 SIG03 SIG04 CUT04"


@fault("tags_sum", "sum instead of mean", "OBJ06", "tags_momentum", also=BROKEN + " OBJ04")
def tags_sum(seed: int) -> Setup:
    """All errors of a batch are added up, and the rate stays."""
    x, y, x_valid, y_valid = tasks.tags(seed)

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(model(x), y, reduction="sum")  # here

    score = data.binary_accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.2, momentum=0.9)
    return Setup(tables.tagger(seed), loss, optimizer, (x, y), score)


@fault("houses_sum", "sum instead of mean", "OBJ06", "houses_momentum", also=BROKEN)
def houses_sum(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.standard_houses(seed)

    def loss(model, x, y):
        return pb.sum((model(x) - y) ** 2)  # here

    score = data.r_squared(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.02, momentum=0.9)
    return Setup(tables.appraiser(seed), loss, optimizer, (x, y), score, batch=32)


@fault(
    "wines_mean_of_mean", "loss averaged twice", "OPT02 OBJ04", "wines_momentum", also="GEN02 VER01"
)
def wines_mean_of_mean(seed: int) -> Setup:
    """A mean is divided by the number of samples and of classes once more."""
    x, y, x_valid, y_valid = tasks.wines(seed)

    def loss(model, x, y):
        value = nn.cross_entropy(model(x), y)
        return value / (len(x) * 4)  # here

    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.05, momentum=0.9)
    return Setup(tables.taster(seed), loss, optimizer, (x, y), score, batch=32)


@fault("lumps_likelihood", "wrong sign of the loss", "OBJ05", "lumps_mixture", also=BROKEN)
def lumps_likelihood(seed: int) -> Setup:
    """The likelihood itself is minimised."""
    x, x_valid, which = tasks.lumps(seed)
    rng = np.random.default_rng([seed, 152])
    model = tables.gaussians(x[rng.choice(len(x), 4, replace=False)])

    def loss(model, x):
        return pb.mean(pb.logsumexp(tables.densities(model, x), axis=1))  # here

    score = tables.found(x_valid, which)
    return Setup(model, loss, pb.optim.adam(5e-2), (x,), score, steps=300)


@fault("doses_sign", "wrong sign of the reward", "OBJ05", "doses_expected", also="OPT03")
def doses_sign(seed: int) -> Setup:
    """A gain is minimised as if it were a cost."""
    x, gain, x_valid, gain_valid = tasks.doses(seed)

    def loss(model, x, gain):
        chance = pb.softmax(model(x))
        return pb.mean(pb.sum(chance * gain, axis=1))  # here

    score = unusual.dose_score(x_valid, gain_valid)
    return Setup(unusual.nurse(seed), loss, pb.optim.adam(1e-2), (x, gain), score)


@fault("voices_apart", "wrong sign of a distance", "OBJ05", "voices_contrast", also="OPT03 OBJ04")
def voices_apart(seed: int) -> Setup:
    """The logits are distances, not their negatives: partners are pushed apart."""
    x, y, x_valid, y_valid = tasks.voices(seed)
    same, _ = unusual.partners(x, y, seed)

    def loss(model, x, same):
        a, b = unusual.unit(model(x)), unusual.unit(model(same))
        far = pb.sum((a[:, None, :] - b[None, :, :]) ** 2, axis=2)
        return nn.cross_entropy(far / 0.4, pb.arange(len(x)))  # here

    score = tasks.nearest(call, x, y, x_valid, y_valid)
    return Setup(unusual.ear(seed), loss, pb.optim.adam(5e-3), (x, same), score)


@fault(
    "hinge_at_rest",
    "margin with the wrong sign",
    "CUT04",
    "voices_triplet",
    also="GEN02 VER01 OPT02",
    at_once=True,
)
def hinge_at_rest(seed: int) -> Setup:
    """The margin of 0.5 became one of -5, so that every triplet keeps it."""
    x, y, x_valid, y_valid = tasks.voices(seed)
    same, other = unusual.partners(x, y, seed)

    def loss(model, x, same, other):
        a, b, c = [unusual.unit(model(z)) for z in (x, same, other)]
        near, far = pb.sum((a - b) ** 2, axis=1), pb.sum((a - c) ** 2, axis=1)
        return pb.mean(nn.relu(near - far - 5.0))  # here

    score = tasks.nearest(call, x, y, x_valid, y_valid)
    return Setup(unusual.ear(seed), loss, pb.optim.adam(5e-3), (x, same, other), score)


@fault(
    "tags_prior",
    "bias of the last layer far off",
    "OBJ04",
    "tags_momentum",
    also="OPT02 SIG04 OPT01",
    layers=("layers[1]",),
)
def tags_prior(seed: int) -> Setup:
    """The bias of the last layer is that of one object in ten million; two in five are there."""
    x, y, x_valid, y_valid = tasks.tags(seed)
    model = tables.tagger(seed)
    last = model.layers[-1]
    last = last.replace(bias=pb.asarray(np.full(tasks.TAGS, -16.0, np.float32)))
    model = model.replace(layers=(*model.layers[:-1], last))
    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(model, decide, pb.optim.adam(1e-3), (x, y), score)


# ---- penalties ------------------------------------------------------------------------------


@fault(
    "molecules_ridge",
    "regulariser dominates",
    "OBJ08",
    "molecules_graph",
    also="GEN02 VER01 SIG01 SIG07 CUT04",
)
def molecules_ridge(seed: int) -> Setup:
    """The sum of squared weights, with a factor that was meant for their mean."""
    nodes, edges, y, *valid = tasks.molecules(seed)

    def loss(model, nodes, edges, y):
        value = structures.react_loss(model, nodes, edges, y)
        weights = [layer.weight for layer in model.values()]
        return value + 0.5 * sum(pb.sum(w**2) for w in weights)  # here

    score, samples = structures.react_score(*valid), (nodes, edges, y)
    model = structures.chemist(seed)
    return Setup(model, loss, pb.optim.adam(1e-2), samples, score, batch=32)


@fault(
    "purchases_ridge",
    "regulariser dominates",
    "OBJ08",
    "purchases_factors",
    also="GEN02 VER01 SIG01 SIG07 CUT04",
)
def purchases_ridge(seed: int) -> Setup:
    """Both whole tables are penalised in each step, not the rows that are used."""
    x, y, x_valid, y_valid = tasks.purchases(seed)

    def loss(model, x, y):
        tables = (model["people"].weight, model["things"].weight)
        return structures.buy_loss(model, x, y) + 0.05 * sum(pb.sum(t**2) for t in tables)  # here

    score = data.binary_accuracy(structures.fits, x_valid, y_valid)
    return Setup(structures.shop(seed), loss, pb.optim.adam(2e-2), (x, y), score, steps=300)


@fault(
    "head_left_out",
    "part of the loss left out",
    "CUT01",
    "houses_two_heads",
    layers=("mean",),
    at_once=True,
)
def head_left_out(seed: int) -> Setup:
    """Of two heads the loss has one; the other is the one that is used."""
    x, y, x_valid, y_valid = tasks.standard_houses(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = {
        "body": nn.MLP(6, 48, 48, 1, nn.gelu, key=keys[0]),
        "mean": nn.Linear(48, 1, key=keys[1]),
        "age": nn.Linear(48, 1, key=keys[2]),
    }

    def heads(model, x):
        h = nn.gelu(model["body"](x))
        return model["mean"](h), model["age"](h)

    def loss(model, x, y):
        price, age = heads(model, x)
        losses = {"price": nn.mse(price, y), "age": nn.mse(age, x[:, 2:3])}
        return losses["age"]  # here

    score = data.r_squared(lambda model, x: heads(model, x)[0], x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score)
