"""What a program is made for: the structure and types of the arguments, and the static values.

An argument is static (a value that the program is made for) or dynamic (a tree of arrays). A Python
or NumPy scalar is dynamic too: its kind is a `ScalarType`, its number comes with each call.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pullback.errors import ArgumentError, LeakedValueError, StructureError
from pullback.ir.array import CONCRETE, DONATED, Array
from pullback.ir.types import DType, TensorType, as_dtype, bool_, float64, int64
from pullback.transforms.tree import LazyTree, TreeDef, argument_names, flatten, paths

Names = int | str | Sequence[int | str]


@dataclass(frozen=True, slots=True)
class ScalarType:
    """A scalar that takes the element type of what it meets: a Python number (0), NumPy's (1)."""

    dtype: DType
    strength: int

    @property
    def type(self) -> TensorType:
        return TensorType((), self.dtype)

    def __str__(self) -> str:
        return f"NumPy {self.dtype}" if self.strength else f"Python {_PYTHON_NAMES[self.dtype]}"


Kind = TensorType | ScalarType
_PYTHON_NAMES = {bool_: "bool", int64: "int", float64: "float"}
_WEAK: dict[type, ScalarType] = {
    bool: ScalarType(bool_, 0),
    int: ScalarType(int64, 0),
    float: ScalarType(float64, 0),
}


@dataclass(frozen=True, slots=True)
class Static:
    """A static argument; of another type it is another one, as 1 and 1.0 are."""

    value: Any
    type: type = field(repr=False)

    def __str__(self) -> str:
        return f"{self.value!r:.60}"


@dataclass(frozen=True)
class Dynamic:
    """An argument that is a tree of arrays."""

    treedef: TreeDef
    kinds: tuple[Kind, ...]

    @functools.cached_property
    def is_leaf(self) -> bool:
        return self.treedef.is_leaf()


Argument = Static | Dynamic


@dataclass(frozen=True, slots=True)
class Signature:
    """The arguments of a call: `count` positional ones, then those passed by name."""

    count: int
    keywords: tuple[str, ...]
    arguments: tuple[Argument, ...]

    def names(self, f: Callable[..., Any]) -> list[str]:
        """What to call each argument."""
        return [*argument_names(f, range(self.count)), *self.keywords]

    def leaf_names(self, f: Callable[..., Any]) -> list[str]:
        """The path of each leaf of the dynamic arguments."""
        named = zip(self.names(f), self.arguments, strict=True)
        return [
            path
            for name, argument in named
            if isinstance(argument, Dynamic)
            for path in paths(argument.treedef, name)
        ]

    @property
    def dynamic(self) -> list[tuple[int, Dynamic]]:
        """The dynamic arguments, and their places among all."""
        return [(i, x) for i, x in enumerate(self.arguments) if isinstance(x, Dynamic)]

    @property
    def kinds(self) -> list[Kind]:
        """The kinds of all leaves, in order."""
        return [kind for _, each in self.dynamic for kind in each.kinds]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Arguments chosen by position or name: a call may pass them either way."""

    positions: frozenset[int]
    names: frozenset[str]

    def has(self, signature: Signature, i: int) -> bool:
        """Whether it has argument `i` of a call."""
        if i < signature.count:
            return i in self.positions
        return signature.keywords[i - signature.count] in self.names

    @classmethod
    def of(cls, f: Callable[..., Any], given: Names, option: str) -> Chosen:
        """Raises `ArgumentError` for what names no parameter of `f`."""
        entries = [given] if isinstance(given, int | str) else list(given)
        parameters = _parameters(f)
        positions, names = set(), set()
        for each in entries:
            if isinstance(each, bool) or not isinstance(each, int | str):
                raise ArgumentError(
                    f"{option} takes positions and names of arguments, not {each!r}"
                )
            name = parameters.get(each) if isinstance(each, int) else each
            if parameters and name not in parameters.values():
                known = ", ".join(parameters.values())
                raise ArgumentError(f"{option}={each!r} names no argument; they are {known}")
            if isinstance(each, int):
                positions.add(each)
            positions |= {i for i, known in parameters.items() if known == name and i >= 0}
            names |= set() if name is None else {name}
        return cls(frozenset(positions), frozenset(names))


def _parameters(f: Callable[..., Any]) -> dict[int, str]:
    """The parameters by position, negative ones for those passed by name alone; {} if unknown."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        return {}
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        return {}
    positional = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
    named = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    return dict(enumerate(positional)) | {~i: name for i, name in enumerate(named)}


class Known(LazyTree):
    """A lazy tree whose structure and kinds are known without building it."""

    __slots__ = ()

    @property
    def argument(self) -> Dynamic:
        raise NotImplementedError

    @property
    def built(self) -> list[Array]:
        """The arrays of it that somebody has seen."""
        raise NotImplementedError


Feed = Known | list[Any]
"""What a call brings for a dynamic argument: its leaves, or a state as it is."""


