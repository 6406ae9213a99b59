"""The settings: typed, read from the environment once, overridable in a `with` block."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from pullback.errors import PullbackError

T = TypeVar("T")

# ---- how a setting is read ------------------------------------------------------------------


def _setting(default: T, read: Callable[[str], T]) -> T:
    """A field with a default and a reader, which raises `ValueError` on what it refuses."""
    made: T = field(default=default, metadata={"read": read})
    return made


def _level(text: str) -> int:
    return int(_one_of("0", "1", "2")(text))


def _switch(text: str) -> bool:
    return _one_of("0", "1")(text) == "1"


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"is not one of {', '.join(choices)}")
        return text

    return read


def _some_of(*choices: str) -> Callable[[str], frozenset[str]]:
    def read(text: str) -> frozenset[str]:
        chosen = frozenset(word.strip() for word in text.split(",") if word.strip())
        if not chosen <= set(choices):
            raise ValueError(f"names other things than {', '.join(choices)}")
        return chosen

    return read


def _thread_count(text: str) -> int:
    if not text.isdecimal() or int(text) > MOST_THREADS:
        raise ValueError(f"is not a number of threads, 1 to {MOST_THREADS} (0: all cores)")
    return int(text)


# ---- the settings ---------------------------------------------------------------------------

MOST_THREADS = 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user may switch, each from the environment variable `PULLBACK_<NAME>`."""

    check: int = _setting(0, _level)
    """0 nothing extra · 1 graphs verified, the first NaN or infinity raises · 2 every pass of the
    compiler is evaluated before and after."""

    traceback: str = _setting("short", _one_of("short", "full"))
    """`short` cuts this library's frames out of tracebacks; `full` keeps them."""

    log: frozenset[str] = _setting(
        frozenset(), _some_of("compile", "recompile", "fusion", "memory", "run")
    )
    """What is told on stderr while it happens, separated by commas."""

    cache: str = _setting("", str)
    """The folder of compiled object code; empty: the user's cache folder; `off`: none."""

    threads: int = _setting(0, _thread_count)
    """How many threads a program runs on; 0: as many as there are cores to use."""

    target: str = _setting("", str)
    """The processor family to compile for (`backend/target.py`); empty: this machine."""

    dump: str = _setting("", str)
    """A folder that receives the text of every stage of every compilation; empty for none."""

    eager: bool = _setting(False, _switch)
    """Compiled functions run eagerly: in Python, operation by operation."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Raises `PullbackError` for a value that a setting does not have."""
        chosen: dict[str, Any] = {}
        for setting in fields(cls):
            variable = f"PULLBACK_{setting.name.upper()}"
            text = environment.get(variable)
            if text is None:
                continue
            try:
                chosen[setting.name] = setting.metadata["read"](text)
            except ValueError as refusal:
                raise PullbackError(f"{variable}={text!r} {refusal}") from None
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


def log(topic: str, message: str) -> None:
    """Tell a line on stderr, where `PULLBACK_LOG` names `topic`."""
    if topic in settings().log:
        print(f"pullback {topic}: {message}", file=sys.stderr)
