"""An interrupt at any moment of a donated step leaves all of the old state or all of the new."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest

import pullback as pb
from pullback._settings import override
from pullback.compile.executable import Executable

SIZE = 100


@pytest.fixture(scope="module")
def step():
    def grown(params, moments, by):
        return {"w": params["w"] + by, "b": params["b"] + by}, [moments[0] + by], pb.sum(by)

    return pb.compile(grown, donate=(0, 1))


def fresh():
    return {"w": pb.zeros(SIZE), "b": pb.zeros(3)}, [pb.zeros((2, 2))]


def views():
    """Arrays in memory of another, which are copied before they are overwritten."""
    (w,) = pb.split(pb.zeros(SIZE), 1)
    return {"w": w, "b": pb.asarray(np.zeros(6, np.float32)[::2])}, [pb.zeros((2, 2))]


def returned(step):
    return step(*fresh(), 0.0)[:2]


def looked_at(step):
    params, moments = returned(step)
    assert params["w"][0].item() == moments[0][0, 0].item() == 0
    return params, moments


STATES = {"arrays": lambda _: fresh(), "views": lambda _: views()}
STATES |= {"state": returned, "state looked at": looked_at}


class Interrupt:
    """Raises at the n-th line that runs within this library's calls of a program."""

    def __init__(self, n):
        self.left = n

    def __call__(self, frame, event, argument):
        if "/pullback/compile/" not in frame.f_code.co_filename:
            return None
        if event == "line":
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
        return self


def interrupted(step, n, *args):
    """Whether the call was still at work at that line."""
    before = sys.gettrace()
    sys.settrace(Interrupt(n))
    try:
        step(*args)
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("name", STATES)
def test_a_state_is_never_half_new(step, name):
    seen = set()
    for n in itertools.count():
        params, moments = STATES[name](step)
        if not interrupted(step, n, params, moments, 1.0):
            break
        values = {*params["w"].tolist(), *params["b"].tolist(), *moments[0].numpy().ravel()}
        assert len(values) == 1, f"line {n}"
        seen |= values
        after, _, _ = step(params, moments, 1.0)  # and it can be given again
        assert after["b"].tolist() == [values.pop() + 1.0] * 3
    assert n > 40
    assert seen == {0.0, 1.0}


@pytest.mark.parametrize("kernel", [0, 1])
def test_an_interrupt_between_kernels_told_one_by_one(step, kernel, monkeypatch):
    params, moments = returned(step)
    run = Executable._run_program

    def stopped(self):
        steps = self.program.stepwise()
        for _ in range(kernel + 1):
            next(steps)
        raise KeyboardInterrupt

    monkeypatch.setattr(Executable, "_run_program", stopped)
    with override(log=frozenset(["run"])), pytest.raises(KeyboardInterrupt):
        step(params, moments, 1.0)
    monkeypatch.setattr(Executable, "_run_program", run)
    assert {*params["w"].tolist(), *params["b"].tolist(), *moments[0].numpy().ravel()} == {0.0}
