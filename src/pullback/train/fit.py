"""`fit`: the loop around a training step, from which a run can be taken up where it ended."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pullback._public import public
from pullback.errors import ArgumentError, DivergedError, PullbackError, TrainingError, listed
from pullback.ir.array import DONATED, Array, concrete
from pullback.train.interrupt import Wish, polite_interrupt
from pullback.train.limits import TRAIN_LOSS, VALIDATION_LOSS, Limits
from pullback.train.logs import require_formats
from pullback.train.progress import Display
from pullback.train.record import Folder, Record
from pullback.train.result import Best, FitResult, Stopped
from pullback.train.source import Source, arguments, close, examples
from pullback.train.watch import Watch
from pullback.transforms.tree import Tree, map_leaves

Step = Callable[..., tuple[Any, Any]]
Validate = Callable[[Any], Mapping[str, Any]]

MOST_SKIPPED = 30
"""Skipped steps in a row after which a run with a scaled loss has diverged: halved so often, the
largest scale, 2²⁴, is down at 1, and the gradient is not finite for another reason."""
SAVE_SECONDS = 600.0
"""The longest time without a checkpoint: an epoch may take hours."""
FLUSH_SECONDS = 1.0
"""How long rows of steps wait until they are written."""
COLUMNS = ("epoch", "step", "seconds", TRAIN_LOSS, "skipped")


@public
def fit(
    step: Step,
    state: Tree,
    data: Iterable[Any],
    *,
    epochs: int | None = None,
    steps: int | None = None,
    validate: Validate | None = None,
    every: int | None = None,
    patience: int | None = None,
    metric: str = VALIDATION_LOSS,
    mode: str = "min",
    folder: str | os.PathLike[str] | None = None,
    resume: bool = False,
    keep: int = 2,
    config: Mapping[str, Any] | None = None,
    log: Sequence[str] = ("csv", "jsonl"),
    log_every: int = 10,
    progress: bool = True,
    on_step: Callable[[Any], object] | None = None,
    on_epoch: Callable[[dict[str, float]], object] | None = None,
    doctor: Watch | None = None,
) -> FitResult:
    """Train: `state, metrics = step(state, *batch)` for each batch of `data`, again and again.

    The run takes `epochs` passes over the data or `steps` batches, whichever ends first. After each
    epoch, or `every` so many steps, and at the end, it evaluates: `validate(state)` returns numbers
    by name, which with the mean training loss make a row of the history. With `patience=n` the run
    ends after n evaluations without a better `metric` (`mode` "min" or "max").

    With a `folder`, each evaluation leaves a checkpoint there (the last `keep` stay, and the best;
    where evaluations are rare there is one each ten minutes) and a row in `metrics.csv` and
    `metrics.jsonl`; the first step and each `log_every`-th leave one in `steps.csv` and
    `steps.jsonl`. With `resume=True` a run that ended in whatever way goes on from its last
    checkpoint, bit for bit as if it had never stopped; a folder without one is a new run. `config`,
    plain data, is kept with it.

    Ctrl-C ends the run after the step it is in, with a checkpoint; a second one at once.
    `on_step(metrics)` is called after each step, `on_epoch(row)` after each evaluation. A `doctor`,
    `pb.inspect.Doctor()`, looks on and tells what goes wrong and where. The `state` that is passed
    is given away.

    Raises `ArgumentError` for senseless arguments, data without batches, and where `resume` meets
    a run of another step, data or configuration. Once the run goes on: `DivergedError` for a loss
    or gradient that is no finite number (a scaled loss may overflow: such steps are counted), and
    `TrainingError` where the data or the disk ends; `error.result` has what was reached.

    >>> import pullback as pb
    >>> model, optimizer = pb.nn.Linear(2, 1, key=pb.random.key(0)), pb.optim.sgd(0.1)
    >>> step = pb.train.train_step(lambda model, x, y: pb.nn.mse(model(x), y), optimizer)
    >>> state = pb.train.TrainState.create(model, optimizer)
    >>> batches = [(pb.ones((4, 2)), pb.zeros((4, 1)))]
    >>> result = fit(step, state, batches, epochs=3, progress=False)
    >>> result, [row["epoch"] for row in result.history]
    (<fit: finished after 3 steps>, [1, 2, 3])
    """
    limits = Limits(epochs, steps, every, patience, metric, mode)
    limits.check(step, validate, log_every)
    source = Source(data)
    limits.check_data(source, folder is not None or validate is not None)
    formats = require_formats(log)
    kept = None
    if folder is not None:
        choices = {"every": every, "metric": metric, "mode": mode, "log_every": log_every}
        kept = Folder(Path(folder), keep, mode, formats, choices | {"config": dict(config or {})})
    elif resume:
        raise ArgumentError("resume=True goes on in a folder, and none is given")
    run = _Run(limits, step, state, source, validate, kept, log_every, on_step, on_epoch, doctor)
    run.begin(resume)
    return run.run(Display(bool(progress), limits.total(source)))


class _Run:
    """A run under way."""

    def __init__(
        self,
        limits: Limits,
        step: Step,
        state: Tree,
        source: Source,
        validate: Validate | None,
        folder: Folder | None,
        log_every: int,
        on_step: Callable[[Any], object] | None,
        on_epoch: Callable[[dict[str, float]], object] | None,
        doctor: Watch | None,
    ) -> None:
        self._limits = limits
        self._step = step
        self._state = state
        self._source = source
        self._validate = validate
        self._folder = folder
        self._log_every = log_every if folder is not None and folder.steps.files else 0
        self._on_step = on_step
        self._on_epoch = on_epoch
        self._doctor = doctor
        self._record = Record()
        self._position = source.position()
        self._is_scaled = getattr(state, "scale", None) is not None
        self._form = map_leaves(_without_numbers, state)
        self._best_state: Tree = None
        self._rows: list[dict[str, float]] = []
        """Of steps, not yet written."""
        self._flush_at = 0.0
        self._save_at = math.inf
        self._clock = 0.0

    def begin(self, resume: bool) -> None:
        """Take the run in the folder up, or make the first checkpoint of a new one."""
        folder = self._folder
        if folder is None:
            return
        if not folder.is_used:
            folder.begin(self._source)
            folder.save(self._record, self._state, self._position)
        elif resume:
            self._record, self._state = folder.restore(self._step, self._state, self._source)
            self._position = self._source.position()
        else:
            raise ArgumentError(
                f"{folder.path} holds a run",
                hint="resume=True goes on with it; or name another folder",
            )

    # ---- the loop ----

    def run(self, display: Display) -> FitResult:
        self._display = display
        self._clock = time.perf_counter() - self._record.seconds
        self._save_at = time.perf_counter() + SAVE_SECONDS
        display.start(self._record.step)
        if self._doctor is not None:
            self._doctor.begin(self._step, self._state)
        try:
            with polite_interrupt(self._tell_interrupt) as wish:
                stopped = self._loop(wish)
                self._finish(stopped)
        except Exception as error:
            self._rescue(error)
            raise
        finally:
            display.stop()
        return self._result(stopped)

    def _loop(self, wish: Wish) -> Stopped:
        self._catch_up()
        stopped = self._ended(wish)
        while stopped is None:
            batches = iter(self._source)
            try:
                stopped = self._epoch(batches, wish)
            finally:
                close(batches)
        return stopped

    def _catch_up(self) -> None:
        """What a run that ended right after a step had still to do there."""
        record = self._record
        if record.step:
            self._evaluate_when_due()
        if record.seen and record.seen == self._source.length:
            self._end_epoch()

    def _epoch(self, batches: Iterator[Any], wish: Wish) -> Stopped | None:
        """Steps until the epoch or the run ends."""
        for batch in batches:
            self._take(batch)
            self._evaluate_when_due()
            stopped = self._ended(wish)
            if stopped is not None:
                return stopped
        self._end_epoch()
        return self._ended(wish)

    def _take(self, batch: Any) -> None:
        """One step."""
        record = self._record
        self._state, metrics = self._stepped(batch)
        loss = float(metrics.loss)
        skipped = bool(metrics.skipped)
        self._require_finite(loss, skipped, metrics, batch)
        self._position = self._source.position()
        record.step += 1
        record.seen += 1
        if skipped:
            record.skipped += 1
            record.in_a_row += 1
        else:
            record.total += loss
            record.counted += 1
            record.in_a_row = 0
        self._tell(batch, loss, metrics)

    def _stepped(self, batch: Any) -> tuple[Any, Any]:
        result = self._step(self._state, *arguments(batch))
        if isinstance(result, tuple) and len(result) == 2 and hasattr(result[1], "skipped"):
            return result
        raise ArgumentError(
            f"step returned a {type(result).__name__}, not (state, metrics) with metrics.loss and "
            "metrics.skipped",
            hint="step = pb.train.train_step(loss, optimizer) returns them",
        )

    def _tell(self, batch: Any, loss: float, metrics: Any) -> None:
        record, now = self._record, time.perf_counter()
        if self._folder is not None:
            if record.step == 1:
                self._folder.note(self._step, self._state, batch)
            if self._is_logged(record.step):
                self._rows.append({"epoch": record.epoch, "step": record.step} | numbers(metrics))
                if now > self._flush_at:
                    self._or_stop(self._flush)
            if now > self._save_at:
                self._or_stop(self._save)
        if not self._display.examples:
            self._display.first(record.step, examples(batch))
        if now > self._display.due:
            self._display.step(record.step, loss)
        if self._doctor is not None:
            self._display.tell(self._doctor.see(self._state, batch, metrics))
        if self._on_step is not None:
            self._on_step(metrics)

    def _is_logged(self, step: int) -> bool:
        return self._log_every > 0 and (step == 1 or step % self._log_every == 0)

    def _ended(self, wish: Wish) -> Stopped | None:
        record, limits = self._record, self._limits
        if limits.steps is not None and record.step >= limits.steps:
            return Stopped.FINISHED
        if limits.epochs is not None and record.epoch > limits.epochs:
            return Stopped.FINISHED
        if limits.patience is not None and record.waited >= limits.patience:
            return Stopped.PATIENCE
        return Stopped.INTERRUPTED if wish.is_there else None

    def _end_epoch(self) -> None:
        record = self._record
        if not record.seen:
            raise self._no_batch()
        number, record.epoch, record.seen = record.epoch, record.epoch + 1, 0
        if self._limits.every is None and not self._is_evaluated:
            self._evaluate(number)

    def _no_batch(self) -> PullbackError:
        if not self._record.step:
            return ArgumentError("the data gave no batch")
        hint = "a DataLoader, or a list of batches, begins again" if self._source.is_once else None
        return self._failure(
            f"the data ended after {self._record.step} steps: epoch {self._record.epoch} gave no "
            "batch",
            hint=hint,
        )

    # ---- evaluation ----

    @property
    def _is_evaluated(self) -> bool:
        rows = self._record.rows
        return bool(rows) and rows[-1]["step"] == self._record.step

    def _evaluate_when_due(self) -> None:
        every = self._limits.every
        if every is not None and self._record.step % every == 0 and not self._is_evaluated:
            self._evaluate()

    def _evaluate(self, epoch: int | None = None) -> None:
        """A row of numbers, a checkpoint, and whether the metric became better."""
        record, limits = self._record, self._limits
        record.seconds = time.perf_counter() - self._clock
        row = {
            "epoch": record.epoch if epoch is None else epoch,
            "step": record.step,
            "seconds": record.seconds,
            TRAIN_LOSS: record.total / record.counted if record.counted else math.nan,
            "skipped": record.skipped - record.skipped_before,
        }
        row |= self._validated()
        value = row.get(limits.metric, math.nan)  # it is there, where there is something to rank
        is_better = limits.is_better(value, record.best)
        if is_better:
            record.best, record.best_step, record.waited = value, record.step, 0
        else:
            record.waited += 1
        record.rows.append(row)
        record.total, record.counted, record.skipped_before = 0.0, 0, record.skipped
        self._keep(row, is_better)
        self._display.round(row, is_better)
        if self._doctor is not None:
            self._display.tell(self._doctor.evaluated(row))
        if self._on_epoch is not None:
            self._on_epoch(dict(row))

    def _validated(self) -> dict[str, float]:
        if self._validate is None:
            return {}
        found = self._validate(self._state)
        if not isinstance(found, Mapping):
            raise self._failure(
                f"validate returned a {type(found).__name__}, not numbers by name",
                hint='return {"validation_loss": loss}',
            )
        row = {str(name): self._number(name, value) for name, value in found.items()}
        taken = sorted(row.keys() & set(COLUMNS))
        if taken:
            raise self._failure(f"validate returned {taken[0]!r}, a name that fit itself has")
        before = self._record.rows[-1].keys() - set(COLUMNS) if self._record.rows else row.keys()
        if before != row.keys():
            raise self._failure(
                f"validate returned {', '.join(row) or 'nothing'}, and before "
                f"{', '.join(sorted(before))}",
                hint="every evaluation returns the same names",
            )
        try:
            self._limits.require_metric([TRAIN_LOSS, *row])
        except ArgumentError as error:
            raise self._failure(error.what, hint=error.hint) from None
        return row

    def _number(self, name: Any, value: Any) -> float:
        try:
            return float(value)
        except (TypeError, ValueError):
            raise self._failure(
                f"validate returned {name!r:.40} = {value!r:.60}, which is no number"
            ) from None

    def _keep(self, row: dict[str, float], is_better: bool) -> None:
        """Write the row, and the state: in the folder, or the best one in memory."""
        folder = self._folder
        if folder is None:
            if is_better:
                self._best_state = map_leaves(_copied, self._state)
            return
        self._or_stop(lambda: folder.metrics.append([row]))
        self._or_stop(self._save)

    def _save(self) -> None:
        """A checkpoint, with the metric where the state was evaluated."""
        folder, record = self._folder, self._record
        assert folder is not None
        value = record.rows[-1].get(self._limits.metric) if self._is_evaluated else None
        record.seconds = time.perf_counter() - self._clock
        self._flush()
        folder.save(record, self._state, self._position, metric=value)
        self._save_at = time.perf_counter() + SAVE_SECONDS

    def _flush(self) -> None:
        """Write the rows of steps that wait."""
        if self._folder is not None and self._rows:
            self._folder.steps.append(self._rows)
            self._rows = []
        self._flush_at = time.perf_counter() + FLUSH_SECONDS

    def _or_stop(self, write: Callable[[], None]) -> None:
        """Write, or end the run where that cannot be."""
        try:
            write()
        except (OSError, ArgumentError) as error:
            raise self._unwritten(error) from None

    # ---- the end ----

    def _finish(self, stopped: Stopped) -> None:
        record = self._record
        if stopped is Stopped.FINISHED and not self._is_evaluated:
            self._evaluate()
        elif self._folder is not None and record.step != self._folder.saved:
            self._or_stop(self._save)

    def _rescue(self, error: Exception) -> None:
        """Save what an error leaves, and say where; the error itself goes on."""
        folder, record = self._folder, self._record
        if folder is None:
            return
        if record.step != folder.saved:
            with contextlib.suppress(OSError, PullbackError):  # the error that goes on says more
                self._save()
        error.add_note(f"    the last checkpoint in {folder.path} is of step {folder.saved}")

    def _result(self, stopped: Stopped) -> FitResult:
        record = self._record
        best = None
        if record.best is not None:
            path = None if self._folder is None else self._folder.at(record.best_step).path
            best = Best(record.best_step, record.best, path, self._load_best)
        rows = tuple(dict(row) for row in record.rows)
        return FitResult(self._state, rows, best, stopped, record.step, record.skipped)

    def _load_best(self) -> Tree:
        if self._folder is None:
            return self._best_state
        best = self._folder.at(self._record.best_step)
        return self._folder.checkpoints.load(best, self._form)[0]

    # ---- what goes wrong ----

    def _require_finite(self, loss: float, skipped: bool, metrics: Any, batch: Any) -> None:
        number = self._record.step + 1
        if not skipped and math.isfinite(loss):
            return
        if skipped and self._is_scaled and self._record.in_a_row < MOST_SKIPPED:
            return
        what = f"the loss is {loss}"
        if math.isfinite(loss):
            what = f"the loss is {loss:.6g} and its gradient is not finite{_where(metrics)}"
        often = f", as in the {MOST_SKIPPED} before" if skipped and self._is_scaled else ""
        error = DivergedError(
            f"{what} at step {number}, in epoch {self._record.epoch}{often}",
            self._result(Stopped.FAILED),
            hint="take a smaller learning rate or clip=1.0, and look for NaN in the data"
            + ("; error.result.state is the state before that step" if skipped else ""),
        )
        if self._doctor is not None and skipped:
            error.add_note(self._doctor.diverged(self._state, batch, metrics))
        raise error

    def _failure(self, what: str, hint: str | None = None) -> TrainingError:
        return TrainingError(what, self._result(Stopped.FAILED), hint=hint)

    def _unwritten(self, error: OSError | ArgumentError) -> TrainingError:
        why = error.what if isinstance(error, ArgumentError) else f"{error.filename or ''} {error}"
        return self._failure(
            f"the run stops at step {self._record.step}: {why.strip()}",
            hint="what was written before is whole, and error.result.state is the state now; "
            "resume=True goes on",
        )

    def _tell_interrupt(self) -> None:
        self._display.tell_at_once("stopping after this step; Ctrl-C again to stop at once")


def numbers(metrics: Any) -> dict[str, float]:
    """The numbers of a step: its loss, and what else its metrics have of `Metrics`."""
    row = {"loss": float(metrics.loss), "skipped": int(bool(metrics.skipped))}
    for name in ("grad_norm", "scale"):
        if hasattr(metrics, name):
            row[name] = float(getattr(metrics, name))
    for name, values in (("grad_norm", "norms"), ("update_ratio", "ratios")):
        if hasattr(metrics, values):
            pairs = zip(metrics.names.paths, getattr(metrics, values).tolist(), strict=True)
            row |= {f"{name} {path}": x for path, x in pairs}
    return row


def _where(metrics: Any) -> str:
    """The first parameters whose gradient is not finite."""
    if not hasattr(metrics, "norms"):
        return ""
    pairs = zip(metrics.names.paths, metrics.norms.tolist(), strict=True)
    bad = [path for path, x in pairs if not math.isfinite(x)]
    return f" ({listed(bad, 3)})" if bad else ""


def _copied(x: Any) -> Any:
    return concrete(np.array(x.numpy())) if isinstance(x, Array) else np.array(x)


def _without_numbers(x: Any) -> Any:
    """What stands for an array once its memory is given away."""
    return Array(x.type, None, DONATED) if isinstance(x, Array) else x
