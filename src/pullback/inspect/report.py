"""`Report`: findings, worst first, as text of 80 columns, as plain values, as SARIF, as HTML."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from pullback.errors import DiagnosisError, Frame
from pullback.inspect.findings import Finding, Rule, Severity
from pullback.inspect.seeing.dossier import dossier
from pullback.inspect.seeing.views import View
from pullback.train.files import write_whole

WIDTH = 80
SHOWN = 3
"""Findings told in full; the others have a line each."""
INDENT = "     "


@dataclass(frozen=True, eq=False)
class Report:
    """What a check found. `str(report)` is for a terminal, without colour.

    `title` says what was looked at, `summary` what was seen where nothing is wrong. Findings that
    the user declared as intended are in `declared`, and count for nothing. `checks` are the rules
    that looked.
    """

    title: str
    findings: tuple[Finding, ...] = ()
    summary: str = ""
    declared: tuple[Finding, ...] = ()
    checks: tuple[type[Rule], ...] = ()

    @classmethod
    def of(cls, title: str, found: Sequence[Finding], summary: str = "") -> Report:
        """The findings in order of severity, without those that are declared as intended."""
        order = sorted(found, key=lambda x: (bool(x.explained_by), x.severity.rank))
        meant = [x for x in order if x.is_declared]
        return cls(title, tuple([x for x in order if x not in meant]), summary, tuple(meant))

    # ---- verdict ----

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple([x for x in self.findings if x.severity.is_error])

    @property
    def alarms(self) -> tuple[Finding, ...]:
        """Errors and warnings."""
        return tuple([x for x in self.findings if x.severity is not Severity.INFO])

    @property
    def exit_code(self) -> int:
        """1 if there is an error, else 0."""
        return 1 if self.errors else 0

    @property
    def ids(self) -> list[str]:
        """The rules that found something, worst first."""
        return list(dict.fromkeys(x.id for x in self.findings))

    def raise_on_failure(self) -> None:
        """Raise `DiagnosisError` with the report as its text, if there is an error."""
        if self.errors:
            error = DiagnosisError(str(self))
            error.report = self
            raise error

    # ---- as text ----

    def __str__(self) -> str:
        roots = [x for x in self.findings if not x.explained_by]
        told = [x for x in roots if x.severity is not Severity.INFO][:SHOWN] or roots[:1]
        rest = [x for x in roots if x not in told]
        lines = [self.title]
        for finding in told:
            lines += _told(finding, self.findings)
        lines += [_brief(x) for x in rest]
        if not self.findings:
            lines += _summed("ok   ", self.summary or "nothing found")
        elif self.summary:
            lines += _summed(INDENT, self.summary)
        lines += [_brief(x, meant=True) for x in self.declared]
        if self.findings:
            lines.append(f"     more: pullback explain {self.findings[0].id}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    # ---- for tools ----

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "title": self.title,
            "summary": self.summary,
            "exit_code": self.exit_code,
            "findings": [x.to_dict() for x in self.findings],
            "declared": [x.to_dict() for x in self.declared],
        }

    def to_sarif(self) -> dict[str, Any]:
        """A SARIF 2.1.0 log: what editors and code hosts show beside the lines."""
        rules = list(dict.fromkeys(x.rule for x in (*self.findings, *self.declared)))
        return {
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [
                {
                    "tool": {
                        "driver": {
                            "name": "pullback",
                            "rules": [
                                {
                                    "id": rule.id,
                                    "shortDescription": {"text": rule.title},
                                    "fullDescription": {"text": rule.explanation()},
                                    "help": {"text": rule.fix},
                                    "defaultConfiguration": {"level": rule.severity.sarif},
                                }
                                for rule in rules
                            ],
                        }
                    },
                    "columnKind": "utf16CodeUnits",
                    "results": [
                        *[_result(x) for x in self.findings],
                        *[_result(x, meant=True) for x in self.declared],
                    ],
                }
            ],
        }

    def to_html(self, path: str | PathLike[str], views: Sequence[View] = ()) -> None:
        """Write `page(views)`. Raises `OSError` where it cannot be written."""
        write_whole(Path(path), self.page(views))

    def page(self, views: Sequence[View] = ()) -> str:
        """A page that needs no other file: verdict, views, findings, every check, all as JSON too.

        `views` is what there is to see beside, as `pb.inspect.signal_propagation(…)`.
        """
        return dossier(self, views, self.checks)

    def _repr_html_(self) -> str:
        """For a notebook: the title, and a block for each finding with its text."""
        blocks = "".join(map(_block, self.findings))
        calm = "" if self.findings else f"<p>ok: {html.escape(self.summary or 'nothing found')}</p>"
        return (
            '<div class="pullback-report" style="font-family:sans-serif;max-width:60em">'
            f"<p><b>{html.escape(self.title)}</b></p>{calm}{blocks}</div>"
        )


# ---- one finding as text --------------------------------------------------------------------


def _told(finding: Finding, every: Sequence[Finding]) -> list[str]:
    followers = [x for x in every if x.explained_by == finding.id]
    lines = _wrapped(f"{finding.severity.value:4} {finding.id}  ", finding.what)
    lines += place(finding.frame, finding.module)
    for note in finding.notes:
        fits = len(INDENT) + len(note) <= WIDTH
        lines += [INDENT + note] if fits else _wrapped(INDENT, note)
    lines += _labelled("why", finding.why)
    lines += _labelled("fix", finding.fix)
    lines += _labelled("intended?", finding.intended)
    if followers:
        lines.append(f"{INDENT}{len(followers)} more explained by {finding.id}:")
        lines += [f"{INDENT}  {line}" for x in followers for line in _wrapped("", x.what, 7)]
    return lines


def _summed(label: str, summary: str) -> list[str]:
    """On one line where it fits."""
    text = label + summary
    return [text] if len(text) <= WIDTH else _wrapped(label, summary)


def _brief(finding: Finding, meant: bool = False) -> str:
    label = "meant" if meant else finding.severity.value
    where = "" if finding.frame is None else f"  {finding.file}:{finding.line}"
    text = f"{label:4} {finding.id}  {finding.what}"
    return textwrap.shorten(text, WIDTH - len(where), placeholder=" …") + where


def place(frame: Frame | None, module: str = "") -> list[str]:
    """The user's line with the expression underlined, as a compiler shows it."""
    if frame is None:
        return _wrapped(INDENT, f"in {module}") if module else []
    where = f"{frame.file}:{frame.line} in {frame.function}"
    lines = _wrapped(INDENT, f"{where}  ({module})" if module else where)
    source = frame.source
    if not source:
        return lines
    room = WIDTH - len(INDENT) - 4
    start = source.find(frame.expression) if frame.expression else -1
    length = min(len(frame.expression), room)
    shift = max(0, start + length - room)
    shown = source[shift : shift + room]
    lines.append(f"{INDENT}  | {shown}")
    if start >= 0 and length < len(source):
        lines.append(f"{INDENT}  | {' ' * (start - shift)}{'^' * length}")
    return lines


