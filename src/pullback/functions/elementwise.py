"""Functions of one element, by the names of the Array API standard.

Operands are Arrays, NumPy arrays and Python scalars, brought to a common element type; shapes
broadcast (`ShapeError` where they do not). A function of the reals takes integers and bools as
float32. Integer division by zero gives 0, integers wrap around, shifts past the width shift all
bits out: no operation on integers is undefined.
"""

from __future__ import annotations

import operator
from typing import Any

from pullback._public import public
from pullback.errors import DTypeError, OutOfRangeError, ShapeError
from pullback.ir.array import Array
from pullback.ir.types import as_dtype, bool_, is_float
from pullback.ops import operators, pointwise
from pullback.ops.operators import as_float, cast, float_pair, lift, pair

# ---- arithmetic -----------------------------------------------------------------------------


@public
def add(x1: Any, x2: Any, /) -> Array:
    """x₁ + x₂."""
    return operators.add(x1, x2)


@public
def subtract(x1: Any, x2: Any, /) -> Array:
    """x₁ − x₂."""
    return operators.subtract(x1, x2)


@public
def multiply(x1: Any, x2: Any, /) -> Array:
    """x₁ · x₂."""
    return operators.multiply(x1, x2)


@public
def divide(x1: Any, x2: Any, /) -> Array:
    """x₁ / x₂; floating for integers too."""
    return operators.divide(x1, x2)


@public
def floor_divide(x1: Any, x2: Any, /) -> Array:
    """⌊x₁ / x₂⌋; 0 for an integer divided by 0."""
    return operators.floor_divide(x1, x2)


@public
def remainder(x1: Any, x2: Any, /) -> Array:
    """x₁ − ⌊x₁/x₂⌋·x₂, with the sign of x₂; 0 for an integer modulo 0."""
    return operators.remainder(x1, x2)


@public
def fmod(x1: Any, x2: Any, /) -> Array:
    """The remainder with the sign of x₁, as in C."""
    return pointwise.Fmod()(*pair(x1, x2))


@public
def pow(x1: Any, x2: Any, /) -> Array:
    """x₁ to the power x₂.

    A literal whole exponent up to 64 gives the derivative n·xⁿ⁻¹ everywhere, at x ≤ 0 too; other
    exponents have a derivative in x₂ only for x₁ ≥ 0. Integers: a negative literal exponent is a
    `DTypeError`; a negative array element gives 1/x₁ⁿ cut to an integer, and 0 for x₁ = 0.
    """
    return operators.power(x1, x2)


@public
def square(x: Any, /) -> Array:
    """x²."""
    return pointwise.Square()(lift(x))


@public
def reciprocal(x: Any, /) -> Array:
    """1 / x."""
    return operators.divide(1.0, as_float(x))


@public
def negative(x: Any, /) -> Array:
    """-x."""
    return operators.negative(x)


@public
def positive(x: Any, /) -> Array:
    """+x."""
    return operators.positive(x)


@public
def abs(x: Any, /) -> Array:
    """|x|; derivative 0 at 0."""
    return operators.absolute(x)


@public
def sign(x: Any, /) -> Array:
    """-1, 0 or 1; NaN of NaN."""
    return pointwise.Sign()(lift(x))


@public
def hypot(x1: Any, x2: Any, /) -> Array:
    """√(x₁² + x₂²) without overflow; gradient 0 at the origin."""
    return pointwise.Hypot()(*float_pair(x1, x2))


@public
def logaddexp(x1: Any, x2: Any, /) -> Array:
    """log(exp(x₁) + exp(x₂)) without overflow."""
    return pointwise.LogAddExp()(*float_pair(x1, x2))


# ---- bits -----------------------------------------------------------------------------------


@public
def bitwise_and(x1: Any, x2: Any, /) -> Array:
    """Bits set in both; on bools, logic."""
    return operators.bitwise_and(x1, x2)


@public
def bitwise_or(x1: Any, x2: Any, /) -> Array:
    """Bits set in either; on bools, logic."""
    return operators.bitwise_or(x1, x2)


