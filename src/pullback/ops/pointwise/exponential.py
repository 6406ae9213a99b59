"""Exponentials, logarithms, roots and powers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from pullback.ir import families
from pullback.ir.array import Array
from pullback.ir.families import Elementwise, Operands, Partial, Scale
from pullback.ir.op import Sample
from pullback.ir.range import EVERYTHING, NOT_NEGATIVE, NOT_ZERO, POSITIVE, Range
from pullback.ir.samples import extremes, normal, positive
from pullback.ops.pointwise.arithmetic import Absolute, Square
from pullback.ops.pointwise.base import (
    Function,
    all_pairs,
    binary_samples,
    literal,
    rounded,
)

# ---- exponentials ---------------------------------------------------------------------------


class Exp(Function):
    """e^x."""

    name = "exp"
    guarded = True

    remedy = "subtract the largest exponent first, as pb.softmax and pb.logsumexp do"

    def reference(self, x: Any) -> Any:
        return np.exp(x)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (out,)

    def reach(self, *operands: Range) -> Range:
        return operands[0].mapped(math.exp)

    def body(self, s: Any, x: Any) -> Any:
        return s.exp(x)


class Exp2(Function):
    """2^x."""

    name = "exp2"
    guarded = True

    def reference(self, x: Any) -> Any:
        return np.exp2(x)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (out * math.log(2.0),)

    def reach(self, *operands: Range) -> Range:
        return operands[0].mapped(lambda x: 2.0**x)

    def body(self, s: Any, x: Any) -> Any:
        return s.exp2(x)

    def formula(self, *operands: str) -> str:
        return f"2^({operands[0]})"


class Expm1(Function):
    """e^x − 1, exact near 0."""

    name = "expm1"
    guarded = True

    def reference(self, x: Any) -> Any:
        return np.expm1(x)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (Exp()(x),)  # out + 1 would cancel for x ≪ 0

    def reach(self, *operands: Range) -> Range:
        return operands[0].mapped(math.expm1)

    def body(self, s: Any, x: Any) -> Any:
        return s.expm1(x)


class Sigmoid(Function):
    """Logistic function σ(x) = 1 / (1 + e^-x), never overflowing."""

    name = "sigmoid"
    revival = (
        "smaller inputs: normalise them, or begin the weights before it smaller; a smaller rate"
    )

    def reference(self, x: Any) -> Any:
        def sigmoid(x: Any) -> Any:
            z = np.exp(-np.abs(x))
            return np.where(x < 0, z, 1) / (1 + z)

        return rounded(sigmoid, x)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (out * (1.0 - out),)

    def reach(self, *operands: Range) -> Range:
        return operands[0].mapped(_logistic)

    def stillness(self, operand: int, out: Any, *inputs: Any) -> str:
        return f"all {out.size} units are saturated: σ is 0 or 1 to the last bit"

    def body(self, s: Any, x: Any) -> Any:
        one = s.const(1, x)
        z = s.exp(s.neg(s.abs(x)))
        return s.div(s.select(s.less(x, s.const(0, x)), z, one), s.add(one, z))

    def formula(self, *operands: str) -> str:
        return f"σ({operands[0]})"


def _logistic(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x > -700 else 0.0


# ---- logarithms -----------------------------------------------------------------------------


class Log(Function):
    """Natural logarithm."""

    name = "log"
    guarded = True
    domain = (0.2, 3.0)

    remedy = (
        "keep the argument above 0: log(pb.maximum(x, eps)); of a softmax, pb.log_softmax(logits)"
    )

    def finite_on(self) -> tuple[Range, ...]:
        return (POSITIVE,)

    def reference(self, x: Any) -> Any:
        return np.log(x)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (1.0 / x,)

    def reach(self, *operands: Range) -> Range:
        return operands[0].met(NOT_NEGATIVE).mapped(math.log)

    def body(self, s: Any, x: Any) -> Any:
        return s.log(x)


class Log1p(Function):
    """log(1 + x), exact near 0."""

    name = "log1p"
    guarded = True
    domain = (-0.7, 3.0)

    remedy = "keep the argument above -1"

    def finite_on(self) -> tuple[Range, ...]:
        return (Range(-1.0, open_low=True),)

    def reference(self, x: Any) -> Any:
        return np.log1p(x)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (1.0 / (1.0 + x),)

    def reach(self, *operands: Range) -> Range:
        return operands[0].met(Range(-1.0)).mapped(math.log1p)

    def body(self, s: Any, x: Any) -> Any:
        return s.log1p(x)


class Log2(Function):
    """Logarithm to the base 2."""

    name = "log2"
    guarded = True
    domain = (0.2, 3.0)

    remedy = (
        "keep the argument above 0: log(pb.maximum(x, eps)); of a softmax, pb.log_softmax(logits)"
    )

    def finite_on(self) -> tuple[Range, ...]:
        return (POSITIVE,)

    def reference(self, x: Any) -> Any:
        return np.log2(x)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (math.log2(math.e) / x,)

    def body(self, s: Any, x: Any) -> Any:
        return s.log2(x)


class Log10(Function):
    """Logarithm to the base 10."""

    name = "log10"
    guarded = True
    domain = (0.2, 3.0)

    remedy = (
        "keep the argument above 0: log(pb.maximum(x, eps)); of a softmax, pb.log_softmax(logits)"
    )

    def finite_on(self) -> tuple[Range, ...]:
        return (POSITIVE,)

    def reference(self, x: Any) -> Any:
        return np.log10(x)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (math.log10(math.e) / x,)

    def body(self, s: Any, x: Any) -> Any:
        return s.mul(s.log2(x), s.const(math.log10(2.0), x))


class LogAddExp(Elementwise):
    """log(e^x + e^y), never overflowing; equal operands share the gradient, infinite ones too."""

    name = "logaddexp"
    accepts = staticmethod(Operands.floats)

    def reference(self, x: Any, y: Any) -> Any:
        return np.logaddexp(x, y)

    def partials(self, out: Array, x: Array, y: Array) -> tuple[Partial, ...]:
        # ∞ − ∞ would be NaN; equal finite operands keep x − y, whose derivative is wanted.
        infinite = Absolute()(x) == np.inf
        gap = families.select(infinite, families.select(x == y, literal(0.0, x), x - y), x - y)
        return (Sigmoid()(gap), Sigmoid()(-gap))

    def reach(self, *operands: Range) -> Range:
        return Range(max(operands[0].low, operands[1].low))

    def body(self, s: Any, x: Any, y: Any) -> Any:
        gap = s.select(s.equal(x, y), s.const(0, x), s.sub(x, y))
        return s.add(s.maximum(x, y), s.log1p(s.exp(s.neg(s.abs(gap)))))

    def formula(self, *operands: str) -> str:
        return f"log(e^{operands[0]} + e^{operands[1]})"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from binary_samples(cls())
        yield Sample(cls(), normal(3), normal(3))
        yield Sample(cls(), *all_pairs(extremes()), smooth=False)


# ---- roots ----------------------------------------------------------------------------------


class Sqrt(Function):
    """Square root."""

    name = "sqrt"
    guarded = True
    domain = (0.2, 3.0)

    remedy = "pb.sqrt(x + eps); pb.std and pb.linalg.vector_norm have the derivative 0 at 0"

    def finite_on(self) -> tuple[Range, ...]:
        return (NOT_NEGATIVE,)

    def smooth_on(self) -> tuple[Range, ...]:
        return (POSITIVE,)

    def reference(self, x: Any) -> Any:
        return np.sqrt(x)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (0.5 / out,)

    def reach(self, *operands: Range) -> Range:
        return operands[0].met(NOT_NEGATIVE).mapped(math.sqrt)

    def body(self, s: Any, x: Any) -> Any:
        return s.sqrt(x)

    def formula(self, *operands: str) -> str:
        return f"√({operands[0]})"


class Rsqrt(Function):
    """1 / √x."""

    name = "rsqrt"
    guarded = True
    domain = (0.4, 3.0)

    remedy = "pb.rsqrt(x + eps)"

    def finite_on(self) -> tuple[Range, ...]:
        return (POSITIVE,)

    def reference(self, x: Any) -> Any:
        return rounded(lambda x: 1 / np.sqrt(x), x)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (-0.5 * (out / x),)

    def reach(self, *operands: Range) -> Range:
        return operands[0].met(NOT_NEGATIVE).mapped(math.sqrt).inverted()

    def body(self, s: Any, x: Any) -> Any:
        return s.div(s.const(1, x), s.sqrt(x))

    def formula(self, *operands: str) -> str:
        return f"1/√({operands[0]})"


class Cbrt(Function):
    """Cube root, negative for a negative operand."""

    name = "cbrt"
    guarded = True
    domain = (0.4, 3.0)

    remedy = "pb.cbrt(x + eps)"

    def smooth_on(self) -> tuple[Range, ...]:
        return (NOT_ZERO,)

    def reference(self, x: Any) -> Any:
        return np.cbrt(x)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return ((1.0 / 3.0) / Square()(out),)

    def body(self, s: Any, x: Any) -> Any:
        return s.cbrt(x)

    def formula(self, *operands: str) -> str:
        return f"∛({operands[0]})"


class Hypot(Elementwise):
    """√(x² + y²) without overflow; gradient 0 at the origin."""

    name = "hypot"
    guarded = True
    accepts = staticmethod(Operands.floats)

    def reference(self, x: Any, y: Any) -> Any:
        return np.hypot(x, y)

    def partials(self, out: Array, x: Array, y: Array) -> tuple[Partial, ...]:
        origin, zero = out == 0, literal(0.0, out)
        return (
            families.select(origin, zero, x / out),
            families.select(origin, zero, y / out),
        )

    def reach(self, *operands: Range) -> Range:
        return NOT_NEGATIVE

    def body(self, s: Any, x: Any, y: Any) -> Any:
        zero, one, infinity = s.const(0, x), s.const(1, x), s.const(math.inf, x)
        x, y = s.abs(x), s.abs(y)
        large, small = s.maximum(x, y), s.minimum(x, y)
        ratio = s.div(small, s.select(s.equal(large, zero), one, large))
        finite = s.mul(large, s.sqrt(s.add(one, s.mul(ratio, ratio))))
        infinite = s.bit_or(s.equal(x, infinity), s.equal(y, infinity))
        return s.select(infinite, infinity, finite)

    def formula(self, *operands: str) -> str:
        return f"√({operands[0]}² + {operands[1]}²)"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), positive(3, 4), positive(3, 4, seed=1))
        yield Sample(cls(), positive(3, 1), -positive(4))
        yield Sample(cls(), *all_pairs(extremes()), smooth=False)


# ---- powers ---------------------------------------------------------------------------------


class Pow(Elementwise):
    """x^y for floating operands; x^0 = 1 and 1^y = 1 whatever the other is, NaN included.

    ∂/∂x = y·x^(y−1), which is 0 where y = 0.  ∂/∂y = x^y · log x, taken as 0 at x = 0 with y ≥ 0,
    and NaN for x < 0, where no derivative in y exists.
    """

    name = "pow"
    guarded = True
    accepts = staticmethod(Operands.floats)

    remedy = (
        "keep the base above 0: pb.maximum(x, eps) ** y; a literal whole exponent takes any base"
    )

    def finite_on(self) -> tuple[Range, ...]:
        return (NOT_NEGATIVE, EVERYTHING)

    def smooth_on(self) -> tuple[Range, ...]:
        return (POSITIVE, EVERYTHING)

    def reference(self, x: Any, y: Any) -> Any:
        return np.power(x, y)

    def partials(self, out: Array, x: Array, y: Array) -> tuple[Partial, ...]:
        at_zero = (x == 0) & (y >= 0)
        logarithm = Log()(families.select(at_zero, literal(1.0, x), x))
        return (Scale()(y, Pow()(x, y - 1.0)), Scale()(out, logarithm))

    def reach(self, *operands: Range) -> Range:
        return NOT_NEGATIVE if operands[0].low >= 0 else EVERYTHING

    def body(self, s: Any, x: Any, y: Any) -> Any:
        return s.power(x, y)

    def formula(self, *operands: str) -> str:
        return f"{operands[0]}^{operands[1]}"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), positive(3, 4), normal(3, 4))
        yield Sample(cls(), positive(3, 1), normal(4))
        yield Sample(cls(), *all_pairs(extremes()), smooth=False)
        yield Sample(cls(), *all_pairs(np.array([-2.0, -1.0, 0.0, 2.0, 3.0])), smooth=False)
