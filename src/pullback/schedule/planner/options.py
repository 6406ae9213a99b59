"""What a block may save for its backward pass, and what it then computes again: the best trades.

For a price λ of a byte the best choice is a minimum cut. Value v is available or not, step s runs
again or not. A step that runs again costs its time and needs its operands; an available value whose
step does not run again is saved, at λ for each of its bytes. All that the backward pass reads is
available. Between "save all" and "save least" the choices for all λ form a convex curve, found by
at most twice as many cuts as it has corners.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pullback.passes.cut import UNLIMITED, Network

Steps = frozenset[int]
"""The steps that run again, by their numbers in the block."""


@dataclass(frozen=True)
class Block:
    """Steps and the values among them; what a step reads from outside is always there.

    `needed` is what the backward pass reads; a step of cost None runs once.
    """

    costs: tuple[int | None, ...]
    reads: tuple[tuple[int, ...], ...]
    writes: tuple[tuple[int, ...], ...]
    sizes: Mapping[int, int]
    needed: frozenset[int]

    def saved(self, again: Steps) -> frozenset[int]:
        """What must be kept when these steps run again."""
        wanted = self.needed.union(*[self.reads[s] for s in again])
        return wanted.difference(*[self.writes[s] for s in again])

    def point(self, again: Steps) -> tuple[int, int]:
        """The cost of running them again, and the bytes that are saved."""
        cost = sum(self.costs[s] or 0 for s in again)
        return cost, sum(self.sizes[v] for v in self.saved(again))


def options(block: Block) -> list[Steps]:
    """Choices on the convex curve and one step beside it, none worse than another in both."""
    curve = hull(block)
    beside = [again ^ {s} for again in curve for s in _repeatable(block)]
    points: dict[Steps, tuple[int, int]] = {}
    for again in (*curve, *beside):
        points.setdefault(again, block.point(again))
    best: list[Steps] = []
    least: int | None = None
    for again in sorted(points, key=lambda x: (points[x], sorted(x))):
        size = points[again][1]
        if least is None or size < least:
            best.append(again)
            least = size
    return best


def hull(block: Block) -> list[Steps]:
    """The corners of the convex curve of (cost, bytes), from the cheapest to the smallest."""
    first = _cut(block, 1, 1 + sum(block.sizes.values()))
    last = _cut(block, 1 + sum(cost or 0 for cost in block.costs), 1)
    return [first, *_between(block, first, last)]


def _between(block: Block, first: Steps, last: Steps) -> Iterator[Steps]:
    """The corners after `first` up to `last`."""
    (low, most), (high, least) = block.point(first), block.point(last)
    if most <= least:
        return
    a_byte, a_second = high - low, most - least
    middle = _cut(block, a_byte, a_second)
    cost, size = block.point(middle)
    if a_second * cost + a_byte * size < a_second * low + a_byte * most:
        yield from _between(block, first, middle)
        yield from _between(block, middle, last)
    else:
        yield last


def _cut(block: Block, a_byte: int, a_second: int) -> Steps:
    """The steps to run again where bytes and time cost so much."""
    network = Network()
    source, sink = network.node(), network.node()
    runs = [network.node() for _ in block.costs]
    there = {v: network.node() for made in block.writes for v in made}
    for s, cost in enumerate(block.costs):
        network.connect(runs[s], sink, UNLIMITED if cost is None else a_second * cost)
        for v in block.writes[s]:
            network.connect(there[v], runs[s], a_byte * block.sizes[v])
        for v in block.reads[s]:
            if v in there:
                network.connect(runs[s], there[v], UNLIMITED)
    for v in block.needed:
        network.connect(source, there[v], UNLIMITED)
    near = network.near(source, sink)
    return frozenset([s for s, node in enumerate(runs) if node in near])


def _repeatable(block: Block) -> list[int]:
    return [s for s, cost in enumerate(block.costs) if cost is not None]
