"""Ops that a program calls back in Python: results, counts, failures, interrupts."""

from __future__ import annotations

import gc
import signal
import weakref

import numpy as np
import pytest

import pullback as pb
from pullback._settings import override
from pullback.backend.program import Program
from pullback.errors import SingularMatrixError
from pullback.ir.types import TensorType
from pullback.ops.linalg import Cholesky
from pullback.schedule.fuse import fuse
from pullback.transforms.trace import trace

random = np.random.default_rng(3)


def compiled(f, *inputs, threads=2):
    graph = trace(f, *[TensorType(x.shape, x.dtype) for x in inputs])
    with override(cache="off"):
        return Program(fuse(graph), threads)


def regular(*shape):
    return 2 * np.eye(shape[-1]) + 0.3 * random.normal(size=(*shape, shape[-1]))


def twice(a, b):
    return pb.linalg.inv(pb.linalg.solve(a, b) * 2.0) + 1.0


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_results_are_those_of_the_reference(threads):
    a, b = regular(3), regular(3)
    program = compiled(twice, a, b, threads=threads)
    expected = np.linalg.inv(np.linalg.solve(a, b) * 2.0) + 1.0
    for _ in range(3):
        np.testing.assert_array_equal(program([a, b])[0], expected)


def test_calls_are_counted_and_told(capsys):
    program = compiled(twice, regular(3), regular(3))
    assert [callback.op.name for callback in program.callbacks] == ["solve", "inv"]
    program([regular(3), regular(3)])
    with override(log=frozenset({"run"})):
        program([regular(3), regular(3)])
    assert [callback.calls for callback in program.callbacks] == [2, 2]
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert told[0].startswith("pullback run: solve called back in Python")
    assert "in twice" in told[0]


def test_no_address_in_the_text():
    assert (
        compiled(twice, regular(3), regular(3)).text == compiled(twice, regular(3), regular(3)).text
    )


@pytest.mark.parametrize("threads", [1, 3])
def test_a_singular_matrix_is_an_error_on_the_users_line(threads):
    program = compiled(twice, regular(3), regular(3), threads=threads)
    with pytest.raises(SingularMatrixError, match=r"solve at .* in twice: the matrix is singular"):
        program([np.zeros((3, 3)), regular(3)])
    a, b = regular(3), regular(3)
    np.testing.assert_array_equal(program([a, b])[0], twice(pb.asarray(a), pb.asarray(b)).numpy())


def test_of_two_equal_kernels_each_tells_its_own_line():
    def f(a, b):
        first = pb.linalg.inv(a)
        second = pb.linalg.inv(b)
        return first, second

    good, bad = regular(3), np.zeros((3, 3))
    program = compiled(f, good, good)
    lines = []
    for inputs in ((bad, good), (good, bad), (bad, bad)):
        with pytest.raises(SingularMatrixError) as raised:
            program(inputs)
        lines.append(raised.value.site.frame.line)
    assert lines[1] == lines[0] + 1
    assert lines[2] == lines[0]
    program([good, good])


@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_inside_comes_out(threads, monkeypatch):
    program = compiled(pb.linalg.cholesky, np.eye(2), threads=threads)
    plain = Cholesky.reference

    def interrupted(self, a):
        signal.raise_signal(signal.SIGINT)
        return plain(self, a)

    monkeypatch.setattr(Cholesky, "reference", interrupted)
    # A process started in the background of a shell ignores the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            program([np.eye(2)])
    finally:
        signal.signal(signal.SIGINT, before)
    monkeypatch.setattr(Cholesky, "reference", plain)
    np.testing.assert_array_equal(program([np.eye(2)])[0], np.eye(2))


def test_a_call_inside_may_run_another_program(monkeypatch):
    inner = compiled(lambda x: x + 1.0, np.eye(2))
    outer = compiled(pb.linalg.cholesky, np.eye(2))
    monkeypatch.setattr(Cholesky, "reference", lambda self, a: inner([a])[0])
    np.testing.assert_array_equal(outer([np.eye(2)])[0], np.eye(2) + 1.0)


def test_empty_matrices():
    empty = np.zeros((0, 0))
    assert compiled(pb.linalg.inv, empty)([empty])[0].shape == (0, 0)
    assert compiled(pb.linalg.det, empty)([empty])[0] == 1.0


def test_no_cycle_holds_the_memory():
    program = compiled(twice, regular(3), regular(3))
    program([regular(3), regular(3)])
    gone = weakref.ref(program)
    gc.disable()
    try:
        del program
        assert gone() is None
    finally:
        gc.enable()


def test_gradients_through_callbacks():
    def f(a, b):
        return pb.grad(lambda a: pb.sum(pb.linalg.solve(a, b)) + pb.linalg.slogdet(a)[1])(a)

    a, b = regular(2, 3), regular(2, 3)
    np.testing.assert_allclose(
        compiled(pb.vmap(f), a, b)([a, b])[0],
        pb.vmap(f)(pb.asarray(a), pb.asarray(b)).numpy(),
        rtol=1e-12,
    )


def test_a_failure_in_a_loop_is_not_forgotten():
    """A later step that goes well does not hide it."""
    good = np.eye(2)
    rows = np.stack([good, -np.ones((2, 2)), good])

    def f(x, rows):
        return pb.scan(lambda h, r: (h + pb.linalg.solve(r, x), None), x, rows)[0]

    program = compiled(f, good, rows)
    assert program([good, np.stack([good] * 3)])[0].tolist() == (4 * good).tolist()
    with pytest.raises(SingularMatrixError):
        program([good, rows])
    assert program([good, np.stack([good] * 3)])[0].tolist() == (4 * good).tolist()
