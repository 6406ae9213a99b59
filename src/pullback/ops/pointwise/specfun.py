"""Special functions on NumPy float64 arrays: the meaning of the ops in `special`.

Relative error below 1e-13 where the function is not near a zero on the negative axis, where it is
absolute. Every branch is computed on clipped operands for all elements, and `np.where` chooses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pullback.ops.pointwise.polynomials import DIGAMMA, DIGAMMA_ROOT, ERF, ERFCX, LGAMMA

# Bernoulli numbers B₂, B₄, …
BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)

# Stirling's series is exact to 1e-17 from here on with the numbers above.
LARGE = 9.0


# ---- error functions ------------------------------------------------------------------------


def erf(x: Any) -> Any:
    """2/√π ∫₀ˣ exp(-t²) dt."""
    far = np.copysign(1 - _erfc_of_positive(np.abs(x)), x)
    return np.where(np.abs(x) < 1, _erf_near_0(x), far)


def erfc(x: Any) -> Any:
    """1 − erf(x), without the cancellation for large x."""
    tail = _erfc_of_positive(np.abs(x))
    return np.where(np.abs(x) < 0.5, 1 - _erf_near_0(x), np.where(x < 0, 2 - tail, tail))


def _erf_near_0(x: Any) -> Any:
    inner = np.clip(x, -1.0, 1.0)
    return inner * _polynomial(ERF, 2 * inner * inner - 1)


def _erfc_of_positive(x: Any) -> Any:
    x = np.minimum(x, 30.0)  # erfc(30) underflows
    return _exp_minus_square(x) * _polynomial(ERFCX, (x - 3) / (x + 3)) / (1 + 2 * x)


def _exp_minus_square(x: Any) -> Any:
    # An error ε in x² would be one of x²·ε in the result, so x² is an exact square and a rest.
    coarse = np.round(x * 1024) / 1024
    return np.exp(-coarse * coarse) * np.exp(-(x - coarse) * (x + coarse))


def erfinv(x: Any) -> Any:
    """The inverse of erf on [-1, 1]: Winitzki's estimate and Halley steps."""
    size = np.abs(x)
    y = np.where(size < 1, _winitzki(np.minimum(size, 1 - 2.0**-53)), np.nan)
    for _ in range(3):
        # the residual erf(y) − x, from the side on which it does not cancel
        residual = np.where(size < 0.5, erf(y) - size, (1 - size) - erfc(y))
        newton = residual * (math.sqrt(math.pi) / 2) * np.exp(y * y)
        y = y - newton / (1 + y * newton)
    return np.copysign(np.where(size == 1, np.inf, y), x)


def _winitzki(x: Any) -> Any:
    a = 0.147
    logarithm = np.log((1 - x) * (1 + x))
    middle = 2 / (math.pi * a) + logarithm / 2
    return np.sqrt(-logarithm / a / (np.sqrt(middle * middle - logarithm / a) + middle))


# ---- gamma functions ------------------------------------------------------------------------


def lgamma(x: Any) -> Any:
    """log |Γ(x)|; ∞ at 0, -1, -2, …"""
    size = np.abs(x)
    positive = _lgamma_of_positive(np.where(x < 0, size, x))
    # Γ(x)·Γ(−x) = −π / (x·sin πx)
    reflected = np.log(math.pi / size) - np.log(np.abs(_sin_pi(x))) - positive
    pole = (x < 0) & (x == np.floor(x))
    return np.where(pole, np.inf, np.where(x < 0, reflected, positive))


def _lgamma_of_positive(x: Any) -> Any:
    small = x < 1
    y, product = np.where(small, x + 1, np.minimum(x, LARGE)), np.ones_like(x)
    for _ in range(6):
        shifts = y > 3
        y = np.where(shifts, y - 1, y)
        product = np.where(shifts, product * y, product)
    series = _polynomial(LGAMMA, np.clip(y, 1, 3) - 2)
    near_0 = x * (x - 1) * series - np.log(x)  # x + 1 would be rounded
    middle = np.log(product) + (y - 1) * (y - 2) * series
    return np.where(small, near_0, np.where(x < LARGE, middle, _stirling(x)))


