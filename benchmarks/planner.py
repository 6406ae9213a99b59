"""What the memory planner reaches: `python -m benchmarks.planner [curves gpt cliff sweep]`.

All costs are those of the cost model; nothing is run. Activation memory is what a step holds
between its arguments and its results when nothing runs twice.
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Callable

import numpy as np

import pullback as pb
from pullback.bench.models import CNN, GPT, LSTM, MLP, Model, ResNet, ViT
from pullback.bench.workloads import Training
from pullback.errors import MemoryPlanError
from pullback.schedule.memory import Workload, evaluate
from pullback.schedule.planner.driver import Planner
from pullback.schedule.planner.published import (
    TAPE,
    layers,
    layers_schedule,
    overhead_curve,
    published_chain,
    unit_chain,
)

MODELS: dict[str, Model] = {
    "mlp": MLP((1024, 2048, 2048, 1000), 512),
    "cnn": CNN(),
    "resnet": ResNet(),
    "gpt": GPT(),
    "vit": ViT(),
    "lstm": LSTM(),
}


class _Zeros:
    """Arguments of which only the types matter."""

    def standard_normal(self, shape: int | tuple[int, ...]) -> np.ndarray:
        return np.zeros(shape, np.float32)

    def integers(self, low: int, high: int, shape: int | tuple[int, ...]) -> np.ndarray:
        return np.zeros(shape, np.int64)


def workload(model: Model) -> Workload:
    """One training step with Adam on one thread, its kernels fused."""
    return planned(model).workload


def planned(model: Model) -> Planner:
    """The plans of one training step, in segments too where it has loops."""
    task = Training(model)
    step = pb.compile(task.step, donate=task.donate, threads=1)
    return step.lower(*task.arguments(_Zeros())).plan.planner


def gpt2(depth: int) -> Workload:
    """GPT-2 small, another depth; 3000 words stand for a loss that is made in 16 chunks."""
    return workload(GPT(depth, width=768, heads=12, length=1024, vocabulary=3000, batch=1))


def slowdown(planner: Planner, share: float) -> str:
    """Of a share of the activation memory, and the time to plan it."""
    budget = planner.workload.resident_bytes + int(planner.full.arena_bytes * share)
    began = time.process_time()
    try:
        plan = planner.fit(budget)
    except MemoryPlanError:
        return f"{share}: not possible ({time.process_time() - began:.1f} s)"
    assert plan.peak_bytes <= budget
    return f"{share}: {plan.slowdown:.2%} ({time.process_time() - began:.1f} s)"


# ---- the tables -----------------------------------------------------------------------------


def curves() -> None:
    """Counts and curves of chains of equal layers."""
    chain = published_chain(1000, 39)
    pairs = list(itertools.product((10, 50, 100, 1000), range(1, 40)))
    wrong = [x for x in pairs if chain.cost(TAPE + x[1], x[0]) != fewest_forwards(*x)]
    print(f"G5a  Griewank-Walther counts: {len(pairs)} compared, {len(wrong)} differ")
    most = math.floor(2 * math.sqrt(1000)) + 4
    chain = unit_chain(1000, most)
    added = [chain.cost(math.floor(2 * math.sqrt(n)) + 4, n) / (3 * n) - 1 for n in range(1, 1001)]
    print(f"G5b  1 to 1000 layers in 2√L + 4 slots: at most {max(added):.2%}")
    plan = evaluate(layers(1000), layers_schedule(chain, most))
    print(f"     1000 layers by the evaluator: {plan.arena_bytes // 64} slots, {plan.slowdown:.2%}")
    for slots, each in zip((13, 10), overhead_curve(1000, [13, 10]), strict=True):
        print(f"G5c  1000 layers in {slots} slots: {each:.1%}")


def fewest_forwards(length: int, checkpoints: int) -> int:
    """r·L - C(c + r, c + 1), r the least with C(c + r, c) ≥ L (Griewank & Walther 2000)."""
    r = next(r for r in itertools.count() if math.comb(checkpoints + r, checkpoints) >= length)
    return r * length - math.comb(checkpoints + r, checkpoints + 1)


def gpt() -> None:
    """What shares of the activation memory cost."""
    for depth, shares in ((12, (0.75, 0.5, 0.25, 0.15)), (48, (0.75, 0.5, 0.25, 0.125))):
        planner = Planner(gpt2(depth))
        print(f"G4   GPT-2 of {depth} layers, {planner.workload.count} kernels", flush=True)
        for share in shares:
            print(f"     {slowdown(planner, share)}", flush=True)


def cliff() -> None:
    """What a little less than all costs."""
    for name, model in MODELS.items():
        planner = planned(model)
        points = "; ".join(slowdown(planner, share) for share in (0.98, 0.9, 0.75, 0.5))
        print(f"G8   {name:7} {points}", flush=True)


def sweep() -> None:
    """Budgets in steps of 5 %: held, monotone, and how near the bound they are packed."""
    plans, gaps = 0, []
    for name, model in MODELS.items():
        planner = planned(model)
        least, most = planner.floor[0], planner.full.peak_bytes
        budgets = [least + (most - least) * k // 20 for k in range(21)]
        found = planner.sweep(budgets)
        costs = [found[budget].lifetimes.cost for budget in sorted(found)]
        assert costs == sorted(costs, reverse=True)
        assert all(plan.peak_bytes <= budget for budget, plan in found.items())
        plans += len(found)
        gaps += [plan.arena_bytes / max(plan.lower_bound, 1) for plan in found.values()]
        print(f"G3   {name:7} {len(found)} of 21 budgets met, held, monotone", flush=True)
    near = sum(gap <= 1.01 for gap in gaps) / len(gaps)
    print(f"G2   {plans} plans: {near:.0%} within 1 % of the bound, the worst {max(gaps) - 1:.2%}")


TABLES: dict[str, Callable[[], None]] = {
    "curves": curves,
    "gpt": gpt,
    "cliff": cliff,
    "sweep": sweep,
}

if __name__ == "__main__":
    for chosen in sys.argv[1:] or TABLES:
        TABLES[chosen]()
