"""The safetensors format: named arrays in one file, nothing in it that runs.

    8 bytes      n, the length of the header, little-endian
    n bytes      JSON: {"name": {"dtype", "shape", "data_offsets": [begin, end]}, …}
    the rest     the elements of every array, without gaps or overlaps

(github.com/huggingface/safetensors.) Read here rather than by that package, because a damaged file
shall be refused with the name and the byte that are wrong, and duplicate names not be overlooked;
the tests compare both ways with that package.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pullback._public import public
from pullback.data.files import unreadable
from pullback.errors import ArgumentError, DTypeError, FileFormatError
from pullback.ir.array import Array
from pullback.ir.types import (
    DTYPES,
    DType,
    Numbers,
    TensorType,
    bfloat16,
    bool_,
    is_float,
    is_signed,
)
from pullback.train.files import write_whole

LARGEST_HEADER = 100_000_000
"""Bytes; the limit of the format's own reader."""
_METADATA = "__metadata__"
_FOREIGN = {
    b"PK\x03\x04": "a zip archive, as torch.save and np.savez write",
    b"\x80\x02": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"\x89HDF": "HDF5",
    b"GGUF": "GGUF",
}
CONVERT = (
    "nothing in it was run; convert it with the library that wrote it: "
    'safetensors.torch.save_file(torch.load("x.pt", weights_only=True), "x.safetensors")'
)


def _code(dtype: DType) -> str:
    """The format's name of an element type: F32, BF16, I64, BOOL."""
    if dtype == bool_:
        return "BOOL"
    if dtype == bfloat16:
        return "BF16"
    letter = "F" if is_float(dtype) else "I" if is_signed(dtype) else "U"
    return f"{letter}{8 * dtype.itemsize}"


_DTYPES = {_code(dtype): dtype for dtype in DTYPES}


@dataclass(frozen=True, eq=False)
class Contents:
    """What a file holds: arrays by name, and texts by name."""

    arrays: Mapping[str, Numbers]
    metadata: Mapping[str, str]


