"""What native code costs before it computes: compiling, loading, launching, waiting."""

from __future__ import annotations

import ctypes
import tempfile
import time
from pathlib import Path

from benchmarks.harness import Row

from pullback.backend.assembly import Function, Module, floating, integer, splat
from pullback.backend.barrier import add_barrier
from pullback.backend.cache import ObjectCache, load
from pullback.backend.jit import Library
from pullback.backend.target import Target
from pullback.backend.threads import Team

ROUNDS = 15
KERNELS = 20
BARRIERS = 2000
ASLEEP = 0.02  # seconds after which every worker has stopped spinning

WAITING = f"""
define void @nothing(ptr %argument, i64 %thread, i64 %threads, ptr %team) {{
  ret void
}}
define void @barriers(ptr %argument, i64 %thread, i64 %threads, ptr %team) {{
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  call void @barrier(ptr %team, i64 %threads)
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, {BARRIERS}
  br i1 %more, label %loop, label %done
done:
  ret void
}}
"""


def rows() -> tuple[list[Row], list[str]]:
    return [*_compile_rows(), *_thread_rows()], []


def _compile_rows() -> list[Row]:
    folder = tempfile.TemporaryDirectory()
    cache, target = ObjectCache(Path(folder.name)), Target.host()
    text = pointwise_module()

    def loading(cache: ObjectCache) -> Library:
        return load(text, ["kernel0"], target, cache)

    def cold() -> object:
        return loading(ObjectCache(None))

    def warm(keep=folder) -> object:
        return loading(cache)

    title = f"of {KERNELS} kernels, each"
    return [
        Row(f"compile {title}", {"pullback": cold}, per=KERNELS, goal=0.005),
        Row(f"load {title}", {"pullback": warm}, per=KERNELS, goal=0.0001),
    ]


def pointwise_module() -> str:
    """Kernels that differ in a constant: a polynomial of degree 24, sixteen floats at a time."""
    module = Module()
    for number in range(KERNELS):
        parameters = [("ptr", "operands"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")]
        function = Function(f"kernel{number}", parameters)
        operands, begin, end, _ = function.parameters
        source = function.load("ptr", operands, 8)
        result = function.load("ptr", function.at(operands, "ptr", integer(1)), 8)
        with function.loop(begin, end, 16) as loop:
            x = function.load("<16 x float>", function.at(source, "float", loop.index), 4)
            total = x
            for power in range(24):
                coefficient = splat(floating(1.0 / (power + number + 1), "float"), 16)
                total = function.intrinsic("fma", total, x, coefficient)
            function.store(total, function.at(result, "float", loop.index), 4)
        function.finish()
        module.add(function, exported=True)
    return str(module)


def _thread_rows() -> list[Row]:
    target, module = Target.host(), Module()
    add_barrier(module, target)
    module.functions.append(WAITING)
    library = load(str(module), ("nothing", "barriers"), target, ObjectCache(None))
    nothing, barriers = library.addresses["nothing"], library.addresses["barriers"]
    one, two = Team(1), Team(2)

    def waken(keep=library) -> float:
        two.run(nothing, 0)
        time.sleep(ASLEEP)
        start = time.perf_counter()
        two.run(nothing, 0)
        return time.perf_counter() - start

    return [
        Row("launch on 1 thread", {"pullback": lambda: one.run(nothing, 0)}, goal=2e-6),
        Row("launch on 2 threads", {"pullback": lambda: two.run(nothing, 0)}, goal=4e-6),
        Row("barrier of 2", {"pullback": lambda: two.run(barriers, 0)}, per=BARRIERS, goal=2e-7),
        Row("launch on 2, one asleep", {"pullback": waken}, goal=3e-4, own_clock=True),
        Row("call of an empty function", {"ctypes": empty_call(library)}),
    ]


def empty_call(library: Library):
    call = library.function("nothing", *[ctypes.c_void_p] * 4)
    return lambda: call(0, 0, 1, 0)
