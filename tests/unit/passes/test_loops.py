"""What every step of a loop computes alike is computed once, to the bit."""

from __future__ import annotations

import numpy as np

import pullback as pb
from pullback.ir.interpret import interpret
from pullback.ops.scan import Scan
from pullback.passes.pipeline import optimize
from pullback.transforms.trace import trace

random = np.random.default_rng(4)


def normal(*shape):
    return random.normal(size=shape) / 2


def optimized(f, *inputs):
    before = trace(f, *inputs)
    after = optimize(before)
    for x, y in zip(interpret(before, inputs), interpret(after, inputs), strict=True):
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()
    (loop,) = [node for node in after.nodes if isinstance(node.op, Scan)]
    outside = [node.op.name for node in after.nodes if node is not loop]
    return outside, [node.op.name for node in loop.op.body.nodes]


def test_what_depends_on_constants_alone_leaves_the_loop():
    def f(w, mask, h, rows):
        return pb.scan(lambda h, x: (pb.tanh(h @ (w * mask).T + x), None), h, rows)[0]

    outside, inside = optimized(f, normal(4, 4), normal(4, 4), normal(3, 4), normal(5, 3, 4))
    assert outside == ["multiply"]
    assert "multiply" not in inside


def test_chains_leave_together_and_layouts_stay():
    def f(a, b, h, rows):
        def step(h, x):
            scale = pb.exp(pb.sin(a)) + b
            return h * scale + x, pb.broadcast_to(pb.cos(b), h.shape) * x

        return pb.scan(step, h, rows)

    outside, inside = optimized(f, normal(4), normal(4), normal(3, 4), normal(5, 3, 4))
    assert sorted(outside) == ["add", "cos", "exp", "sin"]
    assert sorted(set(inside)) == ["add", "multiply"]


def test_what_depends_on_nothing_stays():
    def f(h):
        return pb.scan(lambda h, _: (h * pb.sin(pb.arange(4.0)), None), h, length=3)[0]

    outside, inside = optimized(f, normal(4))
    assert outside == []
    assert "sin" in inside


def test_a_loop_of_no_steps_computes_nothing():
    def f(w, h, rows):
        return pb.scan(lambda h, x: (h * pb.exp(w) + x, None), h, rows)[0]

    outside, _ = optimized(f, normal(4), normal(4), np.zeros((0, 4)))
    assert outside == []


def test_inner_loops_hand_outwards():
    def f(w, h, rows):
        def outer(h, row):
            return pb.scan(lambda h, x: (pb.tanh(h * pb.exp(w) + x), None), h, row)[0], None

        return pb.scan(outer, h, rows)[0]

    outside, inside = optimized(f, normal(4), normal(4), normal(2, 3, 4))
    assert outside == ["exp"]
    assert inside == ["scan"]


def test_equal_results_of_each_step_are_stacked_once():
    def step(h, x):
        y = pb.tanh(h + x)
        return y, (y * 2.0, y * 2.0, h)

    def run(h, xs):
        return pb.scan(step, h, xs)

    h, xs = np.float32(0.5), np.linspace(-1, 1, 5).astype(np.float32)
    compiled = pb.compile(run)
    (loop,) = [n.op for n in compiled.lower(h, xs).optimized.nodes if n.op.name == "scan"]
    assert len(loop.body.outputs) == 3
    last, (a, b, c) = compiled(h, xs)
    expected, (x, y, z) = run(h, xs)
    for found, wanted in zip((last, a, b, c), (expected, x, y, z), strict=True):
        np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=1e-6)
