"""What a doctor looks for: facts at the first step, the cause of a symptom later."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from pullback.errors import PullbackError
from pullback.inspect.case import Case
from pullback.inspect.causes import gradients
from pullback.inspect.findings import Finding, Kind, Severity
from pullback.inspect.rules import CHECKS, HAZARDS, SIGNS
from pullback.inspect.rules.cuts import CUT04
from pullback.inspect.rules.signal import SIG03
from pullback.inspect.rules.start import OPT01, OPT02, VER01

TRAINED = (OPT01, OPT02, VER01)
"""Checks that train on one batch: a run has been trained already."""


def facts(case: Case) -> list[Finding]:
    """What the graph of the first step says without a threshold, and layers that are dead."""
    if case.job is None:
        return []
    visit = case.first
    found = [x for each in HAZARDS for x in each.find(visit.probe)]
    if not math.isfinite(visit.probe.loss):
        return found
    found += [x for x in gradients(visit) if x.rule is not CUT04]
    if all(x not in visit.probe.replay.totals for x in visit.probe.replay.parameters):
        return found
    checks = [x for x in CHECKS if x.kind is Kind.FACT or x is SIG03]
    return [*found, *_errors_of(_each(checks, visit))]


def _errors_of(found: Iterable[Finding]) -> list[Finding]:
    return [x for x in found if x.rule.kind is Kind.FACT or x.severity.is_error]


def _each(checks: Iterable[Any], subject: Any) -> Iterator[Finding]:
    """What the checks find; one that cannot be made here is left out."""
    for check in checks:
        try:
            yield from list(check.find(subject))
        except PullbackError:
            continue


def examined(case: Case, remedies: bool) -> list[Finding]:
    """What the course says, and where it has a symptom, what the beginning and the present say."""
    found = [x for each in SIGNS for x in each.running(case)]
    if case.job is None:
        return found
    found += _silent(case)
    if not case.course.symptom:
        return found
    measures = [x for x in CHECKS if x.kind is Kind.MEASURE and x not in TRAINED]
    found += _each(measures, case.first)
    return found


def _silent(case: Case) -> list[Finding]:
    """Gradients that are 0 in every step after the first: where they die, now."""
    course = case.course
    norms = course.norms
    if len(norms) < 3 or norms.shape[1] == 0 or norms[1:].any(axis=0).all() or not case.present:
        return []
    silent = {name for name, x in zip(course.names, norms[1:].T, strict=True) if not x.any()}
    found = []
    for each in gradients(case.present):
        names = each.numbers.get("parameters") or [each.numbers["parameter"]]
        if each.rule is CUT04 and any(_own(x) in silent for x in names):
            found.append(replace(each, severity=Severity.FAIL))
    return found


def _own(path: str) -> str:
    return path.removeprefix("model").removeprefix(".")
