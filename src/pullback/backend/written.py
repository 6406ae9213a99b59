"""What the program's function must know of a kernel in its module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pullback.errors import PullbackError, Site


@dataclass(frozen=True, slots=True)
class Placed:
    """An operand of a kernel: a buffer, and where in it the operand begins, in bytes."""

    buffer: int
    offset: int


STATUS = -1
"""In place of a buffer: two i64 of zeros, where a kernel says that it failed: 1, and a number."""

WORKSPACE = -3
"""In place of a buffer: memory that all threads share while they run the kernel."""


@dataclass(frozen=True, slots=True)
class Check:
    """What to raise when a kernel has set its status, from the number that it left there."""

    subject: str
    site: Site
    error: Callable[[int], PullbackError]


@dataclass(frozen=True, slots=True)
class Written:
    """A kernel in the module: what the program function must pass to it.

    A kernel with `checks` has an operand `Placed(STATUS, 0)`, and there two i64 for each of them.
    After a failure it goes on with some defined value; the program ends before it overwrites
    anything donated, and raises.
    """

    name: str
    operands: tuple[Placed, ...]
    iterations: int
    scratch: int
    checks: tuple[Check, ...] = ()
    cost: int = 0
    """Nanoseconds on one core, roughly."""
    nested: Nest | None = None


@dataclass(frozen=True, slots=True)
class Nest:
    """What is known of a kernel that runs kernels.

    It is `void @name(ptr operands, i64 thread, i64 threads, ptr team, ptr scratch)`, called by all
    threads of the team, or by one as the only thread. Kernels in it that fail have each two i64
    more from the status on. A pair (output, input) of `in_place` may be one buffer.
    """

    workspace: int
    checks: tuple[Check, ...]
    in_place: tuple[tuple[int, int], ...]
    alone: bool
    """Whether there is too little to do for more than one thread."""


def checks_of(kernel: Written) -> tuple[Check, ...]:
    if kernel.nested is not None:
        return kernel.nested.checks
    return kernel.checks
