"""Faults of the way back: cuts, parts that are frozen or left out, derivatives by hand."""

from __future__ import annotations

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.final import structures, tables, tasks, unusual
from benchmarks.faults.final.tables import call, classify
from benchmarks.faults.final.unusual import tree_map
from benchmarks.faults.program import Setup, fault

import pullback as pb
from pullback import nn

# ---- cuts -----------------------------------------------------------------------------------


@fault(
    "student_stopped",
    "stop_gradient misplaced",
    "CUT01",
    "wines_taught",
    at_once=True,
    also="GEN02",
)
def student_stopped(seed: int) -> Setup:
    """The student is held fixed in place of the teacher."""
    x, y, x_valid, y_valid = tasks.wines(seed)

    def loss(model, x, logits):
        soft = pb.softmax(logits / 3)
        own = pb.stop_gradient(nn.log_softmax(model(x) / 3))  # here
        return 9 * pb.mean(pb.sum(soft * (nn.log_softmax(logits / 3) - own), axis=1))

    score = data.accuracy(call, x_valid, y_valid)
    samples = (x, unusual.teacher(x, y, seed))
    return Setup(tables.taster(seed), loss, pb.optim.adam(3e-3), samples, score, batch=32)


@fault("adapted_stopped", "meta-gradient cut", "CUT01", "waves_maml", at_once=True, also="GEN02")
def adapted_stopped(seed: int) -> Setup:
    """The adapted model is detached: the one that it began at has no part in the loss."""
    samples, score = unusual.wave_data(seed)

    def loss(model, x, y, x_new, y_new):
        def one(x, y, x_new, y_new):
            after = unusual.adapted(model, x, y)
            after = pb.stop_gradient(after)  # here
            return nn.mse(after(x_new), y_new)

        return pb.mean(pb.vmap(one)(x, y, x_new, y_new))

    optimizer = pb.optim.adam(5e-3)
    return Setup(unusual.surfer(seed), loss, optimizer, samples, score, batch=16, steps=700)


@fault(
    "codes_only",
    "quantisation without a straight-through",
    "CUT01",
    "bars_codebook",
    layers=("encoder",),
    at_once=True,
)
def codes_only(seed: int) -> Setup:
    """The index of the nearest code is all that the decoder has of the encoder."""
    x, _, x_valid, _ = tasks.bars(seed)
    model = unusual.book(seed)
    start = np.random.default_rng([seed, 171]).normal(0, 0.02, (unusual.CODES, 4))
    model["codes"] = pb.asarray(start.astype(np.float32))

    def loss(model, x):
        z = model["encoder"](x)
        far = pb.sum((z[:, None, :] - model["codes"]) ** 2, axis=2)
        code = pb.take(model["codes"], pb.argmin(far, axis=1), axis=0)  # here
        return nn.binary_cross_entropy_with_logits(model["decoder"](code), x)

    score = data.binary_accuracy(unusual.look_up, x_valid, x_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x,), score, steps=400)


@fault(
    "dose_drawn",
    "sample without its probability",
    "CUT01",
    "doses_reinforce",
    at_once=True,
    also="GEN02",
)
def dose_drawn(seed: int) -> Setup:
    """The reward of a dose that was drawn, without the logarithm of its chance."""
    x, gain, x_valid, gain_valid = tasks.doses(seed)

    def loss(model, x, gain, key):
        tried = pb.random.categorical(key, model(x))  # here
        return -pb.mean(pb.take_along_axis(gain, tried[:, None], axis=1))

    score, key = unusual.dose_score(x_valid, gain_valid), pb.random.key(seed + 1)
    optimizer = pb.optim.adam(1e-2)
    return Setup(unusual.nurse(seed), loss, optimizer, (x, gain), score, steps=300, key=key)


@fault("ranks_compared", "ranks in the loss", "CUT01", "grades_number", at_once=True)
def ranks_compared(seed: int) -> Setup:
    """The ranks of the outputs in the batch should be those of the targets."""
    x, y, x_valid, y_valid = tasks.grades(seed)
    truth = y_valid.astype(np.float32)[:, None]
    model = nn.MLP(8, 1, 64, 2, nn.gelu, key=pb.random.key(seed))

    def ranks(z):
        return pb.argsort(pb.argsort(z)).astype("float32") / 64  # here

    def loss(model, x, y):
        return nn.mse(ranks(model(x)[:, 0]), ranks(y))

    score = data.r_squared(call, x_valid, truth)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y.astype(np.float32)), score)


