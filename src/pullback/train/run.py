"""`Run`: the folder of one training run, and the numbers written there while it goes on."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from pullback.errors import ArgumentError
from pullback.train.files import write_whole

Row = Mapping[str, float]

METRICS = "metrics.json"
TABLES = ("metrics.csv", "steps.csv")
MAKER = "pullback train"
"""Stands in METRICS; a folder without it is somebody else's."""


class State(Enum):
    """How far a run has come."""

    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"


class Run:
    """One training run: its settings, a row of numbers for each step and each epoch, its result.

    Files: `metrics.json` (everything but the steps), `metrics.csv` (epochs), `steps.csv`. They are
    written at each epoch, so that a run that is stopped leaves what it had measured.
    """

    def __init__(self, folder: Path, task: str, settings: Mapping[str, Any]) -> None:
        """Claim `folder`: it is new, empty, or that of an earlier run, which is replaced.

        Raises `ArgumentError` for a folder that holds anything else or cannot be written.
        """
        self.folder = folder
        self.task = task
        self.settings = dict(settings)
        self.state = State.RUNNING
        self.steps: list[Row] = []
        self.epochs: list[Row] = []
        self.result: dict[str, Any] = {}
        _require_free(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if (folder / METRICS).exists():
                for name in TABLES:
                    (folder / name).unlink(missing_ok=True)
            self.save()
        except OSError as error:
            raise ArgumentError(
                f"the folder {str(folder)!r} cannot be written: {error.strerror}"
            ) from None

    def step(self, **numbers: float) -> None:
        """Keep the numbers of one step."""
        self.steps.append(numbers)

    def epoch(self, **numbers: float) -> None:
        """Keep the numbers of one epoch and write the files."""
        self.epochs.append(numbers)
        self.save()

    def end(self, state: State, **result: Any) -> None:
        """Keep the result and write the files for the last time."""
        self.state = state
        self.result = result
        self.save()

    def save(self) -> None:
        document = {
            "made by": MAKER,
            "task": self.task,
            "state": self.state.value,
            "settings": self.settings,
            "epochs": self.epochs,
            "result": self.result,
        }
        self.write(METRICS, json.dumps(_plain(document), indent=2, ensure_ascii=False) + "\n")
        # Only what it measured itself: where `fit` writes these files, they are its own.
        for name, rows in zip(TABLES, (self.epochs, self.steps), strict=True):
            if rows:
                self.write(name, _csv(rows))

    def write(self, name: str, content: str | bytes) -> None:
        """A file of the run, whole or not at all."""
        write_whole(self.folder / name, content)


def free_folder(parent: Path, name: str) -> Path:
    """`parent/name`, or `parent/name-2`, … : the first that does not exist."""
    candidates = [parent / name, *(parent / f"{name}-{i}" for i in range(2, 1000))]
    return next(each for each in candidates if not each.exists())


def _require_free(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ArgumentError(f"{str(folder)!r} is a file, not a folder")
    try:
        used = any(folder.iterdir())
        ours = used and _maker(folder / METRICS) == MAKER
    except OSError as error:
        raise ArgumentError(
            f"the folder {str(folder)!r} cannot be read: {error.strerror}"
        ) from None
    if used and not ours:
        raise ArgumentError(
            f"the folder {str(folder)!r} holds files that no training run made",
            hint="name a new folder; nothing was changed",
        )


def _maker(path: Path) -> object:
    try:
        document = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return document.get("made by") if isinstance(document, dict) else None


def _csv(rows: Sequence[Row]) -> str:
    stream = io.StringIO()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become their names."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
