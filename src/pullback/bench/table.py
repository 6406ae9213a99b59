"""The measured lines as a table, as numbers for a file, and in a few words."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from pullback.bench.machine import Machine
from pullback.bench.turns import OWN, Cell, Line

PACKAGES = ("pullback", "numpy", "llvmlite", "torch", "jax")
ABSENT = "–"


def show(console: Console, lines: Sequence[Line], machine: Machine) -> None:
    """Times, first calls and memory of each line, and what did not work."""
    names = list(lines[0].cells)
    console.print(_times(lines, names, machine))
    console.print(_first_calls(lines, names))
    console.print(_memory(lines, names))
    console.print(
        f"{machine.threads} threads; peaks measured in this run: {machine.flops / 1e9:.0f} "
        f"GFLOP/s, {machine.bandwidth / 1e9:.1f} GB/s"
    )
    speedups = [line.speedup for line in lines if line.speedup is not None]
    if speedups:
        mean = statistics.geometric_mean(speedups)
        slower = [line.task for line in lines if line.speedup is not None and line.speedup < 1]
        behind = f"; slower on {', '.join(slower)}" if slower else ""
        console.print(f"{mean:.2f}× the best of the others (geometric mean){behind}")
    for line in lines:
        for name, cell in line.cells.items():
            if cell.failure is not None:
                console.print(f"{line.task}, {name}: {cell.failure[:300]}", markup=False)


def in_words(line: Line) -> str:
    """One line of what a task took, in ms; the tables have the rest."""
    took = [f"{name} {_spread(cell)}" for name, cell in line.cells.items()]
    return f"{line.task}: {', '.join(took)}"


def _times(lines: Sequence[Line], names: Sequence[str], machine: Machine) -> Table:
    table = _table("step, ms", [*names, "against the best", "limit, ms", "times the limit"])
    for line in lines:
        seconds, reason = line.limit(machine)
        own = line.cells[OWN.name].median
        table.add_row(
            line.task,
            *(_spread(line.cells[name]) for name in names),
            ABSENT if line.speedup is None else f"{line.speedup:.2f}×",
            f"{_milliseconds(seconds)} {reason}",
            ABSENT if own is None else f"{own / seconds:.2f}",
        )
    return table


def _first_calls(lines: Sequence[Line], names: Sequence[str]) -> Table:
    table = _table("first call, s", [*names, "pullback, warm cache"])
    for line in lines:
        firsts = [*(line.cells[name].first for name in names), line.warm]
        table.add_row(line.task, *(ABSENT if s is None else f"{s:.2f}" for s in firsts))
    return table


def _memory(lines: Sequence[Line], names: Sequence[str]) -> Table:
    table = _table("peak memory of a step, MB", ["planned", *(f"{n}, process" for n in names)])
    for line in lines:
        sizes = [line.predicted, *(line.cells[name].memory for name in names)]
        table.add_row(line.task, *(ABSENT if b is None else f"{b / 1e6:.1f}" for b in sizes))
    return table


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title, box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _spread(cell: Cell) -> str:
    """The median, and half the distance of the quartiles."""
    if cell.median is None:
        return ABSENT
    if len(cell.turns) < 2:
        return _milliseconds(cell.median)
    low, _, high = statistics.quantiles(cell.turns, n=4, method="inclusive")
    return f"{_milliseconds(cell.median)} ±{100 * (high - low) / 2 / cell.median:.0f} %"


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}" if seconds < 0.1 else f"{1e3 * seconds:.0f}"


def as_numbers(lines: Sequence[Line], machine: Machine) -> dict[str, Any]:
    """All that was measured, with all that is needed to read it later."""
    return {
        "lines": [asdict(line) for line in lines],
        "machine": {
            "threads": machine.threads,
            "flops": machine.flops,
            "bandwidth": machine.bandwidth,
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
