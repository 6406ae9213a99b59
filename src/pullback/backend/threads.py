"""A team of threads that stay: each inside one native call, waiting for jobs without the GIL.

A program holds its team. Programs with the same number of threads share one (`team`); the only
state of the process is the holder of the teams alive, which starts them anew after a fork. Workers
start at a team's first job and end with the team, or at the interpreter's exit.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pullback._settings import settings
from pullback.backend.barrier import TEAM_BYTES, team_module
from pullback.backend.cache import ObjectCache, load
from pullback.backend.jit import Library
from pullback.backend.target import Target

PATIENCE = 1.0  # seconds in which a dismissed worker comes home; only one in a job takes longer


class Team:
    """`threads` threads: the caller of `run`, and workers."""

    def __init__(self, threads: int) -> None:
        assert threads >= 1
        self.threads = threads
        self._native = _native()
        self._lock = threading.Lock()
        self._runner: int | None = None
        self._crew: _Crew | None = None
        _TEAMS.add(self)

    def run(self, function: int, argument: int) -> None:
        """Call `void function(ptr argument, i64 thread, i64 threads, ptr team)` on every thread.

        Both are addresses. Returns when all threads have; the caller is thread 0. Floating-point
        modes are the default ones on every thread, whatever the caller's. Calls from several
        Python threads wait for one another; one from inside a job (a callback, a signal handler)
        runs on its own thread alone. A `KeyboardInterrupt` is raised when the job is done.
        """
        caller = threading.get_ident()
        if self.threads == 1 or self._runner == caller:
            self._native.alone(function, argument)
            return
        with self._lock:
            self._runner = caller
            try:
                self._present().launch(function, argument)
            finally:
                self._runner = None

    def _present(self) -> _Crew:
        if self._crew is None or not self._crew.finalizer.alive:
            self._crew = _Crew(self.threads, self._native)
        return self._crew

    def _forget(self) -> None:
        """In the child of a fork: the workers stayed with the parent, and the lock may be held."""
        self._lock = threading.Lock()
        self._runner = None
        if self._crew is not None:
            self._crew.finalizer.detach()
            self._crew = None


def team(threads: int | None = None) -> Team:
    """The team of `threads` threads that is alive, or a new one; `None`: `thread_count()`."""
    return _TEAMS.of(thread_count() if threads is None else threads)


def thread_count() -> int:
    """`PULLBACK_THREADS`, or as many as there are cores for this process."""
    return settings().threads or _usable_cores()


def _usable_cores() -> int:
    """The cores this process may run on, within the quota of its container."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    cores = len(os.sched_getaffinity(0))
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, -(-int(quota) // int(period))))


# ---- the process's teams --------------------------------------------------------------------


class _Teams:
    """Every team of this process, weakly: who is to be started anew after a fork, and shared."""

    def __init__(self) -> None:
        self._all: weakref.WeakSet[Team] = weakref.WeakSet()
        self._shared: weakref.WeakValueDictionary[int, Team] = weakref.WeakValueDictionary()
        self._lock = threading.RLock()  # a signal handler may make a team too
        self._hooked = False

    def of(self, threads: int) -> Team:
        with self._lock:
            found = self._shared.get(threads)
        made = found or Team(threads)
        with self._lock:
            return self._shared.setdefault(threads, made)

    def add(self, team: Team) -> None:
        with self._lock:
            self._all.add(team)
            if not self._hooked and hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=self._after_fork)
                self._hooked = True

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        for each in self._all:
            each._forget()


_TEAMS = _Teams()


# ---- workers --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Native:
    """The functions of `backend/barrier.py`, and the library that keeps them in memory."""

    library: Library
    launch: Callable[[int, int, int], None]
    worker: Callable[[int, int], None]
    alone: Callable[[int, int], None]
    dismiss: Callable[[int], None]


@functools.cache
def _native() -> _Native:
    target = Target.host()
    symbols = ("launch", "worker", "alone", "dismiss")
    library = load(team_module(target), symbols, target, ObjectCache.chosen())
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    return _Native(
        library,
        launch=library.function("launch", pointer, pointer, pointer),
        worker=library.function("worker", pointer, number),
        alone=library.function("alone", pointer, pointer),
        dismiss=library.function("dismiss", pointer),
    )


class _Crew:
    """The workers of a team that run now, and the memory through which they get their jobs."""

    def __init__(self, threads: int, native: _Native) -> None:
        memory = ctypes.create_string_buffer(TEAM_BYTES + 128)
        self._address = -(-ctypes.addressof(memory) // 128) * 128
        self._launch = native.launch
        ctypes.c_int64.from_address(self._address + 24).value = threads
        workers: list[threading.Thread] = []
        # Daemons, because Python joins the others at exit before any code of ours can run.
        self.finalizer = weakref.finalize(self, _dismiss, native, self._address, workers)
        for number in range(1, threads):
            worker = threading.Thread(
                target=_work,
                args=(native, self._address, number, memory),
                name=f"pullback-{number}",
                daemon=True,
            )
            try:
                worker.start()
            except BaseException:
                self.finalizer()
                raise
            workers.append(worker)

    def launch(self, function: int, argument: int) -> None:
        self._launch(self._address, function, argument)


def _work(native: _Native, address: int, number: int, memory: Any) -> None:
    """The life of a worker: one native call. It holds the team's memory as long as it lasts."""
    native.worker(address, number)


def _dismiss(native: _Native, address: int, workers: list[threading.Thread]) -> None:
    native.dismiss(address)
    for worker in workers:
        worker.join(PATIENCE)
