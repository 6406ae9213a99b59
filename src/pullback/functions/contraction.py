"""Products of tensors summed over shared axes."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from pullback._public import public
from pullback.errors import DTypeError, ShapeError
from pullback.functions.equation import Equation
from pullback.ir.array import Array
from pullback.ir.builder import located
from pullback.ir.types import bool_, normalize_axis, promote
from pullback.ops import matmul as products
from pullback.ops import operators
from pullback.ops.contract import LETTERS, Contract
from pullback.ops.diagonal import Diagonal
from pullback.ops.operators import cast, lift, pair, reshape, sum_over, transpose
from pullback.ops.weak import Weak

Term = tuple[str, Array]
"""An operand and the letters of its axes."""


@public
def matmul(x1: Any, x2: Any, /) -> Array:
    """The matrix product, also written `x1 @ x2`: (…, n, k) @ (…, k, m) → (…, n, m).

    Leading axes broadcast; a vector on the left is a row, on the right a column, and the result has
    no axis for it. Raises `ShapeError` when inner sizes differ, or for a scalar.
    """
    return products.matmul(x1, x2)


@public
def dot(x1: Any, x2: Any, /) -> Array:
    """NumPy's dot: the last axis of `x1` against the last but one (or only) axis of `x2`."""
    left, right = _operands("dot", x1, x2)
    if not left.ndim or not right.ndim:
        return operators.multiply(left, right)
    return tensordot(left, right, axes=((-1,), (-min(right.ndim, 2),)))


