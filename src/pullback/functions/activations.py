"""Activations, and softmax. Values and gradients stay finite for every finite operand."""

from __future__ import annotations

import math
from typing import Any, Literal

from pullback._public import public
from pullback.errors import ArgumentError
from pullback.functions.axes import Axis, accumulated, keep
from pullback.functions.reductions import peak
from pullback.ir.array import Array
from pullback.ir.types import Axes, bool_, normalize_axes
from pullback.ops import pointwise
from pullback.ops.operators import (
    absolute,
    as_float,
    cast,
    equal,
    greater,
    less,
    lift,
    not_equal,
    pair,
    select,
    sum_over,
)

# ---- piecewise linear -----------------------------------------------------------------------


@public
def relu(x: Any, /) -> Array:
    """max(0, x); derivative 0 at 0."""
    return pointwise.Relu()(lift(x))


@public
def leaky_relu(x: Any, /, negative_slope: float = 0.01) -> Array:
    """x where positive, else `negative_slope`·x."""
    array = as_float(x)
    return select(greater(array, 0.0), array, array * negative_slope)


@public
def hard_tanh(x: Any, /) -> Array:
    """x clipped to [-1, 1]; derivative 0 at and beyond ±1."""
    array = as_float(x)
    return select(less(absolute(array), 1.0), array, pointwise.Sign()(array))


# ---- exponential ----------------------------------------------------------------------------


@public
def elu(x: Any, /, alpha: float = 1.0) -> Array:
    """x where positive, else `alpha`·(e^x - 1) (Clevert et al. 2016)."""
    array = as_float(x)
    positive = greater(array, 0.0)
    # e^x is taken of non-positive numbers only: the branch not chosen must not overflow.
    below = pointwise.Expm1()(select(positive, 0.0, array))
    return select(positive, array, below * alpha)


@public
def selu(x: Any, /) -> Array:
    """Scaled ELU whose fixed point has mean 0 and variance 1 (Klambauer et al. 2017)."""
    alpha, scale = 1.6732632423543772, 1.0507009873554805
    return elu(x, alpha) * scale


@public
def sigmoid(x: Any, /) -> Array:
    """Logistic function 1 / (1 + e^-x)."""
    return pointwise.Sigmoid()(as_float(x))


@public
def log_sigmoid(x: Any, /) -> Array:
    """log σ(x) = -softplus(-x)."""
    return -softplus(-as_float(x))


@public
def softplus(x: Any, /) -> Array:
    """log(1 + e^x); its derivative is σ(x)."""
    return pointwise.LogAddExp()(*pair(as_float(x), 0.0))


@public
def tanh(x: Any, /) -> Array:
    """Hyperbolic tangent."""
    return pointwise.Tanh()(as_float(x))


@public
def silu(x: Any, /) -> Array:
    """x·σ(x), also called swish (Elfwing et al. 2018)."""
    array = as_float(x)
    return array * pointwise.Sigmoid()(array)


@public
def mish(x: Any, /) -> Array:
    """x·tanh(softplus(x)) (Misra 2020)."""
    array = as_float(x)
    return array * pointwise.Tanh()(softplus(array))


@public
def gelu(x: Any, /, approximate: Literal["none", "tanh"] = "none") -> Array:
    """x·Φ(x) with the normal distribution function Φ, or its tanh approximation.

    Hendrycks & Gimpel 2016. Φ is taken as erfc(-x/√2)/2, precise in the left tail too.
    """
    array = as_float(x)
    if approximate == "none":
        return array * pointwise.Erfc()(array * -math.sqrt(0.5)) * 0.5
    if approximate == "tanh":
        inner = (array + array * array * array * 0.044715) * math.sqrt(2 / math.pi)
        return array * (pointwise.Tanh()(inner) + 1.0) * 0.5
    raise ArgumentError(f"approximate is 'none' or 'tanh', not {approximate!r}")


# ---- softmax --------------------------------------------------------------------------------


@public
def softmax(x: Any, /, axis: Axis = -1, *, where: Any = None) -> Array:
    """e^x / Σ e^x over `axis`; elements outside the mask `where` get 0, as those of -∞ do.

    Where nothing is left (all masked or all -∞) the result is 0, not NaN, with gradient 0.
    vjp: x̄ = (ȳ - Σ ȳ⊙y) ⊙ y.
    """
    array, dtype = accumulated(x)
    axes = normalize_axes(axis, array.ndim)
    return cast(_softmax(_masked(array, where), axes), dtype)


@public
def log_softmax(x: Any, /, axis: Axis = -1, *, where: Any = None) -> Array:
    """log softmax(x) = x - logsumexp(x) over `axis`, exact where softmax underflows.

    Where nothing is left (all masked or all -∞) the result is -∞.
    """
    array, dtype = accumulated(x)
    axes = normalize_axes(axis, array.ndim)
    masked = _masked(array, where)
    below = masked - peak(masked, axes)
    total = _total(pointwise.Exp()(below), axes)
    return cast(below - pointwise.Log()(total), dtype)


def _softmax(x: Array, axes: Axes) -> Array:
    powers = pointwise.Exp()(x - peak(x, axes))
    return powers / _total(powers, axes)


def _total(powers: Array, axes: Axes) -> Array:
    """Σ over `axes`, 1 where that is 0: never less than 1, because the peak has the power 1."""
    total = keep(sum_over(powers, axes), powers, axes, keepdims=True)
    return select(equal(total, 0.0), 1.0, total)


def _masked(x: Array, where: Any) -> Array:
    if where is None:
        return x
    mask = lift(where)
    return select(mask if mask.dtype == bool_ else not_equal(mask, 0), x, -math.inf)
