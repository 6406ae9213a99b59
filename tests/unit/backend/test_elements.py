"""Ops that read by index, native: equal to their references to the bit, whatever the threads."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from pullback._settings import override
from pullback.backend.program import Program
from pullback.errors import OutOfRangeError
from pullback.functions.losses import cross_entropy
from pullback.ir.op import Sample
from pullback.ir.types import bfloat16, uint32
from pullback.ops.create import Iota
from pullback.ops.diagonal import Diagonal, DiagonalMatrix, Triangle
from pullback.ops.index import (
    Gather,
    ScatterAdd,
    ScatterMax,
    ScatterMin,
    ScatterMultiply,
    ScatterSet,
)
from pullback.ops.layout import Concat, Flip, Pad, Slice
from pullback.ops.pool import MaxPool, MaxPoolPick, MaxPoolRoute, WindowSpread, WindowSum
from pullback.ops.sampling import RandomBits
from pullback.ops.windows import Windows
from pullback.passes.pipeline import optimize
from pullback.schedule.fuse import fuse
from pullback.schedule.kernels import Element, Loops
from pullback.transforms.trace import trace


def normal(*shape, dtype=np.float32):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype)


def indices(n, *shape, dtype=np.int64):
    return np.random.default_rng(n).integers(-n, n, shape).astype(dtype)


def program(f, *inputs, threads=1):
    types = Sample(Iota(0, np.dtype(int)), *inputs).types
    with override(cache="off"):
        return Program(fuse(trace(f, *types)), threads=threads)


SQUARE = Windows((2, 2), (2, 2), (0, 0), (0, 0), (1, 1))
OVERLAP = Windows((3, 3), (2, 1), (1, 1), (1, 1), (1, 1))
DILATED = Windows((2, 3), (1, 2), (0, 2), (2, 0), (2, 3))


def samples():
    for dtype in (np.float32, bfloat16, np.int8):
        x = (normal(37, 45) * 10).astype(dtype)
        yield Sample(Gather((0,)), x, indices(37, 3, 50))
        yield Sample(Gather((1,)), x, indices(45, 70, dtype=np.int32))
        yield Sample(Gather((0, 1)), x, indices(37, 90), indices(45, 90))
        yield Sample(Gather((1,), (0,)), x, indices(45, 37, 21))
        yield Sample(Concat(0), x, x[:3], x)
        yield Sample(Concat(1), x, x[:, :5], x[:, 7:], x[:, :0])
        yield Sample(Pad((0, 3), (2, 40), (0, 0)), x)
        yield Sample(Pad((1, 3), (2, 1), (1, 2)), x)
        yield Sample(Flip((1,)), x)
        for step in (2, 3, 4, 7):
            yield Sample(Slice((0, 1), (37, 45), (1, step)), x)
    yield Sample(Triangle(lower=True, offset=3), normal(5, 33, 40))
    yield Sample(Triangle(lower=False), normal(33, 70))
    yield Sample(Diagonal(-3), normal(5, 33, 40))
    yield Sample(DiagonalMatrix(2, 20, 22), normal(3, 20))
    yield Sample(RandomBits((3, 1001)), np.array([3, 4], uint32))
    yield Sample(RandomBits((10000,)), np.array([3, 4], uint32))
    yield Sample(Iota(10000, np.dtype(np.float32)))
    for windows in (SQUARE, OVERLAP, DILATED):
        shape = (3, 4, 22, 38)
        counts = (*shape[:2], *windows.counts(shape[2:]))
        x, rounded = normal(*shape), np.round(normal(*shape)) + 0.0  # no -0
        rounded[0, 0, 3, 5:9] = np.nan
        yield Sample(MaxPool(windows), rounded)
        yield Sample(MaxPoolPick(windows), x, rounded)
        yield Sample(MaxPoolRoute(windows), normal(*counts), rounded)
        yield Sample(WindowSum(windows), x)
        yield Sample(WindowSpread(windows, shape[2:]), normal(*counts))


SAMPLES = {f"{i}-{sample}": sample for i, sample in enumerate(samples())}


@pytest.mark.parametrize("name", SAMPLES)
def test_native_is_reference_to_the_bit(name):
    sample = SAMPLES[name]
    expected = np.asarray(sample.op.reference(*sample.inputs))
    for threads in (1, 2, 4):
        (actual,) = program(sample.op, *sample.inputs, threads=threads)(
            [np.ascontiguousarray(x) for x in sample.inputs]
        )
        assert actual.dtype == expected.dtype
        assert actual.tobytes() == np.ascontiguousarray(expected).tobytes()


@pytest.mark.parametrize("bad", [-38, 37, 1 << 40])
@pytest.mark.parametrize("shape", [(), (1,), (40,)])
def test_an_index_out_of_range_raises(bad, shape):
    x, index = normal(37, 5), np.full(shape, 3)
    take = program(lambda a, i: pb.exp(a[i]), x, index)
    assert take([x, index])[0].shape == (*shape, 5)
    index[(-1,) * len(shape)] = bad
    with pytest.raises(OutOfRangeError, match=f"index {bad} .* axis 0 of size 37") as caught:
        take([x, index])
    assert "test_elements.py" in str(caught.value)
    index[...] = 0
    assert take([x, index])[0].shape == (*shape, 5)


def test_the_check_that_failed_is_named():
    x, i, j = normal(6, 9), np.zeros(20, np.int64), np.zeros(20, np.int64)
    take = program(lambda a, i, j: a[i] * a[:, j].T, np.ones((9, 9), np.float32), i, j)
    j[7] = 30
    with pytest.raises(OutOfRangeError, match=r"index 30 .* axis 1 of size 9"):
        take([np.ones((9, 9), np.float32), i, j])
    assert x.shape == (6, 9)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("dtype", [np.dtype(np.float16), bfloat16], ids=str)
def test_half_literals_stand_beside_guards_of_a_row(dtype, axis):
    """The guard is computed before the loop over the row, and so is what it chooses from."""
    x = normal(2, 3, 4).astype(dtype)
    shape = tuple(1 if i == axis else n for i, n in enumerate(x.shape))

    def f(x):
        filled = pb.full(shape, 0.3, dtype=dtype)
        return pb.sum(pb.concat([filled, x], axis=axis), axis=-1)

    with override(cache="off"):
        made = Program(fuse(optimize(trace(f, pb.asarray(x).type))), threads=1)([x])[0]
    wanted = np.concatenate([np.full(shape, 0.3, dtype), x], axis).astype(np.float32).sum(-1)
    np.testing.assert_allclose(made.astype(np.float32), wanted, rtol=1e-2, atol=1e-2)


def test_what_follows_joins_the_kernel_of_a_read_by_index():
    def embed(table, tokens, positions):
        x = table[tokens] + positions
        return (x - x.mean(axis=-1, keepdims=True)) * 2.0

    table, tokens, positions = normal(50, 48), indices(50, 4, 16), normal(16, 48)
    compiled = program(embed, table, tokens, positions)
    (kernel,) = compiled.schedule.kernels
    assert isinstance(kernel, Loops)
    assert sum(isinstance(s, Element) for s in kernel.steps) == 1
    x = table[tokens] + positions
    expected = (x - x.mean(axis=-1, keepdims=True)) * 2
    np.testing.assert_allclose(compiled([table, tokens, positions])[0], expected, atol=1e-5)


def test_axes_that_do_not_merge_are_reduced_together():
    x, y = normal(20, 33), normal(33, 20)
    (total,) = program(lambda a, b: (a.T * b).sum(), x, y)([x, y])
    np.testing.assert_allclose(total, (x.T * y).sum(), rtol=1e-4)


# ---- scatter --------------------------------------------------------------------------------


def scatters():
    for op in (ScatterAdd, ScatterSet, ScatterMultiply, ScatterMax, ScatterMin):
        yield Sample(op((0,)), normal(50, 40), normal(90, 40), indices(50, 90))
        yield Sample(op((0,)), normal(50, 5), normal(90, 5), indices(50, 90, dtype=np.int32))
        yield Sample(op((0,)), normal(300), normal(2, 90), indices(300, 2, 90))
        yield Sample(op((1,)), normal(20, 30), normal(41, 20), indices(30, 41))
        yield Sample(op((1,), (0,)), normal(20, 30), normal(20, 7), indices(30, 20, 7))
        yield Sample(op((0, 2)), normal(5, 21, 6), normal(70, 21), indices(5, 70), indices(6, 70))
        yield Sample(op((1,)), normal(4, 3, 5), normal(8, 4, 5), indices(3, 8))
    x = normal(50, 40, dtype=bfloat16)
    yield Sample(ScatterAdd((0,)), x, normal(900, 40, dtype=bfloat16), indices(50, 900))
    yield Sample(ScatterAdd((0,)), x[:, 0], normal(900, dtype=np.float16), indices(50, 900))


SCATTERS = {f"{i}-{sample}": sample for i, sample in enumerate(scatters())}


@pytest.mark.parametrize("start", ["given", "number"])
@pytest.mark.parametrize("name", SCATTERS)
def test_scatter_is_reference_to_the_bit(name, start):
    op, (base, updates, *places) = SCATTERS[name].op, SCATTERS[name].inputs
    updates = updates.astype(base.dtype)
    if start == "given":
        f, inputs = op, [base, updates, *places]
    else:
        base = np.full_like(base, 2)
        f, inputs = (
            lambda *rest: op(pb.full(base.shape, 2, dtype=base.dtype), *rest),
            [updates, *places],
        )
    expected = np.ascontiguousarray(op.reference(base, updates, *places)).tobytes()
    for threads in (1, 2, 4):
        compiled = program(f, *inputs, threads=threads)
        assert len(compiled.schedule.kernels) == 1
        assert compiled([np.ascontiguousarray(x) for x in inputs])[0].tobytes() == expected


def test_an_update_out_of_range_raises():
    base, updates, places = normal(9, 40), normal(5, 40), np.array([1, 2, -10, 3, 0])
    compiled = program(ScatterAdd((0,)), base, updates, places, threads=2)
    with pytest.raises(OutOfRangeError, match=r"index -10 .* axis 0 of size 9"):
        compiled([base, updates, places])


# ---- kernels of rows ------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [False, True])
def test_cross_entropy_and_its_gradient_are_one_kernel_over_the_logits(bias):
    def loss(logits, shift, labels):
        return cross_entropy(logits + shift if bias else logits, labels)

    logits, shift, labels = normal(64, 50), normal(50), abs(indices(50, 64)) % 50
    f = pb.value_and_grad(loss)
    types = Sample(Iota(0, np.dtype(int)), logits, shift, labels).types
    schedule = fuse(optimize(trace(f, *types)))
    rows = [kernel for kernel in schedule.kernels if kernel.inner == (50,)]
    assert len(rows) == 1
    assert len(schedule.kernels) == 2  # the other is the mean over the batch
    with override(cache="off"):
        value, gradient = Program(schedule, threads=2)([logits, shift, labels])
    expected = f(*map(pb.asarray, (logits, shift, labels)))
    np.testing.assert_allclose(value, expected[0].numpy(), rtol=1e-6)
    np.testing.assert_allclose(gradient, expected[1].numpy(), rtol=1e-5, atol=1e-8)


def test_a_label_that_is_no_class_raises():
    logits, labels = normal(64, 50), np.zeros(64, np.int64)
    types = Sample(Iota(0, np.dtype(int)), logits, labels).types
    with override(cache="off"):
        step = Program(fuse(optimize(trace(pb.value_and_grad(cross_entropy), *types))), threads=1)
    for wrong in (-1, 50):
        labels[33] = wrong
        with pytest.raises(OutOfRangeError, match=f"label {wrong} is none of the 50 classes"):
            step([logits, labels])


def test_a_dropout_mask_is_drawn_in_the_kernel_that_uses_it():
    def drop(x, key):
        kept = pb.random.bernoulli(key, 0.75, x.shape)
        return pb.where(kept, pb.tanh(x) / 0.75, 0.0)

    x, key = normal(40, 96), np.array([1, 2], uint32)
    compiled = program(drop, x, key)
    assert len(compiled.schedule.kernels) == 1
    expected = drop(pb.asarray(x), pb.asarray(key)).numpy()
    np.testing.assert_allclose(compiled([x, key])[0], expected, rtol=1e-6)


def test_a_causal_mask_is_part_of_its_softmax():
    def attention(scores):
        return pb.softmax(pb.where(pb.tril(pb.ones((48, 48), dtype=bool)), scores, -pb.inf))

    scores = normal(48, 48)
    schedule = fuse(optimize(trace(attention, *Sample(Iota(0, np.dtype(int)), scores).types)))
    assert len(schedule.kernels) == 1
    with override(cache="off"):
        (actual,) = Program(schedule, threads=2)([scores])
    np.testing.assert_allclose(actual, attention(pb.asarray(scores)).numpy(), rtol=1e-5)


@pytest.mark.parametrize("side", [32, 16, 6])
def test_reading_by_index_shares_a_kernel_with_reductions(side):
    x, bar = normal(3, 2, side, side), normal(3, 2, side // 2, side // 2)

    def routed(bar, x):
        out = MaxPoolRoute(SQUARE)(bar, x)
        largest = pb.max(out, axis=(2, 3), keepdims=True)
        return out, pb.sum(out, axis=(2, 3)), pb.sigmoid(out - largest)

    made = program(routed, bar, x)
    assert len(made.kernels) == 1
    out, total, apart = made([bar, x])
    expected = MaxPoolRoute(SQUARE).reference(bar, x)
    assert (out == expected).all()
    np.testing.assert_allclose(total, expected.sum((2, 3)), rtol=1e-4, atol=1e-5)
    apart_expected = 1 / (1 + np.exp(expected.max((2, 3), keepdims=True) - expected))
    np.testing.assert_allclose(apart, apart_expected, rtol=1e-5)


@pytest.mark.parametrize("side", [1, 2, 3, 4, 8])
def test_short_lines_fill_vectors_together(side):
    x, row = normal(3, 5, 2 * side, 2 * side), normal(5, 1, 1)
    bar = normal(3, 5, side, side)
    made = program(lambda x, row: MaxPool(SQUARE)(x) + row, x, row)
    assert (made([x, row])[0] == MaxPool(SQUARE).reference(x) + row).all()
    made = program(MaxPoolRoute(SQUARE), bar, x)
    assert (made([bar, x])[0] == MaxPoolRoute(SQUARE).reference(bar, x)).all()
    made = program(lambda x: pb.permute_dims(x, (3, 1, 2, 0)) * 2, x)
    assert (made([x])[0] == x.transpose(3, 1, 2, 0) * 2).all()
