"""Elementwise work on the result of a product, done by the product before it stores.

A product here is a contraction or a convolution.

A kernel of loops joins a product when it runs over exactly the product's elements and takes each of
them where it is made. The sum is complete by then, so the bits are those of the two kernels.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pullback.ir.op import Op
from pullback.ir.strided import Strided, row_major_strides
from pullback.ir.types import Shape
from pullback.ops.contract import Contract
from pullback.ops.convolve import Convolution
from pullback.schedule.kernels import (
    Access,
    Apply,
    Call,
    Literal,
    Load,
    Loops,
    Schedule,
    Step,
    Store,
)


def join_epilogues(schedule: Schedule) -> Schedule:
    """The same schedule with each elementwise kernel that can be in a product before it."""
    return replace(schedule, kernels=tuple(_Joiner(schedule).kernels))


class _Joiner:
    def __init__(self, schedule: Schedule) -> None:
        self.kernels = list(schedule.kernels)
        self.reads = [kernel.reads() for kernel in self.kernels]
        self.writes = [kernel.writes() for kernel in self.kernels]
        self.products = {
            kernel.outputs[0].buffer: kernel
            for kernel in self.kernels
            if isinstance(kernel, Call) and _has_epilogue(kernel.op)
        }
        self.readers = Counter(b for buffers in self.reads for b in buffers)
        self.readers.update(schedule.outputs)
        position = 0
        while position < len(self.kernels):
            loops = self.kernels[position]
            if not (isinstance(loops, Loops) and self._join(loops, position)):
                position += 1

    def _join(self, loops: Loops, last: int) -> bool:
        """Put the kernel at `last` into the latest product that it can be in."""
        results = [b for b in self.reads[last] if b in self.products]
        if not (results and loops.stores and _is_elementwise(loops)):
            return False
        places = {self._position(self.products[b], last): b for b in results}
        for first in sorted(places, reverse=True):
            result = places[first]
            product = self.products[result]
            after = _epilogue(product, loops)
            if after is None:
                continue
            waiting = self._dependents(first, last)
            if any(self.writes[i] & self.reads[last] for i in waiting):
                continue
            if self.readers[result] > 1:
                after = _kept(after, result)
            self._move(first, last, waiting)
            self._put(last - 1 - len(waiting), replace(product, after=after))
            del self.products[result]
            return True
        return False

    def _position(self, product: Call, last: int) -> int:
        return next(i for i in reversed(range(last)) if self.kernels[i] is product)

    def _dependents(self, first: int, last: int) -> list[int]:
        """Those between that need the first one, directly or through others."""
        written = set(self.writes[first])
        found = []
        for i in range(first + 1, last):
            if not written.isdisjoint(self.reads[i]):
                found.append(i)
                written |= self.writes[i]
        return found

    def _move(self, first: int, last: int, waiting: Sequence[int]) -> None:
        """The kernel at `first` behind those that do not need it; the one at `last` away."""
        columns: tuple[list[Any], ...] = (self.kernels, self.reads, self.writes)
        for column in columns:
            behind = [column[i] for i in waiting]
            for i in (last, *reversed(waiting)):
                del column[i]
            here = column.pop(first)
            at = last - 1 - len(waiting)
            column[at:at] = [here, *behind]

    def _put(self, place: int, kernel: Call) -> None:
        self.kernels[place] = kernel
        self.reads[place], self.writes[place] = kernel.reads(), kernel.writes()


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
