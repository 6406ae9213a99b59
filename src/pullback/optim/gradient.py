"""First-order optimisers as pure pairs (init, update), with the signatures of Optax.

    state = optimizer.init(params)
    updates, state = optimizer.update(grads, state, params)
    params = apply_updates(params, updates)

Parameters, gradients, updates and the parts of a state have one structure.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from pullback._public import public
from pullback.errors import ArgumentError, ShapeError
from pullback.functions.elementwise import pow, sqrt
from pullback.ir.array import Array
from pullback.ir.types import float64, int64
from pullback.ops.operators import cast, constant, lift, zeros
from pullback.transforms.tree import Tree, flatten_arrays, map_leaves, paths, require_same


class Optimizer(NamedTuple):
    """`init(params) → state` and `update(grads, state, params) → (updates, state)`, both pure."""

    init: Callable[[Tree], Any]
    update: Callable[[Tree, Any, Tree], tuple[Tree, Any]]


@public
def apply_updates(params: Tree, updates: Tree) -> Tree:
    """`params + updates`, each leaf in the element type of the parameter.

    Raises `StructureError` or `ShapeError` naming the first leaf that does not fit.
    """
    _require_fitting(params, updates, "updates")
    return map_leaves(lambda x, step: lift(x) + cast(lift(step), lift(x).dtype), params, updates)


class SGDState(NamedTuple):
    """The velocity of each parameter; None without momentum."""

    velocity: Tree


def sgd(lr: float, momentum: float = 0.0, nesterov: bool = False) -> Optimizer:
    """Gradient descent, with momentum:  v ← μ v + g,  x ← x - lr · v  (Nesterov: - lr (g + μ v)).

    Raises `ArgumentError` unless lr > 0 and 0 ≤ μ < 1, and for Nesterov without momentum.
    """
    _require_rate(lr)
    _require_decay(momentum=momentum)
    if nesterov and momentum == 0:
        raise ArgumentError("Nesterov's step needs momentum > 0")

    def init(params: Tree) -> SGDState:
        return SGDState(_zeros_like(params) if momentum else None)

    def update(grads: Tree, state: SGDState, params: Tree) -> tuple[Tree, SGDState]:
        _require_fitting(params, grads, "grads")
        if not momentum:
            return map_leaves(lambda g: lift(g) * -lr, grads), state
        velocity = map_leaves(lambda v, g: v * momentum + g, state.velocity, grads)
        ahead = map_leaves(lambda g, v: v * momentum + g, grads, velocity) if nesterov else velocity
        return map_leaves(lambda v: v * -lr, ahead), SGDState(velocity)

    return Optimizer(public(init, "sgd"), public(update, "sgd"))


class AdamState(NamedTuple):
    """The number of steps taken, and the running means of the gradient and of its square."""

    step: Array
    mean: Tree
    square: Tree


def adam(lr: float = 1e-3, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Optimizer:
    """Adam (Kingma & Ba 2015, algorithm 1):  x ← x - lr · m̂ / (√v̂ + ε).

    Raises `ArgumentError` unless lr > 0, ε > 0 and 0 ≤ β < 1.
    """
    _require_rate(lr)
    _require_decay(b1=b1, b2=b2)
    if not (math.isfinite(eps) and eps > 0):
        raise ArgumentError(f"eps is positive, not {eps}")

    def init(params: Tree) -> AdamState:
        return AdamState(constant(0, int64), _zeros_like(params), _zeros_like(params))

    def update(grads: Tree, state: AdamState, params: Tree) -> tuple[Tree, AdamState]:
        _require_fitting(params, grads, "grads")
        step = state.step + 1
        mean = map_leaves(lambda m, g: m * b1 + g * (1 - b1), state.mean, grads)
        square = map_leaves(lambda v, g: v * b2 + g * g * (1 - b2), state.square, grads)
        rest1, rest2 = (1 - _power(b, step) for b in (b1, b2))  # of the weights: m̂ = m / rest1

        def change(m: Array, v: Array) -> Array:
            scale = cast(rest2, v.dtype)
            return m * cast(-lr / rest1, m.dtype) / (sqrt(v / scale) + eps)

        return map_leaves(change, mean, square), AdamState(step, mean, square)

    return Optimizer(public(init, "adam"), public(update, "adam"))


# ---- shared ---------------------------------------------------------------------------------


def _power(base: float, exponent: Array) -> Array:
    """baseᵗ in float64: in float32 the base alone would be off by 6e-8."""
    return pow(constant(base, float64), exponent)


def _zeros_like(tree: Tree) -> Tree:
    return map_leaves(lambda x: zeros(lift(x).type), tree)


def _require_fitting(params: Tree, tree: Tree, what: str) -> None:
    expected, structure = flatten_arrays(params, "params")
    given, actual = flatten_arrays(tree, what)
    require_same(structure, actual, what)
    for i, (x, y) in enumerate(zip(expected, given, strict=True)):
        if x.shape != y.shape:
            path = paths(structure, what)[i]
            raise ShapeError(f"{path} is {y.type}, its parameter is {x.type}")


def _require_rate(lr: float) -> None:
    if not (math.isfinite(lr) and lr > 0):
        raise ArgumentError(f"a learning rate is positive and finite, not {lr}")


def _require_decay(**decays: float) -> None:
    for name, value in decays.items():
        if not 0 <= value < 1:
            raise ArgumentError(f"{name} lies in [0, 1), not {value}")
