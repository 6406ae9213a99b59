"""IDX files, the format of MNIST and its family (LeCun, Cortes & Burges 1998).

Two zero bytes, the code of the element type, the rank, one size an axis (big-endian, 32 bits), then
the elements. Compressed files are known by their first bytes, not by their names.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pullback._public import public
from pullback.data.files import unreadable
from pullback.data.labels import require_every_class
from pullback.errors import ArgumentError, FileFormatError
from pullback.ir.types import Numbers

_CODES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_PIECE = 1 << 20
"""Bytes read at once: what a header claims is not allocated before it is there."""


@public
def read_idx(path: str | os.PathLike[str]) -> Numbers:
    """The array of an IDX file, gzipped or not, in the byte order of this machine.

    Raises `FileFormatError` with the byte that is wrong.
    """
    name = os.fspath(path)
    try:
        with _opened(name) as stream:
            return _array(stream, name)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FileFormatError(f"{name}: the compressed data is damaged: {error}") from None


def _array(stream: BinaryIO, name: str) -> Numbers:
    head = stream.read(4)
    if len(head) < 4:
        raise FileFormatError(f"{name}: the file ends at byte {len(head)}, within its magic number")
    for i in (0, 1):
        if head[i]:
            raise FileFormatError(
                f"{name}: byte {i} is 0x{head[i]:02x} where an IDX file has 0x00",
                hint="an IDX file begins with 00 00, an element type and a rank",
            )
    if head[2] not in _CODES:
        known = ", ".join(f"0x{code:02x}" for code in _CODES)
        raise FileFormatError(
            f"{name}: byte 2 is 0x{head[2]:02x}, which is no element type",
            hint=f"the element types are {known}",
        )
    rank = head[3]
    sizes = stream.read(4 * rank)
    begin = 4 + 4 * rank
    if len(sizes) < 4 * rank:
        raise FileFormatError(
            f"{name}: the file ends at byte {4 + len(sizes)}, within the {rank} sizes that byte 3 "
            f"announces (they end at byte {begin})"
        )
    shape = struct.unpack(f">{rank}I", sizes)
    dtype = np.dtype(_CODES[head[2]])
    expected = math.prod(shape) * dtype.itemsize
    body = _read(stream, expected)
    if len(body) < expected:
        raise FileFormatError(
            f"{name}: the file ends at byte {begin + len(body)}; its sizes {shape} of "
            f"{dtype.name} end at byte {begin + expected}"
        )
    if stream.read(1):
        raise FileFormatError(
            f"{name}: the file goes on at byte {begin + expected}, where its sizes {shape} of "
            f"{dtype.name} end"
        )
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _read(stream: BinaryIO, count: int) -> bytes:
    pieces = []
    while count and (piece := stream.read(min(count, _PIECE))):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    try:
        raw = open(name, "rb")  # noqa: SIM115 - closed below, or by the error
    except OSError as error:
        raise unreadable(name, error) from None
    with raw:
        compressed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not compressed:
            yield raw
            return
        with gzip.GzipFile(fileobj=raw) as stream:
            yield stream  # type: ignore[misc]


# ---- the MNIST family -----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """`images` uint8[n,height,width] and `labels` uint8[n], NumPy arrays."""

    images: Numbers
    labels: Numbers

    def __len__(self) -> int:
        return len(self.labels)


@public
def read_mnist(
    folder: str | os.PathLike[str],
) -> tuple[LabelledImages, LabelledImages]:
    """(training, test) examples of a folder with the four IDX files of MNIST or one of its kind.

    The files have the names of MNIST, `train-images-idx3-ubyte` and so on, with or without `.gz`.
    Raises `ArgumentError` for a file that is missing, counts that differ, or a class without
    training examples.
    """
    train, test = (_part(Path(folder), part) for part in ("train", "t10k"))
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    require_every_class(train.labels, classes, f"the training part of {os.fspath(folder)}")
    if train.images.shape[1:] != test.images.shape[1:]:
        raise ArgumentError(
            f"images of {train.images.shape[1:]} for training and of {test.images.shape[1:]} for "
            "the test"
        )
    return train, test


def _part(folder: Path, part: str) -> LabelledImages:
    image_file, label_file = (
        _found(folder, f"{part}-{kind}-idx{rank}-ubyte")
        for kind, rank in (("images", 3), ("labels", 1))
    )
    images, labels = read_idx(image_file), read_idx(label_file)
    for name, array, rank in ((image_file, images, 3), (label_file, labels, 1)):
        if array.ndim != rank or array.dtype != np.uint8:
            raise FileFormatError(
                f"{name}: holds {array.dtype}{list(array.shape)}, not bytes of rank {rank}"
            )
    if len(images) != len(labels):
        raise ArgumentError(
            f"{image_file} has {len(images)} images and {label_file} has {len(labels)} labels"
        )
    if not len(labels):
        raise ArgumentError(f"{label_file} holds no examples")
    return LabelledImages(images, labels)


def _found(folder: Path, name: str) -> Path:
    variants = [name, name.replace("-idx", ".idx")]
    candidates = [folder / f"{each}{end}" for each in variants for end in ("", ".gz")]
    for path in candidates:
        if path.is_file():
            return path
    raise ArgumentError(
        f"{folder} has no file {name} or {name}.gz",
        hint="a folder of the MNIST family has four: {train,t10k}-{images-idx3,labels-idx1}-ubyte",
    )
