"""Tables: the named columns of a CSV or Parquet file."""

from __future__ import annotations

import csv
import importlib.util
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from pullback._public import public
from pullback.data.files import unreadable
from pullback.errors import ArgumentError, FileFormatError, listed
from pullback.ir.types import Numbers, bool_, float64, int64

MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?"})
"""What stands in a CSV file where a value is missing."""


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of one length. A column is int64, float64, bool or text; a missing number is NaN.

    `missing` has the rows without a value, for each column that has any.
    """

    source: str
    columns: Mapping[str, Numbers]
    missing: Mapping[str, Numbers] = field(default_factory=dict)
    lines: Numbers | None = None
    """The line on which each row begins, of a text file."""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def names(self) -> list[str]:
        return list(self.columns)

    @public
    def __getitem__(self, name: str) -> Numbers:
        """A column; `ArgumentError` for a name that none has."""
        self._require(name)
        return self.columns[name]

    @public
    def without(self, *names: str) -> Self:
        """The table without some columns."""
        for name in names:
            self._require(name)
        kept = {name: x for name, x in self.columns.items() if name not in names}
        if not kept:
            raise ArgumentError(f"{self.source}: no column is left")
        missing = {name: rows for name, rows in self.missing.items() if name in kept}
        return type(self)(self.source, kept, missing, self.lines)

    @public
    def complete(self) -> Self:
        """The rows in which no value is missing; `ArgumentError` when there is none."""
        keep = np.ones(len(self), bool_)
        for rows in self.missing.values():
            keep[rows] = False
        if not keep.any():
            raise ArgumentError(f"{self.source}: every row lacks a value", hint=self._lacking())
        columns = {name: x[keep] for name, x in self.columns.items()}
        lines = None if self.lines is None else self.lines[keep]
        return type(self)(self.source, columns, {}, lines)

    @public
    def matrix(self, *names: str) -> Numbers:
        """float64[rows,columns]: the named columns, or all.

        Raises `ArgumentError` for columns of text, missing values and infinities, naming the first.
        """
        chosen = names or tuple(self.columns)
        columns = [self[name] for name in chosen]
        for name, column in zip(chosen, columns, strict=True):
            self._require_numbers(name, column)
        return np.stack([column.astype(float64) for column in columns], axis=1)

    def _require_numbers(self, name: str, column: Numbers) -> None:
        if column.dtype.kind not in "biuf":
            raise ArgumentError(
                f"{self.source}: column {name!r} is text, as {str(column[0])!r:.40}",
                hint="encode it (LabelEncoder, pb.one_hot), or leave it out with without()",
            )
        if name in self.missing:
            rows = self.missing[name]
            raise ArgumentError(
                f"{self.source}: column {name!r} lacks {_values(len(rows))}, the first "
                f"{self._place(int(rows[0]))}",
                hint="complete() leaves such rows out",
            )
        infinite = np.flatnonzero(np.abs(column) == np.inf) if column.dtype.kind == "f" else None
        if infinite is not None and len(infinite):
            first = int(infinite[0])
            raise ArgumentError(
                f"{self.source}: column {name!r} holds {column[first]} {self._place(first)}"
            )

    def _require(self, name: str) -> None:
        if name not in self.columns:
            raise ArgumentError(
                f"{self.source} has no column {name!r}",
                hint=f"its columns are {listed([repr(x) for x in self.names], 12)}",
            )

    def _place(self, row: int) -> str:
        return f"in row {row}" if self.lines is None else f"on line {self.lines[row]}"

    def _lacking(self) -> str:
        counts = ", ".join(f"{name!r} {len(rows)}" for name, rows in self.missing.items())
        return f"values that are missing: {counts}"


def _values(count: int) -> str:
    return "1 value" if count == 1 else f"{count} values"


# ---- CSV ------------------------------------------------------------------------------------


@public
def read_csv(path: str | os.PathLike[str], delimiter: str = ",") -> Table:
    """The table of a CSV file in UTF-8 whose first line names the columns.

    A column of integers is int64, one of numbers float64, any other text. Raises `FileFormatError`
    with the line that is wrong.
    """
    name = os.fspath(path)
    if not isinstance(delimiter, str) or len(delimiter) != 1:
        raise ArgumentError(f"a delimiter is one character, not {delimiter!r:.20}")
    header, rows, lines = _csv_rows(name, delimiter)
    if not rows:
        raise FileFormatError(f"{name}: no row follows the names of the columns")
    columns: dict[str, Numbers] = {}
    missing: dict[str, Numbers] = {}
    for title, cells in zip(header, zip(*rows, strict=True), strict=True):
        gaps = np.flatnonzero([cell in MISSING for cell in cells])
        if len(gaps) == len(cells):
            raise FileFormatError(f"{name}: column {title!r} holds no value")
        columns[title] = _parsed(cells, gaps)
        if len(gaps):
            missing[title] = gaps
    return Table(name, columns, missing, np.array(lines, int64))


def _csv_rows(name: str, delimiter: str) -> tuple[list[str], list[list[str]], list[int]]:
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        # utf-8-sig: spreadsheets put a byte order mark before the first name.
        with open(name, encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, delimiter=delimiter, strict=True)
            header = _header(name, next(reader, []))
            begin = reader.line_num + 1
            for row in reader:
                if row and len(row) != len(header):
                    raise FileFormatError(
                        f"{name}: line {begin} has {_cells(len(row))}, and line 1 names "
                        f"{len(header)} columns"
                    )
                if row:
                    rows.append([cell.strip() for cell in row])
                    lines.append(begin)
                begin = reader.line_num + 1
    except OSError as error:
        raise unreadable(name, error) from None
    except UnicodeDecodeError as error:
        raise not_utf8(name) from error
    except csv.Error as error:
        raise FileFormatError(f"{name}: line {reader.line_num}: {error}") from None
    return header, rows, lines


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"


def _header(name: str, cells: Sequence[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    if not header:
        raise FileFormatError(f"{name}: line 1 is empty, and names no columns")
    for i, title in enumerate(header):
        if not title:
            raise FileFormatError(f"{name}: line 1 has no name for column {i + 1}")
        if title in header[:i]:
            raise FileFormatError(f"{name}: line 1 names two columns {title!r}")
    if all(_is_number(title) for title in header):
        raise FileFormatError(
            f"{name}: line 1 holds numbers, not the names of columns",
            hint="put a line with the names before it",
        )
    return header


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parsed(cells: Sequence[str], gaps: Numbers) -> Numbers:
    try:
        if not len(gaps):
            return np.array([int(cell) for cell in cells], int64)
    except (ValueError, OverflowError):
        pass
    gap = set(gaps.tolist())
    try:
        return np.array([np.nan if i in gap else float(x) for i, x in enumerate(cells)], float64)
    except ValueError:
        return np.array(["" if i in gap else x for i, x in enumerate(cells)])


def not_utf8(name: str) -> FileFormatError:
    """The error for a file that holds other bytes than text, with the first of them."""
    with open(name, "rb") as stream:
        data = stream.read()
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return FileFormatError(
            f"{name}: byte {error.start} (line {line}) is 0x{data[error.start]:02x}, "
            "which is no UTF-8",
            hint="save the file as UTF-8",
        )
    return FileFormatError(f"{name}: changed while it was read")


# ---- Parquet --------------------------------------------------------------------------------


@public
def read_parquet(path: str | os.PathLike[str]) -> Table:
    """The table of a Parquet file; needs pyarrow (`pip install 'pullback[data]'`).

    Raises `FileFormatError` for a damaged file or a column that is neither numbers, bool nor text.
    """
    name = os.fspath(path)
    if importlib.util.find_spec("pyarrow") is None:
        raise ArgumentError(
            f"{name}: reading Parquet needs the package pyarrow, which is not installed",
            hint="pip install 'pullback[data]'",
        )
    import pyarrow as pa  # noqa: PLC0415 - loading it costs 100 ms, and most runs read none
    from pyarrow import parquet  # noqa: PLC0415

    try:
        with open(name, "rb") as stream:
            arrow = parquet.read_table(stream)
    except pa.ArrowException as error:
        what = str(error).splitlines()[0]
        raise FileFormatError(f"{name}: no Parquet file, or a damaged one: {what}") from None
    except OSError as error:
        raise unreadable(name, error) from None
    if not arrow.num_rows or not arrow.num_columns:
        raise FileFormatError(f"{name}: the table has no rows")
    columns: dict[str, Numbers] = {}
    missing: dict[str, Numbers] = {}
    for title in arrow.column_names:
        if arrow.column_names.count(title) > 1:
            raise FileFormatError(f"{name}: two columns are named {title!r}")
        cells = arrow.column(title).to_pylist()
        gaps = np.flatnonzero([cell is None or _is_nan(cell) for cell in cells])
        if len(gaps) == len(cells):
            raise FileFormatError(f"{name}: column {title!r} holds no value")
        columns[title] = _typed(name, title, cells, gaps)
        if len(gaps):
            missing[title] = gaps
    return Table(name, columns, missing)


def _is_nan(cell: Any) -> bool:
    return isinstance(cell, float) and math.isnan(cell)


def _typed(name: str, title: str, cells: list[Any], gaps: Numbers) -> Numbers:
    found = {type(cell) for cell in cells if cell is not None}
    if found <= {str}:
        return np.array(["" if cell is None else cell for cell in cells])
    if found == {bool} and not len(gaps):
        return np.array(cells, bool_)
    if found == {int} and not len(gaps):
        return np.array(cells, int64)
    if found <= {bool, int, float}:
        return np.array([np.nan if cell is None else cell for cell in cells], float64)
    kinds = " and ".join(sorted(kind.__name__ for kind in found))
    raise FileFormatError(
        f"{name}: column {title!r} holds {kinds}, neither numbers nor text",
        hint="leave the column out, or make numbers of it first",
    )
