"""`pullback train SOURCE`: the options, what the terminal shows, the report."""

from __future__ import annotations

import datetime as dt
import math
import os
from pathlib import Path
from typing import Any, get_args

import click
from rich.console import Console

from pullback.cli.failures import failures
from pullback.inspect import Doctor
from pullback.schedule.memory import Plan
from pullback.schedule.picture import bytes_text
from pullback.train.config import PRECISIONS, Tables, read_toml
from pullback.train.models import MODELS
from pullback.train.objectives import Scores
from pullback.train.optimizers import OPTIMIZERS
from pullback.train.report import page_of, write_report
from pullback.train.result import FitResult, Stopped
from pullback.train.run import free_folder
from pullback.train.session import Choices, Outcome, Session, chosen, resumed
from pullback.train.tables import Missing

# The key of each option: where it stands in a configuration.
KEYS = {
    "target": ("data", "target"),
    "task": ("data", "task"),
    "drop": ("data", "drop"),
    "missing": ("data", "missing"),
    "tokens": ("data", "tokens"),
    "model": ("model", "name"),
    "optimizer": ("optimizer", "name"),
    "lr": ("optimizer", "lr"),
    "epochs": ("training", "epochs"),
    "steps": ("training", "steps"),
    "batch_size": ("training", "batch_size"),
    "accumulate": ("training", "accumulate"),
    "clip": ("training", "clip"),
    "precision": ("training", "precision"),
    "seed": ("training", "seed"),
    "threads": ("training", "threads"),
    "memory": ("training", "memory"),
}
COUNT = click.IntRange(min=1)


@click.command()
@click.argument("source", required=False)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file with any choice; options have the last word.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the run.  [default: runs/SOURCE-<time>]",
)
@click.option("--resume", is_flag=True, help="Go on with the run in --out, bit for bit.")
@click.option("--target", metavar="COLUMN", help="The column of a table to be predicted.")
@click.option("--task", type=click.Choice(["classification", "regression"]), help="Of a table.")
@click.option("--drop", metavar="COLUMN", multiple=True, help="A column to leave out; repeatable.")
@click.option("--missing", type=click.Choice(get_args(Missing)), help="What of rows with gaps.")
@click.option("--tokens", type=click.Choice(["characters", "bytes"]), help="Of a text.")
@click.option("--model", type=click.Choice(list(MODELS)), help="The network.")
@click.option("--optimizer", type=click.Choice(list(OPTIMIZERS)), help="The optimiser.")
@click.option("--lr", type=float, help="Learning rate.")
@click.option("--epochs", type=COUNT, help="Passes over the training part.")
@click.option("--steps", type=COUNT, help="Batches, instead of epochs.")
@click.option("--batch-size", type=COUNT, help="Examples in one step.")
@click.option("--accumulate", type=COUNT, help="Parts of a batch, one after another in a step.")
@click.option("--clip", type=float, help="Largest norm of a gradient.")
@click.option("--precision", type=click.Choice(get_args(PRECISIONS)), help="Of a step.")
@click.option("--seed", type=int, help="Decides first weights and order.  [default: 0]")
@click.option("--threads", type=click.IntRange(min=0), help="0: all cores.  [default: 0]")
@click.option("--memory", metavar="BYTES", help="The most that a step may hold, as 500MB.")
@click.option(
    "--doctor/--no-doctor",
    default=True,
    help="Look on for what goes wrong, and say why.  [default: on, but with --resume]",
)
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--no-report", is_flag=True, help="No page and no plots.")
def train(
    source: str | None,
    config: Path | None,
    out: Path | None,
    *,
    resume: bool,
    doctor: bool,
    quiet: bool,
    no_report: bool,
    **options: Any,
) -> None:
    """Train a network on SOURCE, and compare it with simpler predictors.

    SOURCE is `digits` (handwritten digits that ship with the package), a folder of IDX files (the
    MNIST family), a CSV or Parquet file with --target COLUMN, or a text file.

    The run writes config.toml, checkpoints, metrics, plots, report.html and doctor.html to its
    folder. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted (--resume goes on).
    """
    console = Console(highlight=False, soft_wrap=True, markup=False)
    with failures():
        choices, folder = _chosen(source, config, out, given_sections(options), resume)
        session = Session(choices, folder, resume=resume)
        _introduce(console, session)
    with failures(begun=True):
        # What goes on was looked at when it began, and its loss need not fall any more.
        watch = Doctor() if doctor and not resume else None
        result = session.train(progress=not quiet, doctor=watch)
        if result.stopped is Stopped.INTERRUPTED:
            console.print(_stopped(result, folder))
            raise KeyboardInterrupt
        outcome = session.finish(result)
        _conclude(console, session, outcome)
        if watch is not None:
            console.print(f"\n{watch.report()}")
        if not no_report:
            write_report(session.run, page_of(session, outcome))
            console.print(f"report: {folder / 'report.html'}")
            if watch is not None:
                watch.to_html(folder / "doctor.html")


