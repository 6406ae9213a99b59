"""Reductions of few long rows: cut in blocks by the shape alone."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

import pullback as pb
from pullback._settings import override
from pullback.backend.program import Program
from pullback.ir.types import TensorType
from pullback.schedule.blocks import Cut, cut, cut_columns
from pullback.schedule.fuse import fuse
from pullback.schedule.kernels import Loops
from pullback.transforms.trace import trace

random = np.random.default_rng(2)


@pytest.fixture(autouse=True, scope="module")
def _cache(tmp_path_factory):
    with override(cache=str(tmp_path_factory.mktemp("cache"))):
        yield


def scheduled(f, *inputs):
    return fuse(trace(f, *[TensorType(x.shape, x.dtype) for x in inputs]))


def run(f, *inputs):
    schedule = scheduled(f, *inputs)
    results = [Program(schedule, threads)(inputs) for threads in (1, 2, 4)]
    for other in results[1:]:
        for x, y in zip(results[0], other, strict=True):
            assert x.tobytes() == y.tobytes()
    return results[0]


CUTS = [
    ((1 << 20,), (0,), ((256, 4096), (1,), (0,))),
    ((1024, 1024), (0, 1), ((1024, 1024), (1,), (0,))),
    ((64, 32, 8, 8), (0, 1, 2, 3), ((64, 32, 8, 8), (1, 2, 3), (0,))),
    ((3, 200_000), (1,), ((3, 50, 4000), (2,), (1,))),
    ((300_000, 4), (0, 1), ((300, 4000), (1,), (0,))),
    ((31, 1, 1 << 15), (2,), ((31, 1, 8, 4096), (3,), (2,))),
    ((32, 1 << 15), (1,), None),
    ((1, (1 << 15) - 1), (1,), None),
    ((65537,), (0,), None),
    ((0, 1 << 20), (1,), None),
]


@pytest.mark.parametrize(("shape", "axes", "expected"), CUTS, ids=str)
def test_the_law(shape, axes, expected):
    found = cut(shape, axes)
    assert (found and (found.shape, found.first, found.then)) == expected
    if found is not None:
        assert math.prod(found.shape) == math.prod(shape)


@pytest.mark.parametrize("shape", [(100_000,), (784, 512), (5, 70_000), (65_537,), (7, 9000, 6)])
def test_sums(shape):
    x = random.normal(size=shape).astype(np.float32)
    axes = tuple(range(len(shape) > 1 and shape[0] < 10, len(shape)))
    (total,) = run(lambda x: pb.sum(x, axis=axes), x)
    np.testing.assert_allclose(total, x.astype(np.float64).sum(axis=axes), rtol=1e-4, atol=1e-2)


def test_extrema_truths_and_integers():
    x = random.normal(size=(3, 50_000))
    n = random.integers(-9, 9, 100_000)
    least, most, some, every, total = run(
        lambda x, n: (
            pb.min(x, axis=1),
            pb.max(x),
            pb.any(x > 4.0),
            pb.all(x < 9.0),
            pb.sum(n),
        ),
        x,
        n,
    )
    np.testing.assert_array_equal(least, x.min(axis=1))
    assert (most, some, every) == (x.max(), (x > 4).any(), True)
    assert total == n.sum()


def test_half_precision_is_rounded_once():
    for dtype in (np.float16, ml_dtypes.bfloat16):
        x = random.random(1 << 16).astype(dtype)
        (total,) = run(lambda x: pb.mean(x * 1.0) + pb.max(x) * 0.0, x)
        assert total.dtype == dtype
        np.testing.assert_allclose(float(total), x.astype(np.float64).mean(), rtol=4e-3)
        (total,) = run(pb.sum, x / dtype(64))
        exact = (x / dtype(64)).astype(np.float64).sum()
        assert abs(float(total) - exact) <= abs(float(dtype(exact)) * 2**-7)


def test_bits_are_the_same_alone_and_with_what_makes_the_elements():
    x = random.normal(size=(784, 512)).astype(np.float32)
    (together,) = run(lambda x: pb.sum(x * x), x)
    squares, alone = run(lambda x: (x * x, pb.sum(x * x)), x)
    (apart,) = run(pb.sum, squares)
    assert together.tobytes() == alone.tobytes() == apart.tobytes()


def test_what_makes_the_elements_shares_the_first_kernel():
    x = random.normal(size=(784, 512)).astype(np.float32)
    first, second = scheduled(lambda x: pb.sqrt(pb.sum(x * x)), x).kernels
    assert isinstance(first, Loops)
    assert (first.outer, first.inner) == ((784,), (512,))
    assert (second.outer, second.inner) == ((), (784,))


def test_columns_are_cut_by_axes_or_by_a_divisor():
    assert cut_columns((8, 128, 192), (0, 1)) == Cut((8, 128, 192), (1,), (0,))
    assert cut_columns((1024, 192), (0,)) == Cut((8, 128, 192), (1,), (0,))
    assert cut_columns((4, 1000, 20), (1,)) == Cut((4, 8, 125, 20), (2,), (1,))
    assert cut_columns((128, 512), (0,)) is None  # columns enough
    assert cut_columns((100, 64), (0,)) is None  # too little to do
    assert cut_columns((1009, 64), (0,)) is None  # a prime number of rows


@pytest.mark.parametrize("shape", [(1024, 48), (8, 64, 96), (3000, 11), (2, 700, 40)])
def test_the_bits_of_columns_do_not_depend_on_threads(shape):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    axes = tuple(range(len(shape) - 1))
    schedule = fuse(trace(lambda x: pb.sum(x, axis=axes), x))
    with override(cache="off"):
        first, *others = (Program(schedule, threads=n)([x])[0] for n in (1, 2, 4))
    np.testing.assert_allclose(first, x.sum(axis=axes, dtype=np.float64), rtol=1e-5, atol=1e-4)
    assert all(other.tobytes() == first.tobytes() for other in others)
