"""What the namespace says of itself and of element types, by the Array API standard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from pullback._public import public
from pullback.array import require_cpu
from pullback.errors import DTypeError
from pullback.ir.array import Array
from pullback.ir.types import (
    DTYPES,
    FLOATS,
    SIGNED,
    UNSIGNED,
    DType,
    as_dtype,
    bool_,
    float32,
    int64,
    is_bool,
    is_float,
    is_integer,
    promote,
)
from pullback.ops.operators import lift

# ---- constants ------------------------------------------------------------------------------

e = float(np.e)
inf = float("inf")
nan = float("nan")
newaxis = None
pi = float(np.pi)

# ---- element types --------------------------------------------------------------------------

_KINDS: dict[str, tuple[DType, ...]] = {
    "bool": (bool_,),
    "signed integer": SIGNED,
    "unsigned integer": UNSIGNED,
    "integral": SIGNED + UNSIGNED,
    "real floating": FLOATS,
    "complex floating": (),
    "numeric": SIGNED + UNSIGNED + FLOATS,
}


@public
def isdtype(dtype: Any, kind: Any) -> bool:
    """Whether `dtype` is of a kind: "bool", "signed integer", "unsigned integer", "integral",
    "real floating", "complex floating", "numeric", an element type, or a tuple of these.
    """
    if isinstance(kind, tuple):
        return any(isdtype(dtype, each) for each in kind)
    if isinstance(kind, str) and kind in _KINDS:
        return as_dtype(dtype) in _KINDS[kind]
    if isinstance(kind, str):
        raise DTypeError(f"no kind {kind!r}", hint=f"the kinds are {', '.join(_KINDS)}")
    return as_dtype(dtype) == as_dtype(kind)


@public
def result_type(*arrays_and_dtypes: Any) -> DType:
    """The element type of an operation on these arrays, element types and Python scalars.

    Scalars are weak: they only decide when they are of a higher kind than all the rest.
    """
    if not arrays_and_dtypes:
        raise DTypeError("result_type needs at least one operand")
    scalars = [x for x in arrays_and_dtypes if isinstance(x, bool | int | float)]
    typed = [_dtype_of(x) for x in arrays_and_dtypes if not isinstance(x, bool | int | float)]
    if not typed:
        typed, scalars = [lift(x).dtype for x in scalars], []
    result = typed[0]
    for each in typed[1:]:
        result = promote(result, each)
    for scalar in scalars:
        result = _with_scalar(result, scalar)
    return result


def _with_scalar(dtype: DType, scalar: bool | float) -> DType:
    if isinstance(scalar, bool):
        return dtype
    if isinstance(scalar, int):
        return int64 if is_bool(dtype) else dtype
    return dtype if is_float(dtype) else float32


def _dtype_of(x: Any) -> DType:
    return as_dtype(x.dtype) if isinstance(x, Array | np.ndarray | np.generic) else as_dtype(x)


@public
def can_cast(from_: Any, to: Any, /) -> bool:
    """Whether promotion leads from one element type (or an array's) to the other."""
    target = as_dtype(to)
    try:
        return promote(_dtype_of(from_), target) == target
    except DTypeError:
        return False


@dataclass(frozen=True)
class FloatInfo:
    """Limits of a floating-point type."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: DType


@dataclass(frozen=True)
class IntegerInfo:
    """Limits of an integer type."""

    bits: int
    max: int
    min: int
    dtype: DType


@public
def finfo(type: Any, /) -> FloatInfo:
    """Limits of a floating-point type, given itself or by an array."""
    dtype = _dtype_of(type)
    if not is_float(dtype):
        raise DTypeError(f"{dtype} is no floating-point type", hint="use pb.iinfo")
    found: Any = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    return FloatInfo(
        bits=int(found.bits),
        eps=float(found.eps),
        max=float(found.max),
        min=float(found.min),
        smallest_normal=float(found.smallest_normal),
        dtype=dtype,
    )


@public
def iinfo(type: Any, /) -> IntegerInfo:
    """Limits of an integer type, given itself or by an array."""
    dtype = _dtype_of(type)
    if not is_integer(dtype):
        raise DTypeError(f"{dtype} is no integer type", hint="use pb.finfo")
    found = np.iinfo(dtype)
    return IntegerInfo(found.bits, int(found.max), int(found.min), dtype)


# ---- the namespace --------------------------------------------------------------------------


class NamespaceInfo:
    """What `__array_namespace_info__()` gives: devices, element types, abilities."""

    def capabilities(self) -> dict[str, bool | int]:
        """Masks and sizes that depend on values work where the values are known."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> str:
        return "cpu"

    def devices(self) -> list[str]:
        return ["cpu"]

    def default_dtypes(self, *, device: str | None = None) -> dict[str, DType]:
        """The element types of created arrays."""
        require_cpu(device)
        return {"real floating": float32, "integral": int64, "indexing": int64}

    def dtypes(
        self, *, device: str | None = None, kind: str | tuple[str, ...] | None = None
    ) -> dict[str, DType]:
        """The element types by name, all or of a kind; bfloat16 is one beyond the standard."""
        require_cpu(device)
        return {each.name: each for each in DTYPES if kind is None or isdtype(each, kind)}


def __array_namespace_info__() -> NamespaceInfo:  # noqa: N807  (the standard's name)
    """Devices, element types and abilities of this namespace."""
    return NamespaceInfo()
