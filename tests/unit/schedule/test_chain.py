"""Chained kernels: the same bits as one kernel after the other, and no large value in between."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from pullback._settings import override
from pullback.backend.program import Program
from pullback.bench.workloads import TASKS, numbers
from pullback.passes.pipeline import optimize
from pullback.schedule import chain as chaining
from pullback.schedule import fuse as fusing
from pullback.schedule.fuse import fuse
from pullback.schedule.kernels import Call, Chain
from pullback.schedule.walks import Role, has_parts, walk_of
from pullback.transforms.trace import trace
from pullback.transforms.tree import flatten

random = np.random.default_rng(3)

T = 64
HEADS = (2, 4, T, 32)
SHARED = (2, 2, T, 32)


def normal(*shape):
    return random.normal(size=shape).astype(np.float32)


def attention_step(extra="mask", **options):
    """(q, k, v, cotangent, mask or bias) → the result's product with the cotangent, slopes."""

    def step(q, k, v, bar, *given):
        arguments = options | dict(zip((extra,), given, strict=False))

        def loss(q, k, v):
            return pb.sum(pb.nn.attention(q, k, v, **arguments) * bar)

        return pb.value_and_grad(loss, argnums=(0, 1, 2))(q, k, v)

    return step


def per_example(x, V, W, bar):
    """Gradients of two layers, for each of the sequences alone."""

    def one(x, bar):
        return pb.grad(lambda V, W: pb.sum(pb.tanh(x @ V) @ W * bar), argnums=(0, 1))(V, W)

    return pb.vmap(one)(x, bar)


CAUSAL = np.tril(np.ones((T, T), bool))
FOUR = [normal(*HEADS) for _ in range(4)]
CASES = {
    "forward": (pb.nn.attention, FOUR[:3]),
    "plain": (attention_step(), FOUR),
    "causal": (attention_step(), [*FOUR, CAUSAL]),
    "window": (attention_step(), [*FOUR, CAUSAL & ~np.tril(CAUSAL, -16)]),
    "bias": (attention_step("bias"), [*FOUR, normal(4, T, T)]),
    "soft cap": (attention_step(softcap=5.0), [*FOUR, CAUSAL]),
    "grouped queries": (
        attention_step(),
        [normal(*HEADS), normal(*SHARED), normal(*SHARED), normal(*HEADS), CAUSAL],
    ),
    "examples": (
        per_example,
        [normal(6, 40, 48), normal(48, 64), normal(64, 33), normal(6, 40, 33)],
    ),
}


@pytest.fixture
def small(monkeypatch):
    """Chain small values too, and call a cache full early."""

    def limit(fits):
        monkeypatch.setattr(chaining, "WORTH", 8 * T * T)
        monkeypatch.setattr(chaining, "FITS", fits)

    return limit


def schedules(f, inputs, monkeypatch):
    """The schedule with chains, and without."""
    graph = optimize(trace(f, *inputs))
    chained = fuse(graph)
    monkeypatch.setattr(fusing, "chained", lambda schedule: schedule)
    return chained, fuse(graph)


def large_values(schedule, size=T * T):
    """Values as large as the scores that lie in main memory."""
    written = {b for kernel in schedule.kernels for b in kernel.writes()} - {*schedule.outputs}
    return [b for b in written if schedule.buffers[b].type.size >= 8 * size]


