"""What a step allocates outside its arena, and how far the process grows after the warm-up.

    python -m benchmarks.allocations                    # the networks of the benchmark
    python -m benchmarks.allocations --small            # the same, tiny

`outside` are the bytes that Python and NumPy hold at the worst moment of a step beyond what they
held before it, the results that the plan counts left out (`tracemalloc`). `growth` is how far the
resident memory of the process rose over twenty steps after four, as a share of the whole.
"""

from __future__ import annotations

import argparse
import tracemalloc

import optree

import pullback as pb
from pullback.bench.workloads import SMALL, SUITE, numbers

WARM, STEPS = 4, 20


class Runner:
    """A compiled task, and its arguments for the next step."""

    def __init__(self, task):
        self.task = task
        self.compiled = pb.compile(task.step, donate=task.donate)
        self.arguments = optree.tree_map(pb.asarray, numbers(task))
        self.peak = self.compiled.lower(*self.arguments).plan.peak_bytes

    def step(self):
        result = self.compiled(*self.arguments)
        if self.task.donate:
            self.arguments = (result[0], *self.arguments[1:])
        return result[1:] if self.task.donate else result


def outside(runner):
    """Bytes at the worst moment of a step beyond those before it and its results."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        result = runner.step()
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    results = sum(x.nbytes for x in optree.tree_leaves(result))
    return max(most - before - results, 0)


def growth(runner):
    """How far the resident memory rises over the steps, as a share."""
    before = resident()
    for _ in range(STEPS):
        runner.step()
    return resident() / before - 1


def resident():
    with open("/proc/self/status", encoding="ascii") as file:
        line = next(each for each in file if each.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.allocations", description=__doc__)
    parser.add_argument("--small", action="store_true", help="the tiny networks")
    parser.add_argument("--only", default="", help="tasks whose name has this")
    options = parser.parse_args()
    print(f"{'task':14}{'peak, MB':>10}{'outside, B':>12}{'growth':>9}")
    for name, task in (SMALL if options.small else SUITE).items():
        if options.only in name:
            runner = Runner(task)
            for _ in range(WARM):
                runner.step()
            print(
                f"{name:14}{runner.peak / 1e6:10.2f}{outside(runner):12,}{growth(runner):9.2%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
