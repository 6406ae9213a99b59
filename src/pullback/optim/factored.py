"""Adafactor: the second moments of a matrix from those of its rows and of its columns."""

from __future__ import annotations

from typing import Any, NamedTuple

from pullback.functions.elementwise import maximum, minimum, rsqrt, sqrt
from pullback.functions.reductions import mean
from pullback.ir.array import Array
from pullback.ir.types import float64, int64
from pullback.ops.operators import cast, constant, lift
from pullback.ops.weak import Weak
from pullback.optim.decay import decayed
from pullback.optim.hyperparameters import (
    Hyperparameter,
    number,
    present,
    require_positive,
    require_rate,
    require_weights,
)
from pullback.optim.optimizer import Optimizer, optimizer
from pullback.transforms.tree import Tree, flatten, map_leaves, unflatten


class AdafactorState(NamedTuple):
    """The steps taken, and the mean squares along rows and along columns.

    Where an array has fewer than two axes, `rows` are its mean squares, and `columns` are empty.
    """

    step: Array
    rows: Tree
    columns: Tree


def adafactor(
    lr: Hyperparameter = 1e-2,
    decay: float | Array = 0.8,
    eps: float | Array = 1e-30,
    least: float | Array = 1e-3,
    threshold: float | Array = 1.0,
    weight_decay: float | Array = 0.0,
) -> Optimizer:
    """Adafactor (Shazeer & Stern 2018, algorithms 4 and 5), which keeps n + m numbers of n × m.

        x ← x - α u / max(1, RMS(u) / d),   α = max(ε₂, RMS(x)) · min(lr, 1 / √t),   u = g / √v

    with v = (row means · column means) / (mean) of running means of g² + ε₁ whose decay is
    1 - t^-`decay`; `eps` is ε₁, `least` ε₂, `threshold` d. The last two axes are rows and columns.
    `weight_decay` is decoupled: x ← x - rate · λ x with rate = min(lr, 1 / √t).

    Raises `ArgumentError` unless the numbers are positive and λ ≥ 0.
    """
    require_rate(lr)
    require_positive(decay=decay, eps=eps, least=least, threshold=threshold)
    require_weights(weight_decay=weight_decay)

    def init(params: Tree) -> AdafactorState:
        rows = map_leaves(lambda x: _row_means(lift(x)) * 0, params)
        columns = map_leaves(lambda x: _column_means(lift(x)) * 0, params)
        return AdafactorState(constant(0, int64), rows, columns)

    def update(grads: Tree, state: AdafactorState, params: Tree) -> tuple[Tree, AdafactorState]:
        step = state.step + 1
        t = cast(step, float64)
        rate: Any = Weak(minimum(constant(number(lr, state.step), float64), rsqrt(t)), 0)
        kept: Any = 1 - Weak(t, 0) ** -number(decay)
        tiny, floor, most = number(eps), number(least), number(threshold)
        squares = map_leaves(lambda g: g * g + tiny, grads)

        def averaged(old: Array, new: Array) -> Array:
            mixed: Array = old * kept + new * (1 - kept)
            return mixed

        rows = map_leaves(averaged, state.rows, map_leaves(_row_means, squares))
        columns = map_leaves(averaged, state.columns, map_leaves(_column_means, squares))

        def change(g: Array, x: Array, r: Array, c: Array) -> Array:
            u = g * rsqrt(_moments(r, c))
            u = u / maximum(_rms(u) / most, 1.0)
            move: Array = u * (maximum(_rms(x), floor) * -rate)
            return move

        leaves, structure = flatten(grads)
        others = (flatten(tree)[0] for tree in (params, rows, columns))
        steps = unflatten(structure, [change(*row) for row in zip(leaves, *others, strict=True)])
        if present(weight_decay):
            steps = decayed(steps, params, -(rate * number(weight_decay)))
        return steps, AdafactorState(step, rows, columns)

    return optimizer("adafactor", init, update)


def _row_means(x: Array) -> Array:
    return mean(x, axis=-1, keepdims=True) if x.ndim > 1 else x


def _column_means(x: Array) -> Array:
    """Empty where there are no columns: a state has the structure of the parameters."""
    return mean(x, axis=-2, keepdims=True) if x.ndim > 1 else x.reshape((-1,))[:0]


def _moments(rows: Array, columns: Array) -> Array:
    """The matrix of rank one with these means of rows and of columns."""
    return rows * (columns / mean(rows, axis=-2, keepdims=True)) if rows.ndim > 1 else rows


def _rms(x: Array) -> Array:
    return sqrt(mean(x * x))
