"""Optimisers with a rate for each weight: `adam`, `adamw`, `rmsprop`, `adagrad`."""

from __future__ import annotations

from typing import Any, NamedTuple

from pullback._public import public
from pullback.functions.elementwise import maximum, sqrt
from pullback.ir.array import Array
from pullback.ir.types import int64
from pullback.ops.operators import constant
from pullback.ops.weak import Weak
from pullback.optim.decay import Mask, decayed, require_mask
from pullback.optim.hyperparameters import (
    Hyperparameter,
    following,
    number,
    present,
    require_decays,
    require_positive,
    require_rate,
    require_weights,
    start,
)
from pullback.optim.optimizer import Optimizer, Update, optimizer, zeros_like
from pullback.transforms.tree import Tree, map_leaves

# ---- Adam -----------------------------------------------------------------------------------


class AdamState(NamedTuple):
    """The number of steps taken, the running means of the gradient and of its square, and the
    largest of the latter so far, None without AMSGrad.
    """

    step: Array
    mean: Tree
    square: Tree
    largest: Tree = None


@public
def adam(
    lr: Hyperparameter = 1e-3,
    b1: float | Array = 0.9,
    b2: float | Array = 0.999,
    eps: float | Array = 1e-8,
    weight_decay: float | Array = 0.0,
    amsgrad: bool = False,
) -> Optimizer:
    """Adam (Kingma & Ba 2015, algorithm 1):  x ← x - lr · m̂ / (√v̂ + ε).

    `weight_decay` λ is coupled, as torch's: g stands for g + λ x; `adamw` decouples it. `amsgrad`
    divides by the largest v so far (Reddi et al. 2018).

    Raises `ArgumentError` unless lr > 0, ε > 0, 0 ≤ β < 1 and λ ≥ 0.
    """
    _require_adam(lr, b1, b2, eps, weight_decay)
    follow = _adam(lr, b1, b2, eps)

    def update(grads: Tree, state: AdamState, params: Tree) -> tuple[Tree, AdamState]:
        result: tuple[Tree, AdamState] = follow(decayed(grads, params, weight_decay), state, params)
        return result

    return optimizer("adam", lambda params: _adam_state(params, amsgrad), update)


@public
def adamw(
    lr: Hyperparameter = 1e-3,
    b1: float | Array = 0.9,
    b2: float | Array = 0.999,
    eps: float | Array = 1e-8,
    weight_decay: float | Array = 1e-2,
    amsgrad: bool = False,
    mask: Mask = None,
) -> Optimizer:
    """Adam with decoupled decay (Loshchilov & Hutter 2019):  x ← x - lr (m̂ / (√v̂ + ε) + λ x).

    `mask` says where weights decay: a tree of bools like the parameters, or a function that makes
    one; everywhere by default.

    Raises `ArgumentError` as `adam` does.
    """
    _require_adam(lr, b1, b2, eps, weight_decay)
    require_mask(mask)
    follow = _adam(lr, b1, b2, eps)

    def update(grads: Tree, state: AdamState, params: Tree) -> tuple[Tree, AdamState]:
        steps, following_state = follow(grads, state, params)
        rate, decay = number(lr, state.step), number(weight_decay)
        return decayed(steps, params, -(rate * decay), mask), following_state

    return optimizer("adamw", lambda params: _adam_state(params, amsgrad), update)


def _adam_state(params: Tree, amsgrad: bool) -> AdamState:
    largest = zeros_like(params) if amsgrad else None
    return AdamState(constant(0, int64), zeros_like(params), zeros_like(params), largest)


def _adam(lr: Any, b1: Any, b2: Any, eps: Any) -> Update:
    def update(grads: Tree, state: AdamState, params: Tree) -> tuple[Tree, AdamState]:
        step = state.step + 1
        rate, one, two, small = number(lr, state.step), number(b1), number(b2), number(eps)
        # What the weights of a mean sum to, in float64: m̂ = m / rest1.
        rest1, rest2 = (1 - beta ** Weak(step, 0) for beta in (one, two))
        mean = map_leaves(lambda m, g: m * one + g * (1 - one), state.mean, grads)
        square = map_leaves(lambda v, g: v * two + g * g * (1 - two), state.square, grads)
        largest = scale = None
        if state.largest is not None:
            largest = scale = map_leaves(maximum, state.largest, square)

        def change(m: Array, v: Array) -> Array:
            quotient: Array = m * (-rate / rest1) / (sqrt(v / rest2) + small)
            return quotient

        steps = map_leaves(change, mean, square if scale is None else scale)
        return steps, AdamState(step, mean, square, largest)

    return update


