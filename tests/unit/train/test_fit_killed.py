"""A run killed at ten moments, some in a step and some in the write of a checkpoint, ends as one
that was never stopped: bit for bit, and with the same logs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("killed_run.py")


def started(folder, kills):
    root = Path(__file__).parents[3]
    shown = subprocess.run(
        [sys.executable, str(PROGRAM), str(folder), str(kills)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(root / "src")},
    )
    assert shown.returncode == 0, shown.stderr[-2000:]
    return [int(word) for word in shown.stdout.split()]


def rows(path):
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: x for name, x in row.items() if name != "seconds"} for row in found]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the attempts are forked")
def test_killed_ten_times(tmp_path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    _, steps, best = started(undisturbed, 0)
    deaths, *end = started(killed, 10)
    assert deaths == 10
    assert end == [steps, best]
    assert (killed / "end.safetensors").read_bytes() == (
        undisturbed / "end.safetensors"
    ).read_bytes()
    assert (killed / "steps.csv").read_bytes() == (undisturbed / "steps.csv").read_bytes()
    assert (killed / "steps.jsonl").read_bytes() == (undisturbed / "steps.jsonl").read_bytes()
    assert rows(killed / "metrics.jsonl") == rows(undisturbed / "metrics.jsonl")
    assert not list(killed.glob("**/.*.tmp"))
