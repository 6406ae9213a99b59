"""Parts of kernels: one result of a fused kernel made again from the others that it stores.

A kernel that stores x and gelu(x), or a residual stream and its layer norm, need not run again as a
whole where the one is there and the other is not. What is stored is what the kernel goes on with,
so that the bits are the same.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping

from pullback.schedule.kernels import (
    Apply,
    Call,
    Extent,
    Kernel,
    Literal,
    Load,
    Loops,
    Step,
    Store,
)

LEAST = 1024
"""Bytes of a result that is worth a kernel."""


def parts_of(kernel: Kernel) -> tuple[Loops, ...]:
    """For each result of a kernel the elementwise work that makes it of others that are stored,
    where there is such work."""
    match kernel:
        case Loops():
            return tuple(_parts(kernel, frozenset()))
        case Call(after=Loops() as after):
            return tuple(_parts(after, frozenset([x.buffer for x in kernel.outputs])))
    return ()


def _parts(loops: Loops, inside: frozenset[int]) -> Iterator[Loops]:
    """Loads of the buffers `inside` are values that lie in no memory, unless they are stored."""
    counts = Counter([store.access.buffer for store in loops.stores])
    stored = {store.value: store for store in loops.stores if counts[store.access.buffer] == 1}
    if len(loops.stores) < 2:
        return
    for value, store in stored.items():
        others = {i: x for i, x in stored.items() if i != value and x is not store}
        part = _sliced(loops, store, others, inside)
        if part is not None and _bytes(loops, store) >= LEAST:
            yield part


def _sliced(
    loops: Loops, target: Store, stored: Mapping[int, Store], inside: frozenset[int]
) -> Loops | None:
    """The steps that make `target` of what is stored; None where that is not elementwise work."""
    needed, pending = set[int](), [target.value]
    while pending:
        i = pending.pop()
        if i in needed:
            continue
        needed.add(i)
        step = loops.steps[i]
        if i in stored:
            continue
        match step:
            case Apply():
                pending += step.arguments
            case Load() if step.access.buffer in inside:
                return None
            case Load() | Literal():
                pass
            case _:
                return None
    if needed.isdisjoint(stored):
        return None
    place = {i: k for k, i in enumerate(sorted(needed))}
    steps: list[Step] = []
    for i in place:
        step = loops.steps[i]
        if i in stored:
            step = Load(stored[i].access, step.dtype, step.extent)
        elif isinstance(step, Apply):
            arguments = tuple([place[j] for j in step.arguments])
            step = Apply(step.op, arguments, step.dtype, step.extent, step.site)
        steps.append(step)
    last = Store(place[target.value], target.access)
    return Loops(loops.outer, loops.inner, tuple(steps), (last,))


def _bytes(loops: Loops, store: Store) -> int:
    step = loops.steps[store.value]
    count = math.prod(loops.outer)
    if step.extent is Extent.FULL:
        count *= math.prod(loops.inner)
    return count * step.dtype.itemsize
