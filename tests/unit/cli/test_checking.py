"""`pullback check`, and the fixture for pytest: what is found, how it is told, the exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

click = pytest.importorskip("click")
testing = pytest.importorskip("click.testing")

from goldens import without_places  # noqa: E402
from pullback.cli.commands import root  # noqa: E402

SOURCE = Path(__file__).parents[3] / "src"
SCRIPT = """
import pullback as pb
from pullback import nn

def loss(model, x, y):
    return nn.cross_entropy(model(x), y)

def parts(rows=32, classes=3):
    a, b, c = pb.random.split(pb.random.key(0), 3)
    model = nn.MLP(4, 3, 16, 1, key=a)
    x, y = pb.random.normal(b, (rows, 4)), pb.random.randint(c, (rows,), 0, classes)
    return model, (x, y)

def make(batch=32):
    model, examples = parts(batch)
    return model, loss, examples

def fast():
    return *make(), pb.optim.sgd(100.0)

def cut():
    model, examples = parts()
    def loss(model, x, y):
        h = pb.stop_gradient(nn.relu(model.layers[0](x)))
        return nn.cross_entropy(model.layers[1](h), y)
    return model, loss, examples

def dropped():
    model, examples = parts()
    def loss(model, x, y, key):
        keep = pb.random.bernoulli(key, 0.9, (32, 1))
        return nn.cross_entropy(model(x) * keep, y)
    return model, loss, examples

def without_parameters():
    _, examples = parts()
    return {}, lambda model, x, y: pb.mean(x), examples

def ignores():
    model, examples = parts()
    return model, lambda model, x, y: pb.mean(x), examples

def labels():
    model, examples = parts(classes=9)
    return model, loss, examples

def several():
    model, examples = parts()
    return model, lambda model, x, y: model(x), examples

def failing():
    return {}["no such key"]

def failing_loss():
    model, examples = parts()
    def loss(model, x, y):
        raise RuntimeError("no data today")
    return model, loss, examples
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(SCRIPT)
    return tmp_path


def run(*arguments):
    return testing.CliRunner().invoke(root, ["check", *arguments])


def test_a_sound_model(folder):
    shown = run("net.py")
    assert shown.exit_code == 0, shown.output
    assert shown.output.startswith("preflight  MLP  131 parameters  batch 32")
    assert "batch 8 " in run("net.py:make", "--batch", "8").output


def test_what_is_found_as_text_json_and_sarif(folder):
    text = run("net.py:cut")
    assert text.exit_code == 1
    assert text.output.splitlines()[1] == "FAIL CUT01  2 of 4 parameters can never learn"
    assert max(map(len, text.output.splitlines())) <= 80
    told = json.loads(run("net.py:cut", "--format", "json").output)
    assert [x["rule"] for x in told["findings"]] == ["CUT01"]
    assert told["findings"][0]["file"] == "net.py"
    written = run("net.py:cut", "--format", "sarif", "--output", "found.sarif")
    assert (written.exit_code, written.output) == (1, "1 errors, 0 warnings: found.sarif\n")
    results = json.loads((folder / "found.sarif").read_text())["runs"][0]["results"]
    assert [x["level"] for x in results] == ["error"]


def test_exit_codes(folder):
    assert run("net.py:cut", "--intended", "CUT01").exit_code == 0
    warned = run("net.py:fast")
    assert "WARN OPT01" in warned.output
    assert warned.exit_code == 0
    assert run("net.py:fast", "--strict").exit_code == 1
    assert run("net.py:dropped").exit_code == 0


BAD = ("without_parameters", "ignores", "labels", "several", "failing", "failing_loss", "absent")


def test_bad_input(folder, golden):
    """The texts of what cannot be looked at; the last but one line of the file names the place."""
    told = []
    for name in BAD:
        shown = run(f"net.py:{name}")
        assert shown.exit_code == (1 if name == "ignores" else 2), shown.output
        text = without_places(shown.output).replace(str(folder), "")
        told.append(f"---- {name}\n{without_seconds(text)}")
    single = run("net.py", "--batch", "1")
    assert single.exit_code == 0
    assert "skipped 1: DAT04: a batch of one" in " ".join(single.output.split())
    told.append(f"---- {run('nowhere.py').output}")
    golden("errors/check", "\n".join(told))


def without_seconds(text):
    head, *rest = text.split("\n")
    return "\n".join(["  ".join(x for x in head.split("  ") if not x.endswith(" s")), *rest])


TESTS = """
from net import cut, make

def test_sound(healthy):
    assert healthy(*make()).exit_code == 0

def test_meant(healthy):
    healthy(*cut(), intended=("CUT01",))

def test_cut(healthy):
    healthy(*cut())
"""


def test_the_fixture_of_pytest(folder):
    (folder / "test_net.py").write_text(TESTS)
    environment = {**os.environ, "PYTHONPATH": f"{SOURCE}{os.pathsep}{folder}"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "pullback_pytest",
        "-p",
        "no:cacheprovider",
    ]
    ended = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "1 failed, 2 passed" in ended.stdout, ended.stdout + ended.stderr
    assert "FAIL CUT01  2 of 4 parameters can never learn" in ended.stdout
