"""Random programs, compiled and run: `python -m property.fuzz --count 2000` (in `tests/`).

For each program, in a process that may die of it:

- every node, compiled alone, agrees with the op's reference on the very operands it meets;
- the whole program, optimised and fused, gives the bits of its nodes compiled alone, and these are
  compiled without LLVM's optimiser, at the level of which no bit may depend (nodes of the graph in
  which sums over the steps of a loop follow the loop);
- on 2 or 8 threads, by turns, it gives the same bits again.

A node that has no native kernel is counted, and what depends on it is not asked for. Failures are
cut to their shortest beginning and written with the text of the program; the exit code tells.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import ml_dtypes
import numpy as np

from property.fuzz_programs import LENGTH, Program
from pullback._settings import override
from pullback.backend import jit
from pullback.backend.program import Program as Native
from pullback.errors import CompileError, PullbackError
from pullback.ir.families import Elementwise
from pullback.ir.graph import Graph, needed_nodes
from pullback.ir.interpret import evaluate_node, interpret
from pullback.ir.op import HigherOrder
from pullback.ir.types import is_float
from pullback.ops.pointwise import Digamma
from pullback.ops.reduce import wide
from pullback.ops.searching import SearchSorted
from pullback.passes.loop_order import in_loop_order
from pullback.passes.pipeline import optimize
from pullback.schedule.fuse import fuse
from pullback.transforms.trace import trace

THREADS = ((1, 2), (1, 8))
"""Of a program with an even and an odd number."""
WORKER = (sys.executable, "-m", "property.fuzz", "--work")
PATIENCE = 300.0  # seconds for one program, of which a busy machine has few
RESULTS = 5
PROGRESS = 100


class Broken(Exception):
    """A law does not hold."""


# ---- one program ----------------------------------------------------------------------------


def check(program: Program, missing: collections.Counter[str]) -> None:
    """Raises `Broken`, or what the compiler raised."""
    graph, inputs = program.build()
    graph = in_loop_order(_of_results(graph, graph.outputs))
    nodes = _Alone(missing)
    try:
        values = nodes.values(graph, inputs)
    except PullbackError as refusal:
        _require_refusal(graph, inputs, refusal)
        return
    graph = _without(graph, nodes.tainted)
    if not graph.outputs:
        return
    expected = [values[x] for x in graph.outputs]
    schedule = fuse(optimize(graph))
    for threads in THREADS[program.seed % 2]:
        actual = Native(schedule, threads=threads)(inputs)
        for i, (x, y) in enumerate(zip(actual, expected, strict=True)):
            _require_same_bits(x, y, f"result {i} on {threads} threads")


def alone(graph: Graph, inputs, missing: collections.Counter[str]):
    """The numbers of every value, each node a native program of its own."""
    with np.errstate(all="ignore"):
        return _Alone(missing).values(graph, inputs)


class _Alone:
    """Evaluates a graph with each node a native program of its own."""

    programs: dict[str, Native | None] = {}  # noqa: RUF012  (of this process: the worker's)

    def __init__(self, missing: collections.Counter[str]) -> None:
        self.missing = missing
        self.tainted: set[object] = set()

    def values(self, graph, inputs):
        """The numbers of every value; those in `tainted` come from a reference."""
        found = dict(zip(graph.inputs, inputs, strict=True))

        def evaluate(node, operands):
            if any(x in self.tainted for x in node.inputs):
                self.tainted.update(node.outputs)
            made = self.node(node, operands)
            found.update(zip(node.outputs, made, strict=True))
            return made

        interpret(graph, inputs, evaluate)
        return found

    def node(self, node, operands):
        wanted = evaluate_node(node, operands)
        native = self.program(node)
        if native is None:
            self.missing[node.op.name] += 1
            self.tainted.update(node.outputs)
            return wanted
        made = tuple(native([np.ascontiguousarray(x).reshape(x.shape) for x in operands]))
        if not _promises_nothing(node.op, operands):
            for x, y in zip(made, wanted, strict=True):
                _require_close(node.op, x, np.asarray(y), operands)
        return made

    def program(self, node) -> Native | None:
        graph = trace(node.op.outputs, *(x.type for x in node.inputs))
        key = f"{node.op!r} {graph}"
        if key not in self.programs:
            try:
                with unoptimised():
                    self.programs[key] = Native(fuse(graph), threads=1)
            except CompileError as error:
                if "no native kernel" not in str(error):
                    raise
                self.programs[key] = None
        return self.programs[key]


@contextmanager
def unoptimised() -> Iterator[None]:
    """Code as LLVM makes it at level 0, and not kept on disk, where its key would be another's."""
    level = jit.LEVEL
    jit.LEVEL = 0
    try:
        with override(cache="off"):
            yield
    finally:
        jit.LEVEL = level


