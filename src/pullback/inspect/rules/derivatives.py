"""`VER02`: derivatives that differences contradict."""

from __future__ import annotations

from collections.abc import Iterator

from pullback.errors import NotDifferentiableError, PullbackError
from pullback.inspect.check_grads import check_grads
from pullback.inspect.custom_rules import Tried, wrong_rules
from pullback.inspect.findings import Finding, Place, Severity, Threshold
from pullback.inspect.rules.start import Check
from pullback.inspect.seen import Seen
from pullback.inspect.trials import WRONG
from pullback.ops.pointwise import StopGradient


class VER02(Check):
    """A derivative is wrong: it differs from finite differences in float64.

    Each rule that was given by `custom_derivative` is tried alone, at the numbers that it met and
    at multiples of them, element by element, so that a mistake behind a mask or in one branch is
    seen and a kink is not taken for one. The line is that of the rule. Of a function whose slope
    is 1 or 0 everywhere (the identity, a rounding) another derivative is meant.

    The gradient's product with a direction is then compared with the slope of the loss along it,
    at two step lengths. Where they differ every operation is examined alone, to name the one whose
    rule is wrong.
    """

    id = "VER02"
    title = "a wrong derivative"
    severity = Severity.FAIL
    comes = Place.DERIVATIVE
    fix = "correct the rule: pb.check_grads shows both numbers element by element"
    intended = "a comment on the line of the rule: # intended: VER02 a bounded gradient"
    source = "gradcheck's tolerances, JAX's check_grads; localisation is new"
    error = Threshold(WRONG, "relative error above", "gradcheck")

    @classmethod
    def find(cls, seen: Seen) -> Iterator[Finding]:
        tried = list(wrong_rules(seen.part.probe.nodes))
        wrong = [x for x in tried if not x.is_meant]
        if wrong:
            yield from map(cls._of_rule, wrong)
        elif not tried and not cls._is_stopped(seen):
            yield from cls._of_loss(seen)

    @classmethod
    def _of_rule(cls, it: Tried) -> Finding:
        found = it.mismatch
        return cls.found(
            f"the derivative of {it.name} is wrong: {found.found:.6g}, measured "
            f"{found.expected:.6g}",
            it.site,
            why=it.guess or f"{found.place}: relative error {found.relative:.1e}",
            numbers={"rule": found.found, "measured": found.expected},
        )

    @classmethod
    def _of_loss(cls, seen: Seen) -> Iterator[Finding]:
        slope = seen.slope
        if slope is None or not slope.is_wrong:
            return
        it = seen.subject
        site, told = None, "the rule of an operation is wrong"
        try:
            check_grads(lambda model: seen.loss(model, *it.batch), (it.model,), order=1)
        except NotDifferentiableError:
            return  # a kink, where no derivative is right
        except PullbackError as error:
            site, told = error.site, error.what
        yield cls.found(
            f"the gradient along a direction is {slope.rule:.6g}, measured {slope.measured:.6g}",
            site,
            why=told,
            numbers={"rule": slope.rule, "measured": slope.measured},
        )

    @classmethod
    def _is_stopped(cls, seen: Seen) -> bool:
        """Whether the loss asks for another gradient than its own, by a `stop_gradient`."""
        nodes = seen.probe.nodes
        return any(
            isinstance(x.op, StopGradient) and x.inputs[0] in seen.probe.learnt for x in nodes
        )
