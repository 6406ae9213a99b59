"""Elements as integers of the same order."""

from __future__ import annotations

from pullback.backend.vector import Vector, cast, where
from pullback.ir.types import DType, bool_, int8, int16, int32, int64, is_float, is_signed
from pullback.ops.reduce import accumulated

_SIGNED = {dtype.itemsize: dtype for dtype in (int8, int16, int32, int64)}


def ordinal_dtype(dtype: DType) -> DType:
    """The signed integers that stand for elements of `dtype`."""
    return _SIGNED[accumulated(dtype).itemsize]


def ordinal(x: Vector, descending: bool) -> Vector:
    """Signed integers in the order of the elements, or in the opposite one.

    -0 is equal to 0, and NaN is above all in both orders.
    """
    if x.dtype == bool_:
        number = cast(x, int8)
        return number ^ 1 if descending else number
    if is_float(x.dtype):
        return _of_floats(cast(x, accumulated(x.dtype)), descending)
    number = x.reinterpret(ordinal_dtype(x.dtype))
    if not is_signed(x.dtype):
        number = number ^ top_bit(x.dtype)
    return ~number if descending else number


def _of_floats(x: Vector, descending: bool) -> Vector:
    """The bits below the sign count away from 0 on both sides: they are turned on one."""
    dtype = ordinal_dtype(x.dtype)
    width = 8 * dtype.itemsize
    bits = (x + 0.0).reinterpret(dtype)  # -0 becomes 0
    number = bits ^ ((bits >> width - 1) & (1 << width - 1) - 1)
    return where(x.is_nan(), number.const((1 << width - 1) - 1), ~number if descending else number)


def top_bit(dtype: DType) -> int:
    """The lowest of the signed integers of this size: the bit of the sign alone."""
    return -1 << 8 * dtype.itemsize - 1
