"""Control flow: ops that hold graphs and decide which of them run, and how often.

Their meaning is that of `ir.interpret` on the held graphs. Every rule builds new graphs from the
held ones by the transforms it is handed, and applies a control op again: derivatives of any order,
and batches of derivatives, are control ops.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback.errors import DTypeError, LoopLimitError, NotDifferentiableError
from pullback.ir.array import Array
from pullback.ir.builder import record, unwatched
from pullback.ir.graph import Graph, graph_flops, with_outputs
from pullback.ir.interpret import interpret
from pullback.ir.op import GraphTransforms, HigherOrder, Maybe, Op, Pull, Sample
from pullback.ir.samples import integers, normal, positive
from pullback.ir.types import TensorType, bool_, float64, int64, is_float
from pullback.ops.operators import less, repeated, reshape, select, zeros
from pullback.ops.pointwise import StopGradient
from pullback.ops.reduce import AllTrue
from pullback.ops.scan import Scan
from pullback.ops.subgraph import (
    chosen,
    filled,
    full_bars,
    grown,
    indices,
    negated,
    paired,
    present,
    put,
    reached_outputs,
    require_types,
    shielded,
    some,
    types_of,
    unpaired,
    where_taken,
)

TRUTH = TensorType((), bool_)
SCALAR = TensorType((), float64)
COUNT = TensorType((), int64)
VECTOR = TensorType((3,), float64)

# ---- a choice -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cond(HigherOrder):
    """`if_true(*operands)` where the first operand, one bool, is true, else `if_false(…)`."""

    name = "cond"
    if_true: Graph
    if_false: Graph

    @property
    def branches(self) -> tuple[Graph, Graph]:
        return self.if_true, self.if_false

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if not types or types[0] != TRUTH:
            raise DTypeError("the predicate of a cond is one bool")
        outputs = types_of(self.if_true.outputs)
        for branch in self.branches:
            require_types(types_of(branch.inputs), types[1:], "operand")
        require_types(outputs, types_of(self.if_false.outputs), "result")
        return outputs

    def bodies(self) -> Iterator[tuple[Graph, tuple[int | None, ...]]]:
        for branch in self.branches:
            yield branch, tuple(range(1, len(branch.inputs) + 1))

    def reference(self, predicate: Any, *operands: Any) -> Any:
        return tuple(interpret(self.if_true if predicate else self.if_false, operands))

    def augmented(
        self, inputs: tuple[Array, ...], wanted: Sequence[bool], transforms: GraphTransforms
    ) -> tuple[tuple[Array, ...], Pull]:
        predicate, *operands = inputs
        positions = indices(wanted[1:])
        count = len(self.if_true.outputs)
        forward, backward = zip(
            *(transforms.vjp(branch, positions) for branch in self.branches), strict=True
        )
        own = [_handed_out(graph, count) for graph in forward]

        def with_residuals(which: int) -> Graph:
            """The branch returns the residuals of both: its own, and zeros for the other's."""
            graph = with_outputs(forward[which], (*forward[which].outputs[:count], *own[which]))

            def branch(*values: Array) -> Iterable[Array]:
                results = transforms.inline(graph, values)
                filled = [[zeros(x.type) for x in each] for each in own]
                filled[which] = list(results[count:])
                return (*results[:count], *filled[0], *filled[1])

            return record(branch, types_of(operands))

        results = Cond(with_residuals(0), with_residuals(1)).outputs(*inputs)

        def pull(bars: tuple[Maybe, ...]) -> Iterator[tuple[int, Array]]:
            available = (*operands, *results, *present(bars))

            def pulled(which: int) -> Graph:
                known = (*forward[which].inputs, *forward[which].outputs[:count], *own[0], *own[1])

                def branch(*values: Array) -> Iterable[Array]:
                    env = dict(zip(known, values[: len(known)], strict=True))
                    received = put([bar is not None for bar in bars], values[len(known) :])
                    residuals = [env[x] for x in forward[which].outputs[count:]]
                    full = full_bars(received, self.if_true.outputs)
                    return transforms.inline(backward[which], [*residuals, *full])

                return record(branch, types_of(available))

            made = Cond(pulled(0), pulled(1)).outputs(predicate, *available)
            yield from zip([1 + i for i in positions], made, strict=True)

        return results[:count], pull

    def tangents_of(
        self, dots: tuple[Maybe, ...], inputs: tuple[Array, ...], transforms: GraphTransforms
    ) -> tuple[tuple[Array, ...], tuple[Maybe, ...]]:
        moving = [dot is not None for dot in dots[1:]]
        pushed = [transforms.jvp(branch, moving) for branch in self.branches]
        results = Cond(*pushed).outputs(*inputs, *present(dots[1:]))
        outputs = self.if_true.outputs
        tangents = put([is_float(x.dtype) for x in outputs], results[len(outputs) :])
        return results[: len(outputs)], tuple(tangents)

    def batch_of(
        self,
        size: int,
        inputs: tuple[Array, ...],
        batched: Sequence[bool],
        transforms: GraphTransforms,
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        taken, *operands = inputs
        flags = batched[1:]
        force = [batched[0]] * len(self.if_true.outputs)
        if not batched[0]:
            made = [transforms.batch(branch, size, flags, force)[1] for branch in self.branches]
            force = [a or b for a, b in zip(*made, strict=True)]
        both = [transforms.batch(branch, size, flags, force)[0] for branch in self.branches]
        if not batched[0]:
            return Cond(*both).outputs(*inputs), tuple(force)
        yes = _played(both[0], taken, operands, flags, transforms)
        no = _played(both[1], negated(taken), operands, flags, transforms)
        return tuple(where_taken(taken, a, b) for a, b in zip(yes, no, strict=True)), tuple(force)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return max(graph_flops(branch) for branch in self.branches)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        grows = record(lambda x, s: (x * x * s, s * 2.0), (VECTOR, SCALAR))
        bends = record(lambda x, s: (x + s, s * s * s), (VECTOR, SCALAR))
        for predicate in (True, False):
            yield Sample(cls(grows, bends), np.array(predicate), normal(3), normal())
        counts = record(lambda i: (i + 1,), (COUNT,))
        keeps = record(lambda i: (i,), (COUNT,))
        yield Sample(cls(counts, keeps), np.array(True), integers())

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        keep = record(lambda x: (x,), (SCALAR,))
        widen = record(lambda x: (reshape(x, (1,)),), (SCALAR,))
        yield Sample(cls(keep, keep), integers(), normal())
        yield Sample(cls(keep, keep), np.array(True), normal(2))
        yield Sample(cls(keep, widen), np.array(True), normal())


def _handed_out(forward: Graph, count: int) -> list[Array]:
    """The residuals that are neither operands nor results: a branch has to return these too."""
    known = {*forward.inputs, *forward.outputs[:count]}
    return [x for x in forward.outputs[count:] if x not in known]


def _played(
    branch: Graph,
    taken: Array,
    operands: Sequence[Array],
    batched: Sequence[bool],
    transforms: GraphTransforms,
) -> tuple[Array, ...]:
    """A branch for the `taken` examples; where it is known that none is, it may fail unseen."""
    nobody = taken.has_numbers and not taken.numpy().any()
    with unwatched() if nobody else nullcontext():
        return transforms.inline(branch, _shielded(taken, operands, batched))


def _shielded(taken: Array, operands: Sequence[Array], batched: Sequence[bool]) -> list[Array]:
    """Operands for a branch that counts for the `taken` examples only, which may be none."""
    return [
        shielded(taken, x) if b else select(some(taken), x, StopGradient()(x))
        for x, b in zip(operands, batched, strict=True)
    ]


# ---- a loop of unknown length ---------------------------------------------------------------


@dataclass(frozen=True)
class While(HigherOrder):
    """`while condition(*constants, *carry): carry = body(*constants, *carry)`.

    The operands are the constants, as many as `constants` says, and the carry on entry. A loop that
    would need more than `max_steps` steps raises `LoopLimitError`.
    """

    name = "while"
    condition: Graph
    body: Graph
    constants: int
    max_steps: int | None = None

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        require_types(types_of(self.body.inputs), types, "operand")
        require_types(types_of(self.condition.inputs), types, "operand")
        require_types((TRUTH,), types_of(self.condition.outputs), "predicate")
        require_types(types[self.constants :], types_of(self.body.outputs), "carry")
        return types[self.constants :]

    def bodies(self) -> Iterator[tuple[Graph, tuple[int | None, ...]]]:
        places = range(len(self.body.inputs))
        known = tuple(i if i < self.constants else None for i in places)
        yield self.condition, known
        yield self.body, known

    def reference(self, *operands: Any) -> Any:
        constants, carry = operands[: self.constants], list(operands[self.constants :])
        steps = 0
        while interpret(self.condition, (*constants, *carry))[0]:
            if steps == self.max_steps:
                raise LoopLimitError(too_many_steps(steps))
            carry = interpret(self.body, (*constants, *carry))
            steps += 1
        return tuple(carry)

    def augmented(
        self, inputs: tuple[Array, ...], wanted: Sequence[bool], transforms: GraphTransforms
    ) -> tuple[tuple[Array, ...], Pull]:
        if self.max_steps is None:
            raise NotDifferentiableError(
                "reverse mode through a traced while_loop needs to know how many steps to keep",
                hint="give it max_steps=…, or use fori_loop with Python bounds, or scan",
            )
        outputs, pull = self._bounded(transforms).augmented(inputs, wanted, transforms)
        assert outputs is not None
        ended = negated(transforms.inline(self.condition, inputs[: self.constants] + outputs)[0])
        return Check(too_many_steps(self.max_steps)).outputs(ended, *outputs), pull

    def _bounded(self, transforms: GraphTransforms) -> Scan:
        """The loop as `max_steps` steps, each of which does nothing once the condition is false."""
        types = types_of(self.body.inputs)
        stay = record(lambda *values: values[self.constants :], types)

        def step(*values: Array) -> Iterable[Array]:
            (goes_on,) = transforms.inline(self.condition, values)
            return Cond(self.body, stay).outputs(goes_on, *values)

        assert self.max_steps is not None
        return Scan(record(step, types), self.constants, len(self.body.outputs), self.max_steps)

    def tangents_of(
        self, dots: tuple[Maybe, ...], inputs: tuple[Array, ...], transforms: GraphTransforms
    ) -> tuple[tuple[Array, ...], tuple[Maybe, ...]]:
        cut, count = self.constants, len(self.body.outputs)
        moving = grown([dot is not None for dot in dots], cut, count, self._reaches)
        pushed = transforms.jvp(self.body, moving)
        tangents = put([is_float(x.dtype) for x in self.body.outputs], pushed.outputs[count:])
        body = Graph(
            tuple(
                paired(pushed.inputs[: len(inputs)], put(moving, pushed.inputs[len(inputs) :]), cut)
            ),
            pushed.nodes,
            (*pushed.outputs[:count], *present(chosen(tangents, moving[cut:]))),
        )
        condition = record(
            lambda *values: transforms.inline(self.condition, unpaired(values, moving, cut)[0]),
            types_of(body.inputs),
        )
        loop = While(condition, body, cut + sum(moving[:cut]), self.max_steps)
        results = loop.outputs(*paired(inputs, filled(dots, moving, inputs), cut))
        return results[:count], tuple(put(moving[cut:], results[count:]))

    def _reaches(self, flags: Sequence[bool]) -> list[bool]:
        return reached_outputs(self.body, flags)

    def batch_of(
        self,
        size: int,
        inputs: tuple[Array, ...],
        batched: Sequence[bool],
        transforms: GraphTransforms,
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        cut, count = self.constants, len(self.body.outputs)

        def spreads(flags: Sequence[bool]) -> Sequence[bool]:
            _, (split,) = transforms.batch(self.condition, size, flags, [False])
            return transforms.batch(self.body, size, flags, [split and x for x in self._steps()])[1]

        flags = grown(batched, cut, count, spreads)
        condition, (split,) = transforms.batch(self.condition, size, flags, [False])
        body, _ = transforms.batch(self.body, size, flags, flags[cut:])
        if split:
            condition, body = _until_all_end(condition, body, flags, transforms)
        carry = [
            repeated(x, size) if wide and not given else x
            for x, wide, given in zip(inputs[cut:], flags[cut:], batched[cut:], strict=True)
        ]
        loop = While(condition, body, cut, self.max_steps)
        return loop.outputs(*inputs[:cut], *carry), tuple(flags[cut:])

    def _steps(self) -> list[bool]:
        """Which parts of the carry a step may change."""
        carry = self.body.inputs[self.constants :]
        return [x is not y for x, y in zip(carry, self.body.outputs, strict=True)]

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        """Of one step, or of all when their number is bounded."""
        steps = 1 if self.max_steps is None else self.max_steps
        return steps * (graph_flops(self.condition) + graph_flops(self.body))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        types = (SCALAR, VECTOR, COUNT)
        below = record(lambda a, x, i: (less(i, 3),), types)
        body = record(lambda a, x, i: (x * x * a, i + 1), types)
        for start in (0, 2, 5):
            yield Sample(cls(below, body, 1, 4), normal(), normal(3), np.array(start))
        grows = record(lambda x, i: (x + x * x, i + 1), (SCALAR, COUNT))
        small = record(lambda x, i: (less(x, 6.0),), (SCALAR, COUNT))
        yield Sample(cls(small, grows, 0, 8), positive(), np.array(0))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        ends = record(lambda x: (less(x, 0.0),), (SCALAR,))
        keeps = record(lambda x: (x,), (SCALAR,))
        widens = record(lambda x: (reshape(x, (1,)),), (SCALAR,))
        yield Sample(cls(ends, keeps, 0), normal(2))
        yield Sample(cls(ends, keeps, 0), integers())
        yield Sample(cls(ends, widens, 0), normal())
        yield Sample(cls(keeps, keeps, 0), normal())


def too_many_steps(limit: int) -> str:
    """What is wrong with a loop that goes on after `limit` steps."""
    return f"the loop needs more than max_steps={limit} steps"


def _until_all_end(
    condition: Graph, body: Graph, flags: Sequence[bool], transforms: GraphTransforms
) -> tuple[Graph, Graph]:
    """A loop that runs while one example goes on; those that have ended keep their carry."""
    types = types_of(body.inputs)
    cut = len(flags) - len(body.outputs)

    def goes_on(*values: Array) -> Iterable[Array]:
        return (some(transforms.inline(condition, values)[0]),)

    def step(*values: Array) -> Iterable[Array]:
        (running,) = transforms.inline(condition, values)
        operands = [shielded(running, x) if b else x for x, b in zip(values, flags, strict=True)]
        made = transforms.inline(body, operands)
        return [
            where_taken(running, new, old) if b else new
            for new, old, b in zip(made, values[cut:], flags[cut:], strict=True)
        ]

    return record(goes_on, types), record(step, types)


# ---- a condition that must hold -------------------------------------------------------------


@dataclass(frozen=True)
class Check(Op):
    """The operands after the first; `LoopLimitError` at run time unless the first is true."""

    name = "check"
    message: str

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if not types or types[0] != TRUTH:
            raise DTypeError("a check takes one bool first")
        return types[1:]

    def reference(self, holds: Any, *values: Any) -> Any:
        if not holds:
            raise LoopLimitError(self.message)
        return values

    def cotangents(
        self,
        bars: tuple[Maybe, ...],
        outs: tuple[Array, ...],
        inputs: tuple[Array, ...],
        wanted: Sequence[bool],
    ) -> tuple[Maybe, ...]:
        return (None, *bars)

    def tangents(
        self, dots: tuple[Maybe, ...], outs: tuple[Array, ...], inputs: tuple[Array, ...]
    ) -> tuple[Maybe, ...]:
        return dots[1:]

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        holds, *values = inputs
        every = AllTrue((0,))(holds) if batched[0] else holds
        return self.outputs(every, *values), tuple(batched[1:])

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls("it holds"), np.array(True), normal(3), integers(2))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls("no bool"), normal(), normal(3))
