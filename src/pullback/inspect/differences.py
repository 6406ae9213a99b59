"""Derivatives measured from values alone, and how far such a measurement can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pullback.ir.types import DType, Numbers, bfloat16, float16, float32, float64

Along = Callable[[float], list[Numbers]]
"""The values of a function at x + t·v, for a number t."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Steps, largest first, and the errors allowed; `unit` is the rounding error of a number."""

    steps: tuple[float, ...]
    rtol: float
    atol: float
    adjoint: float
    unit: float


_BY_DTYPE: dict[DType, Tolerance] = {
    float64: Tolerance((1e-3, 1e-4, 1e-5), 1e-6, 1e-9, 1e-9, 2.3e-16),
    float32: Tolerance((3e-2, 1e-2, 3e-3), 1e-2, 1e-4, 1e-4, 1.2e-7),
    float16: Tolerance((1e-1, 5e-2, 3e-2), 1e-1, 1e-2, 2e-2, 1e-3),
    bfloat16: Tolerance((3e-1, 2e-1, 1e-1), 2e-1, 5e-2, 1e-1, 8e-3),
}


def tolerance(
    dtypes: Iterable[DType], eps: float | None, atol: float | None, rtol: float | None
) -> Tolerance:
    """That of the coarsest element type; what is given replaces it."""
    base = max((_BY_DTYPE[each] for each in dtypes), key=lambda t: t.unit)
    return Tolerance(
        base.steps if eps is None else (eps, eps / 10, eps / 100),
        base.rtol if rtol is None else rtol,
        base.atol if atol is None else atol,
        base.adjoint if rtol is None else rtol,
        base.unit,
    )


@dataclass(frozen=True, slots=True)
class Comparison:
    """A derivative beside its measurement: where they differ, and where no derivative is."""

    rule: Numbers
    measured: Numbers
    differs: Numbers
    rough: Numbers

    @property
    def wrong(self) -> Numbers:
        return self.differs & ~self.rough

    @property
    def undefined(self) -> Numbers:
        return self.differs & self.rough


def compare(rules: Sequence[Numbers], along: Along, allowed: Tolerance) -> list[Comparison]:
    """Each derivative against central differences with Richardson extrapolation.

    An element agrees if it does for one of the steps: a kink or a strong curvature nearby spoils
    the long steps, rounding the short ones. It is rough where, as the step shrinks, the one-sided
    slopes do not approach each other or the measurement does not settle.
    """
    with np.errstate(all="ignore"):
        center = [_wide(y) for y in along(0.0)]
        sides = [(step, _sides(along, step)) for step in allowed.steps]
        return [
            _compare(
                _wide(rule), center[i], [(h, [y[i] for y in side]) for h, side in sides], allowed
            )
            for i, rule in enumerate(rules)
        ]


def _sides(along: Along, step: float) -> list[list[Numbers]]:
    """The values at −h, −h/2, h/2 and h."""
    return [[_wide(y) for y in along(t)] for t in (-step, -step / 2, step / 2, step)]


def _compare(
    rule: Numbers,
    center: Numbers,
    sides: Sequence[tuple[float, list[Numbers]]],
    allowed: Tolerance,
) -> Comparison:
    size = np.max(np.abs(center), initial=0.0)
    slopes, bends, noises = [], [], []
    best = np.full(rule.shape, np.inf)
    measured = np.full(rule.shape, np.nan)
    agrees = np.zeros(rule.shape, bool)
    for h, (far_left, left, right, far_right) in sides:
        slope = (4 * (right - left) / h - (far_right - far_left) / (2 * h)) / 3
        noise = 50 * allowed.unit * size / h
        scale = np.maximum(np.abs(slope), 1e-2 * np.max(np.abs(slope), initial=0.0))
        error = np.abs(rule - slope)
        agrees |= error <= allowed.atol + allowed.rtol * scale + noise
        measured = np.where((error < best) | np.isnan(measured), slope, measured)
        best = np.fmin(best, error)
        slopes.append(slope)
        bends.append(np.abs(far_right - 2 * center + far_left) / h)
        noises.append(noise)
    kinked = bends[-1] > 0.3 * bends[0] + 2 * noises[-1]
    restless = np.abs(slopes[-1] - slopes[-2]) > 2 * noises[-1] + 0.01 * np.abs(slopes[-2])
    broken = ~np.isfinite(slopes[-1]) | ~np.isfinite(center)
    return Comparison(rule, measured, ~agrees, kinked | restless | broken)


def _wide(x: Numbers) -> Numbers:
    return np.asarray(x, np.float64)
