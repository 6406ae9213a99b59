"""Products, convolutions, pooling, linear algebra."""

from __future__ import annotations

import numpy as np

from oracles.case import Case
from pullback.functions import convolution, pooling
from pullback.ir.samples import distinct, normal

A, B = normal(3, 4), normal(4, 2, seed=1)
V, W = normal(4, seed=2), normal(4, seed=3)
BATCH, OTHER = normal(2, 3, 4), normal(2, 4, 5, seed=1)
SQUARE = normal(3, 3) + 3 * np.eye(3)
SQUARES = normal(2, 3, 3) + 3 * np.eye(3)
POSITIVE = SQUARE @ SQUARE.T
RIGHT = normal(3, 2, seed=4)

EINSUMS = {
    "ij,jk->ik": (A, B),
    "ij,kj->ik": (A, BATCH[0]),
    "bij,bjk->bik": (BATCH, OTHER),
    "bij,bjk->ikb": (BATCH, OTHER),
    "i,i->": (V, W),
    "i,j->ij": (V, W),
    "ij->ji": (A,),
    "ij->": (A,),
    "ij->i": (A,),
    "ii->i": (SQUARE,),
    "ii": (SQUARE,),
    "bhqd,bhkd->bhqk": (normal(2, 2, 3, 4), normal(2, 2, 5, 4)),
    "ij,jk,kl->il": (A, B, normal(2, 3)),
    "i,ij,j->": (V[:3], A, V),
    "...ij,...jk->...ik": (BATCH, OTHER),
    "bi,bj,bk->ijk": (A, BATCH[0], normal(3, 2)),
}


def _einsum(equation: str):
    return lambda m, *operands: m.einsum(equation, *operands)


def _convolution(name: str, rank: int, size: tuple[int, ...], kernel: tuple[int, ...], **options):
    """A convolution with bias; torch has the same signature, JAX a general one."""
    x, w = normal(*size), normal(*kernel, seed=1) * 0.5
    bias = normal(kernel[0], seed=2)
    ours = getattr(convolution, f"conv{rank}d")
    groups = options.get("groups", 1)

    def each(option: str, default: int) -> tuple[int, ...]:
        value = options.get(option, default)
        return value if isinstance(value, tuple) else (value,) * rank

    def jax_version(jax, x, w, b):
        out = jax.lax.conv_general_dilated(
            x,
            w,
            each("stride", 1),
            [(p, p) for p in each("padding", 0)],
            rhs_dilation=each("dilation", 1),
            feature_group_count=groups,
        )
        return out + b.reshape(-1, *(1,) * rank)

    return Case(
        name,
        (x, w, bias),
        lambda m, x, w, b: ours(x, w, b, **options),
        torch=lambda t, x, w, b: getattr(t.nn.functional, f"conv{rank}d")(x, w, b, **options),
        jax=jax_version if rank < 3 else "XLA 0.10 aborts in the 3-d gradient with strides",
    )


def _transposed(name: str, rank: int, size: tuple[int, ...], kernel: tuple[int, ...], **options):
    ours = getattr(convolution, f"conv_transpose{rank}d")
    return Case(
        name,
        (normal(*size), normal(*kernel, seed=1), normal(kernel[1] * options.get("groups", 1))),
        lambda m, x, w, b: ours(x, w, b, **options),
        torch=lambda t, x, w, b: getattr(t.nn.functional, f"conv_transpose{rank}d")(
            x, w, b, **options
        ),
        jax="another parametrisation; torch is the judge",
    )


def _windows(kind: str):
    def reduced(jax, x, window, stride):
        start, function = (-np.inf, jax.lax.max) if kind == "max" else (0.0, jax.lax.add)
        total = jax.lax.reduce_window(x, start, function, (1, 1, *window), (1, 1, *stride), "VALID")
        return total if kind == "max" else total / np.prod(window)

    return reduced


