"""What a training looked like, from the `Metrics` of its steps: layer by step, layer by size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pullback._public import public
from pullback.errors import ArgumentError
from pullback.inspect.seeing.figures import Dots, Figure, HeatMap, Series
from pullback.inspect.seeing.views import View
from pullback.ir.types import Numbers, float64
from pullback.train.metrics import Metrics

BAND = (1e-4, 10**-0.5)
"""‖update‖/‖weight‖ of sound training (TheDeepChecker; 1e-3 is usual, Karpathy)."""
BINS = 24


@dataclass(frozen=True, repr=False)
class GradientMap(View):
    """The norm of each gradient at each step; what is not finite has cells of its own."""

    names: tuple[str, ...]
    norms: Numbers
    """float64[parameters, steps]."""

    @property
    def figures(self) -> tuple[Figure, ...]:
        steps = tuple(map(str, range(self.norms.shape[1])))
        axes = ("parameter", "step")
        return (HeatMap("gradients", self.names, steps, self.norms, "L2 norm", axes),)


@dataclass(frozen=True, repr=False)
class UpdateBand(View):
    """‖update‖/‖weight‖ of each parameter: the 5th, 50th and 95th percentile over the steps."""

    names: tuple[str, ...]
    ratios: Numbers
    """float64[parameters, steps]."""

    @property
    def figures(self) -> tuple[Figure, ...]:
        low, middle, high = [self._percentile(q) for q in (5, 50, 95)]
        series = (Series("5 %", "-", low), Series("50 %", "o", middle), Series("95 %", "+", high))
        told = "|update| / |weight|, by step"
        return (Dots("how far a step moves", self.names, series, told, band=BAND),)

    def _percentile(self, q: float) -> tuple[float, ...]:
        return tuple(float(np.percentile(row, q)) for row in self.ratios)


@dataclass(frozen=True, repr=False)
class GradientHistograms(View):
    """How often the gradient of each parameter had which norm; not finite ones stand apart."""

    names: tuple[str, ...]
    counts: Numbers
    """float64[parameters, bins + 1]: the last column counts what is not finite."""
    edges: Numbers
    """float64[bins + 1]."""

    @property
    def figures(self) -> tuple[Figure, ...]:
        columns = (*(f"{x:.1e}" for x in self.edges[:-1]), "not finite")
        title, axes = "histograms of the norms of gradients", ("parameter", "norm")
        return (HeatMap(title, self.names, columns, self.counts, "steps", axes, nothing=" "),)


@public
def gradient_map(metrics: Sequence[Metrics]) -> GradientMap:
    """The heat map parameter × step of the norms of gradients, from the metrics of each step.

    Raises `ArgumentError` without a step.

    >>> import pullback as pb
    >>> optimizer = pb.optim.sgd(0.1)
    >>> step = pb.train.train_step(lambda w, x: pb.mean((x @ w) ** 2), optimizer)
    >>> state, seen = pb.train.TrainState.create(pb.ones(3), optimizer), []
    >>> for _ in range(4):
    ...     state, metrics = step(state, pb.ones((2, 3)))
    ...     seen.append(metrics)
    >>> gradient_map(seen).norms.shape
    (1, 4)
    """
    names, table = _table(metrics, "norms")
    return GradientMap(names, table)


@public
def update_band(metrics: Sequence[Metrics]) -> UpdateBand:
    """‖update‖/‖weight‖ of each parameter, beside the band of sound training.

    Raises `ArgumentError` without a step.
    """
    names, table = _table(metrics, "ratios")
    return UpdateBand(names, table)


@public
def gradient_histograms(metrics: Sequence[Metrics]) -> GradientHistograms:
    """A histogram for each parameter of the norms of its gradient, over the steps.

    Raises `ArgumentError` without a step.
    """
    names, table = _table(metrics, "norms")
    finite = table[np.isfinite(table) & (table > 0)]
    low, high = (finite.min(), finite.max()) if finite.size else (1e-1, 1.0)
    edges = np.geomspace(low / 1.01, high * 1.01, BINS + 1)
    counts = np.zeros((len(names), BINS + 1))
    for i, row in enumerate(table):
        kept = np.maximum(row[np.isfinite(row)], edges[0])
        counts[i, :BINS] = np.histogram(kept, edges)[0]
        counts[i, BINS] = np.count_nonzero(~np.isfinite(row))
    return GradientHistograms(names, counts, edges)


def _table(metrics: Sequence[Metrics], what: str) -> tuple[tuple[str, ...], Numbers]:
    if not metrics:
        raise ArgumentError("there is no step to look at", hint="collect the metrics of each step")
    rows = [getattr(each, what).numpy().astype(float64) for each in metrics]
    return metrics[0].names.paths, np.stack(rows, axis=1)
