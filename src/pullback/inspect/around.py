"""`Around`: what a function reads from the places around it, its own and those it calls."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pullback.compile.driver import uncompiled
from pullback.ir.array import Array, concrete
from pullback.ir.types import is_integer
from pullback.transforms.tree import flatten, map_leaves

OWN = "pullback."
DEEP = 8
"""Functions within functions that are looked into, at the most."""
KNOWN = (Array, np.ndarray, np.generic, int, float, str, types.FunctionType)


@dataclass(eq=False)
class Around:
    """The arrays and numbers that a function finds in its closure and among its globals.

    `direct` are those that it names itself, as the state of a loop; `deeper` those of the functions
    that it calls. They are held, so that one of them is no other one later.
    """

    direct: list[Array] = field(default_factory=list)
    deeper: list[Array] = field(default_factory=list)
    numbers: list[Any] = field(default_factory=list)
    keeps: bool = False
    """Whether there are objects of the user's, which may keep what is not seen."""
    words: set[str] = field(default_factory=set)
    """The names in the code that was read."""

    @classmethod
    def of(cls, f: Callable[..., Any]) -> Around:
        found, seen = cls(), set[int]()
        found._read(f, found.direct, seen, DEEP)
        return found

    @property
    def draws(self) -> bool:
        """Whether a name speaks of random numbers."""
        return any(part in name for name in self.words for part in ("key", "random", "rng"))

    def _read(self, x: Any, arrays: list[Array], seen: set[int], depth: int) -> None:
        if depth == 0 or id(x) in seen:
            return
        seen.add(id(x))
        x = uncompiled(x)
        if isinstance(x, functools.partial):
            for each in (x.func, *x.args, *x.keywords.values()):
                self._read(each, arrays, seen, depth - 1)
        elif isinstance(x, types.MethodType):
            self._read(x.__func__, arrays, seen, depth)
        elif isinstance(x, types.FunctionType):
            within = arrays if depth == DEEP else self.deeper
            for each in self._held(x):
                self._read(each, within, seen, depth - 1)
        elif isinstance(x, bool | int | float | str):
            self.numbers.append(x)
        elif not isinstance(x, types.ModuleType | types.BuiltinFunctionType | type):
            leaves = flatten(x)[0]
            arrays += [leaf for leaf in leaves if isinstance(leaf, Array)]
            self.numbers += [leaf for leaf in leaves if isinstance(leaf, int | float)]
            self.keeps = self.keeps or any(map(_is_opaque, leaves))

    def _held(self, f: types.FunctionType) -> Iterator[Any]:
        """What its cells, defaults and, of the user's own functions, globals hold."""
        for cell in f.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:  # not bound yet
                continue
        yield from f.__defaults__ or ()
        if str(f.__globals__.get("__name__")).startswith(OWN):
            return
        for code in _codes(f.__code__):
            names = (*code.co_names, *code.co_freevars, *code.co_varnames)
            self.words.update(names)
            yield from [f.__globals__[name] for name in names if name in f.__globals__]


def counted_up(
    f: Callable[..., Any], same: Container[int], with_numbers: bool
) -> Callable[..., Any]:
    """The function with each whole number that it names itself, as in a state, larger by 1.

    Of arrays those whose ids are not in `same`; Python's own `with_numbers`.
    """
    if not isinstance(f, types.FunctionType):
        return f

    def more(leaf: Any) -> Any:
        if isinstance(leaf, Array) and is_integer(leaf.dtype) and id(leaf) not in same:
            return concrete(leaf.numpy() + np.ones((), leaf.dtype))
        return leaf + 1 if with_numbers and type(leaf) is int else leaf

    def up(x: Any) -> Any:
        is_data = not (isinstance(x, types.ModuleType | type) or callable(x))
        return map_leaves(more, x) if is_data else x

    names = [name for name in f.__code__.co_names if name in f.__globals__]
    around = {**f.__globals__, **{name: up(f.__globals__[name]) for name in names}}
    cells = tuple([_with_contents(x, up) for x in f.__closure__ or ()])
    moved = types.FunctionType(f.__code__, around, f.__name__, f.__defaults__, cells)
    moved.__kwdefaults__ = f.__kwdefaults__
    return moved


def _with_contents(cell: types.CellType, change: Callable[[Any], Any]) -> types.CellType:
    try:
        return types.CellType(change(cell.cell_contents))
    except ValueError:  # not bound yet
        return cell


def _is_opaque(leaf: Any) -> bool:
    """Whether it is an object of the user's, that may keep something."""
    known = isinstance(leaf, KNOWN)
    return not known and not type(leaf).__module__.startswith(OWN)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield from _codes(each)
