"""What the program's function must know of a kernel in its module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pullback.backend.calling_back import Callback
from pullback.errors import Site


@dataclass(frozen=True, slots=True)
class Placed:
    """An operand of a kernel: a buffer, and where in it the operand begins, in bytes."""

    buffer: int
    offset: int


STATUS = -1
"""In place of a buffer: two i64 of zeros, where a kernel says that it failed: 1, and a number."""

CALLBACK = -2
"""In place of a buffer: the address of the function that a kernel calls back."""


@dataclass(frozen=True, slots=True)
class Check:
    """What to raise when a kernel has set its status, from the number that it left there."""

    subject: str
    site: Site
    error: Callable[[int], BaseException]


@dataclass(frozen=True, slots=True)
class Written:
    """A kernel in the module: what the program function must pass to it.

    A kernel with a `check` has an operand `Placed(STATUS, 0)`. After a failure it goes on with some
    defined value; the program ends before it overwrites anything donated, and raises. A kernel with
    a `callback` has an operand `Placed(CALLBACK, 0)`.
    """

    name: str
    operands: tuple[Placed, ...]
    iterations: int
    scratch: int
    check: Check | None = None
    callback: Callback | None = None

    def at(self, site: Site) -> Written:
        """The same kernel for another line of the user's; its callback is one of its own."""
        check, callback = self.check, self.callback
        if check is not None:
            check = replace(check, site=site)
        if check is not None and callback is not None:
            callback = Callback(callback.op, callback.inputs, callback.outputs, site)
            check = replace(check, error=callback.failed)
        return replace(self, check=check, callback=callback)