def _require_adam(lr: Any, b1: Any, b2: Any, eps: Any, weight_decay: Any) -> None:
    require_rate(lr)
    require_decays(b1=b1, b2=b2)
    require_positive(eps=eps)
    require_weights(weight_decay=weight_decay)


# ---- others ---------------------------------------------------------------------------------


class SquaresState(NamedTuple):
    """The steps taken, None without a schedule; the mean or the sum of squared gradients; with
    their options the running mean of the gradient and the velocity, else None.
    """

    step: Array | None
    square: Tree
    mean: Tree = None
    velocity: Tree = None


@public
def rmsprop(
    lr: Hyperparameter = 1e-2,
    decay: float | Array = 0.99,
    eps: float | Array = 1e-8,
    momentum: float = 0.0,
    centered: bool = False,
    weight_decay: float | Array = 0.0,
) -> Optimizer:
    """RMSProp (Hinton 2012):  v ← α v + (1 - α) g²,  x ← x - lr · g / (√v + ε), as torch's.

    `centered` takes the variance, v minus the squared mean of g, for v. `momentum` sums the
    quotients as `sgd` sums gradients; `weight_decay` is coupled.

    Raises `ArgumentError` unless lr > 0, ε > 0, 0 ≤ α, μ < 1 and λ ≥ 0.
    """
    require_rate(lr)
    require_decays(decay=decay, momentum=momentum)
    require_positive(eps=eps)
    require_weights(weight_decay=weight_decay)
    heavy = present(momentum)

    def init(params: Tree) -> SquaresState:
        zero = zeros_like(params)
        return SquaresState(start(lr), zero, zero if centered else None, zero if heavy else None)

    def update(grads: Tree, state: SquaresState, params: Tree) -> tuple[Tree, SquaresState]:
        rate, alpha, small, mu = number(lr, state.step), *map(number, (decay, eps, momentum))
        grads = decayed(grads, params, weight_decay)
        square = map_leaves(lambda v, g: v * alpha + g * g * (1 - alpha), state.square, grads)
        mean, spread, velocity = None, square, None
        if centered:
            mean = map_leaves(lambda m, g: m * alpha + g * (1 - alpha), state.mean, grads)
            spread = map_leaves(lambda v, m: v - m * m, square, mean)
        steps = map_leaves(lambda g, v: g / (sqrt(v) + small), grads, spread)
        if heavy:
            steps = velocity = map_leaves(lambda v, s: v * mu + s, state.velocity, steps)
        after = SquaresState(following(state.step), square, mean, velocity)
        return map_leaves(lambda s: s * -rate, steps), after

    return optimizer("rmsprop", init, update)


@public
def adagrad(
    lr: Hyperparameter = 1e-2,
    eps: float | Array = 1e-10,
    initial: float = 0.0,
    weight_decay: float | Array = 0.0,
) -> Optimizer:
    """AdaGrad (Duchi et al. 2011):  s ← s + g²,  x ← x - lr · g / (√s + ε), s from `initial`.

    Raises `ArgumentError` unless lr > 0, ε > 0, `initial` ≥ 0 and λ ≥ 0.
    """
    require_rate(lr)
    require_positive(eps=eps)
    require_weights(initial=initial, weight_decay=weight_decay)

    def init(params: Tree) -> SquaresState:
        first = number(initial)
        return SquaresState(start(lr), map_leaves(lambda x: zeros_like(x) + first, params))

    def update(grads: Tree, state: SquaresState, params: Tree) -> tuple[Tree, SquaresState]:
        rate, small = number(lr, state.step), number(eps)
        grads = decayed(grads, params, weight_decay)
        square = map_leaves(lambda s, g: s + g * g, state.square, grads)
        steps = map_leaves(lambda g, s: g * -rate / (sqrt(s) + small), grads, square)
        return steps, SquaresState(following(state.step), square)

    return optimizer("adagrad", init, update)
