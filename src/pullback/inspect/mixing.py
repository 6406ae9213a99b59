"""Does the output of a sample depend on another sample? Asked of the network, with numbers.

What may pass between samples is held as it was: the mean and the spread by which a batch
normalisation makes each feature one of mean 0 and variance 1, and neighbours that the data name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pullback.inspect.probe import Probe
from pullback.ir.array import Array
from pullback.ir.graph import Graph, Node, depends_on, every_node
from pullback.ir.interpret import evaluate_node
from pullback.ir.op import HigherOrder
from pullback.ir.types import Numbers, float64, is_float
from pullback.ops.contract import Contract
from pullback.ops.index import Gather, Scatter
from pullback.ops.layout import Layout
from pullback.ops.pointwise import (
    Cast,
    Divide,
    Multiply,
    StopGradient,
    Subtract,
)
from pullback.ops.reduce import Reduction, Sum

LEAKED = 1e-6
"""A sample moved another's output where it changed by more than this share (torchtest2)."""


@dataclass(frozen=True, slots=True, eq=False)
class Leak:
    """The first node by which one sample changes another's output, and by how much."""

    node: Node
    change: float


def leak(probe: Probe) -> Leak | None:
    """Whether the output of a sample depends on another sample. One forward evaluation."""
    graph = probe.network
    if graph is None or probe.output is None:
        return None
    others = {x: _other(probe, x, 1, -2.0) for x in probe.inputs_of(graph)}
    reached = depends_on(graph.nodes, others)
    if probe.output not in reached or any(_hides(n, probe.batch, reached) for n in graph.nodes):
        return None
    held = {n for n in graph.nodes if _may_pass(probe, n, reached)}
    found = _first(probe, graph, carried(probe, graph, others, held))
    if found is None and any(_has_peaks(n, probe.batch, reached) for n in graph.nodes):
        others = {x: _other(probe, x, _largest(probe, x), 3.0) for x in others}
        found = _first(probe, graph, carried(probe, graph, others, held))
    return found


def _other(probe: Probe, x: Array, row: int, factor: float) -> Numbers:
    """The samples with another one, made of a row, in place of the first."""
    numbers = probe.numbers(x).copy()
    numbers[0] = numbers[row] * factor if is_float(x.dtype) else numbers[row]
    return numbers


def _largest(probe: Probe, x: Array) -> int:
    """The row with the largest number."""
    rows = probe.numbers(x).astype(float64).reshape(probe.batch, -1)
    return int(rows.max(axis=1).argmax()) if rows.size else 0


def _has_peaks(node: Node, batch: int, reached: set[Array]) -> bool:
    """Whether it folds samples in a way that most of them do not move, as a largest value."""
    if not isinstance(node.op, Reduction) or isinstance(node.op, Sum):
        return False
    x = node.inputs[0]
    return x in reached and any(x.shape[a] == batch for a in node.op.axes)


def _first(probe: Probe, graph: Graph, changed: dict[Array, Numbers]) -> Leak | None:
    """The first node of which other rows moved, where those of the output did."""
    assert probe.output is not None
    if probe.output not in changed:
        return None
    size = _spread(probe, probe.output, changed)
    if not size > LEAKED:
        return None
    for node in graph.nodes:
        y = node.outputs[0]
        if y in changed and _is_mixed(probe, y, changed):
            return Leak(node, size)
    return None


def carried(
    probe: Probe,
    graph: Graph,
    changed: dict[Array, Numbers],
    held: frozenset[Node] | set[Node] = frozenset(),
) -> dict[Array, Numbers]:
    """The numbers of all values that change when those of some inputs do; `held` ones do not."""
    found = dict(changed)
    for node in graph.nodes:
        if node not in held and any(x in found for x in node.inputs):
            given = [found.get(x, probe.numbers(x)) for x in node.inputs]
            found.update(zip(node.outputs, evaluate_node(node, given), strict=True))
    return found


def _is_mixed(probe: Probe, y: Array, changed: dict[Array, Numbers]) -> bool:
    """Whether what moved is no longer the first sample: other places of each axis of samples."""
    if not is_float(y.dtype):
        return False
    before, after = [x.astype(float64) for x in (probe.numbers(y), changed[y])]
    moved = np.abs(after - before) > LEAKED * (np.abs(before).max() + 1e-30)
    axes = [k for k, n in enumerate(y.shape) if n == probe.batch]
    if not axes:
        return y.size % probe.batch == 0 and int(moved.sum()) > y.size // probe.batch
    others = [tuple(i for i in range(y.ndim) if i != k) for k in axes]
    return all(bool(moved.any(axis=along)[1:].any()) for along in others)


