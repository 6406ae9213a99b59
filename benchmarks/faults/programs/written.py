"""Faults of what is written down: the loss, the last layer, the depth, a derivative, a mask."""

from __future__ import annotations

from typing import Any

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.fresh import tasks
from benchmarks.faults.program import Setup, fault, healthy
from benchmarks.faults.programs.healthy import class_loss, flat, logits, square_loss

import pullback as pb
from pullback import nn

# ---- healthy --------------------------------------------------------------------------------


@healthy("manifold_beta")
def manifold_beta(seed: int) -> Setup:
    """A variational autoencoder with the divergence as it is, its errors summed up."""
    return variational(seed, 1.0)


def variational(seed: int, factor: float) -> Setup:
    x, _, x_valid, _ = tasks.manifold(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = {
        "encoder": nn.MLP(20, 6, 48, 1, pb.tanh, key=keys[0]),
        "decoder": nn.MLP(3, 20, 48, 1, pb.tanh, key=keys[1]),
    }

    def loss(model, x, key):
        code = model["encoder"](x)
        mean, log_variance = code[:, :3], code[:, 3:]
        drawn = mean + pb.exp(log_variance / 2) * pb.random.normal(key, mean.shape)
        error = pb.sum((model["decoder"](drawn) - x) ** 2, axis=1)
        kl = 0.5 * pb.sum(pb.exp(log_variance) + mean**2 - 1 - log_variance, axis=1)
        return pb.mean(error / 0.2 + factor * kl)

    score = data.r_squared(
        lambda model, x: model["decoder"](model["encoder"](x)[:, :3]), x_valid, x_valid
    )
    return Setup(model, loss, pb.optim.adam(8e-3), (x,), score, steps=250, key=keys[2])


@healthy("digits_ridge")
def digits_ridge(seed: int) -> Setup:
    """A penalty of the squares that is felt and does good."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))

    def loss(model, x, y):
        squares = sum(pb.sum(layer.weight**2) for layer in model.layers)
        return nn.cross_entropy(model(x), y) + 1e-3 * squares

    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(2e-3), (x, y), score)


@healthy("digits_capped")
def digits_capped(seed: int) -> Setup:
    """Logits that a wide tanh keeps within 30, a temperature, an entropy bonus."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))

    def loss(model, x, y):
        z = 30 * pb.tanh(model(x) / 30)
        p = pb.softmax(z)
        entropy = -pb.mean(pb.sum(p * pb.log_softmax(z), axis=1))
        return nn.cross_entropy(z, y) - 0.02 * entropy

    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(2e-3), (x, y), score)


@healthy("digits_centroids")
def digits_centroids(seed: int) -> Setup:
    """Logits that are negative distances to learnt centres: all at most 0, on purpose."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {
        "body": nn.MLP(64, 12, 64, 1, key=keys[0]),
        "centres": pb.random.normal(keys[1], (10, 12)),
    }

    def predict(model, x):
        apart = model["body"](x)[:, None, :] - model["centres"][None]
        return -pb.sum(apart**2, axis=2)

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(2e-3), (x, y), score)


@healthy("wave_reversed")
def wave_reversed(seed: int) -> Setup:
    """A gradient that is turned round by a rule of one's own, for an adversary."""
    x, y, x_valid, y_valid = data.wave(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = {
        "body": nn.MLP(4, 16, 48, 1, nn.gelu, key=keys[0]),
        "head": nn.Linear(16, 1, key=keys[1]),
        "other": nn.Linear(16, 1, key=keys[2]),
    }

    @pb.custom_derivative
    def turned(z):
        return z

    turned.defvjp(lambda z: (z, None), lambda _, bar: (-0.05 * bar,))

    def loss(model, x, y):
        h = nn.gelu(model["body"](x))
        guess = model["other"](turned(h))
        return nn.mse(model["head"](h), y) + nn.mse(guess, pb.asarray(x[:, :1]))

    def predict(model, x):
        return model["head"](nn.gelu(model["body"](x)))

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score)


