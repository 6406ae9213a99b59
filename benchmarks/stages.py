"""What the compiler's stages in Python cost: `python -m benchmarks.stages "layers 48" vit`.

Processor time in µs for each node of the traced graph, the least of a few rounds. `key` is what a
warm call takes to find its program on disk; `code` are the plan and LLVM's text, but not LLVM.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import optree

import pullback as pb
from pullback._settings import override
from pullback.bench.workloads import TASKS, numbers
from pullback.compile.driver import collector_at_rest
from pullback.compile.stages import Lowered
from pullback.compile.stored import Store

ROUNDS = 3
STAGES: dict[str, Callable[[Lowered], Any]] = {
    "key": lambda lowered: Store(lowered.graph, lowered.pairing.pairs, 2),
    "optimize": lambda lowered: lowered.optimized,
    "fuse": lambda lowered: lowered.schedule,
    "code": lambda lowered: lowered.code,
}


def seconds(call: Callable[[], Any]) -> tuple[Any, float]:
    gc.collect()
    with collector_at_rest():
        begin = time.process_time()
        result = call()
        return result, time.process_time() - begin


def measured(name: str) -> tuple[Lowered, dict[str, float]]:
    """The stages of a task and the least time of each."""
    task = TASKS[name]
    arguments = [optree.tree_map(pb.asarray, each) for each in numbers(task)]
    least: dict[str, float] = {}
    for _ in range(ROUNDS):
        program = pb.compile(task.step, donate=task.donate, threads=2)
        lowered, took = seconds(lambda program=program: program.lower(*arguments))
        times = {"trace": took}
        for stage, make in STAGES.items():
            times[stage] = seconds(lambda make=make, lowered=lowered: make(lowered))[1]
        least = {stage: min(t, least.get(stage, t)) for stage, t in times.items()}
    return lowered, least


def main() -> None:
    for name in sys.argv[1:] or ["layers 12"]:
        with tempfile.TemporaryDirectory() as folder, override(cache=folder):  # no key without
            lowered, times = measured(name)
        count = len(lowered.graph.nodes)
        parts = ", ".join(f"{stage} {1e6 * t / count:.1f}" for stage, t in times.items())
        total = 1e6 * sum(times.values()) / count
        print(f"{name}: {count} nodes, {total:.0f} µs each: {parts}")


if __name__ == "__main__":
    main()
