"""Programs kept on disk: a second process makes none of their kernels again.

A program is found by the graph that was traced, so the passes, the schedule, the plan and the code
are then not made at all. Its file (`backend/image.py`) names the file of its object code. The key
holds all that a program depends on, this library's own source among it. A graph with anything in it
that is not data, such as a user's function, has no key, and its program is made each time.
"""

from __future__ import annotations

import functools
import hashlib
import marshal
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from pullback._settings import log, settings
from pullback.backend.cache import ObjectCache, key_of, load_object
from pullback.backend.image import Image
from pullback.backend.program import Code, Loaded, Program
from pullback.backend.target import Target
from pullback.backend.threads import thread_count
from pullback.errors import Phase, Site
from pullback.ir.array import Array
from pullback.ir.graph import Graph
from pullback.ir.op import Op
from pullback.ir.types import TensorType

MAKERS = ("ir", "ops", "passes", "schedule", "backend", "compile")
"""The packages that a program depends on, once its graph is there."""


class Opaque(Exception):
    """Something that is no data."""


class Store:
    """Where the program of a graph is kept: under which key, and how its lines are numbered."""

    def __init__(
        self,
        graph: Graph,
        pairs: Mapping[int, int],
        threads: int | None,
        memory: int | None = None,
    ) -> None:
        self.graph = graph
        self.cache = ObjectCache.chosen()
        self.target = Target.chosen()
        reader = _Reader()
        self.key: str | None = None
        if self.cache.folder is not None and not settings().check:
            try:
                described = reader.graph(graph)
            except Opaque as reason:
                log("compile", f"the program is not kept: {reason} is no data")
            else:
                count = threads or thread_count()
                given = sorted(pairs.items()), threads is None, count, memory
                parts = (*_versions(), described, *given)
                self.key = key_of(hashlib.sha256(_written(parts)).hexdigest(), self.target)
        self.numbers, self.sites = reader.lines, reader.sites

    def find(self, write: Any) -> Loaded | None:
        """The program, as it was kept; `write` makes its code where that is asked for."""
        held = None if self.key is None else self.cache.get(self.key)
        if held is None:
            return None
        image, key = Image.parse(held.decode(), self.sites)
        library = load_object(key, ["program"], self.target, self.cache)
        if library is None:
            return None
        return Loaded(image, library, [x.type for x in self.graph.outputs], write)

    def keep(self, program: Program, code: Code) -> None:
        if self.key is None:
            return
        text = program.image.text(self._number, key_of(code.text, self.target))
        if text is not None:
            self.cache.put(self.key, text.encode())

    def _number(self, site: Site) -> int | None:
        return self.numbers.get(_place(site))


@functools.cache
def _versions() -> tuple[str, ...]:
    """The software that makes programs from graphs."""
    root, source = Path(__file__).parents[1], hashlib.sha256()
    for package in MAKERS:
        for folder, folders, files in os.walk(root / package):  # pathlib would take 6 ms
            folders.sort()
            for name in sorted(files):
                if name.endswith(".py"):
                    with open(os.path.join(folder, name), "rb") as file:
                        content = file.read()
                    source.update(f"{package} {name} {len(content)}\n".encode())
                    source.update(content)
    return platform.python_version(), np.__version__, source.hexdigest()


# ---- graphs as data -------------------------------------------------------------------------


class _Reader:
    """Nested tuples and lists of numbers and text, equal for graphs with the same program.

    A line counts by where it is met first: two graphs are as equal as the programs' messages.
    """

    def __init__(self) -> None:
        self.lines: dict[Any, int] = {}
        self.sites: list[Site] = []
        self._seen: dict[int, tuple[int, int]] = {}
        """Lines by the identity of their sites; the graph keeps them alive."""
        self._bare: dict[type[Op], Any] = {}

    def graph(self, graph: Graph) -> tuple[Any, ...]:
        values: dict[Array, int] = {x: i for i, x in enumerate(graph.inputs)}
        types = _Types()
        read: list[Any] = [[types.number(x.type) for x in graph.inputs]]
        for node in graph.nodes:
            op, site, made = node.op, node.site, []
            operands = [values[x] for x in node.inputs]
            for y in node.outputs:
                values[y] = len(values)
                made.append(types.number(y.type))
            what = self._bare.get(type(op)) or self._op(op)
            line = self._seen.get(id(site)) or self._line(site)
            read.append((what, operands, made, line))
        kinds = [(kind.shape, kind.dtype.name) for kind in types.numbers]
        return read, [values[x] for x in graph.outputs], kinds

    def read(self, x: Any) -> Any:
        kind: Any = type(x)
        if kind in _PLAIN:
            return x
        if kind is tuple:
            return x if _PLAIN.issuperset(map(type, x)) else [self.read(each) for each in x]
        if isinstance(x, np.dtype):
            return _read_dtype(x)
        if kind is Graph:
            return self.graph(x)
        form = _form(kind)
        if form is None:
            raise Opaque(f"{kind.__module__}.{kind.__qualname__}")
        if isinstance(x, Enum):
            return form[0], x.name
        return form[0], *[self.read(getattr(x, name)) for name in form[1]]

    def _op(self, op: Op) -> Any:
        """An op with its attributes; of one that has none the class is all there is."""
        read = self.read(op)
        if len(read) == 1:
            self._bare[type(op)] = read
        return read

    def _line(self, site: Site) -> tuple[int, int]:
        number = self.lines.setdefault(_place(site), len(self.lines))
        if number == len(self.sites):
            self.sites.append(site)
        line = self._seen[id(site)] = number, _PHASES.index(site.phase)
        return line


class _Types:
    """Numbers of tensor types, in the order they are met."""

    def __init__(self) -> None:
        self.numbers: dict[TensorType, int] = {}
        self._seen: dict[int, int] = {}
        """By identity, which needs no hash of a shape; the graph keeps them alive."""

    def number(self, kind: TensorType) -> int:
        known = self._seen.get(id(kind))
        if known is None:
            known = self._seen[id(kind)] = self.numbers.setdefault(kind, len(self.numbers))
        return known


_PLAIN = frozenset({int, str, bool, float, type(None)})
_PHASES = list(Phase)


def _written(x: Any) -> bytes:
    """Equal data as equal bytes, in every process: version 2 of the format shares nothing."""
    return marshal.dumps(x, 2)


@functools.cache
def _read_dtype(dtype: np.dtype[Any]) -> tuple[str, ...]:
    return "dtype", dtype.name, dtype.str


@functools.cache
def _form(kind: Any) -> tuple[str, Sequence[str]] | None:
    """The name of a class of this library, and its fields; None for one of somebody else."""
    if kind.__module__.partition(".")[0] != __name__.partition(".")[0]:
        return None
    name = f"{kind.__module__}.{kind.__qualname__}"
    if issubclass(kind, Enum):
        return name, ()
    if issubclass(kind, Array) or not is_dataclass(kind):
        return None
    return name, [field.name for field in fields(kind)]


def _place(site: Site) -> Any:
    """What makes two sites the same line, cheaply."""
    place: list[object] = [site.scope, id(site.phase)]
    for frame in site.frames:
        place += id(frame.code), frame.offset
    return tuple(place)
