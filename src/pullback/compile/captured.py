"""Whether a function would still find the arrays that its program captured.

Beside its arguments a function finds arrays through its closure, its globals, and the attributes
and items of what these hold. Each step of the way to a captured array is remembered with what it
led to; a step that leads elsewhere means that a name was bound anew, and the function is traced
again.
"""

from __future__ import annotations

import collections
import functools
import operator
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback.errors import in_library
from pullback.ir.array import Array

REACH = 10_000
"""Steps that are looked at; what lies farther away is not watched."""


@dataclass(frozen=True, slots=True)
class Step:
    """`fetch(holder, key)`, and what it was when the program was made."""

    fetch: Callable[[Any, Any], Any]
    holder: Any
    key: Any
    found: Any


class Watch:
    """The steps to the captured arrays of a program."""

    __slots__ = ("_steps",)

    def __init__(self, function: Callable[..., Any], captured: Sequence[Array]) -> None:
        steps = _ways(function, captured) if captured else []
        self._steps = [(s.fetch, s.holder, s.key, s.found) for s in steps]

    def holds(self) -> bool:
        """Whether each step leads to what it led to."""
        try:
            for fetch, holder, key, found in self._steps:
                if fetch(holder, key) is not found:
                    return False
        except (AttributeError, LookupError, ValueError):  # there is nothing any more
            return False
        return True


def _ways(function: Callable[..., Any], captured: Sequence[Array]) -> list[Step]:
    """Every step on a way from the function to one of the arrays."""
    targets = {id(x) for x in captured}
    leading: dict[int, list[tuple[int, Step]]] = collections.defaultdict(list)
    for owner, step in _reached(function):
        leading[id(step.found)].append((id(owner), step))
        if type(step.found) is np.ndarray:  # the array captured is a copy of it
            targets.add(id(step.found))
    chosen: list[Step] = []
    seen, pending = set(targets), list(targets)
    while pending:
        for owner, step in leading.get(pending.pop(), ()):
            chosen.append(step)
            if owner not in seen:
                seen.add(owner)
                pending.append(owner)
    return chosen


def _reached(function: Callable[..., Any]) -> list[tuple[Any, Step]]:
    """Steps from the function on, nearest first, each with the value it starts from."""
    found: list[tuple[Any, Step]] = []
    seen, pending = {id(function)}, collections.deque([function])
    while pending and len(found) < REACH:
        for owner, step in _steps(pending.popleft()):
            found.append((owner, step))
            if id(step.found) not in seen and not isinstance(step.found, _ENDS):
                seen.add(id(step.found))
                pending.append(step.found)
    return found


_ENDS = (
    *(type(None), bool, int, float, complex, str, bytes, np.generic, np.ndarray, np.dtype),
    *(Array, type, types.ModuleType, types.BuiltinFunctionType, types.CodeType),
)


def _steps(value: Any) -> Iterator[tuple[Any, Step]]:
    kind = type(value)
    if kind is types.FunctionType:
        return _of_function(value)
    if kind is dict:
        return _own(value, operator.getitem, value)
    if kind in (list, tuple):
        return _own(value, operator.getitem, range(len(value)))
    if kind is types.MethodType:
        return _own(value, getattr, ("__self__", "__func__"))
    if kind is functools.partial:
        return _own(value, getattr, ("func", "args", "keywords"))
    return _of_object(value)


def _own(
    holder: Any, fetch: Callable[[Any, Any], Any], keys: Iterable[Any], owner: Any = None
) -> Iterator[tuple[Any, Step]]:
    for key in list(keys):
        try:
            found = fetch(holder, key)
        except (AttributeError, LookupError, ValueError):  # an empty cell or slot
            continue
        yield holder if owner is None else owner, Step(fetch, holder, key, found)


def _of_function(function: types.FunctionType) -> Iterator[tuple[Any, Step]]:
    for cell in function.__closure__ or ():
        yield from _own(cell, getattr, ["cell_contents"], owner=function)
    yield from _own(function, getattr, ["__defaults__", "__kwdefaults__"])
    if not in_library(function.__code__.co_filename):
        names = _names(function.__code__)
        known = [name for name in names if name in function.__globals__]
        for owner, step in _own(function.__globals__, operator.getitem, known, owner=function):
            yield owner, step
            yield from _of_namespace(step.found, names, set())


def _names(code: types.CodeType) -> set[str]:
    """The globals and attributes that code reads, with the functions inside it."""
    inner = [_names(x) for x in code.co_consts if isinstance(x, types.CodeType)]
    return set(code.co_names).union(*inner)


def _of_namespace(value: Any, names: set[str], seen: set[int]) -> Iterator[tuple[Any, Step]]:
    """The attributes of a module or class that the code could read."""
    if not isinstance(value, types.ModuleType | type) or id(value) in seen or _is_ours(value):
        return
    seen.add(id(value))
    for owner, step in _own(value, getattr, names.intersection(vars(value))):
        yield owner, step
        yield from _of_namespace(step.found, names, seen)


def _of_object(value: Any) -> Iterator[tuple[Any, Step]]:
    """Its attributes, and the methods of its classes."""
    own = getattr(value, "__dict__", None)
    attributes = list(own) if type(own) is dict else []
    if "__wrapped__" in attributes:
        yield from _own(value, getattr, ["__wrapped__"])
        return
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        attributes += [slots] if isinstance(slots, str) else slots
        if not _is_ours(kind):
            methods = [n for n, x in vars(kind).items() if type(x) is types.FunctionType]
            yield from _own(kind, getattr, methods, owner=value)
    yield from _own(value, getattr, attributes)


def _is_ours(value: Any) -> bool:
    """Whether it is a module or class of this library, or of Python's own."""
    if isinstance(value, type):
        name = value.__module__
        return name == "builtins" or name.partition(".")[0] in ("pullback", "numpy", "optree")
    return in_library(getattr(value, "__file__", None) or "")