CASES = [
    Case("matmul", (A, B), lambda m, x, y: x @ y),
    Case("matmul, matrix and vector", (A, V), lambda m, x, y: m.matmul(x, y)),
    Case("matmul, vector and matrix", (V, B), lambda m, x, y: m.matmul(x, y)),
    Case("matmul, vectors", (V, W), lambda m, x, y: m.matmul(x, y)),
    Case("matmul, batched", (BATCH, OTHER), lambda m, x, y: x @ y),
    Case("matmul, broadcast batch", (BATCH, B), lambda m, x, y: x @ y),
    Case("Gram matrix", (A,), lambda m, x: x @ x.T),
    Case("quadratic form", (V, normal(4, 4)), lambda m, x, a: x @ a @ x),
    Case("outer", (V, W), lambda m, x, y: m.outer(x, y)),
    Case(
        "vecdot", (BATCH, A), lambda m, x, y: m.vecdot(x, y), torch=lambda t, x, y: (x * y).sum(-1)
    ),
    Case(
        "tensordot",
        (BATCH, A),
        lambda m, x, y: m.tensordot(x, y, axes=2),
        torch=lambda t, x, y: t.tensordot(x, y, dims=2),
    ),
    Case(
        "tensordot of pairs",
        (BATCH, normal(5, 4, 2)),
        lambda m, x, y: m.tensordot(x, y, axes=((0, 2), (2, 1))),
        torch=lambda t, x, y: t.tensordot(x, y, dims=((0, 2), (2, 1))),
    ),
    *[Case(f"einsum {e}", operands, _einsum(e)) for e, operands in EINSUMS.items()],
    # convolution
    _convolution("conv1d", 1, (2, 3, 8), (4, 3, 3)),
    _convolution("conv1d, stride and padding", 1, (2, 3, 9), (4, 3, 3), stride=2, padding=1),
    _convolution("conv2d", 2, (2, 3, 5, 6), (4, 3, 3, 2)),
    _convolution("conv2d, stride", 2, (2, 2, 7, 6), (3, 2, 3, 3), stride=(2, 1)),
    _convolution("conv2d, padding", 2, (2, 2, 5, 5), (3, 2, 3, 3), padding=(1, 2)),
    _convolution("conv2d, dilation", 2, (1, 2, 7, 7), (3, 2, 3, 3), dilation=2),
    _convolution("conv2d, groups", 2, (2, 4, 5, 5), (6, 2, 3, 3), groups=2, padding=1),
    _convolution("conv2d, depthwise", 2, (1, 3, 5, 5), (3, 1, 3, 3), groups=3, stride=2),
    _convolution("conv3d", 3, (1, 2, 4, 4, 4), (3, 2, 2, 3, 2), padding=1, stride=2),
    _transposed("conv_transpose1d", 1, (2, 4, 5), (4, 3, 3), stride=2, padding=1),
    _transposed("conv_transpose2d", 2, (2, 4, 4, 3), (4, 3, 3, 3), stride=2, output_padding=1),
    _transposed("conv_transpose2d, groups", 2, (1, 4, 4, 4), (4, 2, 3, 3), groups=2, dilation=2),
    Case(
        "max_pool",
        (distinct(2, 3, 6, 6),),
        lambda m, x: pooling.max_pool(x, (2, 3), (2, 1)),
        torch=lambda t, x: t.nn.functional.max_pool2d(x, (2, 3), (2, 1)),
        jax=lambda j, x: _windows("max")(j, x, (2, 3), (2, 1)),
    ),
    Case(
        "max_pool, padded",
        (distinct(1, 2, 5, 5),),
        lambda m, x: pooling.max_pool(x, (3, 3), (2, 2), padding=1),
        torch=lambda t, x: t.nn.functional.max_pool2d(x, 3, 2, padding=1),
        jax="torch is the judge",
    ),
    Case(
        "avg_pool",
        (normal(2, 3, 6, 6),),
        lambda m, x: pooling.avg_pool(x, (2, 3), (2, 1)),
        torch=lambda t, x: t.nn.functional.avg_pool2d(x, (2, 3), (2, 1)),
        jax=lambda j, x: _windows("avg")(j, x, (2, 3), (2, 1)),
    ),
    # linear algebra
    Case("solve", (SQUARE, RIGHT), lambda m, a, b: m.linalg.solve(a, b)),
    Case("solve, vector", (SQUARE, V[:3]), lambda m, a, b: m.linalg.solve(a, b)),
    Case("inv", (SQUARES,), lambda m, a: m.linalg.inv(a)),
    Case("det", (SQUARES,), lambda m, a: m.linalg.det(a)),
    Case("slogdet", (SQUARES,), lambda m, a: m.linalg.slogdet(a)[1]),
    Case("matrix_power", (SQUARE,), lambda m, a: m.linalg.matrix_power(a, 3)),
    Case("matrix_power, negative", (SQUARE,), lambda m, a: m.linalg.matrix_power(a, -2)),
    Case(
        "cholesky",
        (SQUARE,),
        lambda m, a: m.linalg.cholesky(a @ a.T),
    ),
    Case(
        "triangular_solve",
        (SQUARE, RIGHT),
        lambda m, a, b: m.linalg.triangular_solve(a, b, lower=True),
        torch=lambda t, a, b: t.linalg.solve_triangular(t.tril(a), b, upper=False),
        jax=lambda j, a, b: j.scipy.linalg.solve_triangular(a, b, lower=True),
    ),
    Case(
        "log-likelihood of a gaussian",
        (SQUARE, V[:3]),
        lambda m, a, x: -0.5 * (x @ m.linalg.solve(a @ a.T, x) + m.linalg.slogdet(a @ a.T)[1]),
    ),
    Case(
        "least squares", (normal(5, 3), normal(5)), lambda m, a, b: m.linalg.solve(a.T @ a, a.T @ b)
    ),
]
