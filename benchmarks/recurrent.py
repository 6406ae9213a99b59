"""A training step of an LSTM under byte budgets: what it holds, what that costs, predicted and
measured. The bits are compared with those of the step without a budget.

PYTHONPATH=src python -m benchmarks.recurrent [--rounds 9]
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import pullback as pb
from pullback.bench.workloads import SUITE
from pullback.transforms.tree import flatten, map_leaves

SHARES = (0.98, 0.9, 0.75, 0.6, 0.5, 0.4, 0.3, 0.0)


def main(rounds: int) -> None:
    workload = SUITE["lstm"]
    given = map_leaves(_single, workload.arguments(np.random.default_rng(0)))
    step = pb.compile(workload.step, threads=1)
    plan = step.lower(*given).plan
    print(
        f"{plan.peak_bytes:,} bytes: {plan.resident_bytes:,} and an arena of {plan.arena_bytes:,}"
    )
    budgets = [plan.resident_bytes + int(share * plan.arena_bytes) for share in SHARES]
    budgets = [max(each, plan.least_bytes) for each in budgets]
    steps = [step, *[pb.compile(workload.step, threads=1, memory=each) for each in budgets]]
    expected = _bits(step(*given))
    assert all(_bits(each(*given)) == expected for each in steps)
    times = [[_seconds(each, given) for each in steps] for _ in range(rounds)]
    best = np.min(times, axis=0)
    print("arena, MB  share  predicted  measured  steps")
    for each, seconds in zip(steps, best, strict=True):
        made = each.lower(*given).plan
        print(
            f"{made.arena_bytes / 1e6:9.2f}  {made.arena_bytes / plan.arena_bytes:5.1%}"
            f"  {made.slowdown:8.1%}  {seconds / best[0] - 1:8.1%}  {len(made.schedule):5}"
        )


def _single(x):
    return x.astype(np.float32) if x.dtype == np.float64 else x


def _bits(tree) -> list[bytes]:
    return [np.asarray(x).tobytes() for x in flatten(tree)[0]]


def _seconds(step, given) -> float:
    begin = time.process_time()
    step(*given)
    return time.process_time() - begin


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    main(parser.parse_args().rounds)
