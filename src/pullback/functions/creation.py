"""Arrays made from nothing, by the names of the Array API standard.

Created floats are float32 and integers int64 unless `dtype` is given.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pullback._public import public
from pullback.array import require_cpu
from pullback.errors import ShapeError
from pullback.ir.array import Array
from pullback.ir.types import (
    DType,
    Shape,
    as_dtype,
    float32,
    float64,
    int64,
    is_float,
    uint64,
)
from pullback.ops import operators
from pullback.ops.create import Iota
from pullback.ops.operators import broadcast_to, cast, constant, lift, pair, reshape, select
from pullback.ops.weak import Weak

# ---- one value ------------------------------------------------------------------------------


@public
def zeros(shape: int | tuple[int, ...], *, dtype: Any = None, device: str | None = None) -> Array:
    """Zeros."""
    return _filled(shape, 0, _default(dtype, float32), device)


@public
def ones(shape: int | tuple[int, ...], *, dtype: Any = None, device: str | None = None) -> Array:
    """Ones."""
    return _filled(shape, 1, _default(dtype, float32), device)


@public
def empty(shape: int | tuple[int, ...], *, dtype: Any = None, device: str | None = None) -> Array:
    """Zeros: arrays are immutable, so nothing else could be put in an uninitialised one."""
    return _filled(shape, 0, _default(dtype, float32), device)


@public
def full(
    shape: int | tuple[int, ...],
    fill_value: Any,
    *,
    dtype: Any = None,
    device: str | None = None,
) -> Array:
    """`fill_value` everywhere, a scalar that may be traced; by default with its element type."""
    return _filled(shape, fill_value, None if dtype is None else as_dtype(dtype), device)


@public
def zeros_like(x: Any, /, *, dtype: Any = None, device: str | None = None) -> Array:
    """Zeros with the shape of `x`, and its element type unless `dtype` is given."""
    array = lift(x)
    return _filled(array.shape, 0, _default(dtype, array.dtype), device)


@public
def ones_like(x: Any, /, *, dtype: Any = None, device: str | None = None) -> Array:
    """Ones with the shape of `x`, and its element type unless `dtype` is given."""
    array = lift(x)
    return _filled(array.shape, 1, _default(dtype, array.dtype), device)


@public
def empty_like(x: Any, /, *, dtype: Any = None, device: str | None = None) -> Array:
    """Zeros with the shape of `x`; see `empty`."""
    array = lift(x)
    return _filled(array.shape, 0, _default(dtype, array.dtype), device)


@public
def full_like(x: Any, /, fill_value: Any, *, dtype: Any = None, device: str | None = None) -> Array:
    """`fill_value` with the shape of `x`, and its element type unless `dtype` is given."""
    array = lift(x)
    return _filled(array.shape, fill_value, _default(dtype, array.dtype), device)


def _default(dtype: Any, otherwise: DType) -> DType:
    return otherwise if dtype is None else as_dtype(dtype)


def _filled(
    shape: int | tuple[int, ...], value: Any, dtype: DType | None, device: str | None
) -> Array:
    require_cpu(device)
    if isinstance(value, Weak | bool | int | float) and dtype is not None:
        scalar = constant(value, dtype)
    else:
        scalar = lift(value)
        scalar = scalar if dtype is None else cast(scalar, dtype)
    if scalar.ndim:
        raise ShapeError(f"the fill value is a scalar, not {scalar.type}")
    return broadcast_to(scalar, _shape(shape))


def _shape(shape: int | tuple[int, ...]) -> Shape:
    sizes = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    for each in sizes:
        if not isinstance(each, int | np.integer) or isinstance(each, bool) or each < 0:
            raise ShapeError(f"a shape is made of non-negative integers, not {each!r}")
    return tuple(int(n) for n in sizes)


# ---- ranges ---------------------------------------------------------------------------------


@public
def arange(
    start: Any,
    /,
    stop: Any = None,
    step: Any = 1,
    *,
    dtype: Any = None,
    device: str | None = None,
) -> Array:
    """start, start + step, … before `stop` (0, 1, … before `start` when that is all).

    The bounds decide the size, so they are numbers, not values traced without them.
    """
    require_cpu(device)
    first, last = (0, _number(start)) if stop is None else (_number(start), _number(stop))
    by = _number(step)
    if by == 0:
        raise ShapeError("the step of a range is not 0")
    whole = all(isinstance(each, int) for each in (first, last, by))
    kind = _default(dtype, int64 if whole else float32)
    count = len(range(first, last, by)) if whole else max(math.ceil((last - first) / by), 0)
    # Counted in 64 bits and converted once, so that every element is the nearest to its true value.
    exact = float64 if not whole else uint64 if kind == uint64 else int64
    return cast(Iota(count, exact)() * constant(by, exact) + constant(first, exact), kind)


def _number(x: Any) -> Any:
    return x.item() if isinstance(x, Array | np.generic | np.ndarray) else x


@public
def linspace(
    start: Any,
    stop: Any,
    /,
    num: int,
    *,
    dtype: Any = None,
    device: str | None = None,
    endpoint: bool = True,
) -> Array:
    """`num` evenly spaced values from `start` to `stop`, exactly these two (or short of `stop`).

    The bounds may be traced scalars: the result is linear in both.
    """
    require_cpu(device)
    if num < 0:
        raise ShapeError(f"a number of values is not negative: {num}")
    plain = isinstance(start, int | float) and isinstance(stop, int | float)
    low, high = (constant(start, float64), constant(stop, float64)) if plain else pair(start, stop)
    kind = _default(dtype, float32 if plain or not is_float(low.dtype) else low.dtype)
    if not is_float(low.dtype):
        low, high = cast(low, float64), cast(high, float64)
    place = Iota(num, low.dtype)()
    spaced = low + place * ((high - low) / max(num - 1 if endpoint else num, 1))
    if endpoint and num > 1:
        spaced = select(place == num - 1, high, spaced)
    return cast(spaced, kind)


# ---- matrices -------------------------------------------------------------------------------


@public
def eye(
    n_rows: int,
    n_cols: int | None = None,
    /,
    *,
    k: int = 0,
    dtype: Any = None,
    device: str | None = None,
) -> Array:
    """Ones on the k-th diagonal (above the main one for k > 0), zeros elsewhere."""
    require_cpu(device)
    columns = n_rows if n_cols is None else n_cols
    return cast(_offsets(*_shape((n_rows, columns))) == k, _default(dtype, float32))


@public
def tril(x: Any, /, *, k: int = 0) -> Array:
    """`x` with zeros above the k-th diagonal of its last two axes."""
    array = _matrix(x)
    return select(_offsets(*array.shape[-2:]) <= k, array, operators.zeros(array.type))


@public
def triu(x: Any, /, *, k: int = 0) -> Array:
    """`x` with zeros below the k-th diagonal of its last two axes."""
    array = _matrix(x)
    return select(_offsets(*array.shape[-2:]) >= k, array, operators.zeros(array.type))


def _offsets(rows: int, columns: int) -> Array:
    """j - i at row i and column j: the number of the diagonal."""
    return operators.subtract(Iota(columns, int64)(), reshape(Iota(rows, int64)(), (rows, 1)))


def _matrix(x: Any) -> Array:
    array = lift(x)
    if array.ndim < 2:
        raise ShapeError(f"a matrix has two axes, this is {array.type}")
    return array
