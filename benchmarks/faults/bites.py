"""What each fault of a set costs: plain training, and no diagnosis."""

from __future__ import annotations

import argparse
import csv
import math
import multiprocessing
import os
from functools import partial
from pathlib import Path

import numpy as np
from benchmarks.faults.sets import load
from benchmarks.faults.training import train

LEAST = 0.03


def score(sets: str, job: tuple[str, int]) -> float:
    name, seed = job
    with np.errstate(all="ignore"):
        return train(load(sets)[name].make(seed), seed).score


def known(path: Path) -> dict[tuple[str, int], float]:
    """The scores of the table as it is."""
    with path.open(newline="") as file:
        rows = [*csv.DictReader(file)]
    return {(x["program"], int(x["seed"])): float(x["faulty"] or x["healthy"]) for x in rows}


def measure(sets: str, path: Path, description: str | None) -> None:
    """Train every program of the sets with each seed, and write the table."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="", help="names, with commas between: the others stay")
    chosen = parser.parse_args()
    programs = load(sets)
    names = [x for x in chosen.only.split(",") if x] or [*programs]
    jobs = [(name, seed) for name in names for seed in range(chosen.seeds)]
    os.environ.setdefault("PULLBACK_THREADS", "1")
    with multiprocessing.get_context("spawn").Pool(chosen.processes) as pool:
        scores = dict(zip(jobs, pool.imap(partial(score, sets), jobs), strict=True))
    if chosen.only:
        scores = {x: y for x, y in known(path).items() if x[0] in programs} | scores
    with path.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["program", "seed", "healthy", "faulty"])
        for name, seed in sorted(scores, key=lambda x: ([*programs].index(x[0]), x[1])):
            mine, other = scores[name, seed], programs[name].healthy
            whole = scores[other, seed] if other else mine
            table.writerow([name, seed, f"{whole:.3f}", f"{mine:.3f}" if other else ""])
            if other and not (math.isnan(mine) or mine <= whole - LEAST):
                print(f"does not bite: {name}-{seed}  {mine:.3f}, healthy {whole:.3f}")
