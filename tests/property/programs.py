"""Random programs of pointwise, reduction, layout and contraction ops on small float64 arrays.

`Program(seed)` is a function of arrays. Which ops it applies depends on the seed and on shapes,
never on numbers, so it is the same program under every transform. All its ops are smooth at the
numbers it meets: a finite difference is a fair judge.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from pullback.ir.array import Array, concrete
from pullback.ir.types import float64
from pullback.ops import operators
from pullback.ops.contract import Contract
from pullback.ops.create import Iota
from pullback.ops.cumulative import CumLogSumExp, CumSum
from pullback.ops.layout import Broadcast, Concat, Flip, Pad, Reshape, Slice, Transpose
from pullback.ops.pointwise import Exp, Log, Sigmoid, Sqrt, StopGradient, Tanh
from pullback.ops.reduce import Sum

LENGTH = 12
MAX_RANK = 4
MAX_SIZE = 96
SIZES = (1, 2, 3)

Step = Callable[["np.random.Generator", list[Array]], Array | None]


class Program:
    """A random function of three arrays, with two results."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, *inputs: Array) -> tuple[Array, Array]:
        rng = np.random.default_rng((self.seed, 1))
        values = list(inputs)
        while len(values) < len(inputs) + LENGTH:
            step = STEPS[rng.integers(len(STEPS))]
            made = step(rng, values)
            if made is not None and made.size <= MAX_SIZE and made.ndim <= MAX_RANK:
                values.append(made)
        return values[-1], values[int(rng.integers(len(inputs), len(values)))]

    def loss(self, *inputs: Array) -> Array:
        """Σ tanh over both results: a scalar that keeps its size."""
        first, second = self(*inputs)
        return total(Tanh()(first)) + total(Tanh()(second))

    def inputs(self, variant: int = 0) -> list[Array]:
        """Three arrays; the shapes depend on the seed, the numbers on the variant, too."""
        shapes = np.random.default_rng((self.seed, 0))
        numbers = np.random.default_rng((self.seed, 2, variant))
        made = []
        for _ in range(3):
            shape = tuple(int(n) for n in shapes.choice(SIZES, shapes.integers(0, 4)))
            made.append(concrete(np.asarray(numbers.uniform(-1.0, 1.0, shape))))
        return made

    def __str__(self) -> str:
        return f"program {self.seed}"


def total(x: Array) -> Array:
    return operators.sum_over(x, tuple(range(x.ndim)))


# ---- steps ----------------------------------------------------------------------------------


def pick(rng: np.random.Generator, values: list[Array]) -> Array:
    """One of the values, late ones more often."""
    return values[-1 - min(int(rng.geometric(0.3)) - 1, len(values) - 1)]


def pointwise(rng: np.random.Generator, values: list[Array]) -> Array:
    x = pick(rng, values)
    functions: list[Callable[[Array], Array]] = [
        Tanh(),
        Sigmoid(),
        lambda x: Exp()(Tanh()(x)),
        lambda x: Log()(x * x + 1.0),
        lambda x: Sqrt()(x * x + 0.5),
        lambda x: -x * 0.5,
        lambda x: 1.0 / (x * x + 1.0),
    ]
    return functions[rng.integers(len(functions))](x)


def arithmetic(rng: np.random.Generator, values: list[Array]) -> Array | None:
    x, y = pick(rng, values), pick(rng, values)
    if not _broadcast(x.shape, y.shape):
        return None
    functions: list[Callable[[Array, Array], Array]] = [
        lambda x, y: x + y,
        lambda x, y: x - y,
        lambda x, y: x * y,
        lambda x, y: x / (y * y + 1.0),
        lambda x, y: x * Sigmoid()(y),
    ]
    return functions[rng.integers(len(functions))](x, y)


def masked(rng: np.random.Generator, values: list[Array]) -> Array | None:
    """A fixed half of the last axis decides; a branch that is not taken passes no gradient."""
    x = pick(rng, values)
    if x.ndim == 0:
        return None
    size = x.shape[-1]
    chosen = operators.less(Iota(size, float64)(), float(rng.integers(0, size + 1)))
    return operators.select(chosen, x * x, -x)


def reduction(rng: np.random.Generator, values: list[Array]) -> Array:
    x = pick(rng, values)
    axes = tuple(i for i in range(x.ndim) if rng.random() < 0.5)
    return Sum(axes)(x) * 0.5


