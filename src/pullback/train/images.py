"""Images with labels: the digits of the package, or a folder of IDX files."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback.data.digits import digits
from pullback.data.idx import read_idx, read_mnist
from pullback.data.split import split
from pullback.errors import ArgumentError, FileFormatError, ShapeError
from pullback.ir.types import Numbers, float32
from pullback.train.config import Tables, require_share
from pullback.train.objectives import Classification
from pullback.train.tasks import Examples, ExampleTask

DIGITS_SOURCE = (
    "Data: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine "
    "Learning Repository, 1998, doi:10.24432/C50P49, CC BY 4.0."
)


class ImageTask(ExampleTask):
    """A class of an image (1, H, W), whose pixels are kept as they come and brought to [0, 1]."""

    example = "images"
    largest: float
    """Of the values a pixel can have."""

    def prepared(self, x: Numbers) -> Numbers:
        return x[:, None].astype(float32) / np.float32(self.largest)

    def state(self) -> dict[str, Any]:
        shape = list(self.inputs)
        return {"inputs": shape, "largest": self.largest, **self.objective.state()}

    def _found(self) -> str:
        sizes = {"train": "training", "validation": "validation", "test": "test"}
        parts = ", ".join(f"{self.parts[k]:,} {v}" for k, v in sizes.items() if k in self.parts)
        _, height, width = self.inputs
        return f"{parts} images of {height} × {width} pixels, {self.outputs} classes"


@dataclass(frozen=True)
class DigitsData:
    """How the digits are split; `split_seed` decides which images are tested, for every run."""

    validation: float = 0.1
    test: float = 0.1
    split_seed: int = 0

    def __post_init__(self) -> None:
        require_share("data.validation", self.validation)
        require_share("data.test", self.test)


class DigitsTask(ImageTask):
    """The 1,797 handwritten digits that ship with the package."""

    kind = "handwritten digits"
    data_choices = DigitsData

    def __init__(self, source: str, choices: DigitsData) -> None:
        data = digits()
        places = split(len(data), choices.split_seed, choices.validation, choices.test)
        self.name, self.title = "digits", "Handwritten digits"
        self.largest = 1.0
        self.objective = Classification(tuple(range(10)))
        self.examples = {
            part: Examples(data.images[chosen], data.labels[chosen])
            for part, chosen in vars(places).items()
        }
        self.inputs = (1, *data.images.shape[1:])
        self.notes = (self._found(), DIGITS_SOURCE)

    def defaults(self, model: str | None) -> Tables:
        networks: Mapping[str, Any] = {
            "cnn": {
                "name": "cnn",
                "channels": [16, 32],
                "pool": [1, 2],
                "hidden": 128,
                "dropout": 0.5,
            },
            "mlp": {"name": "mlp", "width": 128, "depth": 2},
        }
        return {
            "model": networks.get(model or "cnn", {"name": model}),
            "optimizer": {"name": "adamw", "lr": 3e-3, "schedule": "cosine", "warmup": 0.06},
            "training": {"epochs": 15, "batch_size": 32},
        }


@dataclass(frozen=True)
class FolderData:
    """The share of the training files that is held out; with 0 the test part stands for it."""

    validation: float = 0.1
    split_seed: int = 0

    def __post_init__(self) -> None:
        require_share("data.validation", self.validation, zero=True)


class FolderTask(ImageTask):
    """A folder with the four IDX files of MNIST or one of its kind."""

    kind = "a folder of IDX files"
    data_choices = FolderData

    def __init__(self, source: str, choices: FolderData) -> None:
        try:
            train, test = read_mnist(source)
        except ArgumentError as error:  # which the caller of `read_mnist` could have avoided
            raise FileFormatError(error.what, hint=error.hint) from None
        self.name = os.path.basename(os.path.abspath(source))
        self.title = f"Images of {self.name}"
        self.largest = 255.0
        labels, tested = train.labels.astype(np.int64), test.labels.astype(np.int64)
        self.objective = Classification(tuple(range(int(max(labels.max(), tested.max())) + 1)))
        held = math.ceil(choices.validation * len(train))
        order = np.random.default_rng(choices.split_seed).permutation(len(train))
        if held >= len(train):
            raise ArgumentError(f"data.validation leaves none of {len(train)} images to train on")
        parts = {"train": order[held:], "validation": order[:held]}
        self.examples = {
            name: Examples(train.images[chosen], labels[chosen])
            for name, chosen in parts.items()
            if len(chosen)
        } | {"test": Examples(test.images, tested)}
        self.inputs = (1, *train.images.shape[1:])
        note = "no validation part: the test part is measured on the way, and the last model kept"
        self.notes = (self._found(), *([] if held else [note]))

    def defaults(self, model: str | None) -> Tables:
        if model == "2c2d":  # as DeepOBS trains it
            return {
                "model": {"name": "2c2d"},
                "optimizer": {"name": "sgd", "lr": 0.158489},
                "training": {"epochs": 5, "batch_size": 128},
            }
        return {
            "model": {"name": model or "cnn"},
            "optimizer": {"name": "adamw", "lr": 1e-3, "schedule": "cosine"},
            "training": {"epochs": 3, "batch_size": min(128, self.parts["train"])},
        }


# ---- new images -----------------------------------------------------------------------------


def read_images(path: str, state: Mapping[str, Any]) -> Numbers:
    """float32[n,1,H,W] of an IDX or NumPy file with images as those of the training.

    Raises `FileFormatError` or `ShapeError` for a file of something else.
    """
    pixels = _numpy(path) if path.endswith(".npy") else read_idx(path)
    _, height, width = state["inputs"]
    if pixels.ndim == 2 and pixels.shape == (height, width):
        pixels = pixels[None]
    if pixels.ndim != 3 or pixels.shape[1:] != (height, width) or not len(pixels):
        raise ShapeError(
            f"{path} holds {pixels.dtype}{list(pixels.shape)}; the network was trained on images "
            f"of {height} × {width}"
        )
    if not np.isfinite(pixels).all():
        raise FileFormatError(f"{path} holds a pixel that is no number")
    return np.asarray(pixels[:, None].astype(float32) / np.float32(state["largest"]))


def _numpy(path: str) -> Numbers:
    try:
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        raise FileFormatError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError):
        raise FileFormatError(f"{path} is no NumPy file, or one of something else") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise FileFormatError(f"{path} holds no array of numbers")
    return array
