"""Plans of small programs beside the optimum: `python -m benchmarks.optimality [graphs] [steps]`.

The oracle is the mixed-integer program of Checkmate (Jain et al. 2020), solved by HiGHS in SciPy.
It keeps the order in which steps run first, and lets each run again before any of these. It knows
neither buffers taken over nor gaps between buffers. The planner may also change the order.
"""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from pullback.errors import MemoryPlanError
from pullback.schedule.memory import Step, Value, Workload
from pullback.schedule.planner.driver import Planner

SECONDS = 20
"""How long the solver may look for one optimum."""

SHARES = (0.75, 0.5, 0.25)
"""Budgets: so far from the least that any step needs to what the program takes in order."""


def drawn(seed: int, count: int) -> Workload:
    """Random steps of one value each, which read up to three of the seven before; what nobody reads
    is kept."""
    rng = np.random.default_rng(seed)
    reads = [
        tuple(sorted({int(rng.integers(max(0, k - 7), k)) for _ in range(rng.integers(1, 4)) if k}))
        for k in range(count)
    ]
    read = {i for each in reads for i in each}
    values = [
        Value(f"v{k}", 64 * int(rng.integers(1, 9)), kept=k not in read) for k in range(count)
    ]
    steps = [Step(f"s{k}", reads[k], (k,), cost=int(rng.integers(1, 20))) for k in range(count)]
    return Workload(tuple(values), tuple(steps))


def trained(seed: int, depth: int) -> Workload:
    """A forward pass of random layers, some skipped over, and its backward pass: the step for layer
    i reads its operands and the cotangent of its result, and makes those of its operands."""
    rng = np.random.default_rng(seed)
    sizes = [64 * int(rng.integers(1, 9)) for _ in range(depth)]
    reads = [[i - 1] if i else [] for i in range(depth)]
    for i in range(2, depth):
        if rng.random() < 0.3:
            reads[i].append(int(rng.integers(0, i - 1)))
    values = [Value(f"a{i}", size) for i, size in enumerate(sizes)]
    steps = [
        Step(f"F{i}", tuple(reads[i]), (i,), cost=int(rng.integers(1, 20))) for i in range(depth)
    ]
    cotangents: dict[int, list[int]] = {i: [] for i in range(depth)}
    for i in reversed(range(depth)):
        made = []
        for j in reads[i] or [0]:
            values.append(Value(f"d{i},{j}", sizes[j] if reads[i] else 64, kept=not reads[i]))
            made.append(len(values) - 1)
            if reads[i]:
                cotangents[j].append(made[-1])
        operands = (*reads[i], *(cotangents[i] or [i]))
        steps.append(Step(f"B{i}", operands, tuple(made), cost=2 * steps[i].cost))
    return Workload(tuple(values), tuple(steps))


