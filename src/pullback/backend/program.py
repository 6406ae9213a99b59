"""A schedule as one native function that every thread runs, and the memory it runs in."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pullback.backend.assembly import Function, Module, integer
from pullback.backend.barrier import add_barrier
from pullback.backend.blocking import Machine
from pullback.backend.cache import ObjectCache, load
from pullback.backend.columns import column_iterations, split_axes, write_columns
from pullback.backend.contract import write
from pullback.backend.product import product_of
from pullback.backend.rows import write_loops
from pullback.backend.target import Target
from pullback.backend.threads import Team, team
from pullback.errors import CompileError, Site
from pullback.ir.families import Elementwise
from pullback.ir.op import Op
from pullback.ir.types import Numbers
from pullback.ops.contract import Contract
from pullback.ops.reduce import Reduction
from pullback.schedule.fuse import Schedule
from pullback.schedule.kernels import Apply, Call, Kernel, Loops
from pullback.schedule.memory import Plan, Step, Value, Workload, evaluate

ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Placed:
    """An operand of a kernel: a buffer, and where in it the operand begins."""

    buffer: int
    offset: int


@dataclass(frozen=True, slots=True)
class Written:
    """A kernel in the module: what the program function must pass to it."""

    name: str
    operands: tuple[Placed, ...]
    iterations: int
    scratch: int


# ---- code -----------------------------------------------------------------------------------


def write_program(schedule: Schedule, target: Target) -> tuple[str, tuple[Written, ...]]:
    """The module of a schedule. Exports `program(ptr argument, i64 thread, i64 threads, ptr team)`.

    The argument holds the address of the table of operand pointers, and the address and the size of
    the scratch of a thread.
    """
    module = Module()
    add_barrier(module, target)
    kernels = [
        _write_kernel(kernel, f"kernel{i}", module, target)
        for i, kernel in enumerate(schedule.kernels)
    ]
    module.add(_write_main(kernels), exported=True)
    return str(module), tuple(kernels)


def _write_kernel(kernel: Kernel, name: str, module: Module, target: Target) -> Written:
    match kernel:
        case Loops():
            _require_bodies(kernel, name)
            loops = write_loops(kernel, name)
            module.add(loops.function)
            operands = tuple(Placed(b, 0) for b in loops.buffers)
            return Written(name, operands, loops.iterations, loops.scratch)
        case Call(op=Contract()):
            return _write_product(kernel, name, module, target)
        case Call(op=Reduction()):
            return _write_columns(kernel, name, module)
    raise _missing(kernel.op, kernel.site, name)


def _require_bodies(loops: Loops, name: str) -> None:
    for step in loops.steps:
        if isinstance(step, Apply) and type(step.op).body is Elementwise.body:
            raise _missing(step.op, step.site, name)


def _missing(op: Op, site: Site, name: str) -> CompileError:
    error = CompileError(f"{op.name} has no native kernel yet", kernel=name)
    error.locate(op.name, site)
    return error


def _write_product(call: Call, name: str, module: Module, target: Target) -> Written:
    assert isinstance(call.op, Contract)
    a, b, c = (*call.inputs, *call.outputs)
    steps = (a.layout.strides, b.layout.strides, c.layout.strides)
    product = product_of(call.op, a.dtype, (a.layout.shape, b.layout.shape), steps)
    kernel = write(product, Machine.of(target.features), module, name)
    left, right = (b, a) if product.swapped else (a, b)
    operands = tuple(Placed(x.buffer, x.layout.offset * x.dtype.itemsize) for x in (left, right, c))
    return Written(name, operands, kernel.iterations, kernel.scratch)


def _write_columns(call: Call, name: str, module: Module) -> Written:
    assert isinstance(call.op, Reduction)
    (x,), (y,) = call.inputs, call.outputs
    sizes = split_axes(x.layout.shape, call.op.axes)
    module.add(write_columns(call.op, sizes, x.dtype, name))
    operands = (Placed(x.buffer, 0), Placed(y.buffer, 0))
    return Written(name, operands, column_iterations(sizes[0], sizes[2]), 0)


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


# ---- memory ---------------------------------------------------------------------------------


def workload(schedule: Schedule, kernels: Sequence[Written]) -> Workload:
    """What the planner must know. Inputs lie outside the arena; an output takes over its array."""
    buffers = schedule.buffers
    outputs = sorted(set(schedule.outputs) - set(schedule.inputs))
    homes = {buffer: len(buffers) + i for i, buffer in enumerate(outputs)}
    values = [
        Value(
            f"b{i}",
            b.type.nbytes,
            resident=i in schedule.inputs,
            kept=i in homes,
            donor=homes.get(i),
        )
        for i, b in enumerate(buffers)
    ]
    values += [Value(f"result b{i}", buffers[i].type.nbytes, resident=True) for i in outputs]
    steps = tuple(
        Step(
            written.name,
            tuple(sorted(kernel.reads())),
            tuple(sorted(kernel.writes())),
            cost=0,
        )
        for kernel, written in zip(schedule.kernels, kernels, strict=True)
    )
    return Workload(tuple(values), steps)


class Program:
    """A compiled schedule with its memory. One call runs all its kernels on all its threads."""

    def __init__(self, schedule: Schedule, threads: int | None = None) -> None:
        target = Target.chosen()
        self.schedule = schedule
        self.text, self.kernels = write_program(schedule, target)
        self.plan: Plan = evaluate(workload(schedule, self.kernels))
        self._library = load(self.text, ["program"], target, ObjectCache.chosen())
        self._team: Team = team(threads)
        self._count = self._team.threads
        self._arena = _aligned_bytes(self.plan.arena_bytes)
        self._scratch_size = -(-max((k.scratch for k in self.kernels), default=0) // 64) * 64 + 64
        self._scratch = _aligned_bytes(self._scratch_size * self._count)
        self._slots: dict[int, list[tuple[int, int]]] = {}
        self._table = self._fill_table()
        self._argument = (ctypes.c_uint64 * 3)(
            ctypes.addressof(self._table), self._scratch.ctypes.data, self._scratch_size
        )

    def _fill_table(self) -> ctypes.Array[ctypes.c_uint64]:
        """Pointers to what lies in the arena, for good; slots for inputs and outputs."""
        places = self._places()
        entries = [operand for kernel in self.kernels for operand in kernel.operands]
        table = (ctypes.c_uint64 * max(len(entries), 1))()
        for slot, operand in enumerate(entries):
            if operand.buffer in places:
                table[slot] = self._arena.ctypes.data + places[operand.buffer] + operand.offset
            else:
                self._slots.setdefault(operand.buffer, []).append((slot, operand.offset))
        return table

    def _places(self) -> dict[int, int]:
        places: dict[int, int] = {}
        for position, kernel in enumerate(self.schedule.kernels):
            for buffer, place in zip(
                sorted(kernel.writes()), self.plan.writes(position), strict=True
            ):
                if place.resident is None:
                    places[buffer] = place.offset
        return places

    def __call__(self, inputs: Sequence[Numbers]) -> list[Numbers]:
        """The outputs, in new arrays, from row-major inputs."""
        buffers = self.schedule.buffers
        given = dict(zip(self.schedule.inputs, inputs, strict=True))
        made = {
            i: np.empty(buffers[i].type.shape, buffers[i].type.dtype)
            for i in self.schedule.outputs
            if i not in given
        }
        for i, array in (*given.items(), *made.items()):
            for slot, offset in self._slots.get(i, ()):
                self._table[slot] = array.ctypes.data + offset
        self._team.run(self._library.addresses["program"], ctypes.addressof(self._argument))
        return [made[i] if i in made else given[i] for i in self.schedule.outputs]


def _aligned_bytes(count: int) -> Numbers:
    memory = np.empty(count + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + count]
