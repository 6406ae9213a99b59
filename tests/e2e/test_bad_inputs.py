"""What the command says of bad files, shapes, labels and choices, and its exit code: one table."""

from __future__ import annotations

import errno
import io
import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest

testing = pytest.importorskip("click.testing")
for package in ("jinja2", "matplotlib", "rich"):
    pytest.importorskip(package)


def invoke(*arguments):
    from pullback.cli.commands import root

    return testing.CliRunner().invoke(root, [str(each) for each in arguments])


def write(name, content):
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())


def train(*arguments):
    return lambda: invoke("train", *arguments, "--out", "run")


def digits(*arguments):
    return train("digits", *arguments)


def config(text, source="digits"):
    def run():
        write("c.toml", text)
        return train(source, "--config", "c.toml")()

    return run


GOOD = "a,b,y\n" + "".join(f"{i % 7},{i * i % 11},{i / 4}\n" for i in range(40))


def table(text, *arguments, target="y"):
    def run():
        write("t.csv", text)
        return train("t.csv", *(["--target", target] if target else []), *arguments)()

    return run


def text(content, *arguments):
    def run():
        write("t.txt", content)
        return train("t.txt", *arguments)()

    return run


def images(*arguments, labels=(0, 1, 2, 0, 1, 2), tested=(0, 1, 2), side=(8, 8), cut=0):
    def run():
        folder = Path("images")
        folder.mkdir()
        for part, each, size in (("train", labels, 8), ("t10k", tested, side[1])):
            head = struct.pack(">BBBBIII", 0, 0, 8, 3, len(each), size, size)
            data = head + bytes(len(each) * size * size)
            write(folder / f"{part}-images-idx3-ubyte", data[: len(data) - cut])
            head = struct.pack(">BBBBI", 0, 0, 8, 1, len(each))
            write(folder / f"{part}-labels-idx1-ubyte", head + bytes(each))
        return train(folder, *arguments)()

    return run


def predict(state, name, content, kept=True):
    """Of a folder that looks like that of a run; no network is needed to refuse the input."""

    def run():
        from pullback import random
        from pullback.train import save
        from pullback.train.models import parse_model

        Path("run").mkdir()
        write("run/run.json", json.dumps({"made by": "pullback train", "state": "stopped"}))
        if kept:
            model = parse_model({"name": "mlp", "width": 2}).build((3,), 2, key=random.key(0))
            notes = {"model": {"name": "mlp", "width": 2}, "inputs": [3], "outputs": 2}
            save("run/model.safetensors", model, **notes, **state)
        if content is not None:
            write(name, content)
        return invoke("predict", "run", name)

    return run


DIGITS = {"kind": "DigitsTask", "task": {"inputs": [1, 8, 8], "largest": 1.0, "classes": [0, 1]}}
COLUMNS = {
    "numbers": ["a"],
    "scale": {"mean": [0.0], "std": [1.0]},
    "words": {"w": {"classes": ["x", "z"]}},
    "missing": "refuse",
}
ROWS = {
    "kind": "TableTask",
    "task": {
        "target": "y",
        "columns": COLUMNS,
        "task": "classification",
        "objective": {"classes": ["no", "yes"]},
    },
}


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def resume(*arguments, state="run"):
    def run():
        if state:
            Path("run").mkdir()
            write("run/run.json", json.dumps({"made by": "pullback train"}))
            write("run/config.toml", 'source = "digits"\n[training]\nepochs = 1\nseed = 0\n')
        return invoke("train", "--resume", "--out", "run", *arguments)

    return run


def used(make):
    def run():
        make()
        return digits()()

    return run


def full_disk(ends):
    """The disk ends when `ends` (the name of a file) is written."""

    def run():
        rename = os.replace

        def replace(source, target):
            if Path(target).name.startswith(ends):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
            rename(source, target)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "replace", replace)
            return digits("--model", "mlp", "--epochs", "1", "--quiet")()

    return run


def rare_class():
    """The one row of a class is not in the training part."""
    write("t.csv", "a,y\n" + "1,cat\n2,dog\n" * 9 + "3,emu\n")
    return config("[data]\ntarget = 'y'\nsplit_seed = 1", source="t.csv")()


