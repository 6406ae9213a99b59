"""What a later pass over a row computes again, and what it reads back."""

from __future__ import annotations

from collections.abc import Callable

from pullback.schedule.kernels import Apply, Element, Step


class _Atoms:
    """A scalar algebra that only notes which operations a body uses."""

    def __init__(self) -> None:
        self.used: set[str] = set()

    def __getattr__(self, operation: str) -> Callable[..., None]:
        self.used.add(operation)
        return lambda *operands: None


_CHEAP = frozenset(
    [
        *(
            "const",
            "literal",
            "cast",
            "bitcast",
            "bits",
            "number",
            "add",
            "sub",
            "mul",
            "neg",
            "fma",
            "abs",
            "copysign",
        ),
        *("minimum", "maximum", "floor", "ceil", "trunc", "round"),
        *("less", "less_equal", "equal", "select"),
        *("bit_and", "bit_or", "bit_xor", "bit_not", "shift_left", "shift_right"),
    ]
)


def is_costly(step: Step) -> bool:
    """Whether a step does more than arithmetic that a vector unit does at once."""
    if isinstance(step, Element):
        return bool(step.operands)
    if not isinstance(step, Apply):
        return False
    atoms = _Atoms()
    step.op.body(atoms, *([None] * len(step.arguments)))
    return not atoms.used <= _CHEAP
