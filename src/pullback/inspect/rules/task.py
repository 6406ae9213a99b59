"""`OBJ`: losses that fit the task badly, as numbers show it: classes as numbers, penalties."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pullback.errors import Site
from pullback.inspect.case import Case
from pullback.inspect.course import FIRST, NEAR
from pullback.inspect.findings import NO_TRIAL, Finding, Kind, Remedy, Severity, Threshold
from pullback.inspect.probe import Probe, norm
from pullback.inspect.response import decay
from pullback.inspect.rules.objective import is_error
from pullback.inspect.rules.running import Sign
from pullback.inspect.rules.start import Check
from pullback.inspect.seen import Seen
from pullback.ir.array import Array, concrete
from pullback.ir.families import Elementwise
from pullback.ir.graph import Graph, Node, needed_nodes
from pullback.ir.types import Numbers, is_integer
from pullback.ops.layout import Layout
from pullback.ops.pointwise import Add, Subtract
from pullback.ops.reduce import Sum
from pullback.train.state import trained_part
from pullback.transforms.derivatives import grad
from pullback.transforms.walk import inline


class OBJ02(Check):
    """A squared or absolute error on the numbers of classes: class 7 is not more than class 3.

    The targets are whole numbers, few of them different, from 0 on without a gap, and they are
    subtracted from the output. The network then learns a mean of numbers that have no order.
    Whether they have one is asked of the data where a run has shown enough of them: linear
    regressions on the inputs, of the number and of each class apart, are fitted to three quarters
    of the examples. Of grades or counts the first predicts the others better; of names the second.
    And it is asked of the network: trained on a copy with the classes numbered in another order, it
    learns as much of names, and less of grades.
    """

    id = "OBJ02"
    title = "a squared error on the numbers of classes"
    kind = Kind.MEASURE
    severity = Severity.WARN
    fix = "an output for each class, and pb.nn.cross_entropy(logits, labels)"
    intended = "a comment on the line: # intended: OBJ02 grades from 0 to 5"
    source = "TheDeepChecker; Stack Overflow 46642627"
    fewest = Threshold(3, "different values, at least", "own: two classes are a number as good")
    most = Threshold(20, "different values, at most", "TheDeepChecker")
    learnt = Threshold(0.8, "or: of the variance less is left for other examples", "own")
    alike = Threshold(1.5, "and what is left with other numbers / with these, below", "own")
    enough = Threshold(256, "examples that are asked, at least", "own")
    better = Threshold(
        0.7, "squared error of the class / of the number that is predicted, below", "own"
    )

    @classmethod
    def find(cls, seen: Seen) -> Iterator[Finding]:
        """Of whole numbers by type; whether they have an order a batch is too few to say."""
        for node, root, count in cls.errors(seen.probe):
            if is_integer(root.dtype):
                yield cls._of(seen.probe, node, root, count, Severity.INFO, "")

    @classmethod
    def running(cls, case: Case) -> Iterator[Finding]:
        """With the examples of the first batches."""
        if case.job is None or case.course.count < FIRST:
            return
        probe = case.first.probe
        order = [x for x in probe.replay.graph.inputs if x in probe.replay.data]
        for node, root, count in cls.errors(probe):
            place = next(i for i, x in enumerate(order) if x is root)
            share = case.unordered(place, cls.enough)
            if share < cls.better:
                why = f"; a linear classifier has {share:.0%} of the squared error of a regression"
                yield cls._of(probe, node, root, count, Severity.WARN, why)

    @classmethod
    def renumbered(cls, case: Case) -> Iterator[Finding]:
        """Whether the network learns as much of the classes with other numbers for them."""
        probe = case.first.probe
        order = [x for x in probe.replay.graph.inputs if x in probe.replay.data]
        for node, root, count in cls.errors(probe):
            place = next(i for i, x in enumerate(order) if x is root)
            if len(case.batches) < 8 or sum(len(x[place]) for x in case.batches) < cls.enough:
                return
            own, other = case.clinic.renumbered(place)
            if own < cls.learnt and other < cls.alike * own:
                why = (
                    f"; numbered in another order they are learnt as well: of their variance "
                    f"{own:.2g} is left, and {other:.2g}"
                )
                yield cls._of(probe, node, root, count, Severity.WARN, why)

    @classmethod
    def errors(cls, probe: Probe) -> Iterator[tuple[Node, Array, int]]:
        """Differences of an output and targets that may be classes: node, targets, how many."""
        for node in probe.nodes:
            if not isinstance(node.op, Subtract):
                continue
            if not (is_error(probe, node) or _is_row(probe, node)):
                continue
            for x in node.inputs:
                root = probe.strip(x)
                if root not in probe.replay.data or not root.size:
                    continue
                values = np.unique(probe.numbers(root).astype(np.float64))
                count = int(values[-1]) + 1 if np.isfinite(values).all() else 0
                whole = bool((values == np.round(values)).all()) and values[0] == 0
                if whole and cls.fewest <= len(values) and count <= min(cls.most, 2 * len(values)):
                    yield node, root, count

    @classmethod
    def _of(
        cls, probe: Probe, node: Node, root: Array, count: int, severity: Severity, why: str
    ) -> Finding:
        return cls.found(
            f"a squared error on the numbers 0 to {count - 1} of classes",
            node.site,
            severity=severity,
            why=f"{probe.replay.names[root]} is {root.type}: its numbers name classes, and the "
            f"loss takes their differences{why}",
            numbers={"values": count},
        )


def _is_row(probe: Probe, node: Node) -> bool:
    """Whether the loss is made of a difference by functions of each element, and sums."""
    reached = {node.outputs[0]}
    for each in probe.nodes:
        if not reached.isdisjoint(each.inputs):
            if not isinstance(each.op, Elementwise | Sum | Layout):
                return False
            reached.update(each.outputs)
    return probe.graph.outputs[0] in reached


@dataclass(frozen=True, slots=True)
class Terms:
    """A loss that is a sum: what depends on the data, and what on the parameters alone."""

    data: float
    penalty: float
    ratio: float
    """‖gradient of the penalty‖ / ‖gradient of the rest‖."""
    site: Site | None
    """Where the largest penalty is added."""

    @classmethod
    def of(cls, probe: Probe) -> Terms | None:
        """None for a loss without a penalty."""
        mine = [x for x in _addends(probe) if x in probe.learnt and x not in probe.fed]
        if not mine:
            return None
        penalty = sum(float(probe.numbers(x)) for x in mine)
        parameters = [x for x in probe.replay.parameters if probe.bar(x) is not None]
        graph = probe.replay.graph
        part = Graph(graph.inputs, needed_nodes(probe.nodes, mine), tuple(mine))
        given = {x: concrete(probe.numbers(x)) for x in graph.inputs}

        def alone(values: list[Array]) -> Array:
            fed = given | dict(zip(parameters, values, strict=True))
            terms = inline(part, [fed[x] for x in graph.inputs])
            total = terms[0]
            for each in terms[1:]:
                total = total + each
            return total

        slopes = [g.numpy() for g in grad(alone)([given[x] for x in parameters])]
        bars = [probe.bar(x) for x in parameters]
        rest = [b - g for b, g in zip(bars, slopes, strict=True) if b is not None]
        own, others = [math.hypot(*map(norm, each)) for each in (slopes, rest)]
        largest = max(mine, key=lambda x: abs(float(probe.numbers(x))))
        maker = probe.makers.get(largest)
        ratio = own / others if others else math.inf
        return cls(probe.loss - penalty, penalty, ratio, None if maker is None else maker.site)


def _shorter(moved: Sequence[Numbers], before: Sequence[Numbers]) -> list[float]:
    """Of each weight -⟨change, w⟩ / ⟨w, w⟩."""
    pairs = [(d, w) for d, w in zip(moved, before, strict=True) if w.ndim > 1 and w.any()]
    return [-float(np.vdot(d, w) / np.vdot(w, w)) for d, w in pairs]


def _addends(probe: Probe) -> list[Array]:
    """What is added up to the loss."""
    waiting, found = [probe.graph.outputs[0]], []
    while waiting:
        x = probe.strip(waiting.pop())
        node = probe.makers.get(x)
        if node is not None and isinstance(node.op, Add) and x.shape == ():
            waiting += node.inputs
        else:
            found.append(x)
    return found if len(found) > 1 else []


class OBJ08(Sign):
    """A penalty of the parameters, or the optimiser's weight decay, decides the steps.

    The loss is a sum, and one part of it depends on the parameters alone. Its gradient is longer
    than that of the rest, and the rest does not fall, or is still that of a constant output. Or the
    optimiser makes weights so much shorter in each step, whatever the gradient is, that nothing
    stays: it was handed gradients of 0 to see it.
    """

    id = "OBJ08"
    title = "a penalty or a weight decay that dominates"
    kind = Kind.MEASURE
    severity = Severity.WARN
    fix = "a smaller factor of the penalty, or adamw(weight_decay=...)"
    intended = "intended=('OBJ08',)"
    source = "TheDeepChecker"
    dominates = Threshold(1.0, "‖gradient of the penalty‖ / ‖of the rest‖ above", "TheDeepChecker")
    still = Threshold(0.05, "the rest fell by less than, relative", "TheDeepChecker")
    least = Threshold(50, "steps, at least", "own")
    alike = Threshold(0.5, "in a loop by hand: difference of weights / it, below", "own")
    shrinks = Threshold(0.02, "share of a weight that decays in one step, above", "1/50 steps")

    @classmethod
    def running(cls, case: Case) -> Iterator[Finding]:
        if case.course.symptom and case.can_try:
            yield from cls.decays(case)
        if case.course.symptom:
            yield from cls.shrunk(case)
        before = case.terms
        if before is None or case.course.count < cls.least or not before.ratio > cls.dominates:
            return
        now = None if case.present is None else Terms.of(case.present.probe)
        if now is None:
            return
        learns = before.data - now.data >= cls.still * abs(before.data)
        if learns and not now.data > NEAR * case.course.baseline:
            return
        yield cls.found(
            f"the penalty dominates: its gradient is {before.ratio:.3g}x that of the rest",
            before.site,
            why=f"in {case.course.count} steps the penalty went from {before.penalty:.3g} to "
            f"{now.penalty:.3g}, the rest from {before.data:.3g} to {now.data:.3g}",
            numbers={"ratio": before.ratio, "rest": [before.data, now.data]},
        )

    @classmethod
    def shrunk(cls, case: Case) -> Iterator[Finding]:
        """In a loop written by hand: all weights become shorter by one share in each step."""
        shares = [_shorter(x.moved, x.before) for x in case.handed]
        if len(shares) < 3 or not all(shares):
            return
        every = np.concatenate(shares)
        share = float(np.median(every))
        if share > cls.shrinks and np.abs(every - share).max() < cls.alike * share:
            yield cls.found(
                f"each step takes {share:.2g} of each weight",
                case.line("scaled"),
                why=f"so it was in {len(shares)} steps; after {math.ceil(1 / share)} steps next to "
                "nothing of a weight is left",
                fix="a smaller factor of the decay: each step takes rate times decay of a weight",
                numbers={"share": share},
                remedies=(NO_TRIAL,),
            )

    @classmethod
    def decays(cls, case: Case) -> Iterator[Finding]:
        """The optimiser's own decay of the weights."""
        assert case.job is not None
        assert case.job.optimizer is not None
        share = decay(case.job.optimizer, trained_part(case.initial.model))
        if share > cls.shrinks:
            yield cls.found(
                f"the weight decay takes {share:.2g} of each weight in every step",
                None,
                why="it does so for a gradient of 0; after "
                f"{math.ceil(1 / share)} steps next to nothing of a weight is left",
                fix="a smaller weight_decay: each step takes rate times weight_decay of a weight",
                numbers={"share": share},
                remedies=(Remedy("no weight decay", keeps=True),),
            )
