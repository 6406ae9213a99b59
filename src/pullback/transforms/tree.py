"""Containers of arrays: flatten, rebuild, name each leaf by its path."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import optree

from pullback.errors import StructureError
from pullback.ir.array import Array
from pullback.ops.operators import lift

NAMESPACE = "pullback"
Tree = Any
TreeDef = optree.PyTreeSpec


def flatten(tree: Tree) -> tuple[list[Any], TreeDef]:
    """The leaves in order and the structure; `StructureError` for a container that holds itself."""
    try:
        leaves, treedef = optree.tree_flatten(tree, namespace=NAMESPACE)
    except RecursionError:
        raise StructureError(
            "a container holds itself", hint="arguments and results are trees: break the cycle"
        ) from None
    return leaves, treedef


def unflatten(treedef: TreeDef, leaves: Iterable[Any]) -> Tree:
    return optree.tree_unflatten(treedef, leaves)


def flatten_arrays(tree: Tree, what: str) -> tuple[list[Array], TreeDef]:
    """`flatten` with each leaf made an Array; `StructureError` names one that cannot be."""
    leaves, treedef = flatten(tree)
    arrays = []
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, Array):
            arrays.append(leaf)
        elif isinstance(leaf, bool | int | float | np.ndarray | np.generic):
            arrays.append(lift(leaf))
        else:
            raise StructureError(
                f"{paths(treedef, what)[i]} is no array but a {type(leaf).__name__}: {leaf!r:.60}"
            )
    return arrays, treedef


def paths(treedef: TreeDef, root: str) -> list[str]:
    """For each leaf the expression that reaches it from `root`: `params['layers'][3].weight`."""
    return [accessor.codify(root) for accessor in treedef.accessors()]


def map_leaves(function: Callable[..., Any], tree: Tree, *rest: Tree) -> Tree:
    """The tree of `function(leaf, *leaves of rest)`."""
    return optree.tree_map(function, tree, *rest, namespace=NAMESPACE)


def require_same(expected: TreeDef, actual: TreeDef, what: str) -> None:
    """Raise `StructureError` unless both structures are equal."""
    if expected != actual:
        raise StructureError(f"{what} has the structure {actual}, expected {expected}")


def broadcast_prefix(prefix: Tree, tree: Tree, what: str) -> list[Any]:
    """One entry of `prefix` for each leaf of `tree`; an entry covers the subtree it stands for."""
    try:
        return list(optree.broadcast_prefix(prefix, tree, none_is_leaf=True, namespace=NAMESPACE))
    except ValueError as error:
        raise StructureError(f"{what} does not match the structure it is for: {error}") from None


def argument_names(function: Callable[..., Any], count: int) -> Sequence[str]:
    """The parameter names of the first `count` positional arguments."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return [f"argument {i}" for i in range(count)]
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return (names + [f"argument {i}" for i in range(len(names), count)])[:count]
