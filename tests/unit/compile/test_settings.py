"""Settings that change what a compiled function does, or tells; a limit on its memory."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from pullback._settings import override
from pullback.errors import NonFiniteError
from pullback.passes.pipeline import BEFORE_DERIVATIVES

random = np.random.default_rng(11)


def normal(*shape, dtype=np.float32):
    return random.normal(size=shape).astype(dtype)


def test_eager_runs_python():
    seen = []

    @pb.compile
    def f(x):
        seen.append(float(x[0]))
        return x * 2

    with override(eager=True):
        assert f(np.arange(1.0, 3)).tolist() == [2.0, 4.0]
        f(np.arange(3.0, 5))
    assert seen == [1.0, 3.0]


def test_a_nan_is_traced_to_its_line_and_the_state_is_whole():
    def step(state, x):
        w = state["w"] - x
        return {"w": pb.log(w) * 2, "n": state["n"] + 1}

    compiled = pb.compile(step, donate=0)
    with override(check=1):
        state = compiled({"w": pb.full(40, 5.0), "n": pb.zeros(())}, 1.0)
        for _ in range(2):
            with pytest.raises(NonFiniteError, match="nan was born") as caught:
                compiled(state, 100.0)
        error = caught.value
        assert error.subject == "log"
        assert "kernel 1 of 3" in error.what
        assert error.site.frame.source == 'return {"w": pb.log(w) * 2, "n": state["n"] + 1}'
        assert state["n"].item() == 1
        np.testing.assert_allclose(state["w"].numpy(), np.full(40, 2 * np.log(4.0)), rtol=1e-6)
        not_born_here = compiled({"w": pb.full(40, float("nan")), "n": pb.zeros(())}, 1.0)
        assert np.isnan(not_born_here["w"].numpy()).all()


def test_the_kernels_the_plan_and_the_times_are_told(capsys, tmp_path):
    topics = frozenset(["compile", "memory", "fusion"])
    with override(log=topics, dump=str(tmp_path / "dump"), cache="off"):
        pb.compile(lambda x, w: pb.softmax(pb.tanh(x @ w)))(normal(8, 4), normal(4, 5))
    told = capsys.readouterr().err
    for words in ("trace", "optimize", "fuse", "emit", "load", "peak", "contract", "tanh"):
        assert words in told
    names = [path.name.partition("-")[2] for path in sorted((tmp_path / "dump").iterdir())]
    assert names[0] == "traced.txt"
    assert names[-4:] == ["schedule.txt", "plan.txt", "llvm.txt", "assembly.txt"]


def test_stable_formulas_before_derivatives():
    def loss(x):
        return -pb.sum(pb.log(pb.exp(x) / pb.sum(pb.exp(x))) * pb.asarray([1.0, 0.0, 0.0]))

    slope = pb.compile(pb.grad(loss))
    x = normal(3)
    np.testing.assert_allclose(slope(x).numpy(), pb.grad(loss)(x).numpy(), rtol=1e-4, atol=1e-5)
    far = np.array([-80.0, 20.0, 80.0], np.float32)
    np.testing.assert_allclose(slope(far).numpy(), [-1.0, 0.0, 1.0], atol=1e-5)
    assert BEFORE_DERIVATIVES


def test_a_run_is_told_kernel_by_kernel(capsys):
    f = pb.compile(lambda x, w: pb.softmax(pb.tanh(x @ w)), threads=2)
    x, w = normal(8, 4), normal(4, 5)
    quiet = f(x, w).numpy()
    with override(log=frozenset(["run"])):
        loud = f(x, w).numpy()
    assert quiet.tobytes() == loud.tobytes()
    told = capsys.readouterr().err
    for words in ("GFLOP/s", "GB/s", "of limit", "contract (8, 4), (4, 5)", "test_settings.py"):
        assert words in told


def test_why_kernels_are_apart(capsys):
    def f(x, w):
        rows = pb.softmax(x)
        return rows.T + 1, rows @ w, pb.sum(rows, axis=0) * 2

    with override(log=frozenset(["fusion"])):
        pb.compile(f)(normal(8, 40), normal(40, 5))
    told = capsys.readouterr().err
    assert "apart from 0: rows" in told
    assert "reads whole arrays" in told
