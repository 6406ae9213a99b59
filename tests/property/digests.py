"""What the compiler makes of many programs, a line for each: `python -m property.digests` (in
`tests/`).

A line holds the digests of the optimised graph, the kernels with their lines, the plan and the
text. A change that is to change nothing prints the same before and after:

    python -m property.digests --count 600 > before    # then on the other version, > after
    diff before after
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator

import optree

import pullback as pb
from property.fuzz_programs import LENGTH, Program
from pullback.backend.program import Code, write_code
from pullback.bench.workloads import SCALING, SUITE, TASKS, numbers
from pullback.compile.stages import Lowered
from pullback.errors import PullbackError
from pullback.ir.graph import Graph
from pullback.ir.text import print_graph
from pullback.passes.pipeline import optimize
from pullback.schedule.canonical import canonical
from pullback.schedule.fuse import fuse
from pullback.schedule.kernels import Schedule


def of_task(name: str) -> str:
    task = TASKS[name]
    arguments = [optree.tree_map(pb.asarray, each) for each in numbers(task)]
    program = pb.compile(task.step, donate=task.donate, threads=2)
    lowered: Lowered = program.lower(*arguments)
    return _digests(lowered.optimized, lowered.schedule, lowered.code)


def of_random(seed: int) -> str:
    """Of one random program; of one that is refused the refusal."""
    graph, _ = Program(seed, LENGTH).build()
    try:
        optimized = optimize(graph)
        schedule = fuse(optimized)
        return _digests(optimized, schedule, write_code(schedule, threads=2))
    except PullbackError as refusal:
        return f"{type(refusal).__name__} {_digest(str(refusal))}"


def _digests(graph: Graph, schedule: Schedule, code: Code) -> str:
    plan = code.plan
    packed = [plan.schedule, plan.packing.offsets.tolist(), plan.peak_bytes]
    parts = (print_graph(graph, sites=True), _kernels(schedule), str(packed), code.text)
    return " ".join(map(_digest, parts))


def _kernels(schedule: Schedule) -> str:
    types = [buffer.type for buffer in schedule.buffers]
    lines = [str(site) for kernel in schedule.kernels for site in canonical(kernel).sites]
    return "\n".join(map(str, (schedule, types, schedule.inputs, schedule.outputs, lines)))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _lines(count: int, tasks: list[str]) -> Iterator[str]:
    for name in tasks:
        yield f"{name}: {of_task(name)}"
    for seed in range(count):
        yield f"random {seed}: {of_random(seed)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=600, help="random programs")
    parser.add_argument("--tasks", default=",".join([*SUITE, *SCALING]))
    options = parser.parse_args()
    for line in _lines(options.count, [x for x in options.tasks.split(",") if x]):
        print(line)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
