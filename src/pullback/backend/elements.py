"""One element of an op that reads by index: what its `element` asks of the memory."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

from pullback.backend.assembly import Function, Ssa, integer
from pullback.backend.ramps import Mixed, Ramp, Value, uniform
from pullback.backend.reading import read
from pullback.backend.vector import Vector, any_lane, cast, where
from pullback.backend.written import Check, OutOfRange
from pullback.ir.types import TensorType, bool_, int64, is_signed, uint64
from pullback.schedule.kernels import Element, Literal


@dataclass(slots=True)
class Checks:
    """The checks of a kernel. The status, two i64 for each of them, is its operand `slot`.

    Of the threads in which a check fails the first says why.
    """

    function: Function
    slot: int
    made: list[Check] = field(default_factory=list)

    def inside(
        self, index: Vector, size: int, from_end: bool, wrong: Check, active: Ssa | None
    ) -> Vector:
        """Indices as int64 in 0 … size - 1; 0 after the failure that one outside is."""
        given = cast(index, int64)
        place = given
        if from_end and is_signed(index.dtype):
            place = where(given < 0, given + size, given)
        good = Vector(self.function, place.ssa, uint64) < size
        self.require(wrong, good, given, active)
        return where(good, place, 0)

    def require(self, check: Check, good: Vector, number: Vector, active: Ssa | None) -> None:
        """Fail where an active lane is not good, with the number of the first such lane."""
        f = self.function
        if check not in self.made:
            self.made.append(check)
        row = self.made.index(check)
        bad = ~good
        if active is not None and bad.width > 1:
            bad = Vector(f, f.binary("and", bad.ssa, active), bool_)
        with f.when(any_lane(bad).ssa):
            told = number.ssa if bad.width == 1 else _first(f, bad, number)
            status = f.load("ptr", f.at(f.parameters[0], "ptr", integer(self.slot)), 8)
            failed = f.at(status, "i64", integer(2 * row))
            exchange = f"cmpxchg {failed}, i64 0, i64 1 monotonic monotonic"
            pair = f.assign("{ i64, i1 }", exchange)
            with f.when(f.assign("i1", f"extractvalue {pair}, 1")):
                f.store(told, f.at(failed, "i64", integer(1)), 8)


def _first(f: Function, chosen: Vector, numbers: Vector) -> Ssa:
    bits = f.assign(f"i{chosen.width}", f"bitcast {chosen.ssa} to i{chosen.width}")
    lane = f.call(f"llvm.cttz.{bits.type}", bits.type, bits, Ssa("i1", "true"))
    return f.assign("i64", f"extractelement {numbers.ssa}, {lane}")


@dataclass(slots=True)
class Elements:
    """`scalar.Reader` for one step of a kernel."""

    mixed: Mixed
    step: Element
    pointers: dict[int, Ssa]
    active: Ssa | None
    checks: Checks

    @property
    def types(self) -> tuple[TensorType, ...]:
        return self.step.types

    def __call__(self, operand: int, place: Sequence[Value], when: Vector | None = None) -> Value:
        mixed, source = self.mixed, self.step.operands[operand]
        if self.types[operand].size == 0:
            return mixed.literal(0, source.dtype)
        if isinstance(source, Literal):
            x = mixed.literal(source.value, source.dtype)
            return x if when is None else mixed.select(when, x, mixed.const(0, x))
        at: Value = mixed.literal(source.layout.offset, int64)
        for i, stride in zip(place, source.layout.strides, strict=True):
            at = mixed.add(at, mixed.mul(i, mixed.literal(stride, int64)))
        pointer = self.pointers[source.buffer]
        return read(mixed, pointer, at, source.dtype, self.active, when, source.layout.offset)

    def inside(self, index: Value, axis: int, size: int, from_end: bool) -> Value:
        if isinstance(index, Ramp) and index.low >= 0 and index.high < size:
            return index
        x = self.mixed.vector(index)
        wrong = Check(self.step.op.name, self.step.site, OutOfRange(axis, size, from_end))
        with self.mixed.ahead() if x.width == 1 else nullcontext():
            place = self.checks.inside(x, size, from_end, wrong, self.active)
        return uniform(place.ssa, 0, max(size - 1, 0)) if place.width == 1 else place
