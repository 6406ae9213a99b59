"""Convolution and pooling against their definitions, and against torch where it is installed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import pullback as pb
from pullback.errors import ShapeError

CONVOLVE = {1: pb.conv1d, 2: pb.conv2d, 3: pb.conv3d}
TRANSPOSED = {1: pb.conv_transpose1d, 2: pb.conv_transpose2d, 3: pb.conv_transpose3d}
SPATIAL = (9, 8, 7)
KERNEL = (3, 2, 3)


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def close(x, y):
    np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=1e-10, atol=1e-10)


# ---- by definition --------------------------------------------------------------------------


def by_definition(x, w, stride, low, dilation, counts, groups):
    """One number at a time."""
    y = np.zeros((x.shape[0], w.shape[0], *counts))
    inside, outside = w.shape[1], w.shape[0] // groups
    for n, o, c in itertools.product(*map(range, (x.shape[0], w.shape[0], inside))):
        for q in np.ndindex(*counts):
            for k in np.ndindex(*w.shape[2:]):
                place = tuple(
                    i * stride + j * dilation - p for i, j, p in zip(q, k, low, strict=True)
                )
                if all(0 <= p < m for p, m in zip(place, x.shape[2:], strict=True)):
                    channel = o // outside * inside + c
                    y[(n, o, *q)] += x[(n, channel, *place)] * w[(o, c, *k)]
    return y


@pytest.mark.parametrize(
    ("padding", "low"), [(0, (0, 0)), ((1, 2), (1, 2)), (((2, 0), (0, 1)), (2, 0)), ("same", None)]
)
@pytest.mark.parametrize(("stride", "dilation", "groups"), [(1, 1, 1), (2, 1, 2), (1, 2, 2)])
def test_convolution_is_its_definition(padding, low, stride, dilation, groups):
    x, w = numbers(2, 2, 6, 7), numbers(4, 2 // groups, 2, 3, seed=1)
    y = pb.conv2d(x, w, stride=stride, padding=padding, dilation=dilation, groups=groups)
    if low is None:
        assert y.shape[2:] == (-(-6 // stride), -(-7 // stride))
        spans = [dilation * (k - 1) + 1 for k in (2, 3)]
        totals = [
            max((q - 1) * stride + s - n, 0)
            for q, s, n in zip(y.shape[2:], spans, (6, 7), strict=True)
        ]
        low = tuple(total // 2 for total in totals)
    close(y, by_definition(x, w, stride, low, dilation, y.shape[2:], groups))


def test_one_image_needs_no_batch_axis():
    x, w, b = numbers(3, 6, 7), numbers(4, 3, 2, 2), numbers(4)
    close(pb.conv2d(x, w, b), pb.conv2d(x[None], w, b).numpy()[0])
    v = numbers(3, 5, 2, 2)
    close(pb.conv_transpose2d(x, v), pb.conv_transpose2d(x[None], v).numpy()[0])


def test_transposed_convolution_is_the_transpose():
    """⟨conv(x), y⟩ = ⟨x, conv_transpose(y)⟩."""
    x, w = numbers(2, 4, 9, 8), numbers(6, 2, 3, 2, seed=1)
    y = pb.conv2d(x, w, stride=2, padding=1, groups=2).numpy()
    u = numbers(*y.shape, seed=2)
    back = pb.conv_transpose2d(u, w, stride=2, padding=1, groups=2, output_padding=(0, 0)).numpy()
    close((y * u).sum(), (x[:, :, :9, :8] * back).sum())


def test_vmap_over_kernels_and_images():
    """Per-example kernels become groups: the same numbers as one application after another."""
    x, w = numbers(3, 2, 4, 6, 5), numbers(3, 6, 2, 2, 3, seed=1)

    def convolve(x, w):
        return pb.conv2d(x, w, padding=1, groups=2)

    close(pb.vmap(convolve)(x, w), np.stack([convolve(a, b) for a, b in zip(x, w, strict=True)]))
    close(pb.vmap(convolve, in_axes=(None, 0))(x[0], w), np.stack([convolve(x[0], b) for b in w]))
    gradients = pb.vmap(pb.grad(lambda w, x: pb.sum(convolve(x, w))), in_axes=(None, 0))(w[0], x)
    each = [pb.grad(lambda w, x: pb.sum(convolve(x, w)))(w[0], a) for a in x]
    close(gradients, np.stack(each))


def test_pooling_by_definition():
    x = numbers(2, 3, 5, 6)
    expected = np.array(
        [[x[:, :, i : i + 2, j : j + 3].max((2, 3)) for j in (0, 2)] for i in (0, 1, 2, 3)]
    )
    close(pb.max_pool(x, (2, 3), stride=(1, 2)), expected.transpose(2, 3, 0, 1))
    close(pb.avg_pool(x, (5, 6)), x.mean((2, 3), keepdims=True))
    close(pb.global_avg_pool(x), x.mean((2, 3)))
    close(pb.adaptive_avg_pool(x, (5, 3)), x.reshape(2, 3, 5, 3, 2).mean(-1))
    close(pb.max_pool(x[0, 0, 0], (2,)), x[0, 0, 0].reshape(3, 2).max(1))
    assert pb.max_pool(np.arange(6).reshape(1, 1, 6), 2).tolist() == [[[1, 3, 5]]]


def test_of_equal_maxima_the_first_takes_the_gradient():
    x = np.array([[2.0, 2.0], [2.0, 1.0]])
    close(pb.grad(lambda x: pb.sum(pb.max_pool(x, (2, 2))))(x), [[1.0, 0.0], [0.0, 0.0]])


def test_half_precision_is_summed_in_single():
    x = np.ones((1, 1, 4096), np.float16)
    assert pb.conv1d(x, x).item() == 4096.0
    assert pb.global_avg_pool(x).item() == 1.0


# ---- against torch --------------------------------------------------------------------------


def torch_gradients(torch, f, arrays, direction):
    leaves = [torch.tensor(a, requires_grad=True) for a in arrays]
    y = f(*leaves)
    y.backward(torch.tensor(direction[: y.numel()].reshape(y.shape)))
    return y.detach().numpy(), [leaf.grad.numpy() for leaf in leaves]


def agrees(torch, ours, theirs, *arrays):
    """Values and all gradients for one random cotangent."""
    direction = numbers(20000, seed=5)
    expected, bars = torch_gradients(torch, theirs, arrays, direction)
    y, pullback = pb.vjp(ours, *arrays)
    close(y, expected)
    for bar, reference in zip(pullback(direction[: y.size].reshape(y.shape)), bars, strict=True):
        close(bar, reference)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "padding": 1},
        {"dilation": 2, "padding": 2},
        {"stride": 3, "padding": 2, "dilation": 2, "groups": 2},
        {"groups": 4},
        {"padding": "same"},
        {"padding": "same", "dilation": 2},
        {"padding": "valid"},
    ],
    ids=str,
)
def test_convolution_is_torchs(rank, options):
    torch = pytest.importorskip("torch")
    groups = options.get("groups", 1)
    x, w, b = numbers(2, 4, *SPATIAL[:rank]), numbers(4, 4 // groups, *KERNEL[:rank]), numbers(4)
    theirs = getattr(torch.nn.functional, f"conv{rank}d")
    agrees(
        torch,
        lambda x, w, b: CONVOLVE[rank](x, w, b, **options),
        lambda x, w, b: theirs(x, w, b, **options),
        *(x, w, b),
    )


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "padding": 1},
        {"stride": 3, "padding": 2, "output_padding": 2},
        {"stride": 2, "output_padding": 1, "groups": 2, "dilation": 3},
        {"dilation": 3, "output_padding": 2, "padding": 3},
        {"groups": 4, "padding": 1},
    ],
    ids=str,
)
def test_transposed_convolution_is_torchs(rank, options):
    torch = pytest.importorskip("torch")
    groups = options.get("groups", 1)
    spatial, kernel = (4, 3, 3)[:rank], (3, 3, 2)[:rank]
    options = dict(options)
    x, w = numbers(2, 4, *spatial), numbers(4, 6 // 2 if groups == 1 else 2, *kernel)
    b = numbers(w.shape[1] * groups)
    if rank == 3 and options.get("padding", 0) == 3:
        options["padding"] = 1
    theirs = getattr(torch.nn.functional, f"conv_transpose{rank}d")
    agrees(
        torch,
        lambda x, w, b: TRANSPOSED[rank](x, w, b, **options),
        lambda x, w, b: theirs(x, w, b, **options),
        *(x, w, b),
    )


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_pooling_is_torchs(rank):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x = numbers(2, 3, *SPATIAL[:rank])
    coarse = np.round(x)  # many equal maxima
    window = (3, 2, 2)[:rank]
    largest = getattr(functional, f"max_pool{rank}d")
    mean = getattr(functional, f"avg_pool{rank}d")
    adaptive = getattr(functional, f"adaptive_avg_pool{rank}d")
    sizes = (4, 3, 7)[:rank]
    for each in (x, coarse):
        agrees(torch, lambda x: pb.max_pool(x, 2), lambda x: largest(x, 2), each)
        agrees(
            torch,
            lambda x: pb.max_pool(x, window, 1, 1, dilation=2),
            lambda x: largest(x, window, 1, 1, dilation=2),
            each,
        )
    agrees(torch, lambda x: pb.avg_pool(x, 2), lambda x: mean(x, 2), x)
    for included in (True, False):
        agrees(
            torch,
            lambda x, included=included: pb.avg_pool(x, window, 2, 1, included),
            lambda x, included=included: mean(x, window, 2, 1, count_include_pad=included),
            x,
        )
    agrees(torch, lambda x: pb.adaptive_avg_pool(x, sizes), lambda x: adaptive(x, sizes), x)
    agrees(torch, lambda x: pb.adaptive_avg_pool(x, 2), lambda x: adaptive(x, 2), x)


# ---- errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x, w: pb.conv2d(x, w[:, :1]), "the kernel reads 1 channels, the images have 2"),
        (lambda x, w: pb.conv2d(x, w, groups=3), "4 output channels do not split into 3 groups"),
        (lambda x, w: pb.conv2d(x, w, padding="full"), 'padding is "same", "valid", an int'),
        (lambda x, w: pb.conv2d(x, w, padding=-1), "that are not negative, not -1"),
        (lambda x, w: pb.conv2d(x, w, padding=(1, 2, 3)), "2 ints or 2 pairs"),
        (lambda x, w: pb.conv2d(x, w, stride=0), "are at least 1"),
        (lambda x, w: pb.conv2d(x, w, stride=(1, 2, 3)), "stride is an int or 2 ints"),
        (lambda x, w: pb.conv2d(x[:, :, :1], w), "a window of 2 does not fit an axis of 1"),
        (lambda x, w: pb.conv2d(x, w, dilation=9), "a window of 10 (2 dilated) does not fit"),
        (lambda x, w: pb.conv2d(x, w, np.ones(3)), "one number for each of 4 channels"),
        (pb.conv1d, "images have rank 3 (N, C, *spatial)"),
        (pb.conv_transpose2d, "the kernel reads 4 channels, x has 2"),
        (lambda x, w: pb.conv_transpose2d(x, w[:2], output_padding=1), "output_padding (1, 1)"),
        (lambda x, w: pb.conv_transpose2d(x, w[:2], padding=9), "padding (9, 9) leaves nothing"),
        (lambda x, w: pb.max_pool(x, 9), "a window of 9 does not fit an axis of 5"),
        (lambda x, w: pb.max_pool(x, 2, padding=2), "more than half of a window of 2"),
        (lambda x, w: pb.max_pool(x[0, 0], 2), "give one size for each spatial axis"),
        (lambda x, w: pb.avg_pool(x, (2, 0)), "a window has at least one element"),
        (lambda x, w: pb.adaptive_avg_pool(x, 0), "no window is asked for"),
    ],
)
def test_wrong_arguments(call, text):
    with pytest.raises(ShapeError, match=r" at .*test_convolution.py") as caught:
        call(numbers(1, 2, 5, 6), numbers(4, 2, 2, 2))
    assert text in str(caught.value)
