"""Files: what is read is what was written; scales and classes are kept."""

from __future__ import annotations

import gzip
import json
import struct

import numpy as np
import pytest

import pullback as pb
from pullback.data import (
    Bytes,
    Characters,
    LabelEncoder,
    Standardizer,
    read_csv,
    read_idx,
    read_mnist,
    read_parquet,
    read_text,
)

CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}


def idx(array) -> bytes:
    head = bytes([0, 0, CODES[array.dtype.name], array.ndim])
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return head + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), (0, 2), ()])
def test_idx(tmp_path, dtype, shape):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    for name, data in (("a", idx(array)), ("b", gzip.compress(idx(array)))):
        (tmp_path / name).write_bytes(data)
        got = read_idx(tmp_path / name)
        assert got.dtype == array.dtype
        assert got.dtype.isnative
        np.testing.assert_array_equal(got, array)


def test_mnist_folder(tmp_path):
    labels = np.array([0, 1, 2, 1], np.uint8)
    images = np.arange(4 * 6, dtype=np.uint8).reshape(4, 2, 3)
    for part, end in (("train", ""), ("t10k", ".gz")):
        pack = gzip.compress if end else bytes
        (tmp_path / f"{part}-images-idx3-ubyte{end}").write_bytes(pack(idx(images)))
        (tmp_path / f"{part}-labels-idx1-ubyte{end}").write_bytes(pack(idx(labels)))
    train, test = read_mnist(tmp_path)
    np.testing.assert_array_equal(train.images, images)
    np.testing.assert_array_equal(test.labels, labels)
    assert len(train) == 4


def test_csv(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text('\ufeffid,size, name ,"a ""b"""\n1,0.5,x,\n\n2,NA,"y\nz",4\n3,1e3,"q,r",5\n')
    table = read_csv(file)
    assert table.names == ["id", "size", "name", 'a "b"']
    assert table["id"].dtype == np.int64
    assert table["name"].tolist() == ["x", "y\nz", "q,r"]
    np.testing.assert_array_equal(table["size"], [0.5, np.nan, 1000])
    assert {name: rows.tolist() for name, rows in table.missing.items()} == {
        "size": [1],
        'a "b"': [0],
    }
    assert table.lines.tolist() == [2, 4, 6]
    complete = table.without("name").complete()
    assert len(complete) == 1
    assert complete.lines.tolist() == [6]
    np.testing.assert_array_equal(complete.matrix("size", "id"), [[1000, 3]])
    assert len(table) == 3
    file.write_text("a;b\n1;2\n")
    assert read_csv(file, ";").matrix().tolist() == [[1.0, 2.0]]


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    file = tmp_path / "t.parquet"
    columns = {"i": [1, 2], "f": [0.5, None], "s": ["x", None], "b": [True, False]}
    parquet.write_table(pyarrow.table(columns), file)
    table = read_parquet(file)
    assert [x.dtype.kind for x in table.columns.values()] == ["i", "f", "U", "b"]
    assert {name: rows.tolist() for name, rows in table.missing.items()} == {"f": [1], "s": [1]}
    assert table.matrix("i", "b").tolist() == [[1.0, 1.0], [2.0, 0.0]]
    parquet.write_table(pyarrow.table({"s": [[1], [2]]}), file)
    with pytest.raises(pb.errors.FileFormatError, match="column 's' holds list"):
        read_parquet(file)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(pb.errors.FileFormatError, match="no Parquet file, or a damaged one"):
        read_parquet(file)


def test_standardizer():
    x = np.random.default_rng(0).normal(3, [1, 5, 9], (100, 3))
    scale = Standardizer.fit(x)
    y = scale(x)
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(y.std(0), 1)
    np.testing.assert_allclose(scale.inverse(y), x)
    again = Standardizer.from_state(json.loads(json.dumps(scale.state())))
    np.testing.assert_array_equal(again(x), y)
    assert scale(x.astype(np.float32)).dtype == np.float32


def test_labels():
    encoder = LabelEncoder.fit(np.array(["b", "a", "c", "a"]))
    assert encoder.classes == ("a", "b", "c")
    again = LabelEncoder.from_state(json.loads(json.dumps(encoder.state())))
    assert again == encoder
    assert again.decode(again.encode(["c", "a"])) == ["c", "a"]
    assert LabelEncoder.fit(np.array([7, 3])).encode([7]).tolist() == [1]


@pytest.mark.parametrize("text", ["hello\nworld", "naïve 日本 🙂\r\n", "a"])
def test_tokens(tmp_path, text):
    file = tmp_path / "t.txt"
    file.write_bytes(text.encode())
    assert read_text(file) == text
    vocabulary = Characters.fit(text)
    tokens = vocabulary.encode(text)
    assert vocabulary.decode(tokens) == text
    assert tokens.max() < vocabulary.size
    assert Characters.from_state(json.loads(json.dumps(vocabulary.state()))) == vocabulary
    assert Bytes().decode(Bytes().encode(text)) == text
    assert vocabulary.encode("").tolist() == []
