"""The loss of the best constant output: what a network that ignores its inputs comes to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pullback.inspect.answers import loss_of
from pullback.inspect.probe import Probe
from pullback.inspect.rules.objective import is_error
from pullback.ir.array import Array, numbers_of
from pullback.ir.types import Numbers, float64, is_float, is_integer
from pullback.ops.pointwise import LogAddExp, Subtract
from pullback.transforms.tree import flatten

AGREES = 0.05
"""A formula is the loss of the best constant output where both differ by no more than this share:
of a batch, in which the loss may look at some of the targets alone."""
FACTOR = 3.0
"""A loss is a mean of squares, or of sizes, where it is no more times as large or as small."""
SURE = 20.0
"""The logit of what is certain."""
SCALES = (1.0, *2.0 ** np.arange(-5.0, 5.25, 0.25))
"""What an output of classes may still be divided by before the loss reads it."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is known of a loss, so that the best constant output can be told from targets alone."""

    place: int
    """Where in a batch the targets are."""
    classes: int
    """Of a cross-entropy; 1 for one of yes and no; 0 for a squared error."""
    scale: float = 1.0
    """What the loss makes of a mean square of 1."""

    @classmethod
    def of(cls, probe: Probe, loss: float | None = None) -> Baseline | None:
        """None for a loss that is none of these, or that weighs, smooths or leaves out some of the

        targets; `loss` is without what is added to it.
        """
        own = probe.loss if loss is None else loss
        known, out = next(_found(probe, own), (None, None))
        return None if known is None else known._held_to(probe, out)

    def _held_to(self, probe: Probe, out: Array | None) -> Baseline | None:
        """Itself, if the loss of that constant output is what is said; an error with its scale."""
        order = [x for x in probe.replay.graph.inputs if x in probe.replay.data]
        targets = probe.numbers(order[self.place])
        z = None if out is None or probe.draws_beyond else self._constant(targets, out.shape)
        if z is None or out is None:
            return self
        said, scales = self._exact(targets), SCALES if self.classes else SCALES[:1]
        known = [loss_of(probe, out, t * z) for t in scales]
        least = min(x for x in [*known, math.inf] if not math.isnan(x))
        if not math.isfinite(least) or not said > 0:
            return self
        beside = loss_of(probe, out, self._right(targets, out.shape))  # what else is added to it
        found = [least - x for x in (beside, 0.0)]
        if self.classes:
            return self if any(abs(x - said) <= AGREES * said for x in found) else None
        fits = [x / said * self.scale for x in found]
        return next((replace(self, scale=x) for x in fits if 1 / FACTOR < x < FACTOR), None)

    def _right(self, targets: Numbers, shape: tuple[int, ...]) -> Numbers:
        """An output that gives the targets."""
        k = self.classes
        if k > 1 and not is_float(targets.dtype):
            targets = np.eye(k)[targets.reshape(shape[:-1]).astype(np.int64)]
        wide = targets.astype(float64).reshape(shape)
        return SURE * (2 * wide - 1) if k else wide

    def _exact(self, targets: Numbers) -> float:
        """The loss of these targets alone."""
        if self.classes > 1:
            return self._entropy(targets) - self._bias(targets)
        rows = targets.reshape(len(targets), -1).astype(float64)
        return self.loss([[*[rows] * (self.place + 1)]])

    def _constant(self, targets: Numbers, shape: tuple[int, ...]) -> Numbers | None:
        """The best constant output of this shape; None where it does not fit the targets."""
        k = self.classes
        if k > 1:
            many = math.prod(shape) == targets.size * (1 if is_float(targets.dtype) else k)
            z = np.log(self._shares(targets) + 1e-9)
            return np.broadcast_to(z, shape) if many else None
        if math.prod(shape) != targets.size:
            return None
        rows = targets.reshape(shape).astype(float64).mean(axis=0, keepdims=True)
        if k:
            rows = np.log(rows + 1e-9) - np.log(1 - rows + 1e-9)
        return np.broadcast_to(rows, shape)

    def loss(self, batches: Sequence[Any]) -> float:
        """Entropy of the labels, or variance of the targets; NaN where batches differ in form."""
        columns = [numbers_of(flatten(batch)[0][self.place]) for batch in batches]
        if len({c.shape[1:] for c in columns}) != 1:
            return math.nan
        targets = np.concatenate(columns)
        if self.classes > 1:
            return self._entropy(targets)
        rows = targets.reshape(len(targets), -1).astype(float64)
        if not self.classes:
            return self.scale * float(rows.var(axis=0).mean())
        p, q = (np.maximum(x.mean(axis=0), 1e-300) for x in (rows, 1 - rows))
        return float(-(p * np.log(p) + q * np.log(q)).mean()) or math.nan

    def _entropy(self, labels: Numbers) -> float:
        if not is_float(labels.dtype) and (labels.min() < 0 or labels.max() >= self.classes):
            return math.nan
        p = self._shares(labels)
        p = p[p > 0]
        return float(-(p * np.log(p)).sum()) + self._bias(labels)

    def _bias(self, labels: Numbers) -> float:
        """The entropy of a sample is too low by (K - 1)/2N (Miller and Madow)."""
        count = labels.size // self.classes if is_float(labels.dtype) else labels.size
        return (self.classes - 1) / (2 * count)

    def _shares(self, labels: Numbers) -> Numbers:
        k = self.classes
        if is_float(labels.dtype):
            shares: Numbers = labels.reshape(-1, k).astype(float64).mean(axis=0)
            return shares
        found: Numbers = np.bincount(labels.ravel(), minlength=k) / labels.size
        return found


