"""Optimisers that follow the gradient or its running mean: `sgd`, `lion`."""

from __future__ import annotations

from typing import NamedTuple

from pullback.errors import ArgumentError
from pullback.functions.elementwise import sign
from pullback.ir.array import Array
from pullback.optim.decay import Mask, decayed, require_mask
from pullback.optim.hyperparameters import (
    Hyperparameter,
    following,
    number,
    present,
    require_decays,
    require_rate,
    require_weights,
    start,
)
from pullback.optim.optimizer import Optimizer, optimizer, zeros_like
from pullback.transforms.tree import Tree, map_leaves


class MomentumState(NamedTuple):
    """The steps taken, None without a schedule; the velocity or the running mean of the gradient,
    None without momentum.
    """

    step: Array | None
    velocity: Tree


def sgd(
    lr: Hyperparameter,
    momentum: float | Array = 0.0,
    nesterov: bool = False,
    weight_decay: float | Array = 0.0,
) -> Optimizer:
    """Gradient descent, with momentum:  v ← μ v + g,  x ← x - lr · v  (Nesterov: - lr (g + μ v)).

    `weight_decay` λ is coupled, as torch's: g stands for g + λ x.

    Raises `ArgumentError` unless lr > 0, 0 ≤ μ < 1, λ ≥ 0, and for Nesterov without momentum.
    """
    require_rate(lr)
    require_decays(momentum=momentum)
    require_weights(weight_decay=weight_decay)
    heavy = present(momentum)
    if nesterov and not heavy:
        raise ArgumentError("Nesterov's step needs momentum > 0")

    def init(params: Tree) -> MomentumState:
        return MomentumState(start(lr), zeros_like(params) if heavy else None)

    def update(grads: Tree, state: MomentumState, params: Tree) -> tuple[Tree, MomentumState]:
        rate, mu = number(lr, state.step), number(momentum)
        grads = decayed(grads, params, weight_decay)
        velocity = ahead = None
        if heavy:
            velocity = map_leaves(lambda v, g: v * mu + g, state.velocity, grads)
            ahead = map_leaves(lambda v, g: v * mu + g, velocity, grads) if nesterov else velocity
        steps = map_leaves(lambda v: v * -rate, ahead if heavy else grads)
        return steps, MomentumState(following(state.step), velocity)

    return optimizer("sgd", init, update)


def lion(
    lr: Hyperparameter = 1e-4,
    b1: float | Array = 0.9,
    b2: float | Array = 0.99,
    weight_decay: float | Array = 0.0,
    mask: Mask = None,
) -> Optimizer:
    """Lion (Chen et al. 2023):  x ← x - lr (sign(β₁ m + (1 - β₁) g) + λ x),  m ← β₂ m + (1 - β₂) g.

    The decay λ is decoupled, and acts where `mask` is True (everywhere by default). Raises
    `ArgumentError` unless lr > 0, 0 ≤ β < 1 and λ ≥ 0.
    """
    require_rate(lr)
    require_decays(b1=b1, b2=b2)
    require_weights(weight_decay=weight_decay)
    require_mask(mask)

    def init(params: Tree) -> MomentumState:
        return MomentumState(start(lr), zeros_like(params))

    def update(grads: Tree, state: MomentumState, params: Tree) -> tuple[Tree, MomentumState]:
        rate, one, two = number(lr, state.step), number(b1), number(b2)
        signs = map_leaves(lambda m, g: sign(m * one + g * (1 - one)), state.velocity, grads)
        steps = decayed(signs, params, weight_decay, mask)
        mean = map_leaves(lambda m, g: m * two + g * (1 - two), state.velocity, grads)
        return map_leaves(lambda x: x * -rate, steps), MomentumState(following(state.step), mean)

    return optimizer("lion", init, update)
