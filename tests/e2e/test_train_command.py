"""`pullback train` and `pullback predict`, as a user runs them."""

from __future__ import annotations

import csv
import json
import os
import signal
import struct
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest

import pullback

testing = pytest.importorskip("click.testing")
for package in ("jinja2", "matplotlib", "rich"):
    pytest.importorskip(package)

ROOT = Path(__file__).parents[2]
PLAIN = ["--quiet", "--no-report"]
TINY = ["--model", "mlp", "--epochs", "1", "--batch-size", "256", *PLAIN]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def invoke(*arguments):
    from pullback.cli.commands import root

    return testing.CliRunner().invoke(root, [str(each) for each in arguments])


def trained(*arguments):
    shown = invoke("train", *arguments)
    assert shown.exit_code == 0, shown.output
    return shown


def document(folder):
    return json.loads(Path(folder, "run.json").read_text())


def table(path, rows=300, seed=0):
    """A number that follows two columns and a word, and a class made of it."""
    rng = np.random.default_rng(seed)
    x, words = rng.normal(size=(rows, 2)), rng.choice(["red", "green"], rows)
    y = 3 * x[:, 0] - x[:, 1] + 2 * (words == "red") + 0.1 * rng.normal(size=rows)
    with open(path, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["a", "b", "word", "same", "y", "level"])
        for row, word, value in zip(x, words, y, strict=True):
            writer.writerow([*row, word, 7, value, "high" if value > 1 else "low"])
    return path


