"""The folder of a run: claimed carefully, written whole, readable by others."""

from __future__ import annotations

import csv
import json
import math
import os

import pytest

from pullback.errors import ArgumentError
from pullback.train import Run
from pullback.train.files import write_whole
from pullback.train.run import State, free_folder


def test_what_a_run_writes(tmp_path):
    run = Run(tmp_path / "a" / "b", "digits", {"lr": 0.1})
    run.step(step=1, loss=2.0)
    run.step(step=2, loss=math.nan)
    run.epoch(epoch=1, train_loss=1.5)
    run.end(State.FINISHED, test_accuracy=0.5)
    document = json.loads((run.folder / "metrics.json").read_text())
    assert document == {
        "made by": "pullback train",
        "task": "digits",
        "state": "finished",
        "settings": {"lr": 0.1},
        "epochs": [{"epoch": 1, "train_loss": 1.5}],
        "result": {"test_accuracy": 0.5},
    }
    with (run.folder / "steps.csv").open() as stream:
        assert list(csv.DictReader(stream)) == [
            {"step": "1", "loss": "2.0"},
            {"step": "2", "loss": "nan"},
        ]
    assert sorted(os.listdir(run.folder)) == ["metrics.csv", "metrics.json", "steps.csv"]


def test_a_run_that_goes_on_leaves_what_it_measured(tmp_path):
    run = Run(tmp_path, "digits", {})
    assert json.loads((tmp_path / "metrics.json").read_text())["state"] == "running"
    run.epoch(epoch=1, loss=1.0)
    assert (tmp_path / "metrics.csv").read_text() == "epoch,loss\n1,1.0\n"


def test_a_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ArgumentError, match="no training run made"):
        Run(tmp_path, "digits", {})
    assert os.listdir(tmp_path) == ["thesis.tex"]
    (tmp_path / "metrics.json").write_text('{"made by": "somebody"}')
    with pytest.raises(ArgumentError, match="no training run made"):
        Run(tmp_path, "digits", {})


def test_an_earlier_run_is_replaced(tmp_path):
    Run(tmp_path, "digits", {"seed": 1}).epoch(epoch=1)
    Run(tmp_path, "digits", {"seed": 2})
    assert json.loads((tmp_path / "metrics.json").read_text())["settings"] == {"seed": 2}


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ArgumentError, match="is a file"):
        Run(tmp_path / "out", "digits", {})
    with pytest.raises(ArgumentError, match="cannot be written"):
        Run(tmp_path / "out" / "deeper", "digits", {})


def test_free_folder(tmp_path):
    assert free_folder(tmp_path, "x").name == "x"
    (tmp_path / "x").mkdir()
    assert free_folder(tmp_path, "x").name == "x-2"


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_whole(path, "old")

    def fail(*_):
        raise OSError("no space")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]
