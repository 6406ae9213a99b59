"""The names of values, as their author would say them.

An argument is called by its path. A value is called by the variable that the user's line assigns it
to, found from the columns of the expression that made it. What has no such name is `v1`, `v2`, ….
"""

from __future__ import annotations

import ast
import functools
import linecache
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback.errors import Frame, Site
from pullback.ir.array import Array
from pullback.ir.graph import Graph, Node
from pullback.ir.types import Numbers
from pullback.ops.pointwise import Constant
from pullback.transforms.tree import TreeDef, argument_names, argument_paths

Span = tuple[int, int, int, int]
"""First line and column, last line and column, as in the syntax tree."""

LOSS = "L"


@dataclass(frozen=True, slots=True)
class Names:
    """A unique name for each value of a graph.

    `known` holds the values that the user named; the others have numbered names. `loss` is the
    variable that the user keeps the loss in, which is called `L` here.
    """

    of: dict[Array, str]
    known: frozenset[Array]
    loss: str | None


def function_name(f: Callable[..., Any]) -> str:
    """What `f` is called in its own scope."""
    return getattr(f, "__qualname__", type(f).__name__).rpartition("<locals>.")[2]


def name_values(
    f: Callable[..., Any], treedef: TreeDef, graph: Graph, captured: Sequence[Array]
) -> Names:
    """Names for the values of `graph`, traced from `f` with arguments of structure `treedef`."""
    arguments = argument_paths(treedef, argument_names(f, range(treedef.num_children)))
    wishes: dict[Array, str | None] = dict.fromkeys(graph.inputs)
    wishes.update(zip(graph.inputs, arguments, strict=False))
    hidden = graph.inputs[len(arguments) :]
    wishes.update((x, captured_name(f, outer)) for x, outer in zip(hidden, captured, strict=True))
    for x in hidden:
        wishes[x] = wishes[x] or "const"
    wishes.update(_assigned(graph))
    output = graph.outputs[0]
    loss = wishes.get(output)
    if output not in set(graph.inputs):
        wishes[output] = LOSS
    return Names(
        _unique(graph, wishes, output),
        frozenset(x for x, wish in wishes.items() if wish is not None),
        loss,
    )


def _unique(graph: Graph, wishes: dict[Array, str | None], output: Array) -> dict[Array, str]:
    """Wishes made unique: an argument keeps its name, a variable assigned again is numbered."""
    values = [*graph.inputs, *[x for node in graph.nodes for x in node.outputs]]
    literals = {x for node in graph.nodes if isinstance(node.op, Constant) for x in node.outputs}
    first = [x for x in (*graph.inputs, output) if wishes.get(x)]
    names: dict[Array, str] = {}
    taken: set[str] = set()

    def give(x: Array, wish: str, numbered: bool) -> None:
        candidates: Iterator[str] = (f"{wish}_{i}" for i in range(1, len(values) + 2))
        name = next(c for c in candidates if c not in taken) if numbered or wish in taken else wish
        names[x] = name
        taken.add(name)

    for x in dict.fromkeys(first):
        give(x, wishes[x] or LOSS, numbered=False)
    wished = [wishes.get(x) for x in values if x not in names]
    for x in values:
        wish = wishes.get(x)
        if x not in names and wish is not None:
            give(x, wish, numbered=wished.count(wish) > 1)
    count = 0
    for x in values:
        if x not in names and x not in literals:
            count = next(
                i for i in range(count + 1, len(values) + 2 + count) if f"v{i}" not in taken
            )
            names[x] = f"v{count}"
    return names | dict.fromkeys(literals, "literal")


# ---- captured arrays ------------------------------------------------------------------------


def captured_name(f: Callable[..., Any], value: Array) -> str | None:
    """The variable through which `f` sees an array that is not its argument."""
    for name, seen in _visible(f):
        if seen is value:
            return name
        if isinstance(seen, np.ndarray) and value.has_numbers and _equal(seen, value.numpy()):
            return name
    return None


def _equal(x: Numbers, y: Numbers) -> bool:
    return x.dtype == y.dtype and np.array_equal(x, y)


def _visible(f: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    function = getattr(f, "__func__", f)
    code = getattr(function, "__code__", None)
    if code is None:
        return
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # the variable has no value yet
            continue
    for name in code.co_names:
        if name in function.__globals__:
            yield name, function.__globals__[name]


# ---- assigned variables ---------------------------------------------------------------------


def _assigned(graph: Graph) -> dict[Array, str]:
    """The values that lines of the user's code assign to a variable."""
    found: dict[Array, str] = {}
    for last in _last_nodes([n for n in graph.nodes if not isinstance(n.op, Constant)]):
        name = variable(last.site)
        if name is not None and len(last.outputs) == 1:
            found[last.outputs[0]] = name
    return found


def _last_nodes(nodes: Sequence[Node]) -> Iterator[Node]:
    """The node that ends each execution of an expression of the user.

    One expression may record several nodes (a softmax). In a loop it runs several times: then its
    row of nodes repeats a shorter one.
    """
    start = 0
    for stop in range(1, len(nodes) + 1):
        if stop < len(nodes) and nodes[stop].site.frames == nodes[start].site.frames:
            continue
        run = nodes[start:stop]
        period = _period([node.op for node in run])
        yield from run[period - 1 :: period]
        start = stop


def _period(row: Sequence[object]) -> int:
    lengths = (n for n in range(1, len(row) + 1) if len(row) % n == 0)
    return next(n for n in lengths if all(row[i] == row[i % n] for i in range(len(row))))


def variable(site: Site) -> str | None:
    """The variable that the value made at `site` is assigned to.

    A value that a function of the user returns is looked for one frame further out.
    """
    for frame in site.frames:
        target = _targets(frame.code.co_filename).get(span(frame))
        if target != RETURNED:
            return target
    return None


RETURNED = "return"


def span(frame: Frame) -> Span | None:
    """The place of the expression that the frame was at."""
    line, last_line, first, last = list(frame.code.co_positions())[frame.offset // 2]
    if line is None or last_line is None or first is None or last is None:
        return None
    return line, first, last_line, last


@functools.lru_cache(maxsize=64)
def _targets(file: str) -> dict[Span | None, str]:
    """For each expression of a file that is assigned as a whole: to what."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:  # not Python: a notebook with magic, a template
        return {}
    found: dict[Span | None, str] = {}
    for node in ast.walk(tree):
        for target, value in _assignments(node):
            found.update((_place(each), target) for each in _branches(value))
    return found


def _branches(value: ast.AST) -> Iterator[ast.AST]:
    """The expressions that may give the value: both arms of `a if c else b`."""
    if isinstance(value, ast.IfExp):
        yield from _branches(value.body)
        yield from _branches(value.orelse)
    else:
        yield value


def _assignments(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.Assign(targets=[ast.Tuple(elts=targets), *_], value=ast.Tuple(elts=values)) if len(
            targets
        ) == len(values):
            for target, value in zip(targets, values, strict=True):
                yield ast.unparse(target), value
        case ast.Assign(targets=[target, *_], value=value) if not isinstance(target, ast.Tuple):
            yield ast.unparse(target), value
        case ast.AnnAssign(target=target, value=ast.expr() as value):
            yield ast.unparse(target), value
        case ast.NamedExpr(target=target, value=value):
            yield ast.unparse(target), value
        case ast.AugAssign(target=target):
            yield ast.unparse(target), node
        case ast.Return(value=ast.expr() as value):
            yield RETURNED, value
        case ast.Lambda(body=value):
            yield RETURNED, value


def _place(node: Any) -> Span:
    return node.lineno, node.col_offset, node.end_lineno, node.end_col_offset
