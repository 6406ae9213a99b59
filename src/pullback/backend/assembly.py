"""LLVM assembly, written as text: instructions, structured loops, functions, modules.

Text is assembled here because building the same module through an object model costs forty times
more. No flag that would let LLVM change a floating-point result is ever written.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pullback._trusted import trusted


@trusted(frozen=True, slots=True)
class Ssa:
    """A value of a function: its LLVM type and its name (`%7`) or literal."""

    type: str
    name: str

    def __str__(self) -> str:
        return f"{self.type} {self.name}"


# ---- types ----------------------------------------------------------------------------------


def vector(width: int, element: str) -> str:
    """`<16 x float>`; the element type itself for width 1."""
    return element if width == 1 else f"<{width} x {element}>"


def element_of(kind: str) -> str:
    return kind[1:-1].split(" x ")[1] if kind.startswith("<") else kind


def width_of(kind: str) -> int:
    return int(kind[1:].split(" x ", maxsplit=1)[0]) if kind.startswith("<") else 1


# ---- literals -------------------------------------------------------------------------------


def integer(value: int, kind: str = "i64") -> Ssa:
    return Ssa(kind, str(value))


def floating(value: float, kind: str) -> Ssa:
    """A literal of `value` rounded to `kind`, `float` or `double`."""
    if kind == "float":
        value = struct.unpack("f", struct.pack("f", value))[0]
    elif kind not in ("double", "float"):
        raise ValueError(f"no literal of type {kind}")
    return Ssa(kind, f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}")


def splat(literal: Ssa, width: int) -> Ssa:
    """A literal in every lane."""
    if width == 1:
        return literal
    return Ssa(vector(width, literal.type), f"splat ({literal})")


# ---- functions ------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Loop:
    """A loop being written: its index, and the values carried from one iteration to the next."""

    index: Ssa
    values: tuple[Ssa, ...]
    before: str
    next: tuple[Ssa, ...] = ()
    results: tuple[Ssa, ...] = ()
    ahead: list[str] = field(default_factory=list)

    def carry(self, *values: Ssa) -> None:
        """The values that the next iteration, or the code after the loop, sees."""
        self.next = values


class Function:
    """One function being written, block by block in execution order."""

    def __init__(
        self, name: str, parameters: Sequence[tuple[str, str]], result: str = "void"
    ) -> None:
        """`parameters` are (LLVM type with attributes, name)."""
        self.name = name
        self.result = result
        self.parameters = [Ssa(kind.split()[0], f"%{label}") for kind, label in parameters]
        self.declarations: dict[str, str] = {}
        self._signature = ", ".join(f"{kind} %{label}" for kind, label in parameters)
        self._lines: list[str] = []
        self._count = 0
        self._block = "entry"

    @classmethod
    def kernel(cls, name: str, apart: Collection[str] = ()) -> Function:
        """`void @name(ptr %operands, i64 %begin, i64 %end, ptr %scratch)`.

        Nothing else reaches the memory behind the pointers named in `apart`.
        """

        def pointer(label: str) -> tuple[str, str]:
            return ("ptr noalias" if label in apart else "ptr"), label

        return cls(
            name, [pointer("operands"), ("i64", "begin"), ("i64", "end"), pointer("scratch")]
        )

    def __str__(self) -> str:
        body = "\n".join(self._lines)
        head = f"define internal {self.result} @{self.name}({self._signature}) nounwind"
        return f"{head} {{\nentry:\n{body}\n}}\n"

    # ---- instructions ----

    def emit(self, text: str) -> None:
        self._lines.append(f"  {text}")

    def assign(self, kind: str, text: str) -> Ssa:
        """`%vN = text`, a value of type `kind`."""
        self._count += 1
        name = f"%v{self._count}"
        self._lines.append(f"  {name} = {text}")
        return Ssa(kind, name)

    def binary(self, instruction: str, x: Ssa, y: Ssa) -> Ssa:
        return self.assign(x.type, f"{instruction} {x.type} {x.name}, {y.name}")

    def divided(self, number: Ssa, size: int) -> tuple[Ssa, Ssa]:
        """Quotient and remainder of an unsigned division."""
        if size == 1:
            return number, integer(0, number.type)
        by = integer(size, number.type)
        return self.binary("udiv", number, by), self.binary("urem", number, by)

    def compare(self, predicate: str, x: Ssa, y: Ssa) -> Ssa:
        """`predicate` is a whole one: `icmp slt`, `fcmp oeq`."""
        return self.assign(
            vector(width_of(x.type), "i1"), f"{predicate} {x.type} {x.name}, {y.name}"
        )

    def select(self, chosen: Ssa, x: Ssa, y: Ssa) -> Ssa:
        return self.assign(x.type, f"select {chosen}, {x}, {y}")

    def convert(self, instruction: str, x: Ssa, element: str) -> Ssa:
        """`sext`, `trunc`, `fpext`, `sitofp`, `bitcast` …, lane by lane."""
        kind = vector(width_of(x.type), element)
        return x if kind == x.type else self.assign(kind, f"{instruction} {x} to {kind}")

    def call(self, name: str, result: str, *arguments: Ssa) -> Ssa:
        """Call a function, or an intrinsic, which is declared by its name `llvm.…`."""
        if name.startswith("llvm."):
            kinds = ", ".join(x.type for x in arguments)
            self.declarations[name] = f"declare {result} @{name}({kinds})"
        text = f"call {result} @{name}({', '.join(map(str, arguments))})"
        if result == "void":
            self.emit(text)
            return Ssa("void", "")
        return self.assign(result, text)

    def invoke(self, function: Ssa, *arguments: Ssa) -> None:
        """Call a function without a result by its address."""
        self.emit(f"call void {function.name}({', '.join(map(str, arguments))})")

    def prefetch(self, pointer: Ssa, is_written: bool) -> None:
        """Ask for a cache line that will soon be read, or written."""
        kind = integer(int(is_written), "i32")
        self.call("llvm.prefetch.p0", "void", pointer, kind, integer(3, "i32"), integer(1, "i32"))

    def intrinsic(self, name: str, *arguments: Ssa) -> Ssa:
        """A lane-wise intrinsic on operands of one type: `intrinsic("fma", x, y, z)`."""
        kind = arguments[0].type
        letter = {"float": "f32", "double": "f64"}.get(element_of(kind), element_of(kind))
        suffix = letter if width_of(kind) == 1 else f"v{width_of(kind)}{letter}"
        return self.call(f"llvm.{name}.{suffix}", kind, *arguments)

    # ---- memory ----

    def at(self, pointer: Ssa, element: str, index: Ssa) -> Ssa:
        """The address of element `index` of an array at `pointer`."""
        return self.assign("ptr", f"getelementptr inbounds {element}, {pointer}, {index}")

    def near(self, pointer: Ssa, element: str, index: Ssa) -> Ssa:
        """`at`, for a place that may lie outside the array: what is read from there is masked."""
        return self.assign("ptr", f"getelementptr {element}, {pointer}, {index}")

    def load(self, kind: str, pointer: Ssa, align: int) -> Ssa:
        return self.assign(kind, f"load {kind}, {pointer}, align {align}")

    def store(self, value: Ssa, pointer: Ssa, align: int) -> None:
        self.emit(f"store {value}, {pointer}, align {align}")

    def load_first(self, kind: str, pointer: Ssa, mask: Ssa, default: Ssa, align: int) -> Ssa:
        """The lanes that `mask` chooses, read from memory; `default` in the others."""
        suffix = _suffix(kind)
        return self.call(
            f"llvm.masked.load.{suffix}.p0", kind, _aligned(pointer, align), mask, default
        )

    def store_first(self, value: Ssa, pointer: Ssa, mask: Ssa, align: int) -> None:
        suffix = _suffix(value.type)
        self.call(f"llvm.masked.store.{suffix}.p0", "void", value, _aligned(pointer, align), mask)

    # ---- lanes ----

    def spread(self, x: Ssa, width: int) -> Ssa:
        """A scalar in every lane."""
        if width == 1:
            return x
        kind = vector(width, x.type)
        first = self.assign(kind, f"insertelement {kind} poison, {x}, i64 0")
        lanes = f"<{width} x i32> zeroinitializer"
        return self.assign(kind, f"shufflevector {first}, {kind} poison, {lanes}")

    def shuffle(self, x: Ssa, y: Ssa, lanes: Sequence[int]) -> Ssa:
        kind = vector(len(lanes), element_of(x.type))
        chosen = ", ".join(f"i32 {lane}" for lane in lanes)
        return self.assign(kind, f"shufflevector {x}, {y}, <{len(lanes)} x i32> <{chosen}>")

    def lane(self, x: Ssa, index: int) -> Ssa:
        return self.assign(element_of(x.type), f"extractelement {x}, i64 {index}")

    def first_lanes(self, count: Ssa, width: int) -> Ssa:
        """The mask of the lanes below `count` (an i64)."""
        ladder = ", ".join(f"i64 {i}" for i in range(width))
        steps = Ssa(f"<{width} x i64>", f"<{ladder}>")
        return self.compare("icmp ult", steps, self.spread(count, width))

    # ---- control ----

    @contextmanager
    def loop(
        self, start: Ssa, stop: Ssa, step: int = 1, carried: Sequence[Ssa] = ()
    ) -> Iterator[Loop]:
        """`for index in range(start, stop, step)`; runs no iteration when start ≥ stop.

        `carried` are the initial values of `loop.values`; write `loop.carry(...)` in the body and
        read `loop.results` after it.

        The index is carried in an aggregate, where LLVM does not see that it counts. Its pass for
        strength reduction took a third of all the time, and what it made ran no faster.
        """
        label = self._fresh()
        index = Ssa("i64", f"%index{label}")
        held = f"%held{label}"
        values = tuple(Ssa(x.type, f"%carried{label}_{i}") for i, x in enumerate(carried))
        loop = Loop(index, values, self._block, next=values)
        start_of_loop = len(self._lines)
        self.emit(f"%start{label} = insertvalue [1 x i64] poison, {start}, 0")
        self.emit(f"br label %head{label}")
        self._open(f"head{label}")
        at = len(self._lines)
        self.emit(f"{index.name} = extractvalue [1 x i64] {held}, 0")
        inside = self._assign_compare(index, stop)
        self.emit(f"br i1 {inside.name}, label %body{label}, label %done{label}")
        self._open(f"body{label}")
        yield loop
        following = self.binary("add nuw nsw", index, integer(step))
        self.emit(f"%next{label} = insertvalue [1 x i64] poison, {following}, 0")
        end, before = self._block, loop.before
        self.emit(f"br label %head{label}")
        phis = [f"  {held} = phi [1 x i64] [ %start{label}, %{before} ], [ %next{label}, %{end} ]"]
        for value, first, last in zip(values, carried, loop.next, strict=True):
            phis.append(
                f"  {value.name} = phi {value.type} "
                f"[ {first.name}, %{before} ], [ {last.name}, %{end} ]"
            )
        self._lines[at:at] = phis
        self._lines[start_of_loop:start_of_loop] = loop.ahead
        self._open(f"done{label}")
        loop.results = values

    @contextmanager
    def ahead_of(self, loop: Loop) -> Iterator[None]:
        """Code that runs once, before the loop that is being written."""
        lines, block = self._lines, self._block
        self._lines, self._block = loop.ahead, loop.before
        yield
        loop.before = self._block
        self._lines, self._block = lines, block

    @contextmanager
    def repeat(self) -> Iterator[Callable[[Ssa], None]]:
        """Code that runs again and again; it yields `go_on_if(condition)`, which may end it."""
        label = self._fresh()
        self.emit(f"br label %again{label}")
        self._open(f"again{label}")

        def go_on_if(condition: Ssa) -> None:
            on = self._fresh()
            self.emit(f"br {condition}, label %on{on}, label %over{label}")
            self._open(f"on{on}")

        yield go_on_if
        self.emit(f"br label %again{label}")
        self._open(f"over{label}")

    @contextmanager
    def when(self, condition: Ssa) -> Iterator[None]:
        """Code that runs only where the i1 `condition` holds."""
        label = self._fresh()
        self.emit(f"br {condition}, label %then{label}, label %after{label}")
        self._open(f"then{label}")
        yield
        self.emit(f"br label %after{label}")
        self._open(f"after{label}")

    def finish(self, value: Ssa | None = None) -> None:
        self.emit("ret void" if value is None else f"ret {value}")

    def _assign_compare(self, index: Ssa, stop: Ssa) -> Ssa:
        return self.compare("icmp slt", index, stop)

    def _open(self, block: str) -> None:
        self._lines.append(f"{block}:")
        self._block = block

    def _fresh(self) -> int:
        self._count += 1
        return self._count


def _suffix(kind: str) -> str:
    letter = {"float": "f32", "double": "f64", "half": "f16", "bfloat": "bf16"}
    element = letter.get(element_of(kind), element_of(kind))
    return element if width_of(kind) == 1 else f"v{width_of(kind)}{element}"


def _aligned(pointer: Ssa, align: int) -> Ssa:
    return Ssa(f"ptr align {align}", pointer.name)


# ---- modules --------------------------------------------------------------------------------


@dataclass(slots=True)
class Module:
    """Functions and constants that are compiled together."""

    functions: list[str] = field(default_factory=list)
    declarations: dict[str, str] = field(default_factory=dict)
    globals: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def add(self, function: Function, exported: bool = False) -> None:
        self.names.add(function.name)
        text = str(function)
        self.functions.append(text.replace("define internal", "define", 1) if exported else text)
        self.declarations |= function.declarations

    def __str__(self) -> str:
        parts = [*self.globals, *self.functions, *sorted(self.declarations.values())]
        return "\n".join(parts) + "\n"
