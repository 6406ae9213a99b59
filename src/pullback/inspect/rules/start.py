"""What can be seen before the first step: `OBJ04`, `OBJ06`, `DAT01`, `OPT01`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from pullback.inspect.baseline import Baseline
from pullback.inspect.case import Case
from pullback.inspect.course import FIRST, Calm
from pullback.inspect.edits import tempered
from pullback.inspect.findings import (
    Finding,
    Kind,
    Place,
    Remedy,
    Rule,
    Severity,
    Threshold,
)
from pullback.inspect.initial import misfit_layer, scale_of
from pullback.inspect.probe import Layer, Probe
from pullback.inspect.seen import USUAL_RATE, Seen
from pullback.inspect.trials import ENOUGH, JUMP, copies_ratio
from pullback.ir.array import Array
from pullback.ir.types import Numbers

FRESH = Remedy("weights of the usual scale (he_normal, lecun_normal)", initialises=True)
CLIPPED = Remedy("clip=1.0", clip=1.0)
CALM = Remedy("logits of mean 0 and standard deviation 1", edit=tempered)


class Check(Rule):
    """A rule that looks at a model, a loss and a batch before the first step."""

    @classmethod
    def find(cls, seen: Seen) -> Iterator[Finding]:
        raise NotImplementedError

    @classmethod
    def gated(cls, seen: Seen) -> Severity:
        """What a measure is worth: a warning where the run has a symptom too, else a note."""
        return Severity.WARN if seen.symptom else Severity.INFO


class OBJ04(Check):
    """The loss before the first step is not that of a network that knows nothing.

    A network whose logits are near 0 gives every class the same probability: cross-entropy is then
    ln K. Much more means that the logits start large, and the first steps are spent on making
    them small. Much less means that the network already knows the answer: a leak of the targets
    into the inputs, or a loss that is scaled.
    """

    id = "OBJ04"
    title = "an initial loss far from that of a network that knows nothing"
    kind = Kind.MEASURE
    severity = Severity.WARN
    comes = Place.FIRST_LOSS
    fix = "start the last layer small, its bias at the log of the class frequencies"
    intended = "a model that was trained before starts lower"
    source = "TheDeepChecker (ratio 1.0), torchtest2 (2x, 0.5x), Karpathy's recipe"
    remedies = (FRESH, CALM)
    much = Threshold(2.0, "loss / ln K above", "torchtest2, TheDeepChecker")
    little = Threshold(0.5, "loss / prior entropy below", "torchtest2")
    grown = Threshold(1e2, "it is named where E[z²] / that of the first layer above", "SageMaker")
    far = Threshold(8.0, "of yes and no, which may be weighted: loss / ln 2 above", "own")
    certain_of = Threshold(
        8.0, "a warning by itself, where weights do not fit: loss / ln K above", "own"
    )

    @classmethod
    def find(cls, seen: Seen) -> Iterator[Finding]:
        probe = seen.probe
        if probe.classes < 2:
            yield from cls._of_two(seen)
            return
        usual, prior, loss = math.log(probe.classes), probe.prior_entropy(), probe.loss
        numbers = {"loss": loss, "ln K": usual, "prior entropy": prior, "K": probe.classes}
        expected = f"ln {probe.classes} = {usual:.3g}"
        if loss > cls.much * usual:
            worst = misfit_layer(probe)
            said = "" if worst is None else f": {scale_of(probe, worst)}"
            alone = worst is not None and cls.is_lost(probe)
            if worst is None:
                worst, said = cls._grown(seen)
            yield cls.found(
                f"the loss starts at {loss:.3g}, {loss / usual:.1f} times {expected}",
                probe.replay.graph.nodes[-1].site if worst is None else worst.node.site,
                severity=Severity.WARN if alone else cls.gated(seen),
                why=f"the first logits are large, and confidently wrong{said}",
                numbers=numbers if worst is None else {**numbers, "layer": worst.name},
                stands=alone,
            )
        elif 0 <= loss < cls.little * prior and Baseline.of(probe) is not None:
            yield cls.found(
                f"the loss starts at {loss:.3g}; who knows nothing has {prior:.3g}",
                probe.replay.graph.nodes[-1].site,
                severity=cls.gated(seen),
                why="the model knows the targets before it has learnt: they may be in its inputs",
                fix="look for the targets among the inputs",
                numbers=numbers,
            )

    @classmethod
    def explains(cls, mine: Finding, other: Finding) -> bool:
        """Scores that begin large where a table does that is read at both ends."""
        return mine.stands and other.id == "SIG04"

    @classmethod
    def is_lost(cls, probe: Probe) -> bool:
        """Whether the loss begins so high that the first steps are spent on nothing else."""
        return probe.classes > 1 and probe.loss > cls.certain_of * math.log(probe.classes)

    @classmethod
    def _grown(cls, seen: Seen) -> tuple[Layer | None, str]:
        """The layer at which the signal has run away from the first one, in words."""
        signals = [x for x in seen.signals if x.forward > 0]
        for x in signals[1:-1]:
            if x.forward > cls.grown * signals[0].forward:
                return x.layer, f": E[z²] is {x.forward:.2g} at {x.layer.name}, and grows"
        return None, ""

    @classmethod
    def _of_two(cls, seen: Seen) -> Iterator[Finding]:
        """Of a cross-entropy of yes and no."""
        probe, baseline = seen.probe, Baseline.of(seen.probe)
        if baseline is None or baseline.classes != 1 or probe.loss <= cls.far * math.log(2):
            return
        worst = misfit_layer(probe)
        last = probe.layers[-1]
        yield cls.found(
            f"the loss starts at {probe.loss:.3g}, {probe.loss / math.log(2):.0f} times ln 2",
            (worst or last).node.site,
            severity=cls.gated(seen),
            why="the first logits are large, and confidently wrong",
            numbers={"loss": probe.loss, "layer": (worst or last).name},
        )


class OBJ06(Check):
    """The loss is a sum over the samples, not a mean.

    Of two copies of a batch it is twice as large: the gradient, and with it the step, then grows
    with the batch, and a learning rate that fits one size is too large for another.
    """

    id = "OBJ06"
    title = "a sum over the batch instead of a mean"
    kind = Kind.MEASURE
    severity = Severity.WARN
    fix = "pb.mean in place of pb.sum, or a learning rate divided by the batch size"
    intended = "intended=('OBJ06',)"
    source = "TheDeepChecker"
    remedies = (Remedy("the mean in place of the sum: 0.01x the step", rate=0.01),)
    deviation = Threshold(1e-3, "|loss(n copies) / loss - n| / n below", "own")

    @classmethod
    def explains(cls, mine: Finding, other: Finding) -> bool:
        """A loss is large that is a sum."""
        return other.rule is OBJ04

    @classmethod
    def find(cls, seen: Seen) -> Iterator[Finding]:
        it, size = seen.subject, seen.probe.batch
        if size < 1 or it.network_state is not None or it.key is not None:
            return
        part = seen.part
        for copies in (2, 4):
            ratio = copies_ratio(
                seen.loss, it.model, part.batch, part.probe.loss, part.probe.batch, copies
            )
            if not abs(ratio / copies - 1) < cls.deviation:
                return
        yield cls.found(
            f"the loss of 2 copies of the batch is 2 times the loss: a sum over {size} samples",
            seen.probe.replay.graph.nodes[-1].site,
            severity=cls.gated(seen),
            why=f"its gradient is {size} times that of the mean, and grows with the batch",
            numbers={"batch": size},
        )


class DAT01(Check):
    """Inputs or targets are not scaled: their spread, or their distance from 0, is far from 1.

    Initial weights are made for inputs of variance about 1, and a network begins with outputs of
    about 1. Data in [0, 1] or [-1, 1] are taken as scaled. Of a table, columns of very different
    spread are told too, and inputs that are the same for every sample, from which nothing can be
    learnt. It is a warning where the run has a symptom, or where it learns far better with scaled
    data, as was tried.
    """

    id = "DAT01"
    title = "inputs or targets that are not scaled"
    kind = Kind.MEASURE
    certain = (Severity.FAIL,)
    severity = Severity.WARN
    fix = "standardise: subtract the mean and divide by the standard deviation of the training set"
    intended = "intended=('DAT01',)"
    source = "TheDeepChecker's classes"
    remedies = (Remedy("inputs of mean 0 and variance 1", standardises=True),)
    wide = Threshold(10.0, "standard deviation above", "TheDeepChecker")
    narrow = Threshold(0.1, "standard deviation below", "TheDeepChecker")
    tiny = Threshold(0.1, "or, of data within [-1, 1]: the largest below", "own")
    far = Threshold(3.0, "|mean| / deviation (and, of targets, |mean|) above", "TheDeepChecker")
    apart = Threshold(1e3, "largest / least deviation of the columns of a table", "TheDeepChecker")

    @classmethod
    def explains(cls, mine: Finding, other: Finding) -> bool:
        """Where nothing of a sample comes in, nothing else says anything."""
        return mine.severity.is_error and other is not mine and other.severity is not Severity.STOP

    @classmethod
    def find(cls, seen: Seen) -> Iterator[Finding]:
        probe = seen.probe
        graph = probe.network or probe.graph
        inputs = probe.inputs_of(graph)
        if cls._is_constant(probe, inputs):
            name = probe.replay.names[inputs[0]]
            yield cls.found(
                f"{name} is the same for each of {probe.batch} samples",
                None,
                severity=Severity.FAIL,
                why="the output is one constant: nothing of a sample reaches it",
                fix="look at what was done to the data: a division of whole numbers, a lost column",
            )
            return
        for x in inputs:
            if probe.is_numeric(x) and x.size > 1:
                yield from cls._about(seen, probe.replay.names[x], probe.numbers(x))
        for x in probe.integers_beside():
            wide = probe.numbers(x).astype(np.float64)
            if probe.is_numeric(x) and x.shape[:1] == (probe.batch,) and x.size > 1:
                yield from cls._about_targets(seen, probe.replay.names[x], wide)

    @classmethod
    def _is_constant(cls, probe: Probe, inputs: Sequence[Array]) -> bool:
        """Whether no input differs between the samples."""
        known = [probe.numbers(x) for x in inputs]
        return bool(known) and probe.batch >= 8 and not any((x != x[:1]).any() for x in known)

    @classmethod
    def _about(cls, seen: Seen, name: str, x: Numbers) -> Iterator[Finding]:
        wide = x.astype(np.float64)
        low, high, mean, std = wide.min(), wide.max(), wide.mean(), wide.std()
        columns = wide.std(axis=0) if x.ndim == 2 and len(x) > 1 else np.zeros(0)
        spread = columns[columns > 0]
        if len(spread) and spread.max() > cls.apart * spread.min() and spread.max() > 1:
            yield cls.found(
                f"the columns of {name} have standard deviations from {spread.min():.2g} to "
                f"{spread.max():.2g}",
                None,
                severity=cls.gated(seen),
                why="the widest column alone decides the steps",
                numbers={"least": spread.min(), "largest": spread.max()},
            )
        within = low >= -1 and high <= 1 and max(-low, high) > cls.tiny
        if (within and std > 1e-3) or cls._is_scaled(mean, std):
            return
        yield cls.found(
            f"{name} has mean {mean:.3g} and standard deviation {std:.3g}",
            None,
            severity=cls.gated(seen),
            why="initial weights are made for inputs of mean 0 and variance 1",
            numbers={"mean": mean, "std": std, "min": low, "max": high},
        )

    @classmethod
    def _is_scaled(cls, mean: float, std: float) -> bool:
        return cls.narrow <= std <= cls.wide and abs(mean) <= cls.far * std

    @classmethod
    def _about_targets(cls, seen: Seen, name: str, y: Numbers) -> Iterator[Finding]:
        mean, std = y.mean(), y.std()
        if cls._is_scaled(mean, std) or std == 0 or np.abs(y).max() <= 1:
            return
        if cls.narrow <= std <= cls.wide and abs(mean) <= cls.far:
            return  # as a batch of sorted data: a bias is there soon
        yield cls.found(
            f"the targets {name} have mean {mean:.3g} and standard deviation {std:.3g}",
            None,
            severity=cls.gated(seen),
            why="a network begins with outputs of about 1: its last bias has a long way to go",
            fix="learn (y - mean) / std of the training set, and undo it for what is predicted",
            numbers={"mean": mean, "std": std},
            remedies=(Remedy("targets of mean 0 and variance 1", scales=True),),
        )


class OPT01(Check):
    """The first steps are too long: the loss of the same batch rises after its own step.

    Along the step u the loss changes by -⟨g, u⟩ + uᵀHu/2, so it rises where the step is more than
    η* = 2⟨g, u⟩/uᵀHu times itself. Sound training can sit at that bound (the edge of stability,
    Cohen et al. 2021), so the factor alone alarms nobody: the loss must also have risen, or the
    weights jumped.
    """

    id = "OPT01"
    title = "a learning rate that is too high"
    kind = Kind.MEASURE
    severity = Severity.WARN
    fix = "a smaller learning rate, warm-up or clipping"
    source = "descent lemma; calibrated on 14 runs (diagnoses)"
    remedies = (
        Remedy("0.1x the learning rate", rate=0.1),
        Remedy("0.01x the learning rate", rate=0.01),
        CLIPPED,
    )
    rises = Threshold(0.5, "share of the first 20 steps after which the loss rose, at least", "own")
    jump = Threshold(JUMP, "log10 ‖update‖/‖weight‖ above", "own")
    rise = Threshold(2.0, "largest loss / loss at the start above, in a run", "TheDeepChecker")
    too_long = Threshold(1.0, "step / largest stable step above", "descent lemma")

    @classmethod
    def explains(cls, mine: Finding, other: Finding) -> bool:
        """What follows from long steps; and where shorter ones help more, no gradient vanishes."""
        if other.id == "SIG01" and mine.effect and other.effect:
            return bool(mine.numbers["tried"][1] <= other.numbers["tried"][1])
        return cls.is_of_long_steps(mine, other)

    @staticmethod
    def is_of_long_steps(mine: Finding, other: Finding) -> bool:
        """What was not so at the beginning, as units that died.

        And numbers that were not finite, where a shorter step has shown it, and nothing at the
        first step said so of their line.
        """
        late, foretold = [bool(other.numbers.get(x)) for x in ("later", "foretold")]
        return late or (bool(mine.effect) and other.severity is Severity.STOP and not foretold)

    @classmethod
    def find(cls, seen: Seen) -> Iterator[Finding]:
        if seen.subject.optimizer is None:
            return
        fitted = seen.fitted
        jumped = fitted.ratio > 10**cls.jump
        if fitted.rises < cls.rises and not jumped and fitted.fall > -math.inf:
            return
        if seen.probe.is_surrogate and math.isfinite(fitted.fall):
            return
        if fitted.fall >= 0.9 or not seen.fitted_by_adam.fall >= ENOUGH:
            return
        if not fitted.lags(seen.fitted_by_adam):
            return
        step = seen.step
        factor = math.nan if step is None else step.factor
        long = (
            f": the first step is {factor:.3g}x the largest stable one"
            if factor > cls.too_long
            else ""
        )
        yield cls.found(
            f"the learning rate is too high{long}",
            None,
            why=f"the loss of one batch rose after {fitted.rises:.0%} of the first steps; "
            f"largest ‖update‖/‖weight‖ {fitted.ratio:.2g} of {fitted.mover}",
            fix=f"at most {0.5 / factor:.2g}x the rate, warm-up or clipping"
            if factor > cls.too_long
            else cls.fix,
            notes=(_compared(seen),),
            numbers={"factor": factor, "rises": fitted.rises, "ratio": fitted.ratio},
        )

    @classmethod
    def calm(cls, case: Case) -> Calm:
        return case.course.below(cls.rise * abs(case.course.first[0]))

    @classmethod
    def running(cls, case: Case) -> Iterator[Finding]:
        """In a run: the weights jumped in the first steps, or the loss rose far above its start."""
        course = case.course
        jump, rise = case.jump, course.rise
        if rise > cls.rise and case.job is not None and case.is_surrogate:
            rise = 0.0  # it says nothing
        if not (jump > 10**cls.jump or rise > cls.rise):
            return
        certain = bool(course.symptom) or case.can_try
        yield cls.found(
            f"the learning rate is too high: {case.jumper} moved by {jump:.2g} of its size"
            if jump > 10**cls.jump
            else f"the learning rate is too high: the loss rose to {rise:.3g} times its start",
            None,
            severity=Severity.WARN if certain else Severity.INFO,
            why=f"largest ‖update‖/‖weight‖ of the first {FIRST} steps {jump:.2g}; largest loss "
            f"{rise:.3g} times the first",
            numbers={"ratio": jump, "rise": rise},
        )


def _compared(seen: Seen) -> str:
    own, other = seen.fitted, seen.fitted_by_adam
    yours = f"yours: loss {own.start:.4g} -> {own.end:.4g}"
    return f"{yours}; Adam({USUAL_RATE:g}): -> {other.end:.4g}"
