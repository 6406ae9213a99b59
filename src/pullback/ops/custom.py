"""A function whose derivative is given, not derived."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import Any, ClassVar, Protocol, runtime_checkable

from pullback.errors import NotDifferentiableError
from pullback.ir.array import Array
from pullback.ir.builder import building, record
from pullback.ir.graph import Graph, graph_flops
from pullback.ir.interpret import interpret
from pullback.ir.op import GraphTransforms, HigherOrder, Maybe, Pull, Sample
from pullback.ir.samples import integers, normal
from pullback.ir.types import TensorType, float64, is_float
from pullback.ops.operators import sum_over, zeros
from pullback.ops.subgraph import (
    filled,
    floats,
    full_bars,
    put,
    require_types,
    types_of,
)


@dataclass(frozen=True)
class Residuals:
    """What a forward rule hands to the backward rule: arrays, and how the rules arrange them."""

    values: tuple[Array, ...]
    structure: Any = None


class Rules(Protocol):
    """Derivative rules on flat arrays; each runs in the context where the derivative is taken."""

    @property
    def name(self) -> str: ...

    @property
    def has_reverse(self) -> bool: ...

    @property
    def has_forward(self) -> bool: ...

    def forward(self, inputs: Sequence[Array]) -> Residuals:
        """What `backward` needs to know of the inputs."""
        ...

    def backward(self, residuals: Residuals, bars: Sequence[Array]) -> Sequence[Maybe]:
        """Cotangents of the inputs from those of the float outputs."""
        ...

    def push(self, inputs: Sequence[Array], dots: Sequence[Array]) -> Sequence[Array]:
        """Tangents of the float outputs from those of the float inputs."""
        ...


@runtime_checkable
class OwnRules(Rules, Protocol):
    """Rules as a user gave them, which can be tried and told."""

    @property
    def origin(self) -> object:
        """Equal for the rules of one function."""
        ...

    @property
    def code(self) -> CodeType | None:
        """Of the function that gives the derivative."""
        ...

    def applied(self, inputs: Sequence[Array]) -> Sequence[Array]:
        """The function with its rules, at inputs of whatever floating types."""
        ...


@dataclass(frozen=True)
class Custom(HigherOrder):
    """The outputs of a graph, with derivatives by `rules`.

    The operands are the arguments and then `captured` more values that the function found around
    it, for which the rules give no derivative. Where the rule of one mode is missing it is the
    transpose of the other's.
    """

    name = "custom"
    parses: ClassVar[bool] = False
    body: Graph
    rules: Rules
    captured: int = 0

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        require_types(types_of(self.body.inputs), types, "operand")
        return types_of(self.body.outputs)

    def reference(self, *operands: Any) -> Any:
        return tuple(interpret(self.body, operands))

    # ---- derivatives ----

    def pulling(
        self,
        inputs: tuple[Array, ...],
        outputs: tuple[Array, ...],
        wanted: Sequence[bool],
        transforms: GraphTransforms,
    ) -> Pull:
        arguments = self._arguments(inputs, wanted)
        if self.rules.has_reverse:
            residuals = self.rules.forward(arguments)

            def pulled(bars: Sequence[Array]) -> Sequence[Maybe]:
                return self.rules.backward(residuals, bars)

        else:
            moving = floats(arguments)
            transposed = _transpose(
                lambda *dots: self.rules.push(arguments, dots), types_of(moving), transforms
            )

            def pulled(bars: Sequence[Array]) -> Sequence[Maybe]:
                return put([is_float(x.dtype) for x in arguments], transposed(bars))

        def pull(bars: tuple[Maybe, ...]) -> Iterator[tuple[int, Array]]:
            for i, bar in enumerate(pulled(full_bars(bars, self.body.outputs))):
                if bar is not None:
                    yield i, bar

        return pull

    def tangents_of(
        self, dots: tuple[Maybe, ...], inputs: tuple[Array, ...], transforms: GraphTransforms
    ) -> tuple[None, tuple[Maybe, ...]]:
        arguments = self._arguments(inputs, [dot is not None for dot in dots])
        moving = [is_float(x.dtype) for x in arguments]
        given = dots[: len(arguments)]
        full = [dot for dot in filled(given, moving, arguments) if dot is not None]
        if self.rules.has_forward:
            made = self.rules.push(arguments, full)
        else:
            residuals = self.rules.forward(arguments)

            def backward(*bars: Array) -> Iterable[Array]:
                pulled = self.rules.backward(residuals, bars)
                return full_bars(pulled, arguments)

            made = _transpose(backward, types_of(floats(self.body.outputs)), transforms)(full)
        return None, tuple(put([is_float(x.dtype) for x in self.body.outputs], made))

    def _arguments(self, inputs: Sequence[Array], active: Sequence[bool]) -> Sequence[Array]:
        count = len(inputs) - self.captured
        for x, moves in zip(inputs[count:], active[count:], strict=True):
            if moves:
                raise NotDifferentiableError(
                    f"{self.rules.name} uses {x.type} from the function around it, and its own "
                    "derivative rules give no derivative for that",
                    hint="pass the value as an argument, or cut it with pb.stop_gradient",
                )
        return inputs[:count]

    # ---- batching, cost, tests ----

    def batch_of(
        self,
        size: int,
        inputs: tuple[Array, ...],
        batched: Sequence[bool],
        transforms: GraphTransforms,
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        body, flags = transforms.batch(self.body, size, batched, [True] * len(self.body.outputs))
        count = len(inputs) - self.captured
        rules = _BatchedRules(self.rules, size, tuple(batched[:count]), transforms)
        return Custom(body, rules, self.captured).outputs(*inputs), flags

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return graph_flops(self.body)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        vector = TensorType((3,), float64)
        product = record(lambda x, y: (x * y,), (vector, vector))
        for reverse, forward in ((True, True), (True, False), (False, True)):
            yield Sample(cls(product, _Product(reverse, forward)), normal(3), normal(3, seed=1))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        square = record(lambda x, y: (x * y,), (TensorType((3,), float64),) * 2)
        yield Sample(cls(square, _Product()), normal(3), normal(4))
        yield Sample(cls(square, _Product()), normal(3), integers(3))


def _traced(
    function: Callable[..., Iterable[Array]], types: Iterable[TensorType]
) -> tuple[Graph, tuple[Array, ...]]:
    """The graph of `function`, and the values it captured, which are its last operands."""
    with building(evaluating=False) as builder:
        inputs = [builder.input(kind) for kind in types]
        return builder.finish(tuple(function(*inputs)))


def _transpose(
    linear: Callable[..., Iterable[Array]],
    types: Sequence[TensorType],
    transforms: GraphTransforms,
) -> Callable[[Sequence[Array]], tuple[Array, ...]]:
    """The transpose of a linear function of operands of these types, at once or later."""
    graph, captured = _traced(linear, types)
    forward, backward = transforms.vjp(graph, range(len(types)))
    # A linear map has the same transpose everywhere, so at 0.
    played = transforms.inline(forward, [*[zeros(kind) for kind in types], *captured])
    residuals = played[len(graph.outputs) :]
    return lambda bars: transforms.inline(backward, [*residuals, *bars])


@dataclass(frozen=True)
class _BatchedRules:
    """The rules of a function for `size` examples, from those for one."""

    one: Rules
    size: int
    batched: tuple[bool, ...]
    transforms: GraphTransforms

    @property
    def name(self) -> str:
        return self.one.name

    @property
    def has_reverse(self) -> bool:
        return self.one.has_reverse

    @property
    def has_forward(self) -> bool:
        return self.one.has_forward

    def forward(self, inputs: Sequence[Array]) -> Residuals:
        structure = []

        def example(*values: Array) -> Iterable[Array]:
            residuals = self.one.forward(values)
            structure.append(residuals.structure)
            return residuals.values

        values, flags = self._played(example, inputs, self.batched, force=False)
        return Residuals(values, (structure[0], flags))

    def backward(self, residuals: Residuals, bars: Sequence[Array]) -> Sequence[Maybe]:
        structure, flags = residuals.structure
        count = len(flags)
        wanted: list[bool] = []

        def example(*values: Array) -> Iterable[Array]:
            given = Residuals(values[:count], structure)
            pulled = self.one.backward(given, values[count:])
            wanted.extend(bar is not None for bar in pulled)
            return [bar for bar in pulled if bar is not None]

        operands = (*residuals.values, *bars)
        made, _ = self._played(example, operands, (*flags, *[True] * len(bars)), force=True)
        # All examples share an unbatched input: its cotangent is the sum of theirs.
        return [
            bar if b or bar is None else sum_over(bar, (0,))
            for bar, b in zip(put(wanted, made), self.batched, strict=True)
        ]

    def push(self, inputs: Sequence[Array], dots: Sequence[Array]) -> Sequence[Array]:
        count = len(inputs)
        moving = [b for x, b in zip(inputs, self.batched, strict=True) if is_float(x.dtype)]

        def example(*values: Array) -> Iterable[Array]:
            return self.one.push(values[:count], values[count:])

        return self._played(example, (*inputs, *dots), (*self.batched, *moving), force=True)[0]

    def _played(
        self,
        example: Callable[..., Iterable[Array]],
        operands: Sequence[Array],
        batched: Sequence[bool],
        force: bool,
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        types = [
            x.type.reshaped(x.shape[1:]) if b else x.type
            for x, b in zip(operands, batched, strict=True)
        ]
        graph, captured = _traced(example, types)
        every = [force] * len(graph.outputs)
        flags = [*batched, *[False] * len(captured)]
        played, made = self.transforms.batch(graph, self.size, flags, every)
        return self.transforms.inline(played, [*operands, *captured]), made


@dataclass(frozen=True)
class _Product:
    """The rules of a product, for the samples."""

    has_reverse: bool = True
    has_forward: bool = True
    name: str = "product"

    def forward(self, inputs: Sequence[Array]) -> Residuals:
        return Residuals(tuple(inputs))

    def backward(self, residuals: Residuals, bars: Sequence[Array]) -> Sequence[Maybe]:
        x, y = residuals.values
        (bar,) = bars
        return bar * y, bar * x

    def push(self, inputs: Sequence[Array], dots: Sequence[Array]) -> Sequence[Array]:
        (x, y), (x_dot, y_dot) = inputs, dots
        return (x_dot * y + x * y_dot,)
