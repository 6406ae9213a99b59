"""`LOOP`: the order of things in a training loop."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pullback.errors import Site
from pullback.inspect.answers import against_rewards, falls_both_ways, partners_apart
from pullback.inspect.case import Case
from pullback.inspect.findings import AS_IT_IS, Finding, Kind, Remedy, Severity, Threshold
from pullback.inspect.heldout import Renewed
from pullback.inspect.places import modules, named_modules
from pullback.inspect.response import Exam
from pullback.inspect.rules.running import Sign
from pullback.inspect.seen import Seen
from pullback.ir.graph import Node, every_node
from pullback.ir.types import Numbers
from pullback.nn.dropout import Dropout
from pullback.nn.module import Module
from pullback.nn.normalization import BatchNorm, BatchNormState
from pullback.ops.sampling import RandomBits
from pullback.train.function import UserFunction
from pullback.transforms.tree import flatten

CLOSE = 1e-3
"""Gradients that differ by less, relatively, are the same: another order of additions."""
ROUNDED = 1e-6
"""Of a parameter: what a step in single precision may lose of it."""
MANY = 17
"""An update that is applied more often than that is told by what becomes of the run."""
CLEARER = 0.25
"""What a right loop must gain, as a share of the loss at the start, and end at less than half."""


class Astray(Sign):
    """Steps that are no descent: a number that is not finite follows from them."""

    @classmethod
    def explains(cls, mine: Finding, other: Finding) -> bool:
        return other.severity is Severity.STOP


class LOOP01(Astray):
    """The gradients of the step before were added to those of this one.

    The gradient of the loss is computed again, for the model before the step and its batch, and
    compared with the one that the loop used. `value_and_grad` begins at 0 each time, so they can
    only be added by hand; `train_step(..., accumulate=k)` does that within a step. The optimiser is
    given gradients that were made up for it: one whose state is their sum adds them up itself.
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
                    case.line("handed"),
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
            case.line("used"),
            severity=Severity.WARN,
            why="gradients of parts of a batch are averaged, where the loss is a mean",
            fix=f"divide their sum by {factors[0]}; accumulate=k of train_step does",
            numbers={"factor": factors[0]},
        )

    @classmethod
    def never_cleared(cls, exam: Exam) -> Iterator[Finding]:
        """The optimiser itself adds up all gradients that it was ever given."""
        kept = exam.sum_kept
        if kept is not None or exam.never_forgets:
            yield cls.found(
                "the optimiser adds up the gradients of all steps",
                exam.line(kept),
                why="given a gradient and then its opposite, its second update is 0"
                if kept is None
                else f"its state is the sum of the {len(exam.answers)} gradients that it was given",
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
    certain = (Severity.WARN,)
    severity = Severity.WARN
    fix = "model(x, state, train=True, key=key) in the loss that is differentiated"
    intended = "intended=('LOOP02',), where the statistics are to stay as they are"
    source = "TrainCheck: ncsn#2, vsepp#4, clevr-iep#22, pytorch-fcn#57"

    @classmethod
    def explains(cls, mine: Finding, other: Finding) -> bool:
        """What is not normalised may leave the range of its type."""
        return "never move" in mine.what and other.severity is Severity.STOP

    @classmethod
    def find(cls, seen: Seen) -> Iterator[Finding]:
        """At the first step: the state that the loss returns, and whether it draws."""
        it, nodes = seen.subject, seen.probe.nodes
        function = UserFunction.of(it.loss_fn, "loss_fn")
        if function.takes_state and flatten(it.network_state)[0]:
            named = function.named(it.network_state, it.key)
            told = function(it.model, *it.batch, **named)[1]
            after = flatten(told[0] if it.has_aux else told)[0]
            if after and _equal(flatten(it.network_state)[0], after):
                yield cls.found(
                    "the running statistics never move: batch normalisation works as in use",
                    _first_of(nodes, it.model, BatchNorm),
                    why="the state that the loss returns is bit for bit the one that it was given",
                )
        drops = [x for x in modules(it.model) if isinstance(x, Dropout) and x.rate > 0]
        if drops and not any(isinstance(x.op, RandomBits) for x in every_node(nodes)):
            yield cls.found(
                f"dropout never drops: {len(drops)} layer{'s' * (len(drops) > 1)} with a rate "
                "above 0, and no random number",
                _first_of(nodes, it.model, Module),
                why="the loss draws nothing: the layers are called with train=False, or not at all",
            )

    @classmethod
    def running(cls, case: Case) -> Iterator[Finding]:
        """In a run: whether the statistics are handed on."""
        if case.job is not None and case.course.count >= 2:
            yield from cls._lost(case)

    @classmethod
    def _lost(cls, case: Case) -> Iterator[Finding]:
        """Batch normalisation whose new statistics are no part of the state."""
        held = [*modules(case.batches[0]), *modules(case.initial.network_state)]
        norms = [x for x in modules(case.initial.model) if isinstance(x, BatchNorm)]
        if not norms or any(isinstance(x, BatchNormState) for x in held):
            return
        yield cls.found(
            "the running statistics of batch normalisation are thrown away",
            _first_of(case.first.probe.nodes, case.initial.model, BatchNorm),
            why=f"{len(norms)} layers return new ones, and the loss does not: in use they are "
            "what they were at the beginning",
            fix="def loss(model, x, y, state): ... return loss, state, and "
            "TrainState.create(..., network_state=model.initial_state())",
        )


class LOOP03(Astray):
    """Steps that do not follow each other: old gradients, or updates that are thrown away.

    Arrays do not change, so an update does something only where its result takes the place of the
    model: `model = apply_updates(model, updates)`. The updates of the first steps are laid beside
    those that the optimiser owes to these gradients: a memory that is made anew, or given back as
    it was, and an update that is applied more than once, are known by that. A loop that learns far
    less than `train_step` does, from the same beginning with the same batches, is told at last.
    """

    id = "LOOP03"
    is_early = True
    title = "steps that do not follow each other"
    severity = Severity.FAIL
    fix = "in each step: loss, grads of the present model and batch; then model = apply_updates(…)"
    intended = "intended=('LOOP03',)"
    source = "TrainCheck; folklore of tutorials"
    late = Threshold(
        0.2,
        "share of what train_step learns that the loop has not, above",
        "own: healthy 0.13 at most",
    )

    @classmethod
    def running(cls, case: Case) -> Iterator[Finding]:
        if len(case.handed) < 3:
            return
        if all(_equal(x.before, x.after) for x in case.handed) and _any(case.handed[0].grads):
            yield cls._still(case)
            return
        for before, now in zip(case.handed, case.handed[1:], strict=False):
            stale = _equal(before.grads, now.grads) and not _equal(before.batch, now.batch)
            if stale and not _same(now.grads, case.gradient_of(now)):
                yield cls.found(
                    f"step {now.step} uses the gradient of step {now.step - 1}",
                    case.line("taken"),
                    why="bit for bit the same for another batch; computed again it is another",
                )
                return
        yield from cls._stale(case)
        yield from cls._not_owed(case)
        yield from cls._of_a_part(case)

    @classmethod
    def _still(cls, case: Case) -> Finding:
        """Updates that are lost, or of 0: each that of the first step of a warm-up."""
        begins = not any(_any(fresh) for _, fresh in case.owed)
        moves = any(_any(going_on) for going_on, _ in case.owed)
        if begins and moves and case.line("dropped") is None:
            return cls.found(
                "the model stays as it is: each update is the first one, which is 0",
                case.line("begun"),
                why="the optimiser's memory is as at the beginning in each step; with the one "
                "that its updates return the model would move",
                fix="updates, memory = optimizer.update(grads, memory, model), and return it",
            )
        return cls.found(
            "the model stays as it is: the updates are not applied",
            case.line("lost"),
            why=f"bit for bit the same after {case.course.count} steps with gradients",
            fix="model = pb.optim.apply_updates(model, updates)",
        )

    @classmethod
    def _of_a_part(cls, case: Case) -> Iterator[Finding]:
        """Gradients of the first or the last examples of each batch alone."""
        if any(_same(x.grads, case.gradient_of(x)) for x in case.handed):
            return
        size = case.first.probe.batch
        counts = {2**k for k in range(size.bit_length())} | {size // k for k in (2, 3, 4, 5, 10)}
        for count in sorted(x for x in counts if 0 < x < size):
            for which, rows in (("first", slice(count)), ("last", slice(size - count, None))):
                if all(_same(x.grads, case.gradient_of(x, rows)) for x in case.handed):
                    yield cls.found(
                        f"each step uses the gradient of the {which} {count} of {size} examples",
                        case.line("differentiated"),
                        severity=Severity.WARN,
                        why="computed again for these alone it is the same, not for the batch",
                        fix="hand the whole batch to the loss",
                        numbers={"examples": count, "batch": size},
                    )
                    return

    @classmethod
    def _not_owed(cls, case: Case) -> Iterator[Finding]:
        """Updates that are not those of the optimiser for the gradients, one after the other."""
        moves, noise = cls._moves(case)
        going_on, fresh = ([x[i] for x in case.owed] for i in (0, 1))
        if not case.owed or not any(map(_any, moves)) or _are(moves, going_on, noise):
            return
        if _are(moves, fresh, noise):
            yield cls.found(
                f"the optimiser's memory is made anew in each of {len(moves)} steps",
                case.line("begun"),
                why="each update is the first one of an optimiser, not the next",
                fix="memory = optimizer.init(model) once, before the loop; then that which update "
                "returns",
            )
            return
        start = case.handed[0].before
        if _are([[a - b for a, b in _with(x.after, start)] for x in case.handed], going_on, noise):
            yield cls.found(
                "each update is applied to the model of the beginning",
                case.line("applied"),
                why=f"after each of {len(moves)} steps the model is that one plus the last update",
                fix="model = apply_updates(model, updates), of the model of the step before",
            )
            return
        for k in range(2, MANY):
            for owed in (going_on, fresh):
                if _are(moves, [[k * x for x in each] for each in owed], noise):
                    yield cls.found(
                        f"each update is applied {k} times",
                        case.line("applied"),
                        why="the model moves by so much more than the optimiser's update",
                    )
                    return

    @classmethod
    def _moves(cls, case: Case) -> tuple[list[list[Numbers]], list[float]]:
        """Of the steps that were handed over: how the model moved, and what of it is rounding."""
        moves = [x.moved for x in case.handed]
        return moves, [
            CLOSE * _size(x) + ROUNDED * _size(h.before) for x, h in _with(moves, case.handed)
        ]

    @classmethod
    def _begins_well(cls, case: Case) -> bool:
        """Whether the first steps have the gradients of the loss, and the updates owed to these.

        Then a trial on a few batches, again and again, falls faster because it knows them.
        """
        moves, noise = cls._moves(case)
        return (
            bool(case.owed)
            and _are(moves, [x[0] for x in case.owed], noise)
            and all(_same(x.grads, case.gradient_of(x)) for x in case.handed)
        )

    @classmethod
    def returned(cls, case: Case) -> Iterator[Finding]:
        """A model that is again and again what it was at the beginning."""
        steps = case.returns
        if len(steps) > 1:
            yield cls.found(
                f"the model begins anew: at step {steps[0]}, at step {steps[1]}",
                case.line("renewed"),
                why="the gradients of these steps, computed again, are those of the model before "
                "the first one",
                fix="make the model and the optimiser's memory once, before all epochs",
                numbers={"steps": list(steps)},
            )

    @classmethod
    def unlike(cls, case: Case) -> Iterator[Finding]:
        """A loop that learns less than `train_step` does from the same beginning."""
        if case.is_stepped or len(case.handed) < 3:
            return
        own, loop = case.clinic.own, case.clinic.loop
        effect = own.effect(loop)
        if effect < CLEARER or not own.end < loop.end / 2 or cls._begins_well(case):
            return
        cosines = [_cosine(case.gradient_of(x), x.grads) for x in case.handed]
        told = f"; cosine of its gradients and those of the loss on its batches {min(cosines):.2g}"
        yield cls.found(
            "the loop learns less than a step of train_step does",
            None,
            severity=Severity.WARN,
            why=f"{len(own.losses)} steps: {loop}; of train_step with this optimiser {own}{told}",
            fix="step = pb.train.train_step(loss, optimizer), or compare line by line with it",
            numbers={"cosines": cosines, "loop": loop.end, "train_step": own.end},
            effect=effect,
        )

    @classmethod
    def behind(cls, case: Case, again: Renewed) -> Iterator[Finding]:
        """A loop that has learnt less than `train_step` has after no more steps of its own."""
        if case.is_stepped:
            return
        own = case.clinic.renewed_with(AS_IT_IS, again.steps)
        share = again.behind(own)
        if share > cls.late:
            yield cls.found(
                f"the loop has learnt less in {case.course.count} steps than train_step does in "
                f"{again.steps}",
                None,
                severity=Severity.WARN,
                why=f"loss of batches that were held out: {again.run:.3g}; of train_step with this "
                f"optimiser, from the same beginning: {again.start:.3g} -> {own:.3g}",
                fix="step = pb.train.train_step(loss, optimizer), or compare line by line with it",
                numbers={"loop": again.run, "train_step": own, "start": again.start},
                effect=min(share, 1.0),
            )

    @classmethod
    def forgetful(cls, exam: Exam) -> Iterator[Finding]:
        """The optimiser has a memory, and gives it back as it was."""
        if exam.remembers_nothing:
            yield cls.found(
                "the optimiser's memory stays as it was at the beginning",
                exam.line(),
                why=f"after {len(exam.answers)} updates its state is bit for bit the same",
                fix="updates, state = optimizer.update(grads, state, params), and hand the new "
                "state on",
            )

    @classmethod
    def _stale(cls, case: Case) -> Iterator[Finding]:
        """The gradient of the present batch, but of the first model."""
        if not any(_any(x.grads) for x in case.handed) and _any(case.gradient_of(case.handed[0])):
            yield cls.found(
                f"the first {len(case.handed)} steps use gradients of 0",
                case.line("applied"),
                why="computed again, those of their models and batches are others: old ones?",
            )
            return
        pairs = list(itertools.pairwise(case.handed))
        late = [_same(now.grads, case.gradient_of(before)) for before, now in pairs]
        if all(late) and not _same(pairs[-1][1].grads, case.gradient_of(pairs[-1][1])):
            yield cls.found(
                "each step uses the gradient of the step before it",
                case.line("used"),
                why="computed again for the model and the batch of that one it is the same",
            )
            return
        first, last = case.handed[0], case.handed[-1]
        if _equal(first.before, last.before) or _same(last.grads, case.gradient_of(last)):
            return
        if _same(last.grads, case.gradient_of(replace(last, state=first.state))):
            yield cls.found(
                f"step {last.step} uses the gradient of the model before step {first.step}",
                case.line("differentiated"),
                why="computed again with the first model it is the same, not with the present one",
                fix="value_and_grad(loss)(model, *batch) of the model that the last step returned",
            )


class OBJ05(Astray):
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
            moved = "model" if probe.output is None else "output"
            yield cls.found(
                f"the loss falls whichever way the {moved} goes: from {around[0]:.3g} to "
                f"{around[1]:.3g} and less",
                site,
                severity=Severity.FAIL,
                why="it was moved along three lines, both ways: a likelihood, or minus an error?",
                fix="turn the sign of the loss",
                numbers={"loss": around[0], "far": around[1]},
            )
            return
        logits = probe.class_logits
        if logits is not None and probe.is_distance(logits):
            yield cls.found(
                "the logits are distances: the farthest class is the likeliest",
                probe.makers[logits].site,
                severity=Severity.FAIL,
                why="they are sums of squares or sizes of differences, and a softmax follows",
                fix="minus the distance as logits",
            )
            return
        agree = partners_apart(seen.part.probe)
        if agree is not None:
            yield cls.found(
                f"the loss is {agree[0]:.3g} for pairs that agree and {agree[1]:.3g} for such that "
                "do not",
                site,
                severity=Severity.FAIL,
                why="the outputs of both inputs were made the same, row by row: what belongs "
                "together is pushed apart",
                fix="a similarity as logits: minus the distance, or a product",
                numbers={"agree": agree[0], "apart": agree[1]},
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
    def turned(cls, exam: Exam) -> Iterator[Finding]:
        """The optimiser's updates go along the gradient that it is given."""
        cosines = [x.along for x in exam.answers]
        if min(cosines) > cls.along:
            yield cls.found(
                "the optimiser steps uphill: its updates go along the gradient",
                exam.line(),
                severity=Severity.FAIL,
                why=f"cosine of the gradient and the update: {min(cosines):.2g} and more in "
                f"{len(cosines)} updates",
                numbers={"cosines": cosines},
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
                case.line("applied"),
                severity=Severity.FAIL,
                why=f"cosine of the gradient and the change of the parameters: {min(cosines):.2g} "
                f"and more in {len(cosines)} steps",
                numbers={"cosines": cosines},
            )


def _first_of(nodes: Sequence[Node], model: Any, kind: type[Module]) -> Site | None:
    """Where a module of a kind is used first."""
    known = {path for path, x in named_modules(model) if isinstance(x, kind)}
    inside = [x.site for x in nodes if x.site.scope in known and x.site.frame is not None]
    return inside[0] if inside else nodes[0].site


def _are(
    moves: Sequence[Sequence[Numbers]], owed: Sequence[Sequence[Numbers]], noise: Sequence[float]
) -> bool:
    """Whether all moves are those that are owed, up to rounding."""
    apart = [_size([a - b for a, b in zip(x, y, strict=True)]) for x, y in _with(moves, owed)]
    return all(a <= b for a, b in _with(apart, noise))


def _with(x: Sequence[Any], y: Sequence[Any]) -> list[tuple[Any, Any]]:
    return list(zip(x, y, strict=True))


def _size(x: Sequence[Numbers]) -> float:
    return float(np.sqrt(sum(float((a**2).sum()) for a in x)))


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
