"""What no step can beat on this machine: the peak of its arithmetic and of its memory."""

from __future__ import annotations

import ctypes
import time

import numpy as np

from pullback.backend.assembly import Function, Module, floating, integer, splat, vector
from pullback.backend.cache import ObjectCache, load
from pullback.backend.target import Target
from pullback.backend.threads import team
from pullback.bench.workloads import Task, numbers
from pullback.ir.graph import graph_flops
from pullback.passes.pipeline import optimize
from pullback.transforms.trace import trace

LANES = 16
SUMS = 7  # independent chains that hide the latency of an fma and fit sixteen registers of AVX2
STEPS = 200_000
FLOATS = 1 << 24  # in each array of the triad: 64 MB, beyond every cache
REPEATS = 3
PARAMETERS = [("ptr", "argument"), ("i64", "thread"), ("i64", "threads"), ("ptr", "team")]


class Machine:
    """Measures both peaks, as often as asked, and remembers the best."""

    def __init__(self, threads: int) -> None:
        module = Module()
        module.add(_write_arithmetic(), exported=True)
        module.add(_write_triad(), exported=True)
        names = ("arithmetic", "triad")
        self._library = load(str(module), names, Target.host(), ObjectCache(None))
        self._team = team(threads)
        self._arrays = [np.ones(FLOATS, np.float32) for _ in range(3)]
        self._table = (ctypes.c_void_p * 3)(*(x.ctypes.data for x in self._arrays))
        self.threads = threads
        self.flops = 0.0
        """Floating-point operations in a second, float32; a fused multiply-add counts two."""
        self.bandwidth = 0.0
        """Bytes in a second that are read and written."""

    def measure(self) -> None:
        work = 2.0 * LANES * SUMS * STEPS * self.threads
        moved = 3.0 * 4 * FLOATS
        for _ in range(REPEATS):
            self.flops = max(self.flops, work / self._seconds("arithmetic"))
            self.bandwidth = max(self.bandwidth, moved / self._seconds("triad"))

    def _seconds(self, name: str) -> float:
        address, argument = self._library.addresses[name], ctypes.addressof(self._table)
        self._team.run(address, argument)
        start = time.perf_counter()
        self._team.run(address, argument)
        return time.perf_counter() - start


def _write_arithmetic() -> Function:
    f = Function("arithmetic", PARAMETERS)
    argument, thread, _, _ = f.parameters
    kind = vector(LANES, "float")
    source = f.load("ptr", argument, 8)
    x = f.load(kind, source, 4)
    start = [splat(floating(float(i), "float"), LANES) for i in range(SUMS)]
    with f.loop(integer(0), integer(STEPS), carried=start) as loop:
        loop.carry(*(f.intrinsic("fma", x, x, total) for total in loop.values))
    total = loop.results[0]
    for other in loop.results[1:]:
        total = f.binary("fadd", total, other)
    result = f.load("ptr", f.at(argument, "ptr", integer(1)), 8)
    place = f.binary("mul", thread, integer(LANES))
    f.store(total, f.at(result, "float", place), 4)
    f.finish()
    return f


def _write_triad() -> Function:
    """a = b + ½ c, each thread its share."""
    f = Function("triad", PARAMETERS)
    argument, thread, threads, _ = f.parameters
    kind = vector(LANES, "float")
    a, b, c = (f.load("ptr", f.at(argument, "ptr", integer(i)), 8) for i in (2, 1, 0))
    blocks = integer(FLOATS // LANES)
    following = f.binary("add", thread, integer(1))
    begin = f.binary("udiv", f.binary("mul", blocks, thread), threads)
    end = f.binary("udiv", f.binary("mul", blocks, following), threads)
    half = splat(floating(0.5, "float"), LANES)
    with f.loop(begin, end) as loop:
        place = f.binary("mul", loop.index, integer(LANES))
        x, y = (f.load(kind, f.at(p, "float", place), 4) for p in (b, c))
        f.store(f.intrinsic("fma", y, half, x), f.at(a, "float", place), 4)
    f.finish()
    return f


def work(task: Task) -> tuple[int, int]:
    """Floating-point operations of one step, and the bytes that it must read and write.

    These are its arguments and results, each touched once: what lies between may stay in caches.
    """
    graph = optimize(trace(task.step, *numbers(task)))
    outside = sum(x.type.nbytes for x in (*graph.inputs, *graph.outputs))
    return graph_flops(graph), outside
