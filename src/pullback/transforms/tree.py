"""Containers of arrays: flatten, rebuild, name each leaf by its path."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import optree

from pullback.errors import StructureError
from pullback.ir.array import Array
from pullback.ops.operators import lift
from pullback.ops.weak import Weak

NAMESPACE = "pullback"
_SUBCLASS_MODULE = "subclass pb.nn.Module, which makes a dataclass a container of arrays"
Tree = Any
TreeDef = optree.PyTreeSpec


class LazyTree:
    """A tree that is built when somebody looks into it; whatever takes a tree takes it too."""

    __slots__ = ()

    def tree(self) -> Tree:
        raise NotImplementedError


def built(tree: Tree) -> Tree:
    """The same tree with every lazy one in it built."""
    if isinstance(tree, LazyTree):
        return tree.tree()
    leaves, treedef = optree.tree_flatten(tree, none_is_leaf=True, namespace=NAMESPACE)
    if not any(isinstance(x, LazyTree) for x in leaves):
        return tree
    return unflatten(treedef, [x.tree() if isinstance(x, LazyTree) else x for x in leaves])


def flatten(tree: Tree) -> tuple[list[Any], TreeDef]:
    """The leaves in order and the structure; `StructureError` for a container that holds itself."""
    try:
        leaves, treedef = optree.tree_flatten(tree, namespace=NAMESPACE)
    except RecursionError:
        raise StructureError(
            "a container holds itself, or is nested too deep",
            hint="arguments and results are trees: break the cycle",
        ) from None
    if any(isinstance(x, LazyTree) for x in leaves):
        return flatten(built(tree))
    return leaves, treedef


def unflatten(treedef: TreeDef, leaves: Iterable[Any]) -> Tree:
    return optree.tree_unflatten(treedef, leaves)


def flatten_arrays(
    tree: Tree, what: str, names: Callable[[], Sequence[str]] | None = None
) -> tuple[list[Array], TreeDef]:
    """`flatten` with each leaf made an Array; `StructureError` names one that cannot be.

    `names` gives the names of the arguments when `tree` is a tuple of them.
    """
    leaves, treedef = flatten(tree)
    arrays = []
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, Array):
            arrays.append(leaf)
        elif isinstance(leaf, Weak | bool | int | float | np.ndarray | np.generic):
            arrays.append(lift(leaf))
        else:
            path = paths(treedef, what)[i] if names is None else argument_paths(treedef, names())[i]
            raise StructureError(
                f"{path} is no array but a {type(leaf).__name__}: {leaf!r:.60}",
                hint=_SUBCLASS_MODULE if dataclasses.is_dataclass(leaf) else None,
            )
    return arrays, treedef


def paths(treedef: TreeDef, root: str) -> list[str]:
    """For each leaf the expression that reaches it from `root`: `params['layers'][3].weight`."""
    return [accessor.codify(root) for accessor in treedef.accessors()]


def argument_paths(treedef: TreeDef, names: Sequence[str]) -> list[str]:
    """`paths` of a tuple of arguments, each under its own name."""
    children = zip(names, treedef.children(), strict=True)
    return [path for name, child in children for path in paths(child, name)]


def described(treedef: TreeDef, types: Iterable[object]) -> str:
    """The tree with the type of each leaf in its place: `{'h': float32[3]}`."""
    return str(unflatten(treedef, [_Named(str(kind)) for kind in types]))


@dataclasses.dataclass(frozen=True, slots=True)
class _Named:
    name: str

    def __repr__(self) -> str:
        return self.name


def map_leaves(function: Callable[..., Any], tree: Tree, *rest: Tree) -> Tree:
    """The tree of `function(leaf, *leaves of rest)`."""
    trees = [built(each) for each in (tree, *rest)]
    return optree.tree_map(function, *trees, namespace=NAMESPACE)


def require_same(expected: TreeDef, actual: TreeDef, what: str) -> None:
    """Raise `StructureError` unless both structures are equal."""
    if expected != actual:
        raise StructureError(f"{what} must be like {_outline(expected)}, not {_outline(actual)}")


def _outline(treedef: TreeDef) -> str:
    return described(treedef, ["*"] * treedef.num_leaves)


def broadcast_prefix(prefix: Tree, tree: Tree, what: str) -> list[Any]:
    """One entry of `prefix` for each leaf of `tree`; an entry covers the subtree it stands for."""
    # None is an entry of a prefix (no axis), and an empty subtree of `tree`.
    try:
        entries = optree.broadcast_prefix(prefix, tree, none_is_leaf=True, namespace=NAMESPACE)
    except ValueError as error:
        raise StructureError(f"{what} does not match the structure it is for: {error}") from None
    leaves = optree.tree_leaves(tree, none_is_leaf=True, namespace=NAMESPACE)
    return [entry for entry, leaf in zip(entries, leaves, strict=True) if leaf is not None]


def argument_names(function: Callable[..., Any], positions: Iterable[int]) -> list[str]:
    """The names of the parameters that take the positional arguments at `positions`."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in _POSITIONAL]
    return [names[i] if i < len(names) else f"argument {i}" for i in positions]


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
