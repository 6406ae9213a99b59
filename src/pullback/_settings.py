"""The settings: typed, read from the environment once, overridable in a `with` block."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from typing import Any

from pullback.errors import PullbackError


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user may switch, each from the environment variable `PULLBACK_<NAME>`."""

    check: int = field(default=0, metadata={"choices": ("0", "1", "2")})
    """0 nothing extra · 1 graphs verified, the first NaN or infinity raises · 2 every pass of the
    compiler is evaluated before and after."""

    traceback: str = field(default="short", metadata={"choices": ("short", "full")})
    """`short` cuts this library's frames out of tracebacks; `full` keeps them."""

    dump: str = ""
    """A folder that receives the text of every stage of every compilation; empty for none."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Raises `PullbackError` for a value that is not one of the choices."""
        chosen: dict[str, Any] = {}
        for setting in fields(cls):
            variable = f"PULLBACK_{setting.name.upper()}"
            text = environment.get(variable)
            if text is None:
                continue
            choices = setting.metadata.get("choices")
            if choices is not None and text not in choices:
                raise PullbackError(f"{variable}={text!r} is not one of {', '.join(choices)}")
            chosen[setting.name] = int(text) if isinstance(setting.default, int) else text
        return cls(**chosen)


_overrides: ContextVar[Settings | None] = ContextVar("pullback settings", default=None)


def settings() -> Settings:
    """The settings in force: those of the innermost `override`, else the environment's."""
    chosen = _overrides.get()
    if chosen is None:
        chosen = Settings.from_environment(os.environ)
        _overrides.set(chosen)
    return chosen


@contextmanager
def override(**changes: Any) -> Iterator[Settings]:
    """Change settings inside a `with` block.

    >>> with override(check=1) as chosen:
    ...     chosen.check
    1
    """
    token = _overrides.set(replace(settings(), **changes))
    try:
        yield settings()
    finally:
        _overrides.reset(token)
