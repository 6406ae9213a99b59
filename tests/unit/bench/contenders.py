"""Contenders that behave well or badly, for the tests of the benchmark."""

from __future__ import annotations

import os
import time

import numpy as np


def sleeper(task, arguments, threads):
    """A step of a millisecond that needs 4 MB."""

    def step():
        memory = np.ones(1 << 19)
        time.sleep(0.001)
        return memory.sum()

    return step


def eager(task, arguments, threads):
    return lambda: task.step(*arguments)


def failing(task, arguments, threads):
    raise ValueError("cannot do that")


def dying(task, arguments, threads):
    print("this is printed", flush=True)
    os.write(2, b"a last word\n")
    os.abort()


def hanging(task, arguments, threads):
    time.sleep(60)
