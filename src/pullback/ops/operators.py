"""How operands are brought to one element type, and the operators of `Array`."""

from __future__ import annotations

from typing import Any

import numpy as np

from pullback._public import public
from pullback.errors import DTypeError, PullbackError, ShapeError, StructureError
from pullback.ir import families
from pullback.ir.array import Array, concrete
from pullback.ir.builder import current, located
from pullback.ir.op import Op
from pullback.ir.types import (
    DType,
    Shape,
    TensorType,
    as_dtype,
    bool_,
    broadcast_shapes,
    float32,
    float64,
    int64,
    is_bool,
    is_float,
    is_integer,
    kind_of,
    promote,
)
from pullback.ops import pointwise
from pullback.ops.layout import Broadcast, Reshape, Transpose
from pullback.ops.layout import cut as cut
from pullback.ops.reduce import Sum
from pullback.ops.weak import Weak

# ---- operands in ----------------------------------------------------------------------------


def lift(x: Any) -> Array:
    """`x` as an Array: a NumPy array is copied with its element type, a Python float is float32."""
    if isinstance(x, Array):
        return x
    if isinstance(x, np.ndarray | np.generic):  # first, because np.float64 is a Python float too
        as_dtype(x.dtype)
        return concrete(np.array(x, order="C"))
    if isinstance(x, bool):
        return constant(x, bool_)
    if isinstance(x, int):
        return constant(x, int64)
    if isinstance(x, float):
        return constant(x, float32)
    if isinstance(x, Weak):
        kind = x.array.type.dtype
        return cast(x.array, float32) if is_float(kind) and x.strength == 0 else x.array
    raise StructureError(
        f"an array was expected, not {type(x).__name__}",
        hint="pb.asarray(...) turns nested lists into an array",
    )


def constant(value: Any, dtype: DType) -> Array:
    """A scalar literal of `dtype`; `DTypeError` when an integer does not fit."""
    if isinstance(value, Weak):
        if is_integer(dtype) and is_integer(value.array.type.dtype):
            value.met.add(dtype)
        return cast(value.array, dtype)
    if isinstance(value, np.generic):
        value = value.item()
    if is_integer(dtype):
        value = int(value)
        limits = np.iinfo(dtype)
        if not limits.min <= value <= limits.max:
            raise DTypeError(f"{value} does not fit {dtype}")
    elif is_float(dtype):
        value = float(value)
    builder = current()
    if builder is None:
        return concrete(np.asarray(value, dtype))
    key = (value, dtype) if value else None  # 0.0 == -0.0
    known = builder.constants.get(key)
    if known is None:
        known = pointwise.Constant(value, dtype)()
        if key is not None:
            builder.constants[key] = known
    return known


def cast(x: Array, dtype: DType) -> Array:
    return x if x.type.dtype == dtype else pointwise.Cast(dtype)(x)


def as_float(x: Any) -> Array:
    """`x` with a floating element type; integers and bools become float32."""
    array = lift(x)
    return array if is_float(array.type.dtype) else pointwise.Cast(float32)(array)


_PYTHON_SCALARS = (float, int, bool)


def pair(x: Any, y: Any) -> tuple[Array, Array]:
    """Both operands with their common element type. Scalars are weak: they take the array's."""
    if isinstance(x, Array):
        if isinstance(y, Array):
            return _common(x, y)
        if type(y) in _PYTHON_SCALARS:
            return _with_scalar(x, y)
    left, right = _strength(x), _strength(y)
    if left > right:
        return _with_scalar(lift(x), y)
    if left < right:
        second, first = _with_scalar(lift(y), x)
        return first, second
    return _common(lift(x), lift(y))


def _strength(x: Any) -> int:
    """Python scalars give way to NumPy scalars, and those to arrays."""
    if isinstance(x, np.generic):
        return 1
    if isinstance(x, Weak):
        return x.strength
    return 0 if isinstance(x, _PYTHON_SCALARS) else 2


def _common(x: Array, y: Array) -> tuple[Array, Array]:
    left, right = x.type.dtype, y.type.dtype
    if left is right or left == right:
        return x, y
    dtype = promote(left, right)
    return cast(x, dtype), cast(y, dtype)


def _with_scalar(x: Array, scalar: Any) -> tuple[Array, Array]:
    wanted = _beside(x.type.dtype, scalar)
    return cast(x, wanted), constant(scalar, wanted)


def _beside(dtype: DType, scalar: Any) -> DType:
    """The common element type of an array of `dtype` and a scalar."""
    own = scalar.array.type.dtype if isinstance(scalar, Weak) else None
    if isinstance(scalar, np.generic) or (own is not None and scalar.strength == 1):
        own = as_dtype(scalar.dtype) if own is None else own
        same_kind = kind_of(own) == kind_of(dtype) or (is_integer(own) and is_integer(dtype))
        return dtype if same_kind else promote(dtype, own)
    if isinstance(scalar, bool) or own == bool_:
        return dtype
    if isinstance(scalar, int) or own == int64:
        return int64 if is_bool(dtype) else dtype
    return dtype if is_float(dtype) else float32


