"""The error functions, the gamma functions, and their derivatives."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback.errors import OutOfRangeError
from pullback.ir.array import Array
from pullback.ir.families import Partial
from pullback.ir.op import Sample
from pullback.ir.range import INSIDE_UNIT, POSITIVE, UNIT, Range
from pullback.ir.samples import extremes, uniform
from pullback.ir.types import TensorType, float64
from pullback.ops.pointwise import specfun
from pullback.ops.pointwise.arithmetic import Square
from pullback.ops.pointwise.base import Function, rounded
from pullback.ops.pointwise.exponential import Exp
from pullback.ops.pointwise.polynomials import DIGAMMA, DIGAMMA_ROOT, LGAMMA
from pullback.ops.pointwise.specfun import BERNOULLI, LARGE

LARGEST_ORDER = 100

# ---- error functions ------------------------------------------------------------------------


class Erf(Function):
    """Error function 2/√π ∫₀ˣ exp(-t²) dt."""

    name = "erf"

    def reference(self, x: Any) -> Any:
        return rounded(specfun.erf, x, through=float64)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (2.0 / math.sqrt(math.pi) * Exp()(-Square()(x)),)

    def reach(self, *operands: Range) -> Range:
        return UNIT

    def body(self, s: Any, x: Any) -> Any:
        return s.erf(x)


class Erfc(Function):
    """1 − erf(x), without the cancellation for large x."""

    name = "erfc"

    def reference(self, x: Any) -> Any:
        return rounded(specfun.erfc, x, through=float64)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (-2.0 / math.sqrt(math.pi) * Exp()(-Square()(x)),)

    def reach(self, *operands: Range) -> Range:
        return Range(0.0, 2.0)

    def body(self, s: Any, x: Any) -> Any:
        return s.erfc(x)


class Erfinv(Function):
    """The inverse of erf on [-1, 1]; NaN elsewhere."""

    name = "erfinv"
    guarded = True
    domain = (-0.7, 0.7)

    remedy = "pb.clip(x, -1 + eps, 1 - eps)"

    def finite_on(self) -> tuple[Range, ...]:
        return (INSIDE_UNIT,)

    def reference(self, x: Any) -> Any:
        return rounded(specfun.erfinv, x, through=float64)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (math.sqrt(math.pi) / 2.0 * Exp()(Square()(out)),)

    def body(self, s: Any, x: Any) -> Any:
        one, size = s.const(1, x), s.abs(x)
        y = _winitzki(s, size)
        for _ in range(3):
            upper = s.sub(s.sub(one, size), s.erfc(y))
            residual = s.select(s.less(size, s.const(0.5, x)), s.sub(s.erf(y), size), upper)
            slope = s.mul(s.const(math.sqrt(math.pi) / 2, x), s.exp(s.mul(y, y)))
            newton = s.mul(residual, slope)
            y = s.sub(y, s.div(newton, s.add(one, s.mul(y, newton))))
        y = s.select(s.equal(size, one), s.const(math.inf, x), y)
        return s.copysign(y, x)


def _winitzki(s: Any, x: Any) -> Any:
    """erfinv for x ≥ 0 to 2e-3, relative."""
    one, a = s.const(1, x), 0.147
    logarithm = s.log(s.mul(s.sub(one, x), s.add(one, x)))
    quotient = s.neg(s.div(logarithm, s.const(a, x)))
    middle = s.add(s.const(2 / (math.pi * a), x), s.mul(s.const(0.5, x), logarithm))
    root = s.sqrt(s.add(s.mul(middle, middle), quotient))
    return s.sqrt(s.div(quotient, s.add(root, middle)))


# ---- gamma functions ------------------------------------------------------------------------


class Lgamma(Function):
    """log |Γ(x)|; ∞ at 0, -1, -2, …"""

    name = "lgamma"
    guarded = True
    domain = (0.8, 4.0)

    remedy = "keep the argument above 0: pb.maximum(x, eps)"

    def finite_on(self) -> tuple[Range, ...]:
        return (POSITIVE,)

    def reference(self, x: Any) -> Any:
        return rounded(specfun.lgamma, x, through=float64)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (Digamma()(x),)

    def body(self, s: Any, x: Any) -> Any:
        zero, size = s.const(0, x), s.abs(x)
        positive = _lgamma_of_positive(s, size)
        pi = s.const(math.pi, x)
        sine = s.abs(s.sin(s.mul(pi, s.sub(x, s.round(x)))))
        reflected = s.sub(s.sub(s.log(s.div(pi, size)), s.log(sine)), positive)
        reflected = s.select(s.equal(x, s.floor(x)), s.const(math.inf, x), reflected)
        return s.select(s.less(x, zero), reflected, positive)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from super().samples()
        yield Sample(cls(), uniform(-1.7, -1.3, 4))
        yield Sample(cls(), uniform(0.0, 20.0, 3, 4), smooth=False)
        yield Sample(cls(), np.array([-0.5, -1.0, -1.5, -2.0, 1.0, 2.0]), smooth=False)


def _lgamma_of_positive(s: Any, x: Any) -> Any:
    one, large = s.const(1, x), s.const(LARGE, x)
    small = s.less(x, one)
    y, product = s.select(small, s.add(x, one), s.minimum(x, large)), one
    for _ in range(6):
        shifts, lower = s.less(s.const(3, x), y), s.sub(y, one)
        product = s.select(shifts, s.mul(product, lower), product)
        y = s.select(shifts, lower, y)
    series = _polynomial(s, LGAMMA, s.sub(y, s.const(2, x)))
    near_0 = s.sub(s.mul(s.mul(x, s.sub(x, one)), series), s.log(x))
    zeros = s.mul(s.sub(y, one), s.sub(y, s.const(2, x)))
    middle = s.add(s.log(product), s.mul(zeros, series))
    return s.select(small, near_0, s.select(s.less(x, large), middle, _stirling(s, x)))


def _stirling(s: Any, x: Any) -> Any:
    half, inverse = s.const(0.5, x), s.div(s.const(1, x), x)
    terms = [b / (2 * k * (2 * k - 1)) for k, b in enumerate(BERNOULLI, start=1)]
    series = s.mul(inverse, _polynomial(s, terms, s.mul(inverse, inverse)))
    growth = s.mul(s.sub(x, half), s.sub(s.log(x), s.const(1, x)))
    return s.add(growth, s.add(s.const(0.5 * math.log(2 * math.pi) - 0.5, x), series))


class Digamma(Function):
    """ψ(x) = Γ'(x)/Γ(x); ∓∞ at ±0, NaN at -1, -2, …"""

    name = "digamma"
    guarded = True
    domain = (1.0, 4.0)

    remedy = "keep the argument above 0: pb.maximum(x, eps)"

    def finite_on(self) -> tuple[Range, ...]:
        return (POSITIVE,)

    def reference(self, x: Any) -> Any:
        return rounded(specfun.digamma, x, through=float64)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (Polygamma(1)(x),)

    def body(self, s: Any, x: Any) -> Any:
        below = s.less(x, s.const(0, x))
        positive = _digamma_of_positive(s, s.select(below, s.sub(s.const(1, x), x), x))
        reflected = s.sub(positive, s.mul(s.const(math.pi, x), _cot_pi(s, x)))
        reflected = s.select(s.equal(x, s.floor(x)), s.const(math.nan, x), reflected)
        return s.select(below, reflected, positive)

    def formula(self, *operands: str) -> str:
        return f"ψ({operands[0]})"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from super().samples()
        yield Sample(cls(), uniform(-1.7, -1.3, 4))
        yield Sample(cls(), uniform(0.1, 20.0, 3, 4), smooth=False)
        yield Sample(cls(), np.array([-0.5, -1.0, -1.5, -2.0, 1.0, 2.0]), smooth=False)


