"""The domain of a row kernel with as few axes as its operands allow."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeVar

from pullback.backend.lanes import LANES
from pullback.schedule.kernels import Access, Element, Fold, Load, Loops, Step, Walk

W = TypeVar("W", Access, Walk)


@dataclass(frozen=True, slots=True)
class Flat:
    """A row kernel with merged axes; `total` is set when its rows are chunks of one axis."""

    loops: Loops
    total: int | None


def walks_of(loops: Loops) -> list[Access | Walk]:
    """Everything that walks along the domain: accesses, and coordinates."""
    walks: list[Access | Walk] = [s.access for s in loops.steps if isinstance(s, Load)]
    walks += [walk for s in loops.steps if isinstance(s, Element) for walk in s.at]
    return walks + [s.access for s in loops.stores]


def flattened(loops: Loops) -> Flat:
    walks = walks_of(loops)
    if not loops.inner and not any(isinstance(s, Fold) for s in loops.steps):
        return _pointwise(loops, walks)
    outer = _merged(loops.outer, [a.outer for a in walks])
    inner = _merged(loops.inner, [a.inner for a in walks if a.inner])
    return Flat(_reshaped(loops, outer, inner), None)


def _pointwise(loops: Loops, walks: list[Access | Walk]) -> Flat:
    """A kernel without reductions: its last axis is the inner one, or chunks of its only one.

    Where that axis is a half, a quarter … of a vector, the last two are.
    """
    groups = _merged(loops.outer, [a.outer for a in walks])
    if len(groups) <= 1:
        total = math.prod(loops.outer)
        flat = _reshaped(loops, [], groups, shift=True)
        return Flat(replace(flat, inner=(total,)), total)
    width = math.prod(loops.outer[axis] for axis in groups[-1])
    short = width and width < LANES and LANES % width == 0  # lanes would stay idle
    in_order = all(s.access.outer[groups[-2][-1]] == width for s in loops.stores)
    lines = 2 if short and in_order else 1
    return Flat(_reshaped(loops, groups[:-lines], groups[-lines:], shift=True), None)


def _merged(shape: tuple[int, ...], strides: list[tuple[int, ...]]) -> list[list[int]]:
    """Axes in runs that everything walks with one stride."""
    runs: list[list[int]] = []
    for axis in range(len(shape)):
        if runs and all(s[runs[-1][-1]] == s[axis] * shape[axis] for s in strides):
            runs[-1].append(axis)
        else:
            runs.append([axis])
    return runs


def _reshaped(
    loops: Loops, outer: list[list[int]], inner: list[list[int]], shift: bool = False
) -> Loops:
    """Each run of axes as one; with `shift` the inner runs are axes of the outer domain."""
    inner_shape = loops.outer if shift else loops.inner

    def moved(walk: W) -> W:
        source = walk.outer if shift else walk.inner
        return replace(
            walk,
            outer=tuple(walk.outer[run[-1]] for run in outer),
            inner=tuple(source[run[-1]] for run in inner) if source else (1,) if shift else (),
        )

    steps: list[Step] = []
    for step in loops.steps:
        if isinstance(step, Load):
            steps.append(replace(step, access=moved(step.access)))
        elif isinstance(step, Element):
            steps.append(replace(step, at=tuple(map(moved, step.at))))
        else:
            steps.append(step)
    return Loops(
        tuple(math.prod(loops.outer[a] for a in run) for run in outer),
        tuple(math.prod(inner_shape[a] for a in run) for run in inner),
        tuple(steps),
        tuple(replace(s, access=moved(s.access)) for s in loops.stores),
    )