class Checkmate:
    """R[t, i]: stage t, which ends with the first run of step t, runs step i. S[t, v]: value v is
    there when stage t begins. F[t, k, v]: v goes after stage t has run step k, which is the last of
    it that reads or makes v. U[t, k]: bytes held while it runs."""

    def __init__(self, workload: Workload) -> None:
        self.workload, self.count = workload, workload.count
        self.columns: dict[tuple[object, ...], int] = {}
        self.rows: list[tuple[dict[int, float], float, float]] = []
        self.maker = workload.maker
        self.reads = [[v for v in read if v in self.maker] for read in workload.reads]
        self.users: dict[int, list[int]] = {v: [k] for v, k in self.maker.items()}
        for k, read in enumerate(self.reads):
            for v in read:
                self.users[v].append(k)
        for t in range(self.count):
            self._stage(t)
        for v in workload.kept:
            self._row({self._kept(self.count, v): 1}, 1, 1)

    def least(self, room: int) -> float | None:
        """The least time in so many bytes; None where there is no schedule. Raises `TimeoutError`
        when the solver has not finished."""
        size = len(self.columns)
        cost, upper, integral = np.zeros(size), np.ones(size), np.ones(size)
        for name, j in self.columns.items():
            if name[0] == "U":
                upper[j], integral[j] = room / 64, 0
            if name[0] == "R":
                cost[j] = self.workload.steps[name[2]].cost
        entries = [(r, j, x) for r, (row, _, _) in enumerate(self.rows) for j, x in row.items()]
        at, columns, data = zip(*entries, strict=True)
        matrix = coo_array((data, (at, columns)), shape=(len(self.rows), size)).tocsr()
        limits = [np.array([row[k] for row in self.rows]) for k in (1, 2)]
        found = milp(
            cost,
            integrality=integral,
            bounds=Bounds(np.zeros(size), upper),
            constraints=LinearConstraint(matrix, *limits),
            options={"time_limit": SECONDS},
        )
        if found.status == 1:
            raise TimeoutError
        return None if found.x is None else round(float(cost @ found.x))

    def _stage(self, t: int) -> None:
        workload = self.workload
        self._row({self._run(t, t): 1}, 1, 1)
        for k in range(t + 1):
            for v in self.reads[k]:  # what it reads has been made in this stage, or kept
                self._row(
                    {self._run(t, k): 1, self._run(t, self.maker[v]): -1, self._kept(t, v): -1}
                )
            for v in workload.writes[k]:
                before = {self._kept(t, v): -1.0} if k < t else {}
                self._row({self._kept(t + 1, v): 1, self._run(t, k): -1, **before})
        self._bytes(t)

    def _bytes(self, t: int) -> None:
        """U of one step from that of the step before: what that one frees goes, results come."""
        sizes = {v: self.workload.sizes[v] / 64 for v in self.maker}
        for k in range(t + 1):
            row = {self._held(t, k): 1.0}
            if k == 0:
                for v in self.maker:
                    if self.maker[v] < t:
                        row[self._kept(t, v)] = -sizes[v]
            else:
                row[self._held(t, k - 1)] = -1.0
                for v in {*self.reads[k - 1], *self.workload.writes[k - 1]}:
                    row[self._freed(t, k - 1, v)] = sizes[v]
            for v in self.workload.writes[k]:
                row[self._run(t, k)] = row.get(self._run(t, k), 0.0) - sizes[v]
            self._row(row, 0, 0)
            for v in {*self.reads[k], *self.workload.writes[k]}:
                self._frees(t, k, v)

    def _frees(self, t: int, k: int, v: int) -> None:
        """It goes if the step runs, v is not kept, and no later step of the stage uses it."""
        freed = self._freed(t, k, v)
        later = [self._run(t, j) for j in self.users[v] if k < j <= t]
        self._row({freed: 1, self._run(t, k): -1})
        for blocker in (self._kept(t + 1, v), *later):
            self._row({freed: 1, blocker: 1}, -np.inf, 1)

    def _row(self, row: dict[int, float], low: float = -np.inf, high: float = 0) -> None:
        self.rows.append((row, low, high))

    def _column(self, *name: object) -> int:
        return self.columns.setdefault(name, len(self.columns))

    def _run(self, t: int, k: int) -> int:
        return self._column("R", t, k)

    def _kept(self, t: int, v: int) -> int:
        return self._column("S", t, v)

    def _held(self, t: int, k: int) -> int:
        return self._column("U", t, k)

    def _freed(self, t: int, k: int, v: int) -> int:
        return self._column("F", t, k, v)


def compare(name: str, workloads: list[Workload]) -> None:
    """Print how far plans are above the optimum, over all budgets that can be met."""
    gaps, spent, open_, missed, more = list[float](), 0.0, 0, 0, 0
    for workload in workloads:
        planner = Planner(workload)
        oracle = Checkmate(workload)
        least, most = planner.floor[0], planner.full.peak_bytes
        for share in SHARES:
            budget = least + int((most - least) * share) // 64 * 64
            try:
                best = oracle.least(budget - workload.resident_bytes)
            except TimeoutError:
                open_ += 1
                continue
            began = time.process_time()
            try:
                cost = planner.fit(budget).lifetimes.cost
            except MemoryPlanError:
                missed += best is not None
                continue
            finally:
                spent += time.process_time() - began
            more += best is None
            if best is not None:
                gaps.append(cost / best - 1)
    gaps.sort()
    print(
        f"G9   {name}: {len(gaps)} budgets, gap median {statistics.median(gaps):.1%}, "
        f"mean {statistics.mean(gaps):.1%}, 9 of 10 at most {gaps[len(gaps) * 9 // 10]:.1%}, "
        f"worst {gaps[-1]:.1%}, {sum(gap < 0 for gap in gaps)} below 0; "
        f"{more} more budgets met than by the oracle, {missed} fewer; {open_} not solved in "
        f"{SECONDS} s; planning {spent:.1f} s",
        flush=True,
    )


def main() -> None:
    graphs, steps = (int(sys.argv[k]) if len(sys.argv) > k else (50, 12)[k - 1] for k in (1, 2))
    compare(f"random, {steps} steps", [drawn(seed, steps) for seed in range(graphs)])
    compare(
        f"forward and backward, {steps} steps",
        [trained(seed, steps // 2) for seed in range(graphs)],
    )


if __name__ == "__main__":
    main()
