"""What the ops that hold graphs share: checks of operands, masks, and which values move."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from pullback.errors import DTypeError, ShapeError
from pullback.ir.array import Array
from pullback.ir.graph import Graph, active_values
from pullback.ir.op import Maybe
from pullback.ir.types import TensorType, int64, is_float
from pullback.ops.index import Gather
from pullback.ops.operators import cast, reshape, select, zeros
from pullback.ops.pointwise import LogicalNot, StopGradient
from pullback.ops.reduce import AnyTrue, ArgMax

T = TypeVar("T")

# ---- types ----------------------------------------------------------------------------------


def types_of(values: Iterable[Array]) -> tuple[TensorType, ...]:
    return tuple([x.type for x in values])


def require_types(expected: Sequence[TensorType], actual: Sequence[TensorType], what: str) -> None:
    """Raise `ShapeError` or `DTypeError` unless both are equal."""
    if len(expected) != len(actual):
        raise ShapeError(f"{len(actual)} {what}s where the graph has {len(expected)}")
    for i, (wanted, given) in enumerate(zip(expected, actual, strict=True)):
        if wanted.shape != given.shape:
            raise ShapeError(f"{what} {i} is {given}, the graph has {wanted}")
        if wanted.dtype != given.dtype:
            raise DTypeError(f"{what} {i} is {given}, the graph has {wanted}")


# ---- selections of values -------------------------------------------------------------------


def indices(flags: Iterable[bool]) -> list[int]:
    return [i for i, flag in enumerate(flags) if flag]


def present(values: Iterable[T | None]) -> list[T]:
    return [x for x in values if x is not None]


def floats(values: Iterable[Array]) -> list[Array]:
    return [x for x in values if is_float(x.dtype)]


def reached_outputs(graph: Graph, flags: Sequence[bool]) -> list[bool]:
    """Which outputs a derivative with respect to the flagged inputs reaches."""
    sources = [x for x, flag in zip(graph.inputs, flags, strict=True) if flag]
    active = active_values(graph, sources)
    return [x in active for x in graph.outputs]


def full_bars(bars: Sequence[Maybe], outputs: Sequence[Array]) -> list[Array]:
    """The cotangents of all float outputs, zero where there is none."""
    return [
        zeros(x.type) if bar is None else bar
        for bar, x in zip(bars, outputs, strict=True)
        if is_float(x.dtype)
    ]


def put(flags: Iterable[bool], values: Iterable[T]) -> list[T | None]:
    """The values at the flagged places, None elsewhere."""
    supply = iter(values)
    return [next(supply) if flag else None for flag in flags]


def chosen(values: Iterable[T], flags: Iterable[bool]) -> list[T]:
    """The inverse of `put`."""
    return [x for x, flag in zip(values, flags, strict=True) if flag]


def filled(dots: Sequence[Maybe], moving: Sequence[bool], inputs: Sequence[Array]) -> list[Maybe]:
    """The tangents, zero where an input moves and has none."""
    return [
        zeros(x.type) if moves and dot is None else dot
        for x, dot, moves in zip(inputs, dots, moving, strict=True)
    ]


def paired(values: Sequence[T], dots: Sequence[T | None], *cuts: int) -> list[T]:
    """Each group of values followed by its tangents; the groups end at `cuts`."""
    groups = itertools.pairwise((0, *cuts, len(values)))
    return [x for a, b in groups for x in (*values[a:b], *present(dots[a:b]))]


def unpaired(
    values: Sequence[T], moving: Sequence[bool], *cuts: int
) -> tuple[list[T], list[T | None]]:
    """The inverse of `paired`: values, and tangents where `moving`."""
    supply = iter(values)
    plain: list[T] = []
    dots: list[T | None] = []
    for a, b in itertools.pairwise((0, *cuts, len(moving))):
        plain += itertools.islice(supply, b - a)
        dots += put(moving[a:b], supply)
    return plain, dots


def grown(
    flags: Sequence[bool],
    first: int,
    count: int,
    spread: Callable[[Sequence[bool]], Sequence[bool]],
) -> list[bool]:
    """The flags of a loop body's inputs, grown until a step adds none to the carry.

    The carry is the inputs `first … first + count - 1` and the first outputs; `spread` tells from
    the flags of the inputs those of the outputs.
    """
    result = list(flags)
    while True:
        before = result[first : first + count]
        after = [a or b for a, b in zip(before, spread(result)[:count], strict=True)]
        if after == before:
            return result
        result[first : first + count] = after


# ---- masks ----------------------------------------------------------------------------------


def some(mask: Array) -> Array:
    """Whether one element of a vector of bools is true."""
    return AnyTrue((0,))(mask)


def where_taken(mask: Array, x: Array, y: Array) -> Array:
    """Example by example, `x` where the mask is true, else `y`."""
    return select(reshape(mask, (*mask.shape, *(1,) * (x.ndim - mask.ndim))), x, y)


def shielded(taken: Array, x: Array) -> Array:
    """Examples `x` for a computation of which only the `taken` ones count.

    The others are replaced by the first that is taken, for which the computation makes sense: so no
    index leaves its axis, and no infinity or NaN born for an example that does not count reaches a
    gradient, not even that of an operand which all examples share.
    """
    if taken.size == 0:
        return x
    row = Gather((0,))(StopGradient()(x), ArgMax(0)(cast(taken, int64)))
    return where_taken(taken, x, row)


def negated(mask: Array) -> Array:
    return LogicalNot()(mask)
