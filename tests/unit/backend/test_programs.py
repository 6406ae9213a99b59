"""Whole programs: eager and native agree, and native bits depend on nothing but the program."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from property.programs import Program as RandomProgram
from pullback._settings import override
from pullback.backend.program import Program
from pullback.errors import CompileError
from pullback.ir.graph import without_numbers
from pullback.schedule.fuse import fuse
from pullback.schedule.kernels import Loops
from pullback.transforms.trace import trace

random = np.random.default_rng(5)


def normal(*shape):
    return random.normal(size=shape).astype(np.float32)


def train_step(W1, b1, W2, b2, x, y):
    def loss(W1, b1, W2, b2):
        z = pb.relu(x @ W1 + b1) @ W2 + b2
        return -pb.mean(pb.sum(pb.log_softmax(z) * y, axis=-1))

    value, slopes = pb.value_and_grad(loss, argnums=(0, 1, 2, 3))(W1, b1, W2, b2)
    return (value, *[p - 0.1 * g for p, g in zip((W1, b1, W2, b2), slopes, strict=True)])


def adam(p, g, m, v):
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    return p - 0.001 * m / (pb.sqrt(v) + 1e-8), m, v


def norm_backward(x, gamma, beta, bar):
    return pb.vjp(pb.nn.layer_norm, x, gamma, beta)[1](bar)


CASES = {
    "mlp step": (train_step, [(30, 50), (50,), (50, 10), (10,), (33, 30), (33, 10)]),
    "softmax": (lambda x: pb.softmax(x * 2.0), [(7, 5, 100)]),
    "softmax backward": (lambda x, g: pb.vjp(pb.softmax, x)[1](g)[0], [(40, 33), (40, 33)]),
    "layer norm": (pb.nn.layer_norm, [(9, 4, 65), (65,), (65,)]),
    "layer norm backward": (norm_backward, [(9, 4, 65), (65,), (65,), (9, 4, 65)]),
    "gelu": (pb.nn.gelu, [(1000, 13)]),
    "adam": (lambda p, g, m, v: adam(p, g, m, v * v), [(70, 61)] * 4),
    "sums of all kinds": (
        lambda x: (pb.sum(x), pb.sum(x, axis=(0, 2)), pb.max(x, axis=1), pb.mean(x, axis=(1, 2))),
        [(6, 70, 35)],
    ),
    "views": (
        lambda x, y: (x.T + y, pb.flip(x, axis=0)[1:5], x.reshape(-1)[3:20]),
        [(37, 53), (53, 37)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_native_is_eager_and_its_bits_do_not_depend_on_threads(name, tmp_path):
    f, shapes = CASES[name]
    inputs = [normal(*shape) for shape in shapes]
    expected = f(*map(pb.asarray, inputs))
    expected = expected if isinstance(expected, tuple) else (expected,)
    schedule = fuse(trace(f, *inputs))
    with override(cache=str(tmp_path)):
        first = Program(schedule, threads=1)(inputs)
        for actual, wanted in zip(first, expected, strict=True):
            np.testing.assert_allclose(actual, wanted.numpy(), rtol=2e-5, atol=2e-5)
        for threads in (1, 2, 4):
            program = Program(schedule, threads=threads)
            for _ in range(2):
                for again, once in zip(program(inputs), first, strict=True):
                    assert again.tobytes() == once.tobytes()


def test_softmax_and_layer_norm_are_one_kernel_each():
    for f, shapes in (
        CASES["softmax"],
        CASES["layer norm"],
        CASES["softmax backward"],
        CASES["adam"],
    ):
        kernels = fuse(trace(f, *[normal(*shape) for shape in shapes])).kernels
        assert [type(kernel) for kernel in kernels] == [Loops]


def test_the_arena_is_as_small_as_what_lives_at_once():
    f, shapes = CASES["mlp step"]
    plan = Program(fuse(trace(f, *[normal(*shape) for shape in shapes])), threads=1).plan
    assert plan.arena_bytes <= 1.01 * plan.lower_bound


@pytest.mark.parametrize("seed", range(60))
def test_random_programs(seed):
    f = RandomProgram(seed)
    inputs = [x.numpy() for x in f.inputs()]
    graph = without_numbers(trace(f, *inputs))
    try:
        with override(cache="off"):
            program = Program(fuse(graph), threads=2)
    except CompileError as missing:
        pytest.skip(str(missing).partition(":")[2].strip())
    for actual, wanted in zip(program(inputs), f(*map(pb.asarray, inputs)), strict=True):
        np.testing.assert_allclose(actual, wanted.numpy(), rtol=1e-10, atol=1e-12)
