"""Axes of several kernels cut alike, so that what they hand on stays inside an iteration.

A *level* is an axis of a chain. In each kernel it takes the outer part of one axis, and in each
buffer that the kernels share it is a digit of the element's address: the index of the level is
(address // step) mod count. Every kernel that touches a shared buffer must agree on the step. Then
an iteration reads of the buffer only what it wrote.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from pullback._trusted import trusted
from pullback.schedule.walks import Axis, Reach, Role, Walk

THIN = 32
"""Fewer rows or columns of a product than this are not worth a product of their own."""


@trusted(frozen=True, slots=True)
class Level:
    """`count` parts of an axis; a product's rows, columns and sums may be cut where `deep`."""

    count: int
    deep: bool = False

    def takes(self, axis: Axis) -> bool:
        return axis.role is Role.FREE or (self.deep and axis.role is not Role.INNER)


@trusted(frozen=True, slots=True)
class Cut:
    """A kernel's walk under levels: which axis each one cuts, what is left of every axis."""

    walk: Walk
    axes: tuple[int, ...]
    rests: tuple[int, ...]
    """How much of its axis one step of each level is."""
    counts: tuple[int, ...]
    sizes: tuple[int, ...]

    def steps(self, reach: Reach) -> tuple[int, ...]:
        """What each level steps in an operand."""
        return tuple([reach.steps[a] * n for a, n in zip(self.axes, self.rests, strict=True)])

    def sums(self, level: int) -> bool:
        return self.walk.axes[self.axes[level]].role is Role.SUMMED

    @property
    def sums_in_order(self) -> bool:
        """Whether the levels walk the sums as the product does: the outermost axis first."""
        cut = [a for i, a in enumerate(self.axes) if self.sums(i)]
        every = [i for i, axis in enumerate(self.walk.axes) if axis.role is Role.SUMMED]
        before = [self.sizes[a] for a in every if cut and a < max(cut)]
        return cut == sorted(cut) and all(n == 1 for n in before)


@trusted(frozen=True, slots=True)
class Clash:
    """The level at which two kernels do not agree; None where they share no buffer."""

    level: int | None


def taken(walk: Walk, parts: Sequence[tuple[int, int]]) -> Cut:
    """A walk with `count` parts taken of each of some axes: (axis, count)."""
    sizes = [axis.size for axis in walk.axes]
    rests = []
    for axis, count in parts:
        sizes[axis] //= count
        rests.append(sizes[axis])
    axes, counts = (tuple([part[i] for part in parts]) for i in range(2))
    return Cut(walk, axes, tuple(rests), counts, tuple(sizes))


def cut_alike(
    walks: Mapping[int, Walk],
    users: Mapping[int, Collection[int]],
    levels: Sequence[Level],
    seed: tuple[int, Cut],
) -> dict[int, Cut] | Clash:
    """The cuts of all kernels that follow from that of one.

    `users` are the kernels that touch each shared buffer.
    """
    cuts = dict([seed])
    agreed: dict[int, tuple[int, ...]] = {}
    pending = [seed[0]]
    while pending:
        cut = cuts[pending.pop()]
        for reach in cut.walk.reaches:
            if reach.buffer not in users:
                continue
            steps = cut.steps(reach)
            wanted = agreed.setdefault(reach.buffer, steps)
            for i in range(len(levels)):
                if steps[i] != wanted[i] or not _is_digit(cut, reach, i):
                    return Clash(i)
            for other in users[reach.buffer]:
                if other not in cuts:
                    matched = _matched(walks[other], reach.buffer, steps, levels)
                    if isinstance(matched, Clash):
                        return matched
                    cuts[other] = matched
                    pending.append(other)
    return cuts if len(cuts) == len(walks) else Clash(None)


def _matched(walk: Walk, buffer: int, steps: Sequence[int], levels: Sequence[Level]) -> Cut | Clash:
    """The cut of a kernel in which each level steps so far in `buffer`."""
    reach = next(x for x in walk.reaches if x.buffer == buffer)
    sizes = [axis.size for axis in walk.axes]
    axes, rests = [0] * len(levels), [0] * len(levels)
    for i in sorted(range(len(levels)), key=lambda i: -steps[i]):
        top = steps[i] * levels[i].count
        fitting = [
            a
            for a, axis in enumerate(walk.axes)
            if levels[i].takes(axis)
            and 0 < reach.steps[a] <= steps[i]
            and reach.steps[a] * sizes[a] == top
            and steps[i] % reach.steps[a] == 0
        ]
        if not fitting:
            return Clash(i)
        axes[i] = fitting[0]
        sizes[axes[i]] = rests[i] = steps[i] // reach.steps[axes[i]]
    counts = tuple([level.count for level in levels])
    return Cut(walk, tuple(axes), tuple(rests), counts, tuple(sizes))


def _is_digit(cut: Cut, reach: Reach, level: int) -> bool:
    """Whether the index of the level is a digit of every address, whatever the other indices."""
    steps = cut.steps(reach)
    step = steps[level]
    top = step * cut.counts[level]
    if step <= 0:
        return False
    pieces = list(zip(reach.steps, cut.sizes, strict=True))
    pieces += [each for i, each in enumerate(zip(steps, cut.counts, strict=True)) if i != level]
    below = reach.offset % top
    for each, size in pieces:
        if size == 1 or (each >= 0 and each % top == 0):
            continue
        if not 0 < each < step:
            return False
        below += each * (size - 1)
    return below < step


def without(position: int, digits: Sequence[tuple[int, int]]) -> int:
    """An address, or a step of one, in memory that holds the elements of one iteration only.

    The `digits` are the steps of the levels and their counts, the largest first.
    """
    for step, count in digits:
        top = step * count
        position = position // top * step + position % step if position >= top else position
    return position


def share(counts: Sequence[int], size: int) -> int:
    """The elements of a buffer that belong to one iteration."""
    return size // math.prod(counts)
