"""`check_grads`: are the derivatives of a function right, and if not, whose rule is wrong?

Three independent facts are compared: the values of the function, its tangents (forward mode) and
its cotangents (reverse mode). Tangents against finite differences; cotangents against tangents, by
⟨J v, u⟩ = ⟨v, Jᵀ u⟩; the next order is the same check of the functions x ↦ J(x)ᵀ u and x ↦ J(x) v.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pullback._public import public
from pullback.errors import (
    DTypeError,
    GradientError,
    NotDifferentiableError,
    Operand,
    PullbackError,
    StructureError,
)
from pullback.inspect.differences import Tolerance, tolerance
from pullback.inspect.localise import Culprit, find_culprit, rule_of, ruled_function
from pullback.inspect.mismatch import Flat, Mismatch, Mode, directions, first_mismatch
from pullback.inspect.names import function_name
from pullback.ir.array import Array
from pullback.ir.graph import Graph
from pullback.ir.types import is_float
from pullback.ops.pointwise import StopGradient
from pullback.transforms.derivatives import linearize, vjp
from pullback.transforms.trace import Traced, trace_leaves
from pullback.transforms.tree import flatten, flatten_arrays, unflatten
from pullback.transforms.walk import inline

MODES: tuple[Mode, ...] = ("fwd", "rev")


@public
def check_grads(
    f: Callable[..., Any],
    args: Sequence[Any],
    order: int = 2,
    modes: Sequence[str] = ("fwd", "rev"),
    eps: float | None = None,
    atol: float | None = None,
    rtol: float | None = None,
) -> None:
    """Compare the derivatives of `f` at `args` with finite differences, in each mode up to `order`.

    `args` is the tuple of arguments; leaves that are not floating are held fixed. Use float64: the
    tolerances follow the coarsest element type. `eps` is the longest step of the differences.
    What `stop_gradient` cuts off counts as constant, in the differences too.

    Raises `GradientError` that names the first op whose own rule is wrong, the user's line, the
    rule and both numbers; `NotDifferentiableError` where the function has a kink at `args`, which
    is no mistake of a rule.
    """
    function, primals, leaves, treedef = _flat(f, args)
    settings = order, _modes(modes), tolerance([x.dtype for x in primals], eps, atol, rtol)
    mismatch, failure = _compare(function, primals, *settings)
    if mismatch is None and failure is None:
        return
    traced = trace_leaves(f, leaves, treedef, evaluating=True)
    culprit = _search(traced.graph, function, primals, *settings)
    if culprit is not None and isinstance(culprit.node.op, StopGradient):
        function = _with_cuts_held(traced, leaves)
        mismatch, failure = _compare(function, primals, *settings)
        if mismatch is None and failure is None:
            return
        graph = trace_leaves(function, primals, flatten(tuple(primals))[1], evaluating=True).graph
        culprit = _search(graph, function, primals, *settings)
    if culprit is not None:
        raise _named(culprit) from failure
    if failure is not None:
        raise failure
    assert mismatch is not None
    raise _unnamed(f, mismatch)


def _compare(
    function: Flat,
    primals: Sequence[Array],
    order: int,
    modes: tuple[Mode, ...],
    allowed: Tolerance,
) -> tuple[Mismatch | None, Exception | None]:
    """The first difference, or what a rule raised."""
    try:
        return first_mismatch(function, primals, order, modes, allowed), None
    except (PullbackError, ValueError, TypeError, IndexError) as error:
        return None, error


def _with_cuts_held(traced: Traced, leaves: Sequence[Array]) -> Flat:
    """The function of the floating leaves in which what was cut off stays as it is here."""
    graph = traced.graph
    cuts = [node for node in graph.nodes if isinstance(node.op, StopGradient)]
    held = [x for node in cuts for x in node.outputs]
    open_nodes = tuple([node for node in graph.nodes if node not in cuts])
    results = tuple([y for y in graph.outputs if is_float(y.dtype)])
    opened = Graph((*graph.inputs, *held), open_nodes, results)
    constants = (*traced.captured, *(Array(x.type, x.numpy()) for x in held))
    places = [i for i, x in enumerate(leaves) if is_float(x.dtype)]

    def function(*xs: Array) -> tuple[Array, ...]:
        complete = list(leaves)
        for place, x in zip(places, xs, strict=True):
            complete[place] = x
        return inline(opened, (*complete, *constants))

    return function


def _flat(f: Callable[..., Any], args: Sequence[Any]) -> Any:
    """`f` as a function of its floating leaves that gives its floating results."""
    if not isinstance(args, tuple | list):
        raise StructureError(
            f"the arguments are a tuple, not a {type(args).__name__}", hint="check_grads(f, (x,))"
        )
    leaves, treedef = flatten_arrays(tuple(args), "argument")
    places = [i for i, x in enumerate(leaves) if is_float(x.dtype)]
    if not places:
        raise DTypeError("no argument is floating; there is nothing to differentiate")

    def function(*xs: Array) -> tuple[Array, ...]:
        complete = list(leaves)
        for place, x in zip(places, xs, strict=True):
            complete[place] = x
        results, _ = flatten_arrays(f(*unflatten(treedef, complete)), "the result")
        return tuple(y for y in results if is_float(y.dtype))

    return function, [leaves[i] for i in places], leaves, treedef


def _modes(modes: Sequence[str]) -> tuple[Mode, ...]:
    chosen = tuple(each for each in MODES if each in modes)
    if len(chosen) != len(set(modes)) or not chosen:
        raise StructureError(f"modes are 'fwd' and 'rev', not {modes!r}")
    return chosen


def _search(
    graph: Graph,
    function: Flat,
    primals: Sequence[Array],
    order: int,
    modes: tuple[Mode, ...],
    allowed: Tolerance,
) -> Culprit | None:
    """Node by node: the graph at first order, its derivatives' graphs, then the higher orders.

    A rule that is wrong may stand in no node of the function itself, only in what another rule
    records: so the derivative's own graph is searched before a second order is blamed on anybody.
    """
    kinked = None
    for level in range(1, order + 1):
        candidates = [(graph, level)]
        if level > 1:
            derived = [(each, 1) for each in _derived_graphs(function, primals, modes)]
            candidates = [*derived, *candidates]
        for searched, depth in candidates:
            found = find_culprit(searched, depth, modes, allowed)
            if found is not None and not found.mismatch.kink:
                return found
            kinked = kinked or found
    return kinked


def _derived_graphs(function: Flat, primals: Sequence[Array], modes: Sequence[Mode]) -> list[Graph]:
    """The graphs of x ↦ J(x)ᵀ u and x ↦ J(x) v, as the rules record them."""
    cotangents = tuple(directions(function(*primals), 51))
    tangents = directions(primals, 1)

    def pulled(*xs: Array) -> Any:
        return vjp(function, *xs)[1](cotangents)

    def pushed(*xs: Array) -> Any:
        return linearize(function, *xs)[1](*tangents)

    treedef = flatten(tuple(primals))[1]
    chosen = [pulled if mode == "rev" else pushed for mode in modes]
    return [trace_leaves(g, list(primals), treedef, evaluating=True).graph for g in chosen]


# ---- the message ----------------------------------------------------------------------------


def _named(culprit: Culprit) -> PullbackError:
    node, mismatch = culprit.node, culprit.mismatch
    inside = f" inside {culprit.inside}" if culprit.inside else ""
    error: PullbackError
    if mismatch.kink:
        error = NotDifferentiableError(
            f"not differentiable here: the slopes on both sides differ ({mismatch.place})",
            hint="check at a point that is not on a kink",
        )
    else:
        error = GradientError(
            f"the {mismatch.rule} rule {rule_of(node.op, mismatch)}{inside} is wrong"
            f"{_at_order(mismatch)}: {_numbers(mismatch)}",
            hint=culprit.guess,
        )
    origins = [Operand(f"operand {i}", str(x.type), "") for i, x in enumerate(node.inputs)]
    error.locate(_title(culprit), node.site, origins)
    return error


def _title(culprit: Culprit) -> str:
    """The op; for one that carries the rules of a user's function, that function."""
    function = ruled_function(culprit.node.op)
    name = culprit.node.op.name
    return name if function is None else f"{name} derivative of {function}"


def _at_order(mismatch: Mismatch) -> str:
    return "" if mismatch.order == 1 else f" at order {mismatch.order}"


def _numbers(mismatch: Mismatch) -> str:
    if mismatch.shapes is not None:
        return f"shape {mismatch.shapes[0]} instead of {mismatch.shapes[1]} ({mismatch.place})"
    if mismatch.raises:
        return mismatch.raises
    measured = "finite differences give" if mismatch.rule == "jvp" else "the tangents give"
    return (
        f"it gives {mismatch.found:.10g}, {measured} {mismatch.expected:.10g} "
        f"({mismatch.place}; relative error {mismatch.relative:.1e})"
    )


def _unnamed(f: Callable[..., Any], mismatch: Mismatch) -> PullbackError:
    name = function_name(f)
    if mismatch.kink:
        return NotDifferentiableError(
            f"{name} is not differentiable here ({mismatch.place})",
            hint="check at a point that is not on a kink",
        )
    return GradientError(
        f"the {mismatch.rule} of {name}{_at_order(mismatch)}: {_numbers(mismatch)}",
        hint="each op passes alone: is the function very steep here? try float64, eps= or rtol=",
    )
