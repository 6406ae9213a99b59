"""Programs with nothing wrong, ordinary ones and odd ones. An alarm on one of them is false."""

from __future__ import annotations

from typing import Any

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.program import Setup, healthy

import pullback as pb
from pullback import nn


def logits(model: Any, x: Any) -> Any:
    return model(x)


def class_loss(model: Any, x: Any, y: Any) -> Any:
    return nn.cross_entropy(model(x), y)


def square_loss(model: Any, x: Any, y: Any) -> Any:
    return nn.mse(model(x), y)


# ---- dense ----------------------------------------------------------------------------------


@healthy("digits_mlp")
def digits_mlp(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(2e-3), (x, y), score)


@healthy("digits_sgd")
def digits_sgd(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.digits(seed)
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.sgd(0.1, momentum=0.9), (x, y), score)


@healthy("spirals_tanh")
def spirals_tanh(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.spirals(seed)
    model = nn.MLP(2, 3, 32, 2, pb.tanh, key=pb.random.key(seed))
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(1e-2), (x, y), score)


@healthy("spirals_relu")
def spirals_relu(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.spirals(seed)
    model = nn.MLP(2, 3, 48, 2, key=pb.random.key(seed))
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(1e-2), (x, y), score)


@healthy("moons_bce")
def moons_bce(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.moons(seed)
    model = nn.MLP(2, 1, 24, 2, nn.gelu, key=pb.random.key(seed))

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(model(x), y)

    score = data.binary_accuracy(logits, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score)


@healthy("wave_gelu")
def wave_gelu(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.wave(seed)
    model = nn.MLP(4, 1, 48, 2, nn.gelu, key=pb.random.key(seed))
    score = data.r_squared(logits, x_valid, y_valid)
    return Setup(model, square_loss, pb.optim.adam(5e-3), (x, y), score)


@healthy("wave_sgd")
def wave_sgd(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.wave(seed)
    model = nn.MLP(4, 1, 64, 2, pb.tanh, key=pb.random.key(seed))

    def loss(model, x, y):
        return pb.mean((model(x)[:, 0] - y[:, 0]) ** 2)

    score = data.r_squared(logits, x_valid, y_valid)
    return Setup(model, loss, pb.optim.sgd(0.05, momentum=0.9), (x, y), score)


@healthy("plane_linear")
def plane_linear(seed: int) -> Setup:
    """Least squares: one affine layer is all that is wanted."""
    x, y, x_valid, y_valid = data.plane(seed)
    params = {"w": pb.zeros((8, 1)), "b": pb.zeros((1,))}

    def predict(params, x):
        return x @ params["w"] + params["b"]

    def loss(params, x, y):
        return pb.mean((predict(params, x) - y) ** 2)

    score = data.r_squared(predict, x_valid, y_valid)
    return Setup(params, loss, pb.optim.sgd(0.1), (x, y), score)


@healthy("softmax_regression")
def softmax_regression(seed: int) -> Setup:
    """Multinomial regression that starts at 0, as it may: the problem is convex."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.Linear(64, 10, key=pb.random.key(seed), initializer=nn.init.zeros)
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.sgd(0.1, momentum=0.9), (x, y), score)


@healthy("deep_relu")
def deep_relu(seed: int) -> Setup:
    """Ten relu layers with he_normal."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.MLP(64, 10, 48, 10, key=pb.random.key(seed), initializer=nn.init.he_normal)
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(1e-3), (x, y), score)


@healthy("deep_tanh")
def deep_tanh(seed: int) -> Setup:
    """Twenty tanh layers with an orthogonal start."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    start = nn.init.orthogonal
    model = nn.MLP(64, 10, 32, 20, pb.tanh, key=pb.random.key(seed), initializer=start)
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(1e-3), (x, y), score)


@healthy("sigmoid_shallow")
def sigmoid_shallow(seed: int) -> Setup:
    """Two sigmoid layers: old-fashioned, and right."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.MLP(64, 10, 64, 2, nn.sigmoid, key=pb.random.key(seed))
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(1e-2), (x, y), score)


class Residual(nn.Module):
    """Blocks x + W relu(V norm(x))."""

    inputs: nn.Linear
    blocks: tuple[nn.Module, ...]
    norm: nn.LayerNorm
    head: nn.Linear

    def __call__(self, x):
        x = self.inputs(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def residual(seed: int, depth: int, last: Any = nn.init.lecun_normal) -> Residual:
    keys = pb.random.split(pb.random.key(seed), 2 * depth + 2)

    def block(i):
        first = nn.Linear(48, 48, key=keys[2 * i], initializer=nn.init.he_normal)
        second = nn.Linear(48, 48, key=keys[2 * i + 1], initializer=last)
        return nn.ResidualBlock(nn.Sequential(nn.LayerNorm(48), first, nn.relu, second))

    blocks = tuple(block(i) for i in range(depth))
    inputs, head = nn.Linear(64, 48, key=keys[-1]), nn.Linear(48, 10, key=keys[-2])
    return Residual(inputs, blocks, nn.LayerNorm(48), head)


@healthy("residual")
def residual_net(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.standard_digits(seed)
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(residual(seed, 6), class_loss, pb.optim.adam(1e-3), (x, y), score)


@healthy("residual_from_zero")
def residual_from_zero(seed: int) -> Setup:
    """Branches that end with weights of 0: at the first step the block is the identity."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = residual(seed, 6, last=nn.init.zeros)
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(1e-3), (x, y), score)


@healthy("zero_head")
def zero_head(seed: int) -> Setup:
    """A last layer of zeros: the loss starts at ln K exactly."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    head = nn.Linear(64, 10, key=keys[1], initializer=nn.init.zeros)
    model = nn.Sequential(nn.Linear(64, 64, key=keys[0]), nn.relu, head)
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(3e-3), (x, y), score)


@healthy("dropout")
def dropout(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.standard_digits(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = nn.Sequential(
        nn.Linear(64, 128, key=keys[0]),
        nn.relu,
        nn.Dropout(0.4),
        nn.Linear(128, 10, key=keys[1]),
    )

    def loss(model, x, y, key):
        return nn.cross_entropy(model(x, train=True, key=key), y)

    score = data.accuracy(lambda model, x: model(x, train=False), x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x, y), score, key=keys[2])


@healthy("autoencoder")
def autoencoder(seed: int) -> Setup:
    """Pixels in [0, 1] through eight numbers, a sigmoid at the end: it reaches its targets."""
    x, _, x_valid, _ = data.digits(seed)
    keys = pb.random.split(pb.random.key(seed), 4)
    model = nn.Sequential(
        nn.Linear(64, 48, key=keys[0]),
        nn.relu,
        nn.Linear(48, 12, key=keys[1]),
        nn.Linear(12, 48, key=keys[2]),
        nn.relu,
        nn.Linear(48, 64, key=keys[3]),
        nn.sigmoid,
    )

    def loss(model, x):
        return pb.mean((model(x) - x) ** 2)

    score = data.r_squared(logits, x_valid, x_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x,), score, steps=300)


@healthy("uncertain")
def uncertain(seed: int) -> Setup:
    """A mean and a log variance for each sample, learnt by maximum likelihood."""
    x, y, x_valid, y_valid = data.wave(seed)
    model = nn.MLP(4, 2, 48, 2, nn.silu, key=pb.random.key(seed))

    def loss(model, x, y):
        mean, log_variance = model(x)[:, :1], model(x)[:, 1:]
        return pb.mean(log_variance + (y - mean) ** 2 * pb.exp(-log_variance)) / 2

    score = data.r_squared(lambda model, x: model(x)[:, :1], x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(5e-3), (x, y), score)


@healthy("noisy_labels")
def noisy_labels(seed: int) -> Setup:
    """A quarter of the labels is wrong, as labels are: the loss cannot become small."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    rng = np.random.default_rng(seed)
    y = np.where(rng.random(len(y)) < 0.25, rng.integers(0, 10, len(y)), y)
    model = nn.MLP(64, 10, 32, 1, key=pb.random.key(seed))
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adamw(2e-3), (x, y), score)


@healthy("rare_class")
def rare_class(seed: int) -> Setup:
    """One class in ten samples, the other in nine."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    t, t_valid = [(labels == 3).astype(np.float32)[:, None] for labels in (y, y_valid)]
    model = nn.MLP(64, 1, 32, 1, key=pb.random.key(seed))

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(model(x), y)

    score = data.binary_accuracy(logits, x_valid, t_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x, t), score)


@healthy("full_batch")
def full_batch(seed: int) -> Setup:
    """Gradient descent on all samples at once, at the edge of stability: the loss may rise."""
    x, y, x_valid, y_valid = data.spirals(seed)
    model = nn.MLP(2, 3, 32, 2, pb.tanh, key=pb.random.key(seed))
    score = data.accuracy(logits, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.3, momentum=0.9)
    return Setup(model, class_loss, optimizer, (x, y), score, batch=1280, steps=300)


@healthy("warm_up")
def warm_up(seed: int) -> Setup:
    """AdamW with warm-up and a cosine, the norm clipped at 1: the first steps are tiny."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.MLP(64, 10, 64, 3, nn.gelu, key=pb.random.key(seed))
    optimizer = pb.optim.adamw(pb.optim.warmup_cosine(5e-3, 40, 200), weight_decay=0.05)
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, optimizer, (x, y), score, options={"clip": 1.0})


@healthy("half_precision")
def half_precision(seed: int) -> Setup:
    """Computed in bfloat16, kept in float32."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(2e-3), (x, y), score, precision="bf16")


@healthy("fp16")
def fp16(seed: int) -> Setup:
    """Computed in float16 with a scaled loss: a few skipped steps belong to it."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(2e-3), (x, y), score, precision="fp16")


# ---- odd, but right -------------------------------------------------------------------------


@healthy("frozen_features")
def frozen_features(seed: int) -> Setup:
    """Random features, frozen on purpose, and a head that learns."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.freeze(nn.MLP(64, 10, 256, 1, key=pb.random.key(seed)), "layers[0]")
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(3e-3), (x, y), score)


