"""What the kernels of a program are, and what each of them takes."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence

import numpy as np

from pullback.backend.program import Program
from pullback.ir.array import Array
from pullback.ir.builder import record
from pullback.ir.types import TensorType, float32
from pullback.ops.contract import Contract
from pullback.schedule.chain import why_apart
from pullback.schedule.cost import Work, work
from pullback.schedule.fuse import fuse
from pullback.schedule.kernels import (
    Apply,
    Call,
    Chain,
    Element,
    Fold,
    Kernel,
    Load,
    Loops,
    Nested,
    Schedule,
)

SIZE = 512
"""Rows of the product that says how fast products can be here."""


def kernels_of(schedule: Schedule) -> str:
    """A line for each kernel: its operations, and the user's lines they come from."""
    lines = []
    makers: dict[int, int] = {}
    unchained = why_apart(schedule)
    for i, kernel in enumerate(schedule.kernels):
        lines.append(f"{i:4} {describe(kernel)}")
        shared = {makers[b]: b for b in sorted(kernel.reads()) if b in makers}
        for j, buffer in sorted(shared.items()):
            maker = schedule.kernels[j]
            reason = _why_apart(maker, kernel)
            if not (isinstance(maker, Loops) and isinstance(kernel, Loops)):
                reason += f"; no chain: {unchained[buffer]}"
            lines.append(f"       apart from {j}: {reason}")
        makers |= dict.fromkeys(kernel.writes(), i)
    return "\n".join(lines)


def _why_apart(maker: Kernel, reader: Kernel) -> str:
    """Why a kernel that reads what another makes is no part of it."""
    for each in (maker, reader):
        if not isinstance(each, Loops):
            return f"{each.name} {'makes' if each is maker else 'reads'} whole arrays"
    assert isinstance(maker, Loops)
    assert isinstance(reader, Loops)
    first, second = (f"{x.outer} × {x.inner}" for x in (maker, reader))
    if first != second:
        return f"rows {first} are not rows {second}"
    stored = {store.access for store in maker.stores}
    loaded = {step.access for step in reader.steps if isinstance(step, Load)}
    shared = {x.buffer for x in stored} & {x.buffer for x in loaded}
    if not {x for x in loaded if x.buffer in shared} <= stored:
        return "it is read at other places than a row makes it"
    return "another kernel stands between them"


def describe(kernel: Kernel) -> str:
    match kernel:
        case Loops():
            made = [x for x in kernel.steps if isinstance(x, Apply | Element | Fold)]
            names = " ".join(x.op.name for x in made) or "copy"
            places = dict.fromkeys(str(x.site.frame) for x in made if x.site.frame is not None)
            return f"rows {kernel.outer} × {kernel.inner}: {names}  ({'; '.join(places)})"
        case Call():
            shapes = ", ".join(str(x.layout.shape) for x in kernel.inputs)
            after = "" if kernel.after is None else f", then {describe(kernel.after)}"
            return f"{kernel.op.name} {shapes}  ({kernel.site.frame}){after}"
        case Chain():
            return f"chain {kernel.outer}: {'; '.join(map(describe, kernel.body.kernels))}"
    return f"{kernel.name}  ({kernel.site.frame})"


# ---- times ----------------------------------------------------------------------------------


def table(program: Program, seconds: Sequence[float]) -> str:
    """For each kernel its time, rates, and the share of what this machine can do at most.

    The limits are measured: a large product of this library, and a large copy. What stays in cache
    may be faster than the copy.
    """
    limits = machine(program.image.threads)
    head = (
        f"{1e3 * sum(seconds):.3f} ms in {len(seconds)} kernels, one by one, on "
        f"{program.image.threads} threads; limits {limits.flops / 1e9:.0f} GFLOP/s, "
        f"{limits.bytes / 1e9:.1f} GB/s"
    )
    lines = [head, "         µs  GFLOP/s    GB/s  of limit"]
    for i, (kernel, time_) in enumerate(zip(program.schedule.kernels, seconds, strict=True)):
        lines.append(f"{i:4} {_row(kernel, time_, limits)}  {describe(kernel)}")
    return "\n".join(lines)


def _row(kernel: Kernel, seconds: float, limits: Work) -> str:
    if isinstance(kernel, Nested):
        return f"{1e6 * seconds:6.1f} {'':>8} {'':>7} {'':>9}"
    done = work(kernel)
    least = max(done.flops / limits.flops, done.bytes / limits.bytes)
    rates = f"{done.flops / seconds / 1e9:8.1f} {done.bytes / seconds / 1e9:7.1f}"
    return f"{1e6 * seconds:6.1f} {rates} {least / seconds:9.0%}"


@functools.cache
def machine(threads: int) -> Work:
    """What this machine does in a second on so many threads, at best of a few tries."""
    matrix = np.ones((SIZE, SIZE), np.float32)
    kind = TensorType(matrix.shape, float32)
    graph = record(_product, [kind, kind])
    program = Program(fuse(graph), threads=threads)
    program([matrix, matrix])
    product = min(_seconds(lambda: program([matrix, matrix])) for _ in range(5))
    source, target = (np.ones(8 << 20, np.float32) for _ in range(2))
    copy = min(_seconds(lambda: np.copyto(target, source)) for _ in range(5))
    return Work(int(2 * SIZE**3 / product), int(2 * source.nbytes / copy))


def _product(x: Array, y: Array) -> tuple[Array]:
    return (Contract("ij", "jk", "ik")(x, y),)


def _seconds(function: object) -> float:
    assert callable(function)
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin
