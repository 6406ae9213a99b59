"""The loss of the best constant output: what a network that ignores its inputs comes to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback.inspect.probe import Probe
from pullback.inspect.rules.objective import is_error
from pullback.ir.array import numbers_of
from pullback.ir.types import Numbers, float64, is_float, is_integer
from pullback.ops.pointwise import LogAddExp, Subtract
from pullback.transforms.tree import flatten


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
        """None for a loss that is none of these; `loss` is without what is added to it."""
        return next(_found(probe, probe.loss if loss is None else loss), None)

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
        p = rows.mean(axis=0)
        p = p[(p > 0) & (p < 1)]
        return float(-(p * np.log(p) + (1 - p) * np.log(1 - p)).mean()) if p.size else math.nan

    def _entropy(self, labels: Numbers) -> float:
        k = self.classes
        if is_float(labels.dtype):
            shares = labels.reshape(-1, k).astype(float64).mean(axis=0)
            count = labels.size // k
        elif labels.min() < 0 or labels.max() >= k:
            return math.nan
        else:
            shares, count = np.bincount(labels.ravel(), minlength=k) / labels.size, labels.size
        p = shares[shares > 0]
        # Miller and Madow: the entropy of a sample is too low by (K - 1)/2N
        return float(-(p * np.log(p)).sum()) + (k - 1) / (2 * count)


def _found(probe: Probe, loss: float) -> Iterator[Baseline]:
    order = [x for x in probe.replay.graph.inputs if x in probe.replay.data]
    place_of = {x: i for i, x in enumerate(order)}
    beside = [(place_of[x], probe.numbers(x)) for x in probe.integers_beside()]
    k = probe.classes
    if k > 1:
        for place, x in beside:
            if (x.size and is_integer(x.dtype) and x.min() >= 0 and x.max() < k) or (
                x.ndim > 1 and x.shape[-1] == k and np.allclose(x.sum(axis=-1), 1, atol=1e-3)
            ):
                yield Baseline(place, k)
        return
    for node in probe.nodes:
        if isinstance(node.op, Subtract) and is_error(probe, node):
            error = probe.numbers(node.outputs[0]).astype(float64)
            square = float((error**2).mean())
            sides = [probe.strip(x) for x in node.inputs if x not in probe.learnt]
            scale = loss / square if square else 0.0
            is_mean = 1 / 3 < scale < 3  # or half of one
            if len(sides) == 1 and sides[0] in place_of and is_mean:
                yield Baseline(place_of[sides[0]], 0, scale)
    if any(isinstance(node.op, LogAddExp) for node in probe.nodes):
        for place, x in beside:
            if x.ndim and np.isin(x, (0, 1)).all():
                yield Baseline(place, 1)


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
