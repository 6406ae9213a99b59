"""Indices sink towards the operands, and what an index says of every element becomes elementwise.

To gather from an elementwise result is to gather from its operands, which reads less. A scatter of
one update a row, and a triangle, hold for every element by its coordinates alone: written so, they
join the kernel of what they are made of. With that a cross-entropy by labels, and its gradient, is
work on rows of logits and nothing else.

Exact, because no element is computed otherwise.
"""

from __future__ import annotations

import math

from pullback.ir.array import Array
from pullback.ir.families import Elementwise
from pullback.ir.types import Shape, int32
from pullback.ops.create import Iota
from pullback.ops.diagonal import Triangle
from pullback.ops.index import Gather, Place, ScatterAdd
from pullback.ops.operators import (
    broadcast_to,
    cast,
    equal,
    less_equal,
    reshape,
    select,
    transpose,
    zeros,
)
from pullback.passes.rewrite import LITERAL, Result, Rewrites, Sweep, rewrites

LARGEST = 1 << 31
"""Coordinates below are compared in 32 bits."""


@rewrites(Gather, of=Elementwise)
def sunk_gather(sweep: Sweep, op: Gather, x: Array, *indices: Array) -> Result:
    """f(x, y)[i] = f(x[i], y[i]), where that computes fewer elements."""
    node = sweep.maker(x, Elementwise)
    shape = op.infer(x.type, *[i.type for i in indices]).shape
    if node is None or math.prod(shape) >= x.size:
        return None
    assert isinstance(node.op, Elementwise)
    read = [_gathered(op, y, x.shape, indices) for y in node.inputs]
    if all(thin for _, thin in read):
        return None  # the indices would no longer be checked
    return node.op(*[y for y, _ in read])


def _gathered(op: Gather, y: Array, shape: Shape, indices: tuple[Array, ...]) -> tuple[Array, bool]:
    """An operand of an elementwise op at the indices, and whether it is the same at all of them."""
    if y.size == 1:
        return reshape(y, ()), True
    y = reshape(y, (*(1,) * (len(shape) - y.ndim), *y.shape))
    if any(y.shape[a] != 1 for a in op.axes):
        return op(broadcast_to(y, shape), *indices), False
    rest = [a for a in range(y.ndim) if a not in op.axes and a not in op.batch_axes]
    lead = len(op.batch_axes)
    moved = transpose(y, (*op.batch_axes, *op.axes, *rest))
    kept = (
        *moved.shape[:lead],
        *(1,) * (indices[0].ndim - lead),
        *moved.shape[lead + len(op.axes) :],
    )
    return reshape(moved, kept), True


@rewrites(ScatterAdd, of=LITERAL)
def scatter_of_one(
    sweep: Sweep, op: ScatterAdd, base: Array, updates: Array, *indices: Array
) -> Result:
    """One update in each row of zeros is where(coordinate = index, update, 0)."""
    zero = sweep.literals.get(base)
    once = len(indices) == 1 and indices[0].ndim == len(op.batch_axes)
    if zero is None or zero.value != 0 or not once:
        return None
    (axis,), (index,) = op.axes, indices
    size = base.shape[axis]
    if size >= LARGEST or updates.size * size != base.size:
        return None
    rest = [a for a in range(base.ndim) if a != axis and a not in op.batch_axes]
    order = (*op.batch_axes, *rest)
    place = cast(Place(axis, size, op.from_end)(index), int32)
    place = reshape(place, (*place.shape, *(1,) * len(rest)))
    # A sum that begins with 0 is 0 + update: 0 where the update is -0.
    rows = updates + zeros(updates.type)
    inverse = tuple(sorted(range(len(order)), key=order.__getitem__))
    place, rows = (
        reshape(y, (*y.shape[:axis], 1, *y.shape[axis:]))
        for y in (transpose(place, inverse), transpose(rows, inverse))
    )
    chosen = equal(_coordinate(size, axis, base.ndim), place)
    return broadcast_to(select(chosen, rows, zeros(rows.type)), base.shape)


@rewrites(Triangle)
def triangle_by_coordinates(sweep: Sweep, op: Triangle, x: Array) -> Result:
    """A triangle is where(column ≤ row + offset, x, 0)."""
    *_, rows, columns = x.shape
    if max(rows, columns) + abs(op.offset) >= LARGEST:
        return None
    row, column = _coordinate(rows, 0, 2) + op.offset, _coordinate(columns, 1, 2)
    inside = less_equal(column, row) if op.lower else less_equal(row, column)
    return select(inside, x, zeros(x.type))


def _coordinate(size: int, axis: int, ndim: int) -> Array:
    return reshape(Iota(size, int32)(), (size, *(1,) * (ndim - axis - 1)))


INDEXING = Rewrites(sunk_gather, scatter_of_one, triangle_by_coordinates)
