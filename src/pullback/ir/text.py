"""The text form of a graph.

    graph(%0: float32[2,3], %1: float32[3]) {
      %2: float32[2,3] = add(%0, %1)                    # model.py:7 in forward
      %3: float32[2] = sum[axes=(1,)](%2)
      return %3
    }

Attributes are written as Python literals; element types and enum members by name; a nested
dataclass as a call; a sub-graph as a block. `pullback.ir.parse` reads it back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pullback.ir.array import Array
    from pullback.ir.graph import Graph, Node
    from pullback.ir.op import Op


def print_graph(graph: Graph, sites: bool = False) -> str:
    """The text of `graph`; with `sites` each line ends with the user's line it comes from."""
    return "\n".join(_lines(graph, sites))


def print_op(op: Op) -> str:
    """Name and attributes, as in `sum[axes=(1,)]`."""
    attributes = ", ".join(
        f"{f.name}={_literal(getattr(op, f.name))}" for f in fields(op) if f.init
    )
    return f"{op.name}[{attributes}]" if attributes else op.name


def _lines(graph: Graph, sites: bool) -> Iterator[str]:
    names: dict[Array, str] = {}

    def define(x: Array) -> str:
        names[x] = f"%{len(names)}"
        return f"{names[x]}: {x.type}"

    yield f"graph({', '.join(define(x) for x in graph.inputs)}) {{"
    for node in graph.nodes:
        operands = ", ".join(names[x] for x in node.inputs)
        results = ", ".join(define(x) for x in node.outputs)
        text = f"  {results} = {print_op(node.op)}({operands})"
        block = text.replace("\n", "\n  ")
        yield _with_site(block, node) if sites else block
    yield f"  return {', '.join(names[x] for x in graph.outputs)}".rstrip()
    yield "}"


def _with_site(text: str, node: Node) -> str:
    phase = "" if node.site.phase.value == "forward" else f" ({node.site.phase.value})"
    return f"{text:<56}  # {node.site}{phase}"


def _literal(value: Any) -> str:
    if isinstance(value, np.dtype):
        return value.name
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, tuple):
        inner = ", ".join(map(_literal, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if hasattr(value, "nodes") and hasattr(value, "outputs"):
        return print_graph(value)
    if is_dataclass(value) and not isinstance(value, type):
        inner = ", ".join(f"{f.name}={_literal(getattr(value, f.name))}" for f in fields(value))
        return f"{type(value).__name__}({inner})"
    return repr(value)
