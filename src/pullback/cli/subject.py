"""A user's own model, named on the command line: `file.py:make` or `package.module:make`.

`make()` returns (model, loss_fn, batch), or (model, loss_fn, batch, optimizer), or an object with
attributes of these names, which may have a `network_state` besides. `loss_fn(model, *batch)` is as
`pb.train.train_step` takes it; `batch` is a tuple of arrays, or one array. Where `make` has a
parameter `batch`, it is told how many examples there are to be. A name that is left out, as in
`file.py`, is `make`; a file without one is a script, which is run up to its first training step.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from pullback.cli.script import first_step, top_level, without_aux
from pullback.errors import ArgumentError, PullbackError
from pullback.optim.optimizer import Optimizer

CONTRACT = "it returns (model, loss_fn, batch), or (model, loss_fn, batch, optimizer)"
REQUIRED = ("model", "loss_fn", "batch")
OPTIONAL = ("optimizer", "network_state")


@dataclass(frozen=True)
class Subject:
    """What a user's `make` returned: a model, its loss and a batch to look at."""

    model: Any
    loss_fn: Callable[..., Any]
    """`loss_fn(model, *batch)`; it may ask for `key` and `state` as that of `train_step` does."""
    batch: tuple[Any, ...]
    optimizer: Optimizer | None = None
    network_state: Any = None


@dataclass(frozen=True)
class Make:
    """A user's function, and what it was called by on the command line."""

    name: str
    function: Callable[..., Any]

    @property
    def takes_batch(self) -> bool:
        """Whether it can be told how many examples there are to be."""
        try:
            return "batch" in inspect.signature(self.function).parameters
        except (TypeError, ValueError):
            return False

    def __call__(self, batch: int | None = None) -> Subject:
        """The subject, of `batch` examples where `make` can be told so.

        Raises `ArgumentError` where it fails, or returns something else than the contract says.
        """
        given = {"batch": batch} if self.takes_batch and batch is not None else {}
        with told(self.name):
            result = self.function(**given)
        return _parsed(self.name, result)


def is_subject(source: str) -> bool:
    """Whether a source on the command line names a user's function, and no data.

    >>> is_subject("net.py:make"), is_subject("net.py"), is_subject("nets.small:make")
    (True, True, True)
    >>> is_subject("digits"), is_subject("C:/data/poems.txt"), is_subject("a:b.csv")
    (False, False, False)
    """
    place, _, _ = source.partition(".py:")
    return source.endswith(".py") or place != source or bool(_MODULE.fullmatch(source))


_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def find(source: str, arguments: Sequence[str] = ()) -> Make:
    """The function that `file.py:make` names; the file is run, as an import runs it.

    Of a `file.py` that defines no `make`: what its first training step is called with, when it is
    run as a script with these arguments.

    Raises `ArgumentError` where there is no such file, module or function, and where it fails.
    """
    place, name = _split(source)
    named = top_level(Path(place)) if source.endswith(".py") else None
    if named is not None and name not in named:
        return Make(source, functools.partial(_scripted, place, tuple(arguments)))
    if arguments:
        raise ArgumentError(f"{source} is a function, which has no arguments: {arguments[0]!r}")
    module = _from_file(place) if place.endswith(".py") else _by_name(place)
    function = getattr(module, name, None)
    if function is None:
        offered = sorted(x for x, y in vars(module).items() if inspect.isfunction(y))
        raise ArgumentError(
            f"{place} has no function {name!r}",
            hint=f"it has {', '.join(offered)}" if offered else f"def {name}(): ...; {CONTRACT}",
        )
    if not callable(function):
        raise ArgumentError(f"{source} is no function but a {type(function).__name__}")
    return Make(source, function)


def _scripted(place: str, arguments: tuple[str, ...]) -> Subject:
    found = first_step(Path(place), arguments)
    if found is None:
        raise ArgumentError(
            f"{place} has no function 'make', and took no step of pb.train.train_step when it ran",
            hint=f"def make(): ...; {CONTRACT}; {place}:name is a function of another name",
        )
    step, state, batch = found
    loss_fn = without_aux(step.loss_fn) if step.has_aux else step.loss_fn
    return Subject(state.model, loss_fn, batch, step.optimizer, state.network_state)


def _split(source: str) -> tuple[str, str]:
    if source.endswith(".py"):
        return source, "make"
    place, _, name = source.rpartition(":")
    return place, name


def _from_file(path: str) -> ModuleType:
    """The module of a file; what lies beside it can be imported, as when Python runs it."""
    file = Path(path)
    if not file.is_file():
        raise ArgumentError(f"there is no file {path!r}")
    spec = importlib.util.spec_from_file_location(f"{file.stem}_of_pullback", file.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    with told(path), _importing(file.resolve().parent):
        spec.loader.exec_module(module)
    return module


def _by_name(name: str) -> ModuleType:
    with told(name), _importing(Path.cwd()):
        return importlib.import_module(name)


@contextmanager
def _importing(folder: Path) -> Iterator[None]:
    """Let the modules of a folder be found first."""
    before = list(sys.path)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path[:] = before


@contextmanager
def told(name: str) -> Iterator[None]:
    """An error of the user's code is told by its line; one of this library tells that itself."""
    try:
        yield
    except PullbackError:
        raise
    except Exception as error:
        place = _line(error)
        raise ArgumentError(
            f"{name} failed{place}: {type(error).__name__}: {error}".rstrip(": ")
        ) from error


def _line(error: Exception) -> str:
    """Where an error was raised, as far as that is in code of the user's."""
    entry, found = error.__traceback__, None
    while entry is not None:
        file = entry.tb_frame.f_code.co_filename
        if file != __file__ and not file.startswith("<"):
            found = f" at {file}:{entry.tb_lineno}"
        entry = entry.tb_next
    return found or ""


def _parsed(name: str, result: Any) -> Subject:
    if isinstance(result, tuple) and not hasattr(result, "loss_fn"):
        if len(result) not in (3, 4):
            raise ArgumentError(f"{name} returned a tuple of {len(result)}", hint=CONTRACT)
        parts = dict(zip((*REQUIRED, *OPTIONAL), result, strict=False))
    else:
        missing = [each for each in REQUIRED if not hasattr(result, each)]
        if missing:
            raise ArgumentError(
                f"{name} returned a {type(result).__name__} without {' and '.join(missing)}",
                hint=CONTRACT,
            )
        parts = {x: getattr(result, x, None) for x in (*REQUIRED, *OPTIONAL)}
    batch = parts.pop("batch")
    _require(name, parts)
    return Subject(batch=batch if isinstance(batch, tuple) else (batch,), **parts)


def _require(name: str, parts: dict[str, Any]) -> None:
    if not callable(parts["loss_fn"]):
        found = type(parts["loss_fn"]).__name__
        raise ArgumentError(f"the loss_fn of {name} is no function but a {found}", hint=CONTRACT)
    optimizer = parts.get("optimizer")
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        raise ArgumentError(
            f"the optimizer of {name} is no Optimizer but {optimizer!r:.60}",
            hint="pb.optim.adamw(1e-3) is one",
        )
