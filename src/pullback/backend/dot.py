"""Dot products: one row, one column.

Element k goes to lane k mod (4 vectors); each lane adds its products in order, then the lanes are
added in halves: the upper half to the lower, until one is left. The order depends on K alone.
"""

from __future__ import annotations

from pullback.backend.assembly import Function, Ssa, integer, splat, vector, width_of
from pullback.backend.packing import (
    VECTOR_BYTES,
    bytes_of,
    load_prefix,
    narrowed,
    offset,
    shifted,
    stored,
    summed,
    widened,
)
from pullback.backend.place import (
    Epilogue,
    Place,
    is_floating,
    multiply_add,
    start_value,
    store_result,
)
from pullback.backend.product import Product

VECTORS = 4


def write_dot(f: Function, product: Product, epilogue: Epilogue | None, results: int) -> int:
    """The body of the kernel, one batch an iteration; returns the bytes of scratch it needs."""
    operands, begin, end, scratch = f.parameters
    raw, element = stored(product.dtype), summed(product.dtype)
    lanes = VECTOR_BYTES // bytes_of(element)
    pointers = [f.load("ptr", shifted(f, operands, "ptr", i), 8) for i in range(2 + results)]
    dense = len(product.inner) == 1 and product.inner[0].a == product.inner[0].b == 1
    with f.loop(begin, end) as loop:
        number = loop.index
        indices: list[Ssa] = []
        for axis in reversed(product.batch):
            indices.insert(0, f.binary("urem", number, integer(axis.size)))
            number = f.binary("udiv", number, integer(axis.size))
        a, b, c = pointers[:3]
        for axis, index in zip(product.batch, indices, strict=True):
            a = offset(f, a, raw, index, axis.a)
            b = offset(f, b, raw, index, axis.b)
            c = offset(f, c, raw, index, axis.c)
        if dense:
            vectors = _dense(f, product.depth, lanes, (raw, element), (a, b))
        else:
            vectors = _scattered(f, product, lanes, (raw, element), (a, b), scratch)
        total = narrowed(f, _folded(f, vectors), raw)
        place = Place(tuple(indices), integer(0), integer(0), 1, 1, tuple(pointers[2:]))
        store_result(f, total, c, 0, place, epilogue)
    return 0 if dense else VECTORS * VECTOR_BYTES


def _dense(
    f: Function, depth: int, lanes: int, kinds: tuple[str, str], at: tuple[Ssa, Ssa]
) -> list[Ssa]:
    """Both operands lie in one piece: vectors at once, then what is left."""
    span = VECTORS * lanes
    sums = [splat(start_value(kinds[1], sums=True), lanes)] * VECTORS
    whole = depth // span * span
    if whole:
        with f.loop(integer(0), integer(whole), span, carried=sums) as loop:
            a, b = (f.at(pointer, kinds[0], loop.index) for pointer in at)
            loop.carry(*_block(f, span, lanes, kinds[0], (a, b), list(loop.values)))
        sums = list(loop.results)
    a, b = (shifted(f, pointer, kinds[0], whole) for pointer in at)
    return _block(f, depth - whole, lanes, kinds[0], (a, b), sums)


def _block(
    f: Function, count: int, lanes: int, raw: str, at: tuple[Ssa, Ssa], sums: list[Ssa]
) -> list[Ssa]:
    added = list(sums)
    for i in range(-(-count // lanes)):
        here = min(lanes, count - i * lanes)
        x, y = (
            widened(f, load_prefix(f, raw, lanes, here, shifted(f, pointer, raw, i * lanes)))
            for pointer in at
        )
        added[i] = multiply_add(f, x, y, sums[i])
        if here < lanes:
            bits = ", ".join(f"i1 {str(j < here).lower()}" for j in range(lanes))
            added[i] = f.select(Ssa(f"<{lanes} x i1>", f"<{bits}>"), added[i], sums[i])
    return added


def _scattered(
    f: Function,
    product: Product,
    lanes: int,
    kinds: tuple[str, str],
    at: tuple[Ssa, Ssa],
    scratch: Ssa,
) -> list[Ssa]:
    """Any steps: one element at a time into the lanes, which rest in scratch."""
    raw, element = kinds
    kind, span = vector(lanes, element), VECTORS * lanes
    zeros = splat(start_value(element, sums=True), lanes)
    places = [shifted(f, scratch, element, i * lanes) for i in range(VECTORS)]
    for place in places:
        f.store(zeros, place, VECTOR_BYTES)
    with f.loop(integer(0), integer(product.depth)) as loop:
        (a, b), number = at, loop.index
        for axis in reversed(product.inner):
            index = f.binary("urem", number, integer(max(1, axis.size)))
            number = f.binary("udiv", number, integer(max(1, axis.size)))
            a, b = offset(f, a, raw, index, axis.a), offset(f, b, raw, index, axis.b)
        lane = f.binary("and", loop.index, integer(span - 1))
        place = f.at(scratch, element, lane)
        x, y = (widened(f, f.load(raw, pointer, bytes_of(raw))) for pointer in (a, b))
        total = f.load(element, place, bytes_of(element))
        f.store(multiply_add(f, x, y, total), place, bytes_of(element))
    return [f.load(kind, place, VECTOR_BYTES) for place in places]


def _folded(f: Function, vectors: list[Ssa]) -> Ssa:
    """All lanes added in halves."""
    while len(vectors) > 1:
        half = len(vectors) // 2
        vectors = [_add(f, x, y) for x, y in zip(vectors[:half], vectors[half:], strict=True)]
    (total,) = vectors
    width = width_of(total.type)
    while width > 2:
        width //= 2
        low = f.shuffle(total, total, range(width))
        high = f.shuffle(total, total, range(width, 2 * width))
        total = _add(f, low, high)
    return _add(f, f.lane(total, 0), f.lane(total, 1))


def _add(f: Function, x: Ssa, y: Ssa) -> Ssa:
    return f.binary("fadd" if is_floating(x.type) else "add", x, y)
