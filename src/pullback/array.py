"""How arrays come in from outside, and the namespace an `Array` names as its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import reduce
from types import ModuleType
from typing import Any

import numpy as np

from pullback._public import public
from pullback.errors import ShapeError, StructureError
from pullback.ir import dlpack
from pullback.ir.array import CONCRETE, Array, concrete
from pullback.ir.types import DType, Numbers, as_dtype, float32, float64, promote
from pullback.ops.layout import Concat
from pullback.ops.operators import cast, lift, pair, reshape
from pullback.ops.weak import Weak

STANDARD = "2024.12"
"""The version of the Python Array API standard that the namespace follows."""


@public
def asarray(
    obj: Any, /, *, dtype: Any = None, device: str | None = None, copy: bool | None = None
) -> Array:
    """`obj` as an Array: an Array, a number, nested lists of these, a NumPy array, a tensor.

    Python floats become float32 and Python integers int64 unless `dtype` is given; what has an
    element type keeps it. NumPy arrays are copied; with `copy=False` the memory is shared, and what
    is later written to it shows.

    Raises `ShapeError` for ragged lists, `DTypeError` for elements that are no numbers, and
    `ValueError` when `copy=False` and a copy is needed.
    """
    require_cpu(device)
    wanted = None if dtype is None else as_dtype(dtype)
    if isinstance(obj, Array):
        result = concrete(obj.numpy().copy()) if copy and obj.trace == CONCRETE else obj
    elif isinstance(obj, Weak):
        return lift(obj) if wanted is None else cast(obj.array, wanted)
    elif isinstance(obj, list | tuple) and any(isinstance(x, Array | Weak) for x in _leaves(obj)):
        result = _stack(obj)
    elif isinstance(obj, list | tuple | bool | int | float):
        _refuse(copy, f"a {type(obj).__name__} has no memory to share")
        result = concrete(_literal(obj, exact=wanted is not None))
    else:
        result = _foreign(obj, copy)
    if wanted is None or result.dtype == wanted:
        return result
    _refuse(copy, f"{result.dtype} and {wanted} cannot share memory")
    return cast(result, wanted)


@public
def from_dlpack(x: Any, /, *, device: str | None = None, copy: bool | None = None) -> Array:
    """The numbers of any object with `__dlpack__` (NumPy, torch, JAX …), shared unless `copy`.

    What is later written to shared memory shows.
    """
    require_cpu(device)
    if isinstance(x, Array):
        return asarray(x, copy=copy)
    if not hasattr(x, "__dlpack__"):
        raise StructureError(f"a {type(x).__name__} has no __dlpack__", hint="use pb.asarray")
    numbers = dlpack.numbers_of(x, copy=copy)
    as_dtype(numbers.dtype)
    return concrete(numbers.view())


def require_cpu(device: str | None) -> None:
    if device not in (None, "cpu"):
        raise ShapeError(f"the only device is 'cpu', not {device!r}")


def common_dtype(arrays: Sequence[Array]) -> DType:
    """The element type that all promote to."""
    return reduce(promote, (x.dtype for x in arrays))


# ---- lists ----------------------------------------------------------------------------------


def _leaves(obj: Any) -> Iterator[Any]:
    if isinstance(obj, list | tuple):
        for each in obj:
            yield from _leaves(each)
    else:
        yield obj


def _literal(obj: Any, exact: bool) -> Numbers:
    """Python numbers in NumPy; float64 only where `exact`, or where an element has that type."""
    try:
        numbers = np.array(obj)
    except ValueError as error:
        raise ShapeError(f"a ragged list is no array: {error}") from None
    as_dtype(numbers.dtype)
    typed = any(isinstance(x, np.ndarray | np.generic) for x in _leaves(obj))
    return numbers.astype(float32) if numbers.dtype == float64 and not (exact or typed) else numbers


def _stack(obj: Sequence[Any]) -> Array:
    """Nested lists with Arrays among their elements; Python numbers take the type of these."""
    weak = (Weak, bool, int, float)
    known = [asarray(x) for x in obj if not isinstance(x, weak)]
    like = known[0] if known else lift(obj[0])
    items = [pair(like, x)[1] if isinstance(x, weak) else asarray(x) for x in obj]
    dtype = common_dtype(items)
    for each in items:
        if each.shape != like.shape:
            raise ShapeError(f"a ragged list is no array: it holds {like.type} and {each.type}")
    return Concat(0)(*[reshape(cast(x, dtype), (1, *x.shape)) for x in items])


# ---- other libraries ------------------------------------------------------------------------


def _foreign(obj: Any, copy: bool | None) -> Array:
    if isinstance(obj, np.ndarray | np.generic):
        numbers = np.asarray(obj)
    elif hasattr(obj, "__dlpack__"):
        numbers = dlpack.numbers_of(obj)
    elif hasattr(obj, "__array__") or isinstance(obj, memoryview | bytearray):
        numbers = np.asarray(obj)
    else:
        raise StructureError(f"no array can be made of {type(obj).__name__}: {obj!r:.60}")
    native = numbers.dtype.newbyteorder("=")
    as_dtype(native)
    if copy is False:
        if native != numbers.dtype:
            _refuse(copy, f"the byte order of {numbers.dtype.str} is not this machine's")
        return concrete(numbers.view())
    return concrete(np.array(numbers, dtype=native, order="C"))


def _refuse(copy: bool | None, reason: str) -> None:
    if copy is False:
        raise ValueError(f"copy=False, but {reason}")


# ---- the namespace --------------------------------------------------------------------------


def namespace(self: Array, /, *, api_version: str | None = None) -> ModuleType:
    """The module with the functions of the Array API standard: `pullback` itself."""
    if api_version is not None and api_version > STANDARD:
        raise ValueError(f"the standard followed is {STANDARD}, not {api_version}")
    return sys.modules[__name__.partition(".")[0]]
