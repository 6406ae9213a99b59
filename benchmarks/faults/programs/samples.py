"""Faults of the data: what the network is shown is not what its author thinks."""

from __future__ import annotations

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.program import Setup, fault
from benchmarks.faults.programs.healthy import class_loss, logits, square_loss

import pullback as pb
from pullback import nn


@fault(
    "unscaled_inputs", "unscaled inputs", "DAT01", "spirals_tanh", also="SIG04 OBJ04 SIG07 OPT01"
)
def unscaled_inputs(seed: int) -> Setup:
    """Positions in micrometres."""
    x, y, x_valid, y_valid = data.spirals(seed)
    x, x_valid = x * 5000, x_valid * 5000
    model = nn.MLP(2, 3, 32, 2, pb.tanh, key=pb.random.key(seed))
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(1e-2), (x, y), score)


@fault("offset_inputs", "unscaled inputs", "DAT01", "wave_gelu", also="OBJ04 OPT01 VER01")
def offset_inputs(seed: int) -> Setup:
    """Features around 500: years, temperatures in kelvin."""
    x, y, x_valid, y_valid = data.wave(seed)
    x, x_valid = x + 500, x_valid + 500
    model = nn.MLP(4, 1, 48, 2, nn.gelu, key=pb.random.key(seed))
    score = data.r_squared(logits, x_valid, y_valid)
    return Setup(model, square_loss, pb.optim.adam(5e-3), (x, y), score)


@fault(
    "pixels_to_255",
    "unscaled inputs",
    "DAT01",
    "digits_sgd",
    also="OPT01 OBJ04 OPT03 NUM01 NUM02 SIG03 CUT04",
)
def pixels_to_255(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.digits(seed)
    x, x_valid = x * 255, x_valid * 255
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.sgd(0.1, momentum=0.9), (x, y), score)


@fault(
    "mixed_units",
    "features of different scale",
    "DAT01",
    "plane_linear",
    also="OPT01 OPT03 NUM01 NUM02",
)
def mixed_units(seed: int) -> Setup:
    """One feature in metres, another in micrometres."""
    x, y, x_valid, y_valid = data.plane(seed)
    units = np.float32([1e4, 1, 1e-3, 1, 1e-3, 1, 1, 1e-2])
    keys = pb.random.split(pb.random.key(seed), 2)
    model = nn.Sequential(nn.Linear(8, 24, key=keys[0]), pb.tanh, nn.Linear(24, 1, key=keys[1]))
    score = data.r_squared(logits, x_valid * units, y_valid)
    return Setup(model, square_loss, pb.optim.adam(1e-2), (x * units, y), score)


@fault("constant_features", "constant features", "DAT01 DAT03", "digits_mlp", also="VER01 DAT07")
def constant_features(seed: int) -> Setup:
    """A whole-number division by 16 leaves zeros."""
    x, y, x_valid, y_valid = data.digits(seed)
    x, x_valid = [np.floor(a * 15 / 16).astype(np.float32) for a in (x, x_valid)]
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(2e-3), (x, y), score)


@fault("tiny_inputs", "unscaled inputs", "DAT01", "digits_sgd", also="VER01 OPT02 SIG07")
def tiny_inputs(seed: int) -> Setup:
    """Divided by 255 a second and a third time."""
    x, y, x_valid, y_valid = data.digits(seed)
    x, x_valid = x / 255**2, x_valid / 255**2
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.sgd(0.1, momentum=0.9), (x, y), score)


@fault("shuffled_labels", "labels do not match", "DAT03", "digits_mlp", also="GEN01 GEN02")
def shuffled_labels(seed: int) -> Setup:
    """Images and labels are shuffled, each with a permutation of its own."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    y = np.random.default_rng(seed + 7).permutation(y)
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(2e-3), (x, y), score)


@fault("misaligned_targets", "labels do not match", "DAT03", "wave_gelu", also="GEN01 GEN02")
def misaligned_targets(seed: int) -> Setup:
    """The targets are one row late."""
    x, y, x_valid, y_valid = data.wave(seed)
    model = nn.MLP(4, 1, 48, 2, nn.gelu, key=pb.random.key(seed))
    score = data.r_squared(logits, x_valid, y_valid)
    return Setup(model, square_loss, pb.optim.adam(5e-3), (x, np.roll(y, 1, 0)), score)


@fault("label_in_features", "label leakage", "DAT06", "digits_mlp", also="OBJ04")
def label_in_features(seed: int) -> Setup:
    """The last column of the table is the target."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    x = np.concatenate([x[:, :-4], *[y[:, None].astype(np.float32) - 4.5] * 4], 1)
    x_valid = np.concatenate([x_valid[:, :-4], np.zeros((len(x_valid), 4), np.float32)], 1)
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(2e-3), (x, y), score)


