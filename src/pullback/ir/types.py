"""Element types and tensor types: what is known of a value before it has numbers."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from pullback.errors import DTypeError, ShapeError

DType = np.dtype[Any]
Numbers = np.ndarray[Any, Any]
Shape = tuple[int, ...]
Axes = tuple[int, ...]

bool_ = np.dtype("bool")
int8 = np.dtype("int8")
int16 = np.dtype("int16")
int32 = np.dtype("int32")
int64 = np.dtype("int64")
uint8 = np.dtype("uint8")
uint16 = np.dtype("uint16")
uint32 = np.dtype("uint32")
uint64 = np.dtype("uint64")
float16 = np.dtype("float16")
bfloat16 = np.dtype(ml_dtypes.bfloat16)
float32 = np.dtype("float32")
float64 = np.dtype("float64")

SIGNED = (int8, int16, int32, int64)
UNSIGNED = (uint8, uint16, uint32, uint64)
FLOATS = (bfloat16, float16, float32, float64)
DTYPES = (bool_, *SIGNED, *UNSIGNED, *FLOATS)

_KIND = (
    dict.fromkeys(SIGNED, "i")
    | dict.fromkeys(UNSIGNED, "u")
    | dict.fromkeys(FLOATS, "f")
    | {bool_: "b"}
)


def as_dtype(spec: Any) -> DType:
    """The element type that `spec` names; `DTypeError` when this library has no such type."""
    try:
        dtype: DType | None = np.dtype(spec)
    except TypeError:
        dtype = None
    if dtype is None or dtype not in _KIND:
        names = ", ".join(str(each) for each in DTYPES)
        raise DTypeError(f"no element type {spec!r}", hint=f"the element types are {names}")
    return dtype


def is_float(dtype: DType) -> bool:
    return _KIND[dtype] == "f"


def is_integer(dtype: DType) -> bool:
    return _KIND[dtype] in "iu"


def is_signed(dtype: DType) -> bool:
    return _KIND[dtype] == "i"


def is_bool(dtype: DType) -> bool:
    return dtype == bool_


def kind_of(dtype: DType) -> str:
    """`b` bool, `i` signed, `u` unsigned, `f` floating."""
    return _KIND[dtype]


@dataclass(frozen=True, slots=True)
class TensorType:
    """Shape and element type; prints as `float32[4,3]`."""

    shape: Shape
    dtype: DType

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def without(self, axes: Iterable[int]) -> TensorType:
        """The type with these (non-negative) axes removed."""
        return TensorType(_without(self.shape, tuple(axes)), self.dtype)

    def of(self, dtype: DType) -> TensorType:
        return TensorType(self.shape, dtype)

    def reshaped(self, shape: Shape) -> TensorType:
        return TensorType(shape, self.dtype)

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"

    @classmethod
    def parse(cls, text: str) -> TensorType:
        """The inverse of `str`."""
        match = re.fullmatch(r"(\w+)\[([\d,]*)\]", text.strip())
        if match is None:
            raise ShapeError(
                f"{text!r} is not a tensor type", hint="write for example float32[4,3]"
            )
        return cls(tuple(int(n) for n in match[2].split(",") if n), as_dtype(match[1]))


@functools.lru_cache(maxsize=4096)
def _without(shape: Shape, axes: Axes) -> Shape:
    return tuple(n for i, n in enumerate(shape) if i not in axes)


@functools.lru_cache(maxsize=4096)
def broadcast_shapes(*shapes: Shape) -> Shape:
    """The shape that all broadcast to by NumPy's rule; `ShapeError` when there is none."""
    rank = max((len(s) for s in shapes), default=0)
    result = []
    for column in zip(*((1,) * (rank - len(s)) + s for s in shapes), strict=True):
        sizes = set(column) - {1}
        if len(sizes) > 1:
            listed = " and ".join("(" + ",".join(map(str, s)) + ")" for s in shapes)
            raise ShapeError(f"shapes {listed} do not broadcast")
        result.append(sizes.pop() if sizes else 1)
    return tuple(result)


def normalize_axis(axis: int, ndim: int) -> int:
    """A non-negative axis below `ndim`; `ShapeError` otherwise."""
    if isinstance(axis, bool) or not isinstance(axis, int | np.integer):
        raise ShapeError(f"an axis is an integer, not {axis!r}")
    if not -ndim <= axis < ndim:
        raise ShapeError(f"axis {axis} is out of range for a rank-{ndim} array")
    return int(axis) % ndim


def normalize_axes(axis: int | Iterable[int] | None, ndim: int) -> Axes:
    """Sorted, distinct, non-negative axes; `None` means all."""
    if axis is None:
        return tuple(range(ndim))
    given = tuple(axis) if isinstance(axis, Iterable) else (axis,)
    axes = tuple(normalize_axis(each, ndim) for each in given)
    if len(set(axes)) != len(axes):
        raise ShapeError(f"axes {given} name one axis twice")
    return tuple(sorted(axes))


def promote(left: DType, right: DType) -> DType:
    """Element type of `left ∘ right`: bool < integers < floats; `DTypeError` where none fits."""
    if left == right:
        return left
    kinds = kind_of(left) + kind_of(right)
    if "f" in kinds and kinds != "ff":
        return left if kinds[0] == "f" else right
    if {left, right} == {uint64, int64} or (
        "u" in kinds and "i" in kinds and uint64 in (left, right)
    ):
        raise DTypeError(
            f"{left} and {right} have no common integer type",
            hint="cast one of them with .astype(...)",
        )
    if {left, right} == {bfloat16, float16}:
        return float32
    if kinds == "ff":
        return max(left, right, key=lambda each: each.itemsize)
    return np.promote_types(left, right)
