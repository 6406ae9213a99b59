"""What the program's function must know of a kernel in its module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field, replace

from pullback._trusted import trusted
from pullback.backend.calling_back import Callback
from pullback.errors import LoopLimitError, PullbackError, Site
from pullback.ops.index import out_of_range
from pullback.schedule.aliasing import Use


@trusted(frozen=True, slots=True)
class Placed:
    """An operand of a kernel: a buffer, and where in it the operand begins, in bytes."""

    buffer: int
    offset: int


STATUS = -1
"""In place of a buffer: two i64 of zeros, where a kernel says that it failed: 1, and a number."""

CALLBACK = -2
"""In place of a buffer: the address of a function to call back, the one with number `offset`."""

WORKSPACE = -3
"""In place of a buffer: memory that all threads share while they run the kernel."""


@trusted(frozen=True, slots=True)
class Check:
    """What to raise when a kernel has set its status, from the number that it left there.

    One for a function that is called back raises what that ended with.
    """

    subject: str
    site: Site
    error: Callable[[int], BaseException]
    callback: Callback | None = None

    @classmethod
    def of(cls, callback: Callback) -> Check:
        return cls(callback.op.name, callback.site, callback.failed, callback)

    def at(self, site: Site) -> Check:
        """The same for another line of the user's; a callback is one of its own."""
        if self.callback is None:
            return replace(self, site=site)
        return Check.of(self.callback.at(site))


@trusted(frozen=True, slots=True)
class OutOfRange:
    """The error for an index; equal ones are one check."""

    axis: int
    size: int
    from_end: bool

    def __call__(self, index: int) -> PullbackError:
        return out_of_range(index, self.axis, self.size, self.from_end)


@trusted(frozen=True, slots=True)
class Exceeded:
    """The error of a loop that makes too many steps."""

    message: str

    def __call__(self, number: int) -> PullbackError:
        return LoopLimitError(self.message)


@trusted(frozen=True, slots=True)
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
    use: Use = field(default_factory=Use)
    nested: Nest | None = None
    packing: Packing | None = None
    """What is done once before the kernel runs many times: its operand 1 is what that wrote."""
    parts: tuple[Part, ...] = ()
    """What can be made again alone, as `schedule/parts` says: in its order, not written yet."""

    @property
    def status(self) -> int:
        """The place of the status among the operands, where there are checks."""
        return next(i for i, x in enumerate(self.operands) if x.buffer == STATUS)

    @property
    def is_whole(self) -> bool:
        """Whether there is nothing to share out: one thread runs it, whatever it costs."""
        return self.iterations == 1 if self.nested is None else self.nested.alone

    @property
    def callbacks(self) -> tuple[Callback, ...]:
        return tuple([x.callback for x in self.checks if x.callback is not None])


@trusted(frozen=True, slots=True)
class Part:
    """A kernel that makes one result of another again."""

    use: Use
    cost: int

    def on(self, buffers: Sequence[int]) -> Part:
        """The same where buffer i is another."""
        return Part(self.use.on(buffers), self.cost)


@trusted(frozen=True, slots=True)
class Packing:
    """A kernel that brings an operand of another into `size` bytes, from where it lies."""

    name: str
    iterations: int
    size: int
    source: Placed


@trusted(frozen=True, slots=True)
class Nest:
    """What is known of a kernel that runs kernels.

    It is `void @name(ptr operands, i64 thread, i64 threads, ptr team, ptr scratch)`, called by all
    threads of the team, or by one as the only thread. Kernels in it that fail have each two i64
    more from the status on.
    """

    workspace: int
    alone: bool
    """Whether there is too little to do for more than one thread."""
