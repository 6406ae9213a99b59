"""Normalisation as layers, with the affine map that follows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pullback.errors import ArgumentError, ShapeError
from pullback.functions.elementwise import stop_gradient
from pullback.functions.normalization import (
    batch_norm,
    channel_moments,
    group_norm,
    layer_norm,
    rms_norm,
)
from pullback.ir.array import Array
from pullback.ir.types import DType, TensorType, as_dtype, float32, promote
from pullback.nn.dropout import required_train
from pullback.nn.linear import require_sizes
from pullback.nn.module import Module
from pullback.ops.operators import cast, full, zeros


class LayerNorm(Module):
    """(x - mean) / √(variance + eps) over the last axes, of the sizes `shape`; then w · x + b.

    Ba, Kiros & Hinton 2016.
    """

    weight: Array | None
    bias: Array | None
    eps: float
    rank: int

    def __init__(
        self,
        shape: int | Sequence[int],
        eps: float = 1e-5,
        use_weight: bool = True,
        use_bias: bool = True,
        *,
        dtype: Any = float32,
    ) -> None:
        sizes = _sizes(shape)
        self.weight = _ones(sizes, dtype) if use_weight else None
        self.bias = _zeros(sizes, dtype) if use_bias else None
        self.eps, self.rank = eps, len(sizes)

    def __call__(self, x: Any) -> Array:
        axes = tuple(range(-self.rank, 0))
        return layer_norm(x, self.weight, self.bias, axis=axes, eps=self.eps)


class RMSNorm(Module):
    """x / √(mean of x² + eps) over the last axes, times w (Zhang & Sennrich 2019)."""

    weight: Array | None
    eps: float
    rank: int

    def __init__(
        self,
        shape: int | Sequence[int],
        eps: float = 1e-6,
        use_weight: bool = True,
        *,
        dtype: Any = float32,
    ) -> None:
        sizes = _sizes(shape)
        self.weight = _ones(sizes, dtype) if use_weight else None
        self.eps, self.rank = eps, len(sizes)

    def __call__(self, x: Any) -> Array:
        return rms_norm(x, self.weight, axis=tuple(range(-self.rank, 0)), eps=self.eps)


class GroupNorm(Module):
    """Each example's channels (axis 1) in groups, each normalised as a whole (Wu & He 2018)."""

    weight: Array | None
    bias: Array | None
    groups: int
    eps: float

    def __init__(
        self,
        groups: int,
        channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        dtype: Any = float32,
    ) -> None:
        require_sizes(groups=groups, channels=channels)
        if channels % groups:
            raise ArgumentError(f"{channels} channels do not fall into {groups} equal groups")
        self.weight = _ones((channels,), dtype) if affine else None
        self.bias = _zeros((channels,), dtype) if affine else None
        self.groups, self.eps = groups, eps

    def __call__(self, x: Any) -> Array:
        return group_norm(x, self.groups, self.weight, self.bias, eps=self.eps)


class BatchNormState(NamedTuple):
    """Running statistics of each channel: (channels,) each. They are state, not parameters."""

    mean: Array
    variance: Array


class BatchNorm(Module):
    """Each channel (axis 1) to mean 0 and variance 1 over the batch (Ioffe & Szegedy 2015).

    `y, state = norm(x, state, train=True)` normalises by the batch and moves the running
    statistics; with `train=False` it normalises by them and returns them as they are.
    """

    weight: Array | None
    bias: Array | None
    channels: int
    momentum: float
    """Share of the batch in the new running statistics, as in torch."""
    eps: float
    dtype: DType
    """Of the running statistics: float32 for half precision."""

    is_stateful = True
    takes_train = True

    def __init__(
        self,
        channels: int,
        momentum: float = 0.1,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        dtype: Any = float32,
    ) -> None:
        require_sizes(channels=channels)
        if not 0 < momentum <= 1:
            raise ArgumentError(f"momentum lies in (0, 1], not {momentum}")
        self.weight = _ones((channels,), dtype) if affine else None
        self.bias = _zeros((channels,), dtype) if affine else None
        self.channels, self.momentum, self.eps = channels, momentum, eps
        self.dtype = promote(as_dtype(dtype), float32)

    def initial_state(self) -> BatchNormState:
        """Mean 0 and variance 1."""
        shape = (self.channels,)
        return BatchNormState(_zeros(shape, self.dtype), _ones(shape, self.dtype))

    def __call__(
        self,
        x: Any,
        state: BatchNormState | None = None,
        *,
        train: bool | None = None,
        key: Array | None = None,
    ) -> tuple[Array, BatchNormState]:
        """`(y, state)`. The running variance is the unbiased one, as in torch."""
        running = self._required(state)
        if not required_train(train):
            return self._normalized(x, *running), running
        mean, variance = channel_moments(x)
        y = self._normalized(x, mean, variance)
        count = y.size // self.channels
        if count < 2:
            raise ShapeError(f"{y.type} has one number a channel, and no variance to train with")
        unbiased = variance * (count / (count - 1))
        return y, BatchNormState(
            self._moved(running.mean, mean), self._moved(running.variance, unbiased)
        )

    def _normalized(self, x: Any, mean: Array, variance: Array) -> Array:
        return batch_norm(x, mean, variance, self.weight, self.bias, eps=self.eps)

    def _moved(self, old: Array, new: Array) -> Array:
        # Not old + m (new - old): torch's form, so that long runs agree to the last digits.
        return old * (1 - self.momentum) + cast(stop_gradient(new), old.dtype) * self.momentum

    def _required(self, state: BatchNormState | None) -> BatchNormState:
        if isinstance(state, BatchNormState):
            return state
        raise ArgumentError(
            "batch norm has a state and was given " + ("none" if state is None else "another"),
            hint="begin with state = norm.initial_state(); y, state = norm(x, state, train=...)",
        )


def _sizes(shape: int | Sequence[int]) -> tuple[int, ...]:
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    if not sizes:
        raise ArgumentError("the shape of what is normalised has at least one axis")
    require_sizes(**{f"shape[{i}]": n for i, n in enumerate(sizes)})
    return sizes


def _ones(shape: tuple[int, ...], dtype: Any) -> Array:
    return full(TensorType(shape, as_dtype(dtype)), 1)


def _zeros(shape: tuple[int, ...], dtype: Any) -> Array:
    return zeros(TensorType(shape, as_dtype(dtype)))
