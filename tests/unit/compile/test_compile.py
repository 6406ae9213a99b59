"""`pb.compile`: compiled is eager, one program a signature, its graph inlined in transforms."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import pullback as pb
from pullback._settings import override
from pullback.errors import ArgumentError, DTypeError, StructureError, TracedValueError

random = np.random.default_rng(7)


def normal(*shape, dtype=np.float32):
    return random.normal(size=shape).astype(dtype)


class Affine(pb.nn.Module):
    weight: pb.Array
    bias: pb.Array

    def __call__(self, x):
        return x @ self.weight + self.bias


class Pair(NamedTuple):
    first: object
    second: object


def programs(compiled):
    return len(compiled._programs)


def test_results_have_the_users_structure():
    @pb.compile
    def f(model, x, nothing):
        return {"y": model(x), "model": Affine(model.weight * 2, model.bias)}, Pair(
            x.sum(), nothing
        )

    model = Affine(pb.asarray(normal(3, 2)), pb.asarray(normal(2)))
    x = normal(4, 3)
    results, pair = f(model, x, None)
    np.testing.assert_allclose(results["y"].numpy(), model(pb.asarray(x)).numpy(), rtol=1e-6)
    assert isinstance(results["model"], Affine)
    assert results["model"].bias is model.bias
    assert pair.second is None
    assert pair.first.shape == ()


def test_an_argument_that_comes_back_is_no_view_of_the_users_memory():
    x = normal(3)
    (y,) = pb.compile(lambda x: (x,))(x)
    before = y.numpy().copy()
    x[:] = 0
    assert (y.numpy() == before).all()


def test_numpy_arrays_of_any_layout_are_taken():
    x = normal(6, 4)
    f = pb.compile(lambda x: x * 2 + 1)
    for each in (x, x.T, x[::2], np.asfortranarray(x), x.astype(">f4")):
        assert (f(each).numpy() == each * 2 + np.float32(1)).all()


SCALARS = [2, 2.5, True, np.float32(2.5), np.float64(2.5), np.int8(2), np.int64(3)]
ARRAYS = [np.float32, np.float64, np.float16, np.int8, np.int64, np.bool_]


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda s: f"{type(s).__name__}")
@pytest.mark.parametrize("dtype", ARRAYS)
def test_scalar_arguments_promote_as_in_eager_code(scalar, dtype):
    if scalar is True and dtype is np.bool_:
        pytest.skip("bools are not multiplied")
    x = pb.asarray(np.array([1, 0, 1], dtype))

    def f(x, s):
        return s * x + (s / 3 + 1) * x, s + s, pb.where(x > s, x, s), pb.exp(s)

    for actual, wanted in zip(pb.compile(f)(x, scalar), f(x, scalar), strict=True):
        wanted = pb.asarray(wanted)
        if isinstance(scalar, np.generic) and wanted.shape == ():
            continue  # NumPy's own arithmetic
        assert actual.dtype == wanted.dtype
        np.testing.assert_allclose(
            actual.numpy().astype(float), wanted.numpy().astype(float), rtol=2e-3
        )


def test_a_changed_scalar_compiles_nothing():
    f = pb.compile(lambda x, lr: x - lr * x)
    x = normal(5)
    for lr in (0.1, 0.2, 1e-3):
        np.testing.assert_allclose(f(x, lr).numpy(), x - np.float32(lr) * x, rtol=1e-6)
    assert programs(f) == 1


def test_one_program_for_each_signature_and_the_log_says_why(capsys):
    with override(log=frozenset(["recompile"])):
        f = pb.compile(lambda x, k, mode="a": x["h"] * k, static="mode")
        f({"h": normal(3)}, 2.0)
        f({"h": normal(4)}, 2.0)
        f({"h": normal(4, dtype=np.float64)}, 2.0)
        f({"h": normal(4)}, 2)
        f({"h": normal(4)}, 2.0, "b")
        f({"h": normal(4)}, 2.0, mode="b")
        f({"h": normal(4), "extra": normal(1)}, 2.0, "b")
        f({"h": normal(3)}, 3.0)
    assert programs(f) == 7
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 7
    assert "first time" in told[0]
    assert "x['h']: shape float32[3] became float32[4]" in told[1]
    assert "x['h']: dtype float32[4] became float64[4]" in told[2]
    assert "k: Python float became Python int" in told[3]
    assert "mode is passed now" in told[4]
    assert "x: the structure" in told[6]


def test_static_values_are_told_apart_by_type_too():
    f = pb.compile(lambda x, n: x * n, static=1)
    x = np.array([1, 2])
    assert f(x, 2).dtype == np.int64
    assert f(x, 2.0).dtype == np.float32
    assert programs(f) == 2


def test_captured_arrays_are_inputs():
    w = pb.asarray(normal(100, 3))
    f = pb.compile(lambda x: x @ w)
    x = normal(2, 100)
    np.testing.assert_allclose(f(x).numpy(), x @ w.numpy(), rtol=1e-5, atol=1e-6)
    assert len(f.lower(x).graph.inputs) == 2


def test_inside_a_transform_the_graph_is_inlined():
    @pb.compile
    def f(x):
        return pb.sum(pb.tanh(x) ** 2)

    x = normal(4)
    plain = f.__wrapped__
    np.testing.assert_allclose(pb.grad(f)(x).numpy(), pb.grad(plain)(x).numpy())
    np.testing.assert_allclose(
        pb.vmap(f)(normal(3, 4)[:1]).numpy().shape, pb.vmap(plain)(normal(3, 4)[:1]).numpy().shape
    )
    np.testing.assert_allclose(
        pb.hessian(f)(x).numpy(), pb.hessian(plain)(x).numpy(), rtol=1e-5, atol=1e-6
    )
    _, dot = pb.jvp(f, (x,), (x,))
    np.testing.assert_allclose(dot.item(), pb.jvp(plain, (x,), (x,))[1].item(), rtol=1e-6)
    outer = pb.compile(lambda x: pb.grad(f)(x) + 1)
    np.testing.assert_allclose(outer(x).numpy(), pb.grad(plain)(x).numpy() + 1, rtol=1e-5)
    assert programs(f) == 0


def test_methods_can_be_compiled():
    class Net(Affine):
        @pb.compile
        def run(self, x):
            return self(x)

    net = Net(pb.asarray(normal(3, 2)), pb.asarray(normal(2)))
    x = normal(1, 3)
    np.testing.assert_allclose(net.run(x).numpy(), net(pb.asarray(x)).numpy(), rtol=1e-6)


def test_each_stage_prints():
    lowered = pb.compile(lambda x: pb.softmax(x * 2)).lower(pb.float32 and normal(4, 8))
    for stage in ("graph", "optimized", "schedule", "plan", "llvm", "assembly"):
        assert str(getattr(lowered, stage)).strip(), stage
    assert lowered.plan.peak_bytes >= 2 * 4 * 8 * 4


def test_lowered_tells_what_is_made_and_makes_nothing_to_tell_it():
    lowered = pb.compile(lambda x: pb.sum(x * 2)).lower(pb.ones((3, 4)))
    assert "graph" in repr(lowered)
    assert "not made yet: optimized, schedule, plan, llvm, assembly" in repr(lowered)
    assert "optimized" not in vars(lowered)
    assert lowered.plan.peak_bytes
    assert "at the peak" in repr(lowered)
    assert "kernels" in repr(lowered)
    assert "not made" not in repr(lowered)


def unhashable_static():
    pb.compile(lambda x, sizes: x, static="sizes")(1.0, [1, 2])


def no_such_argument():
    pb.compile(lambda x: x, static="y")


def no_array():
    pb.compile(lambda x, mode: x)(1.0, {"kind": "fast"})


def truth_of_a_scalar():
    pb.compile(lambda x, lr: x if lr > 0 else -x)(np.ones(3), 0.1)


def a_number_too_large():
    pb.compile(lambda x, n: x * n)(np.ones(3), 2**80)


def threads_below_one():
    pb.compile(lambda x: x, threads=0)


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (unhashable_static, StructureError),
        (no_such_argument, ArgumentError),
        (no_array, StructureError),
        (truth_of_a_scalar, TracedValueError),
        (a_number_too_large, ArgumentError),
        (threads_below_one, ArgumentError),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_refusals(call, kind, golden):
    with pytest.raises(kind) as caught:
        call()
    text = str(caught.value)
    golden(
        f"errors/compile_{call.__name__}",
        text.partition(" at ")[0] + "\n" + text.partition(": ")[2] + "\n",
    )


def test_programs_run_in_the_child_of_a_fork():
    f = pb.compile(lambda x: pb.tanh(x @ x) + 1, threads=2)
    x = normal(64, 64)
    wanted = f(x).numpy().tobytes()
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a process with threads forks
        child = os.fork()
    if child == 0:
        try:
            os.write(writing, b"same" if f(x).numpy().tobytes() == wanted else b"other")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 10) == b"same"
    assert f(x).numpy().tobytes() == wanted


def test_a_second_process_compiles_nothing(tmp_path):
    script = (
        "import numpy as np, pullback as pb\n"
        "pb.compile(lambda x: pb.softmax(x @ x))(np.ones((9, 9), np.float32))\n"
    )
    told = []
    for _ in range(2):
        environment = os.environ | {
            "PULLBACK_CACHE": str(tmp_path),
            "PULLBACK_LOG": "compile",
            "PYTHONPATH": str(Path(pb.__file__).parents[1]),
        }
        command = [sys.executable, "-c", script]
        told.append(
            subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        )
    assert "functions in" in told[0].stderr
    assert "functions in" not in told[1].stderr
    assert "from the cache" in told[1].stderr


def test_the_collector_rests_while_a_program_is_made():
    works = []

    def f(x, fails):
        works.append(gc.isenabled())
        if fails:
            raise ValueError("no")
        return x + 1

    compiled = pb.compile(f, static="fails")
    compiled(normal(3), False)
    with pytest.raises(ValueError, match="no"):
        compiled(normal(3), True)
    assert works == [False, False]
    assert gc.isenabled()


@pytest.mark.parametrize("number", [300, -129, 2**40, np.int64(128), np.uint8(200)])
def test_an_integer_that_does_not_fit_is_refused_as_eagerly(number):
    x = np.arange(3, dtype=np.int8)
    add = pb.compile(lambda x, n: (x + n["n"], n["n"] * 1.5))
    assert add(x, {"n": 100})[0].tolist() == [100, 101, 102]
    for f in (add, add._function):
        with pytest.raises(DTypeError, match=f"{number} does not fit int8"):
            f(pb.asarray(x), {"n": number})
    assert add(x, {"n": -128})[0].tolist() == [-128, -127, -126]


def test_an_integer_that_meets_floats_or_its_own_kind_has_no_bound():
    f = pb.compile(lambda x, n: (x * n, n + 1))
    x = np.ones(2, np.float16)
    assert f(x, 2**40)[1].item() == 2**40 + 1
