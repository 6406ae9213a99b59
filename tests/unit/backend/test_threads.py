"""Teams of threads: barriers hold, jobs reach everybody, processes end and fork well."""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import pytest

from pullback._settings import override
from pullback.backend import barrier as barrier_text
from pullback.backend.assembly import Module
from pullback.backend.barrier import add_barrier
from pullback.backend.jit import Library, assembly, compile_object
from pullback.backend.target import Target
from pullback.backend.threads import Team, _native, team, thread_count
from unit.backend import jobs

TESTS = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def code():
    return jobs.library()


def workers():
    return sorted(each.name for each in threading.enumerate() if each.name.startswith("pullback-"))


def run_script(script, *, code=0):
    """What a script prints in an interpreter of its own, which must end with `code`."""
    paths = os.pathsep.join([str(TESTS.parent / "src"), str(TESTS)])
    shown = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-W",
            "ignore:This process:DeprecationWarning",
            "-c",
            script,
        ],
        env={**os.environ, "PYTHONPATH": paths, "PULLBACK_CACHE": "off"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (shown.returncode, shown.stderr) == (code, "")
    return shown.stdout


# ---- jobs and barriers ----------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 4, 8])
def test_every_thread_runs_every_job(code, threads):
    assert jobs.count(Team(threads), code, 200) == [200] * threads


@pytest.mark.parametrize(("threads", "rounds"), [(1, 50_000), (2, 50_000), (4, 2000), (8, 500)])
def test_nobody_leaves_a_barrier_early(code, threads, rounds):
    assert jobs.faults(Team(threads), code, rounds) == 0


def test_barriers_beside_a_process_that_takes_a_core(code):
    hog = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        begin = time.perf_counter()
        assert jobs.faults(Team(2), code, 2000) == 0
        assert time.perf_counter() - begin < 20.0  # 4000 barriers; a collapse takes minutes
    finally:
        hog.kill()
        hog.wait()


def test_sleeping_workers_wake_up(code):
    crew = Team(3)
    for _ in range(5):
        assert jobs.count(crew, code, 1) == [1, 1, 1]
        time.sleep(0.05)  # longer than any spinning: everybody sleeps now


def test_one_thread_needs_no_worker(code, monkeypatch):
    def start(self):
        raise AssertionError("a worker for one thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert jobs.faults(Team(1), code, 10) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="calls usleep")
def test_barriers_hold_where_there_are_no_futexes(monkeypatch):
    monkeypatch.setattr(barrier_text, "YIELDS", 20)
    target = Target.host()
    elsewhere = dataclasses.replace(target, triple=f"{target.family.architecture}-unknown-freebsd")
    module = Module(functions=[jobs.PHASES])
    add_barrier(module, elsewhere)
    text = str(module)
    assert "usleep" in text
    assert "syscall" not in text
    library = Library(compile_object(text, target), ("phases",))
    assert jobs.faults(Team(2), library, 2000) == 0


def test_the_floating_point_mode_of_the_caller_does_not_matter(code):
    mathematics = ctypes.CDLL("libm.so.6") if sys.platform == "linux" else None
    if mathematics is None or os.uname().machine != "x86_64":
        pytest.skip("asks the C library of Linux on x86-64 for another rounding mode")
    for threads in (1, 2):
        crew = Team(threads)
        argument = (ctypes.c_float * (2 + threads))(1.0, 2.0**-30)
        mathematics.fesetround(0x800)  # upwards: the sum would be the next number above 1
        try:
            crew.run(code.addresses["add"], ctypes.addressof(argument))
            assert mathematics.fegetround() == 0x800
        finally:
            mathematics.fesetround(0)
        assert list(argument[2:]) == [1.0] * threads


# ---- sharing --------------------------------------------------------------------------------


def test_teams_are_shared_by_thread_count():
    assert team(3) is team(3)
    assert team(3) is not team(2)
    with override(threads=5):
        assert thread_count() == 5
        assert team().threads == 5
    assert 1 <= thread_count() <= os.cpu_count()


def test_two_teams_at_once(code):
    first, second = Team(2), Team(3)
    for _ in range(20):
        assert jobs.count(first, code, 1) == [1, 1]
        assert jobs.count(second, code, 1) == [1, 1, 1]


def test_python_threads_take_turns(code):
    shared, seen = Team(2), []

    def call():
        seen.append(jobs.count(shared, code, 50))

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert seen == [[50, 50]] * 4


def test_a_job_inside_a_job_runs_alone(code):
    crew, seen = Team(2), []

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
    def outer(argument, thread, threads, place):
        if thread == 0:
            seen.append(jobs.count(crew, code, 1))

    crew.run(ctypes.cast(outer, ctypes.c_void_p).value, 0)
    assert seen == [[1, 0]]


# ---- birth and death ------------------------------------------------------------------------


def test_a_team_that_is_gone_leaves_no_thread(code):
    gc.collect()
    before = workers()
    crew = Team(4)
    jobs.count(crew, code, 3)
    assert len(workers()) == len(before) + 3
    del crew
    assert workers() == before


def test_a_worker_that_cannot_start_leaves_none_behind(code, monkeypatch):
    before, started = workers(), []
    start = threading.Thread.start

    def start_two(self):
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(self)
        start(self)

    crew = Team(4)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start_two)
        with pytest.raises(RuntimeError, match="can't start"):
            jobs.count(crew, code, 1)
    assert workers() == before
    assert jobs.count(crew, code, 2) == [2, 2, 2, 2]


def test_launches_leave_nothing_behind(code):
    crew = Team(2)
    jobs.count(crew, code, 10)
    tracemalloc.start()
    try:
        jobs.count(crew, code, 100)
        before = tracemalloc.get_traced_memory()[0]
        jobs.count(crew, code, 2000)
        assert tracemalloc.get_traced_memory()[0] - before < 2000
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers of signals")
def test_an_interrupt_comes_after_the_job(code):
    crew = Team(2)
    jobs.count(crew, code, 1)

    def interrupt(number, frame):
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            for _ in range(1000):
                jobs.faults(crew, code, 1000)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert jobs.count(crew, code, 3) == [3, 3]


SETUP = """
import os, sys, threading
from pullback.backend.threads import Team, team
from unit.backend import jobs
code = jobs.library()
crew = team(3)
assert jobs.count(crew, code, 5) == [5, 5, 5]
"""


@pytest.mark.parametrize(
    ("end", "status"),
    [("", 0), ("del crew", 0), ("sys.exit(3)", 3), ("os._exit(0)", 0)],
    ids=["end", "team deleted", "sys.exit", "os._exit"],
)
def test_the_interpreter_ends_well(end, status):
    run_script(SETUP + end, code=status)


def test_the_interpreter_ends_well_beside_a_thread_that_uses_a_team():
    run_script(
        SETUP
        + """
def work():
    while True:
        jobs.faults(crew, code, 100)

threading.Thread(target=work, daemon=True).start()
import time; time.sleep(0.1)
"""
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_workers_start_again_after_a_fork():
    shown = run_script(
        SETUP
        + """
crew._lock.acquire()  # as if another thread were in a job when this one forks
child = os.fork()
if child == 0:
    assert not [x for x in threading.enumerate() if x.name.startswith("pullback-")]
    assert jobs.count(crew, code, 4) == [4, 4, 4]
    assert jobs.faults(crew, code, 100) == 0
    grandchild = os.fork()
    if grandchild == 0:
        assert jobs.count(crew, code, 2) == [2, 2, 2]
        sys.exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]) == 0
    print("child done", flush=True)
    sys.exit(0)
crew._lock.release()
assert jobs.count(crew, code, 4) == [4, 4, 4]
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print("parent done")
"""
    )
    assert shown.split("\n")[:2] == ["child done", "parent done"]


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_multiprocessing_pools_use_their_own_teams():
    shown = run_script(
        SETUP
        + """
import multiprocessing

def work(_):
    return jobs.count(crew, code, 3)

with multiprocessing.get_context("fork").Pool(2) as pool:
    print(pool.map(work, range(4)))
"""
    )
    assert shown.strip() == str([[3, 3, 3]] * 4)


# ---- the text -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["avx2", "avx512", "neon"])
def test_the_text_is_code_for_every_target(name):
    target = Target.named(name)
    listing = assembly(barrier_text.team_module(target), target)
    assert all(f"{symbol}:" in listing for symbol in ("launch", "worker", "alone", "dismiss"))


def test_the_native_part_is_loaded_once():
    assert _native() is _native()
