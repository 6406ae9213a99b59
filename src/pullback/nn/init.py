"""Initial weights: `f(key, shape, dtype)` with the variance the name stands for.

The shape of a weight is (n_out, n_in, *window); its fans are n_in and n_out, each times the size
of the window.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from pullback import random
from pullback._public import public
from pullback.errors import ArgumentError, ShapeError
from pullback.ir.array import Array
from pullback.ir.interpret import interpret
from pullback.ir.types import Numbers, Shape, TensorType, as_dtype, float32, float64
from pullback.ops.operators import cut, full, reshape
from pullback.ops.operators import zeros as zeros_of
from pullback.transforms.trace import trace_leaves
from pullback.transforms.tree import flatten


class Initializer(Protocol):
    """What a layer needs of its `initializer`."""

    def __call__(self, key: Array, shape: Shape, dtype: Any = ...) -> Array: ...


@public
def ones(key: Array, shape: Shape, dtype: Any = float32) -> Array:
    """Ones; the key is not used."""
    return full(TensorType(tuple(shape), as_dtype(dtype)), 1)


@public
def zeros(key: Array, shape: Shape, dtype: Any = float32) -> Array:
    """Zeros; the key is not used."""
    return zeros_of(TensorType(tuple(shape), as_dtype(dtype)))


@public
def xavier_uniform(key: Array, shape: Shape, dtype: Any = float32, gain: float = 1.0) -> Array:
    """Uniform, variance gain² · 2 / (n_in + n_out) (Glorot & Bengio 2010)."""
    return _uniform(key, shape, dtype, gain * _xavier(shape))


@public
def xavier_normal(key: Array, shape: Shape, dtype: Any = float32, gain: float = 1.0) -> Array:
    """Normal, variance gain² · 2 / (n_in + n_out) (Glorot & Bengio 2010)."""
    return _normal(key, shape, dtype, gain * _xavier(shape))


@public
def he_uniform(key: Array, shape: Shape, dtype: Any = float32, gain: float = 1.0) -> Array:
    """Uniform, variance gain² · 2 / n_in: keeps the scale through ReLU (He et al. 2015)."""
    return _uniform(key, shape, dtype, gain * math.sqrt(2 / fans(shape)[0]))


@public
def he_normal(key: Array, shape: Shape, dtype: Any = float32, gain: float = 1.0) -> Array:
    """Normal, variance gain² · 2 / n_in: keeps the scale through ReLU (He et al. 2015)."""
    return _normal(key, shape, dtype, gain * math.sqrt(2 / fans(shape)[0]))


@public
def normal(
    key: Array, shape: Shape, dtype: Any = float32, std: float = 1.0, mean: float = 0.0
) -> Array:
    """Normal with this mean and standard deviation, whatever the fans."""
    drawn = _normal(key, shape, dtype, std)
    return drawn + mean if mean else drawn


@public
def gain(activation: Callable[[Array], Array]) -> float:
    """1 / √E[f(z)²] of z ~ N(0, 1): the gain of a layer that is fed by f(z).

    A weight of variance gain² / n_in makes of such inputs sums of variance 1 again: √2 for ReLU (He
    et al. 2015), 1 for SELU, 1.59 for tanh. Computed by quadrature; `ArgumentError` where f is no
    function of one element, or gives nothing finite and not zero.
    """
    z = np.linspace(-12.0, 12.0, 24001)  # the density at ±12 is 1e-32
    density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    terms = _values(activation, z) ** 2 * density
    square = float(np.trapezoid(terms, z))
    cut_off = max(terms[0], terms[-1])
    if not (math.isfinite(square) and 1e6 * cut_off < square):
        raise ArgumentError(f"no gain keeps the scale through it: E[f(z)²] is {square}")
    return 1 / math.sqrt(square)


def _values(activation: Callable[[Array], Array], z: Numbers) -> Numbers:
    """f(z), as numbers even where layers are made inside an abstract trace (`vmap` over keys)."""
    kind = TensorType(z.shape, float64)
    traced = trace_leaves(activation, [kind], flatten((kind,))[1], evaluating=False)
    if not all(x.has_numbers for x in traced.captured):
        raise ArgumentError(
            f"the gain of {getattr(activation, '__name__', 'f')} depends on a traced value",
            hint="give the layers an initializer=",
        )
    (y,) = interpret(traced.graph, [z, *[x.numpy() for x in traced.captured]])
    return y.astype(float64)


@public
def variance_preserving(activation: Callable[[Array], Array]) -> Initializer:
    """The initializer of layers fed by `activation`: `lecun_normal` with its `gain`."""
    return functools.partial(lecun_normal, gain=gain(activation))


@public
def lecun_uniform(key: Array, shape: Shape, dtype: Any = float32, gain: float = 1.0) -> Array:
    """Uniform, variance gain² / n_in (LeCun et al. 1998)."""
    return _uniform(key, shape, dtype, gain * math.sqrt(1 / fans(shape)[0]))


@public
def lecun_normal(key: Array, shape: Shape, dtype: Any = float32, gain: float = 1.0) -> Array:
    """Normal, variance gain² / n_in (LeCun et al. 1998)."""
    return _normal(key, shape, dtype, gain * math.sqrt(1 / fans(shape)[0]))


@public
def truncated_normal(
    key: Array, shape: Shape, dtype: Any = float32, std: float = 1.0, bound: float = 2.0
) -> Array:
    """Normal, cut at ± `bound` of its standard deviations; what is left has variance std²."""
    if not (math.isfinite(bound) and bound > 0):
        raise ArgumentError(f"the bound of a truncated normal is positive, not {bound}")
    x = random.truncated_normal(key, -bound, bound, tuple(shape), dtype)
    return x * (std / _truncated_std(bound))


@public
def orthogonal(key: Array, shape: Shape, dtype: Any = float32, gain: float = 1.0) -> Array:
    """`gain` times a matrix (n_out, n_in · window) with orthonormal rows or columns, the fewer.

    Uniform by Haar's measure (Saxe, McClelland & Ganguli 2014).
    """
    fans(shape)
    rows, columns = shape[0], math.prod(shape[1:])
    square = random.orthogonal(key, max(rows, columns), dtype=dtype)
    return reshape(cut(cut(square, 0, 0, rows), 1, 0, columns), tuple(shape)) * gain


@public
def fans(shape: Shape) -> tuple[int, int]:
    """(n_in, n_out) of a weight of this shape; `ShapeError` when it has no two axes."""
    if len(shape) < 2 or min(shape) < 1:
        raise ShapeError(
            f"fans are those of a weight (n_out, n_in, ...), which {tuple(shape)} is not"
        )
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


def _xavier(shape: Shape) -> float:
    return math.sqrt(2 / sum(fans(shape)))


def _normal(key: Array, shape: Shape, dtype: Any, std: float) -> Array:
    return random.normal(key, shape, dtype) * std


def _uniform(key: Array, shape: Shape, dtype: Any, std: float) -> Array:
    """Uniform in ± √3 σ, which has the variance σ²."""
    return random.uniform(key, shape, dtype, -1.0, 1.0) * (math.sqrt(3) * std)


def _truncated_std(bound: float) -> float:
    """The standard deviation of a standard normal variable cut at ± `bound`."""
    inside = math.erf(bound / math.sqrt(2))
    density = math.exp(-bound * bound / 2) / math.sqrt(2 * math.pi)
    return math.sqrt(1 - 2 * bound * density / inside)
