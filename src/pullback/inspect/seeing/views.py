"""`View`: something seen, as text, in a notebook, as a page, as a picture."""

from __future__ import annotations

import html
import json
import sys
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from pullback.inspect.seeing.figures import Curves, Figure, HeatMap
from pullback.inspect.seeing.pictures import picture
from pullback.inspect.seeing.plotting import sheet
from pullback.train.files import write_whole
from pullback.train.logs import plain


class View:
    """Figures with numbers behind them. `str(view)` fits 80 columns, without colour."""

    @property
    def figures(self) -> tuple[Figure, ...]:
        """What it is made of."""
        raise NotImplementedError

    def text(self, ascii_only: bool = False) -> str:
        """The figures as text; `ascii_only` for a terminal without shades."""
        return "\n\n".join(each.text(ascii_only) for each in self.figures)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return self.text()

    def show(self) -> None:
        """Print it, in what the terminal can show."""
        text = self.text()
        if not is_printable(text):
            encoding = sys.stdout.encoding or "ascii"
            text = self.text(ascii_only=True).encode(encoding, "replace").decode(encoding)
        print(text)

    def _repr_html_(self) -> str:
        return "".join(map(picture, self.figures))

    def to_html(self, path: str | PathLike[str], title: str = "pullback") -> None:
        """Write one page that needs no other file."""
        write_whole(Path(path), page_of([self], title))

    def to_png(self, path: str | PathLike[str]) -> None:
        """Write a picture. Raises `PullbackError` where matplotlib is not installed."""
        sheet(self.figures).savefig(path, format="png", dpi=150)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; a number that is not finite is a string."""
        return {"figures": [plain(_content(each)) for each in self.figures]}


def is_printable(text: str) -> bool:
    """Whether the terminal has all letters of a text."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def page_of(views: Sequence[View], title: str) -> str:
    """One self-contained page with all views, and their numbers as JSON for tools."""
    parts = "".join(f"<section>{each._repr_html_()}</section>" for each in views)
    return document(title, parts, [each.to_dict() for each in views])


STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:62em;margin:2em auto;padding:0 1em;"
    "color:#111;background:#fff}section{margin:2em 0}h2{font-size:1.1em}"
    ".card{border:1px solid #6b7280;border-radius:6px;padding:0 1em}"
    ".STOP,.FAIL{border-left:5px solid #a00030;padding-left:.7em}"
    ".WARN{border-left:5px solid #b26a00;padding-left:.7em}"
    "table{border-collapse:collapse;font-size:13px}"
    "td,th{text-align:left;vertical-align:top;padding:.2em .7em .2em 0;"
    "border-bottom:1px solid #e5e7eb}"
)


def document(title: str, body: str, data: Any) -> str:
    """A page that fetches nothing, with the data as JSON in it."""
    held = json.dumps(data).replace("<", "\\u003c")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{html.escape(title)}</h1>{body}"
        f'<script type="application/json" id="numbers">{held}</script></body></html>'
    )


def _content(figure: Figure) -> dict[str, Any]:
    found: dict[str, Any] = {"title": figure.title, "unit": figure.unit, "rows": figure.rows}
    if isinstance(figure, HeatMap):
        return found | {"columns": figure.columns, "values": figure.values.tolist()}
    if isinstance(figure, Curves):
        found |= {"rows": figure.columns, "levels": dict(figure.levels), "marks": figure.marks}
    if hasattr(figure, "series"):
        return found | {x.name: x.values for x in figure.series}
    return found | {"parts": figure.parts}
