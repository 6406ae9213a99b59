"""The sets: rules are corrected on `calibration` and judged by the others, one after the other.

`fresh` and `reserve` were written together, without a look at the rules. Which of the two a
program belongs to is said by a checksum of its name, so that it stays when others are added.
`trial` and `final` were written later, in the same way.
"""

from __future__ import annotations

import importlib
from zlib import crc32

from benchmarks.faults.program import PROGRAMS, Program

MODULES = {
    "programs": (
        "healthy",
        "objective",
        "numbers",
        "initial",
        "cuts",
        "samples",
        "steps",
        "variants",
        "written",
    ),
    "fresh": (
        "healthy",
        "structured",
        "odd",
        "losses",
        "arithmetic",
        "networks",
        "paths",
        "datasets",
        "loops",
    ),
    "trial": (
        "healthy",
        "structured",
        "objective",
        "numbers",
        "network",
        "way_back",
        "samples",
        "loop",
    ),
    "final": (
        "tables",
        "structures",
        "unusual",
        "objectives",
        "beginnings",
        "numerics",
        "routes",
        "inputs",
        "updates",
    ),
}


SETS = ("calibration", "fresh", "reserve", "trial", "final")


def load(which: str = ",".join(SETS)) -> dict[str, Program]:
    """The programs of the sets that are named, with commas between, in order."""
    names = which.split(",")
    if wrong := sorted({*names} - {*SETS}):
        raise ValueError(f"the sets are {', '.join(SETS)}, not {', '.join(wrong)}")
    for folder, modules in MODULES.items():
        for module in modules:
            importlib.import_module(f"benchmarks.faults.{folder}.{module}")
    return {name: x for name, x in PROGRAMS.items() if set_of(x) in names}


def set_of(program: Program) -> str:
    folder = program.make.__module__.split(".")[2]
    if folder != "fresh":
        return folder if folder in SETS else "calibration"
    number = crc32(program.name.encode())
    return "fresh" if (number % 2 == 0 if program.kind else number % 3 > 0) else "reserve"
