"""Tables of vectors, and positions as rotations."""

from __future__ import annotations

from typing import Any

import numpy as np

from pullback._public import public
from pullback.errors import ShapeError
from pullback.functions.elementwise import cos, sin
from pullback.functions.gathering import take
from pullback.functions.manipulation import concat
from pullback.ir.array import Array
from pullback.ir.types import float32, promote
from pullback.nn import init
from pullback.nn.init import Initializer
from pullback.nn.linear import affine, require_sizes
from pullback.nn.module import Module
from pullback.ops.create import Iota
from pullback.ops.operators import as_float, cast, cut, lift, reshape


def small_normal(key: Array, shape: tuple[int, ...], dtype: Any = float32) -> Array:
    """Normal with standard deviation 0.02, as in GPT-2 (Radford et al. 2019)."""
    return init.normal(key, shape, dtype, std=0.02)


class Embedding(Module):
    """A vector for each of `num_embeddings` integers: (…) → (…, embedding_dim)."""

    weight: Array
    """(num_embeddings, embedding_dim)"""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        key: Array,
        initializer: Initializer = small_normal,
        dtype: Any = float32,
    ) -> None:
        require_sizes(num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.weight = initializer(key, (num_embeddings, embedding_dim), dtype)

    def __call__(self, indices: Any) -> Array:
        """The rows of `weight`. Raises `OutOfRangeError` for an index that has none."""
        return take(self.weight, indices, axis=0)

    def attend(self, x: Any) -> Array:
        """Logits of each row, x Wᵀ: (…, embedding_dim) → (…, num_embeddings); tied weights."""
        return affine(x, self.weight, None)


@public
def rotary(x: Any, positions: Any = None, *, base: float = 10000.0) -> Array:
    """Positions as rotations of pairs (Su et al. 2021): (…, T, d) → (…, T, d), d even.

    Element i of the first half and element i of the second are the coordinates of a point that is
    turned by positions · base^(-2i/d). `positions`, 0 … T - 1 unless given, broadcast to (…, T).
    """
    array = as_float(x)
    if array.ndim < 2 or array.shape[-1] % 2:
        raise ShapeError(f"rotary positions turn pairs: {array.type} has no even last axis")
    length, size = array.shape[-2:]
    dtype = promote(array.dtype, float32)
    place = Iota(length, dtype)() if positions is None else cast(lift(positions), dtype)
    _require_fitting(place, array)
    half = size // 2
    speed = base ** (np.arange(half) * (-2 / size))
    angle = reshape(place, (*place.shape, 1)) * speed.astype(dtype)
    cosine, sine = cast(cos(angle), array.dtype), cast(sin(angle), array.dtype)
    last = array.ndim - 1
    first, second = cut(array, last, 0, half), cut(array, last, half, size)
    return concat([first * cosine - second * sine, first * sine + second * cosine], axis=-1)


def _require_fitting(positions: Array, x: Array) -> None:
    """Each size of the positions is 1 or that of the vectors, from the last one on."""
    vectors = x.shape[:-1]
    pairs = zip(reversed(positions.shape), reversed(vectors), strict=False)
    if positions.ndim > len(vectors) or any(n not in (1, m) for n, m in pairs):
        raise ShapeError(f"positions {positions.type} do not fit {x.type}, one for each vector")
