"""The command line. It needs the extra `train`; without it, it says so."""

from __future__ import annotations

import importlib.util
import sys

NEEDED = ("click", "jinja2", "matplotlib", "rich")


def main() -> None:
    """The command `pullback`."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(
            f"pullback: the command line needs {', '.join(missing)}, which "
            f'{"is" if len(missing) == 1 else "are"} not installed: pip install "pullback[train]"'
        )
    from pullback.cli.commands import root  # noqa: PLC0415  (needs the packages above)

    root(prog_name="pullback")
