"""How long `import pullback` takes beyond NumPy, in fresh processes, beside other libraries."""

from __future__ import annotations

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
    code = _CODE.format(name=name)

    def run() -> float:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        return float(done.stdout)

    return run
