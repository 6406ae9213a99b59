"""The modules of a model, and where an activation is handed to one: `nn.Sequential(…, nn.relu)`.

The library calls it there, so that the lines of a trace do not name it. A layer knows the lines
that made it; the function is named on one of them, or not far before.
"""

from __future__ import annotations

import dis
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType
from typing import Any

from pullback.errors import Frame, Site
from pullback.functions import activations
from pullback.inspect.findings import with_lines
from pullback.inspect.program import Program
from pullback.ir.graph import Node
from pullback.ir.types import TensorType, float32
from pullback.nn.module import Module, made_at
from pullback.nn.normalization import BatchNormState
from pullback.transforms.trace import trace_leaves
from pullback.transforms.tree import flatten

ACTIVATIONS = frozenset(
    name
    for name, x in vars(activations).items()
    if name[0] != "_" and getattr(x, "__module__", "") == activations.__name__
)


def modules(x: Any) -> Iterator[Any]:
    """The modules and states of layers within a tree, itself included."""
    return (each for _, each in named_modules(x))


def named_modules(x: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The same, each with its path."""
    if isinstance(x, Module | BatchNormState):
        yield path, x
    if isinstance(x, Module):
        parts = [(f"{path}.{name}".lstrip("."), each) for name, each in vars(x).items()]
    elif isinstance(x, dict):
        parts = [(f"{path}[{key!r}]", each) for key, each in x.items()]
    elif isinstance(x, list | tuple):
        parts = [(f"{path}[{i}]", each) for i, each in enumerate(x)]
    else:
        return
    for name, each in parts:
        yield from named_modules(each, name)


def activation_site(program: Program, node: Node) -> Site:
    """The site of an activation; where a layer was given it, that line and the layer's path."""
    site = node.site
    own = "softmax" if program.softmax(node.outputs[0]) is not None else node.op.name
    if site.frame is not None and not ACTIVATIONS.isdisjoint(_words(site.frame)):
        return site
    held = [x for model in program.args for x in _holders(model)]
    found = [x for x in held if x.name == own or node.op.name in _operations(x.name)]
    last = [x for x in found if x.is_last] or found
    if len(last) > 1 and site.scope:
        last = [x for x in last if x.path.startswith(f"{site.scope}.")]
    if len(last) != 1:
        return site
    made = made_at(last[0].module)
    lines = [y for x in made if (y := _handed_over(x, last[0].name)) is not None]
    return with_lines(Site((*lines, *made), last[0].path, site.phase), site)


@dataclass(frozen=True, slots=True)
class Held:
    """An activation that a module was given."""

    name: str
    path: str
    module: Module
    is_last: bool
    """Whether it comes behind all layers of the module."""


def _holders(model: Any) -> Iterator[Held]:
    """The last of each activation that each module holds."""
    for path, module in named_modules(model):
        for attribute, value in vars(module).items():
            many = isinstance(value, list | tuple)
            each = [*value] if many else [value]
            names = [getattr(getattr(x, "func", x), "__name__", "") for x in each]
            for name in ACTIVATIONS.intersection(names):
                i = len(names) - 1 - names[::-1].index(name)
                where = f"{attribute}[{i}]" if many else attribute
                is_last = many and i == len(names) - 1
                yield Held(name, f"{path}.{where}".lstrip("."), module, is_last)


@functools.cache
def _operations(name: str) -> frozenset[str]:
    """What an activation of the library does, op by op."""
    kind = TensorType((2,), float32)
    traced = trace_leaves(getattr(activations, name), [kind], flatten((kind,))[1], evaluating=False)
    return frozenset(x.op.name for x in traced.graph.nodes)


def _handed_over(frame: Frame, name: str) -> Frame | None:
    """The last place before a call where a function is named and not called."""
    steps = [x for x in dis.get_instructions(frame.code) if x.offset <= frame.offset]
    found = [Frame(frame.code, x.offset) for x in steps if _is_named(x, name)]
    inner = [
        x.argval for x in steps if isinstance(x.argval, CodeType) and x.argval.co_name[0] == "<"
    ]
    found += [
        Frame(code, x.offset)
        for code in inner
        for x in dis.get_instructions(code)
        if _is_named(x, name)
    ]
    return max(found, key=lambda x: x.line, default=None)


def _is_named(step: dis.Instruction, name: str) -> bool:
    """Whether it loads what has this name, and not to call it at once."""
    if step.argval != name or not step.opname.startswith("LOAD_"):
        return False
    return step.opname != "LOAD_METHOD" and "NULL" not in step.argrepr


def _words(frame: Frame) -> set[Any]:
    """The names that are read on a line."""
    steps = dis.get_instructions(frame.code)
    return {x.argval for x in steps if x.positions and x.positions.lineno == frame.line}
