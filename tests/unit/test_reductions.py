"""Reductions against NumPy over every axis, keepdims and dtype; derivatives at the hard points."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest

import pullback as pb
from pullback.errors import DTypeError, ShapeError
from pullback.functions.reductions import vector_norm

X = np.random.default_rng(0).standard_normal((2, 3, 4))
AXES = [None, *itertools.chain(range(3), (-1,), [(0, 2), (1, -1), (0, 1, 2), ()])]


def same(ours, theirs, **tolerance):
    ours = ours.numpy()
    theirs = np.asarray(theirs)
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    np.testing.assert_allclose(ours, theirs, **(tolerance or {"rtol": 1e-13, "atol": 1e-15}))


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("name", ["sum", "mean", "prod", "max", "min", "var", "std"])
def test_numpy_over_axes(name, axis, keepdims):
    same(getattr(pb, name)(X, axis, keepdims), getattr(np, name)(X, axis=axis, keepdims=keepdims))


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("name", ["any", "all", "count_nonzero"])
def test_truth_over_axes(name, axis, keepdims):
    x = np.abs(X).round()
    assert (x == 0).any()
    expected = getattr(np, name)(x, axis=axis, keepdims=keepdims)
    same(getattr(pb, name)(x, axis=axis, keepdims=keepdims), expected)
    same(getattr(pb, name)(x != 0, axis=axis, keepdims=keepdims), expected)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_position_over_axes(name, axis, keepdims):
    for x in (X, X.round(), np.where(X > 1, np.nan, X)):
        expected = getattr(np, name)(x, axis=axis, keepdims=keepdims)
        same(getattr(pb, name)(x, axis=axis, keepdims=keepdims), expected)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_running(axis):
    same(pb.cumulative_sum(X, axis=axis), np.cumsum(X, axis=axis))
    same(pb.cumulative_prod(X, axis=axis), np.cumprod(X, axis=axis))
    same(pb.cumulative_max(X, axis=axis), np.maximum.accumulate(X, axis=axis))
    same(pb.cumulative_min(X, axis=axis), np.minimum.accumulate(X, axis=axis))
    same(pb.cumulative_logsumexp(X, axis=axis), np.logaddexp.accumulate(X, axis=axis))
    for ours, theirs in (
        (pb.cumulative_sum, np.cumulative_sum),
        (pb.cumulative_prod, np.cumulative_prod),
    ):
        same(ours(X, axis=axis, include_initial=True), theirs(X, axis=axis, include_initial=True))


def test_running_needs_an_axis():
    same(pb.cumulative_sum(np.arange(3)), np.array([0, 1, 3]))
    with pytest.raises(ShapeError, match="axis= is needed"):
        pb.cumulative_sum(X)
    with pytest.raises(ShapeError):
        pb.cumulative_sum(np.float64(1.0))


@pytest.mark.parametrize("method", ["sum", "mean", "max", "min", "prod", "var", "std"])
def test_methods(method):
    same(getattr(pb.sort(X), method)(axis=1), getattr(np, method)(np.sort(X), axis=1))
    assert pb.sort(X).argmax(axis=0).shape == (3, 4)
    assert pb.sort(X).any().item()
    assert pb.sort(X).argmin().item() >= 0
    assert not (pb.sort(X) > 0).all().item()


# ---- dtypes and emptiness -------------------------------------------------------------------

INTEGERS = {
    "bool": "int64",
    "int8": "int64",
    "int32": "int64",
    "int64": "int64",
    "uint8": "uint64",
    "uint32": "uint64",
    "float16": "float16",
    "float32": "float32",
    "float64": "float64",
}


@pytest.mark.parametrize(("given", "expected"), INTEGERS.items())
def test_sum_dtypes(given, expected):
    x = np.array([1, 0, 1]).astype(given)
    for function in (pb.sum, pb.prod, pb.cumulative_sum, pb.cumulative_prod):
        assert function(x).dtype == expected
        assert function(x, dtype=pb.float32).dtype == "float32"


def test_small_integers_do_not_overflow():
    assert pb.sum(np.full(300, 100, np.int8)).item() == 30000


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_half_precision_accumulates_in_float32(dtype):
    x = np.full(4096, 1.0, dtype)
    assert pb.sum(x).item() == 4096.0
    assert pb.sum(x).dtype == dtype
    assert pb.cumulative_sum(x).numpy()[-1] == 4096.0
    big = np.full(100, 60000.0, np.float16)
    assert pb.mean(big).item() == 60000.0
    assert pb.std(big).item() == 0.0
    assert pb.logsumexp(np.zeros(8, dtype)).dtype == dtype


def test_integers_have_float32_means():
    same(pb.mean(np.arange(4)), np.float32(1.5))


def test_empty():
    nothing = np.zeros((2, 0))
    same(pb.sum(nothing, axis=1), np.zeros(2))
    same(pb.prod(nothing, axis=1), np.ones(2))
    same(pb.logsumexp(nothing, axis=1), np.full(2, -np.inf))
    same(pb.mean(nothing, axis=1), np.full(2, np.nan))
    same(pb.max(nothing, axis=0), np.zeros(0))
    assert not pb.any(nothing).item()
    assert pb.all(nothing).item()
    for function in (pb.max, pb.min, pb.argmax, pb.argmin):
        with pytest.raises(ShapeError, match="0 elements"):
            function(nothing)


def test_bad_axes_and_dtypes():
    with pytest.raises(ShapeError, match="axis 3 is out of range"):
        pb.sum(X, axis=3)
    with pytest.raises(ShapeError, match="one axis twice"):
        pb.mean(X, axis=(0, -3))
    with pytest.raises(DTypeError, match="does not take bool"):
        pb.max(X > 0)


# ---- derivatives ----------------------------------------------------------------------------


def brute_force_product(x):
    """∂(∏ x)/∂xᵢ and ∂²(∏ x)/∂xᵢ∂xⱼ by leaving factors out."""
    n = len(x)
    first = np.array([np.prod(np.delete(x, i)) for i in range(n)])
    second = np.array(
        [[0.0 if i == j else np.prod(np.delete(x, [i, j])) for j in range(n)] for i in range(n)]
    )
    return first, second


@pytest.mark.parametrize("zeros", [(), (1,), (0, 2), (0, 1, 3)], ids=str)
def test_product_with_zeros(zeros):
    x = np.array([1.5, -2.0, 3.0, 0.5])
    x[list(zeros)] = 0.0
    first, second = brute_force_product(x)
    np.testing.assert_allclose(pb.grad(pb.prod)(x).numpy(), first, rtol=1e-14)
    np.testing.assert_allclose(pb.hessian(pb.prod)(x).numpy(), second, rtol=1e-14)


def test_running_product_with_zeros():
    x = np.array([2.0, 0.0, 3.0, 0.0, -1.5])
    jacobian = pb.jacobian(pb.cumulative_prod)(x).numpy()
    expected = [
        [np.prod(np.delete(x[: i + 1], j)) if j <= i else 0.0 for j in range(5)] for i in range(5)
    ]
    np.testing.assert_allclose(jacobian, expected, atol=0)


def test_equal_winners_share_the_gradient():
    x = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
    gradient = pb.grad(lambda x: pb.sum(pb.max(x, axis=1)))(x).numpy()
    np.testing.assert_allclose(gradient, [[0, 0.5, 0.5], [1 / 3] * 3])
    np.testing.assert_allclose(pb.grad(pb.min)(np.zeros(4)).numpy(), [0.25] * 4)


def test_std_of_a_constant_has_gradient_zero():
    for function in (pb.std, pb.var, vector_norm):
        np.testing.assert_array_equal(pb.grad(function)(np.zeros(3)).numpy(), 0.0)
    np.testing.assert_array_equal(pb.hessian(pb.std)(np.ones(3)).numpy(), 0.0)


def test_var_gradient():
    x = X.ravel()
    gradient = pb.grad(lambda x: pb.var(x, correction=1))(x).numpy()
    np.testing.assert_allclose(gradient, 2 * (x - x.mean()) / (x.size - 1), rtol=1e-12)


@pytest.mark.parametrize("order", [1, 2, np.inf, -np.inf, 0, 3, 2.5, 0.5, -1])
@pytest.mark.parametrize("axis", [None, 0, (0, 2)], ids=str)
def test_norms(order, axis):
    rows = X.ravel() if axis is None else np.moveaxis(X, axis, tuple(range(np.size(axis))))
    if np.size(axis) == 2:
        rows = rows.reshape(-1, rows.shape[-1])
    expected = np.linalg.norm(rows, order, axis=0)
    same(vector_norm(X, axis=axis, ord=order), expected, rtol=1e-12)


@pytest.mark.parametrize("order", [1, 2, np.inf, -np.inf, 0, 3, 0.5, -1])
def test_norm_gradients_are_finite_at_zero(order):
    for x in (np.zeros(3), np.array([0.0, 2.0, -1.0])):
        gradient = pb.grad(lambda x: vector_norm(x, ord=order))(x).numpy()
        assert np.isfinite(gradient).all()
        assert gradient[0] == 0.0


# ---- log-sum-exp ----------------------------------------------------------------------------

STABLE = [
    ([1e4, 0.0, -1e4], 1e4, [1, 0, 0]),
    ([-1e4, -1e4], -1e4 + np.log(2), [0.5, 0.5]),
    ([-np.inf, 0.0], 0.0, [0, 1]),
    ([-np.inf, -np.inf], -np.inf, [0, 0]),
    ([np.inf, 0.0], np.inf, None),
    ([np.nan, 0.0], np.nan, None),
]


@pytest.mark.parametrize(("x", "value", "gradient"), STABLE, ids=str)
def test_logsumexp(x, value, gradient):
    x = np.array(x)
    np.testing.assert_allclose(pb.logsumexp(x).item(), value)
    np.testing.assert_allclose(pb.cumulative_logsumexp(x).numpy()[-1], value)
    if gradient is not None:
        np.testing.assert_allclose(pb.grad(pb.logsumexp)(x).numpy(), gradient, atol=1e-300)
        assert np.isfinite(pb.jacobian(pb.cumulative_logsumexp)(x).numpy()).all()


@pytest.mark.parametrize("axis", AXES, ids=str)
def test_logsumexp_over_axes(axis):
    axes = tuple(range(3)) if axis is None else axis
    same(pb.logsumexp(X, axis), np.log(np.sum(np.exp(X), axis=axes)), rtol=1e-13, atol=1e-15)
