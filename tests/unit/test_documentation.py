"""What the pages and the docstrings show is what happens; the examples run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import pullback

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    name
    for _, name, _ in pkgutil.walk_packages(pullback.__path__, "pullback.")
    if not name.endswith("__main__")
)


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_page(page):
    result = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert result.attempted
    assert not result.failed


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    assert not doctest.testmod(importlib.import_module(name)).failed


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_example(example):
    command = [sys.executable, str(example)]
    shown = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT / "src")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout


def test_the_whole_idea_fits_a_page():
    assert len((ROOT / "examples" / "tiny_engine.py").read_text().splitlines()) <= 150


def test_ci_runs_the_readmes_command():
    readme, script = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    assert 'pip install ".[test]" && python -m pytest -n 2' in readme
    assert '".[test]" && python -m pytest -n 2' in script
