"""What only a run that goes on can show: rules that look at its course."""

from __future__ import annotations

from collections.abc import Iterator

from pullback.errors import listed
from pullback.inspect.case import Case
from pullback.inspect.course import FIRST, NEAR, NEVER, Calm, mean
from pullback.inspect.findings import Finding, Kind, Rule, Severity, Threshold
from pullback.inspect.rules.cuts import CUT04
from pullback.inspect.rules.start import OPT01, Check
from pullback.inspect.seen import Seen


class Sign(Rule):
    """A rule that looks at a run."""

    @classmethod
    def running(cls, case: Case) -> Iterator[Finding]:
        raise NotImplementedError

    @classmethod
    def calm(cls, case: Case) -> Calm:
        """Having found nothing in a run without a symptom: until when it finds nothing again."""
        return Calm() if cls.is_early else NEVER


class CUT02(Sign):
    """The optimiser leaves parameters as they are, although they have a gradient.

    A mask or a partition of the optimiser that leaves them out, or a learning rate of 0. Which
    parameters are trained is said by `nn.freeze`; then there is no gradient for them, either.
    """

    id = "CUT02"
    title = "parameters that the optimiser never moves"
    severity = Severity.FAIL
    fix = "an optimiser that has them: look at its mask and at its schedule"
    intended = "pb.nn.freeze(model, path), or intended=('CUT02',)"
    source = "TrainCheck AC-2665, torchtest2"

    @classmethod
    def calm(cls, case: Case) -> Calm:
        return Calm()

    @classmethod
    def running(cls, case: Case) -> Iterator[Finding]:
        if case.course.is_lively:
            return
        norms, ratios = case.course.norms, case.course.ratios
        if len(ratios) < FIRST or norms.shape != ratios.shape:
            return
        moved = [bool(x.any()) or not y.any() for x, y in zip(ratios.T, norms.T, strict=True)]
        names = [name for name, x in zip(case.course.names, moved, strict=True) if not x]
        if not names:
            return
        every = len(names) == len(moved)
        if every and not case.is_stepped:
            return  # LOOP03
        yield cls.found(
            "no parameter moves: every update is 0"
            if every
            else f"{len(names)} of {len(moved)} parameters are never moved",
            None,
            why="they have a gradient, and the optimiser's update of them is exactly 0 in "
            f"{case.course.count} steps",
            fix="a learning rate above 0" if every else cls.fix,
            notes=(listed(names),),
            numbers={"parameters": names},
        )


class CUT03(Check):
    """What is frozen leaves nothing that could learn the task.

    Every weight is frozen and only biases and the scales of normalisation are trained; or the last
    layer is frozen and the ones before it are trained, so that what they learn is read by weights
    that never fit it. A last layer that is frozen at 0 lets no gradient by.
    """

    id = "CUT03"
    title = "the wrong layers are frozen"
    severity = Severity.FAIL
    fix = "pb.nn.unfreeze(model, path) of the last layer"
    intended = "intended=('CUT03',)"
    source = "pytorch-forum 84911 (TrainCheck)"

    @classmethod
    def explains(cls, mine: Finding, other: Finding) -> bool:
        """Nothing learns before a layer that is frozen at 0."""
        return mine.severity.is_error and other.rule is CUT04

    @classmethod
    def find(cls, seen: Seen) -> Iterator[Finding]:
        probe = seen.probe
        chain = [(x.name, x.weight in probe.replay.frozen) for x in probe.layers]
        names = list(dict.fromkeys(name for name, is_frozen in chain if is_frozen))
        if not names:
            return
        trained = list(dict.fromkeys(name for name, is_frozen in chain if not is_frozen))
        last = probe.layers[-1]
        if not trained:
            yield cls.found(
                f"all {len(names)} layers are frozen, from {names[0]} to {names[-1]}: only biases "
                "and scales can learn",
                None,
                notes=(listed(names),),
                numbers={"layers": names, "layer": names[0]},
            )
        elif last.name in names:
            nothing = not probe.numbers(last.weight).any()
            what = "frozen at 0" if nothing else "frozen"
            yield cls.found(
                f"the last layer, {last.name}, is {what}, and layers before it are trained",
                None,
                severity=Severity.FAIL if nothing else cls.gated(seen),
                why="no gradient passes a product with 0" if nothing else seen.symptom,
                numbers={"layers": names, "layer": last.name},
            )


class GEN01(Sign):
    """Nothing tells whether the network does more than learn its examples by heart, or it does not.

    Where evaluations have a validation loss: for three of them it has been above its least, by the
    factor below and by a share of the loss at the start, while the training loss fell. Where there
    is none: a note after three.
    """

    id = "GEN01"
    title = "overfitting, or no validation"
    kind = Kind.HINT
    severity = Severity.WARN
    fix = "patience=3, fewer parameters, weight decay, dropout, more data; keep result.best"
    intended = "intended=('GEN01',)"
    source = "the practice of early stopping"
    grown = Threshold(1.1, "validation loss / its least above", "the practice of early stopping")
    share = Threshold(0.05, "and above it by this share of the loss at the start", "own")
    evaluations = Threshold(3, "evaluations in a row", "the practice of early stopping")

    @classmethod
    def calm(cls, case: Case) -> Calm:
        """Until the next evaluation."""
        least, greatest = case.course.starts
        return Calm() if least == greatest or len(case.rows) < cls.evaluations else NEVER

    @classmethod
    def running(cls, case: Case) -> Iterator[Finding]:
        rows, often = case.rows, int(cls.evaluations)
        if len(rows) < often:
            return
        names = [x for x in rows[-1] if "loss" in x and x != "train_loss"]
        if not names:
            yield cls.found(
                f"no validation loss in {len(rows)} evaluations",
                None,
                severity=Severity.INFO,
                why="the training loss falls for a network that learns by heart, too",
                fix='validate=lambda state: {"validation_loss": ...}',
            )
            return
        losses = [row[names[0]] for row in rows]
        least, late = min(losses[:-often], default=losses[0]), losses[-often:]
        falls = rows[-1].get("train_loss", 0.0) < rows[-often].get("train_loss", 0.0)
        bar = max(cls.grown * least, least + cls.share * abs(case.course.start))
        if falls and least > 0 and min(late) > bar:
            yield cls.found(
                f"the network overfits: {names[0]} was {least:.3g} and is {late[-1]:.3g}",
                None,
                why="the training loss fell meanwhile",
                numbers={"least": least, "now": late[-1]},
            )


