"""Place the values of a graph on a page: layers from top to bottom, few crossings, smooth edges.

The method of Sugiyama, Tagawa & Toda (1981): longest-path layers, ghosts where an edge passes a
layer, barycentres to order each layer, then positions pulled towards the neighbours.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

SWEEPS = 8
PULLS = 16
LIGHT = 0.05
"""How little an argument pulls, and resists, so that the computation itself runs straight down."""

Edge = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Spacing:
    """Pixels: the box of a value, and the room between boxes and layers."""

    width: float = 212.0
    height: float = 78.0
    between: float = 28.0
    layer: float = 56.0
    ghost: float = 14.0


@dataclass(frozen=True, slots=True)
class Drawing:
    """Centres of the boxes, the points that each edge passes, and the size of the page."""

    centers: dict[int, tuple[float, float]]
    paths: dict[Edge, list[tuple[float, float]]]
    width: float
    height: float


def draw(count: int, edges: Sequence[Edge], spacing: Spacing) -> Drawing:
    """Place boxes 0 … count - 1; each edge goes from a smaller to a larger number."""
    layers_of = _layers(count, edges)
    chains = _with_ghosts(count, edges, layers_of)
    rows = _rows(layers_of)
    above, below = _neighbours(chains)
    for sweep in range(SWEEPS):
        rows = _ordered(rows, above if sweep % 2 == 0 else below, downwards=sweep % 2 == 0)
    across = _across(rows, above, below, count, spacing)
    left = min((x - spacing.width / 2 for x in across.values()), default=0.0) - spacing.between
    pitch = spacing.height + spacing.layer
    places = {
        i: (across[i] - left, spacing.between + spacing.height / 2 + row * pitch)
        for row, members in enumerate(rows)
        for i in members
    }
    paths = {edge: [places[i] for i in chain] for edge, chain in chains.items()}
    right = max((x for x, _ in places.values()), default=0.0) + spacing.width / 2
    return Drawing(
        {i: places[i] for i in range(count)},
        paths,
        right + spacing.between,
        2 * spacing.between + len(rows) * pitch - spacing.layer,
    )


def _layers(count: int, edges: Sequence[Edge]) -> dict[int, int]:
    """Longest path from the sources; a source itself stands just above its first reader."""
    layer = dict.fromkeys(range(count), 0)
    for tail, head in sorted(edges, key=lambda edge: edge[1]):
        layer[head] = max(layer[head], layer[tail] + 1)
    targets = {head for _, head in edges}
    for i in range(count):
        readers = [layer[head] for tail, head in edges if tail == i]
        if i not in targets and readers:
            layer[i] = min(readers) - 1
    return layer


def _with_ghosts(count: int, edges: Sequence[Edge], layer: dict[int, int]) -> dict[Edge, list[int]]:
    """Each edge as a chain through one box or ghost a layer; ghosts are numbered from `count`."""
    chains: dict[Edge, list[int]] = {}
    ghost = count
    for tail, head in dict.fromkeys(edges):
        between = range(layer[tail] + 1, layer[head])
        chains[tail, head] = [tail, *range(ghost, ghost + len(between)), head]
        layer.update(zip(range(ghost, ghost + len(between)), between, strict=True))
        ghost += len(between)
    return chains


def _rows(layer: Mapping[int, int]) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for i, row in layer.items():
        rows[row].append(i)
    return rows


def _neighbours(
    chains: Mapping[Edge, list[int]],
) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    above: dict[int, list[int]] = {}
    below: dict[int, list[int]] = {}
    for chain in chains.values():
        for upper, lower in itertools.pairwise(chain):
            above.setdefault(lower, []).append(upper)
            below.setdefault(upper, []).append(lower)
    return above, below


def _ordered(
    rows: list[list[int]], fixed: Mapping[int, list[int]], *, downwards: bool
) -> list[list[int]]:
    """Each row sorted by the mean place of its neighbours in the row before it."""
    result = [list(row) for row in rows]
    place = {i: k / max(len(row), 1) for row in result for k, i in enumerate(row)}
    for row in result if downwards else reversed(result):
        row.sort(key=lambda i: _mean([place[j] for j in fixed.get(i, ())], place[i]))
        place.update((i, k / max(len(row), 1)) for k, i in enumerate(row))
    return result


def _across(
    rows: Sequence[Sequence[int]],
    above: Mapping[int, list[int]],
    below: Mapping[int, list[int]],
    count: int,
    spacing: Spacing,
) -> dict[int, float]:
    """Horizontal centres: pulled to the mean of the neighbours, kept apart within a row."""

    def reach(i: int) -> float:
        return (spacing.width if i < count else spacing.ghost) / 2

    def weight(i: int) -> float:
        return LIGHT if i < count and not above.get(i) else 1.0

    x: dict[int, float] = {}
    for row in rows:
        x.update(_apart(row, dict.fromkeys(row, 0.0), weight, reach, spacing.between))
    for pull in range(PULLS):
        for row in rows if pull % 2 == 0 else list(reversed(rows)):
            wish = {}
            for i in row:
                near = [*above.get(i, ()), *below.get(i, ())]
                wish[i] = _mean([x[j] for j in near], x[i], [weight(j) for j in near])
            x.update(_apart(row, wish, weight, reach, spacing.between))
    return x


def _apart(
    row: Sequence[int],
    wish: Mapping[int, float],
    weight: Callable[[int], float],
    reach: Callable[[int], float],
    between: float,
) -> dict[int, float]:
    """The places nearest to the wishes (least weighted squares) that keep order and distances.

    Without its least distance from the first box, each place may only grow along the row: so this
    is isotonic regression, solved by pooling adjacent violators.
    """
    offsets = [0.0]
    for a, b in itertools.pairwise(row):
        offsets.append(offsets[-1] + reach(a) + reach(b) + between)
    pools: list[tuple[float, float, int]] = []
    for i, offset in zip(row, offsets, strict=False):
        pool = ((wish[i] - offset) * weight(i), weight(i), 1)
        while pools and pools[-1][0] / pools[-1][1] > pool[0] / pool[1]:
            last = pools.pop()
            pool = (last[0] + pool[0], last[1] + pool[1], last[2] + pool[2])
        pools.append(pool)
    means = [total / weights for total, weights, size in pools for _ in range(size)]
    return {i: m + offset for i, m, offset in zip(row, means, offsets, strict=False)}


def _mean(
    numbers: Sequence[float], otherwise: float, weights: Sequence[float] | None = None
) -> float:
    shares = [1.0] * len(numbers) if weights is None else weights
    if not numbers:
        return otherwise
    return sum(n * w for n, w in zip(numbers, shares, strict=True)) / sum(shares)