def _digamma_of_positive(s: Any, x: Any) -> Any:
    one, large = s.const(1, x), s.const(LARGE, x)
    small = s.less(x, one)
    y, total = s.select(small, s.add(x, one), s.minimum(x, large)), s.const(0, x)
    for _ in range(6):
        shifts, lower = s.less(s.const(3, x), y), s.sub(y, one)
        total = s.select(shifts, s.add(total, s.div(one, lower)), total)
        y = s.select(shifts, lower, y)
    first, second = DIGAMMA_ROOT
    distance = s.sub(s.sub(y, s.const(first, x)), s.const(second, x))
    series = _polynomial(s, DIGAMMA, s.sub(y, s.const(2, x)))
    middle = s.add(total, s.mul(distance, series))
    near = s.select(small, s.sub(middle, s.div(one, x)), middle)
    return s.select(s.less(x, large), near, _digamma_of_large(s, x))


def _digamma_of_large(s: Any, x: Any) -> Any:
    inverse = s.div(s.const(1, x), x)
    square = s.mul(inverse, inverse)
    terms = [b / (2 * k) for k, b in enumerate(BERNOULLI, start=1)]
    series = s.mul(square, _polynomial(s, terms, square))
    return s.sub(s.sub(s.log(x), s.mul(s.const(0.5, x), inverse)), series)


