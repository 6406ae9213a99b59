"""Kernels run straight from their text: a bare harness for tests and benchmarks of kernels."""

from __future__ import annotations

import ctypes
import functools
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from types import SimpleNamespace

import llvmlite.binding as llvm
import numpy as np

from pullback.backend.assembly import Function, Module, floating, integer, splat, vector

SIGNATURE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


@functools.cache
def _ready() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


class Compiled:
    """The kernels of one module, by name."""

    def __init__(self, module, cpu: str = "", features: str = "", opt: int = 2) -> None:
        _ready()
        text = llvm.parse_assembly(str(module))
        text.verify()
        cpu = cpu or llvm.get_host_cpu_name()
        target = llvm.Target.from_default_triple()
        self.machine = target.create_target_machine(cpu=cpu, features=features, opt=opt, jit=True)
        text.triple = llvm.get_default_triple()
        self.engine = llvm.create_mcjit_compiler(text, self.machine)
        self.engine.finalize_object()

    @staticmethod
    def features() -> str:
        """Those of this processor, as LLVM writes them."""
        return llvm.get_host_cpu_features().flatten()

    def __getitem__(self, name: str):
        function = SIGNATURE(self.engine.get_function_address(name))
        function.owner = self  # the code lives as long as its engine
        return function


class Call:
    """One kernel with its operands: `call(begin, end)` runs some of its iterations."""

    def __init__(self, function, kernel, arrays) -> None:
        self.function, self.kernel, self.arrays = function, kernel, arrays
        addresses = [x if isinstance(x, int) else x.ctypes.data for x in arrays]
        self.table = (ctypes.c_void_p * len(addresses))(*addresses)
        self.pointers = ctypes.addressof(self.table)

    def scratch(self):
        """Fresh scratch of a thread, filled with NaN, with canaries behind it."""
        buffer = np.full(self.kernel.scratch + 192, 0xFF, np.uint8)
        start = -buffer.ctypes.data % 64
        return buffer[start:]

    def run(self, ways: int = 1) -> None:
        bounds = [self.kernel.iterations * i // ways for i in range(ways + 1)]
        for begin, end in pairwise(bounds):
            scratch = self.scratch()
            self.function(self.pointers, begin, end, scratch.ctypes.data)
            assert (scratch[self.kernel.scratch :] == 0xFF).all(), "wrote behind the scratch"


class Team:
    """Threads that run a share of the iterations of a kernel each."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.pool = ThreadPoolExecutor(size - 1) if size > 1 else None

    def runner(self, call: Call):
        """A function that runs the whole kernel."""
        bounds = [call.kernel.iterations * i // self.size for i in range(self.size + 1)]
        shares = [
            (begin, end, scratch, scratch.ctypes.data)
            for begin, end in pairwise(bounds)
            for scratch in (call.scratch(),)
        ]

        def share(begin, end, _, scratch) -> None:
            call.function(call.pointers, begin, end, scratch)

        def run() -> None:
            others = [self.pool.submit(share, *each) for each in shares[1:]]
            share(*shares[0])
            for other in others:
                other.result()

        return run


PEAK_STEPS, PEAK_SUMS = 100_000, 6
PEAK_OPERATIONS = PEAK_STEPS * PEAK_SUMS * 16 * 2


def peak_of(team: Team):
    """Every thread of the team does `PEAK_OPERATIONS` independent ones in registers."""
    steps, sums, kind = PEAK_STEPS, PEAK_SUMS, "float"
    parameters = [("ptr", "operands"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")]
    f = Function("peak", parameters)
    _, begin, end, scratch = f.parameters
    x = f.load(vector(16, kind), scratch, 64)
    with f.loop(begin, end) as shares:
        start = [splat(floating(float(i), kind), 16) for i in range(sums)]
        with f.loop(integer(0), integer(steps), carried=start) as loop:
            loop.carry(*(f.intrinsic("fma", x, x, total) for total in loop.values))
        for i, total in enumerate(loop.results):
            f.store(total, f.at(scratch, "i8", integer(64 * i)), 64)
        shares.carry()
    f.finish()
    module = Module()
    module.add(f, exported=True)
    kernel = SimpleNamespace(iterations=team.size, scratch=64 * sums)
    call = Call(Compiled(module)["peak"], kernel, [])
    return team.runner(call)
