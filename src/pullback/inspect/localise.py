"""Which op of a graph has the wrong rule: each node is checked alone, at the values it had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pullback.errors import Phase, PullbackError
from pullback.inspect.differences import Tolerance
from pullback.inspect.mismatch import Flat, Mismatch, Mode, directions, first_mismatch
from pullback.ir.array import Array, concrete
from pullback.ir.families import Elementwise, Linear, Multilinear
from pullback.ir.graph import Graph, Node, held_graphs
from pullback.ir.op import HigherOrder, Op
from pullback.ir.types import Numbers, is_float
from pullback.transforms.derivatives import linearize, vjp

MANY = 400
"""Elements up to which a cotangent is measured element by element, to say how it is wrong."""


@dataclass(frozen=True, slots=True, eq=False)
class Culprit:
    """A node whose own rule is wrong."""

    node: Node
    mismatch: Mismatch
    guess: str | None
    inside: str = ""
    """The op that holds the graph of `node`, if one does."""


def find_culprit(
    graph: Graph, order: int, modes: Sequence[Mode], allowed: Tolerance
) -> Culprit | None:
    """The first node in program order that fails alone; `graph` holds the numbers of its values."""
    seen: set[tuple[object, ...]] = set()
    kinked = None
    for node in graph.nodes:
        key = (node.op, *map(id, node.inputs))
        if key in seen:
            continue
        seen.add(key)
        found = _examine(node, order, modes, allowed)
        if found is None:
            continue
        if not found.mismatch.kink:
            return found
        kinked = kinked or found
    return kinked


def _examine(node: Node, order: int, modes: Sequence[Mode], allowed: Tolerance) -> Culprit | None:
    f, primals = alone(node)
    if not primals or not _has_float_output(node) or _cut_by_rule(node):
        return None
    try:
        mismatch = first_mismatch(f, primals, order, modes, allowed)
    except (PullbackError, ValueError, TypeError, IndexError) as error:
        rule = "vjp" if "rev" in modes else "jvp"
        mismatch = Mismatch(rule, 1, np.nan, np.nan, "", raises=_raised(error))
    if mismatch is None:
        return None
    if isinstance(node.op, HigherOrder) and not mismatch.kink:
        deeper = _inside(node.op, order, modes, allowed)
        if deeper is not None:
            return deeper
    guess = None if mismatch.kink or mismatch.raises else explain(f, primals, mismatch)
    return Culprit(node, mismatch, guess)


def alone(node: Node) -> tuple[Flat, list[Array]]:
    """The node as a function of its floating operands, and these operands."""
    places = [i for i, x in enumerate(node.inputs) if is_float(x.dtype)]
    floats = [i for i, y in enumerate(node.outputs) if is_float(y.dtype)]
    held = [concrete(x.numpy().copy()) for x in node.inputs]

    def f(*xs: Array) -> tuple[Array, ...]:
        complete = list(held)
        for place, x in zip(places, xs, strict=True):
            complete[place] = x
        outputs = node.op.outputs(*complete)
        return tuple(outputs[i] for i in floats)

    return f, [held[i] for i in places]


def _cut_by_rule(node: Node) -> bool:
    """A gradient that a rule cuts: that rule is to blame, not the op that it cuts with."""
    return not node.op.differentiable and node.site.phase is not Phase.FORWARD


def _has_float_output(node: Node) -> bool:
    return any(is_float(y.dtype) for y in node.outputs)


def _raised(error: Exception) -> str:
    return f"it raises {type(error).__name__}: {str(error).splitlines()[0]}"


def _inside(
    op: HigherOrder, order: int, modes: Sequence[Mode], allowed: Tolerance
) -> Culprit | None:
    """A wrong rule in a graph that the op holds, looked for at made-up values."""
    for graph in held_graphs(op):
        found = find_culprit(_with_numbers(graph), order, modes, allowed)
        if found is not None and not found.mismatch.kink:
            return Culprit(found.node, found.mismatch, found.guess, inside=op.name)
    return None


def _with_numbers(graph: Graph) -> Graph:
    """The same graph evaluated at made-up inputs."""
    env: dict[Array, Array] = {}
    for i, x in enumerate(graph.inputs):
        blank = concrete(np.ones(x.shape, x.dtype))
        env[x] = directions([blank], i)[0] if is_float(x.dtype) else blank
    nodes = []
    for node in graph.nodes:
        inputs = tuple(env[x] for x in node.inputs)
        outputs = node.op.outputs(*inputs)
        env.update(zip(node.outputs, outputs, strict=True))
        nodes.append(Node(node.op, inputs, outputs, node.site))
    return Graph(
        tuple(env[x] for x in graph.inputs), tuple(nodes), tuple(env[x] for x in graph.outputs)
    )


# ---- what went wrong ------------------------------------------------------------------------


def rule_of(op: Op, mismatch: Mismatch) -> str:
    """Where the rule stands in the source."""
    function = ruled_function(op)
    if function is not None:
        return f"of {function}"
    if isinstance(op, Elementwise) and _own(op, Elementwise) == "partials":
        method = "partials"
    elif isinstance(op, Linear | Multilinear) and mismatch.rule == "vjp":
        method = "transpose"
    elif mismatch.rule == "vjp":
        method = "pullback" if type(op).cotangents is Op.cotangents else "cotangents"
    else:
        method = "pushforward" if type(op).tangents is Op.tangents else "tangents"
    if isinstance(op, HigherOrder):
        method = "augmented" if mismatch.rule == "vjp" else "tangents_of"
    return f"{type(op).__name__}.{method}"


def ruled_function(op: Op) -> str | None:
    """The function of the user whose derivative rules the op carries."""
    rules = getattr(op, "rules", None)
    name = getattr(rules, "name", None)
    return name if isinstance(name, str) else None


def _own(op: Op, family: type[Op]) -> str:
    overridden = (
        type(op).cotangents is not family.cotangents or type(op).tangents is not family.tangents
    )
    return "cotangents" if overridden else "partials"


def explain(f: Flat, primals: Sequence[Array], mismatch: Mismatch) -> str | None:
    """A short guess at the mistake, when the difference has a shape that one recognises."""
    if mismatch.shapes is not None:
        found, expected = mismatch.shapes
        return (
            f"a cotangent has the shape {found}, its operand {expected}: "
            "is the sum over the broadcast axes forgotten?"
            if mismatch.rule == "vjp"
            else f"a tangent has the shape {found}, its output {expected}"
        )
    if mismatch.order > 1:
        return "right at first order: does the rule hide a value from differentiation?"
    if sum(x.size for x in primals) > MANY:
        return _relation(np.array([mismatch.found]), np.array([mismatch.expected]))
    for i in range(len(primals)):
        rule, true = _operand(f, primals, i, mismatch.rule)
        guess = _relation(rule, true)
        if guess is not None:
            return guess if len(primals) == 1 else f"for operand {i}: {guess}"
    return None


def _operand(f: Flat, primals: Sequence[Array], i: int, rule: str) -> tuple[Numbers, Numbers]:
    """For one operand the derivative by the rule, and measured: Jᵀu whole, or J v along one v."""
    cotangents = directions(f(*primals), 51)
    x = primals[i]
    if rule == "vjp":
        bar = vjp(f, *primals)[1](tuple(cotangents))[i]
        units = np.eye(x.size).reshape(x.size, *x.shape)
        columns = [_slope(f, primals, i, unit) for unit in units]
        true = [_inner(column, cotangents) for column in columns]
        return np.asarray(bar.numpy(), np.float64), np.array(true).reshape(x.shape)
    direction = directions([x], i)[0]
    moving = [concrete(np.zeros(p.shape, p.dtype)) for p in primals]
    moving[i] = direction
    pushed = linearize(f, *primals)[1](*moving)[0].numpy()
    return np.asarray(pushed, np.float64), _slope(f, primals, i, direction.numpy())[0]


def _slope(f: Flat, primals: Sequence[Array], i: int, direction: Numbers) -> list[Numbers]:
    """The central difference of `f` along a direction of operand `i`."""
    x = primals[i].numpy().astype(np.float64)
    step = (1e-5 if primals[i].dtype == np.float64 else 1e-2) * max(
        1.0, float(np.max(np.abs(x), initial=0.0))
    )

    def at(t: float) -> list[Numbers]:
        moved = list(primals)
        moved[i] = concrete((x + t * direction).astype(primals[i].dtype))
        return [y.numpy().astype(np.float64) for y in f(*moved)]

    return [(b - a) / (2 * step) for a, b in zip(at(-step), at(step), strict=True)]


def _inner(xs: Sequence[Numbers], ys: Sequence[Array]) -> float:
    return sum(float(np.sum(x * y.numpy())) for x, y in zip(xs, ys, strict=True))


def _relation(rule: Numbers, true: Numbers) -> str | None:
    def near(x: Numbers, y: Numbers) -> bool:
        return x.shape == y.shape and np.allclose(x, y, rtol=1e-4, atol=1e-7)

    if near(rule, true) or not true.size:
        return None
    if not np.isfinite(rule).all():
        return "the rule gives NaN or infinity"
    if near(rule, np.zeros_like(rule)):
        return "the rule gives zero: is a contribution dropped?"
    if near(rule, -true):
        return "the sign is wrong"
    if true.ndim >= 2 and near(rule, np.swapaxes(true, -1, -2)):
        return "it is the transpose of the right matrix"
    chosen = np.abs(true) > 1e-6 * np.max(np.abs(true))
    ratios = rule[chosen] / true[chosen]
    if ratios.size and not ratios.any():
        return "the rule gives zero where the derivative is not"
    if ratios.size and np.allclose(ratios, ratios[0], rtol=1e-4):
        return f"a factor {1 / float(ratios[0]):.4g} is missing"
    return None