class OPT03(Sign):
    """The run diverges: for a while now the loss has been more than twice its least value."""

    id = "OPT03"
    title = "a run that diverges"
    kind = Kind.MEASURE
    severity = Severity.WARN
    fix = "a smaller learning rate, clipping; look at the batches of that time"
    intended = "intended=('OPT03',)"
    source = "TheDeepChecker"
    remedies = OPT01.remedies
    rise = Threshold(2.0, "mean loss / its least, above", "TheDeepChecker")
    windows = Threshold(5, "times in a row", "TheDeepChecker")
    share = Threshold(0.1, "and by this share of the loss at the start", "own")

    @classmethod
    def explains(cls, mine: Finding, other: Finding) -> bool:
        return OPT01.is_of_long_steps(mine, other)

    @classmethod
    def calm(cls, case: Case) -> Calm:
        return Calm(cls.share * case.course.scale)

    @classmethod
    def running(cls, case: Case) -> Iterator[Finding]:
        course, often = case.course, int(cls.windows)
        if course.count < 10 * (often + 1) or not course.is_finite:
            return
        enough = cls.share * abs(course.start)
        if mean(course.recent[-10:]) <= course.lowest + enough:  # and a mean is no less than that
            return
        losses = course.losses
        means = losses[len(losses) % 10 :].reshape(-1, 10).sum(axis=1) / 10
        least, late = float(means[:-often].min()), means[-often:]
        if late.min() > max(cls.rise * least, least + enough) and not case.is_surrogate:
            yield cls.found(
                f"the run diverges: the loss was {least:.3g} and is {late[-1]:.3g}",
                None,
                why=f"it has been above {cls.rise:g}x its least for {10 * often} steps",
                numbers={"least": least, "now": float(late[-1])},
            )


class GEN02(Sign):
    """The run is worse than a model that is as simple as can be, and nothing that was tried
    explains it.

    Simple are the best constant output, and a linear map of the inputs (whole numbers as yes and
    no) in place of the network, trained by Adam through the same loss on most of the first
    batches; it is compared with the network on the others. One batch is learnt by heart, so the
    gradient and the optimiser do work. Left are, where a linear map is better, what the network
    does with the inputs before it learns from them, or how it begins; where it is not, data of
    which the inputs say little.
    """

    id = "GEN02"
    title = "worse than a simple model"
    kind = Kind.HINT
    follows = True
    severity = Severity.WARN
    fix = "start from the linear map, and put to it one layer after the other"
    intended = "intended=('GEN02',)"
    source = "Karpathy's recipe (dumb baselines)"
    near = Threshold(NEAR, "loss / that of the best constant output above", "own")
    gap = Threshold(
        0.25,
        "or share of what a linear map learns that the network has not, above",
        "own: healthy 0.1",
    )
    above = Threshold(
        1.25,
        "or loss / that of a constant learnt in the same way above",
        "own: healthy below 1",
    )
    least = Threshold(
        0.1, "a linear map counts where it is below the constant by this share", "own"
    )

    @classmethod
    def is_outdone(cls, case: Case) -> bool:
        """Whether the simpler one is clearly better, and the run will not be as good as it soon."""
        it = case.beside
        if it is None:
            return False
        less = it.gap > cls.gap and it.learnt > cls.least
        worse = it.network > cls.above * it.constant > 0
        best = it.linear if less else it.constant
        return (less or worse) and case.course.to_come < it.network - best

    @classmethod
    def running(cls, case: Case) -> Iterator[Finding]:
        course = case.course
        if course.symptom and cls.is_outdone(case):
            it = case.beside
            assert it is not None
            yield cls.found(
                f"after {course.count} steps the loss is {it.network:.3g}; that of a linear map of "
                f"the inputs is {it.linear:.3g}",
                None,
                why=f"on examples that the map has not seen; a constant output: {it.constant:.3g}; "
                "other rates, scales and directions were tried, and do not help",
                numbers={"loss": it.network, "linear": it.linear, "constant": it.constant},
            )
        elif course.symptom and course.end > cls.near * course.baseline:
            yield cls.found(
                f"after {course.count} steps the loss is {course.end:.4g}; that of a constant "
                f"output is {course.baseline:.4g}",
                None,
                why="other rates, scales and directions were tried, and do not help",
                fix="a linear map of the inputs is no better, or cannot be made: do the inputs say "
                "what is asked?",
                numbers={"loss": course.end, "constant": course.baseline},
            )
