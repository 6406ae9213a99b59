"""A text that stands for the numbers of arrays, to notice data that were changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from pullback.ir.array import numbers_of
from pullback.ir.types import Numbers
from pullback.transforms.tree import Tree, flatten

MOST = 2**28
"""The bytes of an array that are looked at, all of them where it has no more: some 0.2 s."""
STRETCHES = 64
"""A longer array is looked at in so many places, evenly from its first rows to its last."""


def fingerprint(tree: Tree) -> str:
    """A text that differs where the structure, types or numbers of two trees of arrays do.

    Of an array of more than `MOST` bytes, as a memory-map may be, so many are looked at.
    """
    found = hashlib.sha256()
    leaves, structure = flatten(tree)
    found.update(str(structure).encode())
    for leaf in leaves:
        array = numbers_of(leaf)
        found.update(f"{array.dtype}{array.shape}".encode())
        for part in _parts(array):
            found.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def _parts(array: Numbers) -> Iterator[Numbers]:
    if array.nbytes <= MOST or array.ndim == 0:
        yield array
        return
    rows = max(1, MOST // STRETCHES * len(array) // array.nbytes)
    for first in np.linspace(0, len(array) - rows, STRETCHES).astype(int):
        yield array[first : first + rows]