@fault(
    "first_layer_read",
    "result of a layer not used",
    "CUT01",
    "molecules_graph",
    layers=("own2", "near2"),
    at_once=True,
)
def first_layer_read(seed: int) -> Setup:
    """What the second layer gives has a new name, and the old one is read; edges never count."""
    nodes, edges, y, *valid = tasks.molecules(seed)

    def predict(model, nodes, edges):
        h = nn.relu(model["own1"](nodes))
        out = nn.relu(model["own2"](h) + model["near2"](edges @ h))
        del out
        return model["head"](pb.max(h, axis=1))  # here

    def loss(model, nodes, edges, y):
        return nn.binary_cross_entropy_with_logits(predict(model, nodes, edges), y)

    score = data.binary_accuracy(lambda m, x: predict(m, x, valid[1]), valid[0], valid[2])
    model = structures.chemist(seed)
    del model["near1"]
    return Setup(model, loss, pb.optim.adam(1e-2), (nodes, edges, y), score, batch=32)


@fault(
    "levels_as_integers",
    "integer cast",
    "CUT01",
    "spectra_denoised",
    layers=("encoder",),
    at_once=True,
)
def levels_as_integers(seed: int) -> Setup:
    """The code is stored in small integers, and read again."""
    x, _, x_valid, _ = tasks.spectra(seed)

    def predict(model, x):
        code = pb.clip(model["encoder"](x), -3.0, 3.0).astype("int8")  # here
        return model["decoder"](code.astype("float32"))

    def loss(model, x, key):
        return nn.mse(predict(model, x + 0.5 * pb.random.normal(key, x.shape)), x)

    score, key = data.r_squared(predict, x_valid, x_valid), pb.random.key(seed + 1)
    optimizer = pb.optim.adam(1e-2)
    return Setup(unusual.coder(seed), loss, optimizer, (x,), score, steps=300, key=key)


# ---- frozen, left out -----------------------------------------------------------------------


@fault(
    "reader_frozen",
    "frozen by mistake",
    "CUT03",
    "tagging_transformer",
    layers=("places", "block", "head"),
    also="OPT02 VER01",
    at_once=True,
)
def reader_frozen(seed: int) -> Setup:
    """A pattern that should spare the head spares the table of words."""
    x, y, x_valid, y_valid = tasks.tagging(seed)
    model = structures.Reader(seed)
    model = nn.unfreeze(nn.freeze(model), lambda model: model.words)
    score = tasks.kinds(call, x_valid, y_valid)
    optimizer = pb.optim.adamw(pb.optim.warmup_cosine(5e-3, 30, 400))
    return Setup(model, structures.tag_loss, optimizer, (x, y), score, batch=32, steps=400)


@fault(
    "decay_mask_for_all",
    "mask of the decay on the whole optimiser",
    "CUT02",
    "arrows_adam",
    layers=("layers",),
    also="GEN02 VER01 OPT02 CUT03",
    at_once=True,
)
def decay_mask_for_all(seed: int) -> Setup:
    """A mask of the arrays with one axis, for decay, is put around all of the optimiser."""
    x, y, x_valid, y_valid = tasks.standard_arrows(seed)
    score = data.accuracy(call, x_valid, y_valid)

    def vectors(model):
        return tree_map(lambda p: p.ndim == 1, model)

    optimizer = pb.optim.masked(pb.optim.adam(3e-3), vectors)
    return Setup(structures.pointer(seed), classify, optimizer, (x, y), score, batch=32)


@fault(
    "head_not_registered",
    "the loop updates the head alone",
    "CUT02",
    "regime_gru",
    layers=("cell",),
    also="VER01 OPT02 LOOP03",
    at_once=True,
)
def head_not_registered(seed: int) -> Setup:
    """A loop by hand that updates the head alone."""
    x, y, x_valid, y_valid = tasks.regime(seed)
    model = structures.forecaster(seed)
    x, x_valid = x[:, :, :] * 0.3, x_valid * 0.3
    optimizer = pb.optim.adam(1e-2)

    @pb.compile
    def step(state, x, y):
        model, memory = state
        loss, grads = pb.value_and_grad(structures.forecast_loss)(model, x, y)
        updates, memory = optimizer.update(grads, memory, model)
        head = pb.optim.apply_updates(model["head"], updates["head"])
        return ({"cell": model["cell"], "head": head}, memory), (loss, grads)  # here

    score = data.accuracy(structures.forecast, x_valid, y_valid)
    loss = structures.forecast_loss
    return Setup(model, loss, optimizer, (x, y), score, step=step)


