"""Faults of the loss and of what stands just before it."""

from __future__ import annotations

from functools import partial

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.fresh import tasks
from benchmarks.faults.fresh.healthy import call
from benchmarks.faults.fresh.structured import Last, flat, mask_net, paint, speaker, verdict
from benchmarks.faults.program import Setup, fault

import pullback as pb
from pullback import nn

DIVERGED = "OPT01 OPT03 NUM01 NUM02 SIG03 CUT04"


@fault("shapes_softmax", "softmax before cross-entropy", "OBJ01", "shapes_conv", at_once=True)
def shapes_softmax(seed: int) -> Setup:
    """The network ends with a softmax, as the loss does."""
    x, y, x_valid, y_valid = tasks.shapes(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, 2, padding=1, key=keys[0]),
        nn.relu,
        flat,
        nn.Linear(300, 4, key=keys[1]),
        nn.softmax,
    )

    def loss(model, x, y):
        return pb.mean(nn.cross_entropy(model(x), y, reduction="none"))  # here

    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.02, momentum=0.9)
    return Setup(model, loss, optimizer, (x, y), score, batch=40)


@fault(
    "clusters_probabilities", "softmax before cross-entropy", "OBJ01", "clusters_sgd", at_once=True
)
def clusters_probabilities(seed: int) -> Setup:
    """Probabilities, wanted by those who use the model, are also given to the loss."""
    x, y, x_valid, y_valid = tasks.clusters(seed)
    model = nn.MLP(12, 5, 96, 1, key=pb.random.key(seed))

    def predict(model, x):
        z = model(x)
        e = pb.exp(z - pb.max(z, axis=1, keepdims=True))
        return e / pb.sum(e, axis=1, keepdims=True)  # here

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)  # here

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.sgd(0.1), (x, y), score, batch=40)


