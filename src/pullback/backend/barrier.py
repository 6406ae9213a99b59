"""How threads wait for each other, as LLVM text: the barrier of a program, the loop of a worker.

A waiter spins for 100 `pause`s (3 µs), then gives its core away 500 times, then sleeps. Spinning
holds the core that the awaited thread may need: with every core also wanted by other processes,
100 phases of 40 µs on 2 threads take 9 ms, and 13 ms after 500 pauses, 24 ms after 2000.

The memory of a team is three lines of 128 bytes (a processor fetches 64-byte lines in pairs):

      0  i32 generation, i32 sleepers, ptr function, ptr argument, i64 threads    the job
    128  i32 arrivals                                                             the barrier
    256  i32 phase, i32 sleepers

`generation` and `phase` are the words that are waited for; behind each stands how many sleep on it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pullback.backend.assembly import Module
from pullback.backend.target import Target

TEAM_BYTES = 3 * 128
PAUSES = 100
YIELDS = 500


def add_barrier(module: Module, target: Target) -> None:
    """Give a module `void @barrier(ptr %team, i64 %threads)`: it returns when all have called it.

    One thread alone passes at once, and its `%team` may be null.
    """
    system = _system(target)
    module.functions[:0] = [_wait(system), _release(system), _BARRIER]
    module.declarations |= system.declarations


def team_module(target: Target) -> str:
    """The module of the workers: exports `launch`, `worker`, `alone` and `dismiss`."""
    module = Module()
    add_barrier(module, target)
    save, restore, declarations = _FLOATING_POINT[target.family.architecture]
    module.functions += [_WORK.format(save=save, restore=restore), _LAUNCH, _WORKER, _ALONE]
    module.functions += [_DISMISS]
    module.declarations |= declarations
    return str(module)


# ---- what the system offers -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class System:
    """LLVM instructions that wait: in `sleep`, `%word` is slept on while it holds `%old`."""

    pause: str
    give_way: str
    sleep: str
    wake: str
    declarations: dict[str, str]


def _system(target: Target) -> System:
    """Futexes on Linux; elsewhere `sched_yield` and naps, after which a waiter looks again."""
    architecture = target.family.architecture
    pause = ""
    if target.is_native:  # inline assembly of another architecture cannot be made
        pause = f'call void asm sideeffect "{_PAUSE[architecture]}", "~{{memory}}"()'
        if "linux" in target.triple:
            call = _LINUX_CALLS[architecture]
            return System(
                pause,
                _system_call(call, call.sched_yield, "0", "0", "0", "0"),
                _system_call(call, call.futex, "%address", "128", "%old.wide", "0"),
                _system_call(call, call.futex, "%address", "129", "2147483647", "0"),
                {},
            )
    give_way, sleep = ("i32 @sched_yield()", "i32 @usleep(i32 50)")
    if "windows" in target.triple:
        give_way, sleep = ("i32 @SwitchToThread()", "void @Sleep(i32 1)")
    declarations = {
        call: f"declare {re.sub('i32 [0-9]+', 'i32', call)}" for call in (give_way, sleep)
    }
    return System(pause, f"call {give_way}", f"call {sleep}", "", declarations)


@dataclass(frozen=True, slots=True)
class LinuxCalls:
    """How a system call is made, and the numbers of two."""

    instruction: str
    constraints: str
    futex: int
    sched_yield: int


_PAUSE = {"x86_64": "pause", "aarch64": "isb"}
_LINUX_CALLS = {
    "x86_64": LinuxCalls(
        "syscall", "={rax},{rax},{rdi},{rsi},{rdx},{r10},~{rcx},~{r11},~{memory}", 202, 24
    ),
    "aarch64": LinuxCalls("svc #0", "={x0},{x8},{x0},{x1},{x2},{x3},~{memory}", 98, 124),
}


def _system_call(call: LinuxCalls, number: int, *arguments: str) -> str:
    operands = ", ".join(f"i64 {each}" for each in (str(number), *arguments))
    return f'call i64 asm sideeffect "{call.instruction}", "{call.constraints}"({operands})'


# ---- waiting --------------------------------------------------------------------------------


def _wait(system: System) -> str:
    """`wait(word, old)` returns when the word holds another value than `old`."""
    return f"""define internal void @wait(ptr %word, i32 %old) nounwind {{
entry:
  %sleepers = getelementptr inbounds i8, ptr %word, i64 4
  %address = ptrtoint ptr %word to i64
  %old.wide = zext i32 %old to i64
  br label %look
look:
  %turn = phi i64 [ 0, %entry ], [ %next, %waited ]
  %now = load atomic i32, ptr %word acquire, align 4
  %same = icmp eq i32 %now, %old
  br i1 %same, label %choose, label %done
choose:
  %next = add i64 %turn, 1
  %hot = icmp ult i64 %turn, {PAUSES}
  br i1 %hot, label %pause, label %cooler
pause:
  {system.pause}
  br label %waited
cooler:
  %warm = icmp ult i64 %turn, {PAUSES + YIELDS}
  br i1 %warm, label %give_way, label %sleep
give_way:
  {system.give_way}
  br label %waited
sleep:
  atomicrmw add ptr %sleepers, i32 1 seq_cst
  {system.sleep}
  atomicrmw sub ptr %sleepers, i32 1 seq_cst
  br label %waited
waited:
  br label %look
done:
  ret void
}}
"""


def _release(system: System) -> str:
    """`release(word)` changes the word and wakes who sleeps on it.

    Nobody is missed: a sleeper counts itself, then the kernel looks at the word again; here the
    word changes, then the count is read; all four in one sequentially consistent order.
    """
    return f"""define internal void @release(ptr %word) nounwind {{
entry:
  %sleepers = getelementptr inbounds i8, ptr %word, i64 4
  %address = ptrtoint ptr %word to i64
  atomicrmw add ptr %word, i32 1 seq_cst
  %count = load atomic i32, ptr %sleepers seq_cst, align 4
  %awake = icmp eq i32 %count, 0
  br i1 %awake, label %done, label %wake
wake:
  {system.wake}
  br label %done
done:
  ret void
}}
"""


# The phase is read before arriving: it cannot change until this thread has arrived. The last one
# sets the count back before the phase changes, so nobody can arrive at the next barrier too early.
_BARRIER = """define internal void @barrier(ptr %team, i64 %threads) nounwind {
entry:
  %alone = icmp eq i64 %threads, 1
  br i1 %alone, label %done, label %arrive
arrive:
  %arrivals = getelementptr inbounds i8, ptr %team, i64 128
  %phase = getelementptr inbounds i8, ptr %team, i64 256
  %old = load atomic i32, ptr %phase monotonic, align 4
  %before = atomicrmw add ptr %arrivals, i32 1 acq_rel
  %others = trunc i64 %threads to i32
  %count = add i32 %before, 1
  %last = icmp eq i32 %count, %others
  br i1 %last, label %open, label %stay
open:
  store atomic i32 0, ptr %arrivals monotonic, align 4
  call void @release(ptr %phase)
  br label %done
stay:
  call void @wait(ptr %phase, i32 %old)
  br label %done
done:
  ret void
}
"""

# ---- working --------------------------------------------------------------------------------

# A library may have set this thread's processor to flush subnormal numbers or to round otherwise.
# A job runs in the default mode on every thread, so that its results do not depend on that.
_FLOATING_POINT: dict[str, tuple[str, str, dict[str, str]]] = {
    "x86_64": (
        # 8064 = 0x1F80: round to nearest, keep subnormal numbers, no traps
        """call void @llvm.x86.sse.stmxcsr(ptr %kept)
  store i32 8064, ptr %default, align 4
  call void @llvm.x86.sse.ldmxcsr(ptr %default)""",
        "call void @llvm.x86.sse.ldmxcsr(ptr %kept)",
        {
            "llvm.x86.sse.stmxcsr": "declare void @llvm.x86.sse.stmxcsr(ptr)",
            "llvm.x86.sse.ldmxcsr": "declare void @llvm.x86.sse.ldmxcsr(ptr)",
        },
    ),
    "aarch64": (
        "%fpcr = call i64 @llvm.aarch64.get.fpcr()\n  call void @llvm.aarch64.set.fpcr(i64 0)",
        "call void @llvm.aarch64.set.fpcr(i64 %fpcr)",
        {
            "llvm.aarch64.get.fpcr": "declare i64 @llvm.aarch64.get.fpcr()",
            "llvm.aarch64.set.fpcr": "declare void @llvm.aarch64.set.fpcr(i64)",
        },
    ),
}

_JOB = "ptr %argument, i64 %thread, i64 %threads, ptr %team"
_WORK = f"""define internal void @work(ptr %function, {_JOB}) nounwind {{{{
entry:
  %kept = alloca i32, align 4
  %default = alloca i32, align 4
  {{save}}
  call void %function({_JOB})
  {{restore}}
  ret void
}}}}
"""

_ALONE = """define void @alone(ptr %function, ptr %argument) nounwind {
entry:
  call void @work(ptr %function, ptr %argument, i64 0, i64 1, ptr null)
  ret void
}
"""

# The caller is thread 0. The final barrier is the join: no worker can miss a generation.
_LAUNCH = """define void @launch(ptr %team, ptr %function, ptr %argument) nounwind {
entry:
  %function.at = getelementptr inbounds i8, ptr %team, i64 8
  %argument.at = getelementptr inbounds i8, ptr %team, i64 16
  %threads.at = getelementptr inbounds i8, ptr %team, i64 24
  %threads = load i64, ptr %threads.at, align 8
  store ptr %function, ptr %function.at, align 8
  store ptr %argument, ptr %argument.at, align 8
  call void @release(ptr %team)
  call void @work(ptr %function, ptr %argument, i64 0, i64 %threads, ptr %team)
  call void @barrier(ptr %team, i64 %threads)
  ret void
}
"""

_WORKER = """define void @worker(ptr %team, i64 %thread) nounwind {
entry:
  %function.at = getelementptr inbounds i8, ptr %team, i64 8
  %argument.at = getelementptr inbounds i8, ptr %team, i64 16
  %threads.at = getelementptr inbounds i8, ptr %team, i64 24
  %threads = load i64, ptr %threads.at, align 8
  br label %idle
idle:
  %seen = phi i32 [ 0, %entry ], [ %generation, %job ]
  call void @wait(ptr %team, i32 %seen)
  %generation = load atomic i32, ptr %team acquire, align 4
  %function = load ptr, ptr %function.at, align 8
  %argument = load ptr, ptr %argument.at, align 8
  %dismissed = icmp eq ptr %function, null
  br i1 %dismissed, label %done, label %job
job:
  call void @work(ptr %function, ptr %argument, i64 %thread, i64 %threads, ptr %team)
  call void @barrier(ptr %team, i64 %threads)
  br label %idle
done:
  ret void
}
"""

_DISMISS = """define void @dismiss(ptr %team) nounwind {
entry:
  %function.at = getelementptr inbounds i8, ptr %team, i64 8
  store ptr null, ptr %function.at, align 8
  call void @release(ptr %team)
  ret void
}
"""
