"""Golden texts: what a program or a message looks like, kept in files that a reviewer can read."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parent / "golden"


class Goldens:
    def __init__(self, update: bool) -> None:
        self.update = update

    def __call__(self, name: str, text: str) -> None:
        """Compare with tests/golden/<name>.txt; `pytest --update-golden` rewrites the file."""
        path = FOLDER / f"{name}.txt"
        text = text.rstrip() + "\n"
        if self.update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert path.exists(), (
            f"no golden {path.name}; run pytest --update-golden and read the result"
        )
        assert text == path.read_text()


def without_places(text: str) -> str:
    """The text with line numbers and folders removed, so that moving a test keeps its golden."""
    return re.sub(r"(?:[\w./-]*/)?([\w-]+\.py):\d+", r"\1:_", text)