@public
def tensordot(x1: Any, x2: Any, /, *, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Array:
    """The sum over the last `axes` axes of `x1` and the first of `x2`, or over the listed pairs.

    The result has the other axes of `x1`, then those of `x2`.
    Raises `ShapeError` when the axes do not pair, or differ in size.
    """
    left, right = _operands("tensordot", x1, x2)
    try:
        paired = _paired_axes(left, right, axes)
    except ShapeError as error:
        raise located(error, "tensordot", x1=left, x2=right) from None
    names = LETTERS[: left.ndim]
    fresh = iter(LETTERS[left.ndim :])
    back = {j: i for i, j in paired.items()}
    others = "".join(names[back[j]] if j in back else next(fresh) for j in range(right.ndim))
    result = "".join(c for c in names + others if (c in names) != (c in others))
    return Contract(names, others, result)(left, right)


@public
def vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Array:
    """The dot product of vectors along `axis`; the other axes broadcast.

    Raises `ShapeError` when the two sizes along `axis` differ.
    """
    left, right = _operands("vecdot", x1, x2)
    try:
        places = [normalize_axis(axis, x.ndim) for x in (left, right)]
        _require_equal(left.shape[places[0]], right.shape[places[1]])
    except ShapeError as error:
        raise located(error, "vecdot", x1=left, x2=right) from None
    last = [_to_last(x, i) for x, i in zip((left, right), places, strict=True)]
    return _einsum("vecdot", "...i,...i->...", last)


@public
def outer(x1: Any, x2: Any, /) -> Array:
    """x1 x2ᵀ for two vectors: (n,), (m,) → (n, m). Raises `ShapeError` for other ranks."""
    left, right = _operands("outer", x1, x2)
    if left.ndim != 1 or right.ndim != 1:
        raise located(
            ShapeError(
                "an outer product takes two vectors", hint="flatten them with pb.reshape(x, -1)"
            ),
            "outer",
            x1=left,
            x2=right,
        )
    return Contract("i", "j", "ij")(left, right)


@public
def einsum(equation: str, /, *operands: Any) -> Array:
    """Einstein's sum: each letter names an axis, a letter missing on the right is summed over.

    `equation` is as in NumPy: `"ij,jk->ik"`; a letter twice in one operand takes its diagonal;
    `...` stands for the remaining axes, which broadcast; without `->` the result has the letters
    that occur once, in alphabetical order. An axis of size 1 broadcasts against its namesakes.

    Operands are multiplied two at a time, the pair that shrinks the data most first.
    Raises `ShapeError` for an equation that is not one or does not fit the operands.
    """
    return _einsum("einsum", equation, _operands("einsum", *operands))


def _einsum(subject: str, equation: str, arrays: Sequence[Array]) -> Array:
    try:
        parsed = Equation.parse(equation, tuple(x.shape for x in arrays))
    except ShapeError as error:
        labels = (f"operand {i + 1}" for i in range(len(arrays)))
        raise located(error, subject, **dict(zip(labels, arrays, strict=True))) from None
    terms = [
        _diagonal(_own_axes(letters, x, parsed.sizes))
        for letters, x in zip(parsed.operands, arrays, strict=True)
    ]
    counts = Counter(c for letters, _ in terms for c in letters)
    terms = [_summed(term, parsed.result, counts) for term in terms]
    while len(terms) > 1:
        i, j = _best_pair(terms, parsed)
        right, left = terms.pop(j), terms.pop(i)
        terms.append(_contracted(left, right, _needed(terms, parsed.result), parsed.result))
    letters, x = terms[0]
    return transpose(x, tuple(letters.index(c) for c in parsed.result))


# ---- one operand ----------------------------------------------------------------------------


def _own_axes(letters: str, x: Array, sizes: dict[str, int]) -> Term:
    """Without the axes of size 1 that broadcast against longer namesakes."""
    kept = [i for i, c in enumerate(letters) if x.shape[i] == sizes[c]]
    shape = tuple(x.shape[i] for i in kept)
    return "".join(letters[i] for i in kept), reshape(x, shape)


def _diagonal(term: Term) -> Term:
    """Each letter once: the diagonal of the axes that share one."""
    letters, x = term
    for c in dict.fromkeys(letters):
        while letters.count(c) > 1:
            first, second = letters.index(c), letters.rindex(c)
            rest = [i for i in range(x.ndim) if i not in (first, second)]
            x = Diagonal(0)(transpose(x, (*rest, first, second)))
            letters = "".join(letters[i] for i in rest) + c
    return letters, x


def _summed(term: Term, result: str, counts: Counter[str]) -> Term:
    """Summed over the letters that stand in this operand alone."""
    letters, x = term
    alone = tuple(i for i, c in enumerate(letters) if counts[c] == 1 and c not in result)
    return "".join(c for i, c in enumerate(letters) if i not in alone), sum_over(x, alone)


# ---- two operands ---------------------------------------------------------------------------


def _needed(terms: Sequence[Term], result: str) -> str:
    return result + "".join(letters for letters, _ in terms)


def _best_pair(terms: Sequence[Term], equation: Equation) -> tuple[int, int]:
    """The pair whose product is smallest beside its factors, and of those the cheapest."""

    def size(letters: str) -> int:
        return math.prod(equation.sizes[c] for c in letters)

    def cost(pair: tuple[int, int]) -> tuple[int, int]:
        left, right = (terms[i][0] for i in pair)
        others = _needed([t for i, t in enumerate(terms) if i not in pair], equation.result)
        union = "".join(dict.fromkeys(left + right))
        product = "".join(c for c in union if c in others)
        return size(product) - size(left) - size(right), size(union)

    return min(itertools.combinations(range(len(terms)), 2), key=cost)


def _contracted(left: Term, right: Term, needed: str, result: str) -> Term:
    kept = [c for c in dict.fromkeys(left[0] + right[0]) if c in needed]
    # The last product keeps the letters of the result, and is laid out in their order at once.
    letters = result if sorted(kept) == sorted(result) else "".join(kept)
    return letters, Contract(left[0], right[0], letters)(left[1], right[1])


# ---- operands in ----------------------------------------------------------------------------


def _operands(subject: str, *operands: Any) -> list[Array]:
    """All with their common element type; Python scalars are weak. `DTypeError` for bools."""
    weak = [isinstance(x, Weak | bool | int | float) for x in operands]
    if all(weak):
        arrays = [lift(x) for x in operands]
    else:
        strong = next(lift(x) for x, w in zip(operands, weak, strict=True) if not w)
        arrays = [pair(strong, x)[1] if w else lift(x) for x, w in zip(operands, weak, strict=True)]
    dtype = arrays[0].dtype if arrays else bool_
    for x in arrays[1:]:
        dtype = promote(dtype, x.dtype)
    if arrays and dtype == bool_:
        labels = (f"operand {i + 1}" for i in range(len(arrays)))
        error = DTypeError(f"{subject} does not take bool", hint="cast with .astype(...)")
        raise located(error, subject, **dict(zip(labels, arrays, strict=True)))
    return [cast(x, dtype) for x in arrays]


def _paired_axes(
    left: Array, right: Array, axes: int | tuple[Sequence[int], Sequence[int]]
) -> dict[int, int]:
    """Axis of `left` → axis of `right`."""
    if isinstance(axes, int):
        if not 0 <= axes <= min(left.ndim, right.ndim):
            raise ShapeError(f"{axes} axes cannot be summed over")
        axes = (range(left.ndim - axes, left.ndim), range(axes))
    if len(axes) != 2 or len(axes[0]) != len(axes[1]):
        raise ShapeError(f"axes is a number or two lists of equal length, not {axes!r}")
    first = [normalize_axis(i, left.ndim) for i in axes[0]]
    second = [normalize_axis(i, right.ndim) for i in axes[1]]
    if len(set(first)) != len(first) or len(set(second)) != len(second):
        raise ShapeError(f"axes {axes!r} name one axis twice")
    for i, j in zip(first, second, strict=True):
        if left.shape[i] != right.shape[j]:
            raise ShapeError(f"axis {i} of x1 and axis {j} of x2 differ in size")
    return dict(zip(first, second, strict=True))


def _require_equal(left: int, right: int) -> None:
    if left != right:
        raise ShapeError(f"the vectors have {left} and {right} elements")


def _to_last(x: Array, axis: int) -> Array:
    return transpose(x, (*(i for i in range(x.ndim) if i != axis), axis))
