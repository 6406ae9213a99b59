"""What a loop over time hands back: the cotangents of a weight that is used again and again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pullback.inspect.probe import Layer, Probe, norm
from pullback.ir.array import Array
from pullback.ir.graph import depends_on

FEWEST = 5
"""Uses, each of what the one before has given."""


@dataclass(frozen=True, slots=True, eq=False)
class Recurrence:
    """A weight that reads what it has given itself, step by step."""

    first: Layer
    last: Layer
    steps: int
    total: float
    """‖∂L/∂z‖ at the first use / at the last."""

    @property
    def factor(self) -> float:
        """Of one step."""
        return float(self.total ** (1 / (self.steps - 1)))


def recurrences(probe: Probe) -> Iterator[Recurrence]:
    """Of each such weight, where something flows back to its last use."""
    uses: dict[Array, list[Layer]] = {}
    for layer in probe.layers:
        uses.setdefault(layer.weight, []).append(layer)
    for each in uses.values():
        first, last = each[0], each[-1]
        if len(each) < FEWEST or last.signal not in depends_on(probe.nodes, [first.z]):
            continue
        begins, ends = [probe.bar(x.z) for x in (first, last)]
        if begins is not None and ends is not None and norm(begins) and norm(ends):
            yield Recurrence(first, last, len(each), norm(begins) / norm(ends))
