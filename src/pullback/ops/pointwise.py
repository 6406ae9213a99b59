"""Elementwise arithmetic, comparison and selection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback.errors import DTypeError
from pullback.ir.array import Array
from pullback.ir.families import Elementwise, Operands, Partial
from pullback.ir.op import Maybe, Op, Sample
from pullback.ir.samples import distinct, extremes, integers, normal, positive, truths
from pullback.ir.types import (
    DType,
    TensorType,
    bool_,
    broadcast_shapes,
    float32,
    float64,
    int32,
    is_float,
)

# ---- literals -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Constant(Op):
    """A scalar literal."""

    name = "constant"
    value: bool | int | float
    dtype: DType

    def infer(self) -> TensorType:
        return TensorType((), self.dtype)

    def reference(self) -> Any:
        return np.asarray(self.value, self.dtype)

    def formula(self, *operands: str) -> str:
        return f"{self.value:g}" if isinstance(self.value, float) else str(self.value)

    def _key(self) -> tuple[str, DType]:
        return repr(
            self.value
        ), self.dtype  # 0.0 == -0.0 and 1 == True, but they are other literals

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(2.5, float64))
        yield Sample(cls(-0.0, float32))
        yield Sample(cls(float("inf"), float64))
        yield Sample(cls(7, int32))
        yield Sample(cls(True, bool_))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        return iter(())


# ---- arithmetic -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Add(Elementwise):
    """x + y."""

    name = "add"

    def reference(self, x: Any, y: Any) -> Any:
        return x + y

    def partials(self, out: Array, x: Array, y: Array) -> tuple[Partial, ...]:
        return (1.0, 1.0)

    def body(self, s: Any, x: Any, y: Any) -> Any:
        return s.add(x, y)

    def formula(self, *operands: str) -> str:
        return f"{operands[0]} + {operands[1]}"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from binary_samples(cls())
        yield Sample(cls(), integers(3), integers(3, seed=1))


@dataclass(frozen=True)
class Subtract(Elementwise):
    """x - y."""

    name = "subtract"

    def reference(self, x: Any, y: Any) -> Any:
        return x - y

    def partials(self, out: Array, x: Array, y: Array) -> tuple[Partial, ...]:
        return (1.0, -1.0)

    def body(self, s: Any, x: Any, y: Any) -> Any:
        return s.sub(x, y)

    def formula(self, *operands: str) -> str:
        return f"{operands[0]} − {operands[1]}"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from binary_samples(cls())
        yield Sample(cls(), integers(3), integers(3, seed=1))


@dataclass(frozen=True)
class Multiply(Elementwise):
    """x · y."""

    name = "multiply"

    def reference(self, x: Any, y: Any) -> Any:
        return x * y

    def partials(self, out: Array, x: Array, y: Array) -> tuple[Partial, ...]:
        return (y, x)

    def body(self, s: Any, x: Any, y: Any) -> Any:
        return s.mul(x, y)

    def formula(self, *operands: str) -> str:
        return f"{operands[0]} ⊙ {operands[1]}"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from binary_samples(cls())
        yield Sample(cls(), integers(3), integers(3, seed=1))


@dataclass(frozen=True)
class Divide(Elementwise):
    """x / y."""

    name = "divide"
    guarded = True
    accepts = staticmethod(Operands.floats)

    def reference(self, x: Any, y: Any) -> Any:
        return x / y

    def partials(self, out: Array, x: Array, y: Array) -> tuple[Partial, ...]:
        return (1.0 / y, -out / y)

    def body(self, s: Any, x: Any, y: Any) -> Any:
        return s.div(x, y)

    def formula(self, *operands: str) -> str:
        return f"{operands[0]} / {operands[1]}"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), normal(3, 4), positive(3, 4))
        yield Sample(cls(), normal(3, 1), positive(4))
        yield Sample(cls(), extremes(), extremes()[::-1].copy(), smooth=False)


@dataclass(frozen=True)
class Negative(Elementwise):
    """-x."""

    name = "negative"

    def reference(self, x: Any) -> Any:
        return -x

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (-1.0,)

    def body(self, s: Any, x: Any) -> Any:
        return s.neg(x)

    def formula(self, *operands: str) -> str:
        return f"−{operands[0]}"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), normal(3, 4))
        yield Sample(cls(), extremes(), smooth=False)
        yield Sample(cls(), integers(3))


@dataclass(frozen=True)
class Absolute(Elementwise):
    """|x|; derivative sign(x), 0 at 0."""

    name = "abs"

    def reference(self, x: Any) -> Any:
        return np.abs(x)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (Sign()(x),)

    def body(self, s: Any, x: Any) -> Any:
        return s.abs(x)

    def formula(self, *operands: str) -> str:
        return f"|{operands[0]}|"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), distinct(3, 4))
        yield Sample(cls(), extremes(), smooth=False)
        yield Sample(cls(), integers(3))


@dataclass(frozen=True)
class Sign(Elementwise):
    """-1, 0 or 1; NaN of NaN."""

    name = "sign"
    differentiable = False

    def reference(self, x: Any) -> Any:
        return np.sign(x)

    def body(self, s: Any, x: Any) -> Any:
        zero, one = s.const(0, x), s.const(1, x)
        return s.select(s.less(zero, x), one, s.select(s.less(x, zero), s.neg(one), x))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), distinct(3, 4))
        yield Sample(cls(), extremes(), smooth=False)
        yield Sample(cls(), integers(3))


# ---- activation -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Relu(Elementwise):
    """max(0, x); derivative 1 where x > 0, else 0; NaN of NaN."""

    name = "relu"

    def reference(self, x: Any) -> Any:
        return np.maximum(x, np.zeros_like(x))

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (x > 0,)

    def body(self, s: Any, x: Any) -> Any:
        return s.maximum(x, s.const(0, x))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), distinct(3, 4))
        yield Sample(cls(), extremes(), smooth=False)


@dataclass(frozen=True)
class Tanh(Elementwise):
    """Hyperbolic tangent."""

    name = "tanh"
    accepts = staticmethod(Operands.floats)

    def reference(self, x: Any) -> Any:
        return np.tanh(x)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (1.0 - out * out,)

    def body(self, s: Any, x: Any) -> Any:
        return s.tanh(x)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from unary_samples(cls())


@dataclass(frozen=True)
class Sigmoid(Elementwise):
    """Logistic function 1 / (1 + e^-x), never overflowing."""

    name = "sigmoid"
    accepts = staticmethod(Operands.floats)

    def reference(self, x: Any) -> Any:
        z = np.exp(-np.abs(x))
        one = np.ones_like(x)
        return np.where(x < 0, z, one) / (one + z)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (out * (1.0 - out),)

    def body(self, s: Any, x: Any) -> Any:
        one = s.const(1, x)
        z = s.exp(s.neg(s.abs(x)))
        return s.div(s.select(s.less(x, s.const(0, x)), z, one), s.add(one, z))

    def formula(self, *operands: str) -> str:
        return f"σ({operands[0]})"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from unary_samples(cls())


# ---- exponentials ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Exp(Elementwise):
    """e^x."""

    name = "exp"
    guarded = True
    accepts = staticmethod(Operands.floats)

    def reference(self, x: Any) -> Any:
        return np.exp(x)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (out,)

    def body(self, s: Any, x: Any) -> Any:
        return s.exp(x)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from unary_samples(cls())


@dataclass(frozen=True)
class Log(Elementwise):
    """Natural logarithm."""

    name = "log"
    guarded = True
    accepts = staticmethod(Operands.floats)

    def reference(self, x: Any) -> Any:
        return np.log(x)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (1.0 / x,)

    def body(self, s: Any, x: Any) -> Any:
        return s.log(x)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from positive_samples(cls())


@dataclass(frozen=True)
class Sqrt(Elementwise):
    """Square root."""

    name = "sqrt"
    guarded = True
    accepts = staticmethod(Operands.floats)

    def reference(self, x: Any) -> Any:
        return np.sqrt(x)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (0.5 / out,)

    def body(self, s: Any, x: Any) -> Any:
        return s.sqrt(x)

    def formula(self, *operands: str) -> str:
        return f"√({operands[0]})"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from positive_samples(cls())


# ---- comparison, selection ------------------------------------------------------------------


class Comparison(Elementwise):
    """A truth value for each pair of elements."""

    differentiable = False
    accepts = staticmethod(Operands.anything)
    symbol: str

    def result_dtype(self, dtype: DType) -> DType:
        return bool_

    def formula(self, *operands: str) -> str:
        return f"[{operands[0]} {self.symbol} {operands[1]}]"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), integers(3, 4), integers(4, seed=1))
        yield Sample(cls(), extremes(), extremes()[::-1].copy(), smooth=False)
        yield Sample(cls(), truths(4), truths(4, seed=1))


@dataclass(frozen=True)
class Less(Comparison):
    """x < y."""

    name = "less"
    symbol = "<"

    def reference(self, x: Any, y: Any) -> Any:
        return x < y

    def body(self, s: Any, x: Any, y: Any) -> Any:
        return s.less(x, y)


@dataclass(frozen=True)
class LessEqual(Comparison):
    """x ≤ y."""

    name = "less_equal"
    symbol = "≤"

    def reference(self, x: Any, y: Any) -> Any:
        return x <= y

    def body(self, s: Any, x: Any, y: Any) -> Any:
        return s.less_equal(x, y)


@dataclass(frozen=True)
class Equal(Comparison):
    """x = y."""

    name = "equal"
    symbol = "="

    def reference(self, x: Any, y: Any) -> Any:
        return x == y

    def body(self, s: Any, x: Any, y: Any) -> Any:
        return s.equal(x, y)


@dataclass(frozen=True)
class NotEqual(Comparison):
    """x ≠ y; true when either is NaN."""

    name = "not_equal"
    symbol = "≠"

    def reference(self, x: Any, y: Any) -> Any:
        return x != y

    def body(self, s: Any, x: Any, y: Any) -> Any:
        return s.bit_not(s.equal(x, y))


@dataclass(frozen=True)
class LogicalNot(Elementwise):
    """not x."""

    name = "logical_not"
    differentiable = False
    accepts = staticmethod(lambda dtype: dtype == bool_)

    def reference(self, x: Any) -> Any:
        return np.logical_not(x)

    def body(self, s: Any, x: Any) -> Any:
        return s.bit_not(x)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), truths(3, 4))


@dataclass(frozen=True)
class Select(Elementwise):
    """x where `chosen`, else y."""

    name = "select"

    def infer(self, chosen: TensorType, x: TensorType, y: TensorType) -> TensorType:
        if chosen.dtype != bool_:
            raise DTypeError(
                f"the condition is {chosen.dtype}, not bool", hint="compare it: x != 0"
            )
        if x.dtype != y.dtype:
            raise DTypeError(f"element types differ: {x.dtype} and {y.dtype}")
        if chosen.shape == x.shape == y.shape:
            return x
        return TensorType(broadcast_shapes(chosen.shape, x.shape, y.shape), x.dtype)

    def reference(self, chosen: Any, x: Any, y: Any) -> Any:
        return np.where(chosen, x, y)

    def partials(self, out: Array, chosen: Array, x: Array, y: Array) -> tuple[Partial, ...]:
        return (None, chosen, LogicalNot()(chosen))

    def body(self, s: Any, chosen: Any, x: Any, y: Any) -> Any:
        return s.select(chosen, x, y)

    def formula(self, *operands: str) -> str:
        return f"where({', '.join(operands)})"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), truths(3, 4), normal(3, 4), normal(3, 4, seed=1))
        yield Sample(cls(), truths(3, 1), normal(4), normal(3, 1))
        yield Sample(cls(), truths(3), integers(3), integers(3, seed=1))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls(), truths(3), normal(3), integers(3))
        yield Sample(cls(), normal(3), normal(3), normal(3))
        yield Sample(cls(), truths(3), normal(3), normal(4))


@dataclass(frozen=True)
class Cast(Elementwise):
    """Another element type; float → int truncates, NaN gives 0 and out-of-range saturates."""

    name = "cast"
    dtype: DType
    accepts = staticmethod(Operands.anything)

    def result_dtype(self, dtype: DType) -> DType:
        return self.dtype

    def reference(self, x: Any) -> Any:
        if is_float(x.dtype) and not is_float(self.dtype) and self.dtype != bool_:
            return _saturating(x, self.dtype)
        return x.astype(self.dtype)

    def cotangents(
        self,
        bars: tuple[Maybe, ...],
        outs: tuple[Array, ...],
        inputs: tuple[Array, ...],
        wanted: Sequence[bool],
    ) -> tuple[Maybe, ...]:
        bar, x = bars[0], inputs[0]
        if bar is None or not (is_float(x.dtype) and is_float(self.dtype)):
            return (None,)
        return (Cast(x.dtype)(bar),)

    def tangents(
        self, dots: tuple[Maybe, ...], outs: tuple[Array, ...], inputs: tuple[Array, ...]
    ) -> tuple[Maybe, ...]:
        dot = dots[0]
        return (None if dot is None or not is_float(self.dtype) else self(dot),)

    def body(self, s: Any, x: Any) -> Any:
        return s.cast(x, self.dtype)

    def formula(self, *operands: str) -> str:
        return f"{self.dtype}({operands[0]})"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(float64), normal(3, 4))
        yield Sample(cls(float32), normal(3, 4), smooth=False)
        yield Sample(cls(int32), normal(3, 4) * 3)
        yield Sample(cls(int32), extremes(), smooth=False)
        yield Sample(cls(float64), integers(3))
        yield Sample(cls(bool_), integers(3))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        return iter(())


def _saturating(x: Any, dtype: DType) -> Any:
    limits = np.iinfo(dtype)
    whole = np.trunc(np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf))
    inside = np.where((whole > limits.min) & (whole < limits.max), whole, 0.0).astype(dtype)
    return np.where(
        whole >= limits.max, limits.max, np.where(whole <= limits.min, limits.min, inside)
    ).astype(dtype)


@dataclass(frozen=True)
class StopGradient(Elementwise):
    """x, seen by every derivative as a constant."""

    name = "stop_gradient"
    differentiable = False
    accepts = staticmethod(Operands.anything)

    def reference(self, x: Any) -> Any:
        return x

    def body(self, s: Any, x: Any) -> Any:
        return x

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), normal(3, 4), smooth=False)

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        return iter(())


# ---- samples shared by many ops -------------------------------------------------------------


def unary_samples(op: Op) -> Iterator[Sample]:
    """For a function smooth on the whole line."""
    yield Sample(op, normal(3, 4))
    yield Sample(op, normal())
    yield Sample(op, normal(2, 0))
    yield Sample(op, extremes(), smooth=False)


def positive_samples(op: Op) -> Iterator[Sample]:
    """For a function smooth on the positive half-line."""
    yield Sample(op, positive(3, 4))
    yield Sample(op, positive())
    yield Sample(op, extremes(), smooth=False)


def binary_samples(op: Op) -> Iterator[Sample]:
    """For a function of two operands smooth on the whole plane."""
    yield Sample(op, normal(3, 4), normal(3, 4, seed=1))
    yield Sample(op, normal(2, 1, 4), normal(3, 1))
    yield Sample(op, normal(), normal(3))
    yield Sample(op, extremes(), extremes()[::-1].copy(), smooth=False)