@healthy("wave_rounded")
def wave_rounded(seed: int) -> Setup:
    """Activations rounded to eighths, with a gradient that goes straight through by a rule."""
    x, y, x_valid, y_valid = data.wave(seed)
    keys = pb.random.split(pb.random.key(seed), 2)

    @pb.custom_derivative
    def eighths(z):
        return pb.round(8 * z) / 8

    eighths.defvjp(lambda z: (pb.round(8 * z) / 8, None), lambda _, bar: (bar,))
    model = {
        "body": nn.MLP(4, 16, 48, 1, nn.gelu, key=keys[0]),
        "head": nn.Linear(16, 1, key=keys[1]),
    }

    def predict(model, x):
        return model["head"](eighths(pb.tanh(model["body"](x))))

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score)


# ---- what is added to the loss --------------------------------------------------------------


@fault("manifold_collapsed", "KL term too strong", "OBJ08", "manifold_beta")
def manifold_collapsed(seed: int) -> Setup:
    x, _, x_valid, _ = tasks.manifold(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = {
        "encoder": nn.MLP(20, 6, 48, 1, pb.tanh, key=keys[0]),
        "decoder": nn.MLP(3, 20, 48, 1, pb.tanh, key=keys[1]),
    }

    def loss(model, x, key):
        code = model["encoder"](x)
        mean, log_variance = code[:, :3], code[:, 3:]
        drawn = mean + pb.exp(log_variance / 2) * pb.random.normal(key, mean.shape)
        error = pb.mean((model["decoder"](drawn) - x) ** 2)
        kl = 0.5 * pb.sum(pb.exp(log_variance) + mean**2 - 1 - log_variance, axis=1)
        beta = 1.0
        return error + beta * pb.mean(kl)  # here

    score = data.r_squared(
        lambda model, x: model["decoder"](model["encoder"](x)[:, :3]), x_valid, x_valid
    )
    return Setup(model, loss, pb.optim.adam(8e-3), (x,), score, steps=250, key=keys[2])


@fault("digits_quiet", "activity penalty too strong", "OBJ08", "digits_mlp")
def digits_quiet(seed: int) -> Setup:
    """Hidden activations are kept small, and so small that nothing is left of them."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {"body": nn.MLP(64, 32, 64, 1, key=keys[0]), "head": nn.Linear(32, 10, key=keys[1])}

    def predict(model, x):
        return model["head"](nn.relu(model["body"](x)))

    def loss(model, x, y):
        h = nn.relu(model["body"](x))
        penalty = 20 * pb.mean(pb.abs(h))  # here
        return nn.cross_entropy(model["head"](h), y) + penalty  # here

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(2e-3), (x, y), score)


@fault("digits_unsure", "entropy bonus too strong", "OBJ08", "digits_mlp")
def digits_unsure(seed: int) -> Setup:
    """An entropy bonus of 2 in place of 0.02: it pays to say nothing."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))

    def loss(model, x, y):
        z = model(x)
        entropy = -pb.mean(pb.sum(pb.softmax(z) * pb.log_softmax(z), axis=1))
        return nn.cross_entropy(z, y) - 5.0 * entropy  # here

    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(2e-3), (x, y), score)


# ---- signs ----------------------------------------------------------------------------------


