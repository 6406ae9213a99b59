"""`public`: the border between the user's frames and this library's."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec, TypeVar

from pullback._settings import settings
from pullback.errors import PullbackError, calling_site, is_library

P = ParamSpec("P")
R = TypeVar("R")


def public(function: Callable[P, R], subject: str | None = None) -> Callable[P, R]:
    """Complete an error that leaves `function` with the user's line, if a deeper call did not, and
    cut this library's frames from its traceback (`PULLBACK_TRACEBACK=full` keeps them).
    """

    @functools.wraps(function)
    def bordered(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            complete(error, subject or _subject(function))
            raise  # bare, which adds no entry for this frame: nothing of ours remains

    return bordered


def _subject(function: Callable[..., object]) -> str:
    """The function's name; that of the class for what makes or calls one of its objects."""
    if function.__name__ in ("__init__", "__call__"):
        return function.__qualname__.split(".")[-2]
    return function.__name__.strip("_")


def complete(error: Exception, subject: str) -> None:
    """What `public` does with an error that leaves."""
    if isinstance(error, PullbackError):
        error.locate(subject, calling_site())
    if settings().traceback == "short":
        error.__traceback__ = without_library_frames(error.__traceback__)


def without_library_frames(traceback: TracebackType | None) -> TracebackType | None:
    """The same traceback with the user's frames only."""
    kept = []
    while traceback is not None:
        if not is_library(traceback.tb_frame.f_code):
            kept.append(traceback)
        traceback = traceback.tb_next
    shorter = None
    for entry in reversed(kept):
        shorter = TracebackType(shorter, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return shorter
