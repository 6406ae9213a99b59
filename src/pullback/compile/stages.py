"""The stages between a function and its program, each computed when it is first asked for."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from pullback._settings import log, settings
from pullback.backend.program import Code, Program, write_code
from pullback.compile.donation import Pairing, pair_up
from pullback.compile.profile import kernels_of
from pullback.compile.report import Batched, MemoryReport
from pullback.compile.signature import Signature
from pullback.compile.stored import Store
from pullback.ir.graph import Graph
from pullback.ir.text import print_graph
from pullback.ir.types import DType
from pullback.passes.dump import Dump
from pullback.passes.pipeline import forms, optimize
from pullback.schedule.fuse import fuse
from pullback.schedule.kernels import Schedule
from pullback.schedule.picture import bytes_text
from pullback.transforms.trace import Traced

Met = Mapping[int, frozenset[DType]]
"""For each scalar among the inputs the element types of integers that it is brought to."""


@dataclass(eq=False, repr=False)
class Lowered:
    """The stages of a compilation: each has a text form and is made when it is asked for.

    `graph` is the traced function, `optimized` what the passes leave of it, `schedule` its kernels,
    `plan` the memory they run in, `llvm` and `assembly` their code.
    """

    name: str
    traced: Traced
    signature: Signature
    names: list[str]
    donated: tuple[int, ...] = ()
    """The donated ones among the dynamic arguments."""
    threads: int | None = None
    memory: int | None = None
    """The most bytes that the program may hold."""
    times: dict[str, float] = field(default_factory=dict)
    met: Met = field(default_factory=dict)
    batched: Batched | None = None

    @functools.cached_property
    def pairing(self) -> Pairing:
        """Which result takes over the memory of which argument."""
        types = [x.type for x in self.graph.outputs]
        forms = [form for _, form in self.signature.dynamic]
        return pair_up(self.traced.result, types, forms, self.donated)

    @property
    def graph(self) -> Graph:
        return self.traced.graph

    @functools.cached_property
    def optimized(self) -> Graph:
        if settings().dump:
            Dump(settings().dump).write("traced", f"{print_graph(self.graph, sites=True)}\n")
        with timed(self.times, "optimize"):
            return optimize(self.graph)

    @functools.cached_property
    def schedule(self) -> Schedule:
        graph = self.optimized
        with timed(self.times, "fuse"):
            return fuse(graph)

    @functools.cached_property
    def code(self) -> Code:
        schedule = self.schedule
        with timed(self.times, "emit"):
            given = self.threads, self.pairing.pairs, self.names, self.memory
            return write_code(schedule, *given, self._forms)

    def _forms(self) -> Iterator[tuple[str, Schedule]]:
        """What the program may be where a budget is too small for it as it is."""
        with timed(self.times, "segments"):
            for text, graph in forms(self.graph):
                yield text, fuse(graph)

    @functools.cached_property
    def program(self) -> Program:
        """From the disk, where its graph is known there."""
        if "code" not in self.__dict__:
            with timed(self.times, "find"):
                store = Store(self.graph, self.pairing.pairs, self.threads, self.memory)
                loaded = store.find(lambda: self.code)
                if loaded is not None:
                    return Program(loaded=loaded)
        else:
            store = None
        code = self.code
        with timed(self.times, "load"):
            program = Program(code=code)
            if store is not None:
                store.keep(program, code)
        return program

    @functools.cached_property
    def plan(self) -> MemoryReport:
        """Where every byte lies; `plan.peak_bytes` is exact before anything runs."""
        return MemoryReport.of(self.code.plan, self.code.planner, self.batched)

    @property
    def llvm(self) -> str:
        return self.code.text

    def __repr__(self) -> str:
        """What is known by now; `.optimized`, `.schedule`, `.plan` … make the rest."""
        made = self.__dict__
        lines = [f"Lowered {self.name}", f"  graph      {len(self.graph.nodes):,} operations"]
        if "optimized" in made:
            lines.append(f"  optimized  {len(self.optimized.nodes):,} operations")
        if "schedule" in made:
            lines.append(f"  schedule   {len(self.schedule.kernels):,} kernels")
        if "code" in made:
            lines.append(f"  plan       {bytes_text(self.code.plan.peak_bytes)} at the peak")
        stages = {"optimized": "optimized", "schedule": "schedule", "code": "plan"}
        rest = [name for stage, name in stages.items() if stage not in made]
        if rest:
            lines.append(f"  not made yet: {', '.join(rest)}, llvm, assembly")
        return "\n".join(lines)

    @property
    def assembly(self) -> str:
        return self.code.assembly

    def explain(self) -> None:
        """The plan under `PULLBACK_LOG=memory`, under `fusion` the kernels and why they are apart;
        all stages in the dump."""
        chosen = settings()
        if "memory" in chosen.log:
            log("memory", f"{self.name}:\n{self.plan}")
        if "fusion" in chosen.log:
            log("fusion", f"{self.name}:\n{kernels_of(self.schedule)}")
        if chosen.dump:
            dump = Dump(chosen.dump)
            for stage in ("schedule", "plan", "llvm", "assembly"):
                dump.write(stage, f"{getattr(self, stage)}\n")

    def tell(self) -> None:
        """The times of the stages, under `PULLBACK_LOG=compile`."""
        spent = ", ".join(f"{stage} {1e3 * t:.1f} ms" for stage, t in self.times.items())
        log("compile", f"{self.name}: {len(self.graph.nodes)} nodes: {spent}")


@contextmanager
def timed(times: dict[str, float], stage: str) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    times[stage] = time.perf_counter() - begin
