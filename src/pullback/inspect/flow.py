"""Where the gradient of a value is a sum: the ways by which it reaches the loss, and their parts.

Between a value with several readers and the node in which all its ways meet again (the immediate
post-dominator of Lengauer & Tarjan 1979, read backwards) each way has its own operations. A way
without any is the identity of a residual block; others are called by the parameters they use.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pullback.inspect.tape import Replay
from pullback.ir.array import Array
from pullback.ir.graph import Node, depends_on
from pullback.ir.types import Numbers, float64
from pullback.ops.pointwise import Add


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """One of the ways from a value to where they meet: what it adds to the gradient."""

    name: str
    parameters: tuple[str, ...]
    share: float
    """⟨contribution, total⟩ / ‖total‖². The shares of all ways add up to 1."""
    size: float
    """‖contribution‖ / ‖total‖."""
    is_identity: bool

    @property
    def cosine(self) -> float:
        """Between the contribution and the whole gradient."""
        return self.share / self.size if self.size else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Merge:
    """A value whose gradient is a sum over ways, and the node in which they meet."""

    value: Array
    meets: Node | None
    """None where they meet in the loss alone."""
    ways: tuple[Way, ...]

    @property
    def name(self) -> str:
        """What the parameters of its ways have in common."""
        return family([x for way in self.ways for x in way.parameters])

    @property
    def is_residual(self) -> bool:
        """x + f(x), with parameters in f."""
        added = self.meets is not None and isinstance(self.meets.op, Add)
        return added and any(way.is_identity for way in self.ways)


def own_name(path: str) -> str:
    """The path of a parameter without the name of the argument: `layers[0].weight`."""
    return re.sub(r"^\w+\.?", "", path) or path


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Names, with a number behind those that came before."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(found)


def family(names: Sequence[str]) -> str:
    """The path that several parameters share: `blocks[0].attention`."""
    if len(set(names)) == 1:
        return names[0]
    first, last = min(names), max(names)
    same = [a == b for a, b in zip(first, last, strict=False)]
    common = first[: [*same, False].index(False)]
    cut = max(common.rfind("."), common.rfind("]") + 1, 0)
    return common[:cut] or ", ".join(dict.fromkeys(names))


def _is_telling(merge: Merge) -> bool:
    learnt = sum(bool(way.parameters) for way in merge.ways)
    return learnt > 1 or (learnt == 1 and any(way.is_identity for way in merge.ways))


class Flow:
    """The nodes through which a gradient flows back, as sets of bits."""

    def __init__(self, replay: Replay) -> None:
        self.replay = replay
        graph = replay.reverse.graph
        self.nodes = [n for n in graph.nodes if not replay.totals.keys().isdisjoint(n.outputs)]
        self.place = {node: i for i, node in enumerate(self.nodes)}
        self.readers: dict[Array, list[int]] = {}
        for x, uses in replay.uses.items():
            found = {self.place[use.node] for use in uses if use.node in self.place}
            self.readers[x] = sorted(found)
        self._parameters = self._used(graph.nodes)
        self.after = self._after()
        self.meeting = self._meeting()

    def _used(self, nodes: Sequence[Node]) -> list[tuple[str, ...]]:
        """For each node the parameters that it reads, cast or transposed as it may be."""
        fed = depends_on(nodes, self.replay.data)
        made: dict[Array, tuple[str, ...]] = {
            x: (own_name(self.replay.names[x]),) for x in self.replay.parameters
        }
        for node in nodes:
            names = tuple(dict.fromkeys(n for x in node.inputs for n in made.get(x, ())))
            made.update((y, names) for y in node.outputs if names and y not in fed)
        return [
            tuple(dict.fromkeys(n for x in node.inputs for n in made.get(x, ())))
            for node in self.nodes
        ]

    def _next(self, i: int) -> list[int]:
        found = {j for y in self.nodes[i].outputs for j in self.readers.get(y, ())}
        return sorted(found)

    def _after(self) -> list[int]:
        """For each node the nodes that it leads to, with itself."""
        found = [0] * len(self.nodes)
        for i in reversed(range(len(self.nodes))):
            bits = 1 << i
            for j in self._next(i):
                bits |= found[j]
            found[i] = bits
        return found

    def _meeting(self) -> list[int | None]:
        """For each node the next one that every way from it passes; None: the loss alone."""
        found: list[int | None] = [None] * len(self.nodes)
        for i in reversed(range(len(self.nodes))):
            found[i] = self._common(self._next(i), found)
        return found

    def _common(self, nodes: Sequence[int], meeting: Sequence[int | None]) -> int | None:
        """The first node that all ways from `nodes` pass, these included."""
        if not nodes:
            return None
        here: int | None = nodes[0]
        for other in nodes[1:]:
            there: int | None = other
            while here != there:
                if here is None or there is None:
                    return None
                if here < there:
                    here = meeting[here]
                else:
                    there = meeting[there]
        return here

    # ---- merges ----

    @functools.cached_property
    def merges(self) -> list[Merge]:
        """In forward order; of values that depend on data, where ways differ in their parameters.

        Two ways have parameters, or one and the other is the identity: the mean and the variance
        of a normalisation are no such ways.
        """
        fed = depends_on(self.replay.reverse.graph.nodes, self.replay.data)
        values = [*self.replay.graph.inputs, *(y for node in self.nodes for y in node.outputs)]
        found = [self._merge(x) for x in values if x in fed and len(self.readers.get(x, ())) > 1]
        return [x for x in found if _is_telling(x)]

    def _merge(self, x: Array) -> Merge:
        readers = self.readers[x]
        end = self._common(readers, self.meeting)
        open_ = [r for r in readers if r != end]
        limit = (1 << end) if end is not None else (1 << len(self.nodes))
        region = limit - 1  # the nodes after `end` come later in the order
        groups = self._groups(open_, region)
        total = self.replay.totals[x].numpy().astype(float64)
        ways = []
        if end is not None and end in readers:
            ways.append(self._way("identity", (), [end], x, total, is_identity=True))
        ways += [self._way(family(n) if n else "rest", n, g, x, total) for n, g in groups]
        return Merge(x, None if end is None else self.nodes[end], tuple(ways))

    def _groups(
        self, readers: Sequence[int], region: int
    ) -> list[tuple[tuple[str, ...], list[int]]]:
        """Readers with parameters of their own, and the others, by where they run together."""
        own: list[tuple[tuple[str, ...], list[int]]] = []
        shared: list[tuple[int, list[int]]] = []
        for r in readers:
            others = 0
            for s in readers:
                others |= self.after[s] if s != r else 0
            names = self._names(self.after[r] & region & ~others)
            if names:
                own.append((names, [r]))
                continue
            bits, members = self.after[r] & region, [r]
            apart = []
            for each, found in shared:
                if each & bits:
                    bits, members = bits | each, found + members
                else:
                    apart.append((each, found))
            shared = [*apart, (bits, members)]
        told = {n for names, _ in own for n in names}
        rest = [
            (tuple(n for n in self._names(bits) if n not in told), members)
            for bits, members in shared
        ]
        return [*own, *rest]

    def _names(self, bits: int) -> tuple[str, ...]:
        places = [i for i in range(bits.bit_length()) if bits >> i & 1]
        return tuple(dict.fromkeys(n for i in places for n in self._parameters[i]))

    def _way(
        self,
        name: str,
        parameters: tuple[str, ...],
        readers: Sequence[int],
        x: Array,
        total: Numbers,
        is_identity: bool = False,
    ) -> Way:
        through = {self.nodes[r] for r in readers}
        part = np.zeros_like(total)
        for use in self.replay.uses[x]:
            if use.node in through:
                part += use.bar.numpy()
        square = float(np.vdot(total, total))
        share = float(np.vdot(part, total)) / square if square else math.nan
        size = float(np.linalg.norm(part)) / math.sqrt(square) if square else math.nan
        return Way(name, parameters, share, size, is_identity)
