"""`DAT`: the order in which batches come, and whether they come twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pullback.inspect.case import Case
from pullback.inspect.findings import Finding, Kind, Rule, Severity, Threshold
from pullback.inspect.rules.running import Sign
from pullback.ir.array import numbers_of
from pullback.ir.types import Numbers, is_integer
from pullback.transforms.tree import flatten

if TYPE_CHECKING:
    from pullback.inspect.clinic import Trial


class DAT02(Sign):
    """Batches are not shuffled: neighbouring examples have the same label too often.

    Where examples are in a random order, the number m of equal neighbours among n labels has the
    mean (n - 1) q and the variance (n - 1) q (1 - q), with q = Σ p_c². Reported is z, the distance
    from the mean in standard deviations.
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
    least = Threshold(256, "labels, at least", "own")

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


class DAT03(Rule):
    """The targets do not follow from the inputs, or the network does not look at the inputs.

    One batch is learnt by heart, so network, loss and optimiser do work; yet the run is no better
    than at its beginning, or than a constant output, on batches that come for the first time. Or:
    the output is the same for every input.
    """

    id = "DAT03"
    title = "targets that do not follow from the inputs"
    kind = Kind.MEASURE
    severity = Severity.WARN
    fix = "look at pairs of inputs and targets: the join, the shuffling of both together"
    intended = "intended=('DAT03',)"
    source = "TheDeepChecker, Karpathy's recipe"
    heart = Threshold(0.3, "one batch falls by at least", "own")
    least = Threshold(100, "steps of the run, at least", "own")
    same = Threshold(1e-6, "largest difference of outputs / largest output, at most", "own")

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
                why=case.course.symptom,
                fix="look where the inputs are lost: dead or saturated layers, weights near 0",
                numbers={"difference": apart},
            )

    @classmethod
    def unlearnt(cls, case: Case, heart: Trial) -> Iterator[Finding]:
        """Where one batch was learnt by heart, and the run has a symptom all the same."""
        long = case.course.count >= cls.least and not case.course.grief
        if heart.fall >= cls.heart and long and _differ(case.batches):
            yield cls.found(
                f"one batch is learnt by heart (loss {heart}), new ones are not",
                None,
                why=case.course.symptom,
                numbers={"start": heart.start, "end": heart.end},
            )


class DAT05(Sign):
    """A batch comes twice within an epoch.

    Batches are compared by their content. An epoch is known by its batches all being different: no
    length of an epoch fits what came. Workers that draw with the same seed do so.
    """

    id = "DAT05"
    is_early = True
    title = "the same batch twice in an epoch"
    severity = Severity.WARN
    fix = "another seed for each worker; draw each example once in an epoch"
    intended = "intended=('DAT05',), where examples are drawn with replacement"
    source = "Stack Overflow 67180955 (TrainCheck)"

    @classmethod
    def running(cls, case: Case) -> Iterator[Finding]:
        marks = [_mark(batch) for batch in case.batches]
        if len(marks) < 4 or len(set(marks)) in (1, len(marks)) or _is_in_epochs(marks):
            return
        first = next(i for i, x in enumerate(marks) if x in marks[:i])
        yield cls.found(
            f"batch {first + 1} is batch {marks.index(marks[first]) + 1} again",
            None,
            why=f"of the first {len(marks)} batches {len(set(marks))} are different",
            numbers={"batches": len(marks), "different": len(set(marks))},
        )


def _differ(batches: Sequence[Any]) -> bool:
    return len({_mark(x) for x in batches}) > 1


def _mark(batch: Any) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for x in flatten(batch)[0]:
        digest.update(np.ascontiguousarray(numbers_of(x)).tobytes())
    return digest.digest()


def _is_in_epochs(marks: Sequence[bytes]) -> bool:
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
