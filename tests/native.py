"""Kernels run straight from their text: a bare harness for tests and benchmarks of kernels."""

from __future__ import annotations

import ctypes
import functools
import itertools

import llvmlite.binding as llvm
import numpy as np

SIGNATURE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


@functools.cache
def _ready() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def host_features() -> str:
    return llvm.get_host_cpu_features().flatten()


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
        for begin, end in itertools.pairwise(bounds):
            scratch = self.scratch()
            self.function(self.pointers, begin, end, scratch.ctypes.data)
            assert (scratch[self.kernel.scratch :] == 0xFF).all(), "wrote behind the scratch"
