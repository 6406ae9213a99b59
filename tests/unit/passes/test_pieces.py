"""Sums of padded pieces become concatenations, and these are stored piece by piece."""

import numpy as np
import pytest

import pullback as pb
from pullback.backend.program import Program
from pullback.ir.builder import record
from pullback.ir.interpret import interpret
from pullback.ir.types import TensorType, float32
from pullback.ops.layout import Concat, Pad
from pullback.passes.pipeline import optimize
from pullback.schedule.fuse import fuse


def padded(x, low, high):
    return Pad((0, low), (0, high), (0, 0))(x)


def split_gates(n, m):
    """The gradient of four gates cut from one array."""

    def loss(x):
        a, b, c, d = (x[:, k * m : (k + 1) * m] for k in range(4))
        return pb.sum(a * b + pb.tanh(c) * d)

    x = np.random.default_rng(0).standard_normal((n, 4 * m)).astype(np.float32)
    return pb.grad(loss), x


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_touching_pieces_are_joined_in_any_order(order):
    def total(*parts):
        pads = [padded(x, 4 * i, 8 - 4 * i) for i, x in enumerate(parts)]
        first, second, third = (pads[i] for i in order)
        return (first + second + third,)

    graph = record(total, [TensorType((3, 4), float32)] * 3)
    after = optimize(graph)
    assert [node.op for node in after.nodes if isinstance(node.op, Pad)] == []
    assert sum(isinstance(node.op, Concat) for node in after.nodes) == 1
    parts = [np.full((3, 4), x, np.float32) for x in (1.0, -0.0, np.nan)]
    expected, found = interpret(graph, parts)[0], interpret(after, parts)[0]
    np.testing.assert_array_equal(expected.view(np.uint32), np.asarray(found).view(np.uint32))


@pytest.mark.parametrize("gap", [1, -1])
def test_pieces_that_do_not_touch_stay(gap):
    def total(x, y):
        return (padded(x, 0, 4 + gap) + padded(y, 4 + gap, 0),)

    graph = record(total, [TensorType((3, 4), float32)] * 2)
    assert optimize(graph) is graph


@pytest.mark.parametrize(("n", "m"), [(3, 6), (3, 8), (6, 4), (3, 16), (2, 20), (5, 64), (1, 7)])
def test_pieces_are_stored_where_they_belong(n, m):
    f, x = split_gates(n, m)
    compiled = pb.compile(f)
    np.testing.assert_allclose(np.asarray(compiled(x)), np.asarray(f(x)), rtol=1e-5, atol=1e-6)
    schedule = compiled.lower(x).schedule
    assert len(schedule.kernels) == 1
    assert "concat" not in str(schedule)


def test_a_part_that_others_read_is_joined_by_a_kernel():
    def function(x, y):
        part = pb.tanh(x)
        return Concat(1)(part, pb.exp(y)), pb.matmul(pb.matrix_transpose(part), part)

    kinds = [TensorType((3, 4), float32)] * 2
    graph = record(function, kinds)
    given = [np.random.default_rng(i).standard_normal((3, 4)).astype(np.float32) for i in range(2)]
    for x, y in zip(Program(fuse(graph))(given), interpret(graph, given), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
