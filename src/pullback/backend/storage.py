"""What the planner must know of a schedule whose kernels are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pullback.backend.written import Written
from pullback.errors import NOWHERE, Site
from pullback.schedule.bounds import cannot_fail
from pullback.schedule.kernels import (
    Apply,
    Call,
    Chain,
    Element,
    Fold,
    Kernel,
    Loops,
    Nested,
    Schedule,
)
from pullback.schedule.memory import Step, Value, Workload

Spare = tuple[int, int]
"""A kernel, and which of its parts."""


def spare_parts(schedule: Schedule, kernels: Sequence[Written]) -> list[Spare]:
    """Those that make no result of the program."""
    ends = set(schedule.outputs)
    return [
        (whole, i)
        for whole, kernel in enumerate(kernels)
        for i, part in enumerate(kernel.parts)
        if ends.isdisjoint(part.use.writes)
    ]


def workload(
    schedule: Schedule,
    kernels: Sequence[Written],
    donors: Mapping[int, int] | None = None,
    scratch: int = 0,
    names: Sequence[str] = (),
    guarded: bool = False,
    spare: Sequence[Spare] = (),
) -> Workload:
    """Inputs lie outside the arena; an output takes over an input, its donor, or memory given.

    The values are the buffers, after them the memory of the outputs without a donor, in order, and
    last the scratch of all threads. `names` are those of the inputs; parts of kernels that are
    `spare` are the last steps.
    Where `guarded`, no donor is overwritten before the last kernel that may fail has run; it may
    run again after that.
    """
    buffers = schedule.buffers
    homes = dict(donors or {})
    given = [i for i in sorted(set(schedule.outputs) - set(schedule.inputs)) if i not in homes]
    homes |= {buffer: len(buffers) + i for i, buffer in enumerate(given)}
    known, inputs = _named(schedule, names), frozenset(schedule.inputs)
    values = [
        Value(
            known[i][0],
            b.type.nbytes,
            resident=i in inputs,
            kept=i in homes,
            donor=homes.get(i),
            site=known[i][1],
        )
        for i, b in enumerate(buffers)
    ]
    values += [
        Value(f"result {known[i][0]}", buffers[i].type.nbytes, resident=True, site=known[i][1])
        for i in given
    ]
    values.append(Value("scratch of the threads", scratch, resident=True))
    donated = frozenset((donors or {}).values()) if guarded else frozenset()
    safe = cannot_fail(schedule.kernels) if donated else set()
    steps = [
        _step(kernel, donated if kernel.checks and k not in safe else frozenset())
        for k, kernel in enumerate(kernels)
    ]
    steps += [_again(kernels[whole], part) for whole, part in spare]
    return Workload(tuple(values), tuple(steps), len(spare))


def _again(kernel: Written, number: int) -> Step:
    """A part of a kernel: one that is not written yet."""
    part = kernel.parts[number]
    return Step(f"part of {kernel.name}", part.use.reads, part.use.writes, cost=part.cost)


def _step(kernel: Written, guards: frozenset[int]) -> Step:
    use, nested = kernel.use, kernel.nested
    return Step(
        kernel.name,
        use.reads,
        use.writes,
        scratch=0 if nested is None else nested.workspace,
        in_place=tuple([(w, r) for w, r in use.in_place if r not in guards]),
        cost=kernel.cost,
        repeatable=not kernel.callbacks,
        guards=guards,
    )


def _named(schedule: Schedule, names: Sequence[str]) -> list[tuple[str, Site]]:
    """For each buffer what it holds, in the user's terms, and the line that made it."""
    known: dict[int, tuple[str, Site]] = dict.fromkeys(schedule.inputs, ("input", NOWHERE))
    known |= {b: (name, NOWHERE) for b, name in zip(schedule.inputs, names, strict=False)}
    for kernel in schedule.kernels:
        for buffer, name, site in _made(kernel):
            known[buffer] = name, site
    fused = ("", NOWHERE)  # a value that no kernel stores
    return [known.get(i, fused) for i in range(len(schedule.buffers))]


def _made(kernel: Kernel) -> Iterator[tuple[int, str, Site]]:
    match kernel:
        case Call() | Nested():
            for x in kernel.outputs:
                yield x.buffer, kernel.name, kernel.site
            if isinstance(kernel, Call) and kernel.after is not None:
                yield from _made(kernel.after)
        case Chain():
            places = [window.buffer for window in kernel.windows]
            inner = dict(zip((*kernel.body.inputs, *kernel.body.outputs), places, strict=True))
            for part in kernel.body.kernels:
                made = _made(part)
                yield from ((inner[b], name, site) for b, name, site in made if b in inner)
        case Loops():
            for store in kernel.stores:
                step = kernel.steps[store.value]
                if isinstance(step, Apply | Element | Fold):
                    yield store.access.buffer, step.op.name, step.site
                else:
                    yield store.access.buffer, "copy", NOWHERE
