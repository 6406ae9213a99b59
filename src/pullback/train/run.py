"""`Run`: the folder of one training run, and what was measured in each step.

`config.toml` has every choice (`pullback train --config` repeats the run), `run.json` who made it,
how far it has come and its result. What `fit` writes stands beside them.
"""

from __future__ import annotations

import csv
import errno
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Self

import numpy as np

from pullback.errors import ArgumentError, FileFormatError
from pullback.ir.types import Numbers, float64
from pullback.train.files import write_whole
from pullback.train.logs import plain

Row = Mapping[str, float]

DOCUMENT, CONFIG, STEPS = "run.json", "config.toml", "steps.csv"
MAKER = "pullback train"
"""Stands in DOCUMENT; a folder without it is somebody else's."""
GRADIENT, UPDATE = "grad_norm ", "update_ratio "
"""Begin the columns that `fit` writes for each parameter."""


class State(Enum):
    """How far a run has come."""

    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"


class Run:
    """The folder of a run."""

    def __init__(self, folder: Path, document: Mapping[str, Any]) -> None:
        self.folder = folder
        self.document = dict(document)

    @classmethod
    def begin(cls, folder: Path, config: str, **notes: Any) -> Self:
        """Claim a folder, which is new or empty.

        Raises `ArgumentError` for a folder that holds anything or cannot be written.
        """
        _require_free(folder)
        run = cls(folder, {"made by": MAKER, **notes, "state": State.RUNNING.value})
        try:
            folder.mkdir(parents=True, exist_ok=True)
            run.write(CONFIG, config)
            run.save()
        except OSError as error:
            if error.errno == errno.ENOSPC:  # no other folder would help
                raise
            raise ArgumentError(
                f"the folder {str(folder)!r} cannot be written: {error.strerror}"
            ) from None
        return run

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The run in a folder; `ArgumentError` where there is none."""
        document = _document(folder)
        if document is None:
            what = "does not exist" if not folder.exists() else "holds no run of pullback train"
            raise ArgumentError(f"the folder {str(folder)!r} {what}")
        return cls(folder, document)

    def set(self, **notes: Any) -> None:
        """Keep notes in the document and write it."""
        self.document |= notes
        self.save()

    def end(self, state: State, **notes: Any) -> None:
        self.set(state=state.value, **notes)

    def save(self) -> None:
        text = json.dumps(plain(self.document), indent=2, ensure_ascii=False)
        self.write(DOCUMENT, text + "\n")

    def write(self, name: str, content: str | bytes) -> None:
        """A file of the run, whole or not at all."""
        write_whole(self.folder / name, content)


def free_folder(parent: Path, name: str) -> Path:
    """`parent/name`, or `parent/name-2`, … : the first that does not exist."""
    candidates = [parent / name, *(parent / f"{name}-{i}" for i in range(2, 1000))]
    return next(each for each in candidates if not each.exists())


def _require_free(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ArgumentError(f"{str(folder)!r} is a file, not a folder")
    try:
        used = folder.exists() and any(folder.iterdir())
        ours = used and _document(folder) is not None
    except OSError as error:
        raise ArgumentError(
            f"the folder {str(folder)!r} cannot be read: {error.strerror}"
        ) from None
    if ours:
        raise ArgumentError(
            f"the folder {str(folder)!r} holds a run already",
            hint="--resume goes on with it; or name a new folder",
        )
    if used:
        raise ArgumentError(
            f"the folder {str(folder)!r} holds files that no training run made",
            hint="name a new folder; nothing was changed",
        )


def _document(folder: Path) -> dict[str, Any] | None:
    try:
        document = json.loads((folder / DOCUMENT).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    ours = isinstance(document, dict) and document.get("made by") == MAKER
    return document if ours else None


# ---- steps ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Steps:
    """What was measured in each step, rows in order."""

    names: Sequence[str]
    """The paths of the parameters, from input to output."""
    steps: Sequence[int]
    losses: Sequence[float]
    norms: Numbers
    """float64[steps,parameters], of the gradients."""
    ratios: Numbers
    """float64[steps,parameters], ‖update‖ / ‖parameter‖."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """What `fit` wrote in its table of steps; `FileFormatError` for anything else."""
        with path.open(encoding="utf-8", newline="") as stream:
            header, *rows = list(csv.reader(stream)) or [[]]
        names = [name.removeprefix(GRADIENT) for name in header if name.startswith(GRADIENT)]
        place = {name: i for i, name in enumerate(header)}
        try:
            table = np.array(rows, float64).reshape(-1, len(header))
            norms = table[:, [place[GRADIENT + name] for name in names]]
            ratios = table[:, [place[UPDATE + name] for name in names]]
            steps, losses = table[:, place["step"]].astype(int), table[:, place["loss"]]
        except (ValueError, KeyError) as error:
            raise FileFormatError(f"{path} is no table of steps: {error}") from None
        return cls(names, steps.tolist(), losses.tolist(), norms, ratios)
