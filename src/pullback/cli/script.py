"""A script that trains: it is run up to its first step, which is what is looked at."""

from __future__ import annotations

import ast
import functools
import runpy
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from pullback.train.function import UserFunction
from pullback.train.state import TrainState
from pullback.train.step import TrainStep, catching


class _Stop(BaseException):
    """Ends a script from inside; no `except Exception` of the script's holds it up."""


def top_level(file: Path) -> list[str] | None:
    """The functions and other names that a file defines at its top level, in order. None of one
    that cannot be read or parsed: who runs it will say why not."""
    try:
        body = ast.parse(file.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return None
    return [name for node in body for name in _bound(node)]


def _bound(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from (x.asname or x.name for x in node.names)
    elif isinstance(node, ast.Assign):
        yield from (x.id for x in node.targets if isinstance(x, ast.Name))


def first_step(
    file: Path, arguments: Sequence[str] = ()
) -> tuple[TrainStep, TrainState, tuple[Any, ...]] | None:
    """Run a script, as `python file arguments` does, until it takes a `pb.train.train_step`.

    What that was called with; None where it ends without one. What the script prints goes to the
    standard error.
    """
    found: list[tuple[TrainStep, TrainState, tuple[Any, ...]]] = []

    def caught(step: TrainStep, state: TrainState, batch: tuple[Any, ...]) -> None:
        found[:] = found or [(step, state, batch)]
        raise _Stop

    with _called(file, arguments), catching(caught), redirect_stdout(sys.stderr):
        try:
            runpy.run_path(str(file), run_name="__main__")
        except _Stop:
            pass
        except SystemExit as end:
            if not found and end.code not in (None, 0):
                raise RuntimeError(f"it ended itself with {end.code!r}") from None
    return found[0] if found else None


@contextmanager
def _called(file: Path, arguments: Sequence[str]) -> Iterator[None]:
    """The arguments and the search path of a script, while it runs."""
    before = sys.argv[:], sys.path[:]
    sys.argv[:] = [str(file), *arguments]
    sys.path.insert(0, str(file.resolve().parent))
    try:
        yield
    finally:
        sys.argv[:], sys.path[:] = before


def without_aux(loss_fn: Callable[..., Any]) -> Callable[..., Any]:
    """A loss with auxiliary values as one without: (loss, aux) → loss, with `state` (loss, state).

    `train_step` takes (loss, (state, aux)) of a function that has both.
    """
    named = UserFunction.of(loss_fn, "loss_fn").takes_state

    @functools.wraps(loss_fn)
    def loss(*args: Any, **kwargs: Any) -> Any:
        value, rest = loss_fn(*args, **kwargs)
        return (value, rest[0]) if named else value

    return loss
