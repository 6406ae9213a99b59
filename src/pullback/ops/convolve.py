"""Convolution and its two transposes.

All three come from one sum over images n, groups g, channels c in and o out, windows q and taps k:

    Σ  y[n,(g,o),q] · w[(g,o),c,k] · x[n,(g,c), q·stride + k·dilation − low]

Each op is that sum without one of the three arrays, so the derivative of each is the other two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from pullback.errors import DTypeError, ShapeError
from pullback.ir.array import Array
from pullback.ir.families import Multilinear
from pullback.ir.op import Sample
from pullback.ir.samples import integers, normal
from pullback.ir.types import Axes, Shape, TensorType, bool_
from pullback.ops.operators import reshape, transpose
from pullback.ops.reduce import wide
from pullback.ops.windows import Windows

_AXES = {"x": ("n", "gc"), "w": ("go", "c"), "y": ("n", "go")}
"""The indices that make up the two leading axes of each array."""

_JOINED = {
    frozenset("xy"): "n",
    frozenset("wy"): "o",
    frozenset("wx"): "c",
    frozenset("xwy"): "g",
}
"""A batch carried by these arrays is one more factor of the index that only they share."""


@dataclass(frozen=True)
class Convolution(Multilinear):
    """What the three share: batches, costs, the arrays as stacks of matrices."""

    windows: Windows
    groups: int

    operands: ClassVar[str]
    result: ClassVar[str]

    @property
    def in_order(self) -> bool:
        """Whether a native kernel makes neighbouring places of the result together."""
        return True

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        single = [
            TensorType(x.shape[1:], x.dtype) if b else x.type
            for x, b in zip(inputs, batched, strict=True)
        ]
        kinds = dict(
            zip(self.operands + self.result, (*single, *self.output_types(*single)), strict=True)
        )
        sizes = self._sizes(kinds)
        carriers = {role for role, b in zip(self.operands, batched, strict=True) if b}
        joined = _JOINED[frozenset(carriers | {self.result})]
        folded = [
            _fold(x, size, role, joined, sizes) if b else x
            for x, role, b in zip(inputs, self.operands, batched, strict=True)
        ]
        op = replace(self, groups=self.groups * size) if joined == "g" else self
        return (_unfold(op(*folded), size, self.result, joined, sizes),), (True,)

    def _sizes(self, kinds: Mapping[str, TensorType]) -> dict[str, int]:
        """The size of each index n, g, c, o."""
        x, w = kinds["x"].shape, kinds["w"].shape
        return {"n": x[0], "g": self.groups, "c": w[1], "o": w[0] // self.groups}

    def _check(self, x: Shape, w: Shape) -> Shape:
        """The shape of y."""
        rank = self.windows.rank
        if not len(x) == len(w) == rank + 2:
            raise ShapeError(
                f"a rank-{rank} convolution takes images and kernels of rank {rank + 2}, "
                f"not {len(x)} and {len(w)}"
            )
        if w[2:] != self.windows.size:
            raise ShapeError(f"the kernel spans {w[2:]}, its windows {self.windows.size}")
        if self.groups < 1 or w[0] % self.groups:
            raise ShapeError(f"{w[0]} output channels do not split into {self.groups} groups")
        if x[1] != w[1] * self.groups:
            each = f"{w[1]} channels" + (f" in each of {self.groups} groups" * (self.groups > 1))
            raise ShapeError(f"the kernel reads {each}, the images have {x[1]}")
        return (x[0], w[0], *self.windows.counts(x[2:]))

    def _require(self, y: Shape, expected: Shape) -> None:
        if y != expected:
            raise ShapeError(f"the result of this convolution has the shape {expected}, not {y}")

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        kinds = dict(zip(self.operands + self.result, (*inputs, *outputs), strict=True))
        return 2 * kinds["y"].size * math.prod(kinds["w"].shape[1:])

    # ---- NumPy: the three arrays as one matrix a group ----

    def _columns(self, x: Any) -> Any:
        """(g, c·k, n·q): what every window reads."""
        rank, (n, channels) = self.windows.rank, x.shape[:2]
        patches = self.windows.patches(wide(x))
        split = patches.reshape(n, self.groups, channels // self.groups, *patches.shape[2:])
        order = (1, 2, *range(3, 3 + rank), 0, *range(3 + rank, 3 + 2 * rank))
        return split.transpose(order).reshape(
            self.groups,
            channels // self.groups * self.windows.taps,
            n * math.prod(patches.shape[2 + rank :]),
        )

    def _kernels(self, w: Any) -> Any:
        """(g, o, c·k)."""
        return wide(w).reshape(self.groups, w.shape[0] // self.groups, math.prod(w.shape[1:]))

    def _responses(self, y: Any) -> Any:
        """(g, o, n·q)."""
        n, channels = y.shape[:2]
        split = wide(y).reshape(n, self.groups, channels // self.groups, math.prod(y.shape[2:]))
        return split.transpose(1, 2, 0, 3).reshape(
            self.groups, channels // self.groups, n * math.prod(y.shape[2:])
        )


class Convolve(Convolution):
    """y from x (N, C, *spatial) and w (O, C/groups, *kernel), which is not flipped."""

    name = "convolve"
    operands = "xw"
    result = "y"

    def infer(self, x: TensorType, w: TensorType) -> TensorType:
        _same_dtype(x, w)
        return x.reshaped(self._check(x.shape, w.shape))

    def reference(self, x: Any, w: Any) -> Any:
        n, o, *counts = self._check(x.shape, w.shape)
        product = self._kernels(w) @ self._columns(x)
        images = product.reshape(o, n, *counts).swapaxes(0, 1)
        return images.astype(x.dtype, copy=False)

    def transpose(self, argument: int, bar: Array, x: Array, w: Array) -> Array:
        if argument == 0:
            return ConvolveInput(self.windows, self.groups, x.shape[2:])(bar, w)
        return ConvolveKernel(self.windows, self.groups)(x, bar)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for windows, groups in _geometries():
            x, w, _ = _arrays(windows, groups)
            yield Sample(cls(windows, groups), x, w)
        line = Windows((2,), (1,), (0,), (0,), (1,))
        yield Sample(cls(line, 1), integers(1, 2, 4), integers(1, 2, 2))
        yield Sample(cls(line, 1), normal(0, 2, 4), normal(1, 2, 2))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        line = Windows((2,), (1,), (0,), (0,), (1,))
        yield Sample(cls(line, 1), normal(1, 3, 4), normal(1, 2, 2))
        yield Sample(cls(line, 1), normal(1, 2, 1), normal(1, 2, 2))
        yield Sample(cls(line, 1), normal(1, 2, 4), normal(1, 2, 3))
        yield Sample(cls(line, 2), normal(1, 4, 4), normal(3, 2, 2))
        yield Sample(cls(line, 1), normal(2, 4), normal(2, 2))
        yield Sample(cls(line, 1), normal(1, 2, 4), integers(1, 2, 2))


@dataclass(frozen=True)
class ConvolveInput(Convolution):
    """x with spatial axes `spatial` from y and w: the transpose of `Convolve` in its images."""

    name = "convolve_input"
    operands = "yw"
    result = "x"
    spatial: Axes

    @property
    def in_order(self) -> bool:
        return max(self.windows.stride) == 1

    def infer(self, y: TensorType, w: TensorType) -> TensorType:
        _same_dtype(y, w)
        if y.ndim < 2 or w.ndim < 2:
            raise ShapeError(f"{y} and {w} are no images and kernel")
        result = (y.shape[0], w.shape[1] * self.groups, *self.spatial)
        self._require(y.shape, self._check(result, w.shape))
        return y.reshaped(result)

    def reference(self, y: Any, w: Any) -> Any:
        n, counts = y.shape[0], y.shape[2:]
        product = self._kernels(w).swapaxes(1, 2) @ self._responses(y)
        patches = product.reshape(w.shape[1] * self.groups, *self.windows.size, n, *counts)
        ordered = patches.transpose(_before(self.windows.rank + 1, patches.ndim))
        return self.windows.unpatch(ordered, self.spatial).astype(y.dtype, copy=False)

    def transpose(self, argument: int, bar: Array, y: Array, w: Array) -> Array:
        if argument == 0:
            return Convolve(self.windows, self.groups)(bar, w)
        return ConvolveKernel(self.windows, self.groups)(bar, y)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for windows, groups in _geometries():
            x, w, y = _arrays(windows, groups)
            yield Sample(cls(windows, groups, x.shape[2:]), y, w)

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        line = Windows((2,), (1,), (0,), (0,), (1,))
        yield Sample(cls(line, 1, (4,)), normal(1, 1, 4), normal(1, 2, 2))
        yield Sample(cls(line, 1, (4,)), normal(1, 2, 3), normal(1, 2, 2))
        yield Sample(cls(line, 1, (4,)), normal(3), normal(1, 2, 2))


class ConvolveKernel(Convolution):
    """w from x and y: the transpose of `Convolve` in its kernel."""

    name = "convolve_kernel"
    operands = "xy"
    result = "w"

    @property
    def in_order(self) -> bool:
        return False

    def infer(self, x: TensorType, y: TensorType) -> TensorType:
        _same_dtype(x, y)
        if x.ndim < 2 or y.ndim < 2 or self.groups < 1 or x.shape[1] % self.groups:
            raise ShapeError(f"{x} and {y} are no images and responses of {self.groups} groups")
        result = (y.shape[1], x.shape[1] // self.groups, *self.windows.size)
        self._require(y.shape, self._check(x.shape, result))
        return x.reshaped(result)

    def reference(self, x: Any, y: Any) -> Any:
        product = self._responses(y) @ self._columns(x).swapaxes(1, 2)
        kernel = product.reshape(y.shape[1], x.shape[1] // self.groups, *self.windows.size)
        return kernel.astype(x.dtype, copy=False)

    def transpose(self, argument: int, bar: Array, x: Array, y: Array) -> Array:
        if argument == 0:
            return ConvolveInput(self.windows, self.groups, x.shape[2:])(y, bar)
        return Convolve(self.windows, self.groups)(x, bar)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for windows, groups in _geometries():
            x, _, y = _arrays(windows, groups)
            yield Sample(cls(windows, groups), x, y)

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        line = Windows((2,), (1,), (0,), (0,), (1,))
        yield Sample(cls(line, 1), normal(1, 2, 4), normal(1, 1, 4))
        yield Sample(cls(line, 2), normal(1, 3, 4), normal(1, 2, 3))
        yield Sample(cls(line, 1), normal(4), normal(1, 1, 3))


def _same_dtype(x: TensorType, y: TensorType) -> None:
    if x.dtype != y.dtype:
        raise DTypeError(f"element types differ: {x.dtype} and {y.dtype}")
    if x.dtype == bool_:
        raise DTypeError("a convolution does not take bool", hint="cast with .astype(...)")


def _before(axis: int, ndim: int) -> Axes:
    """The order of axes that brings one to the front."""
    return (axis, *(i for i in range(ndim) if i != axis))


# ---- batches: one more factor of an index ---------------------------------------------------


def _fold(x: Array, size: int, role: str, joined: str, sizes: Mapping[str, int]) -> Array:
    """(size, axes…) → axes of `role`, where index `joined` is `size` times longer."""
    letters = "".join(_AXES[role])
    spatial = x.shape[3:]
    split = reshape(x, (size, *(sizes[c] for c in letters), *spatial))
    place = letters.index(joined)
    moved = transpose(split, (*range(1, place + 1), 0, *range(place + 1, split.ndim)))
    return reshape(moved, (*_merged(role, joined, size, sizes), *spatial))


def _unfold(x: Array, size: int, role: str, joined: str, sizes: Mapping[str, int]) -> Array:
    """The inverse of `_fold`."""
    letters = "".join(_AXES[role])
    spatial = x.shape[2:]
    place = letters.index(joined)
    axes = [sizes[c] for c in letters]
    split = reshape(x, (*axes[:place], size, *axes[place:], *spatial))
    front = transpose(split, _before(place, split.ndim))
    return reshape(front, (size, *_merged(role, joined, 1, sizes), *spatial))


def _merged(role: str, joined: str, size: int, sizes: Mapping[str, int]) -> Shape:
    longer = {**sizes, joined: sizes[joined] * size}
    return tuple(math.prod(longer[c] for c in group) for group in _AXES[role])


# ---- samples --------------------------------------------------------------------------------


def _geometries() -> Iterator[tuple[Windows, int]]:
    yield Windows((2,), (1,), (0,), (0,), (1,)), 1
    yield Windows((3,), (2,), (2,), (1,), (1,)), 1
    yield Windows((2,), (2,), (1,), (-1,), (2,)), 2
    yield Windows((2, 3), (1, 2), (1, 0), (0, 2), (2, 1)), 2
    yield Windows((2, 1, 2), (2, 1, 1), (0, 0, 1), (1, 0, 0), (1, 1, 1)), 1


def _arrays(windows: Windows, groups: int) -> tuple[Any, Any, Any]:
    """x, w and y that fit these windows."""
    spatial = (5, 6, 3)[: windows.rank]
    channels = 1 if windows.rank == 3 else 2
    x = normal(2, groups, *spatial) if groups > 1 else normal(2, channels, *spatial)
    w = normal(2 * groups, x.shape[1] // groups, *windows.size)
    return x, w, normal(2, 2 * groups, *windows.counts(spatial))
