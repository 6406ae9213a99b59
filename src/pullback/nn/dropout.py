"""Dropout."""

from __future__ import annotations

from typing import Any

from pullback import random
from pullback.errors import ArgumentError
from pullback.ir.array import Array
from pullback.nn.module import Module
from pullback.ops.operators import as_float, select


class Dropout(Module):
    """Zeros with probability `rate`, the rest divided by 1 - rate (Srivastava et al. 2014).

    With `train=False` its argument is returned as it is.
    """

    rate: float

    takes_train = True

    def __init__(self, rate: float = 0.5) -> None:
        if not 0 <= rate < 1:
            raise ArgumentError(f"a rate of dropout lies in [0, 1), not {rate}")
        self.rate = rate

    def __call__(self, x: Any, *, train: bool, key: Array | None = None) -> Array:
        """Raises `ArgumentError` in training without a key: it decides what is dropped."""
        array = as_float(x)
        if not train or self.rate == 0:
            return array
        if key is None:
            raise ArgumentError(
                "dropout in training needs a key",
                hint="pass key=pb.random.fold_in(key, step), another one in each step",
            )
        kept = random.bernoulli(key, 1 - self.rate, array.shape)
        return select(kept, array * (1 / (1 - self.rate)), 0.0)
