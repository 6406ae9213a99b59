"""A thread that works ahead of the loop which uses what it makes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from queue import Empty, Queue
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class _Failure:
    error: BaseException


class _End:
    pass


def prefetched(make: Callable[[T], R], items: Iterable[T], depth: int) -> Iterator[R]:
    """`map(make, items)`, at most `depth` results ahead in a thread; in this one when it is 0.

    An error is raised where its result would have come. The thread has ended when the iterator is
    exhausted or closed, as a loop closes it that is left early.
    """
    if depth == 0:
        yield from map(make, items)
        return
    results: Queue[R | _Failure | _End] = Queue(depth)
    stop = threading.Event()
    arguments = (make, items, results, stop)
    worker = threading.Thread(target=_work, args=arguments, name="pullback-loader", daemon=True)
    worker.start()
    try:
        while not isinstance(result := results.get(), _End):
            if isinstance(result, _Failure):
                raise result.error
            yield result
    finally:
        stop.set()
        _empty(results)  # the thread puts at most one more thing, for which there is now room
        worker.join()


def _work(
    make: Callable[[T], R],
    items: Iterable[T],
    results: Queue[R | _Failure | _End],
    stop: threading.Event,
) -> None:
    last: _Failure | _End = _End()
    try:
        for item in items:
            result = make(item)
            if stop.is_set():
                return
            results.put(result)
    except BaseException as error:  # noqa: BLE001 - raised again by who waits for the result
        last = _Failure(error)
    if not stop.is_set():
        results.put(last)


def _empty(results: Queue[R | _Failure | _End]) -> None:
    try:
        while True:
            results.get_nowait()
    except Empty:
        pass
