"""`Array`: an immutable tensor. It owns numbers, or inside a trace it is a value of the graph.

One class serves both, so the same code runs on numbers and on traced values. The operators are
declared here and bound by `pullback.ops`, because they are made of ops.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from pullback._public import public
from pullback.errors import (
    DonationError,
    DTypeError,
    ShapeError,
    Site,
    TracedValueError,
    calling_site,
)
from pullback.ir import dlpack
from pullback.ir.types import DType, Numbers, Shape, TensorType, is_float, is_integer

CONCRETE = 0
"""The trace of an array that belongs to none: it owns its numbers."""

DONATED = -1
"""The trace of an array whose memory was given to a compiled function: it has no numbers."""

PythonScalar = bool | int | float
ArrayLike = "Array | np.ndarray[Any, Any] | np.generic | bool | int | float"


class Array:
    """An immutable n-dimensional array with a `shape` and a `dtype`.

    Made by `pb.asarray`, the creation functions, and every operation. NumPy arrays and Python
    scalars are accepted wherever an Array is.
    """

    __slots__ = ("__weakref__", "_data", "trace", "type")

    __array_ufunc__ = None
    __array_priority__ = 1000

    def __init__(self, type: TensorType, data: Numbers | None, trace: int = CONCRETE) -> None:
        self.type = type
        self._data = data
        self.trace = trace

    # ---- what is known without numbers ----

    @property
    def shape(self) -> Shape:
        return self.type.shape

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.type.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.type.size

    @property
    def nbytes(self) -> int:
        """Bytes the elements take."""
        return self.type.nbytes

    @property
    def itemsize(self) -> int:
        return self.type.dtype.itemsize

    @property
    def device(self) -> str:
        """Where the numbers live; always `"cpu"`."""
        return "cpu"

    def to_device(self, device: str, /, *, stream: None = None) -> Array:
        if device != "cpu" or stream is not None:
            raise ShapeError(f"the only device is 'cpu', not {device!r}")
        return self

    @property
    def has_numbers(self) -> bool:
        """False for a value of an abstract trace (`compile`, `vmap`): it has a type only."""
        return self._data is not None

    # ---- numbers out ----

    @public
    def numpy(self) -> Numbers:
        """The numbers as a read-only NumPy array, without a copy. Detached from any gradient."""
        # A view, because the owner of its numbers could be made writable again.
        return self._numbers("a NumPy array").view()

    @public
    def item(self) -> bool | int | float:
        """The only element as a Python scalar; `ShapeError` unless there is exactly one."""
        if self.size != 1:
            raise ShapeError(f"item() needs exactly one element, this {self.type} has {self.size}")
        scalar = self._numbers("a Python scalar").item()
        return float(scalar) if is_float(self.dtype) else scalar

    @public
    def tolist(self) -> Any:
        """The numbers as nested Python lists."""
        return self._numbers("a list").tolist()

    @public
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Numbers:
        if self.trace != CONCRETE:
            self._refuse(
                "a NumPy function was called on a traced value",
                "use the pullback function of the same name; "
                "x.numpy() shows numbers without gradient",
            )
        data = self._numbers("a NumPy array")
        if dtype is not None and data.dtype != dtype:
            if copy is False:
                raise ValueError(f"a copy is needed to turn {data.dtype} into {np.dtype(dtype)}")
            return data.astype(dtype)
        return data.copy() if copy else data.view()

    @public
    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """A NumPy function sees the numbers of an Array, and never those of a traced value."""
        if function in (np.shape, np.ndim, np.size):
            return function.__wrapped__(*args, **kwargs)
        return function(*_as_numpy(args), **{name: _as_numpy(x) for name, x in kwargs.items()})

    @public
    def __dlpack__(self, **options: Any) -> Any:
        if self.trace != CONCRETE:
            self._refuse(
                "a traced value was exported by DLPack",
                "export the result of the transform instead",
            )
        return dlpack.export(self._numbers("a DLPack capsule"), **options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    @public
    def __bool__(self) -> bool:
        if self.size != 1:
            raise ShapeError(
                f"the truth of an array of {self.size} elements is ambiguous",
                hint="reduce it with pb.any(x) or pb.all(x)",
            )
        return bool(self._numbers("a truth value").item())

    @public
    def __int__(self) -> int:
        return int(self.item())

    @public
    def __float__(self) -> float:
        return float_of(self) if self.trace == CONCRETE else float(self.item())

    @public
    def __complex__(self) -> complex:
        return complex(self.item())

    @public
    def __index__(self) -> int:
        if not is_integer(self.dtype) or self.ndim:
            raise DTypeError(f"only a rank-0 integer array can be an index, not {self.type}")
        return int(self.item())

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a rank-0 array has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Array]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        if self._data is None:
            state = "donated" if self.trace == DONATED else "traced"
            return f"Array({self.type}, {state})"
        body = np.array2string(
            _printable(self._data), separator=", ", prefix="Array(", threshold=1000
        )
        return f"Array({body}, dtype={self.dtype}{'' if self.trace == CONCRETE else ', traced'})"

    def __str__(self) -> str:
        return repr(self) if self._data is None else str(_printable(self._data))

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    __hash__ = object.__hash__  # by identity: `==` compares elements

    def __copy__(self) -> Array:
        return self

    def __deepcopy__(self, memo: object) -> Array:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Array is not pickled; save it with safetensors, or as x.numpy()")

    def _numbers(self, wanted: str) -> Numbers:
        if self._data is None:
            self._refuse(
                f"{wanted} was asked of a traced value, which has no numbers yet ({self.type})",
                "use pb.where, pb.cond or pb.while_loop instead of a Python branch, "
                "or make the argument static",
            )
        if self.trace != CONCRETE:
            _note_read(self)
        return self._data

    def donated(self) -> DonationError:
        """The error for a use of this array after it was given away."""
        error = DonationError(
            f"this {self.type} was donated to a compiled function, which has overwritten it",
            hint="use what the function returned, or leave the argument out of donate=",
        )
        error.locate("donated array", calling_site())
        return error

    def _refuse(self, what: str, hint: str) -> NoReturn:
        if self.trace == DONATED:
            raise self.donated()
        error = TracedValueError(what, hint=hint)
        error.locate("traced value", calling_site())
        raise error

    if TYPE_CHECKING:  # bound by pullback.ops.operators
        __array_namespace__: Any
        at: Any

        @property
        def T(self) -> Array: ...
        @property
        def mT(self) -> Array: ...
        def __add__(self, other: Any, /) -> Array: ...
        def __radd__(self, other: Any, /) -> Array: ...
        def __sub__(self, other: Any, /) -> Array: ...
        def __rsub__(self, other: Any, /) -> Array: ...
        def __mul__(self, other: Any, /) -> Array: ...
        def __rmul__(self, other: Any, /) -> Array: ...
        def __truediv__(self, other: Any, /) -> Array: ...
        def __rtruediv__(self, other: Any, /) -> Array: ...
        def __floordiv__(self, other: Any, /) -> Array: ...
        def __rfloordiv__(self, other: Any, /) -> Array: ...
        def __mod__(self, other: Any, /) -> Array: ...
        def __rmod__(self, other: Any, /) -> Array: ...
        def __pow__(self, other: Any, /) -> Array: ...
        def __rpow__(self, other: Any, /) -> Array: ...
        def __matmul__(self, other: Any, /) -> Array: ...
        def __rmatmul__(self, other: Any, /) -> Array: ...
        def __and__(self, other: Any, /) -> Array: ...
        def __rand__(self, other: Any, /) -> Array: ...
        def __or__(self, other: Any, /) -> Array: ...
        def __ror__(self, other: Any, /) -> Array: ...
        def __xor__(self, other: Any, /) -> Array: ...
        def __rxor__(self, other: Any, /) -> Array: ...
        def __lshift__(self, other: Any, /) -> Array: ...
        def __rlshift__(self, other: Any, /) -> Array: ...
        def __rshift__(self, other: Any, /) -> Array: ...
        def __rrshift__(self, other: Any, /) -> Array: ...
        def __lt__(self, other: Any, /) -> Array: ...
        def __le__(self, other: Any, /) -> Array: ...
        def __gt__(self, other: Any, /) -> Array: ...
        def __ge__(self, other: Any, /) -> Array: ...
        def __eq__(self, other: Any, /) -> Array: ...  # type: ignore[override]
        def __ne__(self, other: Any, /) -> Array: ...  # type: ignore[override]
        def __neg__(self) -> Array: ...
        def __pos__(self) -> Array: ...
        def __abs__(self) -> Array: ...
        def __invert__(self) -> Array: ...
        def __getitem__(self, index: Any, /) -> Array: ...
        def astype(self, dtype: Any, /) -> Array: ...
        def reshape(self, *shape: Any) -> Array: ...
        def sum(self, axis: Any = None, keepdims: bool = False, *, dtype: Any = None) -> Array: ...
        def prod(self, axis: Any = None, keepdims: bool = False, *, dtype: Any = None) -> Array: ...
        def mean(self, axis: Any = None, keepdims: bool = False) -> Array: ...
        def max(self, axis: Any = None, keepdims: bool = False) -> Array: ...
        def min(self, axis: Any = None, keepdims: bool = False) -> Array: ...
        def var(
            self, axis: Any = None, keepdims: bool = False, *, correction: float = 0.0
        ) -> Array: ...
        def std(
            self, axis: Any = None, keepdims: bool = False, *, correction: float = 0.0
        ) -> Array: ...
        def argmax(self, axis: int | None = None, keepdims: bool = False) -> Array: ...
        def argmin(self, axis: int | None = None, keepdims: bool = False) -> Array: ...
        def any(self, axis: Any = None, keepdims: bool = False) -> Array: ...
        def all(self, axis: Any = None, keepdims: bool = False) -> Array: ...


def concrete(data: Any) -> Array:
    """An Array that takes over `data` (a NumPy array nobody else will write to) without a copy."""
    numbers = np.asarray(data)
    numbers.setflags(write=False)
    return Array(TensorType(numbers.shape, numbers.dtype), numbers)


def numbers_of(x: Any, dtype: DType | None = None) -> Numbers:
    """The numbers of an Array, or of what NumPy reads; without a copy where they are of `dtype`."""
    return np.asarray(x.numpy() if isinstance(x, Array) else x, dtype)


def float_of(x: Any) -> float:
    """The only element as a float. Of every step of a run, so the shortest way is taken."""
    if type(x) is not Array:
        return float(x)
    data = x._data
    return float(x.item() if data is None or data.ndim else data)


_reads: ContextVar[list[tuple[Array, Site]] | None] = ContextVar("pullback reads", default=None)


@contextmanager
def noting_reads() -> Iterator[list[tuple[Array, Site]]]:
    """What Python and NumPy take out of a trace that has its numbers, and the lines that do."""
    found: list[tuple[Array, Site]] = []
    token = _reads.set(found)
    try:
        yield found
    finally:
        _reads.reset(token)


def _note_read(x: Array) -> None:
    found = _reads.get()
    if found is not None:
        found.append((x, calling_site()))


def _printable(data: Numbers) -> Numbers:
    return data.astype(np.float32) if data.dtype.kind == "V" else data


def _as_numpy(x: Any) -> Any:
    if type(x) in (tuple, list):
        return type(x)([_as_numpy(each) for each in x])
    return np.asarray(x) if isinstance(x, Array) else x
