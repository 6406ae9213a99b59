"""The gradient of what a loop uses in each step: one product after the loop, not one a step."""

from __future__ import annotations

import numpy as np

import pullback as pb
from pullback.ops.contract import Contract
from pullback.ops.scan import Scan
from pullback.transforms.trace import trace

random = np.random.default_rng(2)


def normal(*shape):
    return random.normal(size=shape) / 2


def cell(w, u, b, h, rows):
    def step(h, x):
        h = pb.tanh(x @ w + h @ u + b)
        return h, h

    last, hs = pb.scan(step, h, rows)
    return pb.sum(last) + pb.sum(hs * hs)


def unrolled(w, u, b, h, rows):
    total = 0.0
    for i in range(rows.shape[0]):
        h = pb.tanh(rows[i] @ w + h @ u + b)
        total = total + pb.sum(h * h)
    return pb.sum(h) + total


def loops_of(graph):
    return [node for node in graph.nodes if isinstance(node.op, Scan)]


def products_of(nodes):
    return [node for node in nodes if isinstance(node.op, Contract)]


INPUTS = [normal(5, 6), normal(6, 6), normal(6), normal(3, 6), normal(4, 3, 5)]


def test_weights_and_biases_are_summed_after_the_loop():
    graph = trace(pb.grad(cell, argnums=(0, 1, 2)), *INPUTS)
    forward, backward = loops_of(graph)
    assert len(products_of(forward.op.body.nodes)) == 2
    assert len(products_of(backward.op.body.nodes)) == 1  # h̄ from that of the next step
    assert backward.op.carries == 1  # h̄ alone
    assert [node.outputs[0].shape for node in products_of(graph.nodes)] == [(5, 6), (6, 6)]


def test_the_gradient_is_that_of_the_loop_unrolled():
    slopes = [pb.grad(f, argnums=(0, 1, 2, 3, 4))(*INPUTS) for f in (cell, unrolled)]
    for actual, wanted in zip(*slopes, strict=True):
        np.testing.assert_allclose(actual.numpy(), wanted.numpy(), rtol=1e-12, atol=1e-14)


def test_second_derivatives_pass_through():
    def slope(f):
        return lambda *inputs: pb.sum(pb.sin(pb.grad(f, argnums=1)(*inputs)))

    curved = [pb.grad(slope(f), argnums=(0, 1, 2))(*INPUTS) for f in (cell, unrolled)]
    for actual, wanted in zip(*curved, strict=True):
        np.testing.assert_allclose(actual.numpy(), wanted.numpy(), rtol=1e-11, atol=1e-13)


def test_a_loop_that_keeps_little_stays_small():
    """A loop that computes its steps again keeps only h: wide ȳ of all steps would be far more."""

    def loss(w, h, rows):
        def step(h, x):
            wide = pb.checkpoint(lambda h, x, w: pb.sum(pb.tanh(h @ w + x), -1, keepdims=True))
            return wide(h, x, w), None

        return pb.sum(pb.scan(step, h, rows)[0])

    graph = trace(pb.grad(loss), normal(1, 50), normal(3, 1), normal(4, 3, 1))
    _, backward = loops_of(graph)
    assert backward.op.carries == 2  # h̄ and the sum of w̄
