"""Programs with nothing wrong: convolutions, recurrent nets, attention."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.fresh import tasks
from benchmarks.faults.fresh.healthy import binary_loss, call, class_loss, square_loss
from benchmarks.faults.program import Setup, healthy

import pullback as pb
from pullback import nn

# ---- convolutions ---------------------------------------------------------------------------


def flat(x: Any) -> Any:
    return x.reshape(x.shape[0], -1)


def shape_net(seed: int, initializer: Any = nn.init.he_normal) -> nn.Sequential:
    keys = pb.random.split(pb.random.key(seed), 3)
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, key=keys[0], initializer=initializer),
        nn.relu,
        nn.MaxPool2d(2),
        nn.Conv2d(12, 16, 3, padding=1, key=keys[1], initializer=initializer),
        nn.relu,
        flat,
        nn.Linear(400, 4, key=keys[2]),
    )


@healthy("shapes_conv")
def shapes_conv(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.shapes(seed)
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(shape_net(seed), class_loss, pb.optim.adam(3e-3), (x, y), score, batch=40)


@healthy("shapes_half")
def shapes_half(seed: int) -> Setup:
    """The same in float16, the loss scaled."""
    x, y, x_valid, y_valid = tasks.shapes(seed)
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.adam(3e-3)
    net = shape_net(seed)
    return Setup(net, class_loss, optimizer, (x, y), score, batch=40, precision="fp16")


def normed_shapes(seed: int) -> nn.Sequential:
    keys = pb.random.split(pb.random.key(seed), 3)
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, use_bias=False, key=keys[0]),
        nn.BatchNorm(12),
        nn.relu,
        nn.AvgPool2d(2),
        nn.Conv2d(12, 12, 3, padding=1, use_bias=False, key=keys[1]),
        nn.BatchNorm(12),
        nn.relu,
        flat,
        nn.Linear(300, 4, key=keys[2]),
    )


def with_state(x_valid: Any, y_valid: Any) -> Any:
    return data.accuracy(lambda both, x: both[0](x, both[1], train=False)[0], x_valid, y_valid)


@healthy("shapes_batch_norm")
def shapes_batch_norm(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.shapes(seed)
    model = normed_shapes(seed)

    def loss(model, x, y, state):
        out, state = model(x, state, train=True)
        return nn.cross_entropy(out, y), state

    optimizer = pb.optim.sgd(0.1, momentum=0.9, nesterov=True)
    score, state = with_state(x_valid, y_valid), model.initial_state()
    return Setup(model, loss, optimizer, (x, y), score, batch=40, network_state=state)


@healthy("boxes_mask")
def boxes_mask(seed: int) -> Setup:
    """A pixel-wise answer: down, up again, and a bridge between."""
    x, y, x_valid, y_valid = tasks.boxes(seed)
    model = mask_net(seed)

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(paint(model, x), y)

    score = data.binary_accuracy(paint, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score, batch=32, steps=150)


def mask_net(seed: int) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 4)
    return {
        "first": nn.Conv2d(1, 8, 3, padding=1, key=keys[0]),
        "down": nn.Conv2d(8, 16, 2, 2, key=keys[1]),
        "up": nn.ConvTranspose2d(16, 8, 2, 2, key=keys[2]),
        "last": nn.Conv2d(16, 1, 3, padding=1, key=keys[3]),
    }


def paint(model: Any, x: Any) -> Any:
    fine = nn.relu(model["first"](x))
    coarse = nn.relu(model["up"](nn.relu(model["down"](fine))))
    return model["last"](pb.concat([fine, coarse], axis=1))


def tone_net(seed: int) -> nn.Sequential:
    keys = pb.random.split(pb.random.key(seed), 3)
    return nn.Sequential(
        nn.Conv1d(1, 16, 5, padding=2, key=keys[0]),
        nn.leaky_relu,
        nn.Conv1d(16, 16, 5, 2, padding=2, key=keys[1]),
        nn.leaky_relu,
        lambda x: pb.mean(x, axis=2),
        nn.Linear(16, 3, key=keys[2]),
    )


@healthy("tones_conv")
def tones_conv(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.tones(seed)
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.adamw(pb.optim.one_cycle(2e-2, 200))
    return Setup(tone_net(seed), class_loss, optimizer, (x, y), score, batch=32)


# ---- recurrent nets -------------------------------------------------------------------------


class Last(nn.Module):
    """A recurrent layer, and a head on what it gives last."""

    body: nn.Module
    head: nn.Linear

    def __call__(self, x):
        return self.head(self.body(x)[0][:, -1])


@healthy("adding_lstm")
def adding_lstm(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.adding(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = Last(nn.LSTM(2, 24, key=keys[0]), nn.Linear(24, 1, key=keys[1]))
    score = data.r_squared(call, x_valid, y_valid)
    optimizer, options = pb.optim.adam(1e-2), {"clip": 1.0}
    return Setup(model, square_loss, optimizer, (x, y), score, steps=500, options=options)


@healthy("series_gru")
def series_gru(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.series(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = Last(nn.GRU(1, 20, key=keys[0]), nn.Linear(20, 1, key=keys[1]))

    def loss(model, x, y):
        return nn.mae(model(x), y)

    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score, batch=32)


@healthy("series_rnn")
def series_rnn(seed: int) -> Setup:
    """A tanh net with gradient descent, its gradient clipped."""
    x, y, x_valid, y_valid = tasks.series(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = Last(nn.RNN(1, 28, key=keys[0]), nn.Linear(28, 1, key=keys[1]))
    score = data.r_squared(call, x_valid, y_valid)
    optimizer, options = pb.optim.sgd(0.05, momentum=0.9), {"clip": 1.0}
    return Setup(model, square_loss, optimizer, (x, y), score, batch=32, options=options)


class Verdict(nn.Module):
    """Words, a recurrent layer, one logit or some."""

    words: nn.Embedding
    body: nn.Module
    head: nn.Linear

    def __call__(self, words):
        return self.head(self.body(self.words(words))[0][:, -1])


def verdict(seed: int, outputs: int = 1) -> Verdict:
    keys = pb.random.split(pb.random.key(seed), 3)
    words = nn.Embedding(tasks.TOKENS, 12, key=keys[0], initializer=nn.init.normal)
    return Verdict(words, nn.LSTM(12, 24, key=keys[1]), nn.Linear(24, outputs, key=keys[2]))


@healthy("order_lstm")
def order_lstm(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.order(seed)
    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(verdict(seed), binary_loss, pb.optim.adam(1e-2), (x, y), score, batch=32)


class Speaker(nn.Module):
    """A recurrent language model."""

    words: nn.Embedding
    body: nn.Module
    head: nn.Linear

    def __call__(self, words):
        return self.head(self.body(self.words(words))[0])


@healthy("sums_gru")
def sums_gru(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.sums(seed)
    model = speaker(seed)
    score = tasks.next_word(call, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(2e-2), (x, y), score, batch=32)


def speaker(seed: int, reverse: bool = False) -> Speaker:
    keys = pb.random.split(pb.random.key(seed), 3)
    words = nn.Embedding(tasks.MODULUS, 12, key=keys[0], initializer=nn.init.normal)
    body = nn.GRU(12, 40, reverse=reverse, key=keys[1])
    return Speaker(words, body, nn.Linear(40, tasks.MODULUS, key=keys[2]))


# ---- attention ------------------------------------------------------------------------------


class Writer(nn.Module):
    """Words, places, blocks, the next word."""

    words: nn.Embedding
    places: nn.Embedding
    blocks: tuple[nn.TransformerBlock, ...]
    norm: nn.LayerNorm
    head: nn.Linear

    def __call__(self, words):
        h = self.words(words) + self.places(pb.arange(words.shape[1]))
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h))


def writer(seed: int, **how: Any) -> Writer:
    keys = pb.random.split(pb.random.key(seed), 5)
    start = partial(nn.init.normal, std=0.5)
    blocks = (nn.TransformerBlock(24, 2, key=keys[0], **({"causal": True} | how)),)
    words = nn.Embedding(tasks.MODULUS, 24, key=keys[2], initializer=start)
    places = nn.Embedding(12, 24, key=keys[3], initializer=start)
    head = nn.Linear(24, tasks.MODULUS, key=keys[4])
    return Writer(words, places, blocks, nn.LayerNorm(24), head)


@healthy("sums_transformer")
def sums_transformer(seed: int) -> Setup:
    """AdamW, warm-up and clipping."""
    x, y, x_valid, y_valid = tasks.sums(seed)
    optimizer = pb.optim.adamw(pb.optim.warmup_cosine(1e-2, 30, 300))
    score = tasks.next_word(call, x_valid, y_valid)
    more: Any = {"steps": 300, "options": {"clip": 1.0}}
    return Setup(writer(seed), class_loss, optimizer, (x, y), score, batch=32, **more)


@healthy("sums_brain_float")
def sums_brain_float(seed: int) -> Setup:
    """Computed in bfloat16; two halves of a batch, one after the other."""
    x, y, x_valid, y_valid = tasks.sums(seed)
    score = tasks.next_word(call, x_valid, y_valid)
    return Setup(
        writer(seed, norm=nn.RMSNorm),
        class_loss,
        pb.optim.adamw(6e-3),
        (x, y),
        score,
        batch=32,
        steps=200,
        options={"accumulate": 2},
        precision="bf16",
    )


class Finder(nn.Module):
    """Words and places, attention among them, the sum of what was read."""

    words: nn.Embedding
    places: nn.Embedding
    block: nn.TransformerBlock
    head: nn.Linear

    def __call__(self, words):
        h = self.words(words) + self.places(pb.arange(words.shape[1]))
        return self.head(pb.mean(self.block(h), axis=1))


def finder(seed: int, outputs: int = 1) -> Finder:
    keys = pb.random.split(pb.random.key(seed), 4)
    start = nn.init.normal
    return Finder(
        nn.Embedding(tasks.TOKENS, 20, key=keys[0], initializer=start),
        nn.Embedding(10, 20, key=keys[1], initializer=start),
        nn.TransformerBlock(20, 2, 40, key=keys[2]),
        nn.Linear(20, outputs, key=keys[3]),
    )


@healthy("order_attention")
def order_attention(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.order(seed)
    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(finder(seed), binary_loss, pb.optim.adam(3e-3), (x, y), score, batch=64)


def topic_net(seed: int) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 3)
    start = nn.init.normal
    return {
        "words": nn.Embedding(tasks.TOKENS, 16, key=keys[0], initializer=start),
        "attention": nn.MultiHeadAttention(16, 4, key=keys[1]),
        "head": nn.Linear(16, 3, key=keys[2]),
    }


def topic(model: Any, x: Any) -> Any:
    """Padding is neither attended to nor counted in the mean."""
    seen = x != 0
    h = model["words"](x)
    h = h + model["attention"](h, mask=seen[:, None, None, :])
    share = seen / seen.sum(axis=1, keepdims=True)
    return model["head"](pb.sum(h * share.astype(np.float32)[:, :, None], axis=1))


@healthy("topics_padded")
def topics_padded(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.topics(seed)

    def loss(model, x, y):
        return nn.cross_entropy(topic(model, x), y, label_smoothing=0.05)

    score = data.accuracy(topic, x_valid, y_valid)
    return Setup(topic_net(seed), loss, pb.optim.adam(3e-3), (x, y), score)


@healthy("marked_pooling")
def marked_pooling(seed: int) -> Setup:
    """Scores of places, a softmax over them, a weighted sum: attention by hand."""
    x, y, x_valid, y_valid = tasks.marked(seed)
    model = pooling_net(seed)

    def predict(model, x):
        h = model["body"](model["words"](x))[0]
        weights = pb.softmax(model["scorer"](h), axis=1)
        return model["head"](pb.sum(weights * h, axis=1))

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score)


def pooling_net(seed: int) -> dict[str, Any]:
    keys = pb.random.split(pb.random.key(seed), 4)
    words = nn.Embedding(tasks.TOKENS, 16, key=keys[0], initializer=nn.init.normal)
    return {
        "words": words,
        "body": nn.GRU(16, 24, key=keys[1]),
        "scorer": nn.Linear(24, 1, key=keys[2]),
        "head": nn.Linear(24, 4, key=keys[3]),
    }
