"""What a run looks like: plots as PNG files, and one page that holds them all.

Needs the extra `train` (matplotlib, jinja2).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from pullback.ir.types import Numbers
from pullback.train.run import Row, Run

# Okabe & Ito (2008): told apart with every common form of colour blindness.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#6b7280"
STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "grid.color": "#e5e7eb",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "svg.fonttype": "path",
}
GRADIENT = "grad "
"""Begins the columns of the steps that hold the norm of a gradient."""


@dataclass(frozen=True)
class Plot:
    """A figure with its name, and the sentence that says how to read it."""

    name: str
    caption: str
    figure: Figure

    def png(self) -> bytes:
        stream = io.BytesIO()
        self.figure.savefig(stream, format="png", dpi=150)
        return stream.getvalue()

    def svg(self) -> str:
        stream = io.StringIO()
        # The salt makes the ids of one page differ, and those of one plot the same each time.
        with rc_context({**STYLE, "svg.hashsalt": self.name}):
            self.figure.savefig(stream, format="svg", metadata={"Date": None})
        text = stream.getvalue()
        return text[text.index("<svg") :]


def write_report(
    run: Run, title: str, summary: Mapping[str, str], plots: Sequence[Plot], notes: Sequence[str]
) -> None:
    """Write each plot as `<name>.png`, and `report.html`, which needs no other file."""
    for plot in plots:
        run.write(f"{plot.name}.png", plot.png())
    template = resources.files("pullback.train").joinpath("report.html.jinja").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.from_string(template).render(
        title=title,
        summary=summary,
        settings=run.settings,
        plots=[(plot.name, plot.caption, Markup(plot.svg())) for plot in plots],  # noqa: S704
        epochs=run.epochs,
        notes=notes,
    )
    run.write("report.html", page)


# ---- plots ----------------------------------------------------------------------------------


def learning_curves(run: Run) -> Plot:
    """Loss of each step and epoch on a logarithmic axis; accuracy of each epoch."""
    with rc_context(STYLE):
        figure = Figure(figsize=(9.2, 3.5), layout="constrained")
        left, right = figure.subplots(1, 2)
        per_epoch = len(run.steps) / len(run.epochs)
        progress = (np.arange(len(run.steps)) + 1) / per_epoch
        losses = [row["loss"] for row in run.steps]
        left.plot(progress, losses, color=GREY, alpha=0.35, lw=0.7, label="each training batch")
        _two_parts(left, run.epochs, "loss")
        left.set(title="Loss", ylabel="cross-entropy (nats)", yscale="log")
        _two_parts(right, run.epochs, "accuracy", scale=100.0)
        right.set(title="Accuracy", ylabel="images classified right (%)")
        for axes in (left, right):
            axes.set_xlabel("epoch")
            axes.set_xlim(0, len(run.epochs))
            axes.legend()
    caption = "Loss and accuracy after each epoch, on the training and on the validation images."
    return Plot("learning_curves", caption, figure)


def _two_parts(axes: Axes, epochs: Sequence[Row], measure: str, scale: float = 1.0) -> None:
    numbers = [row["epoch"] for row in epochs]
    for part, color, style in (("train", BLUE, "-"), ("validation", ORANGE, "--")):
        label = {"train": "training"}.get(part, part)
        values = [scale * row[f"{part}_{measure}"] for row in epochs]
        marker = "o" if len(epochs) < 3 else ""
        axes.plot(numbers, values, style, color=color, label=label, marker=marker)


def gradient_norms(run: Run, columns: int = 160) -> Plot:
    """Norms of the gradients: a row for each parameter, from input to output; steps go right."""
    names = [name for name in run.steps[0] if name.startswith(GRADIENT)]
    table = np.array([[row[name] for row in run.steps] for name in names])
    with rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(9.2, 1.3 + 0.36 * len(names)), layout="constrained")
        axes = figure.subplots()
        binned = _binned(table, columns)
        positive = binned[binned > 0]
        low, high = (positive.min(), positive.max()) if positive.size else (0.1, 1.0)
        image = axes.imshow(
            np.where(binned > 0, binned, np.nan),
            aspect="auto",
            interpolation="nearest",
            cmap="viridis",
            norm=LogNorm(low, max(high, low * 1.01)),
            extent=(0.5, table.shape[1] + 0.5, len(names) - 0.5, -0.5),
        )
        axes.set_yticks(range(len(names)), [name.removeprefix(GRADIENT) for name in names])
        axes.tick_params(axis="y", length=0)
        axes.set(title="Gradient norms", xlabel="step")
        figure.colorbar(image, ax=axes, label="‖∂L/∂parameter‖₂", pad=0.015)
    caption = (
        "The Euclidean norm of the gradient of each parameter, from the input (top) to the output "
        "(bottom). A row that stays dark beside its neighbours has stopped learning; one that "
        "flares up is unstable. White: exactly zero."
    )
    return Plot("gradient_norms", caption, figure)


def _binned(table: Numbers, columns: int) -> Numbers:
    """The geometric mean of neighbouring steps, so that at most `columns` remain."""
    count = table.shape[1]
    edges = np.unique(np.linspace(0, count, min(columns, count) + 1).astype(int))
    with np.errstate(divide="ignore"):
        sums = np.add.reduceat(np.log(table), edges[:-1], axis=1)
    result: Numbers = np.exp(sums / np.diff(edges))
    return result


def confusion_matrix(table: Sequence[Sequence[int]], what: str) -> Plot:
    """Counts of true classes (rows) and predicted ones (columns)."""
    counts = np.array(table)
    classes = range(len(counts))
    with rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(5.0, 4.5), layout="constrained")
        axes = figure.subplots()
        right = np.eye(len(counts), dtype=bool)
        # Two scales: a single mistake must be seen beside a diagonal of many.
        shade = np.where(right, 0.55 * counts / max(counts.max(), 1), 0.0)
        axes.imshow(shade, cmap="Blues", vmin=0, vmax=1)
        wrong = np.where(right | (counts == 0), np.nan, counts)
        axes.imshow(wrong, cmap="Oranges", vmin=-2, vmax=max(4, np.nanmax(np.append(wrong, 1))))
        for i, row in enumerate(counts):
            for j, count in enumerate(row):
                if count:
                    axes.text(j, i, str(count), ha="center", va="center", color="#111827")
        axes.set_xticks(classes)
        axes.set_yticks(classes)
        axes.tick_params(length=0)
        axes.set(title=f"What the network says of the {what}", xlabel="predicted", ylabel="true")
    caption = "How many images of each digit (row) were taken for which (column). Orange: mistakes."
    return Plot("confusion_matrix", caption, figure)


def gallery(
    name: str, caption: str, images: Numbers, titles: Sequence[str], columns: int = 10
) -> Plot:
    """Small grey images, each under its title."""
    rows = -(-len(images) // columns)
    with rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(9.2, 1.25 * max(rows, 1)), layout="constrained")
        for axes in np.ravel(figure.subplots(max(rows, 1), columns)):
            axes.set_axis_off()
        for axes, image, title in zip(figure.axes, images, titles, strict=False):
            axes.imshow(image, cmap="Greys", vmin=0)
            axes.set_title(title, fontsize=9, fontweight="normal", loc="center")
    return Plot(name, caption, figure)
