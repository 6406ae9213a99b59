"""The kernel of an op that is called back in Python."""

from __future__ import annotations

from pullback.backend.assembly import Module, integer
from pullback.backend.calling_back import Callback
from pullback.backend.lines import open_kernel, placed
from pullback.backend.target import Target
from pullback.backend.written import STATUS, Check, Placed, Written
from pullback.ir.types import TensorType
from pullback.schedule.kernels import Call, Operand


def write_callback(call: Call, name: str, module: Module, target: Target) -> Written:
    """A kernel that hands its operands to the op's reference, once."""
    inputs, outputs = (tuple(map(_type, each)) for each in (call.inputs, call.outputs))
    callback = Callback(call.op, inputs, outputs, call.site)
    frame = open_kernel(name, 1)
    f, (status,) = frame.f, frame.pointers
    with f.loop(frame.begin, frame.end):
        failures = f.binary("add", f.load("i64", status, 8), integer(1))
        f.store(failures, status, 8)
        function = f.load("ptr", f.at(status, "ptr", integer(2)), 8)
        f.emit(f"call void {function.name}({f.parameters[0]})")
    f.finish()
    module.add(f)
    operands = (Placed(STATUS, 0), *placed((*call.inputs, *call.outputs)))
    return Written(name, operands, 1, 0, Check.of(callback))


def _type(x: Operand) -> TensorType:
    return TensorType(x.layout.shape, x.dtype)
