"""Where a kernel may write a result over an operand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pullback._trusted import trusted
from pullback.ir.types import DType
from pullback.ops.onward import Onward
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

Place = tuple[int, tuple[int, ...], tuple[int, ...], int]
"""An access without its buffer: offset, strides, bytes of an element."""


@trusted(frozen=True, slots=True)
class Use:
    """The buffers that a kernel reads and writes, in order; pairs (written, read): the one may lie
    where the other does."""

    reads: tuple[int, ...] = ()
    writes: tuple[int, ...] = ()
    in_place: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, kernel: Kernel) -> Use:
        reads, writes = tuple(sorted(kernel.reads())), tuple(sorted(kernel.writes()))
        return cls(reads, writes, in_place(kernel))

    def on(self, buffers: Sequence[int]) -> Use:
        """The same where buffer i is another."""
        return Use(
            tuple(sorted([buffers[i] for i in self.reads])),
            tuple(sorted([buffers[i] for i in self.writes])),
            tuple([(buffers[w], buffers[r]) for w, r in self.in_place]),
        )


def in_place(kernel: Kernel) -> tuple[tuple[int, int], ...]:
    """Pairs (written, read): the one may lie where the other does.

    Each element of the operand is read at the place where the result is written alone, and by no
    pass over the row after the one that writes. The work after a product reads in place what the
    product itself does not read. One that goes on from sums reads each where it writes it.
    """
    if isinstance(kernel, Call) and kernel.after is not None:
        whole = {x.buffer for x in (*kernel.inputs, *kernel.outputs)}
        return tuple([pair for pair in _pairs(kernel.after) if pair[1] not in whole])
    if isinstance(kernel, Call) and isinstance(kernel.op, Onward):
        *factors, sums = [x.buffer for x in kernel.inputs]
        return () if sums in factors else ((kernel.outputs[0].buffer, sums),)
    return tuple(_pairs(kernel)) if isinstance(kernel, Loops) else ()


def _pairs(loops: Loops) -> Iterator[tuple[int, int]]:
    reads: dict[int, set[Place]] = {}
    for step in loops.steps:
        if isinstance(step, Load):
            reads.setdefault(step.access.buffer, set()).add(_place(step.access, step.dtype))
    for buffer in loops.reads_elsewhere() & set(reads):
        del reads[buffer]
    levels = levels_of(loops.steps)
    last = _last_passes(loops, levels)
    for store in loops.stores:
        value = loops.steps[store.value]
        written = {_place(store.access, value.dtype)}
        for buffer, places in reads.items():
            # The values of rows are stored after all passes.
            if places == written and (
                value.extent is Extent.ROW or last[buffer] <= levels[store.value]
            ):
                yield store.access.buffer, buffer


def _place(access: Access, dtype: DType) -> Place:
    """Where in its buffer an access lies."""
    return access.offset, access.outer, access.inner, dtype.itemsize


def _last_passes(loops: Loops, levels: Sequence[int]) -> dict[int, int]:
    """For each buffer that is loaded the last pass that may read it."""
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
