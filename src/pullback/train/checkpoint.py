"""Checkpoints: trees of arrays in files that are whole or not there.

One file holds everything: the arrays under the paths of their tree, and as JSON in the header of
the same file what is no array (the loader's position, the configuration, versions). So a single
rename replaces one checkpoint by the next, and no moment has half of both.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optree

from pullback._public import public
from pullback.errors import (
    ArgumentError,
    DTypeError,
    FileFormatError,
    ShapeError,
    StructureError,
    nearest,
)
from pullback.ir.array import Array, numbers_of
from pullback.ir.types import Numbers, TensorType
from pullback.nn.module import Module
from pullback.ops.operators import lift
from pullback.train.safetensors import packed, read, read_metadata, store
from pullback.transforms.tree import NAMESPACE, Tree, built, flatten, paths, unflatten

FORMAT = 1
"""Of what stands in the header under `KEY`; a later library reads the earlier ones."""
KEY = "pullback"
Notes = Mapping[str, Any]


@public
def save(path: str | os.PathLike[str], tree: Tree, **notes: Any) -> None:
    """Write a tree of arrays and numbers, with notes that JSON can hold, as one safetensors file.

    The file is written beside `path`, flushed to the disk and renamed: killed at any moment, the
    process leaves the old file or the new one, whole. Raises `ArgumentError` for notes that are no
    plain data or a folder that cannot be written, `StructureError` for a leaf that is no array.

    >>> import pullback as pb, tempfile
    >>> file = tempfile.mkdtemp() + "/model.safetensors"
    >>> save(file, {"w": pb.ones(3), "steps": 7}, seed=1)
    >>> load(file, {"w": pb.zeros(3), "steps": 0})
    {'w': Array([1., 1., 1.], dtype=float32), 'steps': 7}
    >>> load_notes(file)
    {'seed': 1}
    """
    arrays, numbers = {}, {}
    for name, leaf in _leaves(tree).items():
        if isinstance(leaf, bool | int | float):
            numbers[name] = repr(leaf)
        else:
            arrays[name] = _stored(name, leaf)
    document = {
        "format": FORMAT,
        "versions": versions(),
        "numbers": numbers,
        "statics": _statics(tree),
        "notes": _plain(notes),
    }
    store(path, packed(arrays, {KEY: json.dumps(document, ensure_ascii=False, allow_nan=False)}))


@public
def load(path: str | os.PathLike[str], like: Tree) -> Tree:
    """The tree that `save` wrote, in the structure of `like`.

    Raises `StructureError`, `ShapeError` or `DTypeError` with the path of what differs from `like`,
    `FileFormatError` for a damaged file.
    """
    contents = read(path)
    document = _document(path, contents.metadata)
    _require_statics(os.fspath(path), document["statics"], _statics(like))
    found: dict[str, Any] = {
        name: _number(path, name, x) for name, x in document["numbers"].items()
    }
    found |= contents.arrays
    return fitted(os.fspath(path), found, like)


@public
def load_notes(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The notes that `save` was given."""
    return dict(_document(path, read_metadata(path))["notes"])


