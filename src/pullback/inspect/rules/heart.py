"""`VER01`: whether one batch can be learnt by heart."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pullback.inspect.findings import Finding, Kind, Severity, Threshold
from pullback.inspect.reference import STEPS, by_heart
from pullback.inspect.rules.start import Check
from pullback.inspect.seen import Seen
from pullback.inspect.trials import ENOUGH, LEAST


class VER01(Check):
    """The network cannot learn one batch by heart.

    One batch, up to 200 steps of Adam: the loss of a sound network, loss and gradient falls to a
    tenth. If it does not move, nothing that follows can help; look at what else is reported, then
    at the gradients: `pb.explain(loss_fn, model, *batch)`.
    """

    id = "VER01"
    title = "one batch cannot be learnt by heart"
    kind = Kind.MEASURE
    severity = Severity.WARN
    fix = "look at the gradients: print(pb.explain(loss_fn, model, *batch))"
    source = "Karpathy's recipe, torchtest2; TheDeepChecker (16 samples, 1000 steps, 5 %)"
    nothing = Threshold(1e-3, "FAIL where the loss fell by less than, relative", "torchtest2")
    little = Threshold(ENOUGH, "WARN where the loss fell by less than, relative", "TheDeepChecker")

    @classmethod
    def find(cls, seen: Seen) -> Iterator[Finding]:
        if not seen.symptom:
            return
        fitted = seen.fitted_by_adam
        if fitted.fall >= cls.little:
            return
        count = len(fitted.losses) - 1
        still = fitted.fall < cls.nothing
        yield cls.found(
            f"one batch is not learnt by heart: loss {fitted.start:.4g} -> {fitted.end:.4g} "
            f"in {count} steps of Adam",
            None,
            severity=Severity.FAIL if still and count >= LEAST else Severity.WARN,
            notes=cls._beside(seen),
            numbers={"start": fitted.start, "end": fitted.end, "steps": count},
        )

    @classmethod
    def _beside(cls, seen: Seen) -> tuple[str, ...]:
        """What a linear map in place of the network does with the batch."""
        found = by_heart(seen.probe, seen.subject.batch, STEPS)
        if found is None or not all(map(math.isfinite, found)):
            return ()
        constant, linear = found
        learns = constant - linear > cls.little * abs(constant)
        where = "it is the network" if learns else "look at the loss and the data"
        return (
            f"a linear map of the inputs: loss {linear:.3g}; a constant: {constant:.3g}: {where}",
        )
