"""Sums over the steps of a backward loop follow the loop."""

import numpy as np

import pullback as pb
from pullback.ops.contract import Contract
from pullback.ops.layout import Flip
from pullback.ops.reduce import Sum
from pullback.ops.scan import Scan
from pullback.passes.loop_order import in_loop_order
from pullback.passes.pipeline import optimize, simplify
from pullback.transforms.tree import map_leaves


def loss(params, x):
    """x (batch, steps, 3): the product of all inputs is made before the loop."""
    inner, outer, bias = params
    rows = pb.moveaxis(x @ outer + bias, 1, 0)
    end, _ = pb.scan(lambda h, row: (pb.tanh(row + h @ inner), None), pb.zeros((2, 4)), rows)
    return pb.sum(end**2)


PARAMS = np.ones((4, 4), np.float32), np.ones((3, 4), np.float32), np.ones(4, np.float32)


def traced(f, *args):
    return pb.trace(f, *map_leaves(pb.asarray, args))


def test_products_and_sums_follow_the_backward_loop():
    graph = simplify(traced(pb.grad(loss), PARAMS, np.ones((2, 6, 3), np.float32)))
    made = in_loop_order(graph)
    maker = {y: node for node in made.nodes for y in node.outputs}
    (backward,) = [node for node in made.nodes if isinstance(node.op, Scan) and node.op.reverse]
    sums = [maker[y] for y in made.outputs]
    products = [node for node in sums if isinstance(node.op, Contract)]
    assert len(products) == 2
    for node in products:
        for x in node.inputs:
            assert isinstance(maker[x].op, Flip)
            assert x.shape[:2] == (6, 2)  # steps, and the batch inside each
    (of_bias,) = [node for node in sums if isinstance(node.op, Sum)]
    assert of_bias.op.axes == (0,)
    assert maker[of_bias.inputs[0]] is backward  # a row for each step, made in the loop
    assert in_loop_order(made) is made
    better = optimize(made)
    assert optimize(better) is better


def test_nothing_else_changes():
    graph = simplify(traced(loss, PARAMS, np.ones((2, 6, 3), np.float32)))
    assert in_loop_order(graph) is graph
    short = simplify(traced(pb.grad(loss), PARAMS, np.ones((2, 3, 3), np.float32)))
    assert in_loop_order(short) is short
