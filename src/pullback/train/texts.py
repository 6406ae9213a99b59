"""A text whose next token is predicted, and which a trained network continues."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pullback import random
from pullback.compile import compile
from pullback.data.loader import Crops
from pullback.data.text import Bytes, Characters, read_text
from pullback.errors import ArgumentError, FileFormatError
from pullback.functions.gathering import take
from pullback.functions.losses import cross_entropy
from pullback.ir.array import Array
from pullback.ir.types import Numbers, int64
from pullback.train.config import Samples, Tables, Training, require_share
from pullback.train.models import apply
from pullback.train.objectives import Baseline, Scores, log_probabilities
from pullback.train.tasks import Outputs, Task

Vocabulary = Bytes | Characters
MOST_PAIRS = 4096
"""Tokens of a vocabulary whose pairs are counted in a table."""


@dataclass(frozen=True)
class TextData:
    """What a token is, and how much of the end of the text is held out."""

    tokens: Literal["characters", "bytes"] = "characters"
    validation: float = 0.1

    def __post_init__(self) -> None:
        require_share("data.validation", self.validation)


class TextTask(Task):
    """The next character (or byte) of a text; the last part of it is held out and measured."""

    kind = "a text"
    example = "crops"
    data_choices = TextData
    inputs = ()
    score = "perplexity"
    measured = "validation"
    unit = "cross-entropy (nats per token)"

    def __init__(self, source: str, choices: TextData) -> None:
        text = read_text(source)
        self.vocabulary = Bytes() if choices.tokens == "bytes" else Characters.fit(text)
        if self.vocabulary.size < 2:
            raise FileFormatError(f"{source}: the text is one character, again and again")
        self._tokens = self.vocabulary.encode(text)
        self.name, self.title = os.path.basename(source), f"A model of {os.path.basename(source)}"
        self._cut = len(self._tokens) - math.ceil(choices.validation * len(self._tokens))
        self.outputs = self.vocabulary.size
        self.parts = {"train": self._cut, "validation": len(self._tokens) - self._cut}
        sizes = f"{self.parts['train']:,} training and {self.parts['validation']:,} validation"
        self.notes = (
            f"{sizes} {choices.tokens}, {self.outputs} different",
            "the end of the text is held out",
        )

    def tokens(self, part: str) -> Numbers:
        return self._tokens[: self._cut] if part == "train" else self._tokens[self._cut :]

    def defaults(self, model: str | None) -> Tables:
        # nanoGPT's configuration for a processor.
        return {
            "model": {"name": model or "gpt"},
            "optimizer": {
                "name": "adamw",
                "lr": 1e-3,
                "schedule": "cosine",
                "warmup": 0.05,
                "end_lr": 1e-4,
                "b2": 0.99,
                "weight_decay": 0.1,
                "decay_only_matrices": True,
            },
            "training": {"steps": 2000, "batch_size": 12, "clip": 1.0, "evaluate": 250},
            "samples": {},
        }

    def loss(self, model: Any, x: Any, y: Any, key: Array) -> Array:
        return cross_entropy(apply(model, x, key), y)

    def batches(self, training: Training, model: Any) -> Crops:
        self._require_room(model.block)
        return Crops(self.tokens("train"), model.block, training.batch_size, seed=training.seed)

    def _require_room(self, block: int) -> None:
        shortest = min(self.parts, key=lambda part: self.parts[part])
        if self.parts[shortest] <= block:
            raise ArgumentError(
                f"model.block = {block} is not shorter than the {shortest} part of the text, "
                f"{self.parts[shortest]} tokens",
                hint="take a shorter block or a longer text",
            )

    def evaluate(self, run: Outputs, model: Any, part: str) -> Scores:
        """Of all whole blocks of a part, one after another: the same numbers each time."""
        tokens, size, rows = self.tokens(part).astype(int64), model.block, 16
        count = (len(tokens) - 1) // size
        x = tokens[: count * size].reshape(count, size)
        y = tokens[1 : count * size + 1].reshape(count, size)
        total = 0.0
        for first in range(0, count, rows):
            chosen = np.arange(first, first + rows) % count  # the last batch is filled up
            kept = min(rows, count - first)
            logs = log_probabilities(run(model, x[chosen]).numpy()[:kept])
            total -= np.take_along_axis(logs, y[chosen[:kept], :, None], axis=-1).sum()
        return _scores(total / y.size)

    def baselines(self, training: Training) -> list[Baseline]:
        train, held = (self.tokens(part).astype(int64) for part in ("train", "validation"))
        size = self.outputs
        single = np.bincount(train, minlength=size) + 1.0
        frequencies = np.log(single / single.sum())
        found = [Baseline("frequencies of the tokens", _scores(-frequencies[held[1:]].mean()))]
        if size <= MOST_PAIRS:
            pairs = np.bincount(train[:-1] * size + train[1:], minlength=size * size)
            table = pairs.reshape(size, size) + 0.1
            logs = np.log(table / table.sum(axis=1, keepdims=True))
            found.insert(
                0, Baseline("linear model (pairs)", _scores(-logs[held[:-1], held[1:]].mean()))
            )
        return found

    def shown(self, name: str, value: float) -> str:
        return f"{value:.2f}" if name == "perplexity" else f"{value:.4f}"

    def state(self) -> dict[str, Any]:
        return {"vocabulary": self.vocabulary.state()}


def _scores(loss: float) -> Scores:
    return {
        "loss": float(loss),
        "perplexity": math.exp(min(float(loss), 700.0)),
        "bits": float(loss) / math.log(2),
    }


# ---- writing on -----------------------------------------------------------------------------


def vocabulary_of(state: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary that `TextTask.state` keeps."""
    return Bytes() if "bytes" in state["vocabulary"] else Characters.from_state(state["vocabulary"])


def written(model: Any, vocabulary: Vocabulary, samples: Samples, seed: int) -> list[str]:
    """The texts that a model writes on from a prompt, one for each of `samples.count`.

    Raises `ArgumentError` for a character of the prompt that is not in the vocabulary.
    """
    size = model.block
    tokens = vocabulary.encode(samples.prompt).astype(int64)
    rows = np.tile(tokens, (samples.count, 1))

    def next_tokens(model: Any, window: Any, last: Any, key: Any) -> Array:
        logits = take(apply(model, window), last, axis=1)
        return random.categorical(key, logits / samples.temperature)

    step = compile(next_tokens)
    keys = random.key(seed)
    for i in range(samples.length):
        seen = rows[:, -size:]
        # Behind the last token stands anything: the model is causal.
        window = np.pad(seen, ((0, 0), (0, size - seen.shape[1])))
        drawn = step(model, window, np.int64(seen.shape[1] - 1), random.fold_in(keys, i))
        rows = np.concatenate([rows, drawn.numpy()[:, None].astype(int64)], axis=1)
    return [vocabulary.decode(row) for row in rows]