@public
def bitwise_xor(x1: Any, x2: Any, /) -> Array:
    """Bits set in exactly one; on bools, logic."""
    return operators.bitwise_xor(x1, x2)


@public
def bitwise_invert(x: Any, /) -> Array:
    """Every bit flipped; on bools, logic."""
    return operators.invert(x)


@public
def bitwise_left_shift(x1: Any, x2: Any, /) -> Array:
    """x₁·2^x₂ modulo 2^bits; a count that is negative or not below the width gives 0."""
    return operators.left_shift(x1, x2)


@public
def bitwise_right_shift(x1: Any, x2: Any, /) -> Array:
    """⌊x₁ / 2^x₂⌋; a count that is negative or not below the width gives 0, or -1 for x₁ < 0."""
    return operators.right_shift(x1, x2)


# ---- comparison and logic -------------------------------------------------------------------


@public
def less(x1: Any, x2: Any, /) -> Array:
    """x₁ < x₂."""
    return operators.less(x1, x2)


@public
def less_equal(x1: Any, x2: Any, /) -> Array:
    """x₁ ≤ x₂."""
    return operators.less_equal(x1, x2)


@public
def greater(x1: Any, x2: Any, /) -> Array:
    """x₁ > x₂."""
    return operators.greater(x1, x2)


@public
def greater_equal(x1: Any, x2: Any, /) -> Array:
    """x₁ ≥ x₂."""
    return operators.greater_equal(x1, x2)


@public
def equal(x1: Any, x2: Any, /) -> Array:
    """x₁ = x₂."""
    return operators.equal(x1, x2)


@public
def not_equal(x1: Any, x2: Any, /) -> Array:
    """x₁ ≠ x₂."""
    return operators.not_equal(x1, x2)


@public
def logical_and(x1: Any, x2: Any, /) -> Array:
    """Whether both are true; a number is true unless it is 0."""
    return operators.bitwise_and(_truth(x1), _truth(x2))


@public
def logical_or(x1: Any, x2: Any, /) -> Array:
    """Whether either is true; a number is true unless it is 0."""
    return operators.bitwise_or(_truth(x1), _truth(x2))


@public
def logical_xor(x1: Any, x2: Any, /) -> Array:
    """Whether exactly one is true; a number is true unless it is 0."""
    return operators.bitwise_xor(_truth(x1), _truth(x2))


@public
def logical_not(x: Any, /) -> Array:
    """Whether x is false; a number is true unless it is 0."""
    return pointwise.LogicalNot()(_truth(x))


def _truth(x: Any) -> Array:
    return cast(lift(x), bool_)


@public
def isnan(x: Any, /) -> Array:
    """Whether x is not a number."""
    return pointwise.IsNan()(as_float(x))


@public
def isinf(x: Any, /) -> Array:
    """Whether x is ∞ or -∞."""
    return pointwise.IsInf()(as_float(x))


@public
def isfinite(x: Any, /) -> Array:
    """Whether x is neither infinite nor NaN."""
    return pointwise.IsFinite()(as_float(x))


@public
def signbit(x: Any, /) -> Array:
    """Whether the sign bit is set: x < 0, or x = -0."""
    return pointwise.SignBit()(as_float(x))


# ---- selection ------------------------------------------------------------------------------


@public
def where(condition: Any, x1: Any, x2: Any, /) -> Array:
    """x₁ where `condition` (bool), else x₂. The branch that is not chosen gets the gradient 0."""
    return pointwise.Select()(lift(condition), *pair(x1, x2))


@public
def maximum(x1: Any, x2: Any, /) -> Array:
    """The larger; equal operands share the gradient; NaN when either is NaN."""
    return pointwise.Maximum()(*pair(x1, x2))


@public
def minimum(x1: Any, x2: Any, /) -> Array:
    """The smaller; equal operands share the gradient; NaN when either is NaN."""
    return pointwise.Minimum()(*pair(x1, x2))


