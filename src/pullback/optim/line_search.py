"""A line search for the strong Wolfe conditions, one loop that compiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pullback.functions.elementwise import abs, isfinite, sign, sqrt, where
from pullback.ir.array import Array
from pullback.ir.types import bool_, int64
from pullback.ops.operators import cast, constant
from pullback.transforms.control import while_loop
from pullback.transforms.tree import map_leaves

SUFFICIENT, CURVATURE = 1e-4, 0.9
"""c₁ and c₂ of Nocedal & Wright, Numerical Optimization, for quasi-Newton directions."""


class Point(NamedTuple):
    """A step length, and there the function and its slope along the direction."""

    length: Array
    value: Array
    slope: Array


class _Search(NamedTuple):
    steps: Array
    low: Point  # the best so far that decreases enough
    high: Point  # the other end of the bracket
    trial: Array
    bracketed: Array
    done: Array


def strong_wolfe(phi: Callable[[Array], Point], begin: Point, first: Array, steps: int) -> Array:
    """A step length t with φ(t) ≤ φ(0) + c₁ t φ'(0) and |φ'(t)| ≤ c₂ |φ'(0)|.

    Algorithms 3.5 and 3.6 of Nocedal & Wright: lengths double until they enclose a solution, then
    the interval shrinks by the cubic through its ends, or by half where that is close to one of
    them. After `steps` evaluations the best length that decreases enough is given; 0 without one.
    """

    def going(state: _Search) -> Array:
        return (state.steps < steps) & ~state.done

    def step(state: _Search) -> _Search:
        low, high, bracketed = state.low, state.high, state.bracketed
        t = phi(state.trial)
        enough = t.value <= begin.value + begin.slope * t.length * SUFFICIENT
        over = ~(enough & (t.value < low.value)) | ~isfinite(t.value)
        done = ~over & (abs(t.slope) <= abs(begin.slope) * CURVATURE)
        # The slope leads back to low: the interval between the two holds a solution.
        turns = where(bracketed, t.slope * (high.length - low.length), t.slope) >= 0
        new_high = _chosen(over, t, _chosen(turns, low, high))
        new_low = _chosen(over, low, t)
        closed = bracketed | over | turns
        trial = where(closed, _between(new_low, new_high), t.length * 2.0)
        return _Search(state.steps + 1, new_low, new_high, trial, closed, done)

    start = _Search(
        constant(0, int64), begin, begin, first, constant(False, bool_), constant(False, bool_)
    )
    result: _Search = while_loop(going, step, start)
    return result.low.length


def _between(low: Point, high: Point) -> Array:
    """The minimum of the cubic through both ends, kept a tenth of the interval inside it."""
    width = high.length - low.length
    safe = where(width == 0, 1.0, width)
    d1 = low.slope + high.slope - (high.value - low.value) * 3.0 / safe
    square = d1 * d1 - low.slope * high.slope
    root = sqrt(where(square > 0, square, 0.0)) * sign(width)
    bottom = high.slope - low.slope + root * 2.0
    part: Any = 1.0 - (high.slope + root - d1) / where(bottom == 0, 1.0, bottom)
    inside = isfinite(part) & (part >= 0.1) & (part <= 0.9) & (bottom != 0) & (square >= 0)
    return low.length + width * where(inside, part, 0.5)


def _chosen(condition: Array, yes: Point, no: Point) -> Point:
    result: Point = map_leaves(lambda x, y: cast(where(condition, x, y), x.dtype), yes, no)
    return result
