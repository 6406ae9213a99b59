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
from property.fuzz_steps import STEPS
from pullback.errors import NotDifferentiableError, PullbackError
from pullback.ir import types
from pullback.ir.array import Array
from pullback.ir.families import Elementwise
from pullback.ir.graph import Graph
from pullback.ir.op import HigherOrder, Sample
from pullback.ir.types import TensorType, is_float, is_integer
from pullback.transforms.trace import trace_leaves
from pullback.transforms.tree import flatten

LENGTH = 10
MOST_ELEMENTS = 4096
MOST_RESULTS = 5
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
        pb.trace(lambda: Maker(self, None).values_made())
        kinds = [TensorType(x.shape, x.dtype) for x in self.inputs]
        traced = trace_leaves(self._results, kinds, flatten(tuple(kinds))[1], evaluating=False)
        return traced.graph, [*self.inputs, *(x.numpy() for x in traced.captured)]

    def _results(self, *inputs: Array) -> Any:
        """The values made, or, for some seeds, a derivative of them or a batch."""
        chosen = np.random.default_rng((self.seed, 1)).random()
        if not any(is_float(x.dtype) for x in inputs):
            chosen = 1.0
        ways = ((0.3, self._gradients), (0.38, self._products), (0.46, self._batch))
        for share, way in ways:
            if chosen < share:
                try:
                    return way(inputs)
                except NotDifferentiableError:
                    break
        return Maker(self, inputs).values_made()

    def _loss(self, inputs: tuple[Array, ...]) -> tuple[Callable[..., Array], list[Array]]:
        """The sum of all floats as a function of the inputs that are floats, and these."""
        places = [i for i, x in enumerate(inputs) if is_float(x.dtype)]

        def loss(chosen: list[Array]) -> Array:
            given = list(inputs)
            for i, x in zip(places, chosen, strict=True):
                given[i] = x
            made = Maker(self, given).values_made()
            sums = [pb.sum(pb.tanh(x)) for x in made if is_float(x.dtype)]
            return functools.reduce(pb.add, sums, pb.zeros(()))

        return loss, [inputs[i] for i in places]

    def _gradients(self, inputs: tuple[Array, ...]) -> Any:
        loss, chosen = self._loss(inputs)
        return pb.grad(loss)(chosen)

    def _products(self, inputs: tuple[Array, ...]) -> Any:
        """Of the Hessian with the inputs."""
        loss, chosen = self._loss(inputs)
        return pb.hvp(loss, (chosen,), (chosen,))

    def _batch(self, inputs: tuple[Array, ...]) -> Any:
        """The gradients for two lists of inputs at once."""
        loss, chosen = self._loss(inputs)
        return pb.vmap(pb.grad(loss))([pb.stack([x, x * 0.5]) for x in chosen])


class Maker:
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
        flat = flat[:count] if count <= x.size else self.padded(flat, count - x.size)
        return pb.reshape(flat, shape)

    def padded(self, x: Array, count: int) -> Array:
        """Followed by zeros."""
        if x.dtype == types.bool_:
            return pb.concat([x, pb.zeros(count, dtype=x.dtype)])
        return pb.pad(x, ((0, count),))

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

    def drawn(self, shape: tuple[int, ...]) -> Array:
        """A new input of floats."""
        return self.fresh(self.numbers(shape, self.floats))

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