@public
def clip(x: Any, /, min: Any = None, max: Any = None) -> Array:
    """x, but not below `min` and not above `max`; NaN when any of them is.

    On a bound that x meets exactly, x and the bound share the gradient.
    """
    result = lift(x)
    for bound, nearer in ((min, maximum), (max, minimum)):
        if bound is not None:
            result = nearer(result, bound)
    return result


@public
def relu(x: Any, /) -> Array:
    """max(0, x); derivative 0 at 0."""
    return pointwise.Relu()(lift(x))


@public
def copysign(x1: Any, x2: Any, /) -> Array:
    """|x₁| with the sign of x₂."""
    return pointwise.CopySign()(*float_pair(x1, x2))


@public
def nextafter(x1: Any, x2: Any, /) -> Array:
    """The next number of the element type from x₁ towards x₂."""
    return pointwise.NextAfter()(*float_pair(x1, x2))


# ---- rounding -------------------------------------------------------------------------------


@public
def floor(x: Any, /) -> Array:
    """The largest whole number not above x; an integer is itself."""
    return _whole(pointwise.Floor(), x)


@public
def ceil(x: Any, /) -> Array:
    """The smallest whole number not below x; an integer is itself."""
    return _whole(pointwise.Ceil(), x)


@public
def trunc(x: Any, /) -> Array:
    """x without its fraction; an integer is itself."""
    return _whole(pointwise.Trunc(), x)


@public
def round(x: Any, /) -> Array:
    """The nearest whole number, the even one of two; an integer is itself."""
    return _whole(pointwise.Round(), x)


def _whole(op: pointwise.Rounding, x: Any) -> Array:
    array = lift(x)
    return op(array) if is_float(array.dtype) else array


# ---- casts, and what a derivative sees ------------------------------------------------------


@public
def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: str | None = None) -> Array:
    """The elements as another type; float to integer truncates, saturates, and turns NaN into 0.

    Arrays are immutable, so `copy` makes no difference.
    """
    return operators.astype(lift(x).to_device(device or "cpu"), as_dtype(dtype))


@public
def stop_gradient(x: Any, /, *, why: str = "") -> Array:
    """x, seen by every derivative as a constant. With a reason, `why`, no check alarms of it."""
    op = pointwise.DeclaredStop(why) if why else pointwise.StopGradient()
    return op(lift(x))


@public
def straight_through(hard: Any, soft: Any, /) -> Array:
    """`hard` exactly, with the derivative of `soft`; `ShapeError` when their shapes differ.

    For steps without a useful derivative: `straight_through(pb.round(x), x)`.
    """
    left, right = float_pair(hard, soft)
    if left.shape != right.shape:
        raise ShapeError(f"hard {left.type} and soft {right.type} differ in shape")
    return pointwise.StraightThrough()(left, right)


# ---- exponentials, logarithms, roots --------------------------------------------------------


@public
def exp(x: Any, /) -> Array:
    """e^x."""
    return pointwise.Exp()(as_float(x))


@public
def exp2(x: Any, /) -> Array:
    """2^x."""
    return pointwise.Exp2()(as_float(x))


@public
def expm1(x: Any, /) -> Array:
    """e^x − 1, exact near 0."""
    return pointwise.Expm1()(as_float(x))


@public
def log(x: Any, /) -> Array:
    """Natural logarithm; NaN for x < 0."""
    return pointwise.Log()(as_float(x))


@public
def log1p(x: Any, /) -> Array:
    """log(1 + x), exact near 0; NaN for x < -1."""
    return pointwise.Log1p()(as_float(x))


@public
def log2(x: Any, /) -> Array:
    """Logarithm to the base 2; NaN for x < 0."""
    return pointwise.Log2()(as_float(x))


@public
def log10(x: Any, /) -> Array:
    """Logarithm to the base 10; NaN for x < 0."""
    return pointwise.Log10()(as_float(x))


@public
def sqrt(x: Any, /) -> Array:
    """Square root; NaN for x < 0."""
    return pointwise.Sqrt()(as_float(x))


@public
def rsqrt(x: Any, /) -> Array:
    """1 / √x; NaN for x < 0."""
    return pointwise.Rsqrt()(as_float(x))


