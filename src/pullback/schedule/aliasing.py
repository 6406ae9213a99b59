"""Where a kernel may write a result over an operand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pullback.schedule.kernels import Access, Call, Fold, Kernel, Load, Loops


def in_place(kernel: Kernel) -> tuple[tuple[int, int], ...]:
    """Pairs (written, read): the one may lie where the other does.

    Each element of the operand is read at the place where the result is written alone. A kernel
    that folds reads rows more than once, and so what it has written. The work after a product reads
    in place what the product itself does not read.
    """
    if isinstance(kernel, Call) and kernel.after is not None:
        whole = {x.buffer for x in (*kernel.inputs, *kernel.outputs)}
        return tuple([pair for pair in _pairs(kernel.after) if pair[1] not in whole])
    if not isinstance(kernel, Loops) or any(isinstance(step, Fold) for step in kernel.steps):
        return ()
    return tuple(_pairs(kernel))


def _pairs(loops: Loops) -> Iterator[tuple[int, int]]:
    reads: dict[int, set[tuple[Access, int]]] = {}
    for step in loops.steps:
        if isinstance(step, Load):
            each = step.access, step.dtype.itemsize
            reads.setdefault(step.access.buffer, set()).add(each)
    for buffer in loops.reads_elsewhere() & set(reads):
        del reads[buffer]
    for store in loops.stores:
        size = loops.steps[store.value].dtype.itemsize
        for buffer, accesses in reads.items():
            if accesses == {(replace(store.access, buffer=buffer), size)}:
                yield store.access.buffer, buffer