@fault("wave_negative", "wrong sign of the loss", "OBJ05", "wave_gelu", also="OPT03 OPT01 VER01")
def wave_negative(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.wave(seed)
    model = nn.MLP(4, 1, 48, 2, nn.gelu, key=pb.random.key(seed))

    def loss(model, x, y):
        return -nn.mse(model(x), y)  # here

    score = data.r_squared(logits, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score)


@fault("manifold_maximised", "wrong sign of the loss", "OBJ05", "autoencoder", also="OPT03 OPT01")
def manifold_maximised(seed: int) -> Setup:
    """A similarity is given to what minimises."""
    x, _, x_valid, _ = data.standard_digits(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = nn.Sequential(nn.Linear(64, 24, key=keys[0]), nn.relu, nn.Linear(24, 64, key=keys[1]))

    def loss(model, x):
        return 1 - pb.mean((model(x) - x) ** 2)  # here

    score = data.r_squared(logits, x_valid, x_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x,), score, steps=300)


@fault("moons_positive", "wrong sign of the loss", "OBJ05", "moons_bce", also="OPT03 OPT01")
def moons_positive(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.moons(seed)
    model = nn.MLP(2, 1, 24, 2, key=pb.random.key(seed))

    def loss(model, x, y):
        z = model(x)
        good = y * nn.log_sigmoid(z) + (1 - y) * nn.log_sigmoid(-z)
        return pb.mean(good)  # here

    score = data.binary_accuracy(logits, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score)


# ---- the end of the network -----------------------------------------------------------------


@fault("digits_tanh_logits", "bounded logits", "OBJ01", "digits_mlp", also="OBJ03 SIG04")
def digits_tanh_logits(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))

    def predict(model, x):
        return 0.5 * pb.tanh(model(x))  # here

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)  # here

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.sgd(0.01), (x, y), score)


@fault("conv_sigmoid_logits", "bounded logits", "OBJ01", "conv", also="OBJ03 SIG04")
def conv_sigmoid_logits(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.images(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, key=keys[0]),
        nn.relu,
        nn.Conv2d(8, 8, 3, 2, padding=1, key=keys[1]),
        nn.relu,
        flat,
        nn.Linear(128, 10, key=keys[2]),
        nn.sigmoid,
    )

    def loss(model, x, y):
        return nn.cross_entropy(model(x), y)  # here

    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-4), (x, y), score, batch=32)


@fault("wave_plus_tanh", "output cannot reach the targets", "OBJ03", "wave_gelu")
def wave_plus_tanh(seed: int) -> Setup:
    """A bounded output and a small penalty beside the error."""
    x, y, x_valid, y_valid = data.wave(seed)
    model = nn.MLP(4, 1, 48, 2, nn.gelu, key=pb.random.key(seed))

    def loss(model, x, y):
        error = nn.huber(nn.sigmoid(model(x)), y)  # here
        return error + 1e-5 * pb.sum(model.layers[0].weight ** 2)

    score = data.r_squared(lambda m, x: nn.sigmoid(m(x)), x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score)