def _spread(probe: Probe, x: Array, changed: dict[Array, Numbers]) -> float:
    """The largest change in the rows of the other samples, beside the largest value."""
    before = probe.numbers(x)[1:].astype(float64)
    after = changed[x][1:].astype(float64)
    if not before.size:
        return 0.0
    return float(np.abs(after - before).max() / (np.abs(before).max() + 1e-30))


# ---- what may pass --------------------------------------------------------------------------


def _may_pass(probe: Probe, node: Node, reached: set[Array]) -> bool:
    return set(node.inputs) & reached != set() and (
        _normalises(probe, node) or _relates(probe, node, reached)
    )


def _hides(node: Node, batch: int, reached: set[Array]) -> bool:
    """Whether there are sums over a batch inside a loop, where they cannot be told apart."""
    if not isinstance(node.op, HigherOrder) or reached.isdisjoint(node.inputs):
        return False
    return any(
        isinstance(n.op, Sum) and any(n.inputs[0].shape[a] == batch for a in n.op.axes)
        for n in every_node([node])
    )


def _normalises(probe: Probe, node: Node) -> bool:
    """Whether it is a statistic of batch normalisation, feature by feature.

    A mean that is taken from what it is the mean of; a mean of squares. A sum that divides, a mean
    that is added or handed on, a largest value are none, and neither is one number of a whole
    batch and all its features.
    """
    if not isinstance(node.op, Sum):
        return False
    x = node.inputs[0]
    axes = [a for a in node.op.axes if x.shape[a] == probe.batch]
    if not axes or (len(node.op.axes) == x.ndim and x.size > probe.batch):
        return False
    means = _means(probe, node, math.prod(x.shape[a] for a in node.op.axes))
    if not means:
        return False
    square = probe.makers.get(probe.strip(x))
    if square is not None and probe.is_even(square):
        return True
    return any(
        isinstance(reader.op, Subtract)
        and reader.inputs[1] is mean
        and probe.same(reader.inputs[0], x)
        for mean in means
        for reader in probe.readers.get(mean, [])
    )


def _means(probe: Probe, node: Node, count: int) -> list[Array]:
    """The values that are the sum / its number of elements, in whatever layout."""
    found, due = [], [(node.outputs[0], 1.0)]
    while due:
        y, factor = due.pop()
        if 0.99 < factor * count < count / max(count - 1.5, 0.1):  # or an element less
            found.append(y)
        for reader in probe.readers.get(y, []):
            if isinstance(reader.op, Layout | Cast | StopGradient):
                due.append((reader.outputs[0], factor))
            elif factor == 1.0 and isinstance(reader.op, Divide | Multiply):
                constant = [x for x in reader.inputs if x is not y]
                if constant and constant[0] not in probe.fed and constant[0] not in probe.learnt:
                    numbers = probe.numbers(constant[0]).astype(float64).ravel()
                    share = float(numbers[0]) if numbers.size else 1.0
                    is_quotient = isinstance(reader.op, Divide)
                    due.append((reader.outputs[0], 1 / share if is_quotient and share else share))
    return found


def _relates(probe: Probe, node: Node, reached: set[Array]) -> bool:
    """Whether the data say which samples are neighbours: an adjacency matrix, places in a table."""
    given = [x for x in node.inputs if x not in probe.learnt]
    if isinstance(node.op, Contract):
        return any(list(x.shape).count(probe.batch) > 1 and _is_given(probe, x) for x in given)
    if isinstance(node.op, Scatter):
        return any(probe.batch in x.shape[:1] for x in node.inputs)
    if not isinstance(node.op, Gather) or any(x in probe.learnt for x in node.inputs[1:]):
        return False
    x, y = node.inputs[0], node.outputs[0]
    if x not in reached or x.shape[:1] != (probe.batch,):
        return False
    rows = np.arange(probe.batch).reshape(-1, *(1,) * (x.ndim - 1))
    marked = np.broadcast_to(rows, x.shape).astype(x.dtype)
    (taken,) = evaluate_node(node, [marked, *[probe.numbers(i) for i in node.inputs[1:]]])
    if y.shape[:1] != (probe.batch,):
        return True
    own = np.arange(probe.batch).reshape(-1, *(1,) * (y.ndim - 1))
    return bool((taken != own).any())


def _is_given(probe: Probe, x: Array) -> bool:
    """Whether it is data as they came, or made of such that were a matrix of samples."""
    root = probe.strip(x)
    sources = _sources(probe, root)
    return any(list(s.shape).count(probe.batch) > 1 for s in sources)


def _sources(probe: Probe, x: Array) -> Iterator[Array]:
    """The arguments and constants that a value is made of."""
    seen, due = set(), [x]
    while due:
        y = due.pop()
        if y in seen:
            continue
        seen.add(y)
        node = probe.makers.get(y)
        if node is None or not node.inputs:
            yield y
        else:
            due.extend(node.inputs)
