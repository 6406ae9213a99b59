"""The worked examples, number by number."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import pullback as pb

random = np.random.default_rng(2)


def same(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-14)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


@pytest.mark.parametrize(("x", "y"), [(2.0, 3.0), (-1.5, 0.25), (0.0, 1.0)])
def test_scalar_graph_with_a_merge(x, y):
    """u = x y, v = u + y, L = v²:  ∂L/∂x = 2v y,  ∂L/∂y = 2v (1 + x)."""
    x_bar, y_bar = pb.grad(lambda x, y: (x * y + y) ** 2, argnums=(0, 1))(
        np.float64(x), np.float64(y)
    )
    v = y * (x + 1)
    same(x_bar, 2 * v * y)
    same(y_bar, 2 * v * (1 + x))


@pytest.mark.parametrize(("x", "y"), [(2.0, 3.0), (-1.5, 0.25)])
def test_direct_and_indirect_path(x, y):
    """a = x + y, b = x a, L = b²:  ∂L/∂x = 2x(x+y)(2x+y),  ∂L/∂y = 2x²(x+y)."""
    x_bar, y_bar = pb.grad(lambda x, y: (x * (x + y)) ** 2, argnums=(0, 1))(
        np.float64(x), np.float64(y)
    )
    same(x_bar, 2 * x * (x + y) * (2 * x + y))
    same(y_bar, 2 * x**2 * (x + y))


def test_two_layer_sigmoid_network_with_squared_error():
    """ŷ = σ(W₂ σ(W₁ x + b₁) + b₂), L = ½‖y − ŷ‖²: the eight rows of the step table."""
    W1, b1, W2, b2 = (random.normal(size=s) for s in ((4, 3), (4,), (2, 4), (2,)))
    x, y = random.normal(size=3), random.normal(size=2)

    def loss(W1, b1, W2, b2):
        h = pb.sigmoid(W1 @ x + b1)
        error = y - pb.sigmoid(W2 @ h + b2)
        return 0.5 * pb.sum(error * error)

    bars = pb.grad(loss, argnums=(0, 1, 2, 3))(W1, b1, W2, b2)
    z1 = W1 @ x + b1
    h1 = sigmoid(z1)
    z2 = W2 @ h1 + b2
    y_hat = sigmoid(z2)
    delta_out = y_hat - y
    delta2 = delta_out * sigmoid(z2) * (1 - sigmoid(z2))
    delta_h = W2.T @ delta2
    delta1 = delta_h * h1 * (1 - h1)
    for bar, expected in zip(
        bars, (np.outer(delta1, x), delta1, np.outer(delta2, h1), delta2), strict=True
    ):
        same(bar, expected)


def test_two_layer_relu_network():
    """h = ReLU(W₁x + b₁), y = W₂h + b₂, L = ½(y − t)²: the order of the five steps."""
    W1, b1, W2, b2 = (random.normal(size=s) for s in ((5, 3), (5,), (1, 5), (1,)))
    x, target = random.normal(size=3), random.normal(size=1)

    def loss(W1, b1, W2, b2):
        y = W2 @ pb.relu(W1 @ x + b1) + b2
        return 0.5 * pb.sum((y - target) ** 2)

    bars = pb.grad(loss, argnums=(0, 1, 2, 3))(W1, b1, W2, b2)
    z1 = W1 @ x + b1
    h = np.maximum(z1, 0)
    dy = W2 @ h + b2 - target
    dz1 = (W2.T @ dy) * (z1 > 0)
    for bar, expected in zip(bars, (np.outer(dz1, x), dz1, np.outer(dy, h), dy), strict=True):
        same(bar, expected)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_layer_recurrence(depth):
    """δˡ⁻¹ = ((Wˡ)ᵀ δˡ) ⊙ φ′(zˡ⁻¹),  W̄ˡ = δˡ (aˡ⁻¹)ᵀ, from δᴸ = aᴸ − y with an identity output."""
    sizes = [3, *[4] * depth, 2]
    layers = [
        (random.normal(size=(m, n)), random.normal(size=m)) for n, m in itertools.pairwise(sizes)
    ]
    x, y = random.normal(size=3), random.normal(size=2)

    def loss(layers):
        a = x
        for i, (W, b) in enumerate(layers):
            z = W @ a + b
            a = z if i == len(layers) - 1 else pb.tanh(z)
        return 0.5 * pb.sum((a - y) ** 2)

    bars = pb.grad(loss)(layers)
    activations, pre = [x], []
    for i, (W, b) in enumerate(layers):
        pre.append(W @ activations[-1] + b)
        activations.append(pre[-1] if i == depth else np.tanh(pre[-1]))
    delta = activations[-1] - y
    for i in reversed(range(depth + 1)):
        same(bars[i][0], np.outer(delta, activations[i]))
        same(bars[i][1], delta)
        if i:
            delta = (layers[i][0].T @ delta) * (1 - np.tanh(pre[i - 1]) ** 2)


def test_softmax_with_cross_entropy_gives_p_minus_y():
    """L = −Σ yᵢ log pᵢ with p = softmax(z):  z̄ = p − y, for one-hot and for soft labels."""
    z = random.normal(size=6)
    p = np.exp(z) / np.exp(z).sum()
    for labels in (np.eye(6)[2], random.dirichlet(np.ones(6))):
        same(pb.grad(lambda z, labels=labels: -pb.sum(labels * pb.log_softmax(z)))(z), p - labels)


def test_softmax_with_cross_entropy_over_a_batch():
    """The mean over the batch gives (p − one-hot)/B."""
    z, labels = random.normal(size=(5, 3)), np.array([0, 2, 1, 1, 0])
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    same(pb.grad(pb.nn.cross_entropy)(z, labels), (p - np.eye(3)[labels]) / 5)


def test_affine_then_relu():
    """δ = g ⊙ 𝟙[z > 0], then W̄ = δ xᵀ, b̄ = δ, x̄ = Wᵀ δ."""
    W, b, x, g = (random.normal(size=s) for s in ((4, 3), (4,), (3,), (4,)))
    W_bar, b_bar, x_bar = pb.vjp(lambda W, b, x: pb.relu(W @ x + b), W, b, x)[1](g)
    delta = g * (W @ x + b > 0)
    same(W_bar, np.outer(delta, x))
    same(b_bar, delta)
    same(x_bar, W.T @ delta)


def test_residual_merge():
    """h = x + F(x):  x̄ = u + J_Fᵀ u."""
    W, x, u = random.normal(size=(4, 4)), random.normal(size=4), random.normal(size=4)

    def F(x):
        return pb.tanh(W @ x)

    x_bar = pb.vjp(lambda x: x + F(x), x)[1](u)[0]
    J = pb.jacobian(F)(x).numpy()
    same(x_bar, u + J.T @ u)


def test_chain_of_functions():
    """∂(g∘f)/∂x = ∂g/∂f · ∂f/∂x, as a product of Jacobians."""
    x = random.normal(size=3)
    A, B = random.normal(size=(4, 3)), random.normal(size=(2, 4))

    def f(x):
        return pb.sin(A @ x)

    def g(h):
        return pb.exp(B @ h * 0.1)

    whole = pb.jacobian(lambda x: g(f(x)))(x).numpy()
    same(whole, pb.jacobian(g)(np.sin(A @ x)).numpy() @ pb.jacobian(f)(x).numpy())


def test_two_branches_from_one_value():
    """z = f(x), w = g(x):  x̄ = z̄ ∂z/∂x + w̄ ∂w/∂x."""
    x = random.normal(size=3)
    x_bar = pb.grad(lambda x: pb.sum(pb.sin(x) * pb.exp(x)))(x)
    same(x_bar, np.exp(x) * np.cos(x) + np.sin(x) * np.exp(x))
