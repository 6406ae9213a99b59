"""What each fault of the fresh set costs: plain training, and no diagnosis.

python -m benchmarks.faults.fresh.bites --seeds 3 --processes 2    # writes bites.csv beside this
"""

from __future__ import annotations

import argparse
import csv
import math
import multiprocessing
import os
from pathlib import Path

import numpy as np
from benchmarks.faults.sets import load
from benchmarks.faults.training import train

TABLE = Path(__file__).with_name("bites.csv")
LEAST = 0.03


def score(job: tuple[str, int]) -> float:
    name, seed = job
    with np.errstate(all="ignore"):
        return train(load("fresh,reserve")[name].make(seed), seed).score


def known() -> dict[tuple[str, int], float]:
    """The scores of the table as it is."""
    with TABLE.open(newline="") as file:
        rows = [*csv.DictReader(file)]
    return {(x["program"], int(x["seed"])): float(x["faulty"] or x["healthy"]) for x in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="", help="names, with commas between: the others stay")
    chosen = parser.parse_args()
    programs = load("fresh,reserve")
    names = [x for x in chosen.only.split(",") if x] or [*programs]
    jobs = [(name, seed) for name in names for seed in range(chosen.seeds)]
    os.environ.setdefault("PULLBACK_THREADS", "1")
    with multiprocessing.get_context("spawn").Pool(chosen.processes) as pool:
        scores = dict(zip(jobs, pool.imap(score, jobs), strict=True))
    if chosen.only:
        scores = known() | scores
    with TABLE.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["program", "seed", "healthy", "faulty"])
        for name, seed in sorted(scores, key=lambda x: ([*programs].index(x[0]), x[1])):
            mine, other = scores[name, seed], programs[name].healthy
            whole = scores[other, seed] if other else mine
            table.writerow([name, seed, f"{whole:.3f}", f"{mine:.3f}" if other else ""])
            if other and not (math.isnan(mine) or mine <= whole - LEAST):
                print(f"does not bite: {name}-{seed}  {mine:.3f}, healthy {whole:.3f}")


if __name__ == "__main__":
    main()
