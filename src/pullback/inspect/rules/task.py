"""`OBJ`: losses that fit the task badly, as numbers show it: classes as numbers, penalties."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from pullback.inspect.case import Case
from pullback.inspect.course import FIRST, NEVER, Calm
from pullback.inspect.edits import edited
from pullback.inspect.findings import (
    AS_IT_IS,
    NO_TRIAL,
    Finding,
    Kind,
    Remedy,
    Severity,
    Threshold,
)
from pullback.inspect.heldout import Renewed
from pullback.inspect.probe import Probe
from pullback.inspect.response import decay, undecayed
from pullback.inspect.rules.objective import is_distance
from pullback.inspect.rules.running import Sign
from pullback.inspect.rules.slow import OPT02
from pullback.inspect.rules.start import OPT01, Check
from pullback.inspect.seen import Seen
from pullback.inspect.terms import Compared, Terms, added, compared
from pullback.ir.array import Array
from pullback.ir.graph import Node
from pullback.ir.types import Numbers, is_integer
from pullback.ops.pointwise import Subtract
from pullback.train.state import trained_part

NO_DECAY = Remedy("no weight decay", keeps=True)


class OBJ02(Check):
    """A squared or absolute error on the numbers of classes: class 7 is not more than class 3.

    The targets are whole numbers, few of them different, from 0 on without a gap, and they are
    subtracted from the output. The network then learns a mean of numbers that have no order.
    Whether they have one is asked of the data where a run has shown enough of them: linear
    regressions on the inputs, of the number and of each class apart, are fitted to three quarters
    of the examples. Of grades or counts the first, rounded, is right about as often for the others
    as the likeliest class; of names it is far less often. And it is asked of the network: trained
    on a copy with the classes numbered in another order, it learns as much of names, and less of
    grades.
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
    better = Threshold(0.7, "how often the class is wrong / the number, rounded, below", "own")

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
                why = f"; a linear classifier is wrong {share:.2g} times as often as a regression"
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
            if not (isinstance(node.op, Subtract) and is_distance(probe, node)):
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


def _shorter(moved: Sequence[Numbers], before: Sequence[Numbers]) -> list[float]:
    """Of each weight -⟨change, w⟩ / ⟨w, w⟩."""
    pairs = [(d, w) for d, w in zip(moved, before, strict=True) if w.ndim > 1 and w.any()]
    return [-float(np.vdot(d, w) / np.vdot(w, w)) for d, w in pairs]


