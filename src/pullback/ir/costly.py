"""Which elementwise work is next to nothing, and which is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


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


def has_costly_body(body: Callable[..., Any], count: int) -> bool:
    """Whether a scalar function of so many numbers does more than a vector unit does at once."""
    atoms = _Atoms()
    try:
        body(atoms, *([None] * count))
    except NotImplementedError:
        return True
    return not atoms.used <= _CHEAP
