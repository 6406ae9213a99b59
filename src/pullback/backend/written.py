"""What the program's function must know of a kernel in its module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pullback.errors import Site


@dataclass(frozen=True, slots=True)
class Placed:
    """An operand of a kernel: a buffer, and where in it the operand begins, in bytes."""

    buffer: int
    offset: int


STATUS = -1
"""In place of a buffer: two i64 of zeros, where a kernel says that it failed: 1 + the position of
the check that failed, and a number."""


@dataclass(frozen=True, slots=True)
class Check:
    """What to raise when a kernel has set its status, from the number that it left there."""

    subject: str
    site: Site
    error: Callable[[int], BaseException]


@dataclass(frozen=True, slots=True)
class Written:
    """A kernel in the module: what the program function must pass to it.

    A kernel with `checks` has an operand `Placed(STATUS, 0)`. After a failure it goes on with some
    defined value; the program ends before it overwrites anything donated, and raises.
    """

    name: str
    operands: tuple[Placed, ...]
    iterations: int
    scratch: int
    checks: tuple[Check, ...] = ()
