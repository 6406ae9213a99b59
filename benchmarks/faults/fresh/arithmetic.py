"""Faults of numbers: something is not finite, or too small to be seen."""

from __future__ import annotations

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.fresh import tasks
from benchmarks.faults.fresh.healthy import call, class_loss, square_loss
from benchmarks.faults.fresh.structured import shape_net, topic, topic_net
from benchmarks.faults.program import Setup, fault

import pullback as pb
from pullback import nn


@fault("amounts_log", "log(0)", "NUM01 NUM04", "amounts_hurdle", at_once=True)
def amounts_log(seed: int) -> Setup:
    """Errors of logarithms, and a relu that gives 0."""
    x, y, x_valid, y_valid = tasks.amounts(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {
        "body": nn.MLP(6, 32, 64, 1, nn.silu, key=keys[0]),
        "head": nn.Linear(32, 1, key=keys[1]),
    }

    def predict(model, x):
        return nn.relu(model["head"](nn.silu(model["body"](x))))

    def loss(model, x, y):
        return pb.mean((pb.log(predict(model, x)) - pb.log(y + 1)) ** 2)  # here

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score, batch=80)


@fault("distilled_entropy", "0 log 0", "NUM01 NUM04", "digits_distilled", at_once=True)
def distilled_entropy(seed: int) -> Setup:
    """A divergence from labels that are one-hot: 0 · log 0 is no number."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    labels = np.eye(10, dtype=np.float32)[y]
    model = nn.MLP(64, 10, 72, 1, nn.gelu, key=pb.random.key(seed))

    def loss(model, x, p):
        q = pb.log_softmax(model(x), axis=1)
        return pb.mean(pb.sum(p * (pb.log(p) - q), axis=1))  # here

    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, loss, pb.optim.lion(1e-3), (x, labels), score)


@fault("topics_empty", "division by 0", "NUM01 NUM04", "topics_padded")
def topics_empty(seed: int) -> Setup:
    """One sentence in two hundred has no words: a mean of nothing."""
    x, y, x_valid, y_valid = tasks.topics(seed)
    x = x.copy()
    x[7::200] = 0
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {
        "words": nn.Embedding(tasks.TOKENS, 16, key=keys[0], initializer=nn.init.normal),
        "head": nn.Linear(16, 3, key=keys[1]),
    }

    def predict(model, x):
        seen = (x != 0).astype(np.float32)[:, :, None]
        count = pb.sum(pb.asarray(seen), axis=1)
        return model["head"](pb.sum(model["words"](x) * seen, axis=1) / count)  # here

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score)


@fault("blank_images", "division by 0", "NUM01 NUM04", "shapes_conv", also="NUM02")
def blank_images(seed: int) -> Setup:
    """Each image is standardised by itself; some are blank."""
    x, y, x_valid, y_valid = tasks.shapes(seed)
    x = x.copy()
    x[::25] = 0
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {
        "conv": nn.Conv2d(1, 12, 3, 2, padding=1, key=keys[0]),
        "head": nn.Linear(300, 4, key=keys[1]),
    }

    def predict(model, x):
        centred = x - pb.mean(x, axis=(1, 2, 3), keepdims=True)
        spread = pb.sqrt(pb.mean(centred**2, axis=(1, 2, 3), keepdims=True))
        h = nn.relu(model["conv"](centred / spread))  # here
        return model["head"](h.reshape(h.shape[0], -1))

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x, y), score, batch=40)


@fault(
    "variance_of_large",
    "cancellation",
    "NUM01 NUM04",
    "friedman_sgd",
    also="DAT01 NUM02",
    at_once=True,
)
def variance_of_large(seed: int) -> Setup:
    """E[x²] - E[x]² of columns around 3000: rounding makes it negative."""
    x, y, x_valid, y_valid = tasks.friedman(seed)
    x, x_valid = [(3000 + 0.05 * z).astype(np.float32) for z in (x, x_valid)]
    model = nn.MLP(10, 1, 80, 2, nn.gelu, key=pb.random.key(seed))

    def predict(model, x):
        mean = pb.mean(x, axis=0)
        std = pb.sqrt(pb.mean(x * x, axis=0) - mean * mean)  # here
        return model((x - mean) / std)[:, 0]

    def loss(model, x, y):
        return pb.mean((predict(model, x) - y) ** 2)

    score = data.r_squared(predict, x_valid, y_valid[:, 0])
    optimizer = pb.optim.sgd(0.02, momentum=0.95, nesterov=True)
    return Setup(model, loss, optimizer, (x, y[:, 0]), score)


@fault("triplet_distance", "sqrt at 0", "NUM02 NUM04", "digits_triplets", at_once=True)
def triplet_distance(seed: int) -> Setup:
    """Some anchors were drawn as their own neighbours: a distance of exactly 0."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    rng = np.random.default_rng([seed, 21])
    same = np.array([rng.choice(np.flatnonzero(y == label)) for label in y])
    same[::30] = np.arange(len(y))[::30]
    other = np.array([rng.choice(np.flatnonzero(y != label)) for label in y])
    model = nn.MLP(64, 12, 64, 1, key=pb.random.key(seed))

    def distance(a, b):
        d = a - b
        return pb.sqrt(pb.sum(d * d, axis=1))  # here

    def loss(model, anchor, near, far):
        a, b, c = model(anchor), model(near), model(far)
        return pb.mean(distance(a, b) + nn.relu(4.0 - distance(a, c)))

    def nearest(model, points):
        a, b = np.asarray(model(x)), np.asarray(model(points))
        return np.eye(10)[y[((b[:, None] - a[None]) ** 2).sum(-1).argmin(1)]]

    score = data.accuracy(nearest, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(2e-3), (x, x[same], x[other]), score)


