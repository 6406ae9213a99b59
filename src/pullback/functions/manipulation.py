"""Functions that move elements without changing them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pullback._public import public
from pullback.array import asarray, common_dtype
from pullback.errors import DTypeError, ShapeError
from pullback.functions.indexing import numbers_for_size
from pullback.ir.array import Array, concrete
from pullback.ir.types import (
    Shape,
    TensorType,
    bool_,
    broadcast_shapes,
    is_integer,
    normalize_axes,
    normalize_axis,
)
from pullback.ops import operators
from pullback.ops.index import Gather
from pullback.ops.layout import Concat, Flip, Pad
from pullback.ops.operators import cast, cut, lift, pair, select, transpose, zeros

# ---- shape ----------------------------------------------------------------------------------


@public
def reshape(x: Any, /, shape: int | Sequence[int], *, copy: bool | None = None) -> Array:
    """The same elements in row-major order under another shape; one size may be -1, the rest."""
    array = lift(x)
    sizes = _sizes(shape)
    if sizes.count(-1) == 1:
        known = math.prod(n for n in sizes if n != -1)
        if known == 0 or array.size % known:
            raise ShapeError(f"{array.type} with {array.size} elements cannot fill {sizes}")
        sizes = tuple(array.size // known if n == -1 else n for n in sizes)
    return operators.reshape(array, sizes)


def _sizes(shape: int | Iterable[int]) -> Shape:
    given = tuple(shape) if isinstance(shape, Iterable) else (shape,)
    for each in given:
        if not hasattr(each, "__index__") or isinstance(each, bool):
            raise ShapeError(f"a shape is made of integers, not {each!r}")
    return tuple(int(n) for n in given)


@public
def expand_dims(x: Any, /, *, axis: int | tuple[int, ...] = 0) -> Array:
    """`x` with new axes of size 1 at these positions of the result."""
    array = lift(x)
    count = len(axis) if isinstance(axis, tuple) else 1
    new = normalize_axes(axis, array.ndim + count)
    sizes = iter(array.shape)
    return operators.reshape(
        array, tuple(1 if i in new else next(sizes) for i in range(array.ndim + count))
    )


@public
def squeeze(x: Any, /, axis: int | tuple[int, ...] | None = None) -> Array:
    """`x` without these axes, which have size 1; None means all such axes."""
    array = lift(x)
    if axis is None:
        return operators.reshape(array, tuple(n for n in array.shape if n != 1))
    gone = normalize_axes(axis, array.ndim)
    for each in gone:
        if array.shape[each] != 1:
            raise ShapeError(f"axis {each} of {array.type} has not size 1")
    return operators.reshape(array, array.type.without(gone).shape)


@public
def ravel(x: Any, /) -> Array:
    """All elements in row-major order, along one axis."""
    array = lift(x)
    return operators.reshape(array, (array.size,))


@public
def atleast_1d(x: Any, /) -> Array:
    """`x`, with an axis of size 1 if it has none."""
    return _at_least(lift(x), 1)


@public
def atleast_2d(x: Any, /) -> Array:
    """`x`, with axes of size 1 in front until it has two."""
    return _at_least(lift(x), 2)


def _at_least(x: Array, ndim: int) -> Array:
    return operators.reshape(x, (1,) * (ndim - x.ndim) + x.shape)


# ---- order of axes and elements -------------------------------------------------------------


@public
def permute_dims(x: Any, /, axes: tuple[int, ...]) -> Array:
    """The axes in another order: axis i of the result is axis `axes[i]` of `x`."""
    array = lift(x)
    order = tuple(normalize_axis(a, array.ndim) for a in axes)
    if sorted(order) != list(range(array.ndim)):
        raise ShapeError(f"{tuple(axes)} is no order of the {array.ndim} axes of {array.type}")
    return transpose(array, order)


@public
def matrix_transpose(x: Any, /) -> Array:
    """The last two axes exchanged: (…, m, n) → (…, n, m)."""
    array = lift(x)
    if array.ndim < 2:
        raise ShapeError(f"a matrix has two axes, this is {array.type}")
    return _swap(array, -2, -1)


@public
def swapaxes(x: Any, axis1: int, axis2: int, /) -> Array:
    """Two axes exchanged."""
    return _swap(lift(x), axis1, axis2)


def _swap(x: Array, first: int, second: int) -> Array:
    order = list(range(x.ndim))
    a, b = normalize_axis(first, x.ndim), normalize_axis(second, x.ndim)
    order[a], order[b] = b, a
    return transpose(x, tuple(order))


@public
def moveaxis(x: Any, source: int | tuple[int, ...], destination: int | tuple[int, ...], /) -> Array:
    """Axes `source` moved to the positions `destination`; the others keep their order."""
    array = lift(x)
    sources = [normalize_axis(a, array.ndim) for a in _tuple(source)]
    targets = [normalize_axis(a, array.ndim) for a in _tuple(destination)]
    if len(sources) != len(targets) or len({*sources}) != len(sources) != len({*targets}):
        raise ShapeError(f"cannot move axes {source} to {destination}: name as many distinct ones")
    order = [i for i in range(array.ndim) if i not in sources]
    for target, origin in sorted(zip(targets, sources, strict=True)):
        order.insert(target, origin)
    return transpose(array, tuple(order))


def _tuple(value: int | Sequence[int]) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, Sequence) else (value,)


@public
def flip(x: Any, /, *, axis: int | tuple[int, ...] | None = None) -> Array:
    """The elements in reverse order along `axis` (None: all axes)."""
    array = lift(x)
    axes = normalize_axes(axis, array.ndim)
    return Flip(axes)(array) if axes else array


@public
def roll(
    x: Any,
    /,
    shift: int | tuple[int, ...],
    *,
    axis: int | tuple[int, ...] | None = None,
) -> Array:
    """Elements moved `shift` places on; those that pass the end come back at the beginning.

    With `axis=None` the array is rolled as if it had one axis.
    """
    array = lift(x)
    if axis is None:
        flat = operators.reshape(array, (array.size,))
        return operators.reshape(_roll(flat, sum(_tuple(shift)), 0), array.shape)
    shifts, axes = _tuple(shift), _tuple(axis)
    if len(shifts) not in (1, len(axes)):
        raise ShapeError(f"{len(shifts)} shifts for {len(axes)} axes")
    for each, along in zip(shifts * (len(axes) // len(shifts)), axes, strict=True):
        array = _roll(array, each, normalize_axis(along, array.ndim))
    return array


def _roll(x: Array, shift: int, axis: int) -> Array:
    size = x.shape[axis]
    start = -shift % size if size else 0
    if start == 0:
        return x
    return Concat(axis)(cut(x, axis, start, size), cut(x, axis, 0, start))


# ---- copies ---------------------------------------------------------------------------------


@public
def broadcast_to(x: Any, /, shape: tuple[int, ...]) -> Array:
    """`x` copied to `shape` by NumPy's rule."""
    return operators.broadcast_to(lift(x), _sizes(shape))


