"""Normalisation: to mean 0 and variance 1 over some axes, then an affine map of the user's.

Statistics are computed in float32 for half precision. `eps` is added to the variance.
"""

from __future__ import annotations

from typing import Any

from pullback._public import public
from pullback.errors import ShapeError
from pullback.functions.axes import Axis, accumulated, count, keep
from pullback.ir.array import Array
from pullback.ir.types import Axes, normalize_axes, normalize_axis
from pullback.ops import pointwise
from pullback.ops.operators import as_float, cast, reshape, sum_over


@public
def layer_norm(
    x: Any, weight: Any = None, bias: Any = None, *, axis: Axis = -1, eps: float = 1e-5
) -> Array:
    """(x - mean) / √(variance + eps) over `axis`, times `weight`, plus `bias` (Ba et al. 2016).

    `weight` and `bias` have the sizes of the normalised axes.
    """
    array, dtype = accumulated(x)
    axes = normalize_axes(axis, array.ndim)
    return cast(_affine(_standardized(array, axes, eps), weight, bias, axes), dtype)


@public
def rms_norm(x: Any, weight: Any = None, *, axis: Axis = -1, eps: float = 1e-6) -> Array:
    """x / √(mean of x² + eps) over `axis`, times `weight` (Zhang & Sennrich 2019)."""
    array, dtype = accumulated(x)
    axes = normalize_axes(axis, array.ndim)
    scaled = array * pointwise.Rsqrt()(_mean(array * array, axes) + eps)
    return cast(_affine(scaled, weight, None, axes), dtype)


@public
def group_norm(
    x: Any,
    groups: int,
    weight: Any = None,
    bias: Any = None,
    *,
    axis: int = 1,
    eps: float = 1e-5,
) -> Array:
    """Each example's channels in `groups`, each group normalised as a whole (Wu & He 2018).

    Axis 0 is the batch, `axis` the channels; `weight` and `bias` have one number a channel.
    """
    array, dtype = accumulated(x)
    place = _channels(axis, array)
    channels = array.shape[place]
    if groups < 1 or channels % groups:
        raise ShapeError(f"{channels} channels do not fall into {groups} equal groups")
    split = (*array.shape[:place], groups, channels // groups, *array.shape[place + 1 :])
    grouped = reshape(array, split)
    axes = tuple(i for i in range(1, grouped.ndim) if i != place)
    normal = reshape(_standardized(grouped, axes, eps), array.shape)
    return cast(_affine(normal, weight, bias, (place,)), dtype)


@public
def batch_norm(
    x: Any,
    mean: Any,
    variance: Any,
    weight: Any = None,
    bias: Any = None,
    *,
    axis: int = 1,
    eps: float = 1e-5,
) -> Array:
    """(x - `mean`) / √(`variance` + eps) channel by channel (Ioffe & Szegedy 2015).

    All four have one number a channel. In training they are `channel_moments(x)`, through which
    the gradient flows; in evaluation running averages.
    """
    array, dtype = accumulated(x)
    place = _channels(axis, array)
    centered = array - _placed(mean, array, (place,), "mean")
    scale = pointwise.Rsqrt()(_placed(variance, array, (place,), "variance") + eps)
    if weight is not None:
        # One factor a channel: its gradient is one sum over the images, from which those of the
        # weight and of the variance follow.
        scale = scale * _placed(weight, array, (place,), "weight")
    return cast(_affine(centered * scale, None, bias, (place,)), dtype)


@public
def channel_moments(x: Any, *, axis: int = 1) -> tuple[Array, Array]:
    """`(mean, variance)` of each channel over batch and positions; the variance divides by n."""
    array, _ = accumulated(x)
    place = _channels(axis, array)
    axes = tuple(i for i in range(array.ndim) if i != place)
    mean, variance = _moments(array, axes)
    return reshape(mean, (array.shape[place],)), reshape(variance, (array.shape[place],))


# ---- parts ----------------------------------------------------------------------------------


def _standardized(x: Array, axes: Axes, eps: float) -> Array:
    mean, variance = _moments(x, axes)
    return (x - mean) * pointwise.Rsqrt()(variance + eps)


def _moments(x: Array, axes: Axes) -> tuple[Array, Array]:
    """Mean and variance over `axes`, which stay as axes of size 1.

    The mean of (x - a)² less (mean - a)² is the variance for every a that does not depend on x. So
    no derivative of it sums x - mean again, which is 0.
    """
    mean = _mean(x, axes)
    about = pointwise.StopGradient()(mean)
    rest = mean - about
    return mean, _mean((x - about) * (x - about), axes) - rest * rest


def _mean(x: Array, axes: Axes) -> Array:
    return keep(sum_over(x, axes), x, axes, keepdims=True) / float(count(x, axes))


def _affine(x: Array, weight: Any, bias: Any, axes: Axes) -> Array:
    if weight is not None:
        x = x * _placed(weight, x, axes, "weight")
    return x if bias is None else x + _placed(bias, x, axes, "bias")


def _placed(parameter: Any, x: Array, axes: Axes, name: str) -> Array:
    """A parameter with the sizes of `axes`, set among the axes of `x`."""
    array = cast(as_float(parameter), x.dtype)
    expected = tuple(x.shape[a] for a in axes)
    if array.shape != expected:
        raise ShapeError(f"{name} {array.type} for normalised axes of the sizes {expected}")
    return reshape(array, tuple(n if i in axes else 1 for i, n in enumerate(x.shape)))


def _channels(axis: int, x: Array) -> int:
    place = normalize_axis(axis, x.ndim)
    if place == 0:
        raise ShapeError("axis 0 is the batch and cannot be the axis of the channels")
    return place
