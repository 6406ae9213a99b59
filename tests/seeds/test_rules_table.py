"""The tables of local rules: forward op, upstream cotangent, what goes back to each input."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb

random = np.random.default_rng(1)
x, y, g = (random.normal(size=(3, 4)) for _ in range(3))
W, b, column = random.normal(size=(2, 3)), random.normal(size=2), random.normal(size=3)


def back(f, *primals, bar):
    return [each.numpy() for each in pb.vjp(f, *primals)[1](bar)]


def same(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-14)


def test_add_passes_the_cotangent_to_both():
    for bar in back(lambda x, y: x + y, x, y, bar=g):
        same(bar, g)


def test_multiply_swaps_the_operands():
    x_bar, y_bar = back(lambda x, y: x * y, x, y, bar=g)
    same(x_bar, g * y)
    same(y_bar, g * x)


def test_affine_column():
    """z = W x + b:  W̄ = g xᵀ, b̄ = g, x̄ = Wᵀ g."""
    g = random.normal(size=2)
    W_bar, x_bar, b_bar = back(lambda W, x, b: W @ x + b, W, column, b, bar=g)
    same(W_bar, np.outer(g, column))
    same(x_bar, W.T @ g)
    same(b_bar, g)


def test_affine_with_the_wrong_transpose_is_caught():
    """The common mistake x gᵀ in place of g xᵀ has another shape, so it cannot go unnoticed."""
    g = random.normal(size=2)
    W_bar = back(lambda W: W @ column, W, bar=g)[0]
    assert W_bar.shape == W.shape != np.outer(column, g).shape


def test_batched_affine():
    """Z = W X + b with b broadcast over columns:  W̄ = G Xᵀ, b̄ = row sums of G, X̄ = Wᵀ G."""
    X, G = random.normal(size=(3, 5)), random.normal(size=(2, 5))
    W_bar, X_bar, b_bar = back(lambda W, X, b: W @ X + b[:, None], W, X, b, bar=G)
    same(W_bar, G @ X.T)
    same(X_bar, W.T @ G)
    same(b_bar, G.sum(axis=1))


def test_linear_with_rows_as_examples():
    """y = x W:  x̄ = ȳ Wᵀ, W̄ = xᵀ ȳ."""
    X, W, G = random.normal(size=(5, 3)), random.normal(size=(3, 2)), random.normal(size=(5, 2))
    X_bar, W_bar = back(lambda X, W: X @ W, X, W, bar=G)
    same(X_bar, G @ W.T)
    same(W_bar, X.T @ G)


def test_relu_masks():
    """z̄ = ā ⊙ 𝟙[z > 0], and 0 at z = 0."""
    same(back(pb.relu, x, bar=g)[0], g * (x > 0))
    same(pb.grad(pb.relu)(0.0), 0.0)


def test_sigmoid():
    """z̄ = ā ⊙ a ⊙ (1 − a); the derivative peaks at ¼."""
    a = 1 / (1 + np.exp(-x))
    same(back(pb.sigmoid, x, bar=g)[0], g * a * (1 - a))
    assert float(pb.grad(pb.sigmoid)(0.0)) == 0.25


def test_tanh():
    """z̄ = ā ⊙ (1 − a²); the derivative peaks at 1."""
    same(back(pb.tanh, x, bar=g)[0], g * (1 - np.tanh(x) ** 2))
    assert float(pb.grad(pb.tanh)(0.0)) == 1.0


def test_softmax():
    """x̄ = (ȳ − Σ ȳⱼ yⱼ) ⊙ y."""
    s = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    same(back(pb.softmax, x, bar=g)[0], (g - (g * s).sum(-1, keepdims=True)) * s)


def test_layer_norm_goes_through_mean_and_variance():
    """y = (x − μ)/σ·γ + β:  x̄ = (h − mean h − x̂ mean(h x̂))/σ with h = ȳ γ."""
    gamma, beta = random.normal(size=4), random.normal(size=4)

    def norm(x, gamma, beta):
        centred = x - pb.mean(x, axis=-1, keepdims=True)
        variance = pb.mean(centred * centred, axis=-1, keepdims=True)
        return centred / pb.sqrt(variance) * gamma + beta

    x_bar, gamma_bar, beta_bar = back(norm, x, gamma, beta, bar=g)
    sigma = x.std(-1, keepdims=True)
    hat = (x - x.mean(-1, keepdims=True)) / sigma
    h = g * gamma
    same(x_bar, (h - h.mean(-1, keepdims=True) - hat * (h * hat).mean(-1, keepdims=True)) / sigma)
    same(gamma_bar, (g * hat).sum(0))
    same(beta_bar, g.sum(0))


def test_convolution_is_back_a_convolution_with_the_flipped_kernel():
    """y = w ⋆ x:  x̄ = ȳ * w (full), that is a correlation with the kernel flipped."""
    signal, kernel, bar = (random.normal(size=(1, 1, n)) for n in (8, 3, 6))
    signal_bar, kernel_bar = back(pb.conv1d, signal, kernel, bar=bar)
    same(signal_bar[0, 0], np.convolve(bar[0, 0], kernel[0, 0]))
    same(kernel_bar[0, 0], np.correlate(signal[0, 0], bar[0, 0]))


def test_attention_splits_between_queries_keys_and_values():
    """softmax(Q Kᵀ/√d) V: the three cotangents by hand."""
    Q, K, V, bar = (random.normal(size=(5, 4)) for _ in range(4))

    def attention(Q, K, V):
        return pb.softmax(Q @ K.T / 2.0) @ V

    Q_bar, K_bar, V_bar = back(attention, Q, K, V, bar=bar)
    scores = Q @ K.T / 2
    P = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    P_bar = bar @ V.T
    S_bar = (P_bar - (P_bar * P).sum(-1, keepdims=True)) * P
    same(V_bar, P.T @ bar)
    same(Q_bar, S_bar @ K / 2)
    same(K_bar, S_bar.T @ Q / 2)


@pytest.mark.parametrize("f", [pb.add, pb.exp, pb.tanh], ids=["add", "exp", "tanh"])
def test_cotangents_add_where_paths_merge(f):
    """∂L/∂x = Σ over paths; dropping one gives a gradient that is too small."""
    once = back(lambda x: f(x, 0.0) if f is pb.add else f(x), x, bar=g)[0]
    twice = back(lambda x: (f(x, 0.0) + f(x, 0.0)) if f is pb.add else f(x) + f(x), x, bar=g)[0]
    same(twice, 2 * once)