@pytest.mark.parametrize("fits", [256 * 1024, 32 * 1024])
@pytest.mark.parametrize("name", CASES)
def test_chained_is_one_after_the_other(name, fits, small, monkeypatch):
    f, inputs = CASES[name]
    small(fits)
    chained, plain = schedules(f, inputs, monkeypatch)
    assert any(isinstance(kernel, Chain) for kernel in chained.kernels)
    with override(cache="off"):
        expected = Program(plain, threads=1)(inputs)
        for threads in (1, 3):
            for actual, wanted in zip(
                Program(chained, threads=threads)(inputs), expected, strict=True
            ):
                assert actual.tobytes() == wanted.tobytes()
    eager = flatten(f(*map(pb.asarray, inputs)))[0]
    for actual, wanted in zip(expected, eager, strict=True):
        np.testing.assert_allclose(actual.ravel(), pb.ravel(wanted).numpy(), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", [name for name in CASES if name != "examples"])
def test_no_scores_in_main_memory(name, small, monkeypatch):
    f, inputs = CASES[name]
    small(256 * 1024)
    chained, plain = schedules(f, inputs, monkeypatch)
    assert large_values(plain)
    assert not large_values(chained)


def test_long_sequences_are_taken_in_blocks_of_queries(small):
    f, inputs = CASES["causal"]
    small(32 * 1024)
    (chain,) = [k for k in fuse(optimize(trace(f, *inputs))).kernels if isinstance(k, Chain)]
    assert (chain.outer, chain.serial) == ((2, 4), (2,))
    adding = [k for k in chain.body.kernels if isinstance(k, Call) and k.adds]
    assert len(adding) == 2  # the gradients of the keys and of the values


def test_a_chain_prints(small):
    f, inputs = CASES["forward"]
    small(256 * 1024)
    text = str(fuse(optimize(trace(f, *inputs))))
    assert "chain (2,4)\n" in text
    assert f"scratch float32[{T * T}]" in text


def test_few_iterations_stay_kernels_that_all_threads_share(small):
    f, _ = CASES["forward"]
    small(256 * 1024)
    inputs = [normal(1, 2, 2 * T, 32)] * 3
    assert not [k for k in fuse(optimize(trace(f, *inputs))).kernels if isinstance(k, Chain)]


def test_a_kernel_between_two_others_keeps_them_apart(small):
    """What is needed from outside, and needs the inside, cannot wait for both."""
    small(256 * 1024)

    def f(q, k, v):
        scores = pb.einsum("btd,bsd->bts", q, k)
        around = pb.sum(scores, axis=0)
        return pb.einsum("bts,bsd->btd", pb.exp(scores) * around, v)

    inputs = [normal(8, T, 32)] * 3
    graph = optimize(trace(f, *inputs))
    with override(cache="off"):
        (actual,) = Program(fuse(graph), threads=2)(inputs)
    np.testing.assert_allclose(actual, f(*map(pb.asarray, inputs)).numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("f", "args", "reason"),
    [
        (
            lambda x, w, v: pb.relu(x @ w) @ v,
            (normal(512, 64), normal(64, 512), normal(512, 4)),
            "kernel 0 has no independent parts",
        ),
        (
            lambda x, w, v: pb.relu(x @ w) @ v,
            (normal(8, 16), normal(16, 32), normal(32, 4)),
            "its 1024 bytes stay in the cache",
        ),
        (
            lambda q, k: [q @ k, pb.softmax(q @ k)],
            (normal(8, 128, 16), normal(8, 16, 128)),
            "it is a result",
        ),
        (
            lambda q, k: pb.softmax(q @ k),
            (normal(2, 256, 16), normal(2, 16, 256)),
            "it would have 2 iterations, fewer than 4",
        ),
        (
            lambda q, k: pb.softmax(q @ k),
            (normal(8, 128, 16), normal(8, 16, 128)),
            None,
        ),
        (
            lambda q, k: pb.sort(pb.softmax(q @ k), axis=0),
            (normal(8, 128, 16), normal(8, 16, 128)),
            "has no independent parts",
        ),
    ],
)
def test_the_log_says_why_kernels_are_no_chain(f, args, reason, capsys):
    with override(log=frozenset(["fusion"]), cache="off"):
        pb.compile(f)(*args)
    told = capsys.readouterr().err
    if reason is None:
        assert "chain (8" in told
        assert "no chain" not in told
    else:
        assert f"no chain: {reason}" in told or (reason in told and "no chain: kernel" in told)


@pytest.mark.parametrize("name", ["gpt", "cnn_examples", "lstm"])
def test_a_kernel_has_parts_where_its_walk_has_a_free_axis(name):
    """Kernels are asked for parts before their walks are made."""
    task = TASKS[f"small {name}"]
    seen = set()
    for kernel in pb.compile(task.step).lower(*numbers(task)).schedule.kernels:
        walk = walk_of(kernel)
        free = walk is not None and any(x.role is Role.FREE and x.size > 1 for x in walk.axes)
        assert has_parts(kernel) == free, str(kernel)
        seen.add(free)
    assert seen == {False, True}