def running(rng: np.random.Generator, values: list[Array]) -> Array | None:
    x = pick(rng, values)
    if x.ndim == 0:
        return None
    op = (CumSum, CumLogSumExp)[rng.integers(2)]
    return op(int(rng.integers(x.ndim)), bool(rng.random() < 0.5))(x) * 0.5


def reshaped(rng: np.random.Generator, values: list[Array]) -> Array:
    x = pick(rng, values)
    factors = list(_factors(x.size))
    rng.shuffle(factors)
    cuts = sorted(rng.integers(0, len(factors) + 1, int(rng.integers(0, 3))).tolist())
    edges = [0, *cuts, len(factors)]
    return Reshape(tuple(math.prod(factors[a:b]) for a, b in itertools.pairwise(edges)))(x)


def permuted(rng: np.random.Generator, values: list[Array]) -> Array:
    x = pick(rng, values)
    return Transpose(tuple(int(i) for i in rng.permutation(x.ndim)))(x)


def sliced(rng: np.random.Generator, values: list[Array]) -> Array:
    x = pick(rng, values)
    start = [int(rng.integers(0, n)) for n in x.shape]
    step = [int(rng.integers(1, 3)) for _ in x.shape]
    return Slice(tuple(start), x.shape, tuple(step))(x)


def padded(rng: np.random.Generator, values: list[Array]) -> Array:
    x = pick(rng, values)
    low, high, gap = (tuple(int(n) for n in rng.integers(0, 2, x.ndim)) for _ in range(3))
    return Pad(low, high, gap)(x)


def widened(rng: np.random.Generator, values: list[Array]) -> Array:
    x = pick(rng, values)
    axis = int(rng.integers(0, x.ndim + 1))
    size = int(rng.choice(SIZES))
    return Broadcast((*x.shape[:axis], size, *x.shape[axis:]), (axis,))(x)


def flipped(rng: np.random.Generator, values: list[Array]) -> Array:
    x = pick(rng, values)
    return Flip(tuple(i for i in range(x.ndim) if rng.random() < 0.5))(x)


def joined(rng: np.random.Generator, values: list[Array]) -> Array | None:
    x, y = pick(rng, values), pick(rng, values)
    if x.ndim == 0 or x.ndim != y.ndim:
        return None
    axis = int(rng.integers(0, x.ndim))
    others = [i for i in range(x.ndim) if i != axis]
    if any(x.shape[i] != y.shape[i] for i in others):
        return None
    return Concat(axis)(x, y)


def contracted(rng: np.random.Generator, values: list[Array]) -> Array | None:
    """A product over one axis that both operands have in the same size."""
    x, y = pick(rng, values), pick(rng, values)
    matches = [(i, j) for i, n in enumerate(x.shape) for j, m in enumerate(y.shape) if n == m]
    if not matches:
        return None
    i, j = matches[rng.integers(len(matches))]
    left = "abcd"[: x.ndim]
    right = "".join(left[i] if k == j else "wxyz"[k] for k in range(y.ndim))
    keep = [c for c in left + right if c != left[i]]
    rng.shuffle(keep)
    return Contract(left, right, "".join(keep))(x, y) * 0.5


def detached(rng: np.random.Generator, values: list[Array]) -> Array:
    """Its derivative is zero by definition, so it stands beside a path that moves."""
    x = pick(rng, values)
    return x + StopGradient()(x) * 0.0


STEPS: tuple[Step, ...] = (
    pointwise,
    pointwise,
    arithmetic,
    arithmetic,
    arithmetic,
    masked,
    reduction,
    running,
    reshaped,
    permuted,
    sliced,
    padded,
    widened,
    flipped,
    joined,
    contracted,
    contracted,
    detached,
)


def _broadcast(x: tuple[int, ...], y: tuple[int, ...]) -> bool:
    columns = zip(reversed(x), reversed(y), strict=False)
    return all(n == m or 1 in (n, m) for n, m in columns)


def _factors(n: int) -> Iterator[int]:
    divisor = 2
    while n > 1:
        while n % divisor == 0:
            yield divisor
            n //= divisor
        divisor += 1


def numbers(arrays: Any) -> list[np.ndarray]:
    return [x.numpy() for x in arrays]