@public
def cbrt(x: Any, /) -> Array:
    """Cube root, negative for x < 0."""
    return pointwise.Cbrt()(as_float(x))


@public
def sigmoid(x: Any, /) -> Array:
    """Logistic function 1 / (1 + e^-x), never overflowing."""
    return pointwise.Sigmoid()(as_float(x))


# ---- circular and hyperbolic functions ------------------------------------------------------


@public
def sin(x: Any, /) -> Array:
    """Sine."""
    return pointwise.Sin()(as_float(x))


@public
def cos(x: Any, /) -> Array:
    """Cosine."""
    return pointwise.Cos()(as_float(x))


@public
def tan(x: Any, /) -> Array:
    """Tangent."""
    return pointwise.Tan()(as_float(x))


@public
def asin(x: Any, /) -> Array:
    """Inverse sine; NaN outside [-1, 1]."""
    return pointwise.Asin()(as_float(x))


@public
def acos(x: Any, /) -> Array:
    """Inverse cosine; NaN outside [-1, 1]."""
    return pointwise.Acos()(as_float(x))


@public
def atan(x: Any, /) -> Array:
    """Inverse tangent."""
    return pointwise.Atan()(as_float(x))


@public
def atan2(x1: Any, x2: Any, /) -> Array:
    """The angle of the point (x₂, x₁), in [-π, π]; gradient 0 at the origin."""
    return pointwise.Atan2()(*float_pair(x1, x2))


@public
def sinh(x: Any, /) -> Array:
    """Hyperbolic sine."""
    return pointwise.Sinh()(as_float(x))


@public
def cosh(x: Any, /) -> Array:
    """Hyperbolic cosine."""
    return pointwise.Cosh()(as_float(x))


@public
def tanh(x: Any, /) -> Array:
    """Hyperbolic tangent."""
    return pointwise.Tanh()(as_float(x))


@public
def asinh(x: Any, /) -> Array:
    """Inverse hyperbolic sine."""
    return pointwise.Asinh()(as_float(x))


@public
def acosh(x: Any, /) -> Array:
    """Inverse hyperbolic cosine; NaN below 1."""
    return pointwise.Acosh()(as_float(x))


@public
def atanh(x: Any, /) -> Array:
    """Inverse hyperbolic tangent; NaN outside [-1, 1]."""
    return pointwise.Atanh()(as_float(x))


# ---- special functions ----------------------------------------------------------------------


@public
def erf(x: Any, /) -> Array:
    """Error function 2/√π ∫₀ˣ exp(-t²) dt."""
    return pointwise.Erf()(as_float(x))


@public
def erfc(x: Any, /) -> Array:
    """1 − erf(x), without the cancellation for large x."""
    return pointwise.Erfc()(as_float(x))


@public
def erfinv(x: Any, /) -> Array:
    """The inverse of erf; NaN outside [-1, 1]."""
    return pointwise.Erfinv()(as_float(x))


@public
def lgamma(x: Any, /) -> Array:
    """log |Γ(x)|; ∞ at 0, -1, -2, …"""
    return pointwise.Lgamma()(as_float(x))


@public
def digamma(x: Any, /) -> Array:
    """ψ(x) = Γ'(x)/Γ(x); ∓∞ at ±0, NaN at -1, -2, …"""
    return pointwise.Digamma()(as_float(x))


@public
def polygamma(n: int, x: Any, /) -> Array:
    """The n-th derivative of digamma for a literal 0 ≤ n ≤ 100; `OutOfRangeError` otherwise.

    At 0, -1, -2, … it is ∞ for odd n, and NaN for even n except ∓∞ at ±0.
    """
    try:
        order = operator.index(n)
    except TypeError:
        raise DTypeError(f"the order of polygamma is a literal integer, not {n!r}") from None
    if not 0 <= order <= pointwise.LARGEST_ORDER:
        raise OutOfRangeError(
            f"the order of polygamma is {order}, not 0 … {pointwise.LARGEST_ORDER}"
        )
    return digamma(x) if order == 0 else pointwise.Polygamma(order)(as_float(x))
