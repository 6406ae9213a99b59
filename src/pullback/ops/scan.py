"""A loop of known length over the rows of arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from pullback.errors import ShapeError
from pullback.ir.array import Array
from pullback.ir.builder import record
from pullback.ir.graph import Graph, depends_on, graph_flops, needed_nodes, with_outputs
from pullback.ir.interpret import interpret
from pullback.ir.op import GraphTransforms, HigherOrder, Maybe, Pull, Sample
from pullback.ir.samples import integers, normal
from pullback.ir.types import TensorType, float64, int64, is_float
from pullback.ops.late import divided
from pullback.ops.operators import repeated, reshape, transpose, zeros
from pullback.ops.subgraph import (
    chosen,
    filled,
    full_bars,
    grown,
    indices,
    paired,
    present,
    put,
    reached_outputs,
    require_types,
    types_of,
    unpaired,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Scan(HigherOrder):
    """`for x in rows: carry, y = body(constants, carry, x)`: the last carry, and the y stacked.

    The body is a graph `(*constants, *carry, *x) → (*carry, *y)`. The operands are the constants,
    the carry on entry, and arrays whose rows along axis 0 are the x. With `reverse` the rows are
    taken, and the y put, from the last to the first.
    """

    name = "scan"
    body: Graph
    constants: int
    carries: int
    length: int
    reverse: bool = False

    # ---- meaning ----

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        fixed = self.constants + self.carries
        kinds = types_of(self.body.inputs)
        for kind in types[fixed:]:
            if kind.shape[:1] != (self.length,):
                raise ShapeError(f"{kind} has not {self.length} rows")
        rows = [kind.reshaped(kind.shape[1:]) for kind in types[fixed:]]
        require_types(kinds, (*types[:fixed], *rows), "operand")
        outputs = types_of(self.body.outputs)
        require_types(kinds[self.constants : fixed], outputs[: self.carries], "carry")
        stacked = [kind.reshaped((self.length, *kind.shape)) for kind in outputs[self.carries :]]
        return (*outputs[: self.carries], *stacked)

    def reference(self, *operands: Any) -> Any:
        constants, carry, xs = self._parts(operands)
        kinds = types_of(self.body.outputs[self.carries :])
        ys = [np.zeros((self.length, *kind.shape), kind.dtype) for kind in kinds]
        for i in reversed(range(self.length)) if self.reverse else range(self.length):
            results = interpret(self.body, [*constants, *carry, *[x[i] for x in xs]])
            carry = results[: self.carries]
            for y, row in zip(ys, results[self.carries :], strict=True):
                y[i] = row
        return (*carry, *ys)

    def bodies(self) -> Iterator[tuple[Graph, tuple[int | None, ...]]]:
        fixed = self.constants + self.carries
        places = range(len(self.body.inputs))
        yield self.body, tuple(None if self.constants <= i < fixed else i for i in places)

    def _parts(self, values: Sequence[T]) -> tuple[Sequence[T], Sequence[T], Sequence[T]]:
        """What belongs to the constants, to the carry, to the rows."""
        fixed = self.constants + self.carries
        return values[: self.constants], values[self.constants : fixed], values[fixed:]

    # ---- reverse mode ----

    def augmented(
        self, inputs: tuple[Array, ...], wanted: Sequence[bool], transforms: GraphTransforms
    ) -> tuple[tuple[Array, ...], Pull]:
        """The forward loop also stacks the residuals that differ from step to step.

        Those that depend on the constants alone are computed once, outside; those that are rows of
        the operands, or results, are at hand.
        """
        count = len(self.body.outputs)
        moving = grown(wanted, self.constants, self.carries, self._reaches)
        forward, backward = transforms.vjp(self.body, indices(moving))
        residuals = forward.outputs[count:]
        fixed, changing = self._sorted(forward, residuals)

        rows = dict(zip(self._parts(forward.inputs)[2], self._parts(inputs)[2], strict=True))
        results_of = forward.outputs[self.carries : count]
        stacked = [x for x in changing if x not in {*rows, *results_of}]
        body = with_outputs(forward, (*forward.outputs[:count], *stacked))
        results = replace(self, body=body).outputs(*inputs)
        rows |= dict(zip((*results_of, *stacked), results[self.carries :], strict=True))
        changing_rows = [rows[x] for x in changing]
        hoisted = Graph(forward.inputs[: self.constants], needed_nodes(forward.nodes, fixed), fixed)
        constants = transforms.inline(hoisted, inputs[: self.constants])

        known = dict(zip(backward.inputs, residuals, strict=False))
        at_hand = {x: rows[y] for x, y in known.items() if y in rows}
        same = known.keys() - at_hand.keys()

        def pull(bars: tuple[Maybe, ...]) -> Iterator[tuple[int, Array]]:
            at_exit, of_rows = bars[: self.carries], bars[self.carries :]
            in_constants, in_carry, in_rows = self._parts(moving)
            room = sum(x.type.nbytes for x in changing_rows) // max(self.length, 1)
            work = divided(backward, sum(in_constants), at_hand.keys(), same, room)

            moved = chosen(inputs[: self.constants], in_constants)
            sums = [zeros(moved[i].type) for i in work.summed]
            start = [*present(filled(at_exit, in_carry, self._parts(inputs)[1])), *sums]
            carries = sum(in_carry)

            def step(*values: Array) -> Iterable[Array]:
                held, values = values[: len(fixed)], values[len(fixed) :]
                carried, values = values[: len(start)], values[len(start) :]
                env = dict(zip((*fixed, *changing), (*held, *values[: len(changing)]), strict=True))
                received = [
                    *put(in_carry, carried),
                    *put([bar is not None for bar in of_rows], values[len(changing) :]),
                ]
                full = full_bars(received, self.body.outputs)
                pulled = transforms.inline(work.step, [*[env[x] for x in residuals], *full])
                to_constants, others = pulled[: len(sums)], pulled[len(sums) :]
                added = [a + b for a, b in zip(carried[carries:], to_constants, strict=True)]
                return [*others[:carries], *added, *others[carries:]]

            operands = [*constants, *start, *changing_rows, *present(of_rows)]
            types = _step_types(operands, len(constants) + len(start))
            loop = Scan(
                record(step, types), len(constants), len(start), self.length, not self.reverse
            )
            made = loop.outputs(*operands)
            cut = len(start) + sum(in_rows)
            stacked = at_hand | dict(zip(work.kept, made[cut:], strict=True))
            ordered = work.totals(made[carries : len(start)], stacked)
            ordered += [*made[:carries], *made[len(start) : cut]]
            yield from zip(indices(moving), ordered, strict=True)

        return results[:count], pull

    def _reaches(self, flags: Sequence[bool]) -> list[bool]:
        return reached_outputs(self.body, flags)

    def _sorted(
        self, forward: Graph, residuals: Sequence[Array]
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Residuals that are the same in each step, and those that may differ."""
        varying = depends_on(forward.nodes, forward.inputs[self.constants :])
        fixed = tuple([x for x in residuals if x not in varying])
        return fixed, tuple([x for x in residuals if x in varying])

    # ---- forward mode ----

    def tangents_of(
        self, dots: tuple[Maybe, ...], inputs: tuple[Array, ...], transforms: GraphTransforms
    ) -> tuple[tuple[Array, ...], tuple[Maybe, ...]]:
        n, count, carries = len(inputs), len(self.body.outputs), self.carries
        cuts = (self.constants, self.constants + carries)
        moving = grown([dot is not None for dot in dots], cuts[0], carries, self._reaches)
        reached = [*moving[cuts[0] : cuts[1]], *self._reaches(moving)[carries:]]
        pushed = transforms.jvp(self.body, moving)
        made = put([is_float(x.dtype) for x in self.body.outputs], pushed.outputs[count:])
        tangents = put(reached, chosen(made, reached))
        body = Graph(
            tuple(paired(pushed.inputs[:n], put(moving, pushed.inputs[n:]), *cuts)),
            pushed.nodes,
            tuple(paired(pushed.outputs[:count], tangents, carries)),
        )
        in_constants, in_carry, _ = self._parts(moving)
        loop = replace(
            self,
            body=body,
            constants=self.constants + sum(in_constants),
            carries=carries + sum(in_carry),
        )
        results = loop.outputs(*paired(inputs, filled(dots, moving, inputs), *cuts))
        outputs, out_dots = unpaired(results, reached, carries)
        return tuple(outputs), tuple(out_dots)

    # ---- batching ----

    def batch_of(
        self,
        size: int,
        inputs: tuple[Array, ...],
        batched: Sequence[bool],
        transforms: GraphTransforms,
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        """Rows stay along axis 0: batched rows, and batched y, carry the examples along axis 1."""
        count, carries = len(self.body.outputs), self.carries
        flags = grown(
            batched,
            self.constants,
            carries,
            lambda given: transforms.batch(self.body, size, given, [False] * count)[1],
        )
        force = [*self._parts(flags)[1], *[False] * (count - carries)]
        body, made = transforms.batch(self.body, size, flags, force)
        operands = [
            repeated(x, size) if wide and not given else x
            for x, wide, given in zip(inputs, flags, batched, strict=True)
        ]
        fixed = self.constants + carries
        rows = [
            _swapped(x) if wide else x
            for x, wide in zip(operands[fixed:], flags[fixed:], strict=True)
        ]
        results = replace(self, body=body).outputs(*operands[:fixed], *rows)
        ys = [
            _swapped(y) if wide else y
            for y, wide in zip(results[carries:], made[carries:], strict=True)
        ]
        return (*results[:carries], *ys), tuple(made)

    # ---- cost and tests ----

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return self.length * graph_flops(self.body)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        scalar, vector = TensorType((), float64), TensorType((3,), float64)
        cell = record(lambda a, h, x: (a * h * x + x, h * x), (scalar, vector, vector))
        for backwards in (False, True):
            yield Sample(cls(cell, 1, 1, 4, backwards), normal(), normal(3), normal(4, 3, seed=1))
        counted = record(lambda x, i: (x * x, i + 1, i), (scalar, TensorType((), int64)))
        yield Sample(cls(counted, 0, 2, 3), normal(), integers())
        yield Sample(cls(cell, 1, 1, 0), normal(), normal(3), normal(0, 3))
        inner = record(
            lambda a, h, xs: cls(cell, 1, 1, 2).outputs(a, h, xs),
            (scalar, vector, TensorType((2, 3), float64)),
        )
        yield Sample(cls(inner, 1, 1, 3), normal(), normal(3), normal(3, 2, 3))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        scalar = TensorType((), float64)
        step = record(lambda h, x: (h * x,), (scalar, scalar))
        widens = record(lambda h, x: (reshape(h * x, (1,)),), (scalar, scalar))
        yield Sample(cls(step, 0, 1, 3), normal(), normal(4))
        yield Sample(cls(step, 0, 1, 3), normal(2), normal(3))
        yield Sample(cls(step, 0, 1, 3), integers(), normal(3))
        yield Sample(cls(widens, 0, 1, 3), normal(), normal(3))


def _step_types(operands: Sequence[Array], fixed: int) -> list[TensorType]:
    """What one step sees of a loop's operands, of which those from `fixed` on are rows."""
    kinds = types_of(operands)
    return [*kinds[:fixed], *[kind.reshaped(kind.shape[1:]) for kind in kinds[fixed:]]]


def _swapped(x: Array) -> Array:
    return transpose(x, (1, 0, *range(2, x.ndim)))
