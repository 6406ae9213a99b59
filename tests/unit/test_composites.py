"""Activations, losses, normalisation, attention: at the extremes, and against torch."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from pullback.errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError
from pullback.functions import activations, attention, losses, normalization

ACTIVATIONS = {
    "relu": activations.relu,
    "leaky_relu": activations.leaky_relu,
    "hard_tanh": activations.hard_tanh,
    "elu": activations.elu,
    "selu": activations.selu,
    "sigmoid": activations.sigmoid,
    "log_sigmoid": activations.log_sigmoid,
    "softplus": activations.softplus,
    "tanh": activations.tanh,
    "silu": activations.silu,
    "mish": activations.mish,
    "gelu": activations.gelu,
    "gelu_tanh": lambda x: activations.gelu(x, "tanh"),
}
rng = np.random.default_rng(0)
X = rng.standard_normal((4, 6))


def gradient(f, *args, argnums=0):
    return pb.grad(lambda *xs: pb.sum(f(*xs)), argnums)(*args)


# ---- at the extremes ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_finite(name, dtype):
    x = np.array([-1e4, -100, -30, -1, -0.0, 0.0, 1, 30, 100, 1e4], dtype)
    f = ACTIVATIONS[name]
    assert f(x).dtype == dtype
    for values in (f(x), gradient(f, x), gradient(lambda x: gradient(f, x), x)):
        assert np.isfinite(values.numpy()).all(), values


def test_smooth_activations_are_smooth_at_zero():
    zero = np.zeros(1)
    assert gradient(activations.softplus, zero).item() == 0.5
    curvature = gradient(lambda x: gradient(activations.softplus, x), zero)
    assert curvature.item() == 0.25


def test_gelu_keeps_its_left_tail():
    assert activations.gelu(np.float64(-20.0)).item() == pytest.approx(-20 * 2.7536241186062337e-89)
    with pytest.raises(ArgumentError, match="'none' or 'tanh'"):
        activations.gelu(X, "erf")


SOFTMAX = [
    ([1e4, 0.0, -1e4], [1, 0, 0]),
    ([-1e4, -1e4], [0.5, 0.5]),
    ([0.0, -np.inf, 0.0], [0.5, 0, 0.5]),
    ([-np.inf, -np.inf], [0, 0]),
]


@pytest.mark.parametrize(("x", "expected"), SOFTMAX, ids=str)
def test_softmax_at_the_extremes(x, expected):
    x = np.array(x)
    np.testing.assert_allclose(activations.softmax(x).numpy(), expected)
    weights = np.arange(len(x)) + 1.0
    inner = gradient(lambda x: activations.softmax(x) * weights, x).numpy()
    y = np.array(expected)
    np.testing.assert_allclose(inner, (weights - weights @ y) * y, atol=1e-300)
    finite = np.isfinite(x)
    logs = activations.log_softmax(x).numpy()
    if finite.any():
        np.testing.assert_allclose(logs[finite], x[finite] - np.logaddexp.reduce(x))
    assert np.isfinite(gradient(activations.log_softmax, x).numpy()).all()


def test_softmax_mask():
    mask = np.array([[True, False, True], [False, False, False]])
    x = X[:2, :3]
    out = activations.softmax(x, where=mask).numpy()
    kept = np.exp(x[0, ::2])
    np.testing.assert_allclose(out[0, ::2], kept / kept.sum())
    assert out[0, 1] == 0.0
    np.testing.assert_array_equal(out[1], 0.0)
    pulled = gradient(lambda x: activations.softmax(x, where=mask) * x, x).numpy()
    assert np.isfinite(pulled).all()
    np.testing.assert_array_equal(pulled[1], 0.0)


def test_softmax_backward_is_the_textbook_formula():
    bar = rng.standard_normal(X.shape)
    y, pullback = pb.vjp(activations.softmax, X)
    y = y.numpy()
    expected = (bar - (bar * y).sum(-1, keepdims=True)) * y
    np.testing.assert_allclose(pullback(bar)[0].numpy(), expected, rtol=1e-12, atol=1e-16)


def test_softmax_cross_entropy_gradient_is_p_minus_y():
    labels = np.array([0, 5, 2, 2])
    p = activations.softmax(X).numpy()
    expected = (p - np.eye(6)[labels]) / len(X)
    ours = pb.grad(losses.cross_entropy)(X, labels).numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-16)
    soft = pb.grad(losses.cross_entropy)(X, np.eye(6)[labels]).numpy()
    np.testing.assert_allclose(soft, expected, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("logit", [-1e3, -40.0, 0.0, 40.0, 1e3])
@pytest.mark.parametrize("target", [0.0, 0.3, 1.0])
def test_binary_cross_entropy_at_the_extremes(logit, target):
    x = np.float64(logit)
    f = losses.binary_cross_entropy_with_logits
    exact = target * np.logaddexp(0, -x) + (1 - target) * np.logaddexp(0, x)
    np.testing.assert_allclose(f(x, target).item(), exact, rtol=1e-14)
    small = np.exp(-abs(x)) / (1 + np.exp(-abs(x)))
    sigma, other = (small, 1 - small) if x < 0 else (1 - small, small)
    slope = pb.grad(f)(x, np.float64(target)).item()
    np.testing.assert_allclose(slope, (1 - target) * sigma - target * other, rtol=1e-13)


def test_huber_kink():
    e = np.array([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0])
    f = lambda e: losses.huber(e, np.zeros(7), reduction="none")
    np.testing.assert_allclose(f(e).numpy(), [2.5, 0.5, 0.125, 0, 0.125, 0.5, 2.5])
    np.testing.assert_allclose(gradient(f, e).numpy(), np.clip(e, -1, 1))
    second = gradient(lambda e: gradient(f, e), np.array([-3.0, -0.5, 0.0, 0.5, 3.0, 0.1, 9.0]))
    np.testing.assert_allclose(second.numpy(), [0, 1, 1, 1, 0, 1, 0])


# ---- losses: labels, reductions, errors -----------------------------------------------------


def test_reductions_of_a_loss():
    targets = np.zeros_like(X)
    each = losses.mse(X, targets, reduction="none").numpy()
    np.testing.assert_allclose(each, X**2)
    assert losses.mse(X, targets).item() == pytest.approx(each.mean())
    assert losses.mse(X, targets, reduction="sum").item() == pytest.approx(each.sum())
    with pytest.raises(ArgumentError, match="'mean', 'sum' or 'none'"):
        losses.mse(X, targets, reduction="average")


def test_ignored_labels_count_nothing():
    labels = np.array([0, -100, 2, -100])
    ours = losses.cross_entropy(X, labels, ignore_index=-100)
    assert ours.item() == pytest.approx(losses.cross_entropy(X[::2], labels[::2]).item())
    pulled = gradient(lambda x: losses.cross_entropy(x, labels, ignore_index=-100), X).numpy()
    np.testing.assert_array_equal(pulled[1::2], 0.0)
    nothing = np.full(4, -100)
    assert losses.cross_entropy(X, nothing, ignore_index=-100).item() == 0.0


def test_micro_batches_of_sums_are_one_batch():
    labels = np.array([0, 5, 2, 2])
    whole = losses.cross_entropy(X, labels).item()
    parts = sum(losses.cross_entropy(X[i : i + 2], labels[i : i + 2]).item() for i in (0, 2))
    assert parts / 2 == pytest.approx(whole)


def test_errors_of_losses():
    with pytest.raises(OutOfRangeError, match=r"label 6 at \(1,\) is none of the 6 classes 0 … 5"):
        losses.cross_entropy(X, np.array([0, 6, 1, 1]))
    with pytest.raises(OutOfRangeError, match="ignore_index"):
        losses.cross_entropy(X, np.array([0, -100, 1, 1]))
    with pytest.raises(ShapeError, match="do not fit logits"):
        losses.cross_entropy(X, np.array([[0], [1], [2], [3]]))
    with pytest.raises(DTypeError, match="integers or probabilities"):
        losses.cross_entropy(X, np.array([True, False, True, True]))
    with pytest.raises(ShapeError, match=r"predictions\[..., 0\]"):
        losses.mse(np.zeros((4, 1)), np.zeros(4))
    with pytest.raises(ShapeError, match=r"targets\[..., 0\]"):
        losses.mae(np.zeros(4), np.zeros((4, 1)))
    with pytest.raises(ShapeError, match="broadcasts nothing"):
        losses.huber(np.zeros((4, 3)), np.zeros(3))
    with pytest.raises(ShapeError, match="weights"):
        losses.cross_entropy(X, np.array([0, 1, 2, 3]), weights=np.ones(5))


def test_labels_are_checked_inside_a_trace_too():
    with pytest.raises(OutOfRangeError):
        pb.vmap(losses.cross_entropy)(X[:, None], np.array([[0], [6], [1], [1]]))


# ---- normalisation --------------------------------------------------------------------------


def test_layer_norm_gradient_by_finite_differences():
    pb_loss = lambda x, w, b: pb.sum(normalization.layer_norm(x, w, b) * weights)
    weights = rng.standard_normal(X.shape)
    args = [X, rng.standard_normal(6), rng.standard_normal(6)]
    pulled = pb.grad(pb_loss, argnums=(0, 1, 2))(*args)
    for i, bar in enumerate(pulled):
        for place in np.ndindex(args[i].shape):
            step = np.zeros_like(args[i])
            step[place] = 1e-5
            ends = [
                pb_loss(*[x + s * step if j == i else x for j, x in enumerate(args)]).item()
                for s in (-1, 1)
            ]
            assert bar.numpy()[place] == pytest.approx((ends[1] - ends[0]) / 2e-5, abs=1e-8)


def test_constant_rows_normalise_to_zero():
    for f in (normalization.layer_norm, normalization.rms_norm):
        assert np.isfinite(gradient(f, np.zeros((2, 3))).numpy()).all()
    np.testing.assert_array_equal(normalization.layer_norm(np.ones((2, 3))).numpy(), 0.0)


def test_half_precision_statistics_are_in_float32():
    x = np.full((2, 8), 300.0, np.float16)
    out = normalization.rms_norm(x)
    assert out.dtype == pb.float16
    np.testing.assert_array_equal(out.numpy(), 1.0)


def test_errors_of_normalisation():
    with pytest.raises(ShapeError, match="weight"):
        normalization.layer_norm(X, np.ones(4))
    with pytest.raises(ShapeError, match="equal groups"):
        normalization.group_norm(X, 4)
    with pytest.raises(ShapeError, match="axis 0 is the batch"):
        normalization.channel_moments(X, axis=0)


def test_derivatives_of_moments_are_those_of_the_plain_formula():
    """Of the first and the second order, forward and backward."""
    rng = np.random.default_rng(3)
    x, direction = rng.standard_normal((2, 4, 3, 5, 2))
    bar = rng.standard_normal((4, 3, 5, 2))

    def plain(x):
        centered = x - pb.mean(x, axis=(0, 2, 3), keepdims=True)
        variance = pb.mean(centered * centered, axis=(0, 2, 3), keepdims=True)
        return centered / pb.sqrt(variance + 1e-5)

    def normed(x):
        return normalization.batch_norm(x, *normalization.channel_moments(x))

    def loss(f):
        return lambda x: pb.sum(pb.tanh(f(x)) * bar)

    for derivative in (
        lambda f: pb.grad(f)(x),
        lambda f: pb.jvp(f, (x,), (direction,))[1],
        lambda f: pb.hvp(f, (x,), (direction,))[0],
    ):
        found, wanted = (derivative(loss(f)).numpy() for f in (normed, plain))
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


# ---- attention ------------------------------------------------------------------------------


def heads(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


Q, K, V = heads(2, 4, 5, 3), heads(2, 4, 5, 3, seed=1), heads(2, 4, 5, 6, seed=2)


def plain_attention(q, k, v, seen):
    scores = np.einsum("...td,...sd->...ts", q, k) / np.sqrt(q.shape[-1])
    scores = np.where(seen, scores, -np.inf)
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True) @ v


@pytest.mark.parametrize("window", [None, 1, (2, 0), (0, 1)], ids=str)
@pytest.mark.parametrize("causal", [False, True])
def test_attention_sees_what_it_may(causal, window):
    i, j = np.indices((5, 5))
    left, right = (window, window) if isinstance(window, int) else window or (9, 9)
    seen = (j >= i - left) & (j <= i + right) & ((j <= i) | (not causal))
    ours = attention.attention(Q, K, V, causal=causal, window=window).numpy()
    np.testing.assert_allclose(ours, plain_attention(Q, K, V, seen), rtol=1e-12)
    mask = attention.attention(Q, K, V, mask=seen).numpy()
    np.testing.assert_allclose(mask, ours, rtol=1e-14)
    bias = attention.attention(Q, K, V, bias=np.where(seen, 0.0, -np.inf)).numpy()
    np.testing.assert_allclose(bias, ours, rtol=1e-14)


def test_a_query_that_sees_nothing_gives_zero():
    mask = np.ones((5, 5), bool)
    mask[2] = False
    out, pullback = pb.vjp(lambda q, k, v: attention.attention(q, k, v, mask), Q, K, V)
    np.testing.assert_array_equal(out.numpy()[..., 2, :], 0.0)
    for bar in pullback(out):
        assert np.isfinite(bar.numpy()).all()
    np.testing.assert_array_equal(pullback(out)[0].numpy()[..., 2, :], 0.0)


def test_cached_keys():
    whole = attention.attention(Q, K, V, causal=True).numpy()
    last = attention.attention(Q[..., -2:, :], K, V, causal=True).numpy()
    np.testing.assert_allclose(last, whole[..., -2:, :], rtol=1e-13)


def test_grouped_heads_and_one_head():
    k, v = K[:, :2], V[:, :2]
    ours = attention.attention(Q, k, v).numpy()
    repeated = attention.attention(Q, np.repeat(k, 2, axis=1), np.repeat(v, 2, axis=1)).numpy()
    np.testing.assert_allclose(ours, repeated, rtol=1e-13)
    one = attention.attention(Q[0, 0], K[0, 0], V[0, 0], causal=True).numpy()
    np.testing.assert_allclose(
        one, attention.attention(Q, K, V, causal=True).numpy()[0, 0], rtol=1e-13
    )


def test_softcap_bounds_the_scores():
    capped = attention.attention(Q * 1e4, K, V, softcap=5.0)
    scores = 5 * np.tanh(np.einsum("...td,...sd->...ts", Q * 1e4, K) / np.sqrt(3) / 5)
    powers = np.exp(scores)
    np.testing.assert_allclose(capped.numpy(), powers / powers.sum(-1, keepdims=True) @ V)


def test_errors_of_attention():
    with pytest.raises(ShapeError, match="size of a head"):
        attention.attention(Q, V, V)
    with pytest.raises(ShapeError, match="evenly"):
        attention.attention(Q, K[:, :3], V[:, :3])
    with pytest.raises(DTypeError, match="bias="):
        attention.attention(Q, K, V, mask=np.zeros((5, 5)))
    with pytest.raises(ShapeError, match="larger than the scores"):
        attention.attention(Q, K, V, mask=np.ones((7, 2, 4, 5, 5), bool))


# ---- against torch --------------------------------------------------------------------------


def torch_cases():
    labels = np.array([0, 5, 2, 2])
    probabilities = np.abs(X) / np.abs(X).sum(-1, keepdims=True)
    binary = (X > 0.3).astype(np.float64)
    other = rng.standard_normal(X.shape)
    weights = np.abs(rng.standard_normal(6)) + 0.1
    image = rng.standard_normal((2, 4, 3, 3))
    gain, shift = rng.standard_normal(4), rng.standard_normal(4)
    row_gain, row_shift = rng.standard_normal(6), rng.standard_normal(6)
    names = {
        "hard_tanh": "hardtanh",
        "log_sigmoid": "logsigmoid",
        "sigmoid": "sigmoid",
        "tanh": "tanh",
    }
    for name, ours in ACTIVATIONS.items():
        if name == "gelu_tanh":
            yield name, ours, lambda F, x: F.gelu(x, approximate="tanh"), (X,)
        else:
            theirs = names.get(name, name)
            yield name, ours, lambda F, x, name=theirs: getattr(F, name)(x), (X,)
    yield "softmax", activations.softmax, lambda F, x: F.softmax(x, -1), (X,)
    yield "log_softmax", activations.log_softmax, lambda F, x: F.log_softmax(x, -1), (X,)
    yield "mse", losses.mse, lambda F, x, y: F.mse_loss(x, y), (X, other)
    yield "mae", losses.mae, lambda F, x, y: F.l1_loss(x, y), (X, other)
    yield (
        "huber",
        lambda x, y: losses.huber(x, y, 0.7),
        lambda F, x, y: F.huber_loss(x, y, delta=0.7),
        (X, other),
    )
    for reduction in ("mean", "sum", "none"):
        for smoothing in (0.0, 0.1):
            yield (
                f"cross_entropy-{reduction}-{smoothing}",
                lambda x, r=reduction, s=smoothing: losses.cross_entropy(
                    x, labels, weights=weights, label_smoothing=s, reduction=r, ignore_index=5
                ),
                lambda F, x, r=reduction, s=smoothing: F.cross_entropy(
                    x,
                    F.labels(labels),
                    F.labels(weights),
                    label_smoothing=s,
                    reduction=r,
                    ignore_index=5,
                ),
                (X,),
            )
    yield (
        "cross_entropy-soft",
        lambda x, y: losses.cross_entropy(x, y, weights=weights, label_smoothing=0.2),
        lambda F, x, y: F.cross_entropy(x, y, F.labels(weights), label_smoothing=0.2),
        (X, probabilities),
    )
    yield (
        "binary_cross_entropy",
        lambda x, y: losses.binary_cross_entropy_with_logits(x, y, positive_weight=3.0),
        lambda F, x, y: F.binary_cross_entropy_with_logits(
            x, y, pos_weight=F.labels(np.float64(3.0))
        ),
        (X, binary),
    )
    yield (
        "kl_divergence",
        losses.kl_divergence,
        lambda F, x, y: F.kl_div(F.log_softmax(x, -1), y, reduction="batchmean"),
        (X, probabilities),
    )
    yield "focal", lambda x: losses.focal(x, binary), lambda F, x: focal(F, x, binary), (X,)
    yield (
        "layer_norm",
        normalization.layer_norm,
        lambda F, x, w, b: F.layer_norm(x, (6,), w, b),
        (X, row_gain, row_shift),
    )
    yield (
        "rms_norm",
        normalization.rms_norm,
        lambda F, x, w: F.rms_norm(x, (6,), w, 1e-6),
        (X, row_gain),
    )
    yield (
        "group_norm",
        lambda x, w, b: normalization.group_norm(x, 2, w, b),
        lambda F, x, w, b: F.group_norm(x, 2, w, b),
        (image, gain, shift),
    )
    yield (
        "batch_norm",
        lambda x, w, b: normalization.batch_norm(x, *normalization.channel_moments(x), w, b),
        lambda F, x, w, b: F.batch_norm(x, None, None, w, b, training=True),
        (image, gain, shift),
    )
    yield (
        "attention",
        lambda q, k, v: attention.attention(q, k, v, causal=True),
        lambda F, q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        (Q, K, V),
    )
    yield (
        "attention-grouped",
        lambda q, k, v: attention.attention(q, k, v, scale=0.3),
        lambda F, q, k, v: F.scaled_dot_product_attention(q, k, v, scale=0.3, enable_gqa=True),
        (Q, K[:, :2].copy(), V[:, :2].copy()),
    )


def focal(F, x, y):
    """torchvision's `sigmoid_focal_loss`, which is not part of torch."""
    y = F.labels(y)
    p = F.sigmoid(x)
    loss = F.binary_cross_entropy_with_logits(x, y, reduction="none")
    right = p * y + (1 - p) * (1 - y)
    return (loss * (1 - right) ** 2 * (0.25 * y + 0.75 * (1 - y))).mean()


CASES = {name: case for name, *case in torch_cases()}


@pytest.mark.parametrize("name", CASES)
def test_torch(name):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    functional.labels = torch.as_tensor
    ours, theirs, args = CASES[name]
    leaves = [torch.tensor(x, requires_grad=True) for x in args]
    expected = theirs(functional, *leaves)
    bar = np.random.default_rng(5).standard_normal(tuple(expected.shape))
    expected.backward(torch.tensor(bar).reshape(expected.shape))
    value, pullback = pb.vjp(ours, *args)
    np.testing.assert_allclose(value.numpy(), expected.detach().numpy(), rtol=1e-10, atol=1e-13)
    for pulled, leaf in zip(pullback(np.asarray(bar)), leaves, strict=True):
        np.testing.assert_allclose(pulled.numpy(), leaf.grad.numpy(), rtol=1e-10, atol=1e-12)
