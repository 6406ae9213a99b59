"""The worked examples of the textbooks, through `backprop`: every row, every number."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb

GENERATOR = np.random.default_rng(0)
W1 = GENERATOR.normal(size=(4, 3))
B1 = GENERATOR.normal(size=4)
W2 = GENERATOR.normal(size=(2, 4))
B2 = GENERATOR.normal(size=2)
X = GENERATOR.normal(size=3)
Y = GENERATOR.normal(size=2)
WEIGHTS = GENERATOR.normal(size=4)
JACOBIAN, U = GENERATOR.normal(size=(3, 3)), GENERATOR.normal(size=3)
BATCH, G = GENERATOR.normal(size=(5, 3)), GENERATOR.normal(size=(5, 4))


def sigma(z):
    return 1 / (1 + np.exp(-z))


def close(actual, expected):
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=1e-12, atol=1e-14)


# ---- two-layer network, sigmoid, L = ½‖y − ŷ‖² ----------------------------------------------


def sigmoid_network():
    x, y = X, Y

    def network(W1, b1, W2, b2):
        z1 = W1 @ x + b1
        h1 = pb.sigmoid(z1)
        z2 = W2 @ h1 + b2
        ŷ = pb.sigmoid(z2)
        return 0.5 * pb.sum((y - ŷ) ** 2)

    return pb.backprop(network, W1, B1, W2, B2)


def test_two_layer_sigmoid_network_prints_the_step_table(golden):
    golden("backprop_two_layer_sigmoid", sigmoid_network().table())


ROWS = {
    "ŷ": "δ_ŷ = ŷ − y",
    "z2": "δ_z2 = δ_ŷ ⊙ ŷ ⊙ (1 − ŷ)",
    "W2": "∂L/∂W2 = δ_z2 h1ᵀ",
    "b2": "∂L/∂b2 = δ_z2",
    "h1": "δ_h1 = W2ᵀ δ_z2",
    "z1": "δ_z1 = δ_h1 ⊙ h1 ⊙ (1 − h1)",
    "W1": "∂L/∂W1 = δ_z1 xᵀ",
    "b1": "∂L/∂b1 = δ_z1",
}


def test_two_layer_sigmoid_network_has_the_eight_rows_in_order():
    steps = sigmoid_network().steps
    assert [step.name for step in steps] == list(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_two_layer_sigmoid_network_row(name):
    step = sigmoid_network().step(name)
    assert f"{step.symbol} = {step.formula}" == ROWS[name]


def test_two_layer_sigmoid_network_numbers():
    record = sigmoid_network()
    h1 = sigma(W1 @ X + B1)
    ŷ = sigma(W2 @ h1 + B2)
    δ_ŷ = ŷ - Y
    δ_z2 = δ_ŷ * ŷ * (1 - ŷ)
    δ_h1 = W2.T @ δ_z2
    δ_z1 = δ_h1 * h1 * (1 - h1)
    for name, expected in {"ŷ": δ_ŷ, "z2": δ_z2, "h1": δ_h1, "z1": δ_z1, "L": 1.0}.items():
        close(record.delta(name), expected)
    for actual, expected in zip(
        record.grads, (np.outer(δ_z1, X), δ_z1, np.outer(δ_z2, h1), δ_z2), strict=True
    ):
        close(actual, expected)


def test_cached_values_are_those_of_the_forward_pass():
    depends = {s.name: list(map(str, s.depends)) for s in sigmoid_network().steps}
    assert depends["W2"] == ["δ_z2", "h1 (cached)"]
    assert depends["W1"] == ["δ_z1", "x"]
    assert depends["h1"] == ["W2", "δ_z2"]
    assert depends["b2"] == ["δ_z2"]
    assert depends["z2"] == ["δ_ŷ", "ŷ (cached)"]


# ---- (xy + y)², contributions at y ----------------------------------------------------------


def xy_plus_y_squared():
    def loss(x, y):
        u = x * y
        v = u + y
        return v**2

    return pb.backprop(loss, np.float64(2.0), np.float64(3.0))


def test_xy_plus_y_squared(golden):
    record = xy_plus_y_squared()
    golden("backprop_xy_plus_y_squared", record.table())
    x, y, v = 2.0, 3.0, 9.0
    close(record.delta("v"), 2 * v)
    close(record.delta("u"), 2 * v)
    close(record.grads[0], 2 * v * y)
    close(record.grads[1], 2 * v * (1 + x))


def test_xy_plus_y_squared_lists_both_contributions_to_y():
    parts = xy_plus_y_squared().step("y").contributions
    assert [(p.through, p.rule, float(p.value)) for p in parts] == [
        ("v", "δ_v", 18.0),
        ("u", "δ_u · x", 36.0),
    ]


def test_x_times_x_plus_y_squared(golden):
    def loss(x, y):
        a = x + y
        b = x * a
        return b**2

    x, y = 2.0, 3.0
    record = pb.backprop(loss, np.float64(x), np.float64(y))
    golden("backprop_x_times_x_plus_y_squared", record.table())
    close(record.grads[0], 2 * x * (x + y) * (2 * x + y))
    close(record.grads[1], 2 * x**2 * (x + y))
    parts = record.step("x").contributions
    assert [(p.through, p.rule) for p in parts] == [("b", "δ_b · a"), ("a", "δ_a")]


# ---- networks with ReLU and with an identity output -----------------------------------------


def test_two_layer_relu_network(golden):
    x, t = X, Y

    def network(W1, b1, W2, b2):
        z1 = W1 @ x + b1
        h = pb.relu(z1)
        y = W2 @ h + b2
        return 0.5 * pb.sum((y - t) ** 2)

    record = pb.backprop(network, W1, B1, W2, B2)
    golden("backprop_two_layer_relu", record.table())
    z1 = W1 @ X + B1
    h = np.maximum(z1, 0)
    δ_y = W2 @ h + B2 - Y
    δ_z1 = (W2.T @ δ_y) * (z1 > 0)
    close(record.delta("y"), δ_y)
    close(record.delta("h"), W2.T @ δ_y)
    close(record.delta("z1"), δ_z1)
    close(record.grads[0], np.outer(δ_z1, X))
    close(record.grads[2], np.outer(δ_y, h))
    assert record.step("y").formula == "y − t"
    assert record.step("z1").formula == "δ_h ⊙ [z1 > 0]"


def test_two_layer_network_with_identity_output(golden):
    x, y = X, Y

    def network(W1, b1, W2, b2):
        z1 = W1 @ x + b1
        a1 = pb.tanh(z1)
        z2 = W2 @ a1 + b2
        return 0.5 * pb.sum((z2 - y) ** 2)

    record = pb.backprop(network, W1, B1, W2, B2)
    golden("backprop_two_layer_identity", record.table())
    a1 = np.tanh(W1 @ X + B1)
    δ2 = W2 @ a1 + B2 - Y
    close(record.delta("z2"), δ2)
    close(record.delta("z1"), (W2.T @ δ2) * (1 - a1**2))


def test_affine_and_relu(golden):
    g = WEIGHTS

    def layer(W, b, x):
        z = W @ x + b
        a = pb.relu(z)
        return pb.sum(g * a)

    record = pb.backprop(layer, W1, B1, X)
    golden("backprop_affine_relu", record.table())
    δ = g * (W1 @ X + B1 > 0)
    close(record.delta("a"), g)
    close(record.delta("z"), δ)
    for actual, expected in zip(record.grads, (np.outer(δ, X), δ, W1.T @ δ), strict=True):
        close(actual, expected)
    assert [record.step(n).formula for n in ("W", "b", "x")] == ["δ_z xᵀ", "δ_z", "Wᵀ δ_z"]


def test_residual_merge_is_u_plus_Jt_u(golden):
    A, u = JACOBIAN, U

    def residual(x):
        F = pb.tanh(A @ x)
        h = x + F
        return pb.sum(u * h)

    record = pb.backprop(residual, X)
    golden("backprop_residual_merge", record.table())
    J = (1 - np.tanh(A @ X) ** 2)[:, None] * A
    close(record.delta("h"), u)
    close(record.grads, u + J.T @ u)
    identity, branch = record.step("x").contributions
    assert identity.through == "h"
    close(identity.value, u)
    close(branch.value, J.T @ u)


def test_batched_affine_sums_the_bias_over_the_batch(golden):
    def layer(W, b, X):
        Z = X @ W + b
        return pb.sum(G * Z)

    record = pb.backprop(layer, W1.T.copy(), B1, BATCH)
    golden("backprop_batched_affine", record.table())
    for actual, expected in zip(record.grads, (BATCH.T @ G, G.sum(0), G @ W1), strict=True):
        close(actual, expected)
    assert [record.step(n).formula for n in ("W", "b", "X")] == ["Xᵀ δ_Z", "Σ₀ δ_Z", "δ_Z Wᵀ"]
