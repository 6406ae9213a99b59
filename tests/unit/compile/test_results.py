"""Memory of large results is used again, and never while somebody can see it."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

import pullback as pb
from pullback.backend.program import ALIGNMENT
from pullback.compile.results import ALIVE, LARGE, Reused
from pullback.ir.types import TensorType, float32

SIDE = LARGE // 4


@pytest.fixture
def successor():
    return pb.compile(lambda x: x + 1.0)


def address(x):
    return x.numpy().ctypes.data


def test_what_was_dropped_is_used_again(successor):
    x = pb.asarray(np.zeros(SIDE, np.float32))
    seen = set()
    for _ in range(6):
        y = successor(x)
        seen.add(address(y))
        del y
    assert len(seen) == 1


def test_two_take_turns(successor):
    x, seen = pb.asarray(np.zeros(SIDE, np.float32)), set()
    for i in range(6):
        x = successor(x)
        assert x.numpy()[0] == i + 1
        seen.add(address(x))
    assert len(seen) <= 3


@pytest.mark.parametrize("hold", [lambda y: y, lambda y: y.numpy()[3:], lambda y: y.numpy().data])
def test_what_is_seen_is_left_alone(successor, hold):
    x = np.zeros(SIDE, np.float32)
    held = [hold(successor(x + i)) for i in range(5)]
    for i, each in enumerate(held):
        numbers = np.asarray(each)
        assert (numbers == i + 1).all()


def test_results_that_stay_do_not_keep_others_from_being_used_again(successor):
    x = pb.asarray(np.zeros(SIDE, np.float32))
    held = [successor(x) for _ in range(3)]
    seen = set()
    for _ in range(6):
        seen.add(address(successor(x)))
    assert len(seen) == 1
    assert seen.isdisjoint(map(address, held))


def test_what_is_kept_is_bounded_and_goes_with_the_function(successor):
    x = pb.asarray(np.zeros(SIDE, np.float32))
    peak = successor.lower(x).plan.peak_bytes
    held = [successor(x) for _ in range(5)]
    ((_, reused, _),) = next(iter(successor._programs.values()))._made
    del held
    kept = sum(memory.nbytes for memory in reused._kept)
    assert kept <= ALIVE * (x.nbytes + ALIGNMENT)
    assert 2 * x.nbytes <= peak < 2 * x.nbytes + LARGE  # the argument and one result
    memory = weakref.ref(reused._kept[0])
    del reused, successor._programs, successor._last
    assert memory() is None


def test_memory_is_aligned_and_small_memory_is_fresh():
    assert Reused(TensorType((SIDE,), float32)).take().ctypes.data % 64 == 0
    small = Reused(TensorType((3,), float32))
    assert small.take().base is None
