"""The public interface has the types it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_public_types():
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", str(Path(__file__).parent / "uses.py")]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stdout
