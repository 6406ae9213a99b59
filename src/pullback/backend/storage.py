"""What the planner must know of a schedule whose kernels are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pullback.backend.written import Written
from pullback.schedule.aliasing import in_place
from pullback.schedule.kernels import Kernel, Schedule
from pullback.schedule.memory import Step, Value, Workload


def workload(
    schedule: Schedule, kernels: Sequence[Written], donors: Mapping[int, int] | None = None
) -> Workload:
    """Inputs lie outside the arena; an output takes over an input, its donor, or memory given.

    The values are the buffers, and after them the memory of the outputs without a donor, in order.
    """
    buffers = schedule.buffers
    homes = dict(donors or {})
    given = [i for i in sorted(set(schedule.outputs) - set(schedule.inputs)) if i not in homes]
    homes |= {buffer: len(buffers) + i for i, buffer in enumerate(given)}
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
    values += [Value(f"result b{i}", buffers[i].type.nbytes, resident=True) for i in given]
    steps = [_step(*each) for each in zip(schedule.kernels, kernels, strict=True)]
    return Workload(tuple(values), tuple(steps))


def _step(kernel: Kernel, written: Written) -> Step:
    nested = written.nested
    return Step(
        written.name,
        tuple(sorted(kernel.reads())),
        tuple(sorted(kernel.writes())),
        scratch=0 if nested is None else nested.workspace,
        in_place=in_place(kernel) if nested is None else nested.in_place,
        cost=written.cost,
    )
