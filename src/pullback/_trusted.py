"""`trusted`: the decorator of a frozen dataclass of which a program has very many.

Python's own sets each field of a frozen object through `object.__setattr__`, and looks at every
assignment to refuse it: making one takes three times as long as making a plain one. Of these it is
the type checker alone that refuses. Nothing here assigns to a field, and no user makes one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

__all__ = ["trusted"]

if TYPE_CHECKING:
    from dataclasses import dataclass as trusted
else:

    def trusted(*, frozen: bool, slots: bool, eq: bool = True) -> Any:
        """`dataclass(frozen=True, slots=True)`, compared and hashed alike."""
        assert frozen
        return dataclass(slots=slots, eq=eq, unsafe_hash=eq)
