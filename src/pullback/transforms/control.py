"""`cond`, `scan`, `while_loop`, `fori_loop`: control flow that depends on values.

Where values have numbers (outside a trace, and under `grad`, `vjp`, `jvp`) they are Python's own
`if` and `for` over the functions given, recorded step by step. In an abstract trace (`vmap`,
`trace`) the functions become graphs, and one node is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback._public import public
from pullback.errors import (
    DTypeError,
    LoopLimitError,
    ShapeError,
    StructureError,
    TracedValueError,
)
from pullback.ir.array import Array
from pullback.ir.builder import current
from pullback.ir.graph import Graph
from pullback.ir.types import TensorType, int64, is_bool, is_integer
from pullback.ops.control import Cond, While, too_many_steps
from pullback.ops.operators import add, cast, less, lift
from pullback.ops.rows import Rows, stacked
from pullback.ops.scan import Scan
from pullback.ops.subgraph import types_of
from pullback.ops.weak import Weak
from pullback.transforms.trace import Traced, trace_leaves
from pullback.transforms.tree import (
    Tree,
    TreeDef,
    described,
    flatten,
    flatten_arrays,
    paths,
    unflatten,
)

Function = Callable[..., Any]
UNUSED = -1
"""The trace of an input that a graph has only to take the same operands as another."""


# ---- a choice -------------------------------------------------------------------------------


@public
def cond(pred: Any, true_fn: Function, false_fn: Function, *operands: Any) -> Any:
    """`true_fn(*operands)` if `pred`, one bool, is true, else `false_fn(*operands)`.

    Where `pred` has a number, only the function chosen runs. In an abstract trace both are traced,
    and must return results of equal structure and types (`StructureError`, `ShapeError`,
    `DTypeError`); under `vmap` with a `pred` for each example both are computed for all.

    >>> import pullback as pb
    >>> float(pb.cond(True, lambda x: x + 1.0, lambda x: x - 1.0, 2.0))
    3.0
    """
    predicate = _truth(pred, "the predicate")
    given = _Leaves.of(operands, "operands")
    if _has_numbers() or isinstance(pred, bool):
        function = true_fn if predicate else false_fn
        return _Leaves.of(function(*given.tree), "the result").tree
    traced = [
        trace_leaves(f, given.types, given.treedef, evaluating=False) for f in (true_fn, false_fn)
    ]
    yes, no = (_Leaves(list(each.graph.outputs), each.result) for each in traced)
    _require_same(yes, no, "result", "from true_fn", "from false_fn")
    graphs, captured = _closed(traced, len(given.arrays), last=True)
    results = Cond(*graphs).outputs(predicate, *given.arrays, *captured)
    return unflatten(yes.treedef, results)


# ---- a loop over rows -----------------------------------------------------------------------


@public
def scan(
    f: Function, init: Tree, xs: Tree = None, length: int | None = None, reverse: bool = False
) -> tuple[Tree, Tree]:
    """`(carry, ys)` of `for x in rows of xs: carry, y = f(carry, x)`, the y stacked along axis 0.

    `init`, `xs` and y are arrays or containers of them; `xs` may be None when `length` is given.
    With `reverse` the rows are taken from the last to the first; `ys[i]` still belongs to `xs[i]`.

    Raises `StructureError`, `ShapeError` or `DTypeError` when the carry that `f` returns has not
    the structure and types of `init`, `ShapeError` when the arrays of `xs` differ in length.
    """
    carry = _Leaves.of(init, "init")
    rows = _Leaves.of(xs, "xs")
    count = _length(rows, length)
    if not _has_numbers() or count == 0:
        return _recorded_scan(f, carry, rows, count, reverse)
    columns = [Rows(count).outputs(x) for x in rows.arrays]
    ys: list[_Leaves] = []
    for i in reversed(range(count)) if reverse else range(count):
        x = unflatten(rows.treedef, [column[i] for column in columns])
        after, y = _pair(f(carry.tree, x))
        carry = _next_carry(carry, _Leaves.of(after, "the carry"))
        ys.append(_Leaves.of(y, "y"))
        _require_same(ys[0], ys[-1], "y", "in the first step", "in a later one")
    ordered = reversed(ys) if reverse else ys
    made = [stacked(column) for column in zip(*[y.arrays for y in ordered], strict=True)]
    return carry.tree, unflatten(ys[0].treedef, made)


def _recorded_scan(
    f: Function, carry: _Leaves, rows: _Leaves, count: int, reverse: bool
) -> tuple[Tree, Tree]:
    row_types = [x.type.reshaped(x.shape[1:]) for x in rows.arrays]
    _, treedef = flatten((carry.tree, rows.tree))
    traced = trace_leaves(f, [*carry.types, *row_types], treedef, evaluating=False)
    after, y = _pair(traced.rebuild(traced.graph.outputs))
    returned = _next_carry(carry, _Leaves.of(after, "the carry"))
    (body,), captured = _closed((traced,), len(traced.graph.inputs) - len(traced.captured))
    loop = Scan(body, len(captured), len(carry.arrays), count, reverse)
    results = loop.outputs(*captured, *carry.arrays, *rows.arrays)
    split = len(carry.arrays)
    ys = unflatten(_Leaves.of(y, "y").treedef, results[split:])
    return unflatten(returned.treedef, results[:split]), ys


def _pair(result: Any) -> tuple[Any, Any]:
    if not isinstance(result, tuple) or len(result) != 2:
        raise StructureError(
            "the function of a scan returns a pair (carry, y)", hint="y may be None"
        )
    return result


def _length(rows: _Leaves, length: Any) -> int:
    if isinstance(length, Array) and not length.has_numbers:
        raise TracedValueError(
            "the length of a scan is a traced value; the number of rows must be known",
            hint="pass a Python int, or use pb.while_loop or pb.fori_loop",
        )
    counts = {} if length is None else {"length": int(length)}
    for path, x in zip(paths(rows.treedef, "xs"), rows.arrays, strict=True):
        if not x.shape:
            raise ShapeError(f"{path} is {x.type}, which has no rows")
        counts[path] = x.shape[0]
    if not counts:
        raise ShapeError("a scan without xs needs a length")
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{path} has {n}" for path, n in counts.items())
        raise ShapeError(f"the number of steps is not one: {listed}")
    return next(iter(counts.values()))


# ---- loops of any length --------------------------------------------------------------------


@public
def while_loop(cond: Function, body: Function, init: Tree, max_steps: int | None = None) -> Tree:
    """The carry after `while cond(carry): carry = body(carry)`, which starts with `init`.

    `LoopLimitError` when more than `max_steps` steps would be needed. Reverse mode keeps what each
    step needs: where the loop runs in an abstract trace it needs `max_steps`, and costs as much as
    that many steps (`NotDifferentiableError` without).

    Raises `StructureError`, `ShapeError` or `DTypeError` when the carry that `body` returns has not
    the structure and types of `init`.

    >>> import pullback as pb
    >>> int(pb.while_loop(lambda i: i < 5, lambda i: i + 2, 0))
    6
    """
    carry = _Leaves.of(init, "init")
    if not _has_numbers():
        return _recorded_while(cond, body, carry, max_steps)
    steps = 0
    while _truth(cond(carry.tree), "the result of cond"):
        if steps == max_steps:
            raise LoopLimitError(too_many_steps(steps))
        carry = _next_carry(carry, _Leaves.of(body(carry.tree), "the carry"))
        steps += 1
    return carry.tree


def _recorded_while(cond: Function, body: Function, carry: _Leaves, max_steps: int | None) -> Tree:
    _, treedef = flatten((carry.tree,))
    test = trace_leaves(cond, carry.types, treedef, evaluating=False)
    _truth(test.rebuild(test.graph.outputs), "the result of cond")
    step = trace_leaves(body, carry.types, treedef, evaluating=False)
    returned = _next_carry(carry, _Leaves.of(step.rebuild(step.graph.outputs), "the carry"))
    (condition, graph), captured = _closed((test, step), len(carry.arrays))
    loop = While(condition, graph, len(captured), max_steps)
    return unflatten(returned.treedef, loop.outputs(*captured, *carry.arrays))


@public
def fori_loop(lo: Any, hi: Any, body: Function, init: Tree) -> Tree:
    """The carry after `for i in range(lo, hi): carry = body(i, carry)`, which starts with `init`.

    With Python ints it is a `scan`, and differentiable in reverse anywhere; with arrays it is a
    `while_loop`. `i` is an int64 array.
    """
    if isinstance(lo, int) and isinstance(hi, int):

        def step(state: tuple[Array, Tree], _: None) -> tuple[tuple[Array, Tree], None]:
            i, carry = state
            return (add(i, 1), body(i, carry)), None

        (_, carry), _ = scan(step, (lo, init), length=max(hi - lo, 0))
        return carry
    first, last = (_counter(x, name) for x, name in ((lo, "lo"), (hi, "hi")))

    def goes_on(state: tuple[Array, Array, Tree]) -> Array:
        return less(state[0], state[1])

    def advance(state: tuple[Array, Array, Tree]) -> tuple[Array, Array, Tree]:
        i, end, carry = state
        return add(i, 1), end, body(i, carry)

    return while_loop(goes_on, advance, (first, last, init))[2]


def _counter(x: Any, name: str) -> Array:
    bound = lift(x)
    if bound.shape or not is_integer(bound.dtype):
        raise DTypeError(f"{name} is {bound.type}; the bounds of a loop are integers")
    return cast(bound, int64)


# ---- what they share ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Leaves:
    """A tree of arrays, taken apart."""

    arrays: list[Array]
    treedef: TreeDef

    @classmethod
    def of(cls, tree: Tree, what: str) -> _Leaves:
        return cls(*flatten_arrays(tree, what))

    @property
    def tree(self) -> Tree:
        return unflatten(self.treedef, self.arrays)

    @property
    def types(self) -> tuple[TensorType, ...]:
        return types_of(self.arrays)

    def __str__(self) -> str:
        return described(self.treedef, self.types)


def _has_numbers() -> bool:
    """Whether values have numbers here, so that Python's own control flow can decide."""
    builder = current()
    return builder is None or builder.evaluating


