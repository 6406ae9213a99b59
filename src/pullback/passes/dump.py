"""The texts of a compilation's stages, as numbered files."""

from __future__ import annotations

import itertools
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pullback.errors import PullbackError
from pullback.ir.graph import Graph
from pullback.ir.text import print_graph


@dataclass(frozen=True, slots=True)
class Dump:
    """Writes each stage to `<folder>/<number>-<name>.txt`, after the files that are there.

    A file appears whole, under a number of its own, and replaces none: several processes may write
    to one folder. Raises `PullbackError` where the folder cannot be written.
    """

    folder: str

    def __call__(self, name: str, before: Graph, after: Graph) -> None:
        """An observer of passes: the graph as the pass left it, with the lines of its nodes."""
        self.write(name, print_graph(after, sites=True) + "\n")

    def write(self, name: str, text: str) -> Path:
        """The path of the new file."""
        try:
            return self._write(Path(self.folder), re.sub(r"[^\w.-]+", "_", name), text)
        except OSError as error:
            raise PullbackError(
                f"the dump folder {self.folder!r} cannot be written: {error.strerror}",
                hint="PULLBACK_DUMP names a folder; it is made if its parent exists",
            ) from error

    def _write(self, folder: Path, name: str, text: str) -> Path:
        folder.mkdir(mode=0o700, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".", suffix=".tmp")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
            for number in itertools.count(_next_number(folder)):
                path = folder / f"{number:04}-{name}.txt"
                if not any(folder.glob(f"{number:04}-*")) and _linked(temporary, path):
                    return path
        finally:
            os.unlink(temporary)
        raise AssertionError  # the count has no end


def _next_number(folder: Path) -> int:
    numbers = [re.match(r"(\d+)-", path.name) for path in folder.iterdir()]
    return 1 + max((int(found[1]) for found in numbers if found), default=0)


def _linked(source: str, path: Path) -> bool:
    """Whether `path` was free and is now another name of `source`."""
    try:
        os.link(source, path)
    except FileExistsError:
        return False
    return True
