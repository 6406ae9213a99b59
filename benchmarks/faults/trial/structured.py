"""Programs with nothing wrong: images, spectra, sets, graphs, sequences."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.fresh.tasks import next_word
from benchmarks.faults.program import Setup, healthy
from benchmarks.faults.trial import tasks
from benchmarks.faults.trial.healthy import binary_loss, call, class_loss, keys_of, square_loss

import pullback as pb
from pullback import nn

# ---- images ---------------------------------------------------------------------------------


def everywhere(x: Any) -> Any:
    """The mean over the places of an image."""
    return pb.mean(x, axis=(2, 3))


def grating_net(seed: int, activation: Any = nn.relu, start: Any = nn.init.he_normal) -> Any:
    keys = keys_of(seed, 3)
    return nn.Sequential(
        nn.Conv2d(1, 12, 4, key=keys[0], initializer=start),
        activation,
        nn.Conv2d(12, 16, 3, 2, key=keys[1], initializer=start),
        activation,
        everywhere,
        nn.Linear(16, 4, key=keys[2]),
    )


@healthy("gratings_pooled")
def gratings_pooled(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.gratings(seed)
    score = data.accuracy(call, x_valid, y_valid)
    return Setup(grating_net(seed), class_loss, pb.optim.adam(5e-3), (x, y), score, batch=40)


@healthy("gratings_brain_float")
def gratings_brain_float(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.gratings(seed)
    score = data.accuracy(call, x_valid, y_valid)
    net, optimizer = grating_net(seed, nn.silu), pb.optim.adamw(5e-3)
    return Setup(net, class_loss, optimizer, (x, y), score, batch=40, precision="bf16")


@healthy("gratings_blocks")
def gratings_blocks(seed: int) -> Setup:
    """Residual blocks with normalised groups, whose last scales start at zero."""
    x, y, x_valid, y_valid = tasks.gratings(seed)
    keys = keys_of(seed, 4)

    def block(key):
        last = nn.GroupNorm(2, 8).replace(weight=pb.zeros((8,)))
        inner = nn.Conv2d(8, 8, 3, padding=1, use_bias=False, key=key)
        return nn.ResidualBlock(nn.Sequential(nn.GroupNorm(2, 8), nn.silu, inner, last))

    model = nn.Sequential(
        nn.Conv2d(1, 8, 4, key=keys[0]), block(keys[1]), block(keys[2]), nn.silu, everywhere,
        nn.Linear(8, 4, key=keys[3]),
    )  # fmt: skip
    score = data.accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.1, momentum=0.9, nesterov=True)
    return Setup(model, class_loss, optimizer, (x, y), score, batch=40, steps=150)


def spot_net(seed: int, *last: Any) -> nn.Sequential:
    keys = keys_of(seed, 3)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, key=keys[0]),
        nn.relu,
        nn.Conv2d(8, 8, 3, padding=1, key=keys[1]),
        nn.relu,
        everywhere,
        nn.Linear(8, 1, key=keys[2]),
        *last,
    )


@healthy("spots_counted")
def spots_counted(seed: int) -> Setup:
    """Whole numbers from 0 to 5, of which 4 is more than 2: a squared error is right."""
    x, y, x_valid, y_valid = tasks.spots(seed)
    score = data.r_squared(call, x_valid, y_valid)
    return Setup(spot_net(seed), square_loss, pb.optim.adam(1e-2), (x, y), score, batch=40)


# ---- signals --------------------------------------------------------------------------------


def beat_net(seed: int, activation: Any = nn.relu) -> nn.Sequential:
    keys = keys_of(seed, 3)
    return nn.Sequential(
        nn.Conv1d(1, 10, 7, 2, key=keys[0]),
        activation,
        nn.Conv1d(10, 10, 5, 2, key=keys[1]),
        activation,
        lambda x: x.reshape(x.shape[0], -1),
        nn.Linear(60, 1, key=keys[2]),
    )


@healthy("beats_conv")
def beats_conv(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.beats(seed)
    score = data.binary_accuracy(call, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.05, momentum=0.9)
    return Setup(beat_net(seed), binary_loss, optimizer, (x, y), score, batch=40)


def normed_beats(seed: int) -> nn.Sequential:
    keys = keys_of(seed, 3)
    return nn.Sequential(
        nn.Conv1d(1, 10, 7, 2, use_bias=False, key=keys[0]),
        nn.BatchNorm(10),
        nn.relu,
        nn.Conv1d(10, 10, 5, 2, use_bias=False, key=keys[1]),
        nn.BatchNorm(10),
        nn.relu,
        lambda x: x.reshape(x.shape[0], -1),
        nn.Linear(60, 1, key=keys[2]),
    )


def in_use(both: Any, x: Any) -> Any:
    return both[0](x, both[1], train=False)[0]


@healthy("beats_batch_norm")
def beats_batch_norm(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.beats(seed)
    model = normed_beats(seed)

    def loss(model, x, y, state):
        out, state = model(x, state, train=True)
        return nn.binary_cross_entropy_with_logits(out, y), state

    score, state = data.binary_accuracy(in_use, x_valid, y_valid), model.initial_state()
    optimizer = pb.optim.adamw(5e-3)
    return Setup(model, loss, optimizer, (x, y), score, batch=40, network_state=state)


def coder(seed: int, code: int = 5, outputs: int = 5) -> dict[str, Any]:
    keys = keys_of(seed, 2)
    return {
        "encoder": nn.MLP(tasks.BINS, outputs, 48, 1, nn.silu, key=keys[0]),
        "decoder": nn.MLP(code, tasks.BINS, 48, 1, nn.silu, key=keys[1]),
    }


def again(model: Any, x: Any) -> Any:
    """Probabilities of light, from a code."""
    return nn.sigmoid(model["decoder"](model["encoder"](x)))


@healthy("spectra_coded")
def spectra_coded(seed: int) -> Setup:
    """An autoencoder whose targets are shares, for which a binary cross-entropy is right."""
    x, _, x_valid, _ = tasks.spectra(seed)

    def loss(model, x):
        logits = model["decoder"](model["encoder"](x))
        return nn.binary_cross_entropy_with_logits(logits, x)

    score = data.r_squared(again, x_valid, x_valid)
    return Setup(coder(seed), loss, pb.optim.adam(8e-3), (x,), score, steps=300)


@healthy("spectra_drawn")
def spectra_drawn(seed: int) -> Setup:
    """A variational autoencoder with a weak pull to the prior."""
    x, _, x_valid, _ = tasks.spectra(seed)
    key = pb.random.key(seed + 8)

    def loss(model, x, key):
        code = model["encoder"](x)
        mean, log_spread = code[:, :5], code[:, 5:]
        drawn = mean + pb.exp(log_spread) * pb.random.normal(key, mean.shape)
        kl = pb.sum(pb.exp(2 * log_spread) + mean**2 - 1 - 2 * log_spread, axis=1) / 2
        error = pb.sum((nn.sigmoid(model["decoder"](drawn)) - x) ** 2, axis=1)
        return pb.mean(20 * error + 0.1 * kl)

    score = data.r_squared(drawn_again, x_valid, x_valid)
    model, optimizer = coder(seed, outputs=10), pb.optim.adam(8e-3)
    return Setup(model, loss, optimizer, (x,), score, steps=300, key=key)


def drawn_again(model: Any, x: Any) -> Any:
    return nn.sigmoid(model["decoder"](model["encoder"](x)[:, :5]))


def cleaner(seed: int) -> nn.MLP:
    return nn.MLP(tasks.BINS, tasks.BINS, 64, 1, nn.gelu, key=pb.random.key(seed))


def soiled(x: Any) -> Any:
    """Noise of another seed, to judge by."""
    return (x + np.random.default_rng(5).normal(0, 0.3, x.shape)).astype(np.float32)


@healthy("spectra_cleaned")
def spectra_cleaned(seed: int) -> Setup:
    """Noise is added in each step anew, and taken off."""
    x, _, x_valid, _ = tasks.spectra(seed)

    def loss(model, x, key):
        return nn.mse(model(x + 0.3 * pb.random.normal(key, x.shape)), x)

    score, key = data.r_squared(call, soiled(x_valid), x_valid), pb.random.key(seed + 7)
    return Setup(cleaner(seed), loss, pb.optim.adam(4e-3), (x,), score, steps=300, key=key)


# ---- sets and graphs ------------------------------------------------------------------------


def set_net(seed: int) -> dict[str, Any]:
    keys = keys_of(seed, 3)
    return {
        "point": nn.MLP(2, 32, 32, 1, key=keys[0]),
        "weight": nn.Linear(2, 1, key=keys[1]),
        "last": nn.MLP(32, 1, 32, 1, key=keys[2]),
    }


def pooled(model: Any, x: Any) -> Any:
    """Points, weighted among themselves."""
    weights = pb.softmax(model["weight"](x), axis=1)
    return model["last"](pb.sum(weights * model["point"](x), axis=1))


@healthy("clouds_pooled")
def clouds_pooled(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.clouds(seed)

    def loss(model, x, y):
        return nn.huber(pooled(model, x), y)

    score = data.r_squared(pooled, x_valid, y_valid)
    return Setup(set_net(seed), loss, pb.optim.adam(5e-3), (x, y), score, steps=250)


def graph_net(seed: int, outputs: int = 1) -> dict[str, Any]:
    keys = keys_of(seed, 4)
    return {
        "own": nn.Linear(3, 24, key=keys[0]),
        "others": nn.Linear(3, 24, key=keys[1]),
        "mix": nn.Linear(24, 24, key=keys[2]),
        "last": nn.Linear(24, outputs, key=keys[3]),
    }


def talk(model: Any, x: Any, edges: Any) -> Any:
    """One round of messages, and the mean over the nodes."""
    means = edges @ x / pb.maximum(pb.sum(edges, axis=2, keepdims=True), 1.0)
    h = nn.relu(model["own"](x) + model["others"](means))
    return model["last"](pb.mean(nn.relu(model["mix"](h)), axis=1))


@healthy("graphs_messages")
def graphs_messages(seed: int) -> Setup:
    x, edges, y, valid, y_valid = tasks.graphs(seed)

    def loss(model, x, edges, y):
        return nn.binary_cross_entropy_with_logits(talk(model, x, edges), y)

    score = data.binary_accuracy(lambda model, both: talk(model, *both), valid, y_valid)
    return Setup(graph_net(seed), loss, pb.optim.adam(1e-2), (x, edges, y), score, steps=300)


# ---- sequences ------------------------------------------------------------------------------


class Each(nn.Module):
    """A recurrent layer, and a head at each place."""

    body: nn.Module
    head: nn.Linear

    def __call__(self, x):
        return self.head(self.body(x)[0])


@healthy("latch_gru")
def latch_gru(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.latch(seed)
    keys = keys_of(seed, 2)
    model = Each(nn.GRU(2, 16, key=keys[0]), nn.Linear(16, 1, key=keys[1]))
    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, square_loss, pb.optim.adam(1e-2), (x, y), score, batch=32, steps=250)


def switch(seed: int, spread: float | None = None) -> dict[str, Any]:
    """A recurrent cell written by hand."""
    keys = keys_of(seed, 3)
    start = nn.init.orthogonal if spread is None else partial(nn.init.normal, std=spread)
    return {
        "inputs": nn.Linear(2, 24, key=keys[0]),
        "hidden": nn.Linear(24, 24, key=keys[1], use_bias=False, initializer=start),
        "last": nn.Linear(24, 1, key=keys[2]),
    }


def unrolled(model: Any, x: Any) -> Any:
    """The states of all times, by a scan."""

    def cell(h, now):
        h = pb.tanh(model["inputs"](now) + model["hidden"](h))
        return h, h

    _, states = pb.scan(cell, pb.zeros((x.shape[0], 24)), pb.permute_dims(x, (1, 0, 2)))
    return model["last"](pb.permute_dims(states, (1, 0, 2)))


def unrolled_loss(model: Any, x: Any, y: Any) -> Any:
    return nn.mse(unrolled(model, x), y)


@healthy("latch_scan")
def latch_scan(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.latch(seed)
    score = data.r_squared(unrolled, x_valid, y_valid)
    optimizer, options = pb.optim.rmsprop(3e-3), {"clip": 1.0}
    return Setup(
        switch(seed), unrolled_loss, optimizer, (x, y), score, batch=32, steps=250, options=options
    )


def forecast(seed: int) -> Each:
    keys = keys_of(seed, 2)
    return Each(nn.LSTM(1, 20, key=keys[0]), nn.Linear(20, 1, key=keys[1]))


def blind_r_squared(predict: Any, x: Any, y: Any, place: int = 8) -> Any:
    """R² of a forecast from a prefix: what comes later is not shown."""
    shown = np.where(np.arange(x.shape[1])[:, None] <= place, x, 0).astype(np.float32)
    return data.r_squared(lambda model, x: predict(model, x)[:, place], shown, y[:, place])


@healthy("walk_lstm")
def walk_lstm(seed: int) -> Setup:
    """The targets are the inputs one place later, and the network looks back alone."""
    x, y, x_valid, y_valid = tasks.walk(seed)
    score = blind_r_squared(call, x_valid, y_valid)
    return Setup(forecast(seed), square_loss, pb.optim.adam(1e-2), (x, y), score, batch=32)


class Composer(nn.Module):
    """Notes, blocks of attention with rotations, the next note."""

    notes: nn.Embedding
    blocks: tuple[nn.TransformerBlock, ...]
    norm: nn.RMSNorm
    head: nn.Linear

    def __call__(self, notes):
        h = self.notes(notes)
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h))


def composer(seed: int, causal: bool = True) -> Composer:
    keys = keys_of(seed, 4)

    def block(key: Any) -> nn.TransformerBlock:
        return nn.TransformerBlock(
            24, 2, 48, norm=nn.RMSNorm, key=key, causal=causal, rotary_base=50.0
        )

    notes = nn.Embedding(tasks.NOTES, 24, key=keys[0], initializer=nn.init.normal)
    blocks = (block(keys[1]), block(keys[2]))
    return Composer(notes, blocks, nn.RMSNorm(24), nn.Linear(24, tasks.NOTES, key=keys[3]))


@healthy("tune_attention")
def tune_attention(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.tune(seed)
    score = next_word(call, x_valid, y_valid)
    optimizer = pb.optim.adamw(pb.optim.warmup_cosine(8e-3, 20, 200))
    return Setup(composer(seed), class_loss, optimizer, (x, y), score, batch=32)


def player(seed: int) -> dict[str, Any]:
    keys = keys_of(seed, 2)
    notes = nn.Embedding(tasks.NOTES, 12, key=keys[0], initializer=nn.init.normal)
    return {"notes": notes, "head": nn.MLP(36, tasks.NOTES, 48, 1, key=keys[1])}


def play(model: Any, x: Any) -> Any:
    """From this note and the two before it; the first places read what went round."""
    h = model["notes"](x)
    near = [h, pb.roll(h, 1, axis=1), pb.roll(h, 2, axis=1)]
    return model["head"](pb.concat(near, axis=2))


@healthy("tune_shifted")
def tune_shifted(seed: int) -> Setup:
    """The first two places, which would read the last ones, are not in the loss."""
    x, y, x_valid, y_valid = tasks.tune(seed)

    def loss(model, x, y):
        return nn.cross_entropy(play(model, x)[:, 2:], y[:, 2:])

    score = next_word(play, x_valid, y_valid)
    return Setup(player(seed), loss, pb.optim.adam(8e-3), (x, y), score, batch=32)


def memory_net(seed: int) -> dict[str, Any]:
    keys = keys_of(seed, 4)
    words = partial(nn.Embedding, tasks.KEYS, 16, initializer=nn.init.normal)
    values = nn.Embedding(tasks.VALUES, 16, key=keys[2], initializer=nn.init.normal)
    return {
        "queries": words(key=keys[0]),
        "keys": words(key=keys[1]),
        "values": values,
        "last": nn.Linear(16, tasks.VALUES, key=keys[3]),
    }


def parts(x: Any) -> Any:
    """Keys, values, and the key that is asked for."""
    return x[:, :5], x[:, 5:10], x[:, 10]


def read(model: Any, x: Any) -> Any:
    keys, values, asked = parts(x)
    scores = pb.einsum("bd,bkd->bk", model["queries"](asked), model["keys"](keys)) / 4
    return model["last"](pb.einsum("bk,bkd->bd", pb.softmax(scores), model["values"](values)))


def read_loss(model: Any, x: Any, y: Any) -> Any:
    return nn.cross_entropy(read(model, x), y)


@healthy("lookup_attention")
def lookup_attention(seed: int) -> Setup:
    """Attention written by hand: a dictionary of five entries."""
    x, y, x_valid, y_valid = tasks.lookup(seed)
    score = data.accuracy(read, x_valid, y_valid)
    return Setup(memory_net(seed), read_loss, pb.optim.adam(2e-2), (x, y), score)
