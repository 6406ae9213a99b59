"""Sums, products, extrema and statistics, whole and running, named by the Array API standard.

`axis` is an axis, a tuple of axes, or None for all. Integers and bools are summed in 64 bits,
half precision in float32. The gradient of an extremum is shared equally by equal winners.
"""

from __future__ import annotations

import math
from typing import Any

from pullback._public import public
from pullback.errors import OutOfRangeError
from pullback.functions.axes import Axis, accumulated, count, keep, only_axis
from pullback.ir.array import Array
from pullback.ir.op import Op
from pullback.ir.types import (
    DType,
    as_dtype,
    bool_,
    int64,
    is_float,
    kind_of,
    normalize_axes,
    normalize_axis,
    uint64,
)
from pullback.ops import cumulative, pointwise, product, reduce
from pullback.ops.layout import Concat
from pullback.ops.operators import (
    absolute,
    as_float,
    cast,
    equal,
    full,
    lift,
    not_equal,
    reshape,
    select,
    sum_over,
)

# ---- sums and products ----------------------------------------------------------------------


@public
def sum(x: Any, /, axis: Axis = None, keepdims: bool = False, *, dtype: Any = None) -> Array:
    """Σ x over `axis`; 0 of nothing. `dtype` is that of the sum, by default 64-bit for integers."""
    array = _addends(x, dtype)
    axes = normalize_axes(axis, array.ndim)
    return keep(sum_over(array, axes), array, axes, keepdims)


@public
def prod(x: Any, /, axis: Axis = None, keepdims: bool = False, *, dtype: Any = None) -> Array:
    """∏ x over `axis`; 1 of nothing. The gradient is right where factors are 0."""
    array = _addends(x, dtype)
    axes = normalize_axes(axis, array.ndim)
    return keep(product.Prod(axes)(array), array, axes, keepdims)


@public
def mean(x: Any, /, axis: Axis = None, keepdims: bool = False) -> Array:
    """Arithmetic mean over `axis`; NaN of nothing. Integers give float32."""
    array, dtype = accumulated(x)
    axes = normalize_axes(axis, array.ndim)
    return cast(keep(_mean(array, axes), array, axes, keepdims), dtype)


@public
def var(x: Any, /, axis: Axis = None, keepdims: bool = False, *, correction: float = 0.0) -> Array:
    """Variance Σ (x - mean)² / (n - correction) over `axis`; `correction=1` for a sample."""
    array, dtype = accumulated(x)
    axes = normalize_axes(axis, array.ndim)
    return cast(keep(_variance(array, axes, correction), array, axes, keepdims), dtype)


@public
def std(x: Any, /, axis: Axis = None, keepdims: bool = False, *, correction: float = 0.0) -> Array:
    """Square root of `var`; its gradient is 0 where the variance is 0."""
    array, dtype = accumulated(x)
    axes = normalize_axes(axis, array.ndim)
    deviation = flat_root(_variance(array, axes, correction))
    return cast(keep(deviation, array, axes, keepdims), dtype)


@public
def count_nonzero(x: Any, /, axis: Axis = None, keepdims: bool = False) -> Array:
    """How many elements over `axis` are not 0, as int64."""
    array = cast(_truth(x), int64)
    axes = normalize_axes(axis, array.ndim)
    return keep(sum_over(array, axes), array, axes, keepdims)


# ---- extrema and truth ----------------------------------------------------------------------


@public
def max(x: Any, /, axis: Axis = None, keepdims: bool = False) -> Array:
    """Largest element over `axis`; NaN when one is NaN. `ShapeError` of nothing."""
    array = lift(x)
    axes = normalize_axes(axis, array.ndim)
    return keep(reduce.Max(axes)(array), array, axes, keepdims)


@public
def min(x: Any, /, axis: Axis = None, keepdims: bool = False) -> Array:
    """Smallest element over `axis`; NaN when one is NaN. `ShapeError` of nothing."""
    array = lift(x)
    axes = normalize_axes(axis, array.ndim)
    return keep(reduce.Min(axes)(array), array, axes, keepdims)


