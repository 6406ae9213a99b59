"""What a doctor looks for: facts at the first step, the cause of a symptom later."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from pullback.errors import PullbackError
from pullback.inspect.answers import loss_scale
from pullback.inspect.baseline import Baseline
from pullback.inspect.case import KEPT, Case, Visit
from pullback.inspect.causes import gradients, silenced
from pullback.inspect.clinic import CLEARLY, MOST, Clinic, tried
from pullback.inspect.course import NEVER, Calm
from pullback.inspect.findings import Finding, Kind, Severity
from pullback.inspect.response import Exam
from pullback.inspect.rules import CHECKS, GUESSES, HAZARDS, SIGNS
from pullback.inspect.rules.cuts import CUT04
from pullback.inspect.rules.graph import LOOP04
from pullback.inspect.rules.heart import VER01
from pullback.inspect.rules.loop import LOOP01, LOOP03, OBJ05
from pullback.inspect.rules.near import hidden
from pullback.inspect.rules.order import DAT02, DAT03, DAT05
from pullback.inspect.rules.running import GEN02
from pullback.inspect.rules.signal import SIG01, SIG02, SIG03, SIG04, SIG07, SIG08
from pullback.inspect.rules.slow import OPT02
from pullback.inspect.rules.start import DAT01, OBJ04, OPT01
from pullback.inspect.rules.task import OBJ02, OBJ08
from pullback.inspect.seen import USUAL_RATE
from pullback.inspect.terms import Terms
from pullback.inspect.trials import ENOUGH, LEAST
from pullback.train.state import trained_part

EARLY = tuple(x for x in SIGNS if x.is_early)
LATE = tuple(x for x in SIGNS if x not in EARLY)
SUSPECTS = (DAT01, OBJ04, SIG01, SIG02, SIG04, SIG07, SIG08)
"""Measures of the beginning whose remedies are tried even in a run without a symptom."""
SOUND = 2 * LEAST
"""Steps after which a run is held to what a simpler one has learnt."""
TRAINED = (OPT01, OPT02, VER01)
"""Checks that train on one batch: a run has been trained already."""


def facts(case: Case) -> list[Finding]:
    """What the graph of the first step says without a threshold, and layers that are dead."""
    if case.job is None:
        return []
    visit = case.first
    case.baseline = Baseline.of(visit.probe)
    case.terms = _terms(visit)
    found = [x for each in HAZARDS for x in each.find(visit.probe)]
    if not math.isfinite(visit.probe.loss):
        return found
    found += hidden(visit.probe)
    found += [x for x in gradients(visit) if x.rule is not CUT04]
    if all(x not in visit.probe.replay.totals for x in visit.probe.replay.parameters):
        return found
    checks = [x for x in CHECKS if x.kind is Kind.FACT or x in (DAT03, SIG03, OBJ05)]
    case.suspicions = list(_each(SUSPECTS, visit))
    return [*found, *_errors_of(_each(checks, visit)), *optimisers(case)]


def _terms(visit: Visit) -> Terms | None:
    """The parts of the loss; None where it cannot be written another way."""
    try:
        return Terms.of(visit.probe, visit.subject.model, visit.subject.batch)
    except PullbackError:
        return None


def _errors_of(found: Iterable[Finding]) -> list[Finding]:
    return [x for x in found if x.rule.kind is Kind.FACT or x.severity.is_error]


def _each(checks: Iterable[Any], subject: Any) -> Iterator[Finding]:
    """What the checks find; one that cannot be made here is left out."""
    for check in checks:
        try:
            yield from list(check.find(subject))
        except PullbackError:
            continue


def examined(case: Case, known: Sequence[Finding]) -> list[Finding]:
    """What the course says, and where it has a symptom, what the beginning and the present say.

    What is measured is a warning if a remedy helped on a copy of the run, or none is known. Where a
    fact is known to be wrong nothing is tried. `case.calm` is then until when a look is in vain.
    """
    case.owes, case.promises, case.calm = False, False, NEVER
    found = _examined(case, known)
    if len(found) == len(case.early or ()) + len(case.suspicions):  # nothing is new
        case.calm = _calm(case)
    return found


def _calm(case: Case) -> Calm:
    """What the course and all rules of a run have nothing to say to."""
    if case.owes or case.early is None or not case.is_stepped:
        return NEVER
    return functools.reduce(Calm.__and__, (x.calm(case) for x in SIGNS), case.course.calm)


def _examined(case: Case, known: Sequence[Finding]) -> list[Finding]:
    found = [*_early(case), *[x for each in LATE for x in each.running(case)]]
    found += LOOP03.returned(case)
    if case.job is None:
        return found
    found += [*_silent(case), *LOOP04.running(case)]
    symptom = case.symptom
    if symptom:
        said = {(x.id, x.what) for x in known}
        found += [x for x in _measured(case) if (x.id, x.what) not in said]
    elif case.course.count >= LEAST:
        found += [*case.suspicions, *OPT02.slow_steps(case)]
    certain = [x for x in (*known, *found) if x.is_certain and x.severity.is_error]
    if certain or not case.can_try:
        return found
    found = [recovered(case, x) for x in weighed(case, found)]
    if all(x.rule is not DAT02 for x in found):
        found += DAT02.unmixed(case)
    is_quiet = not any(_stands(x) for x in known)
    for more in (compared, carried, guessed, *((renewed,) if is_quiet else ()), unexplained):
        if not any(_stands(x) for x in found):
            found += more(case, symptom)
    if is_quiet and not symptom and not any(_stands(x) for x in found) and outdone(case):
        return _examined(case, known)
    return found


def compared(case: Case, symptom: str) -> list[Finding]:
    """A loop beside a step that is known to be right; a run beside its own first steps."""
    if case.course.count < LEAST:
        return []
    try:
        if case.renumbered is None or len(case.batches) < KEPT:
            case.renumbered = list(OBJ02.renumbered(case))
        return [*LOOP03.unlike(case), *OPT02.ended(case), *case.renumbered]
    except PullbackError:  # a loss that the loop calls in another way
        return []


def carried(case: Case, symptom: str) -> list[Finding]:
    """Whether what is learnt holds for other examples, where there is a doubt.

    A run without a symptom pays for it once it is long: a tenth of its steps so far; half of them
    where they were all on one small batch.
    """
    for each in (SIG01.likely, SIG02.likely) if symptom else ():
        if found := list(each(case.first)):
            return found
    if symptom and (unheard := list(DAT03.unheard(case))):
        return unheard
    is_one_batch = DAT05.is_worth_trying(case)
    if not (is_one_batch or DAT03.is_worth_trying(case)):
        return []
    if not symptom and not case.clinic.can_hold_out(0.5 if is_one_batch else 0.1):
        return []
    judge = DAT05.too_few if is_one_batch else DAT03.untaught
    return list(judge(case, case.clinic.held_out))


def guessed(case: Case, symptom: str) -> list[Finding]:
    """What a remedy alone can show."""
    if not symptom:
        return []
    guesses = [tried(case.clinic, x.found(x.title, None, why=symptom)) for x in GUESSES]
    return [x for x in guesses if x.effect >= CLEARLY]


def renewed(case: Case, symptom: str) -> list[Finding]:
    """The network from its beginning once more: by another optimiser, by another loop.

    Under a symptom, and when a report is asked for: it takes as long as the first steps did.
    """
    if not _may_ask(case, symptom):
        return []
    try:
        again = case.clinic.renewed()
        found = [] if again is None else [x.behind(case, again) for x in (LOOP03, OBJ08, OPT02)]
        return next((told for each in found if (told := list(each))), [])
    except PullbackError:  # as in `compared`
        return []


def outdone(case: Case) -> bool:
    """Whether a linear map of the inputs has learnt what the run has not; a symptom from now on."""
    if not _may_ask(case, "") or not GEN02.is_outdone(case):
        return False
    case.course.outdone(str(case.beside))
    return True


def _may_ask(case: Case, symptom: str) -> bool:
    """Whether what takes as long as the first steps is done now, or is owed to a report."""
    if case.course.count < SOUND or not case.course.is_finite:
        return False
    case.promises = not (case.is_asked or symptom)
    return bool(case.is_asked or symptom)


def optimisers(case: Case) -> list[Finding]:
    """What is wrong with the optimiser alone: what it does with gradients made up for it."""
    if case.job is None or case.job.optimizer is None:
        return []
    part = trained_part(case.initial.model)
    grads = [g.numpy() for g in case.first.trained_gradients()]
    if not any(x.any() for x in grads):
        return []
    try:
        exam = Exam(case.job.optimizer, part, grads)
        case.pull = exam.pull
        case.loss_scale = loss_scale(case.first.answers) if exam.passes_scale else 0.0
        return [*LOOP01.never_cleared(exam), *LOOP03.forgetful(exam), *OBJ05.turned(exam)]
    except PullbackError:
        return []


def weighed(case: Case, found: Sequence[Finding]) -> list[Finding]:
    """The findings with what their remedies did."""
    clinic = case.clinic = case.clinic or Clinic(case)
    return [tried(clinic, x) for x in found]


def recovered(case: Case, finding: Finding) -> Finding:
    """Steps that were too long for a while, in a run that is by now where shorter ones led.

    Both are tried again for longer: it stays an alarm where shorter steps lead further.
    """
    course = case.course
    if finding.rule is not OPT01 or not finding.effect or case.symptom or course.count < LEAST:
        return finding
    said, end, _ = finding.numbers["tried"]
    if not course.end <= end:
        return finding
    remedy = next(x for x in OPT01.remedies if x.said == said)
    longer = replace(remedy, steps=min(course.count, MOST))
    effect = case.clinic.trial(longer).effect(case.clinic.beside(longer))
    return finding if effect else replace(finding, severity=Severity.INFO, effect=0.0)


def _stands(finding: Finding) -> bool:
    """Whether it is an alarm: one whose remedy helped, or that has none to be tried."""
    return finding.severity is not Severity.INFO


def unexplained(case: Case, symptom: str) -> list[Finding]:
    """What is left where neither another step nor a rule explains the symptom."""
    if not symptom:
        return []
    heart, adam = case.clinic.by_heart, case.clinic.by_adam
    if heart.fall >= ENOUGH:
        return list(GEN02.running(case))
    if adam.fall >= ENOUGH:
        return [
            OPT02.found(
                f"the optimiser does not learn one batch: loss {heart}; "
                f"Adam({USUAL_RATE:g}): {adam}",
                None,
                why=case.symptom,
                numbers={"own": heart.end, "adam": adam.end},
            )
        ]
    still = adam.fall < VER01.nothing
    return [
        VER01.found(
            f"one batch is not learnt by heart: loss {adam} in {len(adam.losses)} steps of Adam",
            None,
            severity=Severity.FAIL if still else Severity.WARN,
            why=case.symptom,
            numbers={"start": adam.start, "end": adam.end, "steps": len(adam.losses)},
        )
    ]


def _early(case: Case) -> list[Finding]:
    """What the first steps say; once there are `KEPT` batches nothing more is to be had of them."""
    if case.early is not None:
        return case.early
    if case.baseline is not None:
        case.course.baseline = case.baseline.loss(case.batches)
    found = [*OBJ02.running(case), *[x for each in EARLY for x in each.running(case)]]
    if len(case.batches) >= KEPT:
        case.early = found
    return found


def _measured(case: Case) -> list[Finding]:
    checks = [x for x in CHECKS if x.kind is Kind.MEASURE and x not in (*TRAINED, OBJ02)]
    found = list(_each(checks, case.first))
    seen = {x.id for x in found}
    if case.present is not None:
        late = [x for x in (SIG03, SIG04) if x.id not in seen]
        found += [
            replace(x, numbers={**x.numbers, "later": True}) for x in _each(late, case.present)
        ]
    return found


def _silent(case: Case) -> list[Finding]:
    """Gradients that are 0 in every step after the first: where they die, now."""
    course = case.course
    if course.is_lively:
        return []
    norms = course.norms
    if len(norms) < 3 or norms.shape[1] == 0 or norms[1:].any(axis=0).all() or not case.present:
        return []
    columns = list(zip(course.names, norms.T, strict=True))
    silent = {name for name, x in columns if not x[1:].any()}
    never = {name for name, x in columns if not x.any()}
    found = []
    for each in gradients(case.present):
        names = silenced(each)
        if each.rule is CUT04 and not silent.isdisjoint(names):
            fact = not never.isdisjoint(names)  # else a step has made it so
            known = Severity.FAIL if fact else Severity.WARN
            found.append(replace(each, severity=known) if _stands(each) else each)
    return found
