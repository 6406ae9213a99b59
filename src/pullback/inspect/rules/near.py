"""Numbers that are about to leave their range, and infinities that do not show in the loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from pullback.inspect.findings import Finding, Kind, Severity, Threshold
from pullback.inspect.probe import Probe
from pullback.inspect.rules.hazards import NUM04, NUM05, NUM06, masks, partial_nodes
from pullback.inspect.rules.numeric import NUM01, largest
from pullback.inspect.rules.start import Check
from pullback.inspect.seen import Seen
from pullback.ir.array import Array
from pullback.ir.families import Elementwise
from pullback.ir.graph import Node
from pullback.ir.range import Range
from pullback.ir.types import Numbers, float16, float64, is_float
from pullback.ops.pointwise import Constant, Exp

if TYPE_CHECKING:
    from pullback.inspect.birth import Birth

FAST = 4.0
"""What grows faster than powers does: it nears the largest number at 4 times its logarithm."""


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
    half = Threshold(0.5, "the same of what overflowed in a later step", "own")

    @classmethod
    def find(cls, seen: Seen) -> Iterator[Finding]:
        probe = seen.probe
        for node, operand, smooth in partial_nodes(probe):
            x = node.inputs[operand]
            if x not in probe.fed:
                continue
            near = _distance(probe.numbers(x), _domains(node, smooth)[operand])
            if near < cls.least:
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


def foretold(probe: Probe, birth: Birth) -> str:
    """What the first step said already of the operation that made a number non-finite later.

    Then it is no consequence of long steps: they came only sooner to where it fails.
    """
    born = birth.forward or birth.node
    for node in probe.nodes:
        same = node.op.name == born.op.name and node.site.frames == born.site.frames
        if same and isinstance(node.op, Elementwise) and node.outputs[0] in probe.learnt:
            said = _by_hazard(probe, node) or _by_pattern(probe, node) or _by_numbers(probe, node)
            if said:
                return f"so much was known at the first step: {said}"
    return ""


def _by_hazard(probe: Probe, node: Node) -> str:
    """What the graph says: of an operand whose range reaches the end of the domain."""
    for rule in (NUM05, NUM06, NUM04):
        for each in rule.within(probe):
            if each.evidence is node and each.severity is not Severity.INFO:
                return f"{each.id}, {each.what}"
    return ""


def _by_pattern(probe: Probe, node: Node) -> str:
    """Powers of a softmax that was written without its largest logit taken off."""
    if not isinstance(node.op, Exp):
        return ""
    for each in (*probe.softmaxes(), *probe.partitions()):
        if probe.same(each.logits, node.inputs[0]):
            return "a softmax by hand, from which the largest logit is not taken off before"
    return ""


def _by_numbers(probe: Probe, node: Node) -> str:
    """A number that is near the end of a domain, or half way, in powers, to the largest one."""
    for smooth in (False, True):
        for x, domain in zip(node.inputs, _domains(node, smooth), strict=False):
            if _distance(probe.numbers(x), domain) < NUM03.least:
                return f"{node.op.name} of a number next to the end of its domain"
    y = node.outputs[0]
    top, bound = _largest(probe, y), largest(y.dtype)
    given = max((_largest(probe, x) for x in node.inputs), default=0.0)
    if top > bound**NUM03.half and given < FAST * np.log(bound):
        return f"{node.op.name} gave {top:.2g} there; the largest {y.dtype.name} is {bound:.2g}"
    return ""


def _domains(node: Node, smooth: bool) -> tuple[Range, ...]:
    assert isinstance(node.op, Elementwise)
    return node.op.smooth_on() if smooth else node.op.finite_on()


def _distance(numbers: Numbers, domain: Range) -> float:
    """From the end of a domain, of the nearest number that is not there itself; ∞ without."""
    ends = [end for end in (domain.low, domain.high) if np.isfinite(end)]
    ends += [0.0] if domain.holed else []
    apart = [np.abs(_finite(numbers) - end) for end in ends]
    return min((float(x[x > 0].min(initial=np.inf)) for x in apart), default=np.inf)


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
