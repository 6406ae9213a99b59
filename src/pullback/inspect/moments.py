"""Second moments at initialisation, by theory: forward through the graph and back (mean field).

A value is a function of one Gaussian *source*, kept as numbers on the nodes of a quadrature: so
any elementwise op is its own rule. A product with a weight makes a new source, of variance
n·E[w²]·E[x²] (He et al. 2015, Poole et al. 2016); a value of two sources is taken as a new one.
Backward, Ē[x²] = fan_out·E[w²]·E[φ′²]·Ē[z²] (Schoenholz et al. 2017), summed over the uses.

Where theory has no rule (max pooling, attention's products, loops) the prediction starts again
from what was measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pullback.inspect.probe import Layer, Probe, second_moment
from pullback.ir.array import Array, concrete
from pullback.ir.builder import quiet
from pullback.ir.families import Elementwise
from pullback.ir.graph import Node
from pullback.ir.types import Numbers, float64, is_float
from pullback.ops.layout import Layout, Pad
from pullback.ops.reduce import Sum

MISPREDICTED = 2.0
"""Predicted and measured are no longer the same beyond this factor."""
ORDER = 48
"""Nodes of the quadrature; an even number, so that a relu of mean 0 is exact by symmetry."""


def _quadrature() -> tuple[Numbers, Numbers]:
    nodes, weights = np.polynomial.hermite_e.hermegauss(ORDER)
    return nodes, weights / math.sqrt(2 * math.pi)


NODES, WEIGHTS = _quadrature()


@dataclass(frozen=True, slots=True, eq=False)
class Law:
    """A value as a function of a standard Gaussian source; a constant has none."""

    values: Numbers
    slopes: Numbers
    """Its derivative by the source's *value*, at the same nodes."""
    source: Array | None

    @property
    def mean(self) -> float:
        return float(WEIGHTS @ np.broadcast_to(self.values, (ORDER,)))

    @property
    def second(self) -> float:
        return float(WEIGHTS @ np.broadcast_to(self.values**2, (ORDER,)))

    @property
    def slope(self) -> float:
        """E[φ′²]."""
        return float(WEIGHTS @ np.broadcast_to(self.slopes**2, (ORDER,)))

    @classmethod
    def gaussian(cls, source: Array | None, mean: float, variance: float) -> Law:
        if variance <= 0 or not math.isfinite(variance):
            return cls(np.array([mean]), np.array([1.0]), source)
        return cls(mean + math.sqrt(variance) * NODES, np.ones(ORDER), source)


@dataclass(frozen=True, slots=True)
class Signal:
    """Of one layer E[z²] and E[(∂L/∂z)²], measured and predicted."""

    layer: Layer
    forward: float
    forward_predicted: float
    backward: float
    backward_predicted: float
    spread: float
    """By how much log(measured / predicted) differs from network to network: √(5·Σ 1/n) over the
    layers before (Hanin & Nica 2019, for relu; of other activations it is less)."""

    @property
    def is_predicted(self) -> bool:
        """Whether what was measured forward is within a factor of two of theory, or two spreads."""
        if not (self.forward > 0 and self.forward_predicted > 0):
            return False
        away = abs(math.log(self.forward_predicted / self.forward))
        return away <= max(math.log(MISPREDICTED), 2 * self.spread)


