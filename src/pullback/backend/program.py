"""A schedule as one native function that every thread runs, and the memory it runs in."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from pullback.backend.cache import ObjectCache, load
from pullback.backend.main import write_program
from pullback.backend.target import Target
from pullback.backend.threads import Team, team
from pullback.backend.written import STATUS, Written
from pullback.errors import PullbackError
from pullback.ir.types import Numbers
from pullback.schedule.kernels import Schedule
from pullback.schedule.memory import Plan, Step, Value, Workload, evaluate

ALIGNMENT = 64


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
        self._checks = [k for k in self.kernels if k.checks]
        self._status = np.zeros((len(self._checks), 2), np.int64)
        self._slots: dict[int, list[tuple[int, int]]] = {}
        self._table = self._fill_table()
        self._argument = (ctypes.c_uint64 * 3)(
            ctypes.addressof(self._table), self._scratch.ctypes.data, self._scratch_size
        )

    def _fill_table(self) -> ctypes.Array[ctypes.c_uint64]:
        """Pointers to what lies in the arena, for good; slots for inputs and outputs."""
        places = self._places()
        entries = [(kernel, operand) for kernel in self.kernels for operand in kernel.operands]
        table = (ctypes.c_uint64 * max(len(entries), 1))()
        for slot, (kernel, operand) in enumerate(entries):
            if operand.buffer == STATUS:
                row = self._checks.index(kernel)
                table[slot] = self._status.ctypes.data + row * self._status.strides[0]
            elif operand.buffer in places:
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
        if self._checks and self._status.any():
            self._fail()
        return [made[i] if i in made else given[i] for i in self.schedule.outputs]

    def _fail(self) -> NoReturn:
        """Raise what the first kernel that failed has to say."""
        failed = int(np.flatnonzero(self._status[:, 0])[0])
        which, number = map(int, self._status[failed])
        self._status[:] = 0
        check = self._checks[failed].checks[which - 1]
        error = check.error(number)
        if isinstance(error, PullbackError):
            error.locate(check.subject, check.site)
        raise error


def _aligned_bytes(count: int) -> Numbers:
    memory = np.empty(count + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + count]
