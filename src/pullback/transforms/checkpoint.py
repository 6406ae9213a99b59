"""`checkpoint`: trade arithmetic for memory."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

from pullback._public import public
from pullback.ir.builder import current
from pullback.ir.graph import with_outputs, without_numbers
from pullback.ops.remat import Checkpoint
from pullback.transforms.derivatives import name_of
from pullback.transforms.trace import trace_leaves
from pullback.transforms.tree import flatten
from pullback.transforms.walk import apply_known

P = ParamSpec("P")
R = TypeVar("R")


def checkpoint(f: Callable[P, R]) -> Callable[P, R]:
    """`f`, of which a derivative keeps the operands alone and computes the inner values anew.

    Costs one more evaluation of `f` in the backward pass; values and gradients are bitwise those of
    `f`. Random numbers are drawn again from the same keys.

    >>> import pullback as pb
    >>> float(pb.grad(pb.checkpoint(lambda x: x * x * x))(2.0))
    12.0
    """

    @functools.wraps(f)
    def checkpointed(*args: P.args, **kwargs: P.kwargs) -> R:
        if current() is None:
            return f(*args, **kwargs)
        # Traced without arguments: the arrays among them are captured, all else passes untouched.
        traced = trace_leaves(functools.partial(f, *args, **kwargs), [], flatten(())[1])
        graph = traced.graph
        outer = dict(zip(graph.inputs, traced.captured, strict=True))
        made = tuple(dict.fromkeys(x for x in graph.outputs if x not in outer))
        op = Checkpoint(without_numbers(with_outputs(graph, made)))
        outer |= dict(zip(made, apply_known(op, traced.captured, made), strict=True))
        return cast("R", traced.rebuild([outer[x] for x in graph.outputs]))

    return public(checkpointed, f"checkpoint of {name_of(f)}")
