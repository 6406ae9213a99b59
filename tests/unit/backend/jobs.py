"""Small native jobs that teams run in the tests."""

from __future__ import annotations

import ctypes

from pullback.backend.assembly import Module
from pullback.backend.barrier import add_barrier
from pullback.backend.cache import ObjectCache, load
from pullback.backend.target import Target

COUNT = """
define void @count(ptr %calls, i64 %thread, i64 %threads, ptr %team) {
  %mine = getelementptr i64, ptr %calls, i64 %thread
  %old = load i64, ptr %mine
  %new = add i64 %old, 1
  store i64 %new, ptr %mine
  ret void
}
"""

# argument = {rounds, faults, a number for each thread}. In each round a thread writes the round's
# number, passes the barrier, and counts a fault for each number that is not the round's.
PHASES = """
define void @phases(ptr %argument, i64 %thread, i64 %threads, ptr %team) {
entry:
  %rounds = load i64, ptr %argument
  %faults = getelementptr i64, ptr %argument, i64 1
  %numbers = getelementptr i64, ptr %argument, i64 2
  %mine = getelementptr i64, ptr %numbers, i64 %thread
  br label %round
round:
  %i = phi i64 [ 0, %entry ], [ %i.next, %done ]
  store i64 %i, ptr %mine
  call void @barrier(ptr %team, i64 %threads)
  br label %look
look:
  %j = phi i64 [ 0, %round ], [ %j.next, %looked ]
  %theirs = getelementptr i64, ptr %numbers, i64 %j
  %number = load i64, ptr %theirs
  %right = icmp eq i64 %number, %i
  br i1 %right, label %looked, label %fault
fault:
  atomicrmw add ptr %faults, i64 1 monotonic
  br label %looked
looked:
  %j.next = add i64 %j, 1
  %more = icmp slt i64 %j.next, %threads
  br i1 %more, label %look, label %done
done:
  call void @barrier(ptr %team, i64 %threads)
  %i.next = add i64 %i, 1
  %again = icmp slt i64 %i.next, %rounds
  br i1 %again, label %round, label %end
end:
  ret void
}
"""

# argument = {x, y, a result for each thread}: x + y rounded as the processor is set.
ADD = """
define void @add(ptr %argument, i64 %thread, i64 %threads, ptr %team) {
  %y.at = getelementptr float, ptr %argument, i64 1
  %results = getelementptr float, ptr %argument, i64 2
  %mine = getelementptr float, ptr %results, i64 %thread
  %x = load float, ptr %argument
  %y = load float, ptr %y.at
  %sum = fadd float %x, %y
  store float %sum, ptr %mine
  ret void
}
"""


def library(cache=None):
    """The jobs, compiled for this machine."""
    target = Target.host()
    module = Module()
    add_barrier(module, target)
    module.functions += [COUNT, PHASES, ADD]
    return load(str(module), ("count", "phases", "add"), target, cache or ObjectCache(None))


def faults(team, code, rounds):
    """How often a thread left a barrier before all others had come."""
    argument = (ctypes.c_int64 * (2 + team.threads))(rounds)
    team.run(code.addresses["phases"], ctypes.addressof(argument))
    assert list(argument[2:]) == [rounds - 1] * team.threads
    return argument[1]


def count(team, code, launches):
    """How often each thread was called."""
    calls = (ctypes.c_int64 * team.threads)()
    for _ in range(launches):
        team.run(code.addresses["count"], ctypes.addressof(calls))
    return list(calls)
