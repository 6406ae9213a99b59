"""Ctrl-C as a wish: the first asks for an end between two steps, the second ends at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Wish:
    """Whether somebody asked for an end."""

    __slots__ = ("is_there",)

    def __init__(self) -> None:
        self.is_there = False


@contextmanager
def polite_interrupt(told: Callable[[], None]) -> Iterator[Wish]:
    """A wish that the first Ctrl-C makes; `told` is called then. The second is Python's own.

    Where Ctrl-C is not Python's own (ignored, another handler, another thread than the main one)
    it stays what it is.
    """
    wish = Wish()
    usual = signal.default_int_handler

    def handler(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, usual)
        wish.is_there = True
        told()

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not usual:
        yield wish
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield wish
    finally:
        signal.signal(signal.SIGINT, usual)
