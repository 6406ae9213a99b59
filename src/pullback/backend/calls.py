"""One kernel of a schedule as native code, whatever kind it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pullback.backend.assembly import Function, Module, integer
from pullback.backend.blocking import Machine
from pullback.backend.columns import column_iterations, split_axes, write_columns
from pullback.backend.contract import write
from pullback.backend.product import product_of
from pullback.backend.rows import write_loops
from pullback.backend.target import Target
from pullback.errors import CompileError, LoopLimitError, PullbackError, Site
from pullback.ir.families import Elementwise
from pullback.ir.op import Op
from pullback.ops.contract import Contract
from pullback.ops.control import Check as ControlCheck
from pullback.ops.reduce import Reduction
from pullback.schedule.kernels import Apply, Call, Loops


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

    A kernel with a `check` has an operand `Placed(STATUS, 0)`. After a failure it goes on with some
    defined value; the program ends before it overwrites anything donated, and raises.
    """

    name: str
    operands: tuple[Placed, ...]
    iterations: int
    scratch: int
    check: Check | None = None
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
    return () if kernel.check is None else (kernel.check,)


def write_kernel(kernel: Loops | Call, name: str, module: Module, target: Target) -> Written:
    """Add the code of a kernel. Raises `CompileError` for an op without a native meaning."""
    match kernel:
        case Loops():
            return _write_loops(kernel, name, module)
        case Call(op=Contract()):
            return _write_product(kernel, name, module, target)
        case Call(op=Reduction()):
            return _write_columns(kernel, name, module)
        case Call(op=ControlCheck()):
            return _write_check(kernel, name, module)
    raise _missing(kernel.op, kernel.site, name)


def _write_loops(kernel: Loops, name: str, module: Module) -> Written:
    for step in kernel.steps:
        if isinstance(step, Apply) and type(step.op).body is Elementwise.body:
            raise _missing(step.op, step.site, name)
    loops = write_loops(kernel, name)
    module.add(loops.function)
    operands = tuple(Placed(b, 0) for b in loops.buffers)
    return Written(name, operands, loops.iterations, loops.scratch)


def _missing(op: Op, site: Site, name: str) -> CompileError:
    error = CompileError(f"{op.name} has no native kernel yet", kernel=name)
    error.locate(op.name, site)
    return error


def _write_product(call: Call, name: str, module: Module, target: Target) -> Written:
    assert isinstance(call.op, Contract)
    a, b, c = (*call.inputs, *call.outputs)
    steps = (a.layout.strides, b.layout.strides, c.layout.strides)
    product = product_of(call.op, a.dtype, (a.layout.shape, b.layout.shape), steps)
    kernel = write(product, Machine.of(target.features), module, name)
    left, right = (b, a) if product.swapped else (a, b)
    operands = tuple(Placed(x.buffer, x.layout.offset * x.dtype.itemsize) for x in (left, right, c))
    return Written(name, operands, kernel.iterations, kernel.scratch)


def _write_check(call: Call, name: str, module: Module) -> Written:
    """A kernel that fails unless its operand is true."""
    f = Function(name, [("ptr", "operands"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")])
    operands, begin, end, _ = f.parameters
    holds = f.load("i8", f.load("ptr", operands, 8), 1)
    status = f.load("ptr", f.at(operands, "ptr", integer(1)), 8)
    with f.loop(begin, end), f.when(f.compare("icmp eq", holds, integer(0, "i8"))):
        f.store(integer(1), status, 8)
    f.finish()
    module.add(f)
    assert isinstance(call.op, ControlCheck)
    message = call.op.message
    check = Check(call.op.name, call.site, lambda _: LoopLimitError(message))
    return Written(name, (Placed(call.inputs[0].buffer, 0), Placed(STATUS, 0)), 1, 0, check)


def _write_columns(call: Call, name: str, module: Module) -> Written:
    assert isinstance(call.op, Reduction)
    (x,), (y,) = call.inputs, call.outputs
    sizes = split_axes(x.layout.shape, call.op.axes)
    module.add(write_columns(call.op, sizes, x.dtype, name))
    operands = (Placed(x.buffer, 0), Placed(y.buffer, 0))
    return Written(name, operands, column_iterations(sizes[0], sizes[2]), 0)