def _truth(x: Any, what: str) -> Array:
    """`x` as one bool, or an error that says what it is instead."""
    if not isinstance(x, Array | Weak | bool | int | float | np.ndarray | np.generic):
        raise StructureError(f"{what} is no bool but a {type(x).__name__}")
    truth = lift(x)
    if truth.shape:
        raise ShapeError(
            f"{what} is {truth.type}; one bool is needed",
            hint="reduce it with pb.any(x) or pb.all(x), or use pb.where for a choice by element",
        )
    if not is_bool(truth.dtype):
        raise DTypeError(f"{what} is {truth.type}; one bool is needed", hint="compare it: x != 0")
    return truth


def _next_carry(before: _Leaves, after: _Leaves) -> _Leaves:
    _require_same(before, after, "carry", "on entry", "after a step")
    return after


def _require_same(left: _Leaves, right: _Leaves, what: str, here: str, there: str) -> None:
    """Raise unless two trees, found `here` and `there`, have the same structure and types."""
    if left.treedef != right.treedef:
        raise StructureError(f"the {what} is {left} {here} and {right} {there}")
    for i, (x, y) in enumerate(zip(left.types, right.types, strict=True)):
        if x != y:
            path = paths(left.treedef, what)[i]
            error = ShapeError if x.shape != y.shape else DTypeError
            hint = "cast one of them with .astype(...)" if error is DTypeError else None
            raise error(f"{path} is {x} {here} and {y} {there}", hint=hint)


def _closed(
    traced: Sequence[Traced], count: int, last: bool = False
) -> tuple[list[Graph], list[Array]]:
    """The graphs of functions of the same `count` arguments, with what any of them captured.

    The captured values become operands that all graphs share, the first ones, or the last.
    """
    captured = list(dict.fromkeys(x for each in traced for x in each.captured))
    graphs = []
    for each in traced:
        own, hidden = each.graph.inputs[:count], each.graph.inputs[count:]
        known = dict(zip(each.captured, hidden, strict=True))
        shared = [known[x] if x in known else Array(x.type, None, UNUSED) for x in captured]
        inputs = (*own, *shared) if last else (*shared, *own)
        graphs.append(Graph(inputs, each.graph.nodes, each.graph.outputs))
    return graphs, captured