def read(
    f: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], static: Chosen
) -> tuple[Signature, list[Feed]]:
    """The signature of a call, and what it brings for each dynamic argument.

    Raises `StructureError` for a leaf that is no array, and for an unhashable static argument.
    """
    keywords = tuple(sorted(kwargs))
    feeds: list[Feed] = []
    arguments: list[Argument] = []
    for i, value in enumerate((*args, *[kwargs[name] for name in keywords])):
        name = keywords[i - len(args)] if i >= len(args) else None
        if i in static.positions if name is None else name in static.names:
            arguments.append(_static(value, _name(f, i, len(args), keywords)))
            continue
        if isinstance(value, Known):
            arguments.append(value.argument)
            feeds.append(value)
            continue
        flat, treedef = flatten(value)
        try:
            kinds = tuple([kind_of(x) for x in flat])
        except StructureError:
            raise _refused(f, _name(f, i, len(args), keywords), flat, treedef) from None
        arguments.append(Dynamic(treedef, kinds))
        feeds.append(flat)
    return Signature(len(args), keywords, tuple(arguments)), feeds


def kind_of(leaf: Any) -> Kind:
    """What a leaf is to a program; `StructureError` for what is no array."""
    if type(leaf) is Array:
        if leaf.trace == DONATED:
            raise leaf.donated()
        if leaf.trace != CONCRETE:
            raise LeakedValueError(
                f"a value of an earlier trace ({leaf.type}) was passed to a compiled function",
                hint="return it from the function instead of storing it",
            )
        return leaf.type
    if type(leaf) in _WEAK:
        return _WEAK[type(leaf)]
    if isinstance(leaf, np.ndarray):
        return TensorType(leaf.shape, as_dtype(leaf.dtype.newbyteorder("=")))
    if isinstance(leaf, np.generic):
        return ScalarType(as_dtype(leaf.dtype), 1)
    if isinstance(leaf, TensorType):
        return leaf
    for kind, scalar in _WEAK.items():  # a subclass: an enum, a unit
        if isinstance(leaf, kind):
            return scalar
    raise StructureError("no array")


def fits(leaf: Any, kind: Kind) -> bool:
    """Whether a leaf is of a kind: `kind_of(leaf) == kind`, for the usual leaves at once."""
    found = type(leaf)
    if found is Array:
        return leaf.trace == CONCRETE and (leaf.type is kind or leaf.type == kind)
    if found is np.ndarray:
        return type(kind) is TensorType and leaf.shape == kind.shape and leaf.dtype == kind.dtype
    return kind is _WEAK.get(found)


def _static(value: Any, name: str) -> Static:
    try:
        hash(value)
    except TypeError:
        raise StructureError(
            f"the static argument {name} is a {type(value).__name__}, which has no hash",
            hint="a program is found by its static values: pass a tuple, or a frozen dataclass",
        ) from None
    return Static(value, type(value))


def _name(f: Callable[..., Any], i: int, count: int, keywords: Sequence[str]) -> str:
    return argument_names(f, [i])[0] if i < count else keywords[i - count]


def _refused(
    f: Callable[..., Any], name: str, leaves: Sequence[Any], treedef: TreeDef
) -> StructureError:
    """The error that names the first leaf which is no array."""
    for path, leaf in zip(paths(treedef, name), leaves, strict=True):
        try:
            kind_of(leaf)
        except StructureError:
            return StructureError(
                f"{path} is no array but a {type(leaf).__name__}: {leaf!r:.60}",
                hint=f"make it static: pb.compile(f, static={name!r})",
            )
    raise AssertionError


# ---- what changed ---------------------------------------------------------------------------


def difference(f: Callable[..., Any], old: Signature, new: Signature) -> list[str]:
    """In what the arguments of two calls differ, one line each."""
    before = dict(zip(old.names(f), old.arguments, strict=True))
    after = dict(zip(new.names(f), new.arguments, strict=True))
    lines = [f"{name} is no longer passed" for name in before if name not in after]
    lines += [f"{name} is passed now" for name in after if name not in before]
    for name, argument in after.items():
        if name in before and before[name] != argument:
            lines += _changed(name, before[name], argument)
    return lines


def _changed(name: str, old: Argument, new: Argument) -> list[str]:
    match old, new:
        case Dynamic(), Dynamic() if old.treedef == new.treedef:
            pairs = zip(paths(new.treedef, name), old.kinds, new.kinds, strict=True)
            return [f"{path}: {_kind_change(a, b)}" for path, a, b in pairs if a != b]
        case Dynamic(), Dynamic():
            return [f"{name}: the structure {old.treedef} became {new.treedef}"]
    return [f"{name} (static): {old} became {new}"]


def _kind_change(old: Kind, new: Kind) -> str:
    if isinstance(old, TensorType) and isinstance(new, TensorType):
        changed = [("shape", old.shape != new.shape), ("dtype", old.dtype != new.dtype)]
        what = " and ".join([name for name, differs in changed if differs])
        return f"{what} {old} became {new}"
    return f"{old} became {new}"
