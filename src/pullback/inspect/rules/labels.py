"""Labels that a loss of yes and no was not made for, for `OBJ03`."""

from __future__ import annotations

import numpy as np

from pullback.inspect.answers import loss_of
from pullback.inspect.probe import Probe
from pullback.inspect.rules.ending import logistic
from pullback.ir.array import Array
from pullback.ir.graph import Node
from pullback.ir.types import float64, is_float
from pullback.ops.pointwise import Multiply, Negative


def labels_below(probe: Probe) -> tuple[Array, float] | None:
    """The targets of a loss of yes and no that lie outside [0, 1], and what it falls to for it.

    Of labels within, such a loss is 0 or more wherever the logits are. With others it falls without
    end, or to the logarithm of what keeps it finite: asked of logits of 10 and of 1000.
    """
    out, beside = probe.output, _beside(probe)
    if out is None or len(beside) != 1 or probe.draws_beyond:
        return None
    if not any(logistic(probe, node) for node in probe.nodes):
        return None
    (x,) = beside
    wide = probe.numbers(x).astype(float64)
    if x.size != out.size or not np.isfinite(wide).all() or (wide.min() >= 0 and wide.max() <= 1):
        return None
    y = wide.reshape(out.shape)
    for way in (np.sign(y), np.sign(y - y.mean()), np.ones(y.shape), -np.ones(y.shape)):
        near, far = [loss_of(probe, out, t * way) for t in (10.0, 1000.0)]
        if far <= near and far < -1:
            return x, far
    return None


def labels_ignored(probe: Probe) -> tuple[Array, Node] | None:
    """Labels 0 and 1 that multiply the logits, where those with a 0 have no slope.

    A hinge or a logistic loss of y · z wants -1 and 1. A mask does so too, of what is compared.
    """
    out, beside = probe.output, _beside(probe)
    bar = None if out is None else probe.bar(out)
    if out is None or bar is None or len(beside) != 1 or probe.network is None:
        return None
    (x,) = beside
    inputs = probe.inputs_of(probe.network)
    if x.size != out.size or any(z.size == out.size and is_float(z.dtype) for z in inputs):
        return None
    y = probe.numbers(x).reshape(bar.shape)
    if not np.isin(y, (0, 1)).all() or y.min() == y.max():
        return None
    if bar[y == 0].any() or not bar[y == 1].any():
        return None
    for node in probe.nodes:
        if isinstance(node.op, Multiply):
            sides = {probe.strip(z, Negative) for z in node.inputs}
            if sides == {x, probe.strip(out)}:
                return x, node
    return None


def _beside(probe: Probe) -> list[Array]:
    """The targets, and what else has a row for each sample and is not read by the network."""
    return [x for x in probe.integers_beside() if x.shape[:1] == (probe.batch,)]
