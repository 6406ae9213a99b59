"""Curvature by products: Gauss-Newton, the top of a spectrum, and derivatives of choices."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from pullback import optim
from pullback.errors import ArgumentError

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((20, 3)), RNG.integers(0, 2, 20)
START = 0.5 * RNG.standard_normal(3 * 4 + 4 * 2)


def model(w):
    return pb.tanh(X @ pb.reshape(w[:12], (3, 4))) @ pb.reshape(w[12:], (4, 2))


def loss(logits):
    return pb.nn.cross_entropy(logits, Y)


def objective(w):
    return loss(model(w))


def trained():
    optimizer = optim.adam(0.05)
    w, state = pb.asarray(START), optimizer.init(START)
    step = pb.compile(lambda w, s: optimizer.update(pb.grad(objective)(w), s, w))
    for _ in range(100):
        updates, state = step(w, state)
        w = optim.apply_updates(w, updates)
    return w


def test_the_largest_eigenvalues_of_a_trained_network():
    w = trained()
    product = pb.compile(lambda v: pb.hvp(objective, (w,), (v,)))
    values, vectors = pb.linalg.lanczos(product, RNG.standard_normal(20), steps=20, k=3)
    dense = np.linalg.eigvalsh(pb.hessian(objective)(w).numpy())
    np.testing.assert_allclose(values.numpy(), dense[::-1][:3], rtol=1e-8)
    for value, v in zip(values.numpy(), vectors, strict=True):
        np.testing.assert_allclose(product(v).numpy(), value * v.numpy(), atol=1e-7)


def test_lanczos_refuses_what_makes_no_sense():
    for settings in ({"steps": 0}, {"k": 4}, {"k": True}):
        with pytest.raises(ArgumentError):
            pb.linalg.lanczos(lambda v: v, np.ones(3), **settings)
    with pytest.raises(ArgumentError, match="not 0"):
        pb.linalg.lanczos(lambda v: v, np.zeros(3))
    with pytest.raises(ArgumentError, match="invariant"):
        pb.linalg.lanczos(lambda v: v, np.ones(3), k=2)


def gauss_newton(w):
    jacobian = pb.jacobian(model)(w).numpy().reshape(-1, 20)
    curvature = pb.hessian(loss)(model(w)).numpy().reshape(len(jacobian), -1)
    return jacobian.T @ curvature @ jacobian


def test_the_gauss_newton_product_is_that_of_the_dense_matrix():
    v = RNG.standard_normal(20)
    expected = gauss_newton(START) @ v
    np.testing.assert_allclose(pb.ggnvp(model, loss, (START,), (v,)).numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("run", [lambda f: f, pb.compile], ids=["eager", "compiled"])
def test_the_natural_gradient_solves_with_the_damped_matrix(run):
    optimizer = optim.natural_gradient(model, loss, lr=0.5, damping=0.1)
    g = pb.grad(objective)(START)
    updates, _ = run(optimizer.update)(g, None, START)
    expected = -0.5 * np.linalg.solve(gauss_newton(START) + 0.1 * np.eye(20), g.numpy())
    np.testing.assert_allclose(updates.numpy(), expected, rtol=1e-4, atol=1e-7)


def test_gumbel_softmax_draws_as_the_softmax_says():
    logits = np.log([0.2, 0.5, 0.3])
    keys = pb.random.split(pb.random.key(0), 4000)
    draws = pb.vmap(lambda k: pb.random.gumbel_softmax(k, logits, 0.5, hard=True))(keys)
    np.testing.assert_allclose(draws.numpy().mean(0), [0.2, 0.5, 0.3], atol=0.03)
    key, weights = pb.random.key(1), np.array([1.0, 2.0, 3.0])
    hard, soft = (
        pb.grad(lambda x, h=h: (pb.random.gumbel_softmax(key, x, 0.5, hard=h) * weights).sum())
        for h in (True, False)
    )
    np.testing.assert_array_equal(hard(logits).numpy(), soft(logits).numpy())


@pytest.mark.parametrize("baseline", [0.0, 1.5])
def test_the_score_function_estimates_the_gradient_of_an_expectation(baseline):
    rewards, logits = np.array([1.0, 2.0, 4.0]), np.array([0.1, 0.2, -0.3])

    def estimate(logits, drawn):
        chances = pb.log_softmax(logits)
        return pb.random.score_function(pb.asarray(rewards)[drawn], chances[drawn], baseline)

    chances = np.exp(logits) / np.exp(logits).sum()
    gradients = [pb.grad(estimate)(logits, i).numpy() for i in range(3)]
    expected = pb.grad(lambda x: (pb.softmax(x) * rewards).sum())(logits).numpy()
    np.testing.assert_allclose(chances @ np.stack(gradients), expected, rtol=1e-6)
    assert estimate(logits, 2).item() == 4.0