@public
def argmax(x: Any, /, axis: int | None = None, keepdims: bool = False) -> Array:
    """Index (int64) of the first largest element along `axis`; of the flattened array if None."""
    return _position(reduce.ArgMax, x, axis, keepdims)


@public
def argmin(x: Any, /, axis: int | None = None, keepdims: bool = False) -> Array:
    """Index (int64) of the first smallest element along `axis`; of the flattened array if None."""
    return _position(reduce.ArgMin, x, axis, keepdims)


@public
def any(x: Any, /, axis: Axis = None, keepdims: bool = False) -> Array:
    """Whether an element over `axis` is not 0; False of nothing."""
    array = _truth(x)
    axes = normalize_axes(axis, array.ndim)
    return keep(reduce.AnyTrue(axes)(array), array, axes, keepdims)


@public
def all(x: Any, /, axis: Axis = None, keepdims: bool = False) -> Array:
    """Whether every element over `axis` is not 0; True of nothing."""
    array = _truth(x)
    axes = normalize_axes(axis, array.ndim)
    return keep(reduce.AllTrue(axes)(array), array, axes, keepdims)


# ---- running --------------------------------------------------------------------------------


@public
def cumulative_sum(
    x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Array:
    """Running sums along `axis` (needed unless `x` is a vector); a leading 0 if asked for."""
    array = _addends(x, dtype)
    place = normalize_axis(only_axis(axis, array), array.ndim)
    if include_initial:
        array = _led_by(0, array, place)
    return cumulative.CumSum(place, reverse=False)(array)


@public
def cumulative_prod(
    x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Array:
    """Running products along `axis` (needed unless `x` is a vector); a leading 1 if asked for."""
    array = _addends(x, dtype)
    place = normalize_axis(only_axis(axis, array), array.ndim)
    if include_initial:
        array = _led_by(1, array, place)
    return product.CumProd(place, reverse=False)(array)


@public
def cumulative_max(x: Any, /, *, axis: int | None = None) -> Array:
    """Running maxima along `axis`; the gradient goes to the latest of equal elements [torch]."""
    return _running(cumulative.CumMax, lift(x), axis)


@public
def cumulative_min(x: Any, /, *, axis: int | None = None) -> Array:
    """Running minima along `axis`; the gradient goes to the latest of equal elements [torch]."""
    return _running(cumulative.CumMin, lift(x), axis)


@public
def cumulative_logsumexp(x: Any, /, *, axis: int | None = None) -> Array:
    """Running log Σ e^x along `axis`, finite wherever the result is."""
    return _running(cumulative.CumLogSumExp, as_float(x), axis)


# ---- log-sum-exp and norms ------------------------------------------------------------------


@public
def logsumexp(x: Any, /, axis: Axis = None, keepdims: bool = False) -> Array:
    """log Σ e^x over `axis`, finite wherever the result is; -∞ of nothing but -∞, with gradient 0.

    The gradient is softmax(x).
    """
    array, dtype = accumulated(x)
    axes = normalize_axes(axis, array.ndim)
    top = peak(array, axes)
    total = sum_over(pointwise.Exp()(array - top), axes)
    empty = equal(total, 0.0)
    out = pointwise.Log()(select(empty, 1.0, total)) + reshape(top, total.shape)
    return cast(keep(select(empty, -math.inf, out), array, axes, keepdims), dtype)


@public
def vector_norm(x: Any, /, *, axis: Axis = None, keepdims: bool = False, ord: float = 2) -> Array:
    """(Σ |x|^ord)^(1/ord) over `axis`; `ord` ±inf gives the extreme |x|, 0 counts the nonzero.

    The gradient is 0 at 0, where the norm has none.
    """
    array, dtype = accumulated(x)
    axes = normalize_axes(axis, array.ndim)
    return cast(keep(_norm(array, axes, ord), array, axes, keepdims), dtype)


def peak(x: Array, axes: tuple[int, ...]) -> Array:
    """The largest element over `axes`, 0 where that is infinite: e^(x - peak) does not overflow.

    The axes are kept at size 1. A constant for derivatives: what it is used in does not depend on
    it.
    """
    if count(x, axes) == 0:
        return keep(sum_over(x, axes), x, axes, keepdims=True)
    top = keep(reduce.Max(axes)(pointwise.StopGradient()(x)), x, axes, keepdims=True)
    return select(equal(absolute(top), math.inf), 0.0, top)


def flat_root(x: Array) -> Array:
    """√x, with derivative 0 instead of ∞ where x is 0."""
    zero = equal(x, 0.0)
    return select(zero, 0.0, pointwise.Sqrt()(select(zero, 1.0, x)))


# ---- parts ----------------------------------------------------------------------------------


def _addends(x: Any, dtype: Any) -> Array:
    array = lift(x)
    return cast(array, _sum_dtype(array.dtype) if dtype is None else as_dtype(dtype))


def _sum_dtype(dtype: DType) -> DType:
    if is_float(dtype):
        return dtype
    return uint64 if kind_of(dtype) == "u" else int64


def _mean(x: Array, axes: tuple[int, ...]) -> Array:
    return sum_over(x, axes) / float(count(x, axes))


def _variance(x: Array, axes: tuple[int, ...], correction: float) -> Array:
    offset = x - keep(_mean(x, axes), x, axes, keepdims=True)
    freedom = count(x, axes) - correction
    return sum_over(offset * offset, axes) / float(freedom * (freedom > 0))


def _truth(x: Any) -> Array:
    array = lift(x)
    return array if array.dtype == bool_ else not_equal(array, 0)


def _position(op: Any, x: Any, axis: int | None, keepdims: bool) -> Array:
    array = lift(x)
    if axis is None:
        out: Array = op(0)(reshape(array, (array.size,)))
        return reshape(out, (1,) * array.ndim) if keepdims else out
    place = normalize_axis(axis, array.ndim)
    return keep(op(place)(array), array, (place,), keepdims)


def _running(op: Any, x: Array, axis: int | None) -> Array:
    running: Op = op(normalize_axis(only_axis(axis, x), x.ndim), reverse=False)
    return running.outputs(x)[0]


def _led_by(first: int, x: Array, axis: int) -> Array:
    """`x` with one element `first` put before it along `axis`."""
    shape = tuple(1 if i == axis else n for i, n in enumerate(x.shape))
    return Concat(axis)(full(x.type.reshaped(shape), first), x)


def _norm(x: Array, axes: tuple[int, ...], order: float) -> Array:
    if order == math.inf:
        return reduce.Max(axes)(absolute(x))
    if order == -math.inf:
        return reduce.Min(axes)(absolute(x))
    if order == 0:
        return sum_over(cast(not_equal(x, 0), x.dtype), axes)
    if order == 1:
        return sum_over(absolute(x), axes)
    if order == 2:
        return flat_root(sum_over(x * x, axes))
    if math.isnan(order):
        raise OutOfRangeError("the order of a norm is not NaN")
    return _power_norm(x, axes, order)


def _power_norm(x: Array, axes: tuple[int, ...], order: float) -> Array:
    """(Σ |x|^p)^(1/p) as e^(log Σ e^(p log|x|) / p), with every 0 kept out of the logarithms."""
    zero = equal(x, 0.0)
    size = pointwise.Log()(select(zero, 1.0, absolute(x)))
    powers = select(zero, 0.0 if order > 0 else math.inf, pointwise.Exp()(size * order))
    total = sum_over(powers, axes)
    empty = equal(total, 0.0) if order > 0 else equal(total, math.inf)
    root = pointwise.Exp()(pointwise.Log()(select(empty, 1.0, total)) * (1.0 / order))
    return select(empty, 0.0, root)
