"""The processor time of preflight of a decoder: `python benchmarks/preflight.py`, a minute.

One thread and no cache of programs are the honest figure:
PULLBACK_THREADS=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 PULLBACK_CACHE=off.
"""

from __future__ import annotations

import time

import numpy as np

import pullback as pb
from pullback.bench.models import GPT
from pullback.transforms.tree import map_leaves

MODELS = {
    "GPT of the benchmarks": GPT(),
    "GPT of tinyshakespeare": GPT(4, 128, 4, 64, 65, batch=12),
}
TIMES = 3


def main() -> None:
    for name, model in MODELS.items():
        rng = np.random.default_rng(0)
        params = map_leaves(lambda x: x.astype(np.float32), model.parameters(rng))
        batch, spent = model.examples(rng), []
        for _ in range(TIMES):
            begin = time.process_time()
            report = pb.preflight(params, model.loss, batch)
            spent.append(time.process_time() - begin)
        print(f"{name}: {min(spent):.1f} s, alarms {list(report.ids)}")


if __name__ == "__main__":
    main()
