"""Convolutions as native code, against NumPy in float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from native import Call, Compiled
from pullback.backend.assembly import Module, Ssa, integer
from pullback.backend.blocking import Machine
from pullback.backend.convolve import write_convolution
from pullback.backend.packing import store_prefix
from pullback.backend.program import Program
from pullback.ir.op import Sample
from pullback.ir.types import bfloat16
from pullback.ops.convolve import Convolve, ConvolveInput, ConvolveKernel
from pullback.ops.windows import Windows
from pullback.schedule.fuse import fuse
from pullback.transforms.trace import trace
from thorough import sampled


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


@pytest.mark.parametrize("seed", sampled(range(60), 4))
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


# ---- in programs ----------------------------------------------------------------------------


def square(size, stride=1, padding=0):
    return Windows(*((n, n) for n in (size, stride, padding, padding, 1)))


PROGRAMS = itertools.product(
    [square(3, 1, 1), square(3, 2, 1), square(1), square(5, 1, 2)],
    [4, 7, 8, 16, 33],
    [np.float32, np.float16, bfloat16, np.int32],
)


@pytest.mark.parametrize("program", sampled(PROGRAMS, 3))
def test_programs_give_the_same_bits_on_any_number_of_threads(program):
    windows, side, dtype = program
    rng = np.random.default_rng(side)
    draw = lambda *shape: rng.integers(-8, 9, shape).astype(dtype)
    x, w = draw(3, 5, side, side), draw(18, 5, *windows.size)
    y = draw(3, 18, *windows.counts((side, side)))
    for op, *inputs in (
        (Convolve(windows, 1), x, w),
        (ConvolveInput(windows, 1, x.shape[2:]), y, w),
        (ConvolveKernel(windows, 1), x, y),
    ):
        schedule = fuse(trace(op.outputs, *Sample(op, *inputs).types))
        results = [Program(schedule, threads)(inputs)[0] for threads in (1, 2, 4)]
        assert len({each.tobytes() for each in results}) == 1
        # Sums of small integers are exact in float32, in any order.
        np.testing.assert_array_equal(results[0], op.reference(*inputs))


# ---- what follows the sum -------------------------------------------------------------------


def biased_relu(f, value, place):
    """max(value + bias[channel], 0), and each result a second time, in the last operand."""
    _, bias, copy = place.operands
    element = value.type.split(" x ")[-1].rstrip(">")
    size = f.load("i64", f.at(copy, "i64", integer(-1)), 8)
    added = f.spread(f.load(element, f.at(bias, element, place.row), 4), place.lanes)
    total = f.binary("fadd", value, added)
    zero = Ssa(total.type, "zeroinitializer")
    result = f.select(f.compare("fcmp ogt", total, zero), total, zero)
    image = f.binary("add", f.binary("mul", place.batch[0], integer(6)), place.row)
    at = f.binary("add", f.binary("mul", image, size), place.column)
    store_prefix(f, result, place.count, f.at(copy, element, at))
    return result


@pytest.mark.parametrize("side", [3, 7, 8, 16, 21])
def test_an_epilogue_knows_its_place(side):
    rng = np.random.default_rng(side)
    windows = square(3, 1, 1)
    x = rng.standard_normal((2, 4, side, side)).astype(np.float32)
    w = rng.standard_normal((6, 4, 3, 3)).astype(np.float32)
    bias = rng.standard_normal(6).astype(np.float32)
    op, module = Convolve(windows, 1), Module()
    plain = run(op, x, w, (2, 6, side, side))
    shapes = (x.shape, w.shape)
    kernel = write_convolution(
        op, x.dtype, shapes, Machine(), module, "convolution", biased_relu, results=3
    )
    out = np.full_like(plain, np.nan)
    memory = np.full(plain.size + 2, np.nan, np.float32)
    memory[:2].view(np.int64)[0] = side * side
    copy = memory[2:].reshape(plain.shape)
    Call(Compiled(module)["convolution"], kernel, [x, w, out, bias, copy]).run(3)
    expected = np.maximum(plain + bias[:, None, None], 0)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(copy, expected)
