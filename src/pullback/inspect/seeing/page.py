"""One self-contained page of a backward pass: the graph, and the details of each value."""

from __future__ import annotations

import html
import itertools
import json
import linecache
import math
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np

from pullback.errors import Site, counted
from pullback.inspect.seeing.drawing import Drawing, Spacing, draw
from pullback.inspect.seeing.table import is_merge, summary
from pullback.ir.types import Numbers, is_float

if TYPE_CHECKING:
    from pullback.inspect.backprop import Backprop, Step

SHOWN = 64
"""Elements up to which an array is shown number by number."""
SPACING = Spacing()
VIRIDIS = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")


def render(record: Backprop) -> str:
    """The page as text: SVG, style and script inside, nothing fetched from anywhere."""
    steps = [step for step in record.nodes if step.kind != "literal"]
    numbers = {step.name: i for i, step in enumerate(steps)}
    edges = [
        (numbers[name], i) for i, step in enumerate(steps) for name in step.reads if name in numbers
    ]
    drawing = draw(len(steps), edges, SPACING)
    scale = _Scale(steps)
    details = [_details(step, numbers) for step in steps]
    template = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=html.escape(f"{record.name}: L = {record.value.item():.6g}"),
        name=html.escape(record.name),
        loss=html.escape(f"{record.value.item():.6g}"),
        counts=html.escape(_counts(steps)),
        alarm=_alarm(steps),
        legend=scale.legend(),
        svg=_svg(steps, edges, drawing, scale),
        rows=_rows(record.steps, numbers),
        data=_json({"nodes": details, "edges": edges}),
    )


def _json(data: Any) -> str:
    """JSON that cannot end its script element."""
    return json.dumps(data, ensure_ascii=False).replace("<", "\\u003c").replace("&", "\\u0026")


def _counts(steps: Sequence[Step]) -> str:
    made = sum(step.node is not None for step in steps)
    given = sum(step.kind == "argument" for step in steps)
    return f"{given} argument{'s' * (given != 1)}, {made} computed value{'s' * (made != 1)}"


def _alarm(steps: Sequence[Step]) -> str:
    broken = [s.name for s in steps if _broken(s.value) or _broken(s.delta)]
    if not broken:
        return ""
    return f'<p class="alarm" role="alert">NaN or infinity in {html.escape(counted(broken, 6))}</p>'


def _broken(numbers: Numbers | None) -> bool:
    if numbers is None or not is_float(numbers.dtype):
        return False
    return not bool(np.isfinite(numbers.astype(np.float64)).all())


# ---- the colour of a delta ------------------------------------------------------------------


class _Scale:
    """Root mean square of δ → colour, logarithmic from the smallest to the largest on the page."""

    def __init__(self, steps: Sequence[Step]) -> None:
        known = [r for r in map(_rms, (s.delta for s in steps)) if r]
        self.low = math.floor(math.log10(min(known))) if known else 0
        self.high = max(math.ceil(math.log10(max(known))), self.low + 1) if known else 1

    def color(self, delta: Numbers | None) -> str:
        """Viridis; grey for no δ and for δ = 0; hatched where it is not finite."""
        if _broken(delta):
            return "url(#hatch)"
        size = _rms(delta)
        if not size:
            return "var(--none)"
        share = (math.log10(size) - self.low) / (self.high - self.low) * (len(VIRIDIS) - 1)
        at = min(int(share), len(VIRIDIS) - 2)
        return _mix(VIRIDIS[at], VIRIDIS[at + 1], share - at)

    def legend(self) -> str:
        stops = ", ".join(VIRIDIS)
        return (
            f'<span class="legend"><span>rms δ&nbsp; 10<sup>{self.low}</sup></span>'
            f'<i style="background:linear-gradient(90deg, {stops})"></i>'
            f"<span>10<sup>{self.high}</sup></span></span>"
        )


def _rms(numbers: Numbers | None) -> float | None:
    if numbers is None or not numbers.size or _broken(numbers):
        return None
    return float(np.sqrt(np.mean(np.square(numbers.astype(np.float64)))))


