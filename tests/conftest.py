"""Options of the suite, and the fixtures every part of it may use."""

from __future__ import annotations

from pathlib import Path

import pytest

from goldens import Goldens


def pytest_addoption(parser):
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="rewrite the golden files from what is seen now",
    )
    parser.addoption(
        "--thorough",
        action="store_true",
        help="run every case of the long tables, of which a sample runs otherwise",
    )
    parser.addoption(
        "--data",
        default=str(Path(__file__).parents[2] / "shared" / "data"),
        help="folder with fashion-mnist/ and tinyshakespeare.txt; where absent such tests skip",
    )


def pytest_collection_modifyitems(config, items):
    if config.getoption("--thorough"):
        return
    left_out = [item for item in items if item.get_closest_marker("thorough")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if not item.get_closest_marker("thorough")]


@pytest.fixture
def golden(request):
    """`golden(name, text)`: the text equals that of tests/golden/<name>.txt."""
    return Goldens(update=request.config.getoption("--update-golden"))


@pytest.fixture
def data_folder(request):
    """The folder of real data sets."""
    folder = Path(request.config.getoption("--data"))
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder}; pass --data")
    return folder
