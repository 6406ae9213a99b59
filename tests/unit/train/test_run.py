"""The folder of a run: claimed carefully, written whole, readable by others."""

from __future__ import annotations

import json
import math
import os

import numpy as np
import pytest

from pullback.errors import ArgumentError, FileFormatError
from pullback.train.files import write_whole
from pullback.train.run import Run, State, Steps, free_folder


def test_what_a_run_writes(tmp_path):
    run = Run.begin(tmp_path / "a" / "b", "x = 1\n", source="digits")
    assert json.loads((run.folder / "run.json").read_text())["state"] == "running"
    run.end(State.FINISHED, result={"loss": math.nan, "score": 0.5})
    assert json.loads((run.folder / "run.json").read_text()) == {
        "made by": "pullback train",
        "source": "digits",
        "state": "finished",
        "result": {"loss": "nan", "score": 0.5},
    }
    assert (run.folder / "config.toml").read_text() == "x = 1\n"
    assert Run.open(run.folder).document["state"] == "finished"
    assert sorted(os.listdir(run.folder)) == ["config.toml", "run.json"]


def test_a_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ArgumentError, match="no training run made"):
        Run.begin(tmp_path, "")
    with pytest.raises(ArgumentError, match="holds no run"):
        Run.open(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.tex"]
    (tmp_path / "run.json").write_text('{"made by": "somebody"}')
    with pytest.raises(ArgumentError, match="no training run made"):
        Run.begin(tmp_path, "")


def test_an_earlier_run_is_not_replaced(tmp_path):
    Run.begin(tmp_path, "seed = 1\n")
    with pytest.raises(ArgumentError, match="holds a run already"):
        Run.begin(tmp_path, "seed = 2\n")
    assert (tmp_path / "config.toml").read_text() == "seed = 1\n"


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ArgumentError, match="is a file"):
        Run.begin(tmp_path / "out", "")
    with pytest.raises(ArgumentError, match="cannot be written"):
        Run.begin(tmp_path / "out" / "deeper", "")
    with pytest.raises(ArgumentError, match="does not exist"):
        Run.open(tmp_path / "absent")


def test_free_folder(tmp_path):
    assert free_folder(tmp_path, "x").name == "x"
    (tmp_path / "x").mkdir()
    assert free_folder(tmp_path, "x").name == "x-2"


def test_the_table_of_steps(tmp_path):
    header = "epoch,step,loss,grad_norm,grad_norm a,grad_norm b,update_ratio a,update_ratio b\n"
    (tmp_path / "steps.csv").write_text(f"{header}1,1,2.5,9,3,4,0.1,0.2\n1,2,nan,9,5,6,0.3,0.4\n")
    steps = Steps.read(tmp_path / "steps.csv")
    assert list(steps.names) == ["a", "b"]
    assert steps.steps == [1, 2]
    np.testing.assert_equal(steps.losses, [2.5, math.nan])
    assert steps.norms.tolist() == [[3, 4], [5, 6]]
    assert steps.ratios.tolist() == [[0.1, 0.2], [0.3, 0.4]]
    (tmp_path / "steps.csv").write_text("a,b\n1,2\n")
    with pytest.raises(FileFormatError, match="no table of steps"):
        Steps.read(tmp_path / "steps.csv")


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
