"""What there is to see of a run that a doctor has looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from pullback.errors import PullbackError
from pullback.inspect.case import Case
from pullback.inspect.course import Course
from pullback.inspect.flow import Flow, distinct
from pullback.inspect.paths import PathShares
from pullback.inspect.seeing.figures import Curves, Dots, Figure, HeatMap, Series
from pullback.inspect.seeing.trainings import UpdateBand
from pullback.inspect.seeing.views import View
from pullback.inspect.signals import SignalPlot
from pullback.ir.types import Numbers

POINTS = 400
"""Of a longer run each point of a curve is the mean of several steps."""


@dataclass(frozen=True, repr=False)
class LossCurve(View):
    """The loss of each step, that of the best constant output, and when alarms were told."""

    losses: Numbers
    constant: float
    alarms: tuple[tuple[int, str], ...]

    @property
    def figures(self) -> tuple[Figure, ...]:
        count = len(self.losses)
        gap = max(1, -(-count // POINTS))
        with np.errstate(all="ignore"):
            means = [float(self.losses[i : i + gap].mean()) for i in range(0, count, gap)]
        steps = tuple(range(1, count + 1, gap))
        levels = (("constant output", self.constant),) if np.isfinite(self.constant) else ()
        log = bool(np.nanmin(self.losses) > 0)
        series = (Series("loss of the batch", "o", tuple(means)),)
        return (Curves("loss", steps, series, levels, self.alarms, "loss", log),)


@dataclass(frozen=True, repr=False)
class RunMap(View):
    """The norm of each gradient at the steps that were noted: the first, the last, some between."""

    names: tuple[str, ...]
    steps: tuple[int, ...]
    norms: Numbers
    """float64[parameters, steps]."""

    @property
    def figures(self) -> tuple[Figure, ...]:
        columns, axes = tuple(map(str, self.steps)), ("parameter", "step")
        return (HeatMap("gradients", self.names, columns, self.norms, "L2 norm", axes),)


@dataclass(frozen=True, repr=False)
class IdleUnits(View):
    """Of each layer the share of dead units and of saturated elements, at the beginning and now."""

    names: tuple[str, ...]
    dead: tuple[Series, ...]
    flat: tuple[Series, ...]

    @property
    def figures(self) -> tuple[Figure, ...]:
        told = (("dead units", self.dead), ("saturated elements", self.flat))
        return tuple(
            Dots(title, self.names, series, "share of the layer", log=False, band=(0.0, 0.5))
            for title, series in told
            if any(x for each in series for x in each.values)
        )


def views_of(case: Case, alarms: Mapping[int, str]) -> tuple[View, ...]:
    """Loss, gradients, updates, idle units, signals, shares of paths: what can be had."""
    found: list[View] = []
    makers: tuple[Callable[[], Iterator[View]], ...] = (
        lambda: _of_course(case.course, alarms),
        lambda: _of_layers(case),
        lambda: _of_signals(case),
        lambda: _of_paths(case),
    )
    for make in makers:
        try:
            found += make()
        except PullbackError:  # a loss that cannot be looked at in this way has none
            continue
    return tuple(found)


def _of_course(course: Course, alarms: Mapping[int, str]) -> Iterator[View]:
    if course.count:
        yield LossCurve(course.losses, course.baseline, tuple(sorted(alarms.items())))
    steps, table = course.noted()
    if len(steps) and table.shape[2]:
        yield RunMap(course.names, steps, table[:, 0].T)
        yield UpdateBand(course.names, table[:, 1].T)


def _of_layers(case: Case) -> Iterator[View]:
    if case.job is None:
        return
    first = case.first.probe.activations
    seen = {"first": first, "now": case.present.probe.activations if case.present else []}
    series = [(name, mark, x) for (name, x), mark in zip(seen.items(), "ox", strict=True)]
    alike = [x for x in series if len(x[2]) == len(first) > 0]
    if alike:
        yield IdleUnits(
            distinct([x.layer.name for x in first]),
            tuple([Series(n, mark, tuple([a.dead for a in x])) for n, mark, x in alike]),
            tuple([Series(n, mark, tuple([a.flat for a in x])) for n, mark, x in alike]),
        )


def _of_signals(case: Case) -> Iterator[View]:
    if case.job is not None and (signals := case.first.signals):
        yield SignalPlot(tuple(signals))


def _of_paths(case: Case) -> Iterator[View]:
    if case.job is None:
        return
    shares = PathShares(tuple(Flow(case.first.probe.replay).merges))
    if shares.residual:
        yield PathShares(shares.residual)
