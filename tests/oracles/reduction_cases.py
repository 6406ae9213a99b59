"""Reductions, running reductions, order."""

from __future__ import annotations

import numpy as np

from oracles.case import Case
from pullback.ir.samples import distinct, normal, positive

X = normal(3, 4)
CUBE = normal(2, 3, 4)
D = distinct(3, 4)
P = positive(3, 4)
ZERO = np.array([[2.0, 0.0, 3.0], [1.0, 5.0, 4.0], [0.0, 0.0, 7.0]])

CASES = [
    Case("sum", (X,), lambda m, x: m.sum(x)),
    Case("sum over an axis", (CUBE,), lambda m, x: m.sum(x, axis=1)),
    Case("sum over two axes", (CUBE,), lambda m, x: m.sum(x, axis=(0, 2), keepdims=True)),
    Case("mean", (X,), lambda m, x: m.mean(x)),
    Case("mean over an axis", (CUBE,), lambda m, x: m.mean(x, axis=-1, keepdims=True)),
    Case("prod", (P,), lambda m, x: m.prod(x)),
    Case("prod over an axis", (CUBE,), lambda m, x: m.prod(x, axis=1)),
    Case("prod with zeros", (ZERO,), lambda m, x: m.prod(x, axis=1)),
    Case("max", (D,), lambda m, x: m.max(x)),
    Case("max over an axis", (D,), lambda m, x: m.max(x, axis=1)),
    Case("min over an axis", (D,), lambda m, x: m.min(x, axis=0, keepdims=True)),
    Case("var", (X,), lambda m, x: m.var(x)),
    Case("var, unbiased", (X,), lambda m, x: m.var(x, axis=1, correction=1)),
    Case("std", (X,), lambda m, x: m.std(x)),
    Case("std over an axis", (CUBE,), lambda m, x: m.std(x, axis=2, keepdims=True)),
    Case("logsumexp", (X,), lambda m, x: m.logsumexp(x, axis=1)),
    Case("logsumexp of large", (1e4 * X,), lambda m, x: m.logsumexp(x, axis=0)),
    Case("count_nonzero", (ZERO,), lambda m, x: m.count_nonzero(x), values_only="counts"),
    Case("argmax", (D,), lambda m, x: m.argmax(x, axis=1), values_only="indices"),
    Case("argmin", (D,), lambda m, x: m.argmin(x, axis=0), values_only="indices"),
    Case("any", (ZERO > 4,), lambda m, x: m.any(x, axis=1), values_only="truths"),
    Case("all", (ZERO > 0,), lambda m, x: m.all(x, axis=1), values_only="truths"),
    # norms
    Case(
        "norm 2",
        (X,),
        lambda m, x: m.linalg.vector_norm(x),
    ),
    Case("norm 1", (X,), lambda m, x: m.linalg.vector_norm(x, axis=1, ord=1)),
    Case("norm 3", (X,), lambda m, x: m.linalg.vector_norm(x, axis=1, ord=3)),
    Case("norm ∞", (D,), lambda m, x: m.linalg.vector_norm(x, axis=1, ord=float("inf"))),
    Case("norm -∞", (D,), lambda m, x: m.linalg.vector_norm(x, axis=1, ord=-float("inf"))),
    Case("frobenius norm", (CUBE,), lambda m, x: m.linalg.matrix_norm(x)),
    # running
    Case("cumulative_sum", (CUBE,), lambda m, x: m.cumulative_sum(x, axis=1)),
    Case("cumulative_prod", (CUBE,), lambda m, x: m.cumulative_prod(x, axis=2)),
    Case("cumulative_prod with zeros", (ZERO,), lambda m, x: m.cumulative_prod(x, axis=1)),
    Case("cumulative_max", (D,), lambda m, x: m.cumulative_max(x, axis=1)),
    Case("cumulative_min", (D,), lambda m, x: m.cumulative_min(x, axis=0)),
    Case("cumulative_logsumexp", (X,), lambda m, x: m.cumulative_logsumexp(x, axis=1)),
    # order
    Case("sort", (D,), lambda m, x: m.sort(x, axis=1)),
    Case("sort, descending", (D,), lambda m, x: m.sort(x, axis=0, descending=True)),
    Case("argsort", (D,), lambda m, x: m.argsort(x, axis=1), values_only="indices"),
    Case(
        "top_k",
        (D,),
        lambda m, x: m.top_k(x, 2)[0],
        torch=lambda t, x: t.topk(x, 2).values,
        jax=lambda j, x: j.lax.top_k(x, 2)[0],
    ),
    Case(
        "median of odd",
        (distinct(3, 5),),
        lambda m, x: m.median(x, axis=1),
        torch=lambda t, x: t.median(x, 1).values,
    ),
    Case(
        "median of even",
        (D,),
        lambda m, x: m.median(x, axis=1),
        torch=lambda t, x: t.quantile(x, 0.5, 1),
    ),
    Case("quantile", (D,), lambda m, x: m.quantile(x, 0.3, axis=1)),
    # compositions
    Case("softmax by hand", (X,), lambda m, x: m.exp(x) / m.sum(m.exp(x), axis=1, keepdims=True)),
    Case(
        "standardised",
        (X,),
        lambda m, x: (x - m.mean(x, axis=1, keepdims=True)) / m.std(x, axis=1, keepdims=True),
    ),
    Case("entropy", (P,), lambda m, p: -m.sum(p * m.log(p))),
    Case("sum of squares, squared", (X,), lambda m, x: m.sum(x * x) ** 2),
]
