"""What is said of malformed, truncated and hostile files, and of trees that do not fit."""

from __future__ import annotations

import json
import pickle
import struct

import numpy as np
import pytest

import pullback as pb
from goldens import without_places
from pullback.errors import PullbackError
from pullback.train import Checkpoints, from_torch, load, load_notes, load_safetensors, save
from pullback.train.safetensors import packed

nn = pb.nn
KEY = pb.random.key(0)
W = {"w": np.zeros((2, 3), np.float32)}


class Bomb:
    def __reduce__(self):
        return open, ("executed", "w")


def raw(data: bytes, use=load_safetensors):
    def read():
        with open("x.safetensors", "wb") as stream:
            stream.write(data)
        use("x.safetensors")

    return read


def headed(header, data=b"", use=load_safetensors):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return raw(struct.pack("<Q", len(text)) + text + data, use)


def entry(dtype="U8", shape=(2,), span=(0, 2)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(span)}


def noted(text: str):
    return raw(packed({}, {"pullback": text}), load_notes)


def saved(tree, like):
    return lambda: (save("x.safetensors", tree), load("x.safetensors", like))


def torch_of(weights, **options):
    model = nn.Sequential(nn.Linear(3, 2, key=KEY))
    return lambda: from_torch(model, weights, **options)


U8 = headed({"a": entry()}, b"xy")
GOOD = {"0.weight": np.zeros((2, 3), np.float32), "0.bias": np.zeros(2, np.float32)}
CASES = {
    "no file": lambda: load_safetensors("absent.safetensors"),
    "empty": raw(b""),
    "five bytes": raw(b"12345"),
    "pickle": raw(pickle.dumps(Bomb(), protocol=2)),
    "pickle of now": raw(pickle.dumps(Bomb())),
    "zip of torch": raw(b"PK\x03\x04" + bytes(40)),
    "huge header": raw(struct.pack("<Q", 2**63) + b"{}"),
    "header past the end": raw(struct.pack("<Q", 100) + b"{}"),
    "no JSON": headed(b'{"a": [}'),
    "no UTF-8": headed(b'{"\xff": 1}'),
    "no object": headed([1]),
    "nested": headed(b"[" * 200_000),
    "duplicate names": headed(b'{"a": 1, "a": 2}'),
    "metadata": headed({"__metadata__": {"a": 1}}),
    "path traversal": headed({"../../etc/passwd": entry()}, b"xy"),
    "absolute path": headed({"/etc/passwd": entry()}, b"xy"),
    "entry": headed({"a": {"dtype": "U8"}}),
    "dtype": headed({"a": entry("F8_E4M3")}, b"xy"),
    "dtype of another size": headed({"a": entry("F32")}, b"xy"),
    "negative size": headed({"a": entry(shape=(-2,))}, b"xy"),
    "sizes that overflow": headed({"a": entry(shape=(2**32, 2**32, 2**32))}, b"xy"),
    "fractional size": headed({"a": entry(shape=(2.0,))}, b"xy"),
    "offsets backwards": headed({"a": entry(span=(2, 0))}, b"xy"),
    "overlap": headed({"a": entry(), "b": entry(span=(1, 3))}, b"xyz"),
    "gap": headed({"a": entry(), "b": entry(span=(3, 5))}, b"xyzuv"),
    "truncated": headed({"a": entry()}, b"x"),
    "truncated notes": headed({"a": entry()}, b"x", load_notes),
    "more data": headed({"a": entry()}, b"xyz"),
    "bool of 2": headed({"a": entry("BOOL")}, b"\x01\x02"),
    "no checkpoint": headed({"a": entry()}, b"xy", lambda path: load(path, W)),
    "notes no JSON": noted("{"),
    "notes of another": noted('{"format": 1}'),
    "notes of later": noted(
        '{"format": 9, "versions": {}, "numbers": {}, "statics": {}, "notes": {}}'
    ),
    "numbers": raw(
        packed(
            {},
            {
                "pullback": '{"format":1,"versions":{},"statics":{},'
                '"numbers":{"a":"__import__"},"notes":{}}'
            },
        ),
        lambda path: load(path, {"a": 1}),
    ),
    "missing leaf": saved(W, {"v": np.zeros((2, 3), np.float32)}),
    "another leaf": saved({**W, "v": W["w"], "u": W["w"]}, W),
    "number of heads": saved(
        [nn.MultiHeadAttention(8, 2, key=KEY)], [nn.MultiHeadAttention(8, 4, key=KEY)]
    ),
    "notes that are no table": noted('{"format": 1, "x": 1, "y": 2, "z": 3}'),
    "shape": saved(W, {"w": np.zeros((3, 2), np.float32)}),
    "dtype of the tree": saved(W, {"w": np.zeros((2, 3))}),
    "number for an array": saved({"w": 3}, W),
    "array for a number": saved(W, {"w": 3}),
    "float for an int": saved({"w": 3.0}, {"w": 3}),
    "text in a tree": lambda: save("x", {"w": "text"}),
    "objects": lambda: save("x", {"w": np.array([None])}),
    "complex": lambda: save("x", {"w": np.zeros(2, complex)}),
    "notes of arrays": lambda: save("x", W, config={"a": np.ones(2)}),
    "notes that are NaN": lambda: save("x", W, loss=float("nan")),
    "notes with number keys": lambda: save("x", W, classes={1: "a"}),
    "no folder": lambda: save("absent/x", W),
    "keep": lambda: Checkpoints("kept", keep=0),
    "step": lambda: Checkpoints("kept").save(-1, W),
    "none there": lambda: Checkpoints("kept").last(),
    "no metric": lambda: (Checkpoints("kept").save(1, W), Checkpoints("kept").best()),
    "a file for a folder": lambda: (save("file", W), Checkpoints("file")),
    "torch: missing": torch_of({"0.weights": GOOD["0.weight"], "0.bias": GOOD["0.bias"]}),
    "torch: left over": torch_of({**GOOD, "1.weight": GOOD["0.weight"]}),
    "torch: transposed": torch_of({**GOOD, "0.weight": np.zeros((3, 2), np.float32)}),
    "torch: float64": torch_of({**GOOD, "0.weight": np.zeros((2, 3))}),
    "torch: no path": torch_of(GOOD, names={"layer[0]": "0"}),
}


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_texts(golden, tmp_path):
    texts = []
    for name, case in CASES.items():
        with pytest.raises(PullbackError) as caught:
            case()
        message = f"{type(caught.value).__name__}: {without_places(str(caught.value))}"
        texts.append(f"---- {name}\n{message.rstrip()}\n")
    golden("errors/checkpoints", "\n".join(texts))
    assert not (tmp_path / "executed").exists()


def test_the_good_ones_pass():
    U8()
    torch_of(GOOD)()
    torch_of({**GOOD, "1.running_mean": np.zeros(2)})()
    torch_of({**GOOD, "head.w": np.zeros(2)}, ignore=["head.*"])()
