"""The loss as a function of what the network gives: where that ends, and what comes after."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from pullback.inspect.probe import Probe
from pullback.ir.array import Array, concrete
from pullback.ir.builder import apply
from pullback.ir.graph import Node
from pullback.ir.types import Numbers
from pullback.ops.sampling import RandomBits
from pullback.transforms.tree import flatten_arrays
from pullback.transforms.walk import walking

DRAWS = 32
"""Of which a mean is taken: its variance adds so much less to the loss."""


def ends(probe: Probe) -> tuple[Array, ...]:
    """What the last layers give, each with a row for each sample; () where the loss is more than

    a function of these and of targets: it draws, it reads the inputs once more, or it compares what
    one layer gives of two inputs.
    """
    if probe.is_surrogate:
        return ()
    rows = {x.z: x.weight for x in probe.layers if x.z.ndim and x.z.shape[0] == probe.batch > 1}
    behind = _read(probe, [probe.graph.outputs[0]], rows)
    taken = {x for node in _making(probe, behind) for x in node.inputs}
    found = [x for x in rows if x in taken]
    pairs = itertools.combinations(found, 2)
    if any(rows[x] is rows[y] and not probe.same(x, y) for x, y in pairs):
        return ()
    inputs = {x for x in _read(probe, found) if x in probe.replay.data}
    return tuple(found) if inputs and behind.isdisjoint(inputs) else ()


class Rest:
    """The loss as a function of what the network gives; what else it reads is as it began."""

    def __init__(self, probe: Probe, outs: Sequence[Array]) -> None:
        self._probe = probe
        self.outs = tuple(outs)
        self.firsts = [next(i for i, y in enumerate(outs) if probe.same(x, y)) for x in outs]
        """Of each the place of the first that is equal to it."""
        read = _read(probe, outs)
        self._network = _making(probe, read)
        self._behind = _making(probe, _read(probe, [probe.graph.outputs[0]], outs))
        self.data = [x for x in probe.replay.graph.inputs if x in probe.replay.data]
        """The arrays of a batch, in order."""
        self.inputs = [i for i, x in enumerate(self.data) if x in read]
        """The places of those that the network reads."""

    def __call__(self, outs: Sequence[Any], batch: Sequence[Any]) -> Any:
        known = {x: concrete(self._probe.numbers(x)) for x in self._probe.replay.graph.inputs}
        known |= dict(zip(self.data, batch, strict=True))
        known |= dict(zip(self.outs, outs, strict=True))
        return _played(self._behind, known)[self._probe.graph.outputs[0]]

    def given(self, model: Any, batch: Sequence[Any]) -> list[Numbers]:
        """What a network gives of a batch; of one that draws, as dropout does, the mean of many."""
        replay = self._probe.replay
        leaves = flatten_arrays((model, *batch), "argument")[0]
        values = (*leaves, *replay.traced.captured)
        known = dict(zip(replay.graph.inputs, values, strict=True))
        draws = any(isinstance(node.op, RandomBits) for node in self._network)
        found = []
        for i in range(DRAWS if draws else 1):
            played = _played(self._network, dict(known), np.random.default_rng(i))
            found.append([played[x].numpy() for x in self.outs])
        return [np.mean(each, axis=0, dtype=each[0].dtype) for each in zip(*found, strict=True)]


def _read(probe: Probe, values: Iterable[Array], known: Iterable[Array] = ()) -> set[Array]:
    """The values and all that they are computed from, but for what is known."""
    seen: set[Array] = set()
    left, given = list(values), set(known)
    while left:
        x = left.pop()
        if x not in seen and x not in given:
            seen.add(x)
            node = probe.makers.get(x)
            left += () if node is None else node.inputs
    return seen


def _making(probe: Probe, values: set[Array]) -> list[Node]:
    return [node for node in probe.nodes if not values.isdisjoint(node.outputs)]


def _played(
    nodes: Sequence[Node], known: dict[Array, Any], rng: np.random.Generator | None = None
) -> dict[Array, Any]:
    """All values; random bits are, with `rng`, the same ones in another order."""
    with walking() as at:
        for node in nodes:
            at(node, None)
            made = apply(node.op, [known[x] for x in node.inputs])
            if rng is not None and isinstance(node.op, RandomBits):
                made = tuple(map(partial(_mixed, rng), made))
            known.update(zip(node.outputs, made, strict=True))
    return known


def _mixed(rng: np.random.Generator, x: Any) -> Array:
    """The same numbers in another order."""
    return concrete(rng.permutation(x.numpy().ravel()).reshape(x.shape))
