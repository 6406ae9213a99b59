"""The function of a whole program: its kernels in order, on every thread."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

from pullback.backend.assembly import Function, Module, Ssa, integer
from pullback.backend.barrier import add_barrier
from pullback.backend.calls import STATUS, Placed, Written, write_kernel
from pullback.backend.target import Target
from pullback.schedule.canonical import Canonical, canonical, renumbered
from pullback.schedule.kernels import Kernel, Schedule


def write_program(schedule: Schedule, target: Target) -> tuple[str, tuple[Written, ...]]:
    """The module of a schedule. Exports `program(ptr argument, i64 thread, i64 threads, ptr team)`.

    The argument holds the address of the table of operand pointers, and the address and the size of
    the scratch of a thread.
    """
    module = Module()
    add_barrier(module, target)
    kernels = write_kernels(schedule.kernels, module, target)
    module.add(_write_main(kernels), exported=True)
    return str(module), tuple(kernels)


def write_kernels(kernels: Sequence[Kernel], module: Module, target: Target) -> tuple[Written, ...]:
    """The code of kernels, once for those that differ in buffers and lines alone."""
    known: dict[Hashable, tuple[Written, Canonical]] = {}
    return tuple([_write_once(kernel, known, module, target) for kernel in kernels])


def _write_once(
    kernel: Kernel,
    known: dict[Hashable, tuple[Written, Canonical]],
    module: Module,
    target: Target,
) -> Written:
    form = canonical(kernel)
    if form.key not in known:
        numbers = {buffer: i for i, buffer in enumerate(form.buffers)}
        general = renumbered(kernel, numbers)
        known[form.key] = write_kernel(general, f"kernel{len(known)}", module, target), form
    written, first = known[form.key]
    operands = tuple(
        [
            x if x.buffer == STATUS else Placed(form.buffers[x.buffer], x.offset)
            for x in written.operands
        ]
    )
    check = written.check
    if check is not None and form is not first:
        check = replace(check, site=form.sites[first.sites.index(check.site)])
    return replace(written, operands=operands, check=check)


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
    shares: dict[int, tuple[Ssa, Ssa]] = {}
    position = 0
    for kernel in kernels:
        operands = f.at(table, "ptr", integer(position))
        position += len(kernel.operands)
        if kernel.iterations not in shares:
            count = integer(kernel.iterations)
            begin = f.binary("udiv", f.binary("mul", count, thread), threads)
            end = f.binary("udiv", f.binary("mul", count, following), threads)
            shares[kernel.iterations] = begin, end
        f.call(kernel.name, "void", operands, *shares[kernel.iterations], mine)
        f.call("barrier", "void", crew, threads)
    f.finish()
    return f
