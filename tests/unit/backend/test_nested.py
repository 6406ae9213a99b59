"""Loops and choices in native programs: values, derivatives, bits at any number of threads."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from conformance.catalogue import every_sample
from property.loops import SIZE, STATE, Loops
from pullback._settings import override
from pullback.backend import nested, turns
from pullback.backend.program import Program
from pullback.errors import LoopLimitError
from pullback.ir.op import HigherOrder, Sample
from pullback.ops.control import Check
from pullback.ops.remat import Barrier
from pullback.passes.pipeline import optimize
from pullback.schedule.fuse import fuse
from pullback.schedule.kernels import Nested
from pullback.transforms.trace import trace

random = np.random.default_rng(11)

HELD = {
    name: sample
    for name, sample in every_sample()
    if isinstance(sample.op, HigherOrder | Check | Barrier)
}


def normal(*shape):
    return random.normal(size=shape) / 2


def compiled(f, *inputs):
    return fuse(optimize(trace(f, *inputs)))


def flat(results):
    return [y for x in results for y in flat(x)] if isinstance(results, tuple) else [results]


@pytest.fixture(params=[0, turns.SMALL], ids=["shared out", "small"])
def small(monkeypatch, request):
    """With 0 every kernel is shared out among the threads, and every loop has barriers."""
    monkeypatch.setattr(turns, "SMALL", request.param)
    monkeypatch.setattr(nested, "SMALL", request.param)


@pytest.mark.parametrize("name", HELD)
def test_native_is_reference(name, small):
    sample = HELD[name]
    expected = sample.op.reference(*sample.inputs)
    schedule = compiled(sample.op.outputs, *Sample(sample.op, *sample.inputs).types)
    with override(cache="off"):
        results = Program(schedule, threads=2)([np.ascontiguousarray(x) for x in sample.inputs])
    for actual, wanted in zip(results, flat(expected), strict=True):
        np.testing.assert_allclose(actual.reshape(np.shape(wanted)), wanted, rtol=1e-12)


# ---- programs -------------------------------------------------------------------------------


def lstm(wi, wf, wg, wo, u, b, xs, h):
    def cell(state, x):
        h, c = state
        i, f, g, o = (x @ w + h @ u + b for w in (wi, wf, wg, wo))
        c = pb.sigmoid(f) * c + pb.sigmoid(i) * pb.tanh(g)
        h = pb.sigmoid(o) * pb.tanh(c)
        return (h, c), h

    (_, c), hs = pb.scan(cell, (h, h * 0.0), xs)
    return pb.sum(hs * hs) + pb.sum(c)


def with_slopes(f, count):
    return pb.value_and_grad(f, argnums=tuple(range(count)))


def scan_in_scan(a, x, rows):
    def outer(state, row):
        inner, ys = pb.scan(lambda h, r: (pb.tanh(h * a + r), h * r), state, row)
        return inner, pb.sum(ys, axis=0)

    last, sums = pb.scan(outer, x, rows)
    return pb.sum(last) + pb.sum(sums * sums)


def scan_in_cond(x, rows):
    def run(x):
        return pb.scan(lambda h, r: (h * r + 1.0, h), x, rows)[0]

    return pb.sum(pb.cond(pb.sum(x) > 0.0, run, lambda x: x * 2.0, x))


def while_in_scan(x, rows):
    def body(h, r):
        def halve(state):
            i, y = state
            return i + 1, y * 0.5 + r * 0.01

        _, y = pb.while_loop(lambda s: pb.sum(s[1] * s[1]) > 1.0, halve, (0, h), max_steps=6)
        return y + r, y

    last, ys = pb.scan(body, x, rows)
    return pb.sum(last) + pb.sum(ys)


def backwards(x, rows):
    last, ys = pb.scan(lambda h, r: (pb.sin(h) * r, h + r), x, rows, reverse=True)
    return pb.sum(last * last) + pb.sum(ys * rows)


def swapped(x, y):
    """Carries that change places, one that stays, and results that are operands."""

    def step(state, _):
        a, b, c = state
        return (b, a * 0.5, c), (a, c, a + 1.0)

    (a, b, c), ys = pb.scan(step, (x, y, x), length=5)
    return pb.sum(a * 2.0 + b) + pb.sum(c) + pb.sum(ys[0] * ys[1] * ys[2])


def recomputed(w, x):
    layer = pb.checkpoint(lambda h: pb.tanh(h @ w))

    def step(h, _):
        following = layer(h)
        return following, None

    return pb.sum(pb.scan(step, x, length=3)[0])


def accumulated(w, h, rows):
    return pb.sum(pb.scan(lambda h, r: (pb.tanh(h @ w + r), None), h, rows)[0])


CASES = {
    "lstm": (lstm, 6, [*[(5, 6)] * 4, (6, 6), (6,), (7, 3, 5), (3, 6)]),
    "scan in scan": (scan_in_scan, 2, [(4,), (4,), (3, 5, 4)]),
    "scan in cond": (scan_in_cond, 2, [(4,), (5, 4)]),
    "while in scan": (while_in_scan, 2, [(4,), (5, 4)]),
    "backwards": (backwards, 2, [(4,), (6, 4)]),
    "swapped": (swapped, 2, [(70,), (70,)]),
    "recomputed": (recomputed, 2, [(6, 6), (3, 6)]),
    "accumulated": (accumulated, 2, [(6, 6), (3, 6), (5, 3, 6)]),
}


@pytest.mark.parametrize("name", CASES)
def test_loops_and_their_gradients(name, small, tmp_path):
    f, count, shapes = CASES[name]
    inputs = [normal(*shape) for shape in shapes]
    both = with_slopes(f, count)
    schedule = compiled(both, *inputs)
    results = []
    with override(cache=str(tmp_path)):
        for threads in (1, 2, 4):
            program = Program(schedule, threads=threads)
            results += [program(inputs) for _ in range(2)]
    expected = flat(both(*map(pb.asarray, inputs)))
    for actual, wanted in zip(results[0], expected, strict=True):
        np.testing.assert_allclose(
            actual.reshape(wanted.shape), wanted.numpy(), rtol=1e-10, atol=1e-12
        )
    bits = [[y.tobytes() for y in each] for each in results]
    assert all(each == bits[0] for each in bits)


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_every_number_of_steps_ends_in_the_result(steps, small):
    x, y = normal(5), normal(5)

    def f(x, y):
        return pb.fori_loop(0, steps, lambda i, s: (s[1], s[0] * 0.5), (x, y))

    def g(x, y):
        state = pb.while_loop(
            lambda s: s[2] < steps,
            lambda s: (s[1], s[0] * 0.5, s[2] + 1),
            (x, y, 0),
        )
        return state[:2]

    for each in (f, g):
        with override(cache="off"):
            results = Program(compiled(each, x, y), threads=2)([x, y])
        for actual, wanted in zip(results, each(pb.asarray(x), pb.asarray(y)), strict=True):
            np.testing.assert_array_equal(actual, wanted.numpy())


def test_a_loop_that_goes_on_too_long_raises():
    def f(x):
        return pb.while_loop(lambda x: x > 0.0, lambda x: x + 1.0, x, max_steps=4)

    def g(x, rows):
        return pb.scan(lambda h, r: (f(h) + r, None), x, rows)[0]

    for each, inputs in ((f, [np.array(2.0)]), (g, [np.array(2.0), normal(3)])):
        with override(cache="off"):
            program = Program(compiled(each, *inputs), threads=2)
        with pytest.raises(LoopLimitError, match="max_steps=4"):
            program(inputs)
        assert program([np.array(-9.0), *[0 * x for x in inputs[1:]]])[0] == -9.0


# ---- memory ---------------------------------------------------------------------------------


def test_equal_loops_are_emitted_once():
    def f(x, rows):
        for _ in range(4):
            x = pb.scan(lambda h, r: (pb.tanh(h * r), None), x, rows)[0]
        return x

    inputs = [normal(4), normal(5, 4)]
    with override(cache="off"):
        program = Program(compiled(f, *inputs), threads=1)
    loops = [k for k in program.kernels if k.nested is not None]
    assert len(loops) == 4
    assert len({k.name for k in loops}) == 1


def test_a_carry_stays_in_its_buffer_where_it_may():
    def sums(x, rows):
        return pb.scan(lambda h, r: (h + r, None), x, rows)[0]

    inputs = [normal(1000), normal(5, 1000)]
    with override(cache="off"):
        program = Program(compiled(sums, *inputs), threads=1)
    (loop,) = program.kernels
    assert loop.nested.workspace == nested.FLAG  # no second buffer, nothing inside


def test_the_arena_holds_what_a_step_needs_once():
    """A loop over many rows takes no more memory than one over few."""

    def f(w, x, rows):
        return pb.scan(lambda h, r: (pb.tanh(h @ w + r), None), x, rows)[0]

    sizes = set()
    for length in (2, 50):
        inputs = [normal(32, 32), normal(16, 32), normal(length, 16, 32)]
        with override(cache="off"):
            sizes.add(Program(compiled(f, *inputs), threads=1).plan.arena_bytes)
    assert len(sizes) == 1


def test_what_a_loop_reads_is_not_copied():
    """Slices of an array are read where they lie."""

    def f(w, rows):
        h = rows[0]
        for i in range(3):
            h = pb.scan(lambda h, r: (pb.tanh(h * r) + w[1], None), h, rows[i : i + 4])[0]
        return h

    inputs = [normal(2, 5), normal(8, 5)]
    with override(cache="off"):
        program = Program(compiled(f, *inputs), threads=1)
    assert all(isinstance(kernel, Nested) for kernel in program.schedule.kernels)
    np.testing.assert_allclose(program(inputs)[0], f(*map(pb.asarray, inputs)).numpy(), rtol=1e-12)


def test_what_is_computed_again_is_not_kept():
    def network(keep):
        def layer(h, w):
            return pb.tanh(pb.sin(pb.tanh(h @ w) @ w) @ w)

        def loss(x, *ws):
            for w in ws:
                x = (layer if keep else pb.checkpoint(layer))(x, w)
            return pb.sum(x)

        return pb.grad(loss, argnums=(1, 2, 3, 4, 5, 6))

    inputs = [normal(256, 16), *[normal(16, 16) for _ in range(6)]]
    with override(cache="off"):
        kept, again = (
            Program(compiled(network(keep), *inputs), threads=1) for keep in (True, False)
        )
    assert again.plan.arena_bytes < kept.plan.arena_bytes / 2
    for x, y in zip(kept(inputs), again(inputs), strict=True):
        assert x.tobytes() == y.tobytes()


def test_a_loop_prints_what_is_inside():
    (kernel,) = compiled(backwards, normal(4), normal(3, 4)).kernels[:1]
    assert isinstance(kernel, Nested)
    assert "repeat 3 times, backwards" in str(kernel)


# ---- whatever may be written ----------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_random_loops(seed, monkeypatch):
    monkeypatch.setattr(turns, "SMALL", seed % 2 * turns.SMALL)
    f = with_slopes(Loops(seed), STATE)
    inputs = [*[normal(SIZE) for _ in range(STATE)], normal(3, SIZE)]
    schedule = compiled(f, *inputs)
    with override(cache="off"):
        results = Program(schedule, threads=2)(inputs)
    for actual, wanted in zip(results, flat(f(*map(pb.asarray, inputs))), strict=True):
        np.testing.assert_allclose(actual, wanted.numpy(), rtol=1e-9, atol=1e-12)
