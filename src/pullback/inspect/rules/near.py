"""Numbers that are about to leave their range, and infinities that do not show in the loss."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pullback.inspect.findings import Finding, Kind, Severity, Threshold
from pullback.inspect.probe import Probe
from pullback.inspect.rules.hazards import masks, partial_nodes
from pullback.inspect.rules.numeric import NUM01, largest
from pullback.inspect.rules.start import Check
from pullback.inspect.seen import Seen
from pullback.ir.array import Array
from pullback.ir.families import Elementwise
from pullback.ir.graph import Node
from pullback.ir.types import Numbers, float16, float64, is_float
from pullback.ops.pointwise import Constant


class NUM03(Check):
    """A near miss: a number of this batch has all but left the range in which it is safe.

    A logarithm, a root or a division of something that is nearly 0, or a result just below the
    largest number of its type. The next steps may make it infinite; then NUM01 stops the run.
    """

    id = "NUM03"
    title = "a near miss"
    kind = Kind.HINT
    severity = Severity.INFO
    fix = "keep the operand inside the domain: pb.maximum(x, 1e-6), a loss that takes logits"
    intended = "a comment on the line: # intended: NUM03"
    source = "GRIST's list of operations; e^x is beyond float32 from 88.7 on"
    least = Threshold(1e-6, "distance of an operand from the end of the domain below", "GRIST")
    most = Threshold(0.9, "log |result| / log of the largest number above", "own")

    @classmethod
    def find(cls, seen: Seen) -> Iterator[Finding]:
        probe = seen.probe
        for node, operand, smooth in partial_nodes(probe):
            assert isinstance(node.op, Elementwise)
            x = _finite(probe.numbers(node.inputs[operand]))
            domain = (node.op.smooth_on() if smooth else node.op.finite_on())[operand]
            if not x.size or node.inputs[operand] not in probe.fed:
                continue
            ends = [end for end in (domain.low, domain.high) if np.isfinite(end)]
            ends += [0.0] if domain.holed else []
            near = min((float(np.abs(x - end).min()) for end in ends), default=1.0)
            if 0 < near < cls.least:
                yield cls.found(
                    f"{node.op.name} of a number {near:.2g} from the end of its domain",
                    node.site,
                    numbers={"distance": near},
                )
        for node in probe.nodes:
            y = node.outputs[0]
            if y in probe.learnt and y in probe.fed and is_float(y.dtype):
                top, bound = _largest(probe, y), largest(y.dtype)
                if top > bound**cls.most:
                    yield cls.found(
                        f"{node.op.name} gives {top:.2g}; the largest {y.dtype.name} is "
                        f"{bound:.2g}",
                        node.site,
                        numbers={"largest": top},
                    )
                    return


def hidden(probe: Probe) -> Iterator[Finding]:
    """Results in half precision that are infinite, of finite operands, behind a finite loss."""
    for node in probe.nodes:
        y = node.outputs[0]
        if y.dtype != float16 or isinstance(node.op, Constant) or y not in probe.fed:
            continue
        born = np.isinf(probe.numbers(y))
        if born.any() and _are_finite(probe, node) and not masks(probe, node):
            yield NUM01.hidden(node, int(born.sum()), born.size)
            return


def _are_finite(probe: Probe, node: Node) -> bool:
    given = [probe.numbers(x) for x in node.inputs if is_float(x.dtype)]
    return all(np.isfinite(x.astype(float64)).all() for x in given)


def _finite(x: Numbers) -> Numbers:
    wide = x.astype(float64)
    return wide[np.isfinite(wide)]


def _largest(probe: Probe, y: Array) -> float:
    """The largest of the numbers, or of their opposites; 0 where one is not finite."""
    x = probe.numbers(y)
    top = max(float(x.max(initial=0)), -float(x.min(initial=0)))
    return top if np.isfinite(top) else 0.0
