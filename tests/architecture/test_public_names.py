"""The public names: sorted, complete, documented; the settings documented."""

from __future__ import annotations

import dataclasses
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import pullback as pb
from pullback._settings import Settings
from pullback.ir.array import Array

ROOT = Path(__file__).parents[2]


def test_all_is_sorted_and_complete():
    assert pb.__all__ == sorted(set(pb.__all__))
    assert [name for name in pb.__all__ if not hasattr(pb, name)] == []
    rooms = {"array", "backend", "bench", "cli", "errors", "functions", "inspect", "ir", "ops"}
    rooms |= {"passes", "schedule", "train", "transforms"}
    public = {
        name
        for name, value in vars(pb).items()
        if not name.startswith("_") and not (inspect.ismodule(value) and name in rooms)
    }
    assert public - set(pb.__all__) == set()


@pytest.mark.parametrize("package", [pb.data, pb.nn, pb.optim, pb.train], ids=lambda p: p.__name__)
def test_the_names_of_a_package_are_sorted_and_no_module_hides_one(package):
    assert package.__all__ == sorted(set(package.__all__))
    modules = {name for name in package.__all__ if inspect.ismodule(getattr(package, name))}
    assert modules <= {"digits", "init", "split"}
    assert all(inspect.getdoc(getattr(package, name)) for name in package.__all__)


def test_every_public_function_has_a_docstring():
    bare = [
        n for n in pb.__all__ if callable(getattr(pb, n)) and not inspect.getdoc(getattr(pb, n))
    ]
    assert bare == []


def test_every_setting_is_documented():
    page = (ROOT / "ARCHITECTURE.md").read_text()
    for setting in dataclasses.fields(Settings):
        assert f"PULLBACK_{setting.name.upper()}" in page
    assert len(dataclasses.fields(Settings)) <= 8


def test_every_declared_operator_is_bound():
    declared = inspect.getsource(Array).split("if TYPE_CHECKING:")[1]
    names = [
        line.split("def ")[1].split("(")[0] for line in declared.splitlines() if "def " in line
    ]
    assert [name for name in names if not hasattr(Array, name)] == []


def test_importing_loads_no_compiler_and_no_plotting():
    script = "import sys, json, pullback; print(json.dumps(sorted(sys.modules)))"
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT / "src"
    )
    loaded = json.loads(shown.stdout)
    heavy = {
        "llvmlite",
        "matplotlib",
        "rich",
        "click",
        "scipy",
        "torch",
        "jax",
        "safetensors",
        "jinja2",
    }
    assert heavy.isdisjoint(loaded)
