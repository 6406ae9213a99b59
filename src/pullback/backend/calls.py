"""One kernel of a schedule as native code, whatever kind it is."""

from __future__ import annotations

from dataclasses import replace

from pullback.backend.assembly import Function, Module, integer
from pullback.backend.blocking import Machine
from pullback.backend.callback import write_callback
from pullback.backend.chain import Inner, Piece, write_chain
from pullback.backend.columns import column_iterations, split_axes, write_columns
from pullback.backend.contract import Sums, write
from pullback.backend.convolve import standing, write_convolution
from pullback.backend.epilogue import Pointwise, accesses
from pullback.backend.ordering import write_previous, write_search, write_selection
from pullback.backend.position import write_position
from pullback.backend.product import product_of
from pullback.backend.rows import write_loops
from pullback.backend.running import write_running
from pullback.backend.scatter import write_scatter
from pullback.backend.target import Target
from pullback.backend.written import STATUS, Check, Exceeded, Packing, Placed, Written
from pullback.errors import CompileError, Site
from pullback.ir.families import Elementwise
from pullback.ir.op import Op
from pullback.ops.contract import Contract
from pullback.ops.control import Check as ControlCheck
from pullback.ops.convolve import Convolution
from pullback.ops.index import Scatter
from pullback.ops.linalg import MatrixOp, System
from pullback.ops.onward import Onward
from pullback.ops.previous import Previous
from pullback.ops.product import Running
from pullback.ops.reduce import Position, Reduction
from pullback.ops.searching import SearchSorted
from pullback.ops.sort import Sort, TopK
from pullback.schedule.kernels import Apply, Call, Chain, Kernel, Loops, Nested


def write_kernel(
    kernel: Loops | Call | Chain, name: str, module: Module, target: Target
) -> Written:
    """Add the code of a kernel. Raises `CompileError` for an op without a native meaning."""
    match kernel:
        case Loops():
            return _write_loops(kernel, name, module)
        case Call(op=Contract() | Onward()):
            return _write_product(kernel, name, module, target)
        case Call(op=Convolution()):
            return _write_convolution(kernel, name, module, target)
        case Call(op=Reduction()):
            return _write_columns(kernel, name, module)
        case Call(op=Scatter()):
            return write_scatter(kernel, name, module)
        case Call(op=ControlCheck()):
            return _write_check(kernel, name, module)
        case Call(op=Position()):
            return write_position(kernel, name, module, target)
        case Call(op=Running()):
            return write_running(kernel, name, module, target)
        case Call(op=Sort() | TopK()):
            return write_selection(kernel, name, module, target)
        case Call(op=Previous()):
            return write_previous(kernel, name, module, target)
        case Call(op=SearchSorted()):
            return write_search(kernel, name, module, target)
        case Call(op=MatrixOp() | System()):
            return write_callback(kernel, name, module, target)
        case Chain():
            return _write_chain(kernel, name, module, target)
    raise _missing(kernel.op, kernel.site, name)


def _write_loops(kernel: Loops, name: str, module: Module) -> Written:
    _require_bodies(kernel, name)
    loops = write_loops(kernel, name)
    module.add(loops.function)
    operands = tuple(Placed(b, 0) for b in loops.buffers)
    status = (Placed(STATUS, 0),) if loops.checks else ()
    return Written(name, operands + status, loops.iterations, loops.scratch, loops.checks)


def _require_bodies(kernel: Loops, name: str) -> None:
    for step in kernel.steps:
        if isinstance(step, Apply) and type(step.op).body is Elementwise.body:
            raise _missing(step.op, step.site, name)


def _missing(op: Op, site: Site, name: str) -> CompileError:
    error = CompileError(f"{op.name} has no native kernel yet", kernel=name)
    error.locate(op.name, site)
    return error