def idx_folder(folder, count=200, side=8):
    """Images of three classes, told apart by the row that is bright."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for part in ("train", "t10k"):
        labels = rng.integers(0, 3, count).astype(np.uint8)
        images = rng.integers(0, 60, (count, side, side)).astype(np.uint8)
        images[np.arange(count), 2 * labels] = 250
        head = struct.pack(">BBBBIII", 0, 0, 8, 3, count, side, side)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        head = struct.pack(">BBBBI", 0, 0, 8, 1, count)
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())
    return folder


# ---- each kind of source --------------------------------------------------------------------


def test_digits_are_learnt():
    shown = trained("digits", "--out", "run")
    assert shown.stdout.splitlines()[-1] == f"report: {Path('run', 'report.html')}"
    result = document("run")["result"]
    assert document("run")["state"] == "finished"
    assert result["scores"]["accuracy"] >= 0.98
    assert result["scores"]["accuracy"] > result["baselines"]["linear model"]["accuracy"] > 0.9
    assert "test part" in shown.stdout
    assert "linear model" in shown.stdout
    assert "\nok " in shown.stdout  # the doctor
    names = {path.name for path in Path("run").iterdir()}
    assert names >= {
        "config.toml",
        "model.safetensors",
        "metrics.csv",
        "steps.csv",
        "doctor.html",
        "report.html",
        "learning_curves.png",
        "gradient_norms.png",
        "update_ratios.png",
        "confusion_matrix.png",
    }
    assert not [name for name in names if name.startswith(".")]
    assert "<svg" in Path("run", "report.html").read_text()

    images = pullback.data.digits()
    np.save("digits.npy", images.images[:40])
    said = invoke("predict", "run", "digits.npy")
    assert said.exit_code == 0, said.output
    rows = list(csv.DictReader(said.stdout.splitlines()))
    assert [int(row["image"]) for row in rows] == list(range(40))
    right = [int(row["predicted"]) == y for row, y in zip(rows, images.labels[:40], strict=True)]
    assert sum(right) >= 38


def test_a_folder_of_idx_files():
    folder = idx_folder(Path("images"))
    shown = trained(folder, "--epochs", "3", "--batch-size", "32", "--out", "run", *PLAIN)
    assert "180 training, 20 validation, 200 test images of 8 × 8 pixels" in shown.stdout
    assert document("run")["result"]["scores"]["accuracy"] > 0.9
    said = invoke("predict", "run", folder / "t10k-images-idx3-ubyte", "--out", "said.csv")
    assert said.exit_code == 0, said.output
    assert len(Path("said.csv").read_text().splitlines()) == 201


def test_without_a_validation_part_the_test_part_is_measured():
    folder = idx_folder(Path("images"))
    Path("c.toml").write_text("[data]\nvalidation = 0.0\n[model]\nname = '2c2d'\n")
    shown = trained(
        folder, "--config", "c.toml", "--epochs", "1", "--batch-size", "64", "--lr", 0.01, *PLAIN
    )
    assert "no validation part" in shown.stdout
    (run,) = Path("runs").iterdir()
    assert "test_accuracy" in Path(run, "metrics.csv").read_text().splitlines()[0]


def test_a_number_in_a_table():
    shown = trained(table("t.csv"), "--target", "y", "--drop", "level", "--out", "run", "--quiet")
    assert "regression (300 different values" in shown.stdout
    assert "constant, and left out: same" in shown.stdout
    result = document("run")["result"]
    assert result["scores"]["r2"] > 0.97
    assert result["baselines"]["linear model"]["r2"] > 0.98
    assert list(result["baselines"])[1].startswith("always the mean")
    assert Path("run", "residuals.png").exists()
    said = invoke("predict", "run", table("new.csv", 50, seed=1))
    assert said.exit_code == 0, said.output
    assert "the target is in the data: loss" in said.stderr
    rows = list(csv.DictReader(said.stdout.splitlines()))
    assert (rows[0]["line"], len(rows)) == ("2", 50)


def test_a_class_in_a_table_and_in_parquet():
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow.csv

    parquet.write_table(pyarrow.csv.read_csv(table("t.csv")), "t.parquet")
    for source in ("t.csv", "t.parquet"):
        shown = trained(
            source,
            "--target",
            "level",
            "--drop",
            "y",
            "--out",
            f"of-{source}",
            "--epochs",
            "30",
            *PLAIN,
        )
        assert "classification (2 different values): high, low" in shown.stdout
        assert document(f"of-{source}")["result"]["scores"]["accuracy"] > 0.9
    scores = [document(f"of-{source}")["result"]["scores"] for source in ("t.csv", "t.parquet")]
    assert scores[0] == scores[1]


def test_gaps_are_filled_or_left_out_when_told():
    lines = table(Path("t.csv")).read_text().splitlines()
    lines[5] = "," + lines[5].partition(",")[2]
    lines[9] = lines[9].replace("red", "").replace("green", "")
    Path("t.csv").write_text("\n".join(lines) + "\n")
    common = ["t.csv", "--target", "y", "--drop", "level", "--epochs", "2", *PLAIN, "--out"]
    shown = invoke("train", *common, "none")
    assert shown.exit_code == 1
    assert "the first in column 'a' on line 6 (missing: a 1, word 1; 300 rows)" in shown.output
    assert (
        "2 of 300 rows lack a value and are left out"
        in trained(*common, "d", "--missing", "drop").stdout
    )
    assert "text of 3 classes" in trained(*common, "m", "--missing", "mean").stdout
    assert invoke("predict", "m", "t.csv").exit_code == 0
    assert invoke("predict", "d", "t.csv").exit_code == 1


def test_a_text():
    Path("t.txt").write_text("the quick brown fox jumps over the lazy dog.\n" * 60)
    Path("c.toml").write_text(
        "[model]\nlayers = 1\nwidth = 32\nheads = 2\nblock = 16\n"
        "[samples]\nlength = 20\ncount = 2\nprompt = 'the '\n"
    )
    shown = trained("t.txt", "--config", "c.toml", "--steps", "150", "--lr", "0.01", "--out", "run")
    result = document("run")["result"]
    assert result["scores"]["loss"] < result["baselines"]["linear model (pairs)"]["loss"]
    assert [len(text) for text in result["samples"]] == [24, 24]
    assert result["samples"][0] in shown.stdout
    assert result["samples"][0].strip()[:9] in Path("run", "report.html").read_text()
    Path("prompt.txt").write_text("quick")
    said = [invoke("predict", "run", "prompt.txt", "--length", 7, "--seed", i) for i in (0, 0)]
    assert said[0].exit_code == 0, said[0].output
    assert said[0].stdout == said[1].stdout
    assert said[0].stdout.startswith("quick")
    assert len(said[0].stdout) == 5 + 7 + 1


# ---- the run --------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_run():
    def measured(name, seed):
        trained("digits", *TINY, "--seed", seed, "--out", name)
        return Path(name, "steps.csv").read_text(), document(name)["result"]["scores"]

    assert measured("a", 5) == measured("b", 5) != measured("c", 6)


def test_options_stand_before_the_file_and_the_run_is_repeated_by_its_own():
    Path("c.toml").write_text(
        'source = "digits"\n[model]\nname = "mlp"\nwidth = 9\n[training]\nepochs = 7\nseed = 3\n'
    )
    trained("--config", "c.toml", "--epochs", "1", "--lr", "0.01", "--out", "run", *PLAIN)
    written = tomllib.loads(Path("run", "config.toml").read_text())
    assert written["source"] == "digits"
    assert written["model"] == {"name": "mlp", "width": 9, "depth": 2}
    assert (written["training"]["epochs"], written["training"]["seed"]) == (1, 3)
    assert written["optimizer"]["lr"] == 0.01
    trained("--config", Path("run", "config.toml"), "--out", "again", *PLAIN)
    assert Path("again", "steps.csv").read_text() == Path("run", "steps.csv").read_text()


def test_a_batch_in_parts_and_half_precision():
    trained(
        "digits", *TINY, "--accumulate", "4", "--precision", "bf16", "--clip", "1", "--out", "r"
    )
    assert document("r")["result"]["scores"]["accuracy"] > 0.1


def test_a_budget_changes_no_bit_and_one_that_cannot_be_met_begins_no_run():
    cnn = ["--epochs", "1", "--batch-size", "256", "--threads", "1", *PLAIN]
    trained("digits", *cnn, "--out", "free")
    shown = trained("digits", *cnn, "--memory", "7 MB", "--out", "held")
    assert "kernels run again" in shown.output
    same = "model.safetensors"
    assert Path("free", same).read_bytes() == Path("held", same).read_bytes()
    assert tomllib.loads(Path("held", "config.toml").read_text())["training"]["memory"] == "7 MB"
    shown = invoke("train", "digits", *cnn, "--memory", "100 kB", "--out", "none")
    assert shown.exit_code == 1
    assert "the least that this program can do with is" in shown.output
    assert not Path("none").exists()
    assert invoke("train", "digits", *cnn, "--memory", "much").exit_code == 2


def test_a_run_that_was_interrupted_goes_on_bit_for_bit():
    options = ["--model", "mlp", "--epochs", "20", "--seed", "1", "--no-report"]
    trained("digits", *options, "--out", "whole")
    script = "import sys; sys.argv[0] = 'pullback'; from pullback.cli import main; main()"
    command = [sys.executable, "-c", script, "train", "digits", *options, "--out", "broken"]
    running = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = Path("broken", "metrics.csv")
    end = time.monotonic() + 120
    while time.monotonic() < end and not (metrics.exists() and metrics.stat().st_size > 300):
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    output, errors = running.communicate(timeout=120)
    if running.returncode == 0:
        pytest.skip("the run had ended before the signal came")
    assert running.returncode == 130, errors
    assert "pullback train --resume --out broken goes on from there" in output
    assert document("broken")["state"] == "stopped"
    shown = invoke("train", "--resume", "--out", "broken", "--no-report")
    assert shown.exit_code == 0, shown.output
    for name in ("steps.csv", "model.safetensors"):
        assert Path("broken", name).read_bytes() == Path("whole", name).read_bytes()


def test_a_run_that_goes_on_keeps_its_choices_but_for_its_length():
    trained("digits", *TINY, "--lr", "0.001", "--optimizer", "adam", "--out", "run")
    shown = invoke("train", "digits", "--resume", "--out", "run", "--lr", "0.01")
    assert shown.exit_code == 2
    assert "optimizer.lr = 0.001, not 0.01" in shown.output
    trained("--resume", "--out", "run", "--epochs", "2", *PLAIN)
    assert document("run")["result"]["steps"] == 10


def test_a_loss_that_explodes_is_told():
    shown = invoke("train", "digits", *TINY, "--optimizer", "sgd", "--lr", "1e30", "--out", "run")
    assert shown.exit_code == 1
    assert "take a smaller --lr" in shown.output
    assert document("run")["state"] == "failed"


def test_the_doctor_names_what_went_wrong_and_what_helps():
    chosen = ["digits", "--lr", "3", "--epochs", "3", "--quiet", "--no-report"]
    told = trained(*chosen, "--out", "run").stdout
    assert "WARN OPT01  the learning rate is too high" in told
    assert "the learning rate: tried for 40 steps: loss" in told
    assert "OPT01" not in trained(*chosen, "--no-doctor", "--out", "alone").stdout
    same = [Path(run, "model.safetensors").read_bytes() for run in ("run", "alone")]
    assert same[0] == same[1]


def test_help_and_version():
    for arguments in (["--help"], ["-h"], ["train", "--help"], ["predict", "--help"]):
        shown = invoke(*arguments)
        assert shown.exit_code == 0
        assert "Usage: " in shown.output
    assert invoke("--version").output == f"pullback, version {pullback.__version__}\n"


def test_missing_packages_are_named():
    script = (
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'rich' else find(name, *rest)\n"
        "from pullback.cli import main; main()"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script, "train", "digits"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode != 0
    assert 'rich, which is not installed: pip install "pullback[train]"' in shown.stderr
