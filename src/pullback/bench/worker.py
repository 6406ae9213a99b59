"""The process of one contender: it answers requests, a line of JSON each, until its input ends.

    python -m pullback.bench.worker MODULE:FUNCTION TASK THREADS

The function makes a step from (task, arguments, threads); the module is imported before anything
is timed. Requests: `first` (make the step, run it once), `time` (a turn of `seconds`), `memory`
(the highest mark of this process above what it had after its imports), `predict`.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from pullback.bench.workloads import TASKS, numbers

LEAST_CALLS = 3
WARMING = 0.02  # seconds of a turn before it counts: the threads wake, the caches fill
MOST_WARMING = 3


class Worker:
    """A contender and its step."""

    def __init__(self, make: Callable[..., Callable[[], Any]], task: str, threads: int) -> None:
        self.make, self.task, self.threads = make, TASKS[task], threads
        self.floor = resident_bytes()
        self.step: Callable[[], Any] = _not_begun

    def first(self, request: dict[str, Any]) -> dict[str, Any]:
        """The seconds of the first call: tracing, compiling and running."""
        step = self.make(self.task, numbers(self.task), self.threads)
        start = time.perf_counter()
        step()
        self.step = step
        return {"seconds": time.perf_counter() - start}

    def time(self, request: dict[str, Any]) -> dict[str, Any]:
        """The median over the calls of one turn."""
        _timed_calls(self.step, WARMING, MOST_WARMING)
        times = _timed_calls(self.step, request["seconds"], None)
        return {"seconds": statistics.median(times)}

    def memory(self, request: dict[str, Any]) -> dict[str, Any]:
        """Bytes of the process at the peak of a step, without what its imports had taken."""
        gc.collect()
        _give_back_free_memory()
        if not _forget_high_water():
            return {"bytes": None}
        for _ in range(LEAST_CALLS):
            self.step()
        return {"bytes": resident_bytes("VmHWM") - self.floor}

    def predict(self, request: dict[str, Any]) -> dict[str, Any]:
        predicted = getattr(self.step, "predicted_bytes", None)
        return {"bytes": None if predicted is None else predicted()}


def _not_begun() -> None:
    raise RuntimeError("the first call comes first")


def _timed_calls(step: Callable[[], Any], seconds: float, most: int | None) -> list[float]:
    times: list[float] = []
    start = time.perf_counter()
    while (now := time.perf_counter()) - start < seconds or len(times) < LEAST_CALLS:
        if most is not None and len(times) >= most:
            break
        step()
        times.append(time.perf_counter() - now)
    return times


# ---- memory of the process ------------------------------------------------------------------


def resident_bytes(mark: str = "VmRSS") -> int:
    """What lies in memory now, or (`VmHWM`) has at most; 0 where the system does not tell."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            lines = [line.split() for line in file]
    except OSError:
        return 0
    return next((1024 * int(line[1]) for line in lines if line[0] == f"{mark}:"), 0)


def _forget_high_water() -> bool:
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        return False
    return True


def _give_back_free_memory() -> None:
    """Pages that a compiler used and freed are no part of a step."""
    libc = ctypes.CDLL(None) if os.name == "posix" else None
    if libc is not None and hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


# ---- the process ----------------------------------------------------------------------------


def main(maker: str, task: str, threads: str) -> None:
    """Answer on the first standard output; what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    _stay_on_cores(int(threads))
    module, _, function = maker.partition(":")
    worker = Worker(getattr(importlib.import_module(module), function), task, int(threads))
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request["ask"])(request)
        except Exception as error:  # noqa: BLE001  (told to the process that asks)
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


def _stay_on_cores(count: int) -> None:
    """Some libraries start as many threads as there are cores to use."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[:count])


if __name__ == "__main__":
    main(*sys.argv[1:])
