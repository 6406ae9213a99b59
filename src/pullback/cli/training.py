"""`pullback train digits`: the run, what it prints, the report it writes."""

from __future__ import annotations

import datetime as dt
import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

import pullback
from pullback.errors import NonFiniteError
from pullback.nn import MLP
from pullback.train.digits import (
    Parts,
    Scores,
    Settings,
    evaluate,
    load,
    steps_per_epoch,
    train,
)
from pullback.train.report import (
    Plot,
    confusion_matrix,
    gallery,
    gradient_norms,
    learning_curves,
    write_report,
)
from pullback.train.run import Row, Run, State

SHOWN_MISTAKES = 20
DATA = (
    "Data: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine "
    "Learning Repository, 1998, doi:10.24432/C50P49, CC BY 4.0."
)


def run_digits(settings: Settings, folder: Path) -> None:
    """Train, test, write the report. Raises as `Run` and `train` do."""
    console = Console(highlight=False, soft_wrap=True)
    parts = load()
    steps = settings.epochs * steps_per_epoch(settings, parts)
    run = Run(folder, "digits", asdict(settings))
    console.print(
        f"digits: {len(parts.train):,} training, {len(parts.validation)} validation, "
        f"{len(parts.test)} test images; writing to {folder}{os.sep}"
    )
    try:
        with Display(console, settings.epochs, steps) as display:
            model = train(settings, run, parts, display)
    except (KeyboardInterrupt, NonFiniteError):
        run.end(State.STOPPED)
        console.print(f"stopped after {len(run.steps)} steps; what was measured is in {folder}")
        raise
    scores = evaluate(model, parts.test, settings.batch_size)
    run.end(State.FINISHED, **_result(run, model, parts, scores))
    write_report(
        run,
        "Handwritten digits",
        _summary(run),
        _plots(run, parts, scores),
        [
            DATA,
            f"pullback {pullback.__version__}, run of {dt.datetime.now().astimezone():%Y-%m-%d}.",
        ],
    )
    right = int(np.trace(scores.confusion))
    console.print(
        f"[bold]test accuracy {scores.accuracy:.2%}[/]  ({right} of {len(parts.test)} images, "
        f"loss {scores.loss:.4f}, {run.epochs[-1]['seconds']:.1f} s)"
    )
    console.print(f"report: {folder / 'report.html'}")


class Display:
    """A line for each epoch; in a terminal a progress bar below them too."""

    def __init__(self, console: Console, epochs: int, steps: int) -> None:
        self.epochs = epochs
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("step", total=steps)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def step(self, row: Row) -> None:
        self.bar.update(self.task, advance=1, description=f"loss {row['loss']:.3f}")

    def epoch(self, row: Row) -> None:
        width = len(str(self.epochs))
        self.bar.console.print(
            f"epoch {row['epoch']:{width}}/{self.epochs}   "
            f"train loss {row['train_loss']:.4f}  accuracy {row['train_accuracy']:7.2%}   "
            f"validation loss {row['validation_loss']:.4f}  "
            f"accuracy {row['validation_accuracy']:7.2%}   {row['seconds']:5.1f} s"
        )


def _result(run: Run, model: MLP, parts: Parts, scores: Scores) -> dict[str, Any]:
    return {
        "test_accuracy": scores.accuracy,
        "test_loss": scores.loss,
        "confusion": scores.confusion,
        "images": {name: len(getattr(parts, name)) for name in ("train", "validation", "test")},
        "parameters": model.parameter_count,
        "seconds": run.epochs[-1]["seconds"],
        "pullback": pullback.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _summary(run: Run) -> dict[str, str]:
    last, result = run.epochs[-1], run.result
    return {
        "test accuracy": f"{result['test_accuracy']:.2%}",
        "test loss": f"{result['test_loss']:.4f}",
        "validation accuracy": f"{last['validation_accuracy']:.2%}",
        "parameters": f"{result['parameters']:,}",
        "steps": f"{len(run.steps):,}",
        "time": f"{result['seconds']:.1f} s",
    }


def _plots(run: Run, parts: Parts, scores: Scores) -> list[Plot]:
    wrong = np.flatnonzero(scores.predictions != scores.labels)
    shown = wrong[:SHOWN_MISTAKES]
    images = parts.test.images[shown].reshape(-1, 8, 8)
    said = [f"{scores.labels[i]} → {scores.predictions[i]}" for i in shown]
    mistakes = f"The {len(wrong)} test images the network gets wrong: the digit → what it says."
    if len(wrong) > len(shown):
        mistakes = mistakes.replace("The", f"{len(shown)} of the", 1)
    plots = [
        learning_curves(run),
        gradient_norms(run),
        confusion_matrix(scores.confusion, f"{len(scores.labels)} test images"),
    ]
    return [*plots, gallery("mistakes", mistakes, images, said)] if len(wrong) else plots
