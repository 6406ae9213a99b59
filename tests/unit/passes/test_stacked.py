"""A loop stacks nothing that the loop which reads it can compute from its other rows."""

import numpy as np
import pytest

import pullback as pb
from pullback.bench.workloads import SMALL, numbers
from pullback.ir.interpret import interpret
from pullback.passes.pipeline import optimize
from pullback.passes.stacked import unstacked
from pullback.transforms.trace import trace


def scans(graph):
    return [node for node in graph.nodes if node.op.name == "scan"]


def same_bits(before, after, inputs):
    for x, y in zip(interpret(before, inputs), interpret(after, inputs), strict=True):
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


@pytest.mark.parametrize("reverse", [False, True])
def test_cheap_rows_are_computed_where_they_are_read(reverse):
    def f(h, xs):
        def first(h, x):
            y = pb.tanh(h + x)
            return y, (y, 1 - y * y, pb.exp(y))

        def second(h, rows):
            y, slope, power = rows
            return h * slope + y * power, None

        last, rows = pb.scan(first, h, xs)
        return last, pb.scan(second, h, rows, reverse=reverse)[0]

    inputs = np.float64(0.3), np.linspace(-1, 1, 6)
    before = trace(f, *inputs)
    after = unstacked(before)
    one, two = scans(after)
    assert len(one.op.body.outputs) == 3  # the carry, y, exp y
    assert len(two.inputs) == 3
    same_bits(before, after, inputs)
    assert unstacked(after) is after


def test_rows_that_somebody_else_reads_stay():
    def f(h, xs):
        last, rows = pb.scan(lambda h, x: (h * x, h + x), h, xs)
        return last, rows

    before = trace(f, np.float64(0.3), np.linspace(-1, 1, 6))
    assert unstacked(before) is before


def test_rows_that_nobody_reads_are_not_stacked():
    def f(h, xs):
        return pb.scan(lambda h, x: (h * x, h + x), h, xs)[0]

    inputs = np.float64(0.3), np.linspace(-1, 1, 6)
    before = trace(f, *inputs)
    after = unstacked(before)
    assert len(scans(after)[0].op.body.outputs) == 1
    same_bits(before, after, inputs)


def test_a_recurrence_keeps_gates_and_states_alone():
    task = SMALL["lstm"]
    state, *batch = numbers(task, np.float64)
    gradient = pb.grad(task.model.loss)
    forward, _ = scans(optimize(trace(gradient, state["params"], *batch)))
    assert len(forward.op.body.outputs) <= 2 + 7  # i f g o, tanh c, the states before