@fault("rare_sigmoid", "sigmoid before BCE with logits", "OBJ01", "rare_weighted", at_once=True)
def rare_sigmoid(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.rare(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {"body": nn.MLP(12, 16, 48, 1, key=keys[0]), "head": nn.Linear(16, 1, key=keys[1])}

    def predict(model, x):
        return nn.sigmoid(model["head"](nn.relu(model["body"](x))))

    def loss(model, x, y):
        p = predict(model, x)  # here
        return nn.binary_cross_entropy_with_logits(p, y)  # here

    score = tasks.balanced(lambda model, x: predict(model, x) - 0.5, x_valid, y_valid)
    return Setup(model, loss, pb.optim.sgd(0.1, momentum=0.9), (x, y), score)


@fault("boxes_sigmoid", "sigmoid before BCE with logits", "OBJ01", "boxes_mask", at_once=True)
def boxes_sigmoid(seed: int) -> Setup:
    """A mask of probabilities goes to a loss that wants logits."""
    x, y, x_valid, y_valid = tasks.boxes(seed)

    def mask(model, x):
        return nn.sigmoid(paint(model, x))  # here

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(mask(model, x), y)  # here

    score = data.binary_accuracy(lambda model, x: mask(model, x) - 0.5, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.2, momentum=0.9)
    return Setup(mask_net(seed), loss, optimizer, (x, y), score, batch=32, steps=150)


@fault("sums_softmax_over_time", "softmax over the wrong axis", "OBJ01", "sums_gru", at_once=True)
def sums_softmax_over_time(seed: int) -> Setup:
    """(batch, time, words): axis 1 is time, not the words."""
    x, y, x_valid, y_valid = tasks.sums(seed)

    def loss(model, x, y):
        p = pb.log_softmax(model(x), axis=1)  # here
        return -pb.mean(pb.sum(p * pb.one_hot(y, tasks.MODULUS), axis=-1))

    score = tasks.next_word(call, x_valid, y_valid)
    return Setup(speaker(seed), loss, pb.optim.adam(2e-2), (x, y), score, batch=32)


@fault(
    "order_softmax_of_one",
    "softmax over one unit",
    "OBJ01",
    "order_lstm",
    also="CUT04 NUM06",
    at_once=True,
)
def order_softmax_of_one(seed: int) -> Setup:
    """A binary class with one output, and the softmax of many."""
    x, y, x_valid, y_valid = tasks.order(seed)

    def loss(model, x, y):
        p = pb.softmax(model(x), axis=1)  # here
        return pb.mean((p - y) ** 2)

    score = data.binary_accuracy(lambda m, x: pb.softmax(m(x), axis=1) - 0.5, x_valid, y_valid)
    return Setup(verdict(seed), loss, pb.optim.adam(1e-2), (x, y), score, batch=32)


@fault("series_broadcast", "(B,1) - (B,) broadcast", "OBJ07", "series_gru", at_once=True)
def series_broadcast(seed: int) -> Setup:
    """The head is squeezed, the targets are not."""
    x, y, x_valid, y_valid = tasks.series(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = Last(nn.GRU(1, 20, key=keys[0]), nn.Linear(20, 1, key=keys[1]))

    def loss(model, x, y):
        predicted = model(x)[:, 0]
        return pb.mean(pb.abs(predicted - y))  # here

    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score, batch=32)


@fault("ratings_broadcast", "(B,1) - (B,) broadcast", "OBJ07", "ratings_factors", at_once=True)
def ratings_broadcast(seed: int) -> Setup:
    """A sum over the factors takes their axis away; the marks still have it."""
    x, y, x_valid, y_valid = tasks.ratings(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    start = partial(nn.init.normal, std=0.3)
    model = {
        "users": nn.Embedding(tasks.USERS, 4, key=keys[0], initializer=start),
        "items": nn.Embedding(tasks.ITEMS, 4, key=keys[1], initializer=start),
    }

    def predict(model, x):
        return 3 + pb.sum(model["users"](x[:, 0]) * model["items"](x[:, 1]), axis=1)

    def loss(model, x, y):
        error = y - predict(model, x)  # here
        return pb.mean(error * error)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-2), (x, y), score, batch=32, steps=300)


@fault("friedman_weights", "sample weights broadcast", "OBJ07", "friedman_sgd", at_once=True)
def friedman_weights(seed: int) -> Setup:
    """A column of weights, which is to take spoilt rows out, times a vector of errors."""
    x, y, x_valid, y_valid = tasks.friedman(seed)
    rng = np.random.default_rng([seed, 31])
    spoilt = rng.random(y.shape) < 0.3
    y = np.where(spoilt, 6.0, y).astype(np.float32)
    weight = np.where(spoilt, 0.0, 1.0).astype(np.float32)
    model = nn.MLP(10, 1, 80, 2, nn.gelu, key=pb.random.key(seed))

    def loss(model, x, y, weight):
        error = (model(x)[:, 0] - y) ** 2
        return pb.mean(weight * error)  # here

    score = data.r_squared(lambda model, x: model(x)[:, 0], x_valid, y_valid[:, 0])
    optimizer = pb.optim.sgd(0.02, momentum=0.95, nesterov=True)
    return Setup(model, loss, optimizer, (x, y[:, 0], weight), score)


@fault(
    "ratings_sigmoid",
    "output cannot reach the targets",
    "OBJ03",
    "ratings_factors",
    also="OBJ04",
    at_once=True,
)
def ratings_sigmoid(seed: int) -> Setup:
    """Marks from 1 to 5, and a network that gives 0 to 1."""
    x, y, x_valid, y_valid = tasks.ratings(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {
        "users": nn.Embedding(tasks.USERS, 4, key=keys[0], initializer=nn.init.normal),
        "items": nn.Embedding(tasks.ITEMS, 4, key=keys[1], initializer=nn.init.normal),
    }

    def predict(model, x):
        product = model["users"](x[:, 0]) * model["items"](x[:, 1])
        return nn.sigmoid(pb.sum(product, axis=1, keepdims=True))

    def loss(model, x, y):
        return nn.mse(predict(model, x), y)  # here

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-2), (x, y), score, batch=32, steps=300)


@fault(
    "series_relu_head",
    "output cannot reach the targets",
    "OBJ03",
    "series_rnn",
    also="SIG03",
    at_once=True,
)
def series_relu_head(seed: int) -> Setup:
    """A relu behind every layer, the last one too; half of the values are below 0."""
    x, y, x_valid, y_valid = tasks.series(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = Last(nn.RNN(1, 28, key=keys[0]), nn.Linear(28, 1, key=keys[1]))

    def predict(model, x):
        return nn.relu(model(x))

    def loss(model, x, y):
        return pb.mean((predict(model, x) - y) ** 2)  # here

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score, batch=32)


