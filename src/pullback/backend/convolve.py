"""Convolutions as products over a padded image, without a matrix of its patches.

Once the padding is written out, what tap t of window q reads is a fixed step from its neighbours
along every axis, so each of the three convolutions is a product of strided arrays:

- `Convolve`: rows o, columns q, summed over (c, taps);
- `ConvolveInput`: rows c, columns p, summed over (o, taps from the last to the first), over
  responses padded and, for windows that leap, spread apart;
- `ConvolveKernel`: rows c, columns o, summed over (n, q).

That is also the order of the sums. Zeros of the padding are added like any other product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pullback.backend.assembly import Function, Module, Ssa, vector
from pullback.backend.contract import Kernel
from pullback.backend.packing import VECTOR_BYTES, bytes_of, offset, shifted, stored, strips
from pullback.backend.product import Axis, Product, arranged, row_major
from pullback.ir.types import DType, Shape
from pullback.ops.convolve import Convolution, Convolve, ConvolveInput, ConvolveKernel
from pullback.ops.windows import Windows


@dataclass(frozen=True)
class Padding:
    """(lead, *spatial) → (lead, *padded): zeros around, and `spread` − 1 between neighbours."""

    dtype: DType
    lead: int
    spatial: Shape
    low: tuple[int, ...]
    padded: Shape
    spread: tuple[int, ...]

    @property
    def is_needed(self) -> bool:
        return self.spatial != self.padded or any(self.low) or max(self.spread) > 1

    @property
    def nbytes(self) -> int:
        return self.lead * math.prod(self.padded) * self.dtype.itemsize


@dataclass(frozen=True)
class Stages:
    """A convolution: its first operand is padded (when it must be), then comes one product."""

    padding: Padding
    product: Product


def stages_of(op: Convolution, dtype: DType, left: Shape, right: Shape) -> Stages:
    """The stages of a convolution of two dense arrays; the padded operand stays the left one."""
    match op:
        case Convolve():
            return _forward(op, dtype, left, right)
        case ConvolveInput():
            return _input(op, dtype, left, right)
        case ConvolveKernel():
            return _kernel(op, dtype, left, right)
        case _:
            raise TypeError(f"{op} is no convolution")


def _image(windows: Windows, dtype: DType, x: Shape) -> Padding:
    room = zip(x[2:], windows.low, windows.high, strict=True)
    padded = tuple(n + low + high for n, low, high in room)
    return Padding(dtype, x[0] * x[1], x[2:], windows.low, padded, (1,) * windows.rank)


def _forward(op: Convolution, dtype: DType, x: Shape, w: Shape) -> Stages:
    windows, groups = op.windows, op.groups
    padding = _image(windows, dtype, x)
    counts, place = windows.counts(x[2:]), row_major(padding.padded)
    plane, taps, window_count = math.prod(padding.padded), windows.taps, math.prod(counts)
    outputs = w[0] // groups
    batch = [
        Axis(x[0], 0, x[1] * plane, w[0] * window_count),
        Axis(groups, outputs * w[1] * taps, w[1] * plane, outputs * window_count),
    ]
    rows = [Axis(outputs, w[1] * taps, 0, window_count)]
    columns = _axes(counts, b=_times(place, windows.stride), c=row_major(counts))
    inner = [
        Axis(w[1], taps, plane),
        *_axes(windows.size, a=row_major(windows.size), b=_times(place, windows.dilation)),
    ]
    return Stages(padding, _operands_flipped(arranged(dtype, batch, rows, columns, inner)))


def _input(op: ConvolveInput, dtype: DType, y: Shape, w: Shape) -> Stages:
    windows, groups = op.windows, op.groups
    low, padded = [], []
    for n, size, d, before in zip(
        op.spatial, windows.size, windows.dilation, windows.low, strict=True
    ):
        low.append((size - 1) * d - before)
        padded.append(n + (size - 1) * d)
    padding = Padding(dtype, y[0] * y[1], y[2:], tuple(low), tuple(padded), windows.stride)
    place, plane, taps = row_major(padding.padded), math.prod(padded), windows.taps
    outputs, size = w[0] // groups, math.prod(op.spatial)
    batch = [
        Axis(y[0], 0, y[1] * plane, groups * w[1] * size),
        Axis(groups, outputs * w[1] * taps, outputs * plane, w[1] * size),
    ]
    rows = [Axis(w[1], taps, 0, size)]
    columns = _axes(op.spatial, b=place, c=row_major(op.spatial))
    backwards = tuple(-step for step in row_major(windows.size))
    inner = [
        Axis(outputs, w[1] * taps, plane),
        *_axes(windows.size, a=backwards, b=_times(place, windows.dilation)),
    ]
    product = arranged(dtype, batch, rows, columns, inner, origin=(taps - 1, 0, 0))
    return Stages(padding, _operands_flipped(product))


def _kernel(op: Convolution, dtype: DType, x: Shape, y: Shape) -> Stages:
    windows, groups = op.windows, op.groups
    padding = _image(windows, dtype, x)
    counts, place = y[2:], row_major(padding.padded)
    plane, taps, window_count = math.prod(padding.padded), windows.taps, math.prod(counts)
    inputs, outputs = x[1] // groups, y[1] // groups
    batch = [
        Axis(groups, inputs * plane, outputs * window_count, outputs * inputs * taps),
        *_axes(windows.size, a=_times(place, windows.dilation), c=row_major(windows.size)),
    ]
    rows = [Axis(inputs, plane, 0, taps)]
    columns = [Axis(outputs, 0, window_count, inputs * taps)]
    inner = [
        Axis(x[0], x[1] * plane, y[1] * window_count),
        *_axes(counts, a=_times(place, windows.stride), b=row_major(counts)),
    ]
    return Stages(padding, arranged(dtype, batch, rows, columns, inner))


def _operands_flipped(product: Product) -> Product:
    """The same product, called with B before A: the padded image is the left operand."""
    return replace(product, swapped=not product.swapped)


def _times(xs: Sequence[int], ys: Sequence[int]) -> tuple[int, ...]:
    return tuple(x * y for x, y in zip(xs, ys, strict=True))


def _axes(
    sizes: Sequence[int],
    a: Sequence[int] | None = None,
    b: Sequence[int] | None = None,
    c: Sequence[int] | None = None,
) -> list[Axis]:
    none = (0,) * len(sizes)
    steps = zip(sizes, a or none, b or none, c or none, strict=True)
    return [Axis(*each) for each in steps]


# ---- padding --------------------------------------------------------------------------------


def write_padding(padding: Padding, module: Module, name: str = "pad") -> Kernel:
    """Write the kernel that pads; an outer iteration is one image of one channel."""
    parameters = [("ptr", "operands"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")]
    f = Function(name, parameters)
    operands, begin, end, _ = f.parameters
    element = stored(padding.dtype)
    source, target = (f.load("ptr", shifted(f, operands, "ptr", i), 8) for i in range(2))
    with f.loop(begin, end) as loop:
        image = offset(f, source, element, loop.index, math.prod(padding.spatial))
        out = offset(f, target, element, loop.index, math.prod(padding.padded))
        _clear(f, element, math.prod(padding.padded), out)
        _place(f, padding, element, (image, out))
    f.finish()
    module.add(f, exported=True)
    return Kernel(name, padding.lead, 0)


def _clear(f: Function, element: str, count: int, out: Ssa) -> None:
    lanes = VECTOR_BYTES // bytes_of(element)
    for first, length in strips(f, count, lanes):
        zeros = Ssa(vector(length, element), "zeroinitializer")
        f.store(zeros, f.at(out, element, first), bytes_of(element))


def _place(f: Function, padding: Padding, element: str, at: tuple[Ssa, Ssa]) -> None:
    """Copy the places that fall inside, along each axis in turn."""
    spans = zip(padding.spatial, padding.low, padding.padded, padding.spread, strict=True)
    inside = [_inside(*each) for each in spans]
    steps_in, steps_out = row_major(padding.spatial), row_major(padding.padded)
    axes = list(zip(inside, padding.low, padding.spread, steps_in, steps_out, strict=True))

    def along(axes: Sequence[tuple[range, int, int, int, int]], source: Ssa, target: Ssa) -> None:
        (places, low, spread, step_in, step_out), *rest = axes
        source = shifted(f, source, element, places.start * step_in)
        target = shifted(f, target, element, (places.start * spread + low) * step_out)
        dense = not rest and spread == 1
        lanes = VECTOR_BYTES // bytes_of(element) if dense else 1
        for first, length in strips(f, len(places), lanes):
            here = offset(f, source, element, first, step_in)
            there = offset(f, target, element, first, spread * step_out)
            if rest:
                along(rest, here, there)
            else:
                value = f.load(vector(length, element), here, bytes_of(element))
                f.store(value, there, bytes_of(element))

    along(axes, *at)


def _inside(size: int, low: int, padded: int, spread: int) -> range:
    """The places i with 0 ≤ i·spread + low < padded."""
    first = max(0, -(low // spread))
    last = min(size, (padded - 1 - low) // spread + 1)
    return range(first, max(first, last))
