"""Recomputation: a graph whose inner values are not kept for the backward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pullback.ir.array import Array
from pullback.ir.builder import record
from pullback.ir.graph import Graph, graph_flops
from pullback.ir.interpret import interpret
from pullback.ir.op import GraphTransforms, HigherOrder, Maybe, Op, Pull, Sample
from pullback.ir.samples import integers, normal
from pullback.ir.types import Axes, TensorType, float64, is_float
from pullback.ops.subgraph import indices, present, put, require_types, types_of


@dataclass(frozen=True)
class Checkpoint(HigherOrder):
    """The outputs of a graph, whose derivative computes the inner values anew.

    It keeps the operands, and the outputs at the positions in `kept`. The recomputation reads both
    through a `Barrier` that also takes the cotangents: it cannot begin before they exist, and is
    never merged with the first computation.
    """

    name = "checkpoint"
    body: Graph
    kept: Axes = ()

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        require_types(types_of(self.body.inputs), types, "operand")
        return types_of(self.body.outputs)

    def reference(self, *operands: Any) -> Any:
        return tuple(interpret(self.body, operands))

    def bodies(self) -> Iterator[tuple[Graph, tuple[int | None, ...]]]:
        yield self.body, tuple(range(len(self.body.inputs)))

    def pulling(
        self,
        inputs: tuple[Array, ...],
        outputs: tuple[Array, ...],
        wanted: Sequence[bool],
        transforms: GraphTransforms,
    ) -> Pull:
        kept = [outputs[i] for i in self.kept]

        def pull(bars: tuple[Maybe, ...]) -> Iterator[tuple[int, Array]]:
            held = iter(Barrier().outputs(*inputs, *kept, *present(bars)))
            operands = [next(held) for _ in inputs]
            known = {i: next(held) for i in self.kept}
            _, pull_body = transforms.reverse(self.body, operands, indices(wanted), known)
            return iter(pull_body(tuple(put([bar is not None for bar in bars], held))))

        return pull

    def tangents_of(
        self, dots: tuple[Maybe, ...], inputs: tuple[Array, ...], transforms: GraphTransforms
    ) -> tuple[tuple[Array, ...], tuple[Maybe, ...]]:
        outputs = self.body.outputs
        pushed = transforms.jvp(self.body, [dot is not None for dot in dots])
        results = Checkpoint(pushed, self.kept).outputs(*inputs, *present(dots))
        tangents = put([is_float(x.dtype) for x in outputs], results[len(outputs) :])
        return results[: len(outputs)], tuple(tangents)

    def batch_of(
        self,
        size: int,
        inputs: tuple[Array, ...],
        batched: Sequence[bool],
        transforms: GraphTransforms,
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        force = [False] * len(self.body.outputs)
        body, flags = transforms.batch(self.body, size, batched, force)
        return Checkpoint(body, self.kept).outputs(*inputs), flags

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return graph_flops(self.body)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        types = (TensorType((3,), float64), TensorType((), float64))
        body = record(lambda x, a: (x * x * a, a * a), types)
        yield Sample(cls(body), normal(3), normal())
        nested = record(lambda x, a: cls(body).outputs(x * a, a), types)
        yield Sample(cls(nested), normal(3), normal())
        yield Sample(cls(body, (0,)), normal(3), normal())

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        body = record(lambda x: (x * x,), (TensorType((3,), float64),))
        yield Sample(cls(body), normal(4))
        yield Sample(cls(body), integers(3))


class Barrier(Op):
    """The operands, when all of them exist. No pass may remove, merge or look through it."""

    name = "barrier"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        return types

    def reference(self, *values: Any) -> Any:
        return values

    def cotangents(
        self,
        bars: tuple[Maybe, ...],
        outs: tuple[Array, ...],
        inputs: tuple[Array, ...],
        wanted: Sequence[bool],
    ) -> tuple[Maybe, ...]:
        return bars

    def tangents(
        self, dots: tuple[Maybe, ...], outs: tuple[Array, ...], inputs: tuple[Array, ...]
    ) -> tuple[Maybe, ...]:
        return dots

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        return self.outputs(*inputs), tuple(batched)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), normal(3), normal(2, 2), integers(2))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        return iter(())