def _stirling(x: Any) -> Any:
    x = np.maximum(x, LARGE)
    series = np.zeros_like(x)
    for k in range(len(BERNOULLI), 0, -1):
        series = series / (x * x) + BERNOULLI[k - 1] / (2 * k * (2 * k - 1))
    return (x - 0.5) * (np.log(x) - 1) + (0.5 * math.log(2 * math.pi) - 0.5) + series / x


def digamma(x: Any) -> Any:
    """ψ(x) = Γ'(x)/Γ(x); ∓∞ at ±0, NaN at -1, -2, …"""
    below = x < 0
    positive = _digamma_of_positive(np.where(below, 1 - x, x))
    reflected = positive - math.pi * _cot_pi(x)
    pole = below & (x == np.floor(x))
    return np.where(pole, np.nan, np.where(below, reflected, positive))


def _digamma_of_positive(x: Any) -> Any:
    small = x < 1
    y, total = np.where(small, x + 1, np.minimum(x, LARGE)), np.zeros_like(x)
    for _ in range(6):
        shifts = y > 3
        y = np.where(shifts, y - 1, y)
        total = np.where(shifts, total + 1 / y, total)
    first, second = DIGAMMA_ROOT
    middle = total + ((y - first) - second) * _polynomial(DIGAMMA, np.clip(y, 1, 3) - 2)
    return np.where(x < LARGE, np.where(small, middle - 1 / x, middle), _digamma_of_large(x))


def _digamma_of_large(x: Any) -> Any:
    x = np.maximum(x, LARGE)
    series = np.zeros_like(x)
    for k in range(len(BERNOULLI), 0, -1):
        series = (series + BERNOULLI[k - 1] / (2 * k)) / (x * x)
    return np.log(x) - 0.5 / x - series


def polygamma(n: int, x: Any) -> Any:
    """The n-th derivative of ψ, n ≥ 1."""
    below = x < 0
    sign = (-1.0) ** (n + 1)
    positive = sign * math.factorial(n) * _hurwitz(n + 1, np.where(below, 1 - x, x))
    # ψₙ(1−x) + (−1)ⁿ⁺¹ ψₙ(x) = (−1)ⁿ π dⁿ/dxⁿ cot πx
    reflected = (-1.0) ** n * positive - math.pi * _polynomial(cot_pi_derivative(n), _cot_pi(x))
    at_pole = np.inf if n % 2 else np.nan
    pole = below & (x == np.floor(x))
    return np.where(pole, at_pole, np.where(below, reflected, positive))


def _hurwitz(s: int, x: Any) -> Any:
    """Σ 1/(x+k)ˢ for x ≥ 0 and s ≥ 2, by the formula of Euler and Maclaurin."""
    count = 10 + s
    head = 1 / x**s + sum(1 / (x + k) ** s for k in range(1, count))  # −0 + 0 is not −0
    y = x + count
    term = 1 / y**s
    tail = 1 / y ** (s - 1) / (s - 1) + term / 2
    rising = float(s)
    for k, bernoulli in enumerate(BERNOULLI, start=1):
        term = term / y
        tail = tail + bernoulli / math.factorial(2 * k) * rising * term
        rising *= (s + 2 * k - 1) * (s + 2 * k)
        term = term / y
    return head + tail


# ---- functions of πx ------------------------------------------------------------------------


def _sin_pi(x: Any) -> Any:
    return np.sin(math.pi * (x - np.round(x)))


def _cot_pi(x: Any) -> Any:
    return 1 / np.tan(math.pi * (x - np.round(x)))


def cot_pi_derivative(n: int) -> list[float]:
    """The n-th derivative of cot πx as a polynomial in c = cot πx, because c' = −π(1 + c²)."""
    polynomial = np.polynomial.Polynomial([0.0, 1.0])
    slope = np.polynomial.Polynomial([-math.pi, 0.0, -math.pi])
    for _ in range(n):
        polynomial = polynomial.deriv() * slope
    return [float(each) for each in polynomial.coef]


def _polynomial(coefficients: Sequence[float], x: Any) -> Any:
    """c₀ + c₁x + c₂x² + … by Horner's rule."""
    total = np.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total *= x
        total += coefficient
    return total
