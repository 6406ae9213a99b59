"""The commands, one function each."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

import pullback
from pullback.cli.benchmark import bench
from pullback.cli.explaining import explain
from pullback.cli.training import run_digits
from pullback.errors import ArgumentError, NonFiniteError
from pullback.train.digits import Settings
from pullback.train.run import free_folder


class Positive(click.ParamType[float]):
    """A finite number above 0."""

    name = "number"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        try:
            number = float(value)
        except ValueError:
            self.fail(f"{value!r} is no number", param, ctx)
        if not (math.isfinite(number) and number > 0):
            self.fail(f"{value} is not a finite number above 0", param, ctx)
        return number


COUNT = click.IntRange(min=1)
SEED = click.IntRange(min=0, max=2**64 - 1)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(pullback.__version__, prog_name="pullback")
def root() -> None:
    """Backpropagation, compiled and accountable."""


root.add_command(bench)
root.add_command(explain)


@root.group()
def train() -> None:
    """Train a network on real data."""


@train.command()
@click.option(
    "--epochs",
    type=COUNT,
    default=Settings.epochs,
    show_default=True,
    help="Passes over the training images.",
)
@click.option(
    "--batch-size",
    type=COUNT,
    default=Settings.batch_size,
    show_default=True,
    help="Images in one step.",
)
@click.option(
    "--lr", type=Positive(), default=Settings.lr, show_default=True, help="Learning rate of Adam."
)
@click.option(
    "--hidden",
    type=COUNT,
    default=Settings.hidden,
    show_default=True,
    help="Units of each hidden layer.",
)
@click.option(
    "--depth",
    type=COUNT,
    default=Settings.depth,
    show_default=True,
    help="Number of hidden layers.",
)
@click.option(
    "--seed",
    type=SEED,
    default=Settings.seed,
    show_default=True,
    help="Decides the first weights and the order of the images.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Folder for metrics, plots and report.  [default: runs/digits-<time>]",
)
def digits(out: Path | None, **chosen: Any) -> None:
    """Classify handwritten digits (1,797 images of 8 × 8 pixels, shipped with the package).

    Prints loss and accuracy after each epoch and the test accuracy at the end, and writes
    metrics.json, metrics.csv, steps.csv, plots and report.html.
    """
    with _usage_errors():
        run_digits(Settings(**chosen), out or _new_folder("digits"))


def _new_folder(task: str) -> Path:
    now = dt.datetime.now().astimezone()
    return free_folder(Path("runs"), f"{task}-{now:%Y%m%d-%H%M%S}")


@contextmanager
def _usage_errors() -> Iterator[None]:
    """An argument that makes no sense exits with 2, a loss that is no number with 1."""
    try:
        yield
    except ArgumentError as error:
        raise click.UsageError(_message(error)) from None
    except NonFiniteError as error:
        raise click.ClickException(_message(error)) from None


def _message(error: ArgumentError | NonFiniteError) -> str:
    return error.what if error.hint is None else f"{error.what} ({error.hint})"
