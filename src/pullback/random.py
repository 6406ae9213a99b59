"""Random numbers from explicit keys, with the signatures of `jax.random`.

A draw is a pure function of its key: the same key gives the same bits, on every machine, in eager
and in compiled code, and again when a backward pass recomputes it. Element i depends on (key, i)
alone. Use a key for one draw and `split` it for more.

Every function runs under `vmap`, `grad` and `compile`. Draws are differentiable in the parameters
they are scaled by (`minval`, `maxval`): the underlying bits are held.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pullback._public import public
from pullback.errors import ArgumentError, DTypeError, ShapeError
from pullback.functions.activations import softmax
from pullback.functions.contraction import matmul
from pullback.functions.creation import eye, ones, triu
from pullback.functions.elementwise import (
    erf,
    erfinv,
    exp,
    log,
    nextafter,
    stop_gradient,
    straight_through,
    where,
)
from pullback.functions.gathering import one_hot, take
from pullback.functions.linear_algebra import diagonal
from pullback.functions.manipulation import moveaxis, stack
from pullback.functions.reductions import argmax, sum, vector_norm
from pullback.functions.sorting import argsort
from pullback.ir.array import Array, concrete
from pullback.ir.types import (
    DType,
    Shape,
    as_dtype,
    bfloat16,
    float16,
    float32,
    float64,
    int64,
    is_float,
    is_integer,
    normalize_axis,
    uint32,
    uint64,
)
from pullback.ops.operators import broadcast_to, cast, constant, lift, reshape
from pullback.ops.sampling import RandomBits
from pullback.ops.weak import Weak
from pullback.transforms.control import scan

SIGNIFICANT = {bfloat16: 8, float16: 11, float32: 24, float64: 53}
"""Bits of the significand: integers up to 2^bits are exact."""

FOLD = (0x9E3779B9, 0x7F4A7C15)
"""Added to a key by `fold_in`, so that folding and splitting never meet: 2⁶⁴ / golden ratio."""

# ---- keys -----------------------------------------------------------------------------------


@public
def key(seed: int) -> Array:
    """The random key uint32[2] of a seed, 0 ≤ seed < 2⁶⁴: its high and its low half.

    Raises `ArgumentError` for another number, `DTypeError` for a seed that is no integer.

    >>> key(7)
    Array([0, 7], dtype=uint32)
    """
    return concrete(np.array(_halves(seed, "a seed"), uint32))


@public
def split(key: Array, num: int | Sequence[int] = 2) -> Array:
    """`num` new keys, uint32[num,2], independent of each other and of draws from other keys."""
    return RandomBits((*_shape((num,) if isinstance(num, int) else num), 2))(_key(key))


@public
def fold_in(key: Array, data: int | Array) -> Array:
    """A new key from a key and an integer, as a step number: other integers give independent keys.

    `data` is a Python integer, 0 ≤ data < 2⁶⁴, or a rank-0 integer array, traced or not.
    """
    high, low = _words(data)
    hashed = RandomBits((2,))(_key(key) + np.array(FOLD, uint32))
    return RandomBits((2,))(hashed ^ stack((high, low)))


def _words(data: int | Array) -> tuple[Array, Array]:
    if not isinstance(data, Array):
        high, low = _halves(data, "data to fold in")
        return concrete(np.asarray(high, uint32)), concrete(np.asarray(low, uint32))
    if not is_integer(data.dtype) or data.ndim:
        raise DTypeError(f"data to fold in is a rank-0 integer, not {data.type}")
    wide = data if data.dtype == uint64 else cast(data, int64)
    return cast(wide >> 32, uint32), cast(wide, uint32)


def _halves(number: int, what: str) -> tuple[int, int]:
    if isinstance(number, bool) or not isinstance(number, int | np.integer):
        raise DTypeError(f"{what} is an integer, not {number!r:.60}")
    if not 0 <= number < 2**64:
        raise ArgumentError(f"{what} lies in 0 … 2⁶⁴ - 1, not {number}")
    return divmod(int(number), 2**32)


def _key(key: Array) -> Array:
    array = lift(key) if isinstance(key, np.ndarray) else key
    if not isinstance(array, Array):
        raise DTypeError(
            f"a random key is an array uint32[2], not {key!r:.60}",
            hint="make one with pb.random.key(seed)",
        )
    if array.dtype != uint32 or array.shape != (2,):
        several = array.dtype == uint32 and array.shape[-1:] == (2,)
        raise (ShapeError if array.dtype == uint32 else DTypeError)(
            f"a random key is uint32[2], not {array.type}",
            hint="take one of the keys, or use pb.vmap"
            if several
            else "make one with pb.random.key(seed)",
        )
    return array


def _shape(shape: int | Sequence[int]) -> Shape:
    sizes = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
    for size in sizes:
        if isinstance(size, bool) or not isinstance(size, int | np.integer):
            raise ShapeError(f"a shape is made of integers, not {size!r:.60}")
        if size < 0:
            raise ShapeError(f"a shape has no negative sizes: {sizes}")
    return tuple(int(size) for size in sizes)


def _float_dtype(dtype: Any) -> DType:
    parsed = as_dtype(dtype)
    if not is_float(parsed):
        raise DTypeError(f"this distribution is floating, not {parsed}")
    return parsed


# ---- bits and integers ----------------------------------------------------------------------


@public
def bits(key: Array, shape: int | Sequence[int] = (), dtype: Any = uint32) -> Array:
    """Uniform random words of an unsigned element type."""
    wanted, sizes = as_dtype(dtype), _shape(shape)
    if wanted.kind != "u":
        raise DTypeError(f"random words are unsigned, not {wanted}")
    if wanted == uint64:
        high, low = _two_words(_key(key), sizes)
        return cast(high, uint64) << 32 | cast(low, uint64)
    return cast(RandomBits(sizes)(_key(key)) >> (32 - 8 * wanted.itemsize), wanted)


@public
def randint(
    key: Array,
    shape: int | Sequence[int],
    minval: int | Array,
    maxval: int | Array,
    dtype: Any = int64,
) -> Array:
    """Uniform integers in [minval, maxval): 64 random bits modulo the span, biased by span / 2⁶⁴.

    An empty range gives `minval`; where both bounds are Python integers it raises `ArgumentError`.
    """
    wanted, sizes = as_dtype(dtype), _shape(shape)
    if not is_integer(wanted):
        raise DTypeError(f"random integers are integers, not {wanted}")
    if isinstance(minval, int) and isinstance(maxval, int) and minval >= maxval:
        raise ArgumentError(f"there is no integer in [{minval}, {maxval})")
    limits = np.iinfo(wanted)
    for bound, largest in ((minval, limits.max), (maxval, int(limits.max) + 1)):
        if isinstance(bound, int) and not limits.min <= bound <= largest:
            raise ArgumentError(f"{bound} is no bound for {wanted}")
    inner = uint64 if wanted == uint64 else int64
    low, high = (broadcast_to(_integer(x, inner), sizes) for x in (minval, maxval))
    span = where(low < high, cast(high - low, uint64), 1)
    return cast(low + cast(bits(key, sizes, uint64) % span, inner), wanted)


def _integer(bound: int | Array, dtype: DType) -> Array:
    array = constant(bound, dtype) if isinstance(bound, int) else lift(bound)
    if not is_integer(array.dtype):
        raise DTypeError(f"a bound is an integer, not {array.type}")
    return cast(array, dtype)


def _two_words(key: Array, shape: Shape) -> tuple[Array, Array]:
    """The words 2i and 2i + 1 for each element i."""
    words = RandomBits((*shape, 2))(key)
    return words[..., 0], words[..., 1]


def _random_whole(key: Array, shape: Shape, count: int, dtype: DType) -> Array:
    """Uniform integers of `count` bits, exactly, as floating numbers of `dtype`."""
    if count <= 32:
        return cast(RandomBits(shape)(key) >> (32 - count), dtype)
    high, low = _two_words(key, shape)
    return cast(high >> (64 - count), dtype) * 2.0**32 + cast(low, dtype)


# ---- continuous distributions ---------------------------------------------------------------


@public
def uniform(
    key: Array,
    shape: int | Sequence[int] = (),
    dtype: Any = float32,
    minval: float | Array = 0.0,
    maxval: float | Array = 1.0,
) -> Array:
    """Uniform numbers in [minval, maxval): the lower end is reached, the upper never.

    Multiples of 2⁻²⁴ (float32) of the span. Differentiable in `minval` and `maxval`.
    Where minval ≥ maxval the result is `minval`; two Python numbers in that order raise
    `ArgumentError`.
    """
    wanted, sizes = _float_dtype(dtype), _shape(shape)
    count = SIGNIFICANT[wanted]
    unit = _random_whole(_key(key), sizes, count, wanted) * 2.0**-count
    if _is_literal(minval, 0.0) and _is_literal(maxval, 1.0):
        return unit
    low, high = _bounds(minval, maxval, sizes, wanted)
    x = unit * (high - low) + low
    # Rounding can reach the upper end: one step below it, the derivative as before.
    step = where(x < high, 0.0, nextafter(high, low) - x)
    return x + stop_gradient(step)


@public
def normal(key: Array, shape: int | Sequence[int] = (), dtype: Any = float32) -> Array:
    """Standard normal numbers √2 erf⁻¹(u), u uniform in (-1, 1): one word each, symmetric about 0.

    Half-precision numbers are drawn in float32 and rounded.
    """
    wanted, sizes = _float_dtype(dtype), _shape(shape)
    inner = _inner(wanted)
    return cast(_quantile(_open_unit(_key(key), sizes, inner) * 2.0 - 1.0), wanted)


@public
def truncated_normal(
    key: Array,
    lower: float | Array,
    upper: float | Array,
    shape: int | Sequence[int] = (),
    dtype: Any = float32,
) -> Array:
    """Standard normal numbers given that they lie in [lower, upper]; differentiable in both ends.

    Accurate while the ends are within about 4 (float32) or 7 (float64) of 0.
    """
    wanted, sizes = _float_dtype(dtype), _shape(shape)
    inner = _inner(wanted)
    low, high = _bounds(lower, upper, sizes, inner)
    below, above = (erf(x * math.sqrt(0.5)) for x in (low, high))
    x = _quantile(_open_unit(_key(key), sizes, inner) * (above - below) + below)
    excess = x - where(x < low, low, where(high < x, high, x))
    return cast(x - stop_gradient(excess), wanted)


@public
def exponential(key: Array, shape: int | Sequence[int] = (), dtype: Any = float32) -> Array:
    """Exponential numbers of rate 1: -log(u), u uniform in (0, 1); all positive."""
    wanted = _float_dtype(dtype)
    unit = _open_unit(_key(key), _shape(shape), _inner(wanted))
    return cast(-log(unit), wanted)


@public
def gumbel(key: Array, shape: int | Sequence[int] = (), dtype: Any = float32) -> Array:
    """Standard Gumbel numbers, -log(-log(u)), u uniform in (0, 1)."""
    wanted = _float_dtype(dtype)
    unit = _open_unit(_key(key), _shape(shape), _inner(wanted))
    return cast(-log(-log(unit)), wanted)


def _open_unit(key: Array, shape: Shape, dtype: DType) -> Array:
    """Odd multiples of 2⁻ᵖ, p the bits of the significand: in (0, 1), symmetric about ½, exact."""
    count = SIGNIFICANT[dtype]
    whole = _random_whole(key, shape, count - 1, dtype)
    return (whole * 2.0 + 1.0) * 2.0**-count


def _quantile(x: Array) -> Array:
    return erfinv(x) * math.sqrt(2.0)


def _inner(dtype: DType) -> DType:
    return float64 if dtype == float64 else float32


def _bounds(
    low: float | Array, high: float | Array, shape: Shape, dtype: DType
) -> tuple[Array, Array]:
    if isinstance(low, int | float) and isinstance(high, int | float) and not low < high:
        raise ArgumentError(f"the interval from {low} to {high} is empty")
    lifted = (cast(lift(x), dtype) for x in (low, high))
    first, second = (broadcast_to(x, shape) for x in lifted)
    return first, second


def _is_literal(value: object, number: float) -> bool:
    return isinstance(value, int | float) and value == number


@public
def orthogonal(key: Array, n: int, shape: int | Sequence[int] = (), dtype: Any = float32) -> Array:
    """Orthogonal matrices of shape `shape` + (n, n), uniform by Haar's measure.

    A product of reflections of independent normal vectors (Stewart 1980), computed in float64.
    """
    wanted, lead = _float_dtype(dtype), _shape(shape)
    (size,) = _shape((n,))
    units = eye(size, dtype=float64)
    vectors = normal(key, (*lead, size, size), float64)
    signs = where(diagonal(vectors) < 0, -1.0, 1.0)

    def reflect(q: Array, k: tuple[Array, Array, Array, Array]) -> tuple[Array, None]:
        """Q (I - 2 v vᵀ / vᵀv), where v = x + sign · |x| · e cannot cancel."""
        vector, sign, unit, tail = k
        x = vector * tail
        v = x + (sign * vector_norm(x, axis=-1))[..., None] * unit
        along = matmul(q, v[..., None]) * (2.0 / sum(v * v, axis=-1))[..., None, None]
        return q - along * v[..., None, :], None

    # Vector k loses its first k elements: reflection k leaves the first k axes alone.
    each = (
        moveaxis(vectors, -2, 0),
        moveaxis(signs, -1, 0),
        units,
        triu(ones((size, size), dtype=float64)),
    )
    q, _ = scan(reflect, broadcast_to(units, vectors.shape), each)
    return cast(q * -signs[..., None, :], wanted)


# ---- discrete distributions -----------------------------------------------------------------


@public
def bernoulli(
    key: Array, p: float | Array = 0.5, shape: int | Sequence[int] | None = None
) -> Array:
    """True with probability `p`: never at 0, always at 1. `shape` is that of `p` by default.

    Raises `ArgumentError` for a Python number `p` outside [0, 1].
    """
    if isinstance(p, int | float) and not 0 <= p <= 1:
        raise ArgumentError(f"a probability lies in [0, 1], not {p}")
    chance = lift(p) if isinstance(p, Array | Weak | np.ndarray | np.generic) else lift(float(p))
    if not is_float(chance.dtype):
        raise DTypeError(f"a probability is floating, not {chance.type}")
    sizes = chance.shape if shape is None else _shape(shape)
    dtype = _inner(chance.dtype)
    return uniform(key, sizes, dtype) < broadcast_to(cast(chance, dtype), sizes)


@public
def categorical(
    key: Array,
    logits: Array,
    axis: int = -1,
    shape: int | Sequence[int] | None = None,
) -> Array:
    """Class indices, int64, with probabilities softmax(logits) along `axis` (Gumbel's maximum).

    `shape` ends with the shape of `logits` without `axis`, its default; axes before are more draws.
    A logit of -∞ is never drawn while another is finite.
    """
    scores = lift(logits)
    if not is_float(scores.dtype):
        raise DTypeError(f"logits are floating, not {scores.type}")
    axis = normalize_axis(axis, scores.ndim)
    if scores.shape[axis] == 0:
        raise ShapeError("there is no class to draw: the axis of the logits has size 0")
    each = scores.shape[:axis] + scores.shape[axis + 1 :]
    sizes = each if shape is None else _shape(shape)
    lead = sizes[: len(sizes) - len(each)]
    if lead + each != sizes:
        raise ShapeError(
            f"a draw from {scores.type} along axis {axis} has a shape that ends with "
            f"{each}, not {sizes}"
        )
    noise = gumbel(key, lead + scores.shape, _inner(scores.dtype))
    return argmax(noise + cast(scores, noise.dtype), axis=len(lead) + axis)


@public
def gumbel_softmax(
    key: Array, logits: Array, temperature: float | Array = 1.0, axis: int = -1, hard: bool = False
) -> Array:
    """A class drawn as `categorical` draws, relaxed to the weights softmax((logits + noise) / τ).

    Differentiable in the logits (Jang et al. 2017; Maddison et al. 2017). With `hard` the value is
    the drawn class as zeros and a one, and the derivative that of the weights: straight through.
    Raises `ArgumentError` for a Python number τ that is not positive.

    >>> import numpy as np
    >>> gumbel_softmax(key(0), np.zeros(3), hard=True).tolist().count(1.0)
    1
    """
    if isinstance(temperature, int | float) and not 0 < temperature < math.inf:
        raise ArgumentError(f"a temperature is positive and finite, not {temperature}")
    scores = lift(logits)
    if not is_float(scores.dtype):
        raise DTypeError(f"logits are floating, not {scores.type}")
    axis = normalize_axis(axis, scores.ndim)
    noisy = scores + gumbel(key, scores.shape, scores.dtype)
    soft = softmax(noisy / temperature, axis=axis)
    if not hard:
        return soft
    drawn = argmax(noisy, axis=axis)
    return straight_through(one_hot(drawn, scores.shape[axis], axis=axis, dtype=soft.dtype), soft)


@public
def score_function(value: Array, log_prob: Array, baseline: float | Array = 0.0) -> Array:
    """`value` of a draw, with the derivative of its expectation in the parameters of the draw.

    The score-function estimator, REINFORCE (Williams 1992): beside its own derivative `value` has
    (value - baseline) · ∂ log_prob, `log_prob` that of what was drawn, and a baseline that does not
    depend on it, which lowers the variance. Every order of derivative is unbiased where the
    baseline is 0, the first with any (Foerster et al. 2018).

    >>> import pullback as pb
    >>> pb.grad(lambda p: score_function(3.0, pb.log(p)))(0.5).item()
    6.0
    """
    weight = lift(log_prob)
    reward = cast(lift(value), weight.dtype) if not is_float(lift(value).dtype) else lift(value)
    ratio = exp(weight - stop_gradient(weight))
    return straight_through(reward, (reward - stop_gradient(baseline)) * ratio)


@public
def permutation(key: Array, x: int | Array, axis: int = 0) -> Array:
    """The numbers 0 … x - 1, or the slices of `x` along `axis`, in random order.

    The order is that of 64-bit random words: two are equal with probability n² / 2⁶⁵.
    """
    if isinstance(x, int | np.integer):
        (size,) = _shape((x,))
        return _random_order(key, size)
    array = lift(x)
    axis = normalize_axis(axis, array.ndim)
    return take(array, _random_order(key, array.shape[axis]), axis=axis)


@public
def choice(
    key: Array,
    a: int | Array,
    shape: int | Sequence[int] = (),
    replace: bool = True,
    p: Array | None = None,
    axis: int = 0,
) -> Array:
    """Elements of 0 … a - 1, or of `a` along `axis`, uniformly or with probabilities `p`.

    Raises `ArgumentError` when more elements are asked for than there are and `replace` is False.
    """
    sizes = _shape(shape)
    plain = isinstance(a, int | np.integer)
    population = None if plain else lift(a)
    axis = 0 if population is None else normalize_axis(axis, population.ndim)
    n = _shape((a,))[0] if population is None else population.shape[axis]  # type: ignore[arg-type]
    count = math.prod(sizes)
    if (n == 0 and count) or (not replace and count > n):
        raise ArgumentError(f"{count} elements cannot be chosen from {n} ({replace=})")
    chosen = _chosen(key, n, count, replace, p)
    if population is None:
        return reshape(chosen, sizes)
    before, after = population.shape[:axis], population.shape[axis + 1 :]
    return reshape(take(population, chosen, axis=axis), before + sizes + after)


def _chosen(key: Array, n: int, count: int, replace: bool, p: Array | None) -> Array:
    if p is None:
        if replace:
            return randint(key, (count,), 0, max(n, 1))
        return _random_order(key, n)[:count]
    chances = lift(p)
    if chances.shape != (n,):
        raise ShapeError(f"{n} probabilities are needed, not {chances.type}")
    logits = log(chances)
    if replace:
        return categorical(key, logits, shape=(count,))
    scores = logits + gumbel(key, (n,), logits.dtype)
    return argsort(scores, descending=True)[:count]


def _random_order(key: Array, size: int) -> Array:
    return argsort(bits(key, (size,), uint64))
