"""Kernels that differ in nothing but their buffers and lines are one kernel.

The key of a kernel is all that it is made of, its buffers numbered in the order they are first met:
domain, accesses, bodies, element types. Code is written for one kernel of each key.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable
from dataclasses import fields, is_dataclass, replace
from typing import Any

from pullback._trusted import trusted
from pullback.errors import Site
from pullback.ir.array import Array
from pullback.ir.op import Op
from pullback.schedule.kernels import (
    Apply,
    Call,
    Extent,
    Fold,
    Kernel,
    Load,
    Loops,
    Operand,
    Schedule,
)


@trusted(frozen=True, slots=True)
class Canonical:
    """The key of a kernel, its buffers in the order they are met, and so its lines."""

    key: Hashable
    buffers: tuple[int, ...]
    sites: tuple[Site, ...]


def canonical(kernel: Kernel) -> Canonical:
    reader = _Reader()
    key = reader.read(kernel)
    return Canonical(key, tuple(reader.numbers), tuple(reader.sites))


def renumbered(kernel: Kernel, numbers: dict[int, int]) -> Kernel:
    """The kernel on other buffers."""
    result: Kernel = _renumbered(kernel, numbers)
    return result


class _Reader:
    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}
        self.sites: list[Site] = []

    def read(self, x: Any) -> Hashable:
        kind: Any = type(x)
        if kind is int or kind is str:
            return x  # type: ignore[no-any-return]
        if kind is Loops:
            return self._loops(x)
        if kind is Call:
            return self._call(x)
        if kind is Operand:
            layout = x.layout
            place = layout.shape, layout.strides, layout.offset
            return kind, self._number(x.buffer), x.dtype, *place
        if kind is tuple:
            if _INTEGERS.issuperset(map(type, x)):
                return x  # type: ignore[no-any-return]
            return tuple([self.read(each) for each in x])
        if kind is Site:
            self.sites.append(x)
            return None
        if kind is float:
            return kind, x.hex()  # 0.0 == -0.0, and no NaN is equal to itself
        if kind is bool:
            return kind, x  # True == 1
        names = _fields(kind)
        if names is None:
            return x  # type: ignore[no-any-return]
        if kind is Schedule:
            return self._schedule(x)
        parts: list[Hashable] = [kind]
        for name in names:
            value = getattr(x, name)
            parts.append(self._number(value) if name == "buffer" else self.read(value))
        return tuple(parts)

    def _loops(self, x: Loops) -> Hashable:
        """As every other dataclass, but quicker: most of what is read are these."""
        sites, row, numbers = self.sites, Extent.ROW, self.numbers
        parts: list[Hashable] = [Loops, x.outer, x.inner, len(x.steps)]
        for step in x.steps:
            kind = type(step)
            if isinstance(step, Load):
                at, made = step.access, (step.dtype, step.extent is row)
                number = numbers.setdefault(at.buffer, len(numbers))
                parts.append((kind, number, at.offset, at.outer, at.inner, *made))
            elif isinstance(step, Apply):
                sites.append(step.site)
                made = step.dtype, step.extent is row
                parts.append((kind, self._op(step.op), step.arguments, *made))
            elif isinstance(step, Fold):
                sites.append(step.site)
                made = step.dtype, step.extent is row
                parts.append((kind, self._op(step.op), step.argument, *made))
            else:
                parts.append(self.read(step))
        for store in x.stores:
            at = store.access
            number = numbers.setdefault(at.buffer, len(numbers))
            parts.append((store.value, number, at.offset, at.outer, at.inner))
        return tuple(parts)

    def _call(self, x: Call) -> Hashable:
        self.sites.append(x.site)
        ends = [tuple([self.read(each) for each in part]) for part in (x.inputs, x.outputs)]
        after = None if x.after is None else self._loops(x.after)
        start = None if x.start is None else self.read(x.start)
        return Call, self._op(x.op), *ends, after, start, x.adds, x.fixed

    def _op(self, op: Op) -> Hashable:
        kind: Any = type(op)
        made: Hashable = self.read(op) if _fields(kind) else kind
        return made

    def _number(self, buffer: int) -> int:
        return self.numbers.setdefault(buffer, len(self.numbers))

    def _schedule(self, x: Schedule) -> Hashable:
        """The body of a loop. Its buffers are its own."""
        inside = _Reader()
        key = tuple([inside.read(kernel) for kernel in x.kernels])
        self.sites += inside.sites
        ends = [tuple(map(inside._number, numbers)) for numbers in (x.inputs, x.outputs)]
        return key, *ends, tuple([x.buffers[i].type for i in inside.numbers])


_INTEGERS = frozenset([int])


@functools.cache
def _fields(kind: Any) -> tuple[str, ...] | None:
    if issubclass(kind, Array) or not is_dataclass(kind):
        return None
    return tuple([field.name for field in fields(kind)])


def _renumbered(x: Any, numbers: dict[int, int]) -> Any:
    if type(x) is tuple:
        return tuple([_renumbered(each, numbers) for each in x])
    kind: Any = type(x)
    names = _fields(kind)
    if names is None or kind is Schedule:
        return x
    changed = {}
    for name in names:
        old = getattr(x, name)
        new = numbers[old] if name == "buffer" else _renumbered(old, numbers)
        if new is not old:
            changed[name] = new
    return replace(x, **changed) if changed else x
