"""Layouts vanish, or become index maps."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from pullback.ir.families import Elementwise
from pullback.ir.graph import Graph
from pullback.ir.op import Op
from pullback.ir.types import float64
from pullback.ops.contract import Contract
from pullback.ops.layout import Broadcast, Layout, Reshape, Transpose
from pullback.ops.reduce import Reduction
from pullback.passes.check import same_numbers, values
from pullback.passes.layout import SINKING
from pullback.passes.pipeline import optimize
from pullback.passes.rewrite import sweep
from unit.passes.models import training_step

READS_STRIDES = (Elementwise, Contract, Reduction, Layout)


def copies(graph: Graph) -> int:
    """Layout nodes that need a copy where others are strides into a buffer, as NumPy's views are.

    A reshape of a view that strides cannot express; and a view that a result, or an op which
    reads rows alone, asks for.
    """
    base: dict[object, np.ndarray] = {x: np.empty(x.shape, np.int8) for x in graph.inputs}
    copied = set()

    def laid_out(x):
        if not base[x].flags.c_contiguous:
            copied.add(x)

    for node in graph.nodes:
        if isinstance(node.op, (Broadcast, Transpose, Reshape)):
            source = base[node.inputs[0]]
            view = node.op.reference(source)
            if source.size and not np.shares_memory(view, source):
                copied.add(node.outputs[0])
            base[node.outputs[0]] = view
            continue
        if not isinstance(node.op, READS_STRIDES):
            for x in node.inputs:
                laid_out(x)
        base.update((x, np.empty(x.shape, np.int8)) for x in node.outputs)
    for x in graph.outputs:
        laid_out(x)
    return len(copied)


def layouts(graph: Graph, *kinds: type[Op]) -> int:
    return sum(isinstance(node.op, kinds) for node in graph.nodes)


def ops(graph: Graph) -> list[str]:
    return [node.op.name for node in graph.nodes]


def sunk(f, *shapes) -> Graph:
    arrays = [pb.asarray(np.random.default_rng(i).standard_normal(s)) for i, s in enumerate(shapes)]
    graph = pb.trace(f, *arrays)
    better = sweep(graph, SINKING)
    numbers = [x.numpy() for x in arrays]
    before, after = values(graph, numbers), values(better, numbers)
    for old, new in zip(graph.outputs, better.outputs, strict=True):
        assert same_numbers(before[old], after[new])
    return better


@pytest.mark.parametrize(("name", "before", "after"), [("mlp", 0, 0), ("cnn", 0, 0)])
def test_training_steps_without_copies(name, before, after):
    graph = training_step(name)
    assert (copies(graph), copies(optimize(graph))) == (before, after)


def test_attention_needs_no_transpose():
    graph = training_step("transformer")
    better = optimize(graph)
    assert (copies(graph), copies(better)) == (3, 0)
    assert (layouts(graph, Transpose, Broadcast), layouts(better, Transpose, Broadcast)) == (14, 0)


def test_transposes_pass_elementwise_work_and_meet():
    graph = sunk(lambda x: pb.tanh(x.T * 2.0).T, (3, 4))
    assert "transpose" not in ops(graph)


def test_transpose_passes_a_vector():
    graph = sunk(lambda x, b: (x.T + b).T, (3, 4), (3,))
    assert "transpose" not in ops(graph)


def test_transpose_stays_before_an_operand_that_it_does_not_fit():
    graph = sunk(lambda x, y: x.T + y, (3, 4), (4, 3))
    assert ops(graph) == ["transpose", "add"]


def test_reshapes_pass_elementwise_work_and_meet():
    graph = sunk(
        lambda x, y: pb.reshape(pb.reshape(x, (6,)) + pb.reshape(y, (6,)), (2, 3)), *[(2, 3)] * 2
    )
    assert ops(graph) == ["add"]


def test_broadcast_is_done_by_the_op():
    graph = sunk(lambda x, y: pb.broadcast_to(x, (4, 3)) * y, (3,), (4, 3))
    assert ops(graph) == ["multiply"]


def test_broadcast_waits_until_its_elements_are_needed():
    graph = sunk(lambda x: pb.exp(pb.broadcast_to(x, (4, 3)) * 2.0), (3,))
    assert ops(graph)[-1] == "broadcast"
    assert graph.nodes[-2].outputs[0].shape == (3,)


def test_transposed_factors_become_letters():
    graph = sunk(lambda x, y: x.T @ y.T, (3, 4), (5, 3))
    assert ops(graph) == ["contract"]


def test_transposed_product_becomes_letters():
    graph = sunk(lambda x, y: (x @ y).T, (3, 4), (4, 5))
    assert ops(graph) == ["contract"]

    def f(x, y):
        product = x @ y
        return product.T, product

    shared = sunk(f, (3, 4), (4, 5))
    assert ops(shared).count("contract") == 1


def test_order_of_two_summed_axes_is_kept():
    def f(x, y):
        return Contract("ab", "abk", "k")(Transpose((1, 0))(x), y)

    assert ops(sunk(f, (4, 3), (3, 4, 2))) == ["transpose", "contract"]


def test_factor_broadcast_over_a_batch_is_read_once():
    def f(x, w):
        return Contract("bik", "bkj", "bij")(x, Broadcast((2, 4, 5), (0,))(w))

    assert ops(sunk(f, (2, 3, 4), (4, 5))) == ["contract"]


def test_product_of_copies_is_computed_once():
    def f(x, y):
        return Contract("bi", "bj", "bij")(Broadcast((2, 3), (0,))(x), Broadcast((2, 4), (0,))(y))

    graph = sunk(f, (3,), (4,))
    assert ops(graph) == ["contract", "broadcast"]


def test_sum_over_copies_stays():
    def f(x, y):
        return Contract("bi", "bj", "ij")(Broadcast((2, 3), (0,))(x), y)

    assert ops(sunk(f, (3,), (2, 4))) == ["broadcast", "contract"]


def test_nothing_to_do_gives_the_graph_itself():
    graph = pb.trace(lambda x: pb.tanh(x) @ x, pb.asarray(np.eye(3, dtype=float64)))
    assert sweep(graph, SINKING) is graph
