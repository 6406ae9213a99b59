"""Imports point down, within one layer freely, and never hide inside a function."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "pullback"
LAYERS = [
    {"errors", "_settings", "_public", "_trusted"},
    {"ir"},
    {"ops"},
    {"array"},
    {"functions"},
    {"transforms", "linalg"},
    {"passes"},
    {"schedule"},
    {"backend"},
    {"compile"},
    {"random", "nn"},
    {"optim"},
    {"data", "train"},
    {"inspect", "bench"},
    {"cli"},
]
HEIGHT = {name: i for i, layer in enumerate(LAYERS) for name in layer}
FILES = sorted(SOURCE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path):
    """(line, module) of each import of this package in a file."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno} imports relatively"
            if node.module == "pullback":
                yield from ((node.lineno, f"pullback.{alias.name}") for alias in node.names)
            elif node.module and node.module.startswith("pullback."):
                yield node.lineno, node.module
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names if a.name.startswith("pullback"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_arrows_point_down(path):
    if path.parent == SOURCE and path.name in ("__init__.py", "__main__.py"):
        return
    assert room(path) in HEIGHT, f"{room(path)} is in no layer"
    for line, module in imports(path):
        parts = module.split(".")
        target = parts[1] if len(parts) > 1 else None
        if target in HEIGHT:
            assert HEIGHT[target] <= HEIGHT[room(path)], f"{path.name}:{line} looks up to {module}"
        else:
            assert room(path) in ("bench", "cli", "inspect", "train"), (
                f"{path.name}:{line} imports the whole package"
            )


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_no_local_import_of_the_package(path):
    tree = ast.parse(path.read_text())
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                hidden = isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                    "pullback"
                )
                assert not hidden or room(path) == "cli", (
                    f"{path.name}:{node.lineno} hides an import"
                )


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_are_rooms_not_halls(path):
    assert len(path.read_text().splitlines()) <= 600


def test_nothing_is_left_to_do():
    words = ("TO" + "DO", "FIX" + "ME", "XX" + "X")
    for path in FILES:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert not any(word in line for word in words), f"{path.name}:{number} {line.strip()}"
