"""Convolutions as native code, against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest

from native import Call, Compiled
from pullback.backend.assembly import Module
from pullback.backend.blocking import Machine
from pullback.backend.convolve import write_convolution
from pullback.ops.convolve import Convolve, ConvolveInput, ConvolveKernel
from pullback.ops.windows import Windows


def run(op, left, right, shape, ways=1, machine=None):
    """The result of the kernel of one convolution."""
    module, shapes = Module(), (left.shape, right.shape)
    kernel = write_convolution(op, left.dtype, shapes, machine or Machine(), module, "convolution")
    out = np.full(shape, np.nan, left.dtype)
    Call(Compiled(module)["convolution"], kernel, [left, right, out]).run(ways)
    return out


def cases(seed):
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 4))
    pick = lambda *options: tuple(int(rng.choice(options)) for _ in range(rank))
    size, stride, dilation = pick(1, 2, 3, 5), pick(1, 1, 2, 3), pick(1, 1, 2)
    low, high = pick(0, 1, 2, -1), pick(0, 1, 2)
    reach = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
    extra = pick(0, 1, 4, 9, 17) if rank < 3 else pick(0, 1, 4)
    spatial = tuple(
        max(1, r - lo - hi) + e for r, lo, hi, e in zip(reach, low, high, extra, strict=True)
    )
    groups = int(rng.choice([1, 1, 2, 3]))
    c, o = (int(n) * groups for n in rng.integers(1, 9, 2))
    windows = Windows(size, stride, low, high, dilation)
    x = rng.standard_normal((int(rng.integers(1, 4)), c, *spatial))
    w = rng.standard_normal((o, c // groups, *size))
    y = rng.standard_normal((x.shape[0], o, *windows.counts(spatial)))
    return windows, groups, x, w, y


@pytest.mark.parametrize("seed", range(60))
def test_the_three_convolutions(seed):
    windows, groups, x, w, y = cases(seed)
    runs = (
        (Convolve(windows, groups), x, w, y.shape),
        (ConvolveInput(windows, groups, x.shape[2:]), y, w, x.shape),
        (ConvolveKernel(windows, groups), x, y, w.shape),
    )
    for op, left, right, shape in runs:
        for dtype, tolerance in ((np.float32, 2e-6), (np.float64, 1e-14)):
            a, b = left.astype(dtype), right.astype(dtype)
            exact = op.reference(a.astype(np.float64), b.astype(np.float64))
            bound = op.reference(abs(a).astype(np.float64), abs(b).astype(np.float64))
            results = [
                run(op, a, b, shape, 1),
                run(op, a, b, shape, 4),
                run(op, a, b, shape, 1, Machine(32, 64)),
            ]
            assert len({each.tobytes() for each in results}) == 1
            assert (abs(results[0] - exact) <= tolerance * bound + 1e-30).all(), op
