"""Tables with a column to be predicted: CSV and Parquet."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np

from pullback.data.labels import LabelEncoder, Standardizer, require_every_class
from pullback.data.split import split
from pullback.data.table import Table, read_csv, read_parquet
from pullback.errors import ArgumentError, FileFormatError
from pullback.ir.types import Numbers, float32, float64
from pullback.train.config import Tables, require_share
from pullback.train.objectives import Classification, Objective, Regression, listed, readable
from pullback.train.tasks import Examples, ExampleTask

MOST_CLASSES = 20
"""A column of so many different integers, or fewer, is taken for classes."""
MOST_WORDS = 64
"""A column of text with more different values is no input."""
PARQUET = (".parquet", ".pq")
TABLES = (".csv", ".tsv", *PARQUET)
Missing = Literal["refuse", "drop", "mean"]


@dataclass(frozen=True)
class TableData:
    """Which column is predicted of which, and what is done where a value is missing.

    `missing`: "refuse" the table, "drop" the rows, or put the "mean" of the training part there
    (and in a column of text a class of its own); rows without the target are left out under both.
    """

    target: str = ""
    task: Literal["auto", "classification", "regression"] = "auto"
    drop: tuple[str, ...] = ()
    missing: Missing = "refuse"
    delimiter: str = ""
    """Of a CSV file; "," unless given, and a tab for .tsv."""
    validation: float = 0.15
    test: float = 0.15
    split_seed: int = 0

    def __post_init__(self) -> None:
        if not self.target:
            raise ArgumentError(
                "a table needs data.target, the column to be predicted", hint="--target COLUMN"
            )
        if self.target in self.drop:
            raise ArgumentError(f"data.drop leaves out the target, {self.target!r}")
        require_share("data.validation", self.validation)
        require_share("data.test", self.test)


class TableTask(ExampleTask):
    """The class or the number in a column, of all the others."""

    kind = "a table"
    example = "rows"
    data_choices = TableData

    def __init__(self, source: str, choices: TableData) -> None:
        whole = read_table(source, choices.delimiter)
        table = whole.without(*choices.drop) if choices.drop else whole
        target = table[choices.target]  # which names the columns there are
        rows, said = _kept_rows(table, choices)
        table, target = _chosen(table, rows), target[rows]
        self.target = choices.target
        self.name, self.title = os.path.basename(source), f"{choices.target} of {source}"
        places = split(len(table), choices.split_seed, choices.validation, choices.test)
        self.objective, y, decided = _objective(table.source, choices, target, places.train)
        inputs = table.without(choices.target)
        self.columns = Columns.fit(inputs, places.train, choices.missing)
        x = self.columns(inputs)
        self.examples = {name: Examples(x[p], y[p]) for name, p in vars(places).items()}
        self.inputs = x.shape[1:]
        sizes = ", ".join(f"{n:,} {name}" for name, n in self.parts.items())
        rare = _rare(self.objective, self.examples)
        self.notes = (f"{sizes} rows", *said, decided, *rare, *self.columns.notes)

    def defaults(self, model: str | None) -> Tables:
        count = self.parts["train"]
        batch = min(32, count)
        return {
            "model": {"name": model or "mlp", **({"width": 64} if model in (None, "mlp") else {})},
            "optimizer": {"name": "adamw", "lr": 1e-3},
            # About 3,000 steps, unless the validation loss says before that it is enough.
            "training": {
                "epochs": int(np.clip(3000 * batch // count, 5, 200)),
                "batch_size": batch,
                "patience": 20,
            },
        }

    def state(self) -> dict[str, Any]:
        kind = "classification" if isinstance(self.objective, Classification) else "regression"
        return {
            "target": self.target,
            "columns": self.columns.state(),
            "task": kind,
            "objective": self.objective.state(),
        }


def read_table(path: str, delimiter: str = "") -> Table:
    """The table of a CSV, TSV or Parquet file."""
    if path.endswith(PARQUET):
        return read_parquet(path)
    return read_csv(path, delimiter or ("\t" if path.endswith(".tsv") else ","))


# ---- rows -----------------------------------------------------------------------------------


def _kept_rows(table: Table, choices: TableData) -> tuple[Numbers, list[str]]:
    """Positions of the rows that are used, and what is said of the others."""
    lacking = [choices.target] if choices.missing == "mean" else list(table.missing)
    if choices.missing == "refuse" and table.missing:
        name = next(iter(table.missing))
        first = int(table.missing[name][0])
        place = f"line {table.lines[first]}" if table.lines is not None else f"row {first}"
        counts = ", ".join(f"{key} {len(rows)}" for key, rows in list(table.missing.items())[:6])
        raise FileFormatError(
            f"{table.source}: values are missing, the first in column {name!r} on {place} "
            f"(missing: {counts}; {len(table)} rows)",
            hint="--missing drop leaves such rows out, --missing mean fills them, --drop COLUMN",
        )
    keep = np.ones(len(table), bool)
    for name in lacking:
        keep[table.missing.get(name, [])] = False
    if not keep.any():
        raise FileFormatError(
            f"{table.source}: every row lacks a value", hint="--missing mean, or --drop COLUMN"
        )
    left = int((~keep).sum())
    said = [f"{left:,} of {len(table):,} rows lack a value and are left out"] if left else []
    return np.flatnonzero(keep), said


def _chosen(table: Table, rows: Numbers) -> Table:
    columns = {name: column[rows] for name, column in table.columns.items()}
    missing = {}
    for name, gaps in table.missing.items():
        left = np.flatnonzero(np.isin(rows, gaps))
        if len(left):
            missing[name] = left
    lines = None if table.lines is None else table.lines[rows]
    return Table(table.source, columns, missing, lines)


# ---- the target -----------------------------------------------------------------------------


def _objective(
    source: str, choices: TableData, target: Numbers, train: Numbers
) -> tuple[Objective, Numbers, str]:
    """What is predicted, the targets as the loss takes them, and the sentence that says so."""
    whole = target.dtype.kind == "f" and bool((target == np.round(target)).all())
    values = target.astype(np.int64) if whole else target
    different = np.unique(values)
    task, why = choices.task, "as told"
    if task == "auto":
        few = values.dtype.kind in "iu" and len(different) <= MOST_CLASSES
        task = "classification" if values.dtype.kind in "bUS" or few else "regression"
        other = "regression" if task == "classification" else "classification"
        why = f"{len(different)} different values"
        why += f"; --task {other} if not" if values.dtype.kind in "iuf" else ""
    head = f"target {choices.target!r}: {task} ({why})"
    if task == "classification":
        return _classes(source, choices, values, train, head)
    if values.dtype.kind not in "iuf":
        raise ArgumentError(
            f"{source}: the target {choices.target!r} is text or true and false, no number",
            hint="--task classification",
        )
    return _numbers(source, choices, target, train, head)


def _classes(
    source: str, choices: TableData, values: Numbers, train: Numbers, head: str
) -> tuple[Objective, Numbers, str]:
    try:
        encoder = LabelEncoder.fit(values)
    except ArgumentError as error:
        raise FileFormatError(f"{source}: target {choices.target!r}: {error.what}") from None
    if 2 * len(encoder.classes) > len(values):
        raise ArgumentError(
            f"{source}: the target {choices.target!r} has {len(encoder.classes)} classes in "
            f"{len(values)} rows",
            hint="--task regression, or another --target",
        )
    labels = encoder.encode(values)
    part = f"the training part of {source} ({choices.target!r})"
    try:
        require_every_class(labels[train], [str(each) for each in encoder.classes], part)
    except ArgumentError as error:
        hint = "a class needs more rows; or another data.split_seed"
        raise FileFormatError(error.what, hint=hint) from None
    return Classification(encoder.classes), labels, f"{head}: {listed(encoder.classes)}"


def _rare(objective: Objective, examples: Mapping[str, Examples]) -> list[str]:
    """What is said of classes that a part has no row of: the scores do not speak of them."""
    if not isinstance(objective, Classification):
        return []
    notes = []
    for part in ("validation", "test"):
        counts = np.bincount(examples[part].y, minlength=objective.outputs)
        absent = [objective.classes[i] for i in np.flatnonzero(counts == 0)]
        if absent:
            notes.append(f"no row of the {part} part is of class {listed(absent)}")
    return notes


def _numbers(
    source: str, choices: TableData, target: Numbers, train: Numbers, head: str
) -> tuple[Objective, Numbers, str]:
    wrong = np.flatnonzero(~np.isfinite(target.astype(float64)))
    if len(wrong):
        raise FileFormatError(f"{source}: the target {choices.target!r} holds {target[wrong[0]]}")
    scale = target[train].astype(float64)
    mean, std = float(scale.mean()), float(scale.std())
    if not std:
        raise FileFormatError(
            f"{source}: the target {choices.target!r} is {mean:g} in every row of the training "
            "part, and there is nothing to predict"
        )
    y = ((target.astype(float64) - mean) / std).astype(float32)
    objective = Regression(choices.target, mean, std)
    return objective, y, f"{head}: mean {readable(mean)}, standard deviation {readable(std)}"


# ---- the inputs -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Columns:
    """Columns of a table as inputs: numbers standardised, a 0 or 1 for each class of a text.

    What is learnt (means, deviations, classes) is that of the training part and is kept.
    """

    numbers: tuple[str, ...]
    scale: Standardizer | None
    words: Mapping[str, LabelEncoder]
    missing: Missing
    notes: tuple[str, ...] = ()

    @classmethod
    def fit(cls, table: Table, train: Numbers, missing: Missing) -> Self:
        """Learn the columns; `ArgumentError` names one that is no input."""
        words, constant, numbers = {}, [], []
        for name in table.names:
            column = table[name]
            if len(np.unique(_known(table, name)[1])) < 2:
                constant.append(name)
            elif column.dtype.kind in "US":
                words[name] = _encoder(table, name)
            elif _is_constant(column[train]):
                constant.append(name)
            else:
                numbers.append(name)
        if not numbers and not words:
            raise FileFormatError(f"{table.source}: no column but the target varies")
        scale = None
        if numbers:
            filled = _filled(table, numbers, np.nanmean(_raw(table, numbers)[train], axis=0))
            scale = Standardizer.fit(_matrix(filled)[train], numbers)
        said = []
        if constant:
            said.append(f"constant, and left out: {listed(constant)}")
        for name, encoder in words.items():
            said.append(f"column {name!r} is text of {len(encoder.classes)} classes")
        return cls(tuple(numbers), scale, words, missing, tuple(said))

    def __call__(self, table: Table) -> Numbers:
        """float32[rows,inputs]; `ArgumentError` names a column or a class that was never seen."""
        self._require_complete(table)
        parts = []
        if self.scale is not None:
            filled = _filled(table, self.numbers, self.scale.mean)
            parts.append(self.scale(_matrix(filled)))
        for name, encoder in self.words.items():
            parts.append(np.eye(len(encoder.classes))[_encoded(table, name, encoder)])
        return np.concatenate(parts, axis=1).astype(float32)

    def _require_complete(self, table: Table) -> None:
        for name in (*self.numbers, *self.words):
            column = table[name]
            if name in self.numbers and column.dtype.kind not in "biuf":
                raise FileFormatError(
                    f"{table.source}: column {name!r} is text, and was of numbers in training"
                )
            if name in table.missing and self.missing != "mean":
                rows = table.missing[name]
                place = int(rows[0]) if table.lines is None else int(table.lines[rows[0]])
                where = f"{'row' if table.lines is None else 'line'} {place}"
                raise FileFormatError(
                    f"{table.source}: column {name!r} lacks {len(rows)} of {len(table)} values, "
                    f"the first on {where}",
                    hint="a network trained with --missing mean fills them",
                )

    def state(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "numbers": list(self.numbers),
            "scale": None if self.scale is None else self.scale.state(),
            "words": {name: encoder.state() for name, encoder in self.words.items()},
            "missing": self.missing,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        scale = None if state["scale"] is None else Standardizer.from_state(state["scale"])
        words = {name: LabelEncoder.from_state(each) for name, each in state["words"].items()}
        return cls(tuple(state["numbers"]), scale, words, state["missing"])


def _known(table: Table, name: str) -> tuple[Numbers, Numbers]:
    """(positions, values) of the rows that have a value."""
    rows = np.setdiff1d(np.arange(len(table)), table.missing.get(name, []))
    return rows, table[name][rows]


def _is_constant(column: Numbers) -> bool:
    known = column[~np.isnan(column)] if column.dtype.kind == "f" else column
    return len(known) == 0 or bool((known == known[0]).all())


def _raw(table: Table, names: Sequence[str]) -> Numbers:
    return np.stack([table[name].astype(float64) for name in names], axis=1)


def _filled(table: Table, names: Sequence[str], means: Numbers) -> Table:
    """The columns with a mean where a value is missing."""
    columns = {}
    for name, mean in zip(names, means, strict=True):
        column = table[name]
        if name in table.missing:
            column = column.astype(float64)
            column[table.missing[name]] = mean
        columns[name] = column
    return Table(table.source, columns, {}, table.lines)


def _matrix(table: Table) -> Numbers:
    try:
        return table.matrix()
    except ArgumentError as error:
        raise FileFormatError(error.what, hint=error.hint) from None


def _encoder(table: Table, name: str) -> LabelEncoder:
    encoder = LabelEncoder.fit(table[name])
    if len(encoder.classes) > MOST_WORDS:
        example = table[name][0]
        raise ArgumentError(
            f"{table.source}: column {name!r} is text with {len(encoder.classes)} different "
            f"values, as {example!s:.30}, and no input",
            hint=f"--drop {name!r} leaves it out",
        )
    return encoder


def _encoded(table: Table, name: str, encoder: LabelEncoder) -> Numbers:
    try:
        return encoder.encode(table[name].astype(str))
    except ArgumentError as error:
        raise FileFormatError(
            f"{table.source}: column {name!r}: {error.what}", hint=error.hint
        ) from None
