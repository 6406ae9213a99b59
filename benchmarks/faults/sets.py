"""The set as a whole: all programs, and which half each belongs to."""

from __future__ import annotations

import importlib

from benchmarks.faults.program import PROGRAMS, Program

MODULES = ("healthy", "objective", "numbers", "initial", "cuts", "samples", "steps")


def load() -> dict[str, Program]:
    """All programs, in order."""
    for name in MODULES:
        importlib.import_module(f"benchmarks.faults.programs.{name}")
    return PROGRAMS


def half(name: str) -> str:
    """Programs of one kind go to the halves in turn; so do kinds of one program."""
    programs = load()
    kinds = [x.kind for x in programs.values()]
    faulty = sorted((x for x in programs.values() if x.kind), key=lambda x: kinds.index(x.kind))
    group = (
        [x.name for x in faulty]
        if programs[name].kind
        else [x.name for x in programs.values() if not x.kind]
    )
    return ("calibration", "unseen")[group.index(name) % 2]
