"""Elements read from memory at places that vary along the lanes in any way.

A pattern of neighbouring places is read as whole vectors, whose lanes are then put in order: a
stride of two costs two loads and a shuffle, a repeated element nothing more than one load. A place
in a lane that a mask leaves out is never touched.
"""

from __future__ import annotations

from collections.abc import Sequence

from pullback.backend.assembly import Ssa, integer, vector
from pullback.backend.lanes import LANES, from_memory, memory_element
from pullback.backend.ramps import Mixed, Ramp, Value, truth_of
from pullback.backend.vector import Vector, any_lane, where
from pullback.ir.types import DType, bool_

REACH = 4
"""Vectors that a pattern may span; beyond that its elements are read one by one."""


def read(
    mixed: Mixed,
    pointer: Ssa,
    place: Value,
    dtype: DType,
    active: Ssa | None,
    when: Vector | None = None,
    safe: int = 0,
) -> Vector:
    """The elements at `place`, counted from `pointer`; 0 where `when` is false.

    Lanes outside `active` hold anything. `safe` is a place that can always be read.
    """
    known = None if when is None else truth_of(when)
    if known is not None:
        when = None
    if known is False:
        return mixed.single.literal(0, dtype)
    if isinstance(place, Ramp) and place.uniform:
        return _shared(mixed, pointer, place, dtype, active, when, safe)
    mask = _both(mixed, active, when)
    if isinstance(place, Ramp):
        lowest = min(place.pattern)
        span = max(place.pattern) - lowest + 1
        if span <= REACH * LANES:
            x = _pattern(mixed, pointer, place, dtype, mask)
            if when is None or len(set(place.pattern)) == LANES:
                return x
            return where(mixed.spread(when), x, 0)  # lanes that share an element share its reading
        if mask is None:
            return _one_by_one(mixed, pointer, place, dtype)
    return _gathered(mixed, pointer, mixed.spread(place), dtype, mask, when is not None, safe)


def _both(mixed: Mixed, active: Ssa | None, when: Vector | None) -> Ssa | None:
    if when is None:
        return active
    chosen = mixed.spread(when).ssa
    return chosen if active is None else mixed.function.binary("and", active, chosen)


def _shared(
    mixed: Mixed,
    pointer: Ssa,
    place: Ramp,
    dtype: DType,
    active: Ssa | None,
    when: Vector | None,
    safe: int,
) -> Vector:
    """One element for all lanes: read once for the row, if its guard is the row's too."""
    f = mixed.function
    at = mixed.vector(place)
    if when is None or when.width == 1:
        with mixed.ahead():
            if when is None:
                return mixed.single.load(pointer, at.ssa, dtype)
            x = mixed.single.load(pointer, where(when, at, safe).ssa, dtype)
            return where(when, x, 0)
    mask = when.ssa if active is None else f.binary("and", active, when.ssa)
    anywhere = any_lane(Vector(f, mask, bool_))
    x = mixed.single.load(pointer, where(anywhere, at, safe).ssa, dtype)
    return where(when, mixed.spread(x), 0)


def _gathered(
    mixed: Mixed,
    pointer: Ssa,
    places: Vector,
    dtype: DType,
    mask: Ssa | None,
    guarded: bool,
    safe: int,
) -> Vector:
    if mask is None:
        return mixed.wide.gathered(pointer, places, dtype)
    chosen = Vector(mixed.function, mask, bool_)
    x = mixed.wide.gathered(pointer, where(chosen, places, safe), dtype)
    return where(chosen, x, 0) if guarded else x


def _one_by_one(mixed: Mixed, pointer: Ssa, place: Ramp, dtype: DType) -> Vector:
    """A fixed pattern that is too wide for shuffles."""
    f, start = mixed.function, mixed.start(place)
    stored = memory_element(dtype)
    base = f.near(pointer, stored, start)
    kind = vector(LANES, stored)
    collected = Ssa(kind, "poison")
    for lane, offset in enumerate(place.pattern):
        one = f.load(stored, f.near(base, stored, integer(offset)), dtype.itemsize)
        collected = f.assign(kind, f"insertelement {collected}, {one}, i64 {lane}")
    return from_memory(collected, f, dtype)


# ---- patterns -------------------------------------------------------------------------------


def _pattern(mixed: Mixed, pointer: Ssa, place: Ramp, dtype: DType, mask: Ssa | None) -> Vector:
    f, stored = mixed.function, memory_element(dtype)
    lowest = min(place.pattern)
    offsets = [p - lowest for p in place.pattern]
    span = max(offsets) + 1
    base = f.near(pointer, stored, mixed.start(place))
    if mask is None and span < LANES and span & (span - 1) == 0:
        kind = vector(span, stored)
        few = f.load(kind, f.near(base, stored, integer(lowest)), dtype.itemsize)
        return from_memory(f.shuffle(few, few, offsets), f, dtype)
    count = -(-span // LANES)
    starts = [min(LANES * i, max(span - LANES, 0)) for i in range(count)]
    homes = [min(p // LANES, count - 1) for p in offsets]
    collected: Ssa | None = None
    for i, start in enumerate(starts):
        lanes = [p - start if home == i else None for p, home in zip(offsets, homes, strict=True)]
        wanted = _wanted(mixed, mask, lanes, span)
        at = f.near(base, stored, integer(lowest + start))
        block = _block(mixed, at, stored, dtype, wanted)
        collected = _placed(mixed, collected, block, lanes)
    assert collected is not None
    return from_memory(collected, f, dtype)


def _block(mixed: Mixed, at: Ssa, stored: str, dtype: DType, wanted: Ssa | None) -> Ssa:
    f, kind = mixed.function, vector(LANES, stored)
    if wanted is None:
        return f.load(kind, at, dtype.itemsize)
    return f.load_first(kind, at, wanted, Ssa(kind, "zeroinitializer"), dtype.itemsize)


def _wanted(mixed: Mixed, mask: Ssa | None, lanes: Sequence[int | None], span: int) -> Ssa | None:
    """Which elements of a block are read: those that some chosen lane asks for."""
    f = mixed.function
    none = Ssa(f"<{LANES} x i1>", "zeroinitializer")
    readers: list[list[int]] = [[] for _ in range(LANES)]
    for lane, place in enumerate(lanes):
        if place is not None:
            readers[place].append(lane)
    if mask is None:
        if span >= LANES:
            return None
        inside = ", ".join(f"i1 {str(i < span).lower()}" for i in range(LANES))
        return Ssa(f"<{LANES} x i1>", f"<{inside}>")
    if list(lanes) == list(range(LANES)):
        return mask
    wanted = none
    for turn in range(max(map(len, readers))):
        order = [each[turn] if turn < len(each) else LANES for each in readers]
        chosen = f.shuffle(mask, none, order)
        wanted = chosen if turn == 0 else f.binary("or", wanted, chosen)
    return wanted


def _placed(mixed: Mixed, collected: Ssa | None, block: Ssa, lanes: Sequence[int | None]) -> Ssa:
    """The elements of a block in the lanes that ask for them."""
    f = mixed.function
    if collected is None:
        if list(lanes) == list(range(LANES)):
            return block
        return f.shuffle(block, block, [0 if p is None else p for p in lanes])
    order = [lane if p is None else LANES + p for lane, p in enumerate(lanes)]
    return f.shuffle(collected, block, order)