@dataclass(eq=False)
class Moments:
    """The laws of the values of a probe, forward, and what flows back, in second moments."""

    probe: Probe
    laws: dict[Array, Law] = field(default_factory=dict)
    edges: dict[Array, list[tuple[Array, float]]] = field(default_factory=dict)
    """For a source the sources it is made of, each with its gain backward."""
    ends: set[Array] = field(default_factory=set)
    """Sources that flow into something without a rule."""

    def __post_init__(self) -> None:
        layers = {x.node: x for x in self.probe.chain}
        with quiet():
            for node in self.probe.nodes:
                y = node.outputs[0]
                if y in self.probe.learnt and y in self.probe.fed and is_float(y.dtype):
                    self.laws[y] = self._derived(node, layers.get(node)) or self._restarted(node)

    # ---- forward ----

    def _law(self, x: Array) -> Law | None:
        """Of an operand; a value that is no mixture of data and parameters is what it is."""
        known = self.laws.get(x)
        if known is not None:
            return known
        if x in self.probe.learnt and x in self.probe.fed:
            return None
        if not is_float(x.dtype):
            return None
        numbers = self.probe.numbers(x).astype(float64)
        variance = float(numbers.var()) if numbers.size else 0.0
        mean = float(numbers.mean()) if numbers.size else 0.0
        return Law.gaussian(None if variance == 0 else x, mean, variance)

    def _derived(self, node: Node, layer: Layer | None) -> Law | None:
        if layer is not None:
            return self._product(layer)
        laws = [self._law(x) for x in node.inputs]
        known = [x for x in laws if x is not None]
        if len(known) < len(laws) or len(node.outputs) > 1:
            return None
        match node.op:
            case Elementwise():
                return self._elementwise(node, known)
            case Pad():
                return None
            case Layout():
                return self._moved(node, known[0])
            case Sum():
                return self._summed(node, known[0])
        return None

    def _product(self, layer: Layer) -> Law | None:
        x, w = self._law(layer.signal), self.probe.numbers(layer.weight).astype(float64)
        if x is None:
            return None
        n, y = layer.fan_in, layer.node.outputs[0]
        mean = n * float(w.mean()) * x.mean
        second = float((w * w).mean())
        variance = n * (second * x.second - float(w.mean()) * float(w.mean()) * x.mean * x.mean)
        fan_out = y.size * n / layer.signal.size
        return self._source(y, mean, variance, [(x, fan_out * second * x.slope)])

    def _source(
        self, y: Array, mean: float, variance: float, parents: list[tuple[Law, float]]
    ) -> Law:
        self.edges[y] = [(x.source, gain) for x, gain in parents if x.source is not None]
        return Law.gaussian(y, mean, variance)

    def _moved(self, node: Node, x: Law) -> Law:
        y, before = node.outputs[0], node.inputs[0]
        if y.size == before.size:
            return x
        mean, share = x.mean, y.size / max(before.size, 1)
        law = self._source(y, mean, x.second - mean * mean, [(x, share * x.slope)])
        return Law(x.values, np.ones_like(x.values), y) if x.values.size > 1 else law

    def _summed(self, node: Node, x: Law) -> Law:
        n = node.inputs[0].size / max(node.outputs[0].size, 1)
        mean, variance = x.mean, x.second - x.mean * x.mean
        return self._source(node.outputs[0], n * mean, n * variance, [(x, x.slope)])

    def _elementwise(self, node: Node, laws: list[Law]) -> Law | None:
        sources = list(dict.fromkeys(x.source for x in laws if x.source is not None))
        if len(sources) > 2:
            return None
        grids = [_on_grid(x, sources) for x in laws]
        value, partials = _differentiated(node, [grid[0] for grid in grids])
        if not np.isfinite(value).all():
            return None
        if len(sources) <= 1:
            slope = sum(p * grid[1] for p, grid in zip(partials, grids, strict=True))
            flat = np.ravel(value)
            return Law(flat, np.ravel(slope), sources[0] if sources else None)
        weights = np.outer(WEIGHTS, WEIGHTS)
        mean, second = float((weights * value).sum()), float((weights * value**2).sum())
        parents = []
        for source in sources:
            slope = sum(
                p * grid[1]
                for p, grid, x in zip(partials, grids, laws, strict=True)
                if x.source is source
            )
            whole = Law(np.zeros(1), np.ones(1), source)
            gain = float((weights * np.broadcast_to(slope, (ORDER, ORDER)) ** 2).sum())
            parents.append((whole, gain))
        return self._source(node.outputs[0], mean, second - mean**2, parents)

    def _restarted(self, node: Node) -> Law:
        for x in node.inputs:
            law = self.laws.get(x)
            if law is not None and law.source is not None:
                self.ends.add(law.source)
        y = node.outputs[0]
        numbers = self.probe.numbers(y).astype(float64)
        self.edges[y] = []
        return Law.gaussian(y, float(numbers.mean()), float(numbers.var()))

    # ---- back ----

    def backward(self) -> dict[Array, float]:
        """E[(∂L/∂z)²] of each source, from that of the last layer."""
        layers = self.probe.chain
        last = self.laws.get(layers[-1].z) if layers else None
        found: dict[Array, float] = {}
        if last is None or last.source is None:
            return found
        start = layers[-1].z
        found[last.source] = self._measured(start)
        place = {y: i for i, y in enumerate(self.edges)}
        order = list(self.edges)[: place.get(last.source, -1) + 1]
        for y in reversed(order):
            if y in self.ends and y is not last.source:
                found[y] = self._measured(y)
            for x, gain in self.edges[y]:
                found[x] = found.get(x, 0.0) + gain * found.get(y, 0.0)
        return found

    def _measured(self, x: Array) -> float:
        bar = self.probe.bar(x)
        return 0.0 if bar is None else second_moment(bar)

    def signals(self) -> list[Signal]:
        """The layers in forward order."""
        back, narrow = self.backward(), 0.0
        found = []
        for layer in self.probe.chain:
            law = self.laws.get(layer.z)
            if law is None:
                continue
            source = law.source
            found.append(
                Signal(
                    layer,
                    second_moment(self.probe.numbers(layer.z)),
                    law.second,
                    self._measured(layer.z),
                    math.nan if source is None else back.get(source, math.nan),
                    math.sqrt(5 * narrow),
                )
            )
            narrow += 1 / layer.fan_in
        return found


def _on_grid(x: Law, sources: list[Array]) -> tuple[Numbers, Numbers]:
    """Values and slopes along the axis of its source."""
    if len(sources) < 2:
        return x.values, x.slopes if x.source is not None else np.zeros(1)
    shape = (-1, 1) if x.source is sources[0] else (1, -1)
    slopes = x.slopes if x.source is not None else np.zeros(1)
    return x.values.reshape(shape), slopes.reshape(shape)


def _differentiated(node: Node, operands: list[Numbers]) -> tuple[Numbers, list[Any]]:
    """The value of an elementwise op and its partial derivatives, on the grid."""
    grid = np.broadcast_shapes(*[x.shape for x in operands])
    inputs = tuple(concrete(np.broadcast_to(x, grid).astype(float64)) for x in operands)
    outs = node.op.outputs(*inputs)
    value = outs[0].numpy()
    if not is_float(outs[0].dtype):
        return value.astype(float64), [np.zeros(grid)] * len(operands)
    bars = node.op.cotangents((concrete(np.ones(grid)),), outs, inputs, (True,) * len(operands))
    return value.astype(float64), [0.0 if b is None else b.numpy() for b in bars]
