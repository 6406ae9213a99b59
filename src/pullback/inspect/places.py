"""The modules of a model, and where an activation is handed to one: `nn.Sequential(…, nn.relu)`.

The library calls it there, so that the lines of a trace do not name it. A layer knows the lines
that made it; the function is named on one of them, or not far before.
"""

from __future__ import annotations

import dis
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

from pullback.errors import Frame, Site
from pullback.inspect.findings import with_lines
from pullback.inspect.program import Program
from pullback.ir.graph import Node
from pullback.nn.module import Module, made_at
from pullback.nn.normalization import BatchNormState


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
    name = "softmax" if program.softmax(node.outputs[0]) is not None else node.op.name
    site = node.site
    if site.frame is not None and name in _words(site.frame.code, site.frame.line):
        return site
    held = [x for model in program.args for x in _holders(model, name)]
    last = [x for x in held if _ends_with(x[1], name)] or held
    if len(last) != 1:
        return site
    ((path, module),) = last
    made = made_at(module)
    lines = [y for x in made if (y := _handed_over(x, name)) is not None][:1]
    return with_lines(Site((*lines, *made), path, site.phase), site)


def _holders(model: Any, name: str) -> Iterator[tuple[str, Module]]:
    """The modules that hold a function of the library with this name, and its path."""
    for path, module in named_modules(model):
        for attribute, value in vars(module).items():
            many = isinstance(value, list | tuple)
            for i, each in reversed([*enumerate(value if many else [value])]):
                if isinstance(each, FunctionType) and each.__name__ == name:
                    where = f"{attribute}[{i}]" if many else attribute
                    yield f"{path}.{where}".lstrip("."), module
                    break


def _ends_with(module: Module, name: str) -> bool:
    """Whether it is the last of what runs one after the other."""
    layers = vars(module).get("layers")
    last = layers[-1] if isinstance(layers, list | tuple) and layers else None
    return isinstance(last, FunctionType) and last.__name__ == name


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


def _words(code: CodeType, line: int) -> set[Any]:
    """The names that are read on a line."""
    steps = dis.get_instructions(code)
    return {x.argval for x in steps if x.positions is not None and x.positions.lineno == line}
