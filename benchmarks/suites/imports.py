"""How long `import pullback` takes beyond NumPy, in fresh processes, beside other libraries."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.harness import PACKAGES, Row, available

ROUNDS = 9
_CODE = """
import time
import numpy
start = time.perf_counter()
import {name}
print(time.perf_counter() - start)
"""


def rows() -> tuple[list[Row], list[str]]:
    names = [name for name in PACKAGES if name != "numpy"]
    present = {name: available(name) is not None for name in names}
    importers = {name: _importer(name) for name in names if present[name]}
    row = Row("import beyond NumPy", importers, goal=0.150, own_clock=True)
    return [row], [name for name in names if not present[name]]


def _importer(name: str):
    command = [sys.executable, "-c", _CODE.format(name=name)]
    # An installed package has its bytecode compiled: so let the first run keep it.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}

    def run() -> float:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return float(done.stdout)

    run()
    return run
