"""Generated matrix products beside OpenBLAS and torch, float32, and the peak of the cores.

The row `peak` is a loop of independent fused multiply-adds, which nothing can beat. All use
OPENBLAS_NUM_THREADS threads. `python -m benchmarks.suites.products` prints GFLOP/s.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from benchmarks.harness import Row, available, measure

sys.path.append(str(Path(__file__).parents[2] / "tests"))

from native import PEAK_OPERATIONS, Call, Compiled, Team, peak_of
from pullback.backend.assembly import Module
from pullback.backend.blocking import Machine
from pullback.backend.contract import write
from pullback.backend.product import product_of
from pullback.ops.contract import Contract

ROUNDS = 25
SHAPES = {
    "128,784,512": ("ij,jk,ik", (128, 784), (784, 512)),
    "512,128,784 AᵀB": ("ji,jk,ik", (128, 512), (128, 784)),
    "1024,192,768": ("ij,jk,ik", (1024, 192), (192, 768)),
    "1024,768,192": ("ij,jk,ik", (1024, 768), (768, 192)),
    "192,1024,768 AᵀB": ("ji,jk,ik", (1024, 192), (1024, 768)),
    "48×(128,32,128)": ("bij,bjk,bik", (48, 128, 32), (48, 32, 128)),
    "512,2048,2048": ("ij,jk,ik", (512, 2048), (2048, 2048)),
    "1024³": ("ij,jk,ik", (1024, 1024), (1024, 1024)),
    "32,64,64": ("ij,jk,ik", (32, 64), (64, 64)),
    "128,512,784 ABᵀ": ("ij,kj,ik", (128, 512), (784, 512)),
    "64,512,10": ("ij,jk,ik", (64, 512), (512, 10)),
    "1024,1024,1": ("ij,j,i", (1024, 1024), (1024,)),
    "1,1024,1024": ("ij,jk,ik", (1, 1024), (1024, 1024)),
    "dot 10⁵": ("i,i,", (100_000,), (100_000,)),
}


def threads() -> int:
    return int(os.environ.get("OPENBLAS_NUM_THREADS", os.cpu_count() or 1))


def rows() -> tuple[list[Row], list[str]]:
    torch = available("torch")
    if torch:
        torch.set_num_threads(threads())
    team = Team(threads())
    peak = peak_of(team)
    table = [Row(name, _contenders(torch, team, *each)) for name, each in SHAPES.items()]
    return [Row("peak", {"pullback": peak}), *table], [] if torch else ["torch"]


def main() -> None:
    """Medians and, in brackets, the better quartile, in GFLOP/s."""
    table, missing = rows()
    report = measure("products", table, ROUNDS, missing)
    operations = {name: _product(*each).flops for name, each in SHAPES.items()}
    operations["peak"] = PEAK_OPERATIONS * threads()
    for name, row in report.rows.items():
        work = operations[name] / 1e9
        rates = (f"{each} {work / t.median:6.1f} ({work / t.low:6.1f})" for each, t in row.items())
        print(f"{name:18}", "  ".join(rates))


def _product(pattern, *shapes):
    return product_of(Contract(*pattern.split(",")), np.dtype(np.float32), shapes)


def _contenders(torch, team, pattern, left_shape, right_shape):
    rng = np.random.default_rng(0)
    left, right = (
        rng.standard_normal(shape).astype(np.float32) for shape in (left_shape, right_shape)
    )
    a, b, _ = pattern.split(",")
    x = left.T if a == "ji" else left
    y = right.T if b == "kj" else right
    out = np.empty(np.matmul(x, y).shape, np.float32)
    product, module = _product(pattern, left_shape, right_shape), Module()
    kernel = write(product, Machine.of(Compiled.features()), module)
    operands = (right, left) if product.swapped else (left, right)
    call = Call(Compiled(module)["product"], kernel, [*operands, out])
    contenders = {
        "pullback": team.runner(call),
        "numpy": lambda: np.matmul(x, y, out=out if out.ndim else None),
    }
    if torch:
        p, q = torch.from_numpy(left), torch.from_numpy(right)
        p, q = (p.T if a == "ji" else p), (q.T if b == "kj" else q)
        contenders["torch"] = lambda: torch.matmul(p, q)
    return contenders


if __name__ == "__main__":
    main()
