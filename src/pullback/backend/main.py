"""The function of a whole program: its kernels in order, on every thread."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from pullback.backend.assembly import Function, Module, Ssa, integer
from pullback.backend.barrier import add_barrier
from pullback.backend.calls import Placed, Written, write_kernel
from pullback.backend.target import Target
from pullback.backend.turns import Turn, footprints, take_turns
from pullback.schedule.canonical import Canonical, canonical, renumbered
from pullback.schedule.cost import nanoseconds
from pullback.schedule.kernels import Kernel, Schedule
from pullback.schedule.memory import Plan

LONELY = 100_000
"""Nanoseconds below which a whole program is run by its caller alone: to wake another thread and
to wait for it costs up to 200 µs."""


def write_kernels(schedule: Schedule, target: Target) -> tuple[Module, tuple[Written, ...]]:
    """A module with the kernels of a schedule, equal ones once."""
    module = Module()
    add_barrier(module, target)
    emitter = Emitter(module, target)
    return module, tuple([emitter.write(kernel) for kernel in schedule.kernels])


def write_main(module: Module, kernels: Sequence[Written], plan: Plan) -> str:
    """The module with `program(ptr argument, i64 thread, i64 threads, ptr team)`, exported.

    The argument holds the address of the table of operand pointers, and the address and the size of
    the scratch of a thread.
    """
    f = Function(
        "program", [("ptr", "argument"), ("i64", "thread"), ("i64", "threads"), ("ptr", "team")]
    )
    argument, thread, threads, crew = f.parameters
    table = f.load("ptr", argument, 8)
    scratch = f.load("ptr", f.at(argument, "ptr", integer(1)), 8)
    size = f.load("i64", f.at(argument, "i64", integer(2)), 8)
    mine = f.at(scratch, "i8", f.binary("mul", size, thread))
    slots = [0]
    for kernel in kernels:
        slots.append(slots[-1] + len(kernel.operands))
    crowd = Crowd(f, thread, threads, crew, mine)
    crowd.run(kernels, plan, lambda i: f.at(table, "ptr", integer(slots[i])))
    f.finish()
    module.add(f, exported=True)
    return str(module)


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

    def write(self, kernel: Kernel) -> Written:
        form = canonical(kernel)
        if form.key not in self.known:
            numbers = {buffer: i for i, buffer in enumerate(form.buffers)}
            written = self._write(renumbered(kernel, numbers), f"kernel{len(self.known)}")
            self.known[form.key] = written, form
        written, first = self.known[form.key]
        return _on_buffers_of(form, written, first)

    def _write(self, kernel: Kernel, name: str) -> Written:
        written = write_kernel(kernel, name, self.module, self.target)
        return replace(written, cost=nanoseconds(kernel))


def _on_buffers_of(form: Canonical, written: Written, first: Canonical) -> Written:
    """What was written for the kernel of `first`, for an equal one."""
    operands = tuple(
        [x if x.buffer < 0 else Placed(form.buffers[x.buffer], x.offset) for x in written.operands]
    )
    check = written.check
    if check is not None and form is not first:
        check = replace(check, site=form.sites[first.sites.index(check.site)])
    return replace(written, operands=operands, check=check)


# ---- turns ----------------------------------------------------------------------------------


@dataclass
class Crowd:
    """The threads that run a function together: each calls it, and takes its share of kernels."""

    function: Function
    thread: Ssa
    threads: Ssa
    crew: Ssa
    scratch: Ssa
    shares: dict[int, tuple[Ssa, Ssa]] = field(default_factory=dict)
    owners: dict[int, Ssa] = field(default_factory=dict)

    def run(
        self, kernels: Sequence[Written], plan: Plan, operands: Callable[[int], Ssa]
    ) -> list[Turn]:
        """Call the kernels; `operands(i)` makes the pointer to the operands of kernel i."""
        turns = take_turns([kernel.cost for kernel in kernels], footprints(plan))
        for i, (kernel, turn) in enumerate(zip(kernels, turns, strict=True)):
            if turn.waits:
                self.wait()
            if turn.owner is None:
                share = self._share(kernel.iterations)
                self._call(kernel, operands(i), share)
            else:
                with self._only(turn.owner):
                    share = integer(0), integer(kernel.iterations)
                    self._call(kernel, operands(i), share)
        return turns

    def wait(self) -> None:
        self.function.call("barrier", "void", self.crew, self.threads)

    def _call(self, kernel: Written, operands: Ssa, share: tuple[Ssa, Ssa]) -> None:
        self.function.call(kernel.name, "void", operands, *share, self.scratch)

    def _share(self, iterations: int) -> tuple[Ssa, Ssa]:
        """This thread's part of the iterations."""
        f = self.function
        if iterations not in self.shares:
            following = f.binary("add", self.thread, integer(1))
            begin, end = (
                f.binary("udiv", f.binary("mul", integer(iterations), n), self.threads)
                for n in (self.thread, following)
            )
            self.shares[iterations] = begin, end
        return self.shares[iterations]

    @contextmanager
    def _only(self, owner: int) -> Iterator[None]:
        """Code that one thread runs alone."""
        f = self.function
        if owner not in self.owners:
            number = f.binary("urem", integer(owner), self.threads)
            self.owners[owner] = f.compare("icmp eq", self.thread, number)
        with f.when(self.owners[owner]):
            yield
