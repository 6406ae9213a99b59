"""What the elementwise ops share: a base for functions, literals, rounding, samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pullback.ir.array import Array
from pullback.ir.families import Elementwise, Operands
from pullback.ir.op import Op, Sample
from pullback.ir.range import Range
from pullback.ir.samples import extremes, normal, uniform
from pullback.ir.types import (
    DType,
    TensorType,
    bfloat16,
    bool_,
    float32,
    float64,
    int32,
    is_float,
    promote,
)


class Function(Elementwise):
    """A function of one floating operand, smooth on the open interval `domain`."""

    accepts = staticmethod(Operands.floats)
    domain: ClassVar[tuple[float, float]] = (-2.0, 2.0)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        low, high = cls.domain
        yield Sample(cls(), uniform(low, high, 3, 4))
        yield Sample(cls(), uniform(low, high))
        yield Sample(cls(), uniform(low, high, 2, 0))
        yield Sample(cls(), extremes(), smooth=False)


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

    def reach(self, *operands: Range) -> Range:
        return Range(float(self.value), float(self.value))

    def formula(self, *operands: str) -> str:
        return f"{self.value:g}" if isinstance(self.value, float) else str(self.value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Constant) or self.dtype != other.dtype:
            return False
        # 0.0 == -0.0 and 1 == True, but they are other literals
        return self.value is other.value or repr(self.value) == repr(other.value)

    def __hash__(self) -> int:
        value = self.value
        if isinstance(value, float) and math.isnan(value):
            value = 0.0  # by itself a NaN is hashed by its identity
        return hash((value, self.dtype))

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


def literal(value: float, like: Array) -> Array:
    """`value` as a scalar of the element type of `like`."""
    exact = value if is_float(like.dtype) else int(value)
    return Constant(exact, like.dtype)()


def rounded(f: Callable[..., Any], *inputs: Any, through: DType = float32) -> Any:
    """`f` computed in the precision of `through` or better, and rounded once to the operands' type.

    A formula of several NumPy operations would round half precision after each of them.
    """
    dtype = inputs[0].dtype
    wider = promote(dtype, through)
    return converted(np.asarray(f(*[x.astype(wider) for x in inputs])), dtype)


def converted(x: Any, dtype: DType) -> Any:
    """`x` as another floating type, rounded once."""
    return (_odd_single(x) if dtype == bfloat16 else x).astype(dtype)


def _odd_single(x: Any) -> Any:
    """`x` as float32; where it is inexact, the one of the two neighbours with an odd last bit.

    bfloat16 is reached through float32. Rounding twice to nearest may move a number just beside a
    tie onto it; rounding first to odd may not (Boldo and Melquiond 2008).
    """
    exact = x.astype(float64)
    single = exact.astype(float32)
    back = single.astype(float64)
    bits = single.view(int32) - (np.abs(back) > np.abs(exact))
    return (bits | (back != exact)).astype(int32).view(float32)


# ---- samples --------------------------------------------------------------------------------


def unary_samples(op: Op) -> Iterator[Sample]:
    """For a function smooth on the whole line."""
    yield Sample(op, normal(3, 4))
    yield Sample(op, normal())
    yield Sample(op, normal(2, 0))
    yield Sample(op, extremes(), smooth=False)


def binary_samples(op: Op) -> Iterator[Sample]:
    """For a function of two operands smooth on the whole plane."""
    yield Sample(op, normal(3, 4), normal(3, 4, seed=1))
    yield Sample(op, normal(2, 1, 4), normal(3, 1))
    yield Sample(op, normal(), normal(3))
    yield Sample(op, extremes(), extremes()[::-1].copy(), smooth=False)


def all_pairs(x: Any) -> tuple[Any, Any]:
    """Every element of `x` with every other."""
    return np.repeat(x, len(x)), np.tile(x, len(x))
