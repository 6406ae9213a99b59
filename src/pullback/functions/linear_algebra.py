"""Linear algebra, named by the Array API standard; all axes before the last two are a batch."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from pullback._public import public
from pullback.errors import ArgumentError, DTypeError, ShapeError
from pullback.functions import reductions
from pullback.functions.axes import keep
from pullback.functions.contraction import matmul
from pullback.functions.manipulation import matrix_transpose
from pullback.ir.array import Array
from pullback.ir.builder import located
from pullback.ir.types import TensorType, broadcast_shapes, normalize_axis
from pullback.ops import linalg
from pullback.ops.diagonal import Diagonal, DiagonalMatrix
from pullback.ops.layout import Concat
from pullback.ops.operators import (
    absolute,
    apply_as,
    as_float,
    broadcast_to,
    cut,
    float_pair,
    full,
    lift,
    pair,
    reshape,
)


class SlogDetResult(NamedTuple):
    """The sign of a determinant and the logarithm of its absolute value."""

    sign: Array
    logabsdet: Array


# ---- factorizations and systems -------------------------------------------------------------


@public
def cholesky(x: Any, /, *, upper: bool = False) -> Array:
    """The lower triangular L with x = L Lᵀ, or with `upper` its transpose: (…, n, n) → (…, n, n).

    Both triangles of x are read: the factor is that of (x + xᵀ)/2, and its gradient is symmetric.
    Raises `SingularMatrixError` where that is not positive definite.
    """
    lower = apply_as("cholesky", linalg.Cholesky(), x=as_float(x))
    return matrix_transpose(lower) if upper else lower


@public
def solve(x1: Any, x2: Any, /) -> Array:
    """y with x1 y = x2: (…, n, n), (…, n, m) → (…, n, m); leading axes broadcast.

    A vector x2 is one column for every matrix: (…, n, n), (n,) → (…, n).
    Raises `SingularMatrixError` where x1 has no inverse.
    """
    return _solved("solve", linalg.Solve(), x1, x2)


@public
def triangular_solve(
    a: Any, b: Any, /, *, lower: bool = True, transpose: bool = False, unit_diagonal: bool = False
) -> Array:
    """y with a y = b, or aᵀ y = b, reading only one triangle of `a`; shapes as in `solve`.

    With `unit_diagonal` the diagonal of `a` is not read and stands for ones.
    Raises `SingularMatrixError` where an element of the diagonal is 0.
    """
    op = linalg.TriangularSolve(lower, transpose, unit_diagonal)
    return _solved("triangular_solve", op, a, b)


@public
def inv(x: Any, /) -> Array:
    """The inverse: (…, n, n) → (…, n, n). Raises `SingularMatrixError` where there is none."""
    return apply_as("inv", linalg.Inverse(), x=as_float(x))


@public
def det(x: Any, /) -> Array:
    """The determinant: (…, n, n) → (…).

    Its gradient, the cofactors, is right for singular matrices too; its second derivative raises
    `SingularMatrixError` there.
    """
    return apply_as("det", linalg.Det(), x=as_float(x))


@public
def slogdet(x: Any, /) -> SlogDetResult:
    """(sign, log|det|) of each matrix; (0, −∞) for a singular one, where it has no gradient."""
    array = _square("slogdet", x)
    return SlogDetResult(*linalg.SlogDet().outputs(array))


@public
def matrix_power(x: Any, n: int, /) -> Array:
    """x·x·…·x with n factors, by repeated squaring; n = 0 gives the identity, n < 0 inverts."""
    if not isinstance(n, int):
        raise ArgumentError(f"the power of a matrix is an integer, not {n!r}")
    array = lift(x) if n >= 0 else inv(x)
    if array.ndim < 2 or array.shape[-1] != array.shape[-2]:
        raise located(ShapeError("only square matrices have powers"), "matrix_power", x=array)
    if n == 0:
        return broadcast_to(_identity(array.type), array.shape)
    result, square, left = None, array, abs(n)
    while left:
        if left % 2:
            result = square if result is None else matmul(result, square)
        left //= 2
        square = matmul(square, square) if left else square
    assert result is not None
    return result


# ---- norms ----------------------------------------------------------------------------------


@public
def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: float | str | None = "fro") -> Array:
    """The norm of each matrix: (…, n, m) → (…).

    `ord` "fro": √Σ|x|², with gradient 0 at 0; 1, −1: the largest, smallest sum of |x| down a
    column; ∞, −∞: the same along a row. Raises `ArgumentError` for another one.
    """
    array = as_float(x)
    _require_matrix("matrix_norm", array)
    if ord in ("fro", None):
        return reductions.vector_norm(array, axis=(-2, -1), keepdims=keepdims)
    if ord not in (1, -1, math.inf, -math.inf):
        raise ArgumentError(
            f"ord {ord!r} is no matrix norm", hint="the norms are 'fro', 1, -1, inf and -inf"
        )
    sums = reductions.sum(absolute(array), axis=-2 if ord in (1, -1) else -1)
    extreme = reductions.max if ord in (1, math.inf) else reductions.min
    return keep(extreme(sums, axis=-1), array, (array.ndim - 2, array.ndim - 1), keepdims)


# ---- diagonals and vectors ------------------------------------------------------------------


@public
def diagonal(x: Any, /, *, offset: int = 0) -> Array:
    """The elements x[…, i, i + offset]: (…, n, m) → (…, k)."""
    return apply_as("diagonal", Diagonal(offset), x=lift(x))


@public
def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Array:
    """The sum of the diagonal: (…, n, m) → (…). Integers are summed in 64 bits, as by `sum`."""
    elements = apply_as("trace", Diagonal(offset), x=lift(x))
    return reductions.sum(elements, axis=-1, dtype=dtype)


@public
def cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Array:
    """The cross product of vectors of three elements along `axis`; the other axes broadcast.

    Raises `ShapeError` when an axis has another size.
    """
    left, right = pair(x1, x2)
    try:
        _require_three(*(x.shape[normalize_axis(axis, x.ndim)] for x in (left, right)))
        shape = broadcast_shapes(left.shape, right.shape)
        place = normalize_axis(axis, len(shape))
        left, right = broadcast_to(left, shape), broadcast_to(right, shape)
    except ShapeError as error:
        raise located(error, "cross", x1=left, x2=right) from None
    ahead, behind = _turned(left, place), _turned(right, place)
    # (x × y)ᵢ = xᵢ₊₁ yᵢ₊₂ − xᵢ₊₂ yᵢ₊₁
    return ahead * _turned(behind, place) - _turned(ahead, place) * behind


def _require_three(*sizes: int) -> None:
    if set(sizes) != {3}:
        raise ShapeError(f"a cross product takes vectors of 3 elements, not {sizes}")


def _turned(x: Array, axis: int) -> Array:
    """x₁, x₂, x₀ along `axis`."""
    return Concat(axis)(cut(x, axis, 1, 3), cut(x, axis, 0, 1))


# ---- parts ----------------------------------------------------------------------------------


def _require_matrix(subject: str, x: Array) -> None:
    if x.ndim < 2:
        raise located(ShapeError(f"a matrix has two axes, not {x.ndim}"), subject, x=x)


def _square(subject: str, x: Any) -> Array:
    array = as_float(x)
    if array.ndim < 2 or array.shape[-1] != array.shape[-2]:
        error = ShapeError(f"{subject} takes square matrices (…, n, n), not {array.type}")
        raise located(error, subject, x=array)
    return array


def _solved(subject: str, op: linalg.System, a: Any, b: Any) -> Array:
    """`op` on operands whose leading axes broadcast; a vector is one column."""
    matrix, given = float_pair(a, b)
    vector = given.ndim == 1
    right = reshape(given, (*given.shape, 1)) if vector else given
    try:
        lead = broadcast_shapes(matrix.shape[:-2], right.shape[:-2])
        matrix = broadcast_to(matrix, (*lead, *matrix.shape[-2:]))
        right = broadcast_to(right, (*lead, *right.shape[-2:]))
        op.output_types(matrix.type, right.type)
    except (ShapeError, DTypeError) as error:
        raise located(error, subject, a=matrix, b=given) from None
    solution = op(matrix, right)
    return reshape(solution, solution.shape[:-1]) if vector else solution


def _identity(kind: TensorType) -> Array:
    n = kind.shape[-1]
    return DiagonalMatrix(0, n, n)(full(TensorType((n,), kind.dtype), 1))
