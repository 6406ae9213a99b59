"""A run from its choices to its report: what `pullback train` does, without the terminal.

session = Session(chosen("digits", {}, {"training": {"epochs": 3}}), Path("runs/digits"))
outcome = session.finish(session.train())
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pullback import random
from pullback.compile.budget import parse_bytes, require_machine
from pullback.data.loader import Crops, DataLoader
from pullback.errors import ArgumentError, nearest
from pullback.optim.optimizer import Optimizer
from pullback.schedule.memory import Plan
from pullback.train.checkpoint import save, versions
from pullback.train.config import (
    Samples,
    Tables,
    Training,
    merged,
    parse,
    plain,
    read_toml,
    to_toml,
)
from pullback.train.fit import fit
from pullback.train.images import DigitsTask, FolderTask
from pullback.train.models import Choice, apply, parse_model, plain_model
from pullback.train.objectives import Baseline, Scores
from pullback.train.optimizers import OptimizerChoice
from pullback.train.planning import batch_types, state_types
from pullback.train.result import FitResult, Stopped
from pullback.train.run import CONFIG, Run, State
from pullback.train.state import TrainState
from pullback.train.step import TrainStep, eval_step, train_step
from pullback.train.tables import TABLES, TableTask
from pullback.train.tasks import ExampleTask, Task
from pullback.train.texts import TextTask, written
from pullback.train.watch import Watch

MODEL = "model.safetensors"
MAY_CHANGE = tuple([("training", key) for key in ("epochs", "steps", "threads", "memory")])
"""Choices that a run which goes on may have otherwise."""


# ---- choices --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choices:
    """The data and every choice of a run."""

    source: str
    task: Task
    data: Any
    model: Choice
    optimizer: OptimizerChoice
    training: Training
    samples: Samples | None

    def sections(self) -> dict[str, dict[str, Any]]:
        """Every choice, as `chosen` takes it."""
        sections = {
            "data": plain(self.data),
            "model": plain_model(self.model),
            "optimizer": self.optimizer.plain(),
            "training": plain(self.training),
        }
        return sections | ({} if self.samples is None else {"samples": plain(self.samples)})

    def toml(self) -> str:
        return to_toml(self.source, self.sections())


def kind_of(source: str) -> type[Task]:
    """The task that a source stands for; `ArgumentError` where there is none of that name."""
    if source == "digits":
        return DigitsTask
    path = Path(source)
    if path.is_dir():
        return FolderTask
    if not path.exists():
        raise ArgumentError(
            f"there is no file or folder {source!r}",
            hint="did you mean digits?"
            if nearest(source, ["digits"])
            else "SOURCE is digits, a folder of IDX files, a .csv or .parquet file, or a text",
        )
    return TableTask if source.endswith(TABLES) else TextTask


def chosen(source: str, file: Tables, options: Tables) -> Choices:
    """The choices of a run: options before the file, the file before what fits the data.

    Raises `ArgumentError` for a choice that is unknown or makes no sense, and whatever reading the
    data raises.
    """
    kind: Any = kind_of(source)
    given = merged(file, options)
    text = kind is TextTask
    if "samples" in given and not text:
        raise ArgumentError("only a run on text has samples", hint="leave the section out")
    data = parse(kind.data_choices, f"data of {kind.kind}", given.get("data", {}))
    task: Task = kind(source, data)
    table = _completed(task.defaults(given.get("model", {}).get("name")), given)
    return Choices(
        source,
        task,
        data,
        parse_model(table["model"]),
        OptimizerChoice.parse(table["optimizer"]),
        parse(Training, "training", table["training"]),
        parse(Samples, "samples", table["samples"]) if text else None,
    )


def _completed(defaults: Tables, given: Tables) -> dict[str, dict[str, Any]]:
    """The given choices over the defaults, which say nothing of another optimiser or network."""
    kept = {}
    for name, table in defaults.items():
        mine = given.get(name, {}).get("name", table.get("name"))
        kept[name] = table if mine == table.get("name") else {"name": mine}
    return merged(kept, given)


def resumed(folder: Path, source: str | None, file: Tables, options: Tables) -> Choices:
    """The choices of the run in a folder, to go on with it.

    Raises `ArgumentError` where a choice is given that differs from what the run had, except for
    its length and its threads.
    """
    Run.open(folder)
    then, sections = read_toml(folder / CONFIG)
    if then is None:
        raise ArgumentError(f"{folder / CONFIG} names no source")
    if source is not None and source != then:
        raise ArgumentError(f"the run in {folder} is of {then!r}, not of {source!r}")
    given = merged(file, options)
    for name, table in given.items():
        for key, value in table.items():
            before = sections.get(name, {}).get(key)
            if (name, key) not in MAY_CHANGE and before != value:
                raise ArgumentError(
                    f"the run in {folder} has {name}.{key} = {before!r:.40}, not {value!r:.40}",
                    hint="go on with what it had, or begin a new run in another folder",
                )
    return chosen(then, sections, given)


# ---- the run --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What a run has come to."""

    fit: FitResult
    kept_step: int
    """The step of the network that is kept: the best by its validation loss, or the last."""
    scores: Scores
    """Of the part that is measured at the end."""
    baselines: Sequence[Baseline]
    samples: Sequence[str]
    outputs: Any
    """Of the network for the test part; None for a text."""


