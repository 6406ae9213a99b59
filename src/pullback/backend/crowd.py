"""The threads that run a function together: their shares of its kernels, and their barriers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pullback.backend.assembly import Function, Ssa, integer
from pullback.backend.turns import Turn, footprints, take_turns
from pullback.backend.written import Written
from pullback.schedule.memory import Plan

Run = tuple[int, Written, Turn]
"""A kernel by its number, and its turn."""


def runs_of(kernels: Sequence[Written], plan: Plan) -> list[Run]:
    """The turns of kernels in the order of a plan."""
    costs = [kernel.cost for kernel in kernels]
    alone = [i for i, kernel in enumerate(kernels) if kernel.is_whole]
    turns = take_turns(costs, footprints(plan), alone)
    return list(zip(range(len(kernels)), kernels, turns, strict=True))


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

    def run(self, kernels: Sequence[Written], plan: Plan, operands: Callable[[int], Ssa]) -> None:
        """Call the kernels; `operands(i)` makes the pointer to the operands of kernel i."""
        for i, kernel, turn in runs_of(kernels, plan):
            if turn.waits:
                self.wait()
            if turn.owner is None:
                self.together(kernel, operands(i))
            else:
                with self._only(turn.owner):
                    self._alone(kernel, operands(i))

    def wait(self) -> None:
        self.function.call("barrier", "void", self.crew, self.threads)

    def together(self, kernel: Written, operands: Ssa) -> None:
        """Call a kernel from all threads, each for its share."""
        f = self.function
        if kernel.nested is None:
            self.call(kernel.name, kernel.iterations, operands)
        else:
            team = self.thread, self.threads, self.crew
            f.call(kernel.name, "void", operands, *team, self.scratch)

    def call(self, name: str, iterations: int, operands: Ssa) -> None:
        """Call a kernel for this thread's share of its iterations."""
        share = self._share(iterations)
        self.function.call(name, "void", operands, *share, self.scratch)

    def _alone(self, kernel: Written, operands: Ssa) -> None:
        f = self.function
        if kernel.nested is None:
            share = integer(0), integer(kernel.iterations)
            f.call(kernel.name, "void", operands, *share, self.scratch)
        else:
            team = integer(0), integer(1), Ssa("ptr", "null")
            f.call(kernel.name, "void", operands, *team, self.scratch)

    def _share(self, iterations: int) -> tuple[Ssa, Ssa]:
        """This thread's part of the iterations."""
        if iterations not in self.shares:
            self.shares[iterations] = self.part(integer(iterations), self.thread, self.threads)
        return self.shares[iterations]

    def part(self, iterations: Ssa, thread: Ssa, threads: Ssa) -> tuple[Ssa, Ssa]:
        """The part of a thread where so many share the iterations."""
        f = self.function
        following = f.binary("add", thread, integer(1))
        begin, end = (
            f.binary("udiv", f.binary("mul", iterations, n), threads) for n in (thread, following)
        )
        return begin, end

    @contextmanager
    def _only(self, owner: int) -> Iterator[None]:
        """Code that one thread runs alone."""
        f = self.function
        if owner not in self.owners:
            number = f.binary("urem", integer(owner), self.threads)
            self.owners[owner] = f.compare("icmp eq", self.thread, number)
        with f.when(self.owners[owner]):
            yield
