"""Random small programs over every op, for the compiler: all element types, odd and empty shapes.

Steps of two kinds make a program. `sampled` takes an application from the samples of some op and
feeds it with earlier values, brought to its operands' types, so every op takes part. The others
call the public interface on whatever shapes there are. Results are the last values or, for some
seeds, the gradients of their sum.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import pullback as pb
from conformance.catalogue import every_sample
from pullback.errors import NotDifferentiableError, PullbackError
from pullback.ir import types
from pullback.ir.array import Array
from pullback.ir.families import Elementwise
from pullback.ir.graph import Graph
from pullback.ir.op import HigherOrder, Sample
from pullback.ir.types import TensorType, is_float, is_integer
from pullback.nn import gelu, layer_norm

LENGTH = 10
MOST_ELEMENTS = 4096
MOST_RESULTS = 5
GRADIENTS = 0.35  # of the programs
FLOATS = (types.float32,) * 4 + (types.float64,) * 2 + (types.bfloat16, types.float16)
SHAPES = ((), (1,), (2,), (3,), (7,), (16,), (17,), (33,), (0,), (3, 4), (5, 1), (1, 9), (4, 0))
SHAPES += ((8, 16), (13, 31), (2, 3, 4), (3, 1, 5), (2, 2, 3, 3), (1, 1), (70, 3), (2, 200))
Generator = np.random.Generator


@dataclass
class Program:
    """A shorter program of the same seed is a beginning of the longer one."""

    seed: int
    length: int = LENGTH
    avoid: frozenset[str] = frozenset()
    inputs: list[np.ndarray] = field(default_factory=list)
    refused: dict[int, int] = field(default_factory=dict)
    """Steps that did not fit when inputs were sought, and how many inputs there were by then."""

    def build(self) -> tuple[Graph, list[np.ndarray]]:
        """The graph and numbers for its inputs.

        Which inputs there are is found by a first tracing, where each is a constant from outside.
        """
        self.inputs, self.refused = [], {}
        pb.trace(lambda: _Maker(self, None).values_made())
        kinds = [TensorType(x.shape, x.dtype) for x in self.inputs]
        return pb.trace(self._results, *kinds), self.inputs

    def _results(self, *inputs: Array) -> Any:
        if np.random.default_rng((self.seed, 1)).random() < GRADIENTS:
            try:
                return self._gradients(inputs)
            except NotDifferentiableError:
                pass
        return _Maker(self, inputs).values_made()

    def _gradients(self, inputs: tuple[Array, ...]) -> Any:
        places = [i for i, x in enumerate(inputs) if is_float(x.dtype)]

        def loss(chosen: list[Array]) -> Array:
            given = list(inputs)
            for i, x in zip(places, chosen, strict=True):
                given[i] = x
            made = _Maker(self, given).values_made()
            sums = [pb.sum(pb.tanh(x)) for x in made if is_float(x.dtype)]
            return functools.reduce(pb.add, sums, pb.zeros(()))

        return pb.grad(loss)([inputs[i] for i in places])


class _Maker:
    """One tracing. Without `given` inputs it leaves numbers for them in the program."""

    def __init__(self, program: Program, given: Any) -> None:
        self.program, self.given = program, given
        self.rng = np.random.default_rng((program.seed, 0))
        self.floats = FLOATS[self.rng.integers(len(FLOATS))]
        self.values: list[Array] = []
        self.taken = 0

    def values_made(self) -> tuple[Array, ...]:
        for _ in range(int(self.rng.integers(1, 4))):
            self.values.append(self.fresh(self.numbers(self.shape(), self.dtype())))
        for step in range(self.program.length):
            self.rng = np.random.default_rng((self.program.seed, 2, step))
            made = self.step(step)
            self.values += [x for x in made if x.size <= MOST_ELEMENTS and x.ndim <= 5]
        results = self.values[-MOST_RESULTS:]
        return (*results, results[0]) if self.program.seed % 8 == 0 else tuple(results)

    def step(self, number: int) -> tuple[Array, ...]:
        """The values of one step, none where it does not fit."""
        refused = self.program.refused
        if self.given is not None and number in refused:
            self.taken = refused[number]
            return ()
        try:
            if self.rng.random() < 0.5:
                return self.sampled()
            made = STEPS[self.rng.integers(len(STEPS))](self)
        except PullbackError:
            if self.given is not None:
                raise
            refused[number] = self.taken
            return ()
        return made if isinstance(made, tuple) else (made,)

    # ---- steps from samples ----

    def sampled(self) -> tuple[Array, ...]:
        samples = catalogue()
        names = [name for name in samples if name not in self.program.avoid]
        choices = samples[names[self.rng.integers(len(names))]]
        sample = choices[self.rng.integers(len(choices))]
        anywhere = isinstance(sample.op, Elementwise) and self.rng.random() < 0.7
        return sample.op.outputs(*(self.operand(sample, x, anywhere) for x in sample.inputs))

    def operand(self, sample: Sample, x: np.ndarray, anywhere: bool) -> Array:
        """A value of the type of `x`; for an elementwise op of any shape."""
        fixed = isinstance(sample.op, HigherOrder)
        dtype = self.floats if is_float(x.dtype) and not fixed else x.dtype
        if anywhere:
            return self.cast(self.pick(), dtype)
        if not is_float(x.dtype):
            return self.fresh(x)  # indices and shifts have to be in range
        if self.rng.random() < 0.2:
            with np.errstate(all="ignore"):
                return self.fresh(x.astype(dtype))
        return self.cast(self.resized(self.pick(), x.shape), dtype)

    def resized(self, x: Array, shape: tuple[int, ...]) -> Array:
        """The elements of `x` in row-major order, cut off or followed by zeros."""
        if x.shape == shape:
            return x
        count = int(np.prod(shape, dtype=int))
        flat = pb.reshape(x, (-1,) if x.size else (0,))
        flat = flat[:count] if count <= x.size else pb.pad(flat, ((0, count - x.size),))
        return pb.reshape(flat, shape)

    def cast(self, x: Array, dtype: Any) -> Array:
        if x.dtype == dtype:
            return x
        if dtype == types.bool_:
            return x > 0 if x.dtype != types.bool_ else x
        if is_integer(dtype) and is_float(x.dtype):
            x = pb.clip(x, -100.0, 100.0)
        return pb.astype(x, dtype)

    # ---- what steps choose from ----

    def pick(self) -> Array:
        """One of the values, late ones more often."""
        return self.values[-1 - min(int(self.rng.geometric(0.3)) - 1, len(self.values) - 1)]

    def pick_float(self) -> Array:
        return self.cast(self.pick(), self.floats)

    def axis(self, x: Array) -> int:
        return int(self.rng.integers(x.ndim)) if x.ndim else 0

    def shape(self) -> tuple[int, ...]:
        return SHAPES[self.rng.integers(len(SHAPES))]

    def dtype(self) -> Any:
        others = (types.int32, types.int64, types.bool_, types.uint8, types.int8, types.uint64)
        return self.floats if self.rng.random() < 0.75 else others[self.rng.integers(len(others))]

    def fresh(self, numbers: np.ndarray) -> Array:
        """The next input of the program."""
        self.taken += 1
        if self.given is not None:
            return self.given[self.taken - 1]
        self.program.inputs.append(np.ascontiguousarray(numbers).reshape(numbers.shape))
        return pb.asarray(numbers)

    def numbers(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        x = self.rng.standard_normal(shape)
        match self.rng.integers(5):
            case 0:
                x = np.round(x)
            case 1:
                x = x * 10.0 ** self.rng.integers(-3, 4)
            case 2:
                special = [np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-40, 3e38]
                x = np.where(self.rng.random(shape) < 0.1, self.rng.choice(special, shape), x)
        if is_float(dtype):
            with np.errstate(all="ignore"):
                return np.asarray(x).astype(dtype)
        if dtype == types.bool_:
            return np.asarray(self.rng.random(shape) < 0.5)
        low = 0 if dtype.kind == "u" else -9
        return np.asarray(self.rng.integers(low, 10, shape)).astype(dtype)


@functools.cache
def catalogue() -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for name, sample in every_sample():
        found.setdefault(name.rpartition("-")[0], []).append(sample)
    return found


# ---- steps through the public interface -----------------------------------------------------


def joined_shapes(m: _Maker) -> Array:
    """Arithmetic of two values, one of them perhaps with new axes or a part of itself."""
    x, y = m.pick_float(), m.pick_float()
    if m.rng.random() < 0.3:
        y = pb.sum(x, axis=m.axis(x), keepdims=True) if x.ndim else y
    functions = (pb.add, pb.subtract, pb.multiply, pb.maximum, pb.divide, pb.atan2)
    return functions[m.rng.integers(len(functions))](x, y)


def chain(m: _Maker) -> Array:
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
        x = functions[m.rng.integers(len(functions))](x)
    return x


def masked(m: _Maker) -> Array:
    x, y = m.pick_float(), m.pick_float()
    return pb.where(x > y, x * 0.5, y)


def reduced(m: _Maker) -> Array:
    x = m.pick()
    axes = tuple(i for i in range(x.ndim) if m.rng.random() < 0.5)
    functions = (pb.sum, pb.sum, pb.mean, pb.max, pb.min, pb.prod, pb.logsumexp, pb.std)
    function = functions[m.rng.integers(len(functions))]
    keep = bool(m.rng.random() < 0.5)
    return function(m.cast(x, m.floats), axis=axes, keepdims=keep)


def rows(m: _Maker) -> Array:
    x = m.pick_float()
    functions = (pb.softmax, pb.log_softmax, layer_norm)
    return functions[m.rng.integers(len(functions))](x, axis=m.axis(x))


def running(m: _Maker) -> Array:
    x = m.pick_float()
    functions = (pb.cumulative_sum, pb.cumulative_prod, pb.sort, pb.argsort, pb.flip)
    return functions[m.rng.integers(len(functions))](x, axis=m.axis(x))


def relaid(m: _Maker) -> Array:
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


def sliced(m: _Maker) -> Array:
    x = m.pick()
    parts = []
    for n in x.shape:
        start, step = int(m.rng.integers(0, n + 1)), int(m.rng.choice((1, 1, 2, -1)))
        parts.append(slice(None, None, step) if step < 0 else slice(start // 2, n, step))
    return x[tuple(parts)]


def resized(m: _Maker) -> Array:
    return m.resized(m.pick(), m.shape())


def put_together(m: _Maker) -> Array:
    x = m.pick()
    y = m.cast(m.resized(m.pick(), x.shape), x.dtype)
    return (pb.stack if m.rng.random() < 0.5 else pb.concat)([x, y], axis=m.axis(x))


def product(m: _Maker) -> Array:
    """A matrix product; its right operand is made to fit."""
    x = m.pick_float()
    if x.ndim == 0:
        return x
    columns = int(m.rng.choice((0, 1, 3, 8, 17)))
    y = m.cast(m.resized(m.pick(), (x.shape[-1], columns)), x.dtype)
    out = x @ y
    return pb.relu(out + 0.5) if m.rng.random() < 0.4 else out


def indexed(m: _Maker) -> Array:
    x = m.pick()
    axis = m.axis(x)
    n = x.shape[axis] if x.ndim else 0
    count = int(m.rng.integers(0, 6))
    where = m.fresh(m.rng.integers(0, n, count) if n else np.zeros(0, np.int64))
    if m.rng.random() < 0.5:
        return pb.take(x, where, axis=axis)
    update = m.cast(m.resized(m.pick(), (where.shape[0], *x.shape[1:])), x.dtype)
    return x.at[where].add(update) if axis == 0 and x.dtype != types.bool_ else x


def converted(m: _Maker) -> Array:
    kinds = (*FLOATS[3:], types.int32, types.int8)
    return m.cast(m.pick(), kinds[m.rng.integers(len(kinds))])


def looped(m: _Maker) -> Any:
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


STEPS: tuple[Callable[[_Maker], Any], ...] = (
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
)
