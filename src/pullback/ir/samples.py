"""Numbers for the samples of ops: small, seeded, always the same."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from pullback.ir.types import Numbers


def _generator(*key: Any) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def normal(*shape: int, seed: int = 0) -> Numbers:
    """Standard normal float64 numbers."""
    return _generator("normal", shape, seed).standard_normal(shape)


def uniform(low: float, high: float, *shape: int, seed: int = 0) -> Numbers:
    """Uniform float64 numbers in (low, high)."""
    return _generator("uniform", shape, seed).uniform(low, high, shape)


def positive(*shape: int, seed: int = 0) -> Numbers:
    """Numbers in (0.2, 3)."""
    return uniform(0.2, 3.0, *shape, seed=seed)


def distinct(*shape: int, seed: int = 0) -> Numbers:
    """Numbers at least 0.1 apart and at least 0.05 from 0: no ties and no kinks at 0."""
    count = int(np.prod(shape, dtype=int))
    ladder = 0.1 * (np.arange(count) - count // 2) + 0.05
    return _generator("distinct", shape, seed).permutation(ladder).reshape(shape)


def integers(*shape: int, low: int = -5, high: int = 6, seed: int = 0) -> Numbers:
    """int64 numbers in [low, high)."""
    return _generator("integers", shape, seed).integers(low, high, shape)


def truths(*shape: int, seed: int = 0) -> Numbers:
    return _generator("truths", shape, seed).random(shape) < 0.5


def extremes() -> Numbers:
    """Zeros, infinities, NaN, the smallest and the largest float64 numbers."""
    return np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, -5e-324, 1e308, -1e308, 1.0, -1.0])
