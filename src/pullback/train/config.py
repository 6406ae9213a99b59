"""Every choice of a run, as sections of plain data: read from TOML and options, written as TOML.

A section is a frozen dataclass; its fields are the keys, with their types and defaults, and its
`__post_init__` says what makes no sense. A key that no section has is refused, with the nearest.
"""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pullback.compile.budget import parse_bytes
from pullback.data.files import unreadable
from pullback.errors import ArgumentError, nearest

S = TypeVar("S")
Table = Mapping[str, Any]
Tables = Mapping[str, Table]
"""Sections by name, as a TOML file holds them."""

SECTIONS = ("data", "model", "optimizer", "training", "samples")
PRECISIONS = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Training:
    """How long, with how many examples at once, and how exactly."""

    epochs: int | None = None
    """Passes over the training part; or `steps`."""
    steps: int | None = None
    batch_size: int = 32
    accumulate: int = 1
    """A batch is cut in so many, whose gradients are added up: less memory, the same step."""
    clip: float | None = None
    """The largest norm of a gradient."""
    precision: PRECISIONS = "fp32"
    evaluate: int | None = None
    """Steps between two evaluations; each epoch unless given."""
    patience: int | None = None
    """Evaluations without a better validation loss after which the run ends."""
    log: int = 1
    """Steps between two lines of the table of steps."""
    seed: int = 0
    threads: int = 0
    """0: as many as there are cores to use."""
    memory: str | None = None
    """The most that a step may hold, as "500 MB"."""

    def __post_init__(self) -> None:
        counts = ("epochs", "steps", "batch_size", "accumulate", "evaluate", "patience", "log")
        for name in counts:
            require_at_least(f"training.{name}", getattr(self, name), 1)
        require_at_least("training.threads", self.threads, 0)
        if self.memory is not None:
            parse_bytes(self.memory)
        if not 0 <= self.seed < 2**63:
            raise ArgumentError(f"training.seed is at least 0 and below 2**63, not {self.seed}")
        if self.clip is not None and not self.clip > 0:
            raise ArgumentError(f"training.clip is above 0, not {self.clip}")
        if self.batch_size % self.accumulate:
            raise ArgumentError(
                f"training.batch_size = {self.batch_size} does not divide into "
                f"training.accumulate = {self.accumulate} equal parts"
            )
        if (self.epochs is None) == (self.steps is None):
            raise ArgumentError("say training.epochs or training.steps, one of both")


@dataclass(frozen=True)
class Samples:
    """The texts that a language model writes at the end."""

    count: int = 3
    length: int = 300
    temperature: float = 0.8
    """Above 1 more daring, below 1 more careful."""
    prompt: str = "\n"

    def __post_init__(self) -> None:
        require_at_least("samples.count", self.count, 1)
        require_at_least("samples.length", self.length, 1)
        if not self.temperature > 0:
            raise ArgumentError(f"samples.temperature is above 0, not {self.temperature}")
        if not self.prompt:
            raise ArgumentError("samples.prompt is empty: a text goes on from at least a character")


# ---- one section ----------------------------------------------------------------------------


def parse(section: type[S], name: str, table: Table) -> S:
    """The section of a table; `ArgumentError` names the key that is unknown or does not fit."""
    kinds = typing.get_type_hints(section)
    fields = [each.name for each in dataclasses.fields(section)]  # type: ignore[arg-type]
    require_known(table, fields, name)
    return section(**{key: _typed(f"{name}.{key}", x, kinds[key]) for key, x in table.items()})


def plain(section: Any) -> dict[str, Any]:
    """The table of a section, without what is not given."""
    table = dataclasses.asdict(section)
    return {
        key: list(x) if isinstance(x, tuple) else x for key, x in table.items() if x is not None
    }


def require_known(keys: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise `ArgumentError` for the first key that is not known, with the nearest one."""
    names = list(known)
    for key in keys:
        if key not in names:
            near = nearest(key, names, cutoff=0.5)
            raise ArgumentError(
                f"{where} has no choice {key!r}",
                hint=f"did you mean {near!r}?" if near else f"it has {', '.join(names)}",
            )


def require_at_least(name: str, value: float | None, least: int) -> None:
    if value is not None and value < least:
        raise ArgumentError(f"{name} is at least {least}, not {value}")


def require_share(name: str, value: float, *, zero: bool = False) -> None:
    if not (0 < value < 1 or (zero and value == 0)):
        law = "at least 0 and below 1" if zero else "between 0 and 1"
        raise ArgumentError(f"{name} is {law}, not {value}")


def _typed(name: str, value: Any, kind: Any) -> Any:
    """The value as the annotation has it: an integer may stand for a float, a list for a tuple."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        (kind,) = [each for each in inner if each is not type(None)]
        return _typed(name, value, kind)
    if origin is Literal:
        return one_of(name, value, inner)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_typed(f"{name}[{i}]", each, inner[0]) for i, each in enumerate(value))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, origin or kind) or (kind is int and isinstance(value, bool)):
        raise ArgumentError(f"{name} is {_KINDS[origin or kind]}, not {value!r:.60}")
    if kind is float and not math.isfinite(value):
        raise ArgumentError(f"{name} is a finite number, not {value}")
    return value


_KINDS: Mapping[Any, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a text",
    tuple: "a list",
}


def one_of(name: str, value: Any, known: tuple[str, ...]) -> Any:
    if value in known:
        return value
    near = nearest(value, known, cutoff=0.5)
    raise ArgumentError(
        f"{name} is one of {', '.join(known)}, not {value!r:.60}",
        hint=f"did you mean {near!r}?" if near else None,
    )


# ---- all of them ----------------------------------------------------------------------------


def read_toml(path: str | Path) -> tuple[str | None, dict[str, dict[str, Any]]]:
    """(the source, the sections) of a file; `ArgumentError` with the line that is no TOML."""
    try:
        with open(path, "rb") as stream:
            document = tomllib.load(stream)
    except OSError as error:
        raise unreadable(str(path), error) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{path} is no TOML: {error}") from None
    require_known(document, ("source", *SECTIONS), str(path))
    source = document.pop("source", None)
    if source is not None and not isinstance(source, str):
        raise ArgumentError(f"{path}: source is a text, not {source!r:.60}")
    for name, table in document.items():
        if not isinstance(table, dict):
            raise ArgumentError(f"{path}: {name} is a section, [{name}], not {table!r:.60}")
    return source, document


def to_toml(source: str, sections: Mapping[str, Table]) -> str:
    """The text that `read_toml` reads back."""
    lines = [f"source = {_toml(source)}"]
    for name, table in sections.items():
        lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(each) for each in value)}]"
    if isinstance(value, str | bool):
        # A text of JSON is one of TOML, but for the one control character that JSON leaves.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)


def merged(*layers: Tables) -> dict[str, dict[str, Any]]:
    """Sections in which a later layer has the last word, key by key."""
    result: dict[str, dict[str, Any]] = {}
    for layer in layers:
        for name, table in layer.items():
            section = result.setdefault(name, {})
            for rival, other in (("epochs", "steps"), ("steps", "epochs")):
                if name == "training" and rival in table and other not in table:
                    section.pop(other, None)
            section.update(table)
    return result
