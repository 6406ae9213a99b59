"""The page of a run: plots as PNG files, and one HTML file that needs no other.

Needs the extra `train` (matplotlib, jinja2).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from pullback.train.checkpoint import versions
from pullback.train.images import ImageTask
from pullback.train.objectives import Baseline, Classification, Regression
from pullback.train.plots import (
    Curves,
    Plot,
    confusion_matrix,
    gallery,
    gradient_norms,
    learning_curves,
    residuals,
    update_ratios,
)
from pullback.train.run import STEPS, Row, Run, Steps
from pullback.train.session import Outcome, Session
from pullback.train.tasks import ExampleTask, Task

SHOWN_MISTAKES = 20
TITLES = {"accuracy": "Accuracy", "perplexity": "Perplexity", "rmse": "Root mean squared error"}


@dataclass(frozen=True)
class Line:
    """A row of the table of scores: the network, or a baseline."""

    name: str
    scores: Mapping[str, str]


@dataclass(frozen=True)
class Page:
    """What the page shows."""

    title: str
    summary: Mapping[str, str]
    lines: Sequence[Line]
    measured: str
    """The part that the scores are of."""
    notes: Sequence[str]
    plots: Sequence[Plot]
    samples: Sequence[str]
    sections: Mapping[str, Mapping[str, Any]]
    rows: Sequence[Row]
    footer: Sequence[str]


def write_report(run: Run, page: Page) -> None:
    """Write each plot as `<name>.png`, and `report.html`."""
    for plot in page.plots:
        run.write(f"{plot.name}.png", plot.png())
    template = resources.files("pullback.train").joinpath("report.html.jinja").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    drawings = [(plot.name, plot.caption, Markup(plot.svg())) for plot in page.plots]  # noqa: S704
    columns = list(dict.fromkeys(name for row in page.rows for name in row))
    cells = [[_number(name, row.get(name)) for name in columns] for row in page.rows]
    text = environment.from_string(template).render(
        page=page,
        drawings=drawings,
        columns=[name.replace("_", " ") for name in columns],
        cells=cells,
    )
    run.write("report.html", text)


def _number(name: str, value: float | None) -> str:
    if value is None:
        return ""
    if name.endswith("accuracy"):
        return f"{value:.2%}"
    if name == "seconds":
        return f"{value:.1f}"
    return f"{value:,.0f}" if name in ("step", "epoch", "skipped") else f"{value:.4f}"


# ---- the plots of a task --------------------------------------------------------------------


def plots_of(
    task: Task, steps: Steps, rows: Sequence[Row], baselines: Sequence[Baseline], outputs: Any
) -> list[Plot]:
    """Learning curves, gradients, updates, and what fits the task.

    `outputs` are those of the network for the test part, None for a text.
    """
    per_cent = task.score == "accuracy"
    curves = Curves(
        part=task.held_out,
        measured=task.measured,
        unit=task.unit,
        score=task.score,
        score_title=TITLES.get(task.score, task.score),
        score_label="right (%)" if per_cent else task.score,
        scale=100.0 if per_cent else 1.0,
        baselines=baselines,
    )
    plots = [learning_curves(steps, rows, curves), gradient_norms(steps), update_ratios(steps)]
    if not isinstance(task, ExampleTask):
        return plots
    test, objective = task.examples["test"], task.objective
    if isinstance(objective, Regression):
        true, said = objective.numbers(test.y), objective.numbers(outputs)
        return [*plots, residuals(true, said, objective.target, f"{len(test)} test rows")]
    assert isinstance(objective, Classification)
    table = objective.confusion(outputs, test.y)
    names = [str(each) for each in objective.classes]
    plots.append(confusion_matrix(table, names, f"{len(test):,} test examples"))
    return plots + (_mistakes(task, objective, outputs) if isinstance(task, ImageTask) else [])


def _mistakes(task: ImageTask, objective: Classification, outputs: Any) -> list[Plot]:
    test, said = task.examples["test"], np.argmax(outputs, axis=-1)
    wrong = np.flatnonzero(said != test.y)
    shown = wrong[:SHOWN_MISTAKES]
    if not len(wrong):
        return []
    classes = objective.classes
    titles = [f"{classes[test.y[i]]} → {classes[said[i]]}" for i in shown]
    which = "The" if len(shown) == len(wrong) else f"{len(shown)} of the"
    caption = f"{which} {len(wrong)} test images the network gets wrong: the class → what it says."
    return [gallery("mistakes", caption, test.x[shown], titles)]


# ---- the page of a session ------------------------------------------------------------------


def page_of(session: Session, outcome: Outcome) -> Page:
    """Everything the page shows of a run that has finished."""
    task, history = session.task, outcome.fit.history
    steps = Steps.read(session.run.folder / STEPS)
    names = list(outcome.scores)

    def line(name: str, scores: Mapping[str, float]) -> Line:
        return Line(name, {k: task.shown(k, scores[k]) for k in names})

    others = [line(each.name, each.scores) for each in outcome.baselines]
    summary = {
        f"{task.measured} {task.score}": task.shown(task.score, outcome.scores[task.score]),
        f"{task.measured} loss": task.shown("loss", outcome.scores["loss"]),
        "parameters": f"{session.model.parameter_count:,}",
        "steps": f"{outcome.fit.steps:,}",
        "time": f"{history[-1]['seconds']:.1f} s",
    }
    kept = f"The network of step {outcome.kept_step:,} is kept and measured"
    best = task.held_out == "validation"
    why = "it had the lowest validation loss" if best else "it is the last"
    made = dt.datetime.now().astimezone()
    return Page(
        title=task.title,
        summary=summary,
        lines=[line(f"network ({session.choices.model.name})", outcome.scores), *others],
        measured=task.measured,
        notes=[*task.notes, f"{kept}: {why}."],
        plots=plots_of(task, steps, history, outcome.baselines, outcome.outputs),
        samples=outcome.samples,
        sections={"": {"source": session.choices.source}, **session.choices.sections()},
        rows=history,
        footer=[f"pullback {versions()['pullback']}, {made:%Y-%m-%d %H:%M}."],
    )
