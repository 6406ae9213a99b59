"""Gather and scatter beyond the laws: every way of batching, ties, order, precision."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import pullback as pb
from conformance.laws import _check_batched
from pullback.errors import OutOfRangeError
from pullback.ir.array import concrete
from pullback.ops.index import (
    Gather,
    ScatterAdd,
    ScatterMax,
    ScatterMin,
    ScatterMultiply,
    ScatterSet,
)
from pullback.ops.previous import Previous

SCATTERS = [ScatterSet, ScatterAdd, ScatterMultiply, ScatterMin, ScatterMax]
SAMPLES = [s for op in (Gather, *SCATTERS) for s in op.samples() if s.inputs[-1].size]


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_every_combination_of_batched_operands(sample):
    count = len(sample.inputs)
    for size in range(1, count + 1):
        for subset in itertools.combinations(range(count), size):
            _check_batched(sample, subset, axis=0)


@pytest.mark.parametrize("op", [Gather, *SCATTERS])
def test_batching_twice(op):
    """vmap(vmap(f)) over different operands is the loop over both."""
    x = np.arange(1.0, 13).reshape(2, 6)
    indices = np.array([[0, 5, 0], [1, 1, 2], [3, 0, -1]])
    updates = () if op is Gather else (concrete(np.array([2.0, 0.5, 7.0])),)

    def f(row, index):
        return op((0,))(row, *updates, index)

    inner = pb.vmap(f, in_axes=(None, 0))
    result = pb.vmap(inner, in_axes=(0, None))(x, indices)
    expected = [[f(concrete(r.copy()), concrete(i.copy())).numpy() for i in indices] for r in x]
    np.testing.assert_array_equal(result.numpy(), np.array(expected))


@pytest.mark.parametrize("op", [ScatterMax, ScatterMin])
def test_equal_candidates_share_the_gradient(op):
    base, updates = concrete(np.array([1.0, 1.0])), concrete(np.array([1.0, 1.0]))
    _, pullback = pb.vjp(lambda b, u: op((0,))(b, u, concrete(np.array([0, 0]))), base, updates)
    bar_base, bar_updates = pullback(np.array([3.0, 5.0]))
    assert (bar_base.tolist(), bar_updates.tolist()) == ([1.0, 5.0], [1.0, 1.0])


def test_the_last_update_wins_with_many_repeats():
    places = np.random.default_rng(0).integers(0, 7, 5000)
    values = np.arange(5000.0)
    result = ScatterSet((0,))(concrete(np.zeros(7)), concrete(values), concrete(places))
    assert result.tolist() == [float(np.flatnonzero(places == i)[-1]) for i in range(7)]


@pytest.mark.parametrize("dtype", [pb.bfloat16, pb.float16], ids=str)
def test_half_precision_adds_up_in_float32(dtype):
    """4096 ones: bfloat16 alone would stop at 256, float16 at 2048."""
    ones = pb.ones(4096, dtype=dtype)
    total = pb.zeros(1, dtype=dtype).at[pb.zeros(4096, dtype=pb.int32)].add(ones)
    assert (total.dtype, total.tolist()) == (dtype, [4096.0])


@pytest.mark.parametrize("zeros", [(), (0,), (0, 1), (0, 1, 2)], ids=str)
def test_products_have_the_right_third_derivative(zeros):
    """d³(u·v·w)/du dv dw = 1 wherever factors are zero."""
    factors = np.array([2.0, 3.0, 5.0])
    factors[list(zeros)] = 0.0

    def f(u):
        return ScatterMultiply((0,))(concrete(np.ones(1)), u, concrete(np.zeros(3, int)))[0]

    third = pb.jacfwd(pb.hessian(f))(factors).numpy()
    expected = np.zeros((3, 3, 3))
    for order in itertools.permutations(range(3)):
        expected[order] = 1.0
    np.testing.assert_array_equal(third, expected)


def test_indices_outside_are_named_after_the_axis_of_the_operand():
    x, index = concrete(np.zeros((2, 3, 4))), concrete(np.array([0, -4], np.int8))
    with pytest.raises(OutOfRangeError, match="index -4 is out of range for axis 1 of size 3"):
        Gather((1,))(x, index)
    with pytest.raises(OutOfRangeError, match="index 3 is out of range for axis 1 of size 3"):
        ScatterAdd((1,))(x, concrete(np.zeros((1, 2, 4))), concrete(np.array([3], np.uint64)))


def test_previous():
    x = np.random.default_rng(1).integers(0, 5, (3, 40))
    expected = [
        [max((j for j in range(i) if row[j] == row[i]), default=-1) for i in range(40)] for row in x
    ]
    assert Previous()(concrete(x)).tolist() == expected
