"""The scalar algebra on LLVM vectors: what turns the body of an elementwise op into native code.

A kernel has one number of lanes for all its types, so that masks, indices and casts line up;
LLVM splits what is wider than a register. Half precision is computed in float32: `Lanes.apply` runs
the whole body of an op so, and rounds its result once.
"""

from __future__ import annotations

from collections.abc import Callable

from pullback.backend import circular, vecmath
from pullback.backend.assembly import Function, Ssa, element_of, integer, vector
from pullback.backend.remainder import float_quotient, float_remainder
from pullback.backend.vector import (
    Number,
    Vector,
    cast,
    element,
    fma,
    literal,
    to_half,
    where,
    widened,
)
from pullback.ir.families import Elementwise
from pullback.ir.types import (
    DType,
    bfloat16,
    bool_,
    float16,
    float32,
    int64,
    is_float,
    is_signed,
    uint8,
    uint16,
    uint32,
    uint64,
)

LANES = 16
"""The canonical width: one cache line of float32."""


class Lanes:
    """`Scalar[Vector]`, on vectors of `width` lanes of one function."""

    def __init__(self, function: Function, width: int = LANES) -> None:
        self.function = function
        self.width = width

    def apply(self, op: Elementwise, *operands: Vector) -> Vector:
        """One element of the result of `op`; half precision is rounded once, at the end."""
        (kind,) = {x.dtype for x in operands if x.dtype != bool_} or {bool_}
        if kind not in (bfloat16, float16) or op.in_own_precision:
            return op.body(self, *operands)  # type: ignore[no-any-return]
        result: Vector = op.body(self, *map(widened, operands))
        return self.cast(result, op.result_dtype(kind))

    # ---- literals, types ----

    def literal(self, value: Number, dtype: DType) -> Vector:
        """`value` in every lane."""
        return Vector(self.function, literal(value, dtype, self.width), dtype)

    def const(self, value: Number, like: Vector) -> Vector:
        return self.literal(value, like.dtype)

    def cast(self, x: Vector, dtype: DType) -> Vector:
        return cast(x, dtype)

    def bitcast(self, x: Vector, dtype: DType) -> Vector:
        return from_memory(to_memory(x), self.function, dtype)

    def bits(self, x: Vector) -> Vector:
        return self.bitcast(x, UNSIGNED[x.dtype.itemsize])

    def number(self, bits: Vector, like: Vector) -> Vector:
        return self.bitcast(bits, like.dtype)

    # ---- arithmetic ----

    def add(self, x: Vector, y: Vector) -> Vector:
        return rounded(x + y)

    def sub(self, x: Vector, y: Vector) -> Vector:
        return rounded(x - y)

    def mul(self, x: Vector, y: Vector) -> Vector:
        return rounded(x * y)

    def div(self, x: Vector, y: Vector) -> Vector:
        return rounded(x / y)

    def quot(self, x: Vector, y: Vector) -> Vector:
        if is_float(x.dtype):
            return rounded(float_quotient(x, y))
        quotient = _divided("div", x, y)
        quotient = where(y.equals(0), x.const(0), quotient)
        return where(y.equals(-1), -x, quotient) if is_signed(x.dtype) else quotient

    def rem(self, x: Vector, y: Vector) -> Vector:
        if is_float(x.dtype):
            return rounded(float_remainder(x, y))
        rest = where(y.equals(0), x.const(0), _divided("rem", x, y))
        return where(y.equals(-1), x.const(0), rest) if is_signed(x.dtype) else rest

    def neg(self, x: Vector) -> Vector:
        return -x

    def fma(self, x: Vector, y: Vector, z: Vector) -> Vector:
        return rounded(fma(x, y, z)) if is_float(x.dtype) else x * y + z

    def abs(self, x: Vector) -> Vector:
        return abs(x)

    def copysign(self, x: Vector, y: Vector) -> Vector:
        return x.intrinsic("copysign", y)

    def minimum(self, x: Vector, y: Vector) -> Vector:
        return _extremum(x, y, "min")

    def maximum(self, x: Vector, y: Vector) -> Vector:
        return _extremum(x, y, "max")

    def floor(self, x: Vector) -> Vector:
        return x.intrinsic("floor")

    def ceil(self, x: Vector) -> Vector:
        return x.intrinsic("ceil")

    def trunc(self, x: Vector) -> Vector:
        return x.intrinsic("trunc")

    def round(self, x: Vector) -> Vector:
        return x.intrinsic("roundeven")

    # ---- functions ----

    def sqrt(self, x: Vector) -> Vector:
        return rounded(x.intrinsic("sqrt"))

    def cbrt(self, x: Vector) -> Vector:
        return rounded(vecmath.cbrt(x))

    def exp(self, x: Vector) -> Vector:
        return rounded(vecmath.exp(x))

    def exp2(self, x: Vector) -> Vector:
        return rounded(vecmath.exp2(x))

    def expm1(self, x: Vector) -> Vector:
        return rounded(vecmath.expm1(x))

    def log(self, x: Vector) -> Vector:
        return rounded(vecmath.log(x))

    def log2(self, x: Vector) -> Vector:
        return rounded(vecmath.log2(x))

    def log1p(self, x: Vector) -> Vector:
        return rounded(vecmath.log1p(x))

    def sin(self, x: Vector) -> Vector:
        return rounded(circular.sin(x))

    def cos(self, x: Vector) -> Vector:
        return rounded(circular.cos(x))

    def tan(self, x: Vector) -> Vector:
        return rounded(circular.tan(x))

    def asin(self, x: Vector) -> Vector:
        return rounded(circular.asin(x))

    def atan(self, x: Vector) -> Vector:
        return rounded(circular.atan(x))

    def sinh(self, x: Vector) -> Vector:
        return rounded(vecmath.sinh(x))

    def tanh(self, x: Vector) -> Vector:
        return rounded(vecmath.tanh(x))

    def asinh(self, x: Vector) -> Vector:
        return rounded(vecmath.asinh(x))

    def atanh(self, x: Vector) -> Vector:
        return rounded(vecmath.atanh(x))

    def erf(self, x: Vector) -> Vector:
        return rounded(vecmath.erf(x))

    def erfc(self, x: Vector) -> Vector:
        return rounded(vecmath.erfc(x))

    def power(self, x: Vector, y: Vector) -> Vector:
        return rounded(vecmath.power(x, y))

    # ---- comparison, selection ----

    def less(self, x: Vector, y: Vector) -> Vector:
        return x < y

    def less_equal(self, x: Vector, y: Vector) -> Vector:
        return x <= y

    def equal(self, x: Vector, y: Vector) -> Vector:
        return x.equals(y)

    def select(self, chosen: Vector, x: Vector, y: Vector) -> Vector:
        return where(chosen, x, y)

    # ---- bits ----

    def bit_and(self, x: Vector, y: Vector) -> Vector:
        return x & y

    def bit_or(self, x: Vector, y: Vector) -> Vector:
        return x | y

    def bit_xor(self, x: Vector, y: Vector) -> Vector:
        return x ^ y

    def bit_not(self, x: Vector) -> Vector:
        return ~x

    def shift_left(self, x: Vector, y: Vector) -> Vector:
        inside = _inside(y)
        return where(inside, x << where(inside, y, 0), 0)

    def shift_right(self, x: Vector, y: Vector) -> Vector:
        inside = _inside(y)
        if is_signed(x.dtype):
            return x >> where(inside, y, 8 * y.dtype.itemsize - 1)
        return where(inside, x >> where(inside, y, 0), 0)

    # ---- memory: row-major arrays of `dtype`; bool is a byte, half precision two ----

    def load(self, pointer: Ssa, index: Ssa, dtype: DType, align: int = 0) -> Vector:
        """The elements `index`, `index` + 1, …"""
        return self._read(
            pointer,
            index,
            dtype,
            lambda kind, at: self.function.load(kind, at, align or dtype.itemsize),
        )

    def load_first(self, pointer: Ssa, index: Ssa, dtype: DType, mask: Ssa) -> Vector:
        """The same where `mask` holds; 0 in the other lanes, whose memory is not touched."""

        def read(kind: str, at: Ssa) -> Ssa:
            zeros = Ssa(kind, "zeroinitializer")
            return self.function.load_first(kind, at, mask, zeros, dtype.itemsize)

        return self._read(pointer, index, dtype, read)

    def splat(self, pointer: Ssa, index: Ssa, dtype: DType) -> Vector:
        """The element `index` in every lane."""
        stored = memory_element(dtype)
        at = self.function.at(pointer, stored, index)
        one = self.function.load(stored, at, dtype.itemsize)
        return from_memory(self.function.spread(one, self.width), self.function, dtype)

    def strided(self, pointer: Ssa, index: Ssa, step: int, dtype: DType) -> Vector:
        """The elements `index`, `index` + `step`, …"""
        places = [
            self.function.binary("add", index, integer(lane * step)) for lane in range(self.width)
        ]
        return self._collected(pointer, places, dtype)

    def gathered(self, pointer: Ssa, indices: Vector, dtype: DType) -> Vector:
        """The element at each of `indices`."""
        wide = cast(indices, int64)
        if self.width == 1:
            return self._collected(pointer, [wide.ssa], dtype)
        places = [self.function.lane(wide.ssa, lane) for lane in range(self.width)]
        return self._collected(pointer, places, dtype)

    def store(self, x: Vector, pointer: Ssa, index: Ssa, align: int = 0) -> None:
        stored = to_memory(x)
        at = self.function.at(pointer, element_of(stored.type), index)
        self.function.store(stored, at, align or x.dtype.itemsize)

    def store_first(self, x: Vector, pointer: Ssa, index: Ssa, mask: Ssa) -> None:
        """Only the lanes where `mask` holds."""
        stored = to_memory(x)
        at = self.function.at(pointer, element_of(stored.type), index)
        self.function.store_first(stored, at, mask, x.dtype.itemsize)

    def _read(
        self, pointer: Ssa, index: Ssa, dtype: DType, read: Callable[[str, Ssa], Ssa]
    ) -> Vector:
        stored = memory_element(dtype)
        at = self.function.at(pointer, stored, index)
        return from_memory(read(vector(self.width, stored), at), self.function, dtype)

    def _collected(self, pointer: Ssa, places: list[Ssa], dtype: DType) -> Vector:
        stored, function = memory_element(dtype), self.function
        kind = vector(self.width, stored)
        collected = Ssa(kind, "poison")
        for lane, place in enumerate(places):
            at = function.at(pointer, stored, place)
            one = function.load(stored, at, dtype.itemsize)
            if self.width == 1:
                return from_memory(one, function, dtype)
            collected = function.assign(kind, f"insertelement {collected}, {one}, i64 {lane}")
        return from_memory(collected, function, dtype)