def float_pair(x: Any, y: Any) -> tuple[Array, Array]:
    """`pair`, with integers and bools made float32."""
    left, right = pair(x, y)
    if is_float(left.type.dtype):
        return left, right
    return cast(left, float32), cast(right, float32)


# ---- shapes ---------------------------------------------------------------------------------


def reshape(x: Array, shape: Shape) -> Array:
    return x if x.type.shape == shape else Reshape(shape)(x)


def transpose(x: Array, permutation: tuple[int, ...]) -> Array:
    return x if permutation == tuple(range(x.ndim)) else Transpose(permutation)(x)


def broadcast_to(x: Array, shape: Shape) -> Array:
    """`x` copied to `shape` by NumPy's rule."""
    if x.type.shape == shape:
        return x
    broadcast_shapes(x.shape, shape)
    lead = len(shape) - x.ndim
    new = tuple(i for i, n in enumerate(shape) if i < lead or (x.shape[i - lead] == 1 and n != 1))
    if lead < 0 or any(x.shape[i - lead] != n for i, n in enumerate(shape) if i not in new):
        raise ShapeError(f"{x.type} does not broadcast to {shape}")
    kept = tuple(n for i, n in enumerate(shape) if i not in new)
    return Broadcast(shape, new)(reshape(x, kept)) if new else x


def repeated(x: Array, size: int) -> Array:
    """`x` once for each of `size` examples, along a new axis 0."""
    return broadcast_to(reshape(x, (1, *x.shape)), (size, *x.shape))


def sum_over(x: Array, axes: tuple[int, ...]) -> Array:
    return Sum(axes)(x) if axes else x


def full(kind: TensorType, value: bool | float) -> Array:
    return broadcast_to(constant(value, kind.dtype), kind.shape)


def zeros(kind: TensorType) -> Array:
    return full(kind, 0)


def select(chosen: Array, x: Any, y: Any) -> Array:
    return pointwise.Select()(chosen, *pair(x, y))


# ---- operators ------------------------------------------------------------------------------


def binary(op: Op, x: Any, y: Any) -> Array:
    return op(*pair(x, y))


def add(x: Any, y: Any) -> Array:
    return pointwise.Add()(*pair(x, y))


def subtract(x: Any, y: Any) -> Array:
    return pointwise.Subtract()(*pair(x, y))


def multiply(x: Any, y: Any) -> Array:
    return pointwise.Multiply()(*pair(x, y))


def divide(x: Any, y: Any) -> Array:
    return pointwise.Divide()(*float_pair(x, y))


def less(x: Any, y: Any) -> Array:
    return pointwise.Less()(*pair(x, y))


def less_equal(x: Any, y: Any) -> Array:
    return pointwise.LessEqual()(*pair(x, y))


def greater(x: Any, y: Any) -> Array:
    return less(y, x)


def greater_equal(x: Any, y: Any) -> Array:
    return less_equal(y, x)


def equal(x: Any, y: Any) -> Array:
    return pointwise.Equal()(*pair(x, y))


def not_equal(x: Any, y: Any) -> Array:
    return pointwise.NotEqual()(*pair(x, y))


def floor_divide(x: Any, y: Any) -> Array:
    return pointwise.FloorDivide()(*pair(x, y))


def remainder(x: Any, y: Any) -> Array:
    return pointwise.Remainder()(*pair(x, y))


def power(x: Any, y: Any) -> Array:
    """x^y. A whole literal exponent becomes part of the op, whose gradient needs no logarithm."""
    whole = isinstance(y, int) or (isinstance(y, float) and y.is_integer())
    if whole and y <= LARGEST_EXPONENT:
        base = lift(x)
        if isinstance(y, float) or is_bool(base.dtype):
            base, _ = pair(base, y)
        if is_integer(base.dtype) or y >= -LARGEST_EXPONENT:
            return pointwise.Power(int(y))(base)
    left, right = pair(x, y)
    if is_float(left.dtype):
        return pointwise.Pow()(left, right)
    return pointwise.IntegerPow()(left, right)


def bitwise_and(x: Any, y: Any) -> Array:
    return pointwise.BitAnd()(*pair(x, y))


def bitwise_or(x: Any, y: Any) -> Array:
    return pointwise.BitOr()(*pair(x, y))


def bitwise_xor(x: Any, y: Any) -> Array:
    return pointwise.BitXor()(*pair(x, y))


def left_shift(x: Any, y: Any) -> Array:
    return pointwise.ShiftLeft()(*pair(x, y))


def right_shift(x: Any, y: Any) -> Array:
    return pointwise.ShiftRight()(*pair(x, y))


def negative(x: Any) -> Array:
    return pointwise.Negative()(lift(x))


