"""Initial weights have the variance of their names; affine layers compute x Wᵀ + b."""

from __future__ import annotations

import math

import numpy as np
import pytest

import pullback as pb
from pullback.errors import ArgumentError, ShapeError
from pullback.nn import init

KEY = pb.random.key(3)
N_OUT, N_IN = 300, 200

VARIANCE = {
    "xavier_uniform": 2 / (N_IN + N_OUT),
    "xavier_normal": 2 / (N_IN + N_OUT),
    "he_uniform": 2 / N_IN,
    "he_normal": 2 / N_IN,
    "lecun_uniform": 1 / N_IN,
    "lecun_normal": 1 / N_IN,
    "truncated_normal": 1.0,
    "zeros": 0.0,
}


@pytest.mark.parametrize("name", VARIANCE)
def test_variance(name):
    x = getattr(init, name)(KEY, (N_OUT, N_IN)).numpy().astype(np.float64)
    # The variance of a sample variance is at most 2 σ⁴ / n for these distributions.
    spread = math.sqrt(2 / x.size)
    assert abs(x.var() - VARIANCE[name]) <= 4 * spread * VARIANCE[name]
    assert abs(x.mean()) <= 4 * math.sqrt(VARIANCE[name] / x.size)


@pytest.mark.parametrize("name", ["xavier_normal", "he_uniform", "lecun_normal"])
def test_gain_is_a_factor(name):
    initializer = getattr(init, name)
    np.testing.assert_allclose(
        initializer(KEY, (5, 4), "float64", gain=3.0).numpy(),
        3 * initializer(KEY, (5, 4), "float64").numpy(),
        rtol=1e-14,
    )


def test_fans_of_a_convolution():
    assert init.fans((8, 3, 5, 5)) == (75, 200)
    x = init.he_normal(KEY, (64, 16, 5, 5)).numpy()
    assert math.isclose(x.var(), 2 / 400, rel_tol=0.05)
    for shape in ((3,), (), (0, 4)):
        with pytest.raises(ShapeError, match="fans"):
            init.he_normal(KEY, shape)


def test_a_truncated_normal_keeps_its_variance():
    for std, bound in ((0.02, 2.0), (1.5, 0.5), (1.0, 4.0)):
        x = init.truncated_normal(KEY, (400, 100), "float64", std=std, bound=bound).numpy()
        assert math.isclose(x.std(), std, rel_tol=0.02)
        scale = np.abs(x).max() / std
        assert scale <= 1.0001 * bound / init._truncated_std(bound)
    with pytest.raises(ArgumentError, match="bound"):
        init.truncated_normal(KEY, (2, 2), bound=0.0)


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3), (6, 2, 2)])
def test_orthogonal(shape):
    x = init.orthogonal(KEY, shape, "float64", gain=2.0).numpy()
    assert x.shape == shape
    matrix = x.reshape(shape[0], -1)
    small = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-13)


@pytest.mark.parametrize("lead", [(), (5,), (2, 5)])
def test_linear(lead):
    layer = pb.nn.Linear(3, 4, key=KEY, dtype="float64")
    layer = layer.replace(bias=np.arange(4.0))
    x = np.random.default_rng(0).standard_normal((*lead, 3))
    expected = x @ layer.weight.numpy().T + layer.bias
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-14)
    bare = pb.nn.Linear(3, 4, use_bias=False, key=KEY)
    assert bare.bias is None
    assert bare(np.zeros((*lead, 3), np.float32)).shape == (*lead, 4)


def test_linear_refuses_other_sizes():
    with pytest.raises(ArgumentError, match="in_features is at least 1"):
        pb.nn.Linear(0, 4, key=KEY)
    with pytest.raises(ShapeError, match=r"\(\.\.\., 3\)"):
        pb.nn.Linear(3, 4, key=KEY)(np.float64(1.0))


def test_mlp():
    model = pb.nn.MLP(3, 2, 5, 2, pb.tanh, key=KEY, dtype="float64")
    x = np.random.default_rng(0).standard_normal((7, 3))
    expected = x
    for layer in model.layers[:-1]:
        expected = np.tanh(expected @ layer.weight.numpy().T)
    expected = expected @ model.layers[-1].weight.numpy().T
    np.testing.assert_allclose(model(x).numpy(), expected, rtol=1e-12)
    assert [layer.weight.shape for layer in model.layers] == [(5, 3), (5, 5), (2, 5)]
    assert len(pb.nn.MLP(3, 2, 5, 0, key=KEY).layers) == 1
    with pytest.raises(ArgumentError, match="depth"):
        pb.nn.MLP(3, 2, 5, -1, key=KEY)


def test_the_gradient_of_an_mlp_is_right():
    model = pb.nn.MLP(3, 2, 4, 1, pb.tanh, key=KEY, dtype="float64")
    x = np.random.default_rng(1).standard_normal((5, 3))
    labels = np.array([0, 1, 1, 0, 1])
    pb.check_grads(lambda m: pb.nn.cross_entropy(m(x), labels), (model,), order=2)


def test_he_keeps_the_scale_through_relu():
    model = pb.nn.MLP(256, 256, 256, 10, key=KEY)
    x = pb.random.normal(pb.random.key(8), (64, 256))
    assert 0.3 < model(x).numpy().std() / math.sqrt(2) < 3