@fault("friedman_groups", "norm of zeros", "NUM02 NUM04", "friedman_rmsprop", at_once=True)
def friedman_groups(seed: int) -> Setup:
    """The norms of all parameters as a penalty, also of biases, which start at 0."""
    x, y, x_valid, y_valid = tasks.friedman(seed)
    model = nn.MLP(10, 1, 56, 2, nn.elu, key=pb.random.key(seed))

    def penalty(model):
        groups = [group for layer in model.layers for group in (layer.weight, layer.bias)]
        return sum(pb.sqrt(pb.sum(group**2)) for group in groups)  # here

    def loss(model, x, y):
        return nn.huber(model(x), y) + 1e-4 * penalty(model)

    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, loss, pb.optim.rmsprop(5e-3), (x, y), score, batch=48)


@fault("angle_of_equal", "acos at 1", "NUM02 NUM04", "digits_triplets", also="NUM01")
def angle_of_equal(seed: int) -> Setup:
    """The angle between two views of an image; some images have one view, given twice."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    rng = np.random.default_rng([seed, 22])
    view = x + rng.normal(0, 0.5, x.shape).astype(np.float32)
    view[::20] = x[::20]
    other = x[rng.permutation(len(x))]
    model = nn.MLP(64, 12, 64, 1, key=pb.random.key(seed))

    def unit(z):
        return z * pb.rsqrt(pb.sum(z * z, axis=1, keepdims=True) + 1e-12)

    def angle(a, b):
        cosine = pb.sum(unit(a) * unit(b), axis=1)
        return pb.acos(pb.clip(cosine, -1.0, 1.0))  # here

    def loss(model, a, b, c):
        a, b, c = model(a), model(b), model(c)
        return pb.mean(angle(a, b) + nn.relu(1.5 - angle(a, c)))

    def nearest(model, points):
        a, b = np.asarray(model(x)), np.asarray(model(points))
        return np.eye(10)[y[((b[:, None] - a[None]) ** 2).sum(-1).argmin(1)]]

    score = data.accuracy(nearest, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(2e-3), (x, view, other), score)


@fault(
    "where_after_matmul", "where trap", "NUM01 NUM02 NUM05 NUM04", "friedman_rmsprop", at_once=True
)
def where_after_matmul(seed: int) -> Setup:
    """Roots of what may be negative go through a layer before the bad rows are chosen away."""
    x, y, x_valid, y_valid = tasks.friedman(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {
        "plain": nn.MLP(10, 1, 56, 2, nn.elu, key=keys[0]),
        "rooted": nn.Linear(10, 1, key=keys[1]),
    }

    def predict(model, x):
        correction = model["rooted"](pb.sqrt(x))  # here
        inside = pb.min(pb.asarray(x), axis=1, keepdims=True) >= 0
        return model["plain"](x) + pb.where(inside, correction, 0.0)

    def loss(model, x, y):
        return nn.huber(predict(model, x), y)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.rmsprop(5e-3), (x, y), score, batch=48)


@fault("softmax_by_hand", "exp overflow", "NUM01", "digits_cosine", also="NUM02", at_once=True)
def softmax_by_hand(seed: int) -> Setup:
    """e to the power of a cosine over a temperature of 1/150."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {
        "body": nn.MLP(64, 3, 96, 1, nn.leaky_relu, key=keys[0]),
        "classes": pb.random.normal(keys[1], (10, 3)),
    }

    def unit(z):
        return z * pb.rsqrt(pb.sum(z * z, axis=-1, keepdims=True) + 1e-6)

    def predict(model, x):
        return unit(model["body"](x)) @ unit(model["classes"]).T

    def loss(model, x, y):
        e = pb.exp(predict(model, x) * 150)  # here
        p = pb.sum(e * pb.one_hot(y, 10), axis=1) / pb.sum(e, axis=1)
        return -pb.mean(pb.log(p + 1e-9))

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x, y), score, batch=50)


