"""Kinds of figure, each as text of 80 columns: a heat map, a dot chart, stacked shares, curves.

A figure is data; `pictures` draws it for a page, `plotting` for a file. Rows are in forward order.
A number that is not finite is never left out: `!` in text, a hatched cell on a page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pullback.ir.types import Numbers

WIDTH = 80
LABEL = 22
SHADES, ASCII_SHADES = "░▒▓█", ".:+#"
FILLS, ASCII_FILLS = "█▒░▓", "#=.+"


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """Numbers to [0, 1], by their logarithm or as they are; from the finite ones alone."""

    low: float
    high: float
    log: bool

    @classmethod
    def of(cls, numbers: Sequence[float] | Numbers, log: bool) -> Scale:
        flat = np.asarray(numbers, np.float64).ravel()
        with np.errstate(all="ignore"):
            flat = flat[np.isfinite(flat) & ((flat > 0) | (not log))]
        if not flat.size:
            return cls(0.1 if log else 0.0, 1.0, log)
        low, high = float(flat.min()), float(flat.max())
        if low == high:
            return cls(low / 2, high * 2, log) if log else cls(low - 1, high + 1, log)
        return cls(low, high, log)

    def place(self, x: float) -> float:
        """NaN where a number has no place: it is not finite, or 0 on a logarithmic scale."""
        if not math.isfinite(x) or (self.log and x <= 0):
            return math.nan
        low, high, x = (
            (math.log(self.low), math.log(self.high), math.log(x))
            if self.log
            else (self.low, self.high, x)
        )
        return min(max((x - low) / (high - low), 0.0), 1.0)


def shortened(label: str, width: int = LABEL) -> str:
    """With the middle left out where it is too long."""
    if len(label) <= width:
        return label
    front = (width - 1) // 2
    return f"{label[:front]}~{label[len(label) - (width - 1 - front) :]}"


def number(x: float) -> str:
    return f"{x:.3g}"


# ---- heat map -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class HeatMap:
    """A number for each row and column; `axes` names both, `unit` says what the numbers are."""

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: Numbers
    unit: str
    axes: tuple[str, str]
    log: bool = True
    nothing: str = "0"
    """How text shows a 0 on a logarithmic scale."""

    @property
    def scale(self) -> Scale:
        return Scale.of(self.values, self.log)

    def text(self, ascii_only: bool = False) -> str:
        shades = ASCII_SHADES if ascii_only else SHADES
        room = WIDTH - LABEL - 2
        values, starts = _bucketed(self.values, room)
        scale = self.scale
        lines = [self.title, f"{self.axes[0]:<{LABEL}} |{self._ends(starts)}"]
        for label, row in zip(self.rows, values, strict=True):
            cells = "".join(_shade(x, scale, shades, self.nothing) for x in row.tolist())
            lines.append(f"{shortened(label):<{LABEL}} |{cells}")
        arrow = f"{shades[0]} {number(scale.low)} .. {shades[-1]} {number(scale.high)}"
        zero = f"   {self.nothing} zero" if self.log and self.nothing.strip() else ""
        lines += [f"{'':{LABEL}}  {arrow}{zero}   ! not finite", f"{'':{LABEL}}  {self.unit}"]
        return "\n".join(line.rstrip() for line in lines)

    def _ends(self, starts: Sequence[int]) -> str:
        if not starts:
            return ""
        first, last = self.columns[0], self.columns[-1]
        gap = max(len(starts) - len(first) - len(last), 1)
        return f"{first}{' ' * gap}{last} {self.axes[1]}"[: WIDTH - LABEL - 2]


def _bucketed(values: Numbers, room: int) -> tuple[Numbers, list[int]]:
    """At most `room` columns: the means of neighbours, not finite where one of them is not."""
    count = values.shape[1]
    starts = (
        sorted({i * count // room for i in range(room)}) if count > room else list(range(count))
    )
    ends = [*starts[1:], count]
    if not starts:
        return values, starts
    with np.errstate(all="ignore"):
        means = [values[:, a:b].mean(axis=1) for a, b in zip(starts, ends, strict=True)]
    return np.stack(means, axis=1), starts


def _shade(x: float, scale: Scale, shades: str, nothing: str) -> str:
    place = scale.place(x)
    if not math.isfinite(x):
        return "!"
    return nothing if math.isnan(place) else shades[min(int(place * len(shades)), len(shades) - 1)]


# ---- dots -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """A number for each row. `mark` is one character; a line joins the dots where `joined`."""

    name: str
    mark: str
    values: tuple[float, ...]
    joined: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Dots:
    """A few numbers for each row, on one axis; `band` is shaded: where sound networks lie."""

    title: str
    rows: tuple[str, ...]
    series: tuple[Series, ...]
    unit: str
    log: bool = True
    band: tuple[float, float] | None = None

    @property
    def scale(self) -> Scale:
        numbers = [x for each in self.series for x in each.values]
        return Scale.of([*numbers, *(self.band or ())], self.log)

    def text(self, ascii_only: bool = False) -> str:
        room = WIDTH - LABEL - 2 - 9 * len(self.series)
        scale = self.scale
        ground = self._ground(scale, room, "." if ascii_only else "·")
        named = "".join(f"{shortened(f'{x.mark} {x.name}', 8):>9}" for x in self.series)
        lines = [self.title, f"{'':{LABEL}}{named}  {self._ends(scale, room)}"]
        for i, label in enumerate(self.rows):
            found = [each.values[i] for each in self.series]
            shown = "".join(f"{number(x) if math.isfinite(x) else f'! {x}':>9}" for x in found)
            lines.append(f"{shortened(label):<{LABEL}}{shown}  {self._axis(found, scale, ground)}")
        lines.append(f"{'':{LABEL}}{self.unit}{self._told()}")
        return "\n".join(line.rstrip() for line in lines)

    def _ground(self, scale: Scale, room: int, dot: str) -> str:
        if self.band is None:
            return " " * room
        low, high = [scale.place(x) * (room - 1) for x in self.band]
        return "".join(dot if low <= i <= high else " " for i in range(room))

    def _axis(self, found: Sequence[float], scale: Scale, ground: str) -> str:
        cells = list(ground)
        for each, x in zip(self.series, found, strict=True):
            place = scale.place(x)
            if not math.isnan(place):
                i = round(place * (len(cells) - 1))
                cells[i] = each.mark if cells[i] in " ·." else "*"
        return "".join(cells)

    def _ends(self, scale: Scale, room: int) -> str:
        low, high = number(scale.low), number(scale.high)
        return f"{low}{high:>{max(room - len(low), len(high) + 1)}}"

    def _told(self) -> str:
        if self.band is None:
            return "   * several at one place"
        return f"   dotted: {number(self.band[0])} to {number(self.band[1])}"


# ---- shares ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """For each row parts of a whole, each with its name; a part may be negative."""

    title: str
    rows: tuple[str, ...]
    parts: tuple[tuple[tuple[str, float], ...], ...]
    unit: str

    def text(self, ascii_only: bool = False) -> str:
        fills = ASCII_FILLS if ascii_only else FILLS
        lines = [self.title]
        for label, parts in zip(self.rows, self.parts, strict=True):
            told = [f"{fills[i % 4]} {shortened(n, 16)} {x:.0%}" for i, (n, x) in enumerate(parts)]
            bar = _bar([x for _, x in parts], 20, fills)
            lines += _beside(f"{shortened(label):<{LABEL}}|{bar}| ", told)
        lines.append(f"{'':{LABEL}} {self.unit}")
        return "\n".join(lines)


def lengths(parts: Sequence[float], room: int) -> list[int]:
    """Whole cells in proportion to the sizes of the parts, `room` in all."""
    sizes = [abs(x) if math.isfinite(x) else 0.0 for x in parts]
    total = sum(sizes)
    if not total:
        return [0] * len(parts)
    ends = np.round(np.cumsum(sizes) / total * room).astype(int).tolist()
    return [b - a for a, b in zip([0, *ends[:-1]], ends, strict=True)]


def _bar(parts: Sequence[float], room: int, fills: str) -> str:
    cells = lengths(parts, room)
    return "".join(fills[i % 4] * n for i, n in enumerate(cells)).ljust(room)


def _beside(head: str, told: Sequence[str]) -> list[str]:
    """The names behind the bar, on as many lines as they need."""
    lines, line = [], head
    for each in told:
        if len(line) > len(head) and len(line) + len(each) + 2 > WIDTH:
            lines.append(line.rstrip())
            line = " " * len(head)
        line += each + "  "
    return [*lines, line.rstrip()]


# ---- curves ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """Numbers over steps. `levels` are lines across, `marks` steps at which something was told."""

    title: str
    columns: tuple[int, ...]
    series: tuple[Series, ...]
    levels: tuple[tuple[str, float], ...]
    marks: tuple[tuple[int, str], ...]
    unit: str
    log: bool = True

    HEIGHT: ClassVar[int] = 12
    """Rows of text."""

    @property
    def rows(self) -> tuple[str, ...]:
        """The room that it takes, as a figure with so many rows."""
        return ("",) * self.HEIGHT

    @property
    def scale(self) -> Scale:
        numbers = [x for each in self.series for x in each.values]
        return Scale.of([*numbers, *(x for _, x in self.levels)], self.log)

    def across(self, step: int) -> float:
        """Where a step stands between the first and the last, in [0, 1]."""
        first, last = self.columns[0], self.columns[-1]
        return (step - first) / (last - first) if last > first else 0.0

    def text(self, ascii_only: bool = False) -> str:
        room, scale, last = WIDTH - LABEL - 2, self.scale, self.HEIGHT - 1
        cells = [[" "] * room for _ in range(self.HEIGHT)]

        def put(across: float, x: float, mark: str) -> None:
            place = scale.place(x)
            row = 0 if math.isnan(place) else last - round(place * last)
            cells[row][round(across * (room - 1))] = "!" if not math.isfinite(x) else mark

        for _, x in self.levels:
            for i in range(0, room, 2):
                put(i / (room - 1), x, "." if ascii_only else "·")
        for each in self.series:
            for step, x in zip(self.columns, each.values, strict=True):
                put(self.across(step), x, each.mark)
        foot = [" "] * room
        for step, _ in self.marks:
            foot[round(self.across(step) * (room - 1))] = "^"
        named = {0: number(scale.high), last: number(scale.low)}
        lines = [self.title]
        lines += [f"{named.get(i, ''):>{LABEL}} |{''.join(row)}" for i, row in enumerate(cells)]
        lines.append(f"{'step':>{LABEL}} |{self._ends(room)}")
        if self.marks:
            lines.append(f"{'':{LABEL}}  {''.join(foot)}")
            lines += [f"{'':{LABEL}}  ^ {step}: {what}"[:WIDTH] for step, what in self.marks]
        told = [f"{x.mark} {x.name}" for x in self.series]
        told += [f"{'.' if ascii_only else '·'} {name} {number(x)}" for name, x in self.levels]
        lines.append(f"{'':{LABEL}}  {self.unit}: {'  '.join(told)}"[:WIDTH])
        return "\n".join(line.rstrip() for line in lines)

    def _ends(self, room: int) -> str:
        first, last = str(self.columns[0]), str(self.columns[-1])
        return f"{first}{last:>{max(room - len(first), 0)}}"


Figure = HeatMap | Dots | Shares | Curves
