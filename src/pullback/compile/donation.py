"""Which result takes over the memory of which donated argument."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from pullback.compile.signature import Dynamic, Kind
from pullback.ir.types import TensorType
from pullback.transforms.tree import TreeDef


@dataclass(frozen=True)
class Part:
    """A subtree of the result: its leaves from `first` on, and the argument whose state it is."""

    treedef: TreeDef
    first: int
    state: int | None = None

    @functools.cached_property
    def range(self) -> range:
        return range(self.first, self.first + self.treedef.num_leaves)

    @functools.cached_property
    def is_leaf(self) -> bool:
        return self.treedef.is_leaf()


@dataclass(frozen=True, slots=True)
class Pairing:
    """The result in parts (one, if `whole`), and output → input for what shares memory."""

    parts: tuple[Part, ...]
    whole: bool
    pairs: dict[int, int]


def pair_up(
    result: TreeDef,
    types: Sequence[TensorType],
    arguments: Sequence[Dynamic],
    donated: Sequence[int],
) -> Pairing:
    """A part of the result with the structure and types of a donated argument is its new state.

    The whole result can be, or an entry of it. What remains of the donated arrays goes to what
    remains of the results, in order, where the types are equal.
    """
    starts = _starts([len(each.kinds) for each in arguments])
    parts, whole = _parts(result)
    free, matched = set(donated), []
    for part in parts:
        fitting = [k for k in sorted(free) if _is_state(part, types, arguments[k])]
        matched.append(Part(part.treedef, part.first, fitting[0] if fitting else None))
        free -= set(fitting[:1])
    pairs = {
        part.first + i: starts[part.state] + i
        for part in matched
        if part.state is not None
        for i in range(part.treedef.num_leaves)
    }
    left = [
        (starts[k] + i, kind) for k in sorted(free) for i, kind in enumerate(arguments[k].kinds)
    ]
    pairs |= _by_type(left, [(i, t) for i, t in enumerate(types) if i not in pairs])
    return Pairing(tuple(matched), whole, pairs)


def _parts(result: TreeDef) -> tuple[list[Part], bool]:
    if result.is_leaf() or result.type not in (tuple, list):
        return [Part(result, 0)], True
    children = result.children()
    starts = _starts([child.num_leaves for child in children])
    return [Part(c, first) for c, first in zip(children, starts, strict=True)], False


def _is_state(part: Part, types: Sequence[TensorType], argument: Dynamic) -> bool:
    if part.treedef.is_leaf() or not part.treedef.num_leaves or part.treedef != argument.treedef:
        return False
    return list(argument.kinds) == list(types[part.range.start : part.range.stop])


def _by_type(
    donors: Sequence[tuple[int, Kind]], takers: Sequence[tuple[int, TensorType]]
) -> dict[int, int]:
    free = list(donors)
    pairs: dict[int, int] = {}
    for output, kind in takers:
        found = next((each for each in free if each[1] == kind), None)
        if found is not None:
            free.remove(found)
            pairs[output] = found[0]
    return pairs


def _starts(counts: Sequence[int]) -> list[int]:
    starts, total = [], 0
    for count in counts:
        starts.append(total)
        total += count
    return starts