class Probed(nn.Module):
    """A classifier, and a probe that reads its features without changing them."""

    body: nn.Linear
    head: nn.Linear
    probe: nn.Linear


@healthy("declared_stop")
def declared_stop(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.standard_digits(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    layers = [nn.Linear(64, 48, key=keys[0]), nn.Linear(48, 10, key=keys[1])]
    model = Probed(*layers, nn.Linear(48, 10, key=keys[2]))

    def loss(model, x, y):
        features = nn.relu(model.body(x))
        probed = pb.stop_gradient(features, why="the probe must not change the features")
        return nn.cross_entropy(model.head(features), y) + nn.cross_entropy(model.probe(probed), y)

    score = data.accuracy(lambda model, x: model.head(nn.relu(model.body(x))), x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), (x, y), score)


@healthy("contrast")
def contrast(seed: int) -> Setup:
    """Two views of an image are drawn together, all others apart: pairs of samples on purpose."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    rng = np.random.default_rng(seed)
    near = [x + rng.normal(0, 0.5, x.shape).astype(np.float32) for _ in range(2)]
    model = nn.MLP(64, 16, 64, 1, key=pb.random.key(seed))

    def loss(model, a, b):
        left, right = model(a), model(b)
        left = left / pb.sqrt(pb.sum(left**2, axis=1, keepdims=True) + 1e-6)
        right = right / pb.sqrt(pb.sum(right**2, axis=1, keepdims=True) + 1e-6)
        return nn.cross_entropy(left @ right.T / 0.2, pb.arange(left.shape[0]))

    def nearest(model, points):
        a, b = np.asarray(model(x)), np.asarray(model(points))
        a, b = [z / np.linalg.norm(z, axis=1, keepdims=True) for z in (a, b)]
        return np.eye(10)[y[(b @ a.T).argmax(1)]]

    score = data.accuracy(nearest, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(3e-3), tuple(near), score)


@healthy("accumulated")
def accumulated(seed: int) -> Setup:
    """Four parts of a batch, their gradients averaged."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))
    score = data.accuracy(logits, x_valid, y_valid)
    options = {"accumulate": 4}
    return Setup(model, class_loss, pb.optim.adam(2e-3), (x, y), score, options=options)


@healthy("hand_written_step")
def hand_written_step(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))
    optimizer = pb.optim.sgd(0.1, momentum=0.9)

    @pb.compile
    def step(state, x, y):
        model, memory = state
        loss, grads = pb.value_and_grad(class_loss)(model, x, y)
        updates, memory = optimizer.update(grads, memory, model)
        return (pb.optim.apply_updates(model, updates), memory), (loss, grads)

    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, optimizer, (x, y), score, step=step)


