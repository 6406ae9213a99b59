"""Kernels before they are machine code: loops over elementwise work and reductions.

A row kernel has a parallel domain, `outer`, and inside each of its iterations an `inner` domain. A
value varies over both (FULL), or over the outer one only (ROW): a reduction folds the inner domain
of a FULL value into a ROW value. Any other op is called on whole buffers.
"""

from __future__ import annotations

import math
from enum import Enum, auto

from pullback._trusted import trusted
from pullback.errors import Site
from pullback.ir.array import Array
from pullback.ir.families import Elementwise
from pullback.ir.op import Op
from pullback.ir.strided import Strided
from pullback.ir.text import print_op
from pullback.ir.types import DType, Shape, TensorType
from pullback.ops.reduce import Reduction


class Extent(Enum):
    """What a value of a kernel varies over."""

    FULL = auto()
    ROW = auto()


@trusted(frozen=True, slots=True)
class Access:
    """Where an operand's element lies: offset + outer·strides + inner·strides, in elements."""

    buffer: int
    offset: int
    outer: tuple[int, ...]
    inner: tuple[int, ...]


@trusted(frozen=True, slots=True)
class Walk:
    """A number that the domain walks along: offset + outer·strides + inner·strides."""

    offset: int
    outer: tuple[int, ...]
    inner: tuple[int, ...]


@trusted(frozen=True, slots=True)
class Load:
    access: Access
    dtype: DType
    extent: Extent


@trusted(frozen=True, slots=True)
class Literal:
    value: bool | int | float
    dtype: DType
    extent: Extent = Extent.ROW

    def __str__(self) -> str:
        return f"{self.dtype} {self.value!r}"


@trusted(frozen=True, slots=True)
class Apply:
    """An elementwise op on earlier values of the kernel, named by their positions."""

    op: Elementwise
    arguments: tuple[int, ...]
    dtype: DType
    extent: Extent
    site: Site


@trusted(frozen=True, slots=True)
class Fold:
    """A reduction of a FULL value over the inner domain."""

    op: Reduction
    argument: int
    dtype: DType
    site: Site
    extent: Extent = Extent.ROW


@trusted(frozen=True, slots=True)
class Operand:
    """A value in a buffer, as a whole op sees it."""

    buffer: int
    dtype: DType
    layout: Strided

    @property
    def type(self) -> TensorType:
        return TensorType(self.layout.shape, self.dtype)

    def __str__(self) -> str:
        return f"b{self.buffer}: {self.type}"


@trusted(frozen=True, slots=True)
class Element:
    """An op's `element` at the coordinates `at`, one an axis of its output.

    It reads operands anywhere in memory: none of them is made by this kernel.
    """

    op: Op
    operands: tuple[Operand | Literal, ...]
    types: tuple[TensorType, ...]
    at: tuple[Walk, ...]
    dtype: DType
    extent: Extent
    site: Site

    def reads(self) -> set[int]:
        return {x.buffer for x in self.operands if isinstance(x, Operand)}


@trusted(frozen=True, slots=True)
class Store:
    value: int
    access: Access


Step = Load | Literal | Apply | Fold | Element


def levels_of(steps: tuple[Step, ...]) -> list[int]:
    """For each step the number of reductions of its row that must be done before it: the number
    of the pass over the row that computes it."""
    levels: list[int] = []
    for step in steps:
        match step:
            case Apply():
                levels.append(max((levels[i] for i in step.arguments), default=0))
            case Fold():
                levels.append(levels[step.argument] + 1)
            case _:
                levels.append(0)
    return levels


@trusted(frozen=True, slots=True)
class Loops:
    """A row kernel: for each outer iteration, passes over the inner domain."""

    outer: Shape
    inner: Shape
    steps: tuple[Step, ...]
    stores: tuple[Store, ...]

    @property
    def iterations(self) -> int:
        return math.prod(self.outer)

    def reads(self) -> set[int]:
        local = {step.access.buffer for step in self.steps if isinstance(step, Load)}
        return local | self.reads_elsewhere()

    def reads_elsewhere(self) -> set[int]:
        """Buffers read at other places than those written: none of them can be overwritten."""
        steps = [step for step in self.steps if isinstance(step, Element)]
        return {buffer for step in steps for buffer in step.reads()}

    def writes(self) -> set[int]:
        return {store.access.buffer for store in self.stores}

    def __str__(self) -> str:
        lines = [f"rows {_domain(self.outer)} × {_domain(self.inner)}"]
        lines += [f"  {i}: {_describe(step)}" for i, step in enumerate(self.steps)]
        lines += [f"  store {s.value} → {_place(s.access)}" for s in self.stores]
        return "\n".join(lines)


@trusted(frozen=True, slots=True)
class Call:
    """A whole op on buffers, computed by a kernel of its own: a product, a scatter, a sort …

    `start` stands for the first operand, where that is one number; `inputs` are the others.

    `after` is elementwise work over the shape of the one output, done on each tile of it before it
    is stored. A load of the output's buffer is then the result itself, and what reaches memory is
    what `after` stores: the result only where that is among it.
    One that `adds` is a product that goes on from the sums that its output holds. The inputs
    numbered in `fixed` are the same each time, in a loop that runs the kernel many times.
    """

    op: Op
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    site: Site
    after: Loops | None = None
    start: Literal | None = None
    adds: bool = False
    fixed: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        return self.op.name

    def reads(self) -> set[int]:
        given = {x.buffer for x in self.inputs}
        if self.after is None:
            return given
        return given | (self.after.reads() - {x.buffer for x in self.outputs})

    def writes(self) -> set[int]:
        if self.after is not None:
            return self.after.writes()
        return {x.buffer for x in self.outputs}

    def __str__(self) -> str:
        results = ", ".join(map(str, self.outputs))
        sign = "+=" if self.adds else "="
        line = f"call {results} {sign} {print_op(self.op)}({', '.join(map(str, self.inputs))})"
        return line if self.after is None else f"{line}\nthen {self.after}"


