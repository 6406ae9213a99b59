"""`preflight`: is this model, with this loss and this batch, fit to be trained?"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pullback._public import public
from pullback.compile.driver import uncompiled
from pullback.errors import PullbackError
from pullback.inspect.birth import births, marked
from pullback.inspect.case import Case
from pullback.inspect.causes import gradients, place, rooted, silenced
from pullback.inspect.findings import Finding, Kind, Severity
from pullback.inspect.looks import guessed, optimisers, weighed
from pullback.inspect.paths import require_parameters
from pullback.inspect.probe import Probe, within_model
from pullback.inspect.report import Report
from pullback.inspect.response import passes_on
from pullback.inspect.rules import CHECKS, HAZARDS, RULES, rule
from pullback.inspect.rules.cuts import CUT01, CUT04
from pullback.inspect.rules.heart import VER01
from pullback.inspect.rules.near import foretold, hidden
from pullback.inspect.rules.task import OBJ08
from pullback.inspect.seen import Seen, Subject, single
from pullback.ir.array import Array
from pullback.optim.optimizer import Optimizer
from pullback.train.function import UserFunction, drawn
from pullback.train.state import trained_part
from pullback.transforms.tree import flatten_arrays

REDUCE = "reduce it with pb.mean; a pair (loss, aux) is for has_aux=True"


@public
def preflight(
    model: Any,
    loss_fn: Callable[..., Any],
    batch: Any,
    *,
    optimizer: Optimizer | None = None,
    network_state: Any = None,
    key: Array | None = None,
    has_aux: bool = False,
    intended: tuple[str, ...] = (),
    seconds: float = 1.0,
) -> Report:
    """What is wrong with `loss_fn(model, *batch)` before the first step, in seconds.

    `batch` is an array or the tuple of the arguments after the model; `loss_fn` is that of
    `train_step`, and `network_state`, `key` and `has_aux` are what it takes there. With
    `optimizer` its first steps are judged too. `seconds` bounds each of the one or two runs that
    learn the batch by heart, after their first step. Arrays do not change, so nothing of yours
    does: model and optimiser are as before.

    Looked at: the hazards of `pb.inspect.hazards`, missing and zero gradients, the gradient against
    finite differences, the initial loss, sum or mean, the scale of the inputs, leaks between
    samples, symmetric weights, dead and saturated units, second moments forward and backward by
    theory and by measurement, shattered gradients, one batch learnt by heart, and the step length
    against 2⟨g, u⟩/uᵀHu. Measures are warnings only where the run has a symptom too; of several
    alarms the first cause is told, and the others under it.

    Raises `ArgumentError` for a model without floating arrays or an unknown id in `intended`,
    `ShapeError` when the loss is not one scalar, and what `loss_fn` raises.

    >>> import pullback as pb
    >>> keys = pb.random.split(pb.random.key(0), 3)
    >>> model = pb.nn.MLP(4, 3, 16, 2, key=keys[0])
    >>> x, y = pb.random.normal(keys[1], (32, 4)), pb.random.randint(keys[2], (32,), 0, 3)
    >>> def loss(model, x, y):
    ...     return pb.nn.cross_entropy(model(x), y)
    >>> preflight(model, loss, (x, y)).alarms
    ()
    """
    start = time.monotonic()
    for each in intended:
        rule(each)
    f = uncompiled(loss_fn)
    require_parameters(model)
    arguments = tuple(batch) if isinstance(batch, tuple | list) else (batch,)
    if optimizer is not None and _passes_on(optimizer, model):
        optimizer = None
    subject = Subject(model, f, arguments, optimizer, network_state, key, has_aux, seconds)
    with np.errstate(all="ignore"):
        seen = Seen(subject)
        seen.probe.replay.require_loss("loss_fn", "preflight", REDUCE)
        found, skipped = _examined(seen)
    meant = [x for x in found if x.id in intended]
    found = rooted([x for x in found if x.id not in intended])
    report = Report.of(_title(seen, time.monotonic() - start), found)
    report = replace(
        report,
        declared=(*report.declared, *meant),
        findings=tuple(sorted(report.findings, key=place)),
    )
    return replace(
        report,
        summary=_summary(seen, report, skipped),
        checks=tuple([x for x in RULES if x in (CUT01, CUT04, *HAZARDS, *CHECKS)]),
    )


# ---- looking --------------------------------------------------------------------------------


def _examined(seen: Seen) -> tuple[list[Finding], list[str]]:
    """Everything that was found, and what could not be looked at, with the reason."""
    probe = seen.probe
    found = [x for each in HAZARDS for x in each.find(probe)]
    if not _is_finite(probe):
        born = births(seen.loss, seen.subject.model, *seen.subject.batch)
        return [*born.findings, *found], ["what needs a finite loss and gradient"]
    found += hidden(probe)
    found += gradients(seen)
    if all(x not in probe.replay.totals for x in probe.replay.parameters):
        return found, ["what needs a gradient"]
    skipped = [] if probe.batch > 1 else ["DAT04: a batch of one"]
    for check in CHECKS:
        try:
            found += check.find(seen)
        except PullbackError as error:
            skipped.append(f"{check.id}: {error.what}")
    found += _broken(seen, is_alone=not any(_is_alarm(x) and x.rule is not VER01 for x in found))
    return _weighed(seen, _still_silent(seen, found)), skipped


def _broken(seen: Seen, is_alone: bool) -> list[Finding]:
    """Who made the number that ended the trial on one batch, where Adam does not learn it.

    It is a warning where something else may have led there and the first step said nothing.
    """
    if not seen.symptom or seen.fitted_by_adam.broke is None:
        return []
    it, state = seen.subject, seen.fitted_by_adam.broke
    key = None if state.key is None else drawn(UserFunction.of(it.loss_fn, "loss_fn"), state)
    there = replace(it, model=state.model, network_state=state.network_state, key=key)
    born = births(there.loss, state.model, *it.batch).findings
    step = f"in step {len(seen.fitted_by_adam.losses)} of a trial on this batch"
    found = marked(born, lambda birth: foretold(seen.probe, birth))
    if not (is_alone or any(x.numbers.get("foretold") for x in found)):
        found = [replace(x, severity=Severity.WARN) for x in found]
    return [replace(x, why=f"{step}: {x.why}") if x.why else x for x in found]


def _weighed(seen: Seen, found: list[Finding]) -> list[Finding]:
    """With an optimiser: measures as their remedies bear them out, on copies, with this batch."""
    certain = [x for x in found if x.is_certain and x.severity.is_error]
    measured = [x for x in found if x.rule.kind is Kind.MEASURE and (x.remedies or x.rule.remedies)]
    if seen.subject.optimizer is None or certain:
        return found
    case = Case.at_start(seen, seen.precision)
    found = [*found, *optimisers(case)]
    if any(x.is_certain and x.severity.is_error for x in found):
        return found
    if not (measured or seen.symptom):
        return found
    found += OBJ08.decays(case)
    symptom = seen.symptom or ("the steps are too long" if any(_is_alarm(x) for x in found) else "")
    found = weighed(case, found)
    return found if any(map(_is_alarm, found)) else [*found, *guessed(case, symptom)]


def _passes_on(optimizer: Optimizer, model: Any) -> bool:
    try:
        return passes_on(optimizer, trained_part(single(model)))
    except PullbackError:
        return False


def _is_alarm(x: Finding) -> bool:
    return x.severity is not Severity.INFO


def _is_finite(probe: Probe) -> bool:
    """Whether the loss and its gradient are."""
    bars = [probe.bar(x) for x in probe.replay.parameters]
    slopes = [x.astype(np.float64) for x in bars if x is not None]
    return math.isfinite(probe.loss) and all(np.isfinite(x).all() for x in slopes)


def _still_silent(seen: Seen, found: list[Finding]) -> list[Finding]:
    """Without the gradients that are 0 at the first step only: a layer that starts at 0."""
    if all(x.rule is not CUT04 for x in found):
        return found
    silent = {within_model(x) for x in seen.fitted.silent}
    return [x for x in found if x.rule is not CUT04 or not silent.isdisjoint(silenced(x))]


# ---- text -----------------------------------------------------------------------------------


def _title(seen: Seen, seconds: float) -> str:
    model = seen.subject.model
    leaves = flatten_arrays(model, "model")[0]
    count = f"{sum(x.size for x in leaves):,}".replace(",", " ")
    return (
        f"preflight  {type(model).__name__}  {count} parameters  batch {seen.probe.batch}  "
        f"{seconds:.1f} s  nothing changed"
    )


def _summary(seen: Seen, report: Report, skipped: Sequence[str]) -> str:
    every = {x.id for x in (*HAZARDS, *CHECKS)} | {CUT01.id, CUT04.id}
    quiet = len(every - {x.id for x in report.alarms})
    parts = [f"{quiet} checks"]
    if math.isfinite(seen.probe.loss):
        parts.append(f"loss {seen.probe.loss:.4g}")
    if "fitted" in vars(seen):
        fitted = seen.fitted
        parts.append(f"-> {fitted.end:.4g} in {len(fitted.losses) - 1} steps on this batch")
    if skipped:
        parts.append(f"skipped {len(skipped)}: {'; '.join(skipped)}")
    return "  ".join(parts)
