"""`pullback train digits`, as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pullback

testing = pytest.importorskip("click.testing")
for package in ("jinja2", "matplotlib", "rich"):
    pytest.importorskip(package)

SOURCE = Path(__file__).parents[2] / "src"
QUICK = ["train", "digits", "--epochs", "1", "--batch-size", "256", "--hidden", "8"]


def invoke(*arguments):
    from pullback.cli.commands import root

    return testing.CliRunner().invoke(root, [str(each) for each in arguments])


def run_command(*arguments, cwd, script="from pullback.cli import main; main()"):
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "COLUMNS": "40"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_learns(tmp_path):
    shown = run_command("train", "digits", "--seed", "0", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert shown.stderr == ""
    (folder,) = (tmp_path / "runs").iterdir()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["state"] == "finished"
    assert metrics["result"]["test_accuracy"] >= 0.97
    assert sum(map(sum, metrics["result"]["confusion"])) == metrics["result"]["images"]["test"]
    lines = shown.stdout.splitlines()
    assert sum(line.startswith("epoch ") for line in lines) == len(metrics["epochs"]) == 25
    assert lines[-2].startswith("test accuracy ")
    assert lines[-1] == f"report: {Path('runs', folder.name, 'report.html')}"
    assert "<svg" in (folder / "report.html").read_text()
    names = {path.name for path in folder.iterdir()}
    assert names >= {"metrics.csv", "steps.csv", "learning_curves.png", "gradient_norms.png"}
    assert not [name for name in names if name.startswith(".")]


def test_the_same_seed_gives_the_same_run(tmp_path):
    def measured(name, seed):
        assert invoke(*QUICK, "--seed", seed, "--out", tmp_path / name).exit_code == 0
        steps = (tmp_path / name / "steps.csv").read_text()
        result = json.loads((tmp_path / name / "metrics.json").read_text())["result"]
        return steps, result["test_loss"]

    assert measured("a", 5) == measured("b", 5) != measured("c", 6)


def test_the_largest_seed_and_batch(tmp_path):
    shown = invoke(*QUICK, "--batch-size", 1437, "--seed", 2**64 - 1, "--out", tmp_path / "run")
    assert shown.exit_code == 0, shown.output


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--epochs", "0", "0 is not in the range"),
        ("--epochs", "many", "not a valid integer"),
        ("--batch-size", "-1", "-1 is not in the range"),
        ("--batch-size", "1438", "larger than the 1437 training images"),
        ("--lr", "0", "not a finite number above 0"),
        ("--lr", "-0.1", "not a finite number above 0"),
        ("--lr", "nan", "not a finite number above 0"),
        ("--lr", "inf", "not a finite number above 0"),
        ("--lr", "fast", "is no number"),
        ("--hidden", "0", "0 is not in the range"),
        ("--seed", "-1", "-1 is not in the range"),
        ("--seed", str(2**64), "is not in the range"),
        ("--speed", "9", "No such option"),
    ],
)
def test_bad_arguments_exit_with_2(tmp_path, option, value, words):
    folder = tmp_path / "run"
    shown = invoke("train", "digits", "--out", folder, option, value)
    assert shown.exit_code == 2
    assert words in " ".join(shown.output.split())
    assert not folder.exists()


def test_a_folder_that_cannot_be_used_exits_with_2(tmp_path):
    (tmp_path / "file").write_text("")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "letter.txt").write_text("dear")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", foreign, "/proc/pullback"):
        shown = invoke(*QUICK, "--out", folder)
        assert shown.exit_code == 2, shown.output
    assert [path.name for path in foreign.iterdir()] == ["letter.txt"]


def test_a_loss_that_explodes_is_told(tmp_path):
    shown = invoke(*QUICK, "--lr", "1e38", "--epochs", 9, "--out", tmp_path / "run")
    assert shown.exit_code == 1
    assert "take a smaller learning rate" in shown.output
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["state"] == "stopped"


def test_help_and_version():
    for arguments in (["--help"], ["-h"], ["train", "--help"], ["train", "digits", "--help"]):
        shown = invoke(*arguments)
        assert shown.exit_code == 0
        assert "Usage: " in shown.output
    assert invoke("--version").output == f"pullback, version {pullback.__version__}\n"


def test_missing_packages_are_named(tmp_path):
    script = (
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'rich' else find(name, *rest)\n"
        "from pullback.cli import main; main()"
    )
    shown = run_command("train", "digits", cwd=tmp_path, script=script)
    assert shown.returncode != 0
    assert 'rich, which is not installed: pip install "pullback[train]"' in shown.stderr
