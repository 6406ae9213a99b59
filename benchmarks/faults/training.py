"""The training of a program: the loop that a user writes around a step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.faults.program import Setup

import pullback as pb
from pullback.train.state import copied


@dataclass
class Trained:
    """What a run left behind."""

    losses: list[float] = field(default_factory=list)
    score: float = math.nan
    model: Any = None
    ratios: list[tuple[float, str]] = field(default_factory=list)
    """‖update‖ / ‖parameter‖ of every tenth step, with the name of the parameter."""
    broke: int | None = None
    """The step whose loss or gradient was not finite."""


Watch = Callable[[int, Any, tuple[Any, ...]], object]


def train(setup: Setup, seed: int, watch: Watch | None = None) -> Trained:
    """All steps, or those until a loss or gradient is not finite; then the score.

    `watch(i, model, batch)` is called before each step.
    """
    run = Trained()
    state, step = begin(setup)
    stream = setup.stream(seed)
    for i in range(setup.steps):
        batch = next(stream)
        model = _model(state)
        if watch is not None:
            watch(i, model, batch)
        state, told = step(state, *batch)
        loss = float(told[0] if setup.step is not None else told.loss)
        run.losses.append(loss)
        if setup.step is None and i % 10 == 0:
            run.ratios += zip(told.ratios.tolist(), told.names.paths, strict=True)
        skipped = setup.step is None and bool(told.skipped)
        if not math.isfinite(loss) or (skipped and setup.precision != "fp16"):
            run.broke = i
            break
    run.model = copied(_model(state))
    if run.broke is None:
        run.score = setup.score(_judged(setup, copied(state)))
    return run


def begin(setup: Setup) -> tuple[Any, Callable[..., Any]]:
    """The state before the first step, and the step."""
    if setup.step is not None:
        return (setup.model, setup.optimizer.init(setup.model)), setup.step
    state = pb.train.TrainState.create(
        setup.model,
        setup.optimizer,
        network_state=setup.network_state,
        key=setup.key,
        precision=setup.precision,
    )
    step = pb.train.train_step(
        setup.loss, setup.optimizer, precision=setup.precision, **setup.options
    )
    return state, step


def _model(state: Any) -> Any:
    return state[0] if isinstance(state, tuple) else state.model


def _judged(setup: Setup, state: Any) -> Any:
    if setup.network_state is not None:
        return state.model, state.network_state
    return _model(state)
