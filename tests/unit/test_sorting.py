"""Sorting and order statistics against NumPy, with ties, NaN and every direction."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from pullback.errors import OutOfRangeError, ShapeError

X = np.random.default_rng(0).standard_normal((3, 4, 5))
TIES = np.array([3.0, 1.0, np.nan, 3.0, 1.0, -np.inf, np.inf])


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_ascending(axis):
    np.testing.assert_array_equal(pb.sort(X, axis=axis).numpy(), np.sort(X, axis=axis))
    np.testing.assert_array_equal(pb.argsort(X, axis=axis).numpy(), np.argsort(X, axis=axis))


def test_stable_with_nan_last_both_ways():
    assert pb.argsort(TIES).tolist() == [5, 1, 4, 0, 3, 6, 2]
    assert pb.argsort(TIES, descending=True).tolist() == [6, 0, 3, 1, 4, 5, 2]
    assert pb.argsort(TIES).dtype == pb.int64


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "uint64", "bool"])
def test_descending_integers_at_the_limits(dtype):
    info = None if dtype == "bool" else np.iinfo(dtype)
    ends = [False, True, False] if info is None else [info.min, info.max, 0]
    x = np.array(ends, dtype)
    np.testing.assert_array_equal(pb.sort(x, descending=True).numpy(), np.sort(x)[::-1])


def test_top_k():
    values, indices = pb.top_k(X, 2)
    np.testing.assert_array_equal(values.numpy(), np.sort(X)[..., :-3:-1])
    np.testing.assert_array_equal(np.take_along_axis(X, indices.numpy(), -1), values.numpy())
    assert pb.top_k(TIES, 3)[1].tolist() == [6, 0, 3]
    assert pb.top_k(X, 1, axis=0)[0].shape == (1, 4, 5)
    with pytest.raises(ShapeError, match="no 6 elements"):
        pb.top_k(X, 6)


def test_gradient_goes_back_to_where_elements_came_from():
    x = np.array([3.0, 1.0, 2.0])
    weights = np.array([10.0, 20.0, 30.0])
    gradient = pb.grad(lambda x: pb.sum(pb.sort(x) * weights))(x)
    assert gradient.tolist() == [30.0, 10.0, 20.0]
    assert pb.grad(lambda x: pb.sum(pb.top_k(x, 2)[0]))(x).tolist() == [1.0, 0.0, 1.0]


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2)], ids=str)
def test_quantiles(axis, keepdims):
    for q in (0.0, 0.3, 0.5, 1.0):
        ours = pb.quantile(X, q, axis=axis, keepdims=keepdims).numpy()
        theirs = np.quantile(X, q, axis=axis, keepdims=keepdims)
        np.testing.assert_allclose(ours, theirs, rtol=1e-14)
        assert ours.shape == np.shape(theirs)
    ours = pb.median(X, axis=axis, keepdims=keepdims).numpy()
    np.testing.assert_allclose(ours, np.median(X, axis=axis, keepdims=keepdims), rtol=1e-14)


def test_quantile_edges():
    assert np.isnan(pb.median(TIES).item())
    assert pb.grad(pb.median)(np.array([3.0, 1.0, 2.0])).tolist() == [0.0, 0.0, 1.0]
    with pytest.raises(OutOfRangeError, match="between 0 and 1"):
        pb.quantile(X, 1.5)
    with pytest.raises(ShapeError, match="0 elements"):
        pb.median(np.zeros(0))
