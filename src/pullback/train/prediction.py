"""What a trained network says of new data: `pullback predict`, without the terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pullback import random
from pullback.data.table import Table
from pullback.data.text import read_text
from pullback.errors import ArgumentError, FileFormatError
from pullback.ir.types import Numbers, float64
from pullback.train.checkpoint import load, load_notes
from pullback.train.config import Samples
from pullback.train.images import DigitsTask, FolderTask, read_images
from pullback.train.models import parse_model
from pullback.train.objectives import (
    Classification,
    Objective,
    Regression,
    Scores,
    log_probabilities,
)
from pullback.train.run import Run
from pullback.train.session import MODEL, outputs_of
from pullback.train.step import eval_step
from pullback.train.tables import Columns, TableTask, read_table
from pullback.train.texts import TextTask, vocabulary_of, written

BATCH = 256


@dataclass(frozen=True)
class Predictions:
    """A row for each example, and the scores where the data told the truth."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    objective: Objective
    scores: Scores | None = None

    def csv(self) -> str:
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return stream.getvalue()


class Trained:
    """The network that a run in a folder kept."""

    def __init__(self, folder: Path) -> None:
        """Raises `ArgumentError` where the folder holds no run, or one that never finished."""
        run = Run.open(folder)
        path = folder / MODEL
        if not path.exists():
            raise ArgumentError(
                f"the run in {str(folder)!r} has kept no network: it is {run.document['state']}",
                hint=f"pullback train --resume --out {folder} goes on with it",
            )
        notes = load_notes(path)
        wanted = {"kind", "task", "model", "inputs", "outputs"}
        if wanted - notes.keys():
            raise FileFormatError(f"{path} is not what pullback train wrote: its notes lack some")
        self.kind, self._state = notes["kind"], notes["task"]
        choice = parse_model(notes["model"])
        like = choice.build(tuple(notes["inputs"]), notes["outputs"], key=random.key(0))
        self.model = load(path, like)

    @property
    def writes_text(self) -> bool:
        return bool(self.kind == TextTask.__name__)

    def write_on(self, path: str, samples: Mapping[str, Any], seed: int) -> list[str]:
        """The texts that follow the one in a file; `ArgumentError` for other characters."""
        prompt = read_text(path)
        vocabulary = vocabulary_of(self._state)
        return written(self.model, vocabulary, Samples(**{**samples, "prompt": prompt}), seed)

    def predict(self, path: str) -> Predictions:
        """Of each image or row of a file. Raises whatever reading it raises."""
        if self.kind == TableTask.__name__:
            return self._of_table(path)
        assert self.kind in (DigitsTask.__name__, FolderTask.__name__)
        classes = Classification(tuple(self._state["classes"]))
        images = read_images(path, self._state)
        return _classes(classes, self._outputs(images), range(len(images)), "image")

    def _of_table(self, path: str) -> Predictions:
        table = read_table(path)
        outputs = self._outputs(Columns.from_state(self._state["columns"])(table))
        target = self._state["target"]
        heading, places = "row", range(len(table))
        if table.lines is not None:
            heading, places = "line", table.lines.tolist()
        state = self._state["objective"]
        if self._state["task"] == "classification":
            objective: Objective = Classification(tuple(state["classes"]))
            made = _classes(objective, outputs, places, heading)
        else:
            objective = Regression(**state)
            numbers = objective.numbers(outputs)
            rows = [[place, f"{x:.7g}"] for place, x in zip(places, numbers, strict=True)]
            made = Predictions([heading, target], rows, objective)
        truth = _truth(table, target, objective)
        if truth is None:
            return made
        scores = objective.scores(outputs, truth)
        return Predictions(made.columns, made.rows, objective, scores)

    def _outputs(self, x: Numbers) -> Numbers:
        run, count = eval_step(outputs_of), min(BATCH, len(x))
        parts = []
        for first in range(0, len(x), count):
            chosen = np.arange(first, first + count) % len(x)
            parts.append(run(self.model, x[chosen]).numpy()[: len(x) - first])
        return np.concatenate(parts)


def _classes(
    objective: Objective, outputs: Numbers, places: Iterable[int], heading: str
) -> Predictions:
    assert isinstance(objective, Classification)
    likely = np.exp(log_probabilities(outputs)).max(axis=-1)
    said = np.argmax(outputs, axis=-1)
    rows = [
        [place, objective.classes[i], f"{p:.4f}"]
        for place, i, p in zip(places, said, likely, strict=True)
    ]
    return Predictions([heading, "predicted", "probability"], rows, objective)


def _truth(table: Table, target: str, objective: Objective) -> Numbers | None:
    """The targets of a table that has them all, as the objective takes them."""
    if target not in table.columns or target in table.missing:
        return None
    column = table[target]
    if isinstance(objective, Regression):
        if column.dtype.kind not in "iuf":
            raise FileFormatError(f"{table.source}: the target {target!r} is no number")
        return (column.astype(float64) - objective.mean) / objective.std
    assert isinstance(objective, Classification)
    numbers = {each: i for i, each in enumerate(objective.classes)}
    unseen = sorted({str(each) for each in column.tolist() if each not in numbers})
    if unseen:
        raise FileFormatError(
            f"{table.source}: the target {target!r} has the class {unseen[0]!r}, which was never "
            "trained"
        )
    return np.array([numbers[each] for each in column.tolist()])