@dataclass(frozen=True)
class Polygamma(Function):
    """ψₙ(x), the n-th derivative of ψ for 1 ≤ n ≤ 100; at 0, -1, -2, … ∞ for odd n, else NaN."""

    name = "polygamma"
    n: int
    guarded = True

    def infer(self, *types: TensorType) -> TensorType:
        if not 1 <= self.n <= LARGEST_ORDER:
            raise OutOfRangeError(f"the order of polygamma is {self.n}, not 1 … {LARGEST_ORDER}")
        return super().infer(*types)

    def reference(self, x: Any) -> Any:
        return rounded(lambda x: specfun.polygamma(self.n, x), x, through=float64)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (Polygamma(self.n + 1)(x),)

    def formula(self, *operands: str) -> str:
        return f"ψ^({self.n})({operands[0]})"

    def body(self, s: Any, x: Any) -> Any:
        n = self.n
        below = s.less(x, s.const(0, x))
        zeta = _hurwitz(s, n + 1, s.select(below, s.sub(s.const(1, x), x), x))
        size = s.mul(s.const(math.factorial(n), x), zeta)
        positive = size if n % 2 else s.neg(size)
        polynomial = specfun.cot_pi_derivative(n)
        cotangent = _polynomial(s, polynomial, _cot_pi(s, x))
        reflected = s.sub(s.const(0, x), s.add(s.mul(s.const(math.pi, x), cotangent), size))
        pole = s.const(math.inf if n % 2 else math.nan, x)
        reflected = s.select(s.equal(x, s.floor(x)), pole, reflected)
        return s.select(below, reflected, positive)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for n in (1, 2, 3):
            yield Sample(cls(n), uniform(1.5, 4.0, 3, 4))
            yield Sample(cls(n), uniform(-1.6, -1.4, 4), smooth=n < 3)
            yield Sample(cls(n), extremes(), smooth=False)
            yield Sample(cls(n), np.array([-0.5, -1.0, -1.5, -2.0, 0.3, 30.0]), smooth=False)


def _hurwitz(s: Any, order: int, x: Any) -> Any:
    one, count = s.const(1, x), 10 + order
    total = s.div(one, _power(s, x, order))
    for k in range(1, count):
        total = s.add(total, s.div(one, _power(s, s.add(x, s.const(k, x)), order)))
    y = s.add(x, s.const(count, x))
    terms, rising = [], float(order)
    for k, bernoulli in enumerate(BERNOULLI, start=1):
        terms.append(bernoulli / math.factorial(2 * k) * rising)
        rising *= (order + 2 * k - 1) * (order + 2 * k)
    inverse, power = s.div(one, y), s.div(one, _power(s, y, order))
    series = s.mul(s.mul(power, inverse), _polynomial(s, terms, s.mul(inverse, inverse)))
    leading = s.div(s.div(one, _power(s, y, order - 1)), s.const(order - 1, x))
    return s.add(total, s.add(s.add(leading, s.mul(s.const(0.5, x), power)), series))


# ---- pieces of bodies -----------------------------------------------------------------------


def _polynomial(s: Any, coefficients: Any, x: Any) -> Any:
    """c₀ + c₁x + c₂x² + …"""
    total = s.const(coefficients[-1], x)
    for coefficient in reversed(coefficients[:-1]):
        total = s.add(s.mul(total, x), s.const(coefficient, x))
    return total


def _power(s: Any, x: Any, n: int) -> Any:
    result = x
    for _ in range(n - 1):
        result = s.mul(result, x)
    return result


def _cot_pi(s: Any, x: Any) -> Any:
    return s.div(s.const(1, x), s.tan(s.mul(s.const(math.pi, x), s.sub(x, s.round(x)))))
