"""Programs kept on disk: found by their graph, without any of their code being made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pullback as pb
from pullback._settings import override
from pullback.compile import stages
from pullback.compile.stored import Store
from pullback.transforms.trace import trace

SOURCE = Path(__file__).parents[3] / "src"
X = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture(autouse=True)
def folder(tmp_path):
    with override(cache=str(tmp_path)):
        yield tmp_path


@pytest.fixture
def written(monkeypatch):
    """A list that grows with each program whose code is written."""
    counted = []
    write = stages.write_code

    def write_and_count(*args):
        counted.append(args)
        return write(*args)

    monkeypatch.setattr(stages, "write_code", write_and_count)
    return counted


def network(x, w):
    return pb.sum(pb.tanh(x @ w)), x + 1


def key_of(f, *args, pairs=None, threads=1):
    return Store(trace(f, *args), pairs or {}, threads).key


# ---- found again ----------------------------------------------------------------------------


def test_a_program_is_found_by_its_graph(written):
    results = [pb.compile(network)(X, X.T.copy()) for _ in range(3)]
    assert len(written) == 1
    for first, second, third in zip(*results, strict=True):
        assert first.numpy().tobytes() == second.numpy().tobytes() == third.numpy().tobytes()


def test_a_second_process_writes_no_code(folder):
    script = """
import numpy as np, pullback as pb
from pullback.compile import stages
x = np.ones((3, 4), np.float32)
write, count = stages.write_code, []
stages.write_code = lambda *args: count.append(1) or write(*args)
def step(w, x, labels):
    def loss(w):
        return pb.nn.cross_entropy(pb.tanh(x @ w), labels)
    value, slope = pb.value_and_grad(loss)(w)
    return w - 0.1 * slope, value
w, labels = pb.asarray(np.ones((4, 5), np.float32)), np.array([0, 1, 4])
w, value = pb.compile(step, donate="w")(w, x, labels)
print(len(count), np.asarray(w).tobytes().hex(), np.asarray(value).tobytes().hex())
"""
    environment = {**os.environ, "PULLBACK_CACHE": str(folder), "PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-c", script]
    told = [
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert [each.split()[0] for each in told] == ["1", "0"]
    assert told[0].split()[1:] == told[1].split()[1:]


def test_donated_memory_is_given_back_as_before(written):
    for _ in range(2):
        step = pb.compile(lambda w, x: (w * 2 + x, pb.sum(w)), donate="w")
        w = pb.asarray(X.copy())
        where = w._data.ctypes.data
        w, total = step(w, X)
        assert w._data.ctypes.data == where
        assert np.array_equal(w.numpy(), X * 3)
        assert float(total) == X.sum()
    assert len(written) == 1


def test_what_was_found_can_be_read_and_profiled(written, capsys):
    pb.compile(network)(X, X.T.copy())
    f = pb.compile(network)
    f(X, X.T.copy())
    assert len(written) == 1
    with override(log=frozenset({"run"})):
        f(X, X.T.copy())
    assert "GFLOP/s" in capsys.readouterr().err
    lowered = f.lower(X, X.T.copy())
    assert lowered.plan.peak_bytes > 0
    assert "@program" in lowered.llvm


def test_a_check_names_the_line_of_this_process(written):
    def first(x, i):
        return pb.take(x, i)

    def second(x, i):
        y = x
        return pb.take(y, i)

    for f in (first, second):
        with pytest.raises(pb.errors.OutOfRangeError, match=rf"in .*{f.__name__}"):
            pb.compile(f)(X[0], np.array([7]))
    assert len(written) == 1


# ---- not found ------------------------------------------------------------------------------


def test_the_key_is_all_that_a_program_depends_on():
    keys = [
        key_of(lambda x: x + 1, X),
        key_of(lambda x: x + 2, X),
        key_of(lambda x: x + 0.0, X),
        key_of(lambda x: x + -0.0, X),
        key_of(lambda x: x - 1, X),
        key_of(lambda x: x + 1, X[0]),
        key_of(lambda x: x + 1, X.astype(np.float64)),
        key_of(lambda x: (x + 1, x + 1), X),
        key_of(lambda x: x + 1, X, threads=2),
        key_of(lambda x: x + 1, X, threads=None),
        key_of(lambda x: x + 1, X, pairs={0: 0}),
    ]
    assert None not in keys
    assert len(set(keys)) == len(keys)
    assert key_of(lambda x: x + 1, X) == keys[0]
    with override(target="avx2"):
        assert key_of(lambda x: x + 1, X) not in keys


def test_a_function_of_the_user_has_no_key(written):
    for _ in range(2):
        f = pb.compile(pb.linalg.inv)
        f(np.eye(3, dtype=np.float32))
    assert len(written) == 2  # its kernel calls back in Python


@pytest.mark.parametrize("damage", [lambda held: held[:-3], lambda held: b"", None])
def test_what_is_damaged_or_gone_is_made_again(folder, written, damage):
    pb.compile(network)(X, X.T.copy())
    for path in folder.iterdir():
        if damage is None:
            path.unlink()
        else:
            path.write_bytes(damage(path.read_bytes()))
    for _ in range(2):
        pb.compile(network)(X, X.T.copy())
    assert len(written) == 2


def test_object_code_that_is_gone_is_made_again(folder, written):
    pb.compile(network)(X, X.T.copy())
    for path in folder.iterdir():
        if b"ELF" in path.read_bytes()[:100]:
            path.unlink()
    for _ in range(2):
        pb.compile(network)(X, X.T.copy())
    assert len(written) == 2


def test_nothing_is_kept_without_a_folder(written):
    with override(cache="off"):
        for _ in range(2):
            pb.compile(network)(X, X.T.copy())
    assert len(written) == 2
