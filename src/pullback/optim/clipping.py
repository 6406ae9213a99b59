"""Gradients kept within bounds, for `chain`."""

from __future__ import annotations

from typing import Any

from pullback._public import public
from pullback.functions.elementwise import clip, sqrt, where
from pullback.functions.reductions import sum
from pullback.ir.array import Array
from pullback.ir.types import bfloat16, float16, float32
from pullback.ops.operators import cast, lift
from pullback.optim.hyperparameters import number, require_positive
from pullback.optim.optimizer import Optimizer, optimizer
from pullback.transforms.tree import Tree, flatten_arrays, map_leaves


@public
def global_norm(tree: Tree) -> Array:
    """The Euclidean norm of all numbers of a tree; half precision is summed in float32."""
    total: Any = 0.0
    for x in flatten_arrays(tree, "tree")[0]:
        wide = cast(x, float32) if x.dtype in (bfloat16, float16) else x
        total = sum(wide * wide) + total
    return sqrt(lift(total))


@public
def clip_by_global_norm(max_norm: float | Array) -> Optimizer:
    """Gradients scaled by `max_norm` / norm where their global norm is larger (Pascanu 2013).

    A norm that is NaN makes every gradient NaN, an infinite one makes those that are finite 0 and
    the infinite ones NaN: a step that can be seen to fail.
    Raises `ArgumentError` unless `max_norm` > 0.
    """
    require_positive(max_norm=max_norm)

    def update(grads: Tree, state: None, params: Tree) -> tuple[Tree, None]:
        norm, most = global_norm(grads), number(max_norm)
        scale = where(norm <= most, 1.0, most / norm)
        return map_leaves(lambda g: g * cast(scale, g.dtype), grads), None

    return optimizer("clip_by_global_norm", lambda params: None, update)


@public
def clip_by_value(max_value: float | Array) -> Optimizer:
    """Each number of the gradient clipped to [-max_value, max_value].

    Raises `ArgumentError` unless `max_value` > 0.
    """
    require_positive(max_value=max_value)

    def update(grads: Tree, state: None, params: Tree) -> tuple[Tree, None]:
        most = number(max_value)
        return map_leaves(lambda g: clip(g, -most, most), grads), None

    return optimizer("clip_by_value", lambda params: None, update)
