"""Barriers stand where a kernel needs what another thread may be busy with, and only there."""

from __future__ import annotations

import random

import numpy as np
import pytest

import pullback as pb
from pullback._settings import override
from pullback.backend import turns
from pullback.backend.program import Program, write_code
from pullback.backend.turns import OWNERS, SMALL, Footprint, Span, take_turns
from pullback.schedule.fuse import fuse
from pullback.transforms.trace import trace

LARGE = SMALL + 1


def touching(reads=(), writes=()):
    spans = [tuple(Span(-1, *each) for each in part) for part in (reads, writes)]
    return Footprint(*spans)


def meet(left, right):
    return any(
        a.space == b.space and a.begin < b.end and b.begin < a.end for a in left for b in right
    )


def conflict(first, second):
    return meet(first.writes, (*second.reads, *second.writes)) or meet(first.reads, second.writes)


def some_spans(source):
    def span():
        begin = source.randrange(40)
        return Span(source.choice((-1, -1, 3)), begin, begin + source.randrange(1, 6))

    return tuple(span() for _ in range(source.randrange(3)))


@pytest.mark.parametrize("seed", range(40))
def test_no_two_threads_meet_between_barriers(seed):
    source = random.Random(seed)
    touched = [Footprint(some_spans(source), some_spans(source)) for _ in range(60)]
    costs = [source.choice((10, LARGE)) for _ in touched]
    taken = take_turns(costs, touched)
    since = []
    for turn, cost, footprint in zip(taken, costs, touched, strict=True):
        assert (turn.owner is None) == (cost == LARGE)
        against = [
            (other, owner)
            for other, owner in since
            if conflict(other, footprint) and (owner is None or owner != turn.owner)
        ]
        if turn.waits:
            assert since
            since = []
        else:
            assert not against
        since.append((footprint, turn.owner))


def test_a_chain_of_small_kernels_needs_no_barrier():
    chain = [touching([(i, i + 1)], [(i + 1, i + 2)]) for i in range(10)]
    assert [(t.owner, t.waits) for t in take_turns([10] * 10, chain)] == [(0, False)] * 10


def test_independent_small_kernels_go_to_different_threads():
    apart = [touching(writes=[(i, i + 1)]) for i in range(2 * OWNERS)]
    taken = take_turns([10] * len(apart), apart)
    assert [t.owner for t in taken] == [*range(OWNERS), *range(OWNERS)]
    assert not any(t.waits for t in taken)


def test_whole_kernels_go_to_different_threads_too():
    apart = [touching(writes=[(i, i + 1)]) for i in range(3)]
    assert [t.owner for t in take_turns([LARGE] * 3, apart, [0, 1, 2])] == [0, 1, 2]


def test_large_kernels_wait_for_what_they_need_alone():
    kernels = [
        touching(writes=[(0, 10)]),
        touching(writes=[(10, 20)]),
        touching(reads=[(0, 10)], writes=[(20, 30)]),  # waits for the first
        touching(reads=[(10, 20)], writes=[(30, 40)]),  # that wait will do
        touching(writes=[(10, 15)]),  # overwrites what the one before may still read
    ]
    waits = [t.waits for t in take_turns([LARGE] * 5, kernels)]
    assert waits == [False, False, True, False, True]


@pytest.mark.parametrize("small", [0, SMALL, 10**9])
def test_bits_depend_on_no_turn(monkeypatch, small):
    monkeypatch.setattr(turns, "SMALL", small)
    source = np.random.default_rng(7)
    x, w, v = (
        source.normal(size=shape).astype(np.float32) for shape in ((70, 40), (40, 50), (50,))
    )

    def f(x, w, v):
        value, slopes = pb.value_and_grad(lambda w, v: pb.sum(pb.tanh(x @ w) @ v), argnums=(0, 1))(
            w, v
        )
        return (value, *slopes, pb.softmax(x), pb.sum(x, axis=0))

    with override(cache="off"):
        results = [
            [y.tobytes() for y in Program(fuse(trace(f, x, w, v)), threads)([x, w, v])]
            for threads in (1, 2, 4)
        ]
    assert results[0] == results[1] == results[2]


def test_a_program_that_waits_for_nothing_has_no_barrier():
    x = pb.ones((64, 64)).type
    one = write_code(fuse(trace(pb.exp, x)), 2)
    two = write_code(fuse(trace(lambda x: pb.sum(x @ x, axis=0) * 2 @ x, x)), 2)
    assert "@barrier" not in one.text
    assert "@roster" not in one.text
    assert two.text.startswith("@roster")
    assert two.text.count("define internal void @barrier(") == 1