# ---- convolutions ---------------------------------------------------------------------------


@healthy("conv")
def conv(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.images(seed)
    keys = pb.random.split(pb.random.key(seed), 3)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, key=keys[0], initializer=nn.init.he_normal),
        nn.relu,
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1, key=keys[1], initializer=nn.init.he_normal),
        nn.relu,
        flat,
        nn.Linear(256, 10, key=keys[2]),
    )
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(3e-3), (x, y), score, batch=32)


def flat(x: Any) -> Any:
    return x.reshape(x.shape[0], -1)


def normed_conv(seed: int) -> nn.Sequential:
    keys = pb.random.split(pb.random.key(seed), 3)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, key=keys[0]),
        nn.BatchNorm(8),
        nn.relu,
        nn.Conv2d(8, 8, 3, 2, padding=1, key=keys[1]),
        nn.BatchNorm(8),
        nn.relu,
        flat,
        nn.Linear(128, 10, key=keys[2]),
    )


def batch_norm_score(x_valid: Any, y_valid: Any) -> Any:
    def predict(trained, x):
        model, state = trained
        return model(x, state, train=False)[0]

    return data.accuracy(predict, x_valid, y_valid)


@healthy("conv_batch_norm")
def conv_batch_norm(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.images(seed)
    model = normed_conv(seed)

    def loss(model, x, y, state):
        out, state = model(x, state, train=True)
        return nn.cross_entropy(out, y), state

    score = batch_norm_score(x_valid, y_valid)
    state = model.initial_state()
    optimizer = pb.optim.adam(3e-3)
    return Setup(model, loss, optimizer, (x, y), score, batch=32, network_state=state)


# ---- sequences ------------------------------------------------------------------------------


class Reader(nn.Module):
    """A recurrent layer, and a head on its last state."""

    body: nn.Module
    head: nn.Linear

    def __call__(self, x):
        return self.head(self.body(x)[0][:, -1])


@healthy("recall_gru")
def recall_gru(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.recall(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = Reader(nn.GRU(5, 24, key=keys[0]), nn.Linear(24, 4, key=keys[1]))
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(1e-2), (x, y), score)


@healthy("running_rnn")
def running_rnn(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.running(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = Reader(nn.RNN(1, 24, key=keys[0]), nn.Linear(24, 1, key=keys[1]))
    score = data.r_squared(logits, x_valid, y_valid)
    return Setup(model, square_loss, pb.optim.adam(5e-3), (x, y), score)


class Unrolled(nn.Module):
    """A recurrent net with its loop written out."""

    inputs: nn.Linear
    hidden: nn.Linear
    head: nn.Linear

    def __call__(self, x):
        h = pb.tanh(self.inputs(x[:, 0]))
        for t in range(1, x.shape[1]):
            h = pb.tanh(self.inputs(x[:, t]) + self.hidden(h))
        return self.head(h)


def unrolled(seed: int, hidden: Any) -> Unrolled:
    keys = pb.random.split(pb.random.key(seed), 3)
    inner = nn.Linear(24, 24, key=keys[1], initializer=hidden)
    return Unrolled(nn.Linear(1, 24, key=keys[0]), inner, nn.Linear(24, 1, key=keys[2]))


@healthy("running_unrolled")
def running_unrolled(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.running(seed)
    model = unrolled(seed, nn.init.orthogonal)
    score = data.r_squared(logits, x_valid, y_valid)
    return Setup(model, square_loss, pb.optim.adam(5e-3), (x, y), score)


class Language(nn.Module):
    """Words and places, blocks of causal attention, the next word."""

    words: nn.Embedding
    places: nn.Embedding
    blocks: tuple[nn.TransformerBlock, ...]
    norm: nn.LayerNorm
    head: nn.Linear

    def __call__(self, words):
        x = self.words(words) + self.places(pb.arange(words.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def language(seed: int, causal: bool = True) -> Language:
    keys = pb.random.split(pb.random.key(seed), 5)
    block = nn.TransformerBlock(16, 2, causal=causal, key=keys[0])
    words, places = nn.Embedding(data.WORDS, 16, key=keys[2]), nn.Embedding(12, 16, key=keys[3])
    head = nn.Linear(16, data.WORDS, key=keys[4])
    return Language(words, places, (block,), nn.LayerNorm(16), head)


def last_word(model: Any, words: Any) -> Any:
    """What follows each prefix, the rest replaced: no word can be read before it is said."""
    scores = []
    for t in (3, 7, 11):
        prefix = np.where(np.arange(words.shape[1]) <= t, words, 0)
        scores.append(np.asarray(model(prefix))[:, t])
    return np.stack(scores, 1)


def language_score(x_valid: Any, y_valid: Any) -> Any:
    return data.accuracy(last_word, x_valid[:100], y_valid[:100, [3, 7, 11]])


@healthy("language")
def language_model(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.chain(seed)
    score = language_score(x_valid, y_valid)
    optimizer = pb.optim.adamw(1e-2)
    return Setup(language(seed), class_loss, optimizer, (x, y), score, batch=16)


class Sentence(nn.Module):
    """Attention among the words of a sentence, their mean, a class."""

    words: nn.Embedding
    attention: nn.MultiHeadAttention
    norm: nn.LayerNorm
    head: nn.Linear

    def __call__(self, words, mask=None):
        x = self.words(words)
        x = self.norm(x + self.attention(x, mask=mask))
        return self.head(pb.mean(x, axis=1))


def sentence(seed: int) -> Sentence:
    keys = pb.random.split(pb.random.key(seed), 3)
    attention = nn.MultiHeadAttention(16, 2, key=keys[1])
    words, head = nn.Embedding(data.WORDS, 16, key=keys[0]), nn.Linear(16, 3, key=keys[2])
    return Sentence(words, attention, nn.LayerNorm(16), head)


@healthy("sentence")
def sentence_class(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.majority(seed)
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(sentence(seed), class_loss, pb.optim.adam(3e-3), (x, y), score)


@healthy("padded_sentence")
def padded_sentence(seed: int) -> Setup:
    """The last words of some sentences are padding, which attention must not see."""
    x, y, x_valid, y_valid = data.majority(seed)
    lengths = np.random.default_rng(seed).integers(10, 16, (len(x), 1))
    seen = np.arange(15) < lengths

    def loss(model, x, y, seen):
        return nn.cross_entropy(model(x, seen[:, None, None, :]), y)

    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(sentence(seed), loss, pb.optim.adam(3e-3), (x, y, seen), score)


@healthy("bag_of_words")
def bag_of_words(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.majority(seed)
    keys = pb.random.split(pb.random.key(seed), 2)
    model = {
        "words": nn.Embedding(data.WORDS, 16, key=keys[0]),
        "head": nn.Linear(16, 3, key=keys[1]),
    }

    def predict(model, x):
        return model["head"](pb.mean(model["words"](x), axis=1))

    def loss(model, x, y):
        return nn.cross_entropy(predict(model, x), y)

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score)


@healthy("counts")
def counts(seed: int) -> Setup:
    """Poisson regression: the network gives the logarithm of a rate."""
    x, rate, x_valid, rate_valid = data.rates(seed)
    y = np.random.default_rng(seed + 5).poisson(rate).astype(np.float32)
    model = nn.MLP(4, 1, 32, 1, pb.tanh, key=pb.random.key(seed))

    def loss(model, x, y):
        z = model(x)
        return pb.mean(pb.exp(z) - y * z)

    score = data.r_squared(lambda model, x: pb.exp(model(x)), x_valid, rate_valid)
    return Setup(model, loss, pb.optim.adam(1e-2), (x, y), score)
