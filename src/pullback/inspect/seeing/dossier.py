"""The page of a report: verdict, figures, findings, every check with its thresholds."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pullback.inspect.findings import Finding, Rule, Severity, short_place
from pullback.inspect.seeing.views import View, document

if TYPE_CHECKING:
    from pullback.inspect.report import Report

CAUSES = 3
"""Causes on the card; the others are below."""
MARKS = {Severity.STOP: "✕", Severity.FAIL: "✕", Severity.WARN: "!", Severity.INFO: "i"}
"""Beside the colour, for those who do not see it."""


def dossier(report: Report, views: Sequence[View], checks: Sequence[type[Rule]]) -> str:
    """One self-contained page; the numbers of findings and figures are in it as JSON."""
    figures = "".join(f"<section>{each._repr_html_()}</section>" for each in views)
    body = (
        f"{_card(report)}{figures}<section><h2>Findings</h2>{report._repr_html_()}</section>"
        f"{_appendix(report, checks)}"
    )
    data = {"report": report.to_dict(), "views": [each.to_dict() for each in views]}
    return document(report.title, body, data)


# ---- the verdict ----------------------------------------------------------------------------


def _card(report: Report) -> str:
    roots = [x for x in report.alarms if not x.explained_by]
    told = "".join(_cause(x, report.findings) for x in roots[:CAUSES])
    if not roots:
        told = "<p><b>Nothing wrong was found.</b></p>"
    rest = len(roots) - CAUSES
    more = f"<p>{rest} more below.</p>" if rest > 0 else ""
    return (
        f'<section class="card"><h2>Verdict</h2>{told}{more}<p>{_of(report.summary)}</p></section>'
    )


def _cause(finding: Finding, every: Sequence[Finding]) -> str:
    where = "" if finding.site is None else short_place(finding.site)
    module = f" ({finding.module})" if finding.module else ""
    followers = sum(x.explained_by == finding.id for x in every)
    follow = f"<br>{followers} more explained by {finding.id}" if followers else ""
    line = f"<br><code>{_of(where + module)}</code>" if where or module else ""
    return (
        f'<p class="{finding.severity.value}"><b>{MARKS[finding.severity]} '
        f"{finding.severity.value} {finding.id}</b> {_of(finding.what)}{line}"
        f"<br><b>fix</b> {_of(finding.fix)}{follow}</p>"
    )


# ---- every check ----------------------------------------------------------------------------


def _appendix(report: Report, checks: Sequence[type[Rule]]) -> str:
    if not checks:
        return ""
    rows = "".join(_check(each, report) for each in checks)
    return (
        "<section><h2>Every check</h2><table><tr><th>id</th><th>looks for</th><th>found</th>"
        f"<th>thresholds and their sources</th></tr>{rows}</table></section>"
    )


def _check(rule: type[Rule], report: Report) -> str:
    found = [x.severity.value for x in report.findings if x.rule is rule]
    meant = ["meant"] if any(x.rule is rule for x in report.declared) else []
    bounds = "<br>".join(_of(f"{x.meaning}: {x:g} ({x.source})") for x in rule.thresholds())
    return (
        f'<tr><td title="{_of(rule.explanation())}">{rule.id}</td><td>{_of(rule.title)}</td>'
        f"<td>{', '.join(dict.fromkeys([*found, *meant])) or 'no'}</td>"
        f"<td>{bounds or _of(rule.source)}</td></tr>"
    )


def _of(x: Any) -> str:
    return html.escape(str(x))
