"""Activations, losses, normalisations and small networks."""

from __future__ import annotations

import numpy as np

import pullback as pb
from oracles.case import Case
from pullback.ir.samples import normal, positive

X = normal(3, 4)
LOGITS = normal(5, 4)
CLASSES = np.array([1, 3, 0, 0, 2])
TARGETS = (normal(5, 4, seed=7) > 0).astype(np.float64)
PROBABILITIES = positive(5, 4) / positive(5, 4).sum(axis=1, keepdims=True)
W1, B1 = normal(4, 6, seed=1), normal(6, seed=2)
W2, B2 = normal(6, 3, seed=3), normal(3, seed=4)
Q, K, V = normal(2, 3, 4), normal(2, 5, 4, seed=1), normal(2, 5, 4, seed=2)
SEQUENCE = normal(6, 3)
GATES_X, GATES_H = normal(3, 12, seed=5), normal(4, 12, seed=6) * 0.5


def _activation(name: str, **options):
    return Case(
        f"nn.{name}",
        (X,),
        lambda m, x: getattr(pb.nn, name)(x, **options),
        torch=lambda t, x: getattr(t.nn.functional, name)(x, **options),
        jax=lambda j, x: getattr(j.nn, name)(x, **options),
    )


def _loss(name: str, arguments, torch, jax):
    return Case(name, arguments, lambda m, *a: getattr(pb.nn, name)(*a), torch=torch, jax=jax)


def attention(m, q, k, v):
    scores = q @ m.matrix_transpose(k) * 0.5
    powers = m.exp(scores - m.max(scores, axis=-1, keepdims=True))
    return powers / m.sum(powers, axis=-1, keepdims=True) @ v


def layer_norm(m, x, gain, bias):
    centred = x - m.mean(x, axis=-1, keepdims=True)
    return centred / m.sqrt(m.mean(centred**2, axis=-1, keepdims=True) + 1e-5) * gain + bias


def rms_norm(m, x, gain):
    return x / m.sqrt(m.mean(x * x, axis=-1, keepdims=True) + 1e-6) * gain


def batch_norm(m, x, gain, bias):
    return (x - m.mean(x, axis=0)) / m.sqrt(m.var(x, axis=0) + 1e-5) * gain + bias


def perceptron(m, x, w1, b1, w2, b2):
    return m.sigmoid(m.sigmoid(x @ w1 + b1) @ w2 + b2)


def relu_network(m, x, w1, b1, w2, b2):
    return m.maximum(x @ w1 + b1, x[:, :1] * 0.0) @ w2 + b2


def residual(m, x, w):
    return x + m.tanh(x @ w)


def rnn(m, xs, w, u):
    h = m.tanh(xs[0] @ w)
    for i in range(1, xs.shape[0]):
        h = m.tanh(xs[i] @ w + h @ u)
    return h


def lstm(m, xs, w, u):
    h = c = 0.0 * (xs[0] @ w)[:4]
    for i in range(xs.shape[0]):
        z = xs[i] @ w + h @ u
        keep, take, give = m.sigmoid(z[:4]), m.sigmoid(z[4:8]), m.sigmoid(z[8:])
        c = keep * c + take * m.tanh(z[:4] + z[8:])
        h = give * m.tanh(c)
    return h


def cross_entropy_by_hand(m, z, y):
    return m.mean(m.logsumexp(z, axis=1) - m.sum(z * y, axis=1))


CASES = [
    _activation("relu"),
    Case(
        "leaky_relu",
        (X,),
        lambda m, x: pb.nn.leaky_relu(x, 0.1),
        torch=lambda t, x: t.nn.functional.leaky_relu(x, 0.1),
        jax=lambda j, x: j.nn.leaky_relu(x, 0.1),
    ),
    _activation("elu"),
    _activation("selu"),
    _activation("silu"),
    _activation("sigmoid"),
    _activation("softplus"),
    Case(
        "gelu",
        (X,),
        lambda m, x: pb.nn.gelu(x),
        torch=lambda t, x: t.nn.functional.gelu(x),
        jax=lambda j, x: j.nn.gelu(x, approximate=False),
    ),
    Case(
        "gelu by tanh",
        (X,),
        lambda m, x: pb.nn.gelu(x, approximate="tanh"),
        torch=lambda t, x: t.nn.functional.gelu(x, approximate="tanh"),
        jax=lambda j, x: j.nn.gelu(x, approximate=True),
    ),
    Case(
        "softplus far out",
        (200 * X,),
        lambda m, x: pb.nn.softplus(x),
        torch=lambda t, x: t.logaddexp(x, t.zeros_like(x)),
        jax=lambda j, x: j.nn.softplus(x),
    ),
    Case("softmax", (X,), lambda m, x: m.softmax(x, axis=1)),
    Case("softmax of ±10⁴", (1e4 * X,), lambda m, x: m.softmax(x, axis=1)),
    Case("log_softmax", (X,), lambda m, x: m.log_softmax(x, axis=1)),
    Case("log_softmax of ±10⁴", (1e4 * X,), lambda m, x: m.log_softmax(x, axis=1)),
    # losses
    _loss(
        "mse",
        (LOGITS, TARGETS),
        lambda t, x, y: t.nn.functional.mse_loss(x, y),
        lambda j, x, y: j.numpy.mean((x - y) ** 2),
    ),
    _loss(
        "mae",
        (LOGITS, TARGETS),
        lambda t, x, y: t.nn.functional.l1_loss(x, y),
        lambda j, x, y: j.numpy.mean(abs(x - y)),
    ),
    _loss(
        "huber",
        (2 * LOGITS, TARGETS),
        lambda t, x, y: t.nn.functional.huber_loss(x, y),
        lambda j, x, y: j.numpy.mean(
            j.numpy.where(abs(x - y) <= 1, 0.5 * (x - y) ** 2, abs(x - y) - 0.5)
        ),
    ),
    _loss(
        "cross_entropy",
        (LOGITS, CLASSES),
        lambda t, z, i: t.nn.functional.cross_entropy(z, i),
        lambda j, z, i: -j.numpy.mean(j.nn.log_softmax(z)[j.numpy.arange(5), i]),
    ),
    _loss(
        "binary_cross_entropy_with_logits",
        (20 * LOGITS, TARGETS),
        lambda t, z, y: t.nn.functional.binary_cross_entropy_with_logits(z, y),
        lambda j, z, y: j.numpy.mean(j.numpy.logaddexp(0.0, z) - z * y),
    ),
    Case("cross-entropy by hand", (LOGITS, PROBABILITIES), cross_entropy_by_hand),
    Case(
        "kl by hand",
        (LOGITS, PROBABILITIES),
        lambda m, z, p: m.sum(p * (m.log(p) - z + m.logsumexp(z, axis=1, keepdims=True))),
    ),
    # blocks
    Case("attention", (Q, K, V), attention),
    Case("layer norm", (X, X[0], X[1]), layer_norm),
    Case("rms norm", (X, X[0]), rms_norm),
    Case("batch norm", (X, X[0], X[1]), batch_norm),
    Case("two sigmoid layers", (X, W1, B1, W2, B2), perceptron),
    Case("two relu layers", (X, W1, B1, W2, B2), relu_network),
    Case("residual block", (X, normal(4, 4)), residual),
    Case("rnn unrolled", (SEQUENCE, normal(3, 4), normal(4, 4)), rnn),
    Case("lstm unrolled", (SEQUENCE, GATES_X, GATES_H), lstm),
    Case("batched affine", (X, W1, B1), lambda m, x, w, b: x @ w + b),
    Case("self-attention", (Q,), lambda m, x: attention(m, x, x, x)),
]
