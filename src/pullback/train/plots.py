"""What a run looks like, drawn by matplotlib."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from pullback.ir.types import Numbers
from pullback.train.objectives import Baseline
from pullback.train.run import Row, Steps

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
    "axes.axisbelow": True,
    "grid.color": "#e5e7eb",
    "grid.linewidth": 0.8,
    "legend.framealpha": 0.9,
    "legend.edgecolor": "none",
    "legend.fancybox": False,
    "lines.linewidth": 1.8,
    "svg.fonttype": "path",
}


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


@dataclass(frozen=True)
class Curves:
    """What the learning curves are of."""

    part: str
    """The part that is measured while training goes on."""
    measured: str
    """The part that the baselines are measured on."""
    unit: str
    score: str
    score_title: str
    score_label: str
    scale: float
    """What the score is multiplied by for the axis: 100 for per cent."""
    baselines: Sequence[Baseline]


# ---- plots ----------------------------------------------------------------------------------


def learning_curves(log: Steps, rows: Sequence[Row], curves: Curves) -> Plot:
    """Loss (logarithmic) and score by step, with the baselines as lines."""
    with rc_context(STYLE):
        figure = Figure(figsize=(9.2, 3.9), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.plot(
            log.steps, log.losses, color=GREY, alpha=0.35, lw=0.7, label="each training batch"
        )
        smooth, places = _smoothed(log)
        left.plot(places, smooth, color=BLUE, label="training, mean of neighbours")
        _measured(left, rows, f"{curves.part}_loss", curves.part)
        left.set(title="Loss", ylabel=curves.unit)
        if 0 < 5 * min(log.losses) < max(log.losses):
            left.set_yscale("log")
        _measured(right, rows, f"{curves.part}_{curves.score}", curves.part, curves.scale)
        right.set(title=curves.score_title, ylabel=curves.score_label)
        for axes, name, scale in ((left, "loss", 1.0), (right, curves.score, curves.scale)):
            for baseline, style in zip(curves.baselines, (":", "-.", "--"), strict=False):
                value = scale * baseline.scores[name]
                axes.axhline(value, color="#111827", lw=1, ls=style, label=baseline.name)
            axes.set_xlabel("step")
            axes.set_xlim(0, max(log.steps))
            axes.legend(fontsize=8)
    caption = (
        f"Loss and {curves.score} on the {curves.part} part while the network learns. The black "
        "lines are simpler predictors, fitted on the training part and measured on the "
        f"{curves.measured} part: what the network has to beat."
    )
    return Plot("learning_curves", caption, figure)


def _smoothed(log: Steps, columns: int = 60) -> tuple[Numbers, Numbers]:
    """The means of neighbouring losses, and the steps in their middle."""
    edges = _edges(len(log.steps), columns)
    counts = np.diff([*edges, len(log.steps)])
    means = np.add.reduceat(np.asarray(log.losses), edges) / counts
    return means, np.add.reduceat(np.asarray(log.steps, float), edges) / counts


def _measured(axes: Axes, rows: Sequence[Row], name: str, label: str, scale: float = 1.0) -> None:
    known = [row for row in rows if name in row]
    marker = "o" if len(known) < 12 else ""
    values = [scale * row[name] for row in known]
    steps = [row["step"] for row in known]
    axes.plot(steps, values, "-", color=ORANGE, label=label, marker=marker, ms=4)


def gradient_norms(log: Steps) -> Plot:
    """Norms of the gradients: a row for each parameter, from input to output; steps go right."""
    caption = (
        "The Euclidean norm of the gradient of each parameter, from the input (top) to the output "
        "(bottom). A row that stays dark beside its neighbours has stopped learning; one that "
        "flares up is unstable. White: exactly zero."
    )
    figure = _heat_map(log, log.norms, "Gradient norms", "‖∂L/∂parameter‖₂", "viridis", _range)
    return Plot("gradient_norms", caption, figure)


def update_ratios(log: Steps) -> Plot:
    """‖update‖ / ‖parameter‖: a row for each parameter; steps go right."""
    caption = (
        "How far a step moves each parameter, relative to its size. Around 10⁻³ (pale) a network "
        "learns well; far above (red) it forgets what it knew, far below (blue) it stands still. "
        "White: not moved at all, or a parameter of zeros."
    )
    label = "‖update‖ / ‖parameter‖"
    figure = _heat_map(log, log.ratios, "Update ratios", label, "RdYlBu_r", lambda _: (1e-5, 1e-1))
    return Plot("update_ratios", caption, figure)


def _heat_map(
    log: Steps,
    table: Numbers,
    title: str,
    label: str,
    colors: str,
    limits: Callable[[Numbers], tuple[float, float]],
    columns: int = 160,
) -> Figure:
    count = len(log.names)
    with rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(9.2, 1.3 + min(0.36, 9.0 / count) * count), layout="constrained")
        axes = figure.subplots()
        binned = _binned(table.T, columns)
        image = axes.imshow(
            np.where(binned > 0, binned, np.nan),
            aspect="auto",
            interpolation="nearest",
            cmap=colors,
            norm=LogNorm(*limits(binned[binned > 0])),
            extent=(log.steps[0] - 0.5, log.steps[-1] + 0.5, count - 0.5, -0.5),
        )
        axes.set_yticks(range(count), log.names, fontsize=9.5 if count <= 25 else 6.5)
        axes.tick_params(axis="y", length=0)
        axes.set(title=title, xlabel="step")
        figure.colorbar(image, ax=axes, label=label, pad=0.015, extend="both", extendfrac=0.02)
    return figure


def _range(positive: Numbers) -> tuple[float, float]:
    low, high = (positive.min(), positive.max()) if positive.size else (0.1, 1.0)
    return low, max(high, low * 1.01)


def _edges(count: int, columns: int) -> Numbers:
    """Where each of at most `columns` groups of neighbours begins."""
    return np.unique(np.linspace(0, count, min(columns, count) + 1).astype(int))[:-1]


def _binned(table: Numbers, columns: int) -> Numbers:
    """The geometric mean of neighbouring steps, so that at most `columns` remain."""
    edges = _edges(table.shape[1], columns)
    with np.errstate(divide="ignore", invalid="ignore"):
        sums = np.add.reduceat(np.log(table), edges, axis=1)
    result: Numbers = np.exp(sums / np.diff([*edges, table.shape[1]]))
    return result


def confusion_matrix(table: Sequence[Sequence[int]], names: Sequence[str], what: str) -> Plot:
    """Counts of true classes (rows) and predicted ones (columns)."""
    counts = np.array(table)
    classes, few = range(len(counts)), len(counts) <= 20
    side = min(9.0, 2.6 + 0.26 * len(counts))
    with rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(side, 0.9 * side), layout="constrained")
        axes = figure.subplots()
        right = np.eye(len(counts), dtype=bool)
        # Two scales: a single mistake must be seen beside a diagonal of many.
        shade = np.where(right, 0.55 * counts / max(counts.max(), 1), 0.0)
        axes.imshow(shade, cmap="Blues", vmin=0, vmax=1)
        wrong = np.where(right | (counts == 0), np.nan, counts)
        axes.imshow(wrong, cmap="Oranges", vmin=-2, vmax=max(4, np.nanmax(np.append(wrong, 1))))
        for i, j in np.argwhere(counts > 0) if few else ():
            size = 9.5 if counts.max() < 1000 else 7
            axes.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=size)
        short = [f"{name:.14}" for name in names]
        axes.set_xticks(classes, short, rotation=0 if max(map(len, short)) < 4 else 90)
        axes.set_yticks(classes, short)
        axes.tick_params(length=0, labelsize=9.5 if few else 5)
        axes.set(title=f"{what}: true and predicted", xlabel="predicted", ylabel="true")
    caption = "How many of each class (row) were taken for which (column). Orange: mistakes."
    return Plot("confusion_matrix", caption, figure)


def residuals(true: Numbers, predicted: Numbers, target: str, what: str) -> Plot:
    """Predictions beside the true values, and the distribution of the differences."""
    with rc_context(STYLE):
        figure = Figure(figsize=(9.2, 3.9), layout="constrained")
        left, right = figure.subplots(1, 2)
        ends = (min(true.min(), predicted.min()), max(true.max(), predicted.max()))
        left.plot(ends, ends, color=GREY, lw=1)
        left.scatter(true, predicted, s=12, color=BLUE, alpha=0.5, linewidths=0)
        left.set(title=f"{what}: predictions", xlabel=f"true {target}", ylabel="predicted")
        errors = predicted - true
        # A predictor that is always off by the same has a range of rounding errors alone.
        middle, half = np.mean(errors), max(np.ptp(errors) / 2, 1e-6 * np.abs(true).max(), 1e-12)
        span = (min(errors.min(), middle - half), max(errors.max(), middle + half))
        right.hist(errors, bins=30, range=span, color=BLUE, alpha=0.8)
        right.axvline(0, color=GREY, lw=1)
        right.set(title="Residuals", xlabel=f"predicted - true {target}", ylabel="rows")
    caption = (
        "Left: each row of the test part; on the line the prediction is right. Right: how the "
        "errors are spread; a heap beside zero is a bias."
    )
    return Plot("residuals", caption, figure)


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
