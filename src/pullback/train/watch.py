"""`Watch`: who looks at a run while it goes on. `pb.inspect.Doctor` is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Watch(Protocol):
    """What `fit(doctor=…)` calls. It looks on: nothing that it is given may be changed.

    What it returns is shown to the user; an empty string is nothing.
    """

    def begin(self, step: Any, state: Any) -> object:
        """Before the first step. `state` is given away by that step."""

    def see(self, state: Any, batch: Any, metrics: Any) -> str:
        """After each step, with the state that it returned."""

    def evaluated(self, row: Mapping[str, float]) -> str:
        """After each evaluation, with its numbers."""

    def diverged(self, state: Any, batch: Any, metrics: Any) -> str:
        """A step was not finite, and was not applied: `state` is the one before it."""
