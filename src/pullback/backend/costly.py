"""What a later pass over a row computes again, and what it reads back."""

from __future__ import annotations

from pullback.ir.costly import has_costly_body
from pullback.schedule.kernels import Apply, Element, Step


def is_costly(step: Step) -> bool:
    """Whether a step does more than arithmetic that a vector unit does at once."""
    if isinstance(step, Element):
        return bool(step.operands)
    return isinstance(step, Apply) and has_costly_body(step.op.body, len(step.arguments))
