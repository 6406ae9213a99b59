"""Random 64-bit words that a seed and a counter decide, on every machine and NumPy version."""

from __future__ import annotations

import numpy as np

from pullback.errors import ArgumentError
from pullback.ir.types import Numbers


def words(seed: int, counter: int, count: int) -> Numbers:
    """uint64[count]: the Philox-4x64 stream (Salmon et al. 2011) of the key (seed, counter).

    NumPy promises the bits of a bit generator; those of `Generator.permutation` may change.
    """
    key = np.array([seed, counter], np.uint64)
    return np.asarray(np.random.Philox(key=key).random_raw(count))


def permutation(seed: int, counter: int, count: int) -> Numbers:
    """0 … count - 1 in the order that (seed, counter) decides, int64."""
    return np.argsort(words(seed, counter, count), kind="stable")


def require_seed(seed: object) -> None:
    """Raise `ArgumentError` unless `seed` is an integer, 0 ≤ seed < 2⁶⁴."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**64:
        raise ArgumentError(f"a seed is an integer in 0 … 2⁶⁴ - 1, not {seed!r:.60}")


def require_count(name: str, value: object, least: int = 1) -> None:
    """Raise `ArgumentError` unless `value` is an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ArgumentError(f"{name} is an integer, not {value!r:.60}")
    if value < least:
        raise ArgumentError(f"{name} is at least {least}, not {value}")
