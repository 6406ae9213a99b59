"""Optimisers made of others: `chain`, `accumulate`, `ema`."""

from __future__ import annotations

from typing import Any, NamedTuple

from pullback._public import public
from pullback.errors import ArgumentError, StructureError
from pullback.ir.array import Array
from pullback.ir.types import int64
from pullback.ops.operators import cast, constant, lift
from pullback.optim.hyperparameters import number, require_count, require_decays
from pullback.optim.optimizer import Optimizer, optimizer, zeros_like
from pullback.transforms.control import cond
from pullback.transforms.tree import Tree, map_leaves


@public
def chain(*optimizers: Optimizer) -> Optimizer:
    """One optimiser whose updates go through all of these, from left to right.

    The state is the tuple of theirs. Raises `ArgumentError` for what is no optimiser, and for none.

    >>> import pullback as pb
    >>> optimizer = pb.optim.chain(pb.optim.clip_by_global_norm(1.0), pb.optim.sgd(0.1))
    >>> updates, _ = optimizer.update(pb.asarray(8.0), optimizer.init(0.0), 0.0)
    >>> float(updates)
    -0.10000000149011612
    """
    if not optimizers:
        raise ArgumentError("a chain has at least one optimiser")
    for i, each in enumerate(optimizers):
        _require_optimizer(each, f"part {i} of the chain")

    def init(params: Tree) -> tuple[Any, ...]:
        return tuple(each.init(params) for each in optimizers)

    def update(grads: Tree, state: tuple[Any, ...], params: Tree) -> tuple[Tree, tuple[Any, ...]]:
        if not isinstance(state, tuple) or len(state) != len(optimizers):
            raise StructureError(
                f"the state of this chain is a tuple of {len(optimizers)}, one for each part",
                hint="begin with state = optimizer.init(params)",
            )
        after = []
        for each, part in zip(optimizers, state, strict=True):
            grads, part = each.update(grads, part, params)
            after.append(part)
        return grads, tuple(after)

    return optimizer("chain", init, update)


class AccumulateState(NamedTuple):
    """How many gradients are summed in `total`, and the optimiser's state."""

    taken: Array
    total: Tree
    inner: Any


@public
def accumulate(inner: Optimizer, k: int) -> Optimizer:
    """`inner` once in `k` updates, with the mean of `k` gradients; in between updates are 0.

    So k small batches act as the large one they make up, for a loss that is a mean over examples.
    Raises `ArgumentError` for k < 1.
    """
    _require_optimizer(inner, "what accumulates")
    require_count(k=k)

    def init(params: Tree) -> AccumulateState:
        return AccumulateState(constant(0, int64), zeros_like(params), inner.init(params))

    def update(grads: Tree, state: AccumulateState, params: Tree) -> tuple[Tree, AccumulateState]:
        total = map_leaves(lambda s, g: s + cast(g, s.dtype), state.total, grads)

        def step(total: Tree, kept: Any, params: Tree) -> tuple[Tree, AccumulateState]:
            updates, after = inner.update(map_leaves(lambda s: s / k, total), kept, params)
            same = map_leaves(lambda u, x: cast(u, lift(x).dtype), updates, params)
            return same, AccumulateState(constant(0, int64), zeros_like(total), after)

        def wait(total: Tree, kept: Any, params: Tree) -> tuple[Tree, AccumulateState]:
            return zeros_like(params), AccumulateState(state.taken + 1, total, kept)

        result: tuple[Tree, AccumulateState] = cond(
            state.taken == k - 1, step, wait, total, state.inner, params
        )
        return result

    return optimizer("accumulate", init, update)


class EmaState(NamedTuple):
    """The running mean of the parameters, to be used in their place."""

    average: Tree


def ema(decay: float | Array) -> Optimizer:
    """The running mean of the parameters beside them:  a ← β a + (1 - β) x, a = x at the start.

    It stands last in a `chain` and leaves the updates alone: `state[-1].average` is the averaged
    model (Polyak & Juditsky 1992). Raises `ArgumentError` unless 0 ≤ β < 1.
    """
    require_decays(decay=decay)

    def init(params: Tree) -> EmaState:
        return EmaState(map_leaves(lift, params))

    def update(updates: Tree, state: EmaState, params: Tree) -> tuple[Tree, EmaState]:
        beta = number(decay)

        def averaged(a: Array, x: Array, step: Array) -> Array:
            mean: Array = a * beta + (x + cast(step, x.dtype)) * (1 - beta)
            return mean

        return updates, EmaState(map_leaves(averaged, state.average, params, updates))

    return optimizer("ema", init, update)


def _require_optimizer(value: Any, what: str) -> None:
    if not isinstance(value, Optimizer):
        raise ArgumentError(
            f"{what} is no optimiser but {value!r:.60}",
            hint="pb.optim.sgd(0.1) is one; make your own with pb.optim.Optimizer(init, update)",
        )