class OBJ08(Sign):
    """A part of the loss that is not about the targets, or weight decay, decides the steps.

    The loss is a sum, and something is added to what depends on the targets: a penalty of the
    weights, a divergence, an entropy. Two copies of the beginning are trained, one of them without
    it, and what depends on the targets is compared for examples that neither has seen. Reported is
    what costs a good share of what could be learnt: it may cost a little, and where it keeps a
    network from overfitting it costs nothing.

    Or the optimiser makes weights so much shorter in each step, whatever the gradient is, that
    nothing stays: it was handed gradients of 0 to see it. Or its first steps go where the decay
    goes, as those of Adam with a decay in its gradient do, and a copy without decay learns more.
    """

    id = "OBJ08"
    title = "a penalty or a weight decay that dominates"
    kind = Kind.MEASURE
    severity = Severity.WARN
    fix = "a smaller factor of the penalty, or adamw(weight_decay=...)"
    intended = "intended=('OBJ08',)"
    source = "TheDeepChecker; the comparison is new"
    counts = Threshold(0.05, "‖gradient of what is added‖ / ‖of the rest‖, at least", "own")
    harm = Threshold(0.15, "share of what can be learnt that it costs above", "own")
    least = Threshold(50, "steps, at least", "own")
    alike = Threshold(0.5, "in a loop by hand: difference of weights / it, below", "own")
    pulls = Threshold(0.7, "cosine of a first step and that of no gradient above", "own: 45°")
    shrinks = Threshold(0.02, "share of a weight that decays in one step, above", "1/50 steps")

    @classmethod
    def calm(cls, case: Case) -> Calm:
        return Calm() if case.compared is not None or not cls._doubts(case) else NEVER

    @classmethod
    def _doubts(cls, case: Case) -> bool:
        """Whether what is added to the loss may matter."""
        terms = case.terms
        if terms is None or not case.can_try:
            return False
        return bool(terms.ratio >= cls.counts and math.isfinite(terms.rest))

    @classmethod
    def running(cls, case: Case) -> Iterator[Finding]:
        if case.symptom and case.can_try:
            yield from cls.decays(case)
        if case.symptom:
            yield from cls.shrunk(case)
        yield from cls._pulled(case)
        if case.course.count < cls.least or not cls._doubts(case):
            return
        terms = case.terms
        if case.compared is None:
            case.compared = cls._compared(case, terms)
        found, harm = case.compared, case.compared.harm
        if harm > cls.harm:
            part = max(added(case.first.probe), key=lambda x: _size(case.first.probe, x.value))
            maker = case.first.probe.makers.get(part.value)
            yield cls.found(
                f"what is added to the loss costs {harm:.0%} of what can be learnt",
                (maker or part.node).site,
                why=f"of examples held out the rest of the loss falls from {found.start:.3g} to "
                f"{found.whole:.3g}, without it to {found.alone:.3g}; its gradient is "
                f"{terms.ratio:.2g}x that of the rest at the start",
                numbers={"harm": harm, "ratio": terms.ratio},
                effect=harm,
            )

    @classmethod
    def _compared(cls, case: Case, terms: Terms) -> Compared:
        assert case.job is not None
        assert case.job.optimizer is not None
        probe = case.first.probe
        rest = edited(probe, {x.node: x.taken_out() for x in added(probe)})
        alone = replace(case.job, loss_fn=rest, has_aux=False)
        whole, rest_alone = [x.step(case.job.optimizer) for x in (case.job, alone)]
        baseline = terms.baseline
        constant = math.nan if baseline is None else baseline.loss(case.batches)
        return compared(whole, rest_alone, case.initial, case.batches, constant)

    @classmethod
    def _pulled(cls, case: Case) -> Iterator[Finding]:
        """The decay decides where the first steps go, and less is learnt for it."""
        along, without = case.pull
        if not (along > cls.pulls and along > without) or case.course.count < cls.least:
            return
        if not case.can_try:
            return
        if case.decayed is None:
            case.decayed = cls._undecayed(case)
        found = case.decayed
        if found.harm > cls.harm:
            yield cls.found(
                f"the weight decay decides the steps, and costs {found.harm:.0%} of what can be "
                "learnt",
                None,
                why=f"cosine of a step and that of no gradient: {along:.2g}; of examples held out "
                f"the loss falls from {found.start:.3g} to {found.whole:.3g}, without decay to "
                f"{found.alone:.3g}",
                fix="a smaller weight_decay, or adamw, which keeps it out of Adam's gradient",
                numbers={"harm": found.harm, "cosine": along},
                remedies=(NO_TRIAL,),
                effect=found.harm,
            )

    @classmethod
    def _undecayed(cls, case: Case) -> Compared:
        assert case.job is not None
        assert case.job.optimizer is not None
        own = case.job.optimizer
        whole, alone = [case.job.step(x) for x in (own, undecayed(own))]
        constant = math.nan if case.baseline is None else case.baseline.loss(case.batches)
        return compared(whole, alone, case.initial, case.batches, constant)

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
                remedies=(NO_DECAY,),
            )

    @classmethod
    def behind(cls, case: Case, again: Renewed) -> Iterator[Finding]:
        """A run that has learnt less than Adam does, and would not have without its decay."""
        if not OPT02.is_behind(case, again):
            return
        remedies = (AS_IT_IS, NO_DECAY, OPT01.remedies[0], OPT02.remedies[0])
        own, free, *rates = [case.clinic.renewed_with(x, again.steps) for x in remedies]
        if own - free > cls.harm * (again.start - free) and free < min(rates):
            yield cls.found(
                f"the run has learnt less in {case.course.count} steps than it does in "
                f"{again.steps} without weight decay",
                None,
                severity=Severity.WARN,
                why="loss of batches that were held out, from the same beginning: "
                f"{again.start:.3g} -> {own:.3g}; without weight decay -> {free:.3g}",
                fix="a smaller weight_decay, or adamw, which keeps it out of the gradient",
                numbers={"run": again.run, "own": own, "free": free},
                effect=min(again.behind(free), 1.0),
            )


def _size(probe: Probe, x: Array) -> float:
    return abs(float(probe.numbers(x).astype(np.float64).mean()))
