"""Learning rates that change with the step: functions of the number of steps taken before.

Each is evaluated inside the compiled step, in float64. `optimizer = sgd(cosine(0.1, 1000))`; any
function of a float64 scalar is a schedule too.
"""

from __future__ import annotations

import math
from typing import Any

from pullback.errors import ArgumentError
from pullback.functions.elementwise import cos, floor, maximum, minimum, where
from pullback.ir.array import Array
from pullback.ir.types import float64
from pullback.ops.operators import cast
from pullback.ops.operators import constant as scalar
from pullback.optim.hyperparameters import (
    Schedule,
    require_count,
    require_positive,
    require_weights,
)


def constant(value: float) -> Schedule:
    """`value` at every step."""
    require_weights(value=value)
    return lambda step: scalar(value, float64)


def linear(init: float, end: float, steps: int) -> Schedule:
    """A straight line from `init` to `end` in `steps` steps, then `end`."""
    require_weights(init=init, end=end)
    require_count(steps=steps)
    return lambda step: _between(init, end, _progress(step, 0, steps))


def cosine(init: float, steps: int, end: float = 0.0) -> Schedule:
    """Half a cosine from `init` down to `end` in `steps` steps, then `end` (SGDR, 2017)."""
    require_weights(init=init, end=end)
    require_count(steps=steps)
    return lambda step: _between(init, end, _half_cosine(_progress(step, 0, steps)))


def warmup_cosine(
    peak: float, warmup: int, steps: int, init: float = 0.0, end: float = 0.0
) -> Schedule:
    """A line from `init` to `peak` in `warmup` steps, then half a cosine to `end` at step `steps`.

    Raises `ArgumentError` unless 1 ≤ warmup < steps.
    """
    require_weights(peak=peak, init=init, end=end)
    require_count(warmup=warmup, steps=steps)
    if warmup >= steps:
        raise ArgumentError(f"warmup ends before the last step: {warmup} of {steps} steps")

    def rate(step: Any) -> Array:
        rising = _between(init, peak, _progress(step, 0, warmup))
        falling = _between(peak, end, _half_cosine(_progress(step, warmup, steps)))
        return where(_count(step) < warmup, rising, falling)

    return rate


def one_cycle(
    peak: float, steps: int, rise: float = 0.3, start: float = 25.0, end: float = 1e4
) -> Schedule:
    """Half cosines from peak / start up to `peak` and down to peak / (start · end) (Smith 2018).

    The peak is after the part `rise` of the steps; as torch's OneCycleLR, whose last step is
    `steps` - 1. Raises `ArgumentError` unless 0 < rise < 1 and the peak is between the ends.
    """
    require_positive(peak=peak, start=start, end=end)
    require_count(steps=steps)
    if not 0 < rise < 1:
        raise ArgumentError(f"rise lies in (0, 1), not {rise}")
    top, last = rise * steps - 1, steps - 1
    if not 0 < top < last:
        raise ArgumentError(f"{steps} steps are too few to rise for {rise} of them and to fall")

    def rate(step: Any) -> Array:
        up = _between(peak / start, peak, _half_cosine(_progress(step, 0, top)))
        down = _between(peak, peak / start / end, _half_cosine(_progress(step, top, last)))
        return where(_count(step) <= top, up, down)

    return rate


def step(init: float, every: int, factor: float = 0.1) -> Schedule:
    """`init`, multiplied by `factor` after each `every` steps."""
    require_weights(init=init, factor=factor)
    require_count(every=every)
    return lambda count: init * scalar(factor, float64) ** floor(_count(count) / every)


def exponential(init: float, factor: float, every: int = 1) -> Schedule:
    """`init` · factor^(step / every)."""
    require_weights(init=init)
    require_positive(factor=factor)
    require_count(every=every)
    return lambda count: init * scalar(factor, float64) ** (_count(count) / every)


def _count(step: Any) -> Array:
    return cast(step, float64) if isinstance(step, Array) else scalar(step, float64)


def _progress(step: Any, first: float, last: float) -> Array:
    """0 before the step `first`, 1 from the step `last` on, a line between."""
    return minimum(maximum((_count(step) - first) / (last - first), 0.0), 1.0)


def _between(init: float, end: float, part: Array) -> Array:
    return init + (end - init) * part


def _half_cosine(part: Array) -> Array:
    return (1.0 - cos(math.pi * part)) / 2.0
