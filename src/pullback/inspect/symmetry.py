"""Parameters that are copies of each other: equal numbers, and equal gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pullback.errors import Site
from pullback.inspect.initial import ways
from pullback.inspect.probe import Probe
from pullback.inspect.program import Program
from pullback.ir.array import Array, concrete
from pullback.ir.op import HigherOrder
from pullback.ir.types import Numbers, float64, is_float
from pullback.ops.index import Gather
from pullback.transforms.derivatives import vjp

EQUAL = 1e-5
"""Gradients that differ by less, beside the largest one: a sum in another order."""


@dataclass(frozen=True, slots=True)
class Copies:
    """The slices of a parameter along an axis, of which each is a copy of another."""

    parameter: Array
    axis: int
    groups: int
    """How many different ones there are."""

    @property
    def count(self) -> int:
        return self.parameter.shape[self.axis]


def twins(weight: Numbers, bar: Numbers, axis: int) -> Numbers:
    """Of the slices along an axis which are copies of another one, but for the first of each kind.

    Copies have equal weights and equal slopes, which are not 0.
    """
    count = weight.shape[axis]
    rows, slopes = [np.moveaxis(x, axis, 0).reshape(count, -1) for x in (weight, bar)]
    _, group = np.unique(rows, axis=0, return_inverse=True)
    group = group.ravel()
    along = slopes @ np.random.default_rng(0).standard_normal(slopes.shape[1])
    order = np.lexsort((along, group))  # copies lie beside each other
    before, after = order[:-1], order[1:]
    # not bit for bit: a product may sum its last columns in another order
    near = np.abs(slopes[after] - slopes[before]).max(axis=1) <= EQUAL * np.abs(slopes).max()
    again = np.zeros(count, bool)
    again[after] = near & (group[after] == group[before]) & slopes[after].any(axis=1)
    return again


def repeats(weight: Numbers, axis: int) -> bool:
    """Whether two slices along an axis have the same numbers."""
    count = weight.shape[axis]
    rows = np.moveaxis(weight, axis, 0).reshape(count, -1)
    return bool(len(np.unique(rows, axis=0)) < count)


def copies_along(probe: Probe, x: Array, axis: int) -> int:
    """How many slices of a parameter are copies of others.

    Asked is a random function of the output: the gradient of the loss may be 0, as behind a last
    layer whose rows are equal, or the same by chance, as of classes with as many examples.
    """
    weight, bar = probe.numbers(x).astype(float64), probe.bar(x)
    if bar is None or not repeats(weight, axis):
        return 0
    slope = slope_of_output(probe, x)
    if slope is None:
        slope = bar.astype(float64)
    return int(twins(weight, slope, axis).sum()) if slope.any() else 0


def slope_of_output(probe: Probe, x: Array) -> Numbers | None:
    """The gradient of Σ r · output with respect to a parameter, r random; None where it is 0."""
    graph = probe.network
    if graph is None or all({x}.isdisjoint(node.inputs) for node in graph.nodes):
        return None
    out, back = vjp(probe.as_function(graph, x), concrete(probe.numbers(x).copy()))
    if not is_float(out.dtype):
        return None
    r = np.random.default_rng(1).standard_normal(out.shape).astype(out.dtype)
    slope: Numbers = back(r)[0].numpy().astype(float64)
    return slope if slope.any() else None


def copies(probe: Probe) -> Iterator[Copies]:
    """The parameters all of whose slices along an axis come twice at least, as factors or centres.

    The rows that an index chooses stand for different things, whatever one batch says of them.
    """
    for x in probe.named:
        if probe.bar(x) is None:
            continue
        chosen, shape = _chosen(probe, x), x.shape
        for axis, count in enumerate(shape):
            if axis in chosen or not 1 < count < x.size:
                continue
            groups = count - copies_along(probe, x, axis)
            if 2 * groups <= count:
                yield Copies(x, axis, groups)
                break


def constants(probe: Probe) -> Iterator[tuple[Array, Site]]:
    """The trained matrices before the last layer that have one value other than 0, and their use.

    Factors of products, matrices of loops, tables: scales and masks may well begin at 1.
    """
    last = probe.layers[-1].weight if probe.layers else None
    uses = {layer.weight: layer.node for layer in reversed(probe.layers)}
    for x in probe.named:
        slope, numbers = probe.bar(x), probe.numbers(x)
        wide = sum(n > 1 for n in x.shape) > 1
        if x is last or not wide or slope is None or x in probe.replay.frozen:
            continue
        if not np.ptp(numbers.astype(float64)) and numbers.flat[0]:
            reads = [n for n in ways(probe, x) if isinstance(n.op, Gather | HigherOrder)]
            used = uses.get(x) or next(iter(reads), None)
            if used is not None:
                yield x, used.site


def _chosen(program: Program, x: Array) -> set[int]:
    """The axes along which an index chooses."""
    readers = program.readers.get(x, [])
    return {a for node in readers if isinstance(node.op, Gather) for a in node.op.axes}
