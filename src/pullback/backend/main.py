"""The function of a whole program: its kernels in order, on every thread."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

from pullback.backend.assembly import Function, Module, Ssa, integer
from pullback.backend.barrier import add_barrier
from pullback.backend.calls import write_kernel
from pullback.backend.crowd import Crowd, runs_of
from pullback.backend.nested import write_nested
from pullback.backend.roster import Roster
from pullback.backend.sharing import share
from pullback.backend.target import Target
from pullback.backend.written import Check, Part, Placed, Written
from pullback.schedule.aliasing import Use
from pullback.schedule.canonical import Canonical, canonical, renumbered
from pullback.schedule.cost import nanoseconds
from pullback.schedule.kernels import Kernel, Nested, Schedule
from pullback.schedule.memory import Plan
from pullback.schedule.parts import parts_of

LONELY = 100_000
"""Nanoseconds below which a whole program is run by its caller alone: to wake another thread and
to wait for it costs up to 200 µs."""

CALL_BACK = 20_000
"""Nanoseconds of a call back in Python: more than a kernel may take that some thread runs alone."""


def write_kernels(schedule: Schedule, target: Target) -> tuple[Module, tuple[Written, ...]]:
    """A module with the kernels of a schedule, equal ones once."""
    emitter = Emitter.begin(target)
    return emitter.module, tuple([emitter.write(kernel) for kernel in schedule.kernels])


def write_main(
    module: Module, target: Target, kernels: Sequence[Written], plan: Plan, guard: int | None = None
) -> str:
    """The module with `program(ptr argument, i64 thread, i64 threads, ptr team)`, exported.

    The argument holds the address of the table of operand pointers, and the address and the size of
    the scratch of a thread. The kernels from number `guard` on, which overwrite donated memory, run
    only where no kernel before them has failed.
    """
    f, crowd, table = _opened("program")
    slots = _slots(kernels)
    if len(kernels) == 1:
        crowd.run(kernels, plan, lambda i: table)
    elif guard is None:
        Roster.add(module, runs_of(kernels, plan), slots).run(crowd, table, 0, len(kernels))
    else:
        roster = Roster.add(module, runs_of(kernels, plan), slots)
        roster.run(crowd, table, 0, guard)
        crowd.wait()  # all threads see the same failures
        failure = _failure(f, table, kernels[:guard], slots)
        with f.when(f.compare("icmp eq", failure, integer(0))):
            roster.run(crowd, table, guard, len(kernels))
    f.finish()
    module.add(f, exported=True)
    return _closed(module, target)


def _closed(module: Module, target: Target) -> str:
    """The text of a module that has all its functions, with the barrier if one of them waits.

    The barrier is a third of the time that LLVM takes for a program of one small kernel.
    """
    if any("@barrier(" in text for text in module.functions):
        add_barrier(module, target)
    share(module)
    return str(module)


def _failure(f: Function, table: Ssa, kernels: Sequence[Written], slots: Sequence[int]) -> Ssa:
    """Not 0 where one of the kernels has failed."""
    flags = []
    for slot, kernel in zip(slots, kernels, strict=False):
        if kernel.checks:
            place = integer(slot + kernel.status)
            status = f.load("ptr", f.at(table, "ptr", place), 8)
            count = len(kernel.checks)
            flags += [f.load("i64", f.at(status, "i64", integer(2 * k)), 8) for k in range(count)]
    return reduce(lambda x, y: f.binary("or", x, y), flags)


def write_steps(module: Module, target: Target, kernels: Sequence[Written]) -> str:
    """The module with a function for each kernel that runs it alone: `step0`, `step1` …

    They take what `program` takes, and are there to be timed.
    """
    slots = _slots(kernels)
    for i, kernel in enumerate(kernels):
        f, crowd, table = _opened(f"step{i}")
        crowd.together(kernel, f.at(table, "ptr", integer(slots[i])))
        f.finish()
        module.add(f, exported=True)
    return _closed(module, target)


def _opened(name: str) -> tuple[Function, Crowd, Ssa]:
    """A function that all threads call, and the table of operand pointers."""
    f = Function(
        name, [("ptr", "argument"), ("i64", "thread"), ("i64", "threads"), ("ptr", "team")]
    )
    argument, thread, threads, crew = f.parameters
    table = f.load("ptr", argument, 8)
    scratch = f.load("ptr", f.at(argument, "ptr", integer(1)), 8)
    size = f.load("i64", f.at(argument, "i64", integer(2)), 8)
    mine = f.at(scratch, "i8", f.binary("mul", size, thread))
    return f, Crowd(f, thread, threads, crew, mine), table


def _slots(kernels: Sequence[Written]) -> list[int]:
    """Where the operands of each kernel begin in the table."""
    slots = [0]
    for kernel in kernels:
        slots.append(slots[-1] + len(kernel.operands))
    return slots


def is_worth_threads(kernels: Sequence[Written]) -> bool:
    """Whether a program does enough for more than one thread; its bits do not depend on it."""
    return sum(kernel.cost for kernel in kernels) >= LONELY


# ---- kernels --------------------------------------------------------------------------------


@dataclass
class Emitter:
    """Writes the code of kernels, once for those that differ in buffers and lines alone."""

    module: Module
    target: Target
    known: dict[Hashable, tuple[Written, Canonical]] = field(default_factory=dict)
    count: int = 0

    @classmethod
    def begin(cls, target: Target) -> Emitter:
        """With an empty module."""
        return cls(Module(), target)

    def write(self, kernel: Kernel) -> Written:
        form = canonical(kernel)
        known = self.known.get(form.key)
        if known is None:
            numbers = {buffer: i for i, buffer in enumerate(form.buffers)}
            name = f"kernel{self.count}"
            self.count += 1
            known = self.known[form.key] = self._write(renumbered(kernel, numbers), name), form
        return _on_buffers_of(form, *known)

    def _write(self, kernel: Kernel, name: str) -> Written:
        if isinstance(kernel, Nested):
            return write_nested(kernel, name, self.module, self.write)
        written = write_kernel(kernel, name, self.module, self.target)
        cost = nanoseconds(kernel) + CALL_BACK * len(written.callbacks)
        parts = tuple([Part(Use.of(part), nanoseconds(part)) for part in parts_of(kernel)])
        return replace(written, cost=cost, use=Use.of(kernel), parts=parts)


def _on_buffers_of(form: Canonical, written: Written, first: Canonical) -> Written:
    """What was written for the kernel of `first`, for an equal one."""
    operands = tuple(
        [x if x.buffer < 0 else Placed(form.buffers[x.buffer], x.offset) for x in written.operands]
    )

    def moved(check: Check) -> Check:
        return check.at(form.sites[first.sites.index(check.site)])

    packing = written.packing
    return Written(
        written.name,
        operands,
        written.iterations,
        written.scratch,
        tuple([moved(each) for each in written.checks]),
        written.cost,
        written.use.on(form.buffers),
        written.nested,
        None if packing is None else replace(packing, source=operands[1]),
        tuple([part.on(form.buffers) for part in written.parts]),
    )
