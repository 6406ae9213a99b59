"""The kernel of an op that is called back in Python."""

from __future__ import annotations

from pullback.backend.assembly import Module, integer
from pullback.backend.calling_back import Callback
from pullback.backend.lines import open_kernel, placed
from pullback.backend.target import Target
from pullback.backend.written import CALLBACK, STATUS, Check, Placed, Written
from pullback.schedule.kernels import Call

ITERATIONS = 1024
"""As many as there can be threads: the first, which is alone not empty, is the caller's own."""


def write_callback(call: Call, name: str, module: Module, target: Target) -> Written:
    """A kernel that hands its operands to the op's reference; in a loop, until that fails."""
    inputs, outputs = (tuple([x.type for x in each]) for each in (call.inputs, call.outputs))
    callback = Callback(call.op, inputs, outputs, call.site)
    frame = open_kernel(name, 2)
    f, (function, status) = frame.f, frame.pointers
    first = f.compare("icmp eq", frame.begin, integer(0))
    some = f.compare("icmp slt", frame.begin, frame.end)
    well = f.compare("icmp eq", f.load("i64", status, 8), integer(0))
    with f.when(f.binary("and", f.binary("and", first, some), well)):
        f.store(integer(1), status, 8)
        f.invoke(function, f.parameters[0])
    f.finish()
    module.add(f)
    operands = (Placed(CALLBACK, 0), Placed(STATUS, 0), *placed((*call.inputs, *call.outputs)))
    return Written(name, operands, ITERATIONS, 0, (Check.of(callback),))
