"""A loss that is a sum: what says how right the output is, and what is added to it.

What is added (a penalty of the weights, a divergence, an entropy) is taken out on a copy, and the
rest is compared for examples that neither copy has seen.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback.inspect.baseline import Baseline
from pullback.inspect.edits import Change, edited
from pullback.inspect.heldout import mean_loss
from pullback.inspect.probe import Probe, norm
from pullback.inspect.rules.objective import is_error
from pullback.ir.array import Array, numbers_of
from pullback.ir.graph import Node, depends_on
from pullback.ir.types import float64
from pullback.ops.layout import Layout
from pullback.ops.operators import broadcast_to
from pullback.ops.pointwise import Add, Divide, Multiply, Negative, Subtract
from pullback.ops.reduce import Sum
from pullback.train.state import copied
from pullback.train.step import TrainStep
from pullback.transforms.derivatives import value_and_grad
from pullback.transforms.tree import flatten

STEPS = 120
SECONDS = 3.0
"""Processor time of one training, after its first step."""
HELD = 4
"""One batch of so many is held out."""


@dataclass(frozen=True, slots=True, eq=False)
class Added:
    """An operand of an addition on the way to the loss that is not about the targets."""

    node: Node
    place: int
    value: Array

    def taken_out(self) -> Change:
        """The addition without it."""
        node, place = self.node, self.place

        def change(*given: Array) -> Array:
            kept = broadcast_to(given[1 - place], node.outputs[0].shape)
            return -kept if isinstance(node.op, Subtract) and place == 0 else kept

        return change


def added(probe: Probe) -> list[Added]:
    """What is added to the part of the loss that depends on the targets, or on the output."""
    sources = [x for x in probe.integers_beside() if x.shape[:1] == (probe.batch,)]
    if not sources and probe.output is not None:
        sources = [probe.output]
    main = depends_on(probe.nodes, sources)
    within = {y for n in (probe.network.nodes if probe.network else ()) for y in n.outputs}
    last = set() if probe.output is None else depends_on(probe.nodes, [probe.output])
    is_known = probe.classes > 1 or any(
        isinstance(n.op, Subtract) and is_error(probe, n) for n in probe.nodes
    )  # else it may be a part of a likelihood, which means nothing without it
    x, found = probe.graph.outputs[0], []
    while x in main and x not in within:
        node = probe.makers.get(x)
        if node is None:
            break
        sides = [i for i, y in enumerate(node.inputs) if y in probe.learnt]
        if isinstance(node.op, Add | Subtract) and len(node.inputs) == 2:
            mains = [i for i, y in enumerate(node.inputs) if y in main and y in probe.learnt]
            if len(mains) != 1:
                break
            other = 1 - mains[0]
            if other in sides and (is_known or node.inputs[other] not in last):
                found.append(Added(node, other, node.inputs[other]))
            x = node.inputs[mains[0]]
        elif isinstance(node.op, Layout | Sum | Negative):
            x = node.inputs[0]
        elif isinstance(node.op, Multiply | Divide) and len(sides) == 1:
            x = node.inputs[sides[0]]
        else:
            break
    return found


@dataclass(frozen=True, slots=True)
class Terms:
    """The parts of a loss at the beginning."""

    rest: float
    """The loss without what is added."""
    ratio: float
    """‖gradient of what is added‖ / ‖gradient of the rest‖."""
    baseline: Baseline | None
    """Of the rest, the best constant output."""

    @classmethod
    def of(cls, probe: Probe, model: Any, batch: Sequence[Any]) -> Terms | None:
        """None for a loss to which nothing is added."""
        parts = added(probe)
        if not parts:
            return None
        rest = edited(probe, {x.node: x.taken_out() for x in parts})
        value, grads = value_and_grad(rest)(model, *batch)
        slopes = [numbers_of(g).astype(float64) for g in flatten(grads)[0]]
        bars = [probe.bar(x) for x in probe.replay.parameters]
        if len(bars) != len(slopes):
            return None
        whole = [np.zeros(g.shape) if b is None else b for b, g in zip(bars, slopes, strict=True)]
        apart = math.hypot(*[norm(b - g) for b, g in zip(whole, slopes, strict=True)])
        size = math.hypot(*map(norm, slopes))
        ratio = apart / size if size else math.inf
        return cls(float(value), ratio, Baseline.of(probe, float(value)))


@dataclass(frozen=True, slots=True)
class Compared:
    """The rest of the loss, of examples held out: at the beginning, and after two trainings."""

    start: float
    whole: float
    """After training with all that is added."""
    alone: float
    """After training with nothing added."""

    @property
    def harm(self) -> float:
        """The share of what can be learnt that is not, with what is added; to 1."""
        room = self.start - self.alone
        if not (math.isfinite(self.alone) and room > 0):
            return 0.0
        whole = self.whole if math.isfinite(self.whole) else self.start
        return min((whole - self.alone) / room, 1.0)


def compared(
    whole: TrainStep, alone: TrainStep, state: Any, batches: Sequence[Any], constant: float
) -> Compared:
    """Two trainings from the same state; `constant` bounds the start where it is known."""
    held = list(batches[: max(len(batches) // HELD, 1)])
    own = list(batches[len(held) :]) or held

    start = mean_loss(alone, state, held)
    ends = [mean_loss(alone, _trained(x, copied(state), own), held) for x in (whole, alone)]
    return Compared(min(start, constant) if math.isfinite(constant) else start, *ends)


def _trained(step: TrainStep, state: Any, batches: Sequence[Any]) -> Any:
    until = math.inf
    for i in range(STEPS):
        state, metrics = step(state, *batches[i % len(batches)])
        until = min(until, time.process_time() + SECONDS)
        if not math.isfinite(float(metrics.loss)) or time.process_time() > until:
            break
    return state
