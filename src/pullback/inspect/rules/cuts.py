"""`CUT`: gradients that are missing, or exactly 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pullback.errors import Site
from pullback.inspect.findings import Finding, Rule, Severity, short_place, with_lines
from pullback.ir.graph import Node
from pullback.ops.pointwise import DeclaredStop

if TYPE_CHECKING:
    from pullback.inspect.cuts import Cut, Death, Detour


class CUT01(Rule):
    """A parameter cannot learn: no derivative passes from it to the loss.

    Either its value never reaches the loss, or every way there passes an operation that gives no
    derivative back: `stop_gradient`, a cast to integers, a comparison, argmax, rounding, or a
    detour through NumPy or a Python number. Cuts that lie one behind the other are all named,
    because to open the first would not be enough.

    A parameter whose cotangent is 0 *by its numbers* is CUT04.
    """

    id = "CUT01"
    title = "a parameter that the loss does not reach"
    severity = Severity.FAIL
    fix = (
        "take the cut out; where its value must stay as it is, pb.straight_through(hard, soft) "
        "lets the derivative of soft by"
    )
    intended = (
        'pb.stop_gradient(x, why="..."), nn.freeze(model, path), or a comment on the line: '
        "# intended: CUT01"
    )
    source = "torchtest gives the name only; the cuts are found by forward reachability"

    @classmethod
    def cut(cls, name: str, cuts: Sequence[Cut]) -> Finding:
        first = cuts[0]
        reasons = [x.node.op.why for x in cuts if isinstance(x.node.op, DeclaredStop)]
        beside = [x for x in cuts[1:] if x.depth == 0]
        behind = [x for x in cuts[1:] if x.depth > 0]
        why = f"{first.reason}; the loss reads {name} only through it"
        if beside:
            why = f"{first.reason}; every way from {name} to the loss is cut"
        notes = [f"also cut beside it: {said(x.reason, x.node.site)}" for x in beside]
        notes += [f"and cut again behind it: {said(x.reason, x.node.site)}" for x in behind]
        return cls.found(
            f"{name} gets no gradient: cut by {first.node.op.name}",
            first.node.site,
            why=why,
            notes=tuple(notes),
            numbers={"parameter": name, "cuts": [x.node.op.name for x in cuts]},
            evidence=tuple(cuts),
            declared=reasons[0] if reasons else "",
        )

    @classmethod
    def detour(cls, name: str, detours: Sequence[Detour]) -> Finding:
        first = detours[0]
        return cls.found(
            f"{name} gets no gradient: its value takes a detour outside the graph",
            first.place,
            why=f"this line uses {first.what}"
            if first.start is None
            else "this line takes its numbers out of the graph",
            fix="compute it with the pullback functions of the same names, all the way",
            notes=tuple(
                [f"it comes back as {said(first.what, first.site)}"] * (first.start is not None)
                + [f"also: {said(x.what, x.place)}" for x in detours[1:]]
            ),
            numbers={"parameter": name, "cuts": ["numpy"] * len(detours)},
            evidence=tuple(detours),
        )

    @classmethod
    def by_rule(cls, name: str, node: Node) -> Finding:
        """The rule of the operation gives no derivative for this operand."""
        return cls.found(
            f"{name} gets no gradient: {node.op.name} has none for it",
            node.site,
            why=f"the rule of {node.op.name} takes this operand as a constant",
            numbers={"parameter": name, "cuts": [node.op.name]},
            evidence=node,
        )

    @classmethod
    def unused(cls, name: str, site: Site | None) -> Finding:
        why = "the loss does not read it"
        if site is not None:
            why = "the loss does not depend on what is computed from it here"
        return cls.found(
            f"{name} gets no gradient: never used by the loss",
            site,
            why=why,
            fix="use it, or take it out of the model",
            numbers={"parameter": name, "cuts": []},
        )


class CUT04(Rule):
    """The gradient of a parameter is exactly 0, in every element, although a derivative can pass.

    The replay followed the cotangent from the loss to the operation behind which it was all 0: a
    dead ReLU layer, a mask that chooses nothing, a saturated sigmoid or tanh, a factor that is 0,
    a softmax over one element, contributions that cancel, or an underflow.

    At the first step a zero-initialised layer behind the parameter has the same sign: if the
    gradient is still 0 after one step, it is a fault.
    """

    id = "CUT04"
    title = "a gradient that is exactly 0"
    severity = Severity.WARN
    follows = True
    fix = "per cause: another initialisation or a smaller rate, a leaky activation, the right mask"
    intended = "zero-initialised layers are fine at step 0; look again after one step"
    source = "torchtest's two-step check; where it dies is found by the replay"

    @classmethod
    def died(cls, name: str, deaths: Sequence[Death]) -> Finding:
        if not deaths:
            return cls.found(f"the gradient of {name} is 0: that of the loss is", None)
        first = deaths[0]
        return cls.found(
            f"the gradient of {name} is 0: it dies in {first.name}",
            first.node.site if first.source is None else with_lines(first.node.site, first.source),
            why=first.reason,
            fix=first.fix or cls.fix,
            notes=tuple(
                [said("what lets nothing pass is made here:", x) for x in (first.source,) if x]
                + [f"and on another way: {said(x.reason, x.node.site)}" for x in deaths[1:4]]
            ),
            numbers={"parameter": name, "operations": [x.name for x in deaths]},
            evidence=tuple(deaths),
        )


def said(text: str, site: Site | None) -> str:
    """A reason with its line."""
    return f"{text}  {short_place(site)}".rstrip()
