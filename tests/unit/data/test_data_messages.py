"""What readers and loaders say of wrong files and values: what, where (line, byte), what to do."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

import pullback as pb
from goldens import without_places
from pullback.data import Bytes, Characters, Crops, DataLoader, LabelEncoder, Standardizer
from pullback.errors import PullbackError

X = np.arange(12)
HEAD = struct.pack(">BBBBII", 0, 0, 8, 2, 2, 3)


def idx(data: bytes):
    return lambda: (_write("x.idx", data), pb.data.read_idx("x.idx"))


def table(data: str | bytes, use=lambda table: None):
    raw = data if isinstance(data, bytes) else data.encode()
    return lambda: (_write("t.csv", raw), use(pb.data.read_csv("t.csv")))


def text(data: bytes):
    return lambda: (_write("t.txt", data), pb.data.read_text("t.txt"))


def mnist(labels: bytes, images=bytes(12), count=2):
    def read():
        for part in ("train", "t10k"):
            head = struct.pack(">BBBBIII", 0, 0, 8, 3, count, 2, 3)
            _write(f"{part}-images-idx3-ubyte", head + images)
            head = struct.pack(">BBBBI", 0, 0, 8, 1, len(labels))
            _write(f"{part}-labels-idx1-ubyte", head + labels)
        pb.data.read_mnist(".")

    return read


def _write(name, data):
    with open(name, "wb") as stream:
        stream.write(data)


def moved():
    loader = DataLoader(X, 2)
    for _ in loader:
        loader.restore(DataLoader(X, 2).state())


CASES = {
    "idx: empty": idx(b""),
    "idx: of another kind": idx(b"\x89PNG...."),
    "idx: second byte": idx(b"\x00\x01\x08\x01"),
    "idx: element type": idx(b"\x00\x00\x0a\x01\x00\x00\x00\x01x"),
    "idx: sizes cut": idx(HEAD[:10]),
    "idx: elements cut": idx(HEAD + b"12345"),
    "idx: elements left": idx(HEAD + b"1234567"),
    "idx: more than any machine has": idx(struct.pack(">BBBB4I", 0, 0, 14, 4, *[2**32 - 1] * 4)),
    "idx: gzip cut": idx(gzip.compress(HEAD + b"123456", mtime=0)[:-9]),
    "idx: no gzip": idx(b"\x1f\x8bnothing of the kind"),
    "idx: no file": lambda: pb.data.read_idx("absent.idx"),
    "idx: a folder": lambda: pb.data.read_idx("."),
    "mnist: no file": lambda: pb.data.read_mnist("absent"),
    "mnist: counts": mnist(b"\x00\x01\x02"),
    "mnist: empty class": mnist(b"\x00\x03"),
    "mnist: nothing": mnist(b"", b"", 0),
    "csv: empty": table(""),
    "csv: header only": table("a,b\n"),
    "csv: too few cells": table("a,b\n1,2\n3\n"),
    "csv: too many cells after a broken line": table('a,b\n"1\n",2\n3,4,5\n'),
    "csv: open quote": table('a,b\n1,"2\n3,4\n'),
    "csv: a name twice": table("a,a\n1,2\n"),
    "csv: no name": table("a,,b\n1,2,3\n"),
    "csv: no header": table("5.1,3.5\n4.9,3.0\n"),
    "csv: latin-1": table("a,b\n1,caf\xe9\n".encode("latin-1")),
    "csv: a column of nothing": table("a,b\n1,\n2,NA\n"),
    "csv: delimiter": lambda: pb.data.read_csv("t.csv", ", "),
    "csv: no file": lambda: pb.data.read_csv("absent.csv"),
    "table: no column": table("a,b\n1,2\n", lambda t: t["c"]),
    "table: nothing left": table("a\n1\n", lambda t: t.without("a")),
    "table: text": table("a,b\n1,x\n", lambda t: t.matrix()),
    "table: missing": table("a,b\n1,2\n3,\n4,?\n", lambda t: t.matrix()),
    "table: infinite": table("a,b\n1,2\n3,inf\n", lambda t: t.matrix()),
    "table: no complete row": table("a,b\n,2\n3,\n", lambda t: t.complete()),
    "text: empty": text(b""),
    "text: no UTF-8": text(b"one\ntwo \xff three"),
    "text: no file": lambda: pb.data.read_text("absent.txt"),
    "characters: of nothing": lambda: Characters.fit(""),
    "characters: unseen": lambda: Characters.fit("ab\n").encode("a\nab\nbaZ"),
    "characters: no such token": lambda: Characters.fit("ab").decode([0, 2]),
    "characters: state": lambda: Characters.from_state({"characters": "ba"}),
    "bytes: floats": lambda: Bytes().decode([1.5]),
    "labels: unseen": lambda: LabelEncoder.fit(["a", "b"]).encode(["a", "c", "d", "c"]),
    "labels: one class": lambda: LabelEncoder.fit(["a", "a"]),
    "labels: no such number": lambda: LabelEncoder.fit(["a", "b"]).decode([2]),
    "labels: state": lambda: LabelEncoder.from_state({}),
    "labels: empty class": lambda: pb.data.require_every_class(
        np.array([0, 2]), ["cat", "dog", "eel"], "the validation part"
    ),
    "scale: constant": lambda: Standardizer.fit([[1.0, 2.0], [1.0, 3.0]], ["height", "width"]),
    "scale: NaN": lambda: Standardizer.fit([[1.0, np.nan], [np.inf, 3.0]]),
    "scale: other columns": lambda: Standardizer.fit([[1.0], [2.0]])(np.ones((2, 3))),
    "scale: rank": lambda: Standardizer.fit([1.0, 2.0]),
    "scale: state": lambda: Standardizer.from_state({"mean": [0.0], "std": [0.0]}),
    "loader: no examples": lambda: DataLoader(np.zeros((0, 3)), 1),
    "loader: large batch": lambda: DataLoader(X, 13),
    "loader: batch of 0": lambda: DataLoader(X, 0),
    "loader: batch of 2.5": lambda: DataLoader(X, 2.5),
    "loader: lengths": lambda: DataLoader({"x": X, "y": X[:-1]}, 2),
    "loader: no array": lambda: DataLoader((X, "labels"), 2),
    "loader: a number": lambda: DataLoader((X, np.array(3)), 2),
    "loader: nothing": lambda: DataLoader((), 2),
    "loader: seed": lambda: DataLoader(X, 2, seed=-1),
    "loader: other seed": lambda: DataLoader(X, 2).restore(DataLoader(X, 2, seed=1).state()),
    "loader: other data": lambda: DataLoader(X, 2).restore(DataLoader(X[1:], 2).state()),
    "loader: no state": lambda: DataLoader(X, 2).restore({"epoch": 1}),
    "loader: batch past the end": lambda: DataLoader(X, 2).restore(
        {**DataLoader(X, 2).state(), "batch": 6}
    ),
    "loader: moved": moved,
    "crops: short text": lambda: Crops(X, 12, 2),
    "crops: floats": lambda: Crops(X / 2, 3, 2),
    "crops: a matrix": lambda: Crops(X.reshape(3, 4), 3, 2),
}


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_texts(golden):
    texts = []
    for name, case in CASES.items():
        with pytest.raises(PullbackError) as caught:
            case()
        message = f"{type(caught.value).__name__}: {without_places(str(caught.value))}"
        texts.append(f"---- {name}\n{message.rstrip()}\n")
    golden("errors/data", "\n".join(texts))


def test_parquet_without_the_package(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PullbackError, match=r"pip install 'pullback\[data\]'"):
        pb.data.read_parquet("t.parquet")
