"""Of several findings the one that the others follow from; of many parameters their line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pullback.errors import listed
from pullback.inspect.account import Paths, account_of
from pullback.inspect.findings import Finding, Severity
from pullback.inspect.probe import Probe, within_model
from pullback.inspect.rules.cuts import CUT01, CUT04
from pullback.inspect.seen import Seen

MUCH = 0.5
"""Remedies that help by more are alike: which of them is the cause is said by the order."""


# ---- one cause ------------------------------------------------------------------------------


def place(finding: Finding) -> tuple[bool, bool, float, int, int]:
    """Certain errors first; then what a remedy has shown, by how much; then the order of causes."""
    calm = finding.severity is Severity.INFO
    shown = -1.0 if finding.effect > MUCH else -0.5 if finding.effect else 0.0
    if finding.is_certain:
        shown = -2.0
    return (bool(finding.explained_by), calm, shown, finding.rule.place(), finding.severity.rank)


def rooted(found: Sequence[Finding]) -> list[Finding]:
    """Measures that follow the first cause are told under it; facts stand for themselves."""
    order = sorted(_blamed(found), key=place)
    alarms = [x for x in order if x.severity is not Severity.INFO]
    if not alarms:
        return order
    root = alarms[0]
    return [
        replace(x, explained_by=root.id)
        if x in alarms and x.id != root.id and _follows(x, root)
        else x
        for x in order
    ]


def _blamed(found: Sequence[Finding]) -> list[Finding]:
    """Known pairs, whatever the order of causes says."""
    for cause in found:
        if cause.severity is not Severity.INFO and not cause.explained_by:
            due = [x for x in found if cause.rule.explains(cause, x)]
            found = [replace(x, explained_by=cause.id) if x in due else x for x in found]
    return list(found)


def _follows(finding: Finding, root: Finding) -> bool:
    """Measures follow; so does a hazard on the line that came to grief."""
    if finding.rule.can_follow():
        return True
    return (
        root.severity is Severity.STOP
        and finding.frame is not None
        and (finding.file, finding.line) == (root.file, root.line)
    )


# ---- silent gradients -----------------------------------------------------------------------


def gradients(seen: Seen) -> list[Finding]:
    """CUT01 and CUT04, one finding for the parameters that one line cuts."""
    probe, it = seen.probe, seen.subject
    arguments = (it.model, *it.batch)
    accounts, paths = [], Paths(probe.replay)
    for p in probe.replay.parameters:
        bar = probe.bar(p)
        if bar is None or not np.any(bar):
            accounts.append(account_of(seen.loss, arguments, paths, p))
    total = len(probe.replay.parameters)
    found, names = [], {}
    for x in accounts:
        if x.finding is not None and not _is_done(probe, x.finding):
            spare = len(accounts) < total and _is_spare(x.finding)
            found.append(replace(x.finding, severity=Severity.INFO) if spare else x.finding)
            names[id(found[-1])] = x.name
    groups: dict[object, list[Finding]] = {}
    for each in found:
        line = None if each.frame is None else (each.frame.file, each.frame.line)
        groups.setdefault((each.id, line, each.module, each.severity), []).append(each)
    return [_together(group, [names[id(x)] for x in group], total) for group in groups.values()]


def _is_done(probe: Probe, finding: Finding) -> bool:
    """Whether nothing is left to be learnt: what is squared at the end is 0 itself."""
    deaths = finding.evidence if finding.rule is CUT04 else ()
    assert isinstance(deaths, tuple)
    return probe.loss == 0.0 and all(not probe.numbers(x.value).any() for x in deaths)


def _is_spare(finding: Finding) -> bool:
    """Whether a parameter has no effect because the loss takes differences, as of two towers."""
    deaths = finding.evidence if finding.rule is CUT04 else ()
    assert isinstance(deaths, tuple)
    return bool(deaths) and all(x.cancels for x in deaths)


def silenced(finding: Finding) -> list[str]:
    """The parameters that CUT01 or CUT04 speaks of, by their paths within the model."""
    names = finding.numbers.get("parameters") or [finding.numbers["parameter"]]
    return [within_model(x) for x in names]


def _together(group: Sequence[Finding], names: Sequence[str], total: int) -> Finding:
    first = group[0]
    if len(group) == 1:
        return first
    never = "can never learn" if first.rule is CUT01 else "have gradient 0"
    what = f"{len(names)} of {total} parameters {never}"
    if len(names) == total and first.rule is CUT01:
        what = f"the loss ignores the model: none of {total} parameters gets a gradient"
    return replace(
        first,
        what=what,
        notes=(listed(names), first.what, *first.notes),
        numbers={**first.numbers, "parameters": list(names)},
    )
