"""Sorting, running sums, positions of extrema, searches: native = reference, exactly."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import pullback as pb
from pullback._settings import override
from pullback.backend.program import Program
from pullback.ir.types import TensorType
from pullback.ops.cumulative import CumLogSumExp, CumMax, CumMin, CumSum
from pullback.ops.pointwise import NextAfter
from pullback.ops.previous import Previous
from pullback.ops.product import CumProd, Recurrence
from pullback.ops.reduce import ArgMax, ArgMin
from pullback.ops.searching import SearchSorted
from pullback.ops.sort import Sort, TopK
from pullback.schedule.fuse import fuse
from pullback.transforms.trace import trace

random = np.random.default_rng(11)
DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.int8, np.uint16, np.int64]


@pytest.fixture(autouse=True, scope="module")
def _cache(tmp_path_factory):
    """Code is made once for all numbers of threads."""
    with override(cache=str(tmp_path_factory.mktemp("cache"))):
        yield


def native(op, *inputs):
    """The outputs, the same to the bit on 1, 2 and 4 threads."""
    graph = trace(op.outputs, *[TensorType(x.shape, x.dtype) for x in inputs])
    results = [Program(fuse(graph), threads)(inputs) for threads in (1, 2, 4)]
    for other in results[1:]:
        for x, y in zip(results[0], other, strict=True):
            assert x.tobytes() == y.tobytes()
    return results[0]


def same(op, *inputs):
    with np.errstate(all="ignore"):
        expected = op.reference(*inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for actual, wanted in zip(native(op, *inputs), expected, strict=True):
        equal(actual, wanted)


def equal(actual, wanted):
    assert actual.dtype == wanted.dtype
    if actual.dtype == ml_dtypes.bfloat16:  # NumPy's tests do not know its NaN
        actual, wanted = actual.astype(np.float32), wanted.astype(np.float32)
    np.testing.assert_array_equal(actual, wanted)


def mixed(shape, dtype):
    """Numbers with many ties; of floats some NaN, infinities and both zeros too."""
    x = random.integers(0, 50, shape).astype(dtype)
    if np.dtype(dtype).kind not in "iu":
        special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, -1.5, 2.25], dtype)
        chosen = random.random(shape) < 0.3
        x = np.where(chosen, special[random.integers(0, len(special), shape)], x)
    return x.astype(dtype)


SHAPES = [((1,), 0), ((64,), 0), ((65,), 0), ((3, 130), 1), ((70, 16), 0), ((4, 9, 37), 1)]
SHAPES += [((0, 5), 0), ((2, 0, 3), 2)]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=str)
def test_sort(shape, axis, descending, dtype):
    same(Sort(axis, descending), mixed(shape, dtype))


@pytest.mark.parametrize("descending", [False, True])
def test_sort_of_equal_elements_keeps_their_order(descending):
    for size in (50, 500):
        _, order = native(Sort(0, descending), np.full(size, -0.0))
        np.testing.assert_array_equal(order, np.arange(size))
        zeros = np.where(np.arange(size) % 2, 0.0, -0.0)
        values, order = native(Sort(0, descending), zeros)
        np.testing.assert_array_equal(order, np.arange(size))
        np.testing.assert_array_equal(np.signbit(values), np.signbit(zeros))


def test_sort_of_truths_and_extreme_integers():
    same(Sort(0, False), random.random(100) < 0.5)
    same(Sort(0, True), random.random(100) < 0.5)
    limits = np.iinfo(np.int64)
    extremes = random.choice([limits.min, -1, 0, 1, limits.max], 300)
    same(Sort(0, False), extremes)
    same(Sort(0, True), extremes)
    unsigned = random.choice(np.array([0, 1, 2**63, 2**64 - 1], np.uint64), 300)
    same(Sort(0, False), unsigned)
    same(Sort(0, True), unsigned)


def test_sort_of_a_long_line():
    same(Sort(0, False), random.normal(size=200_000).astype(np.float32))
    same(Sort(1, True), random.normal(size=(3, 10_000)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8], ids=lambda d: d.__name__)
@pytest.mark.parametrize("k", [0, 1, 5, 64, 65, 300])
def test_top_k(k, dtype):
    same(TopK(0, k), mixed((300, 5), dtype))
    same(TopK(1, k), mixed((3, 300), dtype))
    same(TopK(0, k), np.full(300, np.nan).astype(np.float32))


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("op", [ArgMax, ArgMin])
def test_position(op, dtype):
    for shape, axis in SHAPES:
        if shape[axis]:
            same(op(axis), mixed(shape, dtype))


@pytest.mark.parametrize("op", [ArgMax, ArgMin])
def test_position_of_ties(op):
    for value in (np.nan, np.inf, -np.inf, 0.0):
        for shape, axis in (((5,), 0), ((40,), 0), ((40, 3), 0)):
            same(op(axis), np.full(shape, value))
    same(op(0), np.where(np.arange(40) % 2, 0.0, -0.0))
    late = np.zeros(100_003, np.float32)
    late[[77_777, 99_999]] = np.nan
    same(op(0), late)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("op", [CumSum, CumProd, CumMax, CumMin])
def test_running(op, reverse):
    for dtype in DTYPES:
        for shape, axis in SHAPES:
            x = mixed(shape, dtype)
            if op is CumProd:
                x = np.where(random.random(shape) < 0.9, 1, x).astype(dtype)
            same(op(axis, reverse), x)


@pytest.mark.parametrize("reverse", [False, True])
def test_running_log_sum_and_recurrence(reverse):
    for shape, axis in SHAPES:
        x, y = random.normal(size=(2, *shape))
        same(Recurrence(axis, reverse), x.astype(np.float32), y.astype(np.float32))
        (actual,) = native(CumLogSumExp(axis, reverse), x)
        expected = CumLogSumExp(axis, reverse).reference(x)
        np.testing.assert_allclose(actual, expected, rtol=1e-13, atol=1e-13)


def test_running_sum_keeps_the_sign_of_a_first_zero():
    (out,) = native(CumSum(0, False), np.array([-0.0, -0.0, 0.0]))
    assert list(np.signbit(out)) == [True, True, False]


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint32], ids=lambda d: d.__name__)
def test_previous(dtype):
    for shape in [(1,), (60,), (300,), (3, 100), (0,), (2, 0)]:
        same(Previous(), random.integers(0, 20, shape).astype(dtype))


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
def test_search_sorted(dtype, right):
    for size in (0, 1, 2, 7, 8, 1000):
        line = np.sort(mixed((size,), dtype).astype(np.float64)).astype(dtype)
        same(SearchSorted(right), line, mixed((11, 3), dtype))
    lines = np.sort(mixed((4, 33), dtype).astype(np.float64), axis=-1).astype(dtype)
    same(SearchSorted(right, 1), lines, mixed((4, 10), dtype))
    same(SearchSorted(right, 1), lines, mixed((4,), dtype))


@pytest.mark.parametrize("dtype", DTYPES[:4], ids=lambda d: np.dtype(d).name)
def test_next_after(dtype):
    limits = ml_dtypes.finfo(dtype)
    values = [0.0, -0.0, 1.0, -1.0, 1.5, np.inf, -np.inf, np.nan, float(limits.max)]
    values += [float(limits.smallest_subnormal), -float(limits.smallest_normal)]
    x, y = np.meshgrid(np.array(values, dtype), np.array(values, dtype))
    (actual,) = native(NextAfter(), x, y)
    with np.errstate(over="ignore"):
        expected = np.nextafter(x, y)
    equal(actual, expected)
    plain = ~np.isnan(expected) & (x != y)  # of equal zeros NumPy takes one or the other
    np.testing.assert_array_equal(np.signbit(actual[plain]), np.signbit(expected[plain]))


def test_inside_a_program_views_are_read_where_they_lie():
    def f(x):
        values, order = pb.sort(x.T[:, ::2] * 2.0), pb.argsort(pb.flip(x, axis=0), axis=0)
        return values, order, pb.argmax(x.T), pb.cumulative_sum(x[1:], axis=1)

    x = random.normal(size=(40, 30)).astype(np.float32)
    graph = trace(f, TensorType(x.shape, x.dtype))
    eager = f(pb.asarray(x))
    for actual, wanted in zip(Program(fuse(graph), 2)([x]), eager, strict=True):
        np.testing.assert_array_equal(actual, wanted.numpy())