@fault("half_epsilon", "epsilon lost in half precision", "NUM01 NUM04", "shapes_half", also="NUM02")
def half_epsilon(seed: int) -> Setup:
    """An eps of 1e-8 is 0 in float16, and some images are blank."""
    x, y, x_valid, y_valid = tasks.shapes(seed)
    x = x.copy()
    x[::25] = 0
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {
        "conv": nn.Conv2d(1, 12, 3, 2, padding=1, key=keys[0]),
        "head": nn.Linear(300, 4, key=keys[1]),
    }
    eps = np.float16(1e-8)

    def predict(model, x):
        x = x.astype("float16")
        largest = pb.max(pb.abs(x), axis=(1, 2, 3), keepdims=True)
        scaled = x / (largest + eps)  # here
        h = nn.relu(model["conv"](scaled.astype("float32")))
        return model["head"](h.reshape(h.shape[0], -1))

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, pb.asarray(x)), y)

    def valid(model, x):
        return predict(model, pb.asarray(x))

    score = data.accuracy(valid, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x, y), score, batch=40)


@fault("missing_values", "NaN in the data", "NUM01 DAT01", "clusters_sgd", at_once=True)
def missing_values(seed: int) -> Setup:
    """Cells that were empty in the table."""
    x, y, x_valid, y_valid = tasks.clusters(seed)
    x = np.where(np.random.default_rng([seed, 32]).random(x.shape) < 0.01, np.nan, x)
    model = nn.MLP(12, 5, 96, 1, key=pb.random.key(seed))

    def loss(model, x, y):
        return nn.cross_entropy(model(x), y)

    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, loss, pb.optim.sgd(0.5), (x.astype(np.float32), y), score, batch=40)


@fault("log_of_no_amount", "infinite targets", "NUM01 DAT01", "amounts_hurdle", at_once=True)
def log_of_no_amount(seed: int) -> Setup:
    """The targets were made with NumPy's log; that of 0 is -∞."""
    x, y, x_valid, y_valid = tasks.amounts(seed)
    with np.errstate(divide="ignore"):
        y = np.log(y)
    model = nn.MLP(6, 1, 64, 2, nn.silu, key=pb.random.key(seed))
    score = data.r_squared(lambda model, x: pb.exp(model(x)), x_valid, y_valid)
    return Setup(model, square_loss, pb.optim.adam(1e-2), (x, y), score, batch=80)


@fault("mask_times_infinity", "mask by multiplication", "NUM01", "topics_padded", at_once=True)
def mask_times_infinity(seed: int) -> Setup:
    """-∞ times a mask of 0 and 1: no number where the mask is 0."""
    x, y, x_valid, y_valid = tasks.topics(seed)

    def predict(model, x):
        hidden = (x == 0).astype(np.float32)
        bias = hidden * -np.inf  # here
        h = model["words"](x)
        h = h + model["attention"](h, bias=pb.asarray(bias)[:, None, None, :])
        return model["head"](pb.mean(h, axis=1))

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(topic, x_valid, y_valid)
    return Setup(topic_net(seed), loss, pb.optim.adam(3e-3), (x, y), score)


@fault(
    "half_inputs", "overflow in half precision", "NUM01 DAT01", "shapes_half", also="OBJ04 NUM02"
)
def half_inputs(seed: int) -> Setup:
    """Raw counts up to 100 000 do not fit into float16, in which the network is computed."""
    x, y, x_valid, y_valid = tasks.shapes(seed)
    x, x_valid = 30000 + 12000 * x, 30000 + 12000 * x_valid
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.adam(3e-3)
    net = shape_net(seed)
    return Setup(net, class_loss, optimizer, (x, y), score, batch=40, precision="fp16")