def _found(probe: Probe, loss: float) -> Iterator[tuple[Baseline, Array | None]]:
    """What the loss looks like, and where a constant is to be put in to see whether it is so."""
    order = [x for x in probe.replay.graph.inputs if x in probe.replay.data]
    place_of = {x: i for i, x in enumerate(order)}
    beside = [(place_of[x], probe.numbers(x)) for x in probe.integers_beside()]
    k, logits = probe.classes, probe.class_logits
    if k > 1:
        for place, x in beside:
            if (x.size and is_integer(x.dtype) and x.min() >= 0 and x.max() < k) or (
                x.ndim > 1 and x.shape[-1] == k and np.allclose(x.sum(axis=-1), 1, atol=1e-3)
            ):
                fits = logits is not None and logits.shape[-1] == k
                yield Baseline(place, k), logits if fits else None
        return
    for node in probe.nodes:
        if isinstance(node.op, Subtract) and is_error(probe, node):
            error = probe.numbers(node.outputs[0]).astype(float64)
            square = float((error**2).mean())
            sides = [probe.strip(x) for x in node.inputs if x not in probe.learnt]
            scale = loss / square if square else 0.0
            is_mean = 1 / FACTOR < scale < FACTOR  # or half of one
            if len(sides) == 1 and sides[0] in place_of and is_mean:
                told = next(x for x in node.inputs if x in probe.learnt)
                yield Baseline(place_of[sides[0]], 0, scale), told
    if any(isinstance(node.op, LogAddExp) for node in probe.nodes):
        for place, x in beside:
            if x.ndim and np.isin(x, (0, 1)).all():
                yield Baseline(place, 1), probe.output


def class_error(x: Numbers, y: Numbers) -> float:
    """Linear in x, on every fourth row: how often the class is wrong / the number, rounded, is."""
    x = np.concatenate([x - x.mean(axis=0), np.ones((len(x), 1))], axis=1)
    held = np.arange(len(x)) % 4 == 0
    a, targets = x[~held], np.eye(int(y.max()) + 1)[y[~held]]
    gram = a.T @ a
    gram += 1e-2 * np.trace(gram) / len(gram) * np.eye(len(gram))
    weights = np.linalg.solve(gram, a.T @ np.column_stack([targets, y[~held]]))
    told = x[held] @ weights
    as_class = float((told[:, :-1].argmax(axis=1) != y[held]).mean())
    as_number = float((np.round(told[:, -1]) != y[held]).mean())
    return as_class / as_number if as_number else math.inf
