"""The figures as SVG, for a page that fetches nothing: no script, no font, no style from outside.

Colours are viridis and those of Okabe & Ito (2008), told apart with colour blindness; what is not
finite is hatched.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from pullback.inspect.seeing.figures import Dots, Figure, HeatMap, Scale, Shares, number, shortened

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
    body = {HeatMap: _heat_map, Dots: _dots, Shares: _shares}[type(figure)](figure)  # type: ignore[operator]
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


# ---- the three kinds ------------------------------------------------------------------------


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
