"""Timing that survives a busy machine: interleaved rounds, medians, quartiles, a machine probe.

Every round times each contender of each row once, so a slow spell of the machine falls on all of
them; the median over the rounds forgets it, and the quartiles show it. The probe is a fixed piece
of pure Python timed in every round: when its quartiles lie far apart, distrust the rest.
"""

from __future__ import annotations

import gc
import importlib
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

Thunk = Callable[[], object]
PACKAGES = ("numpy", "pullback", "torch", "jax", "autograd")
BATCH_SECONDS = 0.002
"""One timing covers at least this long, some 10⁴ times the resolution of the clock."""


@dataclass(frozen=True)
class Row:
    """One thing to measure, done by each contender. `per` divides the time (nodes traced, say)."""

    name: str
    contenders: dict[str, Thunk]
    per: float = 1.0
    goal: float | None = None
    """Seconds that `pullback` is allowed."""
    own_clock: bool = False
    """The contenders return the seconds to report, instead of being timed themselves."""


@dataclass(frozen=True)
class Spread:
    """Quartiles in seconds."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Spread:
        ordered = list(seconds)
        if len(ordered) == 1:
            return cls(*ordered * 3)
        return cls(*statistics.quantiles(ordered, n=4, method="inclusive"))


@dataclass(frozen=True)
class Report:
    """What one suite measured, with all that is needed to read it later."""

    suite: str
    rows: dict[str, dict[str, Spread]]
    goals: dict[str, float]
    probe: Spread
    rounds: int
    missing: list[str]
    machine: dict[str, Any] = field(default_factory=lambda: surroundings())  # noqa: PLW0108

    def save(self, path: str) -> None:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(asdict(self), file, indent=1)
            file.write("\n")


def measure(suite: str, rows: Iterable[Row], rounds: int, missing: list[str]) -> Report:
    """Time all rows in interleaved rounds."""
    rows = list(rows)
    entries = [(row, name, thunk) for row in rows for name, thunk in row.contenders.items()]
    counts = [1 if row.own_clock else _calibrate(thunk) for row, _, thunk in entries]
    samples: list[list[float]] = [[] for _ in entries]
    probes = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            probes.append(_time(_probe, 1))
            for (row, _, thunk), count, times in zip(entries, counts, samples, strict=True):
                seconds = thunk() if row.own_clock else _time(thunk, count)
                times.append(seconds / row.per)
            gc.collect()
    finally:
        gc.enable()
    measured: dict[str, dict[str, Spread]] = {row.name: {} for row in rows}
    for (row, name, _), times in zip(entries, samples, strict=True):
        measured[row.name][name] = Spread.of(times)
    goals = {row.name: row.goal for row in rows if row.goal is not None}
    return Report(suite, measured, goals, Spread.of(probes), rounds, missing)


def _time(thunk: Thunk, count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        thunk()
    return (time.perf_counter() - start) / count


def _calibrate(thunk: Thunk) -> int:
    """Warm up, and find how many calls fill one timing."""
    thunk()
    count = 1
    while (elapsed := _time(thunk, count) * count) < BATCH_SECONDS:
        count *= 2 if elapsed <= 0 else max(2, min(10, int(1.2 * BATCH_SECONDS / elapsed)))
    return count


def _probe() -> int:
    total = 0
    for i in range(20_000):
        total += i & 7
    return total


# ---- surroundings ---------------------------------------------------------------------------


def available(name: str) -> Any | None:
    """The module, or None when it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def surroundings() -> dict[str, Any]:
    """Versions and hardware."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            models = [line.partition(":")[2].strip() for line in file if "model name" in line]
    except OSError:
        models = []
    return models[0] if models else platform.processor()