def _without(graph: Graph, tainted: set[object]) -> Graph:
    """With results that depend on no tainted value: the last others where none are left."""
    chosen = [x for x in graph.outputs if x not in tainted]
    if not chosen:
        made = [x for node in graph.nodes for x in node.outputs]
        chosen = [x for x in made if x not in tainted][-RESULTS:]
    return _of_results(graph, tuple(chosen))


def _of_results(graph: Graph, results) -> Graph:
    return Graph(graph.inputs, needed_nodes(graph.nodes, results), results)


def _require_refusal(graph: Graph, inputs, refusal: PullbackError) -> None:
    """What one node refuses (an index, a singular matrix) the whole refuses."""
    try:
        Native(fuse(optimize(graph)), threads=1)(inputs)
    except PullbackError as error:
        if isinstance(error, CompileError) and "no native kernel" in str(error):
            return
        if type(error) is type(refusal):
            return
        raise Broken(f"{refusal!r} became {error!r}") from None
    raise Broken(f"the whole does not raise {refusal!r}")


def _require_same_bits(x, y, what: str) -> None:
    if x.shape != y.shape or x.dtype != y.dtype:
        raise Broken(f"{what} is {x.dtype}{x.shape}, not {y.dtype}{y.shape}")
    if x.tobytes() == y.tobytes():
        return
    bits = np.dtype(f"u{x.dtype.itemsize}")
    same = np.ascontiguousarray(x).view(bits) == np.ascontiguousarray(y).view(bits)
    if is_float(x.dtype):
        same |= np.isnan(x) & np.isnan(y)  # the payload is no part of the law
    if not same.all():
        i = tuple(int(k) for k in np.argwhere(~same)[0])
        raise Broken(f"{what}{list(i)}: {x[i]!r}, its nodes alone give {y[i]!r}; {(~same).sum()}×")


def _require_close(op, x, y, operands) -> None:
    if x.shape != y.shape or x.dtype != y.dtype:
        raise Broken(f"{op}: {x.dtype}{x.shape}, not {y.dtype}{y.shape}")
    if not is_float(y.dtype):
        if not np.array_equal(x, y):
            raise Broken(f"{op}: {x.ravel()[:8]}, not {y.ravel()[:8]}")
        return
    info = ml_dtypes.finfo(y.dtype)
    a, b = (np.asarray(each, np.float64) for each in (x, y))
    factor = 256 if isinstance(op, Elementwise) else 1024
    size = np.abs(b) + float(info.tiny)
    if not isinstance(op, Elementwise):
        size = size + _magnitude(operands)
    elif isinstance(op, Digamma):
        size = size + 1  # below 0 it is ψ(1 - x) - π cot πx: two numbers of that size
    if isinstance(op, HigherOrder):
        factor *= 64
    near = np.abs(a - b) <= factor * float(info.eps) * size
    overflown = np.isinf(a) != np.isinf(b)
    edge = 0.9 * float(info.max)
    near |= overflown & (np.abs(a) > edge) & (np.abs(b) > edge) & (np.sign(a) == np.sign(b))
    good = near | (a == b) | (np.isnan(a) & np.isnan(b))
    if not isinstance(op, Elementwise) and not all(_is_tame(z) for z in operands):
        good |= ~np.isfinite(a) | ~np.isfinite(b)  # infinities meet in another order
    if not good.all():
        i = tuple(int(k) for k in np.argwhere(~good)[0])
        raise Broken(f"{op} alone, {list(i)}: {a[i]!r}, not {b[i]!r}; {(~good).sum()}×")


def _promises_nothing(op, operands) -> bool:
    """A search in what is not sorted finds some place."""
    return isinstance(op, SearchSorted) and not np.all(np.diff(wide(operands[0])) >= 0)


def _magnitude(operands) -> float:
    """The product of the greatest finite sizes: of what a product of them is made."""
    total = 1.0
    for x in operands:
        if is_float(x.dtype) and x.size:
            sizes = np.abs(np.asarray(x, np.float64))
            total *= max(1.0, float(np.max(sizes, initial=0.0, where=np.isfinite(sizes))))
    return min(total, 1e300)


def _is_tame(x) -> bool:
    """No sum or product of such numbers overflows."""
    if not is_float(x.dtype):
        return True
    bound = float(ml_dtypes.finfo(x.dtype).max) ** 0.25
    return bool(np.all(np.abs(np.asarray(x, np.float64)) < bound))


# ---- a process of them ----------------------------------------------------------------------


def work(seeds, answers) -> None:
    """Checks programs; says each number before it begins."""
    warnings.simplefilter("ignore")
    missing: collections.Counter[str] = collections.Counter()
    for seed in seeds:
        print(json.dumps({"begin": seed}), file=answers, flush=True)
        failure = outcome(seed, LENGTH, missing)
        if failure is not None:
            lengths = range(1, LENGTH)
            found = ((n, outcome(seed, n, missing)) for n in lengths)
            length, failure = next((pair for pair in found if pair[1]), (LENGTH, failure))
            failure = {"length": length, **failure}
        told = {"end": seed, "failure": failure, "missing": dict(missing)}
        missing.clear()
        print(json.dumps(told), file=answers, flush=True)