@public
def broadcast_arrays(*arrays: Any) -> tuple[Array, ...]:
    """All arrays copied to the shape they broadcast to."""
    lifted = [lift(x) for x in arrays]
    shape = broadcast_shapes(*(x.shape for x in lifted))
    return tuple(operators.broadcast_to(x, shape) for x in lifted)


@public
def tile(x: Any, repetitions: tuple[int, ...], /) -> Array:
    """`x` side by side with itself, `repetitions[i]` times along axis i."""
    array = lift(x)
    counts = _sizes(repetitions)
    array = _at_least(array, len(counts))
    counts = (1,) * (array.ndim - len(counts)) + counts
    shape = tuple(n * m for n, m in zip(array.shape, counts, strict=True))
    pairs = tuple(each for n in array.shape for each in (1, n))
    copied = tuple(each for n, m in zip(array.shape, counts, strict=True) for each in (m, n))
    spread = operators.broadcast_to(operators.reshape(array, pairs), copied)
    return operators.reshape(spread, shape)


@public
def repeat(x: Any, repeats: Any, /, *, axis: int | None = None) -> Array:
    """Each element `repeats` times along `axis` (None: along the raveled array).

    `repeats` is a number, or one for each position, in an array that decides the size: it must be
    known, not traced without numbers.
    """
    array = lift(x)
    if axis is None:
        array, axis = operators.reshape(array, (array.size,)), 0
    axis = normalize_axis(axis, array.ndim)
    if isinstance(repeats, int | np.integer):
        count = _count(int(repeats))
        before, after = array.shape[: axis + 1], array.shape[axis + 1 :]
        spread = operators.broadcast_to(
            operators.reshape(array, (*before, 1, *after)), (*before, count, *after)
        )
        return operators.reshape(spread, (*before[:-1], before[-1] * count, *after))
    counts = asarray(repeats)
    size = array.shape[axis]
    if not is_integer(counts.dtype) or counts.shape not in ((), (1,), (size,)):
        raise ShapeError(f"repeats {counts.type} for an axis of size {size}")
    numbers = np.broadcast_to(numbers_for_size(counts, "repeat"), (size,))
    if (numbers < 0).any():
        raise ShapeError(f"a number of repeats is not negative: {numbers.min()}")
    return _take(array, np.repeat(np.arange(size), numbers), axis)


