"""What a run remembers besides its state, and the folder where both are kept.

A checkpoint holds all that the next step depends on: the state (parameters, optimiser, random key),
the position in the data, the sums that the next row of numbers goes on from, and how long the logs
were. What the run was made of is noted too, so that going on with something else is refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pullback.data.fingerprint import fingerprint
from pullback.errors import (
    ArgumentError,
    DTypeError,
    FileFormatError,
    ShapeError,
    StructureError,
)
from pullback.train.checkpoint import Checkpoints, Saved
from pullback.train.logs import Log, numbers, plain
from pullback.train.source import Position, Source, arguments
from pullback.transforms.tree import Tree

METRICS, STEPS = "metrics", "steps"
"""The tables of a run: a row for each evaluation, a row for some of the steps."""


@dataclass
class Record:
    """How far a run has come: plain data that changes from step to step."""

    step: int = 0
    epoch: int = 1
    """The one that the next batch belongs to."""
    seen: int = 0
    """Batches of this epoch."""
    seconds: float = 0.0
    total: float = 0.0
    """The sum of the losses since the last evaluation, of the steps that were not skipped."""
    counted: int = 0
    """How many these are."""
    skipped: int = 0
    skipped_before: int = 0
    """Those before the last evaluation."""
    in_a_row: int = 0
    """Skipped ones, up to the last step."""
    waited: int = 0
    """Evaluations since the best one."""
    best: float | None = None
    best_step: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)

    def as_notes(self) -> dict[str, Any]:
        return vars(self) | {"total": str(self.total), "rows": plain(self.rows)}

    @classmethod
    def of(cls, notes: Mapping[str, Any]) -> Record:
        rows = [numbers(row) for row in notes["rows"]]
        return cls(**{**notes, "total": float(notes["total"]), "rows": rows})


class Folder:
    """The checkpoints and logs of a run. One without a path keeps nothing."""

    def __init__(
        self, path: Path, keep: int, mode: str, formats: Sequence[str], choices: Mapping[str, Any]
    ) -> None:
        """`choices` are what a run that goes on must have as the first had it."""
        self.path = path
        self.checkpoints = Checkpoints(path / "checkpoints", keep, largest_is_best=mode == "max")
        self.choices = _as_json(choices)
        self.metrics = Log(path, METRICS, formats)
        self.steps = Log(path, STEPS, formats)
        self._made_of: dict[str, Any] = {}
        self.saved: int | None = None
        """The step of the last checkpoint."""

    @property
    def is_used(self) -> bool:
        return bool(self.checkpoints.all())

    def begin(self, source: Source) -> None:
        """Start the logs of a new run, whose data stands where it does now."""
        begin, data = source.position(), source.fingerprint()
        self._made_of = {"begin": begin, "data": data, "batch": None, "step": None}
        for log in (self.metrics, self.steps):
            log.go_back({})

    def note(self, step: Any, state: Tree, batch: Any) -> None:
        """Remember what the first step was made of."""
        if self._made_of["batch"] is None:
            self._made_of["batch"] = fingerprint(batch)
            self._made_of["step"] = digest(step, state, batch)

    def save(self, record: Record, state: Tree, position: Position | None, **best: Any) -> None:
        """Write a checkpoint; `OSError` or `ArgumentError` where it cannot be written."""
        self.checkpoints.save(
            record.step,
            state,
            **best,
            record=record.as_notes(),
            position=position,
            logs=self.metrics.sizes() | self.steps.sizes(),
            made_of=self._made_of,
            choices=self.choices,
        )
        self.saved = record.step

    def restore(self, step: Any, state: Tree, source: Source) -> tuple[Record, Tree]:
        """(how far the run had come, its state); the source and the logs go back to there.

        Raises `ArgumentError`, `StructureError`, `ShapeError` or `DTypeError` where the run was
        made of something else.
        """
        source.require_position()
        last = self.checkpoints.last()
        restored, notes = self._loaded(last, state)
        missing = {"record", "position", "logs", "made_of", "choices"} - notes.keys()
        if missing:
            raise FileFormatError(f"{last.path} is no checkpoint of fit: it has no {min(missing)}")
        self._require_choices(notes["choices"])
        self._made_of = notes["made_of"]
        if notes["position"] is None:
            raise ArgumentError(f"{last.path}: the data of that run did not tell where it stood")
        self._require_made_of(step, restored, source)
        self._go_to(source, notes["position"])
        for log in (self.metrics, self.steps):
            log.go_back(notes["logs"])
        self.saved = last.step
        return Record.of(notes["record"]), restored

    def at(self, step: int) -> Saved:
        """The checkpoint of a step."""
        for each in self.checkpoints.all():
            if each.step == step:
                return each
        raise ArgumentError(f"{self.checkpoints.folder} has no checkpoint of step {step} any more")

    def _loaded(self, last: Saved, like: Tree) -> tuple[Tree, dict[str, Any]]:
        try:
            return self.checkpoints.load(last, like)
        except (StructureError, ShapeError, DTypeError) as error:
            raise type(error)(
                f"the run in {self.path} has another model or optimiser: {error.what}",
                hint="begin a new run in another folder",
            ) from None

    def _go_to(self, source: Source, position: Position) -> None:
        try:
            source.restore(position)
        except ArgumentError as error:
            raise self._other_data(error.what) from None

    def _other_data(self, why: str) -> ArgumentError:
        return ArgumentError(
            f"the data is not that of the run in {self.path}: {why}",
            hint="begin a new run in another folder",
        )

    def _require_choices(self, found: Mapping[str, Any]) -> None:
        for name in {**self.choices, **found}:
            old, new = found.get(name), self.choices.get(name)
            if old != new:
                raise ArgumentError(
                    f"the run in {self.path} has {name} = {old!r:.60}, and this one {new!r:.60}",
                    hint="go on with what it had, or begin a new run in another folder",
                )

    def _require_made_of(self, step: Any, state: Tree, source: Source) -> None:
        found = self._made_of
        self._go_to(source, found["begin"])
        if found.get("data") not in (None, source.fingerprint()):
            raise self._other_data("its numbers are not the same")
        if found["batch"] is None:
            return
        batch = source.peek()
        if batch is None or fingerprint(batch) != found["batch"]:
            raise self._other_data("its first batch differs")
        if digest(step, state, batch) != found["step"]:
            raise ArgumentError(
                f"the step is not that of the run in {self.path}: its loss, optimiser (with its "
                "numbers), clip, accumulate or precision differs, or this library's version",
                hint="begin a new run in another folder; "
                "pb.train.load(checkpoint, like=state) gives the state to begin from",
            )


def digest(step: Any, state: Tree, batch: Any) -> str | None:
    """A text that differs where a step computes something else; None where it cannot be lowered.

    It is of the traced graph: loss, optimiser and every number in it, and the types of its inputs.
    """
    lower = getattr(step, "lower", None)
    if lower is None:
        return None
    text = str(lower(state, *arguments(batch)).graph)
    # A function that a custom derivative holds shows its address, another in each process.
    return hashlib.sha256(re.sub(r" at 0x[0-9a-f]+", "", text).encode()).hexdigest()


def _as_json(choices: Mapping[str, Any]) -> dict[str, Any]:
    try:
        again: dict[str, Any] = json.loads(json.dumps(dict(choices), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(
            f"config is plain data (dicts, lists, texts, finite numbers): {error}"
        ) from None
    return again
