"""Where a kernel may write a result over an operand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pullback.schedule.kernels import (
    Access,
    Apply,
    Call,
    Extent,
    Fold,
    Kernel,
    Load,
    Loops,
    levels_of,
)


def in_place(kernel: Kernel) -> tuple[tuple[int, int], ...]:
    """Pairs (written, read): the one may lie where the other does.

    Each element of the operand is read at the place where the result is written alone, and by no
    pass over the row after the one that writes. The work after a product reads in place what the
    product itself does not read.
    """
    if isinstance(kernel, Call) and kernel.after is not None:
        whole = {x.buffer for x in (*kernel.inputs, *kernel.outputs)}
        return tuple([pair for pair in _pairs(kernel.after) if pair[1] not in whole])
    return tuple(_pairs(kernel)) if isinstance(kernel, Loops) else ()


def _pairs(loops: Loops) -> Iterator[tuple[int, int]]:
    reads: dict[int, set[tuple[Access, int]]] = {}
    for step in loops.steps:
        if isinstance(step, Load):
            each = step.access, step.dtype.itemsize
            reads.setdefault(step.access.buffer, set()).add(each)
    for buffer in loops.reads_elsewhere() & set(reads):
        del reads[buffer]
    last, levels = _last_passes(loops), levels_of(loops.steps)
    for store in loops.stores:
        value = loops.steps[store.value]
        for buffer, accesses in reads.items():
            same = accesses == {(replace(store.access, buffer=buffer), value.dtype.itemsize)}
            # The values of rows are stored after all passes.
            if same and (value.extent is Extent.ROW or last[buffer] <= levels[store.value]):
                yield store.access.buffer, buffer


def _last_passes(loops: Loops) -> dict[int, int]:
    """For each buffer that is loaded the last pass that may read it."""
    levels = levels_of(loops.steps)
    needed = list(levels)
    for i, step in reversed(list(enumerate(loops.steps))):
        match step:
            case Apply():
                for j in step.arguments:
                    needed[j] = max(needed[j], needed[i])
            case Fold():
                needed[step.argument] = max(needed[step.argument], levels[step.argument])
    last: dict[int, int] = {}
    for step, number in zip(loops.steps, needed, strict=True):
        if isinstance(step, Load):
            last[step.access.buffer] = max(last.get(step.access.buffer, 0), number)
    return last
