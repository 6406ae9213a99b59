"""A kernel as a walk over axes: what each operand steps along each of them.

A chain cuts axes of several kernels in the same way. It needs to know which may be cut, and how the
rest of the kernel looks.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import Enum, auto

from pullback._trusted import trusted
from pullback.ir.strided import Strided
from pullback.ops.contract import Contract
from pullback.ops.reduce import Reduction
from pullback.schedule.kernels import Access, Call, Element, Kernel, Load, Loops, Operand, Store


class Role(Enum):
    """What a kernel does along an axis."""

    FREE = auto()
    """Independent work, done one by one as well as at once."""
    TILED = auto()
    """Rows or columns of a product: independent, and best done many at once."""
    SUMMED = auto()
    """A product sums over it."""
    INNER = auto()
    """It belongs to one iteration."""


@trusted(frozen=True, slots=True)
class Axis:
    size: int
    role: Role


@trusted(frozen=True, slots=True)
class Reach:
    """Where an operand's elements lie: offset + Σ index · step, a step for each axis."""

    buffer: int
    offset: int
    steps: tuple[int, ...]


@trusted(frozen=True, slots=True)
class Walk:
    """The axes of a kernel; a product's summed ones stand in the order in which it adds."""

    axes: tuple[Axis, ...]
    reaches: tuple[Reach, ...]


def walk_of(kernel: Kernel) -> Walk | None:
    """None for a kernel that cannot be cut."""
    match kernel:
        case Loops():
            elements = any(isinstance(step, Element) for step in kernel.steps)
            return None if elements else _walk_of_loops(kernel)
        case Call(op=Contract()):
            return _walk_of_product(kernel)
        case Call(op=Reduction()):
            return _walk_of_columns(kernel)
    return None


def has_parts(kernel: Kernel) -> bool:
    """Whether a kernel can be cut into independent parts that it does as well one by one: whether
    an axis of its walk is free and longer than 1."""
    match kernel:
        case Loops():
            sizes: Sequence[int] = kernel.outer
            if any(isinstance(step, Element) for step in kernel.steps):
                return False
        case Call(op=Contract() as op):
            shape = kernel.inputs[0].layout.shape
            sizes = [n for c, n in zip(op.left, shape, strict=True) if c in _letters(op)[0]]
        case Call(op=Reduction() as op):
            sizes = kernel.inputs[0].layout.shape[: min(op.axes)]
        case _:
            return False
    return any(n > 1 for n in sizes)


def cut(kernel: Kernel, sizes: Sequence[int], reaches: Sequence[Reach]) -> Kernel | None:
    """The kernel over fewer indices, its operands elsewhere; None where it needs dense ones."""
    match kernel:
        case Loops():
            return _cut_loops(kernel, sizes, iter(reaches))
        case Call(op=Contract()):
            return _cut_product(kernel, sizes, reaches)
        case Call(op=Reduction()):
            return _cut_columns(kernel, sizes, reaches)
    return None


# ---- loops ----------------------------------------------------------------------------------


def _accesses(loops: Loops) -> list[Access]:
    loads = [step.access for step in loops.steps if isinstance(step, Load)]
    return loads + [store.access for store in loops.stores]


def _walk_of_loops(loops: Loops) -> Walk:
    axes = [Axis(n, Role.FREE) for n in loops.outer] + [Axis(n, Role.INNER) for n in loops.inner]
    still = (0,) * len(loops.inner)
    reaches = [Reach(a.buffer, a.offset, a.outer + (a.inner or still)) for a in _accesses(loops)]
    return Walk(tuple(axes), tuple(reaches))


def _cut_loops(loops: Loops, sizes: Sequence[int], reaches: Iterator[Reach]) -> Loops:
    count = len(loops.outer)
    long = [i for i in range(count) if sizes[i] != 1]

    def moved(access: Access) -> Access:
        reach = next(reaches)
        inner = reach.steps[count:] if access.inner else ()
        return Access(reach.buffer, reach.offset, tuple(reach.steps[i] for i in long), inner)

    steps = tuple(
        [
            Load(moved(s.access), s.dtype, s.extent) if isinstance(s, Load) else s
            for s in loops.steps
        ]
    )
    stores = tuple([Store(s.value, moved(s.access)) for s in loops.stores])
    return Loops(tuple(sizes[i] for i in long), loops.inner, steps, stores)


