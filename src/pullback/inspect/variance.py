"""Whether batches differ by more than chance has it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pullback.ir.types import Numbers, float64

COLUMNS = 256
"""Of wider batches as many columns are looked at."""


def variance_ratio(batches: Sequence[Numbers]) -> float:
    """F of the analysis of variance with the batches as groups, of the column where it is largest.

    0 where a batch has one example or no columns are numbers.
    """
    size = len(batches[0]) if batches[0].ndim else 0
    if size < 2 or any(x.shape != batches[0].shape for x in batches):
        return 0.0
    table = np.stack([x.reshape(size, -1) for x in batches]).astype(float64)
    table = table[:, :, :: max(1, table.shape[2] // COLUMNS)]
    between = size * table.mean(axis=1).var(axis=0, ddof=1)
    within = table.var(axis=1, ddof=1).mean(axis=0)
    known = np.isfinite(within) & (within > 0)
    return float((between[known] / within[known]).max()) if known.any() else 0.0