def packed(arrays: Mapping[str, Numbers], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a file. `DTypeError` for an element type that is not one of this library."""
    header: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    pieces = []
    begin = 0
    # The widest elements first, so that each array is aligned to its own element type.
    for name in sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name)):
        array = arrays[name]
        if array.dtype not in DTYPES:
            raise DTypeError(f"{name} is of {array.dtype}, which cannot be stored")
        pieces.append(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
        end = begin + array.nbytes
        shape = list(array.shape)
        header[name] = {"dtype": _code(array.dtype), "shape": shape, "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *pieces])


@public
def load_safetensors(path: str | os.PathLike[str]) -> dict[str, Numbers]:
    """The arrays of a safetensors file by name, as NumPy arrays (bfloat16 included).

    Raises `FileFormatError` for a file of another kind, malformed or truncated, with the name or
    the byte that is wrong. Nothing in a file is ever executed.
    """
    return dict(read(path).arrays)


@public
def save_safetensors(
    path: str | os.PathLike[str],
    arrays: Mapping[str, Array | Numbers],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write arrays by name, for other tools; `metadata` are texts for the header of the file.

    As `save`, it leaves the old file or the new one, whole, and raises `ArgumentError` where none
    can be written. `DTypeError` for an element type that is not one of this library.

    >>> import pullback as pb, tempfile
    >>> file = tempfile.mkdtemp() + "/x.safetensors"
    >>> save_safetensors(file, {"w": pb.ones(2)})
    >>> load_safetensors(file)
    {'w': array([1., 1.], dtype=float32)}
    """
    for name, text in (metadata or {}).items():
        if not isinstance(text, str):
            raise ArgumentError(f"metadata are texts, and {name!r} is {text!r:.40}")
    given = {name: np.asarray(x) for name, x in arrays.items()}
    store(path, packed(given, metadata or {}))


def store(path: str | os.PathLike[str], data: bytes) -> None:
    try:
        write_whole(Path(path), data)
    except OSError as error:
        raise ArgumentError(
            f"{os.fspath(path)} cannot be written: {error.strerror}",
            hint="what was there before is untouched",
        ) from None


def read(path: str | os.PathLike[str]) -> Contents:
    name = os.fspath(path)
    try:
        with open(name, "rb") as stream:
            data = stream.read()
    except OSError as error:
        raise unreadable(name, error) from None
    try:
        return unpacked(data)
    except FileFormatError as error:
        raise FileFormatError(f"{name}: {error.what}", hint=error.hint) from None


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The texts in a file's header, without its arrays; `FileFormatError` as from `read`."""
    name = os.fspath(path)
    try:
        with open(name, "rb") as stream:
            head = stream.read(8)
            length = int.from_bytes(head, "little")
            head += stream.read(length) if length <= LARGEST_HEADER else b""
            size = os.fstat(stream.fileno()).st_size
        entries, begin = _header(head)
        metadata = _metadata(entries.pop(_METADATA, {}))
        _require_tiling({each: _entry(each, x)[1] for each, x in entries.items()}, size - begin)
    except OSError as error:
        raise unreadable(name, error) from None
    except FileFormatError as error:
        raise FileFormatError(f"{name}: {error.what}", hint=error.hint) from None
    return metadata


def unpacked(data: bytes) -> Contents:
    """The inverse of `packed`; `FileFormatError` for other bytes."""
    entries, begin = _header(data)
    metadata = _metadata(entries.pop(_METADATA, {}))
    types, spans = {}, {}
    for name, entry in entries.items():
        types[name], spans[name] = _entry(name, entry)
    _require_tiling(spans, len(data) - begin)
    arrays = {}
    for name, kind in types.items():
        offset = begin + spans[name][0]
        flat = np.frombuffer(data, kind.dtype.newbyteorder("<"), kind.size, offset)
        if kind.dtype == bool_ and (flat.view(np.uint8) > 1).any():
            raise FileFormatError(f"{name!r} is BOOL and holds bytes other than 0 and 1")
        # A copy, aligned, and without the whole file behind it.
        arrays[name] = flat.reshape(kind.shape).astype(kind.dtype)
    return Contents(arrays, metadata)


def _header(data: bytes) -> tuple[dict[str, Any], int]:
    for magic, what in _FOREIGN.items():
        # The length of a header may spell a magic number; then its brace stands at byte 8.
        if data.startswith(magic) and data[8:9] != b"{":
            raise FileFormatError(f"this is {what}, not safetensors", hint=CONVERT)
    if len(data) < 8:
        raise FileFormatError(f"the file ends at byte {len(data)}, within the header's length")
    (length,) = struct.unpack("<Q", data[:8])
    if length > LARGEST_HEADER:
        raise FileFormatError(
            f"bytes 0 … 7 announce a header of {length:,} bytes, above {LARGEST_HEADER:,}: this "
            "is no safetensors file"
        )
    if 8 + length > len(data):
        raise FileFormatError(
            f"the file ends at byte {len(data)}, within the header, which ends at byte {8 + length}"
        )
    try:
        parsed = json.loads(data[8 : 8 + length].decode(), object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise FileFormatError(f"the header is no UTF-8 at byte {8 + error.start}") from None
    except json.JSONDecodeError as error:
        raise FileFormatError(
            f"the header is no JSON at byte {8 + error.pos}: {error.msg}"
        ) from None
    except RecursionError:
        raise FileFormatError("the header is nested too deep") from None
    if not isinstance(parsed, dict):
        raise FileFormatError("the header is no JSON object")
    return parsed, 8 + length


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, value in pairs:
        if name in table:
            raise FileFormatError(f"the header has the name {name!r:.80} twice")
        table[name] = value
    return table


def _metadata(found: Any) -> dict[str, str]:
    if not isinstance(found, dict) or not all(isinstance(x, str) for x in found.values()):
        raise FileFormatError(f"{_METADATA} holds texts by name, not {found!r:.60}")
    return found


def _entry(name: str, entry: Any) -> tuple[TensorType, tuple[int, int]]:
    if ".." in name.replace("\\", "/").split("/") or name.startswith(("/", "\\")) or "\0" in name:
        raise FileFormatError(f"the name {name!r:.80} is a path out of the file's folder")
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise FileFormatError(f"{name!r} has no dtype, shape and data_offsets: {entry!r:.80}")
    code, shape, span = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in _DTYPES:
        known = ", ".join(_DTYPES)
        raise FileFormatError(
            f"{name!r} has the dtype {code!r:.40}, which this library has not",
            hint=f"the dtypes are {known}",
        )
    if not _are_sizes(shape) or len(shape) > 64:
        raise FileFormatError(f"{name!r} has the shape {shape!r:.80}")
    if not _are_sizes(span) or len(span) != 2 or span[0] > span[1]:
        raise FileFormatError(f"{name!r} has the data_offsets {span!r:.80}")
    size = math.prod(shape) * _DTYPES[code].itemsize
    if span[1] - span[0] != size:
        raise FileFormatError(
            f"{name!r} is {code} of shape {shape}, {size} bytes, and its data_offsets {span} are "
            f"{span[1] - span[0]} bytes apart"
        )
    return TensorType(tuple(shape), _DTYPES[code]), (span[0], span[1])


def _are_sizes(found: Any) -> bool:
    return isinstance(found, list) and all(type(n) is int and n >= 0 for n in found)


def _require_tiling(spans: Mapping[str, tuple[int, int]], size: int) -> None:
    """Every byte of the rest belongs to one array."""
    at = 0
    for name, (begin, end) in sorted(spans.items(), key=lambda item: item[1]):
        if begin != at:
            what = "overlaps" if begin < at else "leaves a gap"
            raise FileFormatError(
                f"the data of {name!r} begins at byte {begin} and {what}: what comes before "
                f"ends at {at}"
            )
        at = end
    if at != size:
        what = "is truncated" if size < at else "goes on after its arrays"
        raise FileFormatError(f"the file {what}: {size} bytes of data, and its arrays take {at}")
