"""Trees of parameters as vectors: what methods of second order compute with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from pullback.errors import ArgumentError
from pullback.functions.elementwise import where
from pullback.functions.manipulation import concat
from pullback.functions.reductions import sum
from pullback.ir.array import Array
from pullback.ir.types import bool_, int64
from pullback.ops.operators import cast, constant, lift, reshape
from pullback.transforms.control import while_loop
from pullback.transforms.tree import Tree, flatten_arrays, unflatten

Map = Callable[[Array], Array]


def ravel(tree: Tree) -> tuple[Array, Callable[[Array], Tree]]:
    """The numbers of a tree as one vector, and the function that makes such a tree of a vector."""
    leaves, structure = flatten_arrays(tree, "params")
    if not leaves:
        raise ArgumentError("there is no parameter to optimise")
    flat = concat([reshape(lift(x), (math.prod(x.shape),)) for x in leaves])

    def unravel(vector: Array) -> Tree:
        parts, first = [], 0
        for x in leaves:
            last = first + math.prod(x.shape)
            parts.append(cast(reshape(vector[first:last], x.shape), x.dtype))
            first = last
        return unflatten(structure, parts)

    return flat, unravel


def dot(x: Array, y: Array) -> Array:
    return sum(x * y)


def conjugate_gradients(matrix: Map, b: Array, steps: int, rtol: Any) -> Array:
    """x with matrix · x ≈ b, for a symmetric matrix (Hestenes & Stiefel 1952).

    It stops at a direction of curvature ≤ 0 (Steihaug 1983): before the first step with b itself,
    the steepest descent, else with what it has; and when the residual is ≤ rtol · |b|.
    """
    size = dot(b, b)

    def going(state: tuple[Array, ...]) -> Array:
        i, _, _, _, rr, curved = state
        return (i < steps) & (rr > rtol * rtol * size) & curved

    def step(state: tuple[Array, ...]) -> tuple[Array, ...]:
        i, x, r, p, rr, _ = state
        moved = matrix(p)
        curvature = dot(p, moved)
        curved = curvature > 0
        length = where(curved, rr / where(curved, curvature, 1.0), cast(i == 0, rr.dtype))
        x, r = x + p * length, r - moved * length
        after = dot(r, r)
        return i + 1, x, r, r + p * (after / rr), after, curved

    begin = (constant(0, int64), b * 0, b, b, size, constant(True, bool_))
    result: Array = while_loop(going, step, begin)[1]
    return result
