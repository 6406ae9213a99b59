"""The kernel of a condition that must hold."""

from __future__ import annotations

from pullback.backend import written
from pullback.backend.assembly import Module, integer
from pullback.backend.lines import open_kernel, placed
from pullback.backend.target import Target
from pullback.backend.written import STATUS, Placed, Written
from pullback.ops.control import Check
from pullback.schedule.kernels import Call


def write_check(call: Call, name: str, module: Module, target: Target) -> Written:
    """A kernel that fails where its operand is false."""
    op = call.op
    assert isinstance(op, Check)
    frame = open_kernel(name, 2)
    f, (status, truth) = frame.f, frame.pointers
    with f.loop(frame.begin, frame.end):
        holds = f.load("i8", truth, 1)
        with f.when(f.compare("icmp eq", holds, integer(0, "i8"))):
            f.store(integer(1), status, 8)
    f.finish()
    module.add(f)
    check = written.Check(op.name, call.site, lambda _: op.failed())
    return Written(name, (Placed(STATUS, 0), *placed(call.inputs)), 1, 0, check)
