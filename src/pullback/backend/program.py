"""A schedule as one native function that every thread runs, and the memory it runs in."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from pullback.backend.cache import ObjectCache, load
from pullback.backend.calling_back import FUNCTION
from pullback.backend.main import is_worth_threads, write_kernels, write_main
from pullback.backend.storage import workload
from pullback.backend.target import Target
from pullback.backend.threads import Team, team
from pullback.backend.written import CALLBACK, STATUS, WORKSPACE, Check
from pullback.errors import PullbackError
from pullback.ir.types import Numbers
from pullback.schedule.kernels import Schedule
from pullback.schedule.memory import Plan, evaluate

ALIGNMENT = 64


class Program:
    """A compiled schedule with its memory. One call runs all its kernels on all its threads."""

    def __init__(self, schedule: Schedule, threads: int | None = None) -> None:
        target = Target.chosen()
        self.schedule = schedule
        module, self.kernels = write_kernels(schedule, target)
        self.plan: Plan = evaluate(workload(schedule, self.kernels))
        self.text = write_main(module, self.kernels, self.plan)
        self._library = load(self.text, ["program"], target, ObjectCache.chosen())
        self._team: Team = team(
            1 if threads is None and not is_worth_threads(self.kernels) else threads
        )
        self._count = self._team.threads
        self._arena = _aligned_bytes(self.plan.arena_bytes)
        self._scratch_size = -(-max((k.scratch for k in self.kernels), default=0) // 64) * 64 + 64
        self._scratch = _aligned_bytes(self._scratch_size * self._count)
        self._checks: list[Check] = [c for kernel in self.kernels for c in kernel.checks]
        self._status = np.zeros((len(self._checks), 2), np.int64)
        self.callbacks = tuple([c for kernel in self.kernels for c in kernel.callbacks])
        self._functions = {callback: FUNCTION(callback) for callback in self.callbacks}
        self._slots: dict[int, list[tuple[int, int]]] = {}
        self._table = self._fill_table()
        self._argument = (ctypes.c_uint64 * 3)(
            ctypes.addressof(self._table), self._scratch.ctypes.data, self._scratch_size
        )

    def _fill_table(self) -> ctypes.Array[ctypes.c_uint64]:
        """Pointers to what lies in the arena, for good; slots for inputs and outputs."""
        places = self._places()
        slots = sum(len(kernel.operands) for kernel in self.kernels)
        table = (ctypes.c_uint64 * max(slots, 1))()
        slot, status = 0, self._status.ctypes.data
        for position, kernel in enumerate(self.kernels):
            for operand in kernel.operands:
                if operand.buffer == STATUS:
                    table[slot] = status
                elif operand.buffer == WORKSPACE:
                    table[slot] = self._arena.ctypes.data + self.plan.writes(position)[-1].offset
                elif operand.buffer == CALLBACK:
                    table[slot] = _address(self._functions[kernel.callbacks[operand.offset]])
                elif operand.buffer in places:
                    table[slot] = self._arena.ctypes.data + places[operand.buffer] + operand.offset
                else:
                    self._slots.setdefault(operand.buffer, []).append((slot, operand.offset))
                slot += 1
            status += len(kernel.checks) * self._status.strides[0]
        return table

    def _places(self) -> dict[int, int]:
        places: dict[int, int] = {}
        for position, kernel in enumerate(self.schedule.kernels):
            made = self.plan.writes(position)  # last, in some, the workspace
            for buffer, place in zip(sorted(kernel.writes()), made, strict=False):
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
        check, number = self._checks[failed], int(self._status[failed, 1])
        self._status[:] = 0
        error = check.error(number)
        if isinstance(error, PullbackError):
            error.locate(check.subject, check.site)
        raise error


def _address(function: object) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0  # type: ignore[arg-type]


def _aligned_bytes(count: int) -> Numbers:
    memory = np.empty(count + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + count]
