"""A plan as a table, as a picture of its arena (offset against time), and as lines of text."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from pullback.errors import Phase
from pullback.ir.types import Numbers

if TYPE_CHECKING:
    from pullback.schedule.memory import Holding, Plan

UNITS = ("B", "kB", "MB", "GB", "TB")
HEADINGS = ("Bytes", "Value", "Steps", "Layer", "Source")


def bytes_text(size: int) -> str:
    """A byte count to three or four figures, decimal units, as budgets are written.

    >>> bytes_text(1_234_567)
    '1.235 MB'
    """
    exponent = 0
    while size >= 1000 ** (exponent + 1) and exponent + 1 < len(UNITS):
        exponent += 1
    return f"{size / 1000**exponent:.4g} {UNITS[exponent]}"


# ---- the table ------------------------------------------------------------------------------


def draw_table(plan: Plan, rows: int) -> str:
    """The sums, a line for each conflict, and the largest `rows` values alive at the peak."""
    alive = plan.at_peak()
    lines = [*_sums(plan), *_conflicts(plan)]
    if not alive:
        return "\n".join(lines)
    step = plan.lifetimes.workload.steps[plan.schedule[plan.peak_step]]
    lines += ["", f"alive at the peak, step {plan.peak_step} ({step.label})"]
    lines += _columns([HEADINGS, *map(_row, alive[:rows])])
    rest = alive[rows:]
    if rest:
        lines.append(f"and {len(rest)} more, {bytes_text(sum(x.bytes for x in rest))}")
    return "\n".join(lines)


def _sums(plan: Plan) -> list[str]:
    gap = plan.arena_bytes - plan.lower_bound
    above = f", {gap / plan.lower_bound:.2%} above the lower bound" if gap else ", the lower bound"
    again = len(plan.schedule) - len(set(plan.schedule))
    return [
        f"peak      {bytes_text(plan.peak_bytes)} ({plan.peak_bytes:,} bytes)",
        f"resident  {bytes_text(plan.resident_bytes)}",
        f"arena     {bytes_text(plan.arena_bytes)}{above}",
        f"steps     {len(plan.schedule)}" + _again(plan, again),
        *_form(plan),
    ]


def _again(plan: Plan, again: int) -> str:
    if not again:
        return ""
    return f", {again} of them run again: {plan.slowdown:.1%} more time, predicted"


def _form(plan: Plan) -> list[str]:
    form = plan.lifetimes.workload.form
    return [] if form is None else [f"form      {form.text}"]


def _conflicts(plan: Plan) -> list[str]:
    values, steps = plan.lifetimes.workload.values, plan.lifetimes.workload.steps
    return [
        f"copied    {values[x.value].label} at the end: step {x.step} "
        f"({steps[plan.schedule[x.step]].label}) still reads {values[x.donor].label}"
        for x in plan.conflicts
    ]


def _row(x: Holding) -> tuple[str, ...]:
    end = "end" if x.kept else str(x.end - 1)
    return bytes_text(x.bytes), x.label, f"{x.start}–{end}", x.layer, x.source


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if k else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


# ---- the picture ----------------------------------------------------------------------------

WIDTH, HEIGHT = 960.0, 480.0
LEFT, RIGHT, TOP, BOTTOM = 84.0, 16.0, 44.0, 48.0
COLOURS = {
    "made forward": "#4c78a8",
    "made backward": "#e4893b",
    "result": "#54a24b",
    "scratch": "#b6b6b6",
}
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#222}rect.b{stroke:#fff;stroke-width:.5}"
    "rect.b:hover{stroke:#000;stroke-width:1.5}line{stroke:#999;stroke-width:1}"
    "line.peak{stroke:#c22;stroke-dasharray:4 3}line.bound{stroke:#222;stroke-dasharray:6 3}"
)


def draw_svg(plan: Plan) -> str:
    """Boxes over steps and offsets: a title on each, the peak step and the lower bound marked."""
    steps, arena = max(len(plan.schedule), 1), max(plan.arena_bytes, 1)
    across = (WIDTH - LEFT - RIGHT) / steps
    up = (HEIGHT - TOP - BOTTOM) / arena

    def x(step: float) -> float:
        return LEFT + step * across

    def y(offset: float) -> float:
        return HEIGHT - BOTTOM - offset * up

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img">',
        f"<style>{STYLE}</style>",
        f"<title>{_heading(plan)}</title>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{LEFT:g}" y="18">{_heading(plan)}</text>',
        *_legend(),
    ]
    for step in _ticks(steps):
        parts.append(_text(x(step), HEIGHT - BOTTOM + 18, str(step), "middle"))
        parts.append(_line(x(step), y(0), x(step), y(0) + 4))
    for offset in _ticks(arena):
        parts.append(_text(LEFT - 8, y(offset) + 4, bytes_text(offset), "end"))
        parts.append(_line(LEFT - 4, y(offset), LEFT, y(offset)))
    for box in plan.holdings:
        if box.bytes:
            size = (box.end - box.start) * across, box.bytes * up
            parts.append(_box(box, x(box.start), y(box.offset + box.bytes), *size))
    middle = x(plan.peak_step + 0.5)
    parts += [
        _line(middle, y(0), middle, y(arena), "peak"),
        _line(x(0), y(plan.lower_bound), x(steps), y(plan.lower_bound), "bound"),
        _line(x(0), y(0), x(steps), y(0)),
        _line(x(0), y(0), x(0), y(arena)),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, "step", "middle"),
        f'<g transform="translate(16 {HEIGHT / 2:g}) rotate(-90)">',
        _text(0, 0, "offset in the arena", "middle"),
        "</g>",
        "</svg>",
    ]
    return "\n".join(parts)


def _heading(plan: Plan) -> str:
    bound = bytes_text(plan.lower_bound)
    return (
        f"arena {bytes_text(plan.arena_bytes)}, lower bound {bound} (dashed), "
        f"peak at step {plan.peak_step}; resident besides: {bytes_text(plan.resident_bytes)}"
    )


def _legend() -> list[str]:
    parts = []
    for k, (kind, colour) in enumerate(COLOURS.items()):
        at = LEFT + 130 * k
        parts.append(f'<rect x="{at:g}" y="26" width="10" height="10" fill="{colour}"/>')
        parts.append(_text(at + 15, 35, kind, "start"))
    return parts


def _box(box: Holding, x: float, y: float, width: float, height: float) -> str:
    end = "the end" if box.kept else f"step {box.end - 1}"
    told = [
        f"{box.label}: {bytes_text(box.bytes)} at offset {box.offset}",
        f"from step {box.start} to {end}",
        *[line for line in (box.layer, box.source) if line],
    ]
    title = escape("\n".join(told))
    return (
        f'<rect class="b" x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" '
        f'fill="{COLOURS[kind_of_box(box)]}"><title>{title}</title></rect>'
    )


def kind_of_box(box: Holding) -> str:
    """What a box of the picture is: a key of `COLOURS`."""
    if box.value is None:
        return "scratch"
    if box.kept:
        return "result"
    return "made forward" if box.value.site.phase is Phase.FORWARD else "made backward"


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str = "axis") -> str:
    return f'<line class="{kind}" x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}"/>'


def _ticks(end: int) -> list[int]:
    """About five round numbers from 0 to `end`."""
    power = 10 ** (len(str(max(end // 5, 1))) - 1)
    unit = next(k * power for k in (1, 2, 5, 10) if k * power * 6 >= end)
    return list(range(0, end + 1, unit))


# ---- a few lines of text --------------------------------------------------------------------

LINES = 16
SHADES = " ░▒▓█"
ASCII_SHADES = " .:*#"


def draw_text(plan: Plan, columns: int, *, ascii: bool) -> str:
    """How full each part of the arena is over time; `^` marks the peak step."""
    shades = ASCII_SHADES if ascii else SHADES
    corner, side = ("+-", "|") if ascii else ("└─", "│")
    labels = [bytes_text(plan.arena_bytes * (LINES - k) // LINES) for k in range(LINES)]
    labels = [text if k % 4 == 0 else "" for k, text in enumerate(labels)]
    margin = max(map(len, labels)) + 1
    width = columns - margin - 1
    steps, arena = max(len(plan.schedule), 1), max(plan.arena_bytes, 1)
    boxes = [(b.start, b.end, b.offset, b.offset + b.bytes) for b in plan.holdings]
    table = np.array(boxes, np.float64).reshape(-1, 4)
    # Each box covers a share of each column and of each row: their products add up to fullness.
    along = _cover(table[:, 0] * width / steps, table[:, 1] * width / steps, width)
    above = _cover(table[:, 2] * LINES / arena, table[:, 3] * LINES / arena, LINES)
    full = np.clip(above.T @ along, 0.0, 1.0)
    level = np.ceil(full * (len(shades) - 1) - 1e-9).astype(int)
    lines = [
        label.rjust(margin) + side + "".join(shades[i] for i in row)
        for label, row in zip(labels, level[::-1].tolist(), strict=True)
    ]
    lines.append(" " * margin + corner + corner[1] * (width - 1))
    peak = " " * (margin + 1 + (2 * plan.peak_step + 1) * width // (2 * steps)) + "^"
    last = f"step {steps - 1}"
    axis = peak.ljust(columns - len(last)) if len(peak) + len(last) < columns else ""
    lines.append(axis + last if axis else peak)
    return "\n".join(line.rstrip() for line in lines)


def _cover(low: Numbers, high: Numbers, cells: int) -> Numbers:
    """How much of each unit cell the interval [low, high) covers."""
    left = np.arange(cells)
    shared = np.minimum(high[:, None], left + 1) - np.maximum(low[:, None], left)
    return shared.clip(0.0, 1.0)