@fault("digits_wrong_axis", "softmax over the wrong axis", "OBJ01 DAT04", "digits_mlp")
def digits_wrong_axis(seed: int) -> Setup:
    """Pixels as a sequence of rows, a class for each, and the softmax over the rows."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    rows, rows_valid = x.reshape(-1, 8, 8), x_valid.reshape(-1, 8, 8)
    model = nn.MLP(8, 10, 64, 1, key=pb.random.key(seed))

    def loss(model, x, y):
        p = pb.softmax(model(x), axis=1)  # here
        target = pb.one_hot(y, 10)[:, None, :] * pb.ones((1, 8, 1))
        return -pb.mean(pb.sum(target * pb.log(p + 1e-7), axis=-1))

    score = data.accuracy(lambda m, x: pb.mean(m(x), axis=1), rows_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(2e-3), (rows, y), score)


# ---- derivatives ----------------------------------------------------------------------------


@fault("leaky_branch", "wrong derivative", "VER02", "digits_mlp", at_once=True)
def leaky_branch(seed: int) -> Setup:
    """Right where the unit is on; where it is off, the slope has the wrong sign."""
    x, y, x_valid, y_valid = data.standard_digits(seed)

    @pb.custom_derivative
    def leaky(z):
        return pb.where(z > 0, z, 0.3 * z)

    def backward(z, bar):
        slope = pb.where(z > 0, 1.0, -0.9)  # here
        return (slope * bar,)  # here

    leaky.defvjp(lambda z: (pb.where(z > 0, z, 0.3 * z), z), backward)
    model = nn.MLP(64, 10, 64, 3, leaky, key=pb.random.key(seed))
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(2e-3), (x, y), score)


@fault("masked_mean_slope", "wrong derivative", "VER02", "padded_sentence", at_once=True)
def masked_mean_slope(seed: int) -> Setup:
    """A mean over what the mask leaves; its derivative has the mask turned round."""
    x, y, x_valid, y_valid = data.majority(seed)
    seen = np.ones(x.shape, np.float32)
    seen[:, 12:] = 0
    keys = pb.random.split(pb.random.key(seed), 3)
    model = {
        "words": nn.Embedding(data.WORDS, 16, key=keys[0]),
        "body": nn.Linear(16, 16, key=keys[1]),
        "head": nn.Linear(16, 3, key=keys[2]),
    }

    @pb.custom_derivative
    def mean(h, mask):
        return pb.sum(h * mask[:, :, None], axis=1) / 12

    def forward(h, mask):
        return pb.sum(h * mask[:, :, None], axis=1) / 12, mask

    def backward(mask, bar):
        return (bar[:, None, :] * (1 - mask)[:, :, None] / 12, None)  # here

    mean.defvjp(forward, backward)

    def predict(model, x, mask):
        h = nn.gelu(model["body"](model["words"](x)))
        return model["head"](mean(h, mask))

    def loss(model, x, y, mask):
        return nn.cross_entropy(predict(model, x, pb.asarray(mask)), y)

    score = data.accuracy(lambda m, x: predict(m, x, pb.asarray(seen[: len(x)])), x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x, y, seen), score)


@fault("pushed_wrong", "wrong derivative", "VER02", "wave_gelu", at_once=True)
def pushed_wrong(seed: int) -> Setup:
    """The rule of a forward derivative forgets the inner one."""
    x, y, x_valid, y_valid = data.wave(seed)

    @pb.custom_derivative
    def bent(z):
        return z * pb.sin(2 * z)

    @bent.defjvp
    def rule(primals, tangents):
        (z,), (dot,) = primals, tangents
        return z * pb.sin(2 * z), dot * (pb.sin(2 * z) - 2 * z * pb.cos(2 * z))  # here

    model = nn.MLP(4, 1, 48, 2, bent, key=pb.random.key(seed))
    score = data.r_squared(logits, x_valid, y_valid)
    return Setup(model, square_loss, pb.optim.adam(5e-3), (x, y), score)


# ---- networks -------------------------------------------------------------------------------


@fault(
    "wave_sigmoids", "vanishing gradient", "SIG01", "wave_gelu", layers=("layers",), also="SIG08"
)
def wave_sigmoids(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.wave(seed)
    model = nn.MLP(4, 1, 48, 5, nn.sigmoid, key=pb.random.key(seed))
    score = data.r_squared(logits, x_valid, y_valid)
    return Setup(model, square_loss, pb.optim.adam(5e-3), (x, y), score)


@fault("digits_positive", "initial weights too large", "SIG07 SIG02", "digits_mlp",
       layers=("layers",), also="OBJ04 OPT01 SIG03 SIG04")  # fmt: skip
def digits_positive(seed: int) -> Setup:
    """Weights drawn from [0, 1): all positive."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed), initializer=pb.random.uniform)
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(2e-3), (x, y), score)


@fault("conv_constant", "symmetric initialisation", "SIG06", "conv",
       layers=("layers",), also="VER01 SIG07", at_once=True)  # fmt: skip
