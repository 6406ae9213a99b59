"""In which precision a loss is computed, and what keeps half precision from losing gradients.

Parameters stay in float32 (the masters). The loss function sees them, and every floating array of
the batch, rounded to half precision; the rounding is part of what is differentiated, so gradients
arrive in float32. Small float16 gradients would vanish: the loss is multiplied by a scale before
the backward pass and the gradients are divided by it after (Micikevicius et al. 2018).
"""

from __future__ import annotations

from typing import Any

from pullback._public import public
from pullback.errors import ArgumentError, DTypeError, nearest
from pullback.ir.array import Array
from pullback.ir.types import DType, bfloat16, float16, float32, float64, int32, is_float
from pullback.nn.module import Module
from pullback.ops.operators import cast, constant, lift, select
from pullback.ops.weak import Weak
from pullback.optim.hyperparameters import require, require_count
from pullback.transforms.tree import Tree, flatten_arrays, map_leaves, paths

PRECISIONS: dict[str, DType] = {"fp32": float32, "bf16": bfloat16, "fp16": float16, "fp64": float64}
"""What the loss is computed in."""
HALF = (bfloat16, float16)
SMALLEST, LARGEST = 1.0, 2.0**24
"""Bounds of a scale: below 1 nothing would be gained, above 2^24 a loss of 1 overflows sooner."""


def compute_dtype(precision: Any) -> DType:
    """The element type that a precision stands for; `ArgumentError` for one that is none."""
    if isinstance(precision, str) and precision in PRECISIONS:
        return PRECISIONS[precision]
    near = nearest(precision, [*PRECISIONS, *_OTHER_NAMES])
    meant = _OTHER_NAMES.get(near, near) if near else None
    raise ArgumentError(
        f"precision is one of {', '.join(PRECISIONS)}, not {precision!r:.40}",
        hint=f'did you mean precision="{meant}" ?' if meant else None,
    )


_OTHER_NAMES = {dtype.name: name for name, dtype in PRECISIONS.items()} | {"half": "fp16"}


def master_dtype(compute: DType) -> DType:
    """The element type of the parameters themselves, and of losses and gradients."""
    wide: DType = float32 if compute in HALF else compute
    return wide


def require_masters(model: Tree, compute: DType) -> None:
    """Raise `DTypeError` unless the floating arrays of a model have the type of masters."""
    wide = master_dtype(compute)
    leaves, structure = flatten_arrays(model, "model")
    for i, leaf in enumerate(leaves):
        if is_float(leaf.dtype) and leaf.dtype != wide:
            path = paths(structure, "model")[i]
            raise DTypeError(
                f"{path} is {leaf.type}; parameters that are trained are {wide}",
                hint='make the layers with dtype=pb.float32; precision="bf16" computes in half'
                if leaf.dtype in HALF
                else f'precision="{"fp64" if leaf.dtype == float64 else "fp32"}" trains such ones',
            )


def rounded(tree: Tree, dtype: DType) -> Tree:
    """The tree with its floating arrays cast; Python's numbers take the type of what they meet."""

    def one(x: Any) -> Any:
        if isinstance(x, Weak | bool | int | float):
            return x
        array = lift(x)
        return cast(array, dtype) if is_float(array.dtype) else array

    return map_leaves(one, tree)


def widened(tree: Tree) -> Tree:
    """The tree with arrays of half precision cast to float32."""
    return map_leaves(lambda x: cast(lift(x), float32) if lift(x).dtype in HALF else x, tree)


class LossScale(Module):
    """A factor for the loss that follows the gradients: as large as they allow.

    A step whose gradients are not finite divides it by `factor`; `growth_interval` steps in a row
    that are good multiply it by `factor`. It stays within [1, 2²⁴].
    """

    value: Array
    """float32[]"""
    good: Array
    """int32[]: steps since it last changed"""
    growth_interval: int
    factor: float

    @public
    def __init__(
        self, initial: float = 2.0**15, growth_interval: int = 2000, factor: float = 2.0
    ) -> None:
        """Raises `ArgumentError` unless 1 ≤ initial ≤ 2²⁴, growth_interval ≥ 1, factor > 1."""
        law = f"lies in [{SMALLEST:g}, 2^24]"
        require("initial", initial, law, lambda x: SMALLEST <= x <= LARGEST)
        require("factor", factor, "is greater than 1", lambda x: x > 1)
        require_count(growth_interval=growth_interval)
        self.value = constant(initial, float32)
        self.good = constant(0, int32)
        self.growth_interval = growth_interval
        self.factor = float(factor)

    def after(self, finite: Array) -> LossScale:
        """What it is after a step whose gradients were finite or not."""
        good = self.good + 1
        grows = good >= self.growth_interval
        larger = select(self.value * self.factor > LARGEST, LARGEST, self.value * self.factor)
        smaller = select(self.value / self.factor < SMALLEST, SMALLEST, self.value / self.factor)
        value = select(finite, select(grows, larger, self.value), smaller)
        still = select(finite & ~grows, good, 0)
        return self.replace(value=cast(value, float32), good=cast(still, int32))
