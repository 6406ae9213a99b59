"""The numbers of a run in files that grow: whole lines only, whatever ends the process.

Lines are appended; what a failing write left is cut off again. A checkpoint notes how long each
file was, and going on from it cuts off what came later, so no row stands there twice.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pullback.errors import ArgumentError, FileFormatError

Row = Mapping[str, float]
FORMATS = ("csv", "jsonl")


def require_formats(formats: object) -> tuple[str, ...]:
    """The names of formats, if that is what they are; `ArgumentError` else."""
    if isinstance(formats, str) or not isinstance(formats, Sequence):
        raise ArgumentError(
            f"log is a tuple of formats, not {formats!r:.60}", hint='log=("csv",), or log=()'
        )
    for name in formats:
        if name not in FORMATS:
            raise ArgumentError(
                f"log has the format {name!r:.40}; there are {' and '.join(FORMATS)}"
            )
    return tuple(dict.fromkeys(formats))


def plain(value: Any) -> Any:
    """Plain data with the names of NaN and the infinities, which JSON has not, in their place."""
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def numbers(row: Mapping[str, float | str]) -> dict[str, float]:
    """The inverse of `plain`, of a row."""
    return {name: float(x) if isinstance(x, str) else x for name, x in row.items()}


class LogFile:
    """Rows in one file, `name.csv` or `name.jsonl` by its format."""

    def __init__(self, folder: Path, name: str, kind: str) -> None:
        self.path = folder / f"{name}.{kind}"
        self._encode = _csv if kind == "csv" else _jsonl
        self._columns: tuple[str, ...] | None = None
        self.size = 0

    def start(self) -> None:
        """Make the file; `ArgumentError` where there is one that holds something."""
        if self.path.exists() and self.path.stat().st_size:
            raise ArgumentError(
                f"{self.path} holds something that this run did not write",
                hint="name another folder; nothing was changed",
            )
        self.path.write_bytes(b"")
        self._columns, self.size = None, 0

    def go_back(self, size: int) -> None:
        """Cut off what came after the first `size` bytes.

        Raises `FileFormatError` for a file that is shorter, or has no end of a line there.
        """
        head = _head(self.path, size)
        if head is None or (head and not head.endswith(b"\n")):
            raise FileFormatError(
                f"{self.path} is not as the run left it: lines of it are gone or changed",
                hint="bring it back, or go on without it: log=()",
            )
        os.truncate(self.path, size)
        self.size = size
        is_table = self.path.suffix == ".csv" and head
        self._columns = tuple(next(csv.reader(io.StringIO(head.decode())))) if is_table else None

    def append(self, rows: Sequence[Row]) -> None:
        """Write rows, all of them or none; `OSError` when the disk is full."""
        text = ""
        for row in rows:
            is_first = self._columns is None
            if is_first:
                self._columns = tuple(row)
            self._require_columns(row)
            text += self._encode(row, is_first)
        data = text.encode()
        with self.path.open("ab", buffering=0) as stream:
            try:
                _write_all(stream, data)
            except OSError:
                stream.truncate(self.size)
                raise
        self.size += len(data)

    def sync(self) -> None:
        """What was written is on the disk."""
        with self.path.open("ab") as stream:
            os.fsync(stream.fileno())

    def _require_columns(self, row: Row) -> None:
        if self._columns != tuple(row) and self.path.suffix == ".csv":
            odd = sorted(set(self._columns or ()) ^ set(row)) or list(row)
            raise ArgumentError(
                f"the rows of {self.path.name} have the columns {', '.join(self._columns or ())}; "
                f"this one differs in {', '.join(odd)}",
                hint="every row has the same numbers in the same order",
            )


def _csv(row: Row, is_first: bool) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    if is_first:
        writer.writerow(row)
    writer.writerow(row.values())
    return stream.getvalue()


def _jsonl(row: Row, is_first: bool) -> str:
    return json.dumps(plain(row), ensure_ascii=False) + "\n"


def _head(path: Path, size: int) -> bytes | None:
    """The first `size` bytes; None where there are fewer."""
    try:
        with path.open("rb") as stream:
            head = stream.read(size)
    except FileNotFoundError:
        return None
    return head if len(head) == size else None


def _write_all(stream: io.FileIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]


class Log:
    """One table in every format asked for."""

    def __init__(self, folder: Path, name: str, formats: Sequence[str]) -> None:
        self.files = [LogFile(folder, name, kind) for kind in formats]

    def append(self, rows: Sequence[Row]) -> None:
        """Write rows in every file, or in none; `OSError` when the disk is full."""
        before = [each.size for each in self.files]
        try:
            for each in self.files:
                each.append(rows)
        except OSError:
            for each, size in zip(self.files, before, strict=True):
                each.go_back(size)
            raise

    def sizes(self) -> dict[str, int]:
        """How long each file is, on the disk."""
        for each in self.files:
            each.sync()
        return {each.path.name: each.size for each in self.files}

    def go_back(self, sizes: Mapping[str, int]) -> None:
        """Cut each file to the length that `sizes` has; begin those it does not know.

        Raises `ArgumentError` for one that cannot be written, or holds something else.
        """
        for each in self.files:
            try:
                if each.path.name in sizes:
                    each.go_back(sizes[each.path.name])
                else:
                    each.start()
            except OSError as error:
                raise ArgumentError(f"{each.path} cannot be written: {error.strerror}") from None
