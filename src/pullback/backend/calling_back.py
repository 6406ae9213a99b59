"""Ops that a program calls back in Python: their reference, on views of the program's buffers."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback._settings import log
from pullback.errors import Site
from pullback.ir.builder import compute
from pullback.ir.op import Op
from pullback.ir.types import Numbers, TensorType

FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_uint64)
"""`void callback(ptr operands)`, the C type of a `Callback`; its calls hold the GIL."""


@dataclass(slots=True, eq=False)
class Callback:
    """What a kernel calls with its operands: the function's address, the status, the buffers.

    The kernel has set its status to "failed" before; only a call that went well sets it back. So an
    exception that comes before the first line here (a `KeyboardInterrupt`) is not lost either.
    """

    op: Op
    inputs: tuple[TensorType, ...]
    outputs: tuple[TensorType, ...]
    site: Site
    calls: int = 0
    failure: BaseException | None = None

    def at(self, site: Site) -> Callback:
        """One of its own for another line of the user's."""
        return Callback(self.op, self.inputs, self.outputs, site)

    def __call__(self, operands: int) -> None:
        began = time.perf_counter()
        self.calls += 1
        self.failure = None
        count = 2 + len(self.inputs) + len(self.outputs)
        _, status, *addresses = (ctypes.c_uint64 * count).from_address(operands)
        cut = len(self.inputs)
        results = _views(addresses[cut:], self.outputs)
        try:
            self._compute(_views(addresses[:cut], self.inputs), results)
            ctypes.c_int64.from_address(status).value = 0
        except BaseException as failure:  # noqa: BLE001  (raised by the program when it has ended)
            self.failure = failure
            for result in results:
                result.fill(0)
        milliseconds = 1e3 * (time.perf_counter() - began)
        log("run", f"{self.op.name} called back in Python, {milliseconds:.2f} ms, {self.site}")

    def _compute(self, inputs: Sequence[Numbers], results: Sequence[Numbers]) -> None:
        for x in inputs:
            x.flags.writeable = False
        made = compute(self.op, inputs, self.outputs)
        for result, numbers in zip(results, made, strict=True):
            np.copyto(result, numbers)

    def failed(self, number: int) -> BaseException:
        """What the last call ended with; an interrupt may have come before it could be noted."""
        failure, self.failure = self.failure, None
        return KeyboardInterrupt() if failure is None else failure


def _views(addresses: Sequence[int], types: Sequence[TensorType]) -> list[Numbers]:
    """The buffers at these addresses as arrays."""
    views = []
    for address, kind in zip(addresses, types, strict=True):
        memory: Any = (ctypes.c_char * max(kind.nbytes, 1)).from_address(address)
        views.append(np.ndarray(kind.shape, kind.dtype, memory))
    return views
