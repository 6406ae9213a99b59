"""Which arrays of a model no optimiser shall change.

The mark is part of a module's structure: gradients, optimiser states and copies of a model carry
it, and `print(model)` shows it. It changes nothing that is computed; `optim.masked` heeds it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pullback._public import public
from pullback.errors import ArgumentError, nearest
from pullback.nn.module import leaf_marks, with_leaf_marks
from pullback.transforms.tree import Tree, built, flatten, paths, unflatten

Where = str | Callable[[Any], Any]


@public
def freeze(model: Tree, where: Where = "*") -> Tree:
    """The model with the arrays that `where` chooses marked as frozen; all of them unless given.

    `where` is a function from the model to a part of it, or to a container of parts, or a pattern
    over the paths that `print(model)` shows: `*` stands for any text, and a path for all that lies
    below it. Raises `ArgumentError` when it chooses nothing.

    >>> import pullback as pb
    >>> freeze(pb.nn.MLP(4, 2, 3, 1, key=pb.random.key(0)), "layers[0]")
    MLP(activation=relu)  23 parameters (15 frozen), 92 B
      layers[0]: Linear()  15 parameters (15 frozen), 60 B
        weight: float32[3,4]  frozen
        bias: float32[3]  frozen
      layers[1]: Linear()  8 parameters, 32 B
        weight: float32[2,3]
        bias: float32[2]
    """
    return _marked(model, where, frozen=True)


@public
def unfreeze(model: Tree, where: Where = "*") -> Tree:
    """The model with the marks taken from the arrays that `where` chooses; see `freeze`."""
    return _marked(model, where, frozen=False)


@public
def trainable(model: Tree) -> Tree:
    """A tree like the model with True for each array, False for a frozen one."""
    whole = built(model)
    return unflatten(flatten(whole)[1], [not mark for mark in leaf_marks(whole)])


def _marked(model: Tree, where: Where, *, frozen: bool) -> Tree:
    whole = built(model)
    chosen = _matching(whole, where) if isinstance(where, str) else _reached(whole, where)
    marks = [frozen if i in chosen else mark for i, mark in enumerate(leaf_marks(whole))]
    return with_leaf_marks(whole, iter(marks))


# ---- which leaves, by their position --------------------------------------------------------


def _matching(model: Tree, pattern: str) -> set[int]:
    known = [path.removeprefix(".") for path in paths(flatten(model)[1], "")]
    text = ".*".join(re.escape(part) for part in pattern.split("*"))
    matches = re.compile(rf"{text}([.\[].*)?", re.DOTALL).fullmatch
    chosen = {i for i, path in enumerate(known) if matches(path)}
    if not chosen:
        near = nearest(pattern, known, cutoff=0) or "none"
        raise ArgumentError(
            f"no array of the model has a path like {pattern!r}", hint=f"there is {near!r}"
        )
    return chosen


@dataclass(frozen=True)
class _Place:
    """What stands for a leaf while `where` reaches for its part of the model."""

    position: int


def _reached(model: Tree, where: Callable[[Any], Any]) -> set[int]:
    count, structure = len(flatten(model)[0]), flatten(model)[1]
    parts = where(unflatten(structure, [_Place(i) for i in range(count)]))
    found = flatten(parts)[0]
    for each in found:
        if not isinstance(each, _Place):
            what = getattr(each, "__name__", type(each).__name__)
            raise ArgumentError(f"`where` gives {what}, which is no array of the model")
    if not found:
        raise ArgumentError("`where` gives a part of the model that has no array")
    return {each.position for each in found}
