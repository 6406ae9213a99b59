"""Elementwise work inside products: the bits of the separate kernels, in every shape and type."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import pullback as pb
from pullback._settings import override
from pullback.backend.program import Program
from pullback.ops.convolve import Convolve
from pullback.ops.windows import Windows
from pullback.schedule import fuse as fusing
from pullback.schedule.kernels import Call
from pullback.transforms.trace import trace


def programs(f, inputs, monkeypatch, threads):
    """With and without epilogues."""
    graph = trace(f, *inputs)
    with override(cache="off"):
        joined = fusing.fuse(graph)
        with monkeypatch.context() as patch:
            patch.setattr(fusing, "join_epilogues", lambda schedule: schedule)
            apart = fusing.fuse(graph)
        return [Program(schedule, threads=n) for schedule, n in ((apart, 1), (joined, threads))]


def assert_same_bits(f, inputs, monkeypatch, joined, threads=2):
    """`joined` products have an epilogue, and the numbers are those without any."""
    plain, fused = programs(f, inputs, monkeypatch, threads)
    after = [k for k in fused.schedule.kernels if isinstance(k, Call) and k.after is not None]
    assert len(after) == joined
    assert len(fused.kernels) == len(plain.kernels) - joined
    for actual, wanted in zip(fused(inputs), plain(inputs), strict=True):
        assert actual.tobytes() == wanted.tobytes()


def numbers(shape, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed + len(shape))
    if np.dtype(dtype).kind in "iu":
        return rng.integers(-9, 9, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def adam(p, g, m, v):
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    return p - 0.001 * m / (pb.sqrt(v) + 1e-8), m, v


def activated(z):
    return pb.tanh(z), z > 0


def with_exponential(z):
    return z, pb.exp(z)


CASES = {
    "bias and activation": (
        lambda x, w, b: pb.relu(x @ w + b),
        [(33, 20), (20, 41), (41,)],
    ),
    "activation and its mask": (
        lambda x, w, b: activated(x @ w + b),
        [(7, 20), (20, 19), (19,)],
    ),
    "a column for all": (lambda x, w, b: x @ w * b, [(33, 20), (20, 41), (33, 1)]),
    "the result too": (lambda x, w: with_exponential(x @ w), [(33, 20), (20, 41)]),
    "residual": (lambda x, w, r: r + x @ w, [(2, 9, 20), (20, 41), (2, 9, 41)]),
    "a residual per position": (lambda x, w, r: r + x @ w, [(2, 9, 20), (20, 41), (9, 41)]),
    "a transposed operand": (lambda x, w, r: r.T + x @ w, [(33, 20), (20, 41), (41, 33)]),
    "reshaped": (
        lambda x, w, r: (x @ w).reshape(3, 11, 41) + r,
        [(33, 20), (20, 41), (3, 11, 41)],
    ),
    "weight gradient and update": (
        lambda x, y, p, m, v: adam(p, x.T @ y, m, v * v),
        [(33, 20), (33, 50), (20, 50), (20, 50), (20, 50)],
    ),
    "one column": (lambda x, w, b: x @ w + b, [(70, 30), (30, 1), (1,)]),
    "a vector": (lambda x, w, b: x @ w + b, [(70, 30), (30,), (70,)]),
    "dots": (lambda x, y: 2.0 * pb.einsum("bi,bi->b", x, y) + 1.0, [(9, 70), (9, 70)]),
    "deep": (lambda x, w, b: pb.relu(x @ w + b), [(13, 1700), (1700, 21), (21,)]),
    "outer": (lambda x, y, z: x[:, None] * y[None] + z, [(30,), (41,), (30, 41)]),
    "batched": (
        lambda q, k, m: pb.einsum("bqhd,bkhd->bhqk", q, k) * 0.25 + m,
        [(2, 9, 3, 8), (2, 11, 3, 8), (9, 11)],
    ),
}


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("name", CASES)
def test_the_bits_of_separate_kernels(name, threads, monkeypatch):
    f, shapes = CASES[name]
    joined = 0 if name == "outer" else 1
    assert_same_bits(f, [numbers(shape) for shape in shapes], monkeypatch, joined, threads)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16, np.int32, np.int8])
@pytest.mark.parametrize("sizes", [(33, 20, 41), (5, 3, 3), (1, 30, 9), (40, 30, 1)])
def test_types(dtype, sizes, monkeypatch):
    m, k, n = sizes
    inputs = [numbers(shape, dtype) for shape in ((m, k), (k, n), (n,), (m, n))]

    def f(x, w, b, r):
        y = x @ w + b
        return pb.maximum(y, r) * 2, y < r

    assert_same_bits(f, inputs, monkeypatch, 1)


def test_a_sum_of_products_ends_in_the_last_one(monkeypatch):
    inputs = [numbers(s) for s in ((33, 20), (20, 41), (33, 30), (30, 41))]
    assert_same_bits(lambda x, w, y, u: pb.tanh(x @ w + y @ u), inputs, monkeypatch, 1)


def test_a_product_waits_for_what_its_epilogue_needs(monkeypatch):
    """The loops read another kernel that follows the product, and the product has other readers."""
    inputs = [numbers(s) for s in ((33, 20), (20, 41), (33, 17), (41, 5))]

    def f(x, w, y, u):
        product = x @ w
        return product * pb.sum(y, axis=1, keepdims=True), product @ u

    assert_same_bits(f, inputs, monkeypatch, 1)


def test_loops_that_need_the_product_otherwise_stay_apart(monkeypatch):
    """Each row of the loops needs all of the product, so they cannot run inside it."""
    inputs = [numbers(s) for s in ((33, 20), (20, 33))]

    def twice(x, w):
        product = x @ w
        return product + product.T

    assert_same_bits(twice, inputs, monkeypatch, 0)

    def f(x, w):
        product = x @ w
        return product / pb.sum(product @ product)

    assert_same_bits(f, inputs, monkeypatch, 0)


def test_a_joined_kernel_prints_its_work():
    x, w, b = (numbers(s) for s in ((33, 20), (20, 41), (41,)))
    text = str(fusing.fuse(trace(lambda x, w, b: pb.relu(x @ w + b), x, w, b)))
    assert text.startswith("call b3: float32[33,41] = contract")
    assert "then rows (33,41)" in text


# ---- convolutions ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize(
    ("side", "stride", "groups"), [(1, 1, 1), (7, 1, 2), (16, 1, 1), (9, 2, 1), (18, 1, 3)]
)
def test_bias_and_relu_join_a_convolution(side, stride, groups, dtype, monkeypatch):
    def layer(x, w, b):
        z = pb.conv2d(x, w, b, stride=stride, padding=1, groups=groups)
        return pb.relu(z), z > 0

    x, w = numbers((3, 6, side, side), dtype), numbers((12, 6 // groups, 3, 3), dtype)
    assert_same_bits(layer, [x, w, numbers((12,), dtype)], monkeypatch, 1, threads=3)


@pytest.mark.parametrize(("stride", "joined"), [(1, 1), (2, 0)])
def test_a_gradient_of_images_takes_a_mask_and_an_addition(stride, joined, monkeypatch):
    x, w = numbers((2, 4, 10, 10)), numbers((8, 4, 3, 3))
    bar = numbers((2, 8, -(-10 // stride), -(-10 // stride)))

    def gradient(x, w, bar, other):
        _, pull = pb.vjp(lambda x: pb.conv2d(x, w, stride=stride, padding=1), x)
        return pb.where(x > 0, pull(bar)[0] + other, 0.0)

    assert_same_bits(gradient, [x, w, bar, numbers(x.shape, seed=1)], monkeypatch, joined)


def test_a_convolution_has_no_epilogue_over_other_places(monkeypatch):
    x, w, lines = numbers((2, 4, 10, 10)), numbers((8, 4, 3, 3)), numbers((10, 1))
    assert_same_bits(
        lambda x, w, lines: pb.conv2d(x, w, padding=1) + lines, [x, w, lines], monkeypatch, 0
    )


def test_a_bfloat_result_outlives_a_loop_of_its_epilogue(monkeypatch):
    """The cosine of great numbers has a loop; LLVM would call the C runtime for a bfloat there."""
    x, w, y = (numbers(s, ml_dtypes.bfloat16) for s in ((3, 6), (6, 20), (3, 20)))
    assert_same_bits(lambda x, w, y: pb.cos(y) * (x @ w), [x, w, y], monkeypatch, joined=1)


def test_a_bfloat_image_in_pieces_outlives_a_loop_of_its_epilogue(monkeypatch):
    x = numbers((2, 1, 5, 6, 3), ml_dtypes.bfloat16)
    w = numbers((2, 1, 2, 1, 2), ml_dtypes.bfloat16)

    def f(x, w):
        windows = Windows((2, 1, 2), (2, 1, 1), (0, 0, 1), (1, 0, 0), (1, 1, 1))
        return pb.cos(Convolve(windows, 1)(x, w))

    assert_same_bits(f, [x, w], monkeypatch, joined=1)
