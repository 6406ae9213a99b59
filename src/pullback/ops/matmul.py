"""The matrix product: what `@` means, written with `Contract`."""

from __future__ import annotations

import ast
import functools
from typing import Any

from pullback.errors import ShapeError, calling_frame
from pullback.ir.array import Array
from pullback.ir.builder import located
from pullback.ir.types import Shape, broadcast_shapes
from pullback.ops.contract import LETTERS, Contract
from pullback.ops.operators import pair, reshape, transpose


def matmul(x: Any, y: Any) -> Array:
    """Product over the last two axes; leading axes broadcast, a vector is a row or a column."""
    left, right = pair(x, y)
    try:
        plan = _plan(left.type.shape, right.type.shape)
    except ShapeError as error:
        raise located(
            ShapeError(f"{error.what}: {left.type} @ {right.type}", hint=error.hint),
            "matmul",
            left=left,
            right=right,
        ) from None
    left_shape, right_shape, op = plan
    return op(reshape(left, left_shape), reshape(right, right_shape))


def matrix_transpose(x: Array) -> Array:
    """The last two axes exchanged."""
    lead = tuple(range(x.ndim - 2))
    return transpose(x, (*lead, x.ndim - 1, x.ndim - 2))


@functools.lru_cache(maxsize=4096)
def _plan(left: Shape, right: Shape) -> tuple[Shape, Shape, Contract]:
    """The operands' shapes without the axes of size 1 that broadcast, and the contraction."""
    if not left or not right:
        raise ShapeError("a scalar has no matrix product", hint="multiply by it with *")
    if left[-1] != (right[0] if len(right) == 1 else right[-2]):
        raise ShapeError("inner sizes differ", hint=_transposed(left, right))
    lead = broadcast_shapes(left[:-2], right[:-2])
    batch = LETTERS[: len(lead)]
    inner = LETTERS[len(lead)]
    row = LETTERS[len(lead) + 1] if len(left) > 1 else ""
    column = LETTERS[len(lead) + 2] if len(right) > 1 else ""
    left_shape, left_batch = _kept(left[:-2], lead, batch)
    right_shape, right_batch = _kept(right[:-2], lead, batch)
    op = Contract(left_batch + row + inner, right_batch + inner + column, batch + row + column)
    return left_shape + left[-2:], right_shape + right[-2:], op


def _kept(shape: Shape, full: Shape, letters: str) -> tuple[Shape, str]:
    """The axes along which an operand is not broadcast to `full`: their sizes and letters."""
    skipped = len(full) - len(shape)
    named = zip(shape, full[skipped:], letters[skipped:], strict=True)
    kept = [(n, letter) for n, m, letter in named if n == m]
    return tuple(n for n, _ in kept), "".join(letter for _, letter in kept)


# ---- the hint -------------------------------------------------------------------------------


def _transposed(left: Shape, right: Shape) -> str | None:
    """The product the user may have meant, in the names of the user's line."""
    x, y = _spelled()
    tail = ".T" if max(len(left), len(right)) == 2 else ".mT"
    if len(right) > 1 and left[-1:] == right[-1:]:
        return f"did you mean  {x} @ {y}{tail} ?"
    if len(left) > 1 and left[-2] == (right[0] if len(right) == 1 else right[-2]):
        return f"did you mean  {x}{tail} @ {y} ?"
    if len(left) == len(right) == 2 and left[0] == right[1]:
        return f"did you mean  {y} @ {x} ?"
    return None


def _spelled() -> tuple[str, str]:
    """The two operands as the user wrote them, where that is short and can be read."""
    frame = calling_frame()
    try:
        tree = ast.parse("" if frame is None else frame.expression, mode="eval").body
    except SyntaxError:
        return "left", "right"
    match tree:
        case ast.BinOp(left=x, op=ast.MatMult(), right=y) | ast.Call(args=[x, y, *_]):
            if all(isinstance(each, ast.Name | ast.Attribute | ast.Subscript) for each in (x, y)):
                return ast.unparse(x), ast.unparse(y)
    return "left", "right"
