"""Parameters that are copies of each other: equal numbers, and equal gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from pullback.inspect.program import Program
from pullback.ir.array import Array
from pullback.ir.types import Numbers, float64
from pullback.ops.index import Gather

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


def twins(weight: Numbers, bar: Numbers, axis: int) -> tuple[Numbers, int]:
    """Of the slices along an axis which are copies of an earlier one; how many are different."""
    count = weight.shape[axis]
    rows, slopes = [np.moveaxis(x, axis, 0).reshape(count, -1) for x in (weight, bar)]
    _, index, group = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    first = index[group.ravel()]
    # not bit for bit: a product may sum its last columns in another order
    equal = np.abs(slopes - slopes[first]).max(axis=1) <= EQUAL * np.abs(slopes).max()
    return equal & (first != np.arange(count)) & slopes.any(axis=1), len(index)


def copies(program: Program, bars: Mapping[Array, Numbers]) -> Iterator[Copies]:
    """The parameters all of whose slices along an axis come twice at least, as factors or centres.

    The rows that an index chooses stand for different things, whatever one batch says of them.
    """
    for x, slope in bars.items():
        weight = program.numbers(x)
        if not slope.any():
            continue
        chosen = _chosen(program, x)
        for axis, count in enumerate(weight.shape):
            if axis in chosen or not 1 < count < weight.size:
                continue
            again, groups = twins(weight.astype(float64), slope.astype(float64), axis)
            if again.sum() == count - groups and 2 * groups <= count:
                yield Copies(x, axis, groups)
                break


def _chosen(program: Program, x: Array) -> set[int]:
    """The axes along which an index chooses."""
    readers = program.readers.get(x, [])
    return {a for node in readers if isinstance(node.op, Gather) for a in node.op.axes}