@fault("manifold_tanh", "output cannot reach the targets", "OBJ03", "manifold_code", at_once=True)
def manifold_tanh(seed: int) -> Setup:
    """Standardised columns from a decoder that ends with tanh."""
    x, _, x_valid, _ = tasks.manifold(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {
        "encoder": nn.MLP(20, 4, 48, 1, pb.tanh, key=keys[0]),
        "decoder": nn.MLP(4, 20, 48, 1, pb.tanh, key=keys[1]),
    }

    def predict(model, x):
        return pb.tanh(model["decoder"](model["encoder"](x)))

    def loss(model, x):
        return nn.mse(predict(model, x), x)  # here

    score = data.r_squared(predict, x_valid, x_valid)
    return Setup(model, loss, pb.optim.adam(8e-3), (x,), score, steps=300)


@fault("boxes_sum", "sum instead of mean", "OBJ06", "boxes_mask", also=DIVERGED)
def boxes_sum(seed: int) -> Setup:
    """The sum over all pixels of all images of a batch, with a rate made for their mean."""
    x, y, x_valid, y_valid = tasks.boxes(seed)

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(paint(model, x), y, reduction="sum")  # here

    score = data.binary_accuracy(paint, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.3, momentum=0.9)
    return Setup(mask_net(seed), loss, optimizer, (x, y), score, batch=32, steps=150)


@fault("series_sum", "sum instead of mean", "OBJ06", "series_rnn", also=DIVERGED + " SIG04")
def series_sum(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.series(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = Last(nn.GRU(1, 28, key=keys[0]), nn.Linear(28, 1, key=keys[1]))

    def loss(model, x, y):
        error = model(x) - y
        return pb.sum(error**2)  # here

    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, loss, pb.optim.sgd(0.1, momentum=0.9), (x, y), score, batch=32)


@fault("clusters_numbers", "wrong loss for classes", "OBJ02", "clusters_sgd", also="OBJ04")
def clusters_numbers(seed: int) -> Setup:
    """The number of the class as a quantity, with Huber's loss; rounded in use."""
    x, y, x_valid, y_valid = tasks.clusters(seed)
    model = nn.MLP(12, 1, 96, 1, key=pb.random.key(seed))

    def loss(model, x, y):
        return nn.huber(model(x)[:, 0], y)  # here

    def rounded(model, x):
        return -np.abs(np.arange(5) - np.asarray(model(x)))

    score = data.accuracy(rounded, x_valid, y_valid)
    optimizer = pb.optim.adam(5e-3)
    return Setup(model, loss, optimizer, (x, y.astype(np.float32)), score, batch=40)


@fault("shapes_numbers", "wrong loss for classes", "OBJ02", "shapes_conv", also="OBJ04")
def shapes_numbers(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.shapes(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, key=keys[0]),
        nn.relu,
        nn.MaxPool2d(2),
        flat,
        nn.Linear(300, 1, key=keys[1]),
    )

    def loss(model, x, y):
        return nn.mse(model(x), y)  # here

    def rounded(model, x):
        return -np.abs(np.arange(4) - np.asarray(model(x)))

    score = data.accuracy(rounded, x_valid, y_valid)
    labels = y[:, None].astype(np.float32)
    return Setup(model, loss, pb.optim.adam(3e-3), (x, labels), score, batch=40)


@fault("bandit_sign", "wrong sign of the loss", "OBJ05", "bandit_policy", also="VER01")
def bandit_sign(seed: int) -> Setup:
    """The reward of the policy is what is minimised."""
    x, action, reward, x_valid, best = tasks.bandit(seed)
    model = nn.MLP(6, tasks.ACTIONS, 32, 1, pb.tanh, key=pb.random.key(seed))

    def loss(model, x, action, reward):
        chosen = pb.sum(pb.softmax(model(x)) * pb.one_hot(action, tasks.ACTIONS), axis=1)
        return pb.mean(chosen * reward)  # here

    score = data.accuracy(call, x_valid, best)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, action, reward), score)