def _write_product(call: Call, name: str, module: Module, target: Target) -> Written:
    op = call.op.product if isinstance(call.op, Onward) else call.op
    assert isinstance(op, Contract)
    (a, b, *sums), (c,) = call.inputs, call.outputs
    steps = (a.layout.strides, b.layout.strides, c.layout.strides)
    after = call.after
    others = [] if after is None else [access.outer for access in accesses(after)]
    product = product_of(op, a.dtype, (a.layout.shape, b.layout.shape), steps, others)
    left, right = (b, a) if product.swapped else (a, b)
    operands = [Placed(x.buffer, x.layout.offset * x.dtype.itemsize) for x in (left, right)]
    buffers = _results(call)
    operands += [Placed(buffer, 0) for buffer in (*buffers, *[x.buffer for x in sums])]
    epilogue = lines = None
    if after is not None:
        _require_bodies(after, name)
        axes = (*product.batch, product.row, product.column)
        epilogue = Pointwise(after, axes, c.buffer, buffers)
        lines = epilogue.lines
    machine, results = Machine.of(target.features), len(operands) - 2
    fixed = (0 if product.swapped else 1) in call.fixed
    adds: Sums | None = "given" if sums else "stored" if call.adds else None
    kernel = write(
        product, machine, module, name, epilogue, results, adds=adds, lines=lines, fixed=fixed
    )
    packing = None
    if kernel.packing is not None:
        made = kernel.packing
        packing = Packing(made.name, made.iterations, made.size, operands[1])
    return Written(name, tuple(operands), kernel.iterations, kernel.scratch, packing=packing)


def _write_check(call: Call, name: str, module: Module) -> Written:
    """A kernel that fails unless its operand is true."""
    f = Function.kernel(name)
    operands, begin, end, _ = f.parameters
    holds = f.load("i8", f.load("ptr", operands, 8), 1)
    status = f.load("ptr", f.at(operands, "ptr", integer(1)), 8)
    with f.loop(begin, end), f.when(f.compare("icmp eq", holds, integer(0, "i8"))):
        f.store(integer(1), status, 8)
    f.finish()
    module.add(f)
    assert isinstance(call.op, ControlCheck)
    message = call.op.message
    check = Check(call.op.name, call.site, Exceeded(message))
    return Written(name, (Placed(call.inputs[0].buffer, 0), Placed(STATUS, 0)), 1, 0, (check,))


def _results(call: Call) -> list[int]:
    """The buffers after the operands of a product: its result, or what its epilogue uses."""
    (result,) = call.outputs
    if call.after is None:
        return [result.buffer]
    return sorted((call.after.reads() - {result.buffer}) | call.after.writes())


def _write_convolution(call: Call, name: str, module: Module, target: Target) -> Written:
    assert isinstance(call.op, Convolution)
    left, right, result = (*call.inputs, *call.outputs)
    after, buffers, epilogue = call.after, _results(call), None
    if after is not None:
        _require_bodies(after, name)
        strides = [access.outer for access in accesses(after)]
        axes = standing(after.outer, call.op.groups, strides)
        epilogue = Pointwise(after, axes, result.buffer, buffers)
    shapes, machine = (left.layout.shape, right.layout.shape), Machine.of(target.features)
    kernel = write_convolution(
        call.op, left.dtype, shapes, machine, module, name, epilogue, len(buffers)
    )
    operands = [Placed(x.buffer, x.layout.offset * x.dtype.itemsize) for x in (left, right)]
    operands += [Placed(buffer, 0) for buffer in buffers]
    return Written(name, tuple(operands), kernel.iterations, kernel.scratch)


def _write_columns(call: Call, name: str, module: Module) -> Written:
    assert isinstance(call.op, Reduction)
    (x,), (y,) = call.inputs, call.outputs
    sizes = split_axes(x.layout.shape, call.op.axes)
    module.add(write_columns(call.op, sizes, x.dtype, name))
    operands = (Placed(x.buffer, x.layout.offset * x.dtype.itemsize), Placed(y.buffer, 0))
    return Written(name, operands, column_iterations(sizes[0], sizes[2]), 0)


def _write_chain(chain: Chain, name: str, module: Module, target: Target) -> Written:
    pieces = []
    for i, kernel in enumerate(chain.body.kernels):
        other = first = _inner(kernel, f"{name}_{i}", module, target)
        if isinstance(kernel, Call) and kernel.adds:
            first = _inner(replace(kernel, adds=False), f"{name}_{i}_first", module, target)
        pieces.append(Piece(kernel, first, other))
    written = write_chain(chain, pieces, name, module)
    operands = tuple(Placed(b, 0) for b in written.buffers)
    return Written(name, operands, written.iterations, written.scratch)


def _inner(kernel: Kernel, name: str, module: Module, target: Target) -> Inner:
    assert not isinstance(kernel, Nested)
    written = write_kernel(kernel, name, module, target)
    operands = tuple((x.buffer, x.offset) for x in written.operands)
    return Inner(written.name, operands, written.iterations, written.scratch)
