"""How long a kernel takes on one core, roughly: enough to say what is too small to be shared out.

The estimate depends on the graph alone, never on the machine or on the number of threads.
"""

from __future__ import annotations

import math

from pullback.ir.types import TensorType
from pullback.schedule.kernels import Apply, Call, Element, Extent, Fold, Load, Loops

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


def nanoseconds(kernel: Loops | Call) -> int:
    """One run of a kernel on one core."""
    match kernel:
        case Loops():
            return _loops(kernel)
        case Call():
            types = [
                [TensorType(x.layout.shape, x.dtype) for x in operands]
                for operands in (kernel.inputs, kernel.outputs)
            ]
            moved = kernel.op.bytes_moved(*types)
            after = 0 if kernel.after is None else _loops(kernel.after)
            return CALL + round(kernel.op.flops(*types) / PRODUCTS + moved / BYTES) + after


def _loops(loops: Loops) -> int:
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
    return CALL + round(moved / BYTES + flops / ARITHMETIC)
