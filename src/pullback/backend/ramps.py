"""How a value varies along the lanes: not at all, as a pattern known beforehand, or freely.

A coordinate of a vector of elements is a pattern: 0, 1, 2, … along the innermost axis, all equal
along the others. Whatever is computed from such coordinates by +, -, ·, and often by / and mod, is
a pattern too. So the code knows which reads are vector loads, which are one element for the whole
row, and which guards hold in every case; the bounds of a coordinate are part of what is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from pullback._trusted import trusted
from pullback.backend.assembly import Function, Ssa, integer
from pullback.backend.lanes import LANES, Lanes
from pullback.backend.vector import Number, Vector
from pullback.ir.types import DType, bool_, int16, int32, int64

FLAT = (0,) * LANES
LIMIT = 1 << 63


@trusted(frozen=True, slots=True)
class Ramp:
    """int64 numbers: in lane l of the vector at `index` base + index / 16 · rate + pattern[l].

    `base` is an i64 that the whole row shares, a multiple of `align`; None is 0. All numbers lie in
    `low` … `high`.
    """

    base: Ssa | None
    align: int
    rate: int
    pattern: tuple[int, ...]
    low: int
    high: int

    @property
    def uniform(self) -> bool:
        """Whether the whole row has one number."""
        return self.rate == 0 and len(set(self.pattern)) == 1

    @property
    def number(self) -> int | None:
        """The number, if there is only one."""
        return self.low if self.low == self.high else None

    @property
    def bounded(self) -> bool:
        """Whether a difference of two such numbers cannot wrap."""
        return self.low >= -LIMIT // 2 and self.high < LIMIT // 2

    @property
    def small(self) -> bool:
        return self.low >= -(1 << 31) and self.high < 1 << 31


Value = Ramp | Vector
"""A vector of width 1 is the same for the whole row."""


def constant(value: int) -> Ramp:
    return Ramp(None, 0, 0, (value,) * LANES, value, value)


def uniform(base: Ssa, low: int, high: int, align: int = 1) -> Ramp:
    return Ramp(base, align, 0, FLAT, low, high)


def lanes_of(count: int, stride: int = 1) -> Ramp:
    """0, stride, 2·stride, … for the elements of a row of `count`."""
    pattern = tuple(i * stride for i in range(LANES))
    last = max(count - 1, 0) * stride
    return Ramp(None, 0, LANES * stride, pattern, min(last, 0), max(last, 0))


class Mixed:
    """The scalar algebra on `Value`s, inside a loop over the vectors of a row.

    What the whole row shares is computed once, `ahead` of the loop. Without an `index` there is no
    loop, and everything is shared.
    """

    def __init__(
        self,
        function: Function,
        index: Ssa | None = None,
        ahead: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.function = function
        self.index = index
        self.ahead = ahead
        self.width = 1 if index is None else LANES
        self.single = Lanes(function, 1)
        self.wide = Lanes(function)

    def __getattr__(self, operation: str) -> Callable[..., Value]:
        def apply(*operands: Value) -> Value:
            return self._plain(operation, *operands)

        return apply

    def _plain(self, operation: str, *operands: Value) -> Value:
        """An operation on vectors; on single numbers where no operand varies."""
        vectors = [self.vector(x) for x in operands]
        if all(x.width == 1 for x in vectors):
            with self.ahead():
                result: Vector = getattr(self.single, operation)(*vectors)
            return result
        varying: Vector = getattr(self.wide, operation)(*map(self.spread, vectors))
        return varying

    # ---- literals, types ----

    def literal(self, value: Number, dtype: DType) -> Value:
        return constant(int(value)) if dtype == int64 else self.single.literal(value, dtype)

    def const(self, value: Number, like: Value) -> Value:
        return self.literal(value, int64 if isinstance(like, Ramp) else like.dtype)

    def cast(self, x: Value, dtype: DType) -> Value:
        if isinstance(x, Ramp):
            if dtype == int64:
                return x
            x = self.vector(x, int32 if x.small else int64)
        with self.ahead() if x.width == 1 else nullcontext():
            return self.single.cast(x, dtype)

    def bitcast(self, x: Value, dtype: DType) -> Value:
        x = self.vector(x)
        with self.ahead() if x.width == 1 else nullcontext():
            return (self.single if x.width == 1 else self.wide).bitcast(x, dtype)

    # ---- arithmetic of coordinates ----

    def add(self, x: Value, y: Value) -> Value:
        a, b = _ramp(x), _ramp(y)
        return self._sum(a, b) if a and b else self._plain("add", x, y)

    def sub(self, x: Value, y: Value) -> Value:
        a, b = _ramp(x), _ramp(y)
        return self._sum(a, self._scaled(b, -1)) if a and b else self._plain("sub", x, y)

    def mul(self, x: Value, y: Value) -> Value:
        a, b = _ramp(x), _ramp(y)
        if a and b:
            if b.number is not None:
                return self._scaled(a, b.number)
            if a.number is not None:
                return self._scaled(b, a.number)
        return self._plain("mul", x, y)

    def quot(self, x: Value, y: Value) -> Value:
        found = self._divided(x, y)
        if found is None:
            return self._plain("quot", x, y)
        a, n = found
        if not _divides(n, a):
            low, high = a.low // n, a.high // n
            quotient = self._small("udiv", a, n)
            return uniform(quotient.ssa, low, high) if quotient.width == 1 else quotient
        base = None
        if a.base is not None:
            with self.ahead():
                base = self.function.binary("sdiv exact", a.base, integer(n))
        pattern = tuple(p // n for p in a.pattern)
        return Ramp(base, a.align // n, a.rate // n, pattern, a.low // n, a.high // n)

    def rem(self, x: Value, y: Value) -> Value:
        found = self._divided(x, y)
        if found is None:
            return self._plain("rem", x, y)
        a, n = found
        if not _divides(n, a):
            rest = self._small("urem", a, n)
            return uniform(rest.ssa, 0, n - 1) if rest.width == 1 else rest
        pattern = tuple(p % n for p in a.pattern)
        return Ramp(None, 0, 0, pattern, min(pattern), max(pattern))

    def _divided(self, x: Value, y: Value) -> tuple[Ramp, int] | None:
        """A coordinate that is not negative and a positive number, or None."""
        if isinstance(x, Ramp) and isinstance(y, Ramp) and y.number is not None:
            return (x, y.number) if x.low >= 0 and y.number > 0 else None
        return None

    def _small(self, instruction: str, x: Ramp, n: int) -> Vector:
        """Quotient or remainder; 32 bits are several times as fast as 64 in vectors."""
        f = self.function
        if x.uniform:
            with self.ahead():
                base = self.vector(x)
                return base.like(f.binary(instruction, base.ssa, integer(n)))
        kind = int32 if x.small and n < 1 << 31 else int64
        vector = self.vector(x, kind)
        divided = f.binary(instruction, vector.ssa, vector.const(n).ssa)
        return self.wide.cast(vector.like(divided), int64)

    def _sum(self, x: Ramp, y: Ramp) -> Ramp:
        base = x.base if y.base is None else y.base if x.base is None else None
        if x.base is not None and y.base is not None:
            with self.ahead():
                base = self.function.binary("add", x.base, y.base)
        pattern = tuple(p + q for p, q in zip(x.pattern, y.pattern, strict=True))
        align = math.gcd(x.align, y.align)
        return _bounded(Ramp(base, align, x.rate + y.rate, pattern, x.low + y.low, x.high + y.high))

    def _scaled(self, x: Ramp, n: int) -> Ramp:
        if n == 0:
            return constant(0)
        base = x.base
        if base is not None and n != 1:
            with self.ahead():
                base = self.function.binary("mul", base, integer(n))
        low, high = sorted((x.low * n, x.high * n))
        pattern = tuple(p * n for p in x.pattern)
        return _bounded(Ramp(base, abs(x.align * n), x.rate * n, pattern, low, high))

    # ---- comparison, selection ----

    def less(self, x: Value, y: Value) -> Value:
        return self._compared("less", x, y, lambda gap: gap.low > 0, lambda gap: gap.high <= 0)

    def less_equal(self, x: Value, y: Value) -> Value:
        return self._compared(
            "less_equal", x, y, lambda gap: gap.low >= 0, lambda gap: gap.high < 0
        )

    def equal(self, x: Value, y: Value) -> Value:
        return self._compared(
            "equal", x, y, lambda gap: gap.number == 0, lambda gap: gap.low > 0 or gap.high < 0
        )

    def _compared(
        self,
        operation: str,
        x: Value,
        y: Value,
        always: Callable[[Ramp], bool],
        never: Callable[[Ramp], bool],
    ) -> Value:
        """x ∘ 0 for the gap y - x: known, or a comparison of its pattern with one number."""
        a, b = _ramp(x), _ramp(y)
        if not (a and b and a.bounded and b.bounded):
            return self._plain(operation, x, y)
        gap = self._sum(b, self._scaled(a, -1))
        if always(gap):
            return self.truth(True)
        if never(gap):
            return self.truth(False)
        if a.uniform and b.uniform:
            return self._plain(operation, x, y)
        low, high = min(gap.pattern), max(gap.pattern)
        if high - low >= 1 << 14:
            return self._plain(operation, constant(0), gap)
        # 0 < start + pattern  ⇔  -start < pattern, in 16 bits once -start is clamped
        f = self.function
        start = self.start(replace(gap, pattern=tuple(p - low for p in gap.pattern)))
        edge = f.binary("sub", integer(-low), start)
        edge = f.call("llvm.smax.i64", "i64", edge, integer(-1))
        edge = f.call("llvm.smin.i64", "i64", edge, integer(high - low + 1))
        narrow = Vector(f, f.spread(f.convert("trunc", edge, "i16"), LANES), int16)
        steps = Vector(f, _literal([p - low for p in gap.pattern], "i16"), int16)
        result: Vector = getattr(self.wide, operation)(narrow, steps)
        return result

    def truth(self, value: bool) -> Vector:
        return self.single.literal(value, bool_)

    def select(self, chosen: Vector, x: Value, y: Value) -> Value:
        known = truth_of(chosen)
        if known is not None:
            return x if known else y
        return self._plain("select", chosen, x, y)

    def bit_and(self, x: Value, y: Value) -> Value:
        for a, b in ((x, y), (y, x)):
            if isinstance(a, Vector) and truth_of(a) is not None:
                return b if truth_of(a) else a
        return self._plain("bit_and", x, y)

    def bit_not(self, x: Value) -> Value:
        known = truth_of(x) if isinstance(x, Vector) else None
        return self._plain("bit_not", x) if known is None else self.truth(not known)

    # ---- vectors ----

    def start(self, x: Ramp) -> Ssa:
        """Base + index / 16 · rate: the number in lane l without pattern[l]."""
        f = self.function
        base = integer(0) if x.base is None else x.base
        if x.rate == 0:
            return base
        assert self.index is not None
        if x.rate % LANES == 0:
            step = x.rate // LANES
            moved = self.index if step == 1 else f.binary("mul", self.index, integer(step))
        else:
            whole = f.binary("lshr", self.index, integer(LANES.bit_length() - 1))
            moved = f.binary("mul", whole, integer(x.rate))
        return moved if x.base is None else f.binary("add", base, moved)

    def vector(self, x: Value, dtype: DType = int64) -> Vector:
        """The numbers in registers: one where all are equal, one a lane otherwise."""
        if isinstance(x, Vector):
            return x
        f = self.function
        kind = f"i{8 * dtype.itemsize}"
        if x.uniform:
            return self._single(x, dtype)
        start = f.convert("trunc", self.start(x), kind) if kind != "i64" else self.start(x)
        steps = _literal(x.pattern, kind)
        if start.name == "0":
            return Vector(f, steps, dtype)
        return Vector(f, f.binary("add", f.spread(start, LANES), steps), dtype)

    def _single(self, x: Ramp, dtype: DType) -> Vector:
        f, kind = self.function, f"i{8 * dtype.itemsize}"
        if x.base is None:
            return Vector(f, integer(x.pattern[0], kind), dtype)
        with self.ahead():
            base = x.base
            if x.pattern[0]:
                base = f.binary("add", base, integer(x.pattern[0]))
            return Vector(f, f.convert("trunc", base, kind) if kind != "i64" else base, dtype)

    def spread(self, x: Value) -> Vector:
        """One number a lane."""
        x = self.vector(x)
        if x.width == self.width:
            return x
        known = truth_of(x)
        if known is not None:
            return self.wide.literal(known, bool_)
        return Vector(self.function, self.function.spread(x.ssa, LANES), x.dtype)


def truth_of(x: Vector) -> bool | None:
    """The value of a truth that is known."""
    return {"true": True, "false": False}.get(x.ssa.name) if x.dtype == bool_ else None


def _ramp(x: Value) -> Ramp | None:
    if isinstance(x, Ramp):
        return x
    if x.dtype == int64 and x.width == 1:
        return uniform(x.ssa, -LIMIT, LIMIT - 1)
    return None


def _bounded(x: Ramp) -> Ramp:
    if x.low >= -LIMIT and x.high < LIMIT:
        return x
    return replace(x, low=-LIMIT, high=LIMIT - 1)  # it may have wrapped


def _divides(n: int, x: Ramp) -> bool:
    return x.align % n == 0 and x.rate % n == 0


def _literal(numbers: Any, kind: str) -> Ssa:
    listed = ", ".join(f"{kind} {n}" for n in numbers)
    return Ssa(f"<{LANES} x {kind}>", f"<{listed}>")
