"""What an optimiser is: a pure pair (init, update), with the signatures of Optax.

    state = optimizer.init(params)
    updates, state = optimizer.update(grads, state, params)
    params = apply_updates(params, updates)

Parameters, gradients, updates and the parts of a state have one structure.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from pullback._public import public
from pullback.errors import ArgumentError, ShapeError
from pullback.ops.operators import cast, lift, zeros
from pullback.transforms.tree import Tree, flatten_arrays, map_leaves, paths, require_same

Init = Callable[[Tree], Any]
Update = Callable[[Tree, Any, Tree], tuple[Tree, Any]]


class Optimizer(NamedTuple):
    """`init(params) → state` and `update(grads, state, params) → (updates, state)`, both pure."""

    init: Init
    update: Update


@public
def apply_updates(params: Tree, updates: Tree) -> Tree:
    """`params + updates`, each leaf in the element type of the parameter.

    Raises `StructureError` or `ShapeError` naming the first leaf that does not fit.
    """
    require_fitting(params, updates, "updates")
    return map_leaves(lambda x, step: lift(x) + cast(lift(step), lift(x).dtype), params, updates)


def optimizer(name: str, init: Init, update: Update) -> Optimizer:
    """The pair, with gradients that are checked against the parameters and errors told by name."""

    def checked(grads: Tree, state: Any, params: Tree) -> tuple[Tree, Any]:
        require_fitting(params, grads, "grads")
        return update(map_leaves(lift, grads), state, map_leaves(lift, params))

    return Optimizer(public(init, name), public(checked, name))


def require_of_params(function: Any, what: str) -> None:
    """Raise `ArgumentError` unless `function` can be called with the parameters alone."""
    if not callable(function):
        raise ArgumentError(f"{what} is a function of the parameters, not {function!r:.60}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some functions of C do not tell
        return
    try:
        signature.bind(None)
    except TypeError:
        name = getattr(function, "__name__", type(function).__name__)
        raise ArgumentError(
            f"{what} is a function of the parameters alone, and {name}{signature} takes more",
            hint=f"close over the data: lambda params: {what}(params, x, y)",
        ) from None


def zeros_like(tree: Tree) -> Tree:
    return map_leaves(lambda x: zeros(lift(x).type), tree)


def require_fitting(params: Tree, tree: Tree, what: str) -> None:
    """Raise `StructureError` or `ShapeError` unless `tree` has a leaf for each parameter."""
    expected, structure = flatten_arrays(params, "params")
    given, actual = flatten_arrays(tree, what)
    require_same(structure, actual, what)
    for i, (x, y) in enumerate(zip(expected, given, strict=True)):
        if x.shape != y.shape:
            path = paths(structure, what)[i]
            raise ShapeError(f"{path} is {y.type}, its parameter is {x.type}")
