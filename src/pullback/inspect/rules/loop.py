"""`LOOP`: the order of things in a training loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pullback.inspect.answers import against_rewards, falls_both_ways
from pullback.inspect.case import Case, is_gone, modules
from pullback.inspect.findings import Finding, Kind, Remedy, Severity, Threshold
from pullback.inspect.response import never_forgets
from pullback.inspect.rules.running import Sign
from pullback.inspect.seen import Seen
from pullback.ir.types import Numbers
from pullback.nn.normalization import BatchNorm, BatchNormState
from pullback.train.state import trained_part
from pullback.transforms.tree import flatten

CLOSE = 1e-3
"""Gradients that differ by less, relatively, are the same: another order of additions."""


class LOOP01(Sign):
    """The gradients of the step before were added to those of this one.

    The gradient of the loss is computed again, for the model before the step and its batch, and
    compared with the one that the loop used. `value_and_grad` begins at 0 each time, so they can
    only be added by hand; `train_step(..., accumulate=k)` does that within a step.
    """

    id = "LOOP01"
    is_early = True
    title = "gradients of earlier steps are added to those of this one"
    severity = Severity.FAIL
    fix = "begin each step with its own gradients; accumulate=k of train_step adds up within one"
    intended = "intended=('LOOP01',), where gradients are accumulated over batches"
    source = "Stack Overflow 60335387 (TrainCheck)"
    close = Threshold(CLOSE, "‖given - own - before‖ / ‖given‖ below", "own")

    @classmethod
    def running(cls, case: Case) -> Iterator[Finding]:
        for before, now in zip(case.handed, case.handed[1:], strict=False):
            own = case.gradient_of(now)
            if _same(now.grads, [a + b for a, b in zip(own, before.grads, strict=True)]):
                yield cls.found(
                    f"step {now.step} uses its own gradient plus that of step {now.step - 1}",
                    None,
                    why="computed again, the gradient of its batch is the difference of the two",
                    numbers={"step": now.step},
                )
                return
        yield from cls._multiple(case)

    @classmethod
    def _multiple(cls, case: Case) -> Iterator[Finding]:
        """Parts that were added up and never averaged: in each step k times the gradient."""
        factors = [_factor(x.grads, case.gradient_of(x)) for x in case.handed]
        if len(factors) < 2 or factors[0] < 2 or len(set(factors)) > 1:
            return
        yield cls.found(
            f"each step uses {factors[0]} times the gradient of its batch",
            None,
            severity=Severity.WARN,
            why="gradients of parts of a batch are averaged, where the loss is a mean",
            fix=f"divide their sum by {factors[0]}; accumulate=k of train_step does",
            numbers={"factor": factors[0]},
        )

    @classmethod
    def never_cleared(cls, case: Case) -> Iterator[Finding]:
        """The optimiser itself adds up all gradients that it was ever given."""
        assert case.job is not None
        assert case.job.optimizer is not None
        grads = [g.numpy() for g in case.first.trained_gradients()]
        if never_forgets(case.job.optimizer, trained_part(case.initial.model), grads):
            yield cls.found(
                "the optimiser adds up the gradients of all steps",
                None,
                why="given a gradient and then its opposite, its second update is 0",
                fix="update(grads, ...) with the gradients of the step alone; for a mean over "
                "steps sgd(rate, momentum=0.9)",
            )


class LOOP02(Sign):
    """The step that trains runs the network as in use, or what it learns for use is lost.

    Batch normalisation then takes its running statistics, which never move, and dropout drops
    nothing. With `train=True`, the new statistics must be handed on from step to step, or the ones
    of the beginning are taken in use. Some mean it so (a pretrained network whose statistics stay):
    say it.
    """

    id = "LOOP02"
    is_early = True
    title = "training as in use"
    severity = Severity.WARN
    fix = "model(x, state, train=True, key=key) in the loss that is differentiated"
    intended = "intended=('LOOP02',), where the statistics are to stay as they are"
    source = "TrainCheck: ncsn#2, vsepp#4, clevr-iep#22, pytorch-fcn#57"

    @classmethod
    def running(cls, case: Case) -> Iterator[Finding]:
        state, _ = case.now
        if case.job is None or case.course.count < 2:
            return
        before, after = [flatten(x.network_state)[0] for x in (case.initial, state)]
        alive = [x for x in after if not is_gone(x)]
        if case.is_stepped and after and len(alive) == len(after) and _equal(before, after):
            yield cls.found(
                "the running statistics never move: batch normalisation works as in use",
                None,
                why=f"they are bit for bit the same after {case.course.count} steps",
            )
        yield from cls._lost(case)
        drops = case.dropouts
        if drops and not case.draws:
            yield cls.found(
                f"dropout never drops: {len(drops)} layer{'s' * (len(drops) > 1)} with a rate "
                "above 0, and no random number",
                None,
                why="the loss draws nothing: the layers are called with train=False, or not at all",
            )

    @classmethod
    def _lost(cls, case: Case) -> Iterator[Finding]:
        """Batch normalisation whose new statistics are no part of the state."""
        held = [*modules(case.batches[0]), *modules(case.initial.network_state)]
        norms = [x for x in modules(case.initial.model) if isinstance(x, BatchNorm)]
        if not norms or any(isinstance(x, BatchNormState) for x in held):
            return
        nodes = case.first.probe.nodes
        inside = [x for x in nodes if "batch_norm" in {f.function for f in x.site.frames}]
        yield cls.found(
            "the running statistics of batch normalisation are thrown away",
            (inside or nodes)[0].site,
            why=f"{len(norms)} layers return new ones, and the loss does not: in use they are "
            "what they were at the beginning",
            fix="def loss(model, x, y, state): ... return loss, state, and "
            "TrainState.create(..., network_state=model.initial_state())",
        )


class LOOP03(Sign):
    """Steps that do not follow each other: old gradients, or updates that are thrown away.

    Arrays do not change, so an update does something only where its result takes the place of the
    model: `model = apply_updates(model, updates)`.
    """

    id = "LOOP03"
    is_early = True
    title = "steps that do not follow each other"
    severity = Severity.FAIL
    fix = "in each step: loss, grads of the present model and batch; then model = apply_updates(…)"
    intended = "intended=('LOOP03',)"
    source = "TrainCheck; folklore of tutorials"

    @classmethod
    def running(cls, case: Case) -> Iterator[Finding]:
        if len(case.handed) < 3:
            return
        if all(_equal(x.before, x.after) for x in case.handed) and _any(case.handed[0].grads):
            yield cls.found(
                "the model stays as it is: the updates are not applied",
                None,
                why=f"bit for bit the same after {case.course.count} steps with gradients",
                fix="model = pb.optim.apply_updates(model, updates)",
            )
            return
        for before, now in zip(case.handed, case.handed[1:], strict=False):
            stale = _equal(before.grads, now.grads) and not _equal(before.batch, now.batch)
            if stale and not _same(now.grads, case.gradient_of(now)):
                yield cls.found(
                    f"step {now.step} uses the gradient of step {now.step - 1}",
                    None,
                    why="bit for bit the same for another batch; computed again it is another",
                )
                return
        yield from cls._stale(case)

    @classmethod
    def _stale(cls, case: Case) -> Iterator[Finding]:
        """The gradient of the present batch, but of the first model."""
        first, last = case.handed[0], case.handed[-1]
        if _equal(first.before, last.before) or _same(last.grads, case.gradient_of(last)):
            return
        if _same(last.grads, case.gradient_of(replace(last, state=first.state))):
            yield cls.found(
                f"step {last.step} uses the gradient of the model before step {first.step}",
                None,
                why="computed again with the first model it is the same, not with the present one",
                fix="value_and_grad(loss)(model, *batch) of the model that the last step returned",
            )


class OBJ05(Sign):
    """The steps go uphill: with their direction turned round, the loss falls.

    The sign of the loss, of the gradient or of the update is wrong: a reward that is minimised, a
    difference that was taken the other way round, `params + lr * grad`. The loss is asked of
    outputs that are made by hand: the targets themselves, nothing, the opposite; and it must not
    fall both ways along every line. Of actions an argument that is named reward, return or
    advantage says which were right.
    """

    id = "OBJ05"
    is_early = True
    title = "steps uphill: the loss grows along them"
    kind = Kind.MEASURE
    certain = (Severity.FAIL,)
    severity = Severity.WARN
    fix = "turn the sign of the loss, or of the update"
    intended = "intended=('OBJ05',)"
    source = "TheDeepChecker"
    remedies = (Remedy("the opposite direction", rate=-1.0),)
    along = Threshold(0.1, "cosine of gradient and change above, in each of three steps", "own")
    avoided = Threshold(0.2, "cosine of the loss's slope and the rewards above", "own")

    @classmethod
    def find(cls, seen: Seen) -> Iterator[Finding]:
        """Before the first step: a loss that is higher for what is right than for what is wrong."""
        probe = seen.probe
        for it in seen.answers:
            if not it.prefers_wrong:
                continue
            name = probe.replay.names[it.targets]
            what = "for the actions that were rewarded" if it.is_reward else f"that give {name}"
            yield cls.found(
                f"the loss rewards what is wrong: {it.right:.3g} for outputs {what}, "
                f"{it.wrong:.3g} for the opposite",
                probe.replay.graph.nodes[-1].site,
                severity=Severity.FAIL,
                why=f"it was asked of outputs made by hand; of one that says nothing it is "
                f"{it.nothing:.3g}",
                fix="turn the sign of the loss",
                numbers={"right": it.right, "nothing": it.nothing, "wrong": it.wrong},
            )
            return
        site = probe.replay.graph.nodes[-1].site
        around, avoided = falls_both_ways(seen.part.probe), against_rewards(probe)
        if around is not None:
            yield cls.found(
                f"the loss falls whichever way the output goes: from {around[0]:.3g} to "
                f"{around[1]:.3g} and less",
                site,
                severity=Severity.FAIL,
                why="the output was moved along three lines, both ways: a likelihood, or minus an "
                "error?",
                fix="turn the sign of the loss",
                numbers={"loss": around[0], "far": around[1]},
            )
        elif avoided > cls.avoided:
            yield cls.found(
                "the loss falls where the actions with the higher rewards become less likely",
                site,
                severity=Severity.FAIL,
                why=f"cosine of its slope and the rewards: {avoided:.2g}",
                fix="turn the sign of the loss",
                numbers={"cosine": avoided},
            )

    @classmethod
    def running(cls, case: Case) -> Iterator[Finding]:
        """In a loop whose gradients are handed over: computed again, and laid beside the change."""
        if len(case.handed) < 3:
            return
        cosines = [_cosine(case.gradient_of(x), x.moved) for x in case.handed]
        if min(cosines) > cls.along:
            yield cls.found(
                "the steps go uphill: along the gradient, not against it",
                None,
                severity=Severity.FAIL,
                why=f"cosine of the gradient and the change of the parameters: {min(cosines):.2g} "
                f"and more in {len(cosines)} steps",
                numbers={"cosines": cosines},
            )


def _cosine(x: Sequence[Numbers], y: Sequence[Numbers]) -> float:
    a, b = [np.concatenate([z.ravel() for z in each] or [np.zeros(0)]) for each in (x, y)]
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size else 0.0


def _factor(x: Sequence[Numbers], y: Sequence[Numbers]) -> int:
    """k where x is k times y, up to rounding; else 0."""
    size = sum(float((b**2).sum()) for b in y)
    along = sum(float((a * b).sum()) for a, b in zip(x, y, strict=True))
    k = round(along / size) if size else 0
    return k if k and _same(x, [k * b for b in y]) else 0


def _same(x: Sequence[Numbers], y: Sequence[Numbers]) -> bool:
    """Whether two gradients are the same up to rounding, and not 0."""
    apart = sum(float(((a - b) ** 2).sum()) for a, b in zip(x, y, strict=True))
    size = sum(float((a**2).sum()) for a in x)
    return size > 0 and apart < CLOSE**2 * size


def _equal(x: Sequence[Any], y: Sequence[Any]) -> bool:
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(x, y, strict=True))


def _any(x: Sequence[Numbers]) -> bool:
    return any(a.any() for a in x)
