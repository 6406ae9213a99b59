"""Circular and hyperbolic functions and their inverses."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from pullback.ir import families
from pullback.ir.array import Array
from pullback.ir.families import Elementwise, Operands, Partial
from pullback.ir.op import Sample
from pullback.ir.range import INSIDE_UNIT, UNIT, Range
from pullback.ir.samples import extremes, normal, positive
from pullback.ops.pointwise.arithmetic import Square
from pullback.ops.pointwise.base import Function, all_pairs, literal
from pullback.ops.pointwise.exponential import Hypot, Sqrt

# ---- circular -------------------------------------------------------------------------------


class Sin(Function):
    """Sine."""

    name = "sin"

    def reference(self, x: Any) -> Any:
        return np.sin(x)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (Cos()(x),)

    def reach(self, *operands: Range) -> Range:
        return UNIT

    def body(self, s: Any, x: Any) -> Any:
        return s.sin(x)


class Cos(Function):
    """Cosine."""

    name = "cos"

    def reference(self, x: Any) -> Any:
        return np.cos(x)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (-Sin()(x),)

    def reach(self, *operands: Range) -> Range:
        return UNIT

    def body(self, s: Any, x: Any) -> Any:
        return s.cos(x)


class Tan(Function):
    """Tangent."""

    name = "tan"
    domain = (-1.1, 1.1)

    def reference(self, x: Any) -> Any:
        return np.tan(x)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (1.0 + Square()(out),)

    def body(self, s: Any, x: Any) -> Any:
        return s.tan(x)


class Asin(Function):
    """Inverse sine on [-1, 1]; NaN elsewhere."""

    name = "asin"
    guarded = True
    domain = (-0.8, 0.8)

    remedy = "pb.clip(x, -1 + eps, 1 - eps); the angle of two vectors is pb.atan2(sin, cos)"

    def finite_on(self) -> tuple[Range, ...]:
        return (UNIT,)

    def smooth_on(self) -> tuple[Range, ...]:
        return (INSIDE_UNIT,)

    def reference(self, x: Any) -> Any:
        return np.arcsin(x)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (1.0 / Sqrt()((1.0 - x) * (1.0 + x)),)

    def body(self, s: Any, x: Any) -> Any:
        return s.asin(x)


class Acos(Function):
    """Inverse cosine on [-1, 1]; NaN elsewhere."""

    name = "acos"
    guarded = True
    domain = (-0.8, 0.8)

    remedy = "pb.clip(x, -1 + eps, 1 - eps); the angle of two vectors is pb.atan2(sin, cos)"

    def finite_on(self) -> tuple[Range, ...]:
        return (UNIT,)

    def smooth_on(self) -> tuple[Range, ...]:
        return (INSIDE_UNIT,)

    def reference(self, x: Any) -> Any:
        return np.arccos(x)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (-1.0 / Sqrt()((1.0 - x) * (1.0 + x)),)

    def body(self, s: Any, x: Any) -> Any:
        # 2 atan √((1−x)/(1+x)): π/2 − asin x would cancel near 1
        one = s.const(1, x)
        half = s.atan(s.sqrt(s.div(s.sub(one, x), s.add(one, x))))
        return s.add(half, half)


class Atan(Function):
    """Inverse tangent."""

    name = "atan"

    def reference(self, x: Any) -> Any:
        return np.arctan(x)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (1.0 / (1.0 + Square()(x)),)

    def reach(self, *operands: Range) -> Range:
        return operands[0].mapped(math.atan)

    def body(self, s: Any, x: Any) -> Any:
        return s.atan(x)


class Atan2(Elementwise):
    """The angle of the point (x, y) given as (y, x), in [-π, π]; gradient 0 at the origin."""

    name = "atan2"
    guarded = True
    accepts = staticmethod(Operands.floats)

    def reference(self, y: Any, x: Any) -> Any:
        return np.arctan2(y, x)

    def partials(self, out: Array, y: Array, x: Array) -> tuple[Partial, ...]:
        radius = Hypot()(y, x)
        origin, zero = radius == 0, literal(0.0, radius)
        return (
            families.select(origin, zero, x / radius / radius),
            families.select(origin, zero, -y / radius / radius),
        )

    def reach(self, *operands: Range) -> Range:
        return Range(-math.pi, math.pi)

    def body(self, s: Any, y: Any, x: Any) -> Any:
        zero, one, pi = s.const(0, x), s.const(1, x), s.const(math.pi, x)
        height, width = s.abs(y), s.abs(x)
        large, small = s.maximum(height, width), s.minimum(height, width)
        # 0/0 is the angle 0 and ∞/∞ the diagonal
        ratio = s.select(s.equal(small, s.const(math.inf, x)), one, s.div(small, large))
        ratio = s.select(s.equal(large, zero), zero, ratio)
        octant = s.atan(ratio)
        quadrant = s.select(s.less(width, height), s.sub(s.const(math.pi / 2, x), octant), octant)
        backward = s.less(s.copysign(one, x), zero)
        return s.copysign(s.select(backward, s.sub(pi, quadrant), quadrant), y)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), positive(3, 4), normal(3, 4))
        yield Sample(cls(), -positive(3, 1), positive(4))
        yield Sample(cls(), *all_pairs(extremes()), smooth=False)


# ---- hyperbolic -----------------------------------------------------------------------------


class Sinh(Function):
    """Hyperbolic sine."""

    name = "sinh"
    guarded = True

    def reference(self, x: Any) -> Any:
        return np.sinh(x)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (Cosh()(x),)

    def body(self, s: Any, x: Any) -> Any:
        return s.sinh(x)


class Cosh(Function):
    """Hyperbolic cosine."""

    name = "cosh"
    guarded = True

    def reference(self, x: Any) -> Any:
        return np.cosh(x)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (Sinh()(x),)

    def reach(self, *operands: Range) -> Range:
        return Range(1.0)

    def body(self, s: Any, x: Any) -> Any:
        # (e^|x| + e^-|x|)/2 with √e^|x| as the unit, because e^|x| overflows before its half does
        half = s.const(0.5, x)
        root = s.exp(s.mul(half, s.abs(x)))
        return s.add(s.mul(s.mul(half, root), root), s.div(s.div(half, root), root))


class Tanh(Function):
    """Hyperbolic tangent."""

    name = "tanh"
    revival = (
        "smaller inputs: normalise them, or begin the weights before it smaller; a smaller rate"
    )

    def reference(self, x: Any) -> Any:
        return np.tanh(x)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (1.0 - out * out,)

    def reach(self, *operands: Range) -> Range:
        return operands[0].mapped(math.tanh)

    def stillness(self, operand: int, out: Any, *inputs: Any) -> str:
        return f"all {out.size} units are saturated: tanh is -1 or 1 to the last bit"

    def body(self, s: Any, x: Any) -> Any:
        return s.tanh(x)


class Asinh(Function):
    """Inverse hyperbolic sine."""

    name = "asinh"

    def reference(self, x: Any) -> Any:
        return np.arcsinh(x)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (1.0 / Hypot()(x, literal(1.0, x)),)

    def body(self, s: Any, x: Any) -> Any:
        return s.asinh(x)


class Acosh(Function):
    """Inverse hyperbolic cosine on [1, ∞); NaN elsewhere."""

    name = "acosh"
    guarded = True
    domain = (1.4, 4.0)

    remedy = "pb.maximum(x, 1 + eps)"

    def finite_on(self) -> tuple[Range, ...]:
        return (Range(1.0),)

    def smooth_on(self) -> tuple[Range, ...]:
        return (Range(1.0, open_low=True),)

    def reference(self, x: Any) -> Any:
        return np.arccosh(x)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (1.0 / Sqrt()(x - 1.0) / Sqrt()(x + 1.0),)  # x² − 1 would overflow

    def body(self, s: Any, x: Any) -> Any:
        # acosh x = 2 asinh √((x−1)/2): log(x + √(x²−1)) would overflow
        half = s.asinh(s.sqrt(s.mul(s.const(0.5, x), s.sub(x, s.const(1, x)))))
        return s.add(half, half)


class Atanh(Function):
    """Inverse hyperbolic tangent on [-1, 1]; NaN elsewhere."""

    name = "atanh"
    guarded = True
    domain = (-0.7, 0.7)

    remedy = "pb.clip(x, -1 + eps, 1 - eps)"

    def finite_on(self) -> tuple[Range, ...]:
        return (INSIDE_UNIT,)

    def reference(self, x: Any) -> Any:
        return np.arctanh(x)

    def partials(self, out: Array, x: Array) -> tuple[Partial, ...]:
        return (1.0 / ((1.0 - x) * (1.0 + x)),)

    def body(self, s: Any, x: Any) -> Any:
        return s.atanh(x)
