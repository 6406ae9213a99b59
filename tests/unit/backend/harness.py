"""Compiles a loop over arrays around a body in the scalar algebra, and runs it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

import llvmlite.binding as llvm
import numpy as np

from pullback.backend.assembly import Function, Module, Ssa, integer
from pullback.backend.lanes import LANES, Lanes
from pullback.backend.vector import Vector

Body = Callable[..., Vector]


def machine(cpu: str) -> llvm.TargetMachine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = ""
    if cpu == "native":
        cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(cpu=cpu, features=features, opt=1)


class Compiled:
    """`body` over arrays: full vectors first, then one under a mask, or one lane at a time."""

    def __init__(
        self, body: Body, inputs: Sequence[np.dtype], output: np.dtype, width=LANES, cpu="native"
    ) -> None:
        self.inputs = [np.dtype(dtype) for dtype in inputs]
        self.output = np.dtype(output)
        self.text = _module(body, self.inputs, self.output, width)
        parsed = llvm.parse_assembly(self.text)
        parsed.verify()
        target = machine(cpu)  # the engine will own it
        self.assembly = target.emit_assembly(parsed)
        self.engine = llvm.create_mcjit_compiler(parsed, target)
        self.engine.finalize_object()
        address = self.engine.get_function_address("kernel")
        self.function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(address)

    def __call__(self, *arrays: np.ndarray) -> np.ndarray:
        arrays = [np.ascontiguousarray(x) for x in np.broadcast_arrays(*arrays)]
        assert [x.dtype for x in arrays] == self.inputs
        result = np.empty(arrays[0].shape, self.output)
        self.into(result, *arrays)
        return result

    def into(self, result: np.ndarray, *arrays: np.ndarray) -> None:
        pointers = [x.ctypes.data for x in (*arrays, result)]
        self.function((ctypes.c_void_p * len(pointers))(*pointers), result.size)


def _module(body: Body, inputs, output, width: int) -> str:
    function = Function("kernel", [("ptr", "operands"), ("i64", "count")])
    table, count = function.parameters
    pointers = [
        function.load("ptr", function.at(table, "ptr", integer(i)), 8)
        for i in range(len(inputs) + 1)
    ]
    lanes = Lanes(function, width)
    full = function.binary("and", count, integer(-width))
    with function.loop(integer(0), full, width) as loop:
        operands = [
            lanes.load(p, loop.index, dtype) for p, dtype in zip(pointers[:-1], inputs, strict=True)
        ]
        lanes.store(_checked(body(lanes, *operands), output), pointers[-1], loop.index)
    if width > 1:
        rest = function.binary("sub", count, full)
        with function.when(function.compare("icmp sgt", rest, integer(0))):
            mask = function.first_lanes(rest, width)
            operands = [
                lanes.load_first(p, full, dtype, mask)
                for p, dtype in zip(pointers[:-1], inputs, strict=True)
            ]
            result = _checked(body(lanes, *operands), output)
            lanes.store_first(result, pointers[-1], full, mask)
    function.finish()
    module = Module()
    module.add(function, exported=True)
    return str(module)


def _checked(result: Vector, output: np.dtype) -> Vector:
    assert isinstance(result.ssa, Ssa)
    assert result.dtype == output, f"the body gives {result.dtype}, the op {output}"
    return result


# ---- distances ------------------------------------------------------------------------------


def same_bits(x: np.ndarray, y: np.ndarray) -> bool:
    """Equal bit for bit; any NaN equals any other."""
    with np.errstate(invalid="ignore"):  # a signalling NaN
        both_nan = np.asarray(x != x) & np.asarray(y != y)
    kind = f"u{x.dtype.itemsize}"
    return bool(np.all((x.view(kind) == y.view(kind)) | both_nan))


def ulp_error(x: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """|x − exact| in units in the last place of `exact` rounded to the type of x.

    Infinite where exactly one is NaN or of another sign of infinity. An exact value that rounds to
    an infinity counts as the power of two where that begins.
    """
    wide = exact.astype(np.longdouble)
    with np.errstate(all="ignore"):
        nearest = wide.astype(x.dtype)
        limits = np.finfo(x.dtype)
        top = np.longdouble(limits.max)
        clipped = np.clip(wide, -top, top)
        found = np.clip(x.astype(np.longdouble), -top, top)
        unit = np.spacing(np.abs(clipped.astype(x.dtype))).astype(np.longdouble)
        unit = np.where(np.isfinite(unit), unit, np.longdouble(limits.max) * limits.eps / 2)
        error = np.abs(found - clipped) / unit
    error = np.where(np.isnan(x) & np.isnan(exact), 0, error)
    error = np.where(np.isnan(x) != np.isnan(exact), np.inf, error)
    error = np.where(np.isinf(nearest) & (x == nearest), 0, error)
    return np.asarray(error, np.float64)
