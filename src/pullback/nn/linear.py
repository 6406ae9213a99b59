"""Affine layers, and networks of nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from pullback import random
from pullback.errors import ArgumentError, ShapeError
from pullback.functions.activations import relu
from pullback.functions.contraction import matmul
from pullback.ir.array import Array
from pullback.ir.types import float32
from pullback.nn import init
from pullback.nn.init import Initializer
from pullback.nn.module import Module
from pullback.ops.operators import lift


class Linear(Module):
    """The affine map x ↦ x Wᵀ + b on the last axis: (…, in_features) → (…, out_features)."""

    weight: Array
    """(out_features, in_features)"""
    bias: Array | None
    """(out_features,), or None"""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        use_bias: bool = True,
        *,
        key: Array,
        initializer: Initializer = init.lecun_normal,
        dtype: Any = float32,
    ) -> None:
        require_sizes(in_features=in_features, out_features=out_features)
        self.weight = initializer(key, (out_features, in_features), dtype)
        self.bias = init.zeros(key, (out_features,), dtype) if use_bias else None

    def __call__(self, x: Any) -> Array:
        return affine(x, self.weight, self.bias)


class MLP(Module):
    """Affine layers with an activation between: (…, in_size) → (…, out_size).

    Unless an `initializer` is given, the weights keep the scale of standardised inputs:
    `lecun_normal`, after the first layer with the gain of the activation that feeds the layer.
    """

    layers: tuple[Linear, ...]
    activation: Callable[[Array], Array]

    def __init__(
        self,
        in_size: int,
        out_size: int,
        width_size: int,
        depth: int,
        activation: Callable[[Array], Array] = relu,
        *,
        key: Array,
        initializer: Initializer | None = None,
        dtype: Any = float32,
    ) -> None:
        """`depth` hidden layers of `width_size` units each; the last layer is not activated."""
        require_sizes(width_size=width_size)
        if depth < 0:
            raise ArgumentError(f"a depth is not negative: {depth}")
        sizes = itertools.pairwise((in_size, *[width_size] * depth, out_size))
        drawn = _initializers(initializer, activation, depth)
        self.layers = tuple(
            Linear(a, b, key=random.fold_in(key, i), initializer=each, dtype=dtype)
            for i, ((a, b), each) in enumerate(zip(sizes, drawn, strict=True))
        )
        self.activation = activation

    def __call__(self, x: Any) -> Array:
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation(layer(x))
        return last(x)


def _initializers(
    given: Initializer | None, activation: Callable[[Array], Array], depth: int
) -> list[Initializer]:
    """Those of the first layer, and of the `depth` layers that the activation feeds."""
    if given is not None or depth == 0:
        return [given or init.lecun_normal] * (depth + 1)
    return [init.lecun_normal, *[init.variance_preserving(activation)] * depth]


def affine(x: Any, weight: Array, bias: Array | None) -> Array:
    """x Wᵀ + b on the last axis; `ShapeError` when its size is not the weight's."""
    operand, features = lift(x), weight.shape[1]
    if operand.shape[-1:] != (features,):
        raise ShapeError(f"the layer takes arrays of shape (..., {features}), not {operand.type}")
    product = matmul(operand, weight.T)
    return product if bias is None else product + bias


def require_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int | np.integer):
            raise ArgumentError(f"{name} is an integer, not {size!r:.60}")
        if size < 1:
            raise ArgumentError(f"{name} is at least 1, not {size}")