def _count(repeats: int) -> int:
    if repeats < 0:
        raise ShapeError(f"a number of repeats is not negative: {repeats}")
    return repeats


def _take(x: Array, positions: Any, axis: int) -> Array:
    taken = Gather((axis,))(x, concrete(positions))
    return transpose(taken, (*range(1, axis + 1), 0, *range(axis + 1, x.ndim)))


# ---- several arrays -------------------------------------------------------------------------


def _together(arrays: Any) -> list[Array]:
    """The arrays with their common element type."""
    if isinstance(arrays, Array):
        arrays = [arrays[i] for i in range(len(arrays))]
    lifted = [asarray(x) for x in arrays]
    if not lifted:
        raise ShapeError("at least one array is needed")
    dtype = common_dtype(lifted)
    return [cast(x, dtype) for x in lifted]


@public
def concat(arrays: Sequence[Any], /, *, axis: int | None = 0) -> Array:
    """The arrays one after the other along an existing axis; None ravels them first."""
    parts = _together(arrays)
    if axis is None:
        parts, axis = [operators.reshape(x, (x.size,)) for x in parts], 0
    return Concat(normalize_axis(axis, parts[0].ndim))(*parts)


@public
def stack(arrays: Sequence[Any], /, *, axis: int = 0) -> Array:
    """The arrays, of one shape, one after the other along a new axis."""
    parts = _together(arrays)
    shape = parts[0].shape
    for each in parts:
        if each.shape != shape:
            raise ShapeError(f"arrays of the shapes {shape} and {each.shape} do not stack")
    axis = normalize_axis(axis, len(shape) + 1)
    lifted = (*shape[:axis], 1, *shape[axis:])
    return Concat(axis)(*[operators.reshape(x, lifted) for x in parts])


@public
def unstack(x: Any, /, *, axis: int = 0) -> tuple[Array, ...]:
    """The arrays along `axis`, without it: the inverse of `stack`."""
    array = lift(x)
    axis = normalize_axis(axis, array.ndim)
    shape = array.type.without((axis,)).shape
    return tuple(
        operators.reshape(cut(array, axis, i, i + 1), shape) for i in range(array.shape[axis])
    )


@public
def split(
    x: Any, indices_or_sections: int | Sequence[int], /, *, axis: int = 0
) -> tuple[Array, ...]:
    """Parts of `x` along `axis`: that many equal ones, or cut before the given positions [NumPy].

    Raises `ShapeError` when the axis does not divide equally.
    """
    array = lift(x)
    axis = normalize_axis(axis, array.ndim)
    size = array.shape[axis]
    if isinstance(indices_or_sections, int) and size % max(indices_or_sections, 1):
        raise ShapeError(
            f"an axis of size {size} does not divide into {indices_or_sections} equal parts",
            hint="pb.array_split allows parts that differ by one",
        )
    return array_split(array, indices_or_sections, axis=axis)


