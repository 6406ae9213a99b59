"""What an optimiser makes of gradients that were made up for it: decay, and sums that never end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pullback.ir.array import concrete, numbers_of
from pullback.ir.types import Numbers, bfloat16, float16, float64
from pullback.optim.optimizer import Optimizer
from pullback.transforms.tree import flatten, map_leaves

NEVER = 1e-5
"""A second step is nothing beside the first where it is shorter than this share of it."""


def decay(optimizer: Optimizer, params: Any) -> float:
    """The largest share of a weight by which a gradient of 0 makes it shorter, in one step.

    Of the first three steps, because a schedule may begin at 0.
    """
    leaves = [numbers_of(x).astype(float64) for x in flatten(params)[0]]
    weights = [x.ndim > 1 and bool(x.any()) for x in leaves]
    nothing = map_leaves(lambda p: p * 0, params)
    state, found = optimizer.init(params), 0.0
    for _ in range(3):
        updates, state = optimizer.update(nothing, state, params)
        moved = [numbers_of(u).astype(float64) for u in flatten(updates)[0]]
        shares = [_shorter(u, x) for u, x, w in zip(moved, leaves, weights, strict=True) if w]
        found = max([found, *shares])
    return found


def _shorter(update: Numbers, weight: Numbers) -> float:
    """-⟨u, w⟩ / ⟨w, w⟩."""
    return -float(np.vdot(update, weight)) / float(np.vdot(weight, weight))


def rounded_away(optimizer: Optimizer, params: Any, gradients: Sequence[Numbers]) -> float:
    """Of the elements in half precision that a step should move, the share that stay as they are.

    A bfloat16 has 8 bits: what is below 2⁻⁹ of a number does not change it.
    """
    leaves, structure = flatten(params)
    given = structure.unflatten([concrete(g) for g in gradients])
    updates, _ = optimizer.update(given, optimizer.init(params), params)
    asked = still = 0
    for x, u in zip(leaves, flatten(updates)[0], strict=True):
        if x.dtype in (float16, bfloat16):
            before, step = numbers_of(x), numbers_of(u).astype(float64)
            after = (before.astype(float64) + step).astype(before.dtype)
            asked += int((step != 0).sum())
            still += int(((step != 0) & (after == before)).sum())
    return still / asked if asked else 0.0


def never_forgets(optimizer: Optimizer, params: Any, gradients: Sequence[Numbers]) -> bool:
    """Whether a gradient acts in every later step: a step of g, and one of -g, which does nothing.

    Plain descent steps back, momentum and Adam have forgotten a part; only a sum of all gradients
    is 0.
    """
    structure = flatten(params)[1]
    there = structure.unflatten([concrete(g) for g in gradients])
    back = structure.unflatten([concrete(-g) for g in gradients])
    first, state = optimizer.update(there, optimizer.init(params), params)
    second, _ = optimizer.update(back, state, params)
    a, b = _length(first), _length(second)
    return a > 0 and b < NEVER * a


def _length(updates: Any) -> float:
    return float(
        np.sqrt(sum(float((numbers_of(u).astype(float64) ** 2).sum()) for u in flatten(updates)[0]))
    )
