"""Steps of random programs that call the public interface on whatever shapes there are.

A step takes a `Maker` (`fuzz_programs`) and returns one value or several. What it chooses depends
on the maker's random numbers and on shapes, never on numbers of the program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

import pullback as pb
from pullback import nn
from pullback.functions.normalization import channel_moments
from pullback.ir import types
from pullback.ir.array import Array
from pullback.nn import gelu, layer_norm

if TYPE_CHECKING:
    from property.fuzz_programs import Maker

CASTS = (types.float64, types.bfloat16, types.float16, types.float32, types.int32, types.int8)
INTEGERS = (types.int8, types.int16, types.int32, types.int64, types.uint8, types.uint32)


def one_of(m: Maker, choices: Any) -> Any:
    return choices[m.rng.integers(len(choices))]


def joined_shapes(m: Maker) -> Array:
    """Arithmetic of two values, one of them perhaps with new axes or a part of itself."""
    x, y = m.pick_float(), m.pick_float()
    if m.rng.random() < 0.3:
        y = pb.sum(x, axis=m.axis(x), keepdims=True) if x.ndim else y
    functions = (pb.add, pb.subtract, pb.multiply, pb.maximum, pb.divide, pb.atan2)
    return one_of(m, functions)(x, y)


def chain(m: Maker) -> Array:
    """Several unary functions, which fuse."""
    x = m.pick_float()
    functions = (
        pb.exp,
        pb.tanh,
        pb.sin,
        pb.sigmoid,
        pb.sqrt,
        pb.log,
        pb.relu,
        gelu,
        pb.erf,
        pb.abs,
    )
    for _ in range(int(m.rng.integers(1, 5))):
        x = one_of(m, functions)(x)
    return x


def masked(m: Maker) -> Array:
    x, y = m.pick_float(), m.pick_float()
    return pb.where(x > y, x * 0.5, y)


def reduced(m: Maker) -> Array:
    x = m.pick()
    axes = tuple(i for i in range(x.ndim) if m.rng.random() < 0.5)
    functions = (pb.sum, pb.sum, pb.mean, pb.max, pb.min, pb.prod, pb.logsumexp, pb.std)
    function = one_of(m, functions)
    keep = bool(m.rng.random() < 0.5)
    return function(m.cast(x, m.floats), axis=axes, keepdims=keep)


def rows(m: Maker) -> Array:
    x = m.pick_float()
    functions = (pb.softmax, pb.log_softmax, layer_norm)
    return one_of(m, functions)(x, axis=m.axis(x))


def running(m: Maker) -> Array:
    x = m.pick_float()
    functions = (pb.cumulative_sum, pb.cumulative_prod, pb.sort, pb.argsort, pb.flip)
    return one_of(m, functions)(x, axis=m.axis(x))


def relaid(m: Maker) -> Array:
    x = m.pick()
    match m.rng.integers(5):
        case 0:
            return pb.permute_dims(x, tuple(int(i) for i in m.rng.permutation(x.ndim)))
        case 1:
            return pb.reshape(x, (x.size,))
        case 2:
            return pb.expand_dims(x, axis=int(m.rng.integers(x.ndim + 1)))
        case 3:
            return pb.broadcast_to(x, (int(m.rng.integers(1, 4)), *x.shape))
    width = tuple((int(m.rng.integers(2)), int(m.rng.integers(3))) for _ in range(x.ndim))
    return pb.pad(x, width)


def sliced(m: Maker) -> Array:
    x = m.pick()
    parts = []
    for n in x.shape:
        start, step = int(m.rng.integers(0, n + 1)), int(m.rng.choice((1, 1, 2, -1)))
        parts.append(slice(None, None, step) if step < 0 else slice(start // 2, n, step))
    return x[tuple(parts)]


def resized(m: Maker) -> Array:
    return m.resized(m.pick(), m.shape())


def put_together(m: Maker) -> Array:
    x = m.pick()
    y = m.cast(m.resized(m.pick(), x.shape), x.dtype)
    return (pb.stack if m.rng.random() < 0.5 else pb.concat)([x, y], axis=m.axis(x))


def product(m: Maker) -> Array:
    """A matrix product; its right operand is made to fit."""
    x = m.pick_float()
    if x.ndim == 0:
        return x
    columns = int(m.rng.choice((0, 1, 3, 8, 17)))
    y = m.cast(m.resized(m.pick(), (x.shape[-1], columns)), x.dtype)
    out = x @ y
    return pb.relu(out + 0.5) if m.rng.random() < 0.4 else out


def indexed(m: Maker) -> Array:
    x = m.pick()
    axis = m.axis(x)
    n = x.shape[axis] if x.ndim else 0
    count = int(m.rng.integers(0, 6))
    where = m.fresh(m.rng.integers(0, n, count) if n else np.zeros(0, np.int64))
    if m.rng.random() < 0.5:
        return pb.take(x, where, axis=axis)
    update = m.cast(m.resized(m.pick(), (where.shape[0], *x.shape[1:])), x.dtype)
    return x.at[where].add(update) if axis == 0 and x.dtype != types.bool_ else x


def converted(m: Maker) -> Array:
    return m.cast(m.pick(), one_of(m, CASTS))


def looped(m: Maker) -> Any:
    x = m.pick_float()
    match m.rng.integers(4):
        case 0 if x.ndim:
            start = pb.zeros(x.shape[1:], dtype=x.dtype)
            return pb.scan(lambda c, row: (pb.tanh(c + row), c * row), start, x)
        case 1:
            return pb.fori_loop(0, 3, lambda i, c: c * 0.5 + pb.sin(c), x)
        case 2:
            positive = pb.sum(pb.where(x > 0, 1, 0)) > x.size // 2
            return pb.cond(positive, lambda x: x * x, lambda x: -x, x)
    inside = lambda c: pb.sum(pb.abs(pb.where(c[1] > 0, 1.0, 0.0))) + c[0] < 5
    return pb.while_loop(inside, lambda c: (c[0] + 1, c[1] * 0.9), (0, x), max_steps=6)[1]


# ---- windows, indices, integers -------------------------------------------------------------


def convolved(m: Maker) -> Array:
    """A convolution of odd strides, dilations, groups and paddings, or the transpose of one."""
    rank, groups = int(one_of(m, (1, 1, 2, 2, 2, 3))), int(one_of(m, (1, 1, 1, 2, 3)))
    sizes = lambda choices: tuple(int(one_of(m, choices)) for _ in range(rank))
    n, inputs, outputs = (int(one_of(m, (1, 2, 3))) for _ in range(3))
    spatial, taps = sizes((1, 2, 5, 6, 9, 17) if rank < 3 else (2, 3, 5)), sizes((1, 2, 3, 4))
    x = m.cast(m.resized(m.pick(), (n, inputs * groups, *spatial)), m.floats)
    weight = m.drawn((outputs * groups, inputs, *taps))
    stride, dilation = sizes((1, 1, 2, 3)), sizes((1, 1, 2, 3))
    if m.rng.random() < 0.3:
        function = (pb.conv_transpose1d, pb.conv_transpose2d, pb.conv_transpose3d)[rank - 1]
        weight = m.drawn((inputs * groups, outputs, *taps))
        settings = {"padding": sizes((0, 0, 1)), "output_padding": sizes((0, 0, 0, 1))}
        return function(x, weight, stride=stride, dilation=dilation, groups=groups, **settings)
    function = (pb.conv1d, pb.conv2d, pb.conv3d)[rank - 1]
    pairs = tuple((int(m.rng.integers(3)), int(m.rng.integers(4))) for _ in range(rank))
    padding = one_of(m, ("valid", "same", 1, pairs, pairs))
    y = function(x, weight, None, stride, padding, dilation, groups)
    return pb.relu(y) if m.rng.random() < 0.3 else y


def pooled(m: Maker) -> Array:
    rank = int(m.rng.integers(1, 3))
    shape = (2, *(int(one_of(m, (3, 4, 7, 9))) for _ in range(rank)))
    x = m.cast(m.resized(m.pick(), shape), m.floats)
    window = tuple(int(m.rng.integers(1, 4)) for _ in range(rank))
    stride = tuple(int(m.rng.integers(1, 4)) for _ in range(rank))
    padding = tuple(int(m.rng.integers(n // 2 + 1)) for n in window)
    if m.rng.random() < 0.5:
        return pb.max_pool(x, window, stride, padding, int(one_of(m, (1, 1, 2))))
    return pb.avg_pool(x, window, stride, padding, bool(m.rng.random() < 0.5))


def scattered(m: Maker) -> Array:
    """Some elements, rows or slices of a value written, added to, multiplied, bounded."""
    x = m.pick()
    x = m.resized(x, (4, 6)) if x.ndim == 0 or 0 in x.shape else x
    index: list[Any] = []
    count = int(m.rng.integers(0, 9))
    for n in x.shape[: int(m.rng.integers(1, x.ndim + 1))]:
        numbers = m.fresh(m.rng.integers(-n, n, count))
        index.append(one_of(m, (numbers, numbers, slice(None), slice(0, n, 2), int(n - 1))))
    place = x.at[tuple(index)]
    value = m.cast(m.resized(m.pick(), place.get().shape), x.dtype)
    ways = (place.set, place.add, place.multiply, place.min, place.max)
    return one_of(m, ways if x.dtype != types.bool_ else ways[:1])(value)


def gathered(m: Maker) -> Any:
    x = m.pick_float()
    x = m.resized(x, (5, 3)) if x.ndim == 0 or 0 in x.shape else x
    axis, n = m.axis(x), x.shape[-1]
    match m.rng.integers(7):
        case 0:
            return pb.top_k(x, int(m.rng.integers(0, x.shape[axis] + 1)), axis=axis)
        case 1:
            shape = (*x.shape[:-1], 4)
            return pb.take_along_axis(x, m.fresh(m.rng.integers(0, n, shape)), axis=-1)
        case 2:
            kinds = m.fresh(m.rng.integers(0, 4, x.shape[0]))
            sums = (pb.segment_sum, pb.segment_max, pb.segment_min, pb.segment_mean)
            return one_of(m, sums)(x, kinds, 4)
        case 3:
            return pb.one_hot(m.fresh(m.rng.integers(0, 5, (3, 2))), 5, dtype=x.dtype)
        case 4:
            return pb.quantile(x, float(m.rng.random()), axis=axis)
        case 5:
            edges = pb.sort(pb.reshape(x, (x.size,)))
            return pb.searchsorted(edges, m.cast(m.pick(), x.dtype))
    extremes = (pb.argmax, pb.argmin, pb.cumulative_max, pb.cumulative_min)
    return one_of(m, extremes)(x, axis=axis)


def integers(m: Maker) -> Array:
    """Arithmetic of integers: by zero, past the width, of the least."""
    dtype = one_of(m, INTEGERS)
    x = m.cast(m.pick(), dtype)
    y = m.cast(m.resized(m.pick(), x.shape), dtype)
    y = y if m.rng.random() < 0.5 else y - y + int(m.rng.integers(0, 9))
    if m.rng.random() < 0.2:
        info = pb.iinfo(dtype)
        x = pb.where(x > 0, x, int(one_of(m, (info.min, info.max))))
    functions = (
        pb.floor_divide,
        pb.remainder,
        pb.fmod,
        pb.bitwise_and,
        pb.bitwise_or,
        pb.bitwise_xor,
        pb.bitwise_left_shift,
        pb.bitwise_right_shift,
        pb.multiply,
        pb.subtract,
        pb.maximum,
        lambda x, y: pb.pow(x, int(m.rng.integers(0, 4))),
        lambda x, y: pb.abs(x) + pb.sign(y) * pb.bitwise_invert(x),
        lambda x, y: pb.sum(x, axis=m.axis(x)) if x.ndim else -x,
        lambda x, y: pb.prod(x, axis=m.axis(x)) if x.ndim else -x,
        lambda x, y: pb.cumulative_sum(x, axis=m.axis(x)) if x.ndim else -x,
        lambda x, y: pb.sort(x, axis=m.axis(x)) if x.ndim else -x,
        lambda x, y: x @ x.mT if x.ndim > 1 else x * x,
    )
    return one_of(m, functions)(x, y)


def questions(m: Maker) -> Array:
    """Truth values: comparisons and what is made of them."""
    x = m.pick_float()
    y = m.cast(m.resized(m.pick(), x.shape), x.dtype)
    asked = one_of(m, (pb.isnan, pb.isfinite, pb.isinf, pb.signbit))(x)
    ordered = one_of(m, (pb.less, pb.less_equal, pb.equal, pb.not_equal))(x, y)
    joined = one_of(m, (pb.logical_and, pb.logical_or, pb.logical_xor))(asked, ordered)
    functions = (pb.logical_not, pb.any, pb.all, pb.count_nonzero, lambda t: pb.where(t, x, 1.5))
    return one_of(m, functions)(joined)


# ---- networks -------------------------------------------------------------------------------


def attended(m: Maker) -> Array:
    heads, shared, t, s, d, e = (int(m.rng.integers(1, n)) for n in (3, 3, 9, 9, 5, 5))
    dressed = lambda *shape: m.cast(m.resized(m.pick(), shape), m.floats)
    q, k = dressed(2, heads * shared, t, d), dressed(2, shared, s, d)
    options: dict[str, Any] = {"causal": bool(m.rng.random() < 0.5)}
    if m.rng.random() < 0.3:
        options["mask"] = dressed(t, s) > 0
    if m.rng.random() < 0.3:
        options["window"] = int(m.rng.integers(0, 4))
    if m.rng.random() < 0.2:
        options["softcap"] = 5.0
    return nn.attention(q, k, dressed(2, shared, s, e), **options)


def summed_products(m: Maker) -> Array:
    equation, *shapes = one_of(
        m,
        (
            ("ij,jk->ik", (3, 4), (4, 5)),
            ("bij,bkj->bik", (2, 3, 4), (2, 5, 4)),
            ("i,i->", (17,), (17,)),
            ("i,j->ij", (7,), (33,)),
            ("abc,cd,de->abe", (2, 3, 4), (4, 5), (5, 2)),
            ("ii->i", (5, 5)),
            ("ijk->k", (3, 4, 16)),
            ("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 5, 4)),
            ("ij,ij->j", (40, 3), (40, 3)),
            ("ij,jk->ki", (0, 4), (4, 3)),
        ),
    )
    operands = [m.cast(m.resized(m.pick(), shape), m.floats) for shape in shapes]
    return pb.einsum(equation, *operands)


def losses(m: Maker) -> Array:
    x = m.pick_float()
    x = m.resized(x, (6, 5)) if x.ndim == 0 or 0 in x.shape else x
    other = m.cast(m.resized(m.pick(), x.shape), x.dtype)
    match m.rng.integers(5):
        case 0:
            labels = m.fresh(m.rng.integers(0, x.shape[-1], x.shape[:-1]))
            return nn.cross_entropy(x, labels, label_smoothing=float(one_of(m, (0.0, 0.1))))
        case 1:
            return nn.huber(x, other)
        case 2:
            return nn.binary_cross_entropy_with_logits(x, pb.where(other > 0, 1.0, 0.0))
        case 3:
            return nn.mse(x, other, reduction=one_of(m, ("mean", "sum", "none")))
    return nn.kl_divergence(pb.log_softmax(x), pb.softmax(other))


def normalised(m: Maker) -> Array:
    x = m.cast(m.resized(m.pick(), (2, 6, 5)), m.floats)
    scale, shift = m.drawn((6,)), m.drawn((6,))
    match m.rng.integers(3):
        case 0:
            return nn.group_norm(x, int(one_of(m, (1, 2, 3, 6))), scale, shift)
        case 1:
            return nn.rms_norm(x, m.drawn((5,)))
    mean, variance = channel_moments(x)
    return nn.batch_norm(x, mean, variance, scale, shift)


def adam_step(m: Maker) -> tuple[Array, ...]:
    x = m.pick_float()
    g, s = (m.cast(m.resized(m.pick(), x.shape), x.dtype) for _ in range(2))
    first, second = 0.9 * x + 0.1 * g, 0.99 * pb.abs(s) + 0.01 * g * g
    return x - 0.01 * first / (pb.sqrt(second) + 1e-6), first, second


def drawn_at_random(m: Maker) -> Array:
    key = m.fresh(m.rng.integers(0, 2**32, 2).astype(np.uint32))
    x = m.pick_float()
    match m.rng.integers(5):
        case 0:
            return pb.random.normal(key, x.shape, x.dtype)
        case 1:
            return pb.where(pb.random.bernoulli(key, 0.7, x.shape), x / 0.7, 0.0)
        case 2:
            return pb.random.uniform(pb.random.fold_in(key, 7), x.shape, x.dtype)
        case 3:
            return pb.random.permutation(key, x) if x.ndim else x
    return pb.random.randint(key, x.shape, -5, 9)


# ---- derivatives and loops inside -----------------------------------------------------------


def bounded(m: Maker) -> Callable[[Array], Array]:
    """A smooth function of one array, to be differentiated."""
    x = m.rng.integers(6)
    functions: tuple[Callable[[Array], Array], ...] = (
        lambda x: pb.tanh(x) * x,
        lambda x: pb.softmax(x, axis=-1) if x.ndim else pb.sigmoid(x),
        lambda x: layer_norm(x, axis=-1) if x.ndim else gelu(x),
        lambda x: pb.sin(x) @ pb.cos(x).mT if x.ndim > 1 else pb.sin(x) * pb.cos(x),
        lambda x: pb.cumulative_sum(pb.exp(-x * x), axis=0) if x.ndim else pb.exp(-x * x),
        lambda x: pb.logsumexp(x) + pb.sum(pb.sqrt(pb.abs(x) + 1)),
    )
    return functions[x]


def differentiated(m: Maker) -> Any:
    """grad, hvp, jvp, vmap(grad) and checkpoint of a function, in the middle of the program."""
    f, x = bounded(m), m.pick_float()
    loss = lambda x: pb.sum(pb.tanh(f(x)))
    match m.rng.integers(6):
        case 0:
            return pb.value_and_grad(loss)(x)
        case 1:
            return pb.hvp(loss, (x,), (m.cast(m.resized(m.pick(), x.shape), x.dtype),))
        case 2:
            return pb.jvp(f, (x,), (m.cast(m.resized(m.pick(), x.shape), x.dtype),))
        case 3 if x.ndim and x.shape[0]:
            return pb.vmap(pb.grad(loss))(x)
        case 4:
            inner = pb.checkpoint(lambda x: pb.tanh(f(x)) * 0.5)
            return pb.grad(lambda x: pb.sum(pb.sin(inner(x))))(x)
    return pb.grad(lambda x: pb.sum(pb.grad(loss)(x) ** 2))(x)


def repeated(m: Maker) -> Any:
    """Loops and choices with gradients, nested, batched, of no step."""
    x = m.pick_float()
    x = m.resized(x, (3, 4)) if x.ndim == 0 else x
    zero = pb.zeros(x.shape[1:], dtype=x.dtype)
    back = bool(m.rng.random() < 0.5)

    def outer(c: Array, row: Array) -> tuple[Array, Array]:
        c = pb.cond(pb.sum(row) > 0, lambda c: pb.tanh(c + row), lambda c: c * 0.5 - row, c)
        return c, pb.sum(c)

    def steps(x: Array) -> Array:
        last, sums = pb.scan(outer, zero, x, reverse=back)
        return pb.sum(last * last) + pb.sum(pb.tanh(sums))

    def until(x: Array) -> Array:
        small = lambda c: pb.sum(pb.tanh(c[1])) < 2
        grown = lambda c: (c[0] + 1, c[1] * 1.1 + 0.1)
        return pb.sum(pb.while_loop(small, grown, (0, x), max_steps=int(n))[1])

    n = m.rng.integers(1, 5)
    match m.rng.integers(7):
        case 0:
            return pb.value_and_grad(steps)(x)
        case 1:
            return pb.value_and_grad(until)(x)
        case 2 if x.shape[0]:
            return pb.vmap(until)(x)
        case 3 if x.shape[0]:
            choice = lambda r: pb.cond(pb.sum(r) > 0, pb.exp, lambda r: r - 1, r)
            return pb.vmap(pb.grad(lambda r: pb.sum(choice(pb.tanh(r)))))(x)
        case 4:
            return pb.scan(lambda c, _: (pb.sin(c), pb.sum(c)), x, None, length=int(n) - 1)
        case 5:
            inner = lambda c, row: (pb.fori_loop(0, 2, lambda i, c: pb.tanh(c + i), c + row), c)
            return pb.scan(inner, zero, x)
    return pb.grad(lambda x: steps(x) * 0.5 + steps(pb.sin(x)))(x)


STEPS: tuple[Callable[[Maker], Any], ...] = (
    joined_shapes,
    joined_shapes,
    chain,
    chain,
    masked,
    reduced,
    reduced,
    rows,
    running,
    relaid,
    sliced,
    resized,
    put_together,
    product,
    product,
    indexed,
    converted,
    looped,
    convolved,
    convolved,
    pooled,
    scattered,
    scattered,
    gathered,
    integers,
    integers,
    questions,
    attended,
    summed_products,
    losses,
    normalised,
    adam_step,
    drawn_at_random,
    differentiated,
    differentiated,
    repeated,
    repeated,
)