# ---- registers and memory -------------------------------------------------------------------


def memory_element(dtype: DType) -> str:
    """The LLVM type of one element in memory."""
    if dtype in (bool_, bfloat16, float16):
        return f"i{8 * dtype.itemsize}"
    return element(dtype)


def from_memory(x: Ssa, function: Function, dtype: DType) -> Vector:
    """Elements as they are in memory, as they are in registers."""
    if dtype == bool_:
        zero = Ssa(x.type, "0" if element_of(x.type) == x.type else "zeroinitializer")
        return Vector(function, function.compare("icmp ne", x, zero), dtype)
    if dtype == bfloat16:
        wide = Vector(function, function.convert("zext", x, "i32"), uint32)
        return Vector(function, (wide << 16).reinterpret(float32).ssa, dtype)
    if dtype == float16:
        half = function.convert("bitcast", x, "half")
        return Vector(function, function.convert("fpext", half, "float"), dtype)
    return Vector(function, function.convert("bitcast", x, element(dtype)), dtype)


def to_memory(x: Vector) -> Ssa:
    if x.dtype == bool_:
        return x.function.convert("zext", x.ssa, "i8")
    if x.dtype == bfloat16:
        return x.function.convert("trunc", (widened(x).bits() >> 16).ssa, "i16")
    if x.dtype == float16:
        return x.function.convert("bitcast", x.function.convert("fptrunc", x.ssa, "half"), "i16")
    return x.ssa


