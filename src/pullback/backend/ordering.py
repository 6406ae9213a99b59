"""Sorted order: sorting, the largest elements, the previous equal one, places in a sorted line.

An element becomes an unsigned integer whose order is the order wanted: ascending or descending,
-0 equal to 0, NaN last. Behind it stands its index, so elements are unique and sorting is stable.
A short line, or the short list of the largest, is kept sorted while elements are put in; a long one
is sorted digit by digit, least first, which compares nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pullback.backend.assembly import Function, Module, Ssa, integer
from pullback.backend.lanes import UNSIGNED, Lanes, memory_element
from pullback.backend.lines import Lines, open_kernel, placed
from pullback.backend.ordinal import ordinal, top_bit
from pullback.backend.target import Target
from pullback.backend.vector import Vector
from pullback.backend.written import Written
from pullback.ir.types import DType
from pullback.ops.reduce import accumulated
from pullback.ops.searching import SearchSorted
from pullback.ops.sort import Sort, TopK
from pullback.schedule.kernels import Call

SHORT = 64
"""The longest list that elements are put in one by one; beyond, digits are faster."""

DIGITS = 256


def write_selection(call: Call, name: str, module: Module, target: Target) -> Written:
    """A kernel for `Sort` and `TopK`: the elements in order, and where they came from."""
    op, (x,) = call.op, call.inputs
    assert isinstance(op, Sort | TopK)
    lines = Lines.along(x.layout.shape, op.axis)
    kept = op.k if isinstance(op, TopK) else lines.size
    order = Order.of(x.dtype, not isinstance(op, Sort) or op.descending, lines.size)
    frame = open_kernel(name, 3)
    f, (source, values, indices) = frame.f, frame.pointers
    stored = memory_element(x.dtype)
    with f.loop(frame.begin, frame.end) as line:
        start = _start(f, lines, line.index)
        ordered = _sorted(f, order, source, start, lines, kept, frame.scratch)
        first = _start(f, Lines(lines.before, kept, lines.after), line.index)
        with f.loop(integer(0), integer(kept)) as rank:
            index = order.index(f, order.load(f, ordered, rank.index))
            place = _step(f, start, index, lines.after)
            element = f.load(stored, f.at(source, stored, place), x.dtype.itemsize)
            place = _step(f, first, rank.index, lines.after)
            f.store(element, f.at(values, stored, place), x.dtype.itemsize)
            f.store(index, f.at(indices, "i64", place), 8)
    f.finish()
    module.add(f)
    iterations = lines.count if kept else 0
    scratch = _scratch(order, lines.size, kept)
    return Written(name, placed((x, *call.outputs)), iterations, scratch)


def write_previous(call: Call, name: str, module: Module, target: Target) -> Written:
    """A kernel for `Previous`: neighbours in sorted order that are equal."""
    (x,) = call.inputs
    size = x.layout.shape[-1]
    lines = Lines.along(x.layout.shape, len(x.layout.shape) - 1)
    order = Order.of(x.dtype, descending=False, size=size)
    frame = open_kernel(name, 2)
    f, (source, result) = frame.f, frame.pointers
    with f.loop(frame.begin, frame.end) as line:
        start = _start(f, lines, line.index)
        ordered = _sorted(f, order, source, start, lines, size, frame.scratch)
        first = order.load(f, ordered, integer(0))
        _put(f, result, start, order.index(f, first), integer(-1))
        with f.loop(integer(1), integer(size), 1, [first]) as rank:
            (before,) = rank.values
            here = order.load(f, ordered, rank.index)
            same = f.compare("icmp eq", order.key(f, before), order.key(f, here))
            previous = f.select(same, order.index(f, before), integer(-1))
            _put(f, result, start, order.index(f, here), previous)
            rank.carry(here)
    f.finish()
    module.add(f)
    iterations = lines.count if size else 0
    return Written(name, placed((x, *call.outputs)), iterations, _scratch(order, size, size))


def write_search(call: Call, name: str, module: Module, target: Target) -> Written:
    """A kernel for `SearchSorted`: the line is halved until nothing is left of it."""
    op, (x, values) = call.op, call.inputs
    assert isinstance(op, SearchSorted)
    shape = values.layout.shape
    size, each = x.layout.shape[-1], max(math.prod(shape[op.batch_rank :]), 1)
    frame = open_kernel(name, 3)
    f, (source, wanted, result) = frame.f, frame.pointers
    with f.loop(frame.begin, frame.end) as value:
        start = f.binary("mul", f.binary("udiv", value.index, integer(each)), integer(size))
        key = _key(Lanes(f, 1).load(wanted, value.index, x.dtype), descending=False)
        span = [integer(0), integer(size)]
        with f.loop(integer(0), integer(size.bit_length()), 1, span) as halving:
            low, count = halving.values
            half = f.binary("lshr", count, integer(1))
            middle = f.binary("add", low, half)
            inside = f.call("llvm.umin.i64", "i64", middle, integer(size - 1))
            place = f.binary("add", start, inside)
            other = _key(Lanes(f, 1).load(source, place, x.dtype), descending=False)
            beyond = (other <= key) if op.right else (other < key)
            some = f.compare("icmp ne", count, integer(0))
            go = f.binary("and", beyond.ssa, some)
            rest = f.binary("sub", f.binary("sub", count, half), integer(1))
            after = f.binary("add", middle, integer(1))
            halving.carry(f.select(go, after, low), f.select(go, rest, half))
        f.store(halving.results[0], f.at(result, "i64", value.index), 8)
    f.finish()
    module.add(f)
    return Written(name, placed((x, values, *call.outputs)), math.prod(shape), 0)


# ---- elements as integers -------------------------------------------------------------------


def _key(x: Vector, descending: bool) -> Vector:
    """The unsigned integer whose order is that of the elements."""
    number = ordinal(x, descending)
    return (number ^ top_bit(number.dtype)).reinterpret(UNSIGNED[number.dtype.itemsize])


@dataclass(frozen=True, slots=True)
class Order:
    """How elements of a line are sorted: as integers of a key above an index."""

    dtype: DType
    descending: bool
    bytes: int
    wide: bool

    @classmethod
    def of(cls, dtype: DType, descending: bool, size: int) -> Order:
        kind = accumulated(dtype)
        return cls(dtype, descending, kind.itemsize, kind.itemsize > 4 or size >= 1 << 32)

    @property
    def kind(self) -> str:
        return "i128" if self.wide else "i64"

    @property
    def itemsize(self) -> int:
        return 16 if self.wide else 8

    @property
    def shift(self) -> int:
        """The bits below the key."""
        return 64 if self.wide else 32

    def element(self, f: Function, source: Ssa, place: Ssa, index: Ssa) -> Ssa:
        key = _key(Lanes(f, 1).load(source, place, self.dtype), self.descending)
        high = f.binary("shl", f.convert("zext", key.ssa, self.kind), self._shift)
        low = index if self.kind == "i64" else f.convert("zext", index, self.kind)
        return f.binary("or", high, low)

    def key(self, f: Function, x: Ssa) -> Ssa:
        return f.binary("lshr", x, self._shift)

    def index(self, f: Function, x: Ssa) -> Ssa:
        if self.wide:
            return f.convert("trunc", x, "i64")
        return f.binary("and", x, integer((1 << 32) - 1))

    def digit(self, f: Function, items: Ssa, at: Ssa, number: Ssa) -> Ssa:
        """A byte of the key of an item in memory, as every target of ours stores it."""
        byte = f.binary("add", f.binary("mul", at, integer(self.itemsize)), number)
        byte = f.binary("add", byte, integer(self.shift // 8))
        return f.convert("zext", f.load("i8", f.at(items, "i8", byte), 1), "i64")

    def load(self, f: Function, items: Ssa, at: Ssa) -> Ssa:
        return f.load(self.kind, f.at(items, self.kind, at), 8)

    def store(self, f: Function, x: Ssa, items: Ssa, at: Ssa) -> None:
        f.store(x, f.at(items, self.kind, at), 8)

    @property
    def _shift(self) -> Ssa:
        return integer(self.shift, self.kind)


# ---- sorting a line -------------------------------------------------------------------------


def _sorted(
    f: Function, order: Order, source: Ssa, start: Ssa, lines: Lines, kept: int, scratch: Ssa
) -> Ssa:
    """Where in the scratch the least `kept` items of the line at `start` stand in order."""
    if kept <= SHORT:
        _keep_least(f, order, source, start, lines, kept, scratch)
        return scratch
    with f.loop(integer(0), integer(lines.size)) as k:
        place = _step(f, start, k.index, lines.after)
        order.store(f, order.element(f, source, place, k.index), scratch, k.index)
    return _by_digits(f, order, lines.size, scratch)


def _scratch(order: Order, size: int, kept: int) -> int:
    if kept <= SHORT:
        return kept * order.itemsize
    return 2 * size * order.itemsize + order.bytes * DIGITS * 8


def _keep_least(
    f: Function, order: Order, source: Ssa, start: Ssa, lines: Lines, kept: int, items: Ssa
) -> None:
    """The least `kept` items of a line in order: each new one is put in where it belongs."""
    last = integer(kept - 1)
    largest = Ssa(order.kind, "-1")
    with f.loop(integer(0), integer(kept)) as k:
        order.store(f, largest, items, k.index)
    with f.loop(integer(0), integer(lines.size)) as k:
        place = _step(f, start, k.index, lines.after)
        item = order.element(f, source, place, k.index)
        filled = f.call("llvm.umin.i64", "i64", k.index, last)
        with f.when(f.compare("icmp ult", item, order.load(f, items, last))):
            with f.loop(integer(0), filled, 1, [integer(0)]) as other:
                below = f.compare("icmp ult", order.load(f, items, other.index), item)
                one = f.assign("i64", f"zext {below} to i64")
                other.carry(f.binary("add", other.values[0], one))
            (rank,) = other.results
            with f.loop(rank, filled) as moved:
                to = f.binary("sub", f.binary("add", filled, rank), moved.index)
                item_before = order.load(f, items, f.binary("sub", to, integer(1)))
                order.store(f, item_before, items, to)
            order.store(f, item, items, rank)


def _by_digits(f: Function, order: Order, size: int, scratch: Ssa) -> Ssa:
    """Sort by one byte of the key after the other; a byte that all keys share is left out."""
    other = f.at(scratch, "i8", integer(size * order.itemsize))
    counts = f.at(scratch, "i8", integer(2 * size * order.itemsize))
    _count_digits(f, order, size, scratch, counts)
    with f.loop(integer(0), integer(order.bytes), 1, [scratch, other]) as digit:
        source, target = digit.values
        table = f.at(counts, "i64", f.binary("mul", digit.index, integer(DIGITS)))
        first = order.digit(f, source, integer(0), digit.index)
        shared = f.compare("icmp eq", f.load("i64", f.at(table, "i64", first), 8), integer(size))
        _add_up(f, table)
        with f.loop(integer(0), f.select(shared, integer(0), integer(size))) as k:
            slot = f.at(table, "i64", order.digit(f, source, k.index, digit.index))
            place = f.load("i64", slot, 8)
            f.store(f.binary("add", place, integer(1)), slot, 8)
            order.store(f, order.load(f, source, k.index), target, place)
        digit.carry(f.select(shared, source, target), f.select(shared, target, source))
    return digit.results[0]


def _count_digits(f: Function, order: Order, size: int, items: Ssa, counts: Ssa) -> None:
    """How often each digit stands at each byte of the keys."""
    with f.loop(integer(0), integer(order.bytes * DIGITS)) as entry:
        f.store(integer(0), f.at(counts, "i64", entry.index), 8)
    with f.loop(integer(0), integer(size)) as k:
        for number in range(order.bytes):
            digit = order.digit(f, items, k.index, integer(number))
            slot = f.at(counts, "i64", f.binary("add", digit, integer(number * DIGITS)))
            f.store(f.binary("add", f.load("i64", slot, 8), integer(1)), slot, 8)


def _add_up(f: Function, table: Ssa) -> None:
    """Counts of digits as the places where each digit begins."""
    with f.loop(integer(0), integer(DIGITS), 1, [integer(0)]) as entry:
        slot = f.at(table, "i64", entry.index)
        count = f.load("i64", slot, 8)
        f.store(entry.values[0], slot, 8)
        entry.carry(f.binary("add", entry.values[0], count))


# ---- places ---------------------------------------------------------------------------------


def _start(f: Function, lines: Lines, line: Ssa) -> Ssa:
    """The place of the first element of a line."""
    if lines.after == 1:
        return f.binary("mul", line, integer(lines.size))
    outer = f.binary("udiv", line, integer(lines.after))
    start = f.binary("mul", outer, integer(lines.size * lines.after))
    return f.binary("add", start, f.binary("urem", line, integer(lines.after)))


def _step(f: Function, start: Ssa, k: Ssa, after: int) -> Ssa:
    return f.binary("add", start, k if after == 1 else f.binary("mul", k, integer(after)))


def _put(f: Function, result: Ssa, start: Ssa, index: Ssa, value: Ssa) -> None:
    f.store(value, f.at(result, "i64", f.binary("add", start, index)), 8)
