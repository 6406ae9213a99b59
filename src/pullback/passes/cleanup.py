"""Nodes that need not be: what only derivatives see, literals computed now, ops that do nothing.

The sweep itself merges equal applications and drops dead nodes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from pullback.ir.array import Array
from pullback.ir.builder import rewriting
from pullback.ir.families import Elementwise
from pullback.ir.graph import Graph
from pullback.ir.scalar import Counter
from pullback.ir.types import TensorType, is_float
from pullback.ops.custom import Custom
from pullback.ops.layout import (
    Broadcast,
    Concat,
    Flip,
    Layout,
    Pad,
    Reshape,
    Slice,
    Transpose,
)
from pullback.ops.operators import broadcast_to, reshape
from pullback.ops.pointwise import Cast, Constant, Select, StopGradient, StraightThrough
from pullback.ops.reduce import Max, Min, Sum, accumulated
from pullback.ops.remat import Checkpoint
from pullback.passes.rewrite import LITERAL, REARRANGING, Result, Rewrites, Sweep, rewrites

# ---- what only derivatives see --------------------------------------------------------------


@rewrites(StopGradient)
def stopped_gradient(sweep: Sweep, op: StopGradient, x: Array) -> Result:
    return x


@rewrites(StraightThrough)
def hard_value(sweep: Sweep, op: StraightThrough, hard: Array, soft: Array) -> Result:
    return hard


@rewrites(Custom)
def custom_body(sweep: Sweep, op: Custom, *inputs: Array) -> Result:
    return inlined(op.body, inputs, sweep)


@rewrites(Checkpoint)
def checkpoint_body(sweep: Sweep, op: Checkpoint, *inputs: Array) -> Result:
    """The first computation. The recomputation stands behind a barrier already."""
    return inlined(op.body, inputs, sweep)


def inlined(body: Graph, inputs: Sequence[Array], sweep: Sweep) -> tuple[Array, ...]:
    env = dict(zip(body.inputs, inputs, strict=True))
    phase = None if sweep.inherited is None else sweep.inherited.phase
    for node in body.nodes:
        with rewriting(node.site, phase):
            made = sweep.record(node.op, [env[x] for x in node.inputs])
        env.update(zip(node.outputs, made, strict=True))
    return tuple([env[x] for x in body.outputs])


# ---- literals -------------------------------------------------------------------------------


@rewrites(Elementwise, of=LITERAL, throughout=True)
def folded(sweep: Sweep, op: Elementwise, *inputs: Array) -> Result:
    """An op on literals, computed now; the array that it fills stays a broadcast."""
    value = _value(op, tuple([sweep.literals[x] for x in inputs]))
    return None if value is None else value()


@rewrites(Layout, of=LITERAL)
def spread_literal(sweep: Sweep, op: Layout, x: Array) -> Result:
    """Equal elements moved about are the literal, broadcast."""
    literal = sweep.literals.get(x)
    if literal is None or x.ndim == 0 or not isinstance(op, REARRANGING):
        return None
    return broadcast_to(literal(), op.output_types(x.type)[0].shape)


@functools.lru_cache(maxsize=4096)
def _value(op: Elementwise, literals: tuple[Constant, ...]) -> Constant | None:
    """The literal that `op` makes of literals, where every machine makes the same."""
    if not _is_one_rounding(op, literals):
        return None
    operands = [np.asarray(each.value, each.dtype) for each in literals]
    kind = op.infer(*[TensorType((), each.dtype) for each in literals])
    with np.errstate(all="ignore"):
        result = np.asarray(op.reference(*operands), kind.dtype)
    if not _finite(result) and all(map(_finite, operands)):
        return None  # a number that is born not finite is the program's to report
    return Constant(result.item(), kind.dtype)


def _finite(x: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> bool:
    return not is_float(x.dtype) or math.isfinite(x.item())


class _Roundings(Counter):
    """Counts the roundings of a body. What IEEE 754 does not define to the bit counts many."""

    EXACT = (
        *("const", "cast", "bitcast", "select", "neg", "abs", "copysign", "minimum", "maximum"),
        *("floor", "ceil", "trunc", "round", "less", "less_equal", "equal"),
        *("bit_and", "bit_or", "bit_xor", "bit_not", "shift_left", "shift_right"),
    )
    ROUNDED = ("add", "sub", "mul", "div", "quot", "rem", "sqrt")

    def __getattr__(self, operation: str) -> object:
        def count(*operands: object) -> None:
            self.flops += 0 if operation in self.EXACT else 1 if operation in self.ROUNDED else 2

        return count


def _is_one_rounding(op: Elementwise, literals: tuple[Constant, ...]) -> bool:
    counter = _Roundings()
    op.body(counter, *[TensorType((), each.dtype) for each in literals])
    return counter.flops <= 1


# ---- nothing to do --------------------------------------------------------------------------


@rewrites(Cast)
def cast_to_itself(sweep: Sweep, op: Cast, x: Array) -> Result:
    return x if x.dtype == op.dtype else None


@rewrites(Layout)
def layout_of_nothing(sweep: Sweep, op: Layout, x: Array) -> Result:
    """A layout that leaves every element where it is, or moves axes of size 1 alone."""
    match op:
        case Reshape(shape):
            return x if shape == x.shape else None
        case Transpose(permutation):
            long = [i for i in permutation if x.shape[i] != 1]
            if long != sorted(long):
                return None
            return reshape(x, tuple(x.shape[i] for i in permutation))
        case Broadcast(shape, axes):
            return reshape(x, shape) if all(shape[a] == 1 for a in axes) else None
        case Slice(start, stop, step):
            return x if (start, stop, step) == (_zeros(x), x.shape, (1,) * x.ndim) else None
        case Pad(low, high, interior):
            return x if not any((*low, *high, *interior)) else None
        case Flip(axes):
            return x if all(x.shape[a] == 1 for a in axes) else None
        case _:
            return None


def _zeros(x: Array) -> tuple[int, ...]:
    return (0,) * x.ndim


@rewrites(Concat)
def concatenation_of_one(sweep: Sweep, op: Concat, *inputs: Array) -> Result:
    return inputs[0] if len(inputs) == 1 else None


@rewrites(Slice, of=Concat)
def part_of_concatenation(sweep: Sweep, op: Slice, x: Array) -> Result:
    """What lies within one of the parts is cut from that part."""
    joined = sweep.maker(x, Concat)
    if joined is None:
        return None
    axis = joined.op.axis  # type: ignore[attr-defined]
    first = 0
    for part in joined.inputs:
        last = first + part.shape[axis]
        if first <= op.start[axis] <= op.stop[axis] <= last and part.size:
            start, stop = list(op.start), list(op.stop)
            start[axis] -= first
            stop[axis] -= first
            return Slice(tuple(start), tuple(stop), op.step)(part)
        first = last
    return None


@rewrites(Max)
def largest_of_one(sweep: Sweep, op: Max, x: Array) -> Result:
    return x if not op.axes else None


@rewrites(Min)
def smallest_of_one(sweep: Sweep, op: Min, x: Array) -> Result:
    return x if not op.axes else None


@rewrites(Sum)
def sum_of_one(sweep: Sweep, op: Sum, x: Array) -> Result:
    """A sum begins at 0, and 0 + -0 is 0: the one element that is left is added to it."""
    return x + 0 if not op.axes else None


@rewrites(Sum, of=LITERAL)
def sum_of_literal(sweep: Sweep, op: Sum, x: Array) -> Result:
    """A sum of equal whole numbers is a product, where no partial sum is rounded or wraps."""
    literal = sweep.literals.get(x)
    if literal is None or not math.isfinite(literal.value) or literal.value != int(literal.value):
        return None
    kind = op.infer(x.type)
    total = int(literal.value) * (x.size // max(kind.size, 1))
    dtype = accumulated(x.dtype)
    exact = 1 << np.finfo(dtype).nmant if is_float(dtype) else np.iinfo(dtype).max
    return broadcast_to(Constant(total, x.dtype)(), kind.shape) if abs(total) <= exact else None


@rewrites(Select, of=LITERAL)
def settled_choice(sweep: Sweep, op: Select, chosen: Array, x: Array, y: Array) -> Result:
    literal = sweep.literals.get(chosen)
    if literal is None:
        return None
    return x if literal.value else y


PRIMAL = Rewrites(stopped_gradient, hard_value, custom_body, checkpoint_body)
CLEANUP = Rewrites(
    folded,
    spread_literal,
    cast_to_itself,
    layout_of_nothing,
    concatenation_of_one,
    part_of_concatenation,
    largest_of_one,
    smallest_of_one,
    sum_of_one,
    sum_of_literal,
    settled_choice,
)