# ---- products -------------------------------------------------------------------------------


@functools.lru_cache(maxsize=256)
def _letters(op: Contract) -> tuple[str, str, str]:
    """The letters of a contraction: shared by all, of one operand, summed."""
    batch = "".join(c for c in op.result if c in op.left and c in op.right)
    tiled = "".join(c for c in op.result if c not in batch)
    return batch, tiled, "".join(c for c in op.left if c in op.right and c not in op.result)


def _walk_of_product(call: Call) -> Walk:
    assert isinstance(call.op, Contract)
    sizes: dict[str, int] = {}
    spelled = _spelled(call)
    for letters, x in spelled:
        sizes |= dict(zip(letters, x.layout.shape, strict=True))
    groups = zip(_letters(call.op), (Role.FREE, Role.TILED, Role.SUMMED), strict=True)
    axes = [(c, Axis(sizes[c], role)) for letters, role in groups for c in letters]
    reaches = []
    for letters, x in spelled:
        steps = dict(zip(letters, x.layout.strides, strict=True))
        each = tuple([steps.get(c, 0) for c, _ in axes])
        reaches.append(Reach(x.buffer, x.layout.offset, each))
    return Walk(tuple([axis for _, axis in axes]), tuple(reaches))


def _spelled(call: Call) -> list[tuple[str, Operand]]:
    assert isinstance(call.op, Contract)
    letters = (call.op.left, call.op.right, call.op.result)
    return list(zip(letters, (*call.inputs, *call.outputs), strict=True))


def _cut_product(call: Call, sizes: Sequence[int], reaches: Sequence[Reach]) -> Call:
    assert isinstance(call.op, Contract)
    order = "".join(_letters(call.op))
    operands = []
    for (letters, x), reach in zip(_spelled(call), reaches, strict=True):
        places = [order.index(c) for c in letters]
        shape, strides = (tuple([each[i] for i in places]) for each in (sizes, reach.steps))
        operands.append(Operand(reach.buffer, x.dtype, Strided(shape, strides, reach.offset)))
    return replace(call, inputs=tuple(operands[:2]), outputs=tuple(operands[2:]))


def rows_and_columns(kernel: Kernel, sizes: Sequence[int]) -> tuple[int, int] | None:
    """How many rows and columns a product has."""
    if not (isinstance(kernel, Call) and isinstance(kernel.op, Contract)):
        return None
    op = kernel.op
    sides = [
        math.prod(n for c, n in zip("".join(_letters(op)), sizes, strict=True) if c not in other)
        for other in (op.right, op.left)
    ]
    return sides[0], sides[1]


# ---- reductions of columns ------------------------------------------------------------------


def _walk_of_columns(call: Call) -> Walk:
    (x,), (y,), axes = call.inputs, call.outputs, call.op.axes  # type: ignore[attr-defined]
    roles = [Role.FREE if i < min(axes) else Role.INNER for i in range(len(x.layout.shape))]
    rest = iter(y.layout.strides)
    result = tuple([0 if i in axes else next(rest) for i in range(len(roles))])
    return Walk(
        tuple([Axis(n, role) for n, role in zip(x.layout.shape, roles, strict=True)]),
        (
            Reach(x.buffer, x.layout.offset, x.layout.strides),
            Reach(y.buffer, y.layout.offset, result),
        ),
    )


def _cut_columns(call: Call, sizes: Sequence[int], reaches: Sequence[Reach]) -> Call | None:
    (x,), (y,), axes = call.inputs, call.outputs, call.op.axes  # type: ignore[attr-defined]
    source, target = reaches
    kept = [i for i in range(len(sizes)) if i not in axes]
    layouts = (
        Strided(tuple(sizes), source.steps, source.offset),
        Strided(tuple(sizes[i] for i in kept), tuple(target.steps[i] for i in kept), target.offset),
    )
    if not all(layout.is_row_major for layout in layouts):
        return None
    return replace(
        call,
        inputs=(Operand(source.buffer, x.dtype, layouts[0]),),
        outputs=(Operand(target.buffer, y.dtype, layouts[1]),),
    )
