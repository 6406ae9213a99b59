"""What only a run that goes on can show: rules that look at its course."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from pullback.inspect.case import Case
from pullback.inspect.course import FIRST
from pullback.inspect.findings import Finding, Kind, Rule, Severity, Threshold
from pullback.ir.array import Array
from pullback.ir.types import Numbers, is_integer
from pullback.transforms.tree import flatten


class Sign(Rule):
    """A rule that looks at a run."""

    @classmethod
    def running(cls, case: Case) -> Iterator[Finding]:
        raise NotImplementedError


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
    def running(cls, case: Case) -> Iterator[Finding]:
        norms, ratios = case.course.norms, case.course.ratios
        if len(ratios) < FIRST or norms.shape != ratios.shape:
            return
        moved = [bool(x.any()) or not y.any() for x, y in zip(ratios.T, norms.T, strict=True)]
        names = [name for name, x in zip(case.course.names, moved, strict=True) if not x]
        if not names:
            return
        every = len(names) == len(moved)
        listed = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
        yield cls.found(
            "no parameter moves: every update is 0"
            if every
            else f"{len(names)} of {len(moved)} parameters are never moved",
            None,
            why="they have a gradient, and the optimiser's update of them is exactly 0 in "
            f"{case.course.count} steps",
            fix="a learning rate above 0" if every else cls.fix,
            notes=(listed,),
            numbers={"parameters": names},
        )


class DAT02(Sign):
    """Batches are not shuffled: neighbouring examples have the same label too often.

    Where examples are in a random order, the number m of equal neighbours among n labels has the
    mean (n - 1) q and the variance (n - 1) q (1 - q), with q = Σ p_c². Reported is z, the distance
    from the mean in standard deviations.
    """

    id = "DAT02"
    title = "examples that are not shuffled"
    kind = Kind.MEASURE
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
    arrays = [_numbers(x) for x in flatten(batch)[0]]
    for x in reversed(arrays):
        if x.ndim == 1 and x.size > 1 and is_integer(x.dtype):
            return x
        if x.ndim == 2 and 1 < x.shape[1] <= 1000 and _is_one_hot(x):
            found: Numbers = x.argmax(axis=1)
            return found
    return None


def _is_one_hot(x: Numbers) -> bool:
    return bool(np.isin(x, (0, 1)).all() and (x.sum(axis=1) == 1).all())


def _numbers(x: Any) -> Numbers:
    found: Numbers = x.numpy() if isinstance(x, Array) else np.asarray(x)
    return found