def positive(x: Any) -> Array:
    return lift(x)


def absolute(x: Any) -> Array:
    return pointwise.Absolute()(lift(x))


def invert(x: Any) -> Array:
    return pointwise.BitNot()(lift(x))


def astype(x: Array, dtype: Any, /) -> Array:
    """The elements as another type. Float to integer truncates, saturates, and turns NaN into 0."""
    return cast(x, as_dtype(dtype))


LARGEST_EXPONENT = 64
BINARY = {
    "add": add,
    "sub": subtract,
    "mul": multiply,
    "truediv": divide,
    "floordiv": floor_divide,
    "mod": remainder,
    "pow": power,
    "and": bitwise_and,
    "or": bitwise_or,
    "xor": bitwise_xor,
    "lshift": left_shift,
    "rshift": right_shift,
}
COMPARISON = {
    "lt": less,
    "le": less_equal,
    "gt": greater,
    "ge": greater_equal,
    "eq": equal,
    "ne": not_equal,
}
OPERANDS = (Array, Weak, np.ndarray, np.generic, bool, int, float)


def apply_as(subject: str, op: Op, **operands: Array) -> Array:
    """`op` of the operands; an error names the function `subject` and the operands."""
    try:
        op.output_types(*(x.type for x in operands.values()))
    except PullbackError as error:
        raise located(error, subject, **operands) from None
    return op(*operands.values())


def bind_operators(binary: dict[str, Any], comparison: dict[str, Any], **methods: Any) -> None:
    """Give `Array` its operators and methods."""
    for name, function in binary.items():
        setattr(Array, f"__{name}__", _forward(function))
        setattr(Array, f"__r{name}__", _reflected(function))
    for name, function in comparison.items():
        setattr(Array, f"__{name}__", _forward(function))
    for name, function in methods.items():
        setattr(Array, name, function)


def _forward(function: Any) -> Any:
    def method(self: Array, other: Any, /) -> Any:
        if not isinstance(other, OPERANDS):
            return NotImplemented
        return function(self, other)

    return public(method, function.__name__)


def _reflected(function: Any) -> Any:
    def method(self: Array, other: Any, /) -> Any:
        if not isinstance(other, OPERANDS):
            return NotImplemented
        return function(other, self)

    return public(method, function.__name__)


# ---- operators of traced scalars ------------------------------------------------------------


def _wide(x: Any, number: bool) -> Array:
    """A scalar in the type that Python computes it in; with `number`, a bool counts as an int."""
    if isinstance(x, Weak):
        array = x.array
    elif isinstance(x, np.generic):
        array = constant(x, as_dtype(x.dtype))
    else:
        kind = bool_ if isinstance(x, bool) else int64 if isinstance(x, int) else float64
        array = constant(x, kind)
    return cast(array, int64) if number and is_bool(array.dtype) else array


def _weak_result(function: Any, x: Any, y: Any) -> Any:
    """`x ∘ y` where one is a traced scalar: weak again, unless the other is an array."""
    if isinstance(x, Array | np.ndarray) or isinstance(y, Array | np.ndarray):
        return function(x, y)
    number = function not in (bitwise_and, bitwise_or, bitwise_xor)
    left, right = _wide(x, number), _wide(y, number)
    if function is divide and not (is_float(left.dtype) or is_float(right.dtype)):
        left = cast(left, float64)
    if function is power and isinstance(y, int | float):
        return Weak(power(left, y), _strength(x))
    return Weak(function(left, right), max(_strength(x), _strength(y)))


def _weak_forward(function: Any) -> Any:
    def method(self: Weak, other: Any, /) -> Any:
        return (
            _weak_result(function, self, other) if isinstance(other, OPERANDS) else NotImplemented
        )

    return public(method, function.__name__)


def _weak_reflected(function: Any) -> Any:
    def method(self: Weak, other: Any, /) -> Any:
        return (
            _weak_result(function, other, self) if isinstance(other, OPERANDS) else NotImplemented
        )

    return public(method, function.__name__)


def _bind_weak() -> None:
    for name, function in (BINARY | COMPARISON).items():
        setattr(Weak, f"__{name}__", _weak_forward(function))
    for name, function in BINARY.items():
        setattr(Weak, f"__r{name}__", _weak_reflected(function))
    for name, unary in (("neg", negative), ("pos", positive), ("abs", absolute)):
        setattr(Weak, f"__{name}__", _weak_unary(unary))


def _weak_unary(function: Any) -> Any:
    return lambda self: Weak(function(_wide(self, True)), self.strength)


def bind() -> None:
    """Called once by `pullback.ops`."""
    _bind_weak()
    families.bind(
        reshape=reshape, broadcast=broadcast_to, sum_over=sum_over, zeros=zeros, select=select
    )
    bind_operators(
        BINARY,
        COMPARISON,
        __neg__=negative,
        __pos__=positive,
        __abs__=absolute,
        __invert__=invert,
    )