# ---- gradients of 0 -------------------------------------------------------------------------


@fault(
    "pad_is_all",
    "mask of zeros",
    "CUT04",
    "tagging_transformer",
    also="GEN02 VER01 OPT02 OBJ04",
    at_once=True,
)
def pad_is_all(seed: int) -> Setup:
    """Kinds were thought to begin at 3, behind those of special marks: no place counts."""
    x, y, x_valid, y_valid = tasks.tagging(seed)

    def loss(model, x, y):
        mask = (y >= 3).astype("float32")  # here
        right = pb.one_hot(pb.maximum(y, 0), 3)
        errors = -pb.sum(nn.log_softmax(model(x)) * right, axis=2)
        return pb.sum(errors * mask) / pb.maximum(pb.sum(mask), 1)

    score = tasks.kinds(call, x_valid, y_valid)
    optimizer = pb.optim.adam(5e-3)
    return Setup(structures.Reader(seed), loss, optimizer, (x, y), score, batch=32, steps=400)


# ---- derivatives by hand --------------------------------------------------------------------


@fault(
    "sines_by_hand",
    "wrong derivative",
    "VER02",
    "checker_waves",
    also="OBJ05 VER01 OPT01 OPT03",
    at_once=True,
)
def sines_by_hand(seed: int) -> Setup:
    """An activation sin(3 z), whose derivative was given as sin(3 z)."""
    x, y, x_valid, y_valid = tasks.checker(seed)

    @pb.custom_derivative
    def sine(z):
        return pb.sin(3 * z)  # here

    def forward(z):
        return sine(z), z

    def backward(z, cotangent):
        return (3 * pb.sin(3 * z) * cotangent,)  # here

    sine.defvjp(forward, backward)  # here
    model = nn.MLP(2, 1, 48, 2, sine, key=pb.random.key(seed), initializer=nn.init.lecun_normal)
    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(model, tables.decide, pb.optim.adam(5e-3), (x, y), score)


@fault(
    "totals_by_hand",
    "wrong derivative",
    "VER02",
    "grades_thresholds",
    also="OBJ05 VER01 OPT01 OPT03",
    at_once=True,
)
def totals_by_hand(seed: int) -> Setup:
    """Of a cumulative sum the cotangents are added up from the wrong end, with the wrong sign."""
    x, y, x_valid, y_valid = tasks.grades(seed)

    @pb.custom_derivative
    def total(z):
        return pb.cumulative_sum(z, axis=1)  # here

    def forward(z):
        return total(z), None

    def backward(_, cotangent):
        return (-pb.cumulative_sum(cotangent, axis=1),)  # here

    total.defvjp(forward, backward)  # here
    model = nn.MLP(8, tasks.GRADES, 48, 2, nn.silu, key=pb.random.key(seed))

    def logits(model, x):
        return total(model(x))

    def loss(model, x, y):
        return nn.cross_entropy(logits(model, x), y)

    def predict(model, x):
        return np.asarray(logits(model, x)).argmax(1)

    score = tasks.level(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score, steps=500)


@fault(
    "norm_by_hand",
    "wrong derivative",
    "VER02",
    "tags_layers",
    also="OBJ05 VER01 OPT01 OPT03 SIG02",
    at_once=True,
)
def norm_by_hand(seed: int) -> Setup:
    """A layer norm with a derivative by hand that multiplies by the deviation, not divides, and
    forgets the mean."""
    x, y, x_valid, y_valid = tasks.tags(seed)

    def moments(z):
        mean = pb.mean(z, axis=1, keepdims=True)
        return mean, pb.sqrt(pb.mean((z - mean) ** 2, axis=1, keepdims=True) + 1e-5)

    @pb.custom_derivative
    def norm(z):
        mean, deviation = moments(z)
        return (z - mean) / deviation  # here

    def forward(z):
        return norm(z), moments(z)

    def backward(kept, cotangent):
        mean, deviation = kept
        return (mean - cotangent * deviation,)  # here

    norm.defvjp(forward, backward)  # here
    keys = pb.random.split(pb.random.key(seed), 3)
    model = nn.Sequential(
        nn.Linear(14, 48, key=keys[0]),
        norm,
        pb.tanh,
        nn.Linear(48, 48, key=keys[1]),
        norm,
        pb.tanh,
        nn.Linear(48, tasks.TAGS, key=keys[2]),
    )
    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(model, tables.decide, pb.optim.adam(3e-3), (x, y), score)
