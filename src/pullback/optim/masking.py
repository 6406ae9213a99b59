"""An optimiser for a part of the parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pullback._public import public
from pullback.errors import ArgumentError
from pullback.nn.module import Module
from pullback.ops.operators import zeros
from pullback.optim.optimizer import Optimizer
from pullback.transforms.tree import (
    Tree,
    broadcast_prefix,
    built,
    flatten,
    flatten_arrays,
    require_same,
    unflatten,
)


def masked(optimizer: Optimizer, mask: Tree | Callable[[Tree], Tree]) -> Optimizer:
    """`optimizer` where `mask` is True; elsewhere updates are exactly 0 and nothing is kept.

    `mask` is a tree of bools like the parameters, or a prefix of one (a bool covers the subtree
    below it), or a function that makes it of the parameters, as `pb.nn.trainable` does. Raises
    `StructureError` for a mask of another structure, `ArgumentError` for one that holds no bools.

    >>> import numpy as np
    >>> import pullback as pb
    >>> params = {"body": np.ones(2), "head": np.ones(2)}
    >>> optimizer = masked(pb.optim.sgd(0.1), {"body": False, "head": True})
    >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
    >>> updates["body"].tolist(), updates["head"].tolist()
    ([0.0, 0.0], [-0.1, -0.1])
    """

    def init(params: Tree) -> Any:
        return optimizer.init(_pruned(params, marks_of(mask, params)))

    def update(grads: Tree, state: Any, params: Tree) -> tuple[Tree, Any]:
        marks = marks_of(mask, params)
        given, structure = flatten_arrays(grads, "grads")
        require_same(flatten(params)[1], structure, "grads")
        chosen, parameters = _pruned(grads, marks), _pruned(params, marks)
        updates, state = optimizer.update(chosen, state, parameters)
        steps = iter(flatten(updates)[0])
        return unflatten(
            structure,
            [next(steps) if mark else zeros(g.type) for g, mark in zip(given, marks, strict=True)],
        ), state

    return Optimizer(public(init, "masked"), public(update, "masked"))


def marks_of(mask: Tree | Callable[[Tree], Tree], params: Tree) -> list[bool]:
    """For each leaf of the parameters whether it is optimised."""
    tree = built(params)
    # A model that has become a mask can be called as well.
    made = mask(tree) if callable(mask) and not isinstance(mask, Module) else mask
    marks = broadcast_prefix(made, tree, "the mask")
    for mark in marks:
        if not isinstance(mark, bool):
            what = type(mark).__name__
            raise ArgumentError(f"a mask holds True and False, and this one a leaf of type {what}")
    return marks


def _pruned(tree: Tree, marks: list[bool]) -> Tree:
    """The tree with None, which is no leaf, in the place of what is not optimised."""
    leaves, structure = flatten(tree)
    kept = [x if mark else None for x, mark in zip(leaves, marks, strict=True)]
    return unflatten(structure, kept)
