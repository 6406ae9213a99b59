"""The function of a whole program: its kernels in order, on every thread."""

from __future__ import annotations

from collections.abc import Sequence

from pullback.backend.assembly import Function, Module, integer
from pullback.backend.barrier import add_barrier
from pullback.backend.calls import write_kernel
from pullback.backend.target import Target
from pullback.backend.written import Written
from pullback.schedule.kernels import Schedule


def write_program(schedule: Schedule, target: Target) -> tuple[str, tuple[Written, ...]]:
    """The module of a schedule. Exports `program(ptr argument, i64 thread, i64 threads, ptr team)`.

    The argument holds the address of the table of operand pointers, and the address and the size of
    the scratch of a thread.
    """
    module = Module()
    add_barrier(module, target)
    kernels = [
        write_kernel(kernel, f"kernel{i}", module, target)
        for i, kernel in enumerate(schedule.kernels)
    ]
    module.add(_write_main(kernels), exported=True)
    return str(module), tuple(kernels)


def _write_main(kernels: Sequence[Written]) -> Function:
    f = Function(
        "program", [("ptr", "argument"), ("i64", "thread"), ("i64", "threads"), ("ptr", "team")]
    )
    argument, thread, threads, crew = f.parameters
    table = f.load("ptr", argument, 8)
    scratch = f.load("ptr", f.at(argument, "ptr", integer(1)), 8)
    size = f.load("i64", f.at(argument, "i64", integer(2)), 8)
    mine = f.at(scratch, "i8", f.binary("mul", size, thread))
    following = f.binary("add", thread, integer(1))
    position = 0
    for kernel in kernels:
        operands = f.at(table, "ptr", integer(position))
        position += len(kernel.operands)
        count = integer(kernel.iterations)
        begin = f.binary("udiv", f.binary("mul", count, thread), threads)
        end = f.binary("udiv", f.binary("mul", count, following), threads)
        f.call(kernel.name, "void", operands, begin, end, mine)
        f.call("barrier", "void", crew, threads)
    f.finish()
    return f
