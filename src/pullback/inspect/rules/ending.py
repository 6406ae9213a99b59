"""How a network ends, for `OBJ01` and `OBJ03`: logits that are bounded, and axes that differ."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pullback.inspect.patterns import Softmax
from pullback.inspect.program import Program
from pullback.ir.array import Array
from pullback.ir.families import Elementwise, Multilinear
from pullback.ir.graph import Node, depends_on
from pullback.ir.range import Range
from pullback.ir.types import float64, is_float
from pullback.ops.layout import Layout
from pullback.ops.pointwise import (
    Add,
    Divide,
    Exp,
    Log,
    Log1p,
    LogAddExp,
    Multiply,
    Negative,
    Sigmoid,
    Subtract,
)
from pullback.ops.reduce import Sum


@dataclass(frozen=True, slots=True)
class Bounded:
    """Logits that an activation holds in a range, and what the loss cannot fall below for it."""

    node: Node
    """That gives the loss."""
    maker: Node
    """The activation."""
    known: Range
    floor: float
    """The least mean loss of a sample."""
    usual: float
    """That of a network that knows nothing."""
    held: float
    """The share of the logits at the bound, where their slope is 0."""


def bounded(program: Program) -> Iterator[Bounded]:
    """The logits of cross-entropies that cannot be every number."""
    for softmax in (*program.softmaxes(), *program.class_losses()):
        if softmax.length > 1 and _is_last(program, softmax.out):
            found = _activation(program, softmax.logits)
            if found is not None:
                known = program.ranges[found.outputs[0]]
                spread = known.high - known.low
                k = softmax.length
                floor = math.log1p((k - 1) * math.exp(-spread)) if spread < 700 else 0.0
                yield Bounded(softmax.node, found, known, floor, math.log(k), _held(program, found))
    for node in program.nodes:
        y = node.outputs[0]
        logits = logistic(program, node) if y in program.learnt else []
        if logits and _is_last(program, y):
            for x in logits:
                found = _activation(program, x)
                if found is not None and _is_weighted(program, node):
                    known = program.ranges[found.outputs[0]]
                    worst = max(-known.high, known.low)
                    floor = math.log1p(math.exp(worst)) if worst > -700 else 0.0
                    yield Bounded(node, found, known, floor, math.log(2), _held(program, found))


def logistic(program: Program, node: Node) -> list[Array]:
    """The logits u of a term log(1 + e^±u) of a loss, in whatever way it is written.

    A softplus, a logarithm of 1 + e^u, of a sigmoid or of what a sigmoid leaves of 1. Signs of
    labels may multiply u.
    """
    if isinstance(node.op, LogAddExp):
        return [_unsigned(program, x) for x in node.inputs]
    if not isinstance(node.op, Log | Log1p):
        return []
    x = program.strip(node.inputs[0])
    inner = program.made_by(x, Exp)
    if isinstance(node.op, Log):
        inner = None
        for y in (x, program.unguarded(x)):
            inner = inner or _one_and_power(program, y) or _share(program, y)
            less = program.made_by(y, Subtract)
            if less is not None and _is_one(program, less.inputs[0]):
                inner = inner or _share(program, program.unguarded(less.inputs[1]))
    return [] if inner is None else [_unsigned(program, inner.inputs[0])]


def _share(program: Program, x: Array) -> Node | None:
    """The sigmoid that a value is: of the op, or the power in 1/(1 + e^-u)."""
    node = program.made_by(x, Sigmoid)
    quotient = program.made_by(x, Divide)
    if node is None and quotient is not None and _is_one(program, quotient.inputs[0]):
        return _one_and_power(program, quotient.inputs[1])
    return node


def _one_and_power(program: Program, x: Array) -> Node | None:
    """The e^u of 1 + e^u."""
    node = program.made_by(program.strip(x), Add)
    for y, other in () if node is None else (node.inputs, reversed(node.inputs)):
        if _is_one(program, other):
            return program.made_by(program.strip(y), Exp)
    return None


def _is_one(program: Program, x: Array) -> bool:
    given = x not in program.fed and x not in program.learnt
    return given and bool((program.numbers(x) == 1).all())


def _unsigned(program: Program, x: Array) -> Array:
    """A value without the signs that multiply it."""
    x = program.strip(x, Negative)
    node = program.made_by(x, Multiply)
    sides = [] if node is None else [y for y in node.inputs if y in program.learnt]
    return program.strip(sides[0], Negative) if len(sides) == 1 else x


def _activation(program: Program, x: Array) -> Node | None:
    """The operation of one learnt value whose result is bounded on one side or on both."""
    node = program.makers.get(program.strip(x))
    if node is None or not isinstance(node.op, Elementwise) or not is_float(x.dtype):
        return None
    known = program.ranges[node.outputs[0]]
    learnt = {program.strip(y) for y in node.inputs if y in program.learnt}
    one_sided = known.low > -math.inf or known.high < math.inf
    return node if one_sided and len(learnt) == 1 else None


def _held(program: Program, node: Node) -> float:
    """The share of the elements at the bound."""
    known, x = program.ranges[node.outputs[0]], program.numbers(node.outputs[0])
    return float(((x == known.low) | (x == known.high)).mean()) if x.size else 0.0


def _is_last(program: Program, x: Array) -> bool:
    """Whether no more weights come between a value and the loss."""
    behind = depends_on(program.nodes, [x])
    return not any(
        isinstance(node.op, Multilinear)
        and not behind.isdisjoint(node.inputs)
        and all(y in program.learnt for y in node.inputs)
        for node in program.nodes
    )


def _is_weighted(program: Program, node: Node) -> bool:
    """Whether what a softplus gives is added up to the loss, or multiplied by data before."""
    return any(
        isinstance(x.op, Multiply | Sum | Layout) for x in program.readers.get(node.outputs[0], [])
    )


@dataclass(frozen=True, slots=True)
class Crossed:
    """A softmax over other axes than those along which the targets add up to 1."""

    softmax: Softmax
    axis: int
    """That of the targets; -1 where these do not exclude each other, and add up to more."""


def crossed(program: Program) -> Iterator[Crossed]:
    """Where probabilities are laid beside targets that are shares along another axis."""
    for node in program.nodes:
        if not isinstance(node.op, Multiply):
            continue
        for x, targets in (node.inputs, reversed(node.inputs)):
            if targets in program.learnt or targets not in program.fed:
                continue
            inner = program.strip(x, Negative)
            logged = program.unguarded(program.strip(inner, Log))
            softmax = program.log_softmax(inner) or program.softmax(logged)
            if softmax is None or inner.shape != targets.shape:
                continue
            shares = program.numbers(targets).astype(float64)
            axes = [a for a in range(shares.ndim) if _adds_to_one(shares, (a,))]
            if len(axes) == 1 and not _adds_to_one(shares, softmax.axes) and (shares >= 0).all():
                yield Crossed(softmax, axes[0])
            elif np.isin(shares, (0, 1)).all() and _are_many(shares, softmax.axes):
                yield Crossed(softmax, -1)


def _are_many(labels: np.ndarray, axes: tuple[int, ...]) -> bool:
    """Whether a good part of the samples has more than one label."""
    return bool((labels.sum(axis=axes) > 1).mean() > 0.1)


def _adds_to_one(x: np.ndarray, axes: tuple[int, ...]) -> bool:
    return bool(np.abs(x.sum(axis=axes) - 1).max(initial=0.0) < 1e-3)


def downhill(program: Program) -> Iterator[tuple[Node, Array]]:
    """Softplus terms that data multiply by less than 0: the loss falls without end."""
    for node in program.nodes:
        if not isinstance(node.op, Multiply):
            continue
        for x, share in (node.inputs, reversed(node.inputs)):
            inner = program.made_by(program.strip(x, Negative), LogAddExp)
            if inner is None or x not in program.learnt or share in program.learnt:
                continue
            if (
                share in program.fed
                and not any(_negated(program, x))
                and bool((program.numbers(share) < 0).any())
            ):
                yield node, share


def _negated(program: Program, x: Array) -> Iterator[Node]:
    """The signs between a value and the softplus that it is made of."""
    node = program.makers.get(x)
    while node is not None and isinstance(node.op, (Layout, Negative)):
        if isinstance(node.op, Negative):
            yield node
        node = program.makers.get(node.inputs[0])
