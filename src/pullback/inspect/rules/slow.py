"""`OPT02`: steps that are too short, from the beginning or by a schedule, a clip or rounding."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from pullback.errors import Site, listed
from pullback.inspect.case import Case
from pullback.inspect.course import FIRST, GONE, NEVER, STRIDE, Calm
from pullback.inspect.findings import AS_IT_IS, NO_TRIAL, Finding, Kind, Remedy, Severity, Threshold
from pullback.inspect.heldout import Renewed
from pullback.inspect.response import rounded_away
from pullback.inspect.rules.start import OPT01, Check
from pullback.inspect.seen import USUAL_RATE, Seen
from pullback.inspect.trials import LEAST
from pullback.ir.types import bfloat16, float16
from pullback.ops.sampling import RandomBits
from pullback.optim.optimizer import Optimizer
from pullback.train.state import trained_part


class OPT02(Check):
    """The optimiser moves too little: one batch is not learnt with it, and is with Adam."""

    id = "OPT02"
    title = "a learning rate that is too low"
    kind = Kind.MEASURE
    severity = Severity.WARN
    fix = "a larger learning rate: ‖update‖/‖weight‖ about 1e-3"
    source = "TheDeepChecker (-4), Karpathy (-3)"
    remedies: ClassVar[tuple[Remedy, ...]] = (
        Remedy("10x the learning rate", rate=10.0),
        Remedy("100x the learning rate", rate=100.0),
        Remedy("1000x the learning rate", rate=1000.0),
    )
    slow = Threshold(-4.0, "log10 ‖update‖/‖weight‖ below", "TheDeepChecker")
    lost = Threshold(0.5, "or, in half precision: share of the steps rounded away above", "own")
    gone = Threshold(GONE, "or, in most steps: ‖update‖ / that of the first ones below", "own")
    known = Threshold(0.5, "and the loss / that of a constant output is still above", "own")
    more = Threshold(0.25, "or with the first steps again: share by which the loss falls", "own")
    worth = Threshold(0.1, "and by this share of the loss at the start", "own")
    divided = Threshold(0.3, "or, to be tried: the loss / a mean over samples below", "own")
    over = Threshold(200, "steps after which a warm-up should be over", "own")
    power = Threshold(0.35, "it is not where steps grow like a power of their number above", "own")
    alike = Threshold(0.8, "with a correlation of the logarithms above", "own")
    late = Threshold(
        0.1,
        "or share of what Adam learns that the run has not, above",
        "own: 163 healthy 0.03 at most",
    )
    falls = Threshold(
        0.25, "and of a run that still falls fast above", "own: 163 healthy 0.03 at most"
    )

    @classmethod
    def find(cls, seen: Seen) -> Iterator[Finding]:
        yield from cls._rounded(seen, seen.subject.optimizer)
        if not seen.blames_optimizer or seen.fitted.ratio > 10**cls.slow:
            return
        own, other = seen.fitted, seen.fitted_by_adam
        if own.fall == -math.inf or own.rises >= OPT01.rises:
            return
        step = seen.step
        room = "" if step is None or not step.factor else f"; {1 / step.factor:.2g}x is stable"
        yield cls.found(
            f"the learning rate is too low: ‖update‖/‖weight‖ at most {own.ratio:.1g}{room}",
            None,
            why=f"{seen.symptom}; with Adam({USUAL_RATE:g}) by {other.fall:.0%}",
            numbers={"ratio": own.ratio, "fall": own.fall},
            remedies=(NO_TRIAL,),  # Adam is one
        )

    @classmethod
    def calm(cls, case: Case) -> Calm:
        """Where little of the loss is left, or else while the steps go on."""
        course = case.course
        if case.is_half:
            return NEVER
        little = min(cls.worth * course.scale, cls.known * course.baseline)
        if course.end < little:
            return course.below(little)
        unsure = case.is_warming is None and course.count <= 2 * cls.over
        return NEVER if case.is_warming or unsure else Calm(goes_on=True)

    @classmethod
    def running(cls, case: Case) -> Iterator[Finding]:
        """In a run: no weight moves by more, and the loss does not fall."""
        yield from cls._gone(case)
        yield from cls._warming(case)
        if case.job is not None and case.is_half and len(case.course.norms) > 1:
            start, end = (float(np.linalg.norm(case.course.norms[i])) for i in (0, -1))
            if end > start / 10:
                site = case.line("applied")
                yield from cls._rounded(case.present, case.job.optimizer, site)
        ratio = case.typical_ratio if case.symptom else 0.0
        if 0 < ratio < 10**cls.slow:
            clipped = cls._clipped(case)
            yield cls.found(
                f"the learning rate is too low: ‖update‖/‖weight‖ at most {ratio:.1g}",
                None,
                why=f"{case.symptom}{clipped}",
                fix="a larger clip, about the usual norm of the gradient" if clipped else cls.fix,
                numbers={"ratio": ratio},
            )

    @classmethod
    def slow_steps(cls, case: Case) -> Iterator[Finding]:
        """In a run that learns: what suggests that it could do so far faster, to be tried."""
        ratio, scale = max(case.typical_ratio, case.first_ratio), case.loss_scale
        remedies = cls.remedies
        if 0 < ratio < 10**cls.slow:
            what = f"‖update‖/‖weight‖ is at most {ratio:.1g}"
        elif 0 < scale < cls.divided:
            what = f"the loss is {scale:.2g} of a mean over the samples, and so are the steps"
            said = f"{1 / scale:.3g}x the learning rate, as of the mean"
            remedies = (Remedy(said, rate=1 / scale),)
        else:
            return
        yield cls.found(
            f"the learning rate is too low: {what}",
            None if 0 < ratio < 10**cls.slow else case.first.probe.replay.graph.nodes[-1].site,
            severity=Severity.INFO,
            why="a loss that is divided twice, or a rate that was meant for another scale",
            fix="divide the loss once, or a larger rate",
            numbers={"ratio": ratio, "scale": scale},
            remedies=remedies,
        )

    @classmethod
    def _clipped(cls, case: Case) -> str:
        """Where a clip of the step leaves next to nothing of the gradient: that, in words."""
        clip, norms = None if case.job is None else case.job.clip, case.course.norms
        usual = float(np.median(np.linalg.norm(norms, axis=1))) if norms.size else 0.0
        if clip is None or not usual > 100 * clip:
            return ""
        return f"; clip={clip:g} leaves {clip / usual:.1g} of a gradient of {usual:.2g}"

    @classmethod
    def _warming(cls, case: Case) -> Iterator[Finding]:
        """A schedule whose warm-up is not over: the steps grow with their number."""
        course = case.course
        if course.count < cls.over or not course.end > cls.known * course.baseline:
            return
        if case.is_warming is None and course.count <= 2 * cls.over:
            case.is_warming = cls._grows(case)
        if case.is_warming:
            yield cls.found(
                f"the warm-up is long: after {cls.over:g} steps each was still longer than the "
                "ones before",
                None,
                why=f"after {course.count} steps the loss is {course.end:.3g}; that of a constant "
                f"output is {course.baseline:.3g}",
                fix="a warm-up of a few per cent of the run's steps: look at the schedule",
                numbers={"steps": course.count},
            )

    @classmethod
    def _grows(cls, case: Case) -> bool:
        """Whether the steps grow like a power of their number, and beside the gradient too."""
        ratios, norms = case.course.ratios, case.course.norms
        if ratios.shape != norms.shape or ratios.shape[1:] != (len(case.weights),):
            return False
        last = case.course.count // STRIDE
        sizes, slopes = (
            np.linalg.norm(x[FIRST:, case.weights], axis=1)[-FIRST:] for x in (ratios, norms)
        )
        steps = np.log(np.arange(last - len(sizes), last) + 1)
        for each in (sizes, sizes / slopes):
            if len(each) < 10 or not (np.isfinite(each).all() and each.all()):
                return False
            centred, grown = steps - steps.mean(), np.log(each) - np.log(each).mean()
            power = float(centred @ grown) / float(centred @ centred)
            alike = float(centred @ grown) / float(
                np.linalg.norm(centred) * np.linalg.norm(grown) + 1e-300
            )
            if power < cls.power or alike < cls.alike:
                return False
        return True

    @classmethod
    def _rounded(
        cls, seen: Seen | None, optimizer: Optimizer | None, site: Site | None = None
    ) -> Iterator[Finding]:
        """Parameters in half precision whose steps are too small to change them."""
        if seen is None or optimizer is None or not seen.is_half:
            return
        grads = [g.numpy() for g in seen.trained_gradients()]
        share = rounded_away(optimizer, trained_part(seen.subject.model), grads)
        if share > cls.lost:
            names = [name for x, name in seen.probe.named.items() if x.dtype in (float16, bfloat16)]
            yield cls.found(
                f"{share:.0%} of the steps of parameters in half precision are rounded away",
                site,
                notes=(listed(names),),
                why="a step below 2⁻⁹ of a bfloat16 (2⁻¹² of a float16) leaves it as it is",
                fix='parameters in float32; train_step(..., precision="bf16") computes in half',
                numbers={"share": share, "parameters": names},
                remedies=(NO_TRIAL,),
            )

    @classmethod
    def _gone(cls, case: Case) -> Iterator[Finding]:
        """A schedule has taken the rate to nothing before anything was learnt."""
        course = case.course
        if course.count < LEAST or not course.end > cls.known * course.baseline:
            return
        if course.goes_on:
            return
        norms, ratios = course.norms, course.ratios
        if not course.stands_still or ratios.shape != norms.shape or len(ratios) <= FIRST:
            return
        share = cls._share(case)
        slopes = np.linalg.norm(norms, axis=1)
        if slopes[-1] > slopes[:FIRST].max() / 10 and share < cls.gone:
            yield cls.found(
                f"the steps have become {share:.1g} of what they were, the gradient has not",
                None,
                why=f"the loss stands at {course.end:.3g}; a schedule that counts epochs, given "
                "steps?",
                numbers={"share": share},
                remedies=(NO_TRIAL,),
            )

    @classmethod
    def _share(cls, case: Case) -> float:
        """The largest of the last steps / that of the first ones, of the parameter of which it is
        most: one that began with 0 moved by all of its size. 1 where few are known."""
        ratios = case.course.ratios
        if case.course.count < LEAST or len(ratios) <= FIRST or ratios.ndim < 2:
            return 1.0
        first, last = ratios[:FIRST].max(axis=0), ratios[FIRST:].max(axis=0)
        return float((last[first > 0] / first[first > 0]).max(initial=0)) if first.any() else 1.0

    @classmethod
    def ended(cls, case: Case) -> Iterator[Finding]:
        """The steps have come to nothing, and with the first ones once more the loss would fall."""
        course = case.course
        if course.end < cls.worth * abs(course.start) or course.goes_on:
            return  # before the tables, which most looks do not need
        share = cls._share(case)
        slopes = np.linalg.norm(course.norms, axis=1) if share < cls.gone else np.zeros(1)
        if not slopes[-1] > slopes[:FIRST].max() / 10 or case.present is None:
            return
        again, still = case.clinic.onward
        gain = still.round - again.round
        effect = gain / max(abs(still.round), 1e-12)
        if effect >= cls.more and gain > cls.worth * abs(course.start):
            yield cls.found(
                f"the steps have become {share:.1g} of what they were, and the loss would fall",
                None,
                why=f"from here on {len(again.losses)} steps as the first ones were: loss "
                f"{again.round:.3g} (as they are: {still.round:.3g}); a schedule that counts "
                "epochs, given steps?",
                numbers={"share": share, "tried": [again.round, still.round]},
                effect=min(effect, 1.0),
            )

    @classmethod
    def is_behind(cls, case: Case, again: Renewed) -> bool:
        """Whether Adam learns clearly more than the run has, and than its optimiser does again."""
        share = again.behind(again.adam)
        soon = case.course.to_come > again.run - again.adam
        if share <= (cls.falls if soon else cls.late):
            return False
        nodes = case.first.probe.nodes
        if not case.symptom and any(isinstance(node.op, RandomBits) for node in nodes):
            return False  # one draw, as of dropout, says little of the loss of others
        own = case.clinic.renewed_with(AS_IT_IS, again.steps)
        learnt = again.start - again.adam
        return bool(again.start - own < (1 - cls.late / 2) * learnt)

    @classmethod
    def behind(cls, case: Case, again: Renewed) -> Iterator[Finding]:
        """A run that has learnt less than Adam does in no more steps, and falls too slowly."""
        if not cls.is_behind(case, again):
            return
        share, own = again.behind(again.adam), case.clinic.renewed_with(AS_IT_IS, again.steps)
        tried = {x: case.clinic.trial(x).end for x in (*OPT01.remedies, *cls.remedies)}
        best = min(tried, key=lambda x: tried[x])
        helps = tried[best] < case.clinic.own.end
        found = OPT01 if helps and best in OPT01.remedies else cls
        told = f"; {best.said}: loss {case.clinic.trial(best)} (yours: {case.clinic.own})"
        yield found.found(
            f"the run has learnt less in {case.course.count} steps than Adam({USUAL_RATE:g}) does "
            f"in {again.steps}",
            None,
            why=f"loss of batches that were held out: {again.run:.3g}; of Adam, from the same "
            f"beginning: {again.start:.3g} -> {again.adam:.3g}{told if helps else ''}",
            fix=f"pb.optim.adam({USUAL_RATE:g}), or look at every number of the optimiser",
            numbers={"run": again.run, "adam": again.adam, "start": again.start, "own": own},
            effect=min(share, 1.0),
        )
