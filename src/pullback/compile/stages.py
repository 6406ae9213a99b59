"""The stages between a function and its program, each computed when it is first asked for."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pullback._settings import log
from pullback.backend.jit import assembly
from pullback.backend.program import Program
from pullback.backend.target import Target
from pullback.ir.graph import Graph
from pullback.passes.pipeline import optimize
from pullback.schedule.fuse import fuse
from pullback.schedule.kernels import Schedule
from pullback.schedule.memory import Plan
from pullback.transforms.trace import Traced


@dataclass(eq=False)
class Lowered:
    """The stages of a compilation: each has a text form and is made when it is asked for.

    `graph` is the traced function, `optimized` what the passes leave of it, `schedule` its kernels,
    `plan` the memory they run in, `llvm` and `assembly` their code.
    """

    traced: Traced
    threads: int | None = None
    times: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, trace: Callable[[], Traced], threads: int | None) -> Lowered:
        times: dict[str, float] = {}
        with _timed(times, "trace"):
            traced = trace()
        return cls(traced, threads, times)

    @property
    def graph(self) -> Graph:
        return self.traced.graph

    @functools.cached_property
    def optimized(self) -> Graph:
        with _timed(self.times, "optimize"):
            return optimize(self.graph)

    @functools.cached_property
    def schedule(self) -> Schedule:
        graph = self.optimized
        with _timed(self.times, "fuse"):
            return fuse(graph)

    @functools.cached_property
    def program(self) -> Program:
        schedule = self.schedule
        with _timed(self.times, "emit and load"):
            return Program(schedule, self.threads)

    @property
    def plan(self) -> Plan:
        """Where every byte lies; `plan.peak_bytes` is exact before anything runs."""
        return self.program.plan

    @property
    def llvm(self) -> str:
        return self.program.text

    @functools.cached_property
    def assembly(self) -> str:
        return assembly(self.llvm, Target.chosen())

    def tell(self, name: str) -> None:
        """The times of the stages, under `PULLBACK_LOG=compile`."""
        spent = ", ".join(f"{stage} {1e3 * t:.1f} ms" for stage, t in self.times.items())
        log("compile", f"{name}: {len(self.graph.nodes)} nodes: {spent}")


@contextmanager
def _timed(times: dict[str, float], stage: str) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    times[stage] = time.perf_counter() - begin
