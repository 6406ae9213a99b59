"""Convolutions beside torch (both layouts) and JAX: forward, gradient of kernel and of images.

All use the same cores: as many as OPENBLAS_NUM_THREADS says, and the process keeps to them.
`python -m benchmarks.suites.convolution [name …]` prints milliseconds, and the sums of the three.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

import numpy as np
from benchmarks.harness import Row, Spread, Thunk, available, measure

from pullback.backend.program import Program
from pullback.ir.op import Sample
from pullback.ops.convolve import Convolution, Convolve, ConvolveInput, ConvolveKernel
from pullback.ops.windows import Windows
from pullback.schedule.fuse import fuse
from pullback.transforms.trace import trace

ROUNDS = 15
PASSES = ("forward", "dW", "dX")


@dataclass(frozen=True)
class Problem:
    """Square images and windows; float32."""

    batch: int
    inputs: int
    outputs: int
    side: int
    kernel: int = 3
    stride: int = 1

    @property
    def padding(self) -> int:
        return self.kernel // 2

    @property
    def windows(self) -> Windows:
        size, stride, padding = ((n, n) for n in (self.kernel, self.stride, self.padding))
        return Windows(size, stride, padding, padding, (1, 1))

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, w and y."""
        rng = np.random.default_rng(0)
        counts = self.windows.counts((self.side, self.side))
        shapes = (
            (self.batch, self.inputs, self.side, self.side),
            (self.outputs, self.inputs, self.kernel, self.kernel),
            (self.batch, self.outputs, *counts),
        )
        x, w, y = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
        return x, w, y


PROBLEMS = {
    "3→32 32²": Problem(64, 3, 32, 32),
    "32→32 32²": Problem(64, 32, 32, 32),
    "32→64 16²": Problem(64, 32, 64, 16),
    "64→64 32²": Problem(64, 64, 64, 32),
    "16→16 32²": Problem(32, 16, 16, 32),
    "16→32 32² /2": Problem(32, 16, 32, 32, stride=2),
    "16→32 32² 1×1 /2": Problem(32, 16, 32, 32, kernel=1, stride=2),
    "64→64 8²": Problem(32, 64, 64, 8),
}


def threads() -> int:
    return int(os.environ.get("OPENBLAS_NUM_THREADS", os.cpu_count() or 1))


def rows(chosen: tuple[str, ...] = tuple(PROBLEMS)) -> tuple[list[Row], list[str]]:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: threads()])
    torch, jax = available("torch"), available("jax")
    if torch:
        torch.set_num_threads(threads())
    table = []
    for name in chosen:
        problem = PROBLEMS[name]
        sides = {"pullback": _pullback(problem)}
        if torch:
            sides["torch"] = _torch(torch, problem, torch.contiguous_format)
            sides["torch channels last"] = _torch(torch, problem, torch.channels_last)
        if jax:
            sides["jax"] = _jax(jax, problem)
        for i, each in enumerate(PASSES):
            table.append(Row(f"{name} {each}", {side: runs[i] for side, runs in sides.items()}))
    missing = [name for name, module in (("torch", torch), ("jax", jax)) if not module]
    return table, missing


def main() -> None:
    """Medians and, in brackets, the better quartile."""
    chosen = tuple(sys.argv[1:]) or tuple(PROBLEMS)
    table, missing = rows(chosen)
    report = measure("convolution", table, ROUNDS, missing)
    for name in chosen:
        parts = [report.rows[f"{name} {each}"] for each in PASSES]
        for each, part in zip(PASSES, parts, strict=True):
            _print(f"{name:18} {each:8}", {side: [time] for side, time in part.items()})
        _print(f"{name:18} sum     ", {side: [part[side] for part in parts] for side in parts[0]})


def _print(title: str, times: dict[str, list[Spread]]) -> None:
    cells = (
        f"{side} {1e3 * sum(t.median for t in each):8.3f} ({1e3 * sum(t.low for t in each):8.3f})"
        for side, each in times.items()
    )
    print(title, "  ".join(cells))


# ---- contenders -----------------------------------------------------------------------------


def _pullback(problem: Problem) -> list[Thunk]:
    x, w, y = problem.arrays()
    windows = problem.windows
    calls: list[tuple[Convolution, tuple[np.ndarray, np.ndarray]]] = [
        (Convolve(windows, 1), (x, w)),
        (ConvolveKernel(windows, 1), (x, y)),
        (ConvolveInput(windows, 1, x.shape[2:]), (y, w)),
    ]
    return [_program(op, inputs) for op, inputs in calls]


def _program(op: Convolution, inputs: tuple[np.ndarray, ...]) -> Thunk:
    program = Program(fuse(trace(op.outputs, *Sample(op, *inputs).types)), threads())
    return lambda: program(inputs)


def _torch(torch, problem: Problem, layout) -> list[Thunk]:
    x, w, y = (torch.from_numpy(each).to(memory_format=layout) for each in problem.arrays())
    step, around = (problem.stride,) * 2, (problem.padding,) * 2

    def forward() -> object:
        return torch.nn.functional.conv2d(x, w, stride=step, padding=around)

    def backward(*wanted: bool) -> object:
        return torch.ops.aten.convolution_backward(
            y, x, w, None, step, around, (1, 1), False, (0, 0), 1, wanted
        )

    return [
        forward,
        lambda: backward(False, True, False),
        lambda: backward(True, False, False),
    ]


def _jax(jax, problem: Problem) -> list[Thunk]:
    arrays = problem.arrays()

    def convolve(x, w):
        around = ((problem.padding,) * 2,) * 2
        return jax.lax.conv_general_dilated(x, w, (problem.stride,) * 2, around)

    def kernel(x, w, y):
        return jax.vjp(lambda w: convolve(x, w), w)[1](y)[0]

    def images(x, w, y):
        return jax.vjp(lambda x: convolve(x, w), x)[1](y)[0]

    x, w, y = (jax.numpy.asarray(each) for each in arrays)
    forward, kernel, images = (jax.jit(f) for f in (convolve, kernel, images))
    return [
        lambda: forward(x, w).block_until_ready(),
        lambda: kernel(x, w, y).block_until_ready(),
        lambda: images(x, w, y).block_until_ready(),
    ]


if __name__ == "__main__":
    main()
