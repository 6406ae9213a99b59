"""A seeded split into training, validation and test examples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pullback.errors import ArgumentError
from pullback.ir.types import Numbers


@dataclass(frozen=True, eq=False)
class Split:
    """Positions of the examples, int64: disjoint, and together all of them."""

    train: Numbers
    validation: Numbers
    test: Numbers


def split(count: int, seed: int, validation: float = 0.15, test: float = 0.15) -> Split:
    """`count` positions in a random order that `seed` alone decides, cut in three.

    Raises `ArgumentError` unless each part gets an example.
    """
    shares = (validation, test)
    if not all(math.isfinite(s) and s > 0 for s in shares) or sum(shares) >= 1:
        raise ArgumentError(
            f"shares {validation} and {test} leave no examples to one part",
            hint="they are positive, and their sum is below 1",
        )
    held = [max(1, round(share * count)) for share in shares]
    if sum(held) >= count:
        raise ArgumentError(f"{count} examples are too few for a split in three")
    order = np.random.default_rng(seed).permutation(count)
    return Split(order[sum(held) :], order[: held[0]], order[held[0] : sum(held)])
