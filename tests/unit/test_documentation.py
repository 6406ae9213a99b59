"""What the pages and the docstrings show is what happens; the examples run."""

from __future__ import annotations

import doctest
import importlib.util
import inspect
import pkgutil
import re
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


def blocks(page):
    """The Python of a page that is no session."""
    return re.findall(r"```python\n(?!>>>)(.*?)```", page.read_text(), re.DOTALL)


def test_the_readme_runs(capsys):
    names = {}
    for block in blocks(ROOT / "README.md"):
        exec(block, names)
    assert "peak" in capsys.readouterr().out


def test_the_loop_of_pytorch_runs():
    torch = pytest.importorskip("torch")
    (block,) = blocks(ROOT / "docs" / "coming_from_pytorch.md")
    names = {"torch": torch, "nn": torch.nn, "F": torch.nn.functional}
    names["loader"] = [(torch.ones(8, 4), torch.arange(8) % 3)]
    exec(block, names)
    assert names["loss"].isfinite()


def test_the_links_of_the_pages_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]*[./][^)#\s]*)\)", page.read_text()):
            assert "://" in target or (page.parent / target).exists(), (page.name, target)


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index, page.name


def test_the_reference_has_every_public_name(tmp_path):
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    reference.build(tmp_path)
    for module in (pullback, pullback.nn, pullback.optim, pullback.train, pullback.data):
        shown = (tmp_path / f"{module.__name__}.html").read_text()
        for name in module.__all__:
            if not inspect.ismodule(getattr(module, name)):
                assert f'<h2 id="{name}">' in shown, name
    assert "one native program that updates a" in (tmp_path / "pullback.train.html").read_text()


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