def _chosen(
    source: str | None, config: Path | None, out: Path | None, given: Tables, resume: bool
) -> tuple[Choices, Path]:
    """The choices of the run, and its folder."""
    named, file = (None, {}) if config is None else read_toml(config)
    origin = source or named
    if resume:
        if out is None:
            raise click.UsageError("--resume needs --out, the folder of the run")
        return resumed(out, origin, file, given), out
    if origin is None:
        raise click.UsageError("train what? SOURCE is missing: digits, a folder or a file")
    choices = chosen(origin, file, given)
    return choices, out or _new_folder(choices.task.name)


def given_sections(options: dict[str, Any]) -> Tables:
    """The options that were given, as sections."""
    sections: dict[str, dict[str, Any]] = {}
    for name, value in options.items():
        if value is not None and value != ():
            section, key = KEYS[name]
            sections.setdefault(section, {})[key] = list(value) if name == "drop" else value
    return sections


def _new_folder(name: str) -> Path:
    now = dt.datetime.now().astimezone()
    return free_folder(Path("runs"), f"{Path(name).stem}-{now:%Y%m%d-%H%M%S}")


# ---- what is said ---------------------------------------------------------------------------


def _introduce(console: Console, session: Session) -> None:
    choices = session.choices
    console.print(f"{choices.source} ({session.task.kind})")
    for note in session.task.notes:
        console.print(f"  {note}")
    console.print(f"  {_network(choices, session)}")
    console.print(f"  {_length(choices, session)}")
    if session.plan is not None:
        console.print(f"  {_memory(session.plan)}")
    console.print(f"  writing to {session.run.folder}{os.sep}")


def _network(choices: Choices, session: Session) -> str:
    optimizer = choices.optimizer
    schedule = "" if optimizer.schedule == "constant" else f", {optimizer.schedule} schedule"
    return (
        f"model {choices.model.name}, {session.model.parameter_count:,} parameters; "
        f"{optimizer.name}, lr {optimizer.lr:g}{schedule}"
    )


def _length(choices: Choices, session: Session) -> str:
    training = choices.training
    epochs = f"{training.epochs} epochs, " if training.epochs else ""
    parts = f" in {training.accumulate} parts" if training.accumulate > 1 else ""
    early = f", fewer if {training.patience} evaluations bring nothing" if training.patience else ""
    return (
        f"{epochs}{session.steps:,} steps of {training.batch_size} {session.task.example}"
        f"{parts}, {training.precision}, seed {training.seed}{early}"
    )


def _memory(plan: Plan) -> str:
    again = len(plan.schedule) - len(set(plan.schedule))
    price = f"{again} kernels run again, {plan.slowdown:.1%} more time, predicted"
    return (
        f"a step holds {bytes_text(plan.peak_bytes)} "
        f"({price if again else 'nothing is computed twice'}), besides Python and the data"
    )


def _stopped(result: FitResult, folder: Path) -> str:
    return (
        f"stopped after {result.steps:,} steps; pullback train --resume --out {folder} goes on "
        "from there"
    )


def _conclude(console: Console, session: Session, outcome: Outcome) -> None:
    task = session.task
    lines: list[tuple[str, Scores]] = [("network", outcome.scores)]
    lines += [(each.name, each.scores) for each in outcome.baselines]
    names = list(outcome.scores)
    width = max(len(name) for name, _ in lines)
    console.print()
    console.print(f"{task.measured + ' part':<{width}}  " + _cells([str(name) for name in names]))
    for name, scores in lines:
        console.print(f"{name:<{width}}  " + _cells([task.shown(k, scores[k]) for k in names]))
    for sample in outcome.samples:
        console.print(f"\n{'-' * 40}\n{sample}")
    seconds = outcome.fit.history[-1]["seconds"]
    kept = f"the network of step {outcome.kept_step:,} is kept"
    early = outcome.fit.stopped is Stopped.PATIENCE
    ended = f" (ended early: {kept})" if early else f" ({kept})"
    console.print(f"\ntrained {outcome.fit.steps:,} steps in {seconds:.1f} s{ended}")
    if not math.isfinite(outcome.scores["loss"]):
        console.print("the loss is no finite number: a smaller --lr may help")


def _cells(texts: list[str]) -> str:
    return "".join(f"{text:>12}" for text in texts)
