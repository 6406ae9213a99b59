"""A sum of zero-padded pieces that lie side by side is one array.

The gradient of a value that was cut in pieces, as the gates of a recurrence or the heads of an
attention are, is the sum of theirs, each padded to all of it. Written as a concatenation it is
stored piece by piece where it belongs: nothing is padded, and nothing is added.

Exact: in the sum each element of a piece meets zeros only, and −0 + 0 is 0, as in `x + 0` here.
"""

from __future__ import annotations

import math

from pullback.ir.array import Array
from pullback.ir.types import is_float
from pullback.ops.layout import Concat, Pad
from pullback.ops.operators import zeros
from pullback.ops.pointwise import Add
from pullback.passes.rewrite import Result, Rewrites, Sweep, rewrites


@rewrites(Add, of=Pad)
def sum_of_pieces(sweep: Sweep, op: Add, x: Array, y: Array) -> Result:
    """Two pieces that touch along one axis and agree in the others are one piece."""
    left, right = sweep.maker(x, Pad), sweep.maker(y, Pad)
    if left is None or right is None or not (sweep.used_once(x) and sweep.used_once(y)):
        return None
    for first, second in ((left, right), (right, left)):
        (a,), (b,) = first.inputs, second.inputs
        axis = _touching(first.op, second.op, a, b)  # type: ignore[arg-type]
        if axis is None:
            continue
        low, high = first.op.low, _put(first.op.high, axis, second.op.high)  # type: ignore[attr-defined]
        parts = (*_parts(sweep, a, axis), *_parts(sweep, b, axis))
        return Pad(low, high, (0,) * x.ndim)(Concat(axis)(*parts))
    return None


def _touching(first: Pad, second: Pad, a: Array, b: Array) -> int | None:
    """The axis along which `b` begins where `a` ends, if all else of their places is the same."""
    if any((*first.interior, *second.interior)) or not (a.size and b.size):
        return None
    differing = [
        axis
        for axis in range(a.ndim)
        if (first.low[axis], a.shape[axis]) != (second.low[axis], b.shape[axis])
    ]
    if len(differing) != 1:
        return None
    (axis,) = differing
    return axis if first.low[axis] + a.shape[axis] == second.low[axis] else None


def _put(values: tuple[int, ...], axis: int, given: tuple[int, ...]) -> tuple[int, ...]:
    return (*values[:axis], given[axis], *values[axis + 1 :])


def _parts(sweep: Sweep, piece: Array, axis: int) -> tuple[Array, ...]:
    """A piece with 0 in place of −0; one that was joined before, in its parts."""
    joined = sweep.maker(piece, Concat)
    if joined is not None and joined.op.axis == axis:  # type: ignore[attr-defined]
        return tuple([_positive(sweep, part) for part in joined.inputs])
    return (_positive(sweep, piece),)


def _positive(sweep: Sweep, x: Array) -> Array:
    """x + 0."""
    if not is_float(x.dtype):
        return x
    made = sweep.maker(x, Add)
    literals = [sweep.literals.get(y) for y in made.inputs] if made is not None else []
    done = any(y is not None and math.copysign(1, y.value) > 0 == y.value for y in literals)
    return x if done else x + zeros(x.type)


PIECES = Rewrites(sum_of_pieces)