def versions() -> dict[str, str]:
    """What wrote a file."""
    return {
        "pullback": importlib.metadata.version("pullback") if _installed() else "source",
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _installed() -> bool:
    return bool(list(importlib.metadata.distributions(name="pullback")))


# ---- trees ----------------------------------------------------------------------------------


def _leaves(tree: Tree) -> dict[str, Any]:
    leaves, structure = flatten(tree)
    names = [name.removeprefix(".") for name in paths(structure, "")]
    table = dict(zip(names, leaves, strict=True))
    if len(table) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise StructureError(f"two leaves of the tree have one path, {twice}")
    return table


def _statics(tree: Tree) -> dict[str, str]:
    """What the modules of a tree hold besides arrays (sizes, functions), as text by path."""
    parts, structure = optree.tree_flatten(built(tree), is_leaf=_is_module, namespace=NAMESPACE)
    table: dict[str, str] = {}
    for path, part in zip(paths(structure, ""), parts, strict=True):
        if _is_module(part):
            table |= {f"{path}.{name}".removeprefix("."): x for name, x in _settings(part)}
    return table


def _settings(module: Any) -> Iterator[tuple[str, str]]:
    one_level: Any = optree.tree_flatten_one_level(module, namespace=NAMESPACE)
    children, layout, names, _ = one_level
    for i, value in layout.static:
        text = getattr(value, "__name__", None) or repr(value)
        yield layout.names[i], re.sub(r" at 0x[0-9a-f]+", "", text)
    for child, name in zip(children, names, strict=True):
        if _is_module(child):
            yield from ((f"{name}.{inner}", text) for inner, text in _settings(child))


def _is_module(value: object) -> bool:
    return isinstance(value, Module)


def _require_statics(source: str, found: Mapping[str, Any], expected: Mapping[str, str]) -> None:
    """A setting that only one of both has is one that a version of the layer has not."""
    for name, text in expected.items():
        if found.get(name, text) != text:
            raise StructureError(
                f"{source}: {name} was {found[name]!s:.60} and is to be {text:.60}"
            )


def _stored(name: str, leaf: Any) -> Numbers:
    if not isinstance(leaf, Array | np.ndarray | np.generic):
        raise StructureError(
            f"{name or 'the tree'} is neither an array nor a number but a "
            f"{type(leaf).__name__}: {leaf!r:.60}",
            hint="save(path, tree, config=...) keeps plain data beside the arrays",
        )
    return numbers_of(leaf)


def fitted(source: str, found: Mapping[str, Any], like: Tree) -> Tree:
    """`found` by path, in the structure of `like`, whose types it has."""
    expected = _leaves(like)
    _require_names(source, found.keys(), expected.keys())
    leaves = [_checked(source, name, found[name], leaf) for name, leaf in expected.items()]
    return unflatten(flatten(like)[1], leaves)


def _require_names(source: str, found: Iterable[str], expected: Iterable[str]) -> None:
    absent = [name for name in expected if name not in found]
    spare = [name for name in found if name not in expected]
    if absent:
        near = nearest(absent[0], spare, cutoff=0.4)
        raise StructureError(
            f"{source} has no {absent[0]!r}{_and_more(absent)}",
            hint=f"it has {near!r}, which is not asked for" if near else None,
        )
    if spare:
        raise StructureError(f"{source} has {spare[0]!r}{_and_more(spare)}, which has no place")


def _and_more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _checked(source: str, name: str, value: Any, like: Any) -> Any:
    where = f"{source}: {name or 'the array'}"
    if isinstance(like, bool | int | float):
        if type(value) is not type(like):
            raise DTypeError(f"{where} is {_kind(value)} and is to be {_kind(like)}")
        return value
    if not isinstance(like, Array | np.ndarray | np.generic):
        raise StructureError(f"{name} of the tree to load is no array: {like!r:.60}")
    kind = TensorType(like.shape, like.dtype)
    if not isinstance(value, np.ndarray):
        raise DTypeError(f"{where} is {_kind(value)} and is to be {kind}")
    if value.shape != kind.shape:
        raise ShapeError(f"{where} is {_kind(value)} and is to be {kind}")
    if value.dtype != kind.dtype:
        raise DTypeError(
            f"{where} is {_kind(value)} and is to be {kind}",
            hint="cast the tree to load, or the arrays of load_safetensors()",
        )
    return lift(value) if isinstance(like, Array) else value


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return str(TensorType(value.shape, value.dtype))
    return f"a Python {type(value).__name__}"


# ---- the document in the header -------------------------------------------------------------


def _plain(notes: Notes) -> Notes:
    try:
        again = json.loads(json.dumps(notes, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(
            f"notes are plain data (dicts, lists, texts, finite numbers): {error}"
        ) from None
    for name, value in notes.items():
        if again[name] != (list(value) if isinstance(value, tuple) else value):
            raise ArgumentError(
                f"the note {name} would come back as {again[name]!r:.80}, not {value!r:.80}",
                hint="the keys of a dict are texts, and a tuple within is a list",
            )
    return notes


def _document(path: str | os.PathLike[str], metadata: Mapping[str, str]) -> dict[str, Any]:
    name = os.fspath(path)
    if KEY not in metadata:
        raise FileFormatError(
            f"{name}: no checkpoint of this library, but arrays alone",
            hint="take load_safetensors(path), and from_torch for what PyTorch wrote",
        )
    try:
        document = json.loads(metadata[KEY])
    except (ValueError, RecursionError):
        raise FileFormatError(f"{name}: what it notes is no JSON") from None
    tables = ("versions", "numbers", "statics", "notes")
    if not isinstance(document, dict) or "format" not in document:
        raise FileFormatError(f"{name}: its notes are not those of a checkpoint")
    if document["format"] != FORMAT:
        raise FileFormatError(
            f"{name}: format {document['format']!r:.20} of a checkpoint, and this is {FORMAT}"
        )
    if not all(isinstance(document.get(table), dict) for table in tables):
        raise FileFormatError(f"{name}: its notes are not those of a checkpoint")
    return document


def _number(path: str | os.PathLike[str], name: str, text: Any) -> bool | int | float:
    if text in ("True", "False"):
        return bool(text == "True")
    for kind in (int, float):
        try:
            return kind(text)
        except (TypeError, ValueError):
            continue
    raise FileFormatError(f"{os.fspath(path)}: {name} is {text!r:.40}, which is no number")


# ---- the checkpoints of a run ---------------------------------------------------------------

_FILE = re.compile(r"step-(\d{8,})\.safetensors")
_LEFT = re.compile(r"\.step-\d{8,}\.safetensors\.\d+\.tmp")


@dataclass(frozen=True)
class Saved:
    """A checkpoint in a folder: its file, its step, and the metric it was saved with."""

    path: Path
    step: int
    metric: float | None


class Checkpoints:
    """The checkpoints of one run in a folder: the last `keep`, and the best one.

    Best is the smallest metric, or with `largest_is_best` the largest; of equals the earlier.

    >>> import pullback as pb, tempfile
    >>> kept = Checkpoints(tempfile.mkdtemp(), keep=1)
    >>> for step, loss in enumerate([0.5, 0.2, 0.3, 0.4]):
    ...     kept.save(step, {"w": pb.full((2,), step)}, metric=loss)
    >>> [each.step for each in kept.all()], kept.best().step, kept.last().step
    ([1, 3], 1, 3)
    """

    @public
    def __init__(
        self, folder: str | os.PathLike[str], keep: int = 3, *, largest_is_best: bool = False
    ) -> None:
        if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
            raise ArgumentError(f"keep is an integer of at least 1, not {keep!r:.40}")
        self.folder = Path(folder)
        self.keep = keep
        self._sign = -1.0 if largest_is_best else 1.0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArgumentError(
                f"the folder {self.folder} cannot be made: {error.strerror}"
            ) from None

    @public
    def save(self, step: int, tree: Tree, *, metric: float | None = None, **notes: Any) -> None:
        """Write the checkpoint of a step, then remove those that are neither last nor best."""
        if isinstance(step, bool) or not isinstance(step, int | np.integer) or step < 0:
            raise ArgumentError(f"a step is a natural number, not {step!r:.40}")
        value = None if metric is None else float(metric)
        # NaN is nobody's best, and JSON has none.
        ranked = value if value is not None and math.isfinite(value) else None
        path = self.folder / f"step-{step:08d}.safetensors"
        save(path, tree, step=int(step), metric=ranked, notes=notes)
        self._prune()

    def all(self) -> list[Saved]:
        """The checkpoints there are, by step. `FileFormatError` for a damaged one."""
        found = [p for p in self.folder.iterdir() if _FILE.fullmatch(p.name)]
        return sorted((_saved(path) for path in found), key=lambda each: each.step)

    @public
    def last(self) -> Saved:
        """The one of the highest step; `ArgumentError` when there is none."""
        return self._some()[-1]

    @public
    def best(self) -> Saved:
        """The one with the best metric; `ArgumentError` when none was saved with one."""
        best = self._best(self._some())
        if best is None:
            raise ArgumentError(f"no checkpoint in {self.folder} was saved with a finite metric")
        return best

    @public
    def load(self, which: Saved, like: Tree) -> tuple[Tree, dict[str, Any]]:
        """(the tree in the structure of `like`, the notes) of a checkpoint."""
        return load(which.path, like), dict(load_notes(which.path)["notes"])

    def _some(self) -> list[Saved]:
        found = self.all()
        if not found:
            raise ArgumentError(f"{self.folder} holds no checkpoint")
        return found

    def _best(self, found: list[Saved]) -> Saved | None:
        ranked = [each for each in found if each.metric is not None]
        return min(ranked, key=lambda each: self._sign * (each.metric or 0.0), default=None)

    def _prune(self) -> None:
        found = self.all()
        kept = {each.step for each in found[-self.keep :]}
        best = self._best(found)
        if best is not None:
            kept.add(best.step)
        for each in found[: -self.keep]:
            if each.step not in kept:
                each.path.unlink()
        for path in self.folder.iterdir():
            if _LEFT.fullmatch(path.name):  # of a process that was killed
                path.unlink()


def _saved(path: Path) -> Saved:
    notes = load_notes(path)
    return Saved(path, int(notes["step"]), notes["metric"])
