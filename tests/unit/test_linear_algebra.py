"""`pb.linalg` against NumPy, finite differences and the identities; singular matrices."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from pullback import linalg
from pullback.errors import ArgumentError, DTypeError, ShapeError, SingularMatrixError


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def definite(*shape):
    x = numbers(*shape)
    return x @ x.swapaxes(-1, -2) + np.eye(shape[-1])


def close(x, y, tolerance=1e-10):
    np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=tolerance, atol=tolerance)


MATRICES = numbers(2, 3, 4, 4) + 3 * np.eye(4)


# ---- values ---------------------------------------------------------------------------------


def test_values_are_numpys():
    a, b = MATRICES, numbers(2, 3, 4, 2)
    close(linalg.inv(a), np.linalg.inv(a))
    close(linalg.det(a), np.linalg.det(a))
    close(linalg.solve(a, b), np.linalg.solve(a, b))
    close(linalg.solve(a, b[0, 0]), np.linalg.solve(a, b[0, 0]))
    close(linalg.solve(a[0, 0], b), np.linalg.solve(a[0, 0], b))
    close(linalg.solve(a, b[0, 0, :, 0]), np.linalg.solve(a, b[0, 0, :, 0]))
    close(linalg.cholesky(definite(3, 4, 4)), np.linalg.cholesky(definite(3, 4, 4)))
    close(linalg.cholesky(definite(4, 4), upper=True), np.linalg.cholesky(definite(4, 4)).T)
    sign, logarithm = linalg.slogdet(-a)
    close(sign, np.linalg.slogdet(-a)[0])
    close(linalg.slogdet(-a).logabsdet, logarithm)
    close(linalg.trace(a), np.trace(a, axis1=-2, axis2=-1))
    close(linalg.trace(a, offset=1), np.trace(a, 1, axis1=-2, axis2=-1))
    close(linalg.diagonal(b, offset=-1), np.diagonal(b, -1, -2, -1))
    x, y = numbers(2, 3), numbers(4, 1, 3)
    close(linalg.cross(x, y), np.cross(x, y))
    close(linalg.cross(x.T, y[0].T, axis=0), np.cross(x.T, y[0].T, axis=0))
    for power in (-2, -1, 0, 1, 2, 3, 7):
        close(linalg.matrix_power(a, power), np.linalg.matrix_power(a, power))
    for ord in ("fro", 1, -1, np.inf, -np.inf):
        close(linalg.matrix_norm(b, ord=ord), np.linalg.matrix_norm(b, ord=ord))
        kept = linalg.matrix_norm(b, keepdims=True, ord=ord)
        close(kept, np.linalg.matrix_norm(b, keepdims=True, ord=ord))


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("transpose", [True, False])
@pytest.mark.parametrize("unit", [True, False])
def test_triangular_systems(lower, transpose, unit):
    """The other triangle, and with unit_diagonal the diagonal, may hold anything."""
    a, b = MATRICES[0], numbers(3, 4, 2)
    read = np.tril(a) if lower else np.triu(a)
    if unit:
        read = read * (1 - np.eye(4)) + np.eye(4)
    solution = linalg.triangular_solve(
        a, b, lower=lower, transpose=transpose, unit_diagonal=unit
    ).numpy()
    close((read.swapaxes(-1, -2) if transpose else read) @ solution, b)


def test_element_types():
    assert linalg.inv(np.eye(2, dtype=np.float32)).dtype == np.float32
    half = np.eye(2, dtype=np.float16)
    assert linalg.solve(half, half).dtype == np.float16
    assert linalg.det(np.eye(2, dtype=np.int64)).dtype == np.float32
    assert linalg.trace(np.eye(2, dtype=np.int32)).dtype == np.int64
    assert linalg.matrix_power(np.full((2, 2), 2), 3).tolist() == [[32, 32], [32, 32]]


def test_empty_matrices():
    assert linalg.det(np.zeros((0, 0))).item() == 1.0
    assert linalg.inv(np.zeros((2, 0, 0))).shape == (2, 0, 0)


# ---- derivatives ----------------------------------------------------------------------------


LEFT, RIGHT = numbers(4, 3, seed=5), numbers(4, 3, seed=6)


def square(x):
    return x * x


def directional(f, x, direction, h=1e-5):
    return (float(f(x + h * direction)) - float(f(x - h * direction))) / (2 * h)


@pytest.mark.parametrize(
    "f",
    [
        lambda a: pb.sum(linalg.inv(a) * linalg.inv(a)),
        lambda a: pb.sum(linalg.det(a)),
        lambda a: pb.sum(linalg.slogdet(a).logabsdet),
        lambda a: pb.sum(square(linalg.solve(a, numbers(4, 2)))),
        lambda a: pb.sum(square(linalg.cholesky(a @ linalg.matrix_transpose(a)))),
        lambda a: pb.sum(square(linalg.triangular_solve(a, numbers(4, 2)))),
        lambda a: pb.sum(linalg.matrix_power(a, 3)),
        lambda a: pb.sum(linalg.matrix_power(a, -2)),
        lambda a: pb.sum(linalg.matrix_norm(a)),
        lambda a: pb.sum(linalg.matrix_norm(a, ord=1)),
        lambda a: pb.sum(square(linalg.diagonal(a, offset=1))),
        lambda a: pb.sum(square(linalg.cross(a @ LEFT, a @ RIGHT))),
    ],
)
def test_gradients(f):
    direction = numbers(*MATRICES.shape, seed=3)
    gradient = pb.grad(f)(MATRICES).numpy()
    slope = directional(f, MATRICES, direction)
    np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=1e-6)


def test_known_gradients():
    a = MATRICES[0, 0]
    close(pb.grad(lambda a: linalg.slogdet(a).logabsdet)(a), np.linalg.inv(a).T)
    close(pb.grad(linalg.det)(a), np.linalg.det(a) * np.linalg.inv(a).T)
    close(pb.grad(linalg.trace)(a), np.eye(4))
    s = definite(4, 4)
    bar = pb.grad(lambda s: 2 * pb.sum(pb.log(linalg.diagonal(linalg.cholesky(s)))))(s)
    close(bar, np.linalg.inv(s))  # log det S through its factor
    close(pb.grad(linalg.matrix_norm)(np.zeros((2, 2))), np.zeros((2, 2)))


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
def test_the_gradient_of_det_is_the_cofactors_at_any_rank(rank):
    a = numbers(4, rank) @ numbers(rank, 4, seed=1)
    minors = np.array(
        [
            [(-1) ** (i + j) * np.linalg.det(np.delete(np.delete(a, i, 0), j, 1)) for j in range(4)]
            for i in range(4)
        ]
    )
    close(pb.grad(linalg.det)(a), minors, 1e-9)


def test_third_derivative_of_det():
    """det(A + tB) is a polynomial in t; for 3 × 3 matrices its t³ coefficient is det B."""
    a, b = MATRICES[0, 0, :3, :3], numbers(3, 3, seed=4)
    third = pb.grad(pb.grad(pb.grad(lambda t: linalg.det(a + t * b))))(0.0)
    np.testing.assert_allclose(float(third), 6 * np.linalg.det(b), rtol=1e-5)


# ---- errors ---------------------------------------------------------------------------------


def test_singular_matrices():
    singular = np.ones((2, 2))
    batch = np.stack([np.eye(2), singular])
    with pytest.raises(SingularMatrixError, match=r"inv at .*: the matrix is singular"):
        linalg.inv(singular)
    with pytest.raises(SingularMatrixError, match=r"matrix \(1,\) of the batch is singular"):
        linalg.solve(batch, np.ones(2))
    with pytest.raises(SingularMatrixError, match=r"\(1,\) of the batch is not positive definite"):
        linalg.cholesky(np.stack([np.eye(2), -np.eye(2)]))
    with pytest.raises(SingularMatrixError, match="diagonal element 1 is 0"):
        linalg.triangular_solve(np.diag([1.0, 0.0]), np.ones(2))
    assert linalg.det(singular).item() == 0.0
    assert linalg.slogdet(singular).logabsdet.item() == -np.inf


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: linalg.inv(np.ones((2, 3))), ShapeError, "inv takes square matrices"),
        (lambda: linalg.slogdet(np.ones(3)), ShapeError, "slogdet takes square matrices"),
        (lambda: linalg.solve(np.eye(2), np.ones((3, 1))), ShapeError, "2 equations, and 3 right"),
        (lambda: linalg.solve(np.ones((2, 3)), np.ones(2)), ShapeError, "solve takes square"),
        (lambda: linalg.cholesky(np.ones(2)), ShapeError, "cholesky takes square"),
        (lambda: linalg.cross(np.ones(2), np.ones(3)), ShapeError, "vectors of 3 elements"),
        (lambda: linalg.matrix_norm(np.eye(2), ord=2), ArgumentError, "ord 2 is no matrix norm"),
        (lambda: linalg.matrix_norm(np.ones(2)), ShapeError, "a matrix has two axes, not 1"),
        (lambda: linalg.matrix_power(np.ones((2, 3)), 2), ShapeError, "only square matrices"),
        (lambda: linalg.matrix_power(np.eye(2), 0.5), ArgumentError, "an integer, not 0.5"),
        (lambda: linalg.trace(np.ones(2)), ShapeError, "a matrix has two axes"),
        (lambda: linalg.trace(np.ones((2, 2), bool), dtype=bool), DTypeError, "bool"),
    ],
)
def test_wrong_arguments(call, error, text):
    with pytest.raises(error) as caught:
        call()
    assert text in str(caught.value)
    assert "test_linear_algebra.py" in str(caught.value)
