"""What follows the sum: where an element stands, the epilogue, the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pullback.backend.assembly import Function, Ssa, element_of, floating
from pullback.backend.packing import bytes_of, shifted, store_prefix


@dataclass(frozen=True)
class Place:
    """Where a vector of results stands: its batch, its row, and `count` columns from `column`."""

    batch: tuple[Ssa, ...]
    """One index for each batch axis of the product."""
    row: Ssa
    column: Ssa
    count: int
    lanes: int
    operands: tuple[Ssa, ...]
    """Pointers to the operands after A and B."""

    @property
    def mask(self) -> Ssa | None:
        """The lanes that exist; None when all do."""
        if self.count == self.lanes:
            return None
        bits = ", ".join(f"i1 {str(i < self.count).lower()}" for i in range(self.lanes))
        return Ssa(f"<{self.lanes} x i1>", f"<{bits}>" if self.lanes > 1 else "true")


Epilogue = Callable[[Function, Ssa, Place], Ssa | None]
"""The vector to store, from the vector of sums (rounded to the element type of the product).

None when the epilogue stored what it wanted itself.
"""

Lines = Callable[[Function, Place], Iterator[tuple[Ssa, bool]]]
"""The cache lines that an epilogue touches at a row of a tile, and whether it writes them."""


def is_floating(kind: str) -> bool:
    return element_of(kind) in ("float", "double")


def start_value(element: str, sums: bool) -> Ssa:
    """What a sum starts from; −0 + x·y is x·y even when that is −0."""
    if not is_floating(element):
        return Ssa(element, "0")
    return floating(0.0 if sums else -0.0, element)


def multiply_add(f: Function, x: Ssa, y: Ssa, total: Ssa) -> Ssa:
    """x·y + total, rounded once."""
    if is_floating(x.type):
        return f.intrinsic("fma", x, y, total)
    return f.binary("add", f.binary("mul", x, y), total)


def store_result(
    f: Function, value: Ssa, target: Ssa, step: int, place: Place, epilogue: Epilogue | None
) -> None:
    """Run the epilogue, and store the lanes that exist, `step` elements apart."""
    result = epilogue(f, value, place) if epilogue else value
    if result is None:
        return
    if step == 1:
        store_prefix(f, result, place.count, target)
        return
    element = element_of(result.type)
    for lane in range(place.count):
        here = shifted(f, target, element, lane * step)
        f.store(f.lane(result, lane) if place.lanes > 1 else result, here, bytes_of(element))
