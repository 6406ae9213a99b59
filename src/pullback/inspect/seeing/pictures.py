"""The figures as SVG, for a page that fetches nothing: no script, no font, no style from outside.

Colours are viridis and those of Okabe & Ito (2008), told apart with colour blindness; what is not
finite is hatched.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from pullback.inspect.seeing.figures import (
    Curves,
    Dots,
    Figure,
    HeatMap,
    Scale,
    Shares,
    number,
    shortened,
)

COLOURS = ("#0072B2", "#E69F00", "#56B4E9", "#CC79A7", "#6b7280")
VIRIDIS = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")
LEFT, WIDE, ROW, TOP = 190, 520, 18, 40
HATCH = (
    '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse">'
    '<rect width="6" height="6" fill="#fff"/>'
    '<path d="M0 6L6 0" stroke="#D55E00" stroke-width="2"/></pattern></defs>'
)


def picture(figure: Figure) -> str:
    """One `<svg>` element."""
    match figure:
        case HeatMap():
            body = _heat_map(figure)
        case Dots():
            body = _dots(figure)
        case Shares():
            body = _shares(figure)
        case Curves():
            body = _curves(figure)
    height = TOP + ROW * len(figure.rows) + 60
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDE + 200} {height}" '
        'style="max-width:60em;width:100%;font:12px sans-serif" role="img">'
        f"<title>{html.escape(figure.title)}</title>{HATCH}"
        f"{_text(0, 16, figure.title, weight='bold')}{_labels(figure.rows)}{body}</svg>"
    )


def colour(place: float) -> str:
    """Viridis at a place of [0, 1]."""
    x = place * (len(VIRIDIS) - 1)
    i = min(int(x), len(VIRIDIS) - 2)
    ends = [[int(c[k : k + 2], 16) for k in (1, 3, 5)] for c in VIRIDIS[i : i + 2]]
    mixed = [round(a + (b - a) * (x - i)) for a, b in zip(*ends, strict=True)]
    return "#" + "".join(f"{c:02x}" for c in mixed)


def _text(
    x: float, y: float, text: str, anchor: str = "start", fill: str = "#111", weight: str = "normal"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}" '
        f'font-weight="{weight}">{html.escape(text)}</text>'
    )


def _labels(rows: Sequence[str]) -> str:
    parts = [
        _text(LEFT - 8, TOP + ROW * i + 13, shortened(label, 28), "end")
        for i, label in enumerate(rows)
    ]
    return "".join(parts)


def _rectangle(x: float, y: float, width: float, fill: str, told: str) -> str:
    return (
        f'<rect x="{x:.2f}" y="{y:.1f}" width="{width:.2f}" height="{ROW - 2}" fill="{fill}">'
        f"<title>{html.escape(told)}</title></rect>"
    )


def _below(rows: int) -> float:
    return TOP + ROW * rows + 14


# ---- the kinds ------------------------------------------------------------------------


def _heat_map(figure: HeatMap) -> str:
    scale, count = figure.scale, max(len(figure.columns), 1)
    width = WIDE / count
    cells = []
    for i, (label, row) in enumerate(zip(figure.rows, figure.values.tolist(), strict=True)):
        for j, x in enumerate(row):
            told = f"{label}, {figure.axes[1]} {figure.columns[j]}: {number(x)}"
            fill = _fill(x, scale)
            cells.append(_rectangle(LEFT + j * width, TOP + ROW * i, width, fill, told))
    y = _below(len(figure.rows))
    first, last = (figure.columns[0], figure.columns[-1]) if figure.columns else ("", "")
    ends = _text(LEFT, y, first) + _text(LEFT + WIDE, y, f"{figure.axes[1]} {last}", "end")
    return "".join(cells) + ends + _legend(figure, scale, y + 10)


def _fill(x: float, scale: Scale) -> str:
    place = scale.place(x)
    if not math.isfinite(x):
        return "url(#hatch)"
    return "#d1d5db" if math.isnan(place) else colour(place)


def _legend(figure: HeatMap, scale: Scale, y: float) -> str:
    steps = 40
    bar = [
        _rectangle(LEFT + 4 * i, y, 4.2, colour(i / (steps - 1)), number(scale.low))
        for i in range(steps)
    ]
    told = f"{number(scale.low)} to {number(scale.high)}: {figure.unit}; grey 0; hatched not finite"
    return "".join(bar) + _text(LEFT + 4 * steps + 8, y + 13, told)


def _dots(figure: Dots) -> str:
    scale = figure.scale
    parts = [_band(figure, scale)]
    for k, series in enumerate(figure.series):
        fill, points = COLOURS[k % len(COLOURS)], []
        for i, x in enumerate(series.values):
            y, place = TOP + ROW * i + ROW / 2, scale.place(x)
            told = html.escape(f"{figure.rows[i]}, {series.name}: {number(x)}")
            if math.isnan(place):
                parts.append(
                    f'<rect x="{LEFT + WIDE + 6 + 12 * k}" y="{y - 6}" width="10" height="12" '
                    f'fill="url(#hatch)"><title>{told}</title></rect>'
                )
                continue
            points.append(f"{LEFT + place * WIDE:.1f},{y:.1f}")
            parts.append(
                f'<circle cx="{LEFT + place * WIDE:.1f}" cy="{y:.1f}" r="4" fill="{fill}">'
                f"<title>{told}</title></circle>"
            )
        if series.joined:
            parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{fill}"/>')
        parts.append(
            f'<circle cx="{LEFT + 150 * k + 5}" cy="26" r="4" fill="{fill}"/>'
            + _text(LEFT + 150 * k + 14, 30, series.name)
        )
    return "".join(parts) + _axis(figure, scale)


def _band(figure: Dots, scale: Scale) -> str:
    if figure.band is None:
        return ""
    low, high = [LEFT + scale.place(x) * WIDE for x in figure.band]
    height = ROW * len(figure.rows)
    return (
        f'<rect x="{low:.1f}" y="{TOP}" width="{high - low:.1f}" height="{height}" fill="#eef2ff"/>'
    )


def _axis(figure: Dots, scale: Scale) -> str:
    y = _below(len(figure.rows))
    line = f'<path d="M{LEFT} {y - 12}H{LEFT + WIDE}" stroke="#6b7280"/>'
    kind = " (logarithmic)" if scale.log else ""
    return (
        line
        + _text(LEFT, y + 2, number(scale.low))
        + _text(LEFT + WIDE, y + 2, number(scale.high), "end")
        + _text(LEFT + WIDE / 2, y + 16, figure.unit + kind, "middle")
    )


def _shares(figure: Shares) -> str:
    parts = []
    for i, row in enumerate(figure.parts):
        whole = sum(abs(x) for _, x in row if math.isfinite(x)) or 1.0
        x = float(LEFT)
        for k, (name, share) in enumerate(row):
            width = abs(share) / whole * WIDE if math.isfinite(share) else 0.0
            fill = COLOURS[k % len(COLOURS)]
            parts.append(_rectangle(x, TOP + ROW * i, width, fill, f"{name}: {share:.1%}"))
            x += width
        told = "  ".join(f"{shortened(name, 18)} {share:.0%}" for name, share in row)
        parts.append(_text(LEFT + WIDE + 6, TOP + ROW * i + 13, shortened(told, 40)))
    return "".join(parts) + _text(LEFT, _below(len(figure.rows)) + 4, figure.unit)


def _curves(figure: Curves) -> str:
    scale, high = figure.scale, ROW * len(figure.rows)

    def x_of(step: int) -> float:
        return LEFT + figure.across(step) * WIDE

    def y_of(x: float) -> float:
        place = scale.place(x)
        return TOP + high * (1 - (1.0 if math.isnan(place) else place))

    parts = [_text(LEFT - 8, TOP + 10, number(scale.high), "end")]
    parts.append(_text(LEFT - 8, TOP + high, number(scale.low), "end"))
    for i, (name, x) in enumerate(figure.levels):
        y = y_of(x)
        parts.append(
            f'<path d="M{LEFT} {y:.1f}H{LEFT + WIDE}" stroke="{COLOURS[2 + i % 3]}" '
            'stroke-dasharray="6 4"/>'
        )
        parts.append(_text(LEFT + WIDE + 6, y + 4, f"{name} {number(x)}"))
    for k, series in enumerate(figure.series):
        fill = COLOURS[k % 2]
        points = [
            f"{x_of(step):.1f},{y_of(x):.1f}"
            for step, x in zip(figure.columns, series.values, strict=True)
            if not math.isnan(scale.place(x))
        ]
        parts.append(
            f'<polyline points="{" ".join(points)}" fill="none" stroke="{fill}" '
            'stroke-width="1.5"/>'
        )
        name = html.escape(series.name)
        parts += [
            f'<rect x="{x_of(step) - 3:.1f}" y="{TOP}" width="6" height="{high}" '
            f'fill="url(#hatch)"><title>{name} at step {step}: {x}</title></rect>'
            for step, x in zip(figure.columns, series.values, strict=True)
            if not math.isfinite(x)
        ]
        parts.append(f'<path d="M{LEFT + 150 * k} 26h12" stroke="{fill}" stroke-width="2"/>')
        parts.append(_text(LEFT + 150 * k + 18, 30, series.name))
    for step, what in figure.marks:
        x = x_of(step)
        told = html.escape(f"step {step}: {what}")
        parts.append(
            f'<path d="M{x:.1f} {TOP}V{TOP + high}" stroke="#111" stroke-dasharray="2 3">'
            f"<title>{told}</title></path>"
        )
        parts.append(_text(x + 3, TOP + 10, what.split()[0]))
    y = _below(len(figure.rows))
    kind = " (logarithmic)" if figure.log else ""
    return (
        "".join(parts)
        + f'<path d="M{LEFT} {y - 12}H{LEFT + WIDE}" stroke="#6b7280"/>'
        + _text(LEFT, y + 2, str(figure.columns[0]))
        + _text(LEFT + WIDE, y + 2, f"step {figure.columns[-1]}", "end")
        + _text(LEFT + WIDE / 2, y + 16, figure.unit + kind, "middle")
    )
