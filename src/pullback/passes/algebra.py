"""Exact algebra: rules that keep every bit, of -0, infinities and NaN too.

What is missing is missing on purpose. x + 0 is not x where x is -0 (x + -0 is); -(x - y) is not
y - x where x = y; 0·x is not 0 where x is infinite or negative; scale(x, 1) is 0 where x is -0;
a mask times x is not a selection, because 0·(-1) is -0; Σ -x is not -Σ x where terms cancel.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from pullback.ir.array import Array
from pullback.ir.families import Operands, Scale
from pullback.ir.types import (
    Axes,
    DType,
    Shape,
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
    int16,
    int32,
    int64,
    is_bool,
    is_float,
    is_integer,
)
from pullback.ops.layout import Broadcast, Flip, Reshape, Slice, Transpose
from pullback.ops.operators import equal, invert, negative, not_equal, select
from pullback.ops.pointwise import (
    Absolute,
    Cast,
    LogicalNot,
    Maximum,
    Minimum,
    Power,
    Relu,
    Square,
    literal,
)
from pullback.passes.rewrite import Rewrites
from pullback.passes.rules import Rule, rule

Sides = tuple[Array, Array]
numbers, anything = Operands.numbers, Operands.anything


# ---- signs ----------------------------------------------------------------------------------


@rule(on=numbers)
def double_negative(x: Array) -> Sides:
    return negative(negative(x)), x


@rule(on=numbers)
def sum_with_negative(x: Array, y: Array) -> Sides:
    return x + -y, x - y


@rule(on=numbers)
def difference_with_negative(x: Array, y: Array) -> Sides:
    return x - (-y), x + y


@rule(on=is_integer)
def negative_of_difference(x: Array, y: Array) -> Sides:
    return -(x - y), y - x


@rule(on=numbers)
def product_of_negatives(x: Array, y: Array) -> Sides:
    return -x * -y, x * y


@rule()
def quotient_of_negatives(x: Array, y: Array) -> Sides:
    return -x / -y, x / y


@rule()
def magnitude_of_negative(x: Array) -> Sides:
    return Absolute()(-x), Absolute()(x)


@rule()
def magnitude_of_magnitude(x: Array) -> Sides:
    return Absolute()(Absolute()(x)), Absolute()(x)


@rule(on=numbers)
def square_of_negative(x: Array) -> Sides:
    return Square()(-x), Square()(x)


# ---- literals -------------------------------------------------------------------------------


@rule(on=numbers)
def times_one(x: Array) -> Sides:
    return x * 1, x


@rule()
def times_minus_one(x: Array) -> Sides:
    return x * -1, -x


@rule()
def over_one(x: Array) -> Sides:
    return x / 1, x


@rule()
def over_minus_one(x: Array) -> Sides:
    return x / -1, -x


@rule()
def plus_minus_zero(x: Array) -> Sides:
    return x + -0.0, x


@rule(on=numbers)
def minus_zero(x: Array) -> Sides:
    return x - 0, x


@rule(on=is_integer)
def plus_zero(x: Array) -> Sides:
    return x + 0, x


@rule(on=is_integer)
def times_zero(x: Array) -> Sides:
    return x * 0, literal(0, x)


@rule(on=is_integer)
def difference_with_itself(x: Array) -> Sides:
    return x - x, literal(0, x)


@rule()
def minus_zero_minus(x: Array) -> Sides:
    return -0.0 - x, -x


LARGEST_SHIFT = 14
"""2^±14 and their inverses are normal numbers in every floating element type."""


def _is_power_of_two(x: Array, c: float) -> bool:
    mantissa, exponent = math.frexp(c)
    return abs(mantissa) == 0.5 and abs(exponent - 1) <= LARGEST_SHIFT


@rule(
    ("float32[3]", 8.0), ("float32[3]", -(2.0**-14)), ("float32[]", 2.0**14), when=_is_power_of_two
)
def over_power_of_two(x: Array, c: float) -> Sides:
    """Both are x·2^-k, rounded once."""
    return x / c, x * (1.0 / c)


@rule(("float32[3]", 8.0), ("float32[3]", -math.inf), ("float32[3]", 0.1), when=lambda y, c: c != 0)
def scale_of_literal(y: Array, c: float) -> Sides:
    """`scale` differs from the product only where its first factor is 0."""
    return Scale()(literal(c, y), y), y * literal(c, y)


@rule()
def scale_of_zero(y: Array) -> Sides:
    return Scale()(literal(0.0, y), y), literal(0.0, y)


@rule()
def scale_of_minus_zero(y: Array) -> Sides:
    return Scale()(literal(-0.0, y), y), literal(0.0, y)


@rule(on=numbers)
def power_one(x: Array) -> Sides:
    return Power(1)(x), x


# ---- selection and logic --------------------------------------------------------------------


@rule(("bool[3]", "float32[3]"), on=anything)
def equal_branches(chosen: Array, x: Array) -> Sides:
    return select(chosen, x, x), x


@rule(("bool[3]", "float32[3]", "float32[3]"), on=anything)
def negated_choice(chosen: Array, x: Array, y: Array) -> Sides:
    return select(LogicalNot()(chosen), x, y), select(chosen, y, x)


@rule(("bool[3]", "float32[3]", "float32[3]", "float32[3]"), on=anything)
def chosen_twice(chosen: Array, x: Array, y: Array, z: Array) -> Sides:
    return select(chosen, select(chosen, x, y), z), select(chosen, x, z)


@rule(("bool[3]", "float32[3]", "float32[3]", "float32[3]"), on=anything)
def refused_twice(chosen: Array, x: Array, y: Array, z: Array) -> Sides:
    return select(chosen, x, select(chosen, y, z)), select(chosen, x, z)


@rule(("bool[3]",), on=is_bool)
def double_not(x: Array) -> Sides:
    return LogicalNot()(LogicalNot()(x)), x


@rule(("int32[3]",), on=Operands.bits)
def double_invert(x: Array) -> Sides:
    return invert(invert(x)), x


@rule(on=anything)
def not_equal_is_one_op(x: Array, y: Array) -> Sides:
    return LogicalNot()(equal(x, y)), not_equal(x, y)


@rule(on=anything)
def equal_is_one_op(x: Array, y: Array) -> Sides:
    return LogicalNot()(not_equal(x, y)), equal(x, y)


@rule(on=numbers)
def larger_of_itself(x: Array) -> Sides:
    return Maximum()(x, x), x


@rule(on=numbers)
def smaller_of_itself(x: Array) -> Sides:
    return Minimum()(x, x), x


@rule(on=numbers)
def relu_of_relu(x: Array) -> Sides:
    return Relu()(Relu()(x)), Relu()(x)


# ---- casts ----------------------------------------------------------------------------------


@functools.lru_cache(maxsize=256)
def holds(wide: DType, narrow: DType) -> bool:
    """Whether `wide` has every number of `narrow`."""
    if narrow in (bool_, wide):
        return True
    if is_float(narrow):
        return wide == float64 or (wide == float32 and narrow.itemsize == 2)
    if is_float(wide):
        bits = np.iinfo(narrow).bits - (narrow.kind == "i")
        return bits <= {float64: 53, float32: 24, float16: 11}.get(wide, 8)
    return wide != bool_ and bool(np.can_cast(narrow, wide))


@rule(
    ("float32[3]", float64, float32),
    ("float16[3]", float32, float16),
    ("bfloat16[3]", float32, bfloat16),
    ("int16[3]", float32, int16),
    ("bool[3]", float32, bool_),
    ("int32[3]", int64, int32),
    on=anything,
    when=lambda x, wide, narrow: holds(wide, x.dtype),
)
def cast_through_wider(x: Array, wide: DType, narrow: DType) -> Sides:
    return Cast(narrow)(Cast(wide)(x)), Cast(narrow)(x)


# ---- layouts --------------------------------------------------------------------------------


@rule(("float32[2,6]", (4, 3), (12,)), ("float32[1]", (), (1, 1)), on=anything)
def reshape_of_reshape(x: Array, inner: Shape, outer: Shape) -> Sides:
    return Reshape(outer)(Reshape(inner)(x)), Reshape(outer)(x)


@rule(
    ("float32[2,3,4]", (1, 2, 0), (0, 2, 1)), ("float32[2,3,4]", (2, 0, 1), (1, 0, 2)), on=anything
)
def transpose_of_transpose(x: Array, inner: Axes, outer: Axes) -> Sides:
    both = tuple(inner[i] for i in outer)
    return Transpose(outer)(Transpose(inner)(x)), Transpose(both)(x)


@rule(
    ("float32[3]", (2, 3), (0,), (2, 3, 4), (2,)),
    ("float32[]", (3,), (0,), (2, 3, 2, 5), (0, 2, 3)),
    on=anything,
)
def broadcast_of_broadcast(
    x: Array, inner: Shape, inner_axes: Axes, outer: Shape, outer_axes: Axes
) -> Sides:
    kept = [i for i in range(len(outer)) if i not in outer_axes]
    axes = tuple(sorted({*outer_axes, *(kept[i] for i in inner_axes)}))
    twice = Broadcast(outer, outer_axes)(Broadcast(inner, inner_axes)(x))
    return twice, Broadcast(outer, axes)(x)


@rule(
    ("float32[9,8]", (1, 0), (9, 7), (2, 1), (0, 2), (4, 6), (3, 5)),
    ("float32[9,8]", (0, 0), (9, 8), (3, 2), (1, 1), (3, 3), (1, 1)),
    on=anything,
)
def slice_of_slice(
    x: Array, start: Axes, stop: Axes, step: Axes, start2: Axes, stop2: Axes, step2: Axes
) -> Sides:
    """Element i is that at start + step·(start2 + step2·i)."""
    first = tuple(a + s * b for a, s, b in zip(start, step, start2, strict=True))
    last = tuple(min(a + s * b, n) for a, s, b, n in zip(start, step, stop2, x.shape, strict=True))
    steps = tuple(s * t for s, t in zip(step, step2, strict=True))
    low = tuple(min(a, b) for a, b in zip(first, last, strict=True))
    twice = Slice(start2, stop2, step2)(Slice(start, stop, step)(x))
    return twice, Slice(low, last, steps)(x)


@rule(("float32[2,3,4]", (0,), (1, 0)), ("float32[2,3]", (0, 1), (1,)), on=anything)
def flip_of_flip(x: Array, inner: Axes, outer: Axes) -> Sides:
    axes = tuple(sorted(set(inner) ^ set(outer)))
    return Flip(outer)(Flip(inner)(x)), Flip(axes)(x)


EXACT: tuple[Rule, ...] = tuple(each for each in list(globals().values()) if isinstance(each, Rule))
ALGEBRA = Rewrites(*EXACT)
