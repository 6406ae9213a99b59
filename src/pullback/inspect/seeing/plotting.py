"""The figures drawn by matplotlib, for files. Needs matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pullback.errors import PullbackError
from pullback.inspect.seeing.figures import Curves, Dots, Figure, HeatMap, Shares, shortened
from pullback.inspect.seeing.pictures import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet

STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.edgecolor": "none",
}


def sheet(figures: Sequence[Figure]) -> Sheet:
    """One below the other. Raises `PullbackError` where matplotlib is not installed."""
    try:
        from matplotlib import rc_context  # noqa: PLC0415  (of an extra)
        from matplotlib.figure import Figure as Sheet  # noqa: PLC0415
    except ImportError as error:
        raise PullbackError(
            "a picture needs matplotlib", hint='pip install "pullback[train]"'
        ) from error
    heights = [0.9 + 0.22 * len(each.rows) for each in figures]
    with rc_context(STYLE):
        page = Sheet(figsize=(9, sum(heights) + 0.4), layout="constrained")
        areas = page.subplots(len(figures), 1, squeeze=False, height_ratios=heights)[:, 0]
        for each, axes in zip(figures, areas, strict=True):
            axes.set_title(each.title)
            if not isinstance(each, Curves):
                axes.set_yticks(range(len(each.rows)), [shortened(x, 30) for x in each.rows])
                axes.invert_yaxis()
            match each:
                case HeatMap():
                    _heat_map(each, axes, page)
                case Dots():
                    _dots(each, axes)
                case Shares():
                    _shares(each, axes)
                case Curves():
                    _curves(each, axes)
    return page


def _heat_map(figure: HeatMap, axes: Axes, page: Sheet) -> None:
    from matplotlib.colors import LogNorm, Normalize  # noqa: PLC0415
    from matplotlib.patches import Rectangle  # noqa: PLC0415

    scale, values = figure.scale, figure.values.astype(np.float64)
    shown = np.ma.masked_invalid(np.where(values <= 0, np.nan, values) if scale.log else values)
    kind = LogNorm if scale.log else Normalize
    image = axes.imshow(
        shown, aspect="auto", cmap="viridis", norm=kind(scale.low, scale.high), interpolation="none"
    )
    for i, j in np.argwhere(~np.isfinite(values)).tolist():
        corner = (j - 0.5, i - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, hatch="////", edgecolor="#D55E00", lw=0))
    axes.set_xlabel(f"{figure.axes[1]} {figure.columns[0]} to {figure.columns[-1]}")
    page.colorbar(image, ax=axes, label=figure.unit)


def _dots(figure: Dots, axes: Axes) -> None:
    if figure.log:
        axes.set_xscale("log")
    if figure.band is not None:
        axes.axvspan(*figure.band, color="#eef2ff")
    for k, series in enumerate(figure.series):
        colour = COLOURS[k % len(COLOURS)]
        numbers = [
            x if math.isfinite(x) and (x > 0 or not figure.log) else math.nan for x in series.values
        ]
        style = "-" if series.joined else ""
        axes.plot(numbers, range(len(numbers)), f"o{style}", color=colour, label=series.name)
    axes.set_xlabel(figure.unit)
    axes.legend(loc="best")


def _shares(figure: Shares, axes: Axes) -> None:
    for i, row in enumerate(figure.parts):
        left = 0.0
        for k, (name, share) in enumerate(row):
            width = abs(share) if math.isfinite(share) else 0.0
            axes.barh(i, width, left=left, color=COLOURS[k % len(COLOURS)])
            if width > 0.1:
                axes.text(left + width / 2, i, shortened(name, 16), ha="center", va="center")
            left += width
    axes.set_xlabel(figure.unit)


def _curves(figure: Curves, axes: Axes) -> None:
    if figure.log:
        axes.set_yscale("log")
    for k, series in enumerate(figure.series):
        colour = COLOURS[k % 2]
        numbers = [
            x if math.isfinite(x) and (x > 0 or not figure.log) else math.nan for x in series.values
        ]
        axes.plot(figure.columns, numbers, "-", color=colour, label=series.name)
        for step, x in zip(figure.columns, series.values, strict=True):
            if not math.isfinite(x):
                axes.axvspan(step - 0.5, step + 0.5, fill=False, hatch="////", edgecolor="#D55E00")
    for i, (name, x) in enumerate(figure.levels):
        axes.axhline(x, color=COLOURS[2 + i % 3], linestyle="--", label=name)
    for step, what in figure.marks:
        axes.axvline(step, color="#111", linestyle=":")
        axes.annotate(what.split()[0], (step, 1), xycoords=("data", "axes fraction"), va="top")
    axes.set_xlabel("step")
    axes.set_ylabel(figure.unit)
    axes.legend(loc="best")