# ---- pieces ---------------------------------------------------------------------------------


def rounded(x: Vector) -> Vector:
    """A half-precision result that was computed in float32, rounded to its type."""
    if x.dtype in (bfloat16, float16):
        return to_half(widened(x), x.dtype)
    return x


def _extremum(x: Vector, y: Vector, which: str) -> Vector:
    if is_float(x.dtype):
        return x.intrinsic(f"{which}imum", y)
    return x.intrinsic(f"{'s' if is_signed(x.dtype) else 'u'}{which}", y)


def _divided(instruction: str, x: Vector, y: Vector) -> Vector:
    """The machine's division, kept from the divisors 0 and -1."""
    signed = is_signed(x.dtype)
    special = y.equals(0) | y.equals(-1) if signed else y.equals(0)
    safe = where(special, y.const(1), y)
    return x.like(x.function.binary(f"{'s' if signed else 'u'}{instruction}", x.ssa, safe.ssa))


def _inside(count: Vector) -> Vector:
    """Whether a shift leaves bits: 0 ≤ count < width."""
    unsigned = Vector(count.function, count.ssa, UNSIGNED[count.dtype.itemsize])
    return unsigned < 8 * count.dtype.itemsize


UNSIGNED = {dtype.itemsize: dtype for dtype in (uint8, uint16, uint32, uint64)}
