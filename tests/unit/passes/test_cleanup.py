"""Literals are folded, equal applications merged, ops that do nothing removed."""

from __future__ import annotations

import math

import numpy as np
import pytest

import pullback as pb
from pullback.ir.builder import record
from pullback.ir.graph import Graph
from pullback.ir.types import TensorType, bool_, float32, int64
from pullback.ops.create import Iota
from pullback.ops.layout import Concat, Flip, Pad, Slice
from pullback.ops.operators import constant, select
from pullback.ops.pointwise import Add, Constant, Exp, StopGradient, StraightThrough, Tanh
from pullback.ops.reduce import Max, Min, Sum
from pullback.ops.remat import Barrier
from pullback.passes.cleanup import CLEANUP, PRIMAL
from pullback.passes.pipeline import optimize
from pullback.passes.rewrite import sweep

F32 = TensorType((2, 3), float32)


def cleaned(f, *types: TensorType) -> Graph:
    return sweep(record(lambda *xs: _tuple(f(*xs)), types or (F32,)), CLEANUP)


def _tuple(result):
    return result if isinstance(result, tuple) else (result,)


def ops(graph: Graph) -> list[str]:
    return [node.op.name for node in graph.nodes]


def literal(graph: Graph) -> Constant:
    (node,) = [node for node in graph.nodes if isinstance(node.op, Constant)]
    return node.op


# ---- literals -------------------------------------------------------------------------------


def test_arithmetic_on_literals_is_done_now():
    graph = cleaned(lambda x: x * (constant(1.0, float32) / 3.0 + 2.0))
    assert ops(graph) == ["constant", "multiply"]
    assert np.float32(literal(graph).value) == np.float32(1) / np.float32(3) + np.float32(2)


def test_a_filled_array_stays_symbolic():
    graph = cleaned(lambda x: x + pb.full((200, 2, 3), 2.0, dtype=float32) * 3.0)
    assert ops(graph) == ["constant", "broadcast", "add"]
    assert literal(graph).value == 6.0


def test_functions_without_defined_bits_are_not_folded():
    assert "exp" in ops(cleaned(lambda x: x + Exp()(constant(1.0, float32))))


def test_a_number_born_not_finite_is_left_to_the_program():
    assert "divide" in ops(cleaned(lambda x: x + constant(1.0, float32) / 0.0))
    assert "divide" not in ops(cleaned(lambda x: x + constant(math.inf, float32) / 2.0))


def test_literals_are_told_apart_by_their_bits():
    graph = cleaned(lambda x: (x + 0.0, x + -0.0))
    assert ops(graph).count("constant") == 2


# ---- equal applications ---------------------------------------------------------------------


def test_equal_applications_are_one():
    graph = cleaned(lambda x: (Tanh()(x) + 1.0, Tanh()(x) * 2.0))
    assert ops(graph).count("tanh") == 1


def test_operands_of_a_commutative_op_have_no_order():
    graph = cleaned(lambda x, y: (x + y) * (y + x), F32, F32)
    assert ops(graph) == ["add", "multiply"]
    assert ops(cleaned(lambda x, y: (x - y) * (y - x), F32, F32)).count("subtract") == 2


def test_a_barrier_keeps_copies_apart():
    def f(x):
        (held,) = Barrier().outputs(x)
        return Tanh()(x) + Tanh()(held), Iota(3, int64)()

    graph = cleaned(f)
    assert ops(graph).count("tanh") == 2
    assert ops(graph).count("barrier") == 1


def test_what_needs_no_input_is_not_kept_across_a_barrier():
    def f(x):
        first = Exp()(Iota(3, float32)())
        (held,) = Barrier().outputs(x)
        return first, held, Exp()(Iota(3, float32)()), Exp()(Iota(3, float32)())

    assert ops(cleaned(f)).count("exp") == 2


def test_a_recomputed_copy_stays_one():
    def loss(x):
        return pb.sum(pb.checkpoint(lambda y: pb.exp(pb.sin(y)))(x))

    graph = optimize(pb.trace(pb.grad(loss), pb.asarray([1.0, 2.0])))
    assert ops(graph).count("barrier") == 1
    assert ops(graph).count("sin") == 1  # behind the barrier: nobody asks for the first
    both = optimize(pb.trace(pb.value_and_grad(loss), pb.asarray([1.0, 2.0])))
    assert ops(both).count("sin") == 2


def test_dead_nodes_are_dropped():
    def f(x):
        Tanh()(x)
        return x + 1.0

    assert ops(cleaned(f)) == ["constant", "add"]


# ---- nothing to do --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "f",
    [
        lambda x: pb.reshape(x, (2, 3)),
        Slice((0, 0), (2, 3), (1, 1)),
        Pad((0, 0), (0, 0), (0, 0)),
        Flip(()),
        Concat(0),
        Max(()),
        Min(()),
        lambda x: Slice((0, 0), (2, 3), (1, 1))(Concat(0)(x, Tanh()(x))),
        lambda x: select(constant(True, bool_), x, Tanh()(x)),
        lambda x: select(constant(False, bool_), Tanh()(x), x),
    ],
)
def test_identities_vanish(f):
    assert ops(cleaned(f)) == []


def test_sum_of_nothing_adds_zero():
    """0 + -0 is 0."""
    graph = cleaned(Sum(()))
    assert isinstance(graph.nodes[-1].op, Add)


def test_moving_axes_of_size_one_is_a_reshape():
    graph = cleaned(lambda x: pb.permute_dims(x, (1, 0, 2)), TensorType((2, 1, 3), float32))
    assert ops(graph) == ["reshape"]


def test_only_derivatives_see_these():
    def f(x):
        return StopGradient()(pb.checkpoint(Tanh())(x))

    graph = sweep(record(lambda x: (f(x),), (F32,)), PRIMAL)
    assert ops(graph) == ["tanh"]


def test_hard_values_and_custom_rules_are_only_their_values():
    @pb.custom_derivative
    def clipped(x):
        return pb.clip(x, -1.0, 1.0)

    clipped.defvjp(lambda x: (clipped(x), None), lambda residuals, bar: (bar,))
    graph = optimize(pb.trace(lambda x: StraightThrough()(clipped(x), Tanh()(x)), F32))
    assert not {"custom", "straight_through", "tanh"} & set(ops(graph))


def test_bodies_of_loops_are_rewritten_too():
    def step(carry, x):
        return carry + pb.reshape(x, ()) * (constant(1.0, float32) + 1.0), carry

    def f(xs):
        return pb.scan(step, constant(0.0, float32), xs)

    graph = pb.trace(f, TensorType((5,), float32))
    better = optimize(graph)
    (loop,) = [node.op for node in better.nodes if node.op.name == "scan"]
    assert ops(loop.body) == ["constant", "multiply", "add"]
    assert optimize(better) is better
