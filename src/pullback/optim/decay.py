"""Weight decay: coupled when it is added to the gradient, decoupled when to the step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pullback.errors import ArgumentError
from pullback.ir.array import Array
from pullback.optim.hyperparameters import number, present, require_weights
from pullback.optim.masking import marks_of
from pullback.optim.optimizer import Optimizer, optimizer
from pullback.transforms.tree import Tree, flatten, map_leaves, unflatten

Mask = Tree | Callable[[Tree], Tree] | None
"""Where weights decay: a tree of bools, a prefix of one, or a function that makes it."""


def decayed(tree: Tree, params: Tree, weight: Any, mask: Mask = None) -> Tree:
    """`tree + weight · params` where the mask is True; `tree` itself for the number 0."""
    if not present(weight):
        return tree
    rate = number(weight)
    if mask is None:
        return map_leaves(lambda g, x: g + x * rate, tree, params)
    leaves, structure = flatten(tree)
    marks = marks_of(mask, params)
    rows = zip(leaves, flatten(params)[0], marks, strict=True)
    return unflatten(structure, [g + x * rate if mark else g for g, x, mark in rows])


def require_mask(mask: Any) -> None:
    if isinstance(mask, str | float):
        raise ArgumentError(f"a mask is a tree of bools or a function, not {mask!r:.60}")


def add_decayed_weights(weight_decay: float | Array, mask: Mask = None) -> Optimizer:
    """`updates + weight_decay · params`, for `chain`: before an optimiser the decay is coupled.

    Raises `ArgumentError` for a negative number.
    """
    require_weights(weight_decay=weight_decay)
    require_mask(mask)

    def update(grads: Tree, state: None, params: Tree) -> tuple[Tree, None]:
        return decayed(grads, params, weight_decay, mask), None

    return optimizer("add_decayed_weights", lambda params: None, update)
