"""What CHECK = 2 asks of every pass: the same numbers before and after, node by node.

A value that a pass keeps is the same `Array` in both graphs, so all that the two have in common is
compared, not the results alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from pullback._settings import override
from pullback.errors import PassError, PullbackError
from pullback.ir.array import Array
from pullback.ir.builder import quiet
from pullback.ir.graph import Graph, Node
from pullback.ir.interpret import interpret
from pullback.ir.types import Numbers, TensorType, is_bool, is_float
from pullback.ops.contract import Contract
from pullback.ops.reduce import wide


def compare(name: str, before: Graph, after: Graph, tolerance: float = 0.0) -> None:
    """Raise `PassError` at the first node of `after` whose numbers are not those in `before`.

    `name` says what stands between the two, "pass simplify".

    Random numbers that the graph refuses (a singular matrix, a loop that does not end) tell
    nothing; what it does with them is then not compared.
    """
    for whole in (2, 1):
        inputs = [random_numbers(x.type, i, whole) for i, x in enumerate(before.inputs)]
        try:
            expected = values(before, inputs)
        except PullbackError:
            continue
        _compare(name, expected, before, after, inputs, tolerance)
        return


def _compare(
    name: str,
    expected: dict[Array, Numbers],
    before: Graph,
    after: Graph,
    inputs: Sequence[Numbers],
    tolerance: float,
) -> None:
    actual = values(after, inputs)
    for node in after.nodes:
        for x in node.outputs:
            if x in expected and not same_numbers(expected[x], actual[x], tolerance):
                raise _changed(name, node, expected[x], actual[x])
    made_by = {x: node for node in after.nodes for x in node.outputs}
    for old, new in zip(before.outputs, after.outputs, strict=True):
        if not same_numbers(expected[old], actual[new], tolerance):
            if new in made_by:
                raise _changed(name, made_by[new], expected[old], actual[new])
            raise PassError(f"the {name} returns another input of the graph")


def _changed(name: str, node: Node, expected: Numbers, actual: Numbers) -> PassError:
    error = PassError(f"the {name} changed a value: {_difference(expected, actual)}")
    error.locate(node.op.name, node.site)
    return error


def _difference(expected: Numbers, actual: Numbers) -> str:
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return f"{expected.dtype}{expected.shape} became {actual.dtype}{actual.shape}"
    place = tuple(map(int, np.argwhere(~_equal(expected, actual))[0]))
    return f"{expected[place]!s} became {actual[place]!s} at {list(place)}"


# ---- numbers --------------------------------------------------------------------------------


def values(graph: Graph, inputs: Sequence[Numbers]) -> dict[Array, Numbers]:
    """Every value of the graph, by `evaluate`."""
    found = dict(zip(graph.inputs, inputs, strict=True))

    def remember(node: Node, operands: Sequence[Numbers]) -> tuple[Numbers, ...]:
        outputs = evaluate(node, operands)
        found.update(zip(node.outputs, outputs, strict=True))
        return outputs

    with override(check=0), quiet():
        interpret(graph, inputs, remember)
    return found


def evaluate(node: Node, inputs: Sequence[Numbers]) -> tuple[Numbers, ...]:
    """The node's reference meaning, its bits a function of the operands' bits and shapes alone.

    NumPy adds in an order that depends on strides, and BLAS on the order of the axes. So operands
    are laid out anew, and a contraction adds over its summed axes in order, as native code does.
    """
    operands = [np.ascontiguousarray(x).reshape(x.shape) for x in inputs]
    if isinstance(node.op, Contract):
        result: Any = _contract(node.op, *operands)
    else:
        result = node.op.reference(*operands)
    outputs = result if isinstance(result, tuple) else (result,)
    return tuple([np.asarray(x, y.dtype) for x, y in zip(outputs, node.outputs, strict=True)])


def _contract(op: Contract, left: Numbers, right: Numbers) -> Numbers:
    summed = [c for c in op.left if c in op.right and c not in op.result]
    sizes = dict(zip(op.left + op.right, left.shape + right.shape, strict=True))
    x = _aligned(wide(left), op.left, summed, op.result)
    y = _aligned(wide(right), op.right, summed, op.result)
    total = np.zeros([sizes[c] for c in op.result], x.dtype)
    for k in range(x.shape[0]):
        total = total + x[k] * y[k]
    return total.astype(left.dtype)


def _aligned(x: Numbers, letters: str, summed: Sequence[str], result: str) -> Numbers:
    """The summed axes as one, first; then those of the result, of size 1 where `x` has none."""
    kept = [c for c in result if c in letters]
    moved = x.transpose([letters.index(c) for c in (*summed, *kept)])
    count = int(np.prod(moved.shape[: len(summed)], dtype=int))
    shape = [x.shape[letters.index(c)] if c in letters else 1 for c in result]
    return moved.reshape([count, *shape])


def random_numbers(kind: TensorType, position: int, whole: int) -> Numbers:
    """Normal floats, and integers below `whole`: small enough to be an index."""
    rng = np.random.default_rng(zlib.crc32(f"{position} {kind}".encode()))
    if is_float(kind.dtype):
        return np.asarray(rng.standard_normal(kind.shape)).astype(kind.dtype)
    if is_bool(kind.dtype):
        return np.asarray(rng.random(kind.shape) < 0.5)
    return np.asarray(rng.integers(0, whole, kind.shape)).astype(kind.dtype)


def same_numbers(left: Numbers, right: Numbers, tolerance: float = 0.0) -> bool:
    """Equal bits, where every NaN is the same; or within a relative tolerance."""
    if left.shape != right.shape or left.dtype != right.dtype:
        return False
    if tolerance and is_float(left.dtype):
        x, y = left.astype(np.float64), right.astype(np.float64)
        return bool(np.allclose(x, y, rtol=tolerance, atol=tolerance, equal_nan=True))
    return bool(_equal(left, right).all())


def _equal(left: Numbers, right: Numbers) -> np.ndarray[Any, np.dtype[np.bool_]]:
    if not is_float(left.dtype):
        return np.asarray(left == right)
    both_nan = np.isnan(left) & np.isnan(right)
    return np.asarray(both_nan | ((left == right) & (np.signbit(left) == np.signbit(right))))
