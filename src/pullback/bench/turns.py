"""Contenders in processes of their own that take turns, so no thread pool disturbs another's."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path
from typing import IO, Any

from pullback.bench.machine import Machine, work
from pullback.bench.workloads import TASKS

PATIENCE = 240.0  # seconds that a contender may take to answer
SETTLING = 0.02  # seconds before a turn in which threads that spin fall asleep


@dataclass(frozen=True)
class Contender:
    """A name, what makes its steps (`module:function`), the package it needs."""

    name: str
    maker: str
    package: str

    @property
    def present(self) -> bool:
        module = self.maker.partition(":")[0]
        rooms = (self.package, module.partition(".")[0])
        places = [str(Path.cwd()), *sys.path]  # as `python -m`, which runs the workers, looks
        return all(PathFinder.find_spec(room, places) is not None for room in rooms)


OWN = Contender("pullback", "pullback.bench.own:compiled", "pullback")
PEERS = (
    Contender("torch eager", "benchmarks.models.torch_models:eager", "torch"),
    Contender("torch.compile", "benchmarks.models.torch_models:compiled", "torch"),
    Contender("jax.jit", "benchmarks.models.jax_models:jitted", "jax"),
)
"""Their models stand beside the package, in the repository; an installed package runs alone."""


@dataclass
class Cell:
    """What one contender needed: seconds and bytes, or why there are none."""

    turns: list[float] = field(default_factory=list)
    first: float | None = None
    memory: int | None = None
    failure: str | None = None

    @property
    def median(self) -> float | None:
        return statistics.median(self.turns) if self.turns else None


@dataclass
class Line:
    """One task: the cells, and what is known of the step itself."""

    task: str
    cells: dict[str, Cell]
    flops: int
    bytes: int
    warm: float | None = None
    """Seconds of this library's first call where the object cache holds the program."""
    predicted: int | None = None
    """The peak of the plan, in bytes."""

    def limit(self, machine: Machine) -> tuple[float, str]:
        """Seconds that no step can beat, and what says so: arithmetic or memory."""
        arithmetic, memory = self.flops / machine.flops, self.bytes / machine.bandwidth
        return max((arithmetic, "arithmetic"), (memory, "memory"))

    @property
    def best_peer(self) -> float | None:
        times = [cell.median for name, cell in self.cells.items() if name != OWN.name]
        return min((t for t in times if t is not None), default=None)

    @property
    def speedup(self) -> float | None:
        """How many times faster than the best of the others."""
        own, best = self.cells[OWN.name].median, self.best_peer
        return None if own is None or best is None else best / own


# ---- a line ---------------------------------------------------------------------------------


def time_task(
    task: str,
    contenders: Sequence[Contender],
    machine: Machine,
    rounds: int,
    seconds: float,
    caches: Path,
) -> Line:
    """Each contender's first call alone, then `rounds` of turns of about `seconds` each.

    `caches` is a folder of the whole run, in which each task begins with an empty cache of this
    library. torch has one for the run: it keeps its compiled headers there too.
    """
    line = Line(task, {each.name: Cell() for each in contenders}, *work(TASKS[task]))
    with ExitStack() as stack:
        environment = _environment(caches, task, machine.threads)
        _cold_start(line, environment, machine.threads)
        workers = {
            each.name: stack.enter_context(running(each, task, machine.threads, environment))
            for each in contenders
        }
        for name, worker in workers.items():
            _attempt(line.cells[name], worker.answer, "imports")
        for name, worker in workers.items():
            _attempt(line.cells[name], _begin, line, name, worker)
        machine.measure()
        for _ in range(rounds):
            for name, worker in workers.items():
                _attempt(line.cells[name], _turn, line, name, worker, seconds)
        for name, worker in workers.items():
            _attempt(line.cells[name], _weigh, line, name, worker)
        machine.measure()
    return line


def _cold_start(line: Line, environment: Mapping[str, str], threads: int) -> None:
    """This library's first call with an empty cache, in a process that does no more."""
    cell = line.cells[OWN.name]
    with running(OWN, line.task, threads, environment) as worker:
        _attempt(cell, worker.answer, "imports")
        _attempt(cell, _begin, line, OWN.name, worker)


def _begin(line: Line, name: str, worker: Process) -> None:
    seconds, cell = worker.ask("first")["seconds"], line.cells[name]
    if cell.first is None:
        cell.first = seconds
    else:
        line.warm = seconds


def _turn(line: Line, name: str, worker: Process, seconds: float) -> None:
    time.sleep(SETTLING)
    line.cells[name].turns.append(worker.ask("time", seconds=seconds)["seconds"])


def _weigh(line: Line, name: str, worker: Process) -> None:
    line.cells[name].memory = worker.ask("memory")["bytes"]
    if name == OWN.name:
        line.predicted = worker.ask("predict")["bytes"]


def _attempt(cell: Cell, action: Callable[..., Any], *arguments: Any) -> None:
    """A contender that failed once is asked no more."""
    if cell.failure is None:
        try:
            action(*arguments)
        except Failure as failure:
            cell.failure = str(failure)


def _environment(caches: Path, task: str, threads: int) -> dict[str, str]:
    """New caches for all, the same number of threads for all."""
    names = ("OMP_NUM", "MKL_NUM", "OPENBLAS_NUM", "PULLBACK")
    own = caches / f"pullback {task}"
    own.mkdir(mode=0o700)
    return {
        **os.environ,
        **{f"{name}_THREADS": str(threads) for name in names},
        "PULLBACK_CACHE": str(own),
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "torch"),
    }


# ---- processes ------------------------------------------------------------------------------


class Failure(Exception):
    """A contender cannot do the task."""


class Process:
    """A worker, seen from outside."""

    def __init__(self, process: subprocess.Popen[str], complaints: IO[str]) -> None:
        self.process = process
        self.complaints = complaints

    def ask(self, what: str, **details: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"ask": what, **details}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._death(what) from None
        return self.answer(what)

    def answer(self, what: str) -> dict[str, Any]:
        """Raises `Failure` for a process that died, tells of an error, or takes too long."""
        assert self.process.stdout is not None
        alarm = threading.Timer(PATIENCE, self.process.kill)
        alarm.start()
        text = self.process.stdout.readline()
        late = not alarm.is_alive()
        alarm.cancel()
        if not text:
            raise Failure(f"{what}: no answer in {PATIENCE:.0f} s") if late else self._death(what)
        answer: dict[str, Any] = json.loads(text)
        if "error" in answer:
            raise Failure(f"{what}: {answer['error']}")
        return answer

    def _death(self, what: str) -> Failure:
        code = self.process.wait()
        self.complaints.seek(0)
        last = self.complaints.read().strip().rpartition("\n")[2]
        return Failure(f"{what}: the process ended with code {code}: {last}")


@contextmanager
def running(
    contender: Contender, task: str, threads: int, environment: Mapping[str, str]
) -> Iterator[Process]:
    """A process that imports, and then answers `imports`."""
    command = [sys.executable, "-m", "pullback.bench.worker", contender.maker, task, str(threads)]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints,
        subprocess.Popen(  # noqa: S603  (this interpreter, on modules named above)
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            env=dict(environment),
        ) as process,
    ):
        try:
            yield Process(process, complaints)
        finally:
            process.kill()