# ---- kernels that hold kernels --------------------------------------------------------------


@trusted(frozen=True, slots=True)
class Window:
    """What an iteration sees of a buffer: all that begins at the sum of index · step, in elements.

    There is a step for each axis of a chain, the serial ones last.
    """

    buffer: int
    steps: tuple[int, ...]


@trusted(frozen=True, slots=True)
class Chain:
    """A small schedule that one thread runs through in each iteration of a parallel domain.

    The inputs and outputs of `body` are `windows` of buffers, in this order; its other buffers are
    scratch of the thread. The `serial` axes run one after the other inside an iteration: along them
    the kernels that add up go on with their sums, and begin them in the first one.
    """

    outer: Shape
    serial: Shape
    body: Schedule
    windows: tuple[Window, ...]

    @property
    def name(self) -> str:
        return "chain"

    @property
    def iterations(self) -> int:
        return math.prod(self.outer)

    @property
    def local(self) -> tuple[int, ...]:
        """The buffers of the body that are scratch."""
        seen = {*self.body.inputs, *self.body.outputs}
        return tuple(i for i in range(len(self.body.buffers)) if i not in seen)

    def reads(self) -> set[int]:
        return {x.buffer for x in self.windows[: len(self.body.inputs)]}

    def writes(self) -> set[int]:
        return {x.buffer for x in self.windows[len(self.body.inputs) :]}

    def __str__(self) -> str:
        head = f"chain {_domain(self.outer)}"
        if self.serial:
            head += f", in turn {_domain(self.serial)}"
        ends = (*self.body.inputs, *self.body.outputs)
        lines = [
            f"  b{i}: window b{window.buffer}[{window.steps}·o]"
            for i, window in zip(ends, self.windows, strict=True)
        ]
        lines += [f"  b{i}: scratch {self.body.buffers[i].type}" for i in self.local]
        lines += [f"  {line}" for line in str(self.body).splitlines()]
        return "\n".join([head, *lines])


@trusted(frozen=True, slots=True)
class Repeat:
    """`for x in rows: carry, y = body(constants, carry, x)`, from the last row in `reverse`."""

    body: Schedule
    constants: int
    carries: int
    length: int
    reverse: bool

    @property
    def parts(self) -> tuple[Schedule, ...]:
        return (self.body,)

    def __str__(self) -> str:
        return f"repeat {self.length} times" + (", backwards" if self.reverse else "")


@trusted(frozen=True, slots=True)
class Until:
    """`while condition(constants, carry): carry = body(constants, carry)`."""

    condition: Schedule
    body: Schedule
    constants: int
    max_steps: int | None

    @property
    def parts(self) -> tuple[Schedule, ...]:
        return self.condition, self.body

    def __str__(self) -> str:
        return "while"


@trusted(frozen=True, slots=True)
class Choice:
    """The first schedule where the first operand is true, else the second, on the others."""

    if_true: Schedule
    if_false: Schedule

    @property
    def parts(self) -> tuple[Schedule, ...]:
        return self.if_true, self.if_false

    def __str__(self) -> str:
        return "if"


@trusted(frozen=True, slots=True)
class Nested:
    """Schedules that run inside a kernel. Each output of theirs has a buffer of its own."""

    form: Repeat | Until | Choice
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    site: Site

    @property
    def name(self) -> str:
        return type(self.form).__name__.lower()

    def reads(self) -> set[int]:
        return {x.buffer for x in self.inputs}

    def writes(self) -> set[int]:
        return {x.buffer for x in self.outputs}

    def __str__(self) -> str:
        results = ", ".join(map(str, self.outputs))
        lines = [f"{results} = {self.form} ({', '.join(map(str, self.inputs))})"]
        for part in self.form.parts:
            lines.append(f"  {part.inputs} → {part.outputs}")
            lines += [f"  {line}" for line in str(part).splitlines()]
        return "\n".join(lines)


Kernel = Loops | Call | Chain | Nested


@trusted(frozen=True, slots=True)
class Schedule:
    """Kernels in order, the buffers between them, and where the graph's inputs and outputs are."""

    kernels: tuple[Kernel, ...]
    buffers: tuple[Buffer, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.kernels))


@trusted(frozen=True, slots=True)
class Buffer:
    """Memory for one value, row-major."""

    type: TensorType
    value: Array


def _domain(shape: Shape) -> str:
    return "(" + ",".join(map(str, shape)) + ")"


def _place(access: Access) -> str:
    return f"b{access.buffer}[{access.offset} + {access.outer}·o + {access.inner}·i]"


def _describe(step: Step) -> str:
    match step:
        case Load():
            return f"load {step.dtype} {_place(step.access)} {step.extent.name}"
        case Literal():
            return str(step)
        case Apply():
            return f"{print_op(step.op)}{step.arguments} {step.extent.name}"
        case Fold():
            return f"fold {step.op.name}({step.argument})"
        case Element():
            operands = ", ".join(map(str, step.operands))
            return f"element {print_op(step.op)}({operands}) {step.extent.name}"