def outcome(seed: int, length: int, missing) -> dict[str, str] | None:
    """None, or what is wrong."""
    try:
        with np.errstate(all="ignore"):
            check(Program(seed, length), missing)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        return {"error": f"{type(error).__name__}: {error}", "where": where}
    return None


class Crew:
    """Workers that share the numbers; one that dies is replaced, and what killed it noted."""

    def __init__(
        self, first: int, count: int, jobs: int, cache: str, command: Sequence[str] = WORKER
    ) -> None:
        self.command = command
        self.seeds: queue.SimpleQueue[int] = queue.SimpleQueue()
        for seed in range(first, first + count):
            self.seeds.put(seed)
        self.jobs, self.cache = jobs, cache
        self.checked = 0
        self.failures: dict[int, dict[str, object]] = {}
        self.missing: collections.Counter[str] = collections.Counter()

    def run(self) -> None:
        threads = [threading.Thread(target=self._employ) for _ in range(self.jobs)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

    def _employ(self) -> None:
        worker = None
        while True:
            try:
                seed = self.seeds.get_nowait()
            except queue.Empty:
                break
            worker = worker or self._hire()
            if not self._check(worker, seed):
                worker = None
        if worker is not None:
            worker.communicate()

    def _hire(self):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        places = os.pathsep.join(filter(None, sys.path))  # pytest finds the packages in its own
        environment = {**os.environ, "PULLBACK_CACHE": self.cache, "PYTHONPATH": places}
        errors = subprocess.DEVNULL
        here = Path(__file__).parents[1]
        return subprocess.Popen(self.command, **pipes, stderr=errors, env=environment, cwd=here)

    def _check(self, worker, seed: int) -> bool:
        """Whether the worker lives on."""
        worker.stdin.write(f"{seed}\n")
        worker.stdin.flush()
        alarm = threading.Timer(PATIENCE, worker.kill)
        alarm.start()
        lines = [worker.stdout.readline(), worker.stdout.readline()]
        late = not alarm.is_alive()
        alarm.cancel()
        self.checked += 1
        if self.checked % PROGRESS == 0:
            print(f"{self.checked} programs", file=sys.stderr, flush=True)
        if not lines[1]:
            worker.communicate()
            code = worker.returncode
            reason = f"no answer in {PATIENCE:.0f} s" if late else f"the process died of it: {code}"
            self._note(seed, {"length": LENGTH, "error": reason, "where": ""})
            return False
        answer = json.loads(lines[1])
        self.missing.update(answer["missing"])
        if answer["failure"]:
            self._note(seed, answer["failure"])
        return True

    def _note(self, seed: int, failure: dict[str, object]) -> None:
        self.failures[seed] = failure
        print(told(seed, failure), file=sys.stderr, flush=True)


# ---- the command ----------------------------------------------------------------------------


def report(crew: Crew, folder: Path | None) -> str:
    lines = [f"{crew.checked} programs, {len(crew.failures)} failures"]
    if crew.missing:
        total = ", ".join(f"{name} {n}" for name, n in crew.missing.most_common())
        lines.append(f"nodes without a native kernel: {total}")
    for seed, failure in sorted(crew.failures.items()):
        lines.append(told(seed, failure))
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{seed}.txt").write_text(f"{lines[-1]}\n\n{text(seed, failure['length'])}")
    return "\n".join(lines)


def told(seed: int, failure: dict[str, object]) -> str:
    line = f"seed {seed}, {failure['length']} steps: {failure['error']}"
    return f"{line[:400]} ({failure['where']})"


def text(seed: int, length: int) -> str:
    """The program and its inputs."""
    warnings.simplefilter("ignore")
    graph, inputs = Program(seed, length).build()
    return f"{_of_results(graph, graph.outputs)}\n\n" + "\n".join(
        f"{x.dtype}{x.shape}\n{x}" for x in inputs
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m property.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="number of the first program")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, help="folder for the programs that fail")
    parser.add_argument(
        "--show", action="store_true", help="print the program --first, run nothing"
    )
    parser.add_argument("--length", type=int, default=LENGTH, help="its steps")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        work(map(int, sys.stdin), answers)
        return 0
    if options.show:
        print(text(options.first, options.length))
        return 0
    with tempfile.TemporaryDirectory() as cache:
        crew = Crew(options.first, options.count, options.jobs, cache)
        crew.run()
    print(report(crew, options.out))
    return bool(crew.failures)


if __name__ == "__main__":
    sys.exit(main())
