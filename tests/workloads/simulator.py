"""A program played on real bytes: every value has a pattern, freed ranges are poisoned.

What it believes of a plan is only where each step finds its values. It writes all outputs and the
scratch of a step before it looks at the inputs again, as a kernel that is not element by element
may: only an input that the step itself lets be overwritten may be gone by then.
"""

from __future__ import annotations

import numpy as np

from pullback.schedule.memory import Place, Plan

POISON = 0xFF


class Simulator:
    """Runs a plan; `high_water` is the end of the highest byte of the arena that was touched."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.workload = plan, plan.lifetimes.workload
        self.arena = np.full(plan.arena_bytes, POISON, np.uint8)
        self.resident = {
            i: self.pattern(i) for i, value in enumerate(self.workload.values) if value.resident
        }
        self.high_water = 0

    def run(self) -> None:
        freed = self.plan.freed()
        for position in range(len(self.plan.schedule)):
            self.step(position)
            for begin, end in freed[position]:
                self.arena[begin:end] = POISON
        for i, value in enumerate(self.workload.values):
            if value.kept:
                self.expect(self.plan.result(i), self.workload.roots[i], "the end")

    def step(self, position: int) -> None:
        step = self.workload.steps[self.plan.schedule[position]]
        reads, writes = self.plan.reads(position), self.plan.writes(position)
        roots = [self.workload.roots[i] for i in step.reads]
        for place, root in zip(reads, roots, strict=True):
            self.expect(place, root, f"step {position} reads")
        written = [i for i in step.writes if self.workload.roots[i] == i]
        for place, value in zip(writes, written, strict=False):
            self.bytes_at(place, self.workload.values[value].bytes)[:] = self.pattern(value)
        if step.scratch:
            self.bytes_at(writes[-1], step.scratch)[:] = 0xAA
        safe = {(w, self.workload.roots[r]) for w, r in step.in_place}
        taken = {(p, w) for p, w in zip(writes, written, strict=False)}
        for place, root in zip(reads, roots, strict=True):
            over = any(p == place and (w, root) in safe for p, w in taken)
            if not over:
                self.expect(place, root, f"step {position} still reads")

    def expect(self, place: Place, root: int, when: str) -> None:
        found = self.bytes_at(place, self.workload.values[root].bytes)
        assert np.array_equal(found, self.pattern(root)), (
            f"{when}: {self.workload.values[root].label} is not at {place}"
        )

    def bytes_at(self, place: Place, size: int) -> np.ndarray:
        if place.resident is not None:
            return self.resident[place.resident][:size]
        self.high_water = max(self.high_water, place.offset + -(-size // 64) * 64)
        return self.arena[place.offset : place.offset + size]

    def pattern(self, value: int) -> np.ndarray:
        rng = np.random.default_rng(value)
        return rng.integers(0, 250, self.workload.values[value].bytes, np.uint8)
