"""`checkpoint`: trade arithmetic for memory."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal, ParamSpec, TypeVar, cast, get_args

from pullback._public import public
from pullback.errors import ArgumentError
from pullback.ir.builder import current
from pullback.ir.families import Multilinear
from pullback.ir.graph import Node, with_outputs, without_numbers
from pullback.ir.op import HigherOrder
from pullback.ir.types import TensorType
from pullback.ops.layout import Layout
from pullback.ops.remat import Checkpoint
from pullback.transforms.derivatives import name_of
from pullback.transforms.trace import trace_leaves
from pullback.transforms.tree import flatten
from pullback.transforms.walk import apply_known

P = ParamSpec("P")
R = TypeVar("R")

Named = Literal["nothing", "everything", "contractions"]
Policy = Named | Callable[[str, TensorType], bool]
"""Which inner values are kept: a name, or a function of an op's name and its result's type."""


def checkpoint(f: Callable[P, R], *, policy: Policy = "nothing") -> Callable[P, R]:
    """`f`, of which a derivative keeps the operands and computes the inner values anew.

    `policy` says which inner values are kept as well: `"nothing"`; `"contractions"`, the results of
    matrix products and convolutions, so that only cheap work is done again; `"everything"`; or a
    function of the name of an operation and the type of its result (`shape`, `dtype`, `nbytes`)
    that says True for what to keep. Views are never kept, nor what is inside a loop within `f`.

    With `"nothing"` it costs one more evaluation of `f` in the backward pass. Values and gradients
    are bitwise those of `f`; derivatives of derivatives may add the same terms in another order.
    Random numbers are drawn again from the same keys. Raises `ArgumentError` for another policy.

    >>> import pullback as pb
    >>> float(pb.grad(pb.checkpoint(lambda x: x * x * x))(2.0))
    12.0
    >>> block = pb.checkpoint(lambda w, x: pb.tanh(x @ w), policy="contractions")
    >>> small = pb.checkpoint(pb.exp, policy=lambda name, result: result.nbytes < 1_000_000)
    """
    if not callable(policy) and policy not in get_args(Named):
        raise ArgumentError(
            f"policy={policy!r} is none of {', '.join(map(repr, get_args(Named)))}",
            hint="or a function (name of the operation, type of its result) → keep it?",
        )

    @functools.wraps(f)
    def checkpointed(*args: P.args, **kwargs: P.kwargs) -> R:
        if current() is None:
            return f(*args, **kwargs)
        # Traced without arguments: the arrays among them are captured, all else passes untouched.
        traced = trace_leaves(functools.partial(f, *args, **kwargs), [], flatten(())[1])
        graph = traced.graph
        outer = dict(zip(graph.inputs, traced.captured, strict=True))
        kept = [node.outputs[0] for node in graph.nodes if _is_kept(node, policy)]
        made = tuple(dict.fromkeys(x for x in (*graph.outputs, *kept) if x not in outer))
        number = {x: i for i, x in enumerate(made)}
        places = tuple([number[x] for x in kept])
        op = Checkpoint(without_numbers(with_outputs(graph, made)), places)
        outer |= dict(zip(made, apply_known(op, traced.captured, made), strict=True))
        return cast("R", traced.rebuild([outer[x] for x in graph.outputs]))

    return public(checkpointed, f"checkpoint of {name_of(f)}")


def _is_kept(node: Node, policy: Policy) -> bool:
    """Whether the backward pass finds the result of a node, and does not compute it again."""
    op = node.op
    if isinstance(op, Layout | HigherOrder) or not node.inputs or len(node.outputs) != 1:
        return False
    match policy:
        case "nothing":
            return False
        case "everything":
            return True
        case "contractions":
            return isinstance(op, Multilinear)
    kept = policy(op.name, node.outputs[0].type)
    if not isinstance(kept, bool):
        raise ArgumentError(f"the policy of a checkpoint says True or False, not {kept!r}")
    return kept
