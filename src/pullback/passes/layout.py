"""Layouts sink: towards the results, where they meet their inverse, or into an op that indexes.

An elementwise op broadcasts by itself, and a contraction reads and writes axes in any order. So a
broadcast waits until its elements are asked for, a transpose or a reshape is done after elementwise
work instead of before it, and next to a contraction both become letters.

Exact, because no element is computed otherwise. The order in which a contraction adds is that of
its summed letters in each operand: a transpose that would change it stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pullback.ir.array import Array
from pullback.ir.families import Elementwise
from pullback.ir.types import Axes, Shape
from pullback.ops.contract import Contract
from pullback.ops.layout import Broadcast, Reshape, Transpose
from pullback.ops.operators import reshape
from pullback.passes.algebra import (
    broadcast_of_broadcast,
    reshape_of_reshape,
    transpose_of_transpose,
)
from pullback.passes.cleanup import layout_of_nothing, spread_literal
from pullback.passes.rewrite import Result, Rewrites, Spread, Sweep, rewrites

# ---- elementwise ----------------------------------------------------------------------------


@rewrites(Elementwise, of=(Broadcast, Spread))
def delayed_broadcast(sweep: Sweep, op: Elementwise, *inputs: Array) -> Result:
    """f(broadcast x, y) = f(x, y); where y does not fill the shape, broadcast after f."""
    thin = [_thin(sweep, x) for x in inputs]
    if all(x is y for x, y in zip(inputs, thin, strict=True)):
        return None
    return op(*thin)


def _thin(sweep: Sweep, x: Array) -> Array:
    """`x` before it was broadcast, with size 1 along the axes it lacks."""
    node = sweep.maker(x, Broadcast)
    if node is None:
        return x
    op, source = node.op, node.inputs[0]
    assert isinstance(op, Broadcast)
    if op.axes == tuple(range(len(op.axes))):
        return source
    return reshape(source, tuple(1 if i in op.axes else n for i, n in enumerate(op.shape)))


@rewrites(Elementwise, of=Reshape)
def sunk_reshape(sweep: Sweep, op: Elementwise, *inputs: Array) -> Result:
    """f(reshape x, reshape y, scalar) = reshape f(x, y, scalar)."""
    shape: Shape | None = None
    sources = []
    for x in inputs:
        node = sweep.maker(x, Reshape)
        source = x if node is None else node.inputs[0]
        if x.size == 1:
            source = reshape(x, ())
        elif node is None or shape not in (None, source.shape):
            return None
        else:
            shape = source.shape
        sources.append(source)
    if shape is None or len({x.shape for x in inputs if x.size != 1}) > 1:
        return None
    result = op.infer(*[x.type for x in inputs])
    return reshape(op(*sources), result.shape)


@rewrites(Elementwise, of=Transpose)
def sunk_transpose(sweep: Sweep, op: Elementwise, *inputs: Array) -> Result:
    """f(xᵀ, yᵀ, vector) = f(x, y, vector)ᵀ, for one permutation."""
    permutation = _common_permutation(sweep, inputs)
    if permutation is None:
        return None
    sources = [_before(sweep, x, permutation) for x in inputs]
    return Transpose(permutation)(op(*sources))


def _common_permutation(sweep: Sweep, inputs: Sequence[Array]) -> Axes | None:
    """The permutation of all operands that have more than one long axis, if they have one."""
    found: Axes | None = None
    rank = max(x.ndim for x in inputs)
    for x in inputs:
        node = sweep.maker(x, Transpose)
        if node is None:
            if sum(n != 1 for n in x.shape) > 1:
                return None
        else:
            assert isinstance(node.op, Transpose)
            if found not in (None, node.op.permutation) or x.ndim != rank:
                return None
            found = node.op.permutation
    return found


def _before(sweep: Sweep, x: Array, permutation: Axes) -> Array:
    """What `permutation` makes `x` of; for a vector among axes of size 1 a reshape tells it."""
    node = sweep.maker(x, Transpose)
    if node is not None:
        return node.inputs[0]
    if x.size == 1:
        return reshape(x, ())
    full = (1,) * (len(permutation) - x.ndim) + x.shape
    return reshape(x, tuple(full[permutation.index(i)] for i in range(len(full))))


# ---- contractions ---------------------------------------------------------------------------


@rewrites(Contract, of=Transpose)
def transposed_operand(sweep: Sweep, op: Contract, left: Array, right: Array) -> Result:
    """A transpose of an operand is another order of its letters."""
    summed = set(op.left) & set(op.right) - set(op.result)
    x, left_letters = _untransposed(sweep, left, op.left, summed)
    y, right_letters = _untransposed(sweep, right, op.right, summed)
    if x is left and y is right:
        return None
    return Contract(left_letters, right_letters, op.result)(x, y)


def _untransposed(sweep: Sweep, x: Array, letters: str, summed: set[str]) -> tuple[Array, str]:
    node = sweep.maker(x, Transpose)
    if node is None:
        return x, letters
    assert isinstance(node.op, Transpose)
    places = dict(zip(node.op.permutation, letters, strict=True))
    before = "".join(places[i] for i in range(x.ndim))
    if [c for c in before if c in summed] != [c for c in letters if c in summed]:
        return x, letters
    return node.inputs[0], before


@rewrites(Transpose, of=Contract)
def transposed_result(sweep: Sweep, op: Transpose, x: Array) -> Result:
    """A transpose of the result alone is another order of its letters."""
    node = sweep.maker(x, Contract)
    if node is None or not sweep.used_once(x):
        return None
    assert isinstance(node.op, Contract)
    letters = "".join(node.op.result[i] for i in op.permutation)
    return replace(node.op, result=letters)(*node.inputs)


@rewrites(Contract, of=(Broadcast, Spread))
def broadcast_operand(sweep: Sweep, op: Contract, left: Array, right: Array) -> Result:
    """A letter of the result along which one operand is broadcast is not a letter of it."""
    x, left_letters, gone = _unbroadcast(sweep, left, op.left, op.result)
    y, right_letters, lost = _unbroadcast(sweep, right, op.right, op.result)
    if x is left and y is right:
        return None
    alone = {c for c in gone if c not in right_letters} | {c for c in lost if c not in left_letters}
    inner = "".join(c for c in op.result if c not in alone)
    made = Contract(left_letters, right_letters, inner)(x, y)
    sizes = dict(zip(op.left + op.right, left.shape + right.shape, strict=True))
    shape = tuple(sizes[c] for c in op.result)
    axes = tuple(i for i, c in enumerate(op.result) if c in alone)
    return Broadcast(shape, axes)(made) if axes else made


def _unbroadcast(sweep: Sweep, x: Array, letters: str, result: str) -> tuple[Array, str, str]:
    """The operand, its letters, and the letters taken from it: a sum over copies has to stay."""
    node = sweep.maker(x, Broadcast)
    if node is None:
        return x, letters, ""
    assert isinstance(node.op, Broadcast)
    gone = "".join(letters[a] for a in node.op.axes)
    if any(c not in result for c in gone):
        return x, letters, ""
    kept = "".join(c for c in letters if c not in gone)
    return node.inputs[0], kept, gone


SINKING = Rewrites(
    spread_literal,
    layout_of_nothing,
    reshape_of_reshape,
    transpose_of_transpose,
    broadcast_of_broadcast,
    delayed_broadcast,
    sunk_reshape,
    sunk_transpose,
    transposed_operand,
    broadcast_operand,
    transposed_result,
)