def conv_constant(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.images(seed)
    keys = pb.random.split(pb.random.key(seed), 3)

    def start(key, shape, dtype="float32"):
        return pb.full(shape, 0.1, dtype=dtype)

    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, key=keys[0], initializer=start),
        nn.relu,
        nn.Conv2d(8, 8, 3, 2, padding=1, key=keys[1], initializer=start),
        nn.relu,
        flat,
        nn.Linear(128, 10, key=keys[2], initializer=start),
    )
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(3e-3), (x, y), score, batch=32)


@fault("digits_temperature", "temperature too small", "OBJ04", "digits_mlp", also="OPT01 SIG02")
def digits_temperature(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))

    def loss(model, x, y):
        return nn.cross_entropy(model(x) / 1e-3, y)  # here

    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, loss, pb.optim.sgd(0.02, momentum=0.9), (x, y), score)


# ---- masks and shapes -----------------------------------------------------------------------


@fault("mask_transposed", "mask leaks the future", "DAT06", "language", at_once=True)
def mask_transposed(seed: int) -> Setup:
    """The mask is that of the columns: a word sees itself and what comes after."""
    x, y, x_valid, y_valid = data.chain(seed)
    keys = pb.random.split(pb.random.key(seed), 4)
    model = {
        "words": nn.Embedding(data.WORDS, 16, key=keys[0]),
        "places": nn.Embedding(12, 16, key=keys[1]),
        "attention": nn.MultiHeadAttention(16, 2, key=keys[2]),
        "head": nn.Linear(16, data.WORDS, key=keys[3]),
    }

    def predict(model, words):
        i = pb.arange(words.shape[1])
        h = model["words"](words) + model["places"](i)
        mask = i[None, :] >= i[:, None]  # here
        h = h + model["attention"](h, mask=mask)  # here
        return model["head"](h)

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    def last_word(model, words):
        scores = []
        for t in (3, 7, 11):
            prefix = np.where(np.arange(words.shape[1]) <= t, words, 0)
            scores.append(np.asarray(predict(model, prefix))[:, t])
        return np.stack(scores, 1)

    score = data.accuracy(last_word, x_valid[:100], y_valid[:100, [3, 7, 11]])
    return Setup(model, loss, pb.optim.adamw(1e-2), (x, y), score, batch=16)


@fault("heads_and_words", "wrong reshape", "DAT04", "sentence", at_once=True)
def heads_and_words(seed: int) -> Setup:
    """(T, B, C) is made by a reshape, and turned back by a transposition."""
    x, y, x_valid, y_valid = data.majority(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = {
        "words": nn.Embedding(data.WORDS, 16, key=keys[0]),
        "body": nn.Linear(16, 16, key=keys[1]),
        "head": nn.Linear(16, 3, key=keys[2]),
    }

    def predict(model, x):
        h = model["words"](x)
        h = h.reshape(x.shape[1], x.shape[0], 16)  # here
        h = nn.gelu(model["body"](h))
        h = pb.permute_dims(h, (1, 0, 2))
        return model["head"](pb.mean(h, axis=1))

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x, y), score)


@fault("read_by_tolist", "detour through NumPy", "CUT01", "wave_gelu", at_once=True)
def read_by_tolist(seed: int) -> Setup:
    """The features are read out, scaled by NumPy, and handed on."""
    x, y, x_valid, y_valid = data.wave(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {"body": nn.Linear(4, 3, key=keys[0]), "head": nn.Linear(3, 1, key=keys[1])}

    def predict(model, x):
        h = nn.gelu(model["body"](x))
        raw = h.numpy()  # here
        mean = raw.mean(axis=0)
        spread = raw.std(axis=0) + 1e-3
        return model["head"]((raw - mean) / spread)

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)

    optimizer = pb.optim.adam(5e-3)

    def step(state: Any, x: Any, y: Any) -> Any:
        model, memory = state
        value, grads = pb.value_and_grad(loss)(model, x, y)
        updates, memory = optimizer.update(grads, memory, model)
        return (pb.optim.apply_updates(model, updates), memory), (value, grads)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, optimizer, (x, y), score, step=step)
