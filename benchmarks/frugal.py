"""The time of a step at equal memory: checkpoints of torch and JAX beside a byte budget.

    python -m benchmarks.frugal                                 # twelve layers, 256 wide
    python -m benchmarks.frugal --layers 3 --width 32 --batch 2 --length 32    # does it run?

The loss and the gradients of a GPT (`pullback.bench.models`), from the same numbers, on one machine
in one run. Each contender first says what it holds at its peak beyond parameters and batch, and
this library then gets exactly so many bytes. What is held is measured: torch's by its allocator
(every allocation of the profiler, so what a library call takes inside is not seen), JAX's by what
XLA allocates for the program (`memory_analysis`: temporaries and results), this library's by the
arena, the scratch of its threads and the results. Each contender is a process of its own; it, this
library within its bytes and this library without a budget take turns, and a cell is the median of
the rounds. Rows are printed as they come, and `--only` takes a part of them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optree

import pullback as pb
from pullback.bench.models import GPT
from pullback.bench.workloads import SEED

SEGMENTS = (2, 4, 12)
"""Of `checkpoint_sequential`."""
BUDGETS = (0.5, 0.2)
"""Of `torch._functorch.config.activation_memory_budget`."""


@dataclass(frozen=True)
class Task:
    model: GPT
    threads: int

    def numbers(self):
        """The parameters, then the batch, in single precision."""
        rng = np.random.default_rng(SEED)
        given = self.model.parameters(rng), *self.model.examples(rng)
        return optree.tree_map(lambda x: x.astype(np.float32) if x.dtype.kind == "f" else x, given)


# ---- this library ---------------------------------------------------------------------------


def within(task, budget):
    """As fast as it can be within `budget` bytes beyond parameters and batch; None: no budget."""
    numbers = task.numbers()
    given = sum(-(-x.nbytes // 64) * 64 for x in optree.tree_leaves(numbers))
    limit = None if budget is None else given + budget
    compiled = pb.compile(pb.value_and_grad(task.model.loss), threads=task.threads, memory=limit)
    arguments = optree.tree_map(pb.asarray, numbers)
    plan = compiled.lower(*arguments).plan
    return lambda: compiled(*arguments), plan.peak_bytes - given


OWN = (__name__, "within")
TORCH, JAX = "benchmarks.models.torch_memory", "benchmarks.models.jax_memory"
CONTENDERS = {
    "torch, eager": (TORCH, "sequential", 1),
    **{f"torch, checkpoint_sequential {n}": (TORCH, "sequential", n) for n in SEGMENTS},
    **{f"torch.compile, budget {share}": (TORCH, "compiled", share) for share in BUDGETS},
    "jax": (JAX, "checkpointed", None),
    "jax.checkpoint, dots": (JAX, "checkpointed", "dots_with_no_batch_dims_saveable"),
    "jax.checkpoint, nothing": (JAX, "checkpointed", "nothing_saveable"),
}


# ---- turns ----------------------------------------------------------------------------------


def work(connection, task, module, function, option):
    """A process of one contender: its peak, then a time for each request."""
    try:
        step, peak = getattr(importlib.import_module(module), function)(task, option)
        step()
        connection.send((peak, None))
    except Exception as error:
        connection.send((None, f"{type(error).__name__}: {str(error).splitlines()[0]}"))
        return
    while connection.recv():
        start = time.perf_counter()
        step()
        connection.send(time.perf_counter() - start)


class Contender:
    def __init__(self, task, *what):
        self.connection, theirs = multiprocessing.Pipe()
        spawn = multiprocessing.get_context("spawn")
        self.process = spawn.Process(target=work, args=(theirs, task, *what), daemon=True)
        self.process.start()
        theirs.close()
        self.seconds = []

    def wait(self):
        """Until it is ready."""
        try:
            self.peak, self.reason = self.connection.recv()
        except EOFError:
            self.peak, self.reason = None, "its process died"
        return self

    def turn(self):
        self.connection.send(True)
        self.seconds.append(self.connection.recv())

    def end(self):
        if self.peak is not None:
            self.connection.send(False)
        self.process.join()

    @property
    def median(self):
        return statistics.median(self.seconds)


def measured(task, names, rounds):
    """{name: (a contender, this library with as many bytes)}, those that work timed in turns."""
    free = Contender(task, *OWN, None)
    others = {name: Contender(task, *CONTENDERS[name]) for name in names}
    pairs = {"pullback, no budget": (free.wait(), free)}
    for name, other in others.items():
        if other.wait().peak is None:
            print(f"{name}: {other.reason}", flush=True)
        else:
            pairs[name] = other, Contender(task, *OWN, other.peak)
    for _, own in list(pairs.values())[1:]:
        own.wait()
    every = {id(x): x for pair in pairs.values() for x in pair if x.peak is not None}.values()
    for _ in range(rounds):
        for each in every:
            each.turn()
    for each in every:
        each.end()
    return pairs


def fits(name, layers):
    """Whether there are as many blocks as segments."""
    *_, option = CONTENDERS[name]
    return not isinstance(option, int) or option <= layers


def row(name, other, own):
    cells = f"| {name} | {other.peak / 1e6:.1f} | {1e3 * other.median:.1f} "
    if own.peak is None:
        return f"{cells}| – | – | {own.reason[:90]} … |"
    return (
        f"{cells}| {own.peak / 1e6:.1f} | {1e3 * own.median:.1f} "
        f"| {other.median / own.median:.2f}× |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frugal", description=__doc__)
    for name, value in {"layers": 12, "width": 256, "heads": 8, "length": 128, "batch": 8}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--vocabulary", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", default="", help="contenders whose name has this")
    parser.add_argument("--json", type=Path, help="a file for the numbers")
    options = parser.parse_args()
    sizes = ("layers", "width", "heads", "length", "vocabulary", "batch")
    task = Task(GPT(**{name: getattr(options, name) for name in sizes}), options.threads)
    names = [name for name in CONTENDERS if options.only in name and fits(name, options.layers)]
    print(f"{task.model}, {task.threads} threads, {options.rounds} rounds")
    print("| contender | MB | ms | pullback, MB | ms | contender's time to pullback's |")
    print("|---|--:|--:|--:|--:|--:|", flush=True)
    pairs = {}
    for name in names:
        for known, pair in measured(task, [name], options.rounds).items():
            if known not in pairs:
                print(row(known, *pair), flush=True)
            pairs.setdefault(known, pair)
    if options.json:
        told = {
            name: [{"peak": x.peak, "seconds": x.seconds, "reason": x.reason} for x in pair]
            for name, pair in pairs.items()
        }
        options.json.write_text(json.dumps({"task": str(task), "pairs": told}), encoding="utf-8")


if __name__ == "__main__":
    main()