def _labelled(label: str, text: str) -> list[str]:
    return _wrapped(f"{INDENT}{label:<9} ", text) if text else []


def _wrapped(head: str, text: str, margin: int = 0) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH - margin,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )


# ---- one finding for tools ------------------------------------------------------------------


def _result(finding: Finding, meant: bool = False) -> dict[str, Any]:
    text = ". ".join(x for x in (finding.what, finding.why) if x)
    result: dict[str, Any] = {
        "ruleId": finding.id,
        "level": finding.severity.sarif,
        "message": {"text": text},
        "locations": [] if finding.frame is None else [_location(finding.frame)],
        "properties": {"module": finding.module, "fix": finding.fix},
    }
    if meant:
        result["suppressions"] = [{"kind": "inSource"}]
    return result


def _location(frame: Frame) -> dict[str, Any]:
    region: dict[str, Any] = {"startLine": frame.line, "snippet": {"text": frame.source}}
    columns = frame.columns
    if columns is not None:
        region |= {"startColumn": columns[0] + 1, "endColumn": columns[1] + 1}
    return {"physicalLocation": {"artifactLocation": {"uri": frame.file}, "region": region}}


_COLOURS = {Severity.INFO: "#777777", Severity.WARN: "#b26a00"}


def _block(finding: Finding) -> str:
    colour = _COLOURS.get(finding.severity, "#a00030")
    body = "\n".join(_told(finding, ()))
    return (
        f'<details open style="border-left:4px solid {colour};padding-left:.6em;margin:.5em 0">'
        f"<summary><b>{finding.severity.value} {finding.id}</b> "
        f"{html.escape(finding.what)}</summary>"
        f'<pre style="white-space:pre-wrap">{html.escape(body)}</pre></details>'
    )
