"""How long a kernel takes on one core, roughly: enough to say what is too small to be shared out.

The estimate depends on the graph alone, never on the machine or on the number of threads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pullback.ir.types import TensorType
from pullback.schedule.kernels import (
    Apply,
    Call,
    Chain,
    Element,
    Extent,
    Fold,
    Load,
    Loops,
    Nested,
)

CALL = 50
"""Nanoseconds that a kernel takes without doing anything."""
ARITHMETIC = 16.0
"""Elementwise operations a nanosecond, eight lanes at a time."""
INDEXING = 8
"""Elementwise operations that it takes to find the elements which an index names."""
PRODUCTS = 60.0
"""Floating-point operations of a product a nanosecond."""
BYTES = 20.0
"""Bytes a nanosecond, from a cache that other kernels use too."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one run of a kernel does: floating-point operations, bytes it reads and writes."""

    flops: int
    bytes: int


def work(kernel: Loops | Call | Chain) -> Work:
    match kernel:
        case Loops():
            return _loops(kernel)
        case Call():
            types = [[x.type for x in operands] for operands in (kernel.inputs, kernel.outputs)]
            after = Work(0, 0) if kernel.after is None else _loops(kernel.after)
            return Work(
                kernel.op.flops(*types) + after.flops, kernel.op.bytes_moved(*types) + after.bytes
            )
        case Chain():
            parts = [work(each) for each in kernel.body.kernels if not isinstance(each, Nested)]
            times = math.prod(kernel.outer + kernel.serial)
            return Work(times * sum(p.flops for p in parts), times * sum(p.bytes for p in parts))


def nanoseconds(kernel: Loops | Call | Chain) -> int:
    """One run of a kernel on one core."""
    if isinstance(kernel, Chain):
        parts = [each for each in kernel.body.kernels if not isinstance(each, Nested)]
        return math.prod(kernel.outer + kernel.serial) * sum(map(nanoseconds, parts))
    done = work(kernel)
    if isinstance(kernel, Loops):
        return CALL + round(done.bytes / BYTES + done.flops / ARITHMETIC)
    after = Work(0, 0) if kernel.after is None else _loops(kernel.after)
    products = done.flops - after.flops
    return (
        CALL
        + round(products / PRODUCTS + after.flops / ARITHMETIC + done.bytes / BYTES)
        + (CALL if kernel.after is not None else 0)
    )


def _loops(loops: Loops) -> Work:
    rows = math.prod(loops.outer)
    size = {Extent.ROW: rows, Extent.FULL: rows * math.prod(loops.inner)}
    moved = sum(
        size[loops.steps[s.value].extent] * loops.steps[s.value].dtype.itemsize
        for s in loops.stores
    )
    flops = 0
    for step in loops.steps:
        match step:
            case Load():
                moved += size[step.extent] * step.dtype.itemsize
            case Element():
                moved += size[step.extent] * sum(x.dtype.itemsize for x in step.types)
                flops += size[step.extent] * INDEXING
            case Fold():
                flops += size[Extent.FULL]
            case Apply():
                operands = [TensorType((), loops.steps[i].dtype) for i in step.arguments]
                one = step.op.flops(operands, [TensorType((), step.dtype)])
                flops += size[step.extent] * max(1, one)
    return Work(flops, moved)
