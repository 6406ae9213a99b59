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

    `y = dropout(x, train=True, key=key)`; with `train=False` its argument is returned as it is.
    """

    rate: float

    def __init__(self, rate: float = 0.5) -> None:
        if not 0 <= rate < 1:
            raise ArgumentError(f"a rate of dropout lies in [0, 1), not {rate}")
        self.rate = rate

    @property
    def takes_train(self) -> bool:  # type: ignore[override]
        return self.rate > 0

    def __call__(self, x: Any, *, train: bool | None = None, key: Array | None = None) -> Array:
        """Raises `ArgumentError` unless told `train`, and in training without a key."""
        array = as_float(x)
        if self.rate == 0 or not required_train(train):
            return array
        if key is None:
            raise ArgumentError(
                "dropout in training needs a key",
                hint="pass key=pb.random.fold_in(key, step), another one in each step",
            )
        kept = random.bernoulli(key, 1 - self.rate, array.shape)
        return select(kept, array * (1 / (1 - self.rate)), 0.0)


def required_train(train: bool | None) -> bool:
    """`train`; `ArgumentError` when it was not said."""
    if train is None:
        raise ArgumentError(
            "the layer acts otherwise in training than in use",
            hint="say which: train=True or train=False",
        )
    return train
