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
        "--data",
        default=str(Path(__file__).parents[2] / "shared" / "data"),
        help="folder with fashion-mnist/ and tinyshakespeare.txt; where absent such tests skip",
    )


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