@fault("target_in_features", "label leakage", "DAT06", "wave_gelu")
def target_in_features(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.wave(seed)
    x = np.concatenate([x[:, :3], 2 * y + 1], 1)
    x_valid = np.concatenate([x_valid[:, :3], np.ones_like(y_valid)], 1)
    model = nn.MLP(4, 1, 48, 2, nn.gelu, key=pb.random.key(seed))
    score = data.r_squared(logits, x_valid, y_valid)
    return Setup(model, square_loss, pb.optim.adam(5e-3), (x, y), score)


@fault("same_batch", "same batch each step", "DAT05", "digits_mlp", also="GEN01")
def same_batch(seed: int) -> Setup:
    """The iterator is made anew in each step, and gives its first batch."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))

    def batches(i):
        order = np.random.default_rng(seed).permutation(len(x))[:64]
        return x[order], y[order]

    score = data.accuracy(logits, x_valid, y_valid)
    optimizer = pb.optim.adam(2e-3)
    return Setup(model, class_loss, optimizer, (x, y), score, batches=batches)


@fault("sorted_labels", "sorted data, not shuffled", "DAT02", "digits_sgd", also="OPT03 OPT01")
def sorted_labels(seed: int) -> Setup:
    x, y, x_valid, y_valid = data.digits(seed)
    order = np.argsort(y, kind="stable")
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))
    score = data.accuracy(logits, x_valid, y_valid)
    optimizer = pb.optim.sgd(0.05, momentum=0.9)
    return Setup(model, class_loss, optimizer, (x[order], y[order]), score, shuffle=False)


@fault("sorted_blocks", "sorted data, not shuffled", "DAT02", "conv", also="OPT03 OPT01")
def sorted_blocks(seed: int) -> Setup:
    """Files of one class each, read one after the other."""
    x, y, x_valid, y_valid = data.images(seed)
    order = np.argsort(y, kind="stable")
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, padding=1, key=pb.random.key(seed)),
        nn.relu,
        lambda x: x.reshape(x.shape[0], -1),
        nn.Linear(128, 10, key=pb.random.key(seed + 1)),
    )
    score = data.accuracy(logits, x_valid, y_valid)
    optimizer = pb.optim.adam(5e-3)
    return Setup(model, class_loss, optimizer, (x[order], y[order]), score, 32, shuffle=False)


@fault("one_class_left", "labels all equal", "DAT03 DAT07", "digits_mlp", also="OBJ04")
def one_class_left(seed: int) -> Setup:
    """Labels go through a division by 10 on their way."""
    x, y, x_valid, y_valid = data.standard_digits(seed)
    model = nn.MLP(64, 10, 64, 2, key=pb.random.key(seed))
    score = data.accuracy(logits, x_valid, y_valid)
    return Setup(model, class_loss, pb.optim.adam(2e-3), (x, y // 10), score)


@fault("targets_unscaled", "unscaled targets", "OBJ04 DAT01", "wave_gelu", also="OPT02 SIG07 OPT01")
def targets_unscaled(seed: int) -> Setup:
    """Prices in cents: the last bias alone has a long way to go."""
    x, y, x_valid, y_valid = data.wave(seed)
    y, y_valid = [250000 + 40000 * t for t in (y, y_valid)]
    model = nn.MLP(4, 1, 48, 2, nn.gelu, key=pb.random.key(seed))
    score = data.r_squared(logits, x_valid, y_valid)
    return Setup(model, square_loss, pb.optim.adam(5e-3), (x, y), score)
