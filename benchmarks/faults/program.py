"""`Program`: one entry of the evaluation set, and `Setup`, what it hands to a training loop."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import pullback as pb

Numbers = np.ndarray[Any, Any]
Arrays = tuple[Numbers, ...]
Batches = Callable[[], Iterable[Arrays]]


@dataclass(frozen=True)
class Setup:
    """What the user's script has before its loop: model, loss, optimiser, data.

    `score(model)` judges on data that were not trained on: an accuracy, or R² (1 is best).
    """

    model: Any
    loss: Callable[..., Any]
    optimizer: pb.optim.Optimizer
    data: Arrays
    score: Callable[..., float]
    batch: int = 64
    steps: int = 200
    shuffle: bool = True
    batches: Callable[[int], Arrays] | None = None
    """Batch number i, where the user draws batches by hand."""
    step: Callable[..., Any] | None = None
    """A step written by hand in place of `train_step`: (state, *batch) → (state, (loss, grads))."""
    options: dict[str, Any] = field(default_factory=dict)
    """Of `train_step`: clip, accumulate."""
    precision: str = "fp32"
    network_state: Any = None
    key: Any = None

    def stream(self, seed: int) -> Iterator[Arrays]:
        """The batches in the order of training, without end."""
        if self.batches is not None:
            yield from map(self.batches, range(self.steps))
            return
        size = len(self.data[0])
        rng = np.random.default_rng(seed + 1000)
        while True:
            order = rng.permutation(size) if self.shuffle else np.arange(size)
            for i in range(0, size - self.batch + 1, self.batch):
                rows = order[i : i + self.batch]
                yield tuple([x[rows] for x in self.data])


@dataclass(frozen=True)
class Program:
    """A faulty or healthy program. `kind` is empty for a healthy one.

    `rules` are the ids that name the root cause; `also` are ids of true consequences, no false
    alarms but no root cause either. The right place is one of the lines that end with the mark
    `# here`, or one of `layers`, paths of parameters; without either the fault has no place in
    the code (a number of the optimiser, the data).
    """

    name: str
    make: Callable[[int], Setup]
    kind: str = ""
    rules: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    healthy: str = ""
    """The healthy counterpart: the same task, score and number of steps."""
    at_once: bool = False
    """Deterministic: it can be told before the first step is applied."""

    file: str = ""
    lines: frozenset[int] = frozenset()
    """The lines at which the fault is."""

    @property
    def has_place(self) -> bool:
        return bool(self.lines or self.layers)


PROGRAMS: dict[str, Program] = {}


def healthy(name: str) -> Callable[[Callable[[int], Setup]], Callable[[int], Setup]]:
    """Enter a healthy program."""

    def enter(make: Callable[[int], Setup]) -> Callable[[int], Setup]:
        _enter(Program(name, make))
        return make

    return enter


def fault(
    name: str,
    kind: str,
    rules: str,
    counterpart: str,
    *,
    also: str = "",
    layers: tuple[str, ...] = (),
    at_once: bool = False,
) -> Callable[[Callable[[int], Setup]], Callable[[int], Setup]]:
    """Enter a faulty program; `rules` and `also` are ids with spaces between."""

    def enter(make: Callable[[int], Setup]) -> Callable[[int], Setup]:
        ids, beside = tuple(rules.split()), tuple(also.split())
        _enter(Program(name, make, kind, ids, beside, layers, counterpart, at_once))
        return make

    return enter


def _enter(program: Program) -> None:
    if program.name in PROGRAMS:
        raise ValueError(f"two programs are named {program.name}")
    text, start = inspect.getsourcelines(program.make)
    lines = frozenset(start + i for i, line in enumerate(text) if line.endswith("# here\n"))
    file = inspect.getsourcefile(program.make) or ""
    PROGRAMS[program.name] = replace(program, file=file, lines=lines)
