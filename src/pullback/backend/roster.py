"""The kernels of a program as data: a row of a table for each, and a loop that runs the rows.

Code for each call would grow with the depth of a network, and with it the time that LLVM takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pullback.backend.assembly import Module, Ssa, integer
from pullback.backend.crowd import Crowd, Run

ROW = "{ ptr, i64, i64, i64, i64 }"
"""The kernel, the place of its operands in the table of pointers, its iterations (`NESTED`: it is
called by all threads of a team), its owner (`ALL`: each thread has a share), whether all wait."""

NESTED = -1
ALL = -1


@dataclass(frozen=True, slots=True)
class Roster:
    """The rows of a program, a constant of its module."""

    rows: Ssa
    has_nested: bool
    has_waits: bool

    @classmethod
    def add(cls, module: Module, runs: Sequence[Run], slots: Sequence[int]) -> Roster:
        rows = []
        for i, kernel, turn in runs:
            iterations = kernel.iterations if kernel.nested is None else NESTED
            owner = ALL if turn.owner is None else turn.owner
            words = slots[i], iterations, owner, int(turn.waits)
            fields = ", ".join([f"ptr @{kernel.name}", *[f"i64 {word}" for word in words]])
            rows.append(f"{ROW} {{ {fields} }}")
        module.globals.append(
            f"@roster = internal constant [{len(rows)} x {ROW}] [{', '.join(rows)}]"
        )
        return cls(
            Ssa("ptr", "@roster"),
            any(kernel.nested is not None for _, kernel, _ in runs),
            any(turn.waits for _, _, turn in runs),
        )

    def run(self, crowd: Crowd, table: Ssa, first: int, end: int) -> None:
        """Call the kernels of some rows, each from the threads that have a part in it."""
        f = crowd.function
        with f.loop(integer(first), integer(end)) as loop:
            row = f.at(self.rows, ROW, loop.index)
            slot, iterations, owner = (
                f.load("i64", f.at(row, "i64", integer(i)), 8) for i in range(1, 4)
            )
            if self.has_waits:
                waits = f.load("i64", f.at(row, "i64", integer(4)), 8)
                with f.when(f.compare("icmp ne", waits, integer(0))):
                    crowd.wait()
            shared = f.compare("icmp eq", owner, integer(ALL))
            chosen = f.compare("icmp eq", crowd.thread, f.binary("urem", owner, crowd.threads))
            with f.when(f.binary("or", shared, chosen)):
                kernel, operands = f.load("ptr", row, 8), f.at(table, "ptr", slot)
                self._call(crowd, kernel, operands, iterations, shared)

    def _call(self, crowd: Crowd, kernel: Ssa, operands: Ssa, iterations: Ssa, shared: Ssa) -> None:
        f = crowd.function
        thread = f.select(shared, crowd.thread, integer(0))
        threads = f.select(shared, crowd.threads, integer(1))
        if not self.has_nested:
            share = crowd.part(iterations, thread, threads)
            f.invoke(kernel, operands, *share, crowd.scratch)
            return
        nested = f.compare("icmp eq", iterations, integer(NESTED))
        with f.when(nested):
            crew = f.select(shared, crowd.crew, Ssa("ptr", "null"))
            f.invoke(kernel, operands, thread, threads, crew, crowd.scratch)
        with f.when(f.binary("xor", nested, integer(1, "i1"))):
            share = crowd.part(iterations, thread, threads)
            f.invoke(kernel, operands, *share, crowd.scratch)
