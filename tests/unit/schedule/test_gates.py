"""Barriers, checks and rows in a schedule: values that stay where they are, read in their turn."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from pullback._settings import override
from pullback.backend.program import Program
from pullback.errors import LoopLimitError
from pullback.ir.types import TensorType
from pullback.ops.control import Check
from pullback.ops.remat import Barrier
from pullback.ops.rows import Rows
from pullback.schedule.fuse import fuse
from pullback.schedule.kernels import Call
from pullback.transforms.trace import trace

random = np.random.default_rng(8)


def scheduled(f, *inputs):
    return fuse(trace(f, *[TensorType(x.shape, x.dtype) for x in inputs]))


def run(f, *inputs, threads=2):
    with override(cache="off"):
        return Program(scheduled(f, *inputs), threads)(inputs)


def recomputed(x, bar):
    y = x * 2.0
    total = pb.sum(pb.tanh(y))
    again, _ = Barrier().outputs(y, total)
    return total, pb.tanh(again) * bar


def test_a_recomputation_waits_for_its_barrier_and_moves_nothing():
    x, bar = random.normal(size=(2, 30, 40))
    schedule = scheduled(recomputed, x, bar)
    assert len(schedule.kernels) == 2
    first, second = schedule.kernels
    assert schedule.outputs[0] in first.writes()
    assert len(first.writes()) == 2
    assert second.writes() == {schedule.outputs[1]}
    total, product = run(recomputed, x, bar)
    np.testing.assert_allclose(total, np.tanh(2 * x).sum(), rtol=1e-12)
    np.testing.assert_allclose(product, np.tanh(2 * x) * bar, rtol=1e-12)


def test_without_the_barrier_it_would_be_one_kernel():
    x, bar = random.normal(size=(2, 30, 40))

    def together(x, bar):
        y = x * 2.0
        return pb.sum(pb.tanh(y)), pb.tanh(y) * bar

    assert len(scheduled(together, x, bar).kernels) == 1


def test_a_view_behind_a_barrier_waits_too():
    def f(x):
        y = x * 2.0
        passed, _ = Barrier().outputs(y, pb.sum(y))
        return passed.T[1:] + 1.0

    x = random.normal(size=(5, 6))
    assert len(scheduled(f, x).kernels) == 2
    np.testing.assert_array_equal(run(f, x)[0], 2 * x.T[1:] + 1.0)


def test_what_a_barrier_passes_may_be_an_output():
    def f(x):
        return Barrier().outputs(x * 2.0, x)

    x = random.normal(size=(3,))
    doubled, same = run(f, x)
    np.testing.assert_array_equal(doubled, 2 * x)
    np.testing.assert_array_equal(same, x)


def test_rows_are_views():
    def f(x):
        first, second, third = Rows(3).outputs(x.T * 2.0)
        return first * second + third

    x = random.normal(size=(7, 3))
    assert not any(isinstance(kernel, Call) for kernel in scheduled(f, x).kernels)
    expected = 4 * x[:, 0] * x[:, 1] + 2 * x[:, 2]
    np.testing.assert_allclose(run(f, x)[0], expected, rtol=1e-15)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_check_that_fails_is_an_error_on_its_line(threads):
    def positive(x):
        return Check("not positive").outputs(pb.all(x > 0.0), x)[0] * 2.0

    x = np.array([1.0, 2.0])
    with override(cache="off"):
        program = Program(scheduled(positive, x), threads)
    np.testing.assert_array_equal(program([x])[0], 2 * x)
    with pytest.raises(LoopLimitError, match=r"check at .* in positive: not positive"):
        program([-x])
    np.testing.assert_array_equal(program([x])[0], 2 * x)
