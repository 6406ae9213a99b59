"""`DAT`: the order in which batches come, and whether they come twice."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pullback.inspect.case import Case
from pullback.inspect.course import Calm
from pullback.inspect.findings import Finding, Kind, Severity, Threshold
from pullback.inspect.heldout import HeldOut
from pullback.inspect.pairing import collapsed, rearranged
from pullback.inspect.rules.running import Sign
from pullback.inspect.seen import Seen
from pullback.inspect.trials import LEAST
from pullback.ir.array import numbers_of
from pullback.ir.types import Numbers, is_integer
from pullback.transforms.tree import flatten


class DAT02(Sign):
    """Batches are not shuffled: neighbouring examples are alike.

    Where examples are in a random order, the number m of equal neighbours among n labels has the
    mean (n - 1) q and the variance (n - 1) q (1 - q), with q = Σ p_c². Reported is z, the distance
    from the mean in standard deviations. An order by anything else (the target, a user, the time)
    shows in the means of the batches: they differ by more than chance has it, and F, the variance
    of the means times the size of a batch / the variance within the batches, is not about 1. Such
    an order is told where the same examples, mixed, were learnt better on a copy.
    """

    id = "DAT02"
    is_early = True
    title = "examples that are not shuffled"
    kind = Kind.MEASURE
    certain = (Severity.WARN,)
    severity = Severity.WARN
    fix = "shuffle in each epoch: pb.train.DataLoader(..., shuffle=True)"
    intended = "intended=('DAT02',), where the order is meant (sequences, a curriculum)"
    source = "own calibration: shuffled |z| < 2, sorted 46 to 95, blocks of five 38 to 77"
    far = Threshold(8.0, "z above", "own calibration")
    least = Threshold(64, "labels, at least", "own")
    spread = Threshold(5.0, "or, of a column of the inputs or targets: F above", "own")
    mixed = Threshold(0.75, "and loss of mixed examples / in their order, at the end, below", "own")
    gain = Threshold(
        0.1, "and, without a symptom, lower by this share of the loss at the start", "own"
    )

    @classmethod
    def explains(cls, mine: Finding, other: Finding) -> bool:
        """What the first batch makes of the data, and what follows from a change of them."""
        return other.id in ("DAT01", "OBJ04", "OPT01", "OPT03") or bool(other.numbers.get("later"))

    @classmethod
    def unmixed(cls, case: Case) -> Iterator[Finding]:
        """Whether the batches differ, and the run is better where they do not."""
        if case.course.count < LEAST or not case.spread > cls.spread:
            return
        own, mixed = case.clinic.ordered
        start = case.clinic.own.start
        # the first batch, of a kind of its own, may have a loss of its own
        usual = min(abs(start), case.course.baseline)
        knows_little = case.course.end > cls.gain * usual
        enough = 0.0 if case.symptom else cls.gain * (usual if knows_little else abs(start))
        if mixed < cls.mixed * own and own - mixed > enough:
            yield cls.found(
                f"the examples are not shuffled: the batches differ {case.spread:.0f} times as much"
                " as by chance",
                None,
                why=f"three rounds of the first {len(case.batches)} batches: loss {start:.3g} -> "
                f"{own:.3g}; of the same examples, mixed: -> {mixed:.3g}",
                numbers={"F": case.spread, "own": own, "mixed": mixed},
            )

    @classmethod
    def running(cls, case: Case) -> Iterator[Finding]:
        labels = _labels(case)
        if labels is None or labels.size < cls.least:
            return
        _, counts = np.unique(labels, return_counts=True)
        q = float(((counts / labels.size) ** 2).sum())
        if q >= 1:
            return
        n = labels.size - 1
        m = int((labels[1:] == labels[:-1]).sum())
        z = (m - n * q) / (n * q * (1 - q)) ** 0.5
        if z > cls.far:
            yield cls.found(
                f"the examples are not shuffled: {m} of {n} neighbours have the same label",
                None,
                why=f"by chance there would be {n * q:.0f}: z = {z:.0f}; each batch teaches one "
                "class and unlearns the others",
                numbers={"z": z, "labels": labels.size},
            )


class DAT03(Sign):
    """The targets do not follow from the inputs, or the network does not look at the inputs.

    The network is trained, on a copy, on three quarters of the first examples: it learns these by
    heart, so network, loss and optimiser do work, and of the others it knows no more than a
    constant output does. Or: all targets are the same; the output is the same for every input, or
    the inputs get lost behind a mask on the way; or the loss is lower for an output that says
    nothing than for one that gives the targets: it lays them beside the outputs of others.
    """

    id = "DAT03"
    is_early = True
    title = "targets that do not follow from the inputs"
    kind = Kind.MEASURE
    certain = (Severity.FAIL,)
    severity = Severity.WARN
    fix = "look at pairs of inputs and targets: the join, the shuffling of both together"
    intended = "intended=('DAT03',)"
    source = "TheDeepChecker, Karpathy's recipe"
    slow = Threshold(0.9, "it is tried where the loss / that of a constant output is above", "own")
    learnt = Threshold(0.93, "examples trained on: loss / that of a constant output below", "own")
    carried = Threshold(0.97, "others: least loss / that of a constant output above", "own")
    gap = Threshold(0.05, "the difference of these two above", "own")
    heart = Threshold(0.1, "or in a run with a symptom: one batch falls by at least", "own")
    least = Threshold(512, "targets that are all the same, at least", "own")
    same = Threshold(1e-6, "largest difference of outputs / largest output, at most", "own")

    @classmethod
    def find(cls, seen: Seen) -> Iterator[Finding]:
        """Before the first step: targets of others, and inputs that get lost on the way."""
        for it in seen.answers:
            if it.is_class and seen.probe.classes > 1 and not it.is_reward and it.prefers_none:
                node = rearranged(seen.part.probe, it.targets)
                yield cls.found(
                    f"the loss is {it.right:.3g} for outputs that give the targets, "
                    f"{it.nothing:.3g} for one that says nothing",
                    node.site,
                    severity=Severity.FAIL,
                    why="it was asked of outputs made by hand: an output is laid beside the target "
                    "of another sample or place",
                    fix="bring both into one order before they are laid beside each other",
                    numbers={"right": it.right, "nothing": it.nothing},
                )
                return
        lost = collapsed(seen.probe)
        if lost is not None:
            yield cls.found(
                f"{lost.inputs} different inputs give {lost.outputs} different outputs: they are "
                f"lost in {lost.node.op.name}",
                lost.node.site,
                severity=Severity.WARN if seen.symptom else Severity.INFO,
                why="nothing of most samples reaches the output: a mask that is turned round?",
                fix="look at what the other operand is: a mask is true where a value is to stay",
                numbers={"inputs": lost.inputs, "outputs": lost.outputs},
            )

    @classmethod
    def running(cls, case: Case) -> Iterator[Finding]:
        """Whether the targets of the first batches are one."""
        if case.job is None or len(case.batches) < 8:
            return
        probe = case.first.probe
        order = [x for x in probe.replay.graph.inputs if x in probe.replay.data]
        beside = [i for i, x in enumerate(order) if x in set(probe.integers_beside())]
        for i in beside:
            columns = [numbers_of(flatten(each)[0][i]) for each in case.batches]
            if len({x.shape[1:] for x in columns}) != 1 or not columns[0].ndim:
                continue
            every = np.concatenate(columns).astype(np.float64)
            is_mask = len(beside) > 1 and np.isin(every, (0, 1)).all()
            if every.size >= cls.least and not is_mask and not np.ptp(every, axis=0).any():
                yield cls.found(
                    f"the targets {probe.replay.names[order[i]]} are all the same: "
                    f"{every.ravel()[0]:g}",
                    None,
                    severity=Severity.FAIL,
                    why=f"so it is for {len(every)} examples: a constant output is all there is "
                    "to learn",
                    fix="look at what was done to the targets: a division of whole numbers, a join",
                    numbers={"targets": int(every.size)},
                )

    @classmethod
    def calm(cls, case: Case) -> Calm:
        """Until it is worth trying; what was tried says the same again."""
        course, bar = case.course, cls.slow * case.course.baseline
        if case.clinic is None or case.clinic.has_held_out or math.isnan(bar):
            return Calm()
        return course.below(min(bar, bar / 2) if course.early > bar else bar)

    @classmethod
    def is_worth_trying(cls, case: Case) -> bool:
        """Whether the run knows little yet, or knew little while all examples were new."""
        course, bar = case.course, cls.slow * case.course.baseline
        if course.count < LEAST or math.isnan(bar):
            return False
        slow = course.end > bar or (course.early > bar and course.end > bar / 2)
        return bool(slow) and not _all_alike(case.marks)

    @classmethod
    def untaught(cls, case: Case, tried: HeldOut | None) -> Iterator[Finding]:
        """Where what is learnt by heart says nothing of other examples."""
        bar = case.course.baseline
        if tried is None or not tried.is_finite or not tried.best > cls.carried * tried.constant:
            return
        one = case.clinic.by_heart.fall >= cls.heart and bool(case.symptom)
        if one or (tried.end < cls.learnt * bar and tried.best - tried.end > cls.gap * bar):
            yield cls.found(
                "what is learnt of some examples says nothing of others",
                None,
                why=f"{tried}; that of a constant output is {bar:.3g}",
                numbers={"trained": tried.end, "others": tried.best, "constant": bar},
            )

    @classmethod
    def unheard(cls, case: Case) -> Iterator[Finding]:
        """Where the output does not depend on the inputs."""
        if case.present is None:
            return
        probe = case.present.probe
        if probe.output is None or probe.batch < 2:
            return
        out = probe.numbers(probe.output).astype(np.float64)
        apart = float((out.max(axis=0) - out.min(axis=0)).max())
        if apart <= cls.same * float(np.abs(out).max()) and case.inputs_differ(probe):
            yield cls.found(
                "the output is the same for every input",
                None,
                severity=Severity.WARN,
                why=case.symptom,
                fix="look where the inputs are lost: dead or saturated layers, weights near 0",
                numbers={"difference": apart},
            )


class DAT05(Sign):
    """A batch comes twice within an epoch, or a small one comes in every step.

    Batches are compared by their content. An epoch is known by its batches all being different: no
    length of an epoch fits what came. Workers that draw with the same seed do so. One batch that
    comes in every step may be all there is; it is a warning where it is so small that what is
    learnt of three quarters of it does not hold for the rest; so is one whose examples come in
    another order each time.
    """

    id = "DAT05"
    is_early = True
    title = "the same batch twice in an epoch, or in every step"
    severity = Severity.WARN
    fix = "another seed for each worker; draw each example once in an epoch"
    intended = "intended=('DAT05',), where examples are drawn with replacement"
    source = "Stack Overflow 67180955 (TrainCheck)"
    small = Threshold(512, "examples of a batch that comes in every step, at most", "own")
    factor = Threshold(2.0, "loss of examples held out / of those trained on above", "own")
    share = Threshold(0.1, "and above it by this share of the loss at the start", "own")

    @classmethod
    def running(cls, case: Case) -> Iterator[Finding]:
        marks = case.marks
        if len(marks) < 4 or len(set(marks)) in (1, len(marks)) or _is_in_epochs(marks):
            return
        first = next(i for i, x in enumerate(marks) if x in marks[:i])
        yield cls.found(
            f"batch {first + 1} is batch {marks.index(marks[first]) + 1} again",
            None,
            why=f"of the first {len(marks)} batches {len(set(marks))} are different",
            numbers={"batches": len(marks), "different": len(set(marks))},
        )

    @classmethod
    def is_worth_trying(cls, case: Case) -> bool:
        """Whether one batch of a few examples comes again and again."""
        if case.course.count < LEAST or not case.batches:
            return False
        if not (_all_alike(case.marks) or case.same_examples):
            return False
        return len(flatten(case.batches[0])[0][0]) <= cls.small

    @classmethod
    def too_few(cls, case: Case, tried: HeldOut | None) -> Iterator[Finding]:
        """Where what is learnt of a part of the batch does not hold for the rest."""
        if tried is None or not tried.is_finite:
            return
        late, own = tried.others[-1], tried.end
        if late > cls.factor * own and late - own > cls.share * abs(tried.others[0]):
            yield cls.found(
                f"the same {len(flatten(case.batches[0])[0][0])} examples in each of "
                f"{case.course.count} steps",
                None,
                why=f"trained on three quarters of it: {tried}",
                fix="make the iterator once, before the loop, and take the next batch in each step",
                numbers={"trained": own, "others": late},
            )


def _all_alike(marks: Sequence[str]) -> bool:
    return len(marks) > 4 and len(set(marks)) == 1


def _is_in_epochs(marks: Sequence[str]) -> bool:
    """Whether they fall into epochs of some length with the same batches, each once."""
    for length in range(2, len(marks)):
        epochs = [marks[i : i + length] for i in range(0, len(marks), length)]
        known = set(epochs[0])
        if len(known) == length and all(
            len(set(each)) == len(each) and known.issuperset(each) for each in epochs
        ):
            return True
    return False


def _labels(case: Case) -> Numbers | None:
    """The class of each example of the first batches, in order; None where they are one batch."""
    columns = [_column(batch) for batch in case.batches]
    known = [x for x in columns if x is not None]
    if len(columns) < 2 or len(known) < len(columns):
        return None
    if all(np.array_equal(known[0], x) for x in known[1:]):  # one batch, again and again
        return None
    return np.concatenate(known)


def _column(batch: Any) -> Numbers | None:
    """The last array of a batch that has a class for each example."""
    arrays = [numbers_of(x) for x in flatten(batch)[0]]
    for x in reversed(arrays):
        if x.ndim == 1 and x.size > 1 and is_integer(x.dtype):
            return x
        if x.ndim == 2 and 1 < x.shape[1] <= 1000 and _is_one_hot(x):
            found: Numbers = x.argmax(axis=1)
            return found
    return None


def _is_one_hot(x: Numbers) -> bool:
    return bool(np.isin(x, (0, 1)).all() and (x.sum(axis=1) == 1).all())
