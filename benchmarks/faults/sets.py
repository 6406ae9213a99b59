"""The sets: rules are corrected on `calibration` and judged by the others, one after the other.

`fresh` and `reserve` were written together, without a look at the rules. Which of the two a
program belongs to is said by a checksum of its name, so that it stays when others are added.
`trial` and `final` were written later, in the same way. `pairs` has two programs of each kind of
fault: by lot one is in `shown`, on which rules may be corrected, and the other in `held`, which
judges.
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
    "pairs": (
        "objective_healthy",
        "objective_healthy_more",
        "objective_healthy_odd",
        "objective_faults",
        "objective_faults_more",
        "sample_faults",
        "sample_faults_more",
        "number_faults",
        "gradient_faults",
        "training_healthy",
        "training_healthy_more",
        "training_healthy_odd",
        "way_faults",
        "stop_faults",
        "signal_faults",
        "start_faults",
        "loop_faults",
        "rate_faults",
    ),
}


SETS = ("calibration", "fresh", "reserve", "trial", "final", "shown", "held")


def load(which: str = ",".join(SETS)) -> dict[str, Program]:
    """The programs of the sets that are named, with commas between, in order."""
    names = which.split(",")
    if wrong := sorted({*names} - {*SETS}):
        raise ValueError(f"the sets are {', '.join(SETS)}, not {', '.join(wrong)}")
    for folder, modules in MODULES.items():
        for module in modules:
            importlib.import_module(f"benchmarks.faults.{folder}.{module}")
    return {name: x for name, x in PROGRAMS.items() if set_of(x) in names}


LOOKED_AT = "calls_counted"
"""Its lot is `held`, but a corrector of rules was shown its text by mistake."""


def set_of(program: Program) -> str:
    if program.name == LOOKED_AT:
        return "shown"
    folder = _folder(program)
    if folder == "pairs":
        same = [x for x in PROGRAMS.values() if x.kind == program.kind and _folder(x) == folder]
        lots = sorted(same, key=lambda x: crc32(x.name.encode()))
        # An odd one out falls on either side, by the lot of its kind.
        turn = crc32(program.kind.encode()) % 2
        return ("shown", "held")[(lots.index(program) + turn) % 2]
    if folder != "fresh":
        return folder if folder in SETS else "calibration"
    number = crc32(program.name.encode())
    return "fresh" if (number % 2 == 0 if program.kind else number % 3 > 0) else "reserve"


def _folder(program: Program) -> str:
    return program.make.__module__.split(".")[2]
