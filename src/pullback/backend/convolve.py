"""Convolution and its two transposes as native code, without a matrix of patches.

`Convolve` and `ConvolveInput` are weighted sums of shifted images (`convolve_map`); where windows
leap, the second one is cut into the parts of the image that share their taps. `ConvolveKernel` is a
sum over all windows (`convolve_sum`). One or two spatial axes are three with axes of size 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

from pullback.backend.assembly import Module
from pullback.backend.blocking import Machine
from pullback.backend.contract import Kernel
from pullback.backend.convolve_image import Place, Reach
from pullback.backend.convolve_map import Correlation, Part, Tap, write_correlation
from pullback.backend.convolve_sum import KernelSum, write_kernel_sum
from pullback.backend.place import Epilogue
from pullback.backend.product import Axis, row_major
from pullback.ir.types import DType, Shape
from pullback.ops.convolve import Convolution, Convolve, ConvolveInput, ConvolveKernel
from pullback.ops.windows import Windows

LANES = 16


def write_convolution(
    op: Convolution,
    dtype: DType,
    shapes: tuple[Shape, Shape],
    machine: Machine,
    module: Module,
    name: str,
    epilogue: Epilogue | None = None,
    results: int = 1,
) -> Kernel:
    """Write the kernel of a convolution of two dense arrays: they, then `results` operands more.

    The first of these is the result; an epilogue, for an op `in_order`, may use all.
    """
    op, left, right = _flattened(op, *shapes)
    match op:
        case Convolve():
            work = _forward(op, dtype, left, right)
            return write_correlation(work, machine, module, name, epilogue, results)
        case ConvolveInput():
            work = _input(op, dtype, left, right)
            return write_correlation(work, machine, module, name, epilogue, results)
        case ConvolveKernel():
            assert epilogue is None, "the sum over windows takes no epilogue"
            return write_kernel_sum(_kernel(op, dtype, left, right), machine, module, name)
        case _:
            raise TypeError(f"{op} is no convolution")


def standing(
    shape: Shape, groups: int, strides: Sequence[Sequence[int]]
) -> tuple[Axis, Axis, Axis, Axis]:
    """The axes of a result's place: image, group, channel of the group, pixel.

    `shape` is (images, channels, pixels), `strides` those of what an epilogue reads and writes.
    """
    images, channels, pixels = shape
    each = channels // groups
    along = list(zip(*strides, strict=True))
    return (
        Axis(images, others=along[0]),
        Axis(groups, others=tuple(each * step for step in along[1])),
        Axis(each, others=along[1]),
        Axis(pixels, others=along[2]),
    )


# ---- three spatial axes ---------------------------------------------------------------------


def _flattened(op: Convolution, left: Shape, right: Shape) -> tuple[Convolution, Shape, Shape]:
    """The same convolution over three spatial axes; single places in lines that fill vectors."""
    windows, images = op.windows, left[2:]
    missing = 3 - windows.rank
    if _is_pointwise(windows):
        places = math.prod(images)
        lines = places // LANES if places % LANES == 0 and places else 1
        spatial = (1, lines, places // lines)
        windows = Windows((1,) * 3, (1,) * 3, (0,) * 3, (0,) * 3, (1,) * 3)
        replaced = replace(op, windows=windows)
        if isinstance(replaced, ConvolveInput):
            replaced = replace(replaced, spatial=spatial)
        rest = spatial if isinstance(op, ConvolveKernel) else (1, 1, 1)
        return replaced, (*left[:2], *spatial), (*right[:2], *rest)
    ones, zeros = (1,) * missing, (0,) * missing
    windows = Windows(
        ones + windows.size,
        ones + windows.stride,
        zeros + windows.low,
        zeros + windows.high,
        ones + windows.dilation,
    )
    replaced = replace(op, windows=windows)
    if isinstance(replaced, ConvolveInput):
        replaced = replace(replaced, spatial=ones + replaced.spatial)
    return replaced, (*left[:2], *ones, *left[2:]), (*right[:2], *ones, *right[2:])


def _is_pointwise(windows: Windows) -> bool:
    return not any(windows.low + windows.high) and max(windows.size + windows.stride) == 1


def _three(sizes: Sequence[int]) -> Place:
    a, b, c = sizes
    return a, b, c


# ---- the three convolutions -----------------------------------------------------------------


def _forward(op: Convolution, dtype: DType, x: Shape, w: Shape) -> Correlation:
    windows, taps = op.windows, op.windows.taps
    counts, places = _three(windows.counts(x[2:])), _places(windows)
    outputs = w[0] // op.groups
    return Correlation(
        dtype,
        x[0],
        op.groups,
        w[1],
        outputs,
        _reaches(windows, x[2:]),
        counts,
        (1, 1, 1),
        (outputs * w[1] * taps, w[1] * taps, taps),
        (Part(counts, (0, 0, 0), tuple(Tap(i, place) for i, place in enumerate(places))),),
    )


def _input(op: ConvolveInput, dtype: DType, y: Shape, w: Shape) -> Correlation:
    windows, taps = op.windows, op.windows.taps
    outputs = w[0] // op.groups
    axes = [_sources(windows, axis) for axis in range(3)]
    residues = itertools.product(*(range(s) for s in windows.stride))
    parts = (_part(op, axes, _three(residue)) for residue in residues)
    reaches = []
    for size, sources in zip(y[2:], axes, strict=True):
        places = [place for each in sources for _, place in each]
        reaches.append(Reach(size, 1, min(places), max(places)))
    return Correlation(
        dtype,
        y[0],
        op.groups,
        outputs,
        w[1],
        (reaches[0], reaches[1], reaches[2]),
        _three(op.spatial),
        _three(windows.stride),
        (outputs * w[1] * taps, taps, w[1] * taps),
        tuple(part for part in parts if min(part.counts)),
    )


def _kernel(op: Convolution, dtype: DType, x: Shape, y: Shape) -> KernelSum:
    return KernelSum(
        dtype,
        x[0],
        op.groups,
        x[1] // op.groups,
        y[1] // op.groups,
        _reaches(op.windows, x[2:]),
        _three(y[2:]),
        _places(op.windows),
    )


def _reaches(windows: Windows, spatial: Shape) -> tuple[Reach, Reach, Reach]:
    a, b, c = (
        Reach(n, step, -low, (size - 1) * dilation - low)
        for n, size, step, low, dilation in zip(
            spatial, windows.size, windows.stride, windows.low, windows.dilation, strict=True
        )
    )
    return a, b, c


def _places(windows: Windows) -> tuple[Place, ...]:
    """The place that each tap of the first window reads."""
    axes = (
        [k * dilation - low for k in range(size)]
        for size, dilation, low in zip(windows.size, windows.dilation, windows.low, strict=True)
    )
    return tuple(_three(place) for place in itertools.product(*axes))


def _sources(windows: Windows, axis: int) -> list[list[tuple[int, int]]]:
    """For each residue r: the taps k of windows q + place that read place q·stride + r.

    From the last tap to the first, so that places ascend.
    """
    size, stride = windows.size[axis], windows.stride[axis]
    low, dilation = windows.low[axis], windows.dilation[axis]
    return [
        [
            (k, (r + low - k * dilation) // stride)
            for k in reversed(range(size))
            if (r + low - k * dilation) % stride == 0
        ]
        for r in range(stride)
    ]


def _part(
    op: ConvolveInput, axes: Sequence[Sequence[Sequence[tuple[int, int]]]], residue: Place
) -> Part:
    a, b, c = (
        max(0, -(-(n - r) // stride))
        for n, r, stride in zip(op.spatial, residue, op.windows.stride, strict=True)
    )
    steps = row_major(op.windows.size)
    sources = (axes[i][r] for i, r in enumerate(residue))
    taps = []
    for each in itertools.product(*sources):
        weight = sum(k * step for (k, _), step in zip(each, steps, strict=True))
        taps.append(Tap(weight, _three([place for _, place in each])))
    return Part((a, b, c), residue, tuple(taps))
