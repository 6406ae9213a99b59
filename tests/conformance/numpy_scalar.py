"""The scalar algebra on NumPy numbers: what a loop body means, independently of `reference`."""

from __future__ import annotations

import numpy as np
from scipy import special

from pullback.errors import OutOfRangeError
from pullback.ir.types import TensorType


class NumpyScalar:
    def const(self, value, like):
        return np.asarray(value, dtype=np.asarray(like).dtype)

    def literal(self, value, dtype):
        return np.asarray(value, dtype=dtype)

    def cast(self, x, dtype):
        x = np.asarray(x)
        if x.dtype.kind == "f" and np.dtype(dtype).kind in "iu":
            limits = np.iinfo(dtype)
            out = np.zeros(x.shape, dtype)
            for i, each in np.ndenumerate(x):
                whole = (
                    0
                    if np.isnan(each)
                    else limits.max
                    if each == np.inf
                    else limits.min
                    if each == -np.inf
                    else int(each)
                )
                out[i] = min(max(whole, limits.min), limits.max)
            return out
        return x.astype(dtype)

    def bitcast(self, x, dtype):
        return np.asarray(x).view(dtype)

    def bits(self, x):
        return np.asarray(x).view(f"uint{8 * np.asarray(x).itemsize}")

    def number(self, bits, like):
        return np.asarray(bits).view(np.asarray(like).dtype)

    def add(self, x, y):
        return x + y

    def sub(self, x, y):
        return x - y

    def mul(self, x, y):
        return x * y

    def div(self, x, y):
        return x / y

    def quot(self, x, y):
        if x.dtype.kind == "f":
            whole = np.rint((x - np.fmod(x, y)) / y)
            return np.where(y == 0, x / y, whole)
        floor = x // y
        return np.where((floor * y != x) & (y != 0) & ((x < 0) != (y < 0)), floor + 1, floor)

    def rem(self, x, y):
        return np.fmod(x, y)

    def neg(self, x):
        return -x

    def fma(self, x, y, z):
        return x * y + z

    def abs(self, x):
        return np.abs(x)

    def copysign(self, x, y):
        return np.copysign(x, y)

    def minimum(self, x, y):
        return np.minimum(x, y)

    def maximum(self, x, y):
        return np.maximum(x, y)

    def floor(self, x):
        return np.floor(x)

    def ceil(self, x):
        return np.ceil(x)

    def trunc(self, x):
        return np.trunc(x)

    def round(self, x):
        return np.rint(x)

    def sqrt(self, x):
        return np.sqrt(x)

    def exp(self, x):
        return np.exp(x)

    def cbrt(self, x):
        return np.cbrt(x)

    def exp2(self, x):
        return np.exp2(x)

    def expm1(self, x):
        return np.expm1(x)

    def log(self, x):
        return np.log(x)

    def log2(self, x):
        return np.log2(x)

    def log1p(self, x):
        return np.log1p(x)

    def sin(self, x):
        return np.sin(x)

    def cos(self, x):
        return np.cos(x)

    def tan(self, x):
        return np.tan(x)

    def asin(self, x):
        return np.arcsin(x)

    def atan(self, x):
        return np.arctan(x)

    def sinh(self, x):
        return np.sinh(x)

    def tanh(self, x):
        return np.tanh(x)

    def asinh(self, x):
        return np.arcsinh(x)

    def atanh(self, x):
        return np.arctanh(x)

    def erf(self, x):
        return special.erf(x)

    def erfc(self, x):
        return special.erfc(x)

    def power(self, x, y):
        return np.power(x, y)

    def less(self, x, y):
        return x < y

    def less_equal(self, x, y):
        return x <= y

    def equal(self, x, y):
        return x == y

    def select(self, chosen, x, y):
        return np.where(chosen, x, y)

    def bit_and(self, x, y):
        return x & y

    def bit_or(self, x, y):
        return x | y

    def bit_xor(self, x, y):
        return x ^ y

    def bit_not(self, x):
        return ~x

    def shift_left(self, x, y):
        return np.left_shift(x, y)

    def shift_right(self, x, y):
        return np.right_shift(x, y)


class NumpyReader:
    """Elements of NumPy arrays, for `Op.element`. Raises IndexError for a place that lies outside.

    What it reads where a guard is false is 0, whatever the place.
    """

    def __init__(self, inputs):
        self.inputs = inputs
        self.types = tuple(TensorType(x.shape, x.dtype) for x in inputs)

    def __call__(self, operand, place, when=None):
        x = self.inputs[operand]
        *places, chosen = np.broadcast_arrays(*place, True if when is None else when)
        result = np.zeros(chosen.shape, x.dtype)
        inside = tuple(each[chosen] for each in places)
        assert all((each >= 0).all() for each in inside), "a negative place"
        result[chosen] = x[inside]
        return result

    def inside(self, index, axis, size, from_end):
        wrong = (index < (-size if from_end else 0)) | (index >= size)
        if np.any(wrong):
            raise OutOfRangeError(f"index outside axis {axis} of size {size}")
        signed = np.asarray(index).astype(np.int64)
        return np.where(signed < 0, signed + size, signed)