class Session:
    """The run of some choices in a folder."""

    def __init__(self, choices: Choices, folder: Path, *, resume: bool = False) -> None:
        """Claim the folder, or with `resume` open the run in it.

        Raises `ArgumentError` for choices that do not fit the data or a folder that is used,
        `MemoryPlanError` for a step that `training.memory` does not hold.
        """
        self.choices, self.task, self._resume = choices, choices.task, resume
        training = choices.training
        if training.patience is not None and self.task.held_out == "test":
            raise ArgumentError(
                "training.patience looks at a validation part, and there is none",
                hint="data.validation = 0.1 holds one out; the test part decides nothing",
            )
        key = random.key(training.seed)
        shape, outputs = self.task.inputs, self.task.outputs
        self.model = choices.model.build(shape, outputs, key=random.fold_in(key, 0))
        self.loader = self.task.batches(training, choices.model)
        self.steps = _steps(training, self.loader)
        if choices.samples is not None and isinstance(self.task, TextTask):
            self.task.vocabulary.encode(choices.samples.prompt)  # before the run, not after it
        optimizer = choices.optimizer.build(self.steps)
        precision, threads = training.precision, training.threads or None
        self._first = random.fold_in(key, 1)
        self._optimizer = optimizer
        self._step = step_of(choices, optimizer)
        self.plan = None if training.memory is None else self._planned()
        self._outputs = eval_step(outputs_of, precision=precision, threads=threads)
        notes = {"source": choices.source, "task": self.task.state()}
        self.run = Run.open(folder) if resume else Run.begin(folder, choices.toml(), **notes)
        if resume:
            self.run.write(CONFIG, choices.toml())
            self.run.set(state=State.RUNNING.value)

    def _planned(self) -> Plan:
        """What a step will hold, which is known before the run begins."""
        training = self.choices.training
        assert training.memory is not None
        require_machine(parse_bytes(training.memory))
        state = state_types(self.model, self._optimizer, precision=training.precision)
        batch = batch_types(self.task, training, self.choices.model)
        return self._step.lower(state, *batch).plan

    def train(self, *, progress: bool = True, doctor: Watch | None = None) -> FitResult:
        """Train, and keep checkpoints and numbers in the folder. Raises as `fit` does."""
        training, folder = self.choices.training, self.run.folder
        state = TrainState.create(
            self.model, self._optimizer, key=self._first, precision=training.precision
        )
        try:
            result = fit(
                self._step,
                state,
                self.loader,
                epochs=training.epochs,
                steps=training.steps,
                validate=self._validate,
                every=training.evaluate,
                patience=training.patience,
                metric=f"{self.task.held_out}_loss",
                folder=folder,
                resume=self._resume,
                config=_lasting(self.choices.sections()),
                log_every=training.log,
                progress=progress,
                doctor=doctor,
            )
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            self.run.end(State.STOPPED if interrupted else State.FAILED)
            raise
        if result.stopped is Stopped.INTERRUPTED:
            self.run.end(State.STOPPED)
        return result

    def _validate(self, state: TrainState) -> dict[str, float]:
        part = self.task.held_out
        scores = self.task.evaluate(self._outputs, state.model, part)
        return {f"{part}_{name}": x for name, x in scores.items()}

    def finish(self, result: FitResult) -> Outcome:
        """Measure the network that is kept, and the baselines; write the network down."""
        task, choices = self.task, self.choices
        best = result.best if task.held_out == "validation" else None
        model = (result.state if best is None else best.state()).model
        outputs = None
        if isinstance(task, ExampleTask):
            outputs = task.predictions(self._outputs, model, task.examples["test"].x)
            scores = task.objective.scores(outputs, task.examples["test"].y)
        else:
            scores = task.evaluate(self._outputs, model, task.measured)
        save(
            self.run.folder / MODEL,
            model,
            kind=type(task).__name__,
            task=task.state(),
            model=plain_model(choices.model),
            inputs=list(task.inputs),
            outputs=task.outputs,
            source=choices.source,
        )
        samples: list[str] = []
        if choices.samples is not None and isinstance(task, TextTask):
            samples = written(model, task.vocabulary, choices.samples, choices.training.seed)
        outcome = Outcome(
            result,
            best.step if best else result.steps,
            scores,
            task.baselines(choices.training),
            samples,
            outputs,
        )
        self.run.end(State.FINISHED, result=self._noted(outcome))
        return outcome

    def _noted(self, outcome: Outcome) -> dict[str, Any]:
        return {
            "measured": self.task.measured,
            "scores": outcome.scores,
            "baselines": {each.name: each.scores for each in outcome.baselines},
            "kept_step": outcome.kept_step,
            "steps": outcome.fit.steps,
            "seconds": outcome.fit.history[-1]["seconds"] if outcome.fit.history else 0.0,
            "parameters": self.model.parameter_count,
            "examples": self.task.parts,
            "samples": outcome.samples,
            "versions": versions(),
        }


def step_of(choices: Choices, optimizer: Optimizer) -> TrainStep:
    """The training step of some choices."""
    training = choices.training
    return train_step(
        choices.task.loss,
        optimizer,
        accumulate=training.accumulate,
        clip=training.clip,
        precision=training.precision,
        threads=training.threads or None,
        memory=training.memory,
    )


def outputs_of(model: Any, x: Any) -> Any:
    """What a network says of inputs, in use."""
    return apply(model, x)


def _lasting(sections: Tables) -> dict[str, dict[str, Any]]:
    """The choices that a run which goes on must have as before."""
    free = {name for section, name in MAY_CHANGE if section == "training"}
    training = {key: x for key, x in sections["training"].items() if key not in free}
    return {**{name: dict(table) for name, table in sections.items()}, "training": training}


def _steps(training: Training, loader: DataLoader | Crops) -> int:
    if training.steps is not None:
        return training.steps
    if isinstance(loader, Crops):
        raise ArgumentError(
            "a text has no epochs: each step sees pieces of it at random",
            hint="--steps, or training.steps",
        )
    assert training.epochs is not None
    return training.epochs * len(loader)
