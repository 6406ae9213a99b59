"""Linear algebra on the last two axes; all leading axes are a batch.

The derivative formulas are those of Giles, "An extended collection of matrix derivative results for
forward and reverse mode algorithmic differentiation" (2008).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback.errors import DTypeError, ShapeError, SingularMatrixError
from pullback.ir.array import Array
from pullback.ir.op import Maybe, Op, Sample
from pullback.ir.samples import integers, normal
from pullback.ir.types import Shape, TensorType, is_float
from pullback.ops.diagonal import Triangle
from pullback.ops.matmul import matmul, matrix_transpose
from pullback.ops.operators import repeated, reshape, sum_over, transpose
from pullback.ops.reduce import wide


class MatrixOp(Op):
    """An op of one square matrix."""

    def infer(self, a: TensorType) -> TensorType | tuple[TensorType, ...]:
        _require_square(self.name, a)
        return a

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        outputs = self.outputs(*inputs)
        return outputs, (True,) * len(outputs)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return 2 * inputs[0].size * inputs[0].shape[-1] // 3

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls(), normal(3))
        yield Sample(cls(), normal(2, 3))
        yield Sample(cls(), integers(2, 2))


# ---- Cholesky -------------------------------------------------------------------------------


class Cholesky(MatrixOp):
    """The lower triangular L with L Lᵀ = (A + Aᵀ)/2 and a positive diagonal.

    The symmetric part is taken inside, as in JAX: both triangles are read, and the gradient is
    symmetric.
    """

    name = "cholesky"

    def reference(self, a: Any) -> Any:
        symmetric = (wide(a) + wide(a).swapaxes(-1, -2)) / 2
        lower = _lapack(np.linalg.cholesky, "is not positive definite", symmetric)
        return lower.astype(a.dtype, copy=False)

    def pullback(self, bar: Array, out: Array, a: Array) -> tuple[Maybe, ...]:
        inner = _half_triangle(matmul(matrix_transpose(out), bar))
        left = TriangularSolve(transposed=True)(out, inner)
        both = TriangularSolve(transposed=True)(out, matrix_transpose(left))
        return (_symmetric(both),)

    def pushforward(self, dots: tuple[Maybe, ...], out: Array, a: Array) -> Maybe:
        if dots[0] is None:
            return None
        left = TriangularSolve()(out, _symmetric(dots[0]))
        both = TriangularSolve()(out, matrix_transpose(left))
        return matmul(out, _half_triangle(both))

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return inputs[0].size * inputs[0].shape[-1] // 3

    def formula(self, *operands: str) -> str:
        return f"chol({operands[0]})"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), _definite(3))
        yield Sample(cls(), _definite(2, 2))
        yield Sample(cls(), _definite(1))
        yield Sample(cls(), normal(0, 0))


def _half_triangle(x: Array) -> Array:
    """Φ: the lower triangle with its diagonal halved."""
    return (Triangle(lower=True)(x) + Triangle(lower=True, offset=-1)(x)) * 0.5


def _symmetric(x: Array) -> Array:
    return (x + matrix_transpose(x)) * 0.5


# ---- systems --------------------------------------------------------------------------------


class System(Op):
    """X with op(A) X = B, for A (…, n, n) and B (…, n, m) of equal leading axes."""

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        _require_square(self.name, a)
        if a.dtype != b.dtype:
            raise DTypeError(f"element types differ: {a.dtype} and {b.dtype}")
        if b.ndim != a.ndim or a.shape[:-2] != b.shape[:-2]:
            raise ShapeError(f"the batches of {a} and {b} differ")
        if b.shape[-2] != a.shape[-1]:
            raise ShapeError(f"{a.shape[-1]} equations, and {b.shape[-2]} right-hand sides")
        return b

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        a, b = inputs
        if not batched[0]:  # one matrix: the examples are more columns of one right-hand side
            return (_from_columns(self(a, _to_columns(b)), size),), (True,)
        return (self(a, b if batched[1] else repeated(b, size)),), (True,)


def _to_columns(b: Array) -> Array:
    """(size, …, n, m) → (…, n, size·m)."""
    last = b.ndim - 1
    moved = transpose(b, (*range(1, last), 0, last))
    return reshape(moved, (*b.shape[1:last], b.shape[0] * b.shape[last]))


def _from_columns(x: Array, size: int) -> Array:
    split = reshape(x, (*x.shape[:-1], size, x.shape[-1] // size))
    last = split.ndim - 1
    return transpose(split, (last - 1, *range(last - 1), last))


@dataclass(frozen=True)
class TriangularSolve(System):
    """X with A X = B (or Aᵀ X = B) by substitution; only one triangle of A is read.

    With `unit_diagonal` the diagonal is not read either and stands for ones.
    """

    name = "triangular_solve"
    lower: bool = True
    transposed: bool = False
    unit_diagonal: bool = False

    def reference(self, a: Any, b: Any) -> Any:
        n = a.shape[-1]
        matrix, x = wide(a.swapaxes(-1, -2) if self.transposed else a), wide(b).copy()
        if not self.unit_diagonal:
            _require_nonzero(np.diagonal(matrix, 0, -2, -1))
        downward = self.lower != self.transposed
        for i in range(n) if downward else reversed(range(n)):
            known = slice(0, i) if downward else slice(i + 1, n)
            x[..., i, :] -= (matrix[..., i, None, known] @ x[..., known, :])[..., 0, :]
            if not self.unit_diagonal:
                x[..., i, :] /= matrix[..., i, i, None]
        return x.astype(b.dtype, copy=False)

    def pullback(self, bar: Array, out: Array, a: Array, b: Array) -> tuple[Maybe, ...]:
        b_bar = TriangularSolve(self.lower, not self.transposed, self.unit_diagonal)(a, bar)
        return -self._read(_outer(b_bar, out, self.transposed)), b_bar

    def pushforward(self, dots: tuple[Maybe, ...], out: Array, a: Array, b: Array) -> Maybe:
        a_dot = None if dots[0] is None else self._read(dots[0])
        rest = _residual(a_dot, dots[1], out, self.transposed)
        return None if rest is None else self(a, rest)

    def _read(self, a: Array) -> Array:
        """The part of A that the op reads."""
        offset = (-1 if self.lower else 1) * self.unit_diagonal
        return Triangle(self.lower, offset)(a)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return inputs[1].size * inputs[0].shape[-1]

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for lower in (True, False):
            for transposed in (True, False):
                yield Sample(cls(lower, transposed), _regular(3), normal(3, 2))
        yield Sample(cls(unit_diagonal=True), _regular(2, 3), normal(2, 3, 1))
        yield Sample(
            cls(lower=False, transposed=True, unit_diagonal=True), _regular(2), normal(2, 2)
        )
        yield Sample(cls(), normal(0, 0), normal(0, 2))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield from _rejected_systems(cls())


@dataclass(frozen=True)
class Solve(System):
    """X with A X = B (or Aᵀ X = B), by an LU factorization with row exchanges."""

    name = "solve"
    transposed: bool = False

    def reference(self, a: Any, b: Any) -> Any:
        matrix = wide(a.swapaxes(-1, -2) if self.transposed else a)
        return _lapack(np.linalg.solve, "is singular", matrix, wide(b)).astype(b.dtype, copy=False)

    def pullback(self, bar: Array, out: Array, a: Array, b: Array) -> tuple[Maybe, ...]:
        b_bar = Solve(not self.transposed)(a, bar)
        return -_outer(b_bar, out, self.transposed), b_bar

    def pushforward(self, dots: tuple[Maybe, ...], out: Array, a: Array, b: Array) -> Maybe:
        rest = _residual(dots[0], dots[1], out, self.transposed)
        return None if rest is None else self(a, rest)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        n = inputs[0].shape[-1]
        return 2 * inputs[0].size * n // 3 + 2 * inputs[1].size * n

    def formula(self, *operands: str) -> str:
        return f"{operands[0]}{'⁻ᵀ' if self.transposed else '⁻¹'} {operands[1]}"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), _regular(3), normal(3, 2))
        yield Sample(cls(transposed=True), _regular(2, 2), normal(2, 2, 1))
        yield Sample(cls(), normal(0, 0), normal(0, 2))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield from _rejected_systems(cls())


def _outer(b_bar: Array, x: Array, transposed: bool) -> Array:
    """−Ā: b̄ xᵀ, or its transpose where the system is Aᵀ x = b."""
    left, right = (x, b_bar) if transposed else (b_bar, x)
    return matmul(left, matrix_transpose(right))


def _residual(a_dot: Maybe, b_dot: Maybe, x: Array, transposed: bool) -> Maybe:
    """ḃ − op(Ȧ) x, the right-hand side for ẋ."""
    if a_dot is None:
        return b_dot
    moved = matmul(matrix_transpose(a_dot) if transposed else a_dot, x)
    return -moved if b_dot is None else b_dot - moved


# ---- inverse and determinant ----------------------------------------------------------------


class Inverse(MatrixOp):
    """Y = A⁻¹."""

    name = "inv"

    def reference(self, a: Any) -> Any:
        return _lapack(np.linalg.inv, "is singular", wide(a)).astype(a.dtype, copy=False)

    def pullback(self, bar: Array, out: Array, a: Array) -> tuple[Maybe, ...]:
        turned = matrix_transpose(out)
        return (-matmul(matmul(turned, bar), turned),)

    def pushforward(self, dots: tuple[Maybe, ...], out: Array, a: Array) -> Maybe:
        return None if dots[0] is None else -matmul(matmul(out, dots[0]), out)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return 2 * inputs[0].size * inputs[0].shape[-1]

    def formula(self, *operands: str) -> str:
        return f"{operands[0]}⁻¹"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), _regular(3))
        yield Sample(cls(), _regular(2, 2))
        yield Sample(cls(), normal(0, 0))


class Det(MatrixOp):
    """Determinant. Its gradient is the matrix of cofactors: right at singular matrices too."""

    name = "det"

    def infer(self, a: TensorType) -> TensorType:
        _require_square(self.name, a)
        return a.reshaped(a.shape[:-2])

    def reference(self, a: Any) -> Any:
        return np.linalg.det(wide(a)).astype(a.dtype)

    def pullback(self, bar: Array, out: Array, a: Array) -> tuple[Maybe, ...]:
        return (_as_matrix(bar) * Cofactor()(a),)

    def pushforward(self, dots: tuple[Maybe, ...], out: Array, a: Array) -> Maybe:
        return None if dots[0] is None else _inner(Cofactor()(a), dots[0])

    def formula(self, *operands: str) -> str:
        return f"det {operands[0]}"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), normal(3, 3))
        yield Sample(cls(), normal(2, 2, 2))
        yield Sample(cls(), normal(0, 0))


class Cofactor(MatrixOp):
    """C = ∂det A/∂A; C = det(A)·A⁻ᵀ where A is regular.

    From A = U S Vᵀ it is det(U) det(V) · U cof(S) Vᵀ, without a division, so any rank will do. Its
    own derivative is written with A⁻¹ and needs a regular matrix.
    """

    name = "cofactor"

    def reference(self, a: Any) -> Any:
        finite = np.isfinite(wide(a)).all(axis=(-2, -1), keepdims=True)
        u, s, vh = np.linalg.svd(np.where(finite, wide(a), 0))
        n = a.shape[-1]
        others = [np.delete(s, i, axis=-1).prod(axis=-1) for i in range(n)]
        sign = np.linalg.det(u) * np.linalg.det(vh)
        scaled = u * np.stack(others, axis=-1)[..., None, :] if n else u
        cofactors = sign[..., None, None] * (scaled @ vh)
        return np.where(finite, cofactors, np.nan).astype(a.dtype)

    # The second derivative of det is a symmetric form, so its linear map is its own transpose.

    def pullback(self, bar: Array, out: Array, a: Array) -> tuple[Maybe, ...]:
        return (self._change(bar, out, a),)

    def pushforward(self, dots: tuple[Maybe, ...], out: Array, a: Array) -> Maybe:
        return None if dots[0] is None else self._change(dots[0], out, a)

    def _change(self, dot: Array, out: Array, a: Array) -> Array:
        """tr(A⁻¹ Ȧ) C − C Ȧᵀ A⁻ᵀ."""
        turned = matrix_transpose(Inverse()(a))
        straight = _as_matrix(_inner(turned, dot)) * out
        return straight - matmul(matmul(out, matrix_transpose(dot)), turned)

    def formula(self, *operands: str) -> str:
        return f"cof {operands[0]}"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), normal(3, 3))
        yield Sample(cls(), normal(2, 2, 2))
        yield Sample(cls(), normal(1, 1))
        yield Sample(cls(), np.outer(normal(3), normal(3, seed=1)), smooth=False)
        yield Sample(cls(), normal(0, 0))


class SlogDet(MatrixOp):
    """Sign and log of the absolute value of the determinant; (0, −∞) for a singular matrix."""

    name = "slogdet"

    def infer(self, a: TensorType) -> tuple[TensorType, ...]:
        _require_square(self.name, a)
        return (a.reshaped(a.shape[:-2]),) * 2

    def reference(self, a: Any) -> Any:
        sign, logarithm = np.linalg.slogdet(wide(a))
        return sign.astype(a.dtype), logarithm.astype(a.dtype)

    def pullback(
        self, bar: tuple[Maybe, ...], out: tuple[Array, ...], a: Array
    ) -> tuple[Maybe, ...]:
        if bar[1] is None:
            return (None,)
        return (_as_matrix(bar[1]) * matrix_transpose(Inverse()(a)),)

    def pushforward(
        self, dots: tuple[Maybe, ...], out: tuple[Array, ...], a: Array
    ) -> tuple[Maybe, ...]:
        if dots[0] is None:
            return (None, None)
        return (None, _inner(matrix_transpose(Inverse()(a)), dots[0]))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), _regular(3))
        yield Sample(cls(), -_regular(2, 3))
        yield Sample(cls(), normal(0, 0))


def _as_matrix(x: Array) -> Array:
    return reshape(x, (*x.shape, 1, 1))


def _inner(x: Array, y: Array) -> Array:
    """⟨X, Y⟩ over the last two axes."""
    return sum_over(x * y, (x.ndim - 2, x.ndim - 1))


# ---- checks ---------------------------------------------------------------------------------


def _require_square(name: str, a: TensorType) -> None:
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise ShapeError(f"{name} takes square matrices (…, n, n), not {a}")
    if not is_float(a.dtype):
        raise DTypeError(f"{name} takes floating matrices, not {a.dtype}")


def _lapack(function: Callable[..., Any], defect: str, *matrices: Any) -> Any:
    """`function(*matrices)`; `SingularMatrixError` names the matrix that has the defect."""
    try:
        return function(*matrices)
    except np.linalg.LinAlgError:
        raise SingularMatrixError(f"{_first_bad(function, matrices)} {defect}") from None


def _first_bad(function: Callable[..., Any], matrices: Sequence[Any]) -> str:
    lead = matrices[0].shape[:-2]
    for place in np.ndindex(*lead):
        try:
            function(*(x[place] for x in matrices))
        except np.linalg.LinAlgError:
            break
    return _named(place)


def _require_nonzero(diagonal: Any) -> None:
    zeros = np.argwhere(diagonal == 0)
    if len(zeros):
        *place, i = map(int, zeros[0])
        raise SingularMatrixError(f"{_named(tuple(place))} is singular: diagonal element {i} is 0")


def _named(place: Shape) -> str:
    return f"matrix {place} of the batch" if place else "the matrix"


# ---- samples --------------------------------------------------------------------------------


def _regular(*shape: int) -> Any:
    """Matrices near 2·I: well conditioned, both triangles full."""
    n = shape[-1]
    return 2.0 * np.eye(n) + 0.4 * normal(*shape[:-1], n, n)


def _definite(*shape: int) -> Any:
    """Positive definite and not quite symmetric."""
    return 1.5 * np.eye(shape[-1]) + 0.2 * normal(*shape[:-1], shape[-1], shape[-1])


def _rejected_systems(op: System) -> Iterator[Sample]:
    yield Sample(op, normal(2, 3), normal(2, 1))
    yield Sample(op, normal(2, 2), normal(3, 1))
    yield Sample(op, normal(2, 2), normal(2))
    yield Sample(op, integers(2, 2), integers(2, 2))
    yield Sample(op, normal(2, 2), normal(2, 2).astype(np.float32))
