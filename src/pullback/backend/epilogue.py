"""The elementwise work after a product, on vectors of its results while they are in registers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pullback.backend.assembly import Function, Ssa, element_of
from pullback.backend.lanes import Lanes, from_memory, memory_element, to_memory
from pullback.backend.packing import bytes_of, load_strided, offset, shifted, store_prefix
from pullback.backend.place import Place
from pullback.backend.product import Axis
from pullback.backend.vector import Vector
from pullback.ir.types import DType
from pullback.schedule.kernels import Access, Apply, Literal, Load, Loops

LINE = 64
"""Bytes of a cache line."""


def accesses(after: Loops) -> list[Access]:
    """What an epilogue reads and writes, in the order of `Axis.others`."""
    loads = [step.access for step in after.steps if isinstance(step, Load)]
    return [*loads, *(store.access for store in after.stores)]


@dataclass(frozen=True, slots=True)
class Pointwise:
    """The epilogue `after` of a product whose sums lie, as far as it is concerned, in `result`.

    A place has an index for each of the `axes`: batch axes, row, column. It finds operand
    `buffers[i]` at the i-th pointer of a place.
    """

    after: Loops
    axes: Sequence[Axis]
    result: int
    buffers: Sequence[int]

    def __call__(self, f: Function, sums: Ssa, place: Place) -> None:
        lanes = Lanes(f, place.lanes)
        # At once: LLVM takes bfloat vectors that live from block to block apart, by the C runtime.
        results = {step: _as_vector(f, sums, step.dtype) for step in self._of_result()}
        values: list[Vector] = []
        number = 0
        for step in self.after.steps:
            match step:
                case Load():
                    values.append(results.get(step) or self._load(f, step, number, place))
                    number += 1
                case Literal():
                    values.append(lanes.literal(step.value, step.dtype))
                case Apply():
                    values.append(lanes.apply(step.op, *[values[i] for i in step.arguments]))
                case _:
                    raise AssertionError(step)
        for store in self.after.stores:
            self._store(f, values[store.value], store.access, number, place)
            number += 1

    def lines(self, f: Function, place: Place) -> Iterator[tuple[Ssa, bool]]:
        """The cache lines of a row of results that lie in memory side by side."""
        loads = [step for step in self.after.steps if isinstance(step, Load)]
        values = [*loads, *(self.after.steps[store.value] for store in self.after.stores)]
        for number, access in enumerate(accesses(self.after)):
            is_written = number >= len(loads)
            row, column = (_step(axis, number) for axis in self.axes[-2:])
            if column != 1 or row == 0 or (access.buffer == self.result and not is_written):
                continue
            kind = memory_element(values[number].dtype)
            here, _ = self._at(f, access, number, kind, place)
            for start in range(0, place.count, LINE // bytes_of(kind)):
                yield shifted(f, here, kind, start), is_written

    def _of_result(self) -> list[Load]:
        loads = [step for step in self.after.steps if isinstance(step, Load)]
        return [step for step in loads if step.access.buffer == self.result]

    def _load(self, f: Function, load: Load, number: int, place: Place) -> Vector:
        kind = memory_element(load.dtype)
        here, step = self._at(f, load.access, number, kind, place)
        return from_memory(_read(f, kind, here, step, place), f, load.dtype)

    def _store(self, f: Function, x: Vector, access: Access, number: int, place: Place) -> None:
        value = to_memory(x)
        here, step = self._at(f, access, number, element_of(value.type), place)
        if step == 1:
            store_prefix(f, value, place.count, here, x.dtype.itemsize)
            return
        for lane in range(place.count):
            at = shifted(f, here, element_of(value.type), lane * step)
            f.store(f.lane(value, lane) if place.lanes > 1 else value, at, x.dtype.itemsize)

    def _at(
        self, f: Function, access: Access, number: int, kind: str, place: Place
    ) -> tuple[Ssa, int]:
        """The address of the first lane, and the step from one lane to the next."""
        pointer = place.operands[self.buffers.index(access.buffer)]
        pointer = shifted(f, pointer, kind, access.offset)
        indices = (*place.batch, place.row, place.column)
        for axis, index in zip(self.axes, indices, strict=True):
            pointer = offset(f, pointer, kind, index, _step(axis, number))
        return pointer, _step(self.axes[-1], number)


def _step(axis: Axis, number: int) -> int:
    return axis.others[number] if axis.others else 0


def _read(f: Function, kind: str, here: Ssa, step: int, place: Place) -> Ssa:
    if place.lanes == 1 or step == 0:
        return f.spread(f.load(kind, here, bytes_of(kind)), place.lanes)
    return load_strided(f, kind, place.lanes, place.count, here, step)


def _as_vector(f: Function, sums: Ssa, dtype: DType) -> Vector:
    """The sums of a product, which are numbers as memory holds them."""
    return from_memory(f.convert("bitcast", sums, memory_element(dtype)), f, dtype)