def _mix(first: str, second: str, share: float) -> str:
    pairs = [(int(first[i : i + 2], 16), int(second[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


# ---- the graph ------------------------------------------------------------------------------


def _svg(
    steps: Sequence[Step], edges: Sequence[tuple[int, int]], drawing: Drawing, scale: _Scale
) -> str:
    size = f'width="{drawing.width:.0f}" height="{drawing.height:.0f}"'
    box = f'viewBox="0 0 {drawing.width:.0f} {drawing.height:.0f}"'
    parts = [
        f'<svg id="graph" {size} {box} role="group" aria-label="computation graph">',
        DEFINITIONS,
    ]
    parts += [_edge(steps, edge, path) for edge, path in drawing.paths.items()]
    parts += [_box(i, step, drawing.centers[i], scale) for i, step in enumerate(steps)]
    return "\n".join([*parts, "</svg>"])


DEFINITIONS = """<defs>
<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="9" markerHeight="9"
markerUnits="userSpaceOnUse" orient="auto">
<path d="M0,0.5 L8,4 L0,7.5 z"/></marker>
<pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse"
patternTransform="rotate(45)">
<rect width="6" height="6" fill="#fff"/><rect width="3" height="6" fill="#d4004b"/></pattern>
</defs>"""


def _edge(steps: Sequence[Step], edge: tuple[int, int], path: Sequence[tuple[float, float]]) -> str:
    tail, head = edge
    half = SPACING.height / 2
    points = [*path]
    points[0] = (points[0][0], points[0][1] + half)
    points[-1] = (points[-1][0], points[-1][1] - half)
    curve = f"M{points[0][0]:.1f},{points[0][1]:.1f}"
    for (x, y), (u, v) in itertools.pairwise(points):
        middle = (y + v) / 2
        curve += f" C{x:.1f},{middle:.1f} {u:.1f},{middle:.1f} {u:.1f},{v:.1f}"
    passed = [c for c in steps[tail].contributions if c.through == steps[head].name]
    told = "".join(f"\n{c.rule}  =  {summary(c.value)}" for c in passed) or "\nno gradient"
    classes = "edge" if passed else "edge still"
    label = ""
    if passed and is_merge(steps[tail]):  # elsewhere it would repeat the δ of the box
        (x, y), (u, v) = points[0], points[1]
        share = 0.42
        ease = share * share * (3 - 2 * share)
        text = html.escape(_size(np.asarray(sum(c.value for c in passed))))
        place = f'x="{x + ease * (u - x):.1f}" y="{y + share * (v - y) + 4:.1f}"'
        label = f'<text class="flow" {place}>{text}</text>'
    title = html.escape(f"{steps[tail].name} → {steps[head].name}{told}")
    line = f'<path class="line" d="{curve}" marker-end="url(#tip)"/>'
    return (
        f'<g class="{classes}" data-tail="{tail}" data-head="{head}"><title>{title}</title>'
        f'<path class="hit" d="{curve}"/>{line}{label}</g>'
    )


def _box(i: int, step: Step, center: tuple[float, float], scale: _Scale) -> str:
    x, y = center[0] - SPACING.width / 2, center[1] - SPACING.height / 2
    made = step.equation.partition(" = ")[2] if step.node else step.kind
    broken = " broken" if _broken(step.value) or _broken(step.delta) else ""
    value = html.escape(_middle(_brief(step.value), 25))
    delta = html.escape(_middle(_brief(step.delta) if step.delta is not None else "none", 25))
    label = html.escape(f"{step.equation}; value {_brief(step.value)}; delta {_brief(step.delta)}")
    shape = "×".join(map(str, step.type.shape)) or "scalar"
    return (
        f'<g class="box {step.kind}{broken}" id="box-{i}" data-node="{i}" tabindex="0" '
        f'role="button" aria-label="{label}" transform="translate({x:.1f},{y:.1f})">'
        f"<title>{label}</title>"
        f'<rect class="card" width="{SPACING.width:.0f}" height="{SPACING.height:.0f}" rx="9"/>'
        f'<rect class="size" x="{SPACING.width - 9:.0f}" y="9" width="4" '
        f'height="{SPACING.height - 18:.0f}" '
        f'rx="2" fill="{scale.color(step.delta)}"/>'
        f'<text class="name" x="12" y="20">{html.escape(_middle(step.name, 20))}</text>'
        f'<text class="shape" x="{SPACING.width - 16:.0f}" y="20">{shape}</text>'
        f'<text class="made" x="12" y="37">{html.escape(_middle(made, 30))}</text>'
        f'<text class="value" x="12" y="54">{value}</text>'
        f'<text class="delta" x="12" y="70">δ {delta}</text></g>'
    )


def _brief(numbers: Numbers | None) -> str:
    """The numbers when few, else their norm."""
    text = summary(numbers)
    return text.partition(", ‖")[2].join(("‖", "")) if ", ‖" in text else text


def _size(numbers: Numbers) -> str:
    """One number: the number itself, or the norm."""
    return (
        _text(float(np.linalg.norm(numbers.astype(np.float64))))
        if numbers.ndim
        else summary(numbers)
    )


def _middle(text: str, most: int) -> str:
    """The text with its middle left out when it is longer than `most`."""
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


# ---- the table and the details --------------------------------------------------------------


def _rows(steps: Sequence[Step], numbers: dict[str, int]) -> str:
    lines = []
    for step in steps:
        depends = ", ".join(
            f"{html.escape(d.name)}{'<small> cached</small>' if d.cached else ''}"
            for d in step.depends
        )
        lines.append(
            f'<tr data-node="{numbers[step.name]}" tabindex="0">'
            f"<td>{html.escape(step.equation)}</td>"
            f"<td><b>{html.escape(step.symbol)}</b> = {html.escape(step.formula)}</td>"
            f"<td>{html.escape(summary(step.delta))}</td><td>{depends}</td></tr>"
        )
    return "\n".join(lines)


def _details(step: Step, numbers: dict[str, int]) -> dict[str, Any]:
    return {
        "name": step.name,
        "kind": step.kind,
        "type": str(step.type),
        "op": "" if step.node is None else step.node.op.name,
        "equation": step.equation,
        "symbol": step.symbol,
        "formula": step.formula,
        "depends": [{"name": d.name, "cached": d.cached} for d in step.depends],
        "value": _shown(step.value),
        "delta": None if step.delta is None else _shown(step.delta),
        "contributions": [
            {
                "through": c.through,
                "node": numbers.get(c.through),
                "op": c.op,
                "rule": c.rule,
                "depends": [{"name": d.name, "cached": d.cached} for d in c.depends],
                "value": _shown(c.value),
            }
            for c in step.contributions
        ],
        "passes": [{"to": p.to, "node": numbers.get(p.to), "rule": p.rule} for p in step.passes],
        "reads": [{"name": n, "node": numbers[n]} for n in step.reads if n in numbers],
        "site": _site(step.site),
    }


def _shown(numbers: Numbers) -> dict[str, Any]:
    """An array for the page: its numbers when they are few, and always what they amount to."""
    shown: dict[str, Any] = {"shape": list(numbers.shape), "dtype": str(numbers.dtype)}
    if numbers.size <= SHOWN and numbers.ndim <= 2:
        grid = np.atleast_2d(numbers)
        shown["numbers"] = [[_text(x) for x in row] for row in grid.tolist()]
    if numbers.size and is_float(numbers.dtype):
        wide = numbers.astype(np.float64).ravel()
        finite = wide[np.isfinite(wide)]
        shown["broken"] = int(wide.size - finite.size)
        if finite.size:
            shown["facts"] = {
                "min": _text(float(finite.min())),
                "mean": _text(float(finite.mean())),
                "max": _text(float(finite.max())),
                "norm": _text(float(np.linalg.norm(finite))),
                "zeros": str(int(np.count_nonzero(finite == 0))),
            }
    return shown


def _text(x: Any) -> str:
    return f"{x:.5g}" if isinstance(x, float) else str(x)


def _site(site: Site | None) -> dict[str, Any] | None:
    if site is None or site.frame is None:
        return None
    frame = site.frame
    line = linecache.getline(frame.code.co_filename, frame.line).rstrip("\n")
    return {
        "place": str(frame),
        "scope": site.scope,
        "source": _marked(line, frame.columns),
        "outer": [str(each) for each in site.frames[1:]],
    }


def _marked(line: str, columns: tuple[int, int] | None) -> list[str]:
    """The line in three parts, the expression in the middle; columns count bytes."""
    raw = line.encode()
    first, last = columns or (len(raw), len(raw))
    parts = [raw[:first], raw[first:last], raw[last:]]
    before, mark, after = (part.decode(errors="replace") for part in parts)
    return [before.lstrip(), mark, after]
