"""Scalar arguments of a compiled function: numbers that change from call to call, and are weak.

A Python scalar that a user's function computes with takes the element type of the array that it
meets. So does its traced stand-in, `Weak`; with other scalars it is computed as Python does: in
float64 and int64. Its operators are bound by `pullback.ops.operators`.
"""

from __future__ import annotations

from typing import Any

from pullback.ir.array import Array
from pullback.ir.types import DType


class Weak:
    """A traced scalar, and how weak it is: 0 a Python number, 1 a NumPy scalar.

    `met` are the element types of integers that it was brought to: its number has to fit them all.
    """

    __slots__ = ("array", "met", "strength")
    __array_ufunc__ = None
    __array_priority__ = 1001

    def __init__(self, array: Array, strength: int) -> None:
        self.array = array
        self.strength = strength
        self.met: set[DType] = set()

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"Weak({self.array.type}, traced)"

    def __bool__(self) -> bool:
        return bool(self.array)

    def __int__(self) -> int:
        return int(self.array)

    def __float__(self) -> float:
        return float(self.array)

    def __index__(self) -> int:
        return self.array.__index__()

    def item(self) -> Any:
        """Refused, as of every traced value."""
        return self.array.item()
