"""What it takes to run a program's code: plain data, which a file can hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from pullback.backend.written import CALLBACK, STATUS, WORKSPACE, Check, Exceeded, OutOfRange
from pullback.errors import Site
from pullback.schedule.memory import Plan

if TYPE_CHECKING:
    from pullback.backend.program import Code

ARENA = -4
"""In place of an input or output: the memory between them. (`STATUS` and `CALLBACK` are others.)"""

STATUS_BYTES = 16

ERRORS: dict[str, type[OutOfRange | Exceeded]] = {
    each.__name__: each for each in (OutOfRange, Exceeded)
}
"""What a check that a file can hold raises."""

Number = Callable[[Site], int | None]
"""The first node of a traced graph that comes from a line."""


@dataclass(frozen=True, slots=True)
class Image:
    """The table of pointers, the memory behind it, what may fail.

    `slots` are (what, offset in bytes): an input by its place, an output by its place after those,
    or one of the names above. `sources` gives for each output the input whose memory it lies in.
    """

    inputs: int
    slots: tuple[tuple[int, int], ...]
    sources: tuple[int | None, ...]
    checks: tuple[Check, ...]
    arena: int
    scratch: int
    """Bytes of one thread."""
    threads: int

    @classmethod
    def of(cls, code: Code) -> Image:
        schedule = code.schedule
        inputs = {buffer: i for i, buffer in enumerate(schedule.inputs)}
        sources = [inputs.get(code.donors.get(b, b)) for b in schedule.outputs]
        homes = {b: len(inputs) + i for i, b in enumerate(schedule.outputs)} | inputs
        homes |= {b: inputs[home] for b, home in code.donors.items()}
        return cls(
            len(inputs),
            tuple(_slots(code, homes)),
            tuple(sources),
            tuple([check for kernel in code.kernels for check in kernel.checks]),
            code.plan.arena_bytes,
            code.scratch,
            code.threads,
        )

    # ---- files ----

    def text(self, number: Number, key: str) -> str | None:
        """As text, with the key of its code; None where it calls functions of this process."""
        checks = []
        for check in self.checks:
            node, kind = number(check.site), type(check.error).__name__
            if kind not in ERRORS or node is None:
                return None
            checks.append([check.subject, node, kind, *astuple(check.error)])  # type: ignore[call-overload]
        held = [self.inputs, self.slots, self.sources, checks, self.arena, self.scratch]
        return json.dumps([key, *held, self.threads], separators=(",", ":"))

    @classmethod
    def parse(cls, text: str, sites: Sequence[Site]) -> tuple[Image, str]:
        """The image, and the key of its code."""
        key, inputs, slots, sources, held, arena, scratch, threads = json.loads(text)
        checks = [
            Check(subject, sites[node], ERRORS[kind](*fields))
            for subject, node, kind, *fields in held
        ]
        places = tuple([(home, offset) for home, offset in slots])
        image = cls(inputs, places, tuple(sources), tuple(checks), arena, scratch, threads)
        return image, key


def _slots(code: Code, homes: dict[int, int]) -> Iterable[tuple[int, int]]:
    """What each pointer of the table shows to: in the arena for good, or to what a call brings."""
    checks = callbacks = 0
    for position, kernel in enumerate(code.kernels):
        places = _places(code.plan, position)
        for operand in kernel.operands:
            if operand.buffer == STATUS:
                yield STATUS, STATUS_BYTES * checks
            elif operand.buffer == WORKSPACE:
                yield ARENA, code.plan.writes(position)[-1].offset
            elif operand.buffer == CALLBACK:
                yield CALLBACK, callbacks + operand.offset
            elif operand.buffer in places:
                yield ARENA, places[operand.buffer] + operand.offset
            else:
                yield homes[operand.buffer], operand.offset
        checks += len(kernel.checks)
        callbacks += len(kernel.callbacks)


def _places(plan: Plan, position: int) -> dict[int, int]:
    """Where a step finds, and leaves, what lies in the arena: a buffer lies elsewhere when it is
    made again."""
    workload, index = plan.lifetimes.workload, plan.schedule[position]
    buffers = (*workload.reads[index], *workload.writes[index])
    found = (*plan.reads(position), *plan.writes(position))  # last, in some, the workspace
    pairs = zip(buffers, found, strict=False)
    return {buffer: place.offset for buffer, place in pairs if place.resident is None}