CASES = {
    # ---- which source
    "no source": train(),
    "no such file": train("absent.csv", "--target", "y"),
    "a near word": train("digit"),
    "unknown option": digits("--speed", "9"),
    # ---- numbers of options
    "lr 0": digits("--lr", "0"),
    "lr negative": digits("--lr", "-0.1"),
    "lr NaN": digits("--lr", "nan"),
    "lr infinite": digits("--lr", "inf"),
    "lr a word": digits("--lr", "fast"),
    "epochs 0": digits("--epochs", "0"),
    "epochs many": digits("--epochs", "many"),
    "batch of 0": digits("--batch-size", "0"),
    "batch larger than the data": digits("--batch-size", "1438"),
    "parts that do not divide": digits("--accumulate", "3"),
    "clip negative": digits("--clip", "-1"),
    "seed negative": digits("--seed", "-1"),
    "seed too large": digits("--seed", str(2**64)),
    "no such model": digits("--model", "resnet"),
    "gpt of images": digits("--model", "gpt"),
    "cnn of a table": table(GOOD, "--model", "cnn"),
    "mlp of a text": text("ab" * 500, "--model", "mlp"),
    "no such precision": digits("--precision", "fp8"),
    "target of digits": digits("--target", "y"),
    "a loss that explodes": digits(
        "--model", "mlp", "--optimizer", "sgd", "--lr", "1e30", "--epochs", "1", "--quiet"
    ),
    # ---- configurations
    "config: no file": lambda: invoke("train", "digits", "--config", "absent.toml"),
    "config: no TOML": config("[training\nepochs = 3"),
    "config: unknown section": config("[trainng]\nepochs = 3"),
    "config: unknown key": config("[training]\nlearning_rate = 3"),
    "config: nearly a key": config("[training]\nbatchsize = 3"),
    "config: key of another network": config("[model]\nname = 'mlp'\nheads = 3"),
    "config: key of another optimiser": config("[optimizer]\nname = 'adam'\nmomentum = 0.9"),
    "config: a text for a number": config("[training]\nepochs = '3'"),
    "config: true for a number": config("[optimizer]\nlr = true"),
    "config: a number for a list": config("[model]\nname = 'cnn'\nchannels = 3"),
    "config: lists of two lengths": config("[model]\nname = 'cnn'\nchannels = [3, 4, 5]"),
    "config: pool leaves nothing": config("[model]\nname = 'cnn'\npool = [4, 4]"),
    "config: both lengths": config("[training]\nepochs = 3\nsteps = 4"),
    "config: no section": config("training = 3"),
    "config: share": config("[data]\nvalidation = 1.5"),
    "config: shares leave nothing": config("[data]\nvalidation = 0.6\ntest = 0.6"),
    "config: beta": config("[optimizer]\nb1 = 1.0"),
    "config: warmup of a constant rate": config("[optimizer]\nname = 'sgd'\nlr = 1.0\nwarmup = 9"),
    "config: warmup too long": config("[optimizer]\nwarmup = 9\n[training]\nsteps = 5"),
    "config: samples of images": config("[samples]\ncount = 3"),
    # ---- tables
    "table: no target": table(GOOD, target=None),
    "table: no such target": table(GOOD, target="price"),
    "table: no such column to drop": table(GOOD, "--drop", "c"),
    "table: target dropped": table(GOOD, "--drop", "y"),
    "table: empty": table(""),
    "table: ragged": table("a,b,y\n1,2,3\n4,5\n"),
    "table: NaN": table("a,y\n1,2\nNaN,3\n" * 9),
    "table: infinite": table("a,y\n" + "1,2\n3,4\ninf,5\n" * 9, "--task", "regression"),
    "table: target without values": table("a,y\n" + "1,\n2,\n" * 9),
    "table: target constant": table("a,y\n" + "1,2.5\n2,2.5\n" * 9, "--task", "regression"),
    "table: one class": table("a,y\n" + "1,cat\n2,cat\n" * 9),
    "table: text as a number": table("a,y\n" + "1,cat\n2,dog\n" * 9, "--task", "regression"),
    "table: every row a class": table("a,y\n" + "".join(f"{i},n{i}\n" for i in range(30))),
    "table: class with one row": rare_class,
    "table: columns constant": table("a,y\n" + "1,2.5\n1,3.5\n" * 9, "--task", "regression"),
    "table: free text": table("a,y\n" + "".join(f"name {i},{i}.5\n" for i in range(90))),
    "table: too few rows": table("a,y\n1,2.5\n2,3.5\n"),
    "table: batch larger than it": table(GOOD, "--batch-size", "64"),
    "table: no UTF-8": table("a,y\n1,caf\xe9\n".encode("latin-1")),
    # ---- images
    "images: none in the folder": lambda: (Path("empty").mkdir(), train("empty")())[1],
    "images: cut": images(cut=5),
    "images: a class missing": images(labels=(0, 0, 2, 2)),
    "images: another size for the test": images(side=(8, 9)),
    "images: fewer than a batch": images("--batch-size", "6"),
    # ---- texts
    "text: empty": text(""),
    "text: no UTF-8": text(b"abc\xff" * 99),
    "text: one character": text("a" * 999),
    "text: shorter than a block": text("abcdef" * 20),
    "text: epochs": text("abcdef" * 500, "--epochs", "2"),
    "text: a prompt of other characters": config(
        "[samples]\nprompt = 'Z'\nlength = 1\n[training]\nsteps = 1\n"
        "[model]\nlayers = 1\nwidth = 4\nheads = 1\nblock = 4",
        source="t.txt",
    ),
    # ---- folders
    "folder: a file": used(lambda: write("run", "")),
    "folder: of somebody else": used(lambda: (Path("run").mkdir(), write("run/a.txt", ""))),
    "folder: of an earlier run": used(resume("--lr", "7")),
    "folder: the disk is full at once": full_disk("config"),
    "folder: the disk is full at a checkpoint": full_disk("step-"),
    "resume: no folder": lambda: invoke("train", "--resume"),
    "resume: no run": resume(state=None),
    "resume: another choice": resume("--seed", "1"),
    "resume: another source": resume("t.txt"),
    # ---- prediction
    "predict: no run": lambda: invoke("predict", "absent", "x.csv"),
    "predict: a run without a network": predict({}, "x.csv", None, kept=False),
    "predict: no file": predict(ROWS, "x.csv", None),
    "predict: a column missing": predict(ROWS, "x.csv", "b,w\n1,x\n"),
    "predict: a value missing": predict(ROWS, "x.csv", "a,w\n1,x\n,z\n"),
    "predict: text for numbers": predict(ROWS, "x.csv", "a,w\none,x\n"),
    "predict: an unseen word": predict(ROWS, "x.csv", "a,w\n1,x\n2,q\n"),
    "predict: no image": predict(DIGITS, "x.idx", b"\x89PNG...."),
    "predict: no array": predict(DIGITS, "x.npy", b"not numpy"),
    "predict: images of another size": predict(DIGITS, "x.npy", npy(np.ones((2, 9, 9)))),
    "predict: a pixel that is no number": predict(DIGITS, "x.npy", npy(np.full((1, 8, 8), np.nan))),
    "predict: length of classes": lambda: (
        predict(DIGITS, "x.npy", None)(),
        invoke("predict", "run", "x.npy", "--length", "3"),
    )[1],
}


def told(shown):
    """The exit code, and what the terminal says from the word Error on."""
    assert shown.exception is None or isinstance(shown.exception, SystemExit), shown.exception
    assert "Traceback" not in shown.output
    _, found, message = shown.output.partition("Error: ")
    assert found, shown.output
    if message.startswith(("Invalid value", "No such option")):  # the words are those of click
        message = message.partition(":" if "value" in message else ".")[0]
    return f"exit {shown.exit_code}: {message.strip()}"


def test_the_texts(golden, tmp_path, monkeypatch):
    texts = []
    for i, (name, case) in enumerate(CASES.items()):
        folder = tmp_path / str(i)
        folder.mkdir()
        monkeypatch.chdir(folder)
        if "prompt" in name:
            write("t.txt", "abcdef" * 99)
        text = told(case())
        assert text.startswith(("exit 1: ", "exit 2: "))
        texts.append(f"---- {name}\n{text}\n")
    golden("errors/command", "\n".join(texts))


def test_there_are_enough():
    assert len(CASES) >= 40


def test_what_is_refused_before_it_began_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("lr NaN", "batch larger than the data", "config: unknown key", "gpt of images"):
        assert CASES[name]().exit_code == 2
        assert not Path("run").exists()
