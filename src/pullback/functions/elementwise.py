"""Functions of one element, by the names of the Array API standard."""

from __future__ import annotations

from typing import Any

from pullback.ir.array import Array
from pullback.ops import operators, pointwise
from pullback.ops.operators import as_float


def add(x1: Any, x2: Any, /) -> Array:
    """x₁ + x₂."""
    return operators.add(x1, x2)


def exp(x: Any, /) -> Array:
    """e^x."""
    return pointwise.Exp()(as_float(x))


def log(x: Any, /) -> Array:
    """Natural logarithm."""
    return pointwise.Log()(as_float(x))


def tanh(x: Any, /) -> Array:
    """Hyperbolic tangent."""
    return pointwise.Tanh()(as_float(x))