@public
def array_split(
    x: Any, indices_or_sections: int | Sequence[int], /, *, axis: int = 0
) -> tuple[Array, ...]:
    """`split` that lets the first parts be longer by one where the axis does not divide."""
    array = lift(x)
    axis = normalize_axis(axis, array.ndim)
    size = array.shape[axis]
    if isinstance(indices_or_sections, int):
        parts = indices_or_sections
        if parts < 1:
            raise ShapeError(f"at least one part is needed, not {parts}")
        ends = [(i + 1) * (size // parts) + min(i + 1, size % parts) for i in range(parts)]
    else:
        ends = [*(slice(None, i).indices(size)[1] for i in indices_or_sections), size]
    starts = [0, *ends[:-1]]
    return tuple(cut(array, axis, a, max(a, b)) for a, b in zip(starts, ends, strict=True))


@public
def meshgrid(*arrays: Any, indexing: str = "xy") -> tuple[Array, ...]:
    """Coordinate grids of one-dimensional arrays; with "xy" the first two axes are exchanged."""
    if indexing not in ("xy", "ij"):
        raise ShapeError(f"indexing is 'xy' or 'ij', not {indexing!r}")
    lifted = [operators.reshape(x, (x.size,)) for x in _together(arrays)] if arrays else []
    count = len(lifted)
    order = [1, 0, *range(2, count)] if indexing == "xy" and count > 1 else list(range(count))
    shape = tuple(lifted[i].size for i in order)
    return tuple(
        operators.broadcast_to(
            operators.reshape(x, tuple(x.size if order[i] == k else 1 for i in range(count))), shape
        )
        for k, x in enumerate(lifted)
    )


@public
def diff(
    x: Any, /, *, axis: int = -1, n: int = 1, prepend: Any = None, append: Any = None
) -> Array:
    """x[i + 1] - x[i] along `axis`, taken `n` times, with these arrays before and after `x`."""
    array = lift(x)
    axis = normalize_axis(axis, array.ndim)
    if n < 0:
        raise ShapeError(f"a number of differences is not negative: {n}")
    around = [each for each in (prepend, array, append) if each is not None]
    array = Concat(axis)(*_together(around)) if len(around) > 1 else array
    for _ in range(n):
        size = array.shape[axis]
        array = cut(array, axis, min(1, size), size) - cut(array, axis, 0, max(size - 1, 0))
    return array


# ---- padding --------------------------------------------------------------------------------

Widths = int | tuple[int, int] | Sequence[tuple[int, int]]


@public
def pad(x: Any, pad_width: Widths, /, mode: str = "constant", *, constant_values: Any = 0) -> Array:
    """`x` with more elements before and after each axis [NumPy].

    `pad_width` is one number, one pair (before, after), or one pair for each axis. Modes:
    "constant" (`constant_values`), "edge" (the outermost element), "reflect" (mirrored there).
    """
    array = lift(x)
    widths = _widths(pad_width, array.ndim)
    if mode == "constant":
        return _pad_constant(array, widths, constant_values)
    if mode not in ("edge", "reflect"):
        raise ShapeError(f"the modes are 'constant', 'edge' and 'reflect', not {mode!r}")
    more = _edges if mode == "edge" else _reflections
    for axis, (before, after) in enumerate(widths):
        if before or after:
            if array.shape[axis] == 0:
                raise ShapeError(f"axis {axis} of {array.type} has no element to repeat")
            array = more(array, axis, before, after)
    return array


def _widths(given: Widths, ndim: int) -> list[tuple[int, int]]:
    numbers = np.asarray(given)
    try:
        pairs = np.broadcast_to(numbers, (ndim, 2)).tolist()
    except ValueError:
        raise ShapeError(f"pad_width {given} does not fit {ndim} axes") from None
    if numbers.dtype.kind not in "iu" or (numbers.size and numbers.min() < 0):
        raise ShapeError(f"pad_width is made of non-negative integers, not {given}")
    return [(a, b) for a, b in pairs]


def _pad_constant(x: Array, widths: list[tuple[int, int]], value: Any) -> Array:
    if not any(a or b for a, b in widths):
        return x
    fill = pair(x, value)[1]
    if fill.dtype != x.dtype:
        raise DTypeError(f"padding {x.dtype} with {fill.dtype}", hint="cast the array first")
    low, high = zip(*widths, strict=True)
    op = Pad(low, high, (0,) * x.ndim)
    if isinstance(value, int | float) and value == 0:
        return op(x)
    inside = op(zeros(TensorType(x.shape, bool_)) == False)  # noqa: E712
    return select(inside, op(x), fill)


def _edges(x: Array, axis: int, before: int, after: int) -> Array:
    size = x.shape[axis]

    def copies(position: int, count: int) -> Array:
        shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
        return operators.broadcast_to(cut(x, axis, position, position + 1), shape)

    return Concat(axis)(copies(0, before), x, copies(size - 1, after))


def _reflections(x: Array, axis: int, before: int, after: int) -> Array:
    if x.shape[axis] == 1:
        return _edges(x, axis, before, after)
    while before or after:
        # A mirror image has as many elements as lie behind the mirror; wider ones mirror again.
        size = x.shape[axis]
        left, right = min(before, size - 1), min(after, size - 1)
        mirror = Flip((axis,))
        head = mirror(cut(x, axis, 1, 1 + left))
        tail = mirror(cut(x, axis, size - 1 - right, size - 1))
        x = Concat(axis)(head, x, tail)
        before, after = before - left, after - right
    return x
