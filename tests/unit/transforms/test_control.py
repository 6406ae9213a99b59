"""cond, scan, while_loop, fori_loop: the same as Python's control flow, in every mode."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from goldens import without_places
from pullback.errors import (
    DTypeError,
    LoopLimitError,
    NotDifferentiableError,
    ShapeError,
    StructureError,
    TracedValueError,
)
from pullback.ir.graph import graph_flops
from pullback.ops.scan import Scan
from pullback.transforms.trace import trace

RNG = np.random.default_rng(0)
W = RNG.normal(size=(3, 3)) / 2
U = RNG.normal(size=(3, 2))
H = RNG.normal(size=3)
XS = RNG.normal(size=(4, 2))
BATCH = RNG.normal(size=(5, 4, 2))


def cell(w, u, h, x):
    return pb.tanh(pb.sum(w * h, axis=1) + pb.sum(u * x, axis=1))


def rnn(w, u, h, xs):
    """A recurrent network by `scan`; returns a scalar that every step touches."""

    def step(h, x):
        h = cell(w, u, h, x)
        return h, pb.sum(h * h)

    h, losses = pb.scan(step, h, xs)
    return pb.sum(losses) + pb.sum(h)


def unrolled(w, u, h, xs):
    """`rnn` by a Python loop."""
    total = 0.0
    for i in range(xs.shape[0]):
        h = cell(w, u, h, xs[i])
        total = total + pb.sum(h * h)
    return total + pb.sum(h)


def recorded(f):
    """`f` as one example of a batch of one: its control flow becomes nodes of an abstract trace."""

    def alone(*args):
        batch = [np.asarray(x)[None] for x in args]
        out = pb.vmap(f)(*batch)
        return tuple(y[0] for y in out) if isinstance(out, tuple) else out[0]

    return alone


WAYS = (lambda f: f, recorded)


def close(left, right, tolerance=1e-12):
    left, right = (x if isinstance(x, tuple) else (x,) for x in (left, right))
    for a, b in zip(left, right, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=tolerance, atol=tolerance)


# ---- scan -----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS, ids=["eager", "recorded"])
def test_scan_is_the_python_loop(way):
    close(way(rnn)(W, U, H, XS), unrolled(W, U, H, XS))
    every = (0, 1, 2, 3)
    close(way(pb.grad(rnn, every))(W, U, H, XS), pb.grad(unrolled, every)(W, U, H, XS))


def test_scan_second_order():
    def curvature(f):
        return pb.grad(lambda w: pb.sum(pb.grad(f)(w, U, H, XS) * pb.cos(w)))

    close(curvature(rnn)(W), curvature(unrolled)(W))
    close(recorded(curvature(rnn))(W), curvature(unrolled)(W))
    close(
        recorded(lambda w: pb.hvp(lambda v: rnn(v, U, H, XS), (w,), (w,)))(W),
        pb.hvp(lambda v: unrolled(v, U, H, XS), (W,), (W,)),
    )


def test_scan_forward_mode():
    arguments, tangents = (W, U, H, XS), (U @ U.T, U, H, XS)
    _, expected = pb.jvp(unrolled, arguments, tangents)
    close(pb.jvp(rnn, arguments, tangents)[1], expected)
    pushed = recorded(lambda *args: pb.jvp(rnn, args, tangents)[1])
    close(pushed(*arguments), expected)


def test_scan_per_example_gradients():
    batched = pb.vmap(pb.grad(rnn), in_axes=(None, None, None, 0))(W, U, H, BATCH)
    for example, gradient in zip(BATCH, batched.numpy(), strict=True):
        close(gradient, pb.grad(unrolled)(W, U, H, example))
    over = pb.grad(lambda w: pb.sum(pb.vmap(rnn, in_axes=(None, None, None, 0))(w, U, H, BATCH)))
    close(over(W), batched.numpy().sum(axis=0))


def test_scan_reversed_rows_keep_their_places():
    def sums(total, x):
        return total + x, total + x

    for way in WAYS:
        last, ys = way(lambda x: pb.scan(sums, x[0] * 0, x, reverse=True))(XS)
        close(ys, np.cumsum(XS[::-1], axis=0)[::-1])
        close(last, XS.sum(axis=0))


def test_scan_of_containers():
    def step(state, row):
        return {"n": state["n"] + 1, "s": state["s"] + row["a"]}, (state["n"], None)

    def run(a, b):
        carry, (counts, nothing) = pb.scan(step, {"n": 0, "s": a[0] * 0}, {"a": a, "b": b})
        assert nothing is None
        return carry["s"], counts

    for way in WAYS:
        close(way(run)(XS, np.arange(4)), (XS.sum(axis=0), np.arange(4)))


def test_scan_without_rows():
    carry, ys = pb.scan(lambda c, _: (c * 2.0, None), 1.0, length=5)
    assert float(carry) == 32.0
    assert ys is None


def test_scan_of_length_zero():
    def run(c):
        carry, (_, doubled) = pb.scan(lambda c, x: (c + x, (c, x * 2)), c, XS[:0])
        return carry, doubled

    for way in WAYS:
        carry, doubled = way(run)(XS[0])
        close(carry, XS[0])
        assert doubled.shape == (0, 2)


def test_nested_scans():
    def outer(h, block):
        h, _ = pb.scan(lambda h, x: (cell(W, U, h, x), None), h, block)
        return h, pb.sum(h)

    def by_scan(h, blocks):
        h, ys = pb.scan(outer, h, blocks)
        return pb.sum(ys * ys) + pb.sum(h)

    def by_loop(h, blocks):
        total = 0.0
        for i in range(blocks.shape[0]):
            for j in range(blocks.shape[1]):
                h = cell(W, U, h, blocks[i][j])
            total = total + pb.sum(h) * pb.sum(h)
        return total + pb.sum(h)

    expected = pb.grad(by_loop, (0, 1))(H, BATCH)
    close(pb.grad(by_scan, (0, 1))(H, BATCH), expected)
    close(recorded(pb.grad(by_scan, (0, 1)))(H, BATCH), expected)


def scans(graph):
    return [node for node in graph.nodes if isinstance(node.op, Scan)]


def test_what_a_scan_keeps():
    """Loop-invariant residuals and rows of xs are not stacked: a result is not stacked twice."""

    def loss(w, u, h, xs):
        def step(h, x):
            h = pb.tanh(pb.sum(pb.exp(w) * h, axis=1) + pb.sum(u * x, axis=1))
            return h, h

        return pb.sum(pb.scan(step, h, xs)[1])

    forward, backward = scans(trace(pb.grad(loss, (0, 1, 2)), W, U, H, XS))
    results = forward.outputs
    stacked = [x.type for x in results[1:]]
    # The result h, the derivative of tanh, the carry on entry of each step: vectors all.
    assert [str(kind) for kind in stacked] == ["float64[4,3]"] * 3
    rows = backward.inputs[backward.op.constants + backward.op.carries :]
    constants = backward.inputs[: backward.op.constants]
    assert any(x.type.shape == W.shape for x in constants)  # exp(w), computed once
    assert not any(x.type.shape[1:] == W.shape for x in rows)
    assert any(x.type.shape == XS.shape for x in rows)  # the operand itself


def test_scan_costs_its_steps():
    graph = trace(rnn, W, U, H, XS)
    (loop,) = scans(graph)
    (short,) = scans(trace(rnn, W, U, H, XS[:2]))
    types = [x.type for x in loop.inputs], [x.type for x in loop.outputs]
    assert loop.op.flops(*types) == 4 * graph_flops(loop.op.body) == 2 * short.op.flops(*types)


# ---- while and for --------------------------------------------------------------------------


def grow(x, limit=10.0, max_steps=8):
    """Square until the limit is passed; counts the steps in the carry."""

    def body(state):
        y, i = state
        return y * y * 1.5, i + 1

    return pb.while_loop(lambda state: state[0] < limit, body, (x, 0), max_steps)


def grown(x, limit=10.0):
    while x < limit:
        x = x * x * 1.5
    return x


STARTS = np.array([1.2, 2.0, 4.0, 20.0])


def test_while_is_the_python_loop():
    for x in STARTS:
        close(pb.grad(lambda x: grow(x, max_steps=None)[0])(x), pb.grad(grown)(x))
        close(recorded(pb.grad(lambda x: grow(x)[0]))(x), pb.grad(grown)(x))
        close(
            recorded(lambda x: pb.jvp(lambda x: grow(x)[0], (x,), (x,))[1])(x),
            x * float(pb.grad(grown)(x)),
        )
        second = pb.grad(pb.grad(grown))(x)
        close(recorded(pb.grad(pb.grad(lambda x: grow(x)[0])))(x), second)


def test_while_per_example_trip_counts():
    values, steps = pb.vmap(grow)(STARTS)
    close(values, np.array([float(grown(x)) for x in STARTS]))
    close(steps, np.array([int(grow(x)[1]) for x in STARTS]))
    gradients = pb.vmap(pb.grad(lambda x: grow(x)[0]))(STARTS)
    close(gradients, np.array([float(pb.grad(grown)(x)) for x in STARTS]))
    through = pb.grad(lambda xs: pb.sum(pb.vmap(lambda x: grow(x)[0])(xs)))(STARTS)
    close(through, gradients)


def test_ended_examples_cannot_poison_a_shared_gradient():
    """The step divides by the distance to go, which is 0 for an example that has arrived."""

    def walk(w, x):
        return pb.while_loop(lambda y: y > 0.0, lambda y: y - w * pb.sqrt(y) / pb.sqrt(y), x, 5)

    def loss(w):
        return pb.sum(pb.vmap(walk, in_axes=(None, 0))(w, np.array([0.0, 1.0, 2.0, 3.0])))

    assert float(pb.grad(loss)(np.array(1.0))) == -6.0


def test_while_batches_only_what_differs():
    def counted(x):
        def body(state):
            i, y = state
            return i + 1, y * x

        return pb.while_loop(lambda state: state[0] < 3, body, (0, x))

    steps, cubes = pb.vmap(counted, out_axes=(None, 0))(STARTS)  # None: the counter has no batch
    assert int(steps) == 3
    close(cubes, STARTS**4)


def test_step_limit():
    with pytest.raises(LoopLimitError, match="max_steps=2"):
        grow(1.2, max_steps=2)
    with pytest.raises(LoopLimitError, match="max_steps=2"):
        pb.vmap(lambda x: grow(x, max_steps=2))(STARTS)
    with pytest.raises(LoopLimitError, match="max_steps=2"):
        pb.vmap(pb.grad(lambda x: grow(x, max_steps=2)[0]))(STARTS)


def test_fori_loop():
    def power(x, n=5):
        return pb.fori_loop(0, n, lambda i, y: y * x, x * 0 + 1)

    for x in STARTS:
        close(pb.grad(power)(x), 5 * x**4)
        close(recorded(pb.grad(power))(x), 5 * x**4)
    counts = np.arange(4)
    close(pb.vmap(power)(STARTS, counts), STARTS**counts)
    weights = pb.fori_loop(2, 5, lambda i, total: total + i, 0)
    assert int(weights) == 2 + 3 + 4
    assert int(pb.fori_loop(5, 2, lambda i, total: total + i, 7)) == 7
    close(
        recorded(lambda x: pb.fori_loop(2, 5, lambda i, y: y * i.astype(pb.float64), x))(2.0), 48.0
    )


def test_values_are_visible_while_it_runs():
    seen = []

    def body(state):
        seen.append(float(state))
        return state * 2.0

    pb.grad(lambda x: pb.while_loop(lambda y: y < 8.0, body, x))(1.0)
    assert seen == [1.0, 2.0, 4.0]


# ---- cond -----------------------------------------------------------------------------------


def pieces(x, w):
    return pb.cond(x > 0, lambda x, w: pb.log(x) * x * w, lambda x, w: x * w * w, x, w)


def test_cond_takes_one_branch():
    for x in (2.0, -2.0):
        f = pb.log(x) * x * 3.0 if x > 0 else x * 9.0
        for way in WAYS:
            close(way(pieces)(np.array(x), np.array(3.0)), f, 1e-6)
    assert float(pb.cond(True, lambda: 1.0, lambda: 1 / 0)) == 1.0


def test_cond_derivatives():
    x = np.array([2.0, -2.0, 0.0, 0.5])
    by_x = np.where(x > 0, 3 * (np.log(np.where(x > 0, x, 1)) + 1), 9.0)
    by_w = np.where(x > 0, x * np.log(np.where(x > 0, x, 1)), 6 * x)
    gradient = pb.grad(pieces, (0, 1))
    close(pb.vmap(gradient, in_axes=(0, None))(x, np.array(3.0)), (by_x, by_w))
    total = pb.grad(lambda w: pb.sum(pb.vmap(pieces, in_axes=(0, None))(x, w)))
    close(total(np.array(3.0)), by_w.sum())  # log 0 and log -2 were computed, and count for nothing
    second = pb.vmap(pb.grad(pb.grad(pieces)), in_axes=(0, None))(x, np.array(3.0))
    close(second, np.where(x > 0, 3 / np.where(x > 0, x, 1), 0))


def test_cond_with_a_shared_predicate_stays_a_choice():
    def f(flag, x):
        return pb.cond(flag, lambda x: x * x, lambda x: x + 1.0, x)

    graph = trace(pb.vmap(f, in_axes=(None, 0)), np.array(True), STARTS)
    assert [node.op.name for node in graph.nodes].count("cond") == 1
    close(pb.vmap(pb.grad(f, 1), in_axes=(None, 0))(np.array(True), STARTS), 2 * STARTS)
    close(pb.vmap(pb.grad(f, 1), in_axes=(None, 0))(np.array(False), STARTS), np.ones(4))


def test_cond_inside_scan():
    def step(h, x):
        h = pb.cond(pb.sum(x) > 0, lambda h: h * 2.0, lambda h: h * h, h)
        return h, h

    def f(h):
        return pb.sum(pb.scan(step, h, XS)[1])

    close(recorded(pb.grad(f))(H), pb.grad(f)(H))


# ---- captured values ------------------------------------------------------------------------


def test_captured_values_are_differentiated():
    def f(w):
        doubled = w * 2.0
        kept = pb.scan(lambda c, x: (c * doubled + x, None), w, length=3, xs=np.ones(3))[0]
        chosen = pb.cond(w > 0, lambda: doubled * doubled, lambda: doubled)
        stepped = pb.while_loop(lambda y: y < 9.0, lambda y: y * doubled, w, max_steps=6)
        return kept * chosen * stepped

    w = np.array(1.3)
    close(recorded(pb.grad(f))(w), pb.grad(f)(w))


# ---- against JAX ----------------------------------------------------------------------------


def test_against_jax():
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    np_ = jax.numpy

    def reference(w, u, h, xs):
        def step(h, x):
            h = np_.tanh((w * h).sum(1) + (u * x).sum(1))
            return h, (h * h).sum()

        h, losses = jax.lax.scan(step, h, xs)
        return losses.sum() + h.sum()

    theirs = jax.grad(reference, (0, 1, 2, 3))(W, U, H, XS)
    close(recorded(pb.grad(rnn, (0, 1, 2, 3)))(W, U, H, XS), tuple(map(np.asarray, theirs)))
    choice = jax.grad(lambda x: jax.lax.cond(x > 0, np_.sin, np_.cos, x))
    ours = pb.vmap(pb.grad(lambda x: pb.cond(x > 0, pb.sin, pb.cos, x)))(XS[:, 0])
    close(ours, np.array([choice(x) for x in XS[:, 0]]))
    product = jax.grad(lambda x: jax.lax.fori_loop(0, 5, lambda i, y: np_.sin(y * x) + i, x))
    mine = pb.grad(
        lambda x: pb.fori_loop(0, 5, lambda i, y: pb.sin(y * x) + i.astype(pb.float64), x)
    )
    close(mine(np.array(0.7)), np.asarray(product(0.7)))


# ---- what is refused ------------------------------------------------------------------------


def message(error, function, *args):
    with pytest.raises(error) as caught:
        function(*args)
    return without_places(str(caught.value))


def test_messages(golden):
    x = np.ones(3)
    traced = pb.vmap(lambda n: pb.scan(lambda c, _: (c, None), 1.0, length=n)[0])
    cases = [
        message(StructureError, lambda: pb.scan(lambda c, x: ((c, c), None), 1.0, x)),
        message(ShapeError, lambda: pb.scan(lambda c, x: ({"h": x}, None), {"h": x}, x)),
        message(DTypeError, lambda: pb.scan(lambda c, x: (c + x, None), 0.0, x)),
        message(StructureError, lambda: pb.scan(lambda c, x: c, 1.0, x)),
        message(ShapeError, lambda: pb.scan(lambda c, x: (c, None), 1.0, (x, x[:2]))),
        message(ShapeError, lambda: pb.scan(lambda c, x: (c, None), 1.0)),
        message(TracedValueError, traced, np.arange(3)),
        message(DTypeError, lambda: pb.while_loop(lambda c: c, lambda c: c, 1.0)),
        message(ShapeError, lambda: pb.while_loop(lambda c: c > 0, lambda c: c, x)),
        message(DTypeError, lambda: pb.while_loop(lambda c: c < 3.0, lambda c: c + 1.5, 1)),
        message(LoopLimitError, lambda: grow(1.2, max_steps=2)),
        message(
            NotDifferentiableError,
            pb.vmap(pb.grad(lambda x: grow(x, max_steps=None)[0])),
            STARTS,
        ),
        message(DTypeError, lambda: pb.cond(1, lambda: 1, lambda: 2)),
        message(ShapeError, lambda: pb.cond(x > 0, lambda: 1, lambda: 2)),
        message(
            StructureError,
            pb.vmap(lambda x: pb.cond(x > 0, lambda x: (x, x), lambda x: x, x)),
            x,
        ),
        message(DTypeError, pb.vmap(lambda x: pb.cond(x > 0, lambda x: x, lambda x: 1, x)), x),
        message(DTypeError, lambda: pb.fori_loop(0, np.array(2.5), lambda i, c: c, 1.0)),
    ]
    golden("errors/control", "\n\n".join(cases))
