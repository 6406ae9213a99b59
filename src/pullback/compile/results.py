"""Memory for the results of a program, used again when nobody holds it any more.

Fresh memory costs more than filling it: the system clears its pages one by one as they are touched,
which took half the time of a layer norm of 32 MB.

A program keeps for each large result the memory of the last `ALIVE` that it made, dropped or not,
until the program itself is dropped. `plan.peak_bytes` counts each result once, as it is in a call:
what is kept beyond that is at most `ALIVE` - 1 times the large results more. A program with a
budget keeps nothing: it holds what was counted.
"""

from __future__ import annotations

import sys

import numpy as np

from pullback.backend.program import ALIGNMENT
from pullback.ir.types import Numbers, TensorType

LARGE = 1 << 20
"""Bytes from which memory comes from the system each time."""
ALIVE = 2
"""In `x = f(x)` the new result is made while the old one is alive."""


class Reused:
    """Memory for one result of a program. No more is kept than was in use at once."""

    __slots__ = ("_keeps", "_kept", "_kind")

    def __init__(self, kind: TensorType, keeps: bool = True) -> None:
        self._kind = kind
        self._keeps = keeps and kind.nbytes >= LARGE
        self._kept: list[Numbers] = []

    def take(self) -> Numbers:
        """An array whose memory no one else can see."""
        kind, kept = self._kind, self._kept
        if not self._keeps:
            return np.empty(kind.shape, kind.dtype)
        free = next((i for i in range(len(kept)) if sys.getrefcount(kept[i]) == UNSEEN), None)
        memory = np.empty(kind.nbytes + ALIGNMENT, np.uint8) if free is None else kept.pop(free)
        self._kept = [*kept, memory][-ALIVE:]
        start = -memory.ctypes.data % ALIGNMENT
        # Through a memoryview: NumPy lets views of the array hold the array, not what it lies in.
        return np.ndarray(kind.shape, kind.dtype, memory.data, start)


def _unseen() -> int:
    kept = [np.empty(0, np.uint8)]
    return sys.getrefcount(kept[0])


UNSEEN = _unseen()
"""The count of what only a list holds."""
