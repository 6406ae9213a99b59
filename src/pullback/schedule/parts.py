"""Parts of kernels: one result of a fused kernel made again from the others that it stores.

A kernel that stores x and gelu(x), or a residual stream and its layer norm, need not run again as a
whole where the one is there and the other is not. What is stored is what the kernel goes on with,
so that the bits are the same. And a product that stores both may store one alone, where there is no
room for the other.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from pullback.ops.contract import Contract
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


def parts_of(kernel: Kernel) -> tuple[Loops | Call, ...]:
    """For each result of a kernel the elementwise work that makes it of others that are stored,
    where there is such work; for each of a product the product that stores it alone."""
    match kernel:
        case Loops():
            return tuple(_parts(kernel, frozenset()))
        case Call(after=Loops() as after):
            inside = frozenset([x.buffer for x in kernel.outputs])
            return (*_parts(after, inside), *_alone(kernel, after))
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


def _alone(call: Call, after: Loops) -> Iterator[Call]:
    """The kernel with one store; with others the product itself could be blocked otherwise, and ask
    for more scratch."""
    if len(after.stores) < 2 or not isinstance(call.op, Contract) or call.adds:
        return
    walks = _walks(after)
    for store in after.stores:
        needed = _needed(after, store.value)
        steps = [after.steps[i] for i in needed]
        if all(isinstance(step, Load | Literal | Apply) for step in steps):
            one = _renumbered(after, needed, store)
            if _walks(one) == walks and _bytes(after, store) >= LEAST:
                yield replace(call, after=one)


def _walks(loops: Loops) -> set[tuple[int, ...]]:
    """How its operands and results are walked through."""
    loads = [step.access for step in loops.steps if isinstance(step, Load)]
    return {access.outer for access in (*loads, *[store.access for store in loops.stores])}


def _needed(loops: Loops, value: int) -> list[int]:
    """The elementwise steps that a value is made by, in order."""
    needed, pending = set[int](), [value]
    while pending:
        i = pending.pop()
        if i not in needed:
            needed.add(i)
            step = loops.steps[i]
            pending += step.arguments if isinstance(step, Apply) else ()
    return sorted(needed)


def _renumbered(loops: Loops, needed: Sequence[int], store: Store) -> Loops:
    place = {i: k for k, i in enumerate(needed)}
    steps = [
        replace(step, arguments=tuple([place[j] for j in step.arguments]))
        if isinstance(step, Apply)
        else step
        for step in [loops.steps[i] for i in needed]
    ]
    return Loops(
        loops.outer, loops.inner, tuple(steps), (replace(store, value=place[store.value]),)
    )


def _bytes(loops: Loops, store: Store) -> int:
    step = loops.steps[store.value]
    count = math.prod(loops.outer)
    if step.extent is Extent.FULL:
        count *= math.prod(loops.inner)
    return count * step.dtype.itemsize
