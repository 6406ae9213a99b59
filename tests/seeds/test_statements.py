"""What the texts state of backpropagation as a whole: modes, flow, weights, batches, memory."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from pullback.ir.graph import needed_nodes

random = np.random.default_rng(3)


def same(actual, expected, rtol=1e-12):
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=1e-14)


# ---- Jacobians, and the two modes -----------------------------------------------------------


def f(x):
    return pb.stack([x[0] * x[1], pb.sin(x[2]), x[0] + x[2] ** 2, pb.exp(x[1])])


def test_vjp_and_jvp_are_products_with_the_jacobian():
    """vᵀJ and J u without the matrix."""
    x, u, v = random.normal(size=3), random.normal(size=3), random.normal(size=4)
    J = np.array([[x[1], x[0], 0], [0, 0, np.cos(x[2])], [1, 0, 2 * x[2]], [0, np.exp(x[1]), 0]])
    same(pb.jacobian(f)(x), J)
    same(pb.vjp(f, x)[1](v)[0], v @ J)
    same(pb.jvp(f, (x,), (u,))[1], J @ u)


def test_hessian_vector_product_without_the_hessian():
    """H v = ∇((∇L)ᵀ v), by forward over reverse and by reverse over reverse."""
    x, v = random.normal(size=5), random.normal(size=5)

    def loss(x):
        return pb.sum(pb.tanh(x) ** 2) + x[0] * x[1] * x[2]

    H = pb.hessian(loss)(x).numpy()
    same(H, H.T, rtol=1e-10)
    same(pb.hvp(loss, (x,), (v,)), H @ v, rtol=1e-10)
    same(pb.grad(lambda x: pb.sum(pb.grad(loss)(x) * v))(x), H @ v, rtol=1e-10)


def test_the_graph_is_recorded_in_topological_order():
    graph = pb.trace(lambda x: pb.sum(pb.tanh(x) * x), random.normal(size=3))
    made = set(graph.inputs)
    for node in graph.nodes:
        assert made.issuperset(node.inputs)
        made.update(node.outputs)


# ---- gradient flow --------------------------------------------------------------------------


@pytest.mark.parametrize("gain", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("depth", [1, 5, 20])
def test_deep_chain_scales_as_sigma_to_the_depth(gain, depth):
    """With W = gain · orthogonal at every layer, ‖∂L/∂h₀‖ = gainᴸ ‖∂L/∂h_L‖."""
    Q = np.linalg.qr(random.normal(size=(6, 6)))[0] * gain
    u = random.normal(size=6)

    def chain(h):
        for _ in range(depth):
            h = Q @ h
        return h

    h_bar = pb.vjp(chain, random.normal(size=6))[1](u)[0].numpy()
    same(np.linalg.norm(h_bar), gain**depth * np.linalg.norm(u), rtol=1e-10)


def test_sigmoid_chain_vanishes_at_least_as_fast_as_a_quarter():
    """Each sigmoid multiplies by at most ¼."""
    norms = []
    for depth in (1, 5, 10):

        def chain(h, depth=depth):
            for _ in range(depth):
                h = pb.sigmoid(h)
            return h

        norms.append(float(pb.grad(chain)(np.float64(0.3))))
        assert norms[-1] <= 0.25**depth
    assert norms[0] > norms[1] > norms[2] > 0


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_residual_stack_is_the_sum_over_its_paths(depth):
    """Π (I + Jₗ) expands into 2ᴸ products, one for each subset of the blocks."""
    Js = [random.normal(size=(3, 3)) for _ in range(depth)]
    u = random.normal(size=3)

    def stack(h):
        for J in Js:
            h = h + J @ h
        return h

    total, paths = np.zeros(3), 0
    for subset in range(2**depth):
        bar = u
        for layer in reversed(range(depth)):
            if subset >> layer & 1:
                bar = Js[layer].T @ bar
        total, paths = total + bar, paths + 1
    assert paths == 2**depth
    same(pb.vjp(stack, random.normal(size=3))[1](u)[0], total, rtol=1e-10)


def test_direct_path_survives_when_the_branches_are_dead():
    """The identity term carries the gradient whatever the branch does, at any depth."""
    u = random.normal(size=3)

    def stack(h):
        for _ in range(30):
            h = h + pb.relu(h * 0.0 - 1.0)
        return h

    same(pb.vjp(stack, random.normal(size=3))[1](u)[0], u)


def test_dead_relu_stays_dead_and_leaky_relu_does_not():
    x = -np.abs(random.normal(size=5)) - 0.1
    assert not pb.grad(lambda x: pb.sum(pb.relu(x)))(x).numpy().any()
    same(pb.grad(lambda x: pb.sum(pb.nn.leaky_relu(x)))(x), np.full(5, 0.01))


# ---- initialisation -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("xavier_uniform", lambda fan_in, fan_out: 2 / (fan_in + fan_out)),
        ("xavier_normal", lambda fan_in, fan_out: 2 / (fan_in + fan_out)),
        ("he_uniform", lambda fan_in, fan_out: 2 / fan_in),
        ("he_normal", lambda fan_in, fan_out: 2 / fan_in),
        ("lecun_normal", lambda fan_in, fan_out: 1 / fan_in),
    ],
)
def test_weight_variances(name, expected):
    """Var W = 2/(n_in + n_out) for Xavier, 2/n_in for He, 1/n_in for LeCun, on a real layer."""
    W = getattr(pb.nn.init, name)(pb.random.key(0), (300, 700)).numpy()  # (fan_out, fan_in)
    same(W.var(), expected(700, 300), rtol=0.02)
    assert abs(W.mean()) < 3 * np.sqrt(expected(700, 300) / W.size)


def test_he_keeps_the_scale_of_a_deep_relu_network():
    """n_in Var W = 2 makes up for the half that ReLU cuts; with LeCun the scale falls as 2⁻ᴸ."""
    x = random.normal(size=(256, 200))

    def second_moment(init):
        h = x
        for key in pb.random.split(pb.random.key(1), 10):
            h = pb.relu(h @ init(key, (200, 200)).T.astype(pb.float64))
        return float(pb.mean(h * h)) / float((x * x).mean())

    assert 0.3 < second_moment(pb.nn.init.he_normal) * 2 < 3  # the last ReLU halves it once more
    assert second_moment(pb.nn.init.lecun_normal) < 2.0**-8


# ---- batches --------------------------------------------------------------------------------


def model_loss(W, X, Y):
    return pb.mean((pb.tanh(X @ W) - Y) ** 2)


def test_the_gradient_of_a_batch_is_the_mean_over_its_examples():
    W, X, Y = random.normal(size=(3, 2)), random.normal(size=(8, 3)), random.normal(size=(8, 2))
    each = pb.vmap(pb.grad(model_loss), in_axes=(None, 0, 0))(W, X, Y)
    same(pb.grad(model_loss)(W, X, Y), each.numpy().mean(0))


@pytest.mark.parametrize("K", [2, 4])
def test_accumulating_micro_batches_is_one_large_batch(K):
    """K micro-batches, summed and divided by K, give the gradient of the K× batch."""
    W, X, Y = random.normal(size=(3, 2)), random.normal(size=(8, 3)), random.normal(size=(8, 2))
    parts = zip(np.split(X, K), np.split(Y, K), strict=True)
    total = sum(pb.grad(model_loss)(W, x, y).numpy() for x, y in parts)
    same(total / K, pb.grad(model_loss)(W, X, Y))


# ---- finite differences ---------------------------------------------------------------------


def test_backpropagation_is_exact_and_finite_differences_are_not():
    """One pass gives every derivative to rounding; differences err by O(h) and take P passes."""
    W, X, Y = random.normal(size=(3, 2)), random.normal(size=(8, 3)), random.normal(size=(8, 2))
    exact = pb.grad(model_loss)(W, X, Y).numpy()
    h, passes, approximate = 1e-6, 0, np.zeros_like(W)
    base = float(model_loss(W, X, Y))
    for place in np.ndindex(W.shape):
        moved = W.copy()
        moved[place] += h
        approximate[place] = (float(model_loss(moved, X, Y)) - base) / h
        passes += 1
    assert passes == W.size
    error = np.abs(approximate - exact).max()
    assert 1e-12 < error < 1e-5


# ---- what must be kept ----------------------------------------------------------------------


def test_checkpointing_recomputes_and_changes_nothing():
    """Recomputing a block in the backward pass gives the same bits, for one more forward pass."""
    W, x = random.normal(size=(6, 6)), random.normal(size=6)

    def block(h):
        return pb.tanh(W @ pb.tanh(W @ h))

    plain = pb.grad(lambda x: pb.sum(block(block(x))))(x)
    thrifty = pb.grad(lambda x: pb.sum(pb.checkpoint(block)(pb.checkpoint(block)(x))))(x)
    assert (plain.numpy() == thrifty.numpy()).all()


def test_forward_only_needs_no_nodes_of_the_backward():
    """The forward values do not depend on the gradient: without it the forward pass is left."""
    x = random.normal(size=3)
    both = pb.trace(pb.value_and_grad(lambda x: pb.sum(pb.tanh(x))), x)
    alone = pb.trace(lambda x: pb.sum(pb.tanh(x)), x)
    assert len(needed_nodes(both.nodes, both.outputs[:1])) == len(alone.nodes)


def test_straight_through_passes_the_gradient_of_the_soft_function():
    x = random.normal(size=4)
    hard = pb.grad(lambda x: pb.sum(pb.straight_through(pb.round(x), pb.sin(x))))(x)
    same(hard, np.cos(x))
    assert not pb.grad(lambda x: pb.sum(pb.round(x)))(x).numpy().any()