@fault(
    "digits_likelihood", "wrong sign of the loss", "OBJ05", "digits_distilled",
    also=DIVERGED + " VER01",
)  # fmt: skip
def digits_likelihood(seed: int) -> Setup:
    """A mean log likelihood, minimised."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.MLP(64, 10, 72, 1, nn.gelu, key=pb.random.key(seed))

    def loss(model, x, y):
        z = model(x)
        own = pb.sum(z * pb.one_hot(y, 10), axis=1)
        return pb.mean(own - pb.logsumexp(z, axis=1))  # here

    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, loss, pb.optim.lion(1e-3), (x, y), score)


@fault("vae_collapse", "KL term too strong", "OBJ08", "manifold_vae", also="CUT04 VER01 DAT03")
def vae_collapse(seed: int) -> Setup:
    """The error is a mean over columns, the divergence a sum times five: nothing is encoded."""
    x, _, x_valid, _ = tasks.manifold(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = {
        "encoder": nn.MLP(20, 8, 48, 1, nn.silu, key=keys[0]),
        "decoder": nn.MLP(4, 20, 48, 1, nn.silu, key=keys[1]),
    }

    def loss(model, x, key):
        code = model["encoder"](x)
        mean, log_variance = code[:, :4], code[:, 4:]
        drawn = mean + pb.exp(log_variance / 2) * pb.random.normal(key, mean.shape)
        error = pb.mean((model["decoder"](drawn) - x) ** 2)
        kl = 0.5 * pb.sum(pb.exp(log_variance) + mean**2 - 1 - log_variance, axis=1)
        return error + 5 * pb.mean(kl)  # here

    score = data.r_squared(
        lambda model, x: model["decoder"](model["encoder"](x)[:, :4]), x_valid, x_valid
    )
    return Setup(model, loss, pb.optim.adam(8e-3), (x,), score, steps=250, key=keys[2])


@fault("ratings_penalty", "regulariser dominates", "OBJ08", "ratings_factors", also="VER01 SIG01")
def ratings_penalty(seed: int) -> Setup:
    """The squares of all factors are summed, not averaged, and all of them shrink to 0."""
    x, y, x_valid, y_valid = tasks.ratings(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    start = partial(nn.init.normal, std=0.3)
    model = {
        "users": nn.Embedding(tasks.USERS, 4, key=keys[0], initializer=start),
        "items": nn.Embedding(tasks.ITEMS, 4, key=keys[1], initializer=start),
    }

    def predict(model, x):
        product = model["users"](x[:, 0]) * model["items"](x[:, 1])
        return 3 + pb.sum(product, axis=1, keepdims=True)

    def loss(model, x, y):
        squares = pb.sum(model["users"].weight ** 2) + pb.sum(model["items"].weight ** 2)
        return nn.mse(predict(model, x), y) + 0.1 * squares  # here

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-2), (x, y), score, batch=32, steps=300)


@fault("friedman_lasso", "regulariser dominates", "OBJ08", "friedman_rmsprop", also="VER01 SIG03")
def friedman_lasso(seed: int) -> Setup:
    """Absolute values of all weights, in a sum."""
    x, y, x_valid, y_valid = tasks.friedman(seed)
    model = nn.MLP(10, 1, 56, 2, nn.elu, key=pb.random.key(seed))

    def loss(model, x, y):
        sizes = sum(pb.sum(pb.abs(layer.weight)) for layer in model.layers)
        return nn.huber(model(x), y) + 0.03 * sizes  # here

    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, loss, pb.optim.rmsprop(2e-3), (x, y), score, batch=48)


@fault("cosine_temperature", "temperature too small", "OBJ04", "digits_cosine", also="OPT01 SIG02")
def cosine_temperature(seed: int) -> Setup:
    """Cosines divided by a temperature of 1/2000: the first loss is in the hundreds."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {
        "body": nn.MLP(64, 32, 96, 1, nn.leaky_relu, key=keys[0]),
        "classes": pb.random.normal(keys[1], (10, 32)),
    }

    def unit(z):
        return z * pb.rsqrt(pb.sum(z * z, axis=-1, keepdims=True) + 1e-6)

    def predict(model, x):
        return unit(model["body"](x)) @ unit(model["classes"]).T / 0.0005  # here

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)  # here

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.sgd(0.02, momentum=0.9), (x, y), score, batch=50)


@fault(
    "digits_relu_logits",
    "relu before cross-entropy",
    "OBJ01",
    "digits_distilled",
    also="SIG03 CUT04 OBJ03 VER01",
)
def digits_relu_logits(seed: int) -> Setup:
    """A relu behind every layer, also behind the one that gives the logits."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = nn.Sequential(
        nn.Linear(64, 72, key=keys[0]), nn.relu, nn.Linear(72, 10, key=keys[1]), nn.relu
    )

    def loss(model, x, y):
        return nn.cross_entropy(model(x), y)  # here

    score = data.accuracy(call, x_valid, y_valid)
    return Setup(model, loss, pb.optim.sgd(0.1, momentum=0.9), (x, y), score)
