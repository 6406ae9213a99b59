"""Searching and sets. Where the size of a result depends on values, these must be known."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pullback._public import public
from pullback.array import asarray
from pullback.errors import ShapeError
from pullback.functions.indexing import numbers_for_size
from pullback.ir.array import Array, concrete
from pullback.ops.index import Gather
from pullback.ops.operators import pair, reshape
from pullback.ops.searching import SearchSorted


@public
def searchsorted(x1: Any, x2: Any, /, *, side: str = "left", sorter: Any = None) -> Array:
    """Where the elements of `x2` would be inserted into the ascending `x1` to keep it ascending.

    Before equal elements with side "left", after them with "right". `sorter` are the indices that
    sort `x1` where it is not sorted.
    """
    if side not in ("left", "right"):
        raise ShapeError(f"side is 'left' or 'right', not {side!r}")
    ladder, values = pair(asarray(x1), asarray(x2))
    if sorter is not None:
        ladder = Gather((0,))(ladder, asarray(sorter))
    return SearchSorted(right=side == "right")(ladder, values)


@public
def nonzero(x: Any, /) -> tuple[Array, ...]:
    """For each axis the indices of the elements that are not zero, in row-major order."""
    array = asarray(x)
    if array.ndim == 0:
        raise ShapeError("nonzero needs at least one axis", hint="pb.ravel(x) gives one")
    return tuple(concrete(each) for each in np.nonzero(numbers_for_size(array, "nonzero")))


@public
def argwhere(x: Any, /) -> Array:
    """The indices of the elements that are not zero, one row each."""
    return concrete(np.argwhere(numbers_for_size(asarray(x), "argwhere")))


# ---- sets -----------------------------------------------------------------------------------


class UniqueAll(NamedTuple):
    """The result of `unique_all`."""

    values: Array
    indices: Array
    inverse_indices: Array
    counts: Array


class UniqueCounts(NamedTuple):
    """The result of `unique_counts`."""

    values: Array
    counts: Array


class UniqueInverse(NamedTuple):
    """The result of `unique_inverse`."""

    values: Array
    inverse_indices: Array


@public
def unique_all(x: Any, /) -> UniqueAll:
    """The distinct elements in ascending order; where each is first met in the raveled array; for
    each element of `x` the place of its value; how often each value occurs.

    NaNs are distinct from each other. A gradient reaches the first of equal elements.
    """
    array = asarray(x)
    numbers = numbers_for_size(array, "unique")
    _, first, inverse, counts = np.unique(
        numbers, return_index=True, return_inverse=True, return_counts=True, equal_nan=False
    )
    indices = concrete(first)
    return UniqueAll(
        Gather((0,))(reshape(array, (array.size,)), indices),
        indices,
        concrete(inverse.reshape(array.shape)),
        concrete(counts),
    )


@public
def unique_counts(x: Any, /) -> UniqueCounts:
    """The distinct elements in ascending order, and how often each occurs. See `unique_all`."""
    found = unique_all(x)
    return UniqueCounts(found.values, found.counts)


@public
def unique_inverse(x: Any, /) -> UniqueInverse:
    """The distinct elements in ascending order, and for each element the place of its value."""
    found = unique_all(x)
    return UniqueInverse(found.values, found.inverse_indices)


@public
def unique_values(x: Any, /) -> Array:
    """The distinct elements in ascending order. See `unique_all`."""
    return unique_all(x).values
