"""The linter, the formatter and the type checker find nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("src", "tests", "examples", "benchmarks", "docs/reference.py")


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", *ROOMS],
        ["ruff", "format", "--check", *ROOMS],
        ["mypy"],
    ],
    ids=["lint", "format", "types"],
)
def test_clean(command):
    module = pytest.importorskip(command[0])
    shown = subprocess.run(
        [sys.executable, "-m", module.__name__, *command[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stdout[-4000:] + shown.stderr[-1000:]
