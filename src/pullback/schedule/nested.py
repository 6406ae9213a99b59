"""Ops that hold graphs as kernels that hold schedules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pullback.errors import NOWHERE
from pullback.ir.array import Array
from pullback.ir.graph import Graph, Node
from pullback.ops.control import Cond, While
from pullback.ops.pointwise import StopGradient
from pullback.ops.scan import Scan
from pullback.schedule.kernels import (
    Call,
    Choice,
    Kernel,
    Nested,
    Repeat,
    Schedule,
    Until,
)

Fuse = Callable[[Graph], Schedule]


def nested(schedule: Schedule, fuse: Fuse) -> Schedule:
    """The schedule, with the graphs that its kernels hold fused too."""
    if not any(isinstance(kernel, Call) and _holds(kernel) for kernel in schedule.kernels):
        return schedule
    kernels = tuple([_opened(kernel, fuse) for kernel in schedule.kernels])
    return replace(schedule, kernels=kernels)


def _holds(call: Call) -> bool:
    return isinstance(call.op, Scan | While | Cond)


def _opened(kernel: Kernel, fuse: Fuse) -> Kernel:
    if not isinstance(kernel, Call):
        return kernel
    form: Repeat | Until | Choice
    match kernel.op:
        case Scan(body, constants, carries, length, reverse):
            form = Repeat(_separate(body, fuse), constants, carries, length, reverse)
        case While(condition, body, constants, max_steps):
            parts = _separate(condition, fuse), _separate(body, fuse)
            form = Until(*parts, constants, max_steps)
        case Cond(if_true, if_false):
            form = Choice(_separate(if_true, fuse), _separate(if_false, fuse))
        case _:
            return kernel
    return Nested(form, kernel.inputs, kernel.outputs, kernel.site)


def _separate(graph: Graph, fuse: Fuse) -> Schedule:
    """The schedule of a graph, whose outputs lie in buffers of their own."""
    schedule = fuse(graph)
    taken = set(schedule.inputs)
    outputs, copies = list(graph.outputs), []
    for i, buffer in enumerate(schedule.outputs):
        if buffer in taken:
            x = outputs[i]
            outputs[i] = Array(x.type, None, x.trace)
            copies.append(Node(StopGradient(), (x,), (outputs[i],), NOWHERE))
        taken.add(buffer)
    if not copies:
        return schedule
    return fuse(Graph(graph.inputs, (*graph.nodes, *copies), tuple(outputs)))
