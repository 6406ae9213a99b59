"""What memory costs, drawn by matplotlib: curves of time against memory, the arena, a page."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape

from matplotlib import rc_context
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from pullback.compile.report import Point
from pullback.schedule.memory import Plan
from pullback.schedule.picture import COLOURS, bytes_text, kind_of_box
from pullback.train.plots import BLUE, GREY, ORANGE, STYLE, Plot

COLOURS_OF_CURVES = (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", GREY)


def time_memory(
    curves: Mapping[str, Sequence[Point]], resident: Mapping[str, int] | None = None
) -> Plot:
    """The time that is added, by the bytes at the peak, as shares of those of the unbounded step.

    With `resident`, what each step holds whatever the budget, the bytes are those of the arena.
    """
    fixed = resident or {}
    with rc_context(STYLE):
        figure = Figure(figsize=(5.6, 3.7), layout="constrained")
        axes = figure.subplots()
        for (name, points), colour in zip(curves.items(), COLOURS_OF_CURVES, strict=False):
            most = max(x.peak_bytes for x in points) - fixed.get(name, 0)
            share = [(x.peak_bytes - fixed.get(name, 0)) / most for x in points]
            label = f"{name} ({bytes_text(most)})"
            added = [x.slowdown for x in points]
            axes.plot(share, added, "o-", ms=3, color=colour, label=label)
        axes.xaxis.set_major_formatter(PercentFormatter(1, 0))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.set(title="Time for memory")
        axes.set_xlabel(f"{'arena' if fixed else 'peak'}, of that without a budget")
        axes.set(ylabel="more time, predicted")
        axes.legend(fontsize=8)
    caption = "How much longer a step takes when it may hold less, by the planner's own numbers."
    return Plot("time_memory", caption, figure)


def arena(plan: Plan) -> Plot:
    """Every life in the arena: offset against steps."""
    with rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(9.2, 4.6), layout="constrained")
        axes = figure.subplots()
        for kind, colour in COLOURS.items():
            boxes = [x for x in plan.holdings if x.bytes and kind_of_box(x) == kind]
            corners = [
                [(x.start, low), (x.end, low), (x.end, high), (x.start, high)]
                for x in boxes
                for low, high in [(x.offset, x.offset + x.bytes)]
            ]
            if corners:
                drawn = PolyCollection(corners, facecolors=colour, edgecolors="white", lw=0.3)
                drawn.set_label(kind)
                axes.add_collection(drawn)
        axes.set_xlim(0, max(len(plan.schedule), 1))
        axes.set_ylim(0, max(plan.arena_bytes, 1))
        axes.axhline(plan.lower_bound, color="#111827", lw=1, ls="--")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda size, _: bytes_text(int(size))))
        axes.set(title="The arena", xlabel="step", ylabel="offset")
        axes.legend(fontsize=8, loc="upper right")
    caption = "Where each value lies, and when. Dashed: the most bytes that are alive at once."
    return Plot("arena", caption, figure)


def reversals(length: Sequence[int], curves: Mapping[str, Sequence[float]]) -> Plot:
    """The slots of activations and gradients in which a chain of equal layers can be reversed."""
    with rc_context(STYLE):
        figure = Figure(figsize=(5.6, 3.7), layout="constrained")
        axes = figure.subplots()
        for (name, slots), colour in zip(curves.items(), COLOURS_OF_CURVES, strict=False):
            dashed = "--" if "L" in name else "-"  # a formula
            axes.plot(length, slots, dashed, color=colour, label=name, lw=1.4)
        axes.set(title="Equal layers", xlabel="layers", ylabel="slots of memory")
        axes.legend(fontsize=8)
    caption = "The least memory of a chain of equal layers, for so much more time."
    return Plot("reversals", caption, figure)


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body{{font:15px system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em}}
pre{{font-size:13px;overflow-x:auto}}img,svg{{max-width:100%}}</style>
<h1>{title}</h1><pre>{text}</pre>{curve}<h2>The arena</h2>{arena}</html>
"""


def page(title: str, text: str, plan: Plan, curve: Plot | None) -> str:
    """All of a plan on a page that needs no other file."""
    drawn = ""
    if curve is not None:
        data = base64.b64encode(curve.png()).decode()
        drawn = f'<h2>Other budgets</h2><img alt="curve" src="data:image/png;base64,{data}">'
    return PAGE.format(title=escape(title), text=escape(text), curve=drawn, arena=plan.picture())
