"""Vectors of numbers in registers: LLVM values that know their element type and read as formulas.

Every operation has a defined result in every lane: nothing here makes poison or traps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from pullback._trusted import trusted
from pullback.backend.assembly import (
    Function,
    Ssa,
    element_of,
    floating,
    integer,
    splat,
    vector,
    width_of,
)
from pullback.ir.types import (
    DType,
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
    is_float,
    is_signed,
)

Number: TypeAlias = bool | int | float


def element(dtype: DType) -> str:
    """The LLVM type that holds one number in a register: half precision is held as `float`."""
    if is_float(dtype):
        return "double" if dtype == float64 else "float"
    return "i1" if dtype == bool_ else f"i{8 * dtype.itemsize}"


def literal(value: Number, dtype: DType, width: int) -> Ssa:
    """`value` in every lane, rounded to `dtype`: text alone, so it may stand anywhere."""
    if is_float(dtype):
        with np.errstate(over="ignore"):
            rounded = float(np.asarray(value, dtype))
        return splat(floating(rounded, element(dtype)), width)
    if dtype == bool_:
        return splat(Ssa("i1", "true" if value else "false"), width)
    return splat(integer(int(value), element(dtype)), width)


@trusted(frozen=True, slots=True, eq=False)
class Vector:
    """The numbers of one width in a function being written. A Python number is a literal."""

    function: Function
    ssa: Ssa
    dtype: DType

    @property
    def width(self) -> int:
        return width_of(self.ssa.type)

    def like(self, ssa: Ssa) -> Vector:
        return Vector(self.function, ssa, self.dtype)

    def const(self, value: Number) -> Vector:
        return self.like(literal(value, self.dtype, self.width))

    def lift(self, value: Vector | Number) -> Vector:
        return value if isinstance(value, Vector) else self.const(value)

    # ---- arithmetic; integers modulo 2^bits ----

    def _binary(self, floats: str, integers: str, other: Vector | Number) -> Vector:
        instruction = floats if is_float(self.dtype) else integers
        return self.like(self.function.binary(instruction, self.ssa, self.lift(other).ssa))

    def __add__(self, other: Vector | Number) -> Vector:
        return self._binary("fadd", "add", other)

    def __sub__(self, other: Vector | Number) -> Vector:
        return self._binary("fsub", "sub", other)

    def __mul__(self, other: Vector | Number) -> Vector:
        return self._binary("fmul", "mul", other)

    def __truediv__(self, other: Vector | Number) -> Vector:
        return self.like(self.function.binary("fdiv", self.ssa, self.lift(other).ssa))

    def __radd__(self, other: Number) -> Vector:
        return self.const(other) + self

    def __rsub__(self, other: Number) -> Vector:
        return self.const(other) - self

    def __rmul__(self, other: Number) -> Vector:
        return self.const(other) * self

    def __rtruediv__(self, other: Number) -> Vector:
        return self.const(other) / self

    def __neg__(self) -> Vector:
        if is_float(self.dtype):
            return self.like(self.function.assign(self.ssa.type, f"fneg {self.ssa}"))
        return self.const(0) - self

    def __abs__(self) -> Vector:
        if is_float(self.dtype):
            return self.intrinsic("fabs")
        if not is_signed(self.dtype):
            return self
        name = f"llvm.abs.{suffix(self.ssa)}"
        return self.like(self.function.call(name, self.ssa.type, self.ssa, Ssa("i1", "false")))

    def intrinsic(self, name: str, *others: Vector) -> Vector:
        return self.like(self.function.intrinsic(name, self.ssa, *[x.ssa for x in others]))

    # ---- comparison ----

    def _compare(self, floats: str, signed: str, unsigned: str, other: Vector | Number) -> Vector:
        if is_float(self.dtype):
            predicate = f"fcmp {floats}"
        else:
            predicate = f"icmp {signed if is_signed(self.dtype) else unsigned}"
        found = self.function.compare(predicate, self.ssa, self.lift(other).ssa)
        return Vector(self.function, found, bool_)

    def __lt__(self, other: Vector | Number) -> Vector:
        return self._compare("olt", "slt", "ult", other)

    def __le__(self, other: Vector | Number) -> Vector:
        return self._compare("ole", "sle", "ule", other)

    def __gt__(self, other: Vector | Number) -> Vector:
        return self._compare("ogt", "sgt", "ugt", other)

    def __ge__(self, other: Vector | Number) -> Vector:
        return self._compare("oge", "sge", "uge", other)

    def equals(self, other: Vector | Number) -> Vector:
        return self._compare("oeq", "eq", "eq", other)

    def differs(self, other: Vector | Number) -> Vector:
        """Unequal; a NaN differs from everything."""
        return self._compare("une", "ne", "ne", other)

    def is_nan(self) -> Vector:
        return self._compare("uno", "", "", self)

    def sign_is_set(self) -> Vector:
        """Whether a floating number is negative, -0 included."""
        bits = self.bits()
        return bits >= 1 << (8 * bits.dtype.itemsize - 1)

    # ---- bits of integers and truth values ----

    def __and__(self, other: Vector | Number) -> Vector:
        return self.like(self.function.binary("and", self.ssa, self.lift(other).ssa))

    def __or__(self, other: Vector | Number) -> Vector:
        return self.like(self.function.binary("or", self.ssa, self.lift(other).ssa))

    def __xor__(self, other: Vector | Number) -> Vector:
        return self.like(self.function.binary("xor", self.ssa, self.lift(other).ssa))

    def __invert__(self) -> Vector:
        return self ^ (True if self.dtype == bool_ else -1)

    def __lshift__(self, count: Vector | int) -> Vector:
        """By a count below the width of the type."""
        return self.like(self.function.binary("shl", self.ssa, self.lift(count).ssa))

    def __rshift__(self, count: Vector | int) -> Vector:
        """By a count below the width of the type; the sign is kept where there is one."""
        instruction = "ashr" if is_signed(self.dtype) else "lshr"
        return self.like(self.function.binary(instruction, self.ssa, self.lift(count).ssa))

    # ---- other types ----

    def bits(self) -> Vector:
        """The bits of floating numbers, as unsigned integers."""
        return self.reinterpret(np.dtype(f"uint{8 * self.dtype.itemsize}"))

    def reinterpret(self, dtype: DType) -> Vector:
        """The same bits read as another type of the same size."""
        bits = self.function.convert("bitcast", self.ssa, element(dtype))
        return Vector(self.function, bits, dtype)

    def convert(self, instruction: str, dtype: DType) -> Vector:
        converted = self.function.convert(instruction, self.ssa, element(dtype))
        return Vector(self.function, converted, dtype)


def suffix(x: Ssa) -> str:
    """The name of a type in the name of an intrinsic: `v16i32`."""
    kind = element_of(x.type)
    letters = {"float": "f32", "double": "f64"}.get(kind, kind)
    return letters if kind == x.type else f"v{width_of(x.type)}{letters}"


def where(chosen: Vector, x: Vector, y: Vector | Number) -> Vector:
    return x.like(x.function.select(chosen.ssa, x.ssa, x.lift(y).ssa))


def fma(x: Vector, y: Vector | Number, z: Vector | Number) -> Vector:
    """x·y + z, rounded once."""
    return x.intrinsic("fma", x.lift(y), x.lift(z))


def horner(x: Vector, coefficients: Sequence[float]) -> Vector:
    """c₀ + c₁x + c₂x² + …"""
    total = x.const(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = fma(total, x, coefficient)
    return total


def any_lane(chosen: Vector) -> Vector:
    """Whether the mask holds anywhere: width 1."""
    if chosen.width == 1:
        return chosen
    name = f"llvm.vector.reduce.or.{suffix(chosen.ssa)}"
    return Vector(chosen.function, chosen.function.call(name, "i1", chosen.ssa), bool_)


# ---- conversion -----------------------------------------------------------------------------


def cast(x: Vector, dtype: DType) -> Vector:
    """Another element type. Float → integer truncates and saturates, and gives 0 for NaN."""
    if x.dtype == dtype:
        return x
    if dtype == bool_:
        return x.differs(0)
    if is_float(dtype):
        return _to_float(x, dtype)
    if is_float(x.dtype):
        return _saturated(x, dtype)
    if dtype.itemsize == x.dtype.itemsize and x.dtype != bool_:
        return Vector(x.function, x.ssa, dtype)
    if dtype.itemsize < x.dtype.itemsize:
        return x.convert("trunc", dtype)
    return x.convert("sext" if is_signed(x.dtype) else "zext", dtype)


def _saturated(x: Vector, dtype: DType) -> Vector:
    kind = vector(x.width, element(dtype))
    name = "fptosi" if is_signed(dtype) else "fptoui"
    name = f"llvm.{name}.sat.{suffix(Ssa(kind, ''))}.{suffix(x.ssa)}"
    return Vector(x.function, x.function.call(name, kind, x.ssa), dtype)


def _to_float(x: Vector, dtype: DType) -> Vector:
    if dtype == float64:
        return _real(x, float64)
    if dtype == float32:
        return _real(x, float32)
    exact = x.dtype == float32 or x.dtype.itemsize <= 2
    return to_half(_real(x, float32) if exact else _odd_single(_real(x, float64)), dtype)


def _real(x: Vector, dtype: DType) -> Vector:
    """Any number as float32 or float64, rounded once."""
    if is_float(x.dtype):
        return x.convert("fpext" if dtype == float64 else "fptrunc", dtype)
    return x.convert("sitofp" if is_signed(x.dtype) else "uitofp", dtype)


def _odd_single(x: Vector) -> Vector:
    """float64 as float32; where that is inexact, the neighbour with an odd last bit.

    Rounding twice to nearest may move a number just beside a tie onto it; rounding first to odd
    may not (Boldo and Melquiond 2008).
    """
    single = x.convert("fptrunc", float32)
    back = single.convert("fpext", float64)
    one = single.bits().const(1)
    zero = one.const(0)
    lowered = single.bits() - where(abs(back) > abs(x), one, zero)
    odd = lowered | where((back < x) | (back > x), one, zero)
    return odd.reinterpret(float32)


def to_half(x: Vector, dtype: DType) -> Vector:
    """float32 rounded to the nearest number of a half-precision type, ties to even.

    The result is held as a float32 in the register.
    """
    if dtype == float16:
        narrow = x.function.convert("fptrunc", x.ssa, "half")
        return Vector(x.function, x.function.convert("fpext", narrow, "float"), float16)
    bits = x.bits()
    tie = (bits >> 16) & 1
    nearest = where(x.is_nan(), bits | 0x400000, bits + tie + 0x7FFF) & 0xFFFF0000
    return Vector(x.function, nearest.reinterpret(float32).ssa, bfloat16)


def widened(x: Vector) -> Vector:
    """Half precision as the float32 numbers it is computed in; other types as they are."""
    return Vector(x.function, x.ssa, float32) if x.dtype in (bfloat16, float16) else x
