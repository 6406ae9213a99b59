"""Elementwise work on the result of a product, done by the product before it stores.

A product here is a contraction or a convolution.

A kernel of loops joins a product when it runs over exactly the product's elements and takes each of
them where it is made. The sum is complete by then, so the bits are those of the two kernels.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from pullback.ir.op import Op
from pullback.ir.strided import Strided, row_major_strides
from pullback.ir.types import Shape
from pullback.ops.contract import Contract
from pullback.ops.convolve import Convolution
from pullback.schedule.kernels import (
    Access,
    Apply,
    Call,
    Kernel,
    Literal,
    Load,
    Loops,
    Schedule,
    Step,
    Store,
)

Rank = tuple[int, int]
"""The place of a kernel, and its number among those that have moved there."""


def join_epilogues(schedule: Schedule) -> Schedule:
    """The same schedule with each elementwise kernel that can be in a product before it."""
    return replace(schedule, kernels=_Joiner(schedule).joined())


class _Joiner:
    """Kernels by their places in the schedule given; each that has moved has a rank of its own."""

    def __init__(self, schedule: Schedule) -> None:
        self.kernels: dict[int, Kernel] = dict(enumerate(schedule.kernels))
        self.ranks: dict[int, Rank] = {i: (i, 0) for i in self.kernels}
        self.reads = [kernel.reads() for kernel in schedule.kernels]
        self.writes = [kernel.writes() for kernel in schedule.kernels]
        self.products = {
            kernel.outputs[0].buffer: i
            for i, kernel in self.kernels.items()
            if isinstance(kernel, Call) and _has_epilogue(kernel.op)
        }
        self.readers: dict[int, list[int]] = {}
        for i, buffers in enumerate(self.reads):
            self._note(i, buffers)
        self.uses = Counter({buffer: len(readers) for buffer, readers in self.readers.items()})
        self.uses.update(schedule.outputs)

    def _note(self, i: int, buffers: Iterable[int]) -> None:
        for buffer in buffers:
            self.readers.setdefault(buffer, []).append(i)

    def joined(self) -> tuple[Kernel, ...]:
        for i, kernel in list(self.kernels.items()):
            if isinstance(kernel, Loops):
                self._join(kernel, i)
        return tuple([self.kernels[i] for i in sorted(self.kernels, key=self.ranks.__getitem__)])

    def _join(self, loops: Loops, last: int) -> None:
        """Put a kernel of loops into the latest product that it can be in."""
        results = [b for b in self.reads[last] if b in self.products]
        if not (results and loops.stores and _is_elementwise(loops)):
            return
        for result in sorted(results, key=lambda b: self.ranks[self.products[b]], reverse=True):
            first = self.products[result]
            product = self.kernels[first]
            assert isinstance(product, Call)
            after = _epilogue(product, loops)
            if after is None:
                continue
            waiting = self._dependents(first, last)
            if any(self.writes[i] & self.reads[last] for i in waiting):
                continue
            if self.uses[result] > 1:
                after = _kept(after, result)
            self._move(first, last, waiting)
            self._put(first, replace(product, after=after))
            del self.products[result]
            return

    def _dependents(self, first: int, last: int) -> list[int]:
        """Those between that need the first one, directly or through others, in order."""
        ranks, end = self.ranks, self.ranks[last]
        found: set[int] = set()
        pending = [first]
        while pending:
            for buffer in self.writes[pending.pop()]:
                for i in self.readers.get(buffer, ()):
                    if i in self.kernels and i not in found and ranks[i] < end:
                        found.add(i)
                        pending.append(i)
        return sorted(found, key=ranks.__getitem__)

    def _move(self, first: int, last: int, waiting: Sequence[int]) -> None:
        """The kernel `first` to the place of `last`, which goes; behind it those that need it."""
        del self.kernels[last]
        for i, kernel in enumerate((first, *waiting)):
            self.ranks[kernel] = (last, i)

    def _put(self, i: int, kernel: Kernel) -> None:
        self.kernels[i] = kernel
        reads = kernel.reads()
        self._note(i, reads - self.reads[i])
        self.reads[i], self.writes[i] = reads, kernel.writes()


def _has_epilogue(op: Op) -> bool:
    return isinstance(op, Contract) or (isinstance(op, Convolution) and op.in_order)


def _places(product: Call) -> Shape:
    """The places of the result, as the product counts them."""
    shape = product.outputs[0].layout.shape
    if isinstance(product.op, Convolution):
        return (*shape[:2], math.prod(shape[2:]))
    return shape


def _is_elementwise(loops: Loops) -> bool:
    plain = all(isinstance(step, Load | Literal | Apply) for step in loops.steps)
    return plain and not loops.inner


def _epilogue(product: Call, loops: Loops) -> Loops | None:
    """`loops` over the places of the product's result; None where it is not its epilogue."""
    (result,) = product.outputs
    places = _places(product)
    if math.prod(loops.outer) != math.prod(places):
        return None
    seen = _seen_as(loops, places)
    if seen is None:
        return None
    loads = [step.access for step in seen.steps if isinstance(step, Load)]
    own = [Strided(seen.outer, x.outer, x.offset) for x in loads if x.buffer == result.buffer]
    return seen if all(place.is_row_major for place in own) else None


def _kept(after: Loops, result: int) -> Loops:
    """The epilogue that stores the result of the product too."""
    value = next(
        i
        for i, step in enumerate(after.steps)
        if isinstance(step, Load) and step.access.buffer == result
    )
    own = Access(result, 0, row_major_strides(after.outer), ())
    return replace(after, stores=(Store(value, own), *after.stores))


def _seen_as(loops: Loops, shape: Shape) -> Loops | None:
    """The same elementwise work over a domain of another shape; None where no strides say it."""
    steps: list[Step] = []
    for step in loops.steps:
        if isinstance(step, Load):
            access = _reshaped(step.access, loops.outer, shape)
            if access is None:
                return None
            step = Load(access, step.dtype, step.extent)
        steps.append(step)
    stores = []
    for store in loops.stores:
        access = _reshaped(store.access, loops.outer, shape)
        if access is None:
            return None
        stores.append(Store(store.value, access))
    return Loops(shape, (), tuple(steps), tuple(stores))


def _reshaped(access: Access, domain: Shape, shape: Shape) -> Access | None:
    seen = Strided(domain, access.outer, access.offset).reshaped(shape)
    return None if seen is None else Access(access.buffer, seen.offset, seen.strides, ())
